"""Send for a drainer where one is missing. Triggers: the batch function's two schedules.

Most drainers are sent for by whoever appended, or by the drainer before them. What remains is what waits
longer than an SQS message can, what was lost with a process, and what an admin set free again. It takes a
webhook's ticket before it sends, so that it sends nothing where a message is on its way.
"""

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import batched

from lms_webhooks.aws import AWS_FAULTS
from lms_webhooks.backlog import Backlog, Lane, Mark
from lms_webhooks.health_store import HealthStore, Ticket
from lms_webhooks.observability import Metric, count
from lms_webhooks.queues import DRAIN_BATCH_LIMIT, DrainMessage, DrainQueue
from lms_webhooks.standings import Standing, Standings

_AT_ONCE = 100  # BatchGetItem

type _Id = tuple[str, str]
"""Account id and webhook id."""


class Sweep:
    """Looks at every due mark there is."""

    def __init__(
        self,
        *,
        backlog: Backlog,
        standings: Standings,
        health: HealthStore,
        queue: DrainQueue,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._backlog = backlog
        self._standings = standings
        self._health = health
        self._queue = queue
        self._clock = clock

    def open_batch_lanes(self) -> int:
        """Let the non-real-time events go that came since the last time; answer for how many webhooks."""
        marks = [mark for mark in self._backlog.all_marks() if mark.lane is Lane.BATCH]
        opened = [replace(mark, is_open=True) for mark in marks if self._backlog.open_lane(mark)]
        # The lease holder serves the lane too, and so does the next drainer of a failing endpoint. Another
        # message would find nothing to do.
        self._send_for(each for some in batched(opened, _AT_ONCE, strict=False) for each in self._due(some))
        count(Metric.BATCH_LANES_OPENED, len(opened))
        return len(opened)

    def send_for_drainers(self) -> int:
        """Send for a drainer wherever something is due and nobody is at it; answer for how many webhooks."""
        waiting_lanes = 0
        due: dict[_Id, DrainMessage] = {}
        for marks in batched(self._backlog.all_marks(), _AT_ONCE, strict=False):
            waiting_lanes += len(marks)
            due.update({(each.account_id, each.webhook_id): each for each in self._due(marks)})
        sent_for = self._send_for(due.values())
        count(Metric.LANES_WAITING, waiting_lanes)
        count(Metric.DRAINERS_SENT_FOR, sent_for)
        return sent_for

    def _send_for(self, due: Iterable[DrainMessage]) -> int:
        """Take the tickets of messages, and send those that may be sent; answer how many were."""
        sent = 0
        for some in batched(due, DRAIN_BATCH_LIMIT, strict=False):
            messages: list[DrainMessage] = []
            try:
                messages.extend(each for each in some if self._may_send(each))
            except AWS_FAULTS:
                self._send(messages)  # they have their tickets
                raise
            sent += self._send(messages)
        return sent

    def _may_send(self, message: DrainMessage) -> bool:
        if not message.ticket:
            return True
        now_ms = int(self._clock() * 1000)
        ticket = Ticket(message.ticket, now_ms)
        return self._health.take_ticket(message.account_id, message.webhook_id, ticket, now_ms=now_ms)

    def _send(self, messages: Sequence[DrainMessage]) -> int:
        """Send messages; answer how many SQS took. For the others the next sweep sends again."""
        try:
            refused = self._queue.send_all(messages)
        except AWS_FAULTS:
            self._drop_tickets(messages)
            raise
        self._drop_tickets(refused)
        return len(messages) - len(refused)

    def _drop_tickets(self, messages: Iterable[DrainMessage]) -> None:
        for each in messages:
            if each.ticket:
                self._health.drop_ticket(each.account_id, each.webhook_id, each.ticket)

    def _due(self, marks: Sequence[Mark]) -> Iterator[DrainMessage]:
        """What to send for these marks, once for each webhook."""
        now_ms = int(self._clock() * 1000)
        standings = self._standings.read(list(dict.fromkeys(map(_id, marks))))
        due: dict[_Id, DrainMessage] = {}
        for mark in marks:
            standing = standings.get(_id(mark))
            if standing is None:  # a deleted webhook has no health, to keep a ticket on
                due[_id(mark)] = DrainMessage(*_id(mark))
            elif _is_due(mark, standing, now_ms):
                due[_id(mark)] = DrainMessage(*_id(mark), standing.ticket or secrets.token_urlsafe(12))
        yield from due.values()


def _id(mark: Mark) -> _Id:
    return mark.account_id, mark.webhook_id


def _is_due(mark: Mark, standing: Standing, now_ms: int) -> bool:
    if standing.next_attempt_at_ms > now_ms:
        return False
    if standing.lease_until_ms >= now_ms or standing.ticket_until_ms >= now_ms:
        return False  # somebody is at it, or on the way
    if mark.check_at_ms <= now_ms:
        return True  # something expires, whether or not it may be sent
    if not standing.may_send:
        return False
    return mark.due_at_ms <= now_ms and (mark.lane is not Lane.BATCH or mark.is_open)
