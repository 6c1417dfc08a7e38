"""Describe the `data` of an event in JSON Schema (2020-12), from the sample of its type. Pure.

What `data` holds is required nowhere: the system passes it on as it comes. A schema takes whatever Adobe
Learning Manager is known to send: several forms of dates, older names, ids of another kind than the type's
name.
"""

from collections.abc import Mapping
from typing import Any

from lms_webhooks.model.event_types import EVENT_TYPES, EventType

type Schema = dict[str, Any]

FIELDS = {
    "dateCompleted": "When it was completed",
    "dateEnrolled": "When the enrollment began",
    "dateStarted": "When the learner began",
    "data": "Whom the request was about",
    "enrollmentCount": "Seats that are taken",
    "enrollmentSource": "Who enrolled the learner, such as SELF_ENROLL or ADMIN_ENROLL",
    "hasPassed": "Whether the learner passed",
    "id": "Its id",
    "loId": "The learning object, such as course:7374992",
    "loInstanceId": "The instance of it, such as course:7374992_10250977",
    "loType": "Its kind, such as course, learningProgram (or learning_program) or certification",
    "metadata": "What the caller gave with the request, in any form; absent if it was nothing",
    "progressPercent": "How far the learner is",
    "request": "The asynchronous request",
    "seatLimit": "Seats that there are",
    "status": "How the request ended, such as SUCCESS",
    "type": "What it is, such as user",
    "userId": "The learner",
    "waitlistCount": "Learners who wait for a seat",
}
"""What each field of `data` means. Who adds one to the catalogue says it here."""

_DATE: Schema = {
    "anyOf": [
        {"type": "number", "minimum": 0},
        {"type": "string", "pattern": "^[0-9]{4}-?[0-9]{2}-?[0-9]{2}"},
    ]
}
"""A date in `data`, in any form that the platform has."""
_FORMS_OF_A_DATE = "in epoch seconds, epoch milliseconds or ISO 8601"
_FREE = {"metadata"}
"""Fields that hold what a caller chose."""
_KINDS = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}


def describe_data(event_type: EventType) -> Schema:
    """Return the schema of the `data` of a type.

    The fields of a type that is not in the catalogue have the kinds of its sample, and no meaning: the
    catalogue's may be another one.
    """
    is_ours = event_type.name in EVENT_TYPES
    return {"description": "What happened", **_like(event_type.sample, FIELDS if is_ours else {})}


def _field(name: str, sample: object, meanings: Mapping[str, str]) -> Schema:
    meaning = meanings.get(name)
    if meaning is None:
        return _like(sample, meanings)
    if name.startswith("date"):
        return {"description": f"{meaning}, {_FORMS_OF_A_DATE}", **_DATE}
    return {"description": meaning} | ({} if name in _FREE else _like(sample, meanings))


def _like(sample: object, meanings: Mapping[str, str]) -> Schema:
    """Return the kind of value that a sample is of. An empty list or null tells nothing of it."""
    match sample:
        case Mapping():
            fields = {name: _field(name, sample[name], meanings) for name in sample}
            return {"type": "object", "properties": fields}
        case [first, *_]:
            return {"type": "array", "items": _like(first, meanings)}
        case int() if not meanings and not isinstance(sample, bool):
            return {"type": "number"}  # a deployer's 5 does not say that there is no 5.5
    kind = _KINDS.get(type(sample))
    return {"type": kind} if kind else {}
