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

    def __init__(self, ends_at: float) -> None:
        self._ends_at = ends_at
        self._lock = threading.Lock()
        self._wire: socket.socket | None = None
        self._is_over = False
        self.has_passed = False

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
            if self._is_over:
                return
            self.has_passed = True
            if self._wire is not None:
                _shut_down(self._wire)

    def end(self) -> None:
        """The call has ended."""
        with self._lock:
            self._is_over = True
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
    def limit(self, seconds: float) -> Iterator[Limit]:
        """Give the calls inside the block `seconds` in all."""
        ends_at = time.monotonic() + seconds
        limit = Limit(ends_at)
        with self._changed:
            entry = (ends_at, next(self._order), limit)
            heapq.heappush(self._limits, entry)
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="deadlines", daemon=True)
                self._thread.start()
            elif self._limits[0] is entry:
                self._changed.notify()
        try:
            yield limit
        finally:
            limit.end()

    def _watch(self) -> None:
        while True:
            with self._changed:
                while not self._limits or self._limits[0][0] > time.monotonic():
                    self._changed.wait(self._limits[0][0] - time.monotonic() if self._limits else None)
                _, _, limit = heapq.heappop(self._limits)
            limit.cut()


def _shut_down(wire: socket.socket) -> None:
    with suppress(OSError):  # the other side was faster
        wire.shutdown(socket.SHUT_RDWR)
