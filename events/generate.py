"""Write events/put_events/: one entry for each event type of the catalogue, as PutEvents takes it.

    PYTHONPATH=layers/core python events/generate.py

Each file is the list that `aws events put-events --entries file://...` reads. The entries name no bus,
since that is each stack's own; add `EventBusName` on the way:

    aws events put-events --entries \\
        "$(jq -c --arg bus "$BUS" 'map(. + {EventBusName: $bus})' events/put_events/COURSE_ENROLLMENT.json)"
"""

import json
import uuid
from pathlib import Path

from lms_webhooks.event_types import EVENT_TYPES, EventType

SOURCE = "lms"
ACCOUNT_ID = 1010
DIRECTORY = Path(__file__).parent / "put_events"


def file_name(event_type: EventType) -> str:
    """Where the sample of a type stands. A colon in a name is no file name on every system."""
    return event_type.name.replace(":", "-") + ".json"


def entry_text(event_type: EventType) -> str:
    """The file's text. The event's id comes from the type's name: the same catalogue, the same files."""
    event_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"urn:lms-webhooks:sample:{event_type.name}"))
    detail = {"accountId": ACCOUNT_ID, **event_type.sample_event(event_id)}
    entry = {"Source": SOURCE, "DetailType": event_type.name, "Detail": json.dumps(detail)}
    return json.dumps([entry], indent=2) + "\n"


if __name__ == "__main__":
    DIRECTORY.mkdir(exist_ok=True)
    for event_type in EVENT_TYPES.values():
        (DIRECTORY / file_name(event_type)).write_text(entry_text(event_type))
