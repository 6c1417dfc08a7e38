"""What waits is found again: lanes in order, and a mark for each lane that has events."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import boto3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto import mock_aws

from lms_webhooks.attempts import Attempt
from lms_webhooks.backlog import SHARDS, Backlog, Lane, Waiting
from lms_webhooks.dynamodb import Table
from lms_webhooks.events import Event
from tests.unit.admin_client import REGION, make_table

NOW_MS = 1_793_707_200_000
DAY_MS = 86_400_000


@pytest.fixture
def table() -> Iterator[Table]:
    with mock_aws():
        client = boto3.client("dynamodb", region_name=REGION)
        make_table(client, "deliveries")
        yield Table(client, "deliveries", sleep=lambda _: None)


@pytest.fixture
def backlog(table: Table) -> Backlog:
    return Backlog(table, retention_days=7)


def waiting(event_id: str, *, at_ms: int = NOW_MS, text: str = '{"n":1.10}', **more: Any) -> Waiting:
    return Waiting(Event("1010", event_id, "COURSE_ENROLLMENT", at_ms, NOW_MS, text), **more)


def ids(backlog: Backlog, lane: Lane, *, limit: int = 100) -> list[str]:
    return [each.event.event_id for each in backlog.read("wh_1", lane, limit=limit)]


def mark(backlog: Backlog, lane: Lane = Lane.REALTIME, *, accepted_at_ms: int = NOW_MS, **more: int) -> bool:
    return backlog.mark("1010", "wh_1", lane, accepted_at_ms=accepted_at_ms, **more)


def test_a_lane_is_read_by_time_then_by_id(backlog: Backlog) -> None:
    """Appended in any order: a late older event goes next. Another webhook's, and other lanes', do not."""
    backlog.append(
        "wh_1", Lane.REALTIME, [waiting("b", at_ms=2), waiting("a", at_ms=2), waiting("z", at_ms=1)]
    )
    backlog.append("wh_2", Lane.REALTIME, [waiting("other", at_ms=0)])
    backlog.append("wh_1", Lane.BATCH, [waiting("later", at_ms=0)])
    assert ids(backlog, Lane.REALTIME) == ["z", "a", "b"]
    assert ids(backlog, Lane.REALTIME, limit=2) == ["z", "a"]


def test_the_retry_lane_is_read_by_when_its_events_are_due(backlog: Backlog) -> None:
    soon, late = waiting("late-event", at_ms=9, due_at_ms=100), waiting("early-event", at_ms=1, due_at_ms=200)
    backlog.append("wh_1", Lane.RETRY, [late, soon])
    assert backlog.read("wh_1", Lane.RETRY, limit=10) == [soon, late]


def test_everything_about_a_waiting_event_comes_back(backlog: Backlog) -> None:
    kept = waiting(
        "e#1",
        text='{"data":{"x":"' + "long " * 1000 + '","n":1.10}}',
        tries=3,
        attempts=(Attempt(NOW_MS, 80, 422, None), Attempt(NOW_MS, 5000, None, "timeout")),
    )
    assert backlog.append("wh_1", Lane.REALTIME, [kept]) == set()
    assert backlog.read("wh_1", Lane.REALTIME, limit=1) == [kept]
    assert backlog.remove("wh_1", Lane.REALTIME, [kept])
    assert ids(backlog, Lane.REALTIME) == []


def test_a_thousand_events_are_written_removed_and_read_in_pages(backlog: Backlog) -> None:
    kept = [waiting(f"{number:04d}", text='"' + "ü" * 1500 + '"') for number in range(1000)]
    backlog.append("wh_1", Lane.REALTIME, kept)
    assert [each for page in backlog.read_all("wh_1", Lane.REALTIME) for each in page] == kept
    backlog.remove("wh_1", Lane.REALTIME, kept[:990])
    assert len(ids(backlog, Lane.REALTIME)) == 10


def test_whoever_makes_a_mark_is_told(backlog: Backlog) -> None:
    assert mark(backlog) is True
    assert mark(backlog) is False
    assert mark(backlog, Lane.BATCH) is True
    assert set(backlog.marks("wh_1")) == {Lane.REALTIME, Lane.BATCH}
    assert backlog.marks("wh_") == {}


def test_a_mark_is_removed_only_if_nothing_was_appended_since_it_was_read(backlog: Backlog) -> None:
    mark(backlog)
    read = backlog.marks("wh_1")[Lane.REALTIME]
    mark(backlog)
    assert not backlog.unmark(read)
    assert backlog.unmark(backlog.marks("wh_1")[Lane.REALTIME])
    assert backlog.marks("wh_1") == {}
    assert not backlog.unmark(read)


def test_a_mark_says_the_earliest_of_what_was_appended(backlog: Backlog) -> None:
    mark(backlog, Lane.RETRY, accepted_at_ms=NOW_MS, due_at_ms=500)
    mark(backlog, Lane.RETRY, accepted_at_ms=NOW_MS + 5, due_at_ms=900)
    mark(backlog, Lane.RETRY, accepted_at_ms=NOW_MS - 5, due_at_ms=300)
    got = backlog.marks("wh_1")[Lane.RETRY]
    assert (got.due_at_ms, got.check_at_ms) == (300, NOW_MS - 5 + 7 * DAY_MS)


def test_what_was_learnt_of_a_lane_is_dropped_when_something_was_appended(backlog: Backlog) -> None:
    mark(backlog, Lane.RETRY, due_at_ms=300)
    read = backlog.marks("wh_1")[Lane.RETRY]
    assert backlog.set_due(read, 900)
    assert backlog.set_check(read, 1)
    mark(backlog, Lane.RETRY, due_at_ms=400)
    assert not backlog.set_due(read, 2000)
    assert not backlog.set_check(read, 2)
    got = backlog.marks("wh_1")[Lane.RETRY]
    assert (got.due_at_ms, got.check_at_ms) == (400, 1)


def test_a_batch_lane_stays_open_until_it_was_empty(backlog: Backlog) -> None:
    mark(backlog, Lane.BATCH)
    closed = backlog.marks("wh_1")[Lane.BATCH]
    assert not closed.is_open
    assert backlog.open_lane(closed)
    mark(backlog, Lane.BATCH)
    opened = backlog.marks("wh_1")[Lane.BATCH]
    assert opened.is_open
    assert backlog.unmark(opened)
    assert not backlog.open_lane(opened)
    mark(backlog, Lane.BATCH)
    assert not backlog.marks("wh_1")[Lane.BATCH].is_open


def test_the_sweep_sees_the_marks_of_every_shard(backlog: Backlog, table: Table) -> None:
    webhook_ids = [f"wh_{number}" for number in range(100)]
    for webhook_id in webhook_ids:
        backlog.mark("1010", webhook_id, Lane.REALTIME, accepted_at_ms=NOW_MS)
    assert sorted(each.webhook_id for each in backlog.all_marks()) == sorted(webhook_ids)
    shards = {item["pk"]["S"] for item in table.client.scan(TableName=table.name)["Items"]}
    assert shards == {f"DUE#{shard}" for shard in range(SHARDS)}


@given(st.lists(st.sampled_from(["append", "mark", "read mark", "read lane", "unmark"]), max_size=25))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
def test_no_interleaving_leaves_events_without_a_mark(table: Table, steps: list[str]) -> None:
    """One appender (append, then mark) and one drainer (read the mark, read the lane, remove the mark of an
    empty one), their steps mixed in every way: where nobody is on the way to set it, the mark is there."""
    backlog = Backlog(table, retention_days=7)
    left = backlog.read("wh_1", Lane.REALTIME, limit=1000)
    backlog.remove("wh_1", Lane.REALTIME, left)
    for each in backlog.marks("wh_1").values():
        backlog.unmark(each)
    has_appended = False
    read_mark = found_empty = None
    for number, step in enumerate(steps):
        if step == "append" and not has_appended:
            backlog.append("wh_1", Lane.REALTIME, [waiting(f"e{number}")])
            has_appended = True
        elif step == "mark" and has_appended:
            mark(backlog)
            has_appended = False
        elif step == "read mark":
            read_mark, found_empty = backlog.marks("wh_1").get(Lane.REALTIME), None
        elif step == "read lane" and read_mark:
            found_empty = not ids(backlog, Lane.REALTIME)
        elif step == "unmark" and read_mark and found_empty:
            backlog.unmark(read_mark)
            read_mark = found_empty = None
        if ids(backlog, Lane.REALTIME) and not has_appended:
            assert Lane.REALTIME in backlog.marks("wh_1"), steps


def test_what_dynamodb_does_not_take_is_told(backlog: Backlog, table: Table) -> None:
    """It leaves one item of each call unprocessed, however often it is asked."""
    write = table.client.batch_write_item

    def leave_one(**call: Any) -> Any:
        requests = call["RequestItems"]["deliveries"]
        kept = [each for each in requests if "stubborn" not in str(each)]
        if kept:
            write(RequestItems={"deliveries": kept})
        return {"UnprocessedItems": {"deliveries": [each for each in requests if each not in kept]}}

    table.client.batch_write_item = leave_one  # type: ignore[method-assign]
    stubborn = waiting("stubborn")
    assert backlog.append("wh_1", Lane.REALTIME, [waiting("a"), stubborn, waiting("b")]) == {
        stubborn.event.sort_key
    }
    assert ids(backlog, Lane.REALTIME) == ["a", "b"]
    assert not backlog.remove("wh_1", Lane.REALTIME, [waiting("a"), replace(stubborn)])
