"""Send again what is in the history: single deliveries, or all of a time range. The drainer's part of it.

| pk                 | sk  | what                                                                  |
|--------------------|-----|-----------------------------------------------------------------------|
| REPLAY#<webhookId> | JOB | the webhook's replay: what it sends, how far it is, what came of it   |

Single deliveries stand in the replay lane as other events do in theirs. A replay is not copied there: the
drainer walks the history itself, and the job remembers the place. What it sends gains an attempt, and the
job's id, before the job moves on: so who comes after a crash sees what was sent already.

A replay only adds: what was delivered stays delivered, whatever its receiver says the second time.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING

from lms_webhooks.aws.dynamodb import KeyRange, Table, conditional_write, key_item, transact
from lms_webhooks.errors import AWS_ERRORS, IdempotencyInProgress, ReplayInProgress
from lms_webhooks.model.attempts import Attempt
from lms_webhooks.model.lanes import Lane, PendingEvent
from lms_webhooks.observability import Metric, count, logger, measure_ms
from lms_webhooks.stores.backlog import Backlog
from lms_webhooks.stores.deliveries import DeliveryRecord, DeliveryStore, Outcome

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef, TransactWriteItemTypeDef

    type Item = dict[str, AttributeValueTypeDef]

KEPT_DAYS = 30  # the outcome of a replay, after it ended
_READ_AT_ONCE = 100  # deliveries of the history, of which a filter may let few through


class ReplayState(StrEnum):
    """Whether there is more to send."""

    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Replay:
    """One replay of a webhook's history, oldest event first."""

    replay_id: str
    account_id: str
    webhook_id: str
    of: KeyRange
    """Sort keys of the deliveries."""
    outcome: Outcome | None
    event_name: str | None
    started_at_ms: int
    started_by: str
    state: ReplayState = ReplayState.RUNNING
    position: str = ""
    """The sort key of the last delivery that is behind it."""
    read: int = 0
    delivered: int = 0
    rejected: int = 0
    ended_at_ms: int = 0

    @property
    def is_filtered(self) -> bool:
        """Whether it comes by deliveries that it does not send."""
        return self.outcome is not None or self.event_name is not None

    @property
    def left(self) -> KeyRange:
        """What it has still to read."""
        return KeyRange(self.position + "\x00", self.of.end) if self.position else self.of

    def wants(self, recorded: DeliveryRecord) -> bool:
        """Whether a delivery is one that it sends."""
        return (self.outcome is None or recorded.outcome is self.outcome) and (
            self.event_name is None or recorded.event_name == self.event_name
        )


@dataclass(frozen=True, slots=True)
class _Step:
    """One delivery that a replay comes by."""

    sort_key: str
    must_send: bool = False
    was_delivered: bool | None = None
    """When it was sent in this replay already."""


@dataclass(frozen=True, slots=True)
class ReplayBatch:
    """What is to be sent next. `waiting` may be empty: then the replay came by deliveries of no concern."""

    webhook_id: str
    waiting: list[PendingEvent]
    replay: Replay | None = None
    steps: tuple[_Step, ...] = ()
    is_last: bool = False


class ReplayStore:
    """The replay of every webhook: one at a time, the last one remembered."""

    def __init__(self, table: Table, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._table = table
        self._sleep = sleep

    def find(self, webhook_id: str) -> Replay | None:
        """The webhook's replay that runs, or the last one that did (consistent read)."""
        answer = self._table.client.get_item(
            TableName=self._table.name, Key=_key(webhook_id), ConsistentRead=True
        )
        return _replay(answer["Item"]) if "Item" in answer else None

    def start(
        self, replay: Replay, backlog: Backlog, *, along: "Sequence[TransactWriteItemTypeDef]" = ()
    ) -> None:
        """Begin a replay, and mark the lane in the same transaction: one without the other would never move.
        What is to be done `along` with it is in that too.

        Raises:
            ReplayRunning: the webhook has one under way.
            KeyInUse: a condition of `along` failed: the call is made elsewhere.
            Busy: the lane's mark changed each time at the same moment. Nothing was begun.
        """
        put_it: TransactWriteItemTypeDef = {
            "Put": {
                "TableName": self._table.name,
                "Item": _item(replay),
                "ConditionExpression": "attribute_not_exists(pk) OR #state <> :running",
                "ExpressionAttributeNames": {"#state": "state"},
                "ExpressionAttributeValues": {":running": {"S": ReplayState.RUNNING}},
            }
        }
        mark_it = backlog.marker_write(replay.account_id, replay.webhook_id, asked_at_ms=replay.started_at_ms)
        refused = transact(self._table.client, [put_it, mark_it, *along], sleep=self._sleep)
        if 0 in refused:
            raise ReplayInProgress
        if refused:
            raise IdempotencyInProgress

    def redeliver(
        self,
        account_id: str,
        webhook_id: str,
        waiting: PendingEvent,
        backlog: Backlog,
        *,
        asked_at_ms: int,
        along: "Sequence[TransactWriteItemTypeDef]" = (),
    ) -> None:
        """Put one event into the replay lane and mark that, and do what is to be done `along` with it.

        Raises:
            KeyInUse, Busy: as `start`.
        """
        append_it = backlog.append_write(webhook_id, replace(waiting, asked_at_ms=asked_at_ms))
        mark_it = backlog.marker_write(account_id, webhook_id, asked_at_ms=asked_at_ms)
        if transact(self._table.client, [append_it, mark_it, *along], sleep=self._sleep):
            raise IdempotencyInProgress

    def cancel(self, webhook_id: str, *, ended_at_ms: int) -> bool:
        """Stop a replay where it is; answer whether one was under way. What is in flight still arrives."""
        return conditional_write(
            lambda: self._table.client.update_item(
                TableName=self._table.name,
                Key=_key(webhook_id),
                UpdateExpression="SET #state = :cancelled, ended_at = :ended, expires_at = :expires",
                ConditionExpression="#state = :running",
                ExpressionAttributeNames={"#state": "state"},
                ExpressionAttributeValues={
                    ":running": {"S": ReplayState.RUNNING},
                    ":cancelled": {"S": ReplayState.CANCELLED},
                    ":ended": {"N": str(ended_at_ms)},
                    ":expires": {"N": str(ended_at_ms // 1000 + KEPT_DAYS * 86_400)},
                },
            ),
            self._table.client,
        )

    def advance(
        self, replay: Replay, position: str, *, read: int, delivered: int, rejected: int, ended_at_ms: int
    ) -> bool:
        """Move on to `position` and count what was passed; with `ended_at_ms` it is the end.

        Answers whether it stood where `replay` says: one step is counted once.
        """
        values: Item = {
            ":id": {"S": replay.replay_id},
            ":from": {"S": replay.position},
            ":to": {"S": position},
            ":read": {"N": str(read)},
            ":delivered": {"N": str(delivered)},
            ":rejected": {"N": str(rejected)},
        }
        names = {"#position": "position", "#read": "read", "#delivered": "delivered", "#rejected": "rejected"}
        condition = "replay_id = :id AND #position = :from"
        update = "SET #position = :to"
        if ended_at_ms:
            # One that was cancelled meanwhile keeps that.
            names["#state"] = "state"
            condition += " AND #state = :running"
            update += ", #state = :done, ended_at = :ended, expires_at = :expires"
            values[":running"] = {"S": ReplayState.RUNNING}
            values[":done"] = {"S": ReplayState.DONE}
            values[":ended"] = {"N": str(ended_at_ms)}
            values[":expires"] = {"N": str(ended_at_ms // 1000 + KEPT_DAYS * 86_400)}
        update += " ADD #read :read, #delivered :delivered, #rejected :rejected"
        return conditional_write(
            lambda: self._table.client.update_item(
                TableName=self._table.name,
                Key=_key(replay.webhook_id),
                UpdateExpression=update,
                ConditionExpression=condition,
                ExpressionAttributeNames=names,
                ExpressionAttributeValues=values,
            ),
            self._table.client,
        )

    def forget(self, webhook_id: str) -> None:
        """Remove what is known of a deleted webhook's replay."""
        self._table.client.delete_item(TableName=self._table.name, Key=_key(webhook_id))


class ReplayRunner:
    """Portion by portion, what is to be sent again; and what came of it."""

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
        """At most `limit` events to send again: single ones first. None when there is nothing to do.

        Raises:
            AWS_ERRORS: something could not be read.
        """
        waiting = self._backlog.read(webhook_id, Lane.REPLAY, limit=limit)
        if waiting:
            return ReplayBatch(webhook_id, waiting)
        replay = self._store.find(webhook_id)
        if replay is None or replay.state is not ReplayState.RUNNING:
            return None
        read_at_once = _READ_AT_ONCE if replay.is_filtered else limit
        page = self._deliveries.walk(webhook_id, replay.left, limit=read_at_once)
        steps: list[_Step] = []
        for recorded, event in page.entries:
            step = _step(replay, recorded)
            if step.must_send:
                if len(waiting) == limit:
                    return ReplayBatch(webhook_id, waiting, replay, tuple(steps))
                waiting.append(PendingEvent(event))
            steps.append(step)
        return ReplayBatch(webhook_id, waiting, replay, tuple(steps), is_last=page.read_to is None)

    def is_running(self, webhook_id: str) -> bool:
        """Whether a replay of the webhook has more to send.

        Raises:
            AWS_ERRORS: it could not be read.
        """
        replay = self._store.find(webhook_id)
        return replay is not None and replay.state is ReplayState.RUNNING

    def pass_over(self, portion: ReplayBatch) -> None:
        """Move on where there was nothing to send."""
        self._advance(portion, set(), is_delivered=False)

    def settle(
        self, portion: ReplayBatch, sent: Sequence[PendingEvent], attempt: Attempt, *, is_delivered: bool
    ) -> bool:
        """Add an attempt to what was `sent` of a portion, and move on; answer whether all is recorded."""
        unwritten = self._deliveries.add_attempt(
            [(portion.webhook_id, each.event, each.attempts) for each in sent],
            attempt,
            is_delivered=is_delivered,
            recorded_at_seconds=int(self._clock()),
            replay_id=portion.replay.replay_id if portion.replay is not None else "",
        )
        written = [each for each in sent if (portion.webhook_id, each.event.sort_key) not in unwritten]
        if is_delivered:
            count(Metric.DELIVERIES, len(written))
            measure_ms(Metric.DELIVERY_LATENCY, attempt.latency_ms)
        if portion.replay is None:
            for each in written:
                self._settle_where_it_waits(portion.webhook_id, each, attempt, is_delivered=is_delivered)
            is_removed = self._backlog.remove(portion.webhook_id, Lane.REPLAY, written)
            return is_removed and not unwritten
        self._advance(portion, {each.event.sort_key for each in written}, is_delivered=is_delivered)
        return not unwritten

    def _settle_where_it_waits(
        self, webhook_id: str, sent: PendingEvent, attempt: Attempt, *, is_delivered: bool
    ) -> None:
        """One that was sent ahead of its time need not wait any more, or waits on with one attempt more.

        By a fault, or by its drainer, who moved it, this may fail: then that drainer finds it delivered.
        """
        if sent.pending_in is None:
            return
        try:
            if is_delivered:
                self._backlog.remove(webhook_id, sent.pending_in, [sent])
            else:
                self._backlog.add_attempt(webhook_id, sent.pending_in, sent, attempt)
        except AWS_ERRORS:
            logger.exception("attempt not added", webhookId=webhook_id)

    def bury(self, webhook_id: str, waiting: Iterable[PendingEvent]) -> bool:
        """Forget what of a deleted webhook was to be sent again: its history says what became of that before.

        Answers whether all is gone.
        """
        is_gone = self._backlog.remove(webhook_id, Lane.REPLAY, list(waiting))
        self._store.forget(webhook_id)
        return is_gone

    def _advance(self, portion: ReplayBatch, sent: set[str], *, is_delivered: bool) -> None:
        """Past everything up to the first that was to be sent and was not."""
        replay = portion.replay
        assert replay is not None
        outcomes: list[bool] = []
        read = 0
        position = replay.position
        for step in portion.steps:
            if step.must_send and step.sort_key not in sent:
                break
            read += 1
            position = step.sort_key
            if step.must_send:
                outcomes.append(is_delivered)
            elif step.was_delivered is not None:
                outcomes.append(step.was_delivered)
        has_ended = portion.is_last and read == len(portion.steps)
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
        # One that was cancelled meanwhile stays so, and this last step of it counts.
        if not has_ended or not advance(ended_at_ms=int(self._clock() * 1000)):
            advance(ended_at_ms=0)


def _step(replay: Replay, recorded: DeliveryRecord) -> _Step:
    if recorded.replay_id == replay.replay_id:
        # By whoever died before the job moved on.
        return _Step(recorded.sort_key, was_delivered=recorded.attempts[-1].is_success)
    first_success = recorded.first_success
    if first_success is not None and first_success.started_at_ms >= replay.started_at_ms:
        return _Step(recorded.sort_key)  # went out for the first time while the replay was under way
    return _Step(recorded.sort_key, must_send=replay.wants(recorded))


def _key(webhook_id: str) -> "Item":
    return key_item((f"REPLAY#{webhook_id}", "JOB"))


def _item(replay: Replay) -> "Item":
    item: Item = {
        **_key(replay.webhook_id),
        "replay_id": {"S": replay.replay_id},
        "account_id": {"S": replay.account_id},
        "low": {"S": replay.of.start},
        "high": {"S": replay.of.end},
        "started_at": {"N": str(replay.started_at_ms)},
        "started_by": {"S": replay.started_by},
        "state": {"S": replay.state.value},
        "position": {"S": replay.position},
        "read": {"N": str(replay.read)},
        "delivered": {"N": str(replay.delivered)},
        "rejected": {"N": str(replay.rejected)},
    }
    if replay.outcome is not None:
        item["outcome"] = {"S": replay.outcome.value}
    if replay.event_name is not None:
        item["event_name"] = {"S": replay.event_name}
    return item


def _replay(item: "Item") -> Replay:
    return Replay(
        replay_id=item["replay_id"]["S"],
        account_id=item["account_id"]["S"],
        webhook_id=item["pk"]["S"].removeprefix("REPLAY#"),
        of=KeyRange(item["low"]["S"], item["high"]["S"]),
        outcome=Outcome(item["outcome"]["S"]) if "outcome" in item else None,
        event_name=item["event_name"]["S"] if "event_name" in item else None,
        started_at_ms=int(item["started_at"]["N"]),
        started_by=item["started_by"]["S"],
        state=ReplayState(item["state"]["S"]),
        position=item["position"]["S"],
        read=int(item["read"]["N"]),
        delivered=int(item["delivered"]["N"]),
        rejected=int(item["rejected"]["N"]),
        ended_at_ms=int(item["ended_at"]["N"]) if "ended_at" in item else 0,
    )
