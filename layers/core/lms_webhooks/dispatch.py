"""Deliver the events of one SQS batch to the webhooks that asked for them, at once.

Each webhook gets its events one after the other, all webhooks at the same time. Nothing that fails here
is lost: the message of an event that some webhook has not acknowledged goes back to SQS, which brings it
again until its receives are used up, then keeps it in the dead-letter queue. What was delivered is
recorded, so a message that comes again reaches only those that missed it.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from lms_webhooks.aws import AWS_FAULTS
from lms_webhooks.delivery import Courier
from lms_webhooks.delivery_store import Delivery, DeliveryKey, DeliveryStore, Outcome
from lms_webhooks.events import Event, MalformedEvent, read_event
from lms_webhooks.matching import matching, wants
from lms_webhooks.observability import Metric, count, logger, measure_ms
from lms_webhooks.queues import QuarantineQueue
from lms_webhooks.registry import Registry
from lms_webhooks.webhooks import MAX_WEBHOOKS_PER_ACCOUNT

BATCH_SIZE = 10  # the template's BatchSize for this function
DEADLINE_SECONDS = 5.0  # of one POST, all included; Adobe Learning Manager's socket time-out
# To record what was sent and answer Lambda after the last POST has used its whole deadline.
_CLOSING_SECONDS = 5.0


@dataclass
class _Lane:
    """The events of one batch for one webhook, and the messages that brought each."""

    account_id: str
    webhook_id: str
    events: dict[str, Event] = field(default_factory=dict)
    message_ids: dict[str, set[str]] = field(default_factory=dict)

    def add(self, event: Event, message_id: str) -> None:
        self.events[event.sort_key] = event
        self.message_ids.setdefault(event.sort_key, set()).add(message_id)


class Dispatcher:
    """Dispatches SQS batches. One at a time, as Lambda calls it; its threads live as long as it does."""

    def __init__(
        self,
        *,
        registry: Registry,
        deliveries: DeliveryStore,
        courier: Courier,
        quarantine: QuarantineQueue,
        event_source: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._registry = registry
        self._deliveries = deliveries
        self._courier = courier
        self._quarantine = quarantine
        self._event_source = event_source
        self._clock = clock
        # As many threads as POSTs can be in flight, or a few endpoints that hang would hold up the rest.
        self._threads = ThreadPoolExecutor(BATCH_SIZE * MAX_WEBHOOKS_PER_ACCOUNT, thread_name_prefix="post")

    def dispatch(self, records: Sequence[dict[str, Any]], *, remaining_ms: Callable[[], int]) -> list[str]:
        """Deliver the events in `records`; answer the ids of the messages that must come again."""
        ends_at = time.monotonic() + remaining_ms() / 1000 - _CLOSING_SECONDS
        unsafe: set[str] = set()
        lanes: dict[str, _Lane] = {}
        for record in records:
            message_id = record["messageId"]
            try:
                self._sort(record, lanes)
            except AWS_FAULTS:
                logger.exception("message not processed", messageId=message_id)
                unsafe.add(message_id)
        unsafe |= self._deliver(list(lanes.values()), ends_at)
        return sorted(unsafe)

    def _sort(self, record: dict[str, Any], lanes: dict[str, _Lane]) -> None:
        """Read a message and put its event into the lane of each webhook that wants it."""
        try:
            event = read_event(
                record["body"],
                source=self._event_source,
                accepted_at_ms=int(record["attributes"]["SentTimestamp"]),
            )
        except MalformedEvent as malformed:
            self._quarantine.keep(record["body"], reason=malformed.reason)
            logger.warning("event quarantined", messageId=record["messageId"], reason=malformed.reason)
            count(Metric.EVENTS_QUARANTINED)
            return
        for webhook in matching(self._registry.webhooks(event.account_id), event):
            lane = lanes.setdefault(webhook.webhook_id, _Lane(event.account_id, webhook.webhook_id))
            lane.add(event, record["messageId"])

    def _deliver(self, lanes: Sequence[_Lane], ends_at: float) -> set[str]:
        """Send what is not yet delivered, all lanes at once; answer the messages that must come again."""
        keys = [(lane.webhook_id, sort_key) for lane in lanes for sort_key in lane.events]
        if not keys:
            return set()
        try:
            done = self._deliveries.find_delivered(keys, consistent=False)
        except AWS_FAULTS:
            logger.exception("history not read")
            return {message_id for lane in lanes for ids in lane.message_ids.values() for message_id in ids}
        results = list(self._threads.map(lambda lane: self._deliver_lane(lane, done, ends_at), lanes))
        delivered = [delivery for result in results for delivery in result.delivered]
        unwritten = self._deliveries.record(delivered, recorded_at_seconds=int(self._clock()))
        _report(results)
        done |= {delivery.key for delivery in delivered} - unwritten
        done |= {key for result in results for key in result.unwanted}
        return {
            message_id
            for lane in lanes
            for sort_key, message_ids in lane.message_ids.items()
            if (lane.webhook_id, sort_key) not in done
            for message_id in message_ids
        }

    def _deliver_lane(self, lane: _Lane, done: set[DeliveryKey], ends_at: float) -> "_LaneResult":
        """Send one webhook its events, oldest first, until one fails or the time is up."""
        result = _LaneResult()
        for sort_key in sorted(lane.events):
            event = lane.events[sort_key]
            if (lane.webhook_id, sort_key) in done:
                continue
            if time.monotonic() + DEADLINE_SECONDS > ends_at:
                break
            try:
                # Looked up again before each POST: an endpoint may have taken seconds for the last one.
                webhook = self._registry.find(lane.account_id, lane.webhook_id)
                if webhook is None or not wants(webhook, event):
                    result.unwanted.append((lane.webhook_id, sort_key))
                    continue
                answer, attempt = self._courier.carry(webhook, [event], deadline_seconds=DEADLINE_SECONDS)
            except AWS_FAULTS:
                logger.exception("webhook not served", webhookId=lane.webhook_id)
                break
            if not answer.is_success:
                result.failed_attempts += 1
                break
            result.delivered.append(Delivery(lane.webhook_id, event, Outcome.DELIVERED, (attempt,)))
        return result


@dataclass
class _LaneResult:
    """What came of one webhook's events in one batch."""

    delivered: list[Delivery] = field(default_factory=list)
    unwanted: list[DeliveryKey] = field(default_factory=list)
    """Deleted or retired since the message was read."""
    failed_attempts: int = 0


def _report(results: Iterable[_LaneResult]) -> None:
    for result in results:
        if result.failed_attempts:
            count(Metric.ATTEMPTS_FAILED, result.failed_attempts)
        if result.delivered:
            count(Metric.DELIVERIES, len(result.delivered))
        for delivery in result.delivered:
            measure_ms(Metric.DELIVERY_LATENCY, delivery.attempts[-1].latency_ms)
