"""The two tables, and a client before them that lets a test play DynamoDB's or SQS's part in single calls."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from botocore.exceptions import ClientError
from moto import mock_aws

from lms_webhooks.aws.dynamodb import Table, item_key
from lms_webhooks.model.events import Event
from lms_webhooks.model.webhooks import NoAuthentication, Status, Webhook
from tests.engines.dynamodb import Engine
from tests.unit.admin_client import make_table

NOW_MS = 1_793_707_200_000  # 2026-11-03 12:00
DAY_MS = 86_400_000


class Throttled(ClientError):
    """What DynamoDB and SQS raise when they have too much to do.

    A class, not one error: what is raised again keeps every traceback before, so that each log takes longer.
    """

    def __init__(self) -> None:
        super().__init__({"Error": {"Code": "ThrottlingException", "Message": "slow down"}}, "any")


class Before:
    """Stands before a client. Counts the calls, and gives those of `answers` to the test instead."""

    def __init__(self, client: Any, **answers: Callable[..., Any]) -> None:
        self.behind = client
        self.answers = answers
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.behind, name)
        if not callable(found) or name == "get_paginator":
            return found

        def call(*arguments: Any, **request: Any) -> Any:
            self.calls[name] += 1
            return self.answers.get(name, found)(*arguments, **request)

        return call


class Fails:
    """Raises a fault at the calls of these numbers, counted from 1; at every call where there are none."""

    def __init__(self, call: Callable[..., Any], *numbers: int) -> None:
        self._call = call
        self._numbers = numbers
        self._count = 0

    def __call__(self, *arguments: Any, **request: Any) -> Any:
        self._count += 1
        if not self._numbers or self._count in self._numbers:
            raise Throttled
        return self._call(*arguments, **request)


@contextmanager
def tables(dynamodb: Engine) -> Iterator[tuple[Table, Table]]:
    """The webhooks and the deliveries table, empty, behind a `Before`. Nothing waits."""
    with mock_aws(), dynamodb() as behind:
        client: Any = Before(behind)
        for name in ("webhooks", "deliveries"):
            make_table(client.behind, name)
        yield (
            Table(client, "webhooks", sleep=lambda _: None),
            Table(client, "deliveries", sleep=lambda _: None),
        )


def before(table: Table) -> Before:
    """What stands before the client of a table that `tables` made."""
    client: Any = table.client
    assert isinstance(client, Before)
    return client


def empty(table: Table) -> None:
    """Remove every item, between two examples of Hypothesis: moto looks at all of a table for each query."""
    client = before(table).behind
    items = client.scan(TableName=table.name, ProjectionExpression="pk, sk")["Items"]
    assert table.delete_all([item_key(item) for item in items]) == set()


def keep_requests(table: Table, name: str) -> list[dict[str, Any]]:
    """What is asked of DynamoDB by calls of `name`, from now on."""
    client = before(table)
    call = getattr(client.behind, name)
    asked: list[dict[str, Any]] = []

    def keep(**request: Any) -> Any:
        asked.append(request)
        return call(**request)

    client.answers[name] = keep
    return asked


def event(event_id: str = "e1", *, at_ms: int = NOW_MS, text: str = '{"n":1.10}', **changes: Any) -> Event:
    return replace(Event("1010", event_id, "COURSE_ENROLLMENT", at_ms, NOW_MS, text), **changes)


def webhook(**changes: Any) -> Webhook:
    return replace(
        Webhook(
            account_id="1010",
            webhook_id="wh_" + "a" * 22,
            name="HR",
            target_url="https://hooks.example.com/",
            authentication=NoAuthentication(),
            events=frozenset({"COURSE_ENROLLMENT"}),
            status=Status.ACTIVE,
            created_at="2026-11-03T12:00:00.000Z",
            updated_at="2026-11-03T12:00:00.000Z",
            created_by="ada",
            updated_by="ada",
        ),
        **changes,
    )


def stand_in(table: Table, name: str, call: Callable[..., Any]) -> None:
    """Let a test serve a table's calls of this name."""
    before(table).answers[name] = call


class Unprocessed:
    """DynamoDB leaves of each call what `is_left` says, for the first `times` calls."""

    def __init__(self, table: Table, is_left: Any, *, times: int) -> None:
        self._client = before(table).behind
        self._is_left = is_left
        self._times = times
        self.sizes: list[int] = []

    def write(self, RequestItems: Any) -> Any:  # noqa: N803  # as boto3 has it
        """Serve a BatchWriteItem."""
        return self._part(RequestItems, self._client.batch_write_item, "UnprocessedItems")

    def read(self, RequestItems: Any) -> Any:  # noqa: N803
        """Serve a BatchGetItem."""
        return self._part(RequestItems, self._client.batch_get_item, "UnprocessedKeys")

    def _part(self, wanted: Any, call: Any, unprocessed: str) -> Any:
        ((name, asked),) = wanted.items()
        all_of_it = asked["Keys"] if isinstance(asked, dict) else asked
        self.sizes.append(len(all_of_it))
        left = [each for each in all_of_it if self._is_left(str(each))] * (len(self.sizes) <= self._times)
        rest = [each for each in all_of_it if each not in left]
        as_asked = (lambda part: {**asked, "Keys": part}) if isinstance(asked, dict) else (lambda part: part)
        answer = call(RequestItems={name: as_asked(rest)}) if rest else {"Responses": {}}
        return {**answer, unprocessed: {name: as_asked(left)} if left else {}}
