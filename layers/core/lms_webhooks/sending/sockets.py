"""Open a socket to an untrusted host, with or without TLS, and pass bytes within a deadline.

Each wait for a socket lasts no longer than the rest of the call's time. The address rule of `targets` is
checked when a socket is opened.
"""

import encodings.idna  # noqa: F401  # for getaddrinfo: where its own import fails once, it fails for ever
import errno
import ipaddress
import queue
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from lms_webhooks.model.attempts import ErrorClass, TlsFault
from lms_webhooks.sending.targets import check_addresses

MAX_ADDRESSES_TRIED = 4  # of a name with many, so that dead ones leave time for the next
_READ_BYTES = 16 * 1024  # at once: a record of TLS at most
_ENCRYPTED_BYTES = 64 * 1024  # at once, so that a large request does not outlast its deadline in OpenSSL


class TransportError(Exception):
    """A request got no response."""

    def __init__(self, error_class: ErrorClass, tls_fault: TlsFault | None = None) -> None:
        super().__init__(error_class)
        self.error_class = error_class
        self.tls_fault = tls_fault


class OutOfResources(Exception):
    """This process can open no further socket, or start no further thread: our own error.

    It says nothing about the endpoint, so it is no `TransportError`, and it charges no endpoint.
    """


# Of the process or the machine: descriptors, memory, buffers. Not EADDRNOTAVAIL, which also says that this
# machine has no address of the target's family.
_OWN_ERRNOS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


class Deadline:
    """The time by which a call, or its present part, must end."""

    def __init__(self, total_seconds: float) -> None:
        self._latest = self._ends_at = time.monotonic() + total_seconds

    def restart(self, seconds: float) -> None:
        """Give the next part of the call `seconds` from now, but never more than the whole call has."""
        self._ends_at = min(time.monotonic() + seconds, self._latest)

    def remaining_seconds(self) -> float:
        """Return the rest of the time, which is more than zero.

        Raises:
            TimeoutError: there is no time left.
        """
        remaining = self._ends_at - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        return remaining


class Origin(NamedTuple):
    """Scheme, host and port of a connection."""

    scheme: str
    host: str
    """A name in ASCII, or an address."""
    port: int


def connect(
    origin: Origin,
    deadline: Deadline,
    tls_context: ssl.SSLContext,
    *,
    loopback_allowed: bool,
    session: ssl.SSLSession | None = None,
) -> "DeadlineSocket | TlsSocket":
    """Connect to `origin`, with TLS if its scheme is https.

    Raises:
        TransportError: there is no connection.
        ForbiddenTarget: the origin's name resolves to an address that is not allowed.
        OutOfResources: this process cannot open one.
    """
    plain_socket = DeadlineSocket(_connect(origin, deadline, loopback_allowed=loopback_allowed))
    if origin.scheme != "https":
        return plain_socket
    try:
        return TlsSocket(plain_socket, tls_context, origin.host, deadline, session)
    except (OSError, ValueError) as error:
        plain_socket.close()
        raise error_from(error) from None


class DeadlineSocket:
    """A socket that never blocks: each wait lasts no longer than a deadline.

    Python's own time-out would have to be set again before each call, and it waits before each send too.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._readable = select.poll()
        self._readable.register(sock, select.POLLIN)

    def send(self, data: bytes, deadline: Deadline, stop: Callable[[], bool] | None = None) -> bool:
        """Send `data`. While the peer takes no more of it and says something, ask `stop` whether to go on.

        Returns:
            Whether all was sent.
        """
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._sock.send(rest) :]
            except BlockingIOError:
                ready = select.poll()
                ready.register(self._sock, select.POLLOUT | (select.POLLIN if stop else 0))
                events = ready.poll(deadline.remaining_seconds() * 1000)
                if stop and any(event & select.POLLIN for _, event in events) and stop():
                    return False
        return True

    def receive(self, deadline: Deadline) -> bytes:
        """Return the next bytes; none at the end."""
        while True:
            self._readable.poll(deadline.remaining_seconds() * 1000)
            try:
                return self._sock.recv(_READ_BYTES)
            except BlockingIOError:
                pass  # the next wait says whether there is time left

    def receive_now(self) -> bytes | None:
        """Return what is there already: nothing at the end, None if there is nothing yet."""
        try:
            return self._sock.recv(_READ_BYTES)
        except BlockingIOError:
            return None

    def has_no_input(self) -> bool:
        """Return whether there is nothing to receive, not even the end."""
        return not self._readable.poll(0)

    def close(self) -> None:
        self._sock.close()


class TlsSocket:
    """TLS over a socket, piece by piece, so that the deadline is checked between the pieces.

    The sockets of ssl do not do that. A server that sends records without data (HelloRequest, KeyUpdate)
    faster than they are read would keep one call busy, whatever its time-out.
    """

    def __init__(
        self,
        plain_socket: DeadlineSocket,
        context: ssl.SSLContext,
        host: str,
        deadline: Deadline,
        session: ssl.SSLSession | None = None,
    ) -> None:
        """Shake hands, by way of `session` if the server takes it. It must be of this very origin."""
        self._socket = plain_socket
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host, session=session)
        self._run(self._tls.do_handshake, deadline)
        self._flush(deadline)

    @property
    def is_resumed(self) -> bool:
        """Whether the server took the session, so that no certificate was verified."""
        return bool(self._tls.session_reused)

    def session(self) -> ssl.SSLSession | None:
        """Return a session that the next connection may use, if the server gave one."""
        session = self._tls.session
        return session if session and (session.has_ticket or session.id) else None

    def send(self, data: bytes, deadline: Deadline, stop: Callable[[], bool] | None = None) -> bool:
        """As `DeadlineSocket.send`."""
        sent_bytes = 0
        while sent_bytes < len(data):
            rest = memoryview(data)[sent_bytes : sent_bytes + _ENCRYPTED_BYTES]
            sent_bytes += self._run(partial(self._tls.write, rest), deadline)
            if not self._flush(deadline, stop):
                return False
        return True

    def receive(self, deadline: Deadline) -> bytes:
        try:
            return self._run(partial(self._tls.read, _READ_BYTES), deadline)
        except ssl.SSLEOFError:
            return b""  # many servers end without a close_notify; the body's length tells

    def receive_now(self) -> bytes | None:
        """As `DeadlineSocket.receive_now`. What carries no data, such as a session ticket, is nothing yet."""
        for is_last in (False, True):
            try:
                return self._tls.read(_READ_BYTES)
            except ssl.SSLWantReadError:
                pass
            except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
                return b""
            # One piece at a time: a server that sends without end must not keep this call.
            data = None if is_last else self._socket.receive_now()
            if data:
                self._incoming.write(data)
            elif data == b"":
                self._incoming.write_eof()
        return None

    def has_no_input(self) -> bool:
        """As `DeadlineSocket.has_no_input`. What TLS itself sends, such as a session ticket, is no input.

        It must have come whole: in the rest of a piece there could be a response, to no request.
        """
        if self._incoming.pending or self._tls.pending():
            return False
        if self._socket.has_no_input():
            return True
        try:
            data = self._socket.receive_now()
            if not data or not _is_whole_records(data):
                return False
            self._incoming.write(data)
            self._tls.read(1)
        except ssl.SSLWantReadError:
            return self._socket.has_no_input()
        except OSError:
            pass
        return False

    def close(self) -> None:
        self._socket.close()

    def _run[T](self, operation: Callable[[], T], deadline: Deadline) -> T:
        """Run an `operation` of TLS, with as much input as it needs.

        What TLS would send after that is left to the next wait, or to the caller: a response that was read
        must not be lost because its server is gone.
        """
        while True:
            try:
                return operation()
            except ssl.SSLWantReadError:
                self._flush(deadline)
            except ssl.SSLError:
                with suppress(OSError):
                    self._flush(deadline)  # the alert, which shows the server's operator the reason
                raise
            if data := self._socket.receive(deadline):
                self._incoming.write(data)
            else:
                self._incoming.write_eof()

    def _flush(self, deadline: Deadline, stop: Callable[[], bool] | None = None) -> bool:
        """Send what TLS has to send. Return whether all of it was sent."""
        return not self._outgoing.pending or self._socket.send(self._outgoing.read(), deadline, stop)


def _is_whole_records(data: bytes) -> bool:
    """Whether `data`, which begins with a record of TLS, also ends with one (RFC 8446 5.1)."""
    at = 0
    while at + 5 <= len(data):
        at += 5 + int.from_bytes(data[at + 3 : at + 5])
    return at == len(data)


def error_from(error: OSError | ValueError) -> TransportError | OutOfResources:
    """Translate an exception of a socket, or of opening one, into the error of the call."""
    if isinstance(error, TimeoutError):
        return TransportError(ErrorClass.TIMEOUT)
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return TransportError(ErrorClass.CONNECTION_LOST)
    if isinstance(error, (ssl.SSLError, ValueError)):  # ValueError: a host that TLS cannot name
        return TransportError(ErrorClass.TLS, _tls_fault(error))
    if error.errno in _OWN_ERRNOS:
        return OutOfResources(str(error))
    return TransportError(ErrorClass.CONNECTION_LOST)


# X509_V_ERR_... of OpenSSL's x509_vfy.h, as an SSLCertVerificationError has them.
_BY_VERIFY_CODE = {
    9: TlsFault.NOT_YET_VALID,
    10: TlsFault.EXPIRED,
    18: TlsFault.UNKNOWN_ISSUER,
    19: TlsFault.UNKNOWN_ISSUER,
    2: TlsFault.INCOMPLETE_CHAIN,
    20: TlsFault.INCOMPLETE_CHAIN,
    21: TlsFault.INCOMPLETE_CHAIN,
    62: TlsFault.WRONG_NAME,
    64: TlsFault.WRONG_NAME,
    66: TlsFault.TOO_WEAK,
    67: TlsFault.TOO_WEAK,
    68: TlsFault.TOO_WEAK,
}
# SSL_R_... of OpenSSL's sslerr.h. TLSV1 and SSLV3 begin the alerts of receivers, of whatever version.
_BY_REASON = {
    "UNSUPPORTED_PROTOCOL": TlsFault.PROTOCOL_VERSION,
    "TLSV1_ALERT_PROTOCOL_VERSION": TlsFault.PROTOCOL_VERSION,
    "WRONG_SSL_VERSION": TlsFault.PROTOCOL_VERSION,
    "WRONG_VERSION_NUMBER": TlsFault.NO_TLS,
    "HTTP_REQUEST": TlsFault.NO_TLS,
    "TLSV1_UNRECOGNIZED_NAME": TlsFault.WRONG_NAME,
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": TlsFault.CLIENT_CERTIFICATE,
    # OpenSSL and Go reject a TLS 1.2 handshake without a client certificate by the first, Java and older Go
    # by the second; the other three are of servers that judge certificates by themselves.
    "SSLV3_ALERT_HANDSHAKE_FAILURE": TlsFault.REFUSED,
    "SSLV3_ALERT_BAD_CERTIFICATE": TlsFault.CERTIFICATE_REFUSED,
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": TlsFault.CERTIFICATE_REFUSED,
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": TlsFault.CERTIFICATE_REFUSED,
    "TLSV1_ALERT_UNKNOWN_CA": TlsFault.CERTIFICATE_REFUSED,
    "TLSV1_ALERT_INSUFFICIENT_SECURITY": TlsFault.REFUSED,
    "DH_KEY_TOO_SMALL": TlsFault.TOO_WEAK,
}


def _tls_fault(error: OSError | ValueError) -> TlsFault | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _BY_VERIFY_CODE.get(error.verify_code)
    return _BY_REASON.get(error.reason) if isinstance(error, ssl.SSLError) else None


def _connect(origin: Origin, deadline: Deadline, *, loopback_allowed: bool) -> socket.socket:
    addresses = _resolve(origin, deadline)
    check_addresses((str(address[0]) for _, address in addresses), loopback_allowed=loopback_allowed)
    tried = addresses[:MAX_ADDRESSES_TRIED]
    error_class = ErrorClass.CONNECT
    for index, (family, address) in enumerate(tried):
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            if error.errno in _OWN_ERRNOS:
                raise OutOfResources(str(error)) from None
            continue  # this machine does not speak the address's family
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(deadline.remaining_seconds() / (len(tried) - index))
            sock.connect(address)
        except OSError as error:
            sock.close()
            if error.errno in _OWN_ERRNOS:
                raise OutOfResources(str(error)) from None
            error_class = ErrorClass.TIMEOUT if isinstance(error, TimeoutError) else ErrorClass.CONNECT
        else:
            return sock
    raise TransportError(error_class)


type _Address = tuple[socket.AddressFamily, tuple[str | int, ...] | tuple[int, bytes]]


def _resolve(origin: Origin, deadline: Deadline) -> list[_Address]:
    """Resolve a name. getaddrinfo has no time-out, so it runs in another thread."""
    if _is_address(origin.host):
        return _addresses_of(origin)  # no name server is asked
    results: queue.SimpleQueue[list[_Address]] = queue.SimpleQueue()
    try:
        _look_up(origin, results)
        addresses = results.get(timeout=deadline.remaining_seconds())
    except (queue.Empty, TimeoutError):
        raise TransportError(ErrorClass.TIMEOUT) from None
    except RuntimeError as error:  # lookups that hang have used up the process's threads
        raise OutOfResources(str(error)) from None
    if not addresses:
        _check_descriptors()
        raise TransportError(ErrorClass.DNS)
    return addresses


type _LookUp = tuple[Origin, queue.SimpleQueue[list[_Address]]]
_free_threads: list[queue.SimpleQueue[_LookUp]] = []
_MAX_FREE_THREADS = 16  # as many as look names up at the same time, but for bursts


def _look_up(origin: Origin, results: queue.SimpleQueue[list[_Address]]) -> None:
    """Have a thread look `origin` up: a free one, or a new one, so that no lookup waits for another.

    To start a thread costs more than most lookups.
    """
    try:
        work = _free_threads.pop()
    except IndexError:
        work = queue.SimpleQueue()
        threading.Thread(target=_look_up_all, args=(work,), name="dns", daemon=True).start()
    work.put((origin, results))


def _look_up_all(work: queue.SimpleQueue[_LookUp]) -> None:
    while True:
        origin, results = work.get()
        addresses = _addresses_of(origin)
        is_needed = len(_free_threads) < _MAX_FREE_THREADS
        if is_needed:
            _free_threads.append(work)
        results.put(addresses)
        if not is_needed:
            return


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _addresses_of(origin: Origin) -> list[_Address]:
    try:
        found = socket.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [(family, address) for family, _, _, _, address in found]


def _check_descriptors() -> None:
    """Check that a socket can be opened: without one, getaddrinfo reports that there is no such name.

    Raises:
        OutOfResources: none can be.
    """
    try:
        socket.socket().close()
    except OSError as error:
        raise OutOfResources(str(error)) from None
