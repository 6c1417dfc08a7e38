"""Slow endpoints, and those that reject everything, are noticed before they fail."""

import pytest

from lms_webhooks.pace import REMEMBERED_MS, Pace

NOW_MS = 1_793_707_200_000


@pytest.mark.parametrize(
    ("latencies_ms", "is_slow"),
    [
        ([1001, 1001], False),
        ([1001, 1001, 1001], True),
        ([1001, 1001, 1000, 1001, 1001], True),  # never three in a row, but the average over five
        ([2000, 2000, 500, 500], False),
        ([2000, 2000, 500, 500, 500], True),
        ([1000] * 20, False),
        ([1001], False),
        ([1001, 1001, 999, 1001, 1001], True),  # 1,000.6 on average
        ([1001, 1001, 1000, 1000, 998], False),  # 1,000.0: at the threshold, not over it
        ([5000, 1, 1, 5000], False),  # an average over four is none
        ([5000, 1, 1, 5000, 1], True),
        ([4000, 10, 10, 10, 10], False),
        ([5000, *[10] * 10, 1001, 1001], False),  # the first is forgotten after ten
    ],
)
def test_three_slow_answers_in_a_row_or_a_slow_average(latencies_ms: list[int], is_slow: bool) -> None:
    pace = Pace()
    assert [pace.took("wh_1", each, at_ms=NOW_MS) for each in latencies_ms][-1] is is_slow


@pytest.mark.parametrize(("gap_ms", "is_slow"), [(REMEMBERED_MS, True), (REMEMBERED_MS + 1, False)])
@pytest.mark.parametrize("latencies_ms", [[2000] * 3, [9000, 1, 9000, 1, 9000]])
def test_slow_answers_that_are_far_apart_are_none_in_a_row(
    latencies_ms: list[int], gap_ms: int, *, is_slow: bool
) -> None:
    """One slow answer a day holds up nobody."""
    pace = Pace()
    slow = [pace.took("wh_1", each, at_ms=NOW_MS + index * gap_ms) for index, each in enumerate(latencies_ms)]
    assert slow[-1] is is_slow


def test_rejections_are_counted_however_far_apart_they_are() -> None:
    """A webhook with one event a day, each of them rejected, is one that rejects everything."""
    pace = Pace()
    pace.rejected("wh_1")
    pace.rejected("wh_1")
    assert pace.rejections("wh_1") == 2


def test_webhooks_are_told_apart() -> None:
    pace = Pace()
    for _ in range(2):
        pace.took("wh_1", 3000, at_ms=NOW_MS)
        pace.took("wh_2", 10, at_ms=NOW_MS)
    assert pace.took("wh_1", 3000, at_ms=NOW_MS)
    assert not pace.took("wh_2", 10, at_ms=NOW_MS)


def test_rejections_in_a_row_are_counted_until_a_success() -> None:
    pace = Pace()
    for rejections in range(4):
        assert pace.rejections("wh_1") == rejections
        pace.rejected("wh_1")
    pace.took("wh_1", 10, at_ms=NOW_MS)
    assert pace.rejections("wh_1") == 0


def test_rejections_are_no_answers_whose_time_counts() -> None:
    pace = Pace()
    for _ in range(2):
        pace.took("wh_1", 3000, at_ms=NOW_MS)
        pace.rejected("wh_1")
    assert pace.took("wh_1", 3000, at_ms=NOW_MS), "three in a row, of those that it took"


def test_the_count_of_rejections_is_each_webhook_s_own() -> None:
    pace = Pace()
    pace.rejected("wh_1")
    pace.rejected("wh_2")
    pace.forget("wh_1")
    assert (pace.rejections("wh_1"), pace.rejections("wh_2")) == (0, 1)


def test_who_stays_slow_is_told_so_each_time() -> None:
    """The write of the transition may have failed."""
    pace = Pace()
    assert [pace.took("wh_1", 2000, at_ms=NOW_MS) for _ in range(12)] == [False] * 2 + [True] * 10


def test_one_webhook_does_not_fill_the_memory() -> None:
    pace = Pace()
    for _ in range(1000):
        pace.took("wh_1", 10, at_ms=NOW_MS)
    assert len(pace._answers["wh_1"].latencies_ms) == 10


def test_who_comes_back_to_direct_mode_starts_afresh() -> None:
    pace = Pace()
    for _ in range(2):
        pace.took("wh_1", 3000, at_ms=NOW_MS)
    pace.forget("wh_1")
    pace.forget("wh_unknown")
    assert not pace.took("wh_1", 3000, at_ms=NOW_MS)


def test_memory_is_bounded() -> None:
    pace = Pace()
    for number in range(25_000):
        pace.took(f"wh_{number}", 10, at_ms=NOW_MS)
    assert len(pace._answers) <= 10_000
