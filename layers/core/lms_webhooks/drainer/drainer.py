"""Take turns at draining webhooks: the lease, the turn, and who comes next. Trigger: the drain queue.

One drainer at a time holds a webhook's lease, longer than it can live, and gives it back before it sends
for its successor. With the lease it leaves a ticket, which its successor's message carries: whoever comes
without it ends silently, and the sweep sends nobody. Should anything of this be lost with a process, the
marks are still there, and when the ticket has ended the sweep sends for a drainer.

So a drainer sends to the queue that invoked it. AWS would stop that loop after some 16 messages (Lambda
guide, recursive loop detection), and the template allows it. Three rules bound it. A message has at most one
successor. Nobody gets the lease before the next attempt is due, or while another message is on its way. And
the pauses grow for as long as an endpoint fails, or we do. `tests/scenarios/test_loop.py` and
`tests/scenarios/test_chains.py` prove it.
"""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lms_webhooks.aws.sqs import DrainMessage, DrainQueue, read_drain_message
from lms_webhooks.drainer.drain_run import CLOSING_SECONDS, DrainRun, OurDelay
from lms_webhooks.drainer.outcomes import OutcomeRecorder
from lms_webhooks.drainer.purge import Purger
from lms_webhooks.drainer.replay_runner import ReplayRunner
from lms_webhooks.errors import AWS_ERRORS, Contention
from lms_webhooks.model.health import Health, without_unnotified_transition
from lms_webhooks.model.lanes import Lane
from lms_webhooks.model.notifications import notifications_for
from lms_webhooks.model.retry import backoff_seconds
from lms_webhooks.model.webhooks import Webhook
from lms_webhooks.observability import Metric, count, logger, report
from lms_webhooks.stores.backlog import Backlog
from lms_webhooks.stores.health import HealthStore, Ticket
from lms_webhooks.stores.outbox import NotificationOutbox
from lms_webhooks.stores.webhook_cache import WebhookCache

TIMEOUT_SECONDS = 60  # the template's Timeout for this function
LEASE_SECONDS = TIMEOUT_SECONDS + 10  # longer than a drainer can live, whatever happens to it
_EARLY_SECONDS = 2.0  # SQS delays whole seconds; what is missing to the exact moment is waited for here


class Drainer:
    """Drains one webhook after the other, as the messages of the drain queue ask for it."""

    def __init__(
        self,
        *,
        webhook_cache: WebhookCache,
        health: HealthStore,
        backlog: Backlog,
        settler: OutcomeRecorder,
        replays: ReplayRunner,
        notices: NotificationOutbox,
        queue: DrainQueue,
        turn: Callable[[Webhook, Health, Callable[[], float]], DrainRun],
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._webhook_cache = webhook_cache
        self._health = health
        self._backlog = backlog
        self._notices = notices
        self._queue = queue
        self._turn = turn
        self._clock = clock
        self._sleep = sleep
        self._purger = Purger(
            webhook_cache=webhook_cache,
            backlog=backlog,
            settler=settler,
            replays=replays,
            queue=queue,
            claim_seconds=LEASE_SECONDS,
            clock=clock,
        )

    def drain_all(
        self, records: Sequence[Mapping[str, Any]], *, remaining_ms: Callable[[], int]
    ) -> list[str]:
        """Drain the webhook that each of SQS's `records` names; answer the ids of those that must come again.

        Raises:
            AWS_ERRORS: as `drain`. The function fails then, which has an alarm of its own.
        """
        failed: list[str] = []
        for record in records:
            try:
                self.drain(read_drain_message(record), remaining_ms=remaining_ms)
            except AWS_ERRORS:
                raise
            except Exception as error:  # noqa: BLE001  # damage, or an item of a newer version
                report(error, "webhook not drained", messageId=record["messageId"])
                failed.append(record["messageId"])
        return failed

    def drain(self, message: DrainMessage, *, remaining_ms: Callable[[], int]) -> None:
        """Send what waits for a webhook while there is time, and see to it that the rest is sent.

        An urgent drainer leaves a webhook that has only lower lanes to one of the background.

        Raises:
            AWS_ERRORS: not even the successor could be sent for; this message comes again.
        """
        account_id, webhook_id = message.account_id, message.webhook_id
        try:
            registered = self._webhook_cache.find(account_id, webhook_id, fresh=True)
        except AWS_ERRORS:
            _note_fault(webhook_id)
            self._come_later(message)
            return
        if registered is None:
            self._purger.purge(message, remaining_ms=remaining_ms)
            return
        webhook, health = registered
        if health.failures:
            message = replace(message, is_urgent=False)
        early_seconds = health.next_attempt_at_ms / 1000 - self._clock()
        if early_seconds > _EARLY_SECONDS:
            self._hand_on(message, delay_seconds=early_seconds)
            return
        if early_seconds > 0:
            self._sleep(early_seconds)
        owner = secrets.token_urlsafe(12)
        now_ms = self._now_ms()
        try:
            leased = self._health.acquire(
                account_id,
                webhook_id,
                owner=owner,
                now_ms=now_ms,
                until_ms=now_ms + LEASE_SECONDS * 1000,
                ticket=message.ticket,
                message_id=message.message_id,
            )
        except AWS_ERRORS:
            _note_fault(webhook_id)
            leased = None
        if leased is None:
            # Where another is at it, or on the way, this changes nothing. But it may have become too early
            # meanwhile, or we failed: then the ticket must not stand there without a message.
            self._come_later(message)
            return
        turn = self._turn(webhook, leased, lambda: remaining_ms() / 1000 - CLOSING_SECONDS)
        turn.is_urgent = message.is_urgent
        is_held_up = False
        try:
            delay_seconds = turn.serve()
        except Exception as error:  # noqa: BLE001  # whatever it is, it charges no endpoint, and the lease ends
            report(error, "turn broke off", accountId=account_id, webhookId=webhook_id)
            count(Metric.DRAIN_RUNS_ABORTED)
            delay_seconds = None
            is_held_up = True
        health = turn.health
        if not self._save_notifications(webhook, turn):
            health = without_unnotified_transition(turn.before, health)
            is_held_up = True
        broken_off = 0
        if is_held_up or isinstance(delay_seconds, OurDelay):
            broken_off = 1 if _got_on(turn) else message.broken_off + 1
            delay_seconds = max(delay_seconds or 0, _pause_seconds(broken_off))
        message = replace(message, ticket=message.message_id, broken_off=broken_off)
        self._give_back(message, owner, turn, health, delay_seconds)

    def _give_back(
        self, successor: DrainMessage, owner: str, turn: DrainRun, health: Health, delay_seconds: float | None
    ) -> None:
        """Give the lease back, and send for the successor, if there is something for one to do.

        In this order: a successor that came before would find the lease taken and end silently.
        """
        account_id, webhook_id = successor.account_id, successor.webhook_id
        ticket = None
        if delay_seconds is not None:
            ticket = Ticket(successor.ticket, self._now_ms() + int(delay_seconds * 1000))
        try:
            is_last_word = self._health.release(
                account_id, webhook_id, owner=owner, health=health, before=turn.before, ticket=ticket
            )
        except AWS_ERRORS:
            _note_fault(webhook_id)
            is_last_word = False  # or it is, and its answer was lost
        # Where something changed meanwhile, or was appended, who sent for a drainer found the lease taken.
        if not is_last_word:
            # Mostly an admin mended something, so that nothing is known of failures.
            self._hand_on(_for(successor, [Lane.REALTIME], failures=0), delay_seconds=0)
        elif delay_seconds is not None:
            lanes = [Lane.REALTIME] if turn.has_real_time else []
            self._send(_for(successor, lanes, failures=health.failures), delay_seconds=delay_seconds)
        elif turn.may_send() and (lanes := self._due_lanes(webhook_id)):
            self._hand_on(_for(successor, lanes, failures=health.failures), delay_seconds=0)

    def _come_later(self, message: DrainMessage) -> None:
        message = replace(message, broken_off=message.broken_off + 1)
        self._hand_on(message, delay_seconds=_pause_seconds(message.broken_off))

    def _hand_on(self, message: DrainMessage, *, delay_seconds: float) -> None:
        """Send a message in the place of `message`, unless somebody else is at the webhook or on the way."""
        now_ms = self._now_ms()
        message = replace(message, ticket=message.ticket or message.message_id)
        ticket = Ticket(message.ticket, now_ms + int(delay_seconds * 1000))
        if self._health.take_ticket(message.account_id, message.webhook_id, ticket, now_ms=now_ms):
            self._send(message, delay_seconds=delay_seconds)

    def _send(self, message: DrainMessage, *, delay_seconds: float) -> None:
        try:
            self._queue.send(message, delay_seconds=delay_seconds)
        except AWS_ERRORS:
            self._health.drop_ticket(message.account_id, message.webhook_id, message.ticket)
            raise

    def _save_notifications(self, webhook: Webhook, turn: DrainRun) -> bool:
        """Have its owners told what the turn found; answer whether they will be."""
        try:
            for notice in notifications_for(webhook, turn.before, turn.health, now_ms=self._now_ms()):
                self._notices.put(notice)
        except (*AWS_ERRORS, Contention):
            logger.exception("notice not noted", webhookId=webhook.webhook_id)
            return False
        return True

    def _due_lanes(self, webhook_id: str) -> list[Lane]:
        """Where events were appended while we held the lease: their own drainer found it taken."""
        now_ms = self._now_ms()
        return [lane for lane, mark in self._backlog.marks(webhook_id).items() if mark.is_due(now_ms)]

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _for(message: DrainMessage, lanes: Sequence[Lane], *, failures: int) -> DrainMessage:
    """`message`, by the queue that is right for a webhook with these lanes due."""
    return replace(message, is_urgent=any(lane.is_urgent(failures=failures) for lane in lanes))


def _note_fault(webhook_id: str) -> None:
    """For an except clause: a call of AWS failed."""
    logger.exception("turn broke off", webhookId=webhook_id)
    count(Metric.DRAIN_RUNS_ABORTED)


def _pause_seconds(broken_off: int) -> float:
    """How long to wait when so many turns in a row broke off: as long as for an endpoint that fails."""
    return backoff_seconds(broken_off, jitter=0)


def _got_on(turn: DrainRun) -> bool:
    """Whether a turn that broke off did something for good: it sends no second request before the first is
    written down."""
    return len(set(turn.health.attempts) - set(turn.before.attempts)) > 1
