"""What a drain run sends next, of what it found."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lms_webhooks.backlog import Lane, Waiting
from lms_webhooks.choosing import (
    after_request,
    candidates_of,
    lanes_to_probe,
    next_lane,
    request_of,
    stand_in,
)
from lms_webhooks.health import Health
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


def some(count: int, *, size: int = 10) -> list[Waiting]:
    events = [waiting(f"e{number}") for number in range(count)]
    return [replace(each, event=replace(each.event, text="x" * size)) for each in events]


def keys(*events: Waiting) -> list[str]:
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


@pytest.mark.parametrize(
    ("failures", "chosen"),
    [
        ((0, 0, 0), None),
        ((1, 0, 0), None),
        ((2, 0, 0), None),
        ((3, 0, 0), 1),
        ((4, 1, 0), 2),
        ((5, 1, 1), None),
        ((11, 1, 1), None),
        ((12, 1, 1), 1),
        ((24, 2, 1), 2),
        ((25, 2, 0), 2),
    ],
)
def test_from_its_third_failure_on_the_first_event_is_followed_by_others_each_once_and_then_hourly(
    failures: tuple[int, ...], chosen: int | None
) -> None:
    events = some(3)
    suspects = dict(zip(keys(*events), failures, strict=True))
    assert stand_in(events, Health(suspects=suspects)) == (None if chosen is None else events[chosen])


def test_where_there_is_no_other_event_none_is_chosen() -> None:
    (only,) = some(1)
    assert stand_in([only], Health(suspects={only.event.sort_key: 3})) is None


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


@pytest.mark.parametrize(
    ("failures", "candidates"), [(0, 5), (1, 5), (11, 5), (22, 5), (23, 6), (24, 5), (47, 7), (2399, 100)]
)
def test_every_other_hour_one_event_more_is_chosen_from(failures: int, candidates: int) -> None:
    assert candidates_of(Health(suspects={"a": failures, "b": 0})) == candidates


def test_every_other_hour_it_is_the_last_one() -> None:
    """Those next to the first may all be of its kind."""
    events = some(6)
    for failures, chosen in ((12, 2), (24, 5), (36, 2), (25, None)):
        suspects = dict(zip(keys(*events), (failures, 2, 1, 2, 2), strict=False))
        assert stand_in(events, Health(suspects=suspects)) == (None if chosen is None else events[chosen])
