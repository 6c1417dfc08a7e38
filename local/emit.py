"""Make events as the LMS would."""

import difflib
import time
import uuid
from typing import Any

from lms_webhooks.model.event_types import EVENT_TYPES, EventTypes
from lms_webhooks.model.events import ACCOUNT_ID_CHARACTERS, MAX_ACCOUNT_ID_LENGTH, is_account_id
from tools.progress import StepFailedError


def make_event(event_name: str, account_id: str, event_types: EventTypes = EVENT_TYPES) -> dict[str, Any]:
    """A new event of this type, happening now, with the catalogue's sample as its data.

    Raises:
        StepFailedError: there is no such type, or no account can be called so.
    """
    if event_name not in event_types:
        near = difflib.get_close_matches(event_name.upper(), event_types, cutoff=0.4)
        hint = f"do you mean {' or '.join(near)}? " if near else ""
        raise StepFailedError(
            f"reading EVENT: no event type is called {event_name!r}; {hint}"
            "events/put_events/ has a sample of each"
        )
    if not is_account_id(account_id):
        raise StepFailedError(
            f"reading ACCOUNT: no account is called {account_id!r}; its name has 1 to"
            f" {MAX_ACCOUNT_ID_LENGTH} of the characters {ACCOUNT_ID_CHARACTERS}"
        )
    is_number = account_id.isdecimal() and account_id == str(int(account_id))
    return event_types[event_name].sample_event(str(uuid.uuid4())) | {
        "accountId": int(account_id) if is_number else account_id,
        "timestamp": time.time_ns() // 1_000_000,
    }
