"""Loaded by schemathesis: has its calls made by several accounts, about webhooks and deliveries that exist.

One account alone would soon have its five webhooks, and ten sends a minute, and then be refused. And a
made-up id of a delivery is never one. What breaks the description on purpose stays as it was generated.
"""

import itertools
import json
import os
import random
import re
import uuid
from pathlib import Path
from typing import Any

import schemathesis

POOL: list[dict[str, Any]] = json.loads(Path(os.environ["FUZZ_POOL"]).read_text())
"""For each account its `token`, the `deliveryIds` of the active webhook, a `subscription`, and four webhooks:
`active`, `paused` in the middle of a replay, `failing`, and one to `spare`. The first two are signed, and
stay so."""

ROLES = ("active", "paused", "failing", "spare")
_account_of = {account[name]: account for account in POOL for name in ROLES}
_owner_of = _account_of | {account["subscription"]: account for account in POOL}
"""By the id of what they made: webhooks and notice subscriptions."""
# In turn: hypothesis seeds the random module for every case, so each choice would be the same.
_turns = itertools.cycle(POOL)
_KNOWN_SHARE = 0.7
_WEBHOOK_ID = re.compile(r"wh_[A-Za-z0-9_-]{22}")
_SUBSCRIPTION_ID = re.compile(r"ns_[A-Za-z0-9_-]{22}")
_DELIVERY_ID = re.compile(r"[A-Za-z0-9_-]{20,1400}")


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """Mostly about what exists."""
    given = path_parameters or {}
    webhook_id = given.get("webhookId")
    # Drawn from what was made up, so that the same case is the same again when hypothesis repeats it.
    draw = random.Random(str(given))
    account = _account_of.get(webhook_id) if isinstance(webhook_id, str) else None
    if _is(_WEBHOOK_ID, webhook_id) and webhook_id not in _owner_of and draw.random() < _KNOWN_SHARE:
        account = draw.choice(POOL)
    if account:
        given["webhookId"] = account[_role(context.operation)]
        if _is(_DELIVERY_ID, given.get("deliveryId")) and draw.random() < _KNOWN_SHARE:
            given["deliveryId"] = draw.choice(account["deliveryIds"])
    subscription_id = given.get("subscriptionId")
    is_made_up = _is(_SUBSCRIPTION_ID, subscription_id) and subscription_id not in _owner_of
    if is_made_up and draw.random() < _KNOWN_SHARE:
        given["subscriptionId"] = draw.choice(POOL)["subscription"]
    return path_parameters


def _role(operation: Any) -> str:
    """Which of an account's webhooks a call is about."""
    if operation.path.endswith("/replay"):
        return "paused"  # only where nothing is sent does a replay wait to be stopped
    if operation.path.endswith("/retry"):
        return "failing"
    if operation.path.endswith("{webhookId}") and operation.method != "get":
        return "spare"
    return "active"


@schemathesis.hook
def map_headers(context: Any, headers: Any) -> Any:
    """A fresh key each time: under a used one a call returns what it made then, which may be gone by now.

    And a secret that was changed is changed again only for who says what they expect.
    """
    if headers and "If-Match" in headers and context.operation.path.endswith("/signature"):
        version = str(headers["If-Match"])
        headers["If-Match"] = "*" if random.Random(version).random() < _KNOWN_SHARE else version
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
    """The token of the account that the call's webhook or subscription is of, or of the next one."""

    def get(self, case: Any, context: Any) -> str:
        ids = (case.path_parameters or {}).values()
        owners = (_owner_of[each] for each in ids if isinstance(each, str) and each in _owner_of)
        token: str = (next(owners, None) or next(_turns))["token"]
        return token

    def set(self, case: Any, data: str, context: Any) -> None:
        case.headers = {**(case.headers or {}), "Authorization": f"Bearer {data}"}


def _is(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and bool(pattern.fullmatch(value))
