"""Tell the owners of a webhook that it fails, was switched off, or does well again.

| pk                 | sk                     | what                                                   |
|--------------------|------------------------|--------------------------------------------------------|
| NOTICE#<webhookId> | <what, since when>     | that this was to be told: so it is told once (TTL)     |
| NOTICES            | <when>#<webhookId>#... | what is still to be told, oldest first                 |

The drainer, who alone knows, writes both in one transaction before it gives the lease back. The sweep sends
what is to be told, and removes it; unless the admin changed the webhook since, for then it is old news, or
never came true: what the drainer learnt is not written after such a change.
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
PAGE_SIZE = 100  # notices a sweep: publishing takes some 20 ms each, and the next sweep is a minute away
_LOOKED_AT = 1000  # where many cannot be told, those behind them still can


class NotificationOutbox:
    """What is to be told of every webhook."""

    def __init__(self, table: Table, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._table = table
        self._sleep = sleep

    def put(self, notice: Notification) -> bool:
        """Have `notice` told, unless it was put before; answer whether it is new.

        Raises:
            AWS_ERRORS, Busy: it may not have been written; the next drainer finds the same to tell.
        """
        told: Item = {
            **key_item((f"NOTICE#{notice.webhook_id}", notice.key)),
            "expires_at": {"N": str(notice.at_ms // 1000 + _KEPT_SECONDS)},
        }
        put_told: TransactWriteItemTypeDef = {
            "Put": {
                "TableName": self._table.name,
                "Item": told,
                "ConditionExpression": "attribute_not_exists(pk)",
            }
        }
        put_it: TransactWriteItemTypeDef = {"Put": {"TableName": self._table.name, "Item": _item(notice)}}
        return not transact(self._table.client, [put_told, put_it], sleep=self._sleep)

    def read(self) -> Iterator[list[Notification]]:
        """What is still to be told, some at a time."""
        pages = self._table.client.get_paginator("query").paginate(
            TableName=self._table.name,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": "NOTICES"}},
            PaginationConfig={"PageSize": PAGE_SIZE, "MaxItems": _LOOKED_AT},
        )
        for page in pages:
            yield [notice for item in page["Items"] if (notice := _read_notice(item)) is not None]

    def remove(self, notice: Notification) -> None:
        """It has been told."""
        self._table.client.delete_item(TableName=self._table.name, Key=key_item(_place(notice)))


def _place(notice: Notification) -> Key:
    return "NOTICES", f"{notice.at_ms:013d}#{notice.webhook_id}#{notice.key}"


def _item(notice: Notification) -> "Item":
    return {
        **key_item(_place(notice)),
        "account_id": {"S": notice.account_id},
        "webhook_id": {"S": notice.webhook_id},
        "webhook_name": {"S": notice.name},
        "kind": {"S": notice.kind.stored},
        "key": {"S": notice.key},
        "epoch": {"N": str(notice.epoch)},
        "at": {"N": str(notice.at_ms)},
        "since": {"N": str(notice.since_ms)},
        "last_error": {"S": notice.last_error},
    }


def _read_notice(item: "Item") -> Notification | None:
    """The notice of an item; None where this version cannot read it. That item stays as it is."""
    try:
        return _notice(item)
    except Exception as error:  # noqa: BLE001  # whatever is in it, it costs no other notice
        report(error, "notice not read", webhookId=str(item.get("webhook_id", {}).get("S")))
        return None


def _notice(item: "Item") -> Notification:
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
