"""What waits is found again: lanes in order, and a mark for each lane that has events."""

import random
from collections.abc import Generator, Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lms_webhooks.attempts import Attempt
from lms_webhooks.backlog import SHARDS, Backlog, Lane, Mark, Waiting, _shard
from lms_webhooks.dynamodb import Table, key_item
from tests.engines.dynamodb import Engine
from tests.unit.tables import DAY_MS, NOW_MS, Fails, before, event, keep_requests, tables


@pytest.fixture
def table(dynamodb: Engine) -> Iterator[Table]:
    with tables(dynamodb) as (_, deliveries):
        yield deliveries


@pytest.fixture
def backlog(table: Table) -> Backlog:
    return Backlog(table, retention_days=7)


def waiting(event_id: str, *, at_ms: int = NOW_MS, text: str = '{"n":1.10}', **more: Any) -> Waiting:
    return Waiting(event(event_id, at_ms=at_ms, text=text), **more)


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


def test_an_event_that_comes_twice_waits_once(backlog: Backlog) -> None:
    backlog.append("wh_1", Lane.REALTIME, [waiting("a"), waiting("a")])
    backlog.append("wh_1", Lane.REALTIME, [waiting("a")])
    assert ids(backlog, Lane.REALTIME) == ["a"]


def test_of_an_event_that_waits_twice_in_the_retry_lane_the_one_that_was_tried_leaves_it(
    backlog: Backlog,
) -> None:
    """Its message came twice, and it was rejected both times."""
    first, second = waiting("a", due_at_ms=100, tries=1), waiting("a", due_at_ms=200, tries=1)
    backlog.append("wh_1", Lane.RETRY, [first, second])
    assert backlog.remove("wh_1", Lane.RETRY, [first])
    assert backlog.read("wh_1", Lane.RETRY, limit=10) == [second]


def test_what_is_not_there_is_removed_already(backlog: Backlog) -> None:
    assert backlog.remove("wh_1", Lane.REALTIME, [waiting("a")])
    assert backlog.remove("wh_1", Lane.REALTIME, [])


def test_a_thousand_events_are_written_and_removed(backlog: Backlog) -> None:
    kept = [waiting(f"{number:04d}") for number in range(1000)]
    backlog.append("wh_1", Lane.REALTIME, kept)
    assert [each for page in backlog.read_all("wh_1", Lane.REALTIME) for each in page] == kept
    backlog.remove("wh_1", Lane.REALTIME, kept[:990])
    assert len(ids(backlog, Lane.REALTIME)) == 10


def test_a_lane_of_several_megabytes_is_read_whole_in_pages(backlog: Backlog) -> None:
    """And what is read may be removed on the way."""
    draw = random.Random(7)
    large = [waiting(f"{number:02d}", text=draw.randbytes(60_000).hex()) for number in range(45)]
    backlog.append("wh_1", Lane.BATCH, large)
    pages = []
    for page in backlog.read_all("wh_1", Lane.BATCH):
        pages.append(page)
        backlog.remove("wh_1", Lane.BATCH, page)
    assert len(pages) > 2
    assert [each for page in pages for each in page] == large
    assert ids(backlog, Lane.BATCH) == []


def test_lanes_and_the_marks_of_a_webhook_are_read_as_they_stand_now(backlog: Backlog, table: Table) -> None:
    """A reading that lags behind an append would find the lane empty, and remove its mark."""
    asked = keep_requests(table, "query")
    backlog.read("wh_1", Lane.REALTIME, limit=1)
    backlog.marks("wh_1")
    assert [call["ConsistentRead"] for call in asked] == [True, True]


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


def test_each_append_changes_the_token(backlog: Backlog) -> None:
    tokens = set()
    for _ in range(20):
        mark(backlog)
        tokens.add(backlog.marks("wh_1")[Lane.REALTIME].token)
    assert len(tokens) == 20


def test_a_mark_says_whose_lane_it_is(backlog: Backlog) -> None:
    mark(backlog, Lane.RETRY, due_at_ms=500)
    got = backlog.marks("wh_1")[Lane.RETRY]
    expected = Mark("1010", "wh_1", Lane.RETRY, got.token, 500, NOW_MS + 7 * DAY_MS, is_open=False)
    assert got == expected
    assert list(backlog.all_marks()) == [expected]


def test_the_mark_of_one_lane_is_removed_and_those_of_others_stay(backlog: Backlog) -> None:
    for lane in (Lane.REALTIME, Lane.BATCH, Lane.RETRY):
        mark(backlog, lane)
    backlog.mark("1010", "wh_1#2", Lane.REALTIME, accepted_at_ms=NOW_MS)
    assert backlog.unmark(backlog.marks("wh_1")[Lane.REALTIME])
    assert set(backlog.marks("wh_1")) == {Lane.BATCH, Lane.RETRY}
    assert {(each.webhook_id, each.lane) for each in backlog.all_marks()} == {
        ("wh_1", Lane.BATCH),
        ("wh_1", Lane.RETRY),
        ("wh_1#2", Lane.REALTIME),
    }


def test_a_mark_that_may_be_missing_is_told(backlog: Backlog, table: Table) -> None:
    before(table).answers["update_item"] = Fails(before(table).behind.update_item)
    with pytest.raises(ClientError):
        mark(backlog)


@pytest.mark.parametrize("was_marked", [False, True])
def test_who_made_a_mark_is_told_though_the_call_was_repeated(
    backlog: Backlog, table: Table, was_marked: bool
) -> None:
    """The answer to the first call was lost. A drainer too many does no harm; one too few is a minute lost.
    And the mark says the earliest, whichever of the two calls found it."""
    if was_marked:
        mark(backlog, Lane.RETRY, accepted_at_ms=NOW_MS, due_at_ms=900)
    client = before(table)

    def twice(**call: Any) -> Any:
        client.behind.update_item(**call)
        return client.behind.update_item(**call)

    client.answers["update_item"] = twice
    assert mark(backlog, Lane.RETRY, accepted_at_ms=NOW_MS - 5, due_at_ms=300)
    got = backlog.marks("wh_1")[Lane.RETRY]
    assert (got.due_at_ms, got.check_at_ms) == (300, NOW_MS - 5 + 7 * DAY_MS)


def test_a_mark_that_goes_while_it_is_set_earlier_does_not_come_back_in_parts(
    backlog: Backlog, table: Table
) -> None:
    """Between the two writes of an append a drainer sent its event and removed the mark."""
    mark(backlog, Lane.RETRY, due_at_ms=900)
    client = before(table)

    def update_item(**call: Any) -> Any:
        answer = client.behind.update_item(**call)
        client.answers.clear()
        assert backlog.unmark(backlog.marks("wh_1")[Lane.RETRY])
        return answer

    client.answers["update_item"] = update_item
    assert not mark(backlog, Lane.RETRY, due_at_ms=300)
    assert backlog.marks("wh_1") == {}
    assert list(backlog.all_marks()) == []


def test_a_mark_that_is_gone_is_not_brought_back_by_what_was_learnt(backlog: Backlog) -> None:
    mark(backlog, Lane.BATCH)
    gone = backlog.marks("wh_1")[Lane.BATCH]
    backlog.unmark(gone)
    assert not backlog.set_due(gone, 1)
    assert not backlog.set_check(gone, 1)
    assert not backlog.open_lane(gone)
    assert backlog.marks("wh_1") == {}


@pytest.mark.parametrize(
    ("marked", "due_at_ms", "check_in_ms"),
    [
        ([(0, 0)], 0, 0),
        ([(0, 500), (0, 0)], 0, 0),
        ([(0, 0), (0, 500)], 0, 0),
        ([(5, 900), (3, 300), (4, 600)], 300, 3),
        ([(-5, 900), (3, 300)], 300, -5),
        ([(3, 300), (-5, 900)], 300, -5),
    ],
)
def test_whatever_the_order_a_mark_says_the_earliest(
    backlog: Backlog, marked: list[tuple[int, int]], due_at_ms: int, check_in_ms: int
) -> None:
    for accepted, due in marked:
        mark(backlog, Lane.RETRY, accepted_at_ms=NOW_MS + accepted, due_at_ms=due)
    got = backlog.marks("wh_1")[Lane.RETRY]
    assert (got.due_at_ms, got.check_at_ms) == (due_at_ms, NOW_MS + check_in_ms + 7 * DAY_MS)


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


def test_the_sweep_sees_marks_that_take_several_pages(backlog: Backlog, table: Table) -> None:
    """As if each were 300 KB long: four of one shard are more than a page."""
    webhook_ids = [each for each in map("wh_{}".format, range(200)) if _shard(each) == 3][:5]
    for webhook_id in webhook_ids:
        backlog.mark("1010", webhook_id, Lane.REALTIME, accepted_at_ms=NOW_MS)
        table.client.update_item(
            TableName=table.name,
            Key=key_item(("DUE#3", f"{webhook_id}#realtime")),
            UpdateExpression="SET padding = :padding",
            ExpressionAttributeValues={":padding": {"S": "x" * 300_000}},
        )
    page = table.client.query(
        TableName=table.name,
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": "DUE#3"}},
    )
    assert "LastEvaluatedKey" in page
    assert [each.webhook_id for each in backlog.all_marks()] == sorted(webhook_ids)


class Race:
    """Appenders, drainers and the schedule on one lane. Each of their steps is one call of DynamoDB, or what
    one function of `Backlog` does; between any two, others may do theirs."""

    numbers = count()

    def __init__(self, table: Table, lane: Lane) -> None:
        self.backlog = Backlog(table, retention_days=7)
        self.webhook_id = f"wh_{next(self.numbers)}"  # a lane of its own, so that nothing must be cleared
        self.lane = lane
        self.marked: set[Waiting] = set()
        """Appended, marked, and not taken out yet."""

    def append(self, due_at_ms: int) -> Generator[None]:
        each = waiting(f"e{next(self.numbers)}", due_at_ms=due_at_ms if self.lane is Lane.RETRY else 0)
        self.backlog.append(self.webhook_id, self.lane, [each])
        yield
        self.backlog.mark("1010", self.webhook_id, self.lane, accepted_at_ms=NOW_MS, due_at_ms=each.due_at_ms)
        if each in self.backlog.read(self.webhook_id, self.lane, limit=1000):
            self.marked.add(each)

    def drain(self, now_ms: int) -> Generator[None]:
        """As a turn serves a lane. It may stop after any step: its process was killed."""
        while mark := self.backlog.marks(self.webhook_id).get(self.lane):
            yield
            found = self.backlog.read(self.webhook_id, self.lane, limit=1)
            yield
            if not found:
                self.backlog.unmark(mark)
                return
            if found[0].due_at_ms > now_ms:
                self.backlog.set_due(mark, found[0].due_at_ms)
                return
            self.backlog.remove(self.webhook_id, self.lane, found)
            self.marked -= set(found)
            yield

    def open(self) -> Generator[None]:
        mark = self.backlog.marks(self.webhook_id).get(self.lane)
        yield
        if mark:
            self.backlog.open_lane(mark)

    def actor(self, kind: str, at_ms: int) -> Generator[None]:
        return {"append": self.append, "drain": self.drain}[kind](at_ms) if kind != "open" else self.open()

    def check(self) -> None:
        if self.marked:
            mark = self.backlog.marks(self.webhook_id).get(self.lane)
            assert mark is not None, "events without a mark"
            assert mark.due_at_ms <= min(each.due_at_ms for each in self.marked), "found too late"


actors = st.tuples(st.sampled_from(["append", "append", "drain", "drain", "open"]), st.integers(0, 3))


@given(
    st.sampled_from([Lane.REALTIME, Lane.RETRY]),
    st.lists(actors, min_size=2, max_size=6),
    st.lists(st.integers(0, 5), max_size=40),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
def test_no_interleaving_leaves_events_without_a_mark(
    table: Table, lane: Lane, kinds: list[tuple[str, int]], turns: list[int]
) -> None:
    """Whose turn it is, Hypothesis draws. What was appended and marked stays marked until it is taken out,
    and the mark never says a later time than the first of them is due."""
    race = Race(table, lane)
    running = [race.actor(*each) for each in kinds]
    for turn in turns:
        next(running[turn % len(running)], None)
        race.check()


def test_of_what_dynamodb_refuses_whole_all_is_told(backlog: Backlog, table: Table) -> None:
    before(table).answers["batch_write_item"] = Fails(before(table).behind.batch_write_item, 2)
    many = [waiting(f"{number:02d}") for number in range(60)]
    assert backlog.append("wh_1", Lane.REALTIME, many) == {each.event.sort_key for each in many[25:50]}
    assert ids(backlog, Lane.REALTIME) == [each.event.event_id for each in many[:25] + many[50:]]


def test_in_the_retry_lane_too_an_event_is_told_by_its_own_key(backlog: Backlog, table: Table) -> None:
    """Not by the lane's, which has the due time before it."""
    before(table).answers["batch_write_item"] = Fails(before(table).behind.batch_write_item)
    refused = waiting("a", due_at_ms=500)
    assert backlog.append("wh_1", Lane.RETRY, [refused]) == {refused.event.sort_key}
    assert not backlog.remove("wh_1", Lane.RETRY, [refused])


def test_what_dynamodb_does_not_take_is_told(backlog: Backlog, table: Table) -> None:
    """It leaves one item of each call unprocessed, however often it is asked."""
    write = before(table).behind.batch_write_item

    def leave_one(**call: Any) -> Any:
        requests = call["RequestItems"]["deliveries"]
        kept = [each for each in requests if "stubborn" not in str(each)]
        if kept:
            write(RequestItems={"deliveries": kept})
        return {"UnprocessedItems": {"deliveries": [each for each in requests if each not in kept]}}

    before(table).answers["batch_write_item"] = leave_one
    stubborn = waiting("stubborn")
    assert backlog.append("wh_1", Lane.REALTIME, [waiting("a"), stubborn, waiting("b")]) == {
        stubborn.event.sort_key
    }
    assert ids(backlog, Lane.REALTIME) == ["a", "b"]
    assert not backlog.remove("wh_1", Lane.REALTIME, [waiting("a"), replace(stubborn)])
