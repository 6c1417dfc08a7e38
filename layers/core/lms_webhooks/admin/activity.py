"""Keep who changed what in an account, for 90 days: the only module for these items.

| pk                   | sk                          | what                               |
|----------------------|-----------------------------|------------------------------------|
| ACTIVITY#<accountId> | <13 digits of UTC ms>#<tag> | one change that an admin made (TTL) |

No account id has a # in it.

The log has the same and more, for operators. It comes first: when this cannot be written, the change is made
all the same, and the log has it.
"""

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lms_webhooks.admin.caller import Caller, Change
from lms_webhooks.admin.query_parameters import read_activity_query, write_cursor
from lms_webhooks.aws.dynamodb import KeyRange, Table, key_item
from lms_webhooks.errors import AWS_ERRORS
from lms_webhooks.observability import logger, report

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

    type Item = dict[str, AttributeValueTypeDef]

KEPT_DAYS = 90
_KEPT_MS = KEPT_DAYS * 86_400_000
_READ_OF_FILTERED = 500  # changes, of which few may be about the webhook that is asked for


@dataclass(frozen=True, slots=True)
class Activity:
    """One change, and who made it when."""

    sort_key: str
    at_ms: int
    by: str
    change: Change


@dataclass(frozen=True, slots=True)
class ActivityPage:
    """Some changes, newest first. A short page need not be the last."""

    activities: list[Activity]
    next_cursor: str | None


class ActivityStore:
    """The changes of every account."""

    def __init__(self, table: Table, *, clock: Callable[[], float] = time.time) -> None:
        self._table = table
        self._clock = clock

    def record(self, caller: Caller) -> None:
        """Write what the call of `caller` changed. An error of AWS is only logged: the change is made."""
        now_ms = int(self._clock() * 1000)
        for change in caller.changes:
            try:
                self._table.client.put_item(
                    TableName=self._table.name, Item=_item(caller, change, now_ms, secrets.token_hex(4))
                )
            except AWS_ERRORS:
                logger.exception("activity not written", action=change.action)

    def page(self, caller: Caller, given: Mapping[str, str]) -> ActivityPage:
        """Return the newest changes of the caller's account that the parameters ask for.

        Raises:
            InvalidParameters: with an error for each that breaks its rule.
        """
        query = read_activity_query(given, account_id=caller.account_id)
        # TTL deletes late.
        first = f"{int(self._clock() * 1000) - _KEPT_MS:013d}"
        of = KeyRange(max(first, query.key_range.start), max(first, query.key_range.end))
        page = self._table.page(
            f"ACTIVITY#{caller.account_id}",
            of,
            limit=query.limit if query.webhook_id is None else _READ_OF_FILTERED,
            newest_first=True,
            consistent=True,
        )
        matching = [
            each
            for each in _activities(page.entries)
            if query.webhook_id is None or each.change.ids.get("webhookId") == query.webhook_id
        ]
        last_key = page.last_key
        if len(matching) > query.limit:
            last_key = matching[query.limit - 1].sort_key
        cursor = None if last_key is None else write_cursor(query.filters, last_key)
        return ActivityPage(matching[: query.limit], cursor)


def _item(caller: Caller, change: Change, now_ms: int, tag: str) -> "Item":
    return {
        **key_item((f"ACTIVITY#{caller.account_id}", f"{now_ms:013d}#{tag}")),
        "action": {"S": change.action},
        "changed_by": {"S": caller.user_id},
        "changed": {"L": [{"S": name} for name in change.changed]},
        "ids": {"M": {name: {"S": value} for name, value in change.ids.items()}},
        "expires_at": {"N": str((now_ms + _KEPT_MS) // 1000)},
    }


def _activities(items: "Iterable[Item]") -> Iterator[Activity]:
    """Read changes, except any that is damaged."""
    for item in items:
        try:
            yield _activity(item)
        except (KeyError, ValueError) as error:
            report(error, "activity not read", sortKey=item["sk"]["S"])


def _activity(item: "Item") -> Activity:
    return Activity(
        sort_key=item["sk"]["S"],
        at_ms=int(item["sk"]["S"].partition("#")[0]),
        by=item["changed_by"]["S"],
        change=Change(
            action=item["action"]["S"],
            changed=tuple(each["S"] for each in item["changed"]["L"]),
            ids={name: value["S"] for name, value in item["ids"]["M"].items()},
        ),
    )
