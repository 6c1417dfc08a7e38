"""A receiver that does what a script says: real sockets, each request on record.

    with Receiver(answer(204)) as receiver:               # always
    with Receiver([answer(500), hang(), answer()]):       # by the request's number; the last one stays
    with Receiver(lambda request: gone() if request.path == "/old" else answer()):

`receiver.script` may be replaced while it runs. Plain HTTP, or TLS with a server's context.
"""

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Self

_PIECE_BYTES = 65536


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


class Stage(Enum):
    """When a behaviour begins."""

    ACCEPTED = auto()  # at once, on the bare socket: before TLS
    CONNECTED = auto()  # when TLS, if any, is up, and before anything is read
    REQUEST = auto()  # when a request is in, whole


@dataclass(frozen=True)
class Behaviour:
    """What happens on the wire, from a stage on. `act` says whether the connection stays open."""

    name: str
    act: Callable[["Wire"], bool]
    stage: Stage = Stage.REQUEST


type Script[R: Request] = Behaviour | Sequence[Behaviour] | Callable[[R], Behaviour]


class Wire:
    """One connection, as behaviours use it."""

    def __init__(self, sock: socket.socket, closing: threading.Event, on_sent: Callable[[int], None]) -> None:
        self._sock = sock
        self._closing = closing
        self._on_sent = on_sent
        self.requests = 0
        """How many requests came on it so far."""

    def send(self, data: bytes) -> None:
        """All of it."""
        left = memoryview(data)
        while left:
            sent = self._sock.send(left[:_PIECE_BYTES])
            self._on_sent(sent)
            left = left[sent:]

    def read(self, limit: int = 65536) -> bytes:
        """What is there, of a request that nobody has read yet; nothing at its end."""
        return self._sock.recv(limit)

    def read_head(self) -> None:
        """Read to the end of a request's header, and as little as may be of its body."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = self._sock.recv(1)
            if not byte:
                raise ConnectionAbortedError("no whole header came")
            head += byte

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


class Receiver[R: Request]:
    """Serves a script on a port of this machine, a thread for each connection. A context manager."""

    def __init__(
        self,
        script: Script[R],
        *,
        request_type: type[R],
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        """Requests are kept as `request_type`. With a server's context for `tls` it speaks TLS."""
        self.script: Script[R] = script
        self._request_type = request_type
        self._changed = threading.Condition(threading.RLock())
        self._closing = threading.Event()
        self._requests: list[R] = []
        self._in_flight: Counter[str] = Counter()
        self._max_in_flight: Counter[str] = Counter()
        self._connections = 0
        self._failed_handshakes = 0
        self._ended = 0
        self._bytes_taken = 0
        self._open: set[socket.socket] = set()
        self._threads: set[threading.Thread] = set()
        self._tls = tls
        self._listener = socket.create_server((host, port), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, name="receiver", daemon=True)
        self._acceptor.start()

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        """Where it is, by `host`'s name for this machine."""
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}{path}"

    @property
    def requests(self) -> list[R]:
        """Those that came whole, in the order they did."""
        with self._changed:
            return list(self._requests)

    def requests_to(self, path: str) -> list[R]:
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
    def bytes_taken(self) -> int:
        """How much of what behaviours sent the other side took, give or take what sockets hold in between."""
        with self._changed:
            return self._bytes_taken

    @property
    def ended(self) -> int:
        """How many requests are over, with a response or not."""
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

    def wait_for_requests(self, count: int, timeout_seconds: float = 90) -> bool:
        """Wait until `count` requests, or more, are in."""
        return self.wait_for(lambda: len(self._requests) >= count, timeout_seconds)

    def forget(self) -> None:
        """Empty the record; numbers start at 0 again."""
        with self._changed:
            self._requests.clear()
            self._max_in_flight.clear()
            self._ended = 0

    def stop_listening(self) -> None:
        """Refuse new connections. Those that are open go on."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()

    def close(self) -> None:
        """End every connection and thread."""
        self._closing.set()
        self.stop_listening()
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
            # Small, so that what was sent is soon what the other side took.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _PIECE_BYTES)
            if self._acts_at(Stage.ACCEPTED, sock):
                return
            if self._tls:
                served = self._shake_hands(sock, self._tls)
            if self._acts_at(Stage.CONNECTED, served):
                return
            wire = Wire(served, self._closing, self._count_sent)
            received = b""
            stays = True
            while stays:
                parsed = _read_request(served, received)
                if parsed is None:
                    break
                head, body, received = parsed
                wire.requests += 1
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

    def _acts_at(self, stage: Stage, sock: socket.socket) -> bool:
        """Do the script if it begins at this stage, which is before there is a request to choose by."""
        script = self.script
        if not isinstance(script, Behaviour) or script.stage is not stage:
            return False
        script.act(Wire(sock, self._closing, self._count_sent))
        return True

    def _count_sent(self, sent: int) -> None:
        with self._changed:
            self._bytes_taken += sent

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

    def _record(self, connection: int, head: bytes, body: bytes) -> R:
        received_at = time.monotonic()
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        with self._changed:
            request = self._request_type(
                len(self._requests), connection, received_at, method, path, headers, body
            )
            self._requests.append(request)
            self._in_flight[path] += 1
            self._max_in_flight[path] = max(self._max_in_flight[path], self._in_flight[path])
            self._changed.notify_all()
        return request

    def _answer(self, wire: Wire, request: R) -> bool:
        try:
            return self._behaviour(request).act(wire) and request.headers.get("connection") != "close"
        finally:
            with self._changed:
                self._in_flight[request.path] -= 1
                self._ended += 1
                self._changed.notify_all()

    def _behaviour(self, request: R) -> Behaviour:
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
