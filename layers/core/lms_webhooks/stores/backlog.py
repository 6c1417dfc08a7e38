"""Store the pending events of every lane, and the due markers of lanes that have some.

| pk                         | sk                          | what                                      |
|----------------------------|-----------------------------|-------------------------------------------|
| BACKLOG#<webhookId>#<lane> | <key of the event>          | a pending event; oldest first             |
| BACKLOG#<webhookId>#replay | <key of the event>          | one to redeliver, see `replays`           |
| BACKLOG#<webhookId>#retry  | <due, 13 digits>#<that key> | one that its receiver rejected; due first |
| RETRY#<webhookId>          | <key of the event>          | the place of an event in the retry lane   |
| DUE#<shard 0-15>           | <webhookId>#<lane>          | the due marker of a lane that has events; |
|                            |                             | after a deletion, also its purger         |

The key of an event is its `sort_key`, as in the history.

No other module reads or writes these items. Events and markers have no TTL. A pending event ends delivered,
failed or expired, and is removed only after that is recorded.

An event is in the retry lane once. Its key there begins with a time, and its RETRY item names that time. When
the event is rejected again, the retry lane finds the earlier place by this item and replaces it. The RETRY
item itself has a TTL.

An append writes the events, then sets the lane's marker with a new token. A drainer that finds the lane empty
clears the marker only if the token is unchanged. An append in between changed it. If a process dies between
the append and the marker, the redelivered message sets the marker again.

The marker of a batch lane is due at the webhook's slot after its first event. Nothing opens a lane: from its
due time on, any drainer may send its events. Events that arrive during a drain are sent in it.
"""

import secrets
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from lms_webhooks.aws.dynamodb import Key, KeyRange, Page, Table, conditional_write, item_key, key_item
from lms_webhooks.errors import AWS_ERRORS
from lms_webhooks.model.attempts import Attempt
from lms_webhooks.model.lanes import (
    Check,
    Count,
    DueMarker,
    DueMarkers,
    Lane,
    PendingEvent,
    ShardPart,
    marker_sort_key,
)
from lms_webhooks.observability import report
from lms_webhooks.stores.items import (
    IS_NEW_ATTEMPT,
    KEPT_ATTEMPTS,
    added_attempt,
    attempts_attribute,
    event_attributes,
    read_attempts,
    read_event_item,
    read_text,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef, TransactWriteItemTypeDef

    type Item = dict[str, AttributeValueTypeDef]

PURGE_DELAY_SECONDS = 80
"""From a webhook's deletion until its lanes are purged: longer than the lease of a drainer."""
SHARDS = 16  # the markers of a shard are one partition: 16 of them take 16,000 appends a second


class Backlog:
    """Read and write the lanes of every webhook. Safe to share between threads."""

    def __init__(self, table: Table, *, retention_days: int) -> None:
        self._table = table
        self._retention_ms = retention_days * 86_400_000

    def append(self, webhook_id: str, lane: Lane, pending: Sequence[PendingEvent]) -> set[str]:
        """Add events to a lane.

        The caller then sets the marker, before it acknowledges the message with the events. An event that is
        already in the retry lane keeps its attempts at its new place there.

        Returns:
            The sort keys of the events that were not written.
        """
        if lane is Lane.RETRY:
            return self._set_aside(webhook_id, pending)
        return self._put(webhook_id, lane, pending)

    def _put(
        self, webhook_id: str, lane: Lane, pending: Sequence[PendingEvent], *, places: "Sequence[Item]" = ()
    ) -> set[str]:
        keys = {(_lane_key(webhook_id, lane), place_of(each, lane)): each.event.sort_key for each in pending}
        unwritten = self._table.put_all([*(_item(webhook_id, lane, each) for each in pending), *places])
        return {keys[key] for key in unwritten if key in keys}

    def _set_aside(self, webhook_id: str, pending: Sequence[PendingEvent]) -> set[str]:
        """Put events into the retry lane, each in place of its earlier item there.

        A process that dies before it removes the earlier item leaves two. The next try of the earlier one
        replaces the later one.
        """
        try:
            earlier = self._find_set_aside(webhook_id, pending)
        except AWS_ERRORS as fault:
            report(fault, "events not set aside", webhookId=webhook_id)
            return {each.event.sort_key for each in pending}
        later = [_with_attempts(each, earlier.get(each.event.sort_key)) for each in pending]
        places = [self._place_item(webhook_id, each) for each in later]
        unwritten = self._put(webhook_id, Lane.RETRY, later, places=places)
        replaced = {item_key(item) for sort_key, item in earlier.items() if sort_key not in unwritten} - {
            (_lane_key(webhook_id, Lane.RETRY), place_of(each, Lane.RETRY)) for each in later
        }
        if replaced:
            self._table.delete_all([*replaced])
        return unwritten

    def _find_set_aside(self, webhook_id: str, pending: Sequence[PendingEvent]) -> "dict[str, Item]":
        """Find the events that are already in the retry lane.

        Another event with the same id and time is not among them: it would be lost.

        Returns:
            Their items, with keys, texts and attempts, by sort key.

        Raises:
            AWS_ERRORS: the retry lane could not be read.
        """
        texts = {each.event.sort_key: each.event.text for each in pending}
        places = self._table.get_all(
            [place_in_retry(webhook_id, sort_key) for sort_key in texts],
            attributes=("due_at",),
            consistent=True,
        )
        keys = [
            (_lane_key(webhook_id, Lane.RETRY), f"{int(each['due_at']['N']):013d}#{each['sk']['S']}")
            for each in places
            if "due_at" in each  # a newer version may say it in another way
        ]
        found = self._table.get_all(
            keys, attributes=("event", "#attempts"), names={"#attempts": "attempts"}, consistent=True
        )
        by_sort_key = {item["sk"]["S"].partition("#")[2]: item for item in found}
        return {key: item for key, item in by_sort_key.items() if read_text(item["event"]) == texts[key]}

    def _place_item(self, webhook_id: str, pending: PendingEvent) -> "Item":
        return {
            **key_item(place_in_retry(webhook_id, pending.event.sort_key)),
            "due_at": {"N": str(pending.due_at_ms)},
            "expires_at": {"N": str((pending.due_at_ms + self._retention_ms) // 1000)},
        }

    def set_marker(
        self, account_id: str, webhook_id: str, lane: Lane, *, accepted_at_ms: int, due_at_ms: int = 0
    ) -> bool:
        """Set the due marker of a lane, with a new token.

        `accepted_at_ms` is the earliest acceptance among the appended events. It determines when the first
        one may expire. `due_at_ms` is when the first of them is to be sent.

        Returns:
            Whether the lane had no marker before.

        Raises:
            AWS_ERRORS: the marker may be missing; the events must be redelivered.
        """
        token = secrets.token_urlsafe(12)
        response = self._table.client.update_item(
            TableName=self._table.name,
            Key=_marker_key(webhook_id, lane),
            UpdateExpression=(
                "SET #token = :token, account_id = :account, "
                "due_at = if_not_exists(due_at, :due), check_at = if_not_exists(check_at, :check)"
            ),
            ExpressionAttributeNames={"#token": "token"},
            ExpressionAttributeValues={
                ":token": {"S": token},
                ":account": {"S": account_id},
                ":due": {"N": str(due_at_ms)},
                ":check": {"N": str(accepted_at_ms + self._retention_ms)},
            },
            ReturnValues="ALL_OLD",
        )
        old = response.get("Attributes")
        if not old:
            return True
        for attribute, wanted in (
            ("due_at", due_at_ms),
            ("check_at", accepted_at_ms + self._retention_ms),
        ):
            # A damaged marker may have lacked one; it has it now.
            if attribute in old and int(old[attribute]["N"]) > wanted:
                self._advance(webhook_id, lane, attribute, wanted)
        # Our own token: botocore repeated a call that may have made the marker, and no other process would
        # schedule a drain.
        return old.get("token") == {"S": token}

    def marker_write(
        self, account_id: str, webhook_id: str, *, asked_at_ms: int
    ) -> "TransactWriteItemTypeDef":
        """Return the write that sets the marker of the replay lane, to be part of a transaction.

        The first request determines when the lane is searched for expired events. Later ones do not change
        it.
        """
        return {
            "Update": {
                "TableName": self._table.name,
                "Key": _marker_key(webhook_id, Lane.REPLAY),
                "UpdateExpression": (
                    "SET #token = :token, account_id = :account, due_at = :due, "
                    "check_at = if_not_exists(check_at, :check)"
                ),
                "ExpressionAttributeNames": {"#token": "token"},
                "ExpressionAttributeValues": {
                    ":token": {"S": secrets.token_urlsafe(12)},
                    ":account": {"S": account_id},
                    ":due": {"N": "0"},
                    ":check": {"N": str(asked_at_ms + self._retention_ms)},
                },
            }
        }

    def append_write(self, webhook_id: str, pending: PendingEvent) -> "TransactWriteItemTypeDef":
        """Return the write that puts an event into the replay lane, for the transaction that marks it."""
        item = _item(webhook_id, Lane.REPLAY, pending) | {"token": {"S": secrets.token_urlsafe(12)}}
        return {"Put": {"TableName": self._table.name, "Item": item}}

    def markers(self, webhook_id: str) -> dict[Lane, DueMarker]:
        """Return the due markers of one webhook, by a consistent read."""
        response = self._table.client.query(
            TableName=self._table.name,
            KeyConditionExpression="pk = :pk AND begins_with(sk, :prefix)",
            ExpressionAttributeValues={
                ":pk": {"S": f"DUE#{_shard(webhook_id)}"},
                ":prefix": {"S": f"{webhook_id}#"},
            },
            ConsistentRead=True,
        )
        return {marker.lane: marker for marker in _markers(response["Items"])}

    def all_markers(self) -> Iterator[DueMarker]:
        """Return the due markers of all webhooks, shard by shard."""
        paginator = self._table.client.get_paginator("query")
        for shard in range(SHARDS):
            pages = paginator.paginate(
                TableName=self._table.name,
                KeyConditionExpression="pk = :pk",
                ExpressionAttributeValues={":pk": {"S": f"DUE#{shard}"}},
            )
            for page in pages:
                yield from _markers(page["Items"])

    def due_markers(self, part: ShardPart, *, now_ms: int, limit: int) -> DueMarkers:
        """Return those of the next `limit` markers of a shard that are due, or whose first event may expire.

        DynamoDB reads all of them, at half a read unit for about sixty, and returns those that are due.
        """
        response = self._table.client.query(
            TableName=self._table.name,
            KeyConditionExpression="pk = :pk AND sk BETWEEN :low AND :high",
            # A marker that lacks one of these is returned too, so that it is noticed.
            FilterExpression="NOT (due_at > :now AND check_at > :now)",
            ExpressionAttributeValues={
                ":pk": {"S": f"DUE#{part.shard}"},
                ":low": {"S": part.next_key},
                ":high": {"S": part.end_key},
                ":now": {"N": str(now_ms)},
            },
            Limit=limit,
        )
        last = response["LastEvaluatedKey"]["sk"]["S"] if "LastEvaluatedKey" in response else None
        return DueMarkers(list(_markers(response["Items"])), response["ScannedCount"], part.after(last))

    def clear_marker(self, marker: DueMarker) -> bool:
        """Remove a marker, unless events were appended since it was read. Return whether it was removed."""
        return self._change(
            lambda: self._table.client.delete_item(
                TableName=self._table.name,
                Key=_marker_key(marker.webhook_id, marker.lane),
                ConditionExpression="#token = :token",
                ExpressionAttributeNames={"#token": "token"},
                ExpressionAttributeValues={":token": {"S": marker.token}},
            )
        )

    def claim(
        self, marker: DueMarker, owner: str, *, now_ms: int, until_ms: int, instead_of: Collection[str] = ()
    ) -> bool:
        """Claim the lane of a deleted webhook for its one purger.

        The purger that has the lane may pass it to another `owner`. `instead_of` are the names under which
        the caller may have it.

        Returns:
            Whether no other purger has it.
        """
        names = {f":mine{number}": name for number, name in enumerate((owner, *instead_of))}
        return self._change(
            lambda: self._table.client.update_item(
                TableName=self._table.name,
                Key=_marker_key(marker.webhook_id, marker.lane),
                UpdateExpression="SET purge_owner = :mine0, purge_until = :until",
                ConditionExpression=(
                    "attribute_exists(pk) AND (attribute_not_exists(purge_until) OR purge_until < :now OR "
                    + " OR ".join(f"purge_owner = {name}" for name in names)
                    + ")"
                ),
                ExpressionAttributeValues={
                    ":now": {"N": str(now_ms)},
                    ":until": {"N": str(until_ms)},
                    **{key: {"S": name} for key, name in names.items()},
                },
            )
        )

    def set_due(self, marker: DueMarker, due_at_ms: int, *, is_forced: bool = False) -> bool:
        """Set when the first event of the lane is due.

        Returns:
            False if events were appended since the marker was read, unless the change `is_forced`.
        """
        return self._set(marker, "due_at", {"N": str(due_at_ms)}, is_forced=is_forced)

    def set_check(self, marker: DueMarker, check_at_ms: int, *, is_forced: bool = False) -> bool:
        """Set when the first event of the lane may expire, after the lane was searched for expired events.

        Returns:
            False if events were appended since the marker was read, unless the change `is_forced`.
        """
        value: AttributeValueTypeDef = {"N": str(check_at_ms)}
        return self._set(marker, "check_at", value, is_forced=is_forced, obsolete="check")

    def keep_check(self, marker: DueMarker, check: Check) -> bool:
        """Store how far the lane was searched for expired events."""
        kept: Item = {
            "position": {"S": check.position},
            "first": {"N": str(check.first_ms)},
            "token": {"S": check.token},
        }
        return self._set(marker, "check", {"M": kept}, is_forced=True)

    def read(self, webhook_id: str, lane: Lane, *, limit: int) -> list[PendingEvent]:
        """Return the first `limit` events of a lane, by a consistent read."""
        response = self._table.client.query(
            TableName=self._table.name,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": _lane_key(webhook_id, lane)}},
            ConsistentRead=True,
            Limit=limit,
        )
        return [_pending_event(item, lane) for item in response["Items"]]

    def page(self, webhook_id: str, lane: Lane, of: KeyRange, *, limit: int) -> Page[PendingEvent]:
        """Return at most `limit` events of a range of a lane, the last ones first."""
        page = self._table.page(
            _lane_key(webhook_id, lane), of, limit=limit, newest_first=True, consistent=True
        )
        return Page([_pending_event(item, lane) for item in page.entries], page.last_key)

    def find(self, webhook_id: str, lane: Lane, sort_key: str) -> PendingEvent | None:
        """Return one event of a lane, or None. Not for the retry lane, which has keys of another form."""
        response = self._table.client.get_item(
            TableName=self._table.name,
            Key=key_item((_lane_key(webhook_id, lane), sort_key)),
            ConsistentRead=True,
        )
        return _pending_event(response["Item"], lane) if "Item" in response else None

    def find_texts(
        self, places: Sequence[tuple[str, Lane, str]]
    ) -> "dict[tuple[str, str], AttributeValueTypeDef | None]":
        """Find which places in lanes already have an event. Not for the retry lane, whose keys differ.

        Returns:
            The stored texts, see `items.read_text`, by webhook id and sort key.

        Raises:
            AWS_ERRORS: the lanes could not be read.
        """
        if not places:
            return {}
        keys = {(_lane_key(webhook_id, lane), sort_key): webhook_id for webhook_id, lane, sort_key in places}
        items = self._table.get_all(list(keys), attributes=("event",), consistent=True)
        return {(keys[item_key(item)], item["sk"]["S"]): item.get("event") for item in items}

    def count(self, marker: DueMarker, *, limit: int) -> Count:
        """Count the events of a lane that has a marker, up to `limit` or a megabyte of them.

        A lane without a marker is empty, or is about to get one.
        """
        response = self._table.client.query(
            TableName=self._table.name,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": _lane_key(marker.webhook_id, marker.lane)}},
            Select="COUNT",
            Limit=limit + 1,  # one more than is shown: it tells "all" from "at least"
        )
        counted = response["Count"]
        return Count(min(counted, limit), is_complete=counted <= limit and "LastEvaluatedKey" not in response)

    def read_all(self, webhook_id: str, lane: Lane, *, behind: str = "") -> Iterator[list[PendingEvent]]:
        """Return every event of a lane after the sort key `behind`, in pages of at most a megabyte.

        The reads are consistent.
        """
        pages = self._table.client.get_paginator("query").paginate(
            TableName=self._table.name,
            KeyConditionExpression="pk = :pk AND sk BETWEEN :low AND :high",
            ExpressionAttributeValues={
                ":pk": {"S": _lane_key(webhook_id, lane)},
                ":low": {"S": f"{behind}\x00" if behind else "0"},
                ":high": {"S": ":"},  # behind each digit, and every sort key begins with digits
            },
            ConsistentRead=True,
        )
        for page in pages:
            yield [_pending_event(item, lane) for item in page["Items"]]

    def remove(self, webhook_id: str, lane: Lane, pending: Sequence[PendingEvent]) -> bool:
        """Remove events from a lane, after their outcome is recorded.

        An event whose redelivery was requested again since then stays in the replay lane.

        Returns:
            Whether all were removed.
        """
        if lane is Lane.REPLAY:
            for each in pending:
                self._remove_sent_again(webhook_id, each)
            return True
        return not self._table.delete_all(
            [(_lane_key(webhook_id, lane), place_of(each, lane)) for each in pending]
        )

    def add_attempt(self, webhook_id: str, lane: Lane, pending: PendingEvent, attempt: Attempt) -> bool:
        """Add an attempt to an event that stays pending. Return whether it was added.

        Raises:
            AWS_ERRORS: the attempt may be missing.
        """
        return self._change(
            lambda: self._table.client.update_item(
                TableName=self._table.name,
                Key=key_item((_lane_key(webhook_id, lane), place_of(pending, lane))),
                UpdateExpression="SET #attempts = list_append(if_not_exists(#attempts, :none), :added)",
                ConditionExpression=f"attribute_exists(pk) AND {IS_NEW_ATTEMPT}",
                ExpressionAttributeNames={"#attempts": "attempts"},
                ExpressionAttributeValues={":none": {"L": []}, **added_attempt(attempt)},
            )
        )

    def _remove_sent_again(self, webhook_id: str, pending: PendingEvent) -> None:
        conditional_write(
            lambda: self._table.client.delete_item(
                TableName=self._table.name,
                Key=key_item((_lane_key(webhook_id, Lane.REPLAY), place_of(pending, Lane.REPLAY))),
                ConditionExpression="#token = :token OR attribute_not_exists(#token)",
                ExpressionAttributeNames={"#token": "token"},
                ExpressionAttributeValues={":token": {"S": pending.token}},
            ),
            self._table.client,
        )

    def _advance(self, webhook_id: str, lane: Lane, attribute: str, value: int) -> None:
        self._change(
            lambda: self._table.client.update_item(
                TableName=self._table.name,
                Key=_marker_key(webhook_id, lane),
                UpdateExpression="SET #attribute = :value",
                ConditionExpression="#attribute > :value",
                ExpressionAttributeNames={"#attribute": attribute},
                ExpressionAttributeValues={":value": {"N": str(value)}},
            )
        )

    def _set(
        self,
        marker: DueMarker,
        attribute: str,
        value: "AttributeValueTypeDef",
        *,
        is_forced: bool = False,
        obsolete: str = "",
    ) -> bool:
        """Set an attribute of a marker, if nothing was appended or it `is_forced`; remove `obsolete`."""
        names = {"#attribute": attribute, "#token": "token"}
        update = "SET #attribute = :value"
        if obsolete:
            names["#obsolete"] = obsolete
            update += " REMOVE #obsolete"
        return self._change(
            lambda: self._table.client.update_item(
                TableName=self._table.name,
                Key=_marker_key(marker.webhook_id, marker.lane),
                UpdateExpression=update,
                ConditionExpression="attribute_exists(#token)" if is_forced else "#token = :token",
                ExpressionAttributeNames=names,
                ExpressionAttributeValues={":value": value}
                | ({} if is_forced else {":token": {"S": marker.token}}),
            )
        )

    def _change(self, change: Callable[[], object]) -> bool:
        return conditional_write(change, self._table.client)


def _shard(webhook_id: str) -> int:
    return zlib.crc32(webhook_id.encode()) % SHARDS  # hash() differs from process to process


def _marker_key(webhook_id: str, lane: Lane) -> "Item":
    return key_item((f"DUE#{_shard(webhook_id)}", marker_sort_key(webhook_id, lane)))


def parts_of_all_shards(start: str) -> list[ShardPart]:
    """Return the parts that cover all markers, beginning at `start` in its shard."""
    first = _shard(start)
    return [ShardPart((first + number) % SHARDS, start, start) for number in range(SHARDS)]


def _markers(items: "Iterable[Item]") -> Iterator[DueMarker]:
    """Read markers, except any that is damaged or was written by a newer version."""
    for item in items:
        try:
            yield _marker(item)
        except (KeyError, ValueError) as error:
            report(error, "due marker not read", shard=item["pk"]["S"], marker=item["sk"]["S"])


def _marker(item: "Item") -> DueMarker:
    webhook_id, _, lane = item["sk"]["S"].rpartition("#")
    return DueMarker(
        account_id=item["account_id"]["S"],
        webhook_id=webhook_id,
        lane=Lane(lane),
        token=item["token"]["S"],
        due_at_ms=int(item["due_at"]["N"]),
        check_at_ms=int(item["check_at"]["N"]),
        check=_check(item) if "check" in item else None,
        purge_until_ms=int(item["purge_until"]["N"]) if "purge_until" in item else 0,
    )


def _check(item: "Item") -> Check:
    kept = item["check"]["M"]
    return Check(kept["position"]["S"], int(kept["first"]["N"]), kept["token"]["S"])


def _lane_key(webhook_id: str, lane: Lane) -> str:
    return f"BACKLOG#{webhook_id}#{lane}"


def place_in_retry(webhook_id: str, sort_key: str) -> Key:
    """Return the key of the item that says where an event is in the retry lane."""
    return f"RETRY#{webhook_id}", sort_key


def _with_attempts(pending: PendingEvent, earlier: "Item | None") -> PendingEvent:
    """Return `waiting` with the attempts of its `earlier` item too: each once, in order, the last ones."""
    if earlier is None or "attempts" not in earlier:
        return pending
    attempts = {*read_attempts(earlier["attempts"]), *pending.attempts}
    in_order = sorted(attempts, key=lambda each: each.started_at_ms)
    return replace(pending, attempts=tuple(in_order[-KEPT_ATTEMPTS:]))


def place_of(pending: PendingEvent, lane: Lane) -> str:
    """Return the sort key of an event in a lane."""
    if lane is Lane.RETRY:
        return f"{pending.due_at_ms:013d}#{pending.event.sort_key}"
    return pending.event.sort_key


def _item(webhook_id: str, lane: Lane, pending: PendingEvent) -> "Item":
    item: Item = {
        **key_item((_lane_key(webhook_id, lane), place_of(pending, lane))),
        **event_attributes(pending.event),
    }
    if pending.tries:
        item["tries"] = {"N": str(pending.tries)}
    if pending.asked_at_ms:
        item["asked_at"] = {"N": str(pending.asked_at_ms)}
    if pending.attempts:
        item["attempts"] = attempts_attribute(pending.attempts)
    if pending.lane is not None:
        item["waits_in"] = {"S": pending.lane}
        item["waits_until"] = {"N": str(pending.due_at_ms)}
    return item


def _pending_event(item: "Item", lane: Lane) -> PendingEvent:
    sort_key = item["sk"]["S"]
    due_at_ms = 0
    if lane is Lane.RETRY:
        due, _, sort_key = sort_key.partition("#")
        due_at_ms = int(due)
    elif "waits_until" in item:
        due_at_ms = int(item["waits_until"]["N"])
    return PendingEvent(
        event=read_event_item(item, sort_key),
        tries=int(item["tries"]["N"]) if "tries" in item else 0,
        due_at_ms=due_at_ms,
        attempts=read_attempts(item["attempts"]) if "attempts" in item else (),
        token=item["token"]["S"] if "token" in item else "",
        lane=Lane(item["waits_in"]["S"]) if "waits_in" in item else None,
        asked_at_ms=int(item["asked_at"]["N"]) if "asked_at" in item else 0,
    )
