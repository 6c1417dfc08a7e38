"""Describe events in JSON Schema (2020-12), from the catalogue and the limits of what is read. Pure.

One file for each event type, since who emits one needs no other, and can hand the file to any tool as it
is. One file for receivers, since one request may carry several types; there each type is one of `$defs`.

What makes an event malformed is required here. What `data` holds is described in `model/data_schemas.py`,
which the API shows too.
"""

from collections.abc import Mapping
from typing import Any

from lms_webhooks.model.data_schemas import Schema, describe_data
from lms_webhooks.model.event_types import EVENT_TYPES, Category, EventType
from lms_webhooks.model.events import (
    ACCOUNT_ID_CHARACTERS,
    FIRST_MS,
    LAST_MS,
    MAX_ACCOUNT_ID_LENGTH,
    MAX_EVENT_ID_BYTES,
)
from lms_webhooks.model.health import MAX_REQUEST_SIZE
from lms_webhooks.timestamps import AFTER_YEAR

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_URN = "urn:lms-webhooks:schema"
_MAX_INTEGER_ON_THE_BUS = 2**63 - 1
_NO_CONTROL_CHARACTER = {"not": {"pattern": "[\\u0000-\\u001f\\u007f-\\u009f]"}}

# As RFC 3339, and without an offset, which means UTC. Other forms of ISO 8601 are taken too, for those who
# have them; nobody should start with them.
_MOMENT = f"^(20[0-9]{{2}}{AFTER_YEAR}?$"

_WHOLE_NUMBER: Schema = {"type": "integer", "minimum": 0}
_ACCOUNT_TEXT: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_ACCOUNT_ID_LENGTH,
    "not": {"pattern": f"[^{ACCOUNT_ID_CHARACTERS}]"},
}
_ACCOUNT_ID_EMITTED: Schema = {
    "description": 'The account of the learning platform. 1010 and "1010" are the same',
    "anyOf": [{**_WHOLE_NUMBER, "maximum": _MAX_INTEGER_ON_THE_BUS}, _ACCOUNT_TEXT],
}
_ACCOUNT_ID_RECEIVED: Schema = {
    "description": "The account of the learning platform: a number where it is one, however it was emitted",
    "anyOf": [_WHOLE_NUMBER, _ACCOUNT_TEXT],
}
_EVENT_ID: Schema = {
    "description": f"The event's id, at most {MAX_EVENT_ID_BYTES:,} bytes of UTF-8. Receivers tell duplicates"
    " by accountId, eventName and eventId together",
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_EVENT_ID_BYTES,
    **_NO_CONTROL_CHARACTER,
}
_TIMESTAMP: Schema = {
    "description": "When it happened, between 2000 and 2100: epoch seconds, epoch milliseconds or ISO 8601",
    "anyOf": [
        {"type": "number", "minimum": FIRST_MS // 1000, "exclusiveMaximum": LAST_MS // 1000},
        {"type": "number", "minimum": FIRST_MS, "exclusiveMaximum": LAST_MS},
        {"type": "string", "pattern": _MOMENT},
    ],
}


def of_detail(event_type: EventType, example: Mapping[str, Any]) -> Schema:
    """The `Detail` of an entry on the bus."""
    event = _event(event_type, timestamp=_TIMESTAMP, event_id=_EVENT_ID)
    return {
        "$schema": _DIALECT,
        "$id": f"{_URN}:detail:{event_type.name}",
        "title": event_type.name,
        "description": f"{event_type.label}. {_CATEGORIES[event_type.category]}.",
        "type": "object",
        "required": ["accountId", *event["required"]],
        "properties": {"accountId": _ACCOUNT_ID_EMITTED, **event["properties"]},
        "examples": [dict(example)],
    }


def of_request(example: Mapping[str, Any]) -> Schema:
    """The body of the POST that a receiver gets."""
    types = {
        each.name: {
            "description": f"{each.label}. {_CATEGORIES[each.category]}.",
            **_event(
                each,
                timestamp={"$ref": "#/$defs/timestamp"},
                event_id={"$ref": "#/$defs/eventId"},
            ),
        }
        for each in EVENT_TYPES.values()
    }
    return {
        "$schema": _DIALECT,
        "$id": f"{_URN}:request",
        "title": "The body of a request",
        "description": "What a receiver gets. Expect fields that are not described here.",
        "type": "object",
        "required": ["accountId", "events"],
        "properties": {
            "accountId": _ACCOUNT_ID_RECEIVED,
            "events": {
                "description": "At least one. Several when events were pending or are non-real-time",
                "type": "array",
                "minItems": 1,
                "maxItems": MAX_REQUEST_SIZE,
                "items": {"oneOf": [{"$ref": f"#/$defs/{name}"} for name in types]},
            },
        },
        "examples": [dict(example)],
        "$defs": {"eventId": _EVENT_ID, "timestamp": _TIMESTAMP, **types},
    }


_CATEGORIES = {
    Category.REAL_TIME: "Real-time: sent at once",
    Category.NON_REAL_TIME: "Non-real-time: collected, and sent on a schedule",
}


def _event(event_type: EventType, *, timestamp: Schema, event_id: Schema) -> Schema:
    return {
        "type": "object",
        "required": ["eventId", "eventName", "timestamp"],
        "properties": {
            "eventId": event_id,
            "eventName": {"description": "The event's type", "const": event_type.name},
            "timestamp": timestamp,
            "eventInfo": {"description": "Text of the platform, in no fixed form", "type": "string"},
            "data": describe_data(event_type),
        },
    }
