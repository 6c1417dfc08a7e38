"""One HTTP/1.1 request over a kept-alive connection, and its answer, within a deadline.

Requests to strangers need what HTTP clients lack: a total deadline, the address rule of `targets` at the
moment a socket is opened, a bound on what is read. The first two are those of `wires`. Of an answer no more
is read than what became of the request and where it ends, and that as leniently as browsers do: to refuse
what a receiver says because it says it badly would be to send it everything twice.
"""

import re
import ssl
import threading
import time
import weakref
from collections import defaultdict
from collections.abc import Callable

from lms_webhooks.clocks import Clocks, Moment
from lms_webhooks.model.attempts import ErrorClass
from lms_webhooks.sending.sockets import (
    Deadline,
    DeadlineSocket,
    Origin,
    TlsSocket,
    TransportError,
    connect,
    error_from,
)

MAX_IDLE_SECONDS = 50  # common load balancers close idle connections after 60
MAX_LIFE_SECONDS = 60
"""Then its name is resolved again: a connection in steady use would never see that its owner moved. A record
that is meant to fail over lives at most this long (Route 53's guide)."""
MAX_LINE_BYTES = 64 * 1024  # of an answer's header, as http.client and common servers have it
_MAX_HEADERS = 100  # as http.client has it
_MAX_LINES_BYTES = 256 * 1024  # of all lines of an answer, those of interim ones and of chunks too
_STALE_SECONDS = 1  # what was closed while it was idle says so as soon as a request arrives there
_MAX_IDLE = 200  # connections; a function may have a thousand files open

_STATUS_LINE = re.compile(rb"HTTP/1\.(?P<minor>[0-9]) (?P<status>[1-9][0-9]{2})(?: .*)?", re.DOTALL)
_LENGTH = re.compile(r"[0-9]{1,18}")
_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;.*)?", re.DOTALL)


class ConnectionPool:
    """Kept-alive connections to many origins. Safe to share between threads: each has one call at a time."""

    def __init__(
        self, tls_context: ssl.SSLContext, *, loopback_allowed: bool, clocks: Clocks | None = None
    ) -> None:
        # One context for all: reading the CA bundle for each costs more than the rest of a delivery.
        self._tls_context = tls_context
        self._loopback_allowed = loopback_allowed
        self._clocks = clocks or Clocks()
        self._lock = threading.Lock()
        self._idle: defaultdict[Origin, list[_Connection]] = defaultdict(list)
        self._idle_count = 0
        weakref.finalize(self, _close_all, self._idle)

    def exchange(
        self,
        origin: Origin,
        request: bytes,
        deadline: Deadline,
        *,
        connect_seconds: float,
        response_seconds: float,
    ) -> "HttpResponse":
        """Send `request`, over a connection that opens within `connect_seconds` if there is none, and read an
        answer until its header is complete: `response_seconds` after it was sent at the latest.

        Raises:
            Failed: there is no such answer.
            ForbiddenTarget: the origin's name leads to an address that is not allowed.
            OutOfResources: this process can open no connection.
        """
        connection = self._take_idle(origin)
        if connection is not None:
            sent_at = time.monotonic()
            try:
                return self._request_over(connection, request, deadline, response_seconds)
            except TransportError as failed:
                # A server may close a kept-alive connection just as it is used again (RFC 9112 9.3.1): that
                # says nothing about its health, so the request goes out once more, on a new one.
                is_stale = time.monotonic() - sent_at <= _STALE_SECONDS and not connection.has_answered
                if failed.error_class is not ErrorClass.CONNECTION_LOST or not is_stale:
                    raise
        deadline.restart(connect_seconds)
        opened_at = self._clocks.now()
        wire = connect(origin, deadline, self._tls_context, loopback_allowed=self._loopback_allowed)
        return self._request_over(_Connection(origin, wire, opened_at), request, deadline, response_seconds)

    def close(self) -> None:
        """Close those that are idle."""
        with self._lock:
            _close_all(self._idle)
            self._idle.clear()
            self._idle_count = 0

    def _request_over(
        self, connection: "_Connection", request: bytes, deadline: Deadline, response_seconds: float
    ) -> "HttpResponse":
        try:
            deadline.restart(response_seconds)
            connection.send(request, deadline)
            return HttpResponse(connection, deadline, keep=self._keep)
        except BaseException:
            connection.close()
            raise

    def _take_idle(self, origin: Origin) -> "_Connection | None":
        while True:
            with self._lock:
                idle = self._idle.get(origin)
                if not idle:
                    return None
                connection = idle.pop()
                self._idle_count -= 1
            if self._may_be_used(connection) and connection.has_no_input():
                return connection
            connection.close()

    def _may_be_used(self, connection: "_Connection") -> bool:
        return (
            self._clocks.seconds_since(connection.idle_since) <= MAX_IDLE_SECONDS
            and self._clocks.seconds_since(connection.opened_at) <= MAX_LIFE_SECONDS
        )

    def _keep(self, connection: "_Connection") -> None:
        connection.rest(self._clocks.now())
        with self._lock:
            self._idle[connection.origin].append(connection)
            self._idle_count += 1
            if self._idle_count <= _MAX_IDLE:
                return
            oldest = min((idle for idle in self._idle.values() if idle), key=lambda idle: idle[0].idle_since)
            closed = oldest.pop(0)
            self._idle_count -= 1
        closed.close()


class _Connection:
    """An open connection. The deadline of the call that it is in holds for each wait."""

    def __init__(self, origin: Origin, wire: DeadlineSocket | TlsSocket, opened_at: Moment) -> None:
        self.origin = origin
        self.opened_at = opened_at
        """From before its name was resolved."""
        self.idle_since = opened_at
        self.has_answered = False
        """Whether a byte came since the request."""
        self._wire = wire

    def send(self, request: bytes, deadline: Deadline) -> None:
        try:
            self._wire.send(request, deadline)
        except (BrokenPipeError, ConnectionResetError):
            pass  # who answers before all is sent, and closes, has answered
        except OSError as error:
            raise error_from(error) from None

    def receive(self, deadline: Deadline) -> bytes:
        """What comes next; nothing at the end."""
        try:
            data = self._wire.receive(deadline)
        except OSError as error:
            raise error_from(error) from None
        self.has_answered = self.has_answered or bool(data)
        return data

    def rest(self, now: Moment) -> None:
        """It is idle from now on."""
        self.idle_since = now
        self.has_answered = False

    def has_no_input(self) -> bool:
        """Whether nothing came while it was idle: neither its end, nor an answer to no request."""
        return self._wire.has_no_input()

    def close(self) -> None:
        self._wire.close()


def _close_all(idle: dict[Origin, list[_Connection]]) -> None:
    for connections in idle.values():
        for connection in connections:
            connection.close()


class HttpResponse:
    """An answer whose header is complete. Its body is read piece by piece; in the end it is to be closed."""

    def __init__(
        self, connection: _Connection, deadline: Deadline, *, keep: Callable[[_Connection], None]
    ) -> None:
        self._connection = connection
        self._deadline = deadline
        self._keep = keep
        self._unread = bytearray()
        self._lines_bytes = 0
        self._is_closed = False
        minor, self.status_code = self._read_status()
        self.headers = self._read_headers()
        """By lower-case name; the values of several with one name are joined by commas."""
        tokens = self.headers.get("connection", "").lower()
        self._is_kept_alive = "close" not in tokens if minor else "keep-alive" in tokens
        # Where the body ends (RFC 9112 6.3).
        self._is_chunked = False
        self._left_bytes: int | None = 0
        """Of the body, or of a chunk; None: until the connection ends."""
        coding = self.headers.get("transfer-encoding", "").rpartition(",")[2].strip().lower()
        length = self.headers.get("content-length", "")
        if self.status_code not in {204, 304}:
            self._is_chunked = coding == "chunked"
            if not self._is_chunked:
                self._left_bytes = _length(length)
        elif coding or length not in {"", "0"}:
            self._is_kept_alive = False  # what it announces may still come, and would be the next answer
        self._is_first_chunk = True
        self.is_complete = not self._is_chunked and self._left_bytes == 0
        """Whether all of the body was read."""

    def limit_seconds(self, seconds: float) -> None:
        """Give the rest of the body so much time."""
        self._deadline.restart(seconds)

    def read(self, most_bytes: int) -> bytes:
        """The next piece of the body; nothing at its end, or where it breaks off."""
        try:
            if self._is_chunked and not self._left_bytes and not self.is_complete:
                self._begin_chunk()
            if self.is_complete:
                return b""
            if not self._unread:
                self._receive()
        except TransportError:
            self._is_kept_alive = False
            self.is_complete = True
            return b""
        left_bytes = len(self._unread) if self._left_bytes is None else self._left_bytes
        piece = self._take(min(most_bytes, left_bytes, len(self._unread)))
        if self._left_bytes is not None:
            self._left_bytes -= len(piece)
            self.is_complete = not self._is_chunked and self._left_bytes == 0
        return piece

    def close(self) -> None:
        """Leave the connection to the next call, if all of the answer was read and the server allows it."""
        if self._is_closed:
            return
        self._is_closed = True
        # What came beyond the end would be taken for the next answer.
        if self.is_complete and self._is_kept_alive and not self._unread:
            self._keep(self._connection)
        else:
            self._connection.close()

    def _read_status(self) -> tuple[int, int]:
        """The minor version and the status, after any interim (1xx) answers."""
        while True:
            line = _STATUS_LINE.fullmatch(self._line())
            if line is None or line["status"] == b"101":  # another protocol, which we never asked for
                raise TransportError(ErrorClass.INVALID_RESPONSE)
            if not line["status"].startswith(b"1"):
                return int(line["minor"]), int(line["status"])
            self._read_headers()

    def _read_headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        for _ in range(_MAX_HEADERS + 1):
            line = self._line()
            if not line:
                return headers
            name, colon, value = line.decode("latin-1").partition(":")
            if colon and name.strip() == name != "":  # the rest of a folded line begins with a space
                name, value = name.lower(), value.strip()
                headers[name] = f"{headers[name]}, {value}" if name in headers else value
        raise TransportError(ErrorClass.INVALID_RESPONSE)

    def _begin_chunk(self) -> None:
        if not self._is_first_chunk and self._line():
            raise TransportError(ErrorClass.INVALID_RESPONSE)
        self._is_first_chunk = False
        size = _CHUNK_SIZE.fullmatch(self._line())
        if size is None:
            raise TransportError(ErrorClass.INVALID_RESPONSE)
        self._left_bytes = int(size[1], 16)
        if not self._left_bytes:
            self._read_headers()  # trailers
            self.is_complete = True

    def _line(self) -> bytes:
        looked_at = 0
        while (end := self._unread.find(b"\n", looked_at)) < 0:
            looked_at = len(self._unread)
            if looked_at > MAX_LINE_BYTES:
                break
            self._receive()
        self._lines_bytes += end
        if end > MAX_LINE_BYTES or end < 0 or self._lines_bytes > _MAX_LINES_BYTES:
            raise TransportError(ErrorClass.INVALID_RESPONSE)
        return self._take(end + 1)[:-1].removesuffix(b"\r")

    def _take(self, count: int) -> bytes:
        taken = bytes(self._unread[:count])
        del self._unread[:count]
        return taken

    def _receive(self) -> None:
        data = self._connection.receive(self._deadline)
        if not data:
            raise TransportError(ErrorClass.CONNECTION_LOST)
        self._unread += data


def _length(value: str) -> int | None:
    """The content-length; None when it says nothing, so that the body ends with the connection."""
    lengths = {each.strip() for each in value.split(",")}
    if not all(_LENGTH.fullmatch(each) for each in lengths):
        return None
    if len(lengths) > 1:  # RFC 9112 6.3: two that differ are no answer
        raise TransportError(ErrorClass.INVALID_RESPONSE)
    return int(lengths.pop())
