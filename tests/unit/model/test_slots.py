"""Slots: the same for every process and each day."""

from datetime import UTC, datetime

import pytest

from lms_webhooks.model.slots import (
    BatchSchedule,
    DailyAt,
    EveryMinutes,
    UnknownTimeZone,
    next_slot_ms,
    read_zone,
)
from tests.unit.tables import DAY_MS, NOW_MS

MINUTE_MS = 60_000
MIDNIGHT_MS = NOW_MS - 12 * 60 * MINUTE_MS


@pytest.mark.parametrize(
    ("every_minutes", "now", "expected"),
    [
        (15, 0, 15),
        (15, 14, 15),
        (15, 15, 30),
        (1, 7, 8),
        (60, 61, 120),
        (480, 1, 480),
        (1440, 1, 1440),
        (1440, 1440, 2880),
    ],
)
def test_the_next_slot_is_the_next_multiple_since_midnight(
    every_minutes: int, now: int, expected: int
) -> None:
    now_ms = MIDNIGHT_MS + now * MINUTE_MS
    assert next_slot_ms(now_ms, EveryMinutes(every_minutes)) == MIDNIGHT_MS + expected * MINUTE_MS


def test_a_slot_that_has_begun_is_over() -> None:
    """What came at the moment of a sweep waits for the next slot: the sweep may have passed it."""
    slot_ms = MIDNIGHT_MS + 15 * MINUTE_MS
    assert next_slot_ms(slot_ms - 1, EveryMinutes(15)) == slot_ms
    assert next_slot_ms(slot_ms, EveryMinutes(15)) == slot_ms + 15 * MINUTE_MS


@pytest.mark.parametrize("days", [1, 365, 20_000])
def test_every_day_has_the_same_slots(days: int) -> None:
    for every_minutes in (15, 90, 480):
        one = next_slot_ms(MIDNIGHT_MS + 1, EveryMinutes(every_minutes))
        assert (
            next_slot_ms(MIDNIGHT_MS + days * DAY_MS + 1, EveryMinutes(every_minutes)) == one + days * DAY_MS
        )


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def test_a_period_that_does_not_divide_a_day_counts_from_1970() -> None:
    first = next_slot_ms(0, EveryMinutes(7))
    assert (first, next_slot_ms(first, EveryMinutes(7))) == (7 * MINUTE_MS, 14 * MINUTE_MS)


@pytest.mark.parametrize(
    ("times", "zone", "now", "expected"),
    [
        (("02:00", "14:30"), "Europe/Rome", "2026-11-03T12:00Z", "2026-11-03T13:30Z"),
        (("02:00", "14:30"), "Europe/Rome", "2026-11-03T13:30Z", "2026-11-04T01:00Z"),
        (("02:00", "14:30"), "Europe/Rome", "2027-07-03T12:29:59.999Z", "2027-07-03T12:30Z"),
        (("00:00",), "UTC", "2026-12-31T23:59Z", "2027-01-01T00:00Z"),
        (("09:00",), "Asia/Kathmandu", "2026-11-03T12:00Z", "2026-11-04T03:15Z"),
        # The clocks of Rome go forward at 02:00: nobody has 02:30, so it goes out at 03:00 summer time.
        (("02:30",), "Europe/Rome", "2027-03-27T12:00Z", "2027-03-28T01:00Z"),
        (("02:30",), "Europe/Rome", "2027-03-28T01:00Z", "2027-03-29T00:30Z"),
        (("02:15", "02:45"), "Europe/Rome", "2027-03-28T01:00Z", "2027-03-29T00:15Z"),
        (("03:00", "02:30"), "Europe/Rome", "2027-03-27T12:00Z", "2027-03-28T01:00Z"),
        # They go back at 03:00: everybody has 02:30 twice, and it goes out the first time.
        (("02:30",), "Europe/Rome", "2027-10-30T12:00Z", "2027-10-31T00:30Z"),
        (("02:30",), "Europe/Rome", "2027-10-31T00:30Z", "2027-11-01T01:30Z"),
        (("02:30",), "Europe/Rome", "2027-10-31T01:30Z", "2027-11-01T01:30Z"),
        # By half an hour, at midnight, and by a whole day.
        (("02:10",), "Australia/Lord_Howe", "2026-10-03T12:00Z", "2026-10-03T15:30Z"),
        (("00:20",), "Asia/Beirut", "2027-03-27T12:00Z", "2027-03-27T22:00Z"),
        (("12:00",), "Pacific/Apia", "2011-12-29T22:00Z", "2011-12-30T10:00Z"),
        (("12:00",), "Pacific/Apia", "2011-12-30T10:00Z", "2011-12-30T22:00Z"),
    ],
)
def test_a_slot_is_at_a_time_of_day_whatever_the_clocks_do(
    times: tuple[str, ...], zone: str, now: str, expected: str
) -> None:
    slot_ms = next_slot_ms(ms(now), DailyAt(times, zone))
    assert datetime.fromtimestamp(slot_ms / 1000, UTC) == datetime.fromisoformat(expected)


@pytest.mark.parametrize("zone", ["Europe/Rome", "America/New_York", "Australia/Lord_Howe"])
def test_a_year_has_a_slot_for_each_day_and_time(zone: str) -> None:
    """Whatever was missing went out, and nothing went out twice."""
    schedule: BatchSchedule = DailyAt(("00:00", "02:30", "23:59"), zone)
    at_ms, end_ms, slots = ms("2027-01-01T12:00Z"), ms("2028-01-01T12:00Z"), 0
    while (at_ms := next_slot_ms(at_ms, schedule)) <= end_ms:
        slots += 1
    assert slots == 365 * 3


@pytest.mark.parametrize("name", ["", "Europe", "Europe/Atlantis", "../../etc/passwd", "\0", "x" * 300])
def test_what_is_no_time_zone_raises_one_error(name: str) -> None:
    with pytest.raises(UnknownTimeZone):
        read_zone(name)
