"""Compute when to try again after a failed POST. Pure: no clock, no network, no AWS."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

FIRST_DELAY_SECONDS = 5  # Adobe Learning Manager: "starting at 5 seconds"
MAX_BACKOFF_SECONDS = 300  # Adobe Learning Manager: "a maximum of 5 minutes"
MAX_PROBE_DELAY_SECONDS = 900  # with Retry-After and jitter: the longest delay of an SQS message
JITTER = 0.1

REJECTION_DELAYS_SECONDS = (60, 600, 3_600, 21_600, 86_400, 172_800, 259_200)
"""Pauses between the tries of one rejected event. The last try comes 6.3 days after the first.
An event expires after seven days."""

_MAX_DOUBLINGS = 10  # 5 s doubled ten times is past every limit; more would only make large integers


def backoff_seconds(failures: int, *, jitter: float, retry_after_seconds: int = 0) -> float:
    """Compute the pause after `failures` endpoint failures in a row, counted from 1.

    The caller draws `jitter` from [0, 1), so a test can name the exact delay it expects. Jitter only
    adds. So a receiver's Retry-After stays a floor, up to the longest delay of an SQS message.
    """
    doubled = FIRST_DELAY_SECONDS * 2.0 ** min(failures - 1, _MAX_DOUBLINGS)
    floor = max(min(doubled, MAX_BACKOFF_SECONDS), retry_after_seconds)
    return min(floor * (1 + JITTER * jitter), MAX_PROBE_DELAY_SECONDS)


def retry_after_seconds(header: str, *, status_code: int | None, now_seconds: float) -> int:
    """Read a `Retry-After` header (RFC 9110 10.2.3): seconds, or an HTTP date.

    Of several values the largest counts, because a proxy may have added its own.

    Returns:
        0 without a readable value, and for status codes other than 429 and 503.
    """
    if status_code not in (429, 503):
        return 0
    # Two headers arrive as one, with a comma in between. The other comma, behind a date's weekday, does no
    # harm: the date can be read without it.
    return max(_read_retry_after(each.strip(), now_seconds) for each in header.split(","))


def _read_retry_after(text: str, now_seconds: float) -> int:
    if text.isascii() and text.isdigit():
        return min(int(text.lstrip("0")[:10] or 0), MAX_PROBE_DELAY_SECONDS)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    wait = (moment - datetime.fromtimestamp(now_seconds, UTC)).total_seconds()
    return min(max(0, -int(-wait // 1)), MAX_PROBE_DELAY_SECONDS)


def rejection_delay_seconds(tries: int) -> int | None:
    """Return the pause before a rejected event is tried again; None after the last of its `tries`."""
    return REJECTION_DELAYS_SECONDS[tries - 1] if tries <= len(REJECTION_DELAYS_SECONDS) else None
