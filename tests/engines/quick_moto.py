"""Keep what moto works out again for each call, though it never changes."""

from collections.abc import Callable, Generator
from functools import cache, wraps
from typing import Any

import moto.core.responses
import moto.kms.models
from moto.core import serialize
from moto.core.config import default_user_config

type Spell = Callable[[serialize.AttributePicker, serialize.AttributePickerContext], Generator[str]]


def apply() -> None:
    """For this process, before the first call."""
    # A session reads botocore's models anew, 65 ms for each client. Moto would take another for each test.
    default_user_config["core"]["reset_boto3_session"] = False
    # Moto makes a pair of RSA keys for a symmetric key too, which has no use for it: 45 ms.
    moto.kms.models.generate_private_key = cache(  # type: ignore[attr-defined]
        moto.kms.models.generate_private_key  # type: ignore[attr-defined]
    )
    moto.core.responses.method_names_from_class = cache(  # type: ignore[attr-defined]
        moto.core.responses.method_names_from_class  # type: ignore[attr-defined]
    )
    for picker in (serialize.AttributePicker, serialize.XFormedAttributePicker):
        setattr(picker, "get_possible_keys", _remembered(picker.get_possible_keys))  # noqa: B010
    # A tenth of the fast tier: moto looks in each value of each item for all ten types that it might have.
    serialize.JSONSerializer._serialize_type_structure = _as_it_is(  # type: ignore[method-assign]
        serialize.JSONSerializer._serialize_type_structure
    )


_PLAIN_TYPES = frozenset({"S", "N", "BOOL", "NULL", "SS", "NS"})
"""DynamoDB's types whose values are in a response what they are in moto; the others are nested or bytes."""


def _as_it_is(serialize_structure: Callable[..., None]) -> Callable[..., None]:
    """Copy a plain value of an item."""

    def copy(
        serializer: serialize.JSONSerializer, serialized: dict[str, Any], value: Any, shape: Any, key: str
    ) -> None:
        if shape.name == "AttributeValue" and type(value) is dict and _PLAIN_TYPES.issuperset(value):
            serialized[key] = value
        else:
            serialize_structure(serializer, serialized, value, shape, key)

    return copy


def _remembered(spell: Spell) -> Spell:
    """Moto tries up to nine spellings of each name in a response.

    For a dict they follow from the name and its shape alone; an object's class may say more.
    """
    known: dict[tuple[object, str], list[str]] = {}

    @wraps(spell)
    def spellings(
        picker: serialize.AttributePicker, context: serialize.AttributePickerContext
    ) -> Generator[str]:
        if type(context.obj) is not dict:
            yield from spell(picker, context)
            return
        names = known.get((context.shape, context.key))
        if names is None:
            names = known[context.shape, context.key] = list(dict.fromkeys(spell(picker, context)))
        yield from names

    return spellings
