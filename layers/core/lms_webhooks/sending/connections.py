"""Send an HTTP/1.1 request over a kept-alive connection, and read its response, within a deadline.

Requests to untrusted hosts need what HTTP clients lack. `sockets` gives a total deadline, and checks the
address rule of `targets` when a socket is opened. This module bounds what is read. It reads only the status,
the headers and where the response ends, as leniently as browsers do: rejecting a sloppy 200 would deliver the
event twice.
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
"""After that a name is resolved again, or a connection in steady use would never see that its server moved. A
DNS record that is meant to fail over lives at most this long (Route 53's guide)."""
MAX_LINE_BYTES = 64 * 1024  # of a response's header, as http.client and common servers have it
_MAX_HEADERS = 100  # as http.client has it
_MAX_LINES_BYTES = 256 * 1024  # of all lines of a response, interim responses and chunks included
_STALE_SECONDS = 1  # a connection that was closed while it was idle fails as soon as it is used
_MAX_IDLE = 200  # connections; a function may have a thousand files open

_STATUS_LINE = re.compile(rb"HTTP/1\.(?P<minor>[0-9]) (?P<status>[1-9][0-9]{2})(?: .*)?", re.DOTALL)
_LENGTH = re.compile(r"[0-9]{1,18}")
_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;.*)?", re.DOTALL)


class ConnectionPool:
    """Kept-alive connections to many origins, one call at a time for each. Safe to share between threads."""

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

    def request(
        self,
        origin: Origin,
        request: bytes,
        deadline: Deadline,
        *,
        connect_seconds: float,
        response_seconds: float,
    ) -> "HttpResponse":
        """Send `request`, and read the response until its header is complete.

        A connection that is not there yet must open within `connect_seconds`. The header must be complete
        `response_seconds` after that.

        Raises:
            TransportError: there is no such response.
            ForbiddenTarget: the origin's name resolves to an address that is not allowed.
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
                is_stale = time.monotonic() - sent_at <= _STALE_SECONDS and not connection.has_received
                if failed.error_class is not ErrorClass.CONNECTION_LOST or not is_stale:
                    raise
        deadline.restart(connect_seconds)
        opened_at = self._clocks.now()
        opened = connect(origin, deadline, self._tls_context, loopback_allowed=self._loopback_allowed)
        return self._request_over(_Connection(origin, opened, opened_at), request, deadline, response_seconds)

    def close(self) -> None:
        """Close the idle connections."""
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
            return HttpResponse(connection, deadline, on_reusable=self._keep)
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
            if self._is_usable(connection) and connection.has_no_input():
                return connection
            connection.close()

    def _is_usable(self, connection: "_Connection") -> bool:
        return (
            self._clocks.seconds_since(connection.idle_since) <= MAX_IDLE_SECONDS
            and self._clocks.seconds_since(connection.opened_at) <= MAX_LIFE_SECONDS
        )

    def _keep(self, connection: "_Connection") -> None:
        connection.mark_idle(self._clocks.now())
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
    """An open connection. Each wait lasts no longer than the deadline of its present call."""

    def __init__(self, origin: Origin, opened: DeadlineSocket | TlsSocket, opened_at: Moment) -> None:
        self.origin = origin
        self.opened_at = opened_at
        """When its name was about to be resolved."""
        self.idle_since = opened_at
        self.has_received = False
        """Whether a byte arrived since the request."""
        self._socket = opened

    def send(self, request: bytes, deadline: Deadline) -> None:
        try:
            self._socket.send(request, deadline)
        except (BrokenPipeError, ConnectionResetError):
            pass  # a server may respond and close before it has read the whole request
        except OSError as error:
            raise error_from(error) from None

    def receive(self, deadline: Deadline) -> bytes:
        """Return the next bytes; none at the end."""
        try:
            data = self._socket.receive(deadline)
        except OSError as error:
            raise error_from(error) from None
        self.has_received = self.has_received or bool(data)
        return data

    def mark_idle(self, now: Moment) -> None:
        """Mark the connection as idle from `now` on."""
        self.idle_since = now
        self.has_received = False

    def has_no_input(self) -> bool:
        """Return whether nothing arrived while it was idle: neither its end, nor an unrequested response."""
        return self._socket.has_no_input()

    def close(self) -> None:
        self._socket.close()


def _close_all(idle: dict[Origin, list[_Connection]]) -> None:
    for connections in idle.values():
        for connection in connections:
            connection.close()


class HttpResponse:
    """A response whose header is complete. Its body is read piece by piece, and the caller closes it."""

    def __init__(
        self, connection: _Connection, deadline: Deadline, *, on_reusable: Callable[[_Connection], None]
    ) -> None:
        self._connection = connection
        self._deadline = deadline
        self._keep = on_reusable
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
        """The rest of the body, or of a chunk; None means until the connection ends."""
        coding = self.headers.get("transfer-encoding", "").rpartition(",")[2].strip().lower()
        length = self.headers.get("content-length", "")
        if self.status_code not in {204, 304}:
            self._is_chunked = coding == "chunked"
            if not self._is_chunked:
                self._left_bytes = _length(length)
        elif coding or length not in {"", "0"}:
            self._is_kept_alive = False  # the announced body may still come, like a next response
        self._is_first_chunk = True
        self.is_complete = not self._is_chunked and self._left_bytes == 0
        """Whether the whole body was read."""

    def limit_body_seconds(self, seconds: float) -> None:
        """Limit the time for the rest of the body."""
        self._deadline.restart(seconds)

    def read(self, most_bytes: int) -> bytes:
        """Return the next piece of the body; none at its end, or where it breaks off."""
        try:
            if self._is_chunked and not self._left_bytes and not self.is_complete:
                self._read_chunk_size()
            if self.is_complete:
                return b""
            if not self._unread:
                self._receive()
        except TransportError:
            self._is_kept_alive = False
            self.is_complete = True
            return b""
        left_bytes = len(self._unread) if self._left_bytes is None else self._left_bytes
        piece = self._consume(min(most_bytes, left_bytes, len(self._unread)))
        if self._left_bytes is not None:
            self._left_bytes -= len(piece)
            self.is_complete = not self._is_chunked and self._left_bytes == 0
        return piece

    def close(self) -> None:
        """Return the connection to the pool, if the whole response was read and the server allows it."""
        if self._is_closed:
            return
        self._is_closed = True
        # Bytes beyond the end would look like the next response.
        if self.is_complete and self._is_kept_alive and not self._unread:
            self._keep(self._connection)
        else:
            self._connection.close()

    def _read_status(self) -> tuple[int, int]:
        """Read the minor version and the status, after any interim (1xx) responses."""
        while True:
            line = _STATUS_LINE.fullmatch(self._read_line())
            if line is None or line["status"] == b"101":  # another protocol, which we never requested
                raise TransportError(ErrorClass.INVALID_RESPONSE)
            if not line["status"].startswith(b"1"):
                return int(line["minor"]), int(line["status"])
            self._read_headers()

    def _read_headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        for _ in range(_MAX_HEADERS + 1):
            line = self._read_line()
            if not line:
                return headers
            name, colon, value = line.decode("latin-1").partition(":")
            if colon and name.strip() == name != "":  # the rest of a folded line begins with a space
                name, value = name.lower(), value.strip()
                headers[name] = f"{headers[name]}, {value}" if name in headers else value
        raise TransportError(ErrorClass.INVALID_RESPONSE)

    def _read_chunk_size(self) -> None:
        if not self._is_first_chunk and self._read_line():
            raise TransportError(ErrorClass.INVALID_RESPONSE)
        self._is_first_chunk = False
        size = _CHUNK_SIZE.fullmatch(self._read_line())
        if size is None:
            raise TransportError(ErrorClass.INVALID_RESPONSE)
        self._left_bytes = int(size[1], 16)
        if not self._left_bytes:
            self._read_headers()  # trailers
            self.is_complete = True

    def _read_line(self) -> bytes:
        looked_at = 0
        while (end := self._unread.find(b"\n", looked_at)) < 0:
            looked_at = len(self._unread)
            if looked_at > MAX_LINE_BYTES:
                break
            self._receive()
        self._lines_bytes += end
        if end > MAX_LINE_BYTES or end < 0 or self._lines_bytes > _MAX_LINES_BYTES:
            raise TransportError(ErrorClass.INVALID_RESPONSE)
        return self._consume(end + 1)[:-1].removesuffix(b"\r")

    def _consume(self, count: int) -> bytes:
        taken = bytes(self._unread[:count])
        del self._unread[:count]
        return taken

    def _receive(self) -> None:
        data = self._connection.receive(self._deadline)
        if not data:
            raise TransportError(ErrorClass.CONNECTION_LOST)
        self._unread += data


def _length(value: str) -> int | None:
    """Read a content-length; None when it is invalid, so that the body ends with the connection."""
    lengths = {each.strip() for each in value.split(",")}
    if not all(_LENGTH.fullmatch(each) for each in lengths):
        return None
    if len(lengths) > 1:  # RFC 9112 6.3: two that differ make the response invalid
        raise TransportError(ErrorClass.INVALID_RESPONSE)
    return int(lengths.pop())
