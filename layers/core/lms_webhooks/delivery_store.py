"""Keep the history of deliveries: the only module that reads or writes these items.

| pk                   | sk                              | what                                              |
|----------------------|---------------------------------|---------------------------------------------------|
| DELIVERY#<webhookId> | <13 digits of UTC ms>#<eventId> | outcome, attempts and event of one delivery (TTL) |

The key follows from the event alone, so a message that arrives twice meets its own record.
"""

import random
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import batched
from typing import TYPE_CHECKING

from lms_webhooks.aws import AWS_FAULTS
from lms_webhooks.events import Event
from lms_webhooks.observability import logger

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

    type Item = dict[str, AttributeValueTypeDef]

_GET_LIMIT = 100  # BatchGetItem
_WRITE_LIMIT = 25  # BatchWriteItem
_TRIES = 5
_FIRST_WAIT_SECONDS = 0.05
_COMPRESS_FROM_BYTES = 512  # below, zlib's header and a binary attribute win nothing worth the time

type DeliveryKey = tuple[str, str]
"""Webhook id and sort key of the event."""


class Outcome(StrEnum):
    """How a delivery ended."""

    DELIVERED = "delivered"
    FAILED = "failed"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One POST that carried the event: when it began, and what came of it."""

    started_at_ms: int
    latency_ms: int
    status_code: int | None
    error_class: str | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one webhook, with its outcome."""

    webhook_id: str
    event: Event
    outcome: Outcome
    attempts: tuple[Attempt, ...]
    reason: str = ""

    @property
    def key(self) -> DeliveryKey:
        return self.webhook_id, self.event.sort_key


class DeliveryStore:
    """The history of every webhook. Safe to share between threads."""

    def __init__(
        self,
        client: "DynamoDBClient",
        table_name: str,
        *,
        retention_days: int,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._table_name = table_name
        self._retention_seconds = retention_days * 86_400
        self._sleep = sleep

    def find_delivered(self, keys: Iterable[DeliveryKey], *, consistent: bool) -> set[DeliveryKey]:
        """Which of `keys` are recorded as delivered.

        Raises:
            aws.AWS_FAULTS: DynamoDB did not answer.
        """
        delivered: set[DeliveryKey] = set()
        for chunk in batched(dict.fromkeys(keys), _GET_LIMIT, strict=False):
            asked = [_key(webhook_id, sort_key) for webhook_id, sort_key in chunk]
            for tried in range(_TRIES):
                self._wait(tried)
                answer = self._client.batch_get_item(
                    RequestItems={
                        self._table_name: {
                            "Keys": asked,
                            "ProjectionExpression": "pk, sk, outcome",
                            "ConsistentRead": consistent,
                        }
                    }
                )
                for item in answer["Responses"].get(self._table_name, []):
                    if item["outcome"]["S"] == Outcome.DELIVERED:
                        delivered.add(_key_of(item))
                unread = answer.get("UnprocessedKeys", {}).get(self._table_name)
                asked = list(unread["Keys"]) if unread else []
                if not asked:
                    break
            # What stays unread counts as not delivered: a second send is allowed, a lost event is not.
        return delivered

    def record(self, deliveries: Sequence[Delivery], *, recorded_at_seconds: int) -> set[DeliveryKey]:
        """Write `deliveries`; answer the keys of those that DynamoDB did not take."""
        unwritten: set[DeliveryKey] = set()
        expires_at = recorded_at_seconds + self._retention_seconds
        for chunk in batched(deliveries, _WRITE_LIMIT, strict=False):
            left = {delivery.key: _item(delivery, expires_at) for delivery in chunk}
            try:
                for tried in range(_TRIES):
                    self._wait(tried)
                    answer = self._client.batch_write_item(
                        RequestItems={
                            self._table_name: [{"PutRequest": {"Item": item}} for item in left.values()]
                        }
                    )
                    unprocessed = answer.get("UnprocessedItems", {}).get(self._table_name, [])
                    keys = {_key_of(request["PutRequest"]["Item"]) for request in unprocessed}
                    left = {key: item for key, item in left.items() if key in keys}
                    if not left:
                        break
            except AWS_FAULTS:
                logger.exception("history not written")
            unwritten.update(left)
        return unwritten

    def _wait(self, tried: int) -> None:
        """Botocore retries refused calls, but not the items that an accepted call leaves unprocessed."""
        if tried:
            self._sleep(random.uniform(0, _FIRST_WAIT_SECONDS * 2**tried))


def _key(webhook_id: str, sort_key: str) -> "Item":
    return {"pk": {"S": f"DELIVERY#{webhook_id}"}, "sk": {"S": sort_key}}


def _key_of(item: "Item") -> DeliveryKey:
    return item["pk"]["S"].removeprefix("DELIVERY#"), item["sk"]["S"]


def _item(delivery: Delivery, expires_at: int) -> "Item":
    event = delivery.event
    item: Item = {
        **_key(delivery.webhook_id, event.sort_key),
        "account_id": {"S": event.account_id},
        "event_name": {"S": event.event_name},
        "outcome": {"S": delivery.outcome.value},
        "accepted_at": {"N": str(event.accepted_at_ms)},
        "attempts": {"L": [_attempt_item(attempt) for attempt in delivery.attempts]},
        "event": _text_attribute(event.text),
        "expires_at": {"N": str(expires_at)},
    }
    if delivery.reason:
        item["reason"] = {"S": delivery.reason}
    return item


def _attempt_item(attempt: Attempt) -> "AttributeValueTypeDef":
    fields: Item = {"at": {"N": str(attempt.started_at_ms)}, "ms": {"N": str(attempt.latency_ms)}}
    if attempt.status_code is not None:
        fields["status"] = {"N": str(attempt.status_code)}
    if attempt.error_class is not None:
        fields["error"] = {"S": attempt.error_class}
    return {"M": fields}


def _text_attribute(text: str) -> "AttributeValueTypeDef":
    """As it is, or compressed where that is smaller: a written KB costs as much as a whole delivery."""
    plain = text.encode()
    if len(plain) >= _COMPRESS_FROM_BYTES:
        compressed = zlib.compress(plain)
        if len(compressed) < len(plain):
            return {"B": compressed}
    return {"S": text}
