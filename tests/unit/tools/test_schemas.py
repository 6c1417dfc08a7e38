"""The JSON Schemas and the code that reads events agree, wherever a schema can tell.

Five things no schema can: an event's size, an id's bytes, characters that neither print nor control, days
that the calendar lacks, the end of a century in UTC. About three it is stricter than the
code: integers that the bus itself refuses, forms of ISO 8601 that nobody should start with, and what
`eventInfo` and `data` hold.
"""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from lms_webhooks.model.data_schemas import FIELDS, describe_data
from lms_webhooks.model.event_types import EVENT_TYPES, Category, EventType
from lms_webhooks.model.events import (
    FIRST_MS,
    LAST_MS,
    MAX_ACCOUNT_ID_LENGTH,
    MAX_EVENT_ID_BYTES,
    Event,
    MalformedEvent,
    read_event,
)
from lms_webhooks.model.health import MAX_REQUEST_SIZE
from lms_webhooks.sending.webhook_request import build_body
from tests.adobe import SAMPLES, name_of
from tests.unit.moments import BAD_MOMENTS, GOOD_MOMENTS
from tools.samples import SCHEMAS, SOURCE, detail, detail_schema, file_name, request_schema

NAME = "COURSE_ENROLLMENT"
each_type = pytest.mark.parametrize("event_type", EVENT_TYPES.values(), ids=lambda each: each.name)
DETAIL = Draft202012Validator(detail_schema(EVENT_TYPES[NAME]))
REQUEST = Draft202012Validator(request_schema())
LEFT_OUT = object()

numbers = (
    st.integers()
    | st.integers(-1, 2)
    | st.floats(allow_nan=False, allow_infinity=False).filter(
        # 1010.0 and 1010 are one value to a schema; the system, which passes text on, takes only the second.
        lambda number: not number.is_integer()
    )
)
anything = (
    st.none()
    | st.booleans()
    | numbers
    | st.text(max_size=5)
    | st.lists(st.integers(), max_size=2)
    | st.dictionaries(st.text(max_size=2), st.integers(), max_size=2)
)


def ids_up_to(length: int) -> st.SearchStrategy[str]:
    """Texts, and some about as long as they may be."""
    characters = st.characters(exclude_categories=["Cs"])
    return st.text(characters, max_size=8) | st.builds(
        lambda character, more: character * (length + more), characters, st.integers(-1, 1)
    )


def near(edge: int) -> st.SearchStrategy[int | float]:
    """Numbers about an edge, to a thousandth."""
    return st.integers(edge - 2, edge + 2) | st.integers(-3000, 3000).map(lambda ms: edge + ms / 1000).filter(
        lambda number: not number.is_integer()
    )


def moment(local: datetime, offset: timedelta | None) -> datetime:
    """So much ahead of UTC, or without an offset, which means UTC."""
    return local if offset is None else local.replace(tzinfo=timezone(offset))


offsets = st.builds(timedelta, minutes=st.integers(-23 * 60, 23 * 60))
moments = st.builds(
    moment,
    st.datetimes(datetime(1998, 1, 1), datetime(2102, 1, 1)),  # noqa: DTZ001  # offsets come beside
    st.none() | offsets,
).filter(lambda each: each.year == (each if each.tzinfo is None else each.astimezone(UTC)).year)
timestamps = (
    anything
    | near(FIRST_MS)
    | near(LAST_MS)
    | near(FIRST_MS // 1000)
    | near(LAST_MS // 1000)
    | moments.map(lambda each: each.isoformat())
    | moments.map(lambda each: each.astimezone(UTC).isoformat().replace("+00:00", "Z"))
)
MUTATIONS = {
    "accountId": anything | ids_up_to(MAX_ACCOUNT_ID_LENGTH) | st.integers(2**63 - 2, 2**63 + 2),
    "eventId": anything | ids_up_to(MAX_EVENT_ID_BYTES),
    "eventName": anything | st.sampled_from(list(EVENT_TYPES)),
    "timestamp": timestamps,
}


def read(fields: dict[str, Any]) -> Event | None:
    """What the system makes of a detail."""
    message = json.dumps({"source": SOURCE, "detail-type": NAME, "detail": fields})
    try:
        return read_event(message, source=SOURCE, accepted_at_ms=1)
    except MalformedEvent:
        return None


def compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def is_beyond_schemas(value: object) -> bool:
    """Whether the bus refuses it as an integer, an id has too many bytes, or characters do not print."""
    if isinstance(value, int) and value >= 2**63:
        return True
    if isinstance(value, str) and len(value) <= MAX_EVENT_ID_BYTES < len(value.encode()):
        return True
    if not isinstance(value, str) or value.isprintable():
        return False
    return not any(unicodedata.category(character) == "Cc" for character in value)


@each_type
def test_each_schema_is_one_and_takes_the_sample_of_its_type_alone(event_type: EventType) -> None:
    schema = json.loads((SCHEMAS / file_name(event_type)).read_text())
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    assert [each for each in EVENT_TYPES.values() if validator.is_valid(detail(each))] == [event_type]
    assert validator.is_valid(schema["examples"][0])


def test_the_request_s_schema_is_one_and_takes_every_sample() -> None:
    schema = json.loads((SCHEMAS / "request.json").read_text())
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    validator.validate(schema["examples"][0])
    events = [each.sample_event() for each in EVENT_TYPES.values()]
    validator.validate({"accountId": "a1", "events": events})
    for wrong in (
        [],
        events * (MAX_REQUEST_SIZE // len(events) + 1),
        [{**events[0], "eventName": "NO_SUCH"}],
    ):
        assert not validator.is_valid({"accountId": 1010, "events": wrong})


@pytest.mark.parametrize("sample", SAMPLES, ids=name_of)
def test_each_sample_that_adobe_publishes_is_good_and_goes_through_as_it_is(sample: dict[str, Any]) -> None:
    """Byte for byte, from the queue to the body of the request."""
    body = sample["body"]
    (event,) = body["events"]
    fields = {"accountId": body["accountId"], **event}
    schema = json.loads((SCHEMAS / file_name(EVENT_TYPES[event["eventName"]])).read_text())
    Draft202012Validator(schema).validate(fields)
    REQUEST.validate(body)
    envelope = {"source": SOURCE, "detail-type": event["eventName"], "detail": fields}
    read = read_event(compact(envelope), source=SOURCE, accepted_at_ms=1)
    assert build_body([read]).decode() == compact(body)


def test_adobe_s_pages_have_a_sample_of_every_type_of_the_catalogue() -> None:
    assert {name_of(each) for each in SAMPLES} == set(EVENT_TYPES)
    assert Counter(each["page"] for each in SAMPLES) == {"usage guide": 27, "webhooks": 5}


@pytest.mark.parametrize(
    "date", [1727414643, 1727414643000, 1727414643.25, "2024-11-08T03:49:52.000Z", "2024-11-08"]
)
@pytest.mark.parametrize("field", ["dateEnrolled", "dateCompleted", "dateStarted"])
def test_a_date_in_data_has_any_form_that_the_platform_has(field: str, date: object) -> None:
    types = [each for each in EVENT_TYPES.values() if field in each.sample]
    assert types
    for event_type in types:
        fields = detail(event_type)
        fields["data"] = fields["data"] | {field: date}
        validator = Draft202012Validator(detail_schema(event_type))
        assert validator.is_valid(fields)
        wrongs: tuple[object, ...] = ("yesterday", "08/11/2024", -1, True, {})
        for wrong in wrongs:
            assert not validator.is_valid(fields | {"data": {**fields["data"], field: wrong}})


@pytest.mark.parametrize(
    "more",
    [
        {"eventInfo": LEFT_OUT},
        {"eventInfo": ""},
        {"eventInfo": "sync-2026-03-30T10:15:00Z"},
        {"data": {"loType": "learning_program", "loId": "learning_program:1", "loInstanceId": "course:2_3"}},
        {"data": {"status": "FAILED", "request": {"data": [{"type": "user", "id": "1"}] * 20}}},
        {"data": {"request": {"metadata": {"event_id": 7, "a": [None]}}}},
        {"data": {"request": {"metadata": "x" * 1000}}},
    ],
)
def test_what_adobe_leaves_open_any_schema_takes(more: dict[str, Any]) -> None:
    for event_type in EVENT_TYPES.values():
        fields = {name: value for name, value in (detail(event_type) | more).items() if value is not LEFT_OUT}
        Draft202012Validator(detail_schema(event_type)).validate(fields)


def test_what_tells_duplicates_is_said_as_receivers_are_told_it() -> None:
    told = (SCHEMAS.parent / "receivers.md").read_text()
    assert "Recognize duplicates by `accountId`, `eventName` and `eventId` together." in told
    for schema in (detail_schema(EVENT_TYPES[NAME])["properties"], request_schema()["$defs"]):
        assert schema["eventId"]["description"].endswith("by accountId, eventName and eventId together")


@pytest.mark.slow
@settings(max_examples=300)
@given(st.data())
def test_what_the_system_refuses_a_schema_refuses_and_the_other_way_round(data: st.DataObject) -> None:
    fields: dict[str, Any] = detail(EVENT_TYPES[NAME])
    for field in data.draw(st.sets(st.sampled_from(list(MUTATIONS)), min_size=1, max_size=2)):
        value = data.draw(MUTATIONS[field] | st.just(LEFT_OUT), label=field)
        if value is LEFT_OUT:
            del fields[field]
        else:
            fields[field] = value
    if any(is_beyond_schemas(value) for value in fields.values()):
        return
    assert DETAIL.is_valid(fields) == (read(fields) is not None)


@pytest.mark.slow
@settings(max_examples=300)
@given(st.dictionaries(st.text(max_size=8).map(lambda name: f"x-{name}"), anything))
def test_fields_that_nobody_knows_are_welcome(more: dict[str, Any]) -> None:
    fields = detail(EVENT_TYPES[NAME]) | more
    fields["data"] = fields["data"] | more
    assert DETAIL.is_valid(fields)
    event = read(fields)
    assert event is not None
    REQUEST.validate(json.loads(build_body([event])))


@pytest.mark.slow
@settings(max_examples=300)
@given(st.data())
def test_what_is_made_of_a_good_detail_is_a_good_request(data: st.DataObject) -> None:
    """Whatever its account and time look like, and without `data`, which nobody requires."""
    fields = detail(EVENT_TYPES[NAME])
    for field in ("accountId", "eventId", "timestamp"):
        fields[field] = data.draw(MUTATIONS[field], label=field)
    if data.draw(st.booleans(), label="bare"):
        del fields["data"], fields["eventInfo"]
    event = read(fields)
    if event is None or not DETAIL.is_valid(fields):
        return
    REQUEST.validate(json.loads(build_body([event])))


@pytest.mark.parametrize("timestamp", GOOD_MOMENTS)
@pytest.mark.parametrize("offset", ["", "?"])
def test_a_time_of_rfc_3339_is_one_within_the_century(timestamp: str, offset: str) -> None:
    """Also without an offset, which means UTC."""
    text = re.sub("([Zz]|[+-][0-9:]+)$", "", timestamp) if offset else timestamp
    fields = detail(EVENT_TYPES[NAME]) | {"timestamp": text}
    assert (read(fields) is not None) == DETAIL.is_valid(fields) == text.startswith("20")


@pytest.mark.parametrize("timestamp", BAD_MOMENTS)
def test_what_rfc_3339_does_not_call_a_time_no_schema_takes(timestamp: str) -> None:
    assert not DETAIL.is_valid(detail(EVENT_TYPES[NAME]) | {"timestamp": timestamp})


@pytest.mark.parametrize(
    ("changes", "is_good"),
    [
        ({"accountId": 2**63}, True),
        ({"timestamp": "20240927T052403Z"}, True),
        ({"timestamp": "2024-09-27"}, True),
        ({"timestamp": "2024-02-30T05:24:03Z"}, False),
        ({"timestamp": "2000-01-01T00:30:00+01:00"}, False),
        ({"timestamp": "1999-12-31T23:59:60Z"}, True),
        ({"timestamp": "2099-12-31T23:59:60Z"}, False),
        ({"eventId": "a\u202eb"}, False),
        ({"data": "x"}, True),
        ({"data": {"userId": "4279332"}}, True),
        ({"eventInfo": None}, True),
    ],
)
def test_where_they_differ_it_is_known(changes: dict[str, Any], is_good: bool) -> None:
    fields = detail(EVENT_TYPES[NAME]) | changes
    assert DETAIL.is_valid(fields) != is_good
    assert (read(fields) is not None) == is_good


@each_type
def test_every_field_of_the_catalogue_s_samples_is_explained(event_type: EventType) -> None:
    def names(value: object) -> Iterator[str]:
        assert value is not None, "model/event_types.py: null tells no kind"
        assert value != [], "model/event_types.py: an empty list tells no kind of entries"
        if isinstance(value, Mapping):
            for name, inner in value.items():
                yield name
                if name != "metadata":  # the caller's own
                    yield from names(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from names(inner)

    unexplained = set(names(event_type.sample)) - FIELDS.keys()
    assert not unexplained, f"model/data_schemas.py: FIELDS must say what {unexplained} means"


@pytest.mark.parametrize(
    ("sample", "schema"),
    [
        ({"badge": "gold", "dateWon": 1}, {"badge": {"type": "string"}, "dateWon": {"type": "number"}}),
        ({"userId": 7, "isNew": True}, {"userId": {"type": "number"}, "isNew": {"type": "boolean"}}),
        (
            {"badges": [], "note": None, "ids": [1]},
            {"badges": {"type": "array"}, "note": {}, "ids": {"type": "array", "items": {"type": "number"}}},
        ),
    ],
)
def test_a_deployer_s_sample_is_described_as_far_as_it_tells(
    sample: dict[str, Any], schema: dict[str, Any]
) -> None:
    described = describe_data(EventType("BADGE_AWARDED", "Badge awarded", Category.REAL_TIME, sample))
    assert described == {"description": "What happened", "type": "object", "properties": schema}
    Draft202012Validator.check_schema(described)
    assert Draft202012Validator(described).is_valid(sample)


def test_a_sample_may_hold_decimals() -> None:
    made = EventType("LEARNER_PROGRESS", "Progress", Category.NON_REAL_TIME, {"progressPercent": 0.5})
    data = detail_schema(made)["properties"]["data"]
    assert data["properties"]["progressPercent"]["type"] == "number"
