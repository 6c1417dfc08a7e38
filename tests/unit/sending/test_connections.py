"""How a response is read from a connection, and which connections serve the next request.

Over real sockets: a test writes a response's bytes, and what comes of them is read as a POST reads them.
"""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from lms_webhooks.clocks import Clocks
from lms_webhooks.model.attempts import ErrorClass
from lms_webhooks.sending import connections
from lms_webhooks.sending.connections import ConnectionPool, HttpResponse, _Connection
from lms_webhooks.sending.sockets import Deadline, DeadlineSocket, Origin, TransportError
from tests.patience import PATIENCE_SECONDS

OK = b"HTTP/1.1 200 OK\r\n"
KIB = 1024
HERE = Origin("http", "example.com", 80)


@dataclass
class Peer:
    """The other end: what it sends, and whether it then closes."""

    kept: list[_Connection] = field(default_factory=list)
    sockets: list[socket.socket] = field(default_factory=list)
    is_over: threading.Event = field(default_factory=threading.Event)

    def answer(
        self, sent: bytes, *, closes: bool = False, seconds: float = 5, request: bytes = b""
    ) -> HttpResponse:
        """The response that begins with `sent`, as soon as its header is complete."""
        ours, theirs = socket.socketpair()
        self.sockets += [ours, theirs]

        def send() -> None:
            with suppress(OSError), theirs:  # what is refused is not read to its end
                theirs.sendall(sent)
                if closes:
                    theirs.shutdown(socket.SHUT_WR)
                elif request:
                    self.is_over.wait(PATIENCE_SECONDS)  # and takes none of the request
                else:
                    theirs.recv(1)  # until the test has seen enough

        threading.Thread(target=send, daemon=True).start()
        now = Clocks().now()
        connection = _Connection(HERE, DeadlineSocket(ours), now)
        pool = ConnectionPool(ssl.create_default_context(), loopback_allowed=True)
        pool._keep = self.kept.append  # type: ignore[method-assign, assignment]
        return pool._request_over(connection, request, Deadline(seconds), seconds)


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.is_over.set()
    for each in peer.sockets:
        each.close()


def all_of(exchange: HttpResponse) -> bytes:
    body = b""
    while piece := exchange.read(64 * KIB):
        body += piece
    return body


def is_refused(make: Callable[[], HttpResponse]) -> bool:
    try:
        make()
    except TransportError as failed:
        return failed.error_class is ErrorClass.INVALID_RESPONSE
    return False


# The body, and whether the connection is kept. Where a response ends is for test_response_reader.


def test_a_connection_is_kept_after_a_response_that_was_read(peer: Peer) -> None:
    response = peer.answer(OK + b"content-length: 5\r\n\r\nhello")
    assert response.status_code == 200
    assert response.headers == {"content-length": "5"}
    assert not response.is_complete
    assert all_of(response) == b"hello"
    assert response.is_complete
    response.close()
    response.close()  # once more is nothing
    assert len(peer.kept) == 1


def test_interim_responses_are_passed_over(peer: Peer) -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nx: early\r\n\r\n"
    assert peer.answer(interim + b"HTTP/1.1 422 No\r\n\r\n").status_code == 422


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 200 sloppy\n\n",
        OK + b"content-length: 1\r\n\r\nxy",
        OK + b"connection: close\r\ncontent-length: 0\r\n\r\n",
    ],
)
def test_a_connection_that_cannot_be_kept_is_closed(peer: Peer, sent: bytes) -> None:
    response = peer.answer(sent)
    all_of(response)
    response.close()
    assert peer.kept == []


def test_what_is_no_response_is_refused(peer: Peer) -> None:
    assert is_refused(lambda: peer.answer(b"garbage\r\n\r\n"))
    assert is_refused(lambda: peer.answer(b"HTTP/1.1 200 " + b"x" * (200 * KIB)))


def test_without_a_length_the_body_ends_with_the_connection(peer: Peer) -> None:
    response = peer.answer(OK + b"\r\nhello", closes=True)
    assert all_of(response) == b"hello"
    response.close()
    assert peer.kept == []


def test_a_body_that_breaks_off_is_what_came_and_ends_its_connection(peer: Peer) -> None:
    response = peer.answer(OK + b"content-length: 9\r\n\r\nhello", closes=True)
    assert all_of(response) == b"hello"
    response.close()
    assert peer.kept == []


def test_no_more_is_read_than_is_asked_for(peer: Peer) -> None:
    response = peer.answer(OK + b"content-length: 5\r\n\r\nhello")
    assert [response.read(2), response.read(2), response.read(2), response.read(2)] == [
        b"he",
        b"ll",
        b"o",
        b"",
    ]


def test_a_body_that_was_not_read_ends_its_connection(peer: Peer) -> None:
    response = peer.answer(OK + b"content-length: 5\r\n\r\nhello")
    assert response.read(4) == b"hell"
    response.close()
    assert peer.kept == []


def test_a_body_gets_no_more_time_than_it_is_given(peer: Peer) -> None:
    response = peer.answer(OK + b"content-length: 5\r\n\r\nhe", seconds=30)
    assert response.read(5) == b"he"
    started = time.monotonic()
    response.limit_body_seconds(0.05)
    assert response.read(5) == b""
    assert time.monotonic() - started < 5
    response.close()
    assert peer.kept == []


def test_a_response_that_never_comes_is_a_connection_that_was_lost(peer: Peer) -> None:
    for sent in (b"", b"HTTP/1.1 200", OK + b"x: y\r\n"):
        with pytest.raises(TransportError) as failed:
            peer.answer(sent, closes=True)
        assert failed.value.error_class is ErrorClass.CONNECTION_LOST


# A response that comes while its request is sent


@pytest.mark.parametrize("interim", [b"", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_a_response_ends_the_request_that_is_still_being_sent(peer: Peer, interim: bytes) -> None:
    response = peer.answer(interim + OK + b"content-length: 0\r\n\r\n", request=bytes(32 << 20))
    assert response.status_code == 200
    response.close()
    assert peer.kept == [], "the server would take the next request for the rest of this one"


def test_an_interim_response_does_not(peer: Peer) -> None:
    started = time.monotonic()
    with pytest.raises(TransportError) as failed:
        peer.answer(b"HTTP/1.1 100 Continue\r\n\r\n", request=bytes(32 << 20), seconds=0.3)
    assert failed.value.error_class is ErrorClass.TIMEOUT
    assert time.monotonic() - started < 5


def test_the_limits_are_those_that_the_module_names() -> None:
    assert (connections.MAX_IDLE_SECONDS, connections._MAX_IDLE, connections._STALE_SECONDS) == (50, 200, 1)
    assert connections.MAX_LIFE_SECONDS == 60


# Those that are idle


@pytest.fixture
def pool() -> Iterator[ConnectionPool]:
    pool = ConnectionPool(
        ssl.create_default_context(),
        loopback_allowed=True,
        clocks=Clocks(wall=lambda: NOW["wall"], monotonic=lambda: NOW["monotonic"]),
    )
    NOW.update(wall=1000.0, monotonic=1000.0)
    yield pool
    pool.close()


NOW = {"wall": 1000.0, "monotonic": 1000.0}
"""What the pool's clocks say."""


def idle(pool: ConnectionPool, peer: Peer, *, host: str = "example.com") -> _Connection:
    """One more that is idle."""
    ours, theirs = socket.socketpair()
    peer.sockets += [ours, theirs]
    now = pool._clocks.now()
    connection = _Connection(Origin("http", host, 80), DeadlineSocket(ours), now)
    pool._keep(connection)
    return connection


def test_the_one_that_was_used_last_is_used_next(pool: ConnectionPool, peer: Peer) -> None:
    first, second = idle(pool, peer), idle(pool, peer)
    assert [pool._take_idle(HERE), pool._take_idle(HERE), pool._take_idle(HERE)] == [second, first, None]


def test_each_origin_has_its_own(pool: ConnectionPool, peer: Peer) -> None:
    idle(pool, peer, host="other.example.com")
    assert pool._take_idle(HERE) is None


@pytest.mark.parametrize(("seconds", "is_used"), [(50.0, True), (50.1, False)])
@pytest.mark.parametrize("clock", ["monotonic", "wall"])
def test_one_that_is_idle_for_fifty_seconds_is_not_used_again(
    pool: ConnectionPool, peer: Peer, clock: str, seconds: float, is_used: bool
) -> None:
    """The clock that says more counts: where Lambda freezes a process, one of them may stand still too."""
    connection = idle(pool, peer)
    NOW[clock] += seconds
    assert pool._take_idle(HERE) is (connection if is_used else None)


def test_one_in_steady_use_is_left_after_a_minute(pool: ConnectionPool, peer: Peer) -> None:
    """Its name may lead elsewhere by now, and only a new connection resolves it."""
    connection = idle(pool, peer)
    for _ in range(6):
        NOW["wall"] += 10
        NOW["monotonic"] += 10
        assert pool._take_idle(HERE) is connection
        pool._keep(connection)
    NOW["monotonic"] += 0.1
    assert pool._take_idle(HERE) is None


def test_what_came_while_it_was_idle_ends_it(pool: ConnectionPool, peer: Peer) -> None:
    idle(pool, peer)
    peer.sockets[-1].sendall(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    assert pool._take_idle(HERE) is None


def test_two_hundred_are_kept_and_the_oldest_makes_room(pool: ConnectionPool, peer: Peer) -> None:
    made = [idle(pool, peer, host=f"h{number}.example.com") for number in range(201)]
    assert pool._take_idle(Origin("http", "h0.example.com", 80)) is None
    assert made[0]._socket._sock.fileno() == -1  # type: ignore[union-attr]  # no TLS here
    assert pool._take_idle(Origin("http", "h1.example.com", 80)) is made[1]
    assert pool._take_idle(Origin("http", "h200.example.com", 80)) is made[200]
    pool._keep(made[1])
    pool._keep(made[200])  # two were taken, so that none has to go
    assert pool._take_idle(Origin("http", "h2.example.com", 80)) is made[2]


def test_closing_closes_each_that_is_idle(pool: ConnectionPool, peer: Peer) -> None:
    made = idle(pool, peer)
    pool.close()
    assert made._socket._sock.fileno() == -1  # type: ignore[union-attr]
    assert pool._take_idle(HERE) is None
