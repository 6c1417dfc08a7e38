"""One turn at draining a webhook: send what waits, oldest first, several events a request.

A turn reads a lane's mark, then the lane, sends, and settles; it removes the mark of a lane that it found
empty, unless events were appended since. What it learns about the endpoint is `health`, for whoever holds
the lease to write when the turn is over.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from lms_webhooks import health as endpoint
from lms_webhooks.attempts import Attempt
from lms_webhooks.backlog import Backlog, Lane, Mark, Waiting
from lms_webhooks.consequences import Fate, follow
from lms_webhooks.delivery import Courier
from lms_webhooks.delivery_store import Outcome
from lms_webhooks.health import Health
from lms_webhooks.observability import Metric, count, logger
from lms_webhooks.registry import Registry
from lms_webhooks.replay import Portion, Replays
from lms_webhooks.retry import MAX_REJECTIONS_IN_A_ROW, event_delay_seconds
from lms_webhooks.sender import Patience
from lms_webhooks.settling import Settler
from lms_webhooks.webhooks import Status, Webhook

CLOSING_SECONDS = 20  # no POST starts later: 15 s for it, 5 s to settle it and to give the lease back
PATIENCE = Patience(
    connect_seconds=10, answer_seconds=5, total_seconds=15
)  # Adobe Learning Manager's two time-outs
MAX_EVENTS_BYTES = 256 * 1024 - 256  # of a POST of 256 KiB, less what surrounds the events
_CHECKED_PAGES = 10  # megabytes of a lane; were it all of it, a long one would leave no time to send
_REPLAY_PAUSE_SECONDS = 60  # a replay that is only rejected goes on as the sweep comes by

type DelaySeconds = float
"""How long the successor waits."""


class OurDelay(float):
    """A delay after an error of our own. The drainer makes it longer for as long as the error lasts."""


FAULT_DELAY_SECONDS = OurDelay(5)  # when DynamoDB or KMS fail us: rather wait than send it again at once


class Turn:
    """One turn. `before` is the health that `health` follows from."""

    def __init__(
        self,
        webhook: Webhook,
        health: Health,
        remaining_seconds: Callable[[], float],
        *,
        registry: Registry,
        backlog: Backlog,
        settler: Settler,
        courier: Courier,
        replays: Replays,
        retention_days: int,
        clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._webhook: Webhook | None = webhook
        self._account_id = webhook.account_id
        self._webhook_id = webhook.webhook_id
        self._remaining_seconds = remaining_seconds
        self._registry = registry
        self._backlog = backlog
        self._settler = settler
        self._courier = courier
        self._replays = replays
        self._retention_ms = retention_days * 86_400_000
        self._clock = clock
        self._jitter = jitter
        self._checked_lanes: set[Lane] = set()
        self._replay_rejections = 0
        self.before = health
        self.health = health

    def may_send(self) -> bool:
        """Whether the admin, and what the endpoint said, let anything be sent."""
        return (
            self._webhook is not None
            and self._webhook.status is Status.ACTIVE
            and self.health.switched_off is None
        )

    def serve(self) -> DelaySeconds | None:
        """Send until nothing is left, the endpoint fails, or the time is up.

        Answers how long a successor is to wait; None when there is nothing for one to do.

        Raises:
            aws.AWS_FAULTS: something could not be read; what was sent is settled or will be sent again.
        """
        while self._remaining_seconds() > 0:
            if not self._look_up():
                return 0.0  # deleted: the successor will bury what waits
            marks = self._backlog.marks(self._webhook_id)
            if self._expire_due(marks):
                continue
            if not self.may_send():
                return None
            lane = self._next_lane(marks)
            if lane is None:
                self._leave_backlog_mode(marks)
                return None
            delay = self._serve_lane(lane, marks[lane])
            if delay is not None:
                return delay if self.may_send() else None
        return 0.0

    def _look_up(self) -> bool:
        """See whether the registration changed since the last POST; answer whether there still is one."""
        registered = self._registry.find(self._account_id, self._webhook_id)
        if registered is not None and registered.webhook.epoch != self.health.epoch:
            # Either what was learnt is about an endpoint that is not this webhook's any more, or the
            # registration that is remembered is older than the lease.
            registered = self._registry.find(self._account_id, self._webhook_id, fresh=True)
            if registered is not None:
                self.before = self.health = registered.health
        self._webhook = registered.webhook if registered is not None else None
        return registered is not None

    def _next_lane(self, marks: dict[Lane, Mark]) -> Lane | None:
        now_ms = self._now_ms()
        return next((lane for lane in Lane if lane in marks and marks[lane].is_due(now_ms)), None)

    def _serve_lane(self, lane: Lane, mark: Mark) -> DelaySeconds | None:
        """Send the first events of a lane; answer a delay when the turn must end with them."""
        self.health = endpoint.without_old_ceiling(self.health, now_ms=self._now_ms())
        if lane is Lane.REPLAY:
            return self._serve_replay(mark)
        limit = 1 if lane is Lane.RETRY else self.health.batch_size
        waiting = self._backlog.read(self._webhook_id, lane, limit=limit)
        if not waiting:
            self._backlog.unmark(mark)
            return None
        if lane is Lane.RETRY and waiting[0].due_at_ms > self._now_ms():
            self._backlog.set_due(mark, waiting[0].due_at_ms)
            return None
        waiting, is_settled = self._without_ended(lane, waiting)
        if not waiting:
            # The next round would find the same, and ask DynamoDB for the same, at once.
            return None if is_settled else FAULT_DELAY_SECONDS
        return self._send(lane, _fitting(waiting))

    def _serve_replay(self, mark: Mark) -> DelaySeconds | None:
        """Send the next events that an admin wants sent again."""
        portion = self._replays.next_portion(self._webhook_id, limit=self.health.batch_size)
        if portion is None:
            self._backlog.unmark(mark)
        elif not portion.waiting:
            self._replays.pass_over(portion)
        else:
            delay = self._send(Lane.REPLAY, _fitting(portion.waiting), portion)
            if self._replay_rejections >= MAX_REJECTIONS_IN_A_ROW:
                # No endpoint failure, or a replay of what is not wanted any more would slow down live events.
                self._replay_rejections = 0
                self._backlog.set_due(mark, self._now_ms() + _REPLAY_PAUSE_SECONDS * 1000)
            return delay
        return None

    def _without_ended(self, lane: Lane, waiting: list[Waiting]) -> tuple[list[Waiting], bool]:
        """Settle those that expired or were delivered by another way.

        Returns the others, and whether all that ended is out of the lane.
        """
        delivered = self._settler.already_delivered(self._webhook_id, waiting)
        is_removed = self._backlog.remove(
            self._webhook_id, lane, [each for each in waiting if each.event.sort_key in delivered]
        )
        open_ones = [each for each in waiting if each.event.sort_key not in delivered]
        oldest_ms = self._now_ms() - self._retention_ms
        expired = [each for each in open_ones if each.event.accepted_at_ms <= oldest_ms]
        is_settled = self._expire(lane, expired) and is_removed
        return [each for each in open_ones if each.event.accepted_at_ms > oldest_ms], is_settled

    def _send(
        self, lane: Lane, waiting: list[Waiting], portion: Portion | None = None
    ) -> DelaySeconds | None:
        webhook = self._webhook
        assert webhook is not None
        credentials = self._courier.credentials_of(webhook)
        # KMS, or DynamoDB before, may have taken long: what may have changed is looked at last.
        if not self._look_up() or self._webhook != webhook or self._remaining_seconds() <= 0:
            return None
        sent = self._courier.carry(
            webhook, [each.event for each in waiting], credentials=credentials, patience=PATIENCE
        )
        self._courier.log(self._account_id, self._webhook_id, [sent])
        then = follow(
            self.health,
            sent,
            now_ms=self._now_ms(),
            jitter=self._jitter(),
            disable_after_ms=self._retention_ms,
            is_known=lane in (Lane.RETRY, Lane.REPLAY),
        )
        if then.health.failures > self.health.failures:
            count(Metric.ATTEMPTS_FAILED)
        if then.health.switched_off is not None:
            count(Metric.WEBHOOKS_SWITCHED_OFF)
        self.health = then.health
        if self._settle(lane, waiting, portion, then.fate, sent.attempt):
            return then.delay_seconds
        return FAULT_DELAY_SECONDS

    def _settle(
        self, lane: Lane, waiting: list[Waiting], portion: Portion | None, fate: Fate, attempt: Attempt
    ) -> bool:
        """Record what became of the events of one POST; answer whether all of it is recorded."""
        is_delivered = fate is Fate.DELIVERED
        if fate is Fate.PENDING:
            return True
        if portion is not None:  # asked for once more, not until it succeeds
            self._replay_rejections = 0 if is_delivered else self._replay_rejections + 1
            return self._replays.settle(portion, waiting, attempt, is_delivered=is_delivered)
        self._replay_rejections = 0
        if is_delivered:
            return self._settler.deliver(self._webhook_id, lane, waiting, attempt)
        return self._set_aside(lane, waiting[0], attempt)

    def _set_aside(self, lane: Lane, waiting: Waiting, attempt: Attempt) -> bool:
        """An event that its receiver rejects leaves the order and is tried alone, later and later.

        Answers whether that is written down.
        """
        tries = waiting.tries + 1
        attempts = (*waiting.attempts, attempt)
        wait_seconds = event_delay_seconds(tries)
        if wait_seconds is None:
            rejected = replace(waiting, attempts=attempts)
            reason = f"rejected {tries} times, at last with {attempt.outcome}"
            return self._settler.end(self._webhook_id, lane, [rejected], Outcome.FAILED, reason)
        due_at_ms = self._now_ms() + wait_seconds * 1000
        later = replace(waiting, tries=tries, attempts=attempts, due_at_ms=due_at_ms)
        return self._move_to_retry(lane, waiting, later)

    def _move_to_retry(self, lane: Lane, waiting: Waiting, later: Waiting) -> bool:
        # The first mark is for who dies before the second: tried from its old lane, the event may be
        # delivered, and its place in this one would be seen by nobody. The second is the one that whoever
        # buries a deleted webhook, without our lease, cannot have taken away before the event was there.
        self._mark_retry(later)
        if self._backlog.append(self._webhook_id, Lane.RETRY, [later]):
            return False
        self._mark_retry(later)
        self._backlog.remove(self._webhook_id, lane, [waiting])
        return True

    def _mark_retry(self, later: Waiting) -> None:
        self._backlog.mark(
            self._account_id,
            self._webhook_id,
            Lane.RETRY,
            due_at_ms=later.due_at_ms,
            accepted_at_ms=later.event.accepted_at_ms,
        )

    def _expire_due(self, marks: dict[Lane, Mark]) -> bool:
        """Settle what expired in lanes whose check is due, once a turn; answer whether any was checked.

        Lanes are in the order of the events' own time, so what was accepted long ago may stand anywhere.
        """
        due = [lane for lane, mark in marks.items() if mark.check_at_ms <= self._now_ms()]
        due = [lane for lane in due if lane not in self._checked_lanes]
        for lane in due:
            self._checked_lanes.add(lane)
            self._expire_lane(lane, marks[lane])
        return bool(due)

    def _expire_lane(self, lane: Lane, mark: Mark) -> None:
        first_ms: list[int] = []  # of each page
        for number, waiting in enumerate(self._backlog.read_all(self._webhook_id, lane)):
            if self._remaining_seconds() <= 0 or number == _CHECKED_PAGES:
                return  # what is due is mostly what came first; the rest is the next turn's
            oldest_ms = self._now_ms() - self._retention_ms
            if not self._expire(lane, [each for each in waiting if _since_ms(lane, each) <= oldest_ms]):
                return  # the check stays due
            kept = [_since_ms(lane, each) for each in waiting if _since_ms(lane, each) > oldest_ms]
            first_ms += [min(kept)] if kept else []
        if lane is Lane.REPLAY and self._replays.is_under_way(self._webhook_id):
            first_ms.append(self._now_ms())  # it needs the mark, and does not expire itself
        if first_ms:
            self._backlog.set_check(mark, min(first_ms) + self._retention_ms)
        else:
            self._backlog.unmark(mark)

    def _expire(self, lane: Lane, expired: Sequence[Waiting]) -> bool:
        """Settle what expired; answer whether all of it is out of its lane."""
        if not expired:
            return True
        if lane is Lane.REPLAY:  # the history says what became of these; only that they be sent again ends
            logger.info("not sent again", webhookId=self._webhook_id, events=len(expired))
            return self._backlog.remove(self._webhook_id, lane, expired)
        days = self._retention_ms // 86_400_000
        last_error = f"; the last error was {self.health.last_error}" if self.health.last_error else ""
        reason = f"not delivered within {days} days{last_error}"
        return self._settler.end(self._webhook_id, lane, expired, Outcome.EXPIRED, reason)

    def _leave_backlog_mode(self, marks: dict[Lane, Mark]) -> None:
        assert self._webhook is not None
        self.health = endpoint.without_failure_that_ended(self.health)
        if (
            Lane.REALTIME not in marks
            and not self._webhook.ordered
            and endpoint.is_ready_for_direct(self.health, now_ms=self._now_ms())
        ):
            self.health = endpoint.back_to_direct(self.health, now_ms=self._now_ms())

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _since_ms(lane: Lane, waiting: Waiting) -> int:
    """From when on it waits, for what ends after some time."""
    return waiting.asked_at_ms if lane is Lane.REPLAY else waiting.event.accepted_at_ms


def _fitting(waiting: Sequence[Waiting]) -> list[Waiting]:
    """The first ones that fit into a POST together; always one at least."""
    fitting: list[Waiting] = []
    size = 0
    for each in waiting:
        size += len(each.event.text.encode()) + 1
        if fitting and size > MAX_EVENTS_BYTES:
            break
        fitting.append(each)
    return fitting
