"""Send for drainers where something is due. Triggers: the batch function's schedule, and the sweep queue.

Most drainers are sent for by whoever appended, or by the drainer before them. What remains is what waits for
its slot or longer than an SQS message can, what was lost with a process, and what an admin set free again.

The schedule's invocation sweeps all shards while little is due. What it has no time for goes on by the sweep
queue, each shard in an invocation of its own. Each sweep begins at another place, and sends as it goes.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import batched

from lms_webhooks.aws import AWS_FAULTS
from lms_webhooks.backlog import Backlog, Mark, ShardPart, parts_of_all_shards
from lms_webhooks.crew import Crew
from lms_webhooks.observability import Metric, count, logger
from lms_webhooks.queues import SEND_LIMIT, DrainQueue, SweepQueue
from lms_webhooks.standings import Standing, Standings
from lms_webhooks.webhook_store import new_webhook_id

# Marks that are not due cost no more than their part of a read unit, so that few calls find those that are.
_READ_AT_ONCE = 1000
_AT_ONCE = 100  # BatchGetItem
_HANDS = 10  # calls at once: they wait for AWS, and then for 0.29 of a processor
# Of the schedule's invocation: time for some thousand webhooks. With more, sixteen invocations are faster.
_OWN_SECONDS = 5.0
_CLOSING_SECONDS = 15.0  # for the hundred that are in hand, and to say where to go on


class Sweep:
    """Looks at every due mark there is. One invocation at a time."""

    def __init__(
        self,
        *,
        backlog: Backlog,
        standings: Standings,
        queue: DrainQueue,
        sweep_queue: SweepQueue,
        clock: Callable[[], float] = time.time,
        new_start: Callable[[], str] = new_webhook_id,
    ) -> None:
        self._backlog = backlog
        self._standings = standings
        self._queue = queue
        self._sweep_queue = sweep_queue
        self._clock = clock
        self._new_start = new_start
        self._crew = Crew("sweep", size=_HANDS)

    def sweep_all(self) -> int:
        """Send for a drainer wherever something is due and nobody is at it; answer for how many webhooks.

        Raises:
            aws.AWS_FAULTS: some could not be looked at, or sent for. The next sweep will.
        """
        return self._sweep(parts_of_all_shards(self._new_start()), _OWN_SECONDS)

    def sweep_part(self, part: ShardPart, *, remaining_seconds: float) -> int:
        """Go on with one shard, as `sweep_all` does."""
        return self._sweep([part], remaining_seconds - _CLOSING_SECONDS)

    def _sweep(self, parts: Sequence[ShardPart], seconds: float) -> int:
        run = _Run(ends_at=self._clock() + seconds)
        left: list[ShardPart] = []
        swept = 0
        for part in parts:
            try:
                rest = self._sweep_part(part, run)
            except AWS_FAULTS as fault:
                logger.exception("marks not read", shard=part.shard)
                run.faults.append(fault)
                continue
            if rest is None:
                swept += 1
            else:
                left.append(rest)
        count(Metric.SHARDS_SWEPT, swept)
        count(Metric.LANES_WAITING, run.lanes)
        count(Metric.DRAINERS_SENT_FOR, len(run.sent_for))
        self._sweep_queue.send_all(left)
        if run.faults:
            raise run.faults[0]
        return len(run.sent_for)

    def _sweep_part(self, part: ShardPart, run: "_Run") -> ShardPart | None:
        """Sweep one shard; answer what of it there was no time for."""
        rest: ShardPart | None = part
        while rest is not None:
            if self._clock() >= run.ends_at:
                return rest
            due = self._backlog.due_marks(rest, now_ms=self._now_ms(), limit=_READ_AT_ONCE)
            run.lanes += due.read
            for marks in batched(due.marks, _AT_ONCE, strict=False):
                if self._clock() >= run.ends_at:
                    return rest.from_mark(marks[0])
                self._try(marks, run)
            rest = due.rest
        return None

    def _try(self, marks: Sequence[Mark], run: "_Run") -> None:
        """Send for the drainers of some marks. What fails costs these, or the one mark that it is about."""
        try:
            self._send_for_drainers(marks, run)
        except AWS_FAULTS as fault:
            logger.exception("drainers not sent for", marks=len(marks))
            run.faults.append(fault)
        except Exception:  # noqa: BLE001  # whatever it is, it costs the one mark that it is about
            if len(marks) > 1:
                for mark in marks:
                    self._try([mark], run)
                return
            logger.exception("mark not swept", webhookId=marks[0].webhook_id)
            count(Metric.INTERNAL_ERRORS)

    def _send_for_drainers(self, marks: Sequence[Mark], run: "_Run") -> None:
        ids = dict.fromkeys((mark.account_id, mark.webhook_id) for mark in marks)
        standings = self._standings.read(list(ids))
        now_ms = self._now_ms()
        due = {
            each: None
            for mark in marks
            if (each := (mark.account_id, mark.webhook_id)) not in run.sent_for
            and _is_due(mark, standings.get(each), now_ms)
        }
        self._crew.do_all(self._queue.send_all, list(batched(due, SEND_LIMIT, strict=False)))
        run.sent_for.update(due)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


@dataclass
class _Run:
    """What one invocation did."""

    ends_at: float
    lanes: int = 0
    sent_for: set[tuple[str, str]] = field(default_factory=set)
    faults: list[Exception] = field(default_factory=list)


def _is_due(mark: Mark, standing: Standing | None, now_ms: int) -> bool:
    if standing is None:
        return True  # deleted: what is left is to be recorded as failed
    if standing.lease_until_ms >= now_ms or standing.next_attempt_at_ms > now_ms:
        return False
    if mark.check_at_ms <= now_ms:
        return True  # something expires, whether or not it may be sent
    return standing.may_send and mark.is_due(now_ms)
