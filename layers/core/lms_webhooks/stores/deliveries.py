"""Store the history of deliveries. No other module reads or writes these items.

| pk                   | sk                                              | what                           |
|----------------------|-------------------------------------------------|--------------------------------|
| DELIVERY#<webhookId> | <13 digits of UTC ms>#<eventId><tab><eventName> | outcome, attempts and event of |
|                      |                                                 | one delivery (TTL)             |

| BODY#<webhookId>     | <13 digits of UTC ms>#<key of an event>         | the start of a failure's body, |
|                      |                                                 | if the webhook keeps it (TTL)  |

A body's key has the time when the attempt began, and the key of the first event that it carried. The bodies
stand apart from attempts, so that they cost webhooks nothing that do not keep them.

The key follows from the event alone, so a redelivered message finds its own record. Earlier
versions left the name out of it. A long id is cut and hashed there, and then an attribute too.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from lms_webhooks.aws.dynamodb import Key, KeyRange, Page, Table, conditional_write, item_key, key_item
from lms_webhooks.errors import AWS_ERRORS
from lms_webhooks.model.attempts import Attempt
from lms_webhooks.model.deliveries import Delivery, DeliveryKey, DeliveryRecord, Outcome
from lms_webhooks.model.events import Event
from lms_webhooks.observability import logger, report
from lms_webhooks.stores.items import (
    IS_NEW_ATTEMPT,
    added_attempt,
    attempts_attribute,
    event_attributes,
    read_attempts,
    read_event_id,
    read_event_item,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

    type Item = dict[str, AttributeValueTypeDef]

_RECORDED = ("event_id", "event_name", "accepted_at", "outcome", "attempts", "reason")
_WRITERS = 16  # conditional writes at once: they have no batch form
# A webhook's history is one partition, which takes 1,000 writes a second. Redeliveries leave most of these,
# and of everything else they share, to live events: they pause after each write for as long as it took. The
# pause is limited, since a drain run has five seconds to record a request of a hundred events.
_MAX_REST_SECONDS = 0.01

type Redelivery = tuple[str, Event, tuple[Attempt, ...]]
"""Webhook id, event, and its attempts while it was pending, which are not in the history yet."""


class DeliveryStore:
    """Read and write the history of every webhook. Safe to share between threads."""

    def __init__(
        self, table: Table, *, retention_days: int, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._table = table
        self._sleep = sleep
        self._retention_seconds = retention_days * 86_400

    def find_delivered(
        self, keys: Iterable[DeliveryKey], *, consistent: bool, require_all: bool = False
    ) -> set[DeliveryKey]:
        """Find which of `keys` are recorded as delivered.

        A key that DynamoDB leaves unread counts as not delivered, unless `require_all` is set.

        Raises:
            AWS_ERRORS: the history could not be read. With `require_all`, also when keys were left unread.
        """
        items = self._table.get_all(
            [_key(webhook_id, sort_key) for webhook_id, sort_key in keys],
            attributes=("outcome",),
            consistent=consistent,
            require_all=require_all,
        )
        return {_delivery_key(item_key(item)) for item in items if _is_delivered(item)}

    def find_recorded(
        self, keys: Iterable[DeliveryKey]
    ) -> "dict[DeliveryKey, tuple[bool, AttributeValueTypeDef | None]]":
        """Find which of `keys` are in the history, for the dispatcher, whose events are seldom there.

        Returns:
            Of each that is, whether it was delivered, and the event's stored text, see `items.read_text`.

        Raises:
            AWS_ERRORS: the history could not be read.
        """
        items = self._table.get_all(
            [_key(webhook_id, sort_key) for webhook_id, sort_key in keys],
            attributes=("outcome", "event"),
            consistent=False,
        )
        return {_delivery_key(item_key(item)): (_is_delivered(item), item.get("event")) for item in items}

    def page(self, webhook_id: str, of: KeyRange, *, limit: int) -> Page[DeliveryRecord]:
        """Return at most `limit` deliveries of a range, newest first, except any that is damaged.

        Raises:
            AWS_ERRORS: the history could not be read.
        """
        page = self._table.page(
            _key(webhook_id, "")[0],
            of,
            limit=limit,
            newest_first=True,
            attributes=_RECORDED,
            consistent=True,
        )
        return Page(list(_readable(page.entries)), page.last_key)

    def scan_oldest_first(
        self, webhook_id: str, of: KeyRange, *, limit: int
    ) -> Page[tuple[DeliveryRecord, Event]]:
        """Return at most `limit` deliveries of a range with their events, oldest first, by a consistent read.

        Raises:
            AWS_ERRORS: the history could not be read.
        """
        page = self._table.page(_key(webhook_id, "")[0], of, limit=limit, newest_first=False, consistent=True)
        return Page(
            [(_recorded(item), read_event_item(item, item["sk"]["S"])) for item in page.entries],
            page.last_key,
        )

    def find(self, webhook_id: str, sort_key: str) -> tuple[DeliveryRecord, Event] | None:
        """Return one delivery with its event, or None when the history has none.

        Raises:
            AWS_ERRORS: the history could not be read.
        """
        response = self._table.client.get_item(
            TableName=self._table.name, Key=key_item(_key(webhook_id, sort_key)), ConsistentRead=True
        )
        item = response.get("Item")
        return (_recorded(item), read_event_item(item, sort_key)) if item else None

    def record(self, deliveries: Sequence[Delivery], *, recorded_at_seconds: int) -> set[DeliveryKey]:
        """Write `deliveries` over any earlier records. Return the keys of those that were not written."""
        expires_at = recorded_at_seconds + self._retention_seconds
        unwritten = self._table.put_all([_item(delivery, expires_at) for delivery in deliveries])
        return {_delivery_key(key) for key in unwritten}

    def record_unless_delivered(
        self, deliveries: Sequence[Delivery], *, recorded_at_seconds: int
    ) -> set[DeliveryKey]:
        """Write `deliveries` that failed or expired, but never over one that is recorded as delivered.

        Returns:
            The keys of those that should have been written and were not.
        """
        expires_at = recorded_at_seconds + self._retention_seconds

        def is_written(delivery: Delivery) -> bool:
            try:
                conditional_write(
                    lambda: self._put_unless_delivered(_item(delivery, expires_at)), self._table.client
                )
            except AWS_ERRORS:
                logger.exception("outcome not written", webhookId=delivery.webhook_id)
                return False
            return True

        with ThreadPoolExecutor(_WRITERS) as writers:
            written = list(writers.map(is_written, deliveries))
        return {delivery.key for delivery, is_done in zip(deliveries, written, strict=True) if not is_done}

    def add_attempt(
        self,
        sent: Sequence[Redelivery],
        attempt: Attempt,
        *,
        is_delivered: bool,
        recorded_at_seconds: int,
        replay_id: str = "",
    ) -> set[DeliveryKey]:
        """Add `attempt` to the deliveries of events that were redelivered, or replayed by `replay_id`.

        A delivery that is recorded as delivered stays so. With `is_delivered`, the others become delivered.
        A rejected event without a record gets none: it is still pending, or its record expired.

        Returns:
            The keys of those that were not written.
        """
        expires_at = recorded_at_seconds + self._retention_seconds

        def is_written(delivery: Redelivery) -> bool:
            try:
                self._add_attempt(
                    *delivery,
                    attempt,
                    is_delivered=is_delivered,
                    expires_at=expires_at,
                    replay_id=replay_id,
                )
            except AWS_ERRORS:
                logger.exception("attempt not added", webhookId=delivery[0])
                return False
            return True

        written: list[bool] = []
        for each in sent:
            began = time.monotonic()
            written.append(is_written(each))
            self._sleep(min(time.monotonic() - began, _MAX_REST_SECONDS))
        return {
            (webhook_id, event.sort_key)
            for (webhook_id, event, _), is_done in zip(sent, written, strict=True)
            if not is_done
        }

    def _add_attempt(
        self,
        webhook_id: str,
        event: Event,
        earlier: tuple[Attempt, ...],
        attempt: Attempt,
        *,
        is_delivered: bool,
        expires_at: int,
        replay_id: str,
    ) -> None:
        key = key_item(_key(webhook_id, event.sort_key))
        values: Item = {":earlier": attempts_attribute(earlier), **added_attempt(attempt)}
        names = {"#attempts": "attempts"}
        update = "SET #attempts = list_append(if_not_exists(#attempts, :earlier), :added), "
        condition = IS_NEW_ATTEMPT
        if replay_id:
            update += "replay_id = :replay, "
            values[":replay"] = {"S": replay_id}
        if is_delivered:
            names["#outcome"] = "outcome"
            values[":outcome"] = {"S": Outcome.DELIVERED}
            values[":expires"] = {"N": str(expires_at)}
            update += "expires_at = if_not_exists(expires_at, :expires), #outcome = :outcome"
            # Its record may have expired since it was read: then this makes a new one.
            for name, value in event_attributes(event).items():
                names[f"#{name}"] = name
                values[f":{name}"] = value
                update += f", #{name} = if_not_exists(#{name}, :{name})"
            update += " REMOVE reason"
        else:
            update = update.removesuffix(", ")
            condition = f"attribute_exists(pk) AND {condition}"
        is_added = conditional_write(
            lambda: self._table.client.update_item(
                TableName=self._table.name,
                Key=key,
                UpdateExpression=update,
                ConditionExpression=condition,
                ExpressionAttributeNames=names,
                ExpressionAttributeValues=values,
            ),
            self._table.client,
        )
        if not is_added and is_delivered:
            # Unless the record was erased, or expired, at this moment.
            conditional_write(
                lambda: self._table.client.update_item(
                    TableName=self._table.name,
                    Key=key,
                    UpdateExpression="SET #outcome = :outcome REMOVE reason",
                    ConditionExpression="attribute_exists(pk)",
                    ExpressionAttributeNames={"#outcome": "outcome"},
                    ExpressionAttributeValues={":outcome": {"S": Outcome.DELIVERED}},
                ),
                self._table.client,
            )

    def keep_body(
        self,
        account_id: str,
        webhook_id: str,
        sort_keys: Sequence[str],
        attempt: Attempt,
        body: str,
        *,
        recorded_at_seconds: int,
    ) -> None:
        """Keep the start of the body of a failed attempt, which carried the events with these `sort_keys`.

        An error of AWS is only logged: it must change nothing that follows from the response.
        """
        item: Item = {
            **key_item(_body_key(webhook_id, attempt.started_at_ms, sort_keys[0])),
            "account_id": {"S": account_id},
            "event_keys": {"L": [{"S": each} for each in sort_keys]},
            "body": {"S": body},
            "expires_at": {"N": str(recorded_at_seconds + self._retention_seconds)},
        }
        try:
            self._table.client.put_item(TableName=self._table.name, Item=item)
        except AWS_ERRORS:
            logger.exception("response body not kept", webhookId=webhook_id)

    def find_bodies(self, webhook_id: str, sort_key: str, attempts: Sequence[Attempt]) -> dict[int, str]:
        """Return the kept bodies of attempts that carried one event alone, by the time of the attempt.

        Raises:
            AWS_ERRORS: the bodies could not be read.
        """
        found: dict[int, str] = {}
        for attempt in attempts:
            response = self._table.client.get_item(
                TableName=self._table.name,
                Key=key_item(_body_key(webhook_id, attempt.started_at_ms, sort_key)),
            )
            if "body" in response.get("Item", {}):
                found[attempt.started_at_ms] = response["Item"]["body"]["S"]
        return found

    def bodies(self, webhook_id: str, *, from_ms: int, to_ms: int, limit: int) -> dict[int, str]:
        """Return the newest `limit` kept bodies of attempts that began between two times, by that time.

        Raises:
            AWS_ERRORS: the bodies could not be read.
        """
        of = KeyRange(f"{from_ms:013d}", f"{to_ms + 1:013d}")
        page = self._table.page(
            f"BODY#{webhook_id}", of, limit=limit, newest_first=True, attributes=("body",)
        )
        return {int(item["sk"]["S"][:13]): item["body"]["S"] for item in page.entries if "body" in item}

    def _put_unless_delivered(self, item: "Item") -> None:
        self._table.client.put_item(
            TableName=self._table.name,
            Item=item,
            ConditionExpression="attribute_not_exists(outcome) OR outcome <> :delivered",
            ExpressionAttributeValues={":delivered": {"S": Outcome.DELIVERED}},
        )


def _key(webhook_id: str, sort_key: str) -> Key:
    return f"DELIVERY#{webhook_id}", sort_key


def _body_key(webhook_id: str, started_at_ms: int, sort_key: str) -> Key:
    return f"BODY#{webhook_id}", f"{started_at_ms:013d}#{sort_key}"


def _is_delivered(item: "Item") -> bool:
    """Return whether the outcome is delivered. A damaged item without an outcome is sent again, not lost."""
    return item.get("outcome") == {"S": Outcome.DELIVERED}


def _delivery_key(key: Key) -> DeliveryKey:
    return key[0].removeprefix("DELIVERY#"), key[1]


def _readable(items: "Iterable[Item]") -> Iterator[DeliveryRecord]:
    """Read deliveries, except any that is damaged or was written by a newer version."""
    for item in items:
        try:
            yield _recorded(item)
        except (KeyError, ValueError) as error:
            report(error, "delivery not read", delivery=item["pk"]["S"], sortKey=item["sk"]["S"])


def _recorded(item: "Item") -> DeliveryRecord:
    return DeliveryRecord(
        sort_key=item["sk"]["S"],
        event_id=read_event_id(item, item["sk"]["S"]),
        event_name=item["event_name"]["S"],
        accepted_at_ms=int(item["accepted_at"]["N"]),
        outcome=Outcome(item["outcome"]["S"]),
        attempts=read_attempts(item["attempts"]),
        reason=item["reason"]["S"] if "reason" in item else "",
        replay_id=item["replay_id"]["S"] if "replay_id" in item else "",
    )


def _item(delivery: Delivery, expires_at: int) -> "Item":
    item: Item = {
        **key_item(_key(*delivery.key)),
        **event_attributes(delivery.event),
        "outcome": {"S": delivery.outcome.value},
        "attempts": attempts_attribute(delivery.attempts),
        "expires_at": {"N": str(expires_at)},
    }
    if delivery.reason:
        item["reason"] = {"S": delivery.reason}
    return item
