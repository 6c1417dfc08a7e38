"""Record the outcome of pending events: write the history first, then remove them from their lane.

After a crash between the two, a recorded event is still in its lane, and the next drainer only removes it.
In the same way, an event that is set aside is written to the retry lane first.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from lms_webhooks.model.attempts import Attempt
from lms_webhooks.model.consequences import set_aside
from lms_webhooks.model.deliveries import Delivery, Outcome
from lms_webhooks.model.lanes import Lane, PendingEvent
from lms_webhooks.model.webhooks import Webhook
from lms_webhooks.observability import Metric, count, measure_ms
from lms_webhooks.sending.webhook_request import Credentials
from lms_webhooks.stores.backlog import Backlog
from lms_webhooks.stores.deliveries import DeliveryStore


class PurgeResult(NamedTuple):
    """What was recorded of events that will not be delivered."""

    recorded: int
    """How many the history now has as failed."""
    is_all: bool
    """Whether all of them are recorded, and removed from their lane."""


class OutcomeRecorder:
    """Moves events from the backlog to the history."""

    def __init__(
        self, backlog: Backlog, deliveries: DeliveryStore, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._backlog = backlog
        self._deliveries = deliveries
        self._clock = clock

    def already_delivered(self, webhook_id: str, pending: Sequence[PendingEvent]) -> set[str]:
        """Return the sort keys of events that the history has as delivered (consistent read).

        Raises:
            AWS_ERRORS: the history could not be read.
        """
        keys = [(webhook_id, each.event.sort_key) for each in pending]
        return {sort_key for _, sort_key in self._deliveries.find_delivered(keys, consistent=True)}

    def record_delivered(
        self, webhook_id: str, lane: Lane, pending: Sequence[PendingEvent], attempt: Attempt
    ) -> bool:
        """Record events that one POST delivered; return whether all of them are recorded."""
        unwritten = self._deliveries.record(
            [
                Delivery(webhook_id, each.event, Outcome.DELIVERED, (*each.attempts, attempt))
                for each in pending
            ],
            recorded_at_seconds=int(self._clock()),
        )
        self._remove_recorded(webhook_id, lane, pending, unwritten)
        count(Metric.DELIVERIES, len(pending))
        measure_ms(Metric.DELIVERY_LATENCY, attempt.latency_ms)
        return not unwritten

    def keep_body(
        self,
        webhook: Webhook,
        pending: Sequence[PendingEvent],
        attempt: Attempt,
        body: str,
        credentials: Credentials,
    ) -> None:
        """Keep the start of a failure's body, without `credentials`, if the webhook wants that."""
        if webhook.keep_response_bodies and body:
            self._deliveries.keep_body(
                webhook.account_id,
                webhook.webhook_id,
                [each.event.sort_key for each in pending],
                attempt,
                credentials.hide_in(body),
                recorded_at_seconds=int(self._clock()),
            )

    def set_aside(
        self, account_id: str, webhook_id: str, lane: Lane, pending: PendingEvent, attempt: Attempt
    ) -> bool:
        """Move an event that its receiver rejected to the retry lane; record it as failed after its last try.

        Returns:
            Whether that is written.
        """
        later, is_tried_again = set_aside(pending, attempt, now_ms=int(self._clock() * 1000))
        if not is_tried_again:
            reason = f"rejected {later.tries} times, at last with {attempt.summary}"
            ended = replace(pending, attempts=later.attempts)  # as it stands in its lane
            return self.record_undelivered(webhook_id, lane, [ended], Outcome.FAILED, reason)
        # The first marker is for a process that dies before it sets the second. The event may then be
        # delivered from its old lane, and only a marker leads to its copy in the retry lane. A purger works
        # without our lease, and may clear the first marker before the event is there, but not the second.
        self._mark_retry(account_id, webhook_id, later)
        if self._backlog.append(webhook_id, Lane.RETRY, [later]):
            return False
        self._mark_retry(account_id, webhook_id, later)
        self._backlog.remove(webhook_id, lane, [pending])
        return True

    def _mark_retry(self, account_id: str, webhook_id: str, later: PendingEvent) -> None:
        self._backlog.set_marker(
            account_id,
            webhook_id,
            Lane.RETRY,
            due_at_ms=later.due_at_ms,
            accepted_at_ms=later.event.accepted_at_ms,
        )

    def record_undelivered(
        self, webhook_id: str, lane: Lane, pending: Sequence[PendingEvent], outcome: Outcome, reason: str
    ) -> bool:
        """Record events that will not be delivered.

        Returns:
            Whether all are recorded and removed from their lane.
        """
        unwritten = self._deliveries.record_unless_delivered(
            [Delivery(webhook_id, each.event, outcome, each.attempts, reason) for each in pending],
            recorded_at_seconds=int(self._clock()),
        )
        is_removed = self._remove_recorded(webhook_id, lane, pending, unwritten)
        metric = Metric.EVENTS_EXPIRED if outcome is Outcome.EXPIRED else Metric.EVENTS_FAILED
        count(metric, len(pending) - len(unwritten))
        return is_removed and not unwritten

    def record_purged(
        self, webhook_id: str, lane: Lane, pending: Sequence[PendingEvent], reason: str
    ) -> PurgeResult:
        """Record events of a deleted webhook as failed, once no other process writes its history.

        It counts nothing, because several threads call it.

        Raises:
            AWS_ERRORS: the history could not be read.
        """
        keys = [(webhook_id, each.event.sort_key) for each in pending]
        delivered = self._deliveries.find_delivered(keys, consistent=True, require_all=True)
        failed = [
            Delivery(webhook_id, each.event, Outcome.FAILED, each.attempts, reason)
            for key, each in zip(keys, pending, strict=True)
            if key not in delivered
        ]
        unwritten = self._deliveries.record(failed, recorded_at_seconds=int(self._clock()))
        is_removed = self._remove_recorded(webhook_id, lane, pending, unwritten)
        return PurgeResult(len(failed) - len(unwritten), is_removed and not unwritten)

    def _remove_recorded(
        self, webhook_id: str, lane: Lane, pending: Sequence[PendingEvent], unwritten: set[tuple[str, str]]
    ) -> bool:
        return self._backlog.remove(
            webhook_id, lane, [each for each in pending if (webhook_id, each.event.sort_key) not in unwritten]
        )
