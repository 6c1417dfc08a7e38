"""The real-time queue, as SQS hands out what waits in it: for the simulation, and where the emulator cannot.

Amazon SQS Developer Guide, "Amazon SQS fair queues": while a message group has more than its share of what is
under way, messages of the other groups are handed out first. SQS finds out which group that is; here the
caller says so. Whether SQS would put messages of both kinds into a batch is not documented; here it does not.
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
        """The next batch."""
        waiting = self._first or self._passed
        return [waiting.popleft() for _ in range(min(most, len(waiting)))]
