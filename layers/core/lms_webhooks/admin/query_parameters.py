"""Read the query parameters of a call, with an error for each that breaks its rule."""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from lms_webhooks.admin.problems import DeliveryNotFound, InvalidParameters, ParameterError
from lms_webhooks.aws.dynamodb import KeyRange
from lms_webhooks.model.deliveries import Outcome
from lms_webhooks.model.event_types import EVENT_TYPES, EventTypes
from lms_webhooks.model.events import MAX_EVENT_ID_BYTES
from lms_webhooks.timestamps import read_rfc3339

MAX_PAGE = 100
DEFAULT_PAGE = 50
EVERYTHING = KeyRange("0", ":")  # sort keys begin with a digit; a colon comes after them
WEBHOOK_ID = re.compile(r"wh_[A-Za-z0-9_-]{22}")
_SORT_KEY = re.compile(r"[0-9]{13}#.{1,1000}", re.DOTALL)
_MAX_MS = 10**13 - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class DeliveryStatus(StrEnum):
    """The status of a delivery: pending, or one of three outcomes."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class DeliveryQuery:
    """The deliveries that a call asks for."""

    key_range: KeyRange
    status: DeliveryStatus | None
    event_name: str | None
    event_id: str | None
    limit: int
    filters: str
    """A fingerprint of the query. A cursor is good only for the same one."""

    @property
    def is_filtered(self) -> bool:
        """Whether a page must read more than it shows."""
        return self.status is not None or self.event_name is not None or self.event_id is not None


def read_delivery_query(
    given: Mapping[str, str], *, account_id: str, webhook_id: str, event_types: EventTypes = EVENT_TYPES
) -> DeliveryQuery:
    """Return the deliveries that the parameters ask for.

    Raises:
        InvalidParameters: with an error for each that breaks its rule.
    """
    read = _ParameterReader(given)
    status = read.one_of("status", DeliveryStatus)
    event_name = read.event_name("eventName", event_types)
    event_id = read.event_id("eventId")
    from_ms = read.time("from")
    to_ms = read.time("to")
    if from_ms is not None and to_ms is not None and from_ms >= to_ms:
        read.refuse("to", "must be later than from")
    limit = read.number("limit", default=DEFAULT_PAGE, maximum=MAX_PAGE)
    # An older version knows no search by id. Without one the fingerprint is as ever, and so are cursors.
    by_id = () if event_id is None else (event_id,)
    filters = _fingerprint(account_id, webhook_id, status, event_name, from_ms, to_ms, *by_id)
    low = EVERYTHING.start if from_ms is None else f"{from_ms:013d}"
    high = EVERYTHING.end if to_ms is None else f"{to_ms:013d}"
    position = read.cursor("cursor", filters, KeyRange(low, high))
    read.finish()
    return DeliveryQuery(
        KeyRange(low, high if position is None else position), status, event_name, event_id, limit, filters
    )


@dataclass(frozen=True, slots=True)
class ReplayQuery:
    """The part of the history that a replay would send. Times in UTC milliseconds."""

    from_ms: int
    to_ms: int | None
    status: Outcome | None
    event_name: str | None


def read_replay_query(
    given: Mapping[str, str], *, now_ms: int, event_types: EventTypes = EVENT_TYPES
) -> ReplayQuery:
    """Return the part of the history that the parameters name, by the rules of a replay's body.

    Raises:
        InvalidParameters: with an error for each that breaks its rule.
    """
    read = _ParameterReader(given)
    if "from" not in given:
        read.refuse("from", "is required")
    from_ms = read.time("from")
    to_ms = read.time("to")
    if from_ms is not None and from_ms > now_ms:
        read.refuse("from", "must not be later than now")
    if from_ms is not None and to_ms is not None and from_ms >= to_ms:
        read.refuse("to", "must be later than from")
    status = read.one_of("status", Outcome)
    event_name = read.event_name("eventName", event_types)
    read.finish()
    return ReplayQuery(from_ms or 0, to_ms, status, event_name)


@dataclass(frozen=True, slots=True)
class ActivityQuery:
    """The changes that a call asks for."""

    key_range: KeyRange
    webhook_id: str | None
    limit: int
    filters: str
    """As of a `DeliveryQuery`."""


def read_activity_query(given: Mapping[str, str], *, account_id: str) -> ActivityQuery:
    """Return the changes that the parameters ask for.

    Raises:
        InvalidParameters: with an error for each that breaks its rule.
    """
    read = _ParameterReader(given)
    webhook_id = read.text("webhookId", WEBHOOK_ID, "must be the id of a webhook, which begins with wh_")
    limit = read.number("limit", default=DEFAULT_PAGE, maximum=MAX_PAGE)
    filters = _fingerprint("activity", account_id, webhook_id)
    position = read.cursor("cursor", filters, EVERYTHING)
    read.finish()
    return ActivityQuery(KeyRange(EVERYTHING.start, position or EVERYTHING.end), webhook_id, limit, filters)


def read_hours(given: Mapping[str, str], *, default: int, maximum: int) -> int:
    """Return how many hours of stats the parameters ask for.

    Raises:
        InvalidParameters: with an error for each that breaks its rule.
    """
    read = _ParameterReader(given)
    hours = read.number("hours", default=default, maximum=maximum)
    read.finish()
    return hours


def read_no_parameters(given: Mapping[str, str]) -> None:
    """Refuse every parameter, for a call that takes none.

    Raises:
        InvalidParameters: there is one.
    """
    _ParameterReader(given).finish()


def write_cursor(filters: str, position: str) -> str:
    """Return the cursor of a page that begins below the sort key `position`."""
    return _encode(json.dumps([filters, position], ensure_ascii=False))


def delivery_id(sort_key: str) -> str:
    """Return the id of a delivery in the API: opaque, and safe in a URL."""
    return _encode(sort_key)


def read_delivery_id(text: str) -> str:
    """Return the sort key that `delivery_id` made `text` from.

    Raises:
        DeliveryNotFound: `text` is not the id of a delivery.
    """
    sort_key = _decode(text)
    if sort_key is None or not _SORT_KEY.fullmatch(sort_key) or delivery_id(sort_key) != text:
        raise DeliveryNotFound
    return sort_key


class _ParameterReader:
    """Reads one parameter after the other, and collects the errors."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self._left = dict(given)
        self._errors: list[ParameterError] = []

    def refuse(self, name: str, rule: str) -> None:
        self._errors.append(ParameterError(name, rule))

    def finish(self) -> None:
        for name in self._left:
            self.refuse(name[:80], "is not a parameter that this call takes")
        if self._errors:
            raise InvalidParameters(*self._errors)

    def one_of[E: StrEnum](self, name: str, kind: type[E]) -> E | None:
        text = self._left.pop(name, None)
        if text is None:
            return None
        try:
            return kind(text)
        except ValueError:
            self.refuse(name, f"must be one of {', '.join(kind)}")
            return None

    def event_name(self, name: str, event_types: EventTypes) -> str | None:
        text = self._left.pop(name, None)
        if text is not None and text not in event_types:
            self.refuse(name, "must be an event name that GET /v1/event-types lists")
        return text

    def text(self, name: str, pattern: re.Pattern[str], rule: str) -> str | None:
        text = self._left.pop(name, None)
        if text is not None and not pattern.fullmatch(text):
            self.refuse(name, rule)
        return text

    def event_id(self, name: str) -> str | None:
        text = self._left.pop(name, None)
        if text is not None and not 1 <= len(text.encode(errors="surrogatepass")) <= MAX_EVENT_ID_BYTES:
            self.refuse(name, f"must be the id of an event: 1 to {MAX_EVENT_ID_BYTES} bytes")
        return text

    def time(self, name: str) -> int | None:
        text = self._left.pop(name, None)
        if text is None:
            return None
        milliseconds = parse_time_ms(text)
        if milliseconds is None:
            lacks_plus = re.search(r" \d\d:\d\d$", text)
            more = ", and its + written as %2B" if lacks_plus else ""
            self.refuse(name, f"must be a time such as 2026-11-03T12:00:00Z{more}")
        return milliseconds

    def number(self, name: str, *, default: int, maximum: int) -> int:
        text = self._left.pop(name, None)
        if text is None:
            return default
        if not re.fullmatch(r"[1-9][0-9]{0,5}", text) or int(text) > maximum:
            self.refuse(name, f"must be a whole number from 1 to {maximum}")
            return default
        return int(text)

    def cursor(self, name: str, filters: str, key_range: KeyRange) -> str | None:
        text = self._left.pop(name, None)
        if text is None:
            return None
        decoded = _decode(text)
        try:
            belongs_to, position = json.loads(decoded or "")
        except (ValueError, TypeError):
            belongs_to, position = None, None
        is_position = isinstance(position, str) and _SORT_KEY.fullmatch(position)
        if belongs_to != filters or not is_position or not key_range.start <= position <= key_range.end:
            self.refuse(name, "must be the nextCursor of a call with the same other parameters")
            return None
        return str(position)


def parse_time_ms(text: str) -> int | None:
    """Return the UTC milliseconds of a time in RFC 3339; None when it is none, or has no offset.

    Times before 1970 or after 2286 become the first or the last that a sort key can have: no event is beyond.
    """
    moment = read_rfc3339(text)
    if moment is None:
        return None
    # Up to the next one: an event's time is a whole number of them.
    milliseconds = -((_EPOCH - moment) // timedelta(milliseconds=1))
    return min(max(milliseconds, 0), _MAX_MS)


def _fingerprint(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _encode(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decode(text: str) -> str | None:
    try:
        padded = text + "=" * (-len(text) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        return None
