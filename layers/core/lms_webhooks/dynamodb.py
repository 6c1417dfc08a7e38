"""Read and write many items of a table at once, and see to it that the whole of it happened.

botocore retries calls that DynamoDB refuses, but not the items that an accepted call leaves unprocessed.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import batched
from typing import TYPE_CHECKING

from lms_webhooks.aws import AWS_FAULTS
from lms_webhooks.observability import logger

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import (
        AttributeValueTypeDef,
        KeysAndAttributesTypeDef,
        WriteRequestTypeDef,
    )

    type Item = dict[str, AttributeValueTypeDef]

type Key = tuple[str, str]
"""pk and sk."""

_GET_LIMIT = 100  # BatchGetItem
_WRITE_LIMIT = 25  # BatchWriteItem
_TRIES = 5
_FIRST_WAIT_SECONDS = 0.05


class Table:
    """One table with the keys `pk` and `sk`. Safe to share between threads."""

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
    ) -> "list[Item]":
        """The items that exist of `keys`, in no order, with their keys and `attributes`.

        `names` says what stands for an attribute whose name is a reserved word.

        Raises:
            aws.AWS_FAULTS: DynamoDB did not answer.
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
                answer = self.client.batch_get_item(RequestItems={self.name: {**wanted, "Keys": asked}})
                found += answer["Responses"].get(self.name, [])
                unread = answer.get("UnprocessedKeys", {}).get(self.name)
                asked = list(unread["Keys"]) if unread else []
                if not asked:
                    break
            # What stays unread counts as absent: a second send is allowed, a lost event is not.
        return found

    def put_all(self, items: "Sequence[Item]") -> set[Key]:
        """Write `items`, each with a key of its own; answer the keys of those that were not written."""
        return self._write({item_key(item): {"PutRequest": {"Item": item}} for item in items})

    def delete_all(self, keys: Sequence[Key]) -> set[Key]:
        """Delete what stands at `keys`; answer those where it may still stand."""
        return self._write({key: {"DeleteRequest": {"Key": key_item(key)}} for key in keys})

    def _write(self, requests: "dict[Key, WriteRequestTypeDef]") -> set[Key]:
        unwritten: set[Key] = set()
        for chunk in batched(requests, _WRITE_LIMIT, strict=False):
            left = set(chunk)
            try:
                for tried in range(_TRIES):
                    self._wait(tried)
                    answer = self.client.batch_write_item(
                        RequestItems={self.name: [requests[key] for key in chunk if key in left]}
                    )
                    left = {
                        item_key(
                            request["PutRequest"]["Item"]
                            if "PutRequest" in request
                            else request["DeleteRequest"]["Key"]
                        )
                        for request in answer.get("UnprocessedItems", {}).get(self.name, [])
                    }
                    if not left:
                        break
            except AWS_FAULTS:
                logger.exception("items not written", table=self.name)
            unwritten |= left
        return unwritten

    def _wait(self, tried: int) -> None:
        if tried:
            self._sleep(random.uniform(0, _FIRST_WAIT_SECONDS * 2**tried))


def key_item(key: Key) -> "Item":
    """`key` as DynamoDB writes it."""
    return {"pk": {"S": key[0]}, "sk": {"S": key[1]}}


def item_key(item: "Item") -> Key:
    """The key of `item`."""
    return item["pk"]["S"], item["sk"]["S"]


def holds(change: Callable[[], object], client: "DynamoDBClient") -> bool:
    """Make a conditional `change`; answer whether its condition held."""
    try:
        change()
    except client.exceptions.ConditionalCheckFailedException:
        return False
    return True
