"""Know when batches go out next: the only module that reads or writes this item.

| pk       | sk    | what                                            |
|----------|-------|-------------------------------------------------|
| SCHEDULE | BATCH | when the schedule last opened the batch lanes   |
"""

import re

from lms_webhooks.dynamodb import Table, key_item

_KEY = key_item(("SCHEDULE", "BATCH"))
_RATE = re.compile(r"rate\(([1-9][0-9]{0,4}) (minute|hour|day)s?\)")
_UNIT_MS = {"minute": 60_000, "hour": 3_600_000, "day": 86_400_000}


class BatchSchedule:
    """When batch lanes are opened."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def note_opening(self, now_ms: int) -> None:
        """Remember that they are opened now."""
        self._table.client.update_item(
            TableName=self._table.name,
            Key=_KEY,
            UpdateExpression="SET opened_at = :now",
            ExpressionAttributeValues={":now": {"N": str(now_ms)}},
        )

    def next_opening_ms(self, expression: str, *, now_ms: int) -> int | None:
        """When they are opened next by a schedule's `expression`.

        None when that cannot be told: before the first time, and for a `cron(...)`.
        """
        rate = _RATE.fullmatch(expression)
        item = self._table.client.get_item(TableName=self._table.name, Key=_KEY).get("Item")
        if rate is None or item is None:
            return None
        period_ms = int(rate[1]) * _UNIT_MS[rate[2]]
        opened_at_ms = int(item["opened_at"]["N"])
        return opened_at_ms + max(1, -((opened_at_ms - now_ms) // period_ms)) * period_ms
