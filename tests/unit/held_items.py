"""DynamoDB's part while somebody's transaction holds an item: it refuses every other write of it.

moto knows no ongoing transaction. So `held_items` stands in for it, with DynamoDB's own words; all that
botocore makes of them is its own. `Collisions` does so for transactions.
"""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from botocore.awsrequest import AWSPreparedRequest
from moto.core.botocore_stubber import BotocoreStubber

SINGLE_WRITES = {"PutItem", "UpdateItem", "DeleteItem"}
_TARGETS: set[object] = {f"DynamoDB_20120810.{operation}".encode() for operation in SINGLE_WRITES}
_CONFLICT = (
    400,
    {"content-type": "application/x-amz-json-1.0"},
    json.dumps(
        {
            "__type": "com.amazonaws.dynamodb.v20120810#TransactionConflictException",
            "message": "Transaction is ongoing for the item",
        }
    ).encode(),
)
"""Status, headers and body."""


class Held:
    """How long an item is held, counted in refusals, and how often its write was tried."""

    def __init__(self, refusals: int) -> None:
        self._refusals = refusals
        self.tries = 0

    def refuses(self) -> bool:
        """Whether one more try is refused."""
        self.tries += 1
        return self.tries <= self._refusals


@contextmanager
def held_items(*, refusals: int, is_meant: Callable[[], bool] = lambda: True) -> Iterator[Held]:
    """Refuse the first `refusals` single writes, of those made while `is_meant` holds."""
    held = Held(refusals)
    moto_answer = BotocoreStubber.process_request

    def answer(self: BotocoreStubber, request: AWSPreparedRequest) -> Any:
        if request.headers.get("X-Amz-Target") in _TARGETS and is_meant() and held.refuses():
            return _CONFLICT
        return moto_answer(self, request)

    with patch.object(BotocoreStubber, "process_request", answer):
        yield held


def is_called_from(path: str, first_line: int, last_line: int) -> bool:
    """Whether a line of these is being executed."""
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_filename.endswith(path) and first_line <= frame.f_lineno <= last_line:
            return True
    return False


class Collisions:
    """Stands before moto's transactions, which know no conflicts, and makes them collide as DynamoDB's do."""

    def __init__(self, client: Any, *, first: int = 0, reason: str = "TransactionConflict") -> None:
        self._client = client
        self._lock = threading.Lock()
        self._first = first
        self._reason = reason
        self.collisions = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def transact_write_items(self, **request: Any) -> Any:
        if self.collisions < self._first or not self._lock.acquire(blocking=False):
            self.collisions += 1
            raise self._client.exceptions.TransactionCanceledException(
                {
                    "Error": {"Code": "TransactionCanceledException", "Message": "cancelled"},
                    "CancellationReasons": [{"Code": self._reason}, {"Code": "None"}],
                },
                "TransactWriteItems",
            )
        try:
            return self._client.transact_write_items(**request)
        finally:
            self._lock.release()
