"""Bound how often an account has something sent: the only module that reads or writes these items.

| pk                | sk    | what                                                           |
|-------------------|-------|----------------------------------------------------------------|
| LIMIT#<accountId> | SENDS | when the account had something sent, in the last minute (TTL)  |

Whatever makes the system send at an admin's word counts here. Requests go to an address of the admin's
choice, and people are mailed a link before they are mailed notices. Neither must become a way to send many,
or to try many addresses. Deliveries are not counted: they never come by here.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from lms_webhooks.dynamodb import Table, holds, key_item
from lms_webhooks.problems import Busy, KeyInUse, TooManySends

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef, PutTypeDef, TransactWriteItemTypeDef

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
        for _ in range(_TRIES):
            if self._save(self._one_more(account_id, over=self._item(account_id))):
                return
        raise Busy

    def take_along[T](self, account_id: str, act: "Callable[[TransactWriteItemTypeDef], T]") -> T:
        """Have `act` count one more in the transaction in which it acts: what is refused does not count.

        Where only the count was in the way, since others of the account counted meanwhile, it acts again.

        Raises:
            TooManySends, Busy: as `take`. What `act` raises comes through.
        """
        refusal: KeyInUse | None = None
        before: Item | None = None
        for _ in range(_TRIES):
            item = self._item(account_id)
            if refusal is not None and item == before:
                raise refusal  # by what else was written along
            try:
                return act({"Put": self._one_more(account_id, over=item)})
            except KeyInUse as error:
                refusal, before = error, item
        raise Busy

    def _item(self, account_id: str) -> "Item | None":
        return self._table.client.get_item(
            TableName=self._table.name, Key=_key(account_id), ConsistentRead=True
        ).get("Item")

    def _one_more(self, account_id: str, *, over: "Item | None") -> "PutTypeDef":
        """What writes one more down, if it still says what is `over`."""
        now_ms = int(self._clock() * 1000)
        made_ms = [int(each["N"]) for each in over["made_at"]["L"]] if over else []
        recent_ms = [each for each in made_ms if each > now_ms - _WINDOW_MS]
        if len(recent_ms) >= SENDS_A_MINUTE:
            wait_ms = min(recent_ms) + _WINDOW_MS - now_ms
            raise TooManySends(SENDS_A_MINUTE, -(-wait_ms // 1000))
        put: PutTypeDef = {
            "TableName": self._table.name,
            "Item": {
                **_key(account_id),
                "made_at": {"L": [{"N": str(each)} for each in (*recent_ms, now_ms)]},
                "expires_at": {"N": str((now_ms + _WINDOW_MS) // 1000 + 1)},
            },
            "ConditionExpression": "attribute_not_exists(pk)",
        }
        if over is not None:
            put["ConditionExpression"] = "made_at = :expected"
            put["ExpressionAttributeValues"] = {":expected": over["made_at"]}
        return put

    def _save(self, put: "PutTypeDef") -> bool:
        return holds(lambda: self._table.client.put_item(**put), self._table.client)


def _key(account_id: str) -> "Item":
    return key_item((f"LIMIT#{account_id}", "SENDS"))
