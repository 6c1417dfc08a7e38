"""Keep the events that wait, and the marks that say where some do: the only module for these items.

| pk                         | sk                              | what                                      |
|----------------------------|---------------------------------|-------------------------------------------|
| BACKLOG#<webhookId>#<lane> | <13 digits of UTC ms>#<eventId> | an event that waits; oldest first         |
| BACKLOG#<webhookId>#replay | as the first                    | one to be sent again, see `replay`        |
| BACKLOG#<webhookId>#retry  | <due, 13 digits>#<as above>     | one that its receiver rejected; due first |
| RETRY#<webhookId>          | <as the first>                  | where an event stands in the retry lane   |
| DUE#<shard 0-15>           | <webhookId>#<lane>              | the due mark of a lane that has events;   |
|                            |                                 | of a deleted webhook, who purges it       |

No event and no mark has a TTL: what waits ends delivered, failed or expired, and is removed only after that
is recorded.

An event stands in the retry lane once. Its key there begins with a time, so an item says which one: who sets
the event aside again finds its earlier place by that, and takes it. The item goes by itself.

An append sets the lane's mark, with a fresh token, after it wrote the events. Who finds a lane empty
removes the mark only if its token is still the one read before: an append in between changed it. Who dies
between the two leaves events that nobody sees: so whoever gets the same message again marks the lanes anew.

The mark of a batch lane is due at the slot after its first event. Nothing opens a lane: from its due time on
any drainer may send what is there, and what comes while it does goes out with it.
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
SHARDS = 16  # the marks of one shard are one partition: 16 of them take 16,000 appends a second


class Backlog:
    """The lanes of every webhook. Safe to share between threads."""

    def __init__(self, table: Table, *, retention_days: int) -> None:
        self._table = table
        self._retention_ms = retention_days * 86_400_000

    def append(self, webhook_id: str, lane: Lane, waiting: Sequence[PendingEvent]) -> set[str]:
        """Add events to a lane; answer the sort keys of the events that were not written.

        The caller sets the mark then, before it acknowledges what brought the events. An event that stands in
        the retry lane already takes its attempts along to its new place there.
        """
        if lane is Lane.RETRY:
            return self._set_aside(webhook_id, waiting)
        return self._put(webhook_id, lane, waiting)

    def _put(
        self, webhook_id: str, lane: Lane, waiting: Sequence[PendingEvent], *, places: "Sequence[Item]" = ()
    ) -> set[str]:
        keys = {(_lane_key(webhook_id, lane), place_of(each, lane)): each.event.sort_key for each in waiting}
        unwritten = self._table.put_all([*(_item(webhook_id, lane, each) for each in waiting), *places])
        return {keys[key] for key in unwritten if key in keys}

    def _set_aside(self, webhook_id: str, waiting: Sequence[PendingEvent]) -> set[str]:
        """Put events into the retry lane, each instead of its item that stands there.

        Who dies before the earlier item is removed leaves two, until that one is tried: it takes the place of
        the later one.
        """
        try:
            earlier = self._find_set_aside(webhook_id, waiting)
        except AWS_ERRORS as fault:
            report(fault, "events not set aside", webhookId=webhook_id)
            return {each.event.sort_key for each in waiting}
        later = [_with_attempts(each, earlier.get(each.event.sort_key)) for each in waiting]
        places = [self._place_item(webhook_id, each) for each in later]
        unwritten = self._put(webhook_id, Lane.RETRY, later, places=places)
        replaced = {item_key(item) for sort_key, item in earlier.items() if sort_key not in unwritten} - {
            (_lane_key(webhook_id, Lane.RETRY), place_of(each, Lane.RETRY)) for each in later
        }
        if replaced:
            self._table.delete_all([*replaced])
        return unwritten

    def _find_set_aside(self, webhook_id: str, waiting: Sequence[PendingEvent]) -> "dict[str, Item]":
        """The keys, texts and attempts of those that stand in the retry lane, by sort key. Not another event
        under the same id and time: it would vanish.

        Raises:
            AWS_ERRORS: DynamoDB did not answer.
        """
        texts = {each.event.sort_key: each.event.text for each in waiting}
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

    def _place_item(self, webhook_id: str, waiting: PendingEvent) -> "Item":
        return {
            **key_item(place_in_retry(webhook_id, waiting.event.sort_key)),
            "due_at": {"N": str(waiting.due_at_ms)},
            "expires_at": {"N": str((waiting.due_at_ms + self._retention_ms) // 1000)},
        }

    def mark(
        self, account_id: str, webhook_id: str, lane: Lane, *, accepted_at_ms: int, due_at_ms: int = 0
    ) -> bool:
        """Say that a lane has events; answer whether it had no mark before.

        `accepted_at_ms` is the earliest acceptance among those appended: it says when the first may
        expire. `due_at_ms` is when the first of them is to be sent.

        Raises:
            AWS_ERRORS: the mark may be missing; the events must come again.
        """
        token = secrets.token_urlsafe(12)
        answer = self._table.client.update_item(
            TableName=self._table.name,
            Key=_mark_key(webhook_id, lane),
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
        old = answer.get("Attributes")
        if not old:
            return True
        for attribute, wanted in (
            ("due_at", due_at_ms),
            ("check_at", accepted_at_ms + self._retention_ms),
        ):
            # A damaged mark may lack one, and has it now.
            if attribute in old and int(old[attribute]["N"]) > wanted:
                self._advance(webhook_id, lane, attribute, wanted)
        # Our own token: botocore repeated a call that may have made the mark, and nobody else would send for
        # a drainer.
        return old.get("token") == {"S": token}

    def marker_write(
        self, account_id: str, webhook_id: str, *, asked_at_ms: int
    ) -> "TransactWriteItemTypeDef":
        """What marks the replay lane, to be part of a transaction.

        Who asked first says when the lane is looked through: one that asks later changes nothing of that.
        """
        return {
            "Update": {
                "TableName": self._table.name,
                "Key": _mark_key(webhook_id, Lane.REPLAY),
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

    def append_write(self, webhook_id: str, waiting: PendingEvent) -> "TransactWriteItemTypeDef":
        """What puts an event into the replay lane, to be part of the transaction that marks it."""
        item = _item(webhook_id, Lane.REPLAY, waiting) | {"token": {"S": secrets.token_urlsafe(12)}}
        return {"Put": {"TableName": self._table.name, "Item": item}}

    def marks(self, webhook_id: str) -> dict[Lane, DueMarker]:
        """The marks of one webhook, as they stand now (consistent read)."""
        answer = self._table.client.query(
            TableName=self._table.name,
            KeyConditionExpression="pk = :pk AND begins_with(sk, :prefix)",
            ExpressionAttributeValues={
                ":pk": {"S": f"DUE#{_shard(webhook_id)}"},
                ":prefix": {"S": f"{webhook_id}#"},
            },
            ConsistentRead=True,
        )
        return {mark.lane: mark for mark in _marks(answer["Items"])}

    def all_markers(self) -> Iterator[DueMarker]:
        """Every mark there is, shard by shard."""
        paginator = self._table.client.get_paginator("query")
        for shard in range(SHARDS):
            pages = paginator.paginate(
                TableName=self._table.name,
                KeyConditionExpression="pk = :pk",
                ExpressionAttributeValues={":pk": {"S": f"DUE#{shard}"}},
            )
            for page in pages:
                yield from _marks(page["Items"])

    def due_markers(self, part: ShardPart, *, now_ms: int, limit: int) -> DueMarkers:
        """The marks among the next `limit` of a shard that are due, or whose first event may expire.

        DynamoDB reads all of them, at a half read unit for some sixty, and hands over those that are due.
        """
        answer = self._table.client.query(
            TableName=self._table.name,
            KeyConditionExpression="pk = :pk AND sk BETWEEN :low AND :high",
            # A mark that lacks one of these is handed over too, to be noticed.
            FilterExpression="NOT (due_at > :now AND check_at > :now)",
            ExpressionAttributeValues={
                ":pk": {"S": f"DUE#{part.shard}"},
                ":low": {"S": part.next_key},
                ":high": {"S": part.end_key},
                ":now": {"N": str(now_ms)},
            },
            Limit=limit,
        )
        last = answer["LastEvaluatedKey"]["sk"]["S"] if "LastEvaluatedKey" in answer else None
        return DueMarkers(list(_marks(answer["Items"])), answer["ScannedCount"], part.after(last))

    def clear_marker(self, mark: DueMarker) -> bool:
        """Remove `mark` unless events were appended since it was read; answer whether it is gone."""
        return self._change(
            lambda: self._table.client.delete_item(
                TableName=self._table.name,
                Key=_mark_key(mark.webhook_id, mark.lane),
                ConditionExpression="#token = :token",
                ExpressionAttributeNames={"#token": "token"},
                ExpressionAttributeValues={":token": {"S": mark.token}},
            )
        )

    def claim(
        self, mark: DueMarker, owner: str, *, now_ms: int, until_ms: int, instead_of: Collection[str] = ()
    ) -> bool:
        """Claim the lane of a deleted webhook for its one purger; answer whether nobody else has it.

        Whoever has it may give it to another `owner`: `instead_of` are the names under which the caller may
        have it.
        """
        names = {f":mine{number}": name for number, name in enumerate((owner, *instead_of))}
        return self._change(
            lambda: self._table.client.update_item(
                TableName=self._table.name,
                Key=_mark_key(mark.webhook_id, mark.lane),
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

    def set_due(self, mark: DueMarker, due_at_ms: int) -> bool:
        """Nothing in the lane is due before `due_at_ms`. Not if something was appended since."""
        return self._set(mark, "due_at", {"N": str(due_at_ms)})

    def set_check(self, mark: DueMarker, check_at_ms: int, *, is_forced: bool = False) -> bool:
        """The lane was looked through: nothing in it expires before `check_at_ms`. Not if something was
        appended since the mark had its token, unless it `is_forced`."""
        value: AttributeValueTypeDef = {"N": str(check_at_ms)}
        return self._set(mark, "check_at", value, is_forced=is_forced, obsolete="check")

    def keep_check(self, mark: DueMarker, check: Check) -> bool:
        """Remember how far the lane was looked through."""
        kept: Item = {
            "position": {"S": check.position},
            "first": {"N": str(check.first_ms)},
            "token": {"S": check.token},
        }
        return self._set(mark, "check", {"M": kept}, is_forced=True)

    def read(self, webhook_id: str, lane: Lane, *, limit: int) -> list[PendingEvent]:
        """The first `limit` events of a lane, as they stand now (consistent read)."""
        answer = self._table.client.query(
            TableName=self._table.name,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": _lane_key(webhook_id, lane)}},
            ConsistentRead=True,
            Limit=limit,
        )
        return [_waiting(item, lane) for item in answer["Items"]]

    def page(self, webhook_id: str, lane: Lane, of: KeyRange, *, limit: int) -> Page[PendingEvent]:
        """At most `limit` events of a range of a lane, the last ones first."""
        page = self._table.page(
            _lane_key(webhook_id, lane), of, limit=limit, newest_first=True, consistent=True
        )
        return Page([_waiting(item, lane) for item in page.entries], page.read_to)

    def find(self, webhook_id: str, lane: Lane, sort_key: str) -> PendingEvent | None:
        """One event of a lane that is in the order of its events' sort keys: not the retry lane."""
        answer = self._table.client.get_item(
            TableName=self._table.name,
            Key=key_item((_lane_key(webhook_id, lane), sort_key)),
            ConsistentRead=True,
        )
        return _waiting(answer["Item"], lane) if "Item" in answer else None

    def find_texts(
        self, places: Sequence[tuple[str, Lane, str]]
    ) -> "dict[tuple[str, str], AttributeValueTypeDef | None]":
        """Which events already wait where others are to wait: by webhook id and sort key, the text, see
        `event_items.read_text`. Not in the retry lane, whose keys are others.

        Raises:
            AWS_ERRORS: DynamoDB did not answer.
        """
        if not places:
            return {}
        keys = {(_lane_key(webhook_id, lane), sort_key): webhook_id for webhook_id, lane, sort_key in places}
        items = self._table.get_all(list(keys), attributes=("event",), consistent=True)
        return {(keys[item_key(item)], item["sk"]["S"]): item.get("event") for item in items}

    def count(self, mark: DueMarker, *, limit: int) -> Count:
        """How many events stand in a marked lane, counted up to `limit` or a megabyte of them.

        A lane without a mark is empty, or about to be marked.
        """
        answer = self._table.client.query(
            TableName=self._table.name,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": _lane_key(mark.webhook_id, mark.lane)}},
            Select="COUNT",
            Limit=limit + 1,  # one more than is shown: it tells "all" from "at least"
        )
        counted = answer["Count"]
        return Count(min(counted, limit), is_complete=counted <= limit and "LastEvaluatedKey" not in answer)

    def read_all(self, webhook_id: str, lane: Lane, *, behind: str = "") -> Iterator[list[PendingEvent]]:
        """Every event of a lane that stands `behind` a sort key, in pages of at most a megabyte (consistent
        reads)."""
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
            yield [_waiting(item, lane) for item in page["Items"]]

    def remove(self, webhook_id: str, lane: Lane, waiting: Sequence[PendingEvent]) -> bool:
        """Take events out of a lane, after what became of them is recorded; answer whether all are out.

        One that was asked for again meanwhile stays in the replay lane.
        """
        if lane is Lane.REPLAY:
            for each in waiting:
                self._remove_sent_again(webhook_id, each)
            return True
        return not self._table.delete_all(
            [(_lane_key(webhook_id, lane), place_of(each, lane)) for each in waiting]
        )

    def add_attempt(self, webhook_id: str, lane: Lane, waiting: PendingEvent, attempt: Attempt) -> bool:
        """Add an attempt to an event that goes on waiting where it is; answer whether it was added.

        Raises:
            AWS_ERRORS: it may be missing.
        """
        return self._change(
            lambda: self._table.client.update_item(
                TableName=self._table.name,
                Key=key_item((_lane_key(webhook_id, lane), place_of(waiting, lane))),
                UpdateExpression="SET #attempts = list_append(if_not_exists(#attempts, :none), :added)",
                ConditionExpression=f"attribute_exists(pk) AND {IS_NEW_ATTEMPT}",
                ExpressionAttributeNames={"#attempts": "attempts"},
                ExpressionAttributeValues={":none": {"L": []}, **added_attempt(attempt)},
            )
        )

    def _remove_sent_again(self, webhook_id: str, waiting: PendingEvent) -> None:
        conditional_write(
            lambda: self._table.client.delete_item(
                TableName=self._table.name,
                Key=key_item((_lane_key(webhook_id, Lane.REPLAY), place_of(waiting, Lane.REPLAY))),
                ConditionExpression="#token = :token OR attribute_not_exists(#token)",
                ExpressionAttributeNames={"#token": "token"},
                ExpressionAttributeValues={":token": {"S": waiting.token}},
            ),
            self._table.client,
        )

    def _advance(self, webhook_id: str, lane: Lane, attribute: str, value: int) -> None:
        self._change(
            lambda: self._table.client.update_item(
                TableName=self._table.name,
                Key=_mark_key(webhook_id, lane),
                UpdateExpression="SET #attribute = :value",
                ConditionExpression="#attribute > :value",
                ExpressionAttributeNames={"#attribute": attribute},
                ExpressionAttributeValues={":value": {"N": str(value)}},
            )
        )

    def _set(
        self,
        mark: DueMarker,
        attribute: str,
        value: "AttributeValueTypeDef",
        *,
        is_forced: bool = False,
        obsolete: str = "",
    ) -> bool:
        """Set an attribute of a mark, if nothing was appended or it `is_forced`; remove an `obsolete` one."""
        names = {"#attribute": attribute, "#token": "token"}
        update = "SET #attribute = :value"
        if obsolete:
            names["#obsolete"] = obsolete
            update += " REMOVE #obsolete"
        return self._change(
            lambda: self._table.client.update_item(
                TableName=self._table.name,
                Key=_mark_key(mark.webhook_id, mark.lane),
                UpdateExpression=update,
                ConditionExpression="attribute_exists(#token)" if is_forced else "#token = :token",
                ExpressionAttributeNames=names,
                ExpressionAttributeValues={":value": value}
                | ({} if is_forced else {":token": {"S": mark.token}}),
            )
        )

    def _change(self, change: Callable[[], object]) -> bool:
        return conditional_write(change, self._table.client)


def _shard(webhook_id: str) -> int:
    return zlib.crc32(webhook_id.encode()) % SHARDS  # hash() differs from process to process


def _mark_key(webhook_id: str, lane: Lane) -> "Item":
    return key_item((f"DUE#{_shard(webhook_id)}", marker_sort_key(webhook_id, lane)))


def parts_of_all_shards(start: str) -> list[ShardPart]:
    """Every mark there is, from `start` on, in the shard where that would stand and in each after it."""
    first = _shard(start)
    return [ShardPart((first + number) % SHARDS, start, start) for number in range(SHARDS)]


def _marks(items: "Iterable[Item]") -> Iterator[DueMarker]:
    """Read marks. One that is damaged, or of a newer version, is left alone: the others are read."""
    for item in items:
        try:
            yield _mark(item)
        except (KeyError, ValueError) as error:
            report(error, "mark not read", shard=item["pk"]["S"], mark=item["sk"]["S"])


def _mark(item: "Item") -> DueMarker:
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
    """The key of the item that says where an event stands in the retry lane."""
    return f"RETRY#{webhook_id}", sort_key


def _with_attempts(waiting: PendingEvent, earlier: "Item | None") -> PendingEvent:
    """`waiting` with the attempts of its `earlier` item, each once, in their order; the last ones."""
    if earlier is None or "attempts" not in earlier:
        return waiting
    attempts = {*read_attempts(earlier["attempts"]), *waiting.attempts}
    in_order = sorted(attempts, key=lambda each: each.started_at_ms)
    return replace(waiting, attempts=tuple(in_order[-KEPT_ATTEMPTS:]))


def place_of(waiting: PendingEvent, lane: Lane) -> str:
    """Where an event stands in a lane: its sort key there."""
    if lane is Lane.RETRY:
        return f"{waiting.due_at_ms:013d}#{waiting.event.sort_key}"
    return waiting.event.sort_key


def _item(webhook_id: str, lane: Lane, waiting: PendingEvent) -> "Item":
    item: Item = {
        **key_item((_lane_key(webhook_id, lane), place_of(waiting, lane))),
        **event_attributes(waiting.event),
    }
    if waiting.tries:
        item["tries"] = {"N": str(waiting.tries)}
    if waiting.asked_at_ms:
        item["asked_at"] = {"N": str(waiting.asked_at_ms)}
    if waiting.attempts:
        item["attempts"] = attempts_attribute(waiting.attempts)
    if waiting.pending_in is not None:
        item["waits_in"] = {"S": waiting.pending_in}
        item["waits_until"] = {"N": str(waiting.due_at_ms)}
    return item


def _waiting(item: "Item", lane: Lane) -> PendingEvent:
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
        pending_in=Lane(item["waits_in"]["S"]) if "waits_in" in item else None,
        asked_at_ms=int(item["asked_at"]["N"]) if "asked_at" in item else 0,
    )
