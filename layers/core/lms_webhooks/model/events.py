"""Read events as they come from the bus, without touching what they say. Pure.

The text of an event is cut out of the message, never parsed and written again: unknown fields, large
integers, decimals such as 1.10 and the order of keys reach the receiver as they stand on the queue. AWS does
not promise that its bus keeps them.

MalformedEvent (an Exception; `reason` says which field, what it holds and the rule)
"""

import hashlib
import json
import re
import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from json.decoder import scanstring  # type: ignore[attr-defined]  # typeshed lacks it
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from lms_webhooks.model.event_types import EVENT_TYPES, EventTypes
from lms_webhooks.timestamps import read_rfc3339

MAX_DETAIL_BYTES = 240 * 1024  # leaves room for a DynamoDB item (400 KB) and for a POST of 256 KiB
MAX_EVENT_ID_BYTES = 1_000  # metadata of a group request, which its id may be, has 1,000 characters in all
MAX_ACCOUNT_ID_LENGTH = 64
# As in a token's claim: an account that no admin can be of would get its events, and nobody would see it.
ACCOUNT_ID_CHARACTERS = "A-Za-z0-9._:@-"

FIRST_MS = 946_684_800_000  # 2000-01-01
LAST_MS = 4_102_444_800_000  # 2100-01-01
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME_LENGTH = len("1727414643000#")
_MAX_KEY_BYTES = 1_024 - 2 * _TIME_LENGTH  # a sort key of DynamoDB; the retry lane puts a time before it
# An id that does not fit is cut and hashed. A name may have 403 bytes, as template.yaml allows it.
_ID_BYTES_BEFORE_HASH = 500
_IN_KEY = "\t"
"""Separates the parts of a key. No id or name has it, and it sorts before every character that they have."""
_ACCOUNT_ID = re.compile(rf"[{ACCOUNT_ID_CHARACTERS}]{{1,{MAX_ACCOUNT_ID_LENGTH}}}")
_WHOLE_NUMBER = re.compile(r"0|[1-9][0-9]*")
_PARTED_OFFSET = re.compile(r"[^0-9](?=(?:[+-][0-9:]+|[Zz])$)")
_whitespace_end = re.compile(r"[ \t\n\r]*").match
# A key without escapes, up to its value, and what stands between two members: one step of C for each, where
# the rules one by one would be half of what it costs to read an event.
_plain_key = re.compile(r'"([^"\\\x00-\x1f]*)"[ \t\n\r]*:[ \t\n\r]*').match
_comma = re.compile(r"[ \t\n\r]*,[ \t\n\r]*").match


class MalformedEvent(Exception):
    """A message that is not an event of the catalogue; `reason` is for the person who finds it.

    `log_reason` is the same without a value of the event: it may be about somebody.
    """

    def __init__(self, reason: str, *shown: "_Shown") -> None:
        self.reason = reason.format(*(each.value for each in shown)) if shown else reason
        self.log_reason = reason.format(*(each.kind for each in shown)) if shown else reason
        super().__init__(self.reason)


class _Shown(NamedTuple):
    """What stands at a field: its value, short enough and safe for an alarm mail; and of which kind it is."""

    value: str
    kind: str


@dataclass(frozen=True, slots=True)
class Event:
    """One event of one account.

    `text` is its JSON as receivers get it: the detail from the bus without `accountId`.
    `occurred_at_ms` is its own time; `accepted_at_ms` is when it was first put on a queue. Both in
    UTC milliseconds since 1970.
    """

    account_id: str
    event_id: str
    event_name: str
    occurred_at_ms: int
    accepted_at_ms: int
    text: str
    compressed: bytes = field(init=False, repr=False, compare=False, default=b"")
    """Its text as an item has it, by zlib; empty where it was not read from an item that has it so."""
    has_plain_key: bool = field(repr=False, compare=False, default=False)
    """Whether it was read from an item that an earlier version wrote, whose key has no name."""
    sort_key: str = field(init=False, repr=False, compare=False)
    """Orders an account's events by time, then by id, then by name, as text. The time has 13 digits until
    2286. Events of different names have different keys, whatever their ids."""

    def __post_init__(self) -> None:
        if self.has_plain_key:
            sort_key = self.plain_key
        else:
            in_key = _id_in_key(self.event_id, self.event_name)
            sort_key = f"{self.occurred_at_ms:013d}#{in_key}{_IN_KEY}{self.event_name}"
        object.__setattr__(self, "sort_key", sort_key)

    @property
    def is_id_in_key(self) -> bool:
        """Whether its sort key holds its id whole: together with the name it is not too long."""
        return self.sort_key.startswith(self.event_id, _TIME_LENGTH)

    @property
    def plain_key(self) -> str:
        """The sort key that an earlier version gave the event, see `has_plain_key`."""
        return f"{self.occurred_at_ms:013d}#{self.event_id}"

    @classmethod
    def of_compressed(
        cls,
        account_id: str,
        event_id: str,
        event_name: str,
        occurred_at_ms: int,
        accepted_at_ms: int,
        compressed: bytes,
        *,
        has_plain_key: bool = False,
    ) -> "Event":
        """Make an event whose text is decompressed when it is first asked for.

        A page of a lane holds a megabyte, which may be 400 megabytes of text. A request needs 256 KiB of it.
        What expires or is purged needs none.
        """
        event = cls(
            account_id, event_id, event_name, occurred_at_ms, accepted_at_ms, "", has_plain_key=has_plain_key
        )
        object.__setattr__(event, "compressed", compressed)
        object.__delattr__(event, "text")
        return event

    if not TYPE_CHECKING:  # mypy would believe that there is every attribute

        def __getattr__(self, name: str) -> str:
            """Python asks for what is not there: the text of an event that has it compressed."""
            if name != "text":
                raise AttributeError(name)
            text = zlib.decompress(self.compressed).decode()
            object.__setattr__(self, "text", text)
            return text


def read_sort_key(sort_key: str) -> tuple[int, str, bool]:
    """Read the sort key of an event.

    Returns:
        When it occurred, in ms; its id; whether the key is a plain one. Of a long id this is the start: the
        item has all of it as an attribute.
    """
    occurred_at_ms, _, rest = sort_key.partition("#")
    event_id, in_key, _ = rest.partition(_IN_KEY)
    return int(occurred_at_ms), event_id, not in_key


def _id_in_key(event_id: str, event_name: str) -> str:
    most = _MAX_KEY_BYTES - len(_IN_KEY) - len(event_name.encode())
    if len(event_id) * 4 <= most or len(event_id.encode()) <= most:
        return event_id
    id_bytes = event_id.encode()
    start = id_bytes[:_ID_BYTES_BEFORE_HASH].decode(errors="ignore")  # it may end within a character
    return f"{start}{_IN_KEY}{hashlib.sha256(id_bytes).hexdigest()}"


def is_account_id(text: str) -> bool:
    """Whether `text` can name an account, in an event as in the token of its admin."""
    return _ACCOUNT_ID.fullmatch(text) is not None


def read_event(
    message: str, *, source: str, accepted_at_ms: int, event_types: EventTypes = EVENT_TYPES
) -> Event:
    """Read an EventBridge message.

    Raises:
        MalformedEvent: when the message is not one event of the catalogue from `source`.
    """
    try:
        message.encode()  # a lone surrogate could be neither sent nor stored
        envelope, end = _members(message, 0, inner="detail")
        if _skip(message, end) != len(message):
            raise ValueError("something follows the object")
    except ValueError as error:
        shown = _Shown(str(error), "it cannot be read")  # the error may name a key
        raise MalformedEvent("the message is not the JSON of an event: {}", shown) from None
    except RecursionError:
        raise MalformedEvent("the message is not the JSON of an event: it is nested too deeply") from None
    detail_text, fields_start, fields, _ = envelope.get("detail", _MISSING)
    if not isinstance(fields, dict):
        raise MalformedEvent(
            "detail is {}; it must be an object with the event's fields", _shown(envelope, "detail")
        )
    if _text(envelope, "source") != source:
        raise MalformedEvent(
            f"source is {{}}; this bus takes events from {source!r}", _shown(envelope, "source")
        )
    detail_bytes = len(detail_text[fields_start:].encode())
    if detail_bytes > MAX_DETAIL_BYTES:
        raise MalformedEvent(f"detail has {detail_bytes} bytes; at most {MAX_DETAIL_BYTES} can be delivered")
    event_name = _text(fields, "eventName")
    if event_name is None or event_name not in event_types:
        raise MalformedEvent("eventName is {}; it must be one of the catalogue", _shown(fields, "eventName"))
    if _text(envelope, "detail-type") != event_name:
        raise MalformedEvent(
            f"detail-type is {{}} and eventName {event_name!r}; they must agree",
            _shown(envelope, "detail-type"),
        )
    return Event(
        account_id=_account_id(fields),
        event_id=_event_id(fields),
        event_name=event_name,
        occurred_at_ms=_occurred_at_ms(fields),
        accepted_at_ms=accepted_at_ms,
        text="{" + ",".join(text for key, (text, _, _, _) in fields.items() if key != "accountId") + "}",
    )


type _Member = tuple[str, int, object, bool]
"""One `"key": value` of an object: its own text, where in that the value starts, what it means, and whether
it is a string. A plain tuple: fifteen of a class with names would be a tenth of reading an event.

Numbers are kept as their text: Python would round decimals and refuse integers of 4,300 digits.
"""
_MISSING: _Member = ("", 0, None, False)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_decode = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_refuse_constant).raw_decode


def _members(text: str, start: int, *, inner: str = "") -> tuple[dict[str, _Member], int]:
    """The members of the object that starts at `start`, and where it ends. If the one called `inner` is an
    object, its value is what this returns of it.

    Raises:
        ValueError: when it is no object, is cut short, or has a key twice (which counts would be
            each receiver's guess).
        RecursionError: when it is nested deeper than Python's parser goes.
    """
    members: dict[str, _Member] = {}
    position = _skip(text, start)
    if text[position : position + 1] != "{":
        raise ValueError("an object must start with {")
    position = _skip(text, position + 1)
    if text[position : position + 1] == "}":
        return members, position + 1
    while True:
        if plain := _plain_key(text, position):
            key, value_start = plain[1], plain.end()
        else:
            key, value_start = _read_key(text, position)
        value: object
        if key == inner and text[value_start : value_start + 1] == "{":
            value, value_end = _members(text, value_start)
        else:
            value, value_end = _decode(text, value_start)
        if key in members:
            raise ValueError(f"the key {ascii(key)[:80]} stands twice in one object")
        members[key] = text[position:value_end], value_start - position, value, text[value_start] == '"'
        if comma := _comma(text, value_end):
            position = comma.end()
        else:
            position = _skip(text, value_end)
            if text[position : position + 1] != "}":
                raise ValueError("members must be separated by commas")
            return members, position + 1


def _read_key(text: str, position: int) -> tuple[str, int]:
    """The key at `position`, whatever is in it or wrong with it, and where its value starts."""
    if text[position : position + 1] != '"':
        raise ValueError("a key must be in quotes")
    key, position = scanstring(text, position + 1, True)
    position = _skip(text, position)
    if text[position : position + 1] != ":":
        raise ValueError("a key must be followed by a colon")
    return key, _skip(text, position + 1)


def _skip(text: str, position: int) -> int:
    whitespace = _whitespace_end(text, position)
    return whitespace.end() if whitespace else position


def _text(members: dict[str, _Member], key: str) -> str | None:
    _, _, value, is_string = members.get(key, _MISSING)
    return value if is_string and isinstance(value, str) else None


def _shown(members: dict[str, _Member], key: str) -> _Shown:
    if key not in members:
        return _Shown("missing", "missing")
    _, _, value, is_string = members[key]
    if is_string:
        return _Shown(ascii(value)[:80], f"a string of {len(str(value))} characters")
    kinds = {dict: "an object", list: "a list", bool: "a boolean", type(None): "null"}
    if kind := kinds.get(type(value)):
        return _Shown(kind, kind)
    return _Shown(f"the number {str(value)[:40]}", "a number")


def _account_id(fields: dict[str, _Member]) -> str:
    _, _, value, is_string = fields.get("accountId", _MISSING)
    if isinstance(value, str) and (is_string or _WHOLE_NUMBER.fullmatch(value)) and is_account_id(value):
        return value
    raise MalformedEvent(
        f"accountId is {{}}; it must be a whole number or a string of 1 to {MAX_ACCOUNT_ID_LENGTH} of the"
        f" characters {ACCOUNT_ID_CHARACTERS}",
        _shown(fields, "accountId"),
    )


def _event_id(fields: dict[str, _Member]) -> str:
    value = _text(fields, "eventId")
    if value is None or not value or not value.isprintable() or _is_too_long(value):
        raise MalformedEvent(
            f"eventId is {{}}; it must be a string of printable characters, 1 to {MAX_EVENT_ID_BYTES:,} bytes"
            " of UTF-8",
            _shown(fields, "eventId"),
        )
    return value


def _is_too_long(event_id: str) -> bool:
    return len(event_id) > MAX_EVENT_ID_BYTES // 4 and len(event_id.encode()) > MAX_EVENT_ID_BYTES


def _occurred_at_ms(fields: dict[str, _Member]) -> int:
    """Adobe's samples carry all three forms; their ranges do not overlap between 2000 and 2100."""
    _, _, value, is_string = fields.get("timestamp", _MISSING)
    milliseconds = None
    if isinstance(value, str):
        milliseconds = _milliseconds_of_iso(value) if is_string else _milliseconds_of_number(value)
    if milliseconds is None or not FIRST_MS <= milliseconds < LAST_MS:
        raise MalformedEvent(
            "timestamp is {}; it must be epoch seconds, epoch milliseconds or ISO 8601, between 2000 and"
            " 2100",
            _shown(fields, "timestamp"),
        )
    return milliseconds


def _milliseconds_of_number(text: str) -> int | None:
    number = float(text)
    if FIRST_MS <= number < LAST_MS:
        return int(number)
    if FIRST_MS <= number * 1000 < LAST_MS:
        return min(round(number * 1000), LAST_MS - 1)
    return None


def _milliseconds_of_iso(text: str) -> int | None:
    if text.isdecimal() and len(text) > len("20240927"):
        return None  # an epoch in quotes, of which fromisoformat may make a date
    if _PARTED_OFFSET.search(text, len("2024-09-27T")):
        return None  # fromisoformat overlooks one character before the offset, whichever it is
    moment: datetime | None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = read_rfc3339(text) or read_rfc3339(text + "Z")
    if moment is None:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(milliseconds=1)
