"""Compare an event's text as it was put with the text that arrived. Pure.

A value that is lost or changed is one thing: receivers get something else than the LMS said. A text that
reads otherwise and means the same is another: `1.10` as `1.1`, or keys in another order.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import NoReturn


@dataclass(frozen=True, slots=True)
class Comparison:
    """What differs, each with its place. Both are empty where the texts are the same."""

    changed: tuple[str, ...] = ()
    """Values that are lost, new or others."""
    rewritten: tuple[str, ...] = ()
    """Values that are the same, in other words."""


class _Number(str):
    """A number as it is written."""

    __slots__ = ()


def compare(put: str, arrived: str) -> Comparison:
    """Return what became of the JSON text `put`.

    Raises:
        ValueError: `put` itself is no JSON.
    """
    if arrived == put:
        return Comparison()
    wanted = _read(put)
    try:
        found = _read(arrived)
    except ValueError as error:
        return Comparison(changed=(f"what arrived is no JSON: {error}",))
    changed = tuple(_changes(wanted, found, ""))
    rewritten = tuple(_rewordings(wanted, found, "")) if not changed else ()
    if not changed and not rewritten:
        rewritten = ("blanks, or characters written as escapes",)
    return Comparison(changed, rewritten)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _read(text: str) -> object:
    return json.loads(text, parse_int=_Number, parse_float=_Number, parse_constant=_refuse)


def _changes(wanted: object, found: object, place: str) -> Iterator[str]:
    match wanted, found:
        case dict(), dict():
            for key in {**wanted, **found}:
                if key not in found:
                    yield f"{place}/{key} is lost"
                elif key not in wanted:
                    yield f"{place}/{key} is new"
                else:
                    yield from _changes(wanted[key], found[key], f"{place}/{key}")
        case list(), list() if len(wanted) == len(found):
            for index, (one, other) in enumerate(zip(wanted, found, strict=True)):
                yield from _changes(one, other, f"{place}/{index}")
        case _Number(), _Number() if Decimal(wanted) == Decimal(found):
            pass
        # Of the same type: True equals 1, and a number that is written equals that text.
        case _ if type(wanted) is not type(found) or wanted != found:
            yield f"{place} was {_shown(wanted)} and is {_shown(found)}"


def _rewordings(wanted: object, found: object, place: str) -> Iterator[str]:
    match wanted, found:
        case dict(), dict():
            if list(wanted) != list(found):
                yield f"the keys of {place or '/'} stand in another order"
            for key in wanted:
                yield from _rewordings(wanted[key], found[key], f"{place}/{key}")
        case list(), list():
            for index, (one, other) in enumerate(zip(wanted, found, strict=True)):
                yield from _rewordings(one, other, f"{place}/{index}")
        case _Number(), _Number() if wanted != found:
            yield f"{place} was written {wanted} and is written {found}"


def _shown(value: object) -> str:
    match value:
        case _Number():
            return str(value)
        case dict():
            return "an object"
        case list():
            return f"a list of {len(value)}"
        case _:
            return json.dumps(value, ensure_ascii=False)[:80]
