"""Send one HTTP/1.1 request over a connection that is kept for the next one, and return its response.

Requests to untrusted hosts need what HTTP clients lack: a total deadline, the address rule of `targets` when
a socket is opened, and a bound on what is read. `sockets` has the first two, `response_reader` the third.
"""

import ssl
import threading
import time
import weakref
from collections.abc import Callable

from lms_webhooks.clocks import Clocks, Moment
from lms_webhooks.model.attempts import ErrorClass
from lms_webhooks.sending.response_reader import InvalidResponse, ResponseReader
from lms_webhooks.sending.sockets import (
    Deadline,
    DeadlineSocket,
    Origin,
    TlsSocket,
    TransportError,
    connect,
    error_from,
)
from lms_webhooks.sending.tls_sessions import TlsSessions

MAX_IDLE_SECONDS = 50  # common load balancers close idle connections after 60
MAX_LIFE_SECONDS = 60
"""After that a name is resolved again, or a connection in steady use would never see that its server moved. A
DNS record that is meant to fail over lives at most this long (Route 53's guide)."""
_STALE_SECONDS = 1  # a connection that was closed while it was idle fails as soon as it is used
_MAX_IDLE = 200  # connections; a function may have a thousand files open
_REQUEST_TIMEOUT = 408


class ConnectionPool:
    """Kept-alive connections to many origins, one call at a time for each. Safe to share between threads."""

    def __init__(
        self, tls_context: ssl.SSLContext, *, loopback_allowed: bool, clocks: Clocks | None = None
    ) -> None:
        # One context for all: reading the CA bundle for each costs more than the rest of a delivery.
        self._tls_context = tls_context
        self._loopback_allowed = loopback_allowed
        self._clocks = clocks or Clocks()
        self._tls_sessions = TlsSessions(self._clocks)
        self._lock = threading.Lock()
        self._idle: dict[Origin, list[_Connection]] = {}
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
            # A server may close a kept connection just as it is used again (RFC 9112 9.3.1), or say by a 408
            # that it gives it up (RFC 9110 15.5.9). Neither says anything about its health. So the request
            # goes out once more, on a new connection.
            sent_at = time.monotonic()
            try:
                response = self._request_over(connection, request, deadline, response_seconds)
            except TransportError as failed:
                is_stale = time.monotonic() - sent_at <= _STALE_SECONDS and not connection.has_received
                if failed.error_class is not ErrorClass.CONNECTION_LOST or not is_stale:
                    raise
            else:
                is_stale = time.monotonic() - sent_at <= _STALE_SECONDS
                if response.status_code != _REQUEST_TIMEOUT or not is_stale:
                    return response
                connection.is_request_whole = False  # as the 408 says
                response.close()
        deadline.restart(connect_seconds)
        connection = self._open(origin, deadline)
        try:
            return self._request_over(connection, request, deadline, response_seconds)
        except TransportError:
            if connection.is_resumed:
                self._tls_sessions.stop(origin)
            raise

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            _close_all(self._idle)
            self._idle.clear()
            self._idle_count = 0

    def _open(self, origin: Origin, deadline: Deadline) -> "_Connection":
        opened_at = self._clocks.now()
        session = self._tls_sessions.find(origin)
        try:
            opened = self._connect(origin, deadline, session)
        except TransportError as failed:
            if session is None or failed.error_class not in {ErrorClass.TLS, ErrorClass.CONNECTION_LOST}:
                raise
            # A server that cannot resume is no failure of its own: nothing of the request was sent yet.
            self._tls_sessions.stop(origin)
            opened = self._connect(origin, deadline, None)
        connection = _Connection(origin, opened, opened_at)
        if session and not connection.is_resumed:
            self._tls_sessions.stop(origin)
        return connection

    def _connect(
        self, origin: Origin, deadline: Deadline, session: ssl.SSLSession | None
    ) -> DeadlineSocket | TlsSocket:
        return connect(
            origin, deadline, self._tls_context, loopback_allowed=self._loopback_allowed, session=session
        )

    def _request_over(
        self, connection: "_Connection", request: bytes, deadline: Deadline, response_seconds: float
    ) -> "HttpResponse":
        reader = ResponseReader()
        try:
            deadline.restart(response_seconds)
            connection.send(request, deadline, reader)
            while not reader.status_code:
                data = connection.receive(deadline)
                if not data:
                    raise TransportError(ErrorClass.CONNECTION_LOST)
                reader.feed(data)
        except InvalidResponse:
            reader.close()
            connection.close()
            raise TransportError(ErrorClass.INVALID_RESPONSE) from None
        except BaseException:
            reader.close()
            if connection.has_tls_error:
                self._tls_sessions.stop(connection.origin)
            connection.close()
            raise
        return HttpResponse(connection, reader, deadline, release=self._release)

    def _take_idle(self, origin: Origin) -> "_Connection | None":
        while True:
            with self._lock:
                idle = self._idle.get(origin)
                if not idle:
                    return None
                connection = idle.pop()
                self._idle_count -= 1
                if not idle:
                    del self._idle[origin]
            if self._is_usable(connection) and connection.has_no_input():
                return connection
            connection.close()

    def _is_usable(self, connection: "_Connection") -> bool:
        return (
            self._clocks.seconds_since(connection.idle_since) <= MAX_IDLE_SECONDS
            and self._clocks.seconds_since(connection.opened_at) <= MAX_LIFE_SECONDS
        )

    def _release(self, connection: "_Connection", is_reusable: bool) -> None:
        """Take a connection back after a response."""
        if connection.has_tls_error:
            self._tls_sessions.stop(connection.origin)
        elif connection.tls and not connection.is_resumed and self._tls_sessions.wants(connection.origin):
            # Tickets come before the first response, or with it.
            self._tls_sessions.keep(connection.origin, connection.tls.session(), connection.opened_at)
        if is_reusable:
            self._keep(connection)
        else:
            connection.close()

    def _keep(self, connection: "_Connection") -> None:
        connection.mark_idle(self._clocks.now())
        with self._lock:
            self._idle.setdefault(connection.origin, []).append(connection)
            self._idle_count += 1
            if self._idle_count <= _MAX_IDLE:
                return
            oldest = min(self._idle.values(), key=lambda idle: idle[0].idle_since)
            closed = oldest.pop(0)
            self._idle_count -= 1
            if not oldest:
                del self._idle[closed.origin]
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
        self.is_request_whole = False
        """Whether all of the request was sent. Else nothing may follow it."""
        self.has_tls_error = False
        self.tls = opened if isinstance(opened, TlsSocket) else None
        self.is_resumed = self.tls is not None and self.tls.is_resumed
        """Whether a session took the place of a full handshake."""
        self._socket = opened

    def send(self, request: bytes, deadline: Deadline, reader: ResponseReader) -> None:
        """Send `request`, or as much of it as the server takes before `reader` has its response."""

        def has_response() -> bool:
            # All that is there: more of it may be in TLS already, and no socket would tell of that again.
            while data := self._socket.receive_now():
                self.has_received = True
                reader.feed(data)
                if reader.status_code:
                    return True
            return data == b""

        self.is_request_whole = False
        try:
            self.is_request_whole = self._socket.send(request, deadline, stop=has_response)
        except (BrokenPipeError, ConnectionResetError):
            pass  # a server may respond and close before it has read the whole request
        except OSError as error:
            raise self._failure(error) from None

    def receive(self, deadline: Deadline) -> bytes:
        """Return the next bytes; none at the end."""
        try:
            data = self._socket.receive(deadline)
        except OSError as error:
            raise self._failure(error) from None
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

    def _failure(self, error: OSError) -> Exception:
        failure = error_from(error)
        if isinstance(failure, TransportError) and failure.error_class is ErrorClass.TLS:
            self.has_tls_error = True
        return failure


def _close_all(idle: dict[Origin, list[_Connection]]) -> None:
    for connections in idle.values():
        for connection in connections:
            connection.close()


class HttpResponse:
    """A response whose header is complete. Its body is read piece by piece, and the caller closes it."""

    def __init__(
        self,
        connection: _Connection,
        reader: ResponseReader,
        deadline: Deadline,
        *,
        release: Callable[[_Connection, bool], None],
    ) -> None:
        self.status_code = reader.status_code
        self._connection = connection
        self._reader = reader
        self._deadline = deadline
        self._release = release
        self.is_closed = False

    @property
    def reason(self) -> str:
        """The reason phrase of the status line."""
        return self._reader.reason

    @property
    def is_cut(self) -> bool:
        """Whether the body ended before its end, or where it ends cannot be said."""
        return self._reader.is_cut

    @property
    def header(self) -> bytes:
        """The header, as it came."""
        return self._reader.header

    @property
    def headers(self) -> dict[str, str]:
        """The headers by lower-case name. Several values of one name are joined by commas."""
        return self._reader.headers

    @property
    def is_complete(self) -> bool:
        """Whether all of the body was read, or all that will come of it."""
        return self._reader.is_complete and not self._reader.body

    def limit_body_seconds(self, seconds: float) -> None:
        """Limit the time for the rest of the body."""
        self._deadline.restart(seconds)

    def read(self, most_bytes: int) -> bytes:
        """Return the next piece of the body: nothing at its end, or where it breaks off."""
        reader = self._reader
        if self.is_closed:
            return b""
        while not reader.body and not reader.is_complete:
            try:
                data = self._connection.receive(self._deadline)
            except TransportError:
                reader.end(is_cut=True)
                break
            if data:
                reader.feed(data)
            else:
                reader.end()
        piece = bytes(reader.body[:most_bytes])
        del reader.body[:most_bytes]
        return piece

    def close(self) -> None:
        """Leave the connection to the next call, if the response was read whole and the server allows it."""
        if self.is_closed:
            return
        self.is_closed = True
        self._reader.close()
        is_reusable = self._reader.is_reusable and self.is_complete and self._connection.is_request_whole
        self._release(self._connection, is_reusable)
