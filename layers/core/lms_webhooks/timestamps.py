"""Read and write times in the format of RFC 3339."""

import re
from datetime import UTC, datetime, timedelta

AFTER_YEAR = (
    "-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01]))[Tt]((?:[01][0-9]|2[0-3]):[0-5][0-9])"
    ":([0-5][0-9]|60)([.][0-9]+)?([Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
RFC3339 = "((?:[0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)" + AFTER_YEAR
"""A time by section 5.6, with small letters too. Without the year 0000, which Python does not have.

The JSON Schemas use it too. It must mean the same in ECMAScript, and in engines without look-ahead.
"""
_RFC3339 = re.compile(RFC3339)


def read_rfc3339(text: str) -> datetime | None:
    """Parse `text`; None when it is no time, or has no offset.

    A second of 60 is read as the next second: a leap second, which Python does not know, or a rounded time.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    date, hour_and_minute, second, fraction, offset = match.groups("")
    is_leap = second == "60"
    plain = f"{date}T{hour_and_minute}:{'59' if is_leap else second}{fraction}{offset.upper()}"
    try:
        moment = datetime.fromisoformat(plain)
    except ValueError:
        return None
    try:
        return moment + timedelta(seconds=is_leap)
    except OverflowError:
        return moment  # no second comes after


def utc_now() -> datetime:
    """Return the present moment in UTC."""
    return datetime.now(UTC)


def format_ms(milliseconds: int) -> str:
    """Return a moment in UTC milliseconds since 1970 as `format_time` writes it."""
    return format_time(datetime.fromtimestamp(milliseconds / 1000, UTC))


def format_time(moment: datetime) -> str:
    """Return `moment` in UTC to the millisecond: `2026-11-03T12:00:00.000Z`.

    All results have the same length, so they sort as the times do.
    """
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
