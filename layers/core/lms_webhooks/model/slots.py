"""Say when non-real-time events go out. Pure: no clock, no network, no AWS.

A slot is such a time. A webhook has slots of its own, or those of the deployment. Every process computes the
same ones from the schedule and the time: nothing about a slot is stored.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

MIN_EVERY_MINUTES = 5
MAX_EVERY_MINUTES = 1440
MAX_DAILY_TIMES = 24

_MINUTE_MS = 60_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class EveryMinutes:
    """Slots at the multiples of some minutes since 1970-01-01T00:00Z."""

    minutes: int


@dataclass(frozen=True)
class DailyAt:
    """Slots at times of day, such as `("02:00", "14:30")`, of a zone of the IANA database."""

    times: tuple[str, ...]
    time_zone: str


type BatchSchedule = EveryMinutes | DailyAt


class UnknownTimeZone(Exception):
    """The IANA database that this version has knows no such zone."""


def next_slot_ms(now_ms: int, schedule: BatchSchedule) -> int:
    """Return the first slot after `now_ms`.

    A time that the day lacks, because clocks go forward, has its slot when the missing hour ends. A time that
    the day has twice, because clocks go back, has its slot the first time.

    Raises:
        UnknownTimeZone: only of a `DailyAt`.
    """
    match schedule:
        case EveryMinutes(minutes):
            # UTC milliseconds count days of equal length from a midnight, so midnight itself is a multiple.
            period_ms = minutes * _MINUTE_MS
            return (now_ms // period_ms + 1) * period_ms
        case DailyAt(times, time_zone):
            return _next_daily_ms(now_ms, [time.fromisoformat(each) for each in times], read_zone(time_zone))


def read_zone(name: str) -> tzinfo:
    """Return a time zone of the IANA database.

    Raises:
        UnknownTimeZone: there is none of this name.
    """
    # For the webhooks that name one: a cold start does without it.
    from zoneinfo import ZoneInfo  # noqa: PLC0415

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # OSError: "Europe" is a folder
        raise UnknownTimeZone(name) from error


def _next_daily_ms(now_ms: int, times: list[time], zone: tzinfo) -> int:
    now = _EPOCH + timedelta(milliseconds=now_ms)
    today = now.astimezone(zone).date()
    # Yesterday's last slot may be today, where clocks go forward at midnight. Tomorrow may be missing, as it
    # was in Samoa in 2011.
    slots = (slot for days in range(-1, 3) for slot in _slots_of(today + timedelta(days=days), times, zone))
    return (min(slot for slot in slots if slot > now) - _EPOCH) // timedelta(milliseconds=1)


def _slots_of(day: date, times: list[time], zone: tzinfo) -> Iterator[datetime]:
    for each in times:
        local = datetime.combine(day, each, tzinfo=zone)
        slot = local.astimezone(UTC)
        exists = slot.astimezone(zone).replace(tzinfo=None) == local.replace(tzinfo=None)
        yield slot if exists else _end_of_gap(local, zone)


def _end_of_gap(missing: datetime, zone: tzinfo) -> datetime:
    """Return when the clock went forward over a local time that does not exist, to the second.

    Read by the offset before the change it is behind that moment, by the offset after it is ahead (PEP 495).
    """
    before, after = missing.replace(fold=1).astimezone(UTC), missing.replace(fold=0).astimezone(UTC)
    offset_after = after.astimezone(zone).utcoffset()
    while after - before > timedelta(seconds=1):
        middle = before + (after - before) // 2
        if middle.astimezone(zone).utcoffset() == offset_after:
            after = middle
        else:
            before = middle
    return after.replace(microsecond=0)
