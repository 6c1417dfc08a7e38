"""What waits is found again: lanes in order, and a mark for each lane that has events."""

import random
from collections import Counter
from collections.abc import Generator
from dataclasses import replace
from itertools import count, product
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lms_webhooks.aws.dynamodb import KeyRange, Table, key_item
from lms_webhooks.model.attempts import Attempt
from lms_webhooks.model.lanes import Count, DueMarker, Lane, PendingEvent, ShardPart
from lms_webhooks.observability import Metric
from lms_webhooks.stores.backlog import Backlog, _shard, parts_of_all_shards
from tests.unit.tables import DAY_MS, NOW_MS, Fails, before, empty, event, keep_requests


def waiting(event_id: str, *, at_ms: int = NOW_MS, text: str = '{"n":1.10}', **more: Any) -> PendingEvent:
    return PendingEvent(event(event_id, at_ms=at_ms, text=text), **more)


def ids(backlog: Backlog, lane: Lane, *, limit: int = 100) -> list[str]:
    return [each.event.event_id for each in backlog.read("wh_1", lane, limit=limit)]


def mark(backlog: Backlog, lane: Lane = Lane.REALTIME, *, accepted_at_ms: int = NOW_MS, **more: int) -> bool:
    return backlog.set_marker("1010", "wh_1", lane, accepted_at_ms=accepted_at_ms, **more)


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


def test_an_event_that_is_set_aside_again_takes_its_earlier_place_and_keeps_all_attempts(
    backlog: Backlog,
) -> None:
    first, second, third = (Attempt(at_ms, 5, 422, None) for at_ms in (1, 2, 3))
    backlog.append("wh_1", Lane.RETRY, [waiting("a", due_at_ms=100, tries=2, attempts=(first, third))])
    again = [waiting("a", due_at_ms=90, tries=1, attempts=(second,)), waiting("b", due_at_ms=95)]
    assert backlog.append("wh_1", Lane.RETRY, again) == set()
    assert backlog.read("wh_1", Lane.RETRY, limit=10) == [
        replace(again[0], attempts=(first, second, third)),
        again[1],
    ]
    assert backlog.append("wh_1", Lane.RETRY, [again[1]]) == set(), "the same once more"
    assert ids(backlog, Lane.RETRY) == ["a", "b"]


def test_of_two_items_of_an_event_the_one_that_is_tried_takes_both_places(
    table: Table, backlog: Backlog
) -> None:
    """The process that set it aside died before it removed the earlier one."""
    backlog.append("wh_1", Lane.RETRY, [waiting("a", due_at_ms=100)])
    client = before(table)
    client.answers["batch_write_item"] = lambda **request: (
        {"UnprocessedItems": request["RequestItems"]}
        if "DeleteRequest" in str(request)
        else client.behind.batch_write_item(**request)
    )
    backlog.append("wh_1", Lane.RETRY, [waiting("a", due_at_ms=200)])
    client.answers.clear()
    assert ids(backlog, Lane.RETRY) == ["a", "a"]
    tried, _ = backlog.read("wh_1", Lane.RETRY, limit=2)
    backlog.append("wh_1", Lane.RETRY, [replace(tried, due_at_ms=300)])
    backlog.remove("wh_1", Lane.RETRY, [tried])
    assert [each.due_at_ms for each in backlog.read("wh_1", Lane.RETRY, limit=2)] == [300]


def test_an_event_is_not_set_aside_when_nobody_can_say_whether_it_was(table: Table, backlog: Backlog) -> None:
    again = waiting("a", due_at_ms=200)
    before(table).answers["batch_get_item"] = Fails(before(table).behind.batch_get_item)
    assert backlog.append("wh_1", Lane.RETRY, [again]) == {again.event.sort_key}
    assert ids(backlog, Lane.RETRY) == []


def test_what_is_not_there_is_removed_already(backlog: Backlog) -> None:
    assert backlog.remove("wh_1", Lane.REALTIME, [waiting("a")])
    assert backlog.remove("wh_1", Lane.REALTIME, [])


@pytest.mark.slow
def test_a_thousand_events_are_written_and_removed(backlog: Backlog) -> None:
    kept = [waiting(f"{number:04d}") for number in range(1000)]
    backlog.append("wh_1", Lane.REALTIME, kept)
    assert [each for page in backlog.read_all("wh_1", Lane.REALTIME) for each in page] == kept
    backlog.remove("wh_1", Lane.REALTIME, kept[:990])
    assert len(ids(backlog, Lane.REALTIME)) == 10


@pytest.mark.slow
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
    backlog.markers("wh_1")
    assert [call["ConsistentRead"] for call in asked] == [True, True]


def test_whoever_makes_a_mark_is_told(backlog: Backlog) -> None:
    assert mark(backlog) is True
    assert mark(backlog) is False
    assert mark(backlog, Lane.BATCH) is True
    assert set(backlog.markers("wh_1")) == {Lane.REALTIME, Lane.BATCH}
    assert backlog.markers("wh_") == {}


def test_a_mark_is_removed_only_if_nothing_was_appended_since_it_was_read(backlog: Backlog) -> None:
    mark(backlog)
    read = backlog.markers("wh_1")[Lane.REALTIME]
    mark(backlog)
    assert not backlog.clear_marker(read)
    assert backlog.clear_marker(backlog.markers("wh_1")[Lane.REALTIME])
    assert backlog.markers("wh_1") == {}
    assert not backlog.clear_marker(read)


def test_each_append_changes_the_token(backlog: Backlog) -> None:
    tokens = set()
    for _ in range(20):
        mark(backlog)
        tokens.add(backlog.markers("wh_1")[Lane.REALTIME].token)
    assert len(tokens) == 20


def test_a_mark_says_whose_lane_it_is(backlog: Backlog) -> None:
    mark(backlog, Lane.RETRY, due_at_ms=500)
    got = backlog.markers("wh_1")[Lane.RETRY]
    expected = DueMarker("1010", "wh_1", Lane.RETRY, got.token, 500, NOW_MS + 7 * DAY_MS)
    assert got == expected
    assert list(backlog.all_markers()) == [expected]


def test_the_mark_of_one_lane_is_removed_and_those_of_others_stay(backlog: Backlog) -> None:
    for lane in (Lane.REALTIME, Lane.BATCH, Lane.RETRY):
        mark(backlog, lane)
    backlog.set_marker("1010", "wh_1#2", Lane.REALTIME, accepted_at_ms=NOW_MS)
    assert backlog.clear_marker(backlog.markers("wh_1")[Lane.REALTIME])
    assert set(backlog.markers("wh_1")) == {Lane.BATCH, Lane.RETRY}
    assert {(each.webhook_id, each.lane) for each in backlog.all_markers()} == {
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
    """The response to the first call was lost. A drainer too many does no harm; one too few is a minute lost.
    And the mark says the earliest, whichever of the two calls found it."""
    if was_marked:
        mark(backlog, Lane.RETRY, accepted_at_ms=NOW_MS, due_at_ms=900)
    client = before(table)

    def twice(**call: Any) -> Any:
        client.behind.update_item(**call)
        return client.behind.update_item(**call)

    client.answers["update_item"] = twice
    assert mark(backlog, Lane.RETRY, accepted_at_ms=NOW_MS - 5, due_at_ms=300)
    got = backlog.markers("wh_1")[Lane.RETRY]
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
        assert backlog.clear_marker(backlog.markers("wh_1")[Lane.RETRY])
        return answer

    client.answers["update_item"] = update_item
    assert not mark(backlog, Lane.RETRY, due_at_ms=300)
    assert backlog.markers("wh_1") == {}
    assert list(backlog.all_markers()) == []


def test_a_mark_that_is_gone_is_not_brought_back_by_what_was_learnt(backlog: Backlog) -> None:
    mark(backlog, Lane.BATCH)
    gone = backlog.markers("wh_1")[Lane.BATCH]
    backlog.clear_marker(gone)
    assert not backlog.set_due(gone, 1)
    assert not backlog.set_check(gone, 1)
    assert backlog.markers("wh_1") == {}


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
    got = backlog.markers("wh_1")[Lane.RETRY]
    assert (got.due_at_ms, got.check_at_ms) == (due_at_ms, NOW_MS + check_in_ms + 7 * DAY_MS)


def test_a_mark_says_the_earliest_of_what_was_appended(backlog: Backlog) -> None:
    mark(backlog, Lane.RETRY, accepted_at_ms=NOW_MS, due_at_ms=500)
    mark(backlog, Lane.RETRY, accepted_at_ms=NOW_MS + 5, due_at_ms=900)
    mark(backlog, Lane.RETRY, accepted_at_ms=NOW_MS - 5, due_at_ms=300)
    got = backlog.markers("wh_1")[Lane.RETRY]
    assert (got.due_at_ms, got.check_at_ms) == (300, NOW_MS - 5 + 7 * DAY_MS)


def test_what_was_learnt_of_a_lane_is_dropped_when_something_was_appended(backlog: Backlog) -> None:
    mark(backlog, Lane.RETRY, due_at_ms=300)
    read = backlog.markers("wh_1")[Lane.RETRY]
    assert backlog.set_due(read, 900)
    assert backlog.set_check(read, 1)
    mark(backlog, Lane.RETRY, due_at_ms=400)
    assert not backlog.set_due(read, 2000)
    assert not backlog.set_check(read, 2)
    got = backlog.markers("wh_1")[Lane.RETRY]
    assert (got.due_at_ms, got.check_at_ms) == (400, 1)


def test_a_lane_keeps_the_slot_of_its_first_event_until_it_was_empty(backlog: Backlog) -> None:
    assert mark(backlog, Lane.BATCH, due_at_ms=500)
    mark(backlog, Lane.BATCH, due_at_ms=900)
    first = backlog.markers("wh_1")[Lane.BATCH]
    assert first.due_at_ms == 500
    assert (first.is_due(499), first.is_due(500)) == (False, True)
    assert backlog.clear_marker(first)
    mark(backlog, Lane.BATCH, due_at_ms=900)
    assert backlog.markers("wh_1")[Lane.BATCH].due_at_ms == 900


@pytest.mark.parametrize("was_open", [True, False])
def test_a_lane_that_an_earlier_version_opened_or_not_goes_out(
    backlog: Backlog, table: Table, *, was_open: bool
) -> None:
    """It wrote no slot. Its events go out now, once, and nobody asks what is_open says."""
    mark(backlog, Lane.BATCH)
    table.client.update_item(
        TableName=table.name,
        Key=key_item(("DUE#0", "wh_1#batch")),
        UpdateExpression="SET is_open = :open",
        ExpressionAttributeValues={":open": {"BOOL": was_open}},
    )
    assert backlog.markers("wh_1")[Lane.BATCH].is_due(NOW_MS)
    assert [each.lane for each in due_markers(backlog)] == [Lane.BATCH]


@pytest.mark.slow
def test_the_sweep_sees_the_marks_of_every_shard(backlog: Backlog, table: Table) -> None:
    webhook_ids = [f"wh_{number}" for number in range(100)]
    for webhook_id in webhook_ids:
        backlog.set_marker("1010", webhook_id, Lane.REALTIME, accepted_at_ms=NOW_MS)
    assert sorted(each.webhook_id for each in backlog.all_markers()) == sorted(webhook_ids)
    shards = {item["pk"]["S"] for item in table.client.scan(TableName=table.name)["Items"]}
    assert shards == {f"DUE#{shard}" for shard in range(16)}


def test_the_sweep_sees_marks_that_take_several_pages(backlog: Backlog, table: Table) -> None:
    """As if each were 300 KB long: four of one shard are more than a page."""
    webhook_ids = [each for each in map("wh_{}".format, range(200)) if _shard(each) == 3][:5]
    for webhook_id in webhook_ids:
        backlog.set_marker("1010", webhook_id, Lane.REALTIME, accepted_at_ms=NOW_MS)
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
    assert [each.webhook_id for each in backlog.all_markers()] == sorted(webhook_ids)


def due_markers(
    backlog: Backlog, *, start: str = "wh_0", limit: int = 1000, counted: list[int] | None = None
) -> list[DueMarker]:
    """Those that a sweep finds, page by page."""
    found = []
    for part in parts_of_all_shards(start):
        rest: ShardPart | None = part
        while rest is not None:
            page = backlog.due_markers(rest, now_ms=NOW_MS, limit=limit)
            found += page.markers
            if counted is not None:
                counted.append(page.read)
            rest = page.remaining
    return found


def test_only_marks_for_which_there_may_be_something_to_do_are_handed_over(backlog: Backlog) -> None:
    for name, times in {
        "due": {"due_at_ms": NOW_MS},
        "not-due": {"due_at_ms": NOW_MS + 1},
        "expiring": {"due_at_ms": NOW_MS + 1, "accepted_at_ms": NOW_MS - 7 * DAY_MS},
        "not-expiring": {"due_at_ms": NOW_MS + 1, "accepted_at_ms": NOW_MS - 7 * DAY_MS + 1},
    }.items():
        backlog.set_marker("1010", f"wh_{name}", Lane.RETRY, **{"accepted_at_ms": NOW_MS, **times})
    counted: list[int] = []
    found = due_markers(backlog, counted=counted)
    assert sorted(each.webhook_id for each in found) == ["wh_due", "wh_expiring"]
    assert sum(counted) == 4, "all of them are counted"


@pytest.mark.slow
def test_whichever_place_a_sweep_begins_at_it_finds_every_mark_once(backlog: Backlog) -> None:
    webhook_ids = [f"wh_{number}" for number in range(60)]
    for webhook_id in webhook_ids:
        backlog.set_marker("1010", webhook_id, Lane.REALTIME, accepted_at_ms=NOW_MS)
    backlog.set_marker("1010", "wh_30", Lane.RETRY, accepted_at_ms=NOW_MS)
    for start, limit in product(("wh_", "wh_30", "wh_~"), (1, 2, 1000)):
        found = [each.webhook_id for each in due_markers(backlog, start=start, limit=limit)]
        assert sorted(found) == sorted([*webhook_ids, "wh_30"]), (start, limit)
        assert found[0] >= start or start > max(webhook_ids)


def test_a_part_of_a_shard_can_be_gone_on_with_from_any_mark(backlog: Backlog) -> None:
    webhook_ids = sorted([each for each in map("wh_{}".format, range(200)) if _shard(each) == 3][:6])
    for webhook_id in webhook_ids:
        backlog.set_marker("1010", webhook_id, Lane.REALTIME, accepted_at_ms=NOW_MS)
    part = ShardPart(3, start=webhook_ids[2], next_key=webhook_ids[2])
    page = backlog.due_markers(part, now_ms=NOW_MS, limit=1000)
    assert [each.webhook_id for each in page.markers] == webhook_ids[2:]
    again = backlog.due_markers(part.from_marker(page.markers[2]), now_ms=NOW_MS, limit=1000)
    assert [each.webhook_id for each in again.markers] == webhook_ids[4:]
    assert again.remaining is not None
    last = backlog.due_markers(again.remaining, now_ms=NOW_MS, limit=1000)
    assert [each.webhook_id for each in last.markers] == webhook_ids[:2]
    assert last.remaining is None


@pytest.mark.parametrize(
    ("story", "lacks"),
    [
        ("no due time", "due_at"),
        ("no time to check", "check_at"),
        ("no token", "token"),
        ("no account", "account_id"),
        ("a lane of a newer version", None),
    ],
)
def test_a_mark_that_cannot_be_read_is_noticed_and_costs_no_other(
    backlog: Backlog, table: Table, monkeypatch: pytest.MonkeyPatch, story: str, lacks: str | None
) -> None:
    counted: Counter[str] = Counter()
    monkeypatch.setattr(
        "lms_webhooks.observability.count", lambda metric, value=1: counted.update({metric: value})
    )
    for lane in (Lane.REALTIME, Lane.RETRY):
        mark(backlog, lane)
    key = key_item(("DUE#0", "wh_1#realtime"))
    item = table.client.get_item(TableName=table.name, Key=key)["Item"]
    table.client.delete_item(TableName=table.name, Key=key)
    if lacks is None:
        item["sk"] = {"S": "wh_1#express"}
    else:
        del item[lacks]
    table.client.put_item(TableName=table.name, Item=item)
    assert [*backlog.markers("wh_1")] == [Lane.RETRY], story
    assert [each.lane for each in backlog.all_markers()] == [Lane.RETRY]
    assert [each.lane for each in due_markers(backlog)] == [Lane.RETRY]
    assert counted == {Metric.INTERNAL_ERRORS: 3}


@pytest.mark.parametrize("attribute", ["due_at", "check_at", "token"])
def test_an_append_mends_a_mark_that_lacks_something(backlog: Backlog, table: Table, attribute: str) -> None:
    mark(backlog, due_at_ms=5)
    table.client.update_item(
        TableName=table.name,
        Key=key_item(("DUE#0", "wh_1#realtime")),
        UpdateExpression="REMOVE #attribute",
        ExpressionAttributeNames={"#attribute": attribute},
    )
    assert not mark(backlog, due_at_ms=5)
    got = backlog.markers("wh_1")[Lane.REALTIME]
    assert (got.due_at_ms, got.check_at_ms) == (5, NOW_MS + 7 * DAY_MS)
    assert got.token


class Race:
    """Appenders and drainers on one lane. Each of their steps is one call of DynamoDB, or what
    one function of `Backlog` does; between any two, others may do theirs."""

    numbers = count()

    def __init__(self, table: Table, lane: Lane) -> None:
        self.backlog = Backlog(table, retention_days=7)
        self.webhook_id = f"wh_{next(self.numbers)}"  # a lane of its own, so that nothing must be cleared
        self.lane = lane
        self.marked: set[PendingEvent] = set()
        """Appended, marked, and not taken out yet."""

    def append(self, due_at_ms: int) -> Generator[None]:
        each = waiting(f"e{next(self.numbers)}", due_at_ms=due_at_ms if self.lane is Lane.RETRY else 0)
        self.backlog.append(self.webhook_id, self.lane, [each])
        yield
        self.backlog.set_marker(
            "1010", self.webhook_id, self.lane, accepted_at_ms=NOW_MS, due_at_ms=each.due_at_ms
        )
        if each in self.backlog.read(self.webhook_id, self.lane, limit=1000):
            self.marked.add(each)

    def drain(self, now_ms: int) -> Generator[None]:
        """As a turn serves a lane. It may stop after any step: its process was killed."""
        while mark := self.backlog.markers(self.webhook_id).get(self.lane):
            yield
            found = self.backlog.read(self.webhook_id, self.lane, limit=1)
            yield
            if not found:
                self.backlog.clear_marker(mark)
                return
            if found[0].due_at_ms > now_ms:
                self.backlog.set_due(mark, found[0].due_at_ms)
                return
            self.backlog.remove(self.webhook_id, self.lane, found)
            self.marked -= set(found)
            yield

    def actor(self, kind: str, at_ms: int) -> Generator[None]:
        return {"append": self.append, "drain": self.drain}[kind](at_ms)

    def check(self) -> None:
        if self.marked:
            mark = self.backlog.markers(self.webhook_id).get(self.lane)
            assert mark is not None, "events without a mark"
            assert mark.due_at_ms <= min(each.due_at_ms for each in self.marked), "found too late"


actors = st.tuples(st.sampled_from(["append", "drain"]), st.integers(0, 3))


@pytest.mark.slow
@given(
    st.sampled_from([Lane.REALTIME, Lane.RETRY]),
    st.lists(actors, min_size=2, max_size=6),
    st.lists(st.integers(0, 5), max_size=40),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=150)
def test_no_interleaving_leaves_events_without_a_mark(
    table: Table, lane: Lane, kinds: list[tuple[str, int]], turns: list[int]
) -> None:
    """Whose turn it is, Hypothesis draws. What was appended and marked stays marked until it is taken out.
    The mark never says a later time than the first of them is due."""
    empty(table)
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


# By CRC-32, computed elsewhere: another way would look for the marks that stand in the table today, and for
# those of the version before during a deployment, where they are not.
SHARD_OF = {
    "wh_1": 0,
    "wh_2": 10,
    "wh_aaaaaaaaaaaaaaaaaaaaaa": 9,
    "wh_jJ0m8Q2kTq-RZ5n_vY7xWg": 8,
    "wh_7Hc1u5oLr3fE9dSgB2kPzQ": 8,
}


@pytest.mark.parametrize(("webhook_id", "shard"), SHARD_OF.items())
def test_a_mark_stands_where_every_version_looks_for_it(
    backlog: Backlog, table: Table, webhook_id: str, shard: int
) -> None:
    backlog.set_marker("1010", webhook_id, Lane.RETRY, accepted_at_ms=NOW_MS)
    (item,) = table.client.scan(TableName=table.name)["Items"]
    assert (item["pk"]["S"], item["sk"]["S"]) == (f"DUE#{shard}", f"{webhook_id}#retry")


def test_there_are_sixteen_shards_and_the_sweep_looks_into_each(backlog: Backlog, table: Table) -> None:
    asked: list[str] = []
    table.client.meta.events.register(
        "provide-client-params.dynamodb.Query",
        lambda params, **_: asked.append(params["ExpressionAttributeValues"][":pk"]["S"]),
    )
    assert list(backlog.all_markers()) == []
    assert sorted(asked) == sorted(
        [
            "DUE#0",
            "DUE#1",
            "DUE#2",
            "DUE#3",
            "DUE#4",
            "DUE#5",
            "DUE#6",
            "DUE#7",
            "DUE#8",
            "DUE#9",
            "DUE#10",
            "DUE#11",
            "DUE#12",
            "DUE#13",
            "DUE#14",
            "DUE#15",
        ]
    )


def fill(backlog: Backlog, lane: Lane, number: int, *, text: str = "{}") -> DueMarker:
    backlog.append("wh_1", lane, [waiting(f"{each:04d}", text=text) for each in range(number)])
    mark(backlog, lane)
    return backlog.markers("wh_1")[lane]


@pytest.mark.parametrize(
    ("standing", "limit", "counted"),
    [
        (0, 5, Count(0, is_complete=True)),
        (4, 5, Count(4, is_complete=True)),
        (5, 5, Count(5, is_complete=True)),
        (6, 5, Count(5, is_complete=False)),
        (7, 5, Count(5, is_complete=False)),
    ],
)
def test_a_count_says_whether_it_is_all(backlog: Backlog, standing: int, limit: int, counted: Count) -> None:
    assert backlog.count(fill(backlog, Lane.BATCH, standing), limit=limit) == counted


def test_a_count_that_a_megabyte_ended_is_not_all(backlog: Backlog) -> None:
    """Twenty events of 120 KB are 2.4 MB, and DynamoDB counts no further than one of them."""
    noise = random.Random(7).randbytes(120_000).hex()  # compressed, half as long
    counted = backlog.count(fill(backlog, Lane.REALTIME, 20, text=noise), limit=100)
    assert not counted.is_complete
    assert 0 < counted.events < 20


def test_an_attempt_of_what_went_meanwhile_leaves_no_stub(backlog: Backlog, table: Table) -> None:
    """Its own drainer delivered it, or an operator erased it, while it was sent ahead of its time. An item
    with attempts alone could not be read: nothing of the lane could be, any more."""
    for lane in (Lane.REALTIME, Lane.BATCH, Lane.RETRY):
        gone = waiting("a", due_at_ms=500 if lane is Lane.RETRY else 0)
        attempt = Attempt(NOW_MS, 80, 422, None)
        assert not backlog.add_attempt("wh_1", lane, gone, attempt)
    assert table.client.scan(TableName=table.name)["Count"] == 0


MANY = tuple(Attempt(NOW_MS + number, 1, 422, None) for number in range(500))


def test_an_attempt_of_what_waits_on_is_added_once(backlog: Backlog) -> None:
    first, second = Attempt(NOW_MS, 80, 422, None), Attempt(NOW_MS + 1, 80, 422, None)
    kept = waiting("a", due_at_ms=500)
    backlog.append("wh_1", Lane.RETRY, [kept])
    assert backlog.add_attempt("wh_1", Lane.RETRY, kept, first)
    assert backlog.add_attempt("wh_1", Lane.RETRY, kept, second)
    assert not backlog.add_attempt("wh_1", Lane.RETRY, kept, first), "botocore repeated the call"
    (found,) = backlog.read("wh_1", Lane.RETRY, limit=5)
    assert found == replace(kept, attempts=(first, second))


def test_attempts_of_what_waits_on_leave_room_in_its_item(backlog: Backlog) -> None:
    """An admin may ask for it ten times a minute, and DynamoDB takes no item of more than 400 KB. Such an
    event could not be set aside again, and would stop its lane."""
    kept = waiting("a", due_at_ms=500, attempts=MANY)
    backlog.append("wh_1", Lane.RETRY, [kept])
    latest = Attempt(NOW_MS + 1000, 80, 422, None)
    assert not backlog.add_attempt("wh_1", Lane.RETRY, kept, latest)
    later = waiting("a", due_at_ms=900, attempts=(latest,))
    assert backlog.append("wh_1", Lane.RETRY, [later]) == set()
    (found,) = backlog.read("wh_1", Lane.RETRY, limit=5)
    assert found.attempts == (*MANY[1:], latest)


def test_a_place_in_the_retry_lane_that_a_newer_version_wrote_stops_no_event(
    table: Table, backlog: Backlog
) -> None:
    newer: dict[str, Any] = {**key_item(("RETRY#wh_1", waiting("a").event.sort_key)), "place": {"S": "v2"}}
    table.client.put_item(TableName=table.name, Item=newer)
    assert backlog.append("wh_1", Lane.RETRY, [waiting("a", due_at_ms=100)]) == set()
    assert ids(backlog, Lane.RETRY) == ["a"]


def test_another_event_under_the_same_id_and_time_takes_no_place_in_the_retry_lane(backlog: Backlog) -> None:
    """The first one would vanish, and no history would say so."""
    first, second = waiting("a", due_at_ms=100), waiting("a", due_at_ms=200, text='{"another": 1}')
    for each in (first, second):
        assert backlog.append("wh_1", Lane.RETRY, [each]) == set()
    assert backlog.read("wh_1", Lane.RETRY, limit=10) == [first, second]


def redeliver(backlog: Backlog, table: Table, again: PendingEvent) -> None:
    """Put an event into the replay lane as one transaction with its mark does."""
    table.client.transact_write_items(
        TransactItems=[
            backlog.append_write("wh_1", again),
            backlog.marker_write("1010", "wh_1", asked_at_ms=again.asked_at_ms),
        ]
    )


def test_everything_about_one_to_be_sent_again_comes_back(backlog: Backlog, table: Table) -> None:
    again = waiting("a", lane=Lane.RETRY, due_at_ms=700, asked_at_ms=NOW_MS, tries=2)
    redeliver(backlog, table, again)
    (found,) = backlog.read("wh_1", Lane.REPLAY, limit=5)
    assert found == replace(again, token=found.token)
    assert len(found.token) >= 16
    assert backlog.find("wh_1", Lane.REPLAY, again.event.sort_key) == found
    assert backlog.find("wh_1", Lane.REPLAY, again.event.sort_key + "x") is None
    assert backlog.find("wh_1", Lane.REALTIME, again.event.sort_key) is None


def test_one_that_is_asked_for_once_more_stays_when_the_first_was_sent(
    backlog: Backlog, table: Table
) -> None:
    again = waiting("a", asked_at_ms=NOW_MS)
    redeliver(backlog, table, again)
    (first,) = backlog.read("wh_1", Lane.REPLAY, limit=5)
    redeliver(backlog, table, again)
    assert backlog.remove("wh_1", Lane.REPLAY, [first])
    (second,) = backlog.read("wh_1", Lane.REPLAY, limit=5)
    assert second.token != first.token
    assert backlog.remove("wh_1", Lane.REPLAY, [second])
    assert backlog.read("wh_1", Lane.REPLAY, limit=5) == []
    assert backlog.remove("wh_1", Lane.REPLAY, [second]), "it is gone already"


def test_the_first_who_asks_says_when_the_replay_lane_is_looked_through(
    backlog: Backlog, table: Table
) -> None:
    """And each that asks changes the token, and has it sent now."""
    redeliver(backlog, table, waiting("a", asked_at_ms=NOW_MS))
    first = backlog.markers("wh_1")[Lane.REPLAY]
    assert (first.account_id, first.due_at_ms, first.check_at_ms) == ("1010", 0, NOW_MS + 7 * DAY_MS)
    assert backlog.set_due(first, NOW_MS + 900)
    redeliver(backlog, table, waiting("b", asked_at_ms=NOW_MS + 5_000))
    second = backlog.markers("wh_1")[Lane.REPLAY]
    assert (second.due_at_ms, second.check_at_ms) == (0, NOW_MS + 7 * DAY_MS)
    assert not backlog.clear_marker(first)


def test_a_page_of_a_lane_has_the_last_events_first(backlog: Backlog) -> None:
    kept = [waiting(f"e{number}", at_ms=NOW_MS + number) for number in range(5)]
    backlog.append("wh_1", Lane.BATCH, kept)
    whole = KeyRange(kept[0].event.sort_key, ":")
    page = backlog.page("wh_1", Lane.BATCH, whole, limit=2)
    assert (page.entries, page.last_key) == ([kept[4], kept[3]], kept[3].event.sort_key)
    rest = backlog.page("wh_1", Lane.BATCH, KeyRange(kept[1].event.sort_key, page.last_key or ""), limit=5)
    assert rest.entries == [kept[2], kept[1]]


def test_a_count_of_exactly_what_is_shown_is_all(backlog: Backlog, table: Table) -> None:
    """DynamoDB names a last key whenever a read ends at its limit, whether something follows or not."""
    marked = fill(backlog, Lane.BATCH, 5)
    client = before(table)

    def query(**call: Any) -> Any:
        answer = client.behind.query(**call)
        at_limit = answer["Count"] == call["Limit"]
        return {**answer, "LastEvaluatedKey": key_item(("BACKLOG#wh_1#batch", "x"))} if at_limit else answer

    client.answers["query"] = query
    assert backlog.count(marked, limit=5) == Count(5, is_complete=True)
    assert backlog.count(marked, limit=4) == Count(4, is_complete=False)


def test_an_event_that_waits_is_stored_with_no_more_than_it_needs(backlog: Backlog, table: Table) -> None:
    """Each kilobyte is a write unit, at its append and at its removal."""
    backlog.append("wh_1", Lane.REALTIME, [waiting("a")])
    (item,) = table.client.scan(TableName=table.name)["Items"]
    assert set(item) == {"pk", "sk", "account_id", "event_name", "accepted_at", "event"}
    assert (item["pk"]["S"], item["sk"]["S"]) == (
        "BACKLOG#wh_1#realtime",
        f"{NOW_MS}#a\tCOURSE_ENROLLMENT",
    )


def test_an_append_to_a_marked_lane_marks_it_with_one_write(backlog: Backlog, table: Table) -> None:
    """A webhook in backlog mode gets one with each batch of its events; two cost twice as much."""
    mark(backlog, Lane.RETRY, accepted_at_ms=NOW_MS, due_at_ms=500)
    before(table).calls.clear()
    mark(backlog, Lane.RETRY, accepted_at_ms=NOW_MS, due_at_ms=500)
    mark(backlog, Lane.RETRY, accepted_at_ms=NOW_MS + 1, due_at_ms=501)
    assert before(table).calls == {"update_item": 2}
    mark(backlog, Lane.RETRY, accepted_at_ms=NOW_MS - 1, due_at_ms=499)
    assert before(table).calls == {"update_item": 5}


def test_only_real_time_events_of_an_endpoint_that_answers_are_urgent() -> None:
    assert {lane: (lane.is_urgent(failures=0), lane.is_urgent(failures=1)) for lane in Lane} == {
        Lane.REALTIME: (True, False),
        Lane.BATCH: (False, False),
        Lane.RETRY: (False, False),
        Lane.REPLAY: (False, False),
    }


def test_a_lane_is_claimed_by_one_until_the_claim_ends(backlog: Backlog) -> None:
    mark(backlog, Lane.REALTIME, accepted_at_ms=NOW_MS)
    marked = backlog.markers("wh_1")[Lane.REALTIME]
    assert marked.purge_until_ms == 0
    assert backlog.claim(marked, "a", now_ms=0, until_ms=70)
    assert backlog.claim(marked, "a", now_ms=0, until_ms=70), "botocore may try again"
    assert not backlog.claim(marked, "b", now_ms=70, until_ms=99)
    assert not backlog.claim(marked, "b", now_ms=70, until_ms=99, instead_of=("c", ""))
    assert backlog.markers("wh_1")[Lane.REALTIME].purge_until_ms == 70
    assert backlog.claim(marked, "b", now_ms=71, until_ms=99)
    assert not backlog.claim(marked, "a", now_ms=71, until_ms=99)


def test_a_claim_is_given_on(backlog: Backlog) -> None:
    """The sweep claims under no name, for the drainer that gets its message."""
    mark(backlog, Lane.REALTIME, accepted_at_ms=NOW_MS)
    marked = backlog.markers("wh_1")[Lane.REALTIME]
    assert backlog.claim(marked, "", now_ms=0, until_ms=70)
    assert not backlog.claim(marked, "stray", now_ms=1, until_ms=70, instead_of=("ticket", "m1"))
    assert backlog.claim(marked, "a", now_ms=1, until_ms=70, instead_of=("", "m1"))
    assert backlog.claim(marked, "m1", now_ms=2, until_ms=70, instead_of=("a",))
    assert backlog.claim(marked, "b", now_ms=3, until_ms=70, instead_of=("m1", "m2"))
    assert not backlog.claim(marked, "c", now_ms=4, until_ms=70, instead_of=("m1", "m2")), "it came twice"


def test_a_lane_that_is_gone_is_claimed_by_nobody(backlog: Backlog) -> None:
    mark(backlog, Lane.REALTIME, accepted_at_ms=NOW_MS)
    marked = backlog.markers("wh_1")[Lane.REALTIME]
    assert backlog.clear_marker(marked)
    assert not backlog.claim(marked, "a", now_ms=0, until_ms=70)
    assert backlog.markers("wh_1") == {}


def test_an_append_leaves_the_claim_of_a_lane(backlog: Backlog) -> None:
    mark(backlog, Lane.REALTIME, accepted_at_ms=NOW_MS)
    assert backlog.claim(backlog.markers("wh_1")[Lane.REALTIME], "a", now_ms=0, until_ms=70)
    mark(backlog, Lane.REALTIME, accepted_at_ms=NOW_MS)
    assert not backlog.claim(backlog.markers("wh_1")[Lane.REALTIME], "b", now_ms=1, until_ms=70)
