"""Say who changed what: one line in the log for each change that an admin makes."""

from collections.abc import Iterable

from lms_webhooks.admin.caller import Caller
from lms_webhooks.observability import logger


def audit(caller: Caller, action: str, *, changed: Iterable[str] = (), **ids: str) -> None:
    """Log that `caller` did `action` to what `ids` name. Names of fields, never their values."""
    logger.info(
        "audit",
        extra={
            "action": action,
            "accountId": caller.account_id,
            "user": caller.user_id,
            "changedFields": sorted(changed),
            **ids,
        },
    )
