"""Looking through a lane for what expired: each event once a look, however long the lane is."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from lms_webhooks.drainer.expiry import PAGES_PER_CHECK, PAUSE_MS, Expiry
from lms_webhooks.model.events import read_sort_key
from lms_webhooks.model.lanes import DueMarker, Lane, PendingEvent
from tests.unit.flow import ACCOUNT, ID, RETENTION_DAYS, RETENTION_MS, Flow, flow, waiting
from tests.unit.tables import DAY_MS, NOW_MS, before


class Looks(Flow):
    """Looks over the parts."""

    def look(self, lane: Lane = Lane.REALTIME, *, answers: bool = False, pages: int = 99) -> None:
        """As a drain run does it, with time for so many pages."""
        left = iter([True] * pages + [False] * 99)
        Expiry(
            self.backlog, self.recorder, self.replays, retention_days=RETENTION_DAYS, clock=self.clock
        ).check_lane(
            self.mark(lane), endpoint_works=answers, last_error="HTTP 503", has_time=lambda: next(left)
        )

    def mark(self, lane: Lane = Lane.REALTIME) -> DueMarker:
        return self.backlog.markers(ID)[lane]

    def in_pages(self) -> list[str]:
        """Let each page be one event, as if it had a megabyte; return their ids, as they are read."""
        read: list[str] = []
        read_all = self.backlog.read_all

        def in_pages(webhook_id: str, lane: Lane, *, behind: str = "") -> Iterator[list[PendingEvent]]:
            for each in [each for page in read_all(webhook_id, lane, behind=behind) for each in page]:
                read.append(each.event.event_id)
                yield [each]

        self.backlog.read_all = in_pages  # type: ignore[method-assign]
        return read


@pytest.fixture
def world() -> Iterator[Looks]:
    with flow(Looks) as world:
        world.register()
        yield world


def lane_of(*ages_ms: int) -> list[PendingEvent]:
    """One event each, accepted so long ago; in the order of their own time."""
    return [
        waiting(f"e{number}", at_ms=NOW_MS + number, accepted_at_ms=NOW_MS - age_ms)
        for number, age_ms in enumerate(ages_ms)
    ]


OLD, YOUNG = RETENTION_MS, DAY_MS


def test_what_expired_is_recorded_and_the_rest_is_looked_at_when_its_first_expires(world: Looks) -> None:
    world.put(Lane.REALTIME, *lane_of(YOUNG, OLD, 2 * YOUNG))
    world.look()
    assert world.waiting_ids(Lane.REALTIME) == ["e0", "e2"]
    assert world.mark().check_at_ms == NOW_MS - 2 * YOUNG + RETENTION_MS


def test_a_lane_of_which_all_expired_loses_its_mark(world: Looks) -> None:
    world.put(Lane.REALTIME, *lane_of(OLD, OLD))
    world.look()
    assert (world.waiting(Lane.REALTIME), world.backlog.markers(ID)) == ([], {})


def test_a_long_lane_is_looked_through_in_portions_and_each_page_is_read_once(world: Looks) -> None:
    """Behind ten megabytes of younger events there is one that expired."""
    ages = [YOUNG] * (2 * PAGES_PER_CHECK + 5)
    ages[-1] = OLD
    world.put(Lane.REALTIME, *lane_of(*ages))
    read = world.in_pages()
    for _ in range(3):
        world.look()
    started = [f"e{number}" for number in range(len(ages))]
    # The first page of the next portion is read when this one ends.
    assert sorted(set(read), key=read.index) == started
    assert len(read) <= len(started) + 2
    assert world.waiting_ids(Lane.REALTIME) == started[:-1]
    assert world.mark().check_at_ms == NOW_MS - YOUNG + RETENTION_MS
    assert world.mark().check is None


def test_a_look_that_has_no_time_left_goes_on_where_it_was(world: Looks) -> None:
    world.put(Lane.REALTIME, *lane_of(OLD, YOUNG, OLD, 3 * YOUNG))
    world.in_pages()
    due_at_ms = world.mark().check_at_ms
    world.look(pages=2)
    assert world.waiting_ids(Lane.REALTIME) == ["e1", "e2", "e3"]
    check = world.mark().check
    assert check is not None
    assert (read_sort_key(check.position)[1], check.first_ms) == ("e1", NOW_MS - YOUNG)
    assert world.mark().check_at_ms == due_at_ms, "the look stays due"
    world.look()
    assert world.waiting_ids(Lane.REALTIME) == ["e1", "e3"]
    assert world.mark().check_at_ms == NOW_MS - 3 * YOUNG + RETENTION_MS


def test_what_was_appended_behind_a_look_is_looked_at_within_a_day(world: Looks) -> None:
    """An event that was accepted before all that were seen may be among it."""
    world.put(Lane.REALTIME, *lane_of(YOUNG, YOUNG))
    world.in_pages()
    world.look(pages=1)
    late = waiting("late", at_ms=NOW_MS - 5, accepted_at_ms=NOW_MS - 6 * DAY_MS)
    world.put(Lane.REALTIME, late)
    world.look()
    assert world.mark().check_at_ms == NOW_MS + DAY_MS
    world.now += 86_400
    world.look()
    assert world.waiting_ids(Lane.REALTIME) == ["e0", "e1"]


def test_a_lane_that_something_was_appended_to_keeps_its_mark(world: Looks) -> None:
    world.put(Lane.REALTIME, *lane_of(OLD))
    mark = world.mark()
    world.put(Lane.REALTIME, waiting("new"))
    expiry = Expiry(world.backlog, world.recorder, world.replays, retention_days=7, clock=world.clock)
    world.backlog.read_all = lambda *_, **__: iter([[]])  # type: ignore[method-assign]  # it had ended before
    expiry.check_lane(mark, endpoint_works=False, last_error="", has_time=lambda: True)
    assert world.mark().check_at_ms == NOW_MS + PAUSE_MS


def test_a_lane_whose_events_expire_one_by_one_is_not_read_each_minute(world: Looks) -> None:
    world.put(Lane.REALTIME, *lane_of(OLD, OLD - 1000, OLD - 2000))
    world.look()
    assert world.waiting_ids(Lane.REALTIME) == ["e1", "e2"]
    assert world.mark().check_at_ms == NOW_MS + PAUSE_MS == NOW_MS + 600_000


@pytest.mark.parametrize("lane", [Lane.REALTIME, Lane.BATCH])
def test_nothing_expires_untried_while_its_endpoint_answers(world: Looks, lane: Lane) -> None:
    world.put(lane, *lane_of(OLD, YOUNG))
    world.look(lane, answers=True)
    assert world.waiting_ids(lane) == ["e0", "e1"]
    assert world.mark(lane).check_at_ms == NOW_MS + PAUSE_MS


def test_what_was_tried_and_rejected_expires_all_the_same(world: Looks) -> None:
    old = replace(lane_of(OLD)[0], tries=3, due_at_ms=NOW_MS + 1)
    world.put(Lane.RETRY, old, due_at_ms=NOW_MS + 1)
    world.look(Lane.RETRY, answers=True)
    assert world.waiting(Lane.RETRY) == []
    assert world.outcome(old.event) == "expired"


def test_what_cannot_be_recorded_stays_and_its_look_stays_due(world: Looks) -> None:
    world.put(Lane.REALTIME, *lane_of(OLD))
    due_at_ms = world.mark().check_at_ms
    client = before(world.deliveries_table)

    def refuse(**_: Any) -> Any:
        raise client.behind.exceptions.from_code("ThrottlingException")(
            {"Error": {"Code": "ThrottlingException"}}, "PutItem"
        )

    client.answers["put_item"] = refuse
    world.look()
    assert (world.waiting_ids(Lane.REALTIME), world.mark().check_at_ms) == (["e0"], due_at_ms)


def test_a_look_that_was_kept_does_not_outlive_its_mark(world: Looks) -> None:
    world.put(Lane.REALTIME, *lane_of(YOUNG, YOUNG))
    world.in_pages()
    world.look(pages=1)
    assert world.backlog.clear_marker(world.mark())
    world.backlog.set_marker(ACCOUNT, ID, Lane.REALTIME, accepted_at_ms=NOW_MS)
    assert world.mark().check is None
