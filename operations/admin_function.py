"""Call the admin API by invoking its function, as API Gateway does, with claims of our own.

It takes the permission to invoke that function and no token, so it works with every issuer. That permission
makes its holder an admin of every account.

UnexpectedResponse (an Exception: its text says what was called and what came back)
"""

import json
import uuid
from dataclasses import dataclass
from typing import Any

from operations.stacks import FoundStack


class UnexpectedResponse(Exception):
    """The function failed, or its status is another than it should be."""


@dataclass(frozen=True, slots=True)
class Response:
    """What the admin function returned."""

    status: int
    text: str

    @property
    def body(self) -> Any:
        """Its JSON."""
        return json.loads(self.text)


class AdminFunction:
    """The admin function of a stack, for one account."""

    def __init__(self, stack: FoundStack, account_id: str, *, caller: str) -> None:
        """Call as an admin of `account_id`. `createdBy` and the audit log name `caller`."""
        self._lambda = stack.client("lambda")
        self._name = stack.outputs["AdminApiFunctionName"]
        self._claims = {
            stack.parameters["AccountClaim"]: account_id,
            stack.parameters["RoleClaim"]: stack.parameters["AdminRole"],
            "username": caller,
        }

    def call(self, method: str, path: str, expected: int, body: object = None) -> Response:
        """Call the admin API.

        Raises:
            UnexpectedResponse: the function failed, or its status is not the expected one.
            botocore.exceptions.ClientError: it cannot be invoked.
        """
        event: dict[str, Any] = {
            "version": "2.0",
            "routeKey": "ANY /v1/{proxy+}",
            "rawPath": path,
            "rawQueryString": "",
            # boto3 repeats a call whose response is lost; the webhook must not be made twice.
            "headers": {"content-type": "application/json", "idempotency-key": str(uuid.uuid4())},
            "requestContext": {
                "authorizer": {"jwt": {"claims": self._claims, "scopes": None}},
                "http": {"method": method, "path": path, "protocol": "HTTP/1.1"},
                "requestId": str(uuid.uuid4()),
                "routeKey": "ANY /v1/{proxy+}",
                "stage": "$default",
            },
            "isBase64Encoded": False,
        }
        if body is not None:
            event["body"] = json.dumps(body)
        invoked = self._lambda.invoke(FunctionName=self._name, Payload=json.dumps(event).encode())
        payload = invoked["Payload"].read().decode()
        if "FunctionError" in invoked:
            raise UnexpectedResponse(f"AdminApiFunction fails: {payload[:300]}; see its log")
        returned = json.loads(payload)
        response = Response(int(returned["statusCode"]), str(returned.get("body") or ""))
        if response.status != expected:
            raise UnexpectedResponse(
                f"{method} {path} of the admin API returned {response.status}: {response.text[:500]}"
            )
        return response
