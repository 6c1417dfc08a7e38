"""Take turns at draining webhooks: the lease, the turn, and who comes next. Trigger: the drain queue.

One drainer at a time holds a webhook's lease, longer than it can live, and gives it back before it sends
for its successor. Who finds the lease taken ends silently. Should anything of this be lost with a process,
the marks are still there, and the sweep sends for a drainer.

So a drainer sends to the queue that invoked it. AWS would stop that loop after some 16 messages (Lambda
guide, recursive loop detection), and the template allows it. Two rules bound it: only the lease holder sends,
once; and nobody gets the lease before the next attempt is due. `tests/scenarios/test_loop.py` proves it.
"""

import secrets
import time
from collections.abc import Callable

from lms_webhooks.aws import AWS_FAULTS
from lms_webhooks.backlog import Backlog, Lane
from lms_webhooks.delivery_store import Outcome
from lms_webhooks.health import Health, without_transition
from lms_webhooks.health_store import HealthStore
from lms_webhooks.notices import NoticeBox, notices_of
from lms_webhooks.observability import Metric, count, logger
from lms_webhooks.problems import Busy
from lms_webhooks.queues import DrainQueue
from lms_webhooks.registry import Registry
from lms_webhooks.replay import Replays
from lms_webhooks.settling import Settler
from lms_webhooks.turn import CLOSING_SECONDS, FAULT_DELAY_SECONDS, Turn
from lms_webhooks.webhooks import Webhook

TIMEOUT_SECONDS = 60  # the template's Timeout for this function
LEASE_SECONDS = TIMEOUT_SECONDS + 10  # longer than a drainer can live, whatever happens to it
_EARLY_SECONDS = 2.0  # SQS delays whole seconds; what is missing to the exact moment is waited for here


class Drainer:
    """Drains one webhook after the other, as the messages of the drain queue ask for it."""

    def __init__(
        self,
        *,
        registry: Registry,
        health: HealthStore,
        backlog: Backlog,
        settler: Settler,
        replays: Replays,
        notices: NoticeBox,
        queue: DrainQueue,
        turn: Callable[[Webhook, Health, Callable[[], float]], Turn],
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._registry = registry
        self._health = health
        self._backlog = backlog
        self._settler = settler
        self._replays = replays
        self._notices = notices
        self._queue = queue
        self._turn = turn
        self._clock = clock
        self._sleep = sleep

    def drain(self, account_id: str, webhook_id: str, *, remaining_ms: Callable[[], int]) -> None:
        """Send what waits for a webhook while there is time, and see to it that the rest is sent.

        Raises:
            aws.AWS_FAULTS: not even the successor could be sent for; the sweep will find the marks.
        """
        registered = self._registry.find(account_id, webhook_id, fresh=True)
        if registered is None:
            self._bury(account_id, webhook_id, remaining_ms)
            return
        webhook, health = registered
        early_seconds = health.next_attempt_at_ms / 1000 - self._clock()
        if 0 < early_seconds <= _EARLY_SECONDS:
            self._sleep(early_seconds)
        owner = secrets.token_urlsafe(12)
        now_ms = int(self._clock() * 1000)
        leased = self._health.acquire(
            account_id, webhook_id, owner=owner, now_ms=now_ms, until_ms=now_ms + LEASE_SECONDS * 1000
        )
        if leased is None:
            return
        turn = self._turn(webhook, leased, lambda: remaining_ms() / 1000 - CLOSING_SECONDS)
        try:
            delay_seconds = turn.serve()
        except AWS_FAULTS:
            logger.exception("turn broke off", webhookId=webhook_id)
            count(Metric.TURNS_BROKEN_OFF)
            delay_seconds = FAULT_DELAY_SECONDS
        health = turn.health
        if not self._is_noted(webhook, turn):
            health = without_transition(turn.before, health)
            delay_seconds = max(delay_seconds or 0, FAULT_DELAY_SECONDS)
        # Before the successor is sent for: it would find the lease taken and end silently.
        is_last_word = self._health.release(
            account_id, webhook_id, owner=owner, health=health, before=turn.before
        )
        if not is_last_word:
            # Something changed meanwhile, and who sent for a drainer then found the lease taken.
            delay_seconds = 0
        if delay_seconds is None and turn.may_send() and self._has_work(webhook_id):
            delay_seconds = 0
        if delay_seconds is not None:
            self._queue.send(account_id, webhook_id, delay_seconds=int(delay_seconds))

    def _is_noted(self, webhook: Webhook, turn: Turn) -> bool:
        """Have its owners told what the turn found; answer whether they will be."""
        try:
            for notice in notices_of(webhook, turn.before, turn.health, now_ms=int(self._clock() * 1000)):
                self._notices.put(notice)
        except (*AWS_FAULTS, Busy):
            logger.exception("notice not noted", webhookId=webhook.webhook_id)
            return False
        return True

    def _has_work(self, webhook_id: str) -> bool:
        """Whether events were appended while we held the lease: their own drainer found it taken."""
        now_ms = int(self._clock() * 1000)
        return any(mark.is_due(now_ms) for mark in self._backlog.marks(webhook_id).values())

    def _bury(self, account_id: str, webhook_id: str, remaining_ms: Callable[[], int]) -> None:
        """Record what still waits for a deleted webhook as failed. Needs no lease: nothing is sent.

        The mark goes when all of its lane is settled; else the sweep finds it and sends for the next try.
        """
        for lane, mark in self._backlog.marks(webhook_id).items():
            is_settled = True
            for waiting in self._backlog.read_all(webhook_id, lane):
                if remaining_ms() < CLOSING_SECONDS * 1000:
                    self._queue.send(account_id, webhook_id, delay_seconds=0)
                    return
                if lane is not Lane.REPLAY:
                    reason = "the webhook was deleted"
                    is_settled &= self._settler.end(webhook_id, lane, waiting, Outcome.FAILED, reason)
                else:
                    is_settled &= self._replays.bury(webhook_id, waiting)
            if is_settled:
                self._backlog.unmark(mark)
