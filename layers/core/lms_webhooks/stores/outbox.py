"""Store the notifications for the owners of webhooks: one fails, was disabled, or works again.

| pk                 | sk                     | what                                                     |
|--------------------|------------------------|----------------------------------------------------------|
| NOTICE#<webhookId> | <what, since when>     | this notification was put, so it is not put twice (TTL)  |
| NOTICES            | <when>#<webhookId>#... | a notification that is still to be sent, oldest first    |

The drainer writes both in one transaction, before it gives the lease back. The sweep sends and removes what
is to be sent. If the admin changed the webhook since, the sweep removes the notification unsent. It is out
of date then, or never came true: after such a change, the health that the drainer computed is not written.
"""

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from lms_webhooks.aws.dynamodb import Key, Table, key_item, transact
from lms_webhooks.model.notifications import Notification, NotificationKind
from lms_webhooks.observability import report

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef, TransactWriteItemTypeDef

    type Item = dict[str, AttributeValueTypeDef]

_KEPT_SECONDS = 90 * 86_400  # far longer than any failure goes on
PAGE_SIZE = 100  # a sweep: publishing takes about 20 ms each, and the next sweep is a minute away
_LOOKED_AT = 1000  # where many cannot be sent, those behind them still can


class NotificationOutbox:
    """The notifications of every webhook that are still to be sent."""

    def __init__(self, table: Table, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._table = table
        self._sleep = sleep

    def put(self, notification: Notification) -> bool:
        """Store `notification` for the sweep to send, unless it was put before. Return whether it is new.

        Raises:
            AWS_ERRORS, Contention: it may not have been written; the next drainer puts the same one.
        """
        once: Item = {
            **key_item((f"NOTICE#{notification.webhook_id}", notification.key)),
            "expires_at": {"N": str(notification.at_ms // 1000 + _KEPT_SECONDS)},
        }
        put_once: TransactWriteItemTypeDef = {
            "Put": {
                "TableName": self._table.name,
                "Item": once,
                "ConditionExpression": "attribute_not_exists(pk)",
            }
        }
        put_it: TransactWriteItemTypeDef = {
            "Put": {"TableName": self._table.name, "Item": _item(notification)}
        }
        return not transact(self._table.client, [put_once, put_it], sleep=self._sleep)

    def read(self) -> Iterator[list[Notification]]:
        """Return the notifications that are still to be sent, in pages."""
        pages = self._table.client.get_paginator("query").paginate(
            TableName=self._table.name,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": "NOTICES"}},
            PaginationConfig={"PageSize": PAGE_SIZE, "MaxItems": _LOOKED_AT},
        )
        for page in pages:
            yield [each for item in page["Items"] if (each := _read_notification(item)) is not None]

    def remove(self, notification: Notification) -> None:
        """Remove a notification that was sent or is out of date."""
        self._table.client.delete_item(TableName=self._table.name, Key=key_item(_place(notification)))


def _place(notification: Notification) -> Key:
    return "NOTICES", f"{notification.at_ms:013d}#{notification.webhook_id}#{notification.key}"


def _item(notification: Notification) -> "Item":
    return {
        **key_item(_place(notification)),
        "account_id": {"S": notification.account_id},
        "webhook_id": {"S": notification.webhook_id},
        "webhook_name": {"S": notification.name},
        "kind": {"S": notification.kind.stored},
        "key": {"S": notification.key},
        "epoch": {"N": str(notification.epoch)},
        "at": {"N": str(notification.at_ms)},
        "since": {"N": str(notification.since_ms)},
        "last_error": {"S": notification.last_error},
    }


def _read_notification(item: "Item") -> Notification | None:
    """Return the notification of an item, or None where this version cannot read it. The item stays."""
    try:
        return _notification(item)
    except Exception as error:  # noqa: BLE001  # a damaged item must not stop the others
        report(error, "notification not read", webhookId=str(item.get("webhook_id", {}).get("S")))
        return None


def _notification(item: "Item") -> Notification:
    return Notification(
        account_id=item["account_id"]["S"],
        webhook_id=item["webhook_id"]["S"],
        name=item["webhook_name"]["S"],
        kind=NotificationKind.read(item["kind"]["S"]),
        key=item["key"]["S"],
        epoch=int(item["epoch"]["N"]),
        at_ms=int(item["at"]["N"]),
        since_ms=int(item["since"]["N"]),
        last_error=item["last_error"]["S"],
    )
