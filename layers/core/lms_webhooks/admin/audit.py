"""Write the audit log: one line for each change that an admin makes."""

from collections.abc import Iterable

from lms_webhooks.admin.caller import Caller
from lms_webhooks.observability import logger


def audit(
    caller: Caller, action: str, *, changed: Iterable[str] = (), repeated: bool = False, **ids: str
) -> None:
    """Log that `caller` made a change. `changed` has names of fields, never their values.

    `repeated` says that an earlier call made it, which may have ended before it could log.
    """
    logger.info(
        "audit",
        extra={
            "action": action,
            "accountId": caller.account_id,
            "user": caller.user_id,
            **({"sub": caller.subject} if caller.subject else {}),
            "changedFields": sorted(changed),
            **({"repeated": True} if repeated else {}),
            **ids,
        },
    )
