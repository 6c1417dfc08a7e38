"""Return the OpenAPI description of the API, with the event types of this deployment in its enumerations."""

import json
from pathlib import Path
from typing import Any

from lms_webhooks.model.event_types import EVENT_TYPES, EventTypes

_COMMITTED = Path(__file__).with_name("openapi.json")


def describe_api(event_types: EventTypes) -> str:
    """Return the description as JSON. The committed one names the event types of the catalogue alone."""
    text = _COMMITTED.read_text()
    if event_types.keys() == EVENT_TYPES.keys():
        return text
    return json.dumps(_with_names(json.loads(text), list(event_types)), indent=2, ensure_ascii=False) + "\n"


def _with_names(described: Any, names: list[str]) -> Any:
    """Return a part of a description in which every enumeration of event names is `names`."""
    if isinstance(described, list):
        return names if described == list(EVENT_TYPES) else [_with_names(each, names) for each in described]
    if isinstance(described, dict):
        return {key: _with_names(value, names) for key, value in described.items()}
    return described
