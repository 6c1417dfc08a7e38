"""Send for drainers where something is due. Triggers: the batch function's schedule, and the sweep queue.

Most drainers are sent for by whoever appended, or by the drainer before them. What remains is what waits for
its slot or longer than an SQS message can, what was lost with a process, and what an admin set free again.
The sweep takes a webhook's ticket before it sends, so that it sends nothing where a message is on its way.

The schedule's invocation sweeps all shards while little is due. What it has no time for goes on by the sweep
queue, each shard in an invocation of its own. Each sweep begins at another place, and sends as it goes.
"""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import batched
from typing import TYPE_CHECKING, Any

from lms_webhooks.aws.sqs import SEND_LIMIT, DrainMessage, DrainQueue, SweepQueue, read_sweep_message
from lms_webhooks.errors import AWS_ERRORS
from lms_webhooks.model.lanes import DueMarker, ShardPart
from lms_webhooks.observability import Metric, count, report
from lms_webhooks.stores.backlog import Backlog, parts_of_all_shards
from lms_webhooks.stores.health import TICKET_GRACE_SECONDS, HealthStore, Ticket
from lms_webhooks.stores.webhook_states import WebhookState, WebhookStates
from lms_webhooks.stores.webhooks import new_webhook_id
from lms_webhooks.thread_pool import ThreadPool

if TYPE_CHECKING:
    from lms_webhooks.batch.notifier import Notifier

# Marks that are not due cost no more than their part of a read unit, so that few calls find those that are.
_READ_AT_ONCE = 1000
_AT_ONCE = 100  # BatchGetItem
_HANDS = 10  # calls at once: they wait for AWS, and then for 0.29 of a processor
# Of the schedule's invocation: time for some thousand webhooks. With more, sixteen invocations are faster.
_OWN_SECONDS = 5.0
_CLOSING_SECONDS = 15.0  # for the hundred that are in hand, and to say where to go on


type _Id = tuple[str, str]
"""Account id and webhook id."""


class Sweep:
    """Looks at every due mark there is. One invocation at a time."""

    def __init__(
        self,
        *,
        backlog: Backlog,
        standings: WebhookStates,
        health: HealthStore,
        queue: DrainQueue,
        sweep_queue: SweepQueue,
        clock: Callable[[], float] = time.time,
        new_start: Callable[[], str] = new_webhook_id,
    ) -> None:
        self._backlog = backlog
        self._standings = standings
        self._health = health
        self._queue = queue
        self._sweep_queue = sweep_queue
        self._clock = clock
        self._new_start = new_start
        self._crew = ThreadPool("sweep", size=_HANDS)

    def sweep_all(self) -> int:
        """Send for a drainer wherever something is due and nobody is at it; answer for how many webhooks.

        Raises:
            AWS_ERRORS: some could not be looked at, or sent for. The next sweep will.
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
            except AWS_ERRORS as fault:
                report(fault, "marks not read", shard=part.shard)
                run.faults.append(fault)
                continue
            if rest is None:
                swept += 1
            else:
                left.append(rest)
        count(Metric.SHARDS_SWEPT, swept)
        count(Metric.LANES_PENDING, run.lanes)
        count(Metric.DRAINS_SCHEDULED_BY_SWEEP, len(run.sent_for))
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
            due = self._backlog.due_markers(rest, now_ms=self._now_ms(), limit=_READ_AT_ONCE)
            run.lanes += due.read
            for marks in batched(due.markers, _AT_ONCE, strict=False):
                if self._clock() >= run.ends_at:
                    return rest.from_marker(marks[0])
                self._try(marks, run)
            rest = due.remaining
        return None

    def _try(self, marks: Sequence[DueMarker], run: "_Run") -> None:
        """Send for the drainers of some marks. What fails costs these, or the one mark that it is about."""
        try:
            self._send_for_drainers(marks, run)
        except AWS_ERRORS as fault:
            report(fault, "drainers not sent for", marks=len(marks))
            run.faults.append(fault)
        except Exception as error:  # noqa: BLE001  # whatever it is, it costs the one mark that it is about
            if len(marks) > 1:
                for mark in marks:
                    self._try([mark], run)
            else:
                report(error, "mark not swept", webhookId=marks[0].webhook_id)

    def _send_for_drainers(self, marks: Sequence[DueMarker], run: "_Run") -> None:
        """Send for a drainer for these marks where one is missing, once for each webhook."""
        standings = self._standings.read(list(dict.fromkeys(map(_id, marks))))
        now_ms = self._now_ms()
        due: dict[_Id, DrainMessage] = {}
        for mark in marks:
            standing = standings.get(_id(mark))
            if _id(mark) in run.sent_for:
                continue
            if standing is None:  # a deleted webhook has no health, to keep a ticket on
                if mark.purge_until_ms < now_ms and self._backlog.claim(
                    mark, "", now_ms=now_ms, until_ms=now_ms + TICKET_GRACE_SECONDS * 1000
                ):
                    due[_id(mark)] = DrainMessage(*_id(mark))
            elif _needs_drainer(mark, standing, now_ms):
                is_urgent = mark.is_due(now_ms) and mark.lane.is_urgent(failures=standing.failures)
                ticket = standing.ticket or secrets.token_urlsafe(12)
                if is_urgent or _id(mark) not in due:
                    due[_id(mark)] = DrainMessage(*_id(mark), ticket, is_urgent=is_urgent)
        # Ten are one call: of one queue, so that all of them were sent, or none.
        tens = [
            ten
            for is_urgent in (True, False)
            for ten in batched(
                (each for each in due.values() if each.is_urgent is is_urgent), SEND_LIMIT, strict=False
            )
        ]
        self._crew.run_all(lambda ten: self._send_for(ten, run), tens)

    def _send_for(self, ten: Sequence[DrainMessage], run: "_Run") -> None:
        """Take the tickets of messages, and send those that may be sent."""
        messages: list[DrainMessage] = []
        try:
            messages.extend(each for each in ten if self._may_send(each))
        except AWS_ERRORS:
            self._send(messages, run)  # they have their tickets
            raise
        self._send(messages, run)

    def _may_send(self, message: DrainMessage) -> bool:
        if not message.ticket:
            return True
        now_ms = self._now_ms()
        ticket = Ticket(message.ticket, now_ms)
        return self._health.take_ticket(message.account_id, message.webhook_id, ticket, now_ms=now_ms)

    def _send(self, messages: Sequence[DrainMessage], run: "_Run") -> None:
        """Send messages. For those that SQS does not take the next sweep sends again."""
        try:
            refused = self._queue.send_all(messages)
        except AWS_ERRORS:
            self._drop_tickets(messages)
            raise
        self._drop_tickets(refused)
        run.sent_for.update((each.account_id, each.webhook_id) for each in messages if each not in refused)

    def _drop_tickets(self, messages: Sequence[DrainMessage]) -> None:
        for each in messages:
            if each.ticket:
                self._health.drop_ticket(each.account_id, each.webhook_id, each.ticket)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def sweep_for(
    event: Mapping[str, Any], sweep: Sweep, notifier: "Notifier", *, remaining_ms: Callable[[], int]
) -> dict[str, Any]:
    """Sweep all shards for the schedule, and tell owners what there is to tell; or go on for the queue.

    Returns:
        For the schedule, how many webhooks there was something to do for. For the queue, that nothing failed.

    Raises:
        AWS_ERRORS: as `Sweep.sweep_all` and `Notifier.send`. The function fails then, which has an alarm.
    """
    if "Records" not in event:
        try:
            sent_for = sweep.sweep_all()
        except Exception:
            notifier.send()  # what fails with some events keeps nobody from being told
            raise
        notifier.send()
        return {"webhooks": sent_for}
    for record in event["Records"]:
        sweep.sweep_part(read_sweep_message(record["body"]), remaining_seconds=remaining_ms() / 1000)
    return {"batchItemFailures": []}


@dataclass
class _Run:
    """What one invocation did."""

    ends_at: float
    lanes: int = 0
    sent_for: set[_Id] = field(default_factory=set)
    faults: list[Exception] = field(default_factory=list)


def _id(mark: DueMarker) -> _Id:
    return mark.account_id, mark.webhook_id


def _needs_drainer(mark: DueMarker, standing: WebhookState, now_ms: int) -> bool:
    if standing.next_attempt_at_ms > now_ms:
        return False
    if standing.lease_until_ms >= now_ms or standing.ticket_until_ms >= now_ms:
        return False  # a drainer has it, or is scheduled
    return mark.needs_drainer(now_ms, may_send=standing.may_send)
