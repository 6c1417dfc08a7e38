"""Many items are read and written in as many calls as it takes, and what was not is reported."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from lms_webhooks.aws.dynamodb import Key, KeyRange, Table, conditional_write, item_key, key_item, transact
from lms_webhooks.errors import AWS_ERRORS, Contention
from tests.unit.tables import Fails, Throttled, Unprocessed, before, keep_requests, stand_in

TRIES = 5


def keys(count: int) -> list[Key]:
    return [("LANE", f"{number:04d}") for number in range(count)]


def items(count: int, **attributes: Any) -> list[Any]:
    return [{**key_item(key), "n": {"N": str(int(key[1]))}, **attributes} for key in keys(count)]


def stored(table: Table) -> list[Key]:
    pages = table.client.get_paginator("scan").paginate(TableName=table.name)
    return sorted(item_key(item) for page in pages for item in page["Items"])


def test_reads_are_of_a_hundred_keys_and_each_is_asked_once(table: Table) -> None:
    table.put_all(items(250))
    calls = Unprocessed(table, lambda _: False, times=0)
    stand_in(table, "batch_get_item", calls.read)
    got = table.get_all([*keys(250), *keys(30)], attributes=("n",), consistent=True)
    assert calls.sizes == [100, 100, 50]
    assert sorted(map(item_key, got)) == keys(250)


def test_nothing_asked_is_nothing_called(table: Table) -> None:
    assert table.get_all([], attributes=("n",), consistent=True) == []
    assert table.put_all([]) == table.delete_all([]) == set()
    assert not before(table).calls


def test_only_what_exists_comes_and_only_what_was_asked_of_it(table: Table) -> None:
    table.put_all(items(1, event={"S": "long"}, status={"S": "active"}))
    got = table.get_all(keys(2), attributes=("n", "#s"), names={"#s": "status"}, consistent=False)
    assert got == [{**key_item(keys(1)[0]), "n": {"N": "0"}, "status": {"S": "active"}}]


@pytest.mark.parametrize("consistent", [True, False])
def test_reads_are_as_consistent_as_they_are_asked_to_be(table: Table, consistent: bool) -> None:
    asked = keep_requests(table, "batch_get_item")
    table.get_all(keys(1), attributes=("n",), consistent=consistent)
    assert asked[0]["RequestItems"][table.name]["ConsistentRead"] is consistent


def test_keys_that_dynamodb_left_unread_are_asked_again_alone(table: Table) -> None:
    table.put_all(items(10))
    calls = Unprocessed(table, lambda key: "0003" in key or "0007" in key, times=2)
    stand_in(table, "batch_get_item", calls.read)
    got = table.get_all(keys(10), attributes=("n",), consistent=True)
    assert sorted(map(item_key, got)) == keys(10)
    assert calls.sizes == [10, 2, 2]


def test_a_key_that_is_never_read_counts_as_absent(table: Table) -> None:
    table.put_all(items(3))
    calls = Unprocessed(table, lambda key: "0001" in key, times=99)
    stand_in(table, "batch_get_item", calls.read)
    got = table.get_all(keys(3), attributes=("n",), consistent=True)
    assert sorted(map(item_key, got)) == [keys(3)[0], keys(3)[2]]
    assert calls.sizes == [3, *[1] * (TRIES - 1)]


def test_who_wants_the_whole_hears_of_a_key_that_is_never_read(table: Table) -> None:
    table.put_all(items(3))
    stand_in(table, "batch_get_item", Unprocessed(table, lambda key: "0001" in key, times=99).read)
    with pytest.raises(AWS_ERRORS, match="left unread: 1 keys"):
        table.get_all(keys(3), attributes=("n",), consistent=True, require_all=True)


def test_a_read_that_fails_is_not_an_empty_one(table: Table) -> None:
    stand_in(table, "batch_get_item", Fails(before(table).behind.batch_get_item, 2))
    with pytest.raises(ClientError, match="slow down"):
        table.get_all(keys(101), attributes=("n",), consistent=True)


def test_writes_are_of_twenty_five_items(table: Table) -> None:
    calls = Unprocessed(table, lambda _: False, times=0)
    stand_in(table, "batch_write_item", calls.write)
    assert table.put_all(items(60)) == set()
    assert stored(table) == keys(60)
    assert table.delete_all([*keys(51), *keys(20)]) == set()
    assert stored(table) == keys(60)[51:]
    assert calls.sizes == [25, 25, 10, 25, 25, 1]


def test_of_two_items_with_one_key_the_last_is_written(table: Table) -> None:
    """One call with both would be refused whole."""
    (item,) = items(1)
    assert table.put_all([item, {**item, "n": {"N": "7"}}]) == set()
    assert table.get_all(keys(1), attributes=("n",), consistent=True) == [{**item, "n": {"N": "7"}}]


@pytest.mark.parametrize("deletes", [False, True])
def test_what_dynamodb_left_unwritten_is_written_again_alone(table: Table, deletes: bool) -> None:
    if deletes:
        table.put_all(items(30))
    calls = Unprocessed(table, lambda request: "0002" in request or "0027" in request, times=1)
    stand_in(table, "batch_write_item", calls.write)
    assert (table.delete_all(keys(30)) if deletes else table.put_all(items(30))) == set()
    assert stored(table) == ([] if deletes else keys(30))
    assert calls.sizes[:2] == [25, 1]


@pytest.mark.parametrize("deletes", [False, True])
def test_what_is_never_written_is_told_and_the_rest_is_written(table: Table, deletes: bool) -> None:
    if deletes:
        table.put_all(items(60))
    stubborn = keys(60)[31]
    calls = Unprocessed(table, lambda request: stubborn[1] in request, times=99)
    stand_in(table, "batch_write_item", calls.write)
    assert (table.delete_all(keys(60)) if deletes else table.put_all(items(60))) == {stubborn}
    assert stored(table) == ([stubborn] if deletes else [key for key in keys(60) if key != stubborn])
    assert calls.sizes == [25, 25, *[1] * (TRIES - 1), 10]


def test_a_call_that_fails_leaves_its_own_items_and_no_others(table: Table) -> None:
    stand_in(table, "batch_write_item", Fails(before(table).behind.batch_write_item, 2))
    assert table.put_all(items(60)) == set(keys(60)[25:50])
    assert stored(table) == keys(60)[:25] + keys(60)[50:]


def test_a_second_try_that_fails_leaves_what_the_first_left(table: Table) -> None:
    calls = Unprocessed(table, lambda request: "0004" in request, times=99)
    stand_in(table, "batch_write_item", Fails(calls.write, 2))
    assert table.put_all(items(10)) == {keys(10)[4]}
    assert len(stored(table)) == 9


def test_tries_wait_longer_and_longer_at_random(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[float, float]] = []
    waits: list[float] = []

    def draw(shortest: float, longest: float) -> float:
        drawn.append((shortest, longest))
        return longest

    monkeypatch.setattr("lms_webhooks.aws.dynamodb.random.uniform", draw)
    impatient = Table(table.client, table.name, sleep=waits.append)
    stand_in(table, "batch_write_item", Unprocessed(table, lambda _: True, times=99).write)
    impatient.put_all(items(1))
    assert waits == [0.1, 0.2, 0.4, 0.8], "none before the first; a drainer has 5 s to settle what it sent"
    assert drawn == [(0, longest) for longest in waits]


def test_a_change_on_condition_tells_whether_it_was_made(table: Table) -> None:
    def put_new() -> object:
        return table.client.put_item(
            TableName=table.name, Item=items(1)[0], ConditionExpression="attribute_not_exists(pk)"
        )

    assert conditional_write(put_new, table.client)
    assert not conditional_write(put_new, table.client)


def test_a_change_that_fails_is_not_one_whose_condition_failed(table: Table) -> None:
    def fail() -> object:
        raise Throttled

    with pytest.raises(ClientError, match="slow down"):
        conditional_write(fail, table.client)


def test_keys_are_written_and_read_alike() -> None:
    assert item_key(key_item(("DUE#3", "wh_1#retry"))) == ("DUE#3", "wh_1#retry")


class Cancelled:
    """Stands before a client: each transaction is cancelled for the next of these reasons, and then done."""

    def __init__(self, client: Any, *reasons: list[str]) -> None:
        self.exceptions = client.exceptions
        self._client = client
        self._reasons = list(reasons)
        self.calls = 0

    def transact_write_items(self, **request: Any) -> Any:
        self.calls += 1
        if not self._reasons:
            return self._client.transact_write_items(**request)
        reasons = [{"Code": code} for code in self._reasons.pop(0)]
        error: Any = {"Error": {"Code": "TransactionCanceledException"}, "CancellationReasons": reasons}
        raise self.exceptions.TransactionCanceledException(error, "TransactWriteItems")


def put_one(table: Table) -> list[Any]:
    return [{"Put": {"TableName": table.name, "Item": items(1)[0]}}]


@pytest.mark.parametrize(
    "reasons",
    [
        ["TransactionConflict"],
        ["ThrottlingError"],
        ["ProvisionedThroughputExceeded"],
        ["None", "TransactionConflict"],
    ],
    ids=str,
)
def test_a_transaction_that_collides_or_is_throttled_is_tried_again(table: Table, reasons: list[str]) -> None:
    client: Any = Cancelled(table.client, reasons, reasons)
    assert transact(client, put_one(table), sleep=lambda _: None) == set()
    assert client.calls == 3
    assert stored(table) == keys(1)


@pytest.mark.parametrize(
    ("reasons", "refused"),
    [
        (["ConditionalCheckFailed"], {0}),
        (["None", "ConditionalCheckFailed", "ConditionalCheckFailed"], {1, 2}),
        (["TransactionConflict", "ConditionalCheckFailed"], {1}),
    ],
    ids=str,
)
def test_conditions_that_failed_are_told_at_once(table: Table, reasons: list[str], refused: set[int]) -> None:
    client: Any = Cancelled(table.client, reasons)
    assert transact(client, put_one(table), sleep=lambda _: None) == refused
    assert client.calls == 1
    assert stored(table) == []


def test_a_transaction_that_is_no_good_is_not_tried_again(table: Table) -> None:
    client: Any = Cancelled(table.client, ["ValidationError", "None"], ["TransactionConflict"])
    with pytest.raises(ClientError):
        transact(client, put_one(table), sleep=lambda _: None)
    assert client.calls == 1


def test_transactions_wait_longer_and_longer_at_random(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three and a half seconds at worst: the admin API has fifteen."""
    drawn: list[tuple[float, float]] = []
    waits: list[float] = []

    def draw(shortest: float, longest: float) -> float:
        drawn.append((shortest, longest))
        return longest

    monkeypatch.setattr("lms_webhooks.aws.dynamodb.random.uniform", draw)
    client: Any = Cancelled(table.client, *[["TransactionConflict"]] * 12)
    with pytest.raises(Contention):
        transact(client, put_one(table), sleep=waits.append)
    assert client.calls == 12
    assert waits == pytest.approx([0.05, 0.1, 0.2, *[0.4] * 8])
    assert {shortest for shortest, _ in drawn} == {0}


def page_keys(table: Table, of: KeyRange, **more: Any) -> tuple[list[str], str | None]:
    page = table.page("LANE", of, **more)
    return [item["sk"]["S"] for item in page.entries], page.last_key


@pytest.mark.parametrize(
    ("high", "limit", "newest_first", "found", "last_key"),
    [
        ("0004", 9, False, ["0001", "0002", "0003"], None),
        ("0004", 2, False, ["0001", "0002"], "0002"),
        ("0003x", 3, False, ["0001", "0002", "0003"], None),
        ("0003x", 2, True, ["0003", "0002"], "0002"),
        ("0003x", 3, True, ["0003", "0002", "0001"], None),
        ("0004", 9, True, ["0003", "0002", "0001"], None),
        ("0001", 9, False, [], None),
    ],
)
def test_a_page_is_of_a_range_without_its_end(
    table: Table, high: str, limit: int, newest_first: bool, found: list[str], last_key: str | None
) -> None:
    table.put_all(items(6))
    of = KeyRange("0001", high)
    assert page_keys(table, of, limit=limit, newest_first=newest_first) == (found, last_key)


def test_a_page_that_a_megabyte_ended_says_how_far_it_is(table: Table) -> None:
    """So that a reader gets all of it, once."""
    table.put_all(items(9, padding={"S": "x" * 300_000}))
    got: list[str] = []
    low, pages = "0", 0
    while True:
        found, last_key = page_keys(table, KeyRange(low, ":"), limit=100, newest_first=False)
        got += found
        pages += 1
        if last_key is None:
            break
        assert last_key == got[-1]
        low = last_key + "\x00"
    assert got == [key[1] for key in keys(9)]
    assert pages >= 3


def test_a_page_of_which_only_the_end_was_read_says_how_far_it_is(table: Table) -> None:
    """A megabyte, and all of it was the item behind the range."""
    table.put_all(items(3))

    def query(**_: Any) -> Any:
        last = items(3)[2]
        return {"Items": [last], "LastEvaluatedKey": key_item(keys(3)[2])}

    stand_in(table, "query", query)
    assert page_keys(table, KeyRange("0", "0002"), limit=5, newest_first=True) == ([], "0002")


def test_of_a_page_only_what_is_asked_for_comes_whatever_it_is_called(table: Table) -> None:
    table.put_all(items(1, status={"S": "active"}, event={"S": "long"}))
    (item,) = table.page(
        "LANE", KeyRange("0", ":"), limit=1, newest_first=False, attributes=("status",)
    ).entries
    assert item == {**key_item(keys(1)[0]), "status": {"S": "active"}}
    (item,) = table.page("LANE", KeyRange("0", ":"), limit=1, newest_first=False).entries
    assert set(item) == {"pk", "sk", "n", "status", "event"}


def test_reads_too_wait_longer_and_longer(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("lms_webhooks.aws.dynamodb.random.uniform", lambda _, longest: longest)
    stand_in(table, "batch_get_item", Unprocessed(table, lambda _: True, times=99).read)
    patient = Table(table.client, table.name, sleep=waits.append)
    assert patient.get_all(keys(1), attributes=("n",), consistent=True) == []
    assert waits == [0.1, 0.2, 0.4, 0.8]
