"""Find what is stored of one learner, and erase it.

    make erase ACCOUNT=1010 LEARNER=4279332                               counts, on this machine's stack
    make erase ACCOUNT=1010 LEARNER=4279332 STACK=lms-webhooks       counts, on AWS
    make erase ACCOUNT=1010 LEARNER=4279332 STACK=lms-webhooks ERASE=1

Reads the whole deliveries table: what was delivered, what still waits, and bodies of responses. A learner
is known by a `userId`, an `email`, or the `id` of an object whose `type` is `user`, anywhere in an event's
`data`.
"""

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from lms_webhooks.aws.clients import retry_conflicts
from lms_webhooks.aws.dynamodb import key_item
from lms_webhooks.model.lanes import Lane
from lms_webhooks.stores.backlog import place_in_retry
from lms_webhooks.stores.items import read_event_item
from operations.stacks import find_stack

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef
    from mypy_boto3_sqs import SQSClient

_HISTORY, _BACKLOG, _BODY = "DELIVERY#", "BACKLOG#", "BODY#"
_NAMED = ""
"""Among the keys of events, of which none is empty."""
_ID_KEYS = {"userid", "email"}
# As JSON writes a number. A text with zeros in front is an id of its own.
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?(e[+-]?[0-9]+)?")
_QUEUES = (
    "RealtimeQueueUrl",
    "BatchQueueUrl",
    "QuarantineQueueUrl",
    "RealtimeDeadLetterQueueUrl",
    "BatchDeadLetterQueueUrl",
)


_ARCHIVE = "EventArchiveArn"


@dataclass(frozen=True, slots=True)
class Found:
    """One item that holds an event of the learner. `lane` is None in the history."""

    key: "dict[str, AttributeValueTypeDef]"
    event_key: str
    """Of a body: empty."""
    webhook_id: str
    lane: str | None
    is_read: bool = True
    """Otherwise it may be anybody's."""

    @property
    def place(self) -> str:
        """Where it is, in words."""
        if not self.event_key:
            return "response bodies"
        return "history" if self.lane is None else f"waiting ({self.lane})"


@dataclass(frozen=True, slots=True)
class System:
    """Where the events are, and where they may be that this cannot search: queues by name, with their URL,
    and the bus's archive, if there is one."""

    dynamodb: "DynamoDBClient"
    sqs: "SQSClient"
    table: str
    queues: dict[str, str]
    archive: str = ""


def find(dynamodb: "DynamoDBClient", table: str, *, account_id: str, learner: str) -> Iterator[Found]:
    """Every item of the deliveries table with an event of the account about the learner; or about whom it
    cannot be read.

    First the bodies of responses to requests that carried such an event, or that name the learner. Only the
    events say which bodies these are, so a run that ends early must leave the events.
    """
    events: list[Found] = []
    bodies: list[tuple[Found, set[str]]] = []
    pages = dynamodb.get_paginator("scan").paginate(
        TableName=table,
        ConsistentRead=True,
        FilterExpression=(
            "account_id = :account AND (begins_with(pk, :body) OR ((begins_with(pk, :history)"
            " OR begins_with(pk, :backlog)) AND attribute_exists(event)))"
        ),
        ExpressionAttributeValues={
            ":account": {"S": account_id},
            ":history": {"S": _HISTORY},
            ":backlog": {"S": _BACKLOG},
            ":body": {"S": _BODY},
        },
    )
    for page in pages:
        for item in page["Items"]:
            partition, sort_key = item["pk"]["S"], item["sk"]["S"]
            kind, _, rest = partition.partition("#")
            webhook_id, _, lane = rest.partition("#")
            if kind == "BODY":
                body = Found({"pk": item["pk"], "sk": item["sk"]}, "", webhook_id, None)
                bodies.append((body, _carried(item, learner)))
                continue
            # The retry lane has a due time before the event's own.
            event_key = sort_key.partition("#")[2] if lane == Lane.RETRY else sort_key
            found = Found(
                {"pk": item["pk"], "sk": item["sk"]},
                event_key,
                webhook_id,
                lane if kind == "BACKLOG" else None,
            )
            try:
                is_theirs = is_about(read_event_item(item, event_key).text, learner)
            except Exception:  # noqa: BLE001  # whatever is in it, it hides no other
                events.append(replace(found, is_read=False))
            else:
                if is_theirs:
                    events.append(found)
    theirs = {(each.webhook_id, each.event_key) for each in events if each.is_read}
    for body, event_keys in bodies:
        if _NAMED in event_keys or any((body.webhook_id, key) in theirs for key in event_keys):
            yield body
    yield from events


def _carried(item: "dict[str, AttributeValueTypeDef]", learner: str) -> set[str]:
    """The keys of the events that a kept body's request carried, and `_NAMED` if it names the learner."""
    keys = {each["S"] for each in item.get("event_keys", {"L": []})["L"]}
    is_named = learner.strip().casefold() in item.get("body", {"S": learner})["S"].casefold()
    return keys | {_NAMED} if is_named else keys


def is_about(event_text: str, learner: str) -> bool:
    """Whether an event's data names the learner, in any letter case and in any form of a number."""
    # Objects as their pairs: a key may stand twice.
    event = json.loads(event_text, parse_int=str, parse_float=str, object_pairs_hook=tuple)
    wanted = _one_form(learner)
    return any(_one_form(value) == wanted for value in _people(dict(event).get("data")))


def _one_form(value: str) -> str | Decimal:
    """What is the same for all ways to write an id: 4279332, 4279332.0 and 4.279332e6 are one number."""
    text = value.strip().casefold()
    try:
        return Decimal(text) if _NUMBER.fullmatch(text) else text
    except ArithmeticError:  # an exponent that nothing has
        return text


def erase(dynamodb: "DynamoDBClient", table: str, found: Found) -> None:
    """Delete one item, and what says where its event stood in the retry lane.

    What waits in a lane is not sent; the drainer finds it gone.
    """
    places = [key_item(place_in_retry(found.webhook_id, found.event_key))] if found.event_key else []
    for key in (found.key, *places):
        dynamodb.delete_item(TableName=table, Key=key)


def _people(data: object) -> Iterator[str]:
    rest = [data]  # no recursion: data may be nested deeper than Python's stack
    while rest:
        value = rest.pop()
        if isinstance(value, tuple):
            kinds = [each for key, each in value if key.casefold() == "type"]
            is_user = any(isinstance(kind, str) and kind.casefold() == "user" for kind in kinds)
            for key, each in value:
                name = key.casefold()
                if isinstance(each, str) and (name in _ID_KEYS or (name == "id" and is_user)):
                    yield each
            rest += (each for _, each in value)
        elif isinstance(value, list):
            rest += value


def main() -> int:
    """Print what is stored of a learner, and erase it with ERASE=1; return 0 when nothing is left."""
    parser = argparse.ArgumentParser(prog="python -m operations.erase")
    parser.add_argument("--account", required=True)
    parser.add_argument("--learner", required=True, help="a userId or an email")
    parser.add_argument("--stack", help="a stack on AWS; without it the one of `make up`")
    parser.add_argument("--erase", action="store_true", help="without it nothing is changed")
    arguments = parser.parse_args()
    if not arguments.account or not arguments.learner:
        parser.error("say whose: ACCOUNT=... LEARNER=...")  # an empty one would be many people
    try:
        system = _system(arguments.stack)
        return run(system, arguments.account, arguments.learner, erasing=arguments.erase)
    except (BotoCoreError, ClientError) as error:
        print(f"AWS did not do it: {error}", file=sys.stderr)
        return 1


def run(system: System, account_id: str, learner: str, *, erasing: bool) -> int:
    """As `main`, on `system`."""
    dynamodb, table = system.dynamodb, system.table
    counts: Counter[tuple[str, str]] = Counter()
    unread: list[Found] = []
    for found in find(dynamodb, table, account_id=account_id, learner=learner):
        if not found.is_read:
            unread.append(found)
            continue
        counts[found.webhook_id, found.place] += 1
        if erasing:
            erase(dynamodb, table, found)
    for (webhook_id, place), count in sorted(counts.items()):
        print(f"{count:8} in {place:18} of {webhook_id}")
    done = "erased" if erasing else "found; nothing was changed (ERASE=1 erases)"
    print(f"{counts.total():8} {done}")
    if any(place.startswith("waiting") for _, place in counts):
        print("What waits and is erased is never sent: its receivers do not hear of it.")
    if unread:
        print(f"{len(unread):8} could not be read, and are as they were: newer, or nested too deeply")
        for each in unread:
            print(f"         {each.key['pk']['S']} {each.key['sk']['S']}")
    _say_what_is_not_searched(system)
    if not erasing:
        return int(bool(unread))
    # A drainer may have had some in hand, which it then records; and events may have come meanwhile.
    again = find(dynamodb, table, account_id=account_id, learner=learner)
    left = sum(found.is_read for found in again)
    if left:
        print(f"{left:8} came meanwhile: run this again")
    return int(left > 0 or bool(unread))


def _say_what_is_not_searched(system: System) -> None:
    for name, url in system.queues.items():
        answer = system.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
        count = int(answer["Attributes"]["ApproximateNumberOfMessages"])
        if count:
            print(f"{count:8} on {name}, not searched: see docs/recovery.md")
    if system.archive:
        print(f"The archive {system.archive} holds every event, and nothing can be erased from it:")
        print("a replay of it brings this learner's back, here and to receivers. See docs/personal-data.md.")


def _system(stack_name: str | None) -> System:
    stack = find_stack(stack_name)
    return System(
        retry_conflicts(stack.client("dynamodb")),
        stack.client("sqs"),
        stack.outputs["DeliveriesTableName"],
        {output.removesuffix("Url"): stack.outputs[output] for output in _QUEUES},
        stack.outputs.get(_ARCHIVE, "").rpartition("/")[2],
    )


if __name__ == "__main__":
    sys.exit(main())
