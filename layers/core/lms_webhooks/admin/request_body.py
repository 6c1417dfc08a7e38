"""Read the body of a call into a model, with an error for each field that breaks a rule.

No error repeats what the caller sent: a password in the wrong field would come back, and pass through logs.
"""

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from lms_webhooks.admin.problems import (
    BodyTooLarge,
    FieldError,
    InvalidFields,
    InvalidJson,
    UnsupportedMediaType,
)

MAX_BODY_BYTES = 64 * 1024
_MAX_ERRORS = 20
# Pydantic puts the chosen member of a tagged union into an error's path, where the JSON has no such step.
_TAGGED_UNIONS = {"authentication"}

# Pydantic's error types, in words for an admin. `rule` is what our own validators raise.
_RULES = {
    "rule": "{message}",
    "missing": "is required",
    "union_tag_not_found": "is required",
    "extra_forbidden": "is not a field that this call takes",
    "string_type": "must be text, not {kind}",
    "bool_type": "must be true or false, not {kind}",
    "int_type": "must be a whole number",
    "dict_type": "must be an object, not {kind}",
    "too_long": "must have at most {max_length} entries, has {actual_length}",
    "list_type": "must be a list, not {kind}",
    "model_type": "must be an object, not {kind}",
    "model_attributes_type": "must be an object, not {kind}",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters, has {length}",
    "literal_error": "must be {expected}",
    "union_tag_invalid": "must be one of {expected_tags}",
}


def read_body[Model: BaseModel](
    model: type[Model], event: Mapping[str, Any], *, context: Mapping[str, object]
) -> Model:
    """Return the body of `event` (API Gateway's payload 2.0) as a `model`.

    Raises:
        BodyTooLarge, UnsupportedMediaType, InvalidJson: the body cannot be read at all.
        InvalidFields: with one error for each bad field, the first 20 of them.
    """
    raw = _raw_body(event)
    if len(raw) > MAX_BODY_BYTES:
        raise BodyTooLarge(MAX_BODY_BYTES)
    if not _is_utf8_json(event.get("headers", {}).get("content-type", "")):
        raise UnsupportedMediaType
    try:
        parsed = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidJson(f"The body is not JSON: {error}.") from None
    repeated = tuple(islice(_repeated(_pairs_of(raw)), _MAX_ERRORS))
    if repeated:
        raise InvalidFields(repeated)
    try:
        # Not model_validate_json: that lets a field's Python name (target_url) pass unseen beside its
        # alias, in spite of extra="forbid" (pydantic 2.13).
        return model.model_validate(parsed, context=dict(context))
    except ValidationError as error:
        found = error.errors(include_url=False)[:_MAX_ERRORS]
        raise InvalidFields(tuple(FieldError(_pointer(one), _detail(one)) for one in found)) from None


def _is_utf8_json(content_type: str) -> bool:
    """Whether a content type is JSON, in the only encoding that JSON has (RFC 8259 8.1)."""
    media_type, *parameters = (each.strip().lower() for each in content_type.split(";"))
    named = [each.partition("=")[2].strip(' "') for each in parameters if each.startswith("charset=")]
    return media_type == "application/json" and all(name in ("utf-8", "utf8") for name in named)


def _raw_body(event: Mapping[str, Any]) -> bytes:
    body: str = event.get("body") or ""
    if not event.get("isBase64Encoded"):
        # A lone surrogate is no text. It passes here, and is refused below as bad UTF-8.
        return body.encode("utf-8", "surrogatepass")
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error:
        raise InvalidJson("The body is marked as base64, but is not.") from None


def _pairs_of(raw: bytes) -> object:
    """Return the JSON with a tuple of pairs for each object.

    pydantic's parser silently lets the last of two fields win. It has parsed `raw` before, so this is JSON,
    and not too deep.
    """
    return json.loads(raw.decode(), object_pairs_hook=tuple, parse_int=str)


def _repeated(value: object, pointer: str = "") -> Iterator[FieldError]:
    """Yield an error for each field that its object has twice."""
    if isinstance(value, list):
        for index, each in enumerate(value):
            yield from _repeated(each, f"{pointer}/{index}")
    if isinstance(value, tuple):
        seen: set[str] = set()
        for name, each in value:
            here = pointer + _step(name)
            if name in seen:
                yield FieldError(here, "must not be given twice")
            else:
                yield from _repeated(each, here)
            seen.add(name)


def _step(step: object) -> str:
    return "/" + str(step).replace("~", "~0").replace("/", "~1")


def _pointer(error: Mapping[str, Any]) -> str:
    steps = list(error["loc"])
    if len(steps) > 1 and steps[0] in _TAGGED_UNIONS:
        del steps[1]
    if error["type"].startswith("union_tag_"):
        steps.append(error["ctx"]["discriminator"].strip("'"))
    return "".join(map(_step, steps))


def _detail(error: Mapping[str, Any]) -> str:
    given = error["input"]
    rule = _RULES.get(error["type"], "breaks the rule {type}")
    return rule.format(
        **error.get("ctx", {}),
        type=error["type"],
        message=error["msg"],
        kind=_kind(given),
        length=len(given) if isinstance(given, str) else 0,
    )


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case _:
            return "an object"
