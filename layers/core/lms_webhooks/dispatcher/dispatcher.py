"""Dispatch the events of one SQS batch to the webhooks that want them.

A real-time event goes to a webhook in direct mode at once: one request after the other to each webhook, to
all webhooks at the same time. An event that cannot go out now is appended to the webhook's backlog, and its
lane is marked as due. The SQS message is acknowledged when each of its deliveries is recorded or pending.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from lms_webhooks.aws.sqs import DrainMessage, DrainQueue, QuarantineQueue
from lms_webhooks.clocks import Clocks
from lms_webhooks.dispatcher.batch_reader import CONFLICTING_EVENT, BatchReader, WebhookBatch, are_different
from lms_webhooks.dispatcher.slow_endpoints import SlownessDetector
from lms_webhooks.errors import AWS_ERRORS, UnreadableWebhook
from lms_webhooks.model import health as endpoint
from lms_webhooks.model.attempts import Attempt
from lms_webhooks.model.consequences import Consequence, Fate, decide, set_aside
from lms_webhooks.model.deliveries import Delivery, DeliveryKey, Outcome
from lms_webhooks.model.event_types import EVENT_TYPES, EventTypes
from lms_webhooks.model.events import Event
from lms_webhooks.model.health import Health
from lms_webhooks.model.lanes import Lane, PendingEvent
from lms_webhooks.model.routing import Route, route, route_to_lane
from lms_webhooks.model.slots import EveryMinutes, UnknownTimeZone, next_slot_ms
from lms_webhooks.model.webhooks import MAX_WEBHOOKS_PER_ACCOUNT, WebhookWithHealth
from lms_webhooks.observability import Metric, count, logger, measure_ms, report
from lms_webhooks.sending.sender import Timeouts
from lms_webhooks.sending.webhook_client import WebhookClient
from lms_webhooks.sending.webhook_request import Credentials
from lms_webhooks.stores.backlog import Backlog
from lms_webhooks.stores.deliveries import DeliveryStore
from lms_webhooks.stores.health import HealthStore
from lms_webhooks.stores.items import read_text
from lms_webhooks.stores.webhook_cache import WebhookCache
from lms_webhooks.thread_pool import ThreadPool

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

    type _StoredText = tuple[DeliveryKey, AttributeValueTypeDef | None]

SQS_BATCH_SIZE = 10  # the template's BatchSize of the real-time queue
TIMEOUTS = Timeouts(connect_seconds=5, response_seconds=5, total_seconds=5)
INTERNAL_ERROR_DELAY_SECONDS = 5.0  # the first pause after an endpoint failure is as long
# For one webhook of one SQS batch. Ten responses of 0.2 s fit. Ten of 0.9 s would hold a dispatcher for 9 s,
# and 150 such events a second would hold all dispatchers.
WEBHOOK_SECONDS = 2.0
# To record what was delivered and append the rest, after the last POST has used its whole time.
_CLOSING_SECONDS = 5.0


class _NotSent(NamedTuple):
    """The events of one webhook that did not go out."""

    real_time: list[Event]
    batch: list[Event]
    delay_seconds: float
    """The pause until the first of the real-time events may be tried."""


class Dispatcher:
    """Dispatches SQS batches, one at a time, as Lambda calls it. Its threads live as long as it does."""

    def __init__(
        self,
        *,
        webhook_cache: WebhookCache,
        health: HealthStore,
        deliveries: DeliveryStore,
        backlog: Backlog,
        webhook_client: WebhookClient,
        drain_queue: DrainQueue,
        quarantine: QuarantineQueue,
        event_source: str,
        retention_days: int,
        batch_every_minutes: int,
        event_types: EventTypes = EVENT_TYPES,
        clock: Callable[[], float] = time.time,
        clocks: Clocks | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._webhook_cache = webhook_cache
        self._health = health
        self._deliveries = deliveries
        self._backlog = backlog
        self._webhook_client = webhook_client
        self._drain_queue = drain_queue
        self._retention_ms = retention_days * 86_400_000
        self._event_types = event_types
        self._batch_reader = BatchReader(
            webhook_cache,
            quarantine,
            event_source=event_source,
            retention_ms=self._retention_ms,
            event_types=event_types,
        )
        self._batch_schedule = EveryMinutes(batch_every_minutes)
        self._clock = clock
        self._jitter = jitter
        self._slowness = SlownessDetector(clocks=clocks)
        # As many threads as POSTs can be in flight, or a few endpoints that hang would hold up the rest.
        self._threads = ThreadPool("post", size=SQS_BATCH_SIZE * MAX_WEBHOOKS_PER_ACCOUNT)

    def dispatch(self, records: Sequence[dict[str, Any]], *, remaining_ms: Callable[[], int]) -> list[str]:
        """Deliver the events in `records`, or append them to their backlogs.

        Returns:
            The ids of the messages that failed, and that SQS must redeliver.
        """

        def remaining_seconds() -> float:
            return remaining_ms() / 1000 - _CLOSING_SECONDS

        batches, failed = self._batch_reader.read(records, self._threads)
        if batches:
            failed |= self._deliver(batches, records, remaining_seconds)
        failed = failed.union(*(batch.failed_message_ids() for batch in batches))
        if failed:
            count(Metric.MESSAGES_RETURNED, len(failed))
        return sorted(failed)

    def _deliver(
        self,
        batches: Sequence[WebhookBatch],
        records: Sequence[dict[str, Any]],
        remaining_seconds: Callable[[], float],
    ) -> set[str]:
        """Deliver all batches at the same time, then record what was delivered.

        Returns:
            The ids of failed messages that are in no batch any more.
        """
        try:
            recorded = self._find_recorded(batches)
            pending = self._backlog.find_texts(
                [
                    (batch.webhook_id, lane, sort_key)
                    for batch in batches
                    for sort_key, lane in batch.lanes.items()
                ]
            )
        except AWS_ERRORS:
            logger.exception("history not read")
            return set()
        already_delivered = {key for key, (is_delivered, _) in recorded.items() if is_delivered}
        texts = [*((key, text) for key, (_, text) in recorded.items()), *pending.items()]
        failed = self._quarantine_conflicting(batches, records, texts) if texts else set()
        # A webhook with one event does not wait for a thread that is busy with ten.
        batches = sorted(batches, key=lambda batch: len(batch.events))
        self._threads.run_all(
            lambda batch: self._deliver_batch(batch, already_delivered, remaining_seconds), batches
        )
        delivered = [delivery for batch in batches for delivery in batch.delivered]
        unwritten = self._deliveries.record(delivered, recorded_at_seconds=int(self._clock()))
        for batch in batches:
            batch.handled |= {each.event.sort_key for each in batch.delivered if each.key not in unwritten}
            self._finish(batch)
        _count_deliveries(delivered, failed_attempts=sum(batch.failed_attempts for batch in batches))
        return failed

    def _find_recorded(
        self, batches: Sequence[WebhookBatch]
    ) -> "dict[DeliveryKey, tuple[bool, AttributeValueTypeDef | None]]":
        """Find which events of the batches are in the history, see `DeliveryStore.find_recorded`.

        An earlier version may have had the message of a redelivered event, and recorded the event under its
        plain key. Such a key does not tell names apart, so what is there counts only if it is the same event.

        Raises:
            AWS_ERRORS: the history could not be read.
        """
        plain_keys = [
            ((batch.webhook_id, event.plain_key), event) for batch in batches for event in batch.redelivered
        ]
        found = self._deliveries.find_recorded(
            [
                *((batch.webhook_id, sort_key) for batch in batches for sort_key in batch.events),
                *dict(plain_keys),
            ]
        )
        for key, event in plain_keys:
            _, stored = record = found.get(key, (False, None))
            if stored is not None and not _is_conflicting(event, stored):
                found.setdefault((key[0], event.sort_key), record)
        for key, _ in plain_keys:
            found.pop(key, None)
        return found

    def _quarantine_conflicting(
        self,
        batches: Sequence[WebhookBatch],
        records: Sequence[dict[str, Any]],
        texts: "Sequence[_StoredText]",
    ) -> set[str]:
        """Quarantine each event whose name, id and time another one of the webhook has, recorded or pending.

        Such an event reaches no webhook.

        Returns:
            The ids of the messages that failed.
        """
        by_id = {batch.webhook_id: batch for batch in batches}
        conflicting = {
            (by_id[webhook_id].account_id, sort_key)
            for (webhook_id, sort_key), stored in texts
            if stored is not None and _is_conflicting(by_id[webhook_id].events[sort_key], stored)
        }
        if not conflicting:
            return set()
        message_ids: set[str] = set()
        for batch in batches:
            for account_id, sort_key in conflicting:
                if batch.account_id == account_id and sort_key in batch.events:
                    message_ids |= batch.withdraw(sort_key)
        failed: set[str] = set()
        for record in records:
            if record["messageId"] in message_ids:
                try:
                    self._batch_reader.quarantine(record, CONFLICTING_EVENT)
                except AWS_ERRORS:
                    logger.exception("event not quarantined", messageId=record["messageId"])
                    failed.add(record["messageId"])
        return failed

    def _deliver_batch(
        self,
        batch: WebhookBatch,
        already_delivered: set[DeliveryKey],
        remaining_seconds: Callable[[], float],
    ) -> None:
        """Deliver one webhook its events, oldest first. Those that cannot go out now join its backlog."""
        batch.handled |= {key for key in batch.events if (batch.webhook_id, key) in already_delivered}
        try:
            not_sent = self._send_in_order(batch, remaining_seconds)
            self._enqueue(batch, Lane.BATCH, not_sent.batch)
            self._enqueue(batch, Lane.REALTIME, not_sent.real_time, delay_seconds=not_sent.delay_seconds)
        except Exception as error:  # noqa: BLE001  # whatever it is, it costs no other webhook
            report(error, "webhook delivery failed", accountId=batch.account_id, webhookId=batch.webhook_id)

    def _send_in_order(self, batch: WebhookBatch, remaining_seconds: Callable[[], float]) -> _NotSent:
        """POST one event after the other, as long as all goes well.

        No POST starts that would end after WEBHOOK_SECONDS if it took as long as the one before. The webhook
        then enters backlog mode, where it holds up no other webhook.
        """
        real_time: list[Event] = []
        for_slot: list[Event] = []
        delay_seconds: float | None = None
        ends_at = self._clock() + WEBHOOK_SECONDS
        last_post_seconds = 0.0
        for sort_key in sorted(batch.events.keys() - batch.handled):
            event = batch.events[sort_key]
            began = self._clock()
            is_over = began + last_post_seconds > ends_at and bool(batch.results)
            must_wait = bool(real_time) or delay_seconds is not None
            # Looked up again before each POST: an endpoint may have taken seconds for the last one.
            registered, credentials = self._look_up(batch, event, must_wait=must_wait or is_over)
            if registered is not None:
                event_route = self._route(registered, event)
                batch.failures = registered.health.failures
                batch.batch_schedule = registered.webhook.batch_schedule
            else:  # deleted or unreadable: the drainer discards what is pending, or a newer version reads it
                is_wanted = sort_key in batch.wanted
                event_route = route_to_lane(event, self._event_types) if is_wanted else Route.SKIP
            if event_route is Route.SKIP:
                batch.handled.add(sort_key)
            elif event_route is Route.BATCH_LANE:
                for_slot.append(event)
            elif (
                event_route is Route.REALTIME_LANE
                or must_wait
                or remaining_seconds() < TIMEOUTS.total_seconds
            ):
                # Once one event is pending, those behind it must not overtake it.
                real_time.append(event)
            elif is_over:
                assert registered is not None
                self._enter_backlog_mode(registered)
                real_time.append(event)
            elif credentials is None:
                delay_seconds = INTERNAL_ERROR_DELAY_SECONDS
                real_time.append(event)
            else:
                assert registered is not None
                consequence = self._attempt(batch, registered, credentials, event)
                last_post_seconds = self._clock() - began
                delay_seconds = consequence.delay_seconds
                if consequence.fate is Fate.PENDING:
                    real_time.append(event)
        return _NotSent(real_time, for_slot, delay_seconds or 0)

    def _find(self, account_id: str, webhook_id: str) -> WebhookWithHealth | None:
        """Return one webhook; None when it is deleted, or when this version cannot read it."""
        try:
            return self._webhook_cache.find(account_id, webhook_id)
        except UnreadableWebhook:
            return None

    def _look_up(
        self, batch: WebhookBatch, event: Event, *, must_wait: bool
    ) -> tuple[WebhookWithHealth | None, Credentials | None]:
        """Return the webhook, and the credentials for `event` if it may go out now.

        Decrypting may take KMS seconds, so the webhook is looked up once more after it.
        """
        registered = self._find(batch.account_id, batch.webhook_id)
        while registered is not None and self._route(registered, event) is Route.DIRECT and not must_wait:
            if batch.credentials is not None and batch.credentials[0] == registered.webhook:
                return registered, batch.credentials[1]
            try:
                credentials = self._webhook_client.decrypt_credentials(registered.webhook)
            except Exception as error:  # noqa: BLE001  # whatever it is, the event joins the backlog
                self._record_internal_error(error, registered)
                break
            batch.credentials = registered.webhook, credentials
            registered = self._find(batch.account_id, batch.webhook_id)
        return registered, None

    def _record_internal_error(self, error: Exception, registered: WebhookWithHealth) -> None:
        """Enter backlog mode after an error of our own, such as a disabled KMS key. It charges no endpoint.

        Left in the queue, the events would end as dead letters that no history shows, and each would call KMS
        again.
        """
        webhook = registered.webhook
        report(error, "event not sent", accountId=webhook.account_id, webhookId=webhook.webhook_id)
        self._enter_backlog_mode(registered)

    def _attempt(
        self, batch: WebhookBatch, registered: WebhookWithHealth, credentials: Credentials, event: Event
    ) -> Consequence:
        """POST one event, and apply what follows from the response."""
        webhook, health = registered
        try:
            result = self._webhook_client.send(webhook, [event], credentials=credentials, timeouts=TIMEOUTS)
        except Exception as error:  # noqa: BLE001  # as for its credentials
            self._record_internal_error(error, registered)
            return Consequence(Fate.PENDING, health, INTERNAL_ERROR_DELAY_SECONDS)
        batch.results.append(result)
        attempt = result.attempt
        if attempt.is_success:  # in direct mode it does not change the health
            batch.delivered.append(Delivery(webhook.webhook_id, event, Outcome.DELIVERED, (attempt,)))
            if self._slowness.record_success(webhook.webhook_id, attempt.latency_ms):
                self._enter_backlog_mode(registered)
            return Consequence(Fate.DELIVERED, health)
        if webhook.keep_response_bodies and result.response.body:
            self._deliveries.keep_body(
                webhook.account_id,
                webhook.webhook_id,
                [event.sort_key],
                attempt,
                credentials.hide_in(result.response.body),
                recorded_at_seconds=int(self._clock()),
            )
        consequence = decide(
            replace(health, rejections=self._slowness.rejections(webhook.webhook_id)),
            attempt,
            [event.sort_key],
            body_bytes=result.body_bytes,
            retry_after=result.response.retry_after,
            now_ms=int(self._clock() * 1000),
            jitter=self._jitter(),
        )
        if consequence.fate is Fate.REJECTED:
            self._slowness.record_rejection(webhook.webhook_id)
            self._set_aside(batch, event, attempt)
        if consequence.delay_seconds is not None:
            batch.failed_attempts += 1
            delay = self._record_failure(registered, consequence.health, consequence.delay_seconds)
            return replace(consequence, delay_seconds=delay)
        return consequence

    def _set_aside(self, batch: WebhookBatch, event: Event, attempt: Attempt) -> None:
        """Append a rejected event to the retry lane, where it is tried alone while the others go on."""
        now_ms = int(self._clock() * 1000)
        later, _ = set_aside(PendingEvent(event), attempt, now_ms=now_ms)
        self._append_and_mark(batch, Lane.RETRY, [later], due_at_ms=later.due_at_ms)

    def _record_failure(self, registered: WebhookWithHealth, failed: Health, delay_seconds: float) -> float:
        """Record an endpoint failure, after which only the drainer sends.

        Returns:
            The pause until the drainer may try.
        """
        webhook = registered.webhook
        self._slowness.reset(webhook.webhook_id)
        if self._save(registered, failed):
            return delay_seconds
        # Another process was faster, and its next attempt may be later. A drain before that would be early.
        known_now = self._find(webhook.account_id, webhook.webhook_id)
        wait_ms = known_now.health.next_attempt_at_ms - int(self._clock() * 1000) if known_now else 0
        return max(delay_seconds, wait_ms / 1000)

    def _enter_backlog_mode(self, registered: WebhookWithHealth) -> None:
        self._slowness.reset(registered.webhook.webhook_id)
        self._save(
            registered, endpoint.enter_backlog_mode(registered.health, now_ms=int(self._clock() * 1000))
        )

    def _save(self, registered: WebhookWithHealth, changed: Health) -> bool:
        """Write a change to backlog mode, unless the health changed since it was read.

        Then the other process knows more. In both cases the cached webhook is out of date.

        Returns:
            Whether the change is written.
        """
        webhook, health = registered
        is_written = False
        try:
            is_written = self._health.save(
                webhook.account_id, webhook.webhook_id, changed, revision=health.revision
            )
        except AWS_ERRORS:
            logger.exception("health not written", webhookId=webhook.webhook_id)
        self._webhook_cache.invalidate(webhook.account_id)
        return is_written

    def _enqueue(
        self, batch: WebhookBatch, lane: Lane, events: Sequence[Event], *, delay_seconds: float = 0.0
    ) -> None:
        if events:
            pending = [PendingEvent(event) for event in events]
            due_at_ms = self._due_at_ms(batch, lane)
            self._append_and_mark(batch, lane, pending, due_at_ms=due_at_ms, delay_seconds=delay_seconds)

    def _append_and_mark(
        self,
        batch: WebhookBatch,
        lane: Lane,
        pending: Sequence[PendingEvent],
        *,
        due_at_ms: int = 0,
        delay_seconds: float = 0.0,
    ) -> None:
        """Append events to a lane, and set its due marker.

        The process that creates the marker of the real-time lane schedules a drain, after `delay_seconds`.
        For the other lanes the sweep does so when they are due.
        """
        unwritten = self._backlog.append(batch.webhook_id, lane, pending)
        is_new = self._backlog.set_marker(
            batch.account_id,
            batch.webhook_id,
            lane,
            accepted_at_ms=min(each.event.accepted_at_ms for each in pending),
            due_at_ms=due_at_ms,
        )
        batch.handled |= {each.event.sort_key for each in pending} - unwritten
        if is_new and lane is Lane.REALTIME:
            self._schedule_drain(batch, [lane], delay_seconds=delay_seconds)

    def _finish(self, batch: WebhookBatch) -> None:
        """Write the log lines of a batch, and mark the lanes of its redelivered events."""
        try:
            # Not in the threads: each would wait for the others at the log's lock.
            self._webhook_client.log(batch.account_id, batch.webhook_id, batch.results)
            self._remark_redelivered(batch)
        except Exception as error:  # noqa: BLE001  # whatever it is, it costs no other webhook
            report(error, "lanes not marked", accountId=batch.account_id, webhookId=batch.webhook_id)
            batch.handled -= {event.sort_key for event in batch.redelivered}

    def _remark_redelivered(self, batch: WebhookBatch) -> None:
        """Mark every lane that a redelivered event may be in, and schedule a drain.

        The process that had the message before may have died between appending an event and marking its lane.
        Once the message is acknowledged, nothing else would look into that lane.
        """
        if not batch.redelivered:
            return
        accepted_at_ms = min(event.accepted_at_ms for event in batch.redelivered)
        lanes = {lane: None for event in batch.redelivered for lane in self._possible_lanes(event)}
        new = [
            lane
            for lane in lanes
            if self._backlog.set_marker(
                batch.account_id,
                batch.webhook_id,
                lane,
                accepted_at_ms=accepted_at_ms,
                due_at_ms=self._due_at_ms(batch, lane),
            )
        ]
        if new := [lane for lane in new if lane is not Lane.BATCH]:
            self._schedule_drain(batch, new, delay_seconds=0)

    def _schedule_drain(self, batch: WebhookBatch, lanes: Sequence[Lane], *, delay_seconds: float) -> None:
        # A webhook that is deleted, or that cannot be read, is not urgent.
        failures = 1 if batch.failures is None else batch.failures + batch.failed_attempts
        is_urgent = any(lane.is_urgent(failures=failures) for lane in lanes)
        message = DrainMessage(batch.account_id, batch.webhook_id, is_urgent=is_urgent)
        self._drain_queue.schedule(message, delay_seconds=delay_seconds)

    def _due_at_ms(self, batch: WebhookBatch, lane: Lane) -> int:
        """Return when a lane is due that gets its first event now."""
        if lane is not Lane.BATCH:
            return 0
        now_ms = int(self._clock() * 1000)
        try:
            return next_slot_ms(now_ms, batch.batch_schedule or self._batch_schedule)
        except UnknownTimeZone as error:  # a newer version may know it: the events go out all the same
            report(error, "slot not computed", accountId=batch.account_id, webhookId=batch.webhook_id)
            return next_slot_ms(now_ms, self._batch_schedule)

    def _route(self, registered: WebhookWithHealth, event: Event) -> Route:
        return route(*registered, event, retention_ms=self._retention_ms, event_types=self._event_types)

    def _possible_lanes(self, event: Event) -> tuple[Lane, ...]:
        """Return the lanes into which a dispatcher may put an event."""
        is_for_slot = route_to_lane(event, self._event_types) is Route.BATCH_LANE
        return (Lane.BATCH,) if is_for_slot else (Lane.REALTIME, Lane.RETRY)


def _is_conflicting(event: Event, stored: "AttributeValueTypeDef") -> bool:
    """Return whether another event is stored under the key of `event`."""
    try:
        return are_different(read_text(stored), event.text)
    except Exception as error:  # noqa: BLE001  # a damaged item proves nothing, and costs no other event
        report(error, "stored event not read", accountId=event.account_id)
        return False


def _count_deliveries(delivered: Sequence[Delivery], *, failed_attempts: int) -> None:
    if failed_attempts:
        count(Metric.ATTEMPTS_FAILED, failed_attempts)
    if delivered:
        count(Metric.DELIVERIES, len(delivered))
    for delivery in delivered:
        measure_ms(Metric.DELIVERY_LATENCY, delivery.attempts[-1].latency_ms)
