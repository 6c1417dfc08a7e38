"""Know every event type that a webhook can subscribe to. Pure data, cheap to import."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

# The moment that Adobe Learning Manager's published sample shows, and its text form in `eventInfo`.
_SAMPLE_SECONDS = 1727414643
_SAMPLE_INFO = "1727414643000-047210-84242-0"
_SAMPLE_EVENT_ID = "d5fb7071-10a9-46b2-9f9e-79dde346c052"


class Category(StrEnum):
    """How soon events of a type go out: each at once, or in batches on a schedule."""

    REAL_TIME = "real-time"
    NON_REAL_TIME = "non-real-time"


_RESPONSE = "RESPONSE:"


def has_id_of_caller(event_name: str) -> bool:
    """Whether the id of such an event was chosen by a caller of the platform's API, in any form.

    A caller may give one id to several requests, such as one that adds a user and one that removes it.
    """
    return event_name.startswith(_RESPONSE)


@dataclass(frozen=True)
class EventType:
    """One row of the catalogue. `sample` is what `data` of such an event holds."""

    name: str
    label: str
    category: Category
    sample: Mapping[str, Any]
    translations: Mapping[str, str] = field(default_factory=dict)
    """The label in other languages, by their codes. The console has those of the catalogue itself."""

    def sample_event(self, event_id: str = _SAMPLE_EVENT_ID) -> dict[str, Any]:
        """A whole event of this type, as a receiver finds it in `events`. Its timestamp is fixed, in ms."""
        data, info = dict(self.sample), _SAMPLE_INFO
        # Its id is what the caller gave with the request. A deployer's sample may have any `request`.
        if has_id_of_caller(self.name) and isinstance(data.get("request"), dict):
            data["request"] = {**data["request"], "metadata": {"event_id": event_id}}
            info = event_id
        return {
            "eventId": event_id,
            "eventName": self.name,
            "timestamp": _SAMPLE_SECONDS * 1000,
            "eventInfo": info,
            "data": data,
        }


_COURSE = {"loId": "course:7374992", "loInstanceId": "course:7374992_10250977", "loType": "course"}
_PATH = {
    "loId": "learningProgram:157165",
    "loInstanceId": "learningProgram:157165_170254",
    "loType": "learningProgram",
}
_CERTIFICATION = {
    "loId": "certification:123418",
    "loInstanceId": "certification:123418_131072",
    "loType": "certification",
}
_COURSE_ITSELF = {"loId": _COURSE["loId"], "loType": _COURSE["loType"]}
_SELF = {"enrollmentSource": "SELF_ENROLL"}
_ADMIN = {"enrollmentSource": "ADMIN_ENROLL"}
_LEARNER = {"userId": 4279332}
_ENROLLED = {"dateEnrolled": _SAMPLE_SECONDS}
_COMPLETED = {"dateCompleted": _SAMPLE_SECONDS}
_PASSED = {**_COMPLETED, "hasPassed": True}
_SEATS = {
    "loInstanceId": _COURSE["loInstanceId"],
    "waitlistCount": 2,
    "enrollmentCount": 30,
    "seatLimit": 30,
}
_PROGRESS = {**_LEARNER, **_COURSE, "dateStarted": _SAMPLE_SECONDS, "progressPercent": 40}
_GROUP_ANSWER = {
    "status": "SUCCESS",
    "request": {
        "metadata": {"event_id": _SAMPLE_EVENT_ID},
        "data": [{"type": "user", "id": "4279332"}],
    },
}

_REAL_TIME_ROWS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("CI_STATS", "Seats or waitlist of a course instance change", _SEATS),
    (
        "COURSE_ENROLLMENT",
        "Learner enrolls themselves in a course",
        {**_LEARNER, **_COURSE, **_SELF, **_ENROLLED},
    ),
    ("COURSE_COMPLETED", "Learner completes a course", {**_LEARNER, **_COURSE, **_SELF, **_PASSED}),
    ("COURSE_UNENROLLMENT", "Learner unenrolls themselves from a course", {**_LEARNER, **_COURSE, **_SELF}),
    (
        "LEARNING_PATH_ENROLLMENT",
        "Learner enrolls themselves in a learning path",
        {**_LEARNER, **_PATH, **_SELF, **_ENROLLED},
    ),
    (
        "LEARNING_PATH_COMPLETED",
        "Learner completes a learning path",
        {**_LEARNER, **_PATH, **_SELF, **_PASSED},
    ),
    (
        "LEARNING_PATH_UNENROLLMENT",
        "Learner unenrolls themselves from a learning path",
        {**_LEARNER, **_PATH, **_SELF},
    ),
    (
        "LEARNING_PATH_COMPLETION_ROLLBACK",
        "Learner refreshes the completion of a learning path",
        {**_LEARNER, **_PATH, **_SELF, **_ENROLLED},
    ),
    (
        "CERTIFICATION_ENROLLMENT",
        "Learner enrolls themselves in a certification",
        {**_LEARNER, **_CERTIFICATION, **_SELF, **_ENROLLED},
    ),
    (
        "CERTIFICATION_COMPLETED",
        "Learner completes a certification",
        {**_LEARNER, **_CERTIFICATION, **_SELF, **_COMPLETED},
    ),
    (
        "CERTIFICATION_UNENROLLMENT",
        "Learner unenrolls themselves from a certification",
        {**_LEARNER, **_CERTIFICATION, **_SELF},
    ),
    ("LEARNING_OBJECT_DRAFT", "Learning object is created or changed as a draft", _COURSE_ITSELF),
    ("LEARNING_OBJECT_MODIFICATION", "Learning object is published, changed or retired", _COURSE_ITSELF),
    ("LEARNING_OBJECT_DELETION", "Learning object is deleted", _COURSE_ITSELF),
    (
        "LEARNING_OBJECT_INSTANCE_MODIFICATION",
        "Learning object instance is created, changed or retired",
        _COURSE,
    ),
    ("LEARNING_OBJECT_INSTANCE_DELETION", "Learning object instance is deleted", _COURSE),
    (
        "RESPONSE:ASYNCAPI_USERGROUP_USER_ADDED",
        "Asynchronous request to add users to a group ends",
        _GROUP_ANSWER,
    ),
    (
        "RESPONSE:ASYNCAPI_USERGROUP_USER_REMOVED",
        "Asynchronous request to remove users from a group ends",
        _GROUP_ANSWER,
    ),
)

_NON_REAL_TIME_ROWS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    (
        "COURSE_ENROLLMENT_BATCH",
        "Learner is enrolled in a course by an admin, a manager or the platform",
        {**_LEARNER, **_COURSE, **_ADMIN, **_ENROLLED},
    ),
    (
        "COURSE_COMPLETED_BATCH",
        "Learner is marked as having completed a course by an admin, a manager or the platform",
        {**_LEARNER, **_COURSE, **_ADMIN, **_PASSED},
    ),
    (
        "COURSE_UNENROLLMENT_BATCH",
        "Learner is unenrolled from a course by an admin, a manager or the platform",
        {**_LEARNER, **_COURSE, **_ADMIN},
    ),
    (
        "LEARNING_PATH_ENROLLMENT_BATCH",
        "Learner is enrolled in a learning path by an admin, a manager or the platform",
        {**_LEARNER, **_PATH, **_ADMIN, **_ENROLLED},
    ),
    (
        "LEARNING_PATH_COMPLETED_BATCH",
        "Learner is marked as having completed a learning path by an admin, a manager or the platform",
        {**_LEARNER, **_PATH, **_ADMIN, **_PASSED},
    ),
    (
        "LEARNING_PATH_UNENROLLMENT_BATCH",
        "Learner is unenrolled from a learning path by an admin, a manager or the platform",
        {**_LEARNER, **_PATH, **_ADMIN},
    ),
    (
        "LEARNING_PATH_COMPLETION_ROLLBACK_BATCH",
        "Completion of a learning path is refreshed for a learner by an admin, a manager or the platform",
        {**_LEARNER, **_PATH, **_ADMIN, **_ENROLLED},
    ),
    (
        "CERTIFICATION_ENROLLMENT_BATCH",
        "Learner is enrolled in a certification by an admin, a manager or the platform",
        {**_LEARNER, **_CERTIFICATION, **_ADMIN, **_ENROLLED},
    ),
    (
        "CERTIFICATION_COMPLETED_BATCH",
        "Learner is marked as having completed a certification by an admin, a manager or the platform",
        {**_LEARNER, **_CERTIFICATION, **_ADMIN, **_COMPLETED},
    ),
    (
        "CERTIFICATION_UNENROLLMENT_BATCH",
        "Learner is unenrolled from a certification by an admin, a manager or the platform",
        {**_LEARNER, **_CERTIFICATION, **_ADMIN},
    ),
    ("LEARNER_PROGRESS", "Learner makes progress in a module", _PROGRESS),
    ("LEARNING_OBJECT_MODIFICATION_BATCH", "Learning objects are changed by migration", _COURSE_ITSELF),
    (
        "LEARNING_OBJECT_INSTANCE_MODIFICATION_BATCH",
        "Learning object instances are created or changed by migration",
        _COURSE,
    ),
)

REAL_TIME = tuple(name for name, _, _ in _REAL_TIME_ROWS)
NON_REAL_TIME = tuple(name for name, _, _ in _NON_REAL_TIME_ROWS)

EVENT_TYPES: dict[str, EventType] = {
    name: EventType(name, label, category, sample)
    for category, rows in (
        (Category.REAL_TIME, _REAL_TIME_ROWS),
        (Category.NON_REAL_TIME, _NON_REAL_TIME_ROWS),
    )
    for name, label, sample in rows
}
"""By name, in the order that lists show them. A deployer's own types come behind: `with_extra_types`."""

type EventTypes = Mapping[str, EventType]
"""A catalogue, by name."""

_NON_REAL_TIME_SUFFIX = ":non-real-time"
_MAX_LABEL_LENGTH = 140
_GENERIC_SAMPLE = {"sample": True}  # nothing is known of the fields of a type that somebody else made


def generic_type(name: str, category: Category = Category.REAL_TIME) -> EventType:
    """Return a type of which only the name is known, with a label made of it and a generic sample."""
    label = name.replace("_", " ").replace(":", " ").capitalize()
    return EventType(name, label, category, _GENERIC_SAMPLE)


def with_extra_types(extra: str) -> EventTypes:
    """Return the catalogue with the types that the parameter ExtraEventTypes adds: names with commas between.

    A name that ends in `:non-real-time` is of that category, without the ending. A type that the catalogue
    has stays as it is there: a later version may bring a type that a deployer had added.
    """
    if not extra:
        return EVENT_TYPES
    added = (
        generic_type(
            each.removesuffix(_NON_REAL_TIME_SUFFIX),
            Category.NON_REAL_TIME if each.endswith(_NON_REAL_TIME_SUFFIX) else Category.REAL_TIME,
        )
        for each in extra.split(",")
    )
    return EVENT_TYPES | {each.name: each for each in added if each.name not in EVENT_TYPES}


class InvalidDetails(Exception):
    """The parameter ExtraEventTypeDetails cannot be read. The text says where, and the rule."""


def with_details(event_types: EventTypes, details: str) -> EventTypes:
    """Return a catalogue with what the parameter ExtraEventTypeDetails says of the deployer's own types.

    It is JSON: `{"<name>": {"label": text, "translations": {"<language>": text}, "sample": object}}`. Each of
    the three may be absent. What it says of other types is ignored, as their names may be gone or new.

    Raises:
        InvalidDetails: it is something else.
    """
    if not details:
        return event_types
    try:
        parsed = json.loads(details)
        json.dumps(parsed, allow_nan=False)  # Python reads NaN and 1e999, which no receiver can
    except (ValueError, RecursionError) as error:
        raise InvalidDetails(f"it is not JSON: {error}") from None
    described = dict(event_types)
    for name, each in _object(parsed, "it").items():
        where = f"{name!r}"
        given = _object(each, where)
        if unknown := given.keys() - {"label", "translations", "sample"}:
            raise InvalidDetails(f"{where} has {min(unknown)!r}; it may have label, translations and sample")
        translations = _object(given.get("translations", {}), f"translations of {where}")
        for label in (given.get("label", " "), *translations.values()):
            if not isinstance(label, str) or not 1 <= len(label) <= _MAX_LABEL_LENGTH:
                raise InvalidDetails(
                    f"a label of {where} must be text of 1 to {_MAX_LABEL_LENGTH} characters"
                )
        _object(given.get("sample", {}), f"sample of {where}")
        if name in event_types and name not in EVENT_TYPES:
            described[name] = replace(event_types[name], **given)
    return described


def _object(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidDetails(f"{what} must be an object")
    return value
