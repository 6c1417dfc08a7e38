"""Write events and attempts as attributes of DynamoDB items, and read them back. Pure."""

import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from lms_webhooks.model.attempts import Attempt, ErrorClass
from lms_webhooks.model.events import Event, read_sort_key

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

    type Item = dict[str, AttributeValueTypeDef]

_COMPRESS_FROM_BYTES = 512  # below, zlib's header and a binary attribute win nothing worth the time
_NOTHING = "-"
_EARLIER_ERROR_CLASSES = {"broken-answer": ErrorClass.INVALID_RESPONSE.value}
"""Error classes as earlier versions wrote them, with their present names."""
KEPT_ATTEMPTS = 500
"""Of one event: about 30 KB of the 400 KB of an item. An admin may request ten more a minute."""
IS_NEW_ATTEMPT = (
    "(attribute_not_exists(#attempts) OR (size(#attempts) < :most AND NOT contains(#attempts, :one)))"
)
"""The condition on which an attempt is added to an item, see `added_attempt`. A call that botocore repeats
must not add it twice, and the number is limited."""


def event_attributes(event: Event) -> "Item":
    """Return the attributes of `event`, except its time and id, which are in its sort key.

    A long id is an attribute too, since the key holds its hash.
    """
    attributes: Item = {
        "account_id": {"S": event.account_id},
        "event_name": {"S": event.event_name},
        "accepted_at": {"N": str(event.accepted_at_ms)},
        "event": {"B": event.compressed} if event.compressed else _text_attribute(event.text),
    }
    if not event.is_id_in_key:
        attributes["event_id"] = {"S": event.event_id}
    return attributes


def read_event_id(item: "Item", sort_key: str) -> str:
    """Return the id of the event that `event_attributes` wrote."""
    return item["event_id"]["S"] if "event_id" in item else read_sort_key(sort_key)[1]


def read_event_item(item: "Item", sort_key: str) -> Event:
    """Return the event that `event_attributes` wrote, also that of an earlier version, with its own key."""
    occurred_at_ms, event_id, is_plain = read_sort_key(sort_key)
    known = (
        item["account_id"]["S"],
        item["event_id"]["S"] if "event_id" in item else event_id,
        item["event_name"]["S"],
        occurred_at_ms,
        int(item["accepted_at"]["N"]),
    )
    text = item["event"]
    if "S" in text:
        return Event(*known, text["S"], has_plain_key=is_plain)
    return Event.of_compressed(*known, bytes(text["B"]), has_plain_key=is_plain)


def read_text(attribute: "AttributeValueTypeDef") -> str:
    """Return the text of an event from the attribute `event` that `event_attributes` wrote."""
    return attribute["S"] if "S" in attribute else zlib.decompress(bytes(attribute["B"])).decode()


def attempts_attribute(attempts: Iterable[Attempt]) -> "AttributeValueTypeDef":
    """Return a list of texts such as `1793707200000 80 503 -` or `1793707200000 5000 - timeout`.

    They say when an attempt began, its milliseconds, its status code and its error class. Maps would cost
    more: botocore takes about 4 us for each value of an item, and each kilobyte is a write unit.
    """
    return {"L": [{"S": _attempt_text(attempt)} for attempt in attempts]}


def added_attempt(attempt: Attempt) -> "Item":
    """Return the values of an update that appends `:added` on the condition IS_NEW_ATTEMPT."""
    added = attempts_attribute([attempt])
    return {":added": added, ":one": added["L"][0], ":most": {"N": str(KEPT_ATTEMPTS)}}


def read_attempts(attribute: "AttributeValueTypeDef") -> tuple[Attempt, ...]:
    """Return the attempts that `attempts_attribute` wrote, also that of 0.1.0."""
    return tuple(_read_attempt(each) for each in attribute["L"])


def _attempt_text(attempt: Attempt) -> str:
    status_code = _NOTHING if attempt.status_code is None else attempt.status_code
    return f"{attempt.started_at_ms} {attempt.latency_ms} {status_code} {attempt.error_class or _NOTHING}"


def _read_attempt(written: "AttributeValueTypeDef") -> Attempt:
    if "M" in written:  # by 0.1.0
        fields = written["M"]
        return Attempt(
            started_at_ms=int(fields["at"]["N"]),
            latency_ms=int(fields["ms"]["N"]),
            status_code=int(fields["status"]["N"]) if "status" in fields else None,
            error_class=_read_error_class(fields["error"]["S"]) if "error" in fields else None,
        )
    started_at_ms, latency_ms, status_code, error_class = written["S"].split(" ")
    return Attempt(
        started_at_ms=int(started_at_ms),
        latency_ms=int(latency_ms),
        status_code=None if status_code == _NOTHING else int(status_code),
        error_class=None if error_class == _NOTHING else _read_error_class(error_class),
    )


def _read_error_class(written: str) -> str:
    return _EARLIER_ERROR_CLASSES.get(written, written)


def _text_attribute(text: str) -> "AttributeValueTypeDef":
    """Return the text, compressed if that is smaller: a written KB costs as much as a whole delivery."""
    plain = text.encode()
    if len(plain) >= _COMPRESS_FROM_BYTES:
        compressed = zlib.compress(plain)
        if len(compressed) < len(plain):
            return {"B": compressed}
    return {"S": text}
