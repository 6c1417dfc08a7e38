"""Make events as the LMS would."""

import time
import uuid
from typing import Any

from lms_webhooks.event_types import EVENT_TYPES
from local.steps import StepFailedError


def make_event(event_name: str, account_id: str) -> dict[str, Any]:
    """A new event of this type, happening now, with the catalogue's sample as its data."""
    if event_name not in EVENT_TYPES:
        raise StepFailedError(
            f"emit: no event type {event_name!r}; there are\n    " + "\n    ".join(EVENT_TYPES)
        )
    return EVENT_TYPES[event_name].sample_event(str(uuid.uuid4())) | {
        "accountId": int(account_id),
        "timestamp": time.time_ns() // 1_000_000,
    }
