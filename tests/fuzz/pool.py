"""Loaded by schemathesis: has its calls made by several accounts, about webhooks and deliveries that exist.

One account alone would soon have its five webhooks and its ten test sends a minute, and then be refused. And
a made-up id of a delivery is never one. What breaks the description on purpose stays as it was generated.
"""

import json
import os
import random
import re
import uuid
from pathlib import Path
from typing import Any

import schemathesis

POOL: list[dict[str, Any]] = json.loads(Path(os.environ["FUZZ_POOL"]).read_text())
"""For each account its `token`, a `webhookId` with its `deliveryIds`, and a `signedWebhookId`."""

_owner_of = {account[name]: account for account in POOL for name in ("webhookId", "signedWebhookId")}
"""By the id of what they made: webhooks and notice subscriptions."""
_KNOWN_SHARE = 0.7


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """Mostly about what exists."""
    webhook_id = path_parameters.get("webhookId") if path_parameters else None
    is_made_up = _is_webhook_id(webhook_id) and webhook_id not in _owner_of
    # Drawn from the made-up id, so that the same case is the same again when hypothesis repeats it.
    draw = random.Random(str(webhook_id))
    if path_parameters and is_made_up and draw.random() < _KNOWN_SHARE:
        account = draw.choice(POOL)
        # One for this call alone: others would take the signature away from it.
        is_rotation = context.operation.path.endswith("/signature")
        path_parameters["webhookId"] = account["signedWebhookId" if is_rotation else "webhookId"]
        if "deliveryId" in path_parameters:
            path_parameters["deliveryId"] = draw.choice(account["deliveryIds"])
    return path_parameters


@schemathesis.hook
def map_headers(context: Any, headers: Any) -> Any:
    """A fresh key each time: under a used one a call answers what it made then, which may be gone by now."""
    if headers and re.fullmatch(r"[!-~]+", str(headers.get("Idempotency-Key", ""))):
        headers["Idempotency-Key"] = str(uuid.uuid4())
    return headers


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """Remember whose it is that a call made."""
    if response.status_code == 201:
        token = case.headers["Authorization"].removeprefix("Bearer ")
        (account,) = (account for account in POOL if account["token"] == token)
        made = response.json()
        _owner_of[made.get("webhookId") or made["subscriptionId"]] = account


@schemathesis.auth(refresh_interval=None)
class TokenOfTheOwner:
    """The token of the account that the call's webhook or subscription is of, or of any."""

    def get(self, case: Any, context: Any) -> str:
        ids = (case.path_parameters or {}).values()
        owners = (_owner_of[each] for each in ids if isinstance(each, str) and each in _owner_of)
        token: str = next(owners, random.choice(POOL))["token"]
        return token

    def set(self, case: Any, data: str, context: Any) -> None:
        case.headers = {**(case.headers or {}), "Authorization": f"Bearer {data}"}


def _is_webhook_id(value: object) -> bool:
    return isinstance(value, str) and value.startswith("wh_") and len(value) == 25
