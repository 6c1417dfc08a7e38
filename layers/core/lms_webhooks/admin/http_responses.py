"""Build HTTP responses: JSON, problems, ETags, and what is stored of a response under an Idempotency-Key."""

import hashlib
import json
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING

from aws_lambda_powertools.event_handler import Response
from pydantic import BaseModel

from lms_webhooks.admin.idempotency import Claim, ResponseSecret, StoredResponse
from lms_webhooks.admin.problems import Problem
from lms_webhooks.model.webhooks import Webhook, WebhookWithHealth

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

    from lms_webhooks.admin.webhooks import ExtraWrites

SAFETY_HEADERS = {
    "Strict-Transport-Security": "max-age=31536000",  # a year, as hstspreload.org asks for
    "X-Content-Type-Options": "nosniff",
}
"""Of every response: use HTTPS only, and trust the content type."""

# A response may hold a secret, and is only good for the token of its call.
_NOT_STORED = {"Cache-Control": "no-store", **SAFETY_HEADERS}


def json_response(
    status: HTTPStatus, model: BaseModel, headers: dict[str, str] | None = None
) -> Response[str]:
    """Return a model as JSON."""
    return Response(
        status_code=status,
        content_type="application/json",
        body=model.model_dump_json(by_alias=True, exclude_none=True),
        headers={**_NOT_STORED, **(headers or {})},
    )


def no_content() -> Response[str]:
    """Return an empty response (204)."""
    return Response(status_code=HTTPStatus.NO_CONTENT, body="", headers=_NOT_STORED)


def problem_response(problem: Problem) -> Response[str]:
    """Return a problem document (RFC 9457)."""
    return Response(
        status_code=problem.status,
        content_type="application/problem+json",
        body=json.dumps(problem.document()),
        headers={**_NOT_STORED, **problem.headers},
    )


def etag(webhook: Webhook) -> str:
    """Return the version and a hash of the id: the tag of one webhook never matches another."""
    return f'"{webhook.version}-{hashlib.sha256(webhook.webhook_id.encode()).hexdigest()[:8]}"'


def if_match_holds(if_match: str, webhook: Webhook) -> bool:
    """Whether an `If-Match` header (RFC 9110 13.1.1) holds for `webhook`. A weak tag never does."""
    tags = [tag.strip() for tag in if_match.split(",")]
    return "*" in tags or etag(webhook) in tags


def stored_response(response: Response[str]) -> StoredResponse:
    """Return what is stored of the response to a call with an `Idempotency-Key`."""
    headers = {name: str(value) for name, value in response.headers.items() if name != "Content-Type"}
    return StoredResponse(response.status_code, headers, response.body or "")


def response_writes(
    claim: Claim | None, response: Response[str], secret: ResponseSecret | None = None
) -> "Sequence[TransactWriteItemTypeDef]":
    """Return the writes that store a response in the transaction that acts; none without a claim."""
    return () if claim is None else claim.record(stored_response(response), secret)


def secret_response_writes(
    claim: Claim | None, respond: Callable[[WebhookWithHealth, str | None], Response[str]]
) -> "ExtraWrites":
    """Return what makes such writes for a response that may hold a new signing secret."""

    def writes(found: WebhookWithHealth, secret: str | None) -> "Sequence[TransactWriteItemTypeDef]":
        in_response = ResponseSecret(found.webhook.webhook_id, secret) if secret is not None else None
        return response_writes(claim, respond(found, secret), in_response)

    return writes
