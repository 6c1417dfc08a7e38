"""Read the next events to redeliver or replay, and record the result.

Events to redeliver are in the replay lane. A replay copies nothing into it: the runner reads the history, and
the stored replay keeps the position. What was sent gains an attempt and the replay's id before the replay
advances. So a process that continues after a crash sees what was sent.

A replay only adds: a delivered event stays delivered, whatever the receiver's second response is.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from lms_webhooks.errors import AWS_ERRORS
from lms_webhooks.model.attempts import Attempt
from lms_webhooks.model.deliveries import DeliveryRecord
from lms_webhooks.model.lanes import Lane, PendingEvent
from lms_webhooks.observability import Metric, count, logger, measure_ms
from lms_webhooks.stores.backlog import Backlog
from lms_webhooks.stores.deliveries import DeliveryStore
from lms_webhooks.stores.replays import Replay, ReplayState, ReplayStore

_READ_AT_ONCE = 100  # deliveries of the history, of which a filter may match few


@dataclass(frozen=True, slots=True)
class _Step:
    """One delivery of the history that a replay reads."""

    sort_key: str
    must_send: bool = False
    was_delivered: bool | None = None
    """The result, when this replay sent it already."""


@dataclass(frozen=True, slots=True)
class ReplayBatch:
    """The next events to send. `pending` is empty where a replay read only deliveries that it skips."""

    webhook_id: str
    pending: list[PendingEvent]
    replay: Replay | None = None
    steps: tuple[_Step, ...] = ()
    is_last: bool = False


class ReplayRunner:
    """Reads the events to redeliver or replay, batch by batch, and records the result of each."""

    def __init__(
        self,
        store: ReplayStore,
        deliveries: DeliveryStore,
        backlog: Backlog,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._deliveries = deliveries
        self._backlog = backlog
        self._clock = clock

    def next_batch(self, webhook_id: str, *, limit: int) -> ReplayBatch | None:
        """Return at most `limit` events to send again, redeliveries first; None when there is nothing to do.

        Raises:
            AWS_ERRORS: a read failed.
        """
        while pending := self._backlog.read(webhook_id, Lane.REPLAY, limit=limit):
            left = self._without_delivered(webhook_id, pending)
            if left:
                return ReplayBatch(webhook_id, left)
        replay = self._store.find(webhook_id)
        if replay is None or replay.state is not ReplayState.RUNNING:
            return None
        read_at_once = _READ_AT_ONCE if replay.is_filtered else limit
        page = self._deliveries.scan_oldest_first(webhook_id, replay.remaining, limit=read_at_once)
        steps: list[_Step] = []
        for delivery, event in page.entries:
            step = _step(replay, delivery)
            if step.must_send:
                if len(pending) == limit:
                    return ReplayBatch(webhook_id, pending, replay, tuple(steps))
                pending.append(PendingEvent(event))
            steps.append(step)
        return ReplayBatch(webhook_id, pending, replay, tuple(steps), is_last=page.last_key is None)

    def _without_delivered(self, webhook_id: str, pending: list[PendingEvent]) -> list[PendingEvent]:
        """Drop redeliveries of events that were pending, and have been delivered from their lane since.

        The admin wanted them sent, and once is enough.
        """
        keys = [(webhook_id, each.event.sort_key) for each in pending if each.lane is not None]
        if not keys:
            return pending
        delivered = self._deliveries.find_delivered(keys, consistent=True)
        ended: list[PendingEvent] = []
        left: list[PendingEvent] = []
        for each in pending:
            is_ended = each.lane is not None and (webhook_id, each.event.sort_key) in delivered
            (ended if is_ended else left).append(each)
        self._backlog.remove(webhook_id, Lane.REPLAY, ended)
        return left

    def is_running(self, webhook_id: str) -> bool:
        """Return whether a replay of the webhook has more to send.

        Raises:
            AWS_ERRORS: the replay could not be read.
        """
        replay = self._store.find(webhook_id)
        return replay is not None and replay.state is ReplayState.RUNNING

    def skip(self, batch: ReplayBatch) -> None:
        """Advance past a batch that has nothing to send."""
        self._advance(batch, set(), is_delivered=False)

    def record(
        self, batch: ReplayBatch, sent: Sequence[PendingEvent], attempt: Attempt, *, is_delivered: bool
    ) -> bool:
        """Add an attempt to what was `sent` of a batch, and advance; return whether all is recorded."""
        unwritten = self._deliveries.add_attempt(
            [(batch.webhook_id, each.event, each.attempts) for each in sent],
            attempt,
            is_delivered=is_delivered,
            recorded_at_seconds=int(self._clock()),
            replay_id=batch.replay.replay_id if batch.replay is not None else "",
        )
        written = [each for each in sent if (batch.webhook_id, each.event.sort_key) not in unwritten]
        if is_delivered:
            count(Metric.DELIVERIES, len(written))
            measure_ms(Metric.DELIVERY_LATENCY, attempt.latency_ms)
        if batch.replay is None:
            for each in written:
                self._update_pending(batch.webhook_id, each, attempt, is_delivered=is_delivered)
            is_removed = self._backlog.remove(batch.webhook_id, Lane.REPLAY, written)
            return is_removed and not unwritten
        self._advance(batch, {each.event.sort_key for each in written}, is_delivered=is_delivered)
        return not unwritten

    def _update_pending(
        self, webhook_id: str, sent: PendingEvent, attempt: Attempt, *, is_delivered: bool
    ) -> None:
        """Update an event that is still pending in a lane: remove it once delivered, or add the attempt.

        This may fail by an error of ours, or because a drainer moved the event. It then finds it delivered.
        """
        if sent.lane is None:
            return
        try:
            if is_delivered:
                self._backlog.remove(webhook_id, sent.lane, [sent])
            else:
                self._backlog.add_attempt(webhook_id, sent.lane, sent, attempt)
        except AWS_ERRORS:
            logger.exception("attempt not added", webhookId=webhook_id)

    def discard(self, webhook_id: str, pending: Iterable[PendingEvent]) -> bool:
        """Discard the redeliveries and the replay of a deleted webhook. Their outcomes stay in its history.

        Returns:
            Whether all is removed.
        """
        is_gone = self._backlog.remove(webhook_id, Lane.REPLAY, list(pending))
        self._store.delete(webhook_id)
        return is_gone

    def _advance(self, batch: ReplayBatch, sent: set[str], *, is_delivered: bool) -> None:
        """Advance the replay to just before the first delivery that it must send and did not."""
        replay = batch.replay
        assert replay is not None
        outcomes: list[bool] = []
        read = 0
        position = replay.position
        for step in batch.steps:
            if step.must_send and step.sort_key not in sent:
                break
            read += 1
            position = step.sort_key
            if step.must_send:
                outcomes.append(is_delivered)
            elif step.was_delivered is not None:
                outcomes.append(step.was_delivered)
        has_ended = batch.is_last and read == len(batch.steps)
        if not read and not has_ended:
            return
        advance = partial(
            self._store.advance,
            replay,
            position,
            read=read,
            delivered=outcomes.count(True),
            rejected=outcomes.count(False),
        )
        # A replay that was cancelled meanwhile stays cancelled, and still counts this last step.
        if not has_ended or not advance(ended_at_ms=int(self._clock() * 1000)):
            advance(ended_at_ms=0)


def _step(replay: Replay, delivery: DeliveryRecord) -> _Step:
    if delivery.replay_id == replay.replay_id:
        # Sent by a process that died before the replay advanced.
        return _Step(delivery.sort_key, was_delivered=delivery.attempts[-1].is_success)
    first_success = delivery.first_success
    if first_success is not None and first_success.started_at_ms >= replay.started_at_ms:
        return _Step(delivery.sort_key)  # went out for the first time while the replay was under way
    return _Step(delivery.sort_key, must_send=replay.matches(delivery))
