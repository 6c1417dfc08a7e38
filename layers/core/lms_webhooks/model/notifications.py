"""Decide of what the owners of a webhook are notified: it fails, was disabled, or works again. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from lms_webhooks.model.health import Health
from lms_webhooks.model.webhooks import Webhook

NOTIFY_AFTER_MS = 15 * 60_000  # a deployment or a restart of the receiver is over by then
DAY_MS = 86_400_000


class NotificationKind(StrEnum):
    """What there is to tell."""

    FAILING = "failing"
    STILL_FAILING = "still-failing"
    DISABLED = "disabled"
    RECOVERED = "recovered"

    @property
    def stored(self) -> str:
        """Its name in the table, which kept the word of an earlier version."""
        return "switched-off" if self is NotificationKind.DISABLED else self.value

    @classmethod
    def read(cls, stored: str) -> "NotificationKind":
        """Return the kind that `stored` names in the table.

        Raises:
            ValueError: a later version wrote it.
        """
        return next((kind for kind in cls if kind.stored == stored), None) or cls(stored)


@dataclass(frozen=True, slots=True)
class Notification:
    """One thing to tell about one webhook. Times in UTC milliseconds."""

    account_id: str
    webhook_id: str
    name: str
    kind: NotificationKind
    key: str
    """The same for the same transition."""
    epoch: int
    """Of the webhook that it is about."""
    at_ms: int
    since_ms: int
    """When the failure began."""
    last_error: str


def notifications_for(
    webhook: Webhook, before: Health, after: Health, *, now_ms: int
) -> Iterator[Notification]:
    """Return the notification that is due when the health of `webhook` went from `before` to `after`. Pure.

    A failure is notified after 15 minutes and then each day, as long as it goes on. Its key stays
    the same, so that the next drainer sends one that was lost with a drainer.
    """

    def notification(kind: NotificationKind, since_ms: int, key: str) -> Notification:
        return Notification(
            account_id=webhook.account_id,
            webhook_id=webhook.webhook_id,
            name=webhook.name,
            kind=kind,
            key=f"{after.epoch}#{kind.stored}#{key}",
            epoch=after.epoch,
            at_ms=now_ms,
            since_ms=since_ms,
            last_error=after.last_error or before.last_error,
        )

    if _recovered(before, after):
        yield notification(NotificationKind.RECOVERED, before.failing_since_ms, str(before.failing_since_ms))
    if after.disabled_reason is not None:
        if before.disabled_reason is None:
            since_ms = after.failing_since_ms or after.disabled_at_ms
            yield notification(NotificationKind.DISABLED, since_ms, str(after.disabled_at_ms))
    elif after.failing_since_ms:
        lasted_ms = now_ms - after.failing_since_ms
        if lasted_ms >= DAY_MS:
            day = lasted_ms // DAY_MS
            yield notification(
                NotificationKind.STILL_FAILING, after.failing_since_ms, f"{after.failing_since_ms}#{day}"
            )
        elif lasted_ms >= NOTIFY_AFTER_MS:
            yield notification(NotificationKind.FAILING, after.failing_since_ms, str(after.failing_since_ms))


def _recovered(before: Health, after: Health) -> bool:
    """Whether a failure that was notified has ended; another may have begun since."""
    if not before.failing_since_ms or after.failing_since_ms == before.failing_since_ms:
        return False
    last_failed_ms = max(
        (each.started_at_ms + each.latency_ms for each in before.attempts if not each.is_success), default=0
    )
    was_told = last_failed_ms - before.failing_since_ms >= NOTIFY_AFTER_MS
    return was_told and any(
        each.is_success and each.started_at_ms > before.failing_since_ms for each in after.attempts
    )
