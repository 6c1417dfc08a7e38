"""Describe the `data` of an event in JSON Schema (2020-12), from the sample of its type. Pure.

What `data` holds is required nowhere: the system passes it on as it comes. A schema takes whatever Adobe
Learning Manager is known to send: several forms of dates, older names, ids of another kind than the type's
name.
"""

from collections.abc import Mapping
from typing import Any

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


def describe_data(sample: Mapping[str, Any]) -> Schema:
    """Return the schema of objects like the sample.

    A deployer's sample may have fields that are not in `FIELDS`: they get a kind, and no description.
    """
    return {"description": "What happened", **_like(sample)}


def _field(name: str, sample: object) -> Schema:
    meaning = FIELDS.get(name)
    if name.startswith("date") and meaning:
        return {"description": f"{meaning}, {_FORMS_OF_A_DATE}", **_DATE}
    described: Schema = {"description": meaning} if meaning else {}
    return described if name in _FREE else described | _like(sample)


def _like(sample: object) -> Schema:
    """Return the kind of value that a sample is of. An empty list or null tells nothing of it."""
    match sample:
        case Mapping():
            return {"type": "object", "properties": {name: _field(name, sample[name]) for name in sample}}
        case [first, *_]:
            return {"type": "array", "items": _like(first)}
    kind = _KINDS.get(type(sample))
    return {"type": kind} if kind else {}
