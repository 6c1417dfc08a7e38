"""Store the replay of a webhook, and request redeliveries of single events.

| pk                 | sk  | what                                                                  |
|--------------------|-----|-----------------------------------------------------------------------|
| REPLAY#<webhookId> | JOB | the webhook's replay: its range and filters, position and counts      |

A single redelivery is an item of the replay lane, like the events of other lanes. A replay is not copied into
the lane: the drainer reads the history itself, and the job stores the position. Each delivery it sends gains
an attempt and the job's id before the position moves on. So the drain run after a crash sees what was sent.

A replay only adds: a delivered event stays delivered, even if its receiver now rejects it.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from lms_webhooks.aws.dynamodb import KeyRange, Table, conditional_write, key_item, transact
from lms_webhooks.errors import IdempotencyInProgress, ReplayInProgress
from lms_webhooks.model.deliveries import DeliveryRecord, Outcome
from lms_webhooks.model.lanes import PendingEvent
from lms_webhooks.stores.backlog import Backlog

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef, TransactWriteItemTypeDef

    type Item = dict[str, AttributeValueTypeDef]

KEPT_DAYS = 30  # a replay, after its end


class ReplayState(StrEnum):
    """The state of a replay: it still sends, it has sent everything, or an admin stopped it."""

    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Replay:
    """One replay of a webhook's history, oldest event first."""

    replay_id: str
    account_id: str
    webhook_id: str
    range: KeyRange
    """Sort keys of the deliveries."""
    outcome: Outcome | None
    event_name: str | None
    started_at_ms: int
    started_by: str
    state: ReplayState = ReplayState.RUNNING
    position: str = ""
    """The sort key of the last delivery that was processed."""
    read: int = 0
    delivered: int = 0
    rejected: int = 0
    ended_at_ms: int = 0

    @property
    def is_filtered(self) -> bool:
        """Return whether the range may contain deliveries that it does not send."""
        return self.outcome is not None or self.event_name is not None

    @property
    def remaining(self) -> KeyRange:
        """Return the range that is still to be read."""
        return KeyRange(self.position + "\x00", self.range.end) if self.position else self.range

    def matches(self, recorded: DeliveryRecord) -> bool:
        """Return whether the replay sends this delivery."""
        return recorded.has(self.outcome, self.event_name)


class ReplayStore:
    """Read and write the replay of every webhook: the one that runs, or the last one."""

    def __init__(self, table: Table, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._table = table
        self._sleep = sleep

    def find(self, webhook_id: str) -> Replay | None:
        """Return the webhook's replay that runs, or else the last one, by a consistent read."""
        response = self._table.client.get_item(
            TableName=self._table.name, Key=_key(webhook_id), ConsistentRead=True
        )
        return _replay(response["Item"]) if "Item" in response else None

    def start(
        self, replay: Replay, backlog: Backlog, *, extra_writes: "Sequence[TransactWriteItemTypeDef]" = ()
    ) -> None:
        """Start a replay, and set the lane's marker in the same transaction. Neither works without the other.

        The transaction also contains `extra_writes`.

        Raises:
            ReplayInProgress: a replay of the webhook runs.
            IdempotencyInProgress: a condition of `extra_writes` failed: another process has the same call.
            Contention: other writes changed the lane's marker at each try. Nothing was written.
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
        refused = transact(self._table.client, [put_it, mark_it, *extra_writes], sleep=self._sleep)
        if 0 in refused:
            raise ReplayInProgress
        if refused:
            raise IdempotencyInProgress

    def redeliver(
        self,
        account_id: str,
        webhook_id: str,
        pending: PendingEvent,
        backlog: Backlog,
        *,
        asked_at_ms: int,
        extra_writes: "Sequence[TransactWriteItemTypeDef]" = (),
    ) -> None:
        """Put one event into the replay lane and set its marker, in one transaction with `extra_writes`.

        Raises:
            IdempotencyInProgress, Contention: as `start`.
        """
        append_it = backlog.append_write(webhook_id, replace(pending, asked_at_ms=asked_at_ms))
        mark_it = backlog.marker_write(account_id, webhook_id, asked_at_ms=asked_at_ms)
        if transact(self._table.client, [append_it, mark_it, *extra_writes], sleep=self._sleep):
            raise IdempotencyInProgress

    def cancel(self, webhook_id: str, *, ended_at_ms: int) -> bool:
        """Cancel the replay that runs. Return whether one ran. A request in flight still arrives."""
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
        """Move on to `position` and add the counts. With `ended_at_ms`, the replay ends.

        Returns:
            Whether the stored position was still that of `replay`: each step is counted once.
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
            # A replay that was cancelled in between stays cancelled.
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

    def delete(self, webhook_id: str) -> None:
        """Delete the replay of a deleted webhook."""
        self._table.client.delete_item(TableName=self._table.name, Key=_key(webhook_id))


def _key(webhook_id: str) -> "Item":
    return key_item((f"REPLAY#{webhook_id}", "JOB"))


def _item(replay: Replay) -> "Item":
    item: Item = {
        **_key(replay.webhook_id),
        "replay_id": {"S": replay.replay_id},
        "account_id": {"S": replay.account_id},
        "low": {"S": replay.range.start},
        "high": {"S": replay.range.end},
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
        range=KeyRange(item["low"]["S"], item["high"]["S"]),
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
