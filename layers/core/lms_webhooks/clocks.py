"""Measure the age of cached values. Every cache that outlives an invocation uses this module.

Lambda freezes a process between its invocations. Its monotonic clock may stand still meanwhile. Its wall
clock goes on, but may be set back. So an age is the larger one of what the two clocks measure.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import NamedTuple


class Moment(NamedTuple):
    """A reading of both clocks, in seconds."""

    monotonic: float
    wall: float


class Clocks:
    """Both clocks of a process. Safe to share between threads."""

    def __init__(
        self, *, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic

    def now(self) -> Moment:
        """Read both clocks."""
        return Moment(self._monotonic(), self._wall())

    def seconds_since(self, moment: Moment) -> float:
        """Return how long ago `moment` was, by the clock that measures more."""
        return max(self._monotonic() - moment.monotonic, self._wall() - moment.wall)


class _Entry[V](NamedTuple):
    value: V
    since: Moment
    weight: int


class ExpiringCache[K: Hashable, V]:
    """Keeps values for a time, up to a total weight. Safe to share between threads."""

    def __init__(self, *, max_age_seconds: float, max_weight: int, clocks: Clocks | None = None) -> None:
        self.clocks = clocks or Clocks()
        self._max_age_seconds = max_age_seconds
        self._max_weight = max_weight
        self._lock = threading.Lock()
        self._entries: OrderedDict[K, _Entry[V]] = OrderedDict()  # the least recently used first
        self._weight = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def weight(self) -> int:
        """The total weight of the values."""
        return self._weight

    def get(self, key: K) -> V | None:
        """Return the value at `key`; None when there is none, or it is too old."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            if self._is_old(entry):
                self._remove(key)
                return None
            self._entries.move_to_end(key)  # the last to be evicted
            return entry.value

    def put(self, key: K, value: V, *, since: Moment | None = None, weight: int = 1) -> None:
        """Keep `value`, aged from `since` or from now, and evict what is too old or too much.

        A value that alone weighs more than allowed is not kept.
        """
        entry = _Entry(value, since or self.clocks.now(), weight)
        with self._lock:
            self._remove(key)
            while self._entries:
                oldest = next(iter(self._entries))
                if self._weight + weight <= self._max_weight and not self._is_old(self._entries[oldest]):
                    break
                self._remove(oldest)
            if weight <= self._max_weight:
                self._entries[key] = entry
                self._weight += weight

    def discard(self, key: K) -> None:
        """Drop the value at `key`."""
        with self._lock:
            self._remove(key)

    def _remove(self, key: K) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._weight -= entry.weight

    def _is_old(self, entry: _Entry[V]) -> bool:
        return self.clocks.seconds_since(entry.since) >= self._max_age_seconds
