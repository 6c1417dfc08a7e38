"""Ten sends a minute are ten, however many ask for them at once."""

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from lms_webhooks.admin.problems import RateLimited
from lms_webhooks.admin.rate_limit import SendRateLimit
from lms_webhooks.aws.dynamodb import Table
from lms_webhooks.errors import Contention
from tests.engines.dynamodb import Engine
from tests.unit.tables import before, tables

AT_ONCE = 30


@pytest.fixture
def table(dynamodb: Engine) -> Iterator[Table]:
    with tables(dynamodb) as (webhooks, _):
        yield webhooks


def all_at_once(table: Table) -> Counter[str]:
    """Let calls of one item come one after the other, as DynamoDB does, but nobody write before all have read
    what was there at first."""
    client = before(table)
    read, write = client.behind.get_item, client.behind.put_item
    one_by_one = threading.Lock()
    all_have_read = threading.Barrier(AT_ONCE)
    local = threading.local()

    def get_item(**request: Any) -> Any:
        with one_by_one:
            answer = read(**request)
        if not hasattr(local, "has_read"):
            local.has_read = True
            all_have_read.wait(timeout=60)
        return answer

    def put_item(**request: Any) -> Any:
        with one_by_one:
            return write(**request)

    client.answers |= {"get_item": get_item, "put_item": put_item}
    return client.calls


def taken(limit: SendRateLimit, account_id: str = "1010") -> str:
    try:
        limit.consume(account_id)
    except RateLimited as refused:
        return f"refused for {refused.headers['Retry-After']} s"
    return "taken"


@pytest.mark.slow
@pytest.mark.parametrize("made_before", [0, 4])
def test_of_thirty_at_once_ten_in_all_are_taken_and_nobody_is_told_to_be_busy(
    table: Table, made_before: int
) -> None:
    now = [1000.0]
    limit = SendRateLimit(table, clock=lambda: now[0])
    for _ in range(made_before):
        limit.consume("1010")
    now[0] += 20
    calls = all_at_once(table)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = Counter(pool.map(lambda _: taken(limit), range(AT_ONCE)))
    left = 10 - made_before
    wait = 40 if made_before else 60
    assert answers == {"taken": left, f"refused for {wait} s": AT_ONCE - left}
    assert calls["put_item"] > AT_ONCE, "they did collide"


def test_any_minute_has_ten_not_each_minute_of_the_clock(table: Table) -> None:
    now = [1000.0]
    limit = SendRateLimit(table, clock=lambda: now[0])
    for second in range(10):
        now[0] = 1000.0 + second
        assert taken(limit) == "taken"
    now[0] = 1059.9
    assert taken(limit) == "refused for 1 s"
    assert taken(limit, "2020") == "taken"
    now[0] = 1060.0
    assert taken(limit) == "taken"
    assert taken(limit) == "refused for 1 s"


@pytest.mark.parametrize(
    ("later_seconds", "answer"),
    [
        (0.0, "refused for 60 s"),
        (0.001, "refused for 60 s"),
        (58.999, "refused for 2 s"),
        (59.0, "refused for 1 s"),
        (59.999, "refused for 1 s"),
        (60.0, "taken"),
    ],
)
def test_who_waits_as_long_as_they_are_told_is_taken(table: Table, later_seconds: float, answer: str) -> None:
    now = [1000.0]
    limit = SendRateLimit(table, clock=lambda: now[0])
    assert [taken(limit) for _ in range(10)] == ["taken"] * 10
    now[0] += later_seconds
    assert taken(limit) == answer


def test_what_is_counted_is_kept_for_longer_than_it_counts(table: Table) -> None:
    """DynamoDB removes an item some time after the second that it names: never one that still counts."""
    limit = SendRateLimit(table, clock=lambda: 1000.9)
    limit.consume("1010")
    (item,) = table.client.scan(TableName=table.name)["Items"]
    assert item["expires_at"] == {"N": "1061"}
    limit.consume("1010")
    (item,) = table.client.scan(TableName=table.name)["Items"]
    assert item["made_at"] == {"L": [{"N": "1000900"}, {"N": "1000900"}]}
    assert item["expires_at"] == {"N": "1061"}


def test_who_is_always_too_late_hears_that_others_are_faster(table: Table) -> None:
    """Each time somebody else of the account is counted in between, and none of it is recent."""
    limit = SendRateLimit(table, clock=lambda: 100_000.0)
    client = before(table)
    rivals = iter(range(1000))

    def put_after_a_rival(**request: Any) -> Any:
        made = {"L": [{"N": str(next(rivals))}]}
        client.behind.put_item(TableName=request["TableName"], Item={**request["Item"], "made_at": made})
        return client.behind.put_item(**request)

    client.answers["put_item"] = put_after_a_rival
    with pytest.raises(Contention):
        limit.consume("1010")
    assert client.calls["put_item"] == 20
