"""Decide what follows a delivery attempt. Pure: no clock, no network, no AWS.

| answer                                             | class     | what follows                              |
|----------------------------------------------------|-----------|-------------------------------------------|
| 2xx                                                | delivered | recorded                                  |
| 410                                                | gone      | the webhook is switched off               |
| none, 3xx, 5xx, and 4xx that speak of the endpoint | endpoint  | all its events wait, the next is a probe  |
| other 4xx                                          | event     | this event is set aside, the others go on |
"""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum

FIRST_DELAY_SECONDS = 5  # Adobe Learning Manager: "starting at 5 seconds"
MAX_DELAY_SECONDS = 300  # Adobe Learning Manager: "a maximum of 5 minutes"
MAX_WAIT_SECONDS = 900  # the longest delay of an SQS message
JITTER = 0.1

EVENT_DELAYS_SECONDS = (60, 600, 3_600, 21_600, 86_400, 172_800, 259_200)
"""When an event that its receiver rejected is tried again: after 6.3 days at last, inside the seven that
events are kept."""

MAX_REJECTIONS_IN_A_ROW = 10
"""From then on it is the endpoint that is broken, not one event after the other."""

MAX_BATCH_SIZE = 100
MAX_BYTES_SECONDS = 86_400  # a request that is too large today may be fine once the receiver is set up for it

# 401 and 403: the receiver's configuration; 402: its account with somebody; 404, 405 and 421: its routing;
# 406, 411, 426 and 431: our headers and protocol, the same with each event; 407: its proxy; 408, 425 and 429:
# its load; 451: its lawyers. None of them is about the event that happened to be sent.
_ENDPOINT_STATUS_CODES = frozenset(
    {401, 402, 403, 404, 405, 406, 407, 408, 411, 421, 425, 426, 429, 431, 451}
)
_MAX_DOUBLINGS = 10  # 5 s doubled ten times is past every limit; more would only make large integers


class ResponseClass(StrEnum):
    """What an answer speaks of."""

    DELIVERED = "delivered"
    GONE = "gone"
    ENDPOINT = "endpoint"
    EVENT = "event"


def classify(status_code: int | None) -> ResponseClass:
    """The class of an answer; `None` stands for no answer at all."""
    if status_code is None:
        return ResponseClass.ENDPOINT
    if 200 <= status_code < 300:
        return ResponseClass.DELIVERED
    if status_code == 410:
        return ResponseClass.GONE
    if 400 <= status_code < 500 and status_code not in _ENDPOINT_STATUS_CODES:
        return ResponseClass.EVENT
    return ResponseClass.ENDPOINT


def delay_seconds(failures: int, *, jitter: float, retry_after_seconds: int = 0) -> float:
    """Seconds to wait after `failures` endpoint failures in a row, counted from 1.

    The caller draws `jitter` from [0, 1), so a test can name the exact delay it expects. Jitter only
    adds: a receiver's Retry-After stays a floor, up to what an SQS message can wait.
    """
    doubled = FIRST_DELAY_SECONDS * 2.0 ** min(failures - 1, _MAX_DOUBLINGS)
    floor = max(min(doubled, MAX_DELAY_SECONDS), retry_after_seconds)
    return min(floor * (1 + JITTER * jitter), MAX_WAIT_SECONDS)


def retry_after_seconds(header: str, *, status_code: int | None, now_seconds: float) -> int:
    """What a receiver asks for with `Retry-After` (RFC 9110 10.2.3): seconds, or an HTTP date.

    Of several the largest counts: a proxy may have added its own.

    Returns:
        0 where it asks for nothing, where it cannot be read, and on answers for which it means nothing here.
    """
    if status_code not in (429, 503):
        return 0
    # Two headers arrive as one, with a comma in between. The other comma, behind a date's weekday, does no
    # harm: the date can be read without it.
    return max(_seconds_asked_for(each.strip(), now_seconds) for each in header.split(","))


def _seconds_asked_for(text: str, now_seconds: float) -> int:
    if text.isascii() and text.isdigit():
        return min(int(text.lstrip("0")[:10] or 0), MAX_WAIT_SECONDS)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    wait = (moment - datetime.fromtimestamp(now_seconds, UTC)).total_seconds()
    return min(max(0, -int(-wait // 1)), MAX_WAIT_SECONDS)


def rejection_delay_seconds(tries: int) -> int | None:
    """Seconds until an event that was rejected `tries` times is tried again; None when it has failed."""
    return EVENT_DELAYS_SECONDS[tries - 1] if tries <= len(EVENT_DELAYS_SECONDS) else None
