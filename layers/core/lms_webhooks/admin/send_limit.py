"""Bound how often an account has something sent: the only module that reads or writes these items.

| pk                | sk    | what                                                           |
|-------------------|-------|----------------------------------------------------------------|
| LIMIT#<accountId> | SENDS | when the account had something sent, in the last minute (TTL)  |

A test send is a request to an address of the admin's choice, and who is to be mailed notices is mailed a link
first. Neither must become a way to send many.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from lms_webhooks.dynamodb import Table, holds, key_item
from lms_webhooks.problems import Busy, TooManySends

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

    type Item = dict[str, AttributeValueTypeDef]

SENDS_A_MINUTE = 10
_WINDOW_MS = 60_000
_TRIES = 2 * SENDS_A_MINUTE  # of those who collide one gets through each time, and at most ten may


class SendLimit:
    """Ten sends in any 60 seconds, for each account."""

    def __init__(self, table: Table, *, clock: Callable[[], float] = time.time) -> None:
        self._table = table
        self._clock = clock

    def take(self, account_id: str) -> None:
        """Count one more.

        Raises:
            TooManySends: the account has made its ten; says when the next is allowed.
            Busy: others of the account count at the same moment, again and again.
        """
        key = key_item((f"LIMIT#{account_id}", "SENDS"))
        for _ in range(_TRIES):
            now_ms = int(self._clock() * 1000)
            answer = self._table.client.get_item(TableName=self._table.name, Key=key, ConsistentRead=True)
            item = answer.get("Item")
            made_ms = [int(each["N"]) for each in item["made_at"]["L"]] if item else []
            recent_ms = [each for each in made_ms if each > now_ms - _WINDOW_MS]
            if len(recent_ms) >= SENDS_A_MINUTE:
                wait_ms = min(recent_ms) + _WINDOW_MS - now_ms
                raise TooManySends(SENDS_A_MINUTE, -(-wait_ms // 1000))
            if self._save(key, [*recent_ms, now_ms], expected=item):
                return
        raise Busy

    def _save(self, key: "Item", made_ms: list[int], *, expected: "Item | None") -> bool:
        made: AttributeValueTypeDef = {"L": [{"N": str(each)} for each in made_ms]}
        item: Item = {
            **key,
            "made_at": made,
            "expires_at": {"N": str((made_ms[-1] + _WINDOW_MS) // 1000 + 1)},
        }
        if expected is None:
            return holds(
                lambda: self._table.client.put_item(
                    TableName=self._table.name, Item=item, ConditionExpression="attribute_not_exists(pk)"
                ),
                self._table.client,
            )
        return holds(
            lambda: self._table.client.put_item(
                TableName=self._table.name,
                Item=item,
                ConditionExpression="made_at = :expected",
                ExpressionAttributeValues={":expected": expected["made_at"]},
            ),
            self._table.client,
        )
