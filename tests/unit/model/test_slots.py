"""Slots: the same for every process and each day."""

import pytest

from lms_webhooks.model.slots import next_slot_ms
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
    assert next_slot_ms(now_ms, every_minutes=every_minutes) == MIDNIGHT_MS + expected * MINUTE_MS


def test_a_slot_that_has_begun_is_over() -> None:
    """What came at the moment of a sweep waits for the next slot: the sweep may have passed it."""
    slot_ms = MIDNIGHT_MS + 15 * MINUTE_MS
    assert next_slot_ms(slot_ms - 1, every_minutes=15) == slot_ms
    assert next_slot_ms(slot_ms, every_minutes=15) == slot_ms + 15 * MINUTE_MS


@pytest.mark.parametrize("days", [1, 365, 20_000])
def test_every_day_has_the_same_slots(days: int) -> None:
    for every_minutes in (15, 90, 480):
        one = next_slot_ms(MIDNIGHT_MS + 1, every_minutes=every_minutes)
        assert (
            next_slot_ms(MIDNIGHT_MS + days * DAY_MS + 1, every_minutes=every_minutes) == one + days * DAY_MS
        )
