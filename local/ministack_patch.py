"""ministack, with one thing about as fast as in DynamoDB: a query of a long partition.

DynamoDB reads the range that is asked for. ministack parses the key condition again for each item
of the partition: 300 ms for 10,000 of them, in which it serves nothing else. Run by the emulator's Python.
"""

import re
import sys
from functools import cache
from typing import Any

from ministack.app import main  # type: ignore[import-not-found]  # of the emulator's environment
from ministack.services import dynamodb  # type: ignore[import-not-found]

_SHAPE = re.compile(r"(#?\w+) = (:\w+)(?: AND (#?\w+) BETWEEN (:\w+) AND (:\w+))?")
_shape_of = cache(_SHAPE.fullmatch)
_read_text = dynamodb._evaluate_condition  # noqa: SLF001  # the one place that a query asks


def holds(
    text: str, item: dict[str, Any], values: dict[str, Any], names: dict[str, str], **options: Any
) -> bool:
    """What ministack says of a condition. That of a key, when it is about strings, is not read each time."""
    shape = _shape_of(text) if options.get("slot") == "KeyConditionExpression" else None
    if shape is not None:
        partition, wanted, key, low, high = shape.groups()
        try:
            if item[names.get(partition, partition)]["S"] != values[wanted]["S"]:
                return False
            if key is None:
                return True
            ours: bytes = item[names.get(key, key)]["S"].encode()
            return bool(values[low]["S"].encode() <= ours <= values[high]["S"].encode())
        except KeyError:
            pass  # a number, or a name that nothing stands for
    return bool(_read_text(text, item, values, names, **options))


if __name__ == "__main__":
    dynamodb._evaluate_condition = holds  # noqa: SLF001
    sys.exit(main())
