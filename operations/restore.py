"""Restore what a table lost, and let the backlog be sent again.

    make restore STACK=lms-webhooks                                   counts what would be done
    make restore STACK=lms-webhooks APPLY=1                           due markers, and health of endpoints
    make restore STACK=lms-webhooks WEBHOOKS=... DELIVERIES=... APPLY=1   what is missing first, from copies

Copies are tables that point-in-time recovery made of those of the stack. What the stack has is never changed
by what they have: it is newer. What changes by itself is not copied but set again. A lane with events gets
its due marker, a webhook without health a new one without a lease. The sweep does the rest.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from lms_webhooks.aws.clients import retry_conflicts
from lms_webhooks.aws.dynamodb import Table, conditional_write, item_key, key_item, transact
from lms_webhooks.model.health import Health, Mode
from lms_webhooks.model.lanes import Lane
from lms_webhooks.stores.backlog import Backlog
from lms_webhooks.stores.deliveries import DeliveryStore
from lms_webhooks.stores.health import health_attributes, health_key
from lms_webhooks.stores.replays import ReplayState
from lms_webhooks.stores.webhooks import read_tombstone
from operations.stacks import find_stack

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef, TransactWriteItemTypeDef

    type Item = dict[str, AttributeValueTypeDef]

_AT_ONCE = 16
"""Writes in flight: some thousand a second, and the flow of the stack keeps its share."""
_WEBHOOK, _HEALTH, _TOMBSTONE = "WEBHOOK#", "HEALTH#", "TOMBSTONE#"
_LASTING = {
    "TOMBSTONE#": "subscriptions and tombstones brought back",
    "SUBSCRIPTIONS#": "subscriptions and tombstones brought back",
    "ACTIVITY#": "changes of the activity brought back",
}
"""Of the webhooks table, besides registrations: what partitions begin with, and what each is counted as.

Rate limits and stored responses have expired by now.
"""

type Done = Counter[str]
"""How often something was done, by what it was."""


@dataclass(frozen=True, slots=True)
class System:
    """The tables of a stack, and for how long its events are tried."""

    dynamodb: "DynamoDBClient"
    webhooks: str
    deliveries: str
    backlog_days: int


def bring_webhooks(system: System, copy: str, *, applying: bool) -> Done:
    """Register what the copy has and the stack has not, unless somebody deleted it since."""
    done: Done = Counter()
    here = {item_key(item): item for item in _scan(system.dynamodb, system.webhooks)}
    deleted = {
        (partition, read_tombstone(item).webhook_id)
        for (partition, _), item in here.items()
        if partition.startswith(_TOMBSTONE)
    }
    for item in _scan(system.dynamodb, copy):
        partition, sort_key = item_key(item)
        if (partition, sort_key) in here:
            continue
        if sort_key.startswith(_WEBHOOK) and partition.startswith("ACCOUNT#"):
            account_id, webhook_id = item["account_id"]["S"], item["webhook_id"]["S"]
            if (f"{_TOMBSTONE}{account_id}", webhook_id) in deleted:
                done[f"webhooks that were deleted and stay so ({webhook_id})"] += 1
                continue
            done["webhooks brought back"] += 1
            if applying:
                _register(system, item)
        elif kind := next((kind for start, kind in _LASTING.items() if partition.startswith(start)), None):
            done[kind] += 1
            if applying:
                _put_if_missing(system.dynamodb, system.webhooks, item)
    return done


def bring_deliveries(system: System, copy: str, *, applying: bool) -> Done:
    """Copy the history that is missing, then what waited and is not known to be delivered.

    Replays are not copied: what they were asked for may have been done since. They can be asked for again.
    """
    done: Done = Counter()
    history = DeliveryStore(Table(system.dynamodb, system.deliveries), retention_days=1)
    with ThreadPoolExecutor(_AT_ONCE) as threads:

        def bring(items: "list[Item]", what: str) -> None:
            def write(item: "Item") -> bool:
                return _put_if_missing(system.dynamodb, system.deliveries, item, applying=applying)

            done[what] += sum(threads.map(write, items))

        for page in _pages(system.dynamodb, copy, "DELIVERY#"):
            bring(page, "deliveries of the history brought back")
        for page in _pages(system.dynamodb, copy, "BACKLOG#"):
            waiting = [(item, *_place(item)) for item in page]
            open_ones = [each for each in waiting if each[2] is not Lane.REPLAY]
            keys = [(webhook_id, _event_key(item, lane)) for item, webhook_id, lane in open_ones]
            delivered = history.find_delivered(keys, consistent=True)
            left = [each[0] for each, key in zip(open_ones, keys, strict=True) if key not in delivered]
            done["waiting, but delivered since"] += len(open_ones) - len(left)
            done["waiting to be sent again: not brought back"] += len(waiting) - len(open_ones)
            bring(left, "waiting events brought back")
    return +done


def make_health(system: System, *, applying: bool) -> Done:
    """Give each webhook that has no health of its own epoch a fresh one: its events go by the backlog until
    what waits there has gone out."""
    done: Done = Counter()
    items = {item_key(item): item for item in _scan(system.dynamodb, system.webhooks)}
    for (_, sort_key), item in items.items():
        if not sort_key.startswith(_WEBHOOK) or "epoch" not in item:
            continue
        health = items.get(health_key(item["account_id"]["S"], item["webhook_id"]["S"]))
        if health is None or health["epoch"] != item["epoch"]:
            done["webhooks whose health was made anew"] += 1
            if applying:
                system.dynamodb.put_item(TableName=system.webhooks, Item=_fresh_health(item))
    return done


def mark_lanes(system: System, *, applying: bool) -> Done:
    """Mark each lane that has events, and the replay lane of each webhook whose replay is under way."""
    done: Done = Counter()
    backlog = Backlog(Table(system.dynamodb, system.deliveries), retention_days=system.backlog_days)
    marked = {(mark.webhook_id, mark.lane) for mark in backlog.all_markers()}
    accepted_ms: dict[tuple[str, str, Lane], int] = {}
    due_ms: dict[tuple[str, str, Lane], int] = {}
    for page in _pages(system.dynamodb, system.deliveries, "BACKLOG#"):
        for item in page:
            webhook_id, lane = _place(item)
            place = (item["account_id"]["S"], webhook_id, lane)
            due = int(item["sk"]["S"].partition("#")[0]) if lane is Lane.RETRY else 0
            accepted = int(item["accepted_at"]["N"])
            accepted_ms[place] = min(accepted, accepted_ms.get(place, accepted))
            due_ms[place] = min(due, due_ms.get(place, due))
    for page in _pages(system.dynamodb, system.deliveries, "REPLAY#"):
        for item in page:
            if item["state"]["S"] == ReplayState.RUNNING:
                webhook_id = item["pk"]["S"].removeprefix("REPLAY#")
                accepted_ms[item["account_id"]["S"], webhook_id, Lane.REPLAY] = 0
    for (account_id, webhook_id, lane), accepted in accepted_ms.items():
        done["lanes with events"] += 1
        done["lanes that had no due marker"] += (webhook_id, lane) not in marked
        if not applying:
            continue
        if lane is Lane.REPLAY:  # the next drainer looks when it ends
            mark_it = backlog.marker_write(account_id, webhook_id, asked_at_ms=0)
            transact(system.dynamodb, [mark_it])
        else:
            # Of a lane that has a mark too: what was brought back may be due or expire before the rest.
            due = due_ms[account_id, webhook_id, lane]
            backlog.set_marker(account_id, webhook_id, lane, accepted_at_ms=accepted, due_at_ms=due)
    return done


def _register(system: System, item: "Item") -> None:
    """Put a registration with its health, and count it among its account's. All of it, or nothing."""
    account = key_item((item["pk"]["S"], "ACCOUNT"))
    actions: list[TransactWriteItemTypeDef] = [
        {
            "Put": {
                "TableName": system.webhooks,
                "Item": item,
                "ConditionExpression": "attribute_not_exists(pk)",
            }
        },
        {"Put": {"TableName": system.webhooks, "Item": _fresh_health(item)}},
        {
            "Update": {
                "TableName": system.webhooks,
                "Key": account,
                "UpdateExpression": "ADD webhook_ids :id",
                "ExpressionAttributeValues": {":id": {"SS": [item["webhook_id"]["S"]]}},
            }
        },
    ]
    transact(system.dynamodb, actions)


def _fresh_health(webhook: "Item") -> "Item":
    """Nothing is known of its endpoint, and nobody has its lease."""
    return {
        **key_item(health_key(webhook["account_id"]["S"], webhook["webhook_id"]["S"])),
        **health_attributes(Health(int(webhook["epoch"]["N"]), mode=Mode.BACKLOG)),
    }


def _put_if_missing(dynamodb: "DynamoDBClient", table: str, item: "Item", *, applying: bool = True) -> bool:
    """Put an item where none is; return whether there was none."""
    if not applying:
        answer = dynamodb.get_item(
            TableName=table, Key=key_item(item_key(item)), ConsistentRead=True, ProjectionExpression="pk"
        )
        return "Item" not in answer
    return conditional_write(
        lambda: dynamodb.put_item(TableName=table, Item=item, ConditionExpression="attribute_not_exists(pk)"),
        dynamodb,
    )


def _place(item: "Item") -> tuple[str, Lane]:
    """The webhook and the lane of an event that waits."""
    webhook_id, _, lane = item["pk"]["S"].removeprefix("BACKLOG#").rpartition("#")
    return webhook_id, Lane(lane)


def _event_key(item: "Item", lane: Lane) -> str:
    """The sort key of an event that waits, without when it is due."""
    sort_key = item["sk"]["S"]
    return sort_key.partition("#")[2] if lane is Lane.RETRY else sort_key


def _pages(dynamodb: "DynamoDBClient", table: str, prefix: str) -> "Iterator[list[Item]]":
    pages = dynamodb.get_paginator("scan").paginate(
        TableName=table,
        ConsistentRead=True,
        FilterExpression="begins_with(pk, :prefix)",
        ExpressionAttributeValues={":prefix": {"S": prefix}},
    )
    for page in pages:
        yield page["Items"]


def _scan(dynamodb: "DynamoDBClient", table: str) -> "Iterator[Item]":
    for page in dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True):
        yield from page["Items"]


def run(system: System, *, webhooks_copy: str, deliveries_copy: str, applying: bool) -> int:
    """Do all of it, webhooks first: a drainer records events of no webhook as failed."""
    done: Done = Counter()
    if webhooks_copy:
        done += bring_webhooks(system, webhooks_copy, applying=applying)
    if deliveries_copy:
        done += bring_deliveries(system, deliveries_copy, applying=applying)
    done += make_health(system, applying=applying)
    done += mark_lanes(system, applying=applying)
    for what, count in done.items():
        print(f"{what}: {count}")
    if applying:
        print("The sweep schedules drains within a minute.")
    else:
        print("Nothing was changed (APPLY=1 does it).")
    return 0


def main() -> int:
    """Print what is to be done, and do it with APPLY=1."""
    parser = argparse.ArgumentParser(prog="python -m operations.restore")
    parser.add_argument("--stack", help="a stack on AWS; without it the one of `make up`")
    parser.add_argument("--webhooks", default="", help="a copy of the webhooks table")
    parser.add_argument("--deliveries", default="", help="a copy of the deliveries table")
    parser.add_argument("--apply", action="store_true", help="without it nothing is changed")
    arguments = parser.parse_args()
    try:
        return run(
            _system(arguments.stack),
            webhooks_copy=arguments.webhooks,
            deliveries_copy=arguments.deliveries,
            applying=arguments.apply,
        )
    except (BotoCoreError, ClientError) as error:
        print(f"AWS did not do it: {error}", file=sys.stderr)
        return 1


def _system(stack_name: str | None) -> System:
    stack = find_stack(stack_name)
    return System(
        retry_conflicts(stack.client("dynamodb")),
        stack.outputs["WebhooksTableName"],
        stack.outputs["DeliveriesTableName"],
        int(stack.parameters["BacklogRetentionDays"]),
    )


if __name__ == "__main__":
    sys.exit(main())
