"""Send for a drainer where one is missing. Triggers: the batch function's two schedules.

Most drainers are sent for by whoever appended, or by the drainer before them. What remains is what waits
longer than an SQS message can, what was lost with a process, and what an admin set free again.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import batched

from lms_webhooks.backlog import Backlog, Lane, Mark
from lms_webhooks.observability import Metric, count
from lms_webhooks.queues import DrainQueue
from lms_webhooks.standings import Standing, Standings

_AT_ONCE = 100  # BatchGetItem


class Sweep:
    """Looks at every due mark there is."""

    def __init__(
        self,
        *,
        backlog: Backlog,
        standings: Standings,
        queue: DrainQueue,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._backlog = backlog
        self._standings = standings
        self._queue = queue
        self._clock = clock

    def open_batch_lanes(self) -> int:
        """Let the non-real-time events go that came since the last time; answer for how many webhooks."""
        marks = [mark for mark in self._backlog.all_marks() if mark.lane is Lane.BATCH]
        opened = [replace(mark, is_open=True) for mark in marks if self._backlog.open_lane(mark)]
        # The lease holder serves the lane too, and so does the next drainer of a failing endpoint. Another
        # message would find nothing to do.
        due = [each for some in batched(opened, _AT_ONCE, strict=False) for each in self._due(some)]
        self._queue.send_all(due)
        count(Metric.BATCH_LANES_OPENED, len(opened))
        return len(opened)

    def send_for_drainers(self) -> int:
        """Send for a drainer wherever something is due and nobody is at it; answer for how many webhooks."""
        waiting_lanes = 0
        due: dict[tuple[str, str], None] = {}
        for marks in batched(self._backlog.all_marks(), _AT_ONCE, strict=False):
            waiting_lanes += len(marks)
            due.update(dict.fromkeys(self._due(marks)))
        self._queue.send_all(list(due))
        count(Metric.LANES_WAITING, waiting_lanes)
        count(Metric.DRAINERS_SENT_FOR, len(due))
        return len(due)

    def _due(self, marks: Iterable[Mark]) -> Iterator[tuple[str, str]]:
        now_ms = int(self._clock() * 1000)
        ids = [(mark.account_id, mark.webhook_id) for mark in marks]
        standings = self._standings.read(list(dict.fromkeys(ids)))
        for mark in marks:
            standing = standings.get((mark.account_id, mark.webhook_id))
            if standing is None or _is_due(mark, standing, now_ms):
                yield mark.account_id, mark.webhook_id


def _is_due(mark: Mark, standing: Standing, now_ms: int) -> bool:
    if standing.lease_until_ms >= now_ms or standing.next_attempt_at_ms > now_ms:
        return False
    if mark.check_at_ms <= now_ms:
        return True  # something expires, whether or not it may be sent
    return standing.may_send and mark.is_due(now_ms)
