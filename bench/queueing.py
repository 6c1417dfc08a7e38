"""The real-time queue, as SQS hands out what waits in it: for the simulation, and where the emulator cannot.

Amazon SQS Developer Guide, "Amazon SQS fair queues": while messages of a group that takes more than its share
are under way, those of other groups are handed out first. Which group that is is told here, not found out.
"""

from collections import deque


class RealTimeQueue[T]:
    """What waits, oldest first."""

    def __init__(self) -> None:
        self._first: deque[T] = deque()
        self._passed: deque[T] = deque()

    def __len__(self) -> int:
        return len(self._first) + len(self._passed)

    def put(self, message: T, *, is_passed: bool) -> None:
        """Add a message; one that others may pass is of the group that floods."""
        (self._passed if is_passed else self._first).append(message)

    def take(self, most: int) -> list[T]:
        """The next batch. Not of both kinds: a batch ends when its slowest delivery does."""
        waiting = self._first or self._passed
        return [waiting.popleft() for _ in range(min(most, len(waiting)))]
