"""Hold an HTTP call to a total time, whatever the other side does.

Socket time-outs start again with each byte, so a server that trickles holds a call open for ever. Here
one thread shuts the socket down when the time is up, and every read or write on it ends at once.
"""

import heapq
import itertools
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Limit:
    """The time that one call has. `has_passed` says whether the watch had to cut it."""

    def __init__(self, watch: "DeadlineWatch", ends_at: float, *, latest: float) -> None:
        self._watch = watch
        self._ends_at = ends_at
        self._latest = latest
        self._lock = threading.Lock()
        self._wire: socket.socket | None = None
        self.is_over = False
        self.has_passed = False

    def restart(self, seconds: float) -> None:
        """Give the rest of the call `seconds` from now, but never more than the whole call has."""
        ends_at = min(time.monotonic() + seconds, self._latest)
        if ends_at != self._ends_at:
            with self._lock:
                self._ends_at = ends_at
            self._watch.watch_over(self, ends_at)

    def remaining_seconds(self) -> float:
        """Never below a millisecond: zero would mean "do not block" to a socket."""
        return max(self._ends_at - time.monotonic(), 0.001)

    def guard(self, sock: socket.socket) -> None:
        """Shut the connection of `sock` down when the time is up; at once if it is.

        The limit holds a duplicate of its own: a TLS wrapper takes `sock` over, and http.client closes
        it before it reads the body of an answer that ends with the connection.
        """
        with self._lock:
            self._let_go()
            self._wire = socket.fromfd(sock.fileno(), sock.family, sock.type)
            if self.has_passed:
                _shut_down(self._wire)

    def release(self) -> None:
        """The connection may serve another call from now on."""
        with self._lock:
            self._let_go()

    def cut(self) -> None:
        """The time is up. Does nothing when the call has ended: its socket may serve another by now."""
        with self._lock:
            if self.is_over or time.monotonic() < self._ends_at:
                return
            self.has_passed = True
            if self._wire is not None:
                _shut_down(self._wire)

    def end(self) -> None:
        """The call has ended."""
        with self._lock:
            self.is_over = True
            self._let_go()

    def _let_go(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None


class DeadlineWatch:
    """One thread that cuts calls when their time is up."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._limits: list[tuple[float, int, Limit]] = []
        self._order = itertools.count()  # heapq must never compare two Limits
        self._thread: threading.Thread | None = None

    @contextmanager
    def limit(self, seconds: float, *, total_seconds: float | None = None) -> Iterator[Limit]:
        """Give the calls inside the block `seconds`; with `restart` more, up to `total_seconds` in all."""
        now = time.monotonic()
        limit = Limit(self, now + seconds, latest=now + (seconds if total_seconds is None else total_seconds))
        self.watch_over(limit, now + seconds)
        try:
            yield limit
        finally:
            limit.end()

    def watch_over(self, limit: Limit, ends_at: float) -> None:
        """Cut `limit` at `ends_at` (monotonic), if it still ends then."""
        with self._changed:
            entry = (ends_at, next(self._order), limit)
            heapq.heappush(self._limits, entry)
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="deadlines", daemon=True)
                self._thread.start()
            elif self._limits[0] is entry:
                self._changed.notify()

    def _watch(self) -> None:
        while True:
            with self._changed:
                while True:
                    # Most calls end long before their time: to wake up for each of them, seconds later,
                    # would cost the calls of that moment more than the watch is worth.
                    while self._limits and self._limits[0][2].is_over:
                        heapq.heappop(self._limits)
                    if self._limits and self._limits[0][0] <= time.monotonic():
                        break
                    self._changed.wait(self._limits[0][0] - time.monotonic() if self._limits else None)
                _, _, limit = heapq.heappop(self._limits)
            limit.cut()


def _shut_down(wire: socket.socket) -> None:
    with suppress(OSError):  # the other side was faster
        wire.shutdown(socket.SHUT_RDWR)
