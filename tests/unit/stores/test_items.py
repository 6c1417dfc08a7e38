"""An event comes back from an item as it went in, and its keys order events by time."""

import random
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lms_webhooks.model.attempts import Attempt, ErrorClass
from lms_webhooks.model.events import MAX_EVENT_ID_BYTES, Event
from lms_webhooks.stores.items import attempts_attribute, event_attributes, read_attempts, read_event_item
from tests.unit.tables import event

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

FIRST_MS, LAST_MS = 946_684_800_000, 4_102_444_799_999  # what an event may say: 2000 to 2100
texts = st.text(st.characters(exclude_categories=["Cs"]))
ids = st.text(
    st.one_of(st.sampled_from("#:0a"), st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"])),
    min_size=1,
    max_size=240,
)
_draw = random.Random(0)
NOISE = "".join(
    chr(_draw.randrange(0x80) if _draw.random() < 0.75 else _draw.randrange(0x80, 0x800)) for _ in range(420)
)
times = st.integers(FIRST_MS, LAST_MS)
events = st.builds(
    Event,
    account_id=ids,
    event_id=ids,
    event_name=st.sampled_from(["COURSE_ENROLLMENT", "CI_STATS"]),
    occurred_at_ms=times,
    accepted_at_ms=times,
    text=st.one_of(texts, st.builds(str.__mul__, texts, st.integers(0, 300))),
)
attempts = st.builds(
    Attempt,
    started_at_ms=times,
    latency_ms=st.integers(0, 15_000),
    status_code=st.none() | st.integers(100, 999),
    error_class=st.none() | st.sampled_from(["timeout", "dns", "tls"]),
)


@given(events)
def test_any_event_comes_back_from_its_item(kept: Event) -> None:
    assert read_event_item(event_attributes(kept), kept.sort_key) == kept


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=3000))
def test_no_text_is_stored_larger_than_it_is(text: str) -> None:
    stored = event_attributes(event(text=text))["event"]
    size = len(stored["B"]) if "B" in stored else len(stored["S"].encode())
    assert size <= len(text.encode())


@pytest.mark.parametrize(
    ("story", "text", "is_compressed"),
    [
        ("a short one is not worth the time", "a" * 511, False),
        ("half a kilobyte is", "a" * 512, True),
        ("it is bytes that count, not characters", "ü" * 256, True),
        ("what compression would make larger stays as it is", NOISE, False),
        ("the empty one", "", False),
    ],
)
def test_a_text_is_compressed_where_that_is_smaller(story: str, text: str, is_compressed: bool) -> None:
    stored = event_attributes(event(text=text))["event"]
    assert ("B" in stored) is is_compressed, story


def test_a_text_is_decompressed_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """And once. What expires, or is purged, or moves to another lane, goes from item to item as it is."""
    kept = event(text="a" * 240_000)
    item = event_attributes(kept)
    decompressed: list[bytes] = []
    decompress = zlib.decompress

    def note(data: bytes) -> bytes:
        decompressed.append(data)
        return decompress(data)

    monkeypatch.setattr(zlib, "decompress", note)
    monkeypatch.setattr(zlib, "compress", None)
    read = read_event_item(item, kept.sort_key)
    assert (read.sort_key, read.event_name, read.accepted_at_ms) == (
        kept.sort_key,
        kept.event_name,
        kept.accepted_at_ms,
    )
    assert event_attributes(read) == item
    assert not decompressed
    assert read.text == read.text == kept.text
    assert len(decompressed) == 1
    assert read == kept
    assert repr(read) == repr(kept)
    assert replace(read, text="b").text == "b"
    with pytest.raises(AttributeError):
        _ = read.texts  # type: ignore[attr-defined]


@given(st.lists(attempts, max_size=8))
def test_attempts_come_back_in_their_order(made: list[Attempt]) -> None:
    assert read_attempts(attempts_attribute(made)) == tuple(made)


def test_attempts_that_0_1_0_wrote_are_read_too() -> None:
    written: AttributeValueTypeDef = {
        "L": [
            {"M": {"at": {"N": "5"}, "ms": {"N": "80"}, "status": {"N": "503"}}},
            {"M": {"at": {"N": "6"}, "ms": {"N": "5000"}, "error": {"S": "timeout"}}},
            {"S": "7 90 200 -"},
        ]
    }
    assert read_attempts(written) == (
        Attempt(5, 80, 503, None),
        Attempt(6, 5000, None, "timeout"),
        Attempt(7, 90, 200, None),
    )


def test_an_attempt_is_one_short_text_that_a_person_can_read() -> None:
    made = [Attempt(5, 80, 503, None), Attempt(6, 9, None, "timeout"), Attempt(7, 9, None, "tls/wrong-name")]
    written = attempts_attribute(made)
    assert written == {"L": [{"S": "5 80 503 -"}, {"S": "6 9 - timeout"}, {"S": "7 9 - tls/wrong-name"}]}
    assert read_attempts(written) == tuple(made)


@pytest.mark.parametrize(
    ("made", "summary"),
    [
        (Attempt(5, 80, 503, None), "HTTP 503"),
        (Attempt(6, 5000, None, "timeout"), "timeout"),
        (Attempt(7, 9, None, "tls/certificate-expired"), "tls: The receiver's certificate has expired"),
        (Attempt(7, 9, None, "tls/of-a-newer-version"), "tls"),
    ],
)
def test_an_attempt_is_told_in_words(made: Attempt, summary: str) -> None:
    assert made.summary == summary


@pytest.mark.parametrize(
    "written",
    [
        {"S": "8 9 - broken-answer"},
        {"M": {"at": {"N": "8"}, "ms": {"N": "9"}, "error": {"S": "broken-answer"}}},
    ],
)
def test_an_attempt_with_the_earlier_name_of_an_error_class_is_read(written: Any) -> None:
    assert read_attempts({"L": [written]}) == (Attempt(8, 9, None, ErrorClass.INVALID_RESPONSE),)


@given(st.lists(events, max_size=12))
def test_sort_keys_order_by_time_then_by_id_and_then_by_name(several: list[Event]) -> None:
    """As DynamoDB compares them: by their UTF-8 bytes."""
    by_key = sorted(several, key=lambda each: each.sort_key.encode())
    by_time = sorted(several, key=lambda each: (each.occurred_at_ms, each.event_id, each.event_name))
    assert [each.sort_key for each in by_key] == [each.sort_key for each in by_time]


@pytest.mark.parametrize("at_ms", [FIRST_MS, 999_999_999_999, 1_000_000_000_000, LAST_MS])
def test_the_longest_key_of_a_lane_fits_into_dynamodb(at_ms: int) -> None:
    """The retry lane puts a due time before it; a sort key holds 1,024 bytes."""
    longest = max(
        (event("\U0001f40d" * length, at_ms=at_ms) for length in range(1, MAX_EVENT_ID_BYTES // 4 + 1)),
        key=lambda each: len(each.sort_key.encode()),
    )
    assert len(f"{LAST_MS:013d}#{longest.sort_key}".encode()) <= 1024


@given(events)
def test_an_event_of_an_earlier_version_is_read_with_its_own_key(kept: Event) -> None:
    """Its key had no name, and it is deleted under that key."""
    read = read_event_item(event_attributes(kept), kept.plain_key)
    assert read == kept
    assert read.sort_key == kept.plain_key == f"{kept.occurred_at_ms:013d}#{kept.event_id}"
    # And that version, which takes all behind the time for the id, deletes what we wrote under our key.
    assert replace(kept, event_id=kept.sort_key.partition("#")[2]).plain_key == kept.sort_key


@pytest.mark.parametrize("text", ["short", "long enough to be compressed " * 40])
def test_a_long_id_comes_back_from_its_item(text: str) -> None:
    kept = event("\U0001f40d" * (MAX_EVENT_ID_BYTES // 4), text=text)
    read = read_event_item(event_attributes(kept), kept.sort_key)
    assert (read, read.sort_key) == (kept, kept.sort_key)
