"""Write the audit log: one line for each change that an admin makes, and for each test."""

from collections.abc import Iterable

from lms_webhooks.admin.caller import Caller, Change
from lms_webhooks.observability import logger

_TEST = "webhook.test"


def audit(
    caller: Caller, action: str, *, changed: Iterable[str] = (), repeated: bool = False, **ids: str
) -> None:
    """Log that `caller` made a change. `changed` has names of fields, never their values.

    `repeated` says that an earlier call made it, which may have ended before it could log. Neither such a
    call nor a test changes anything, so the account's activity does not have it.
    """
    fields = tuple(sorted(changed))
    logger.info(
        "audit",
        extra={
            "action": action,
            "accountId": caller.account_id,
            "user": caller.user_id,
            **({"sub": caller.subject} if caller.subject else {}),
            "changedFields": list(fields),
            **({"repeated": True} if repeated else {}),
            **ids,
        },
    )
    if not repeated and action != _TEST:
        caller.changes.append(Change(action, fields, ids))
