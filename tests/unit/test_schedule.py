"""When batch lanes are opened next, as far as that can be told."""

from collections.abc import Iterator

import pytest

from lms_webhooks.schedule import BatchSchedule
from tests.unit.flow import Flow, flow
from tests.unit.tables import NOW_MS

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS


@pytest.fixture
def schedule() -> Iterator[BatchSchedule]:
    with flow(Flow) as parts:
        yield BatchSchedule(parts.deliveries_table)


def test_before_the_first_opening_nothing_is_known(schedule: BatchSchedule) -> None:
    assert schedule.next_opening_ms("rate(15 minutes)", now_ms=NOW_MS) is None


@pytest.mark.parametrize(
    ("expression", "period_ms"),
    [
        ("rate(1 minute)", MINUTE_MS),
        ("rate(15 minutes)", 15 * MINUTE_MS),
        ("rate(1 hour)", HOUR_MS),
        ("rate(12 hours)", 12 * HOUR_MS),
        ("rate(1 day)", 24 * HOUR_MS),
        ("rate(99999 days)", 99_999 * 24 * HOUR_MS),
    ],
)
def test_the_next_one_is_a_period_after_the_last(
    schedule: BatchSchedule, expression: str, period_ms: int
) -> None:
    schedule.note_opening(NOW_MS - 99)
    schedule.note_opening(NOW_MS)
    for passed_ms, periods in ((0, 1), (1, 1), (period_ms, 1), (period_ms + 1, 2), (3 * period_ms, 3)):
        expected_ms = NOW_MS + periods * period_ms
        assert schedule.next_opening_ms(expression, now_ms=NOW_MS + passed_ms) == expected_ms


def test_a_clock_that_is_behind_the_schedule_s_changes_nothing(schedule: BatchSchedule) -> None:
    schedule.note_opening(NOW_MS)
    assert schedule.next_opening_ms("rate(1 hour)", now_ms=NOW_MS - 5 * HOUR_MS) == NOW_MS + HOUR_MS


@pytest.mark.parametrize(
    "expression",
    ["cron(0 12 * * ? *)", "rate(0 minutes)", "rate(100000 days)", "rate(5 weeks)", "a rate(5 minutes)"],
)
def test_of_what_is_no_rate_nothing_is_told(schedule: BatchSchedule, expression: str) -> None:
    schedule.note_opening(NOW_MS)
    assert schedule.next_opening_ms(expression, now_ms=NOW_MS) is None
