"""What a drain run sends next, of what it found."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lms_webhooks.drainer.choosing import (
    CHOSEN_FROM,
    after_request,
    lanes_to_probe,
    next_lane,
    number_of_stand_in,
    request_of,
    stand_in,
)
from lms_webhooks.model.health import Health
from lms_webhooks.model.lanes import Lane, PendingEvent
from tests.unit.flow import waiting

LOWER = (Lane.BATCH, Lane.RETRY, Lane.REPLAY)


def served(due: Sequence[Lane], health: Health, *, requests: int) -> list[Lane]:
    lanes = []
    for _ in range(requests):
        lanes.append(next_lane(due, health))
        health = after_request(health, lanes[-1])
    return lanes


@given(
    st.sets(st.sampled_from(LOWER), min_size=1),
    st.integers(0, 10**6),
    st.sampled_from(["", *LOWER, "a-lane-of-a-newer-version"]),
)
def test_each_lower_lane_is_served_within_twelve_requests_beside_the_real_time_lane(
    lower: set[Lane], in_a_row: int, last: str
) -> None:
    health = Health(realtime_in_a_row=in_a_row, lower_lane=last)
    due = [Lane.REALTIME, *(lane for lane in LOWER if lane in lower)]
    lanes = served(due, health, requests=12)
    assert set(lanes) == set(due)
    assert lanes.count(Lane.REALTIME) == 9, "three in four"


def test_without_the_others_a_lane_is_served_alone() -> None:
    assert served([Lane.REALTIME], Health(), requests=9) == [Lane.REALTIME] * 9
    assert served([Lane.RETRY], Health(), requests=3) == [Lane.RETRY] * 3


def test_a_lower_lane_that_became_due_waits_for_two_others_at_most() -> None:
    lanes = served([Lane.BATCH, Lane.REPLAY], Health(lower_lane="replay"), requests=2)
    assert lanes == [Lane.BATCH, Lane.REPLAY]
    assert served(LOWER, Health(lower_lane="batch"), requests=3) == [Lane.RETRY, Lane.REPLAY, Lane.BATCH]


def some(count: int, *, size: int = 10) -> list[PendingEvent]:
    events = [waiting(f"e{number}") for number in range(count)]
    return [replace(each, event=replace(each.event, text="x" * size)) for each in events]


def keys(*events: PendingEvent) -> list[str]:
    return [each.event.sort_key for each in events]


@pytest.mark.parametrize(("most_bytes", "together"), [(1, 1), (11, 1), (21, 1), (22, 2), (33, 3), (99, 3)])
def test_a_request_is_as_large_as_it_may_be_and_has_one_event_at_least(
    most_bytes: int, together: int
) -> None:
    events = some(3)
    assert request_of(events, Health(), most_bytes=most_bytes) == events[:together]


@pytest.mark.parametrize(("suspect", "together"), [(0, 1), (1, 1), (2, 2), (3, 3)])
def test_a_suspect_is_sent_alone_and_so_is_what_is_behind_it(suspect: int, together: int) -> None:
    events = some(4)
    health = Health(suspects={events[suspect].event.sort_key: 0})
    assert request_of(events, health, most_bytes=999) == events[:together]


def test_from_its_third_failure_on_the_first_event_is_followed_by_others_and_then_each_third_time() -> None:
    numbers = {failures: number_of_stand_in(failures) for failures in range(26)}
    followed = {failures: number for failures, number in numbers.items() if number is not None}
    assert followed == {3: 0, 4: 1, 5: 2, 6: 3, 9: 4, 12: 5, 15: 6, 18: 7, 21: 8, 24: 9}


def test_the_lanes_take_turns_and_each_begins_with_its_first_event() -> None:
    lanes = [Lane.REALTIME, Lane.BATCH, Lane.REPLAY]
    looked_at = [stand_in(number, lanes) for number in range(4)]
    assert [order[0] for order, _ in looked_at] == [*lanes, Lane.REALTIME]
    assert [depth for _, depth in looked_at[:3]] == [0, 0, 0]
    assert looked_at[1][0] == [Lane.BATCH, Lane.REPLAY, Lane.REALTIME]


def test_the_retry_lane_has_no_turn_and_is_looked_at_when_the_others_have_none() -> None:
    lanes = [Lane.REALTIME, Lane.BATCH, Lane.RETRY]
    assert [stand_in(number, lanes)[0] for number in range(3)] == [
        [Lane.REALTIME, Lane.BATCH, Lane.RETRY],
        [Lane.BATCH, Lane.REALTIME, Lane.RETRY],
        [Lane.REALTIME, Lane.BATCH, Lane.RETRY],
    ]
    assert stand_in(1, [Lane.RETRY])[0] == [Lane.RETRY]


@given(st.integers(2, CHOSEN_FROM), st.integers(0, 500))
def test_each_place_of_a_lane_has_its_turn_within_a_week_and_no_row_of_half_of_them_has_three(
    count: int, since: int
) -> None:
    def place(number: int) -> int:
        return int(stand_in(number, [Lane.REALTIME])[1] * count)

    assert {place(since + number) for number in range(7 * 96)} == set(range(count))
    half = count // 2
    in_front = [place(since + number) < half for number in range(3)]
    assert not all(in_front)


@pytest.mark.parametrize(
    ("due", "in_order"),
    [
        ([*Lane], [Lane.REALTIME, Lane.BATCH, Lane.REPLAY, Lane.RETRY]),
        ([Lane.RETRY, Lane.REPLAY], [Lane.REPLAY, Lane.RETRY]),
        ([Lane.RETRY], [Lane.RETRY]),
    ],
)
def test_what_was_rejected_probes_an_endpoint_only_behind_everything_else(
    due: list[Lane], in_order: list[Lane]
) -> None:
    assert lanes_to_probe(due) == in_order
