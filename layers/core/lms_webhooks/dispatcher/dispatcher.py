"""Take the events of one SQS batch to the webhooks that asked for them.

A real-time event goes to a webhook in direct mode at once: each webhook gets its events one after the
other, all webhooks at the same time. What cannot go now is put into the webhook's backlog, which is then
marked; a message is acknowledged when each of its deliveries is recorded, or waits in a marked lane.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lms_webhooks.aws.clients import AWS_ERRORS
from lms_webhooks.aws.sqs import DrainMessage, DrainQueue, QuarantineQueue
from lms_webhooks.clocks import Clocks
from lms_webhooks.dispatcher.batch_reader import SECOND_TEXT, BatchReader, WebhookBatch, differ
from lms_webhooks.dispatcher.slow_endpoints import SlownessDetector
from lms_webhooks.model import health as endpoint
from lms_webhooks.model.attempts import Attempt
from lms_webhooks.model.consequences import Consequence, Fate, follow, set_aside
from lms_webhooks.model.events import Event
from lms_webhooks.model.health import Health
from lms_webhooks.model.routing import Route, lane_for, route
from lms_webhooks.model.slots import next_slot_ms
from lms_webhooks.model.webhooks import MAX_WEBHOOKS_PER_ACCOUNT
from lms_webhooks.observability import Metric, count, logger, measure_ms, report
from lms_webhooks.sending.sender import Timeouts
from lms_webhooks.sending.webhook_client import WebhookClient
from lms_webhooks.sending.webhook_request import Credentials
from lms_webhooks.stores.backlog import Backlog, Lane, PendingEvent
from lms_webhooks.stores.deliveries import Delivery, DeliveryKey, DeliveryStore, Outcome
from lms_webhooks.stores.health import HealthStore
from lms_webhooks.stores.items import read_text
from lms_webhooks.stores.webhook_cache import WebhookCache
from lms_webhooks.stores.webhooks import UnreadableWebhook, WebhookWithHealth
from lms_webhooks.thread_pool import ThreadPool

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

    type _StoredText = tuple[DeliveryKey, AttributeValueTypeDef | None]

BATCH_SIZE = 10  # the template's BatchSize of the real-time queue
TIMEOUTS = Timeouts(connect_seconds=5, answer_seconds=5, total_seconds=5)
FAULT_DELAY_SECONDS = 5.0  # the first pause after an endpoint failure is as long
# For one webhook of one SQS batch. Ten responses of 0.2 s fit. Ten of 0.9 s would hold a dispatcher for 9 s,
# and 150 such events a second all of them.
WEBHOOK_SECONDS = 2.0
# To write down what was sent and what waits, after the last POST has used its whole time.
_CLOSING_SECONDS = 5.0


class Dispatcher:
    """Dispatches SQS batches. One at a time, as Lambda calls it; its threads live as long as it does."""

    def __init__(
        self,
        *,
        registry: WebhookCache,
        health: HealthStore,
        deliveries: DeliveryStore,
        backlog: Backlog,
        courier: WebhookClient,
        drain_queue: DrainQueue,
        quarantine: QuarantineQueue,
        event_source: str,
        retention_days: int,
        batch_every_minutes: int,
        clock: Callable[[], float] = time.time,
        clocks: Clocks | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._registry = registry
        self._health = health
        self._deliveries = deliveries
        self._backlog = backlog
        self._courier = courier
        self._drain_queue = drain_queue
        self._retention_ms = retention_days * 86_400_000
        self._intake = BatchReader(
            registry, quarantine, event_source=event_source, retention_ms=self._retention_ms
        )
        self._batch_every_minutes = batch_every_minutes
        self._clock = clock
        self._jitter = jitter
        self._pace = SlownessDetector(clocks=clocks)
        # As many threads as POSTs can be in flight, or a few endpoints that hang would hold up the rest.
        self._crew = ThreadPool("post", size=BATCH_SIZE * MAX_WEBHOOKS_PER_ACCOUNT)

    def dispatch(self, records: Sequence[dict[str, Any]], *, remaining_ms: Callable[[], int]) -> list[str]:
        """See to the events in `records`; answer the ids of the messages that must come again."""

        def remaining_seconds() -> float:
            return remaining_ms() / 1000 - _CLOSING_SECONDS

        shares, unsafe = self._intake.read_batch(records, self._crew)
        if shares:
            unsafe |= self._deliver(shares, records, remaining_seconds)
        unsafe = unsafe.union(*(share.failed_message_ids() for share in shares))
        if unsafe:
            count(Metric.MESSAGES_RETURNED, len(unsafe))
        return sorted(unsafe)

    def _deliver(
        self,
        shares: Sequence[WebhookBatch],
        records: Sequence[dict[str, Any]],
        remaining_seconds: Callable[[], float],
    ) -> set[str]:
        """Bring every share to an end, all at once; then record what was delivered.

        Answers the ids of messages that must come again and are in no share any more.
        """
        try:
            recorded = self._deliveries.find_recorded(
                [(share.webhook_id, sort_key) for share in shares for sort_key in share.events]
            )
            pending = self._backlog.find_texts(
                [
                    (share.webhook_id, lane, sort_key)
                    for share in shares
                    for sort_key, lane in share.lanes.items()
                ]
            )
        except AWS_ERRORS:
            logger.exception("history not read")
            return set()
        done = {key for key, (is_delivered, _) in recorded.items() if is_delivered}
        texts = [*((key, text) for key, (_, text) in recorded.items()), *pending.items()]
        unsafe = self._put_second_texts_aside(shares, records, texts) if texts else set()
        # Who has one event is not to wait for threads that have ten to send.
        shares = sorted(shares, key=lambda share: len(share.events))
        self._crew.run_all(lambda share: self._deliver_batch(share, done, remaining_seconds), shares)
        delivered = [delivery for share in shares for delivery in share.delivered]
        unwritten = self._deliveries.record(delivered, recorded_at_seconds=int(self._clock()))
        for share in shares:
            share.safe |= {each.event.sort_key for each in share.delivered if each.key not in unwritten}
            self._close(share)
        _report(delivered, failed_attempts=sum(share.failed_attempts for share in shares))
        return unsafe

    def _put_second_texts_aside(
        self,
        shares: Sequence[WebhookBatch],
        records: Sequence[dict[str, Any]],
        texts: "Sequence[_StoredText]",
    ) -> set[str]:
        """Put into quarantine each event under whose id and time another one is recorded, or waits, for a
        webhook that wants it. It reaches none. Answers the ids of the messages that must come again."""
        by_id = {share.webhook_id: share for share in shares}
        second = {
            (by_id[webhook_id].account_id, sort_key)
            for (webhook_id, sort_key), stored in texts
            if stored is not None and _is_another(by_id[webhook_id].events[sort_key], stored)
        }
        if not second:
            return set()
        message_ids: set[str] = set()
        for share in shares:
            for account_id, sort_key in second:
                if share.account_id == account_id and sort_key in share.events:
                    message_ids |= share.withdraw(sort_key)
        unsafe: set[str] = set()
        for record in records:
            if record["messageId"] in message_ids:
                try:
                    self._intake.put_aside(record, SECOND_TEXT)
                except AWS_ERRORS:
                    logger.exception("event not quarantined", messageId=record["messageId"])
                    unsafe.add(record["messageId"])
        return unsafe

    def _deliver_batch(
        self, share: WebhookBatch, done: set[DeliveryKey], remaining_seconds: Callable[[], float]
    ) -> None:
        """Take one webhook its events, oldest first. Those that cannot go now wait in its backlog.

        No POST starts that would end after WEBHOOK_SECONDS if it took as long as the one before: then the
        webhook is in backlog mode from now on, where it holds up nobody.
        """
        share.safe |= {sort_key for sort_key in share.events if (share.webhook_id, sort_key) in done}
        events = [share.events[sort_key] for sort_key in sorted(share.events) if sort_key not in share.safe]
        waiting: list[Event] = []
        batch: list[Event] = []
        delay_seconds: float | None = None
        ends_at = self._clock() + WEBHOOK_SECONDS
        took_seconds = 0.0
        try:
            for event in events:
                began = self._clock()
                is_over = began + took_seconds > ends_at and bool(share.sent)
                must_wait = bool(waiting) or delay_seconds is not None
                # Looked up again before each POST: an endpoint may have taken seconds for the last one.
                registered, credentials = self._look_up(share, event, must_wait=must_wait or is_over)
                if registered is not None:
                    way = self._way(registered, event)
                    share.failures = registered.health.failures
                else:  # what it still asked for is buried, or read by another version, with what waits
                    way = lane_for(event) if event.sort_key in share.asked_for else Route.NOWHERE
                if way is Route.NOWHERE:
                    share.safe.add(event.sort_key)
                elif way is Route.BATCH_LANE:
                    batch.append(event)
                elif way is Route.REALTIME_LANE or must_wait or remaining_seconds() < TIMEOUTS.total_seconds:
                    # Once one waits all wait: those behind it must not overtake it.
                    waiting.append(event)
                elif is_over:
                    assert registered is not None
                    self._enter_backlog_mode(registered)
                    waiting.append(event)
                elif credentials is None:
                    delay_seconds = FAULT_DELAY_SECONDS
                    waiting.append(event)
                else:
                    assert registered is not None
                    then = self._attempt(share, registered, credentials, event)
                    took_seconds = self._clock() - began
                    delay_seconds = then.delay_seconds
                    if then.fate is Fate.PENDING:
                        waiting.append(event)
            self._keep(share, Lane.BATCH, batch)
            self._keep(share, Lane.REALTIME, waiting, delay_seconds=delay_seconds or 0)
        except Exception as error:  # noqa: BLE001  # whatever it is, it costs no other webhook
            report(error, "webhook not served", accountId=share.account_id, webhookId=share.webhook_id)

    def _find(self, account_id: str, webhook_id: str) -> WebhookWithHealth | None:
        """One webhook, or None when it is gone, or this version cannot read it."""
        try:
            return self._registry.find(account_id, webhook_id)
        except UnreadableWebhook:
            return None

    def _look_up(
        self, share: WebhookBatch, event: Event, *, must_wait: bool
    ) -> tuple[WebhookWithHealth | None, Credentials | None]:
        """The webhook as it is now, or None when it is gone; and what a request to it takes, if one is due.

        KMS may take long over a secret. So the secret comes first, then the look at what may have changed.
        """
        registered = self._find(share.account_id, share.webhook_id)
        while registered is not None and self._way(registered, event) is Route.DIRECT and not must_wait:
            if share.credentials is not None and share.credentials[0] == registered.webhook:
                return registered, share.credentials[1]
            try:
                credentials = self._courier.credentials_of(registered.webhook)
            except Exception as error:  # noqa: BLE001  # whatever it is, the event goes where it is safe
                self._note_unsent(error, registered)
                break
            share.credentials = registered.webhook, credentials
            registered = self._find(share.account_id, share.webhook_id)
        return registered, None

    def _note_unsent(self, error: Exception, registered: WebhookWithHealth) -> None:
        """An error of ours, such as a KMS key that is disabled, charges no endpoint; but events must wait.

        From the queue they would end as dead letters that no history shows, and each would try KMS again.
        """
        webhook = registered.webhook
        report(error, "event not sent", accountId=webhook.account_id, webhookId=webhook.webhook_id)
        self._enter_backlog_mode(registered)

    def _attempt(
        self, share: WebhookBatch, registered: WebhookWithHealth, credentials: Credentials, event: Event
    ) -> Consequence:
        """POST one event; answer what follows, with as many seconds as a failed one must wait."""
        webhook, health = registered
        try:
            sent = self._courier.send(webhook, [event], credentials=credentials, patience=TIMEOUTS)
        except Exception as error:  # noqa: BLE001  # as for its credentials
            self._note_unsent(error, registered)
            return Consequence(Fate.PENDING, health, FAULT_DELAY_SECONDS)
        share.sent.append(sent)
        if sent.attempt.is_success:  # in direct mode it changes nothing that is known of the endpoint
            delivered = Delivery(webhook.webhook_id, event, Outcome.DELIVERED, (sent.attempt,))
            share.delivered.append(delivered)
            if self._pace.record_success(webhook.webhook_id, sent.attempt.latency_ms):
                self._enter_backlog_mode(registered)
            return Consequence(Fate.DELIVERED, health)
        health = replace(health, rejections=self._pace.rejections(webhook.webhook_id))
        then = follow(health, sent, now_ms=int(self._clock() * 1000), jitter=self._jitter())
        if then.fate is Fate.REJECTED:
            self._pace.rejected(webhook.webhook_id)
            self._set_aside(share, event, sent.attempt)
        if then.delay_seconds is not None:
            share.failed_attempts += 1
            return replace(then, delay_seconds=self._fall_back(registered, then.health, then.delay_seconds))
        return then

    def _set_aside(self, share: WebhookBatch, event: Event, attempt: Attempt) -> None:
        """The receiver rejected one event: it is tried again alone, and the others go on."""
        now_ms = int(self._clock() * 1000)
        later, _ = set_aside(PendingEvent(event), attempt, now_ms=now_ms)
        self._put(share, Lane.RETRY, [later], due_at_ms=later.due_at_ms)

    def _fall_back(self, registered: WebhookWithHealth, fallen: Health, delay_seconds: float) -> float:
        """Note an endpoint failure, so that from now on the drainer alone sends; answer how long it waits."""
        webhook = registered.webhook
        self._pace.forget(webhook.webhook_id)
        if self._save(registered, fallen):
            return delay_seconds
        # Another was faster, and may know of a later next attempt: a drainer sent for before that would find
        # itself early.
        now_known = self._find(webhook.account_id, webhook.webhook_id)
        wait_ms = now_known.health.next_attempt_at_ms - int(self._clock() * 1000) if now_known else 0
        return max(delay_seconds, wait_ms / 1000)

    def _enter_backlog_mode(self, registered: WebhookWithHealth) -> None:
        self._pace.forget(registered.webhook.webhook_id)
        self._save(
            registered, endpoint.enter_backlog_mode(registered.health, now_ms=int(self._clock() * 1000))
        )

    def _save(self, registered: WebhookWithHealth, fallen: Health) -> bool:
        """Write a fall to backlog mode, unless something changed since the health was read: whoever was
        faster knows more. Answers whether it is written; either way the old reading is no longer true."""
        webhook, health = registered
        is_written = False
        try:
            is_written = self._health.save(
                webhook.account_id, webhook.webhook_id, fallen, revision=health.revision
            )
        except AWS_ERRORS:
            logger.exception("health not written", webhookId=webhook.webhook_id)
        self._registry.forget(webhook.account_id)
        return is_written

    def _keep(
        self, share: WebhookBatch, lane: Lane, events: Sequence[Event], *, delay_seconds: float = 0.0
    ) -> None:
        if events:
            waiting = [PendingEvent(event) for event in events]
            self._put(share, lane, waiting, due_at_ms=self._due_at_ms(lane), delay_seconds=delay_seconds)

    def _put(
        self,
        share: WebhookBatch,
        lane: Lane,
        waiting: Sequence[PendingEvent],
        *,
        due_at_ms: int = 0,
        delay_seconds: float = 0.0,
    ) -> None:
        """Put events into a lane and mark it.

        Whoever made the mark of the real-time lane sends for a drainer, after `delay_seconds`. For the other
        lanes the sweep does, when they are due.
        """
        unwritten = self._backlog.append(share.webhook_id, lane, waiting)
        is_new = self._backlog.mark(
            share.account_id,
            share.webhook_id,
            lane,
            accepted_at_ms=min(each.event.accepted_at_ms for each in waiting),
            due_at_ms=due_at_ms,
        )
        share.safe |= {each.event.sort_key for each in waiting} - unwritten
        if is_new and lane is Lane.REALTIME:
            self._send_for_drainer(share, [lane], delay_seconds=delay_seconds)

    def _close(self, share: WebhookBatch) -> None:
        """Write a share's lines in the log, and see to what came before."""
        try:
            # Not by the threads: each would wait for the others at the log's lock.
            self._courier.log(share.account_id, share.webhook_id, share.sent)
            self._remark_redelivered(share)
        except Exception as error:  # noqa: BLE001  # whatever it is, it costs no other webhook
            report(error, "lanes not marked", accountId=share.account_id, webhookId=share.webhook_id)
            share.safe -= {event.sort_key for event in share.redelivered}

    def _remark_redelivered(self, share: WebhookBatch) -> None:
        """Send for a drainer for events that came before: whoever had them then may have put them into a
        lane and died before it was marked. Now that they are seen to, nobody else would look there.
        """
        if not share.redelivered:
            return
        accepted_at_ms = min(event.accepted_at_ms for event in share.redelivered)
        lanes = {lane: None for event in share.redelivered for lane in _possible_lanes(event)}
        new = [
            lane
            for lane in lanes
            if self._backlog.mark(
                share.account_id,
                share.webhook_id,
                lane,
                accepted_at_ms=accepted_at_ms,
                due_at_ms=self._due_at_ms(lane),
            )
        ]
        if new := [lane for lane in new if lane is not Lane.BATCH]:
            self._send_for_drainer(share, new, delay_seconds=0)

    def _send_for_drainer(self, share: WebhookBatch, lanes: Sequence[Lane], *, delay_seconds: float) -> None:
        # A webhook that is gone, or cannot be read, is urgent to nobody.
        failures = 1 if share.failures is None else share.failures + share.failed_attempts
        is_urgent = any(lane.is_urgent(failures=failures) for lane in lanes)
        message = DrainMessage(share.account_id, share.webhook_id, is_urgent=is_urgent)
        self._drain_queue.send(message, delay_seconds=delay_seconds)

    def _due_at_ms(self, lane: Lane) -> int:
        """From when on a lane that gets its first event now is to be served."""
        if lane is not Lane.BATCH:
            return 0
        return next_slot_ms(int(self._clock() * 1000), every_minutes=self._batch_every_minutes)

    def _way(self, registered: WebhookWithHealth, event: Event) -> Route:
        return route(*registered, event, retention_ms=self._retention_ms)


def _is_another(event: Event, stored: "AttributeValueTypeDef") -> bool:
    """Whether what is stored under the key of `event` is another event."""
    try:
        return differ(read_text(stored), event.text)
    except Exception as error:  # noqa: BLE001  # damage: nothing can be said, and it costs no other event
        report(error, "stored event not read", accountId=event.account_id)
        return False


def _possible_lanes(event: Event) -> tuple[Lane, ...]:
    """Where a dispatcher may put an event."""
    return (Lane.BATCH,) if lane_for(event) is Route.BATCH_LANE else (Lane.REALTIME, Lane.RETRY)


def _report(delivered: Sequence[Delivery], *, failed_attempts: int) -> None:
    if failed_attempts:
        count(Metric.ATTEMPTS_FAILED, failed_attempts)
    if delivered:
        count(Metric.DELIVERIES, len(delivered))
    for delivery in delivered:
        measure_ms(Metric.DELIVERY_LATENCY, delivery.attempts[-1].latency_ms)
