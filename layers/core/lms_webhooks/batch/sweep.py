"""Schedule drains where something is due. Triggers: the batch function's schedule, and the sweep queue.

The process that appends events, or the drainer before, schedules most drains. The sweep schedules the others:
for events with a slot, for delays longer than SQS allows, after a process died, and for webhooks that an
admin enabled again. It takes a webhook's ticket first, so it sends nothing where a message is on its way.

The schedule's invocation sweeps all shards while little is due. For the rest it sends a message for each
shard to the sweep queue, each for an invocation of its own. Each sweep begins at another place, and schedules
as it reads.
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

# Markers that are not due cost only their part of a read unit, so few calls find those that are due.
_MARKERS_PER_READ = 1000
_WEBHOOKS_PER_CALL = 100  # BatchGetItem
_THREADS = 10  # they wait for AWS, and then for 0.29 of a processor
# Time of the schedule's invocation for some thousand webhooks. With more, sixteen invocations are faster.
_OWN_SECONDS = 5.0
_CLOSING_SECONDS = 15.0  # for the hundred markers in work, and to send where to continue


type _Id = tuple[str, str]
"""Account id and webhook id."""


class Sweep:
    """Reads every due marker, and schedules the drains that are missing. One invocation at a time."""

    def __init__(
        self,
        *,
        backlog: Backlog,
        webhook_states: WebhookStates,
        health: HealthStore,
        queue: DrainQueue,
        sweep_queue: SweepQueue,
        clock: Callable[[], float] = time.time,
        new_start: Callable[[], str] = new_webhook_id,
    ) -> None:
        self._backlog = backlog
        self._webhook_states = webhook_states
        self._health = health
        self._queue = queue
        self._sweep_queue = sweep_queue
        self._clock = clock
        self._new_start = new_start
        self._threads = ThreadPool("sweep", size=_THREADS)

    def sweep_all(self) -> int:
        """Schedule a drain of each webhook where events are due and no drainer is scheduled or at work.

        Returns:
            The number of webhooks.

        Raises:
            AWS_ERRORS: a read failed, or a drain could not be scheduled. The next sweep tries again.
        """
        return self._sweep(parts_of_all_shards(self._new_start()), _OWN_SECONDS)

    def sweep_part(self, part: ShardPart, *, remaining_seconds: float) -> int:
        """Sweep the rest of one shard, as `sweep_all` does."""
        return self._sweep([part], remaining_seconds - _CLOSING_SECONDS)

    def _sweep(self, parts: Sequence[ShardPart], seconds: float) -> int:
        run = _Run(ends_at=self._clock() + seconds)
        left: list[ShardPart] = []
        swept = 0
        for part in parts:
            try:
                rest = self._sweep_part(part, run)
            except AWS_ERRORS as error:
                report(error, "markers not read", shard=part.shard)
                run.errors.append(error)
                continue
            if rest is None:
                swept += 1
            else:
                left.append(rest)
        count(Metric.SHARDS_SWEPT, swept)
        count(Metric.LANES_PENDING, run.lanes)
        count(Metric.DRAINS_SCHEDULED_BY_SWEEP, len(run.scheduled))
        self._sweep_queue.send_all(left)
        if run.errors:
            raise run.errors[0]
        return len(run.scheduled)

    def _sweep_part(self, part: ShardPart, run: "_Run") -> ShardPart | None:
        """Sweep one shard; return the part for which there was no time."""
        rest: ShardPart | None = part
        while rest is not None:
            if self._clock() >= run.ends_at:
                return rest
            due = self._backlog.due_markers(rest, now_ms=self._now_ms(), limit=_MARKERS_PER_READ)
            run.lanes += due.read
            for markers in batched(due.markers, _WEBHOOKS_PER_CALL, strict=False):
                if self._clock() >= run.ends_at:
                    return rest.from_marker(markers[0])
                self._schedule_or_report(markers, run)
            rest = due.remaining
        return None

    def _schedule_or_report(self, markers: Sequence[DueMarker], run: "_Run") -> None:
        """Schedule drains for some markers. An error costs these markers, or only the one that raises it."""
        try:
            self._schedule_drains(markers, run)
        except AWS_ERRORS as error:
            report(error, "drains not scheduled", markers=len(markers))
            run.errors.append(error)
        except Exception as error:  # noqa: BLE001  # it costs only the marker that raises it
            if len(markers) > 1:
                for marker in markers:
                    self._schedule_or_report([marker], run)
            else:
                report(error, "marker not swept", webhookId=markers[0].webhook_id)

    def _schedule_drains(self, markers: Sequence[DueMarker], run: "_Run") -> None:
        """Schedule a drain for these markers where one is missing, one for each webhook."""
        webhook_states = self._webhook_states.read(list(dict.fromkeys(map(_id, markers))))
        now_ms = self._now_ms()
        due: dict[_Id, DrainMessage] = {}
        for marker in markers:
            state = webhook_states.get(_id(marker))
            if _id(marker) in run.scheduled:
                continue
            if state is None:  # a deleted webhook has no health, and so no ticket
                if marker.purge_until_ms < now_ms and self._backlog.claim(
                    marker, "", now_ms=now_ms, until_ms=now_ms + TICKET_GRACE_SECONDS * 1000
                ):
                    due[_id(marker)] = DrainMessage(*_id(marker))
            elif _needs_drainer(marker, state, now_ms):
                is_urgent = marker.is_due(now_ms) and marker.lane.is_urgent(failures=state.failures)
                ticket = state.ticket or secrets.token_urlsafe(12)
                if is_urgent or _id(marker) not in due:
                    due[_id(marker)] = DrainMessage(*_id(marker), ticket, is_urgent=is_urgent)
        # Ten messages are one call, all to the same queue: SQS takes all of them, or none.
        tens = [
            ten
            for is_urgent in (True, False)
            for ten in batched(
                (each for each in due.values() if each.is_urgent is is_urgent), SEND_LIMIT, strict=False
            )
        ]
        self._threads.run_all(lambda ten: self._schedule(ten, run), tens)

    def _schedule(self, ten: Sequence[DrainMessage], run: "_Run") -> None:
        """Take the tickets of messages, and send those that may be sent."""
        messages: list[DrainMessage] = []
        try:
            messages.extend(each for each in ten if self._may_send(each))
        except AWS_ERRORS:
            self._send(messages, run)  # their tickets are taken
            raise
        self._send(messages, run)

    def _may_send(self, message: DrainMessage) -> bool:
        if not message.ticket:
            return True
        now_ms = self._now_ms()
        ticket = Ticket(message.ticket, now_ms)
        return self._health.take_ticket(message.account_id, message.webhook_id, ticket, now_ms=now_ms)

    def _send(self, messages: Sequence[DrainMessage], run: "_Run") -> None:
        """Send messages. The next sweep repeats those that SQS does not take."""
        try:
            refused = self._queue.schedule_all(messages)
        except AWS_ERRORS:
            self._drop_tickets(messages)
            raise
        self._drop_tickets(refused)
        run.scheduled.update((each.account_id, each.webhook_id) for each in messages if each not in refused)

    def _drop_tickets(self, messages: Sequence[DrainMessage]) -> None:
        for each in messages:
            if each.ticket:
                self._health.drop_ticket(each.account_id, each.webhook_id, each.ticket)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def sweep_for(
    event: Mapping[str, Any], sweep: Sweep, notifier: "Notifier", *, remaining_ms: Callable[[], int]
) -> dict[str, Any]:
    """Sweep all shards and publish notifications for the schedule, or sweep one shard for the queue.

    Returns:
        For the schedule, the number of webhooks with a scheduled drain. For the queue, no failed messages.

    Raises:
        AWS_ERRORS: as `Sweep.sweep_all` and `Notifier.send`. The function fails then, which has an alarm.
    """
    if "Records" not in event:
        try:
            scheduled = sweep.sweep_all()
        except Exception:
            notifier.send()  # an error of the sweep holds up no notification
            raise
        notifier.send()
        return {"webhooks": scheduled}
    for record in event["Records"]:
        sweep.sweep_part(read_sweep_message(record["body"]), remaining_seconds=remaining_ms() / 1000)
    return {"batchItemFailures": []}


@dataclass
class _Run:
    """What one invocation did so far."""

    ends_at: float
    lanes: int = 0
    scheduled: set[_Id] = field(default_factory=set)
    errors: list[Exception] = field(default_factory=list)


def _id(marker: DueMarker) -> _Id:
    return marker.account_id, marker.webhook_id


def _needs_drainer(marker: DueMarker, state: WebhookState, now_ms: int) -> bool:
    if state.next_attempt_at_ms > now_ms:
        return False
    if state.lease_until_ms >= now_ms or state.ticket_until_ms >= now_ms:
        return False  # a drainer has it, or is scheduled
    return marker.needs_drainer(now_ms, may_send=state.may_send)
