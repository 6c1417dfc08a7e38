"""Loaded by schemathesis: has its calls made by several accounts, about webhooks and deliveries that exist.

One account alone would soon have its five webhooks and its ten test sends a minute, and then be refused. And
a made-up id of a delivery is never one. What breaks the description on purpose stays as it was generated.
"""

import json
import os
import random
from pathlib import Path
from typing import Any

import schemathesis

POOL: list[dict[str, Any]] = json.loads(Path(os.environ["FUZZ_POOL"]).read_text())
"""For each account its `token`, a `webhookId` and the `deliveryIds` of that."""

_account_of = {account["webhookId"]: account for account in POOL}
_KNOWN_SHARE = 0.7


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """Mostly about what exists."""
    webhook_id = path_parameters.get("webhookId") if path_parameters else None
    if (
        path_parameters
        and _is_valid(webhook_id)
        and webhook_id not in _account_of
        and random.random() < _KNOWN_SHARE
    ):
        account = random.choice(POOL)
        path_parameters["webhookId"] = account["webhookId"]
        if "deliveryId" in path_parameters:
            path_parameters["deliveryId"] = random.choice(account["deliveryIds"])
    return path_parameters


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """Remember whose the webhooks are that calls create."""
    if response.status_code == 201 and case.operation.path == "/v1/webhooks":
        token = case.headers["Authorization"].removeprefix("Bearer ")
        (account,) = (account for account in POOL if account["token"] == token)
        _account_of[response.json()["webhookId"]] = account


@schemathesis.auth(refresh_interval=None)
class AccountOfTheWebhook:
    """The token of the account that the call's webhook is of, or of any."""

    def get(self, case: Any, context: Any) -> str:
        account = _account_of.get((case.path_parameters or {}).get("webhookId")) or random.choice(POOL)
        token: str = account["token"]
        return token

    def set(self, case: Any, data: str, context: Any) -> None:
        case.headers = {**(case.headers or {}), "Authorization": f"Bearer {data}"}


def _is_valid(webhook_id: object) -> bool:
    return isinstance(webhook_id, str) and webhook_id.startswith("wh_") and len(webhook_id) == 25
