"""Say when the next non-real-time events of a webhook go out, and let a new schedule take effect at once."""

import time
from collections.abc import Callable
from typing import NamedTuple

from lms_webhooks.model.event_types import EVENT_TYPES, Category, EventTypes
from lms_webhooks.model.lanes import DueMarker, Lane
from lms_webhooks.model.slots import BatchSchedule, EveryMinutes, UnknownTimeZone, next_slot_ms
from lms_webhooks.model.webhooks import Status, Webhook, WebhookWithHealth
from lms_webhooks.observability import report
from lms_webhooks.stores.backlog import Backlog


class NextBatch(NamedTuple):
    """The schedule that a webhook has, and when its next non-real-time events go out."""

    schedule: BatchSchedule
    at_ms: int | None
    """None if none are to go out."""


class BatchSchedules:
    """The batch schedules of every account's webhooks."""

    def __init__(
        self,
        backlog: Backlog,
        *,
        every_minutes: int,
        event_types: EventTypes = EVENT_TYPES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._backlog = backlog
        self._default = EveryMinutes(every_minutes)
        self._non_real_time = {
            each.name for each in event_types.values() if each.category is Category.NON_REAL_TIME
        }
        self._clock = clock

    def next_batch(self, found: WebhookWithHealth, marker: DueMarker | None) -> NextBatch:
        """Return the schedule of a webhook, and its next slot. `marker` is that of its batch lane."""
        webhook, health = found
        schedule = webhook.batch_schedule or self._default
        is_sending = webhook.status is Status.ACTIVE and health.disabled_reason is None
        is_expecting = marker is not None or not self._non_real_time.isdisjoint(webhook.events)
        return NextBatch(
            schedule, self.next_slot_ms(webhook, marker) if is_sending and is_expecting else None
        )

    def next_slot_ms(self, webhook: Webhook, marker: DueMarker | None) -> int:
        """Return the slot of the pending non-real-time events, or else the next slot."""
        now_ms = int(self._clock() * 1000)
        if marker is not None and not marker.is_due(now_ms):
            return marker.due_at_ms
        return self._slot_ms(webhook, now_ms)

    def own_schedule(self, wanted: BatchSchedule) -> BatchSchedule | None:
        """Return a schedule as a webhook has it: None for that of the deployment."""
        return None if wanted == self._default else wanted

    def reschedule(self, webhook: Webhook) -> None:
        """Move the slot of the pending non-real-time events to that of the webhook's schedule.

        Events whose slot has come stay due.
        """
        now_ms = int(self._clock() * 1000)
        marker = self._backlog.markers(webhook.webhook_id).get(Lane.BATCH)
        if marker is not None and not marker.is_due(now_ms):
            # An append at the same moment wants the same slot.
            self._backlog.set_due(marker, self._slot_ms(webhook, now_ms), is_forced=True)

    def _slot_ms(self, webhook: Webhook, now_ms: int) -> int:
        try:
            return next_slot_ms(now_ms, webhook.batch_schedule or self._default)
        except UnknownTimeZone as error:  # as the dispatcher does
            report(error, "slot not computed", accountId=webhook.account_id, webhookId=webhook.webhook_id)
            return next_slot_ms(now_ms, self._default)
