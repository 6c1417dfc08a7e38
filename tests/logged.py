"""What the code logs, as the log group gets it."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lms_webhooks.observability import logger

type Line = dict[str, Any]


class _Keep(logging.Handler):
    """Keeps each line as it is written out."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[Line] = []
        self.setFormatter(logger.registered_formatter)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(self.format(record)))


@contextmanager
def logged_lines() -> Iterator[list[Line]]:
    """Inside the block every line of JSON that is logged comes into the list."""
    keep = _Keep()
    logger.addHandler(keep)
    try:
        yield keep.lines
    finally:
        logger._logger.removeHandler(keep)
