"""Slow endpoints, and those that reject everything, are noticed before they fail."""

import pytest

from lms_webhooks.clocks import Clocks
from lms_webhooks.dispatcher.slow_endpoints import SlownessDetector


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
    detector = SlownessDetector()
    assert [detector.record_success("wh_1", each) for each in latencies_ms][-1] is is_slow


def test_webhooks_are_told_apart() -> None:
    detector = SlownessDetector()
    for _ in range(2):
        detector.record_success("wh_1", 3000)
        detector.record_success("wh_2", 10)
    assert detector.record_success("wh_1", 3000)
    assert not detector.record_success("wh_2", 10)


def test_rejections_in_a_row_are_counted_until_a_success() -> None:
    detector = SlownessDetector()
    for rejections in range(4):
        assert detector.rejections("wh_1") == rejections
        detector.record_rejection("wh_1")
    detector.record_success("wh_1", 10)
    assert detector.rejections("wh_1") == 0


def test_rejections_are_no_answers_whose_time_counts() -> None:
    detector = SlownessDetector()
    for _ in range(2):
        detector.record_success("wh_1", 3000)
        detector.record_rejection("wh_1")
    assert detector.record_success("wh_1", 3000), "three in a row, of those that it took"


def test_the_count_of_rejections_is_each_webhook_s_own() -> None:
    detector = SlownessDetector()
    detector.record_rejection("wh_1")
    detector.record_rejection("wh_2")
    detector.reset("wh_1")
    assert (detector.rejections("wh_1"), detector.rejections("wh_2")) == (0, 1)


def test_who_stays_slow_is_told_so_each_time() -> None:
    """The write of the transition may have failed."""
    detector = SlownessDetector()
    assert [detector.record_success("wh_1", 2000) for _ in range(12)] == [False] * 2 + [True] * 10


def test_one_webhook_does_not_fill_the_memory() -> None:
    detector = SlownessDetector()
    for _ in range(1000):
        detector.record_success("wh_1", 10)
    assert len(detector._recent_of("wh_1").latencies_ms) == 10


def test_who_comes_back_to_direct_mode_starts_afresh() -> None:
    detector = SlownessDetector()
    for _ in range(2):
        detector.record_success("wh_1", 3000)
    detector.reset("wh_1")
    detector.reset("wh_unknown")
    assert not detector.record_success("wh_1", 3000)


def test_memory_is_bounded() -> None:
    detector = SlownessDetector()
    for number in range(25_000):
        detector.record_success(f"wh_{number}", 10)
    assert len(detector._recent) <= 10_000


@pytest.mark.parametrize(("seconds", "is_slow"), [(1, True), (599, True), (600, False), (86_400, False)])
def test_answers_that_are_long_ago_say_nothing_of_now(seconds: float, is_slow: bool) -> None:
    """Three slow ones in a row that are days apart are none. The pause counts, not how long the row took."""
    now = [0.0]
    detector = SlownessDetector(clocks=Clocks(wall=lambda: now[0], monotonic=lambda: now[0]))
    slow = []
    for _ in range(3):
        slow.append(detector.record_success("wh_1", 3000))
        now[0] += seconds
    assert slow == [False, False, is_slow]
    for _ in range(2):
        detector.record_rejection("wh_1")
    now[0] += seconds
    assert detector.rejections("wh_1") == (2 if is_slow else 0)
