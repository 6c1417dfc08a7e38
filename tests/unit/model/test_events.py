"""Reading events: what is one, what is none and why, and that none of its text changes."""

import json
import string
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lms_webhooks.model.event_types import EVENT_TYPES
from lms_webhooks.model.events import (
    MAX_ACCOUNT_ID_LENGTH,
    MAX_DETAIL_BYTES,
    MAX_EVENT_ID_BYTES,
    Event,
    MalformedEvent,
    read_event,
    read_sort_key,
)

NAME = "COURSE_ENROLLMENT"
FIELDS: dict[str, Any] = {
    "accountId": 1010,
    "eventId": "e-1",
    "eventName": NAME,
    "timestamp": 1727414643000,
    "eventInfo": "1727414643000-047210-84242-0",
    "data": {"userId": 4279332},
}
ENVELOPE: dict[str, Any] = {
    "version": "0",
    "id": "b-1",
    "detail-type": NAME,
    "source": "lms",
    "resources": [],
}
YEAR_2000_MS = 946_684_800_000
YEAR_2100_MS = 4_102_444_800_000


def read(message: str) -> Event:
    return read_event(message, source="lms", accepted_at_ms=1)


def message_of(detail: str, **envelope: Any) -> str:
    """A bus message around the exact text of a detail."""
    return json.dumps({**ENVELOPE, **envelope})[:-1] + ', "detail": ' + detail + "}"


def read_fields(**changes: Any) -> Event:
    return read(message_of(json.dumps({**FIELDS, **changes})))


def read_raw(field: str, value: str) -> Event:
    """One field replaced by the exact text of a value."""
    texts = {name: json.dumps(content) for name, content in FIELDS.items()} | {field: value}
    return read(message_of("{" + ",".join(f'"{name}":{text}' for name, text in texts.items()) + "}"))


def reason_of(message: str) -> str:
    with pytest.raises(MalformedEvent) as caught:
        read(message)
    assert str(caught.value) == caught.value.reason
    assert len(caught.value.log_reason.split("; ")) == len(caught.value.reason.split("; "))
    return caught.value.reason


def test_a_well_formed_message_becomes_an_event() -> None:
    event = read_event(message_of(json.dumps(FIELDS)), source="lms", accepted_at_ms=1_800_000_000_123)
    assert event.account_id == "1010"
    assert event.event_id == "e-1"
    assert event.event_name == NAME
    assert event.occurred_at_ms == 1727414643000
    assert event.accepted_at_ms == 1_800_000_000_123
    assert json.loads(event.text) == {name: value for name, value in FIELDS.items() if name != "accountId"}


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_every_type_of_the_catalogue_is_read(name: str) -> None:
    sample = EVENT_TYPES[name].sample_event()
    event = read(message_of(json.dumps({"accountId": 1010, **sample}), **{"detail-type": name}))
    assert event.event_name == name
    assert json.loads(event.text) == sample


@pytest.mark.parametrize(
    ("timestamp", "milliseconds"),
    [
        ("1727414643", 1727414643000),
        ("1727414643.25", 1727414643250),
        ("1.727414643e9", 1727414643000),
        ("1727414643000", 1727414643000),
        ("1727414643000.9", 1727414643000),
        ('"2024-09-27T05:24:03Z"', 1727414643000),
        ('"2024-09-27T05:24:03.123456Z"', 1727414643123),
        ('"2024-09-27T07:24:03+02:00"', 1727414643000),
        ('"2024-09-27T05:24:03"', 1727414643000),
        ('"20240927T052403Z"', 1727414643000),
        ('"2024-09-27"', 1727395200000),
        ('"20240927"', 1727395200000),
        ('"2024\\u002d09-27T05:24:03Z"', 1727414643000),
        ('"2024-09-27t05:24:03z"', 1727414643000),
        ('"2024-09-27t07:24:03.5+02:00"', 1727414643500),
        ('"2016-12-31T23:59:60Z"', 1483228800000),
        ('"2016-12-31T15:59:60.25-08:00"', 1483228800250),
        ('"2024-09-27 05:24:03Z"', 1727414643000),
        # The ends of the range, in each form.
        ("4102444799.9999", YEAR_2100_MS - 1),
        ("946684800", YEAR_2000_MS),
        ("4102444799", YEAR_2100_MS - 1000),
        ("946684800000", YEAR_2000_MS),
        ("4102444799999", YEAR_2100_MS - 1),
        ('"2000-01-01T00:00:00Z"', YEAR_2000_MS),
        ('"2099-12-31T23:59:59.999Z"', YEAR_2100_MS - 1),
        ('"1999-12-31T23:00:00-01:00"', YEAR_2000_MS),
        ('"2100-01-01T00:59:59.999+01:00"', YEAR_2100_MS - 1),
    ],
)
def test_a_timestamp_is_understood_in_all_forms_and_passed_on_as_it_is(
    timestamp: str, milliseconds: int
) -> None:
    event = read_raw("timestamp", timestamp)
    assert event.occurred_at_ms == milliseconds
    assert f'"timestamp":{timestamp}' in event.text


@pytest.mark.parametrize(
    ("timestamp", "shown"),
    [
        ("946684799", "the number 946684799"),
        ("4102444800", "the number 4102444800"),
        ("946684799999", "the number 946684799999"),
        ("4102444800000", "the number 4102444800000"),
        ("0", "the number 0"),
        ("-1727414643", "the number -1727414643"),
        ("1e999", "the number 1e999"),
        ("1" * 5000, "the number " + "1" * 40 + ";"),
        ('"1999-12-31T23:59:59.999Z"', "'1999-12-31T23:59:59.999Z'"),
        ('"2100-01-01T00:00:00Z"', "'2100-01-01T00:00:00Z'"),
        ('"0001-01-01T00:00:00+14:00"', "'0001-01-01T00:00:00+14:00'"),
        ('"9999-12-31T23:59:59-14:00"', "'9999-12-31T23:59:59-14:00'"),
        ('"1727414643000"', "'1727414643000'"),
        ('"2012010290312"', "'2012010290312'"),  # fromisoformat alone reads 2 January 2012, 03:12
        ('"yesterday"', "'yesterday'"),
        ('"2024-09-27T05:24:03 +02:00"', "'2024-09-27T05:24:03 +02:00'"),
        ('"2024-09-27T05:24:03 02:00"', "'2024-09-27T05:24:03 02:00'"),
        ('"2024-09-27T05:24:03 Z"', "'2024-09-27T05:24:03 Z'"),
        (r'"2024-09-27T05:24:03\t+02:00"', r"'2024-09-27T05:24:03\t+02:00'"),
        ('"2024-09-27T05:24:03x+02:00"', "'2024-09-27T05:24:03x+02:00'"),
        ('"2024-09-27T05:24:03.5xZ"', "'2024-09-27T05:24:03.5xZ'"),
        ('"2024-09-27T05:24:61Z"', "'2024-09-27T05:24:61Z'"),
        ('""', "''"),
        ('"2024-02-30T00:00:00Z"', "'2024-02-30T00:00:00Z'"),
        ("null", "null"),
        ("true", "a boolean"),
        ("[1727414643]", "a list"),
        ("{}", "an object"),
    ],
)
def test_an_absurd_timestamp_is_malformed(timestamp: str, shown: str) -> None:
    with pytest.raises(MalformedEvent) as caught:
        read_raw("timestamp", timestamp)
    assert caught.value.reason.startswith(f"timestamp is {shown}")
    assert "epoch seconds, epoch milliseconds or ISO 8601, between 2000 and 2100" in caught.value.reason


@pytest.mark.parametrize("field", ["accountId", "eventId", "eventName", "timestamp"])
def test_a_missing_field_is_named(field: str) -> None:
    fields = {name: value for name, value in FIELDS.items() if name != field}
    assert reason_of(message_of(json.dumps(fields))).startswith(f"{field} is missing; it must be ")


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        ("accountId", "null", "null"),
        ("accountId", "true", "a boolean"),
        ("accountId", "-1", "the number -1"),
        ("accountId", "-0", "the number -0"),
        ("accountId", "10.10", "the number 10.10"),
        ("accountId", "1e3", "the number 1e3"),
        ("accountId", '""', "''"),
        ("accountId", '"a\\u0000b"', "'a\\x00b'"),
        ("accountId", '"a\\nb"', "'a\\nb'"),
        ("accountId", '"1010\\n"', "'1010\\n'"),
        ("accountId", '"acme 1"', "'acme 1'"),
        ("accountId", '"10#10"', "'10#10'"),
        ("accountId", '"\u0661"', "'\\u0661'"),
        ("accountId", '"\\ud800"', "'\\ud800'"),
        ("accountId", "[1010]", "a list"),
        ("accountId", '{"id":1010}', "an object"),
        ("accountId", "1" * (MAX_ACCOUNT_ID_LENGTH + 1), "the number " + "1" * 40),
        ("accountId", '"' + "a" * (MAX_ACCOUNT_ID_LENGTH + 1) + '"', "'aaa"),
        ("eventId", "17", "the number 17"),
        ("eventId", "null", "null"),
        ("eventId", "false", "a boolean"),
        ("eventId", '""', "''"),
        ("eventId", '"a\\tb"', "'a\\tb'"),
        ("eventId", '"\\u202e"', "'\\u202e'"),
        ("eventId", '"' + "e" * (MAX_EVENT_ID_BYTES + 1) + '"', "'eee"),
        ("eventName", '"NO_SUCH_EVENT"', "'NO_SUCH_EVENT'"),
        ("eventName", '"course_enrollment"', "'course_enrollment'"),
        ("eventName", "5", "the number 5"),
        ("eventName", "{}", "an object"),
    ],
)
def test_a_field_of_the_wrong_kind_is_named_with_what_it_holds(field: str, value: str, shown: str) -> None:
    with pytest.raises(MalformedEvent) as caught:
        read_raw(field, value)
    assert caught.value.reason.startswith(f"{field} is {shown}")
    assert "; it must be " in caught.value.reason
    assert caught.value.reason.isprintable()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"source": "crm"}, "source is 'crm'; this bus takes events from 'lms'"),
        ({"source": None}, "source is null; this bus takes events from 'lms'"),
        ({"source": ["lms"]}, "source is a list; this bus takes events from 'lms'"),
        (
            {"detail-type": "COURSE_COMPLETED"},
            f"detail-type is 'COURSE_COMPLETED' and eventName '{NAME}'; they must agree",
        ),
        ({"detail-type": 7}, f"detail-type is the number 7 and eventName '{NAME}'; they must agree"),
    ],
)
def test_an_envelope_that_does_not_fit_is_explained(changes: dict[str, Any], reason: str) -> None:
    assert reason_of(message_of(json.dumps(FIELDS), **changes)) == reason


@pytest.mark.parametrize(
    ("detail", "shown"),
    [
        ("[]", "a list"),
        ('"text"', "'text'"),
        ("null", "null"),
        ("3.5", "the number 3.5"),
        ("true", "a boolean"),
    ],
)
def test_a_detail_that_is_no_object_is_named(detail: str, shown: str) -> None:
    assert reason_of(message_of(detail)) == f"detail is {shown}; it must be an object with the event's fields"


def test_a_missing_detail_is_named() -> None:
    assert reason_of(json.dumps(ENVELOPE)).startswith("detail is missing; it must be an object")


@pytest.mark.parametrize(
    "message",
    [
        "",
        " ",
        "null",
        "[]",
        "17",
        '"text"',
        "{",
        '{"detail"',
        '{"detail":',
        '{"detail":{}',
        '{"detail":{},}',
        '{"detail":{} "source":"lms"}',
        "{detail:{}}",
        "{'detail':{}}",
        '{"detail":{"a":NaN}}',
        '{"detail":{"a":[Infinity]}}',
        '{"detail":{"a":-Infinity}}',
        '{"detail":{"a":01}}',
        '{"detail":{"a":1.}}',
        '{"detail":{"a":"\t"}}',
        '{"detail":{"a":"\\x"}}',
        '{"detail":{"a":"open}}',
        '{"detail":{"a":[1,]}}',
        "\ufeff" + message_of(json.dumps(FIELDS)),
        message_of(json.dumps(FIELDS)) + "{}",
        message_of(json.dumps(FIELDS)) + "\x00",
        message_of(json.dumps(FIELDS))[:-1],
        message_of(json.dumps({**FIELDS, "data": "\ud800"}, ensure_ascii=False)),
    ],
)
def test_text_that_is_not_json_is_malformed(message: str) -> None:
    assert reason_of(message).startswith("the message is not the JSON of an event: ")


@pytest.mark.parametrize(
    "message",
    [
        message_of(json.dumps(FIELDS)[:-1] + ',"eventId":"e-2"}'),
        message_of(json.dumps(FIELDS)[:-1] + ',"event\\u0049d":"e-2"}'),
        message_of(json.dumps(FIELDS), eventId=1)[:-1] + ',"eventId":"e-2"}',
    ],
)
def test_a_key_that_stands_twice_is_malformed_and_named(message: str) -> None:
    assert reason_of(message).endswith("the key 'eventId' stands twice in one object")


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_a_depth_bomb_is_malformed(opening: str) -> None:
    assert "nested too deeply" in reason_of(message_of('{"data":' + opening * 100_000))


def test_a_detail_is_deliverable_up_to_its_limit_in_bytes() -> None:
    def detail_of(size: int) -> str:
        bare = json.dumps({**FIELDS, "data": ""}, ensure_ascii=False)
        filling = "é" * ((size - len(bare)) // 2) + "x" * ((size - len(bare)) % 2)
        return json.dumps({**FIELDS, "data": filling}, ensure_ascii=False)

    largest = detail_of(MAX_DETAIL_BYTES)
    assert len(largest.encode()) == MAX_DETAIL_BYTES
    assert len(largest) < MAX_DETAIL_BYTES
    assert read(message_of(largest)).event_id == "e-1"
    reason = reason_of(message_of(detail_of(MAX_DETAIL_BYTES + 1)))
    assert reason == f"detail has {MAX_DETAIL_BYTES + 1} bytes; at most {MAX_DETAIL_BYTES} can be delivered"


@pytest.mark.parametrize(
    "value",
    [
        "1.10",
        "1e400",
        "-0",
        "0.1000000000000000055511151231257827",
        "12345678901234567890",
        "9" * 5000,
        '"\\u00e9\\/\\ud83d\\ude00 é"',
        '"\\ud800"',
        '{ "b" : 1 ,\n"a":2 , "b":3 }',
        "[ ]",
        "null",
    ],
)
@pytest.mark.parametrize("field", ["data", "eventInfo", "somethingNew"])
def test_a_value_keeps_its_text(field: str, value: str) -> None:
    assert f'"{field}":{value}' in read_raw(field, value).text


def test_members_keep_their_order_and_whitespace_between_them_goes() -> None:
    """Keys in an unusual order, spaced out, with accountId amid them, once in escapes."""
    for account in ('"accountId"', '"\\u0061ccountId"'):
        detail = (
            f'{{ "z" : 1 ,\r\n "eventName" : "{NAME}", {account} : "x-y", "eventId":"e",\t'
            '"data": { "k" :1 }, "timestamp" : 1727414643, "a":[] }'
        )
        event = read(message_of(detail))
        assert event.account_id == "x-y"
        assert event.text == (
            f'{{"z" : 1,"eventName" : "{NAME}","eventId":"e",'
            '"data": { "k" :1 },"timestamp" : 1727414643,"a":[]}'
        )


@pytest.mark.parametrize(
    ("value", "account_id"),
    [
        ("1010", "1010"),
        ('"1010"', "1010"),
        ("0", "0"),
        ("1" * MAX_ACCOUNT_ID_LENGTH, "1" * MAX_ACCOUNT_ID_LENGTH),
        ('"acme:eu-1_a.b@c"', "acme:eu-1_a.b@c"),
        ('"\\u0041"', "A"),
    ],
)
def test_an_account_is_a_whole_number_or_a_string(value: str, account_id: str) -> None:
    assert read_raw("accountId", value).account_id == account_id


def test_sort_keys_order_by_time_then_id_and_fit_into_a_key() -> None:
    moments = [(946684800, "b"), (946684800001, "a"), (1727414643, "a"), (1727414643, "b"), (4102444799, "a")]
    keys = [read_fields(timestamp=timestamp, eventId=event_id).sort_key for timestamp, event_id in moments]
    assert keys == sorted(keys)
    assert keys[0] == f"0946684800000#b\t{NAME}"


def test_a_long_id_is_cut_and_hashed_in_a_key_and_differs_from_any_other() -> None:
    start = "é" * (MAX_EVENT_ID_BYTES // 2 - 1)
    ids = [start + "ab", start + "cd", start, "é" * 350, "e" + start]
    keys = {read_fields(eventId=each).sort_key for each in ids}
    assert len(keys) == len(ids)


@pytest.mark.parametrize("name_bytes", [1, 43, 403])
def test_whatever_the_lengths_a_key_fits_and_says_whether_it_has_the_id(name_bytes: int) -> None:
    """A name of the deployer's own may have 403 bytes, and the retry lane puts a second time first."""
    name = "N" * name_bytes
    keys = set()
    for length in range(1, MAX_EVENT_ID_BYTES + 1):
        event = Event("1010", "i" * length, name, 1727414643000, 1, "{}")
        assert len(event.sort_key) <= 1024 - len("1727414643000#")
        assert event.is_id_in_key == (read_sort_key(event.sort_key) == (1727414643000, event.event_id, False))
        assert event.sort_key.endswith(f"\t{name}")
        keys.add(event.sort_key)
    assert len(keys) == MAX_EVENT_ID_BYTES


def test_ids_have_a_limit_in_bytes() -> None:
    assert read_fields(eventId="é" * (MAX_EVENT_ID_BYTES // 2)).event_id == "é" * (MAX_EVENT_ID_BYTES // 2)
    with pytest.raises(MalformedEvent, match="1 to 1,000 bytes of UTF-8"):
        read_fields(eventId="é" * (MAX_EVENT_ID_BYTES // 2) + "e")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=25,
)


@pytest.mark.slow
@given(
    data=st.dictionaries(st.text(), json_values, max_size=6),
    is_ascii=st.booleans(),
    separators=st.sampled_from([(",", ":"), (" ,\n", "\t: ")]),
)
def test_any_object_in_data_comes_through_as_its_text(
    data: dict[str, Any], is_ascii: bool, separators: tuple[str, str]
) -> None:
    text = json.dumps(data, ensure_ascii=is_ascii, separators=separators)
    assert read_raw("data", text).text.endswith('"data":' + text + "}")


@pytest.mark.slow
@given(st.text() | st.text(string.printable) | st.text('{}[]":,\\ud8e0123.-+EainfNtrls \n\ud800'))
@example('{"detail":{"timestamp":')
@example('{"detail":{}}\ud800')
@settings(max_examples=500)
def test_no_text_raises_anything_but_malformed_event(text: str) -> None:
    # By itself, as a detail, and as each field: garbage must be met at every level.
    messages = [text, message_of(text)]
    for field in ("accountId", "eventId", "eventName", "timestamp", "data"):
        texts = {name: json.dumps(value) for name, value in FIELDS.items()}
        for value in (text, json.dumps(text)):
            members = ",".join(f'"{name}":{content}' for name, content in {**texts, field: value}.items())
            messages.append(message_of("{" + members + "}"))
    for message in messages:
        try:
            event = read(message)
        except MalformedEvent:
            continue
        assert event.text.encode()
        assert "accountId" not in json.loads(event.text, parse_int=str)


@pytest.mark.parametrize("field", ["accountId", "eventId", "eventName", "timestamp"])
@pytest.mark.parametrize(
    "value", ['"ada@example.com\\u0000"', "-4279332", '{"email":"ada@example.com"}', "[4279332]"]
)
def test_what_is_logged_of_a_malformed_event_holds_no_value(field: str, value: str) -> None:
    """What stands there may be about somebody, and logs are kept longer and read by more people."""
    with pytest.raises(MalformedEvent) as caught:
        read_raw(field, value)
    assert caught.value.log_reason.startswith(f"{field} is ")
    assert "ada" not in caught.value.log_reason
    assert "4279332" not in caught.value.log_reason


def test_what_is_logged_of_what_cannot_be_read_holds_no_key() -> None:
    with pytest.raises(MalformedEvent) as caught:
        read('{"detail": {"ada@example.com": 1, "ada@example.com": 2}}')
    assert "ada" in caught.value.reason
    assert caught.value.log_reason == "the message is not the JSON of an event: it cannot be read"
