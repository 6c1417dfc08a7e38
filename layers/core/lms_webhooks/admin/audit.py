"""Say who changed what: one line in the log for each change that an admin makes."""

from collections.abc import Iterable

from lms_webhooks.admin.caller import Caller
from lms_webhooks.observability import logger


def audit(
    caller: Caller, action: str, *, changed: Iterable[str] = (), repeated: bool = False, **ids: str
) -> None:
    """Log that `caller` did `action` to what `ids` name. Names of fields, never their values.

    `repeated` says that it was done before, by a call that may have died before it could say so.
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
