"""Read and write many items of a table at once, and retry those that DynamoDB leaves unprocessed.

botocore retries a call that DynamoDB refuses, but not the items that an accepted call leaves unprocessed.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import batched
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from lms_webhooks.aws.clients import conflict_wait_seconds
from lms_webhooks.errors import AWS_ERRORS, Contention
from lms_webhooks.observability import report

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import (
        AttributeValueTypeDef,
        KeysAndAttributesTypeDef,
        TransactWriteItemTypeDef,
        WriteRequestTypeDef,
    )

    type Item = dict[str, AttributeValueTypeDef]

type Key = tuple[str, str]
"""The values of pk and sk."""

_GET_LIMIT = 100  # BatchGetItem
_WRITE_LIMIT = 25  # BatchWriteItem
_TRIES = 5
# Of twenty transactions on one item at once, at least one succeeds in each round. So twelve rounds, with
# random waits of about 3 s at worst, are far more than admins can need.
_TRANSACT_TRIES = 12
_PASSING_REASONS = {"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"}
_FIRST_WAIT_SECONDS = 0.05


class UnprocessedKeys(BotoCoreError):
    """DynamoDB left keys unread at each try. One of `errors.AWS_ERRORS`."""

    fmt = "left unread: {keys} keys of {table}"


@dataclass(frozen=True, slots=True)
class KeyRange:
    """A range of sort keys: from `start` on, and below `end`."""

    start: str
    end: str


@dataclass(frozen=True, slots=True)
class Page[T]:
    """Some entries of a range, in its order."""

    entries: list[T]
    last_key: str | None
    """The sort key of the last entry that was read; None when the whole range was read."""


class Table:
    """A table with the keys `pk` and `sk`. Safe to share between threads."""

    def __init__(
        self, client: "DynamoDBClient", name: str, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.client = client
        self.name = name
        self._sleep = sleep

    def get_all(
        self,
        keys: Sequence[Key],
        *,
        attributes: Sequence[str],
        consistent: bool,
        names: Mapping[str, str] | None = None,
        require_all: bool = False,
    ) -> "list[Item]":
        """Return the items of `keys` that exist, in no order, with their keys and `attributes`.

        `names` are the placeholders of attributes whose names are reserved words. An item that DynamoDB
        leaves unread counts as absent, unless `require_all` is set.

        Raises:
            AWS_ERRORS: the items could not be read. With `require_all`, also when some were left unread.
        """
        found: list[Item] = []
        wanted: KeysAndAttributesTypeDef = {
            "Keys": [],
            "ProjectionExpression": ", ".join(("pk", "sk", *attributes)),
            "ConsistentRead": consistent,
        }
        if names:
            wanted["ExpressionAttributeNames"] = names
        for chunk in batched(dict.fromkeys(keys), _GET_LIMIT, strict=False):
            asked = [key_item(key) for key in chunk]
            for tried in range(_TRIES):
                self._wait(tried)
                response = self.client.batch_get_item(RequestItems={self.name: {**wanted, "Keys": asked}})
                found += response["Responses"].get(self.name, [])
                unread = response.get("UnprocessedKeys", {}).get(self.name)
                asked = list(unread["Keys"]) if unread else []
                if not asked:
                    break
            # A sender takes an unread record for absent: a second delivery is allowed, a lost event is not.
            if asked and require_all:
                raise UnprocessedKeys(keys=len(asked), table=self.name)
        return found

    def put_all(self, items: "Sequence[Item]") -> set[Key]:
        """Write `items`, whose keys all differ. Return the keys of those that were not written."""
        return self._write({item_key(item): {"PutRequest": {"Item": item}} for item in items})

    def delete_all(self, keys: Sequence[Key]) -> set[Key]:
        """Delete the items at `keys`. Return the keys of those that may still exist."""
        return self._write({key: {"DeleteRequest": {"Key": key_item(key)}} for key in keys})

    def page(
        self,
        partition: str,
        of: KeyRange,
        *,
        limit: int,
        newest_first: bool,
        attributes: Sequence[str] = (),
        consistent: bool = False,
    ) -> "Page[Item]":
        """Return at most `limit` items, and a megabyte, of a range.

        Each has its keys and `attributes`, or all its attributes if none are named.

        Raises:
            AWS_ERRORS: the range could not be read.
        """
        names = {f"#{name}": name for name in ("pk", "sk", *attributes)}
        projection: dict[str, str] = {"ProjectionExpression": ", ".join(names)} if attributes else {}
        response = self.client.query(
            TableName=self.name,
            KeyConditionExpression="#pk = :pk AND #sk BETWEEN :low AND :high",
            ExpressionAttributeNames=names if attributes else {"#pk": "pk", "#sk": "sk"},
            ExpressionAttributeValues={
                ":pk": {"S": partition},
                ":low": {"S": of.start},
                ":high": {"S": of.end},  # BETWEEN includes it, so an item there is dropped below
            },
            ScanIndexForward=not newest_first,
            ConsistentRead=consistent,
            Limit=limit + 1,
            **projection,  # type: ignore[arg-type]  # one of query's own parameters
        )
        items = [item for item in response["Items"] if item["sk"]["S"] != of.end]
        if "LastEvaluatedKey" not in response and len(items) <= limit:
            return Page(items, None)
        items = items[:limit]
        last_key = items[-1]["sk"]["S"] if items else response["LastEvaluatedKey"]["sk"]["S"]
        return Page(items, last_key)

    def _write(self, requests: "dict[Key, WriteRequestTypeDef]") -> set[Key]:
        unwritten: set[Key] = set()
        for chunk in batched(requests, _WRITE_LIMIT, strict=False):
            unwritten |= self._write_chunk({key: requests[key] for key in chunk})
        return unwritten

    def _write_chunk(self, requests: "dict[Key, WriteRequestTypeDef]") -> set[Key]:
        left = set(requests)
        try:
            for tried in range(_TRIES):
                self._wait(tried)
                response = self.client.batch_write_item(
                    RequestItems={self.name: [each for key, each in requests.items() if key in left]}
                )
                left = {
                    item_key(
                        request["PutRequest"]["Item"]
                        if "PutRequest" in request
                        else request["DeleteRequest"]["Key"]
                    )
                    for request in response.get("UnprocessedItems", {}).get(self.name, [])
                }
                if not left:
                    break
        except Exception as error:  # noqa: BLE001  # one bad item must not stop the others
            if len(left) > 1 and _is_of_one_item(error):
                return set().union(*(self._write_chunk({key: requests[key]}) for key in left))
            report(error, "items not written", table=self.name)
        return left

    def _wait(self, tried: int) -> None:
        if tried:
            self._sleep(random.uniform(0, _FIRST_WAIT_SECONDS * 2**tried))


def _is_of_one_item(error: Exception) -> bool:
    """Return whether a single item may have caused an error: DynamoDB then refuses the whole call."""
    if isinstance(error, ClientError):
        return error.response["Error"]["Code"] == "ValidationException"
    return not isinstance(error, AWS_ERRORS)


def key_item(key: Key) -> "Item":
    """Return `key` as attributes."""
    return {"pk": {"S": key[0]}, "sk": {"S": key[1]}}


def item_key(item: "Item") -> Key:
    """Return the key of `item`."""
    return item["pk"]["S"], item["sk"]["S"]


def transact(
    client: "DynamoDBClient",
    actions: "Sequence[TransactWriteItemTypeDef]",
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> set[int]:
    """Do all `actions` in one transaction, or none of them.

    Transactions on the same item collide, whether their conditions hold or not. So they are tried again after
    a random wait.

    Returns:
        The indexes of the actions whose conditions failed. If there are any, nothing was changed.

    Raises:
        Contention: the transaction collided, or was throttled, at every try. Nothing was changed.
        botocore.exceptions.ClientError: any other error of DynamoDB.
    """
    for tried in range(_TRANSACT_TRIES):
        if tried:
            sleep(conflict_wait_seconds(tried))
        try:
            client.transact_write_items(TransactItems=actions)
        except client.exceptions.TransactionCanceledException as error:
            reasons = [reason.get("Code", "None") for reason in error.response["CancellationReasons"]]
            refused = {index for index, code in enumerate(reasons) if code == "ConditionalCheckFailed"}
            if refused:
                return refused
            if _PASSING_REASONS.isdisjoint(reasons):
                raise
        else:
            return set()
    raise Contention


def conditional_write(change: Callable[[], object], client: "DynamoDBClient") -> bool:
    """Make a conditional `change`. Return whether its condition held."""
    try:
        change()
    except client.exceptions.ConditionalCheckFailedException:
        return False
    return True
