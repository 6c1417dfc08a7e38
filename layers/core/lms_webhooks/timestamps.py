"""Read times as RFC 3339 writes them. Pure."""

import re
from datetime import datetime, timedelta

_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d):(\d\d)(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)  # 5.6, where letters may be small


def read_rfc3339(text: str) -> datetime | None:
    """The moment that `text` names; None when it is no time, or has no offset.

    A second of 60 is the one after: a leap second, of which Python knows nothing, or a time that was rounded.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    date, hour_and_minute, second, fraction, offset = match.groups("")
    is_leap = second == "60"
    plain = f"{date}T{hour_and_minute}:{'59' if is_leap else second}{fraction}{offset.upper()}"
    try:
        return datetime.fromisoformat(plain) + timedelta(seconds=is_leap)
    except (ValueError, OverflowError):
        return None
