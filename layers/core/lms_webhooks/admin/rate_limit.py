"""Limit how often an account makes the system send: the only module that reads or writes these items.

| pk                           | sk           | what                                                        |
|------------------------------|--------------|-------------------------------------------------------------|
| LIMIT#<accountId>            | SENDS        | its sends in the last minute (TTL)                          |
| LIMIT#<accountId>            | MAILS#<date> | how many links it had mailed on that day, in UTC (TTL)      |
| LIMIT#MAIL#<hash of address> | MAILS#<date> | how many links were mailed there, for all accounts (TTL)    |

No account id has a # in it.

Each call that makes the system send counts here. Requests go to an address of the admin's choice, and people
get a mail with a link before they get notifications. Neither must become a way to send many, or to try many
addresses. Deliveries are not counted.

A link goes to a person who did not ask for it. So links are counted by the day, by account and by mailbox.
"""

import hashlib
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from lms_webhooks.admin.problems import MailLimitExceeded, RateLimited
from lms_webhooks.aws.dynamodb import Key, Table, conditional_write, key_item, transact
from lms_webhooks.errors import Contention, IdempotencyInProgress

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef, PutTypeDef, TransactWriteItemTypeDef

    type Item = dict[str, AttributeValueTypeDef]

SENDS_A_MINUTE = 10
MAILS_A_DAY = 20  # of an account: each of ten people, and each once more
MAILS_TO_ONE_A_DAY = 3  # of all accounts: the first, one that was lost, one that ended meanwhile
_WINDOW_MS = 60_000
_TRIES = 2 * SENDS_A_MINUTE  # of calls that collide one succeeds each time, and at most ten may


class SendRateLimit:
    """Ten sends in any 60 seconds, for each account."""

    def __init__(self, table: Table, *, clock: Callable[[], float] = time.time) -> None:
        self._table = table
        self._clock = clock

    def consume(self, account_id: str) -> None:
        """Count one more send.

        Raises:
            RateLimited: the account has made its ten; says when the next is allowed.
            Contention: other calls of the account count at the same moment, again and again.
        """
        for _ in range(_TRIES):
            if self._save(self._one_more(account_id, over=self._item(account_id))):
                return
        raise Contention

    def consume_with[T](self, account_id: str, act: "Callable[[TransactWriteItemTypeDef], T]") -> T:
        """Run `act` with the write that counts a send, for its transaction. Refused calls do not count.

        If only the count has changed meanwhile, this runs `act` again.

        Raises:
            RateLimited, Contention: as `consume`. What `act` raises comes through.
        """
        refusal: IdempotencyInProgress | None = None
        before: Item | None = None
        for _ in range(_TRIES):
            item = self._item(account_id)
            if refusal is not None and item == before:
                raise refusal  # the other writes of the transaction caused it
            try:
                return act({"Put": self._one_more(account_id, over=item)})
            except IdempotencyInProgress as error:
                refusal, before = error, item
        raise Contention

    def consume_mail(self, account_id: str, address: str) -> None:
        """Count one link that is mailed to `address`.

        Raises:
            MailLimitExceeded: so many were mailed today, to this mailbox or for this account.
            Contention: as `consume`.
        """
        now = datetime.fromtimestamp(self._clock(), UTC)
        next_day = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        day = f"MAILS#{now:%Y-%m-%d}"
        limits = {
            (f"LIMIT#{account_id}", day): MAILS_A_DAY,
            (f"LIMIT#MAIL#{_mailbox_hash(address)}", day): MAILS_TO_ONE_A_DAY,
        }
        refused = transact(
            self._table.client,
            [self._one_mail_more(key, limit, end=next_day) for key, limit in limits.items()],
        )
        if refused:
            raise MailLimitExceeded(
                MAILS_TO_ONE_A_DAY, MAILS_A_DAY, math.ceil((next_day - now).total_seconds())
            )

    def _one_mail_more(self, key: Key, limit: int, *, end: datetime) -> "TransactWriteItemTypeDef":
        return {
            "Update": {
                "TableName": self._table.name,
                "Key": key_item(key),
                "UpdateExpression": "ADD made :one SET expires_at = :end",
                "ConditionExpression": "attribute_not_exists(made) OR made < :limit",
                "ExpressionAttributeValues": {
                    ":one": {"N": "1"},
                    ":end": {"N": str(int(end.timestamp()))},
                    ":limit": {"N": str(limit)},
                },
            }
        }

    def _item(self, account_id: str) -> "Item | None":
        return self._table.client.get_item(
            TableName=self._table.name, Key=_key(account_id), ConsistentRead=True
        ).get("Item")

    def _one_more(self, account_id: str, *, over: "Item | None") -> "PutTypeDef":
        """Return the write that counts one more send, if the item is still `over`."""
        now_ms = int(self._clock() * 1000)
        made_ms = [int(each["N"]) for each in over["made_at"]["L"]] if over else []
        recent_ms = [each for each in made_ms if each > now_ms - _WINDOW_MS]
        if len(recent_ms) >= SENDS_A_MINUTE:
            wait_ms = min(recent_ms) + _WINDOW_MS - now_ms
            raise RateLimited(SENDS_A_MINUTE, -(-wait_ms // 1000))
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
        return conditional_write(lambda: self._table.client.put_item(**put), self._table.client)


def _key(account_id: str) -> "Item":
    return key_item((f"LIMIT#{account_id}", "SENDS"))


def _mailbox_hash(address: str) -> str:
    """Return one hash for all spellings that common providers put in one mailbox.

    They ignore what follows a +, and Google the dots too. At other hosts e.v.e and eve may be two people, who
    then share three links a day.
    """
    local, _, host = address.rpartition("@")
    name = local[:1] + local[1:].partition("+")[0]
    host = {"googlemail.com": "gmail.com"}.get(host, host)
    return hashlib.sha256(f"{name.replace('.', '')}@{host}".encode()).hexdigest()
