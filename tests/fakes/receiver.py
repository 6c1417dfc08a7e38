"""A receiver that behaves well or badly, as a test says: real sockets, each request on record.

    with Receiver(answer(204)) as receiver:               # always
    with Receiver([answer(500), hang(), answer()]):       # by the request's number; the last one stays
    with Receiver(lambda request: gone() if request.path == "/old" else answer()):

`receiver.script` may be replaced while it runs. Plain HTTP, or TLS with a certificate's files.
"""

import contextlib
import gzip
import json
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True)
class Request:
    """One request, whole. `received_at` is monotonic; header names are in lower case."""

    number: int
    connection: int
    received_at: float
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events that it carries."""
        events: list[dict[str, Any]] = json.loads(self.body)["events"]
        return events

    @property
    def event_ids(self) -> list[str]:
        """Their ids, in order."""
        return [event["eventId"] for event in self.events]


@dataclass(frozen=True)
class Behaviour:
    """What happens on the wire once a request is in. `act` says whether the connection stays open."""

    name: str
    act: Callable[["Wire"], bool]


type Script = Behaviour | Sequence[Behaviour] | Callable[[Request], Behaviour]


class Wire:
    """One connection, as behaviours use it."""

    def __init__(self, sock: socket.socket, closing: threading.Event) -> None:
        self._sock = sock
        self._closing = closing

    def send(self, data: bytes) -> None:
        """All of it."""
        self._sock.sendall(data)

    def pause(self, seconds: float | None) -> None:
        """Wait; raises when the receiver is closed meanwhile."""
        if self._closing.wait(seconds):
            raise ConnectionAbortedError("the receiver is closing")

    def hang(self) -> None:
        """Say nothing more until the other side gives up."""
        while self._sock.recv(65536):
            pass

    def trickle(self, data: bytes, seconds: float) -> None:
        """One byte, and then one each `seconds`."""
        for index in range(len(data)):
            if index:
                self.pause(seconds)
            self.send(data[index : index + 1])

    def end_sending(self) -> None:
        """Half-close: send no more, and go on reading."""
        socket.socket.shutdown(self._sock, socket.SHUT_WR)  # TLS sockets' own would forget the TLS

    def reset(self) -> None:
        """Close so that the other side gets a reset instead of an end."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()


def answer(
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    *,
    delay_seconds: float = 0,
    version: str = "1.1",
    keep_alive: bool = True,
) -> Behaviour:
    """A well-formed answer."""
    lines = {"content-length": str(len(body)), **(headers or {})}
    if not keep_alive:
        lines["connection"] = "close"
    data = _head(status, lines, version) + body

    def act(wire: Wire) -> bool:
        if delay_seconds:
            wire.pause(delay_seconds)
        wire.send(data)
        return keep_alive and version != "1.0"

    return Behaviour(f"answer {status}", act)


def redirect(location: str, status: int = 302) -> Behaviour:
    """An answer that points elsewhere."""
    return answer(status, {"location": location})


def gone() -> Behaviour:
    """410: the receiver wants no more."""
    return answer(410, body=b"gone")


def too_many_requests(retry_after: int | str | timedelta | None = None) -> Behaviour:
    """429. A time as timedelta is told as an HTTP date, counted from when this is called."""
    if isinstance(retry_after, timedelta):
        retry_after = format_datetime(datetime.now(UTC) + retry_after, usegmt=True)
    return answer(429, {} if retry_after is None else {"retry-after": str(retry_after)})


def raw(*parts: bytes, pause_seconds: float = 0, keep_alive: bool = False, name: str = "raw") -> Behaviour:
    """Exactly these bytes, with pauses between, and then an end unless `keep_alive`."""

    def act(wire: Wire) -> bool:
        for index, part in enumerate(parts):
            if index and pause_seconds:
                wire.pause(pause_seconds)
            wire.send(part)
        return keep_alive

    return Behaviour(name, act)


def hang() -> Behaviour:
    """Take the request and never answer."""
    return _then("hang", b"", lambda wire: wire.hang())


def hang_in_body(status: int = 200, body: bytes = b"half", missing: int = 10) -> Behaviour:
    """A complete header and a part of its body; then nothing."""
    return _then(
        "hang in body",
        _head(status, {"content-length": str(len(body) + missing)}) + body,
        lambda wire: wire.hang(),
    )


def trickle_header(seconds: float = 0.05, status: int = 200) -> Behaviour:
    """A header without end, a byte at a time."""
    data = _head(status, {})[:-2] + b"x-slow: " + b"z" * 10_000
    return _then("trickle header", b"", lambda wire: wire.trickle(data, seconds))


def trickle_body(
    seconds: float = 0.05, status: int = 200, *, content_length: int | None = 10_000
) -> Behaviour:
    """A complete header, then a body a byte at a time; without `content_length` it lasts till the end."""
    headers = {"connection": "close"} if content_length is None else {"content-length": str(content_length)}
    return _then("trickle body", _head(status, headers), lambda wire: wire.trickle(b"z" * 10_000, seconds))


def endless_body(status: int = 200, *, chunked: bool = True) -> Behaviour:
    """A body that never ends, as fast as it is read."""
    block = b"z" * 65536
    head = _head(status, {"transfer-encoding": "chunked"} if chunked else {"connection": "close"})
    data = b"10000\r\n" + block + b"\r\n" if chunked else block
    return _then("endless body", head, lambda wire: _send_for_ever(wire, data))


def gzip_bomb(status: int = 200, *, mebibytes: int = 64) -> Behaviour:
    """A small body that becomes a large one when it is decompressed."""
    body = gzip.compress(bytes(mebibytes << 20), 9)
    return answer(status, {"content-encoding": "gzip"}, body)


def reset_before_answer() -> Behaviour:
    """Take the request, then reset."""
    return _then("reset before answer", b"", lambda wire: wire.reset())


def reset_in_header(status: int = 200) -> Behaviour:
    """Reset in the middle of the header."""
    return _then("reset in header", _head(status, {"x-cut": "here"})[:-6], _reset_when_read)


def reset_in_body(status: int = 200) -> Behaviour:
    """Reset after a complete header and half a body."""
    return _then("reset in body", _head(status, {"content-length": "10"}) + b"half", _reset_when_read)


def reset_after_answer(status: int = 200, body: bytes = b"") -> Behaviour:
    """Reset after a complete answer that promised to keep the connection."""
    return _then(
        "reset after answer", _head(status, {"content-length": str(len(body))}) + body, _reset_when_read
    )


def close_before_answer() -> Behaviour:
    """Take the request, then end the connection politely."""
    return raw(name="close before answer")


def close_after_answer(status: int = 200) -> Behaviour:
    """A complete answer that promised to keep the connection; then an end."""
    return raw(_head(status, {"content-length": "0"}), name="close after answer")


def half_close(*, answering: bool = True) -> Behaviour:
    """End the sending side, after an answer or instead of one, and read on."""

    def act(wire: Wire) -> None:
        wire.end_sending()
        wire.hang()

    return _then("half-close", _head(200, {"content-length": "0"}) if answering else b"", act)


def truncated_header(status: int = 200) -> Behaviour:
    """An end inside the header, though after a whole line."""
    return raw(_head(status, {"content-length": "0"})[:-2], name="truncated header")


def truncated_status_line() -> Behaviour:
    """An end inside the first line."""
    return raw(b"HTTP/1.1 200", name="truncated status line")


def gated(gate: threading.Event, then: Behaviour) -> Behaviour:
    """Do `then` as soon as the test opens the gate."""

    def act(wire: Wire) -> bool:
        gate.wait(60)
        return then.act(wire)

    return Behaviour(f"gated {then.name}", act)


def endless_interim(status: int = 103) -> Behaviour:
    """Interim answers without end, as fast as they are read."""
    return _then("endless interim", b"", lambda wire: _send_for_ever(wire, _head(status, {}) * 1000))


def interim(*statuses: int, then: Behaviour | None = None) -> Behaviour:
    """Interim (1xx) answers before the real one."""
    head = b"".join(_head(status, {"x-interim": "yes"}) for status in statuses)
    last = then or answer()

    def act(wire: Wire) -> bool:
        wire.send(head)
        return last.act(wire)

    return Behaviour(f"interim {statuses}", act)


def wrong_content_length(status: int = 200, *, body: bytes = b"half", told: int = 100) -> Behaviour:
    """A body that is shorter, or longer, than the header tells; then an end."""
    return raw(_head(status, {"content-length": str(told)}) + body, name="wrong content-length")


def garbage() -> Behaviour:
    """Something that is not HTTP."""
    return raw(bytes(range(256)) + b"\r\n\r\n", name="garbage")


class Receiver:
    """Serves a script on a port of this machine, a thread for each connection. A context manager."""

    def __init__(
        self,
        script: Script | None = None,
        *,
        certificate: tuple[Path, Path] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        """`certificate` is the PEM files of chain and key; with them the receiver speaks TLS."""
        self.script: Script = script or answer()
        self._changed = threading.Condition(threading.RLock())
        self._closing = threading.Event()
        self._requests: list[Request] = []
        self._in_flight: Counter[str] = Counter()
        self._max_in_flight: Counter[str] = Counter()
        self._connections = 0
        self._failed_handshakes = 0
        self._ended = 0
        self._open: set[socket.socket] = set()
        self._threads: set[threading.Thread] = set()
        self._tls: ssl.SSLContext | None = None
        if certificate:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(*certificate)
        self._listener = socket.create_server((host, port), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, name="receiver", daemon=True)
        self._acceptor.start()

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        """Where it is, by `host`'s name for this machine."""
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}{path}"

    @property
    def requests(self) -> list[Request]:
        """Those that came whole, in the order they did."""
        with self._changed:
            return list(self._requests)

    def requests_to(self, path: str) -> list[Request]:
        """Those to one path."""
        return [request for request in self.requests if request.path == path]

    @property
    def connections(self) -> int:
        """How many were opened; with TLS those whose handshake failed count too."""
        with self._changed:
            return self._connections

    @property
    def failed_handshakes(self) -> int:
        """How many TLS handshakes came to nothing."""
        with self._changed:
            return self._failed_handshakes

    @property
    def ended(self) -> int:
        """How many requests are over, answered or not."""
        with self._changed:
            return self._ended

    @property
    def open_connections(self) -> int:
        """How many are open now, on this side."""
        with self._changed:
            return len(self._threads)

    def max_in_flight(self, path: str) -> int:
        """The most requests to `path` that were under way at one moment."""
        with self._changed:
            return self._max_in_flight[path]

    def wait_for(self, condition: Callable[[], bool], timeout_seconds: float) -> bool:
        """Wait until `condition` holds; it is looked at whenever something happened here."""
        with self._changed:
            return self._changed.wait_for(condition, timeout_seconds)

    def wait_for_requests(self, count: int, timeout_seconds: float = 10) -> bool:
        """Wait until `count` requests, or more, are in."""
        return self.wait_for(lambda: len(self._requests) >= count, timeout_seconds)

    def forget(self) -> None:
        """Empty the record; numbers start at 0 again."""
        with self._changed:
            self._requests.clear()
            self._max_in_flight.clear()
            self._ended = 0

    def close(self) -> None:
        """End every connection and thread."""
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        with self._changed:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)
            threads = list(self._threads)
        for thread in threads:
            thread.join(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._changed:
                number = self._connections
                self._connections += 1
                thread = threading.Thread(target=self._serve, args=(sock, number), daemon=True)
                self._open.add(sock)
                self._threads.add(thread)
                self._changed.notify_all()
            thread.start()

    def _serve(self, sock: socket.socket, connection: int) -> None:
        served = sock
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls:
                served = self._shake_hands(sock, self._tls)
            wire = Wire(served, self._closing)
            received = b""
            stays = True
            while stays:
                parsed = _read_request(served, received)
                if parsed is None:
                    break
                head, body, received = parsed
                stays = self._answer(wire, self._record(connection, head, body))
        except OSError:
            pass  # the other side went away, as it may
        finally:
            served.close()
            sock.close()
            with self._changed:
                self._open -= {sock, served}
                self._threads.discard(threading.current_thread())
                self._changed.notify_all()

    def _shake_hands(self, sock: socket.socket, tls: ssl.SSLContext) -> socket.socket:
        # On the socket object that close() knows, until there is another to know.
        served = tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        with self._changed:
            self._open.add(served)
        try:
            if self._closing.is_set():
                raise ConnectionAbortedError("the receiver is closing")
            served.do_handshake()
        except OSError:
            served.close()
            with self._changed:
                self._failed_handshakes += 1
                self._changed.notify_all()
            raise
        return served

    def _record(self, connection: int, head: bytes, body: bytes) -> Request:
        received_at = time.monotonic()
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        with self._changed:
            request = Request(len(self._requests), connection, received_at, method, path, headers, body)
            self._requests.append(request)
            self._in_flight[path] += 1
            self._max_in_flight[path] = max(self._max_in_flight[path], self._in_flight[path])
            self._changed.notify_all()
        return request

    def _answer(self, wire: Wire, request: Request) -> bool:
        try:
            return self._behaviour(request).act(wire) and request.headers.get("connection") != "close"
        finally:
            with self._changed:
                self._in_flight[request.path] -= 1
                self._ended += 1
                self._changed.notify_all()

    def _behaviour(self, request: Request) -> Behaviour:
        script = self.script
        if isinstance(script, Behaviour):
            return script
        if isinstance(script, Sequence):
            return script[min(request.number, len(script) - 1)]
        return script(request)


def _read_request(sock: socket.socket, received: bytes) -> tuple[bytes, bytes, bytes] | None:
    """The next request's head and body, and what came after them; nothing at the connection's end."""
    while b"\r\n\r\n" not in received:
        more = sock.recv(65536)
        if not more:
            return None
        received += more
    head, _, rest = received.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    parts = [rest]
    missing = length - len(rest)
    while missing > 0:
        more = sock.recv(65536)
        if not more:
            return None
        parts.append(more)
        missing -= len(more)
    whole = b"".join(parts)
    return head, whole[:length], whole[length:]


def _head(status: int, headers: Mapping[str, str], version: str = "1.1") -> bytes:
    lines = [f"HTTP/{version} {status} Scripted", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _then(name: str, data: bytes, end: Callable[[Wire], None]) -> Behaviour:
    """Send `data`, do `end`, and let the connection go."""

    def act(wire: Wire) -> bool:
        if data:
            wire.send(data)
        end(wire)
        return False

    return Behaviour(name, act)


def _reset_when_read(wire: Wire) -> None:
    # A reset overtakes what was sent and is not yet read: give the other side a moment to take it.
    wire.pause(0.05)
    wire.reset()


def _send_for_ever(wire: Wire, data: bytes) -> None:
    while True:
        wire.send(data)
