"""What is read of a response, where it ends, and whether its connection serves the next request.

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

OK = b"HTTP/1.1 200 OK\r\n"
KIB = 1024
HERE = Origin("http", "example.com", 80)


@dataclass
class Peer:
    """The other end: what it sends, and whether it then closes."""

    kept: list[_Connection] = field(default_factory=list)
    sockets: list[socket.socket] = field(default_factory=list)

    def answer(self, sent: bytes, *, closes: bool = False, seconds: float = 5) -> HttpResponse:
        """The response that begins with `sent`, as soon as its header is complete."""
        ours, theirs = socket.socketpair()
        self.sockets += [ours, theirs]

        def send() -> None:
            with suppress(OSError), theirs:  # what is refused is not read to its end
                theirs.sendall(sent)
                if closes:
                    theirs.shutdown(socket.SHUT_WR)
                else:
                    theirs.recv(1)  # until the test has seen enough

        threading.Thread(target=send, daemon=True).start()
        connection = _Connection(HERE, DeadlineSocket(ours), Clocks().now())
        return HttpResponse(connection, Deadline(seconds), on_reusable=self.kept.append)


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
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


# Limits


@pytest.mark.parametrize(("headers", "refused"), [(100, False), (101, True)])
def test_an_answer_has_a_hundred_headers_at_most(peer: Peer, headers: int, refused: bool) -> None:
    lines = b"".join(b"x-%d: y\r\n" % number for number in range(headers))
    assert is_refused(lambda: peer.answer(OK + lines + b"\r\n")) is refused


@pytest.mark.parametrize(("line_bytes", "refused"), [(64 * KIB, False), (64 * KIB + 1, True)])
@pytest.mark.parametrize("ending", [b"\r\n", b"\n"])
def test_a_line_of_an_answer_has_64_kib_at_most(
    peer: Peer, line_bytes: int, refused: bool, ending: bytes
) -> None:
    value = b"v" * (line_bytes - len(b"x: ") - len(ending) + 1)  # with the CR, without the LF
    assert is_refused(lambda: peer.answer(OK + b"x: " + value + ending + ending)) is refused


def test_a_line_that_never_ends_is_not_read_for_ever(peer: Peer) -> None:
    assert is_refused(lambda: peer.answer(b"HTTP/1.1 200 " + b"x" * (200 * KIB)))


@pytest.mark.parametrize(("beyond", "refused"), [(0, False), (1, True)])
def test_all_lines_of_an_answer_have_256_kib_at_most(peer: Peer, beyond: int, refused: bool) -> None:
    """Each without its LF. Those of interim responses and of chunks count too."""
    long = b"x: " + b"v" * (64 * KIB - 4) + b"\r"
    assert len(long) == 64 * KIB
    rest = 64 * KIB - len(OK) + 1 - 1  # the status line, and the CR of the empty line
    last = b"y: " + b"v" * (rest - 4 + beyond) + b"\r"
    answer = OK + b"\n".join([long, long, long, last]) + b"\n\r\n"
    assert is_refused(lambda: peer.answer(answer)) is refused


def test_lines_of_interim_answers_count(peer: Peer) -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nlink: " + b"v" * (60 * KIB) + b"\r\n\r\n"
    assert not is_refused(lambda: peer.answer(interim * 4 + OK + b"\r\n"))
    assert is_refused(lambda: peer.answer(interim * 5 + OK + b"\r\n"))


def test_the_limits_are_those_that_the_module_names() -> None:
    named = (connections.MAX_LINE_BYTES, connections._MAX_HEADERS, connections._MAX_LINES_BYTES)
    assert named == (65_536, 100, 262_144)
    assert (connections.MAX_IDLE_SECONDS, connections._MAX_IDLE, connections._STALE_SECONDS) == (50, 200, 1)
    assert connections.MAX_LIFE_SECONDS == 60


# Status and headers


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"HTTP/1.1 200 OK", 200),
        (b"HTTP/1.1 204", 204),
        (b"HTTP/1.0 503 Service Unavailable", 503),
        (b"HTTP/1.1 999 ?", 999),
        (b"HTTP/1.1 404 \xff\xfe", 404),
    ],
)
def test_a_status_is_read(peer: Peer, line: bytes, status: int) -> None:
    assert peer.answer(line + b"\r\ncontent-length: 0\r\n\r\n").status_code == status


@pytest.mark.parametrize(
    "line",
    [
        b"HTTP/2 200 OK",
        b"HTTP/1.1 0200 OK",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 099 OK",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1 200OK",
        b"http/1.1 200 OK",
        b" HTTP/1.1 200 OK",
        b"HTTP/1.1 101 Switching Protocols",
        b"",
    ],
)
def test_what_is_no_status_is_refused(peer: Peer, line: bytes) -> None:
    assert is_refused(lambda: peer.answer(line + b"\r\n\r\n"))


def test_interim_answers_are_passed_over_with_their_headers(peer: Peer) -> None:
    answer = peer.answer(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nx: early\r\n\r\nHTTP/1.1 422 No\r\n\r\n",
        closes=True,
    )
    assert (answer.status_code, answer.headers) == (422, {})


def test_headers_are_known_by_their_lower_case_name(peer: Peer) -> None:
    answer = peer.answer(
        OK + b"Retry-After:  120 \r\nX-Two: a\r\nx-two:b\r\nEmpty:\r\nu: caf\xe9\r\n\r\n", closes=True
    )
    assert answer.headers == {"retry-after": "120", "x-two": "a, b", "empty": "", "u": "café"}


def test_lines_that_are_no_header_are_passed_over(peer: Peer) -> None:
    """A folded line, one without a colon, one without a name."""
    answer = peer.answer(OK + b"a: 1\r\n folded: 2\r\nnothing\r\n: 3\r\nb : 4\r\nc: 5\r\n\r\n", closes=True)
    assert answer.headers == {"a": "1", "c": "5"}


# Where the body ends, and whether the connection is kept


@pytest.mark.parametrize(
    ("story", "head", "body", "is_kept"),
    [
        ("a length", b"content-length: 5\r\n", b"hello", True),
        ("no body", b"content-length: 0\r\n", b"", True),
        ("the same length twice", b"content-length: 5\r\ncontent-length: 5\r\n", b"hello", True),
        ("the server closes", b"connection: close\r\ncontent-length: 5\r\n", b"hello", False),
        ("in capitals, among others", b"connection: x, Close\r\ncontent-length: 5\r\n", b"hello", False),
        ("chunks", b"transfer-encoding: chunked\r\n", b"5\r\nhello\r\n0\r\n\r\n", True),
        ("chunks in capitals", b"transfer-encoding: gzip, CHUNKED\r\n", b"5\r\nhello\r\n0\r\n\r\n", True),
        ("chunks count and not the length", b"content-length: 9\r\ntransfer-encoding: chunked\r\n",
         b"5\r\nhello\r\n0\r\n\r\n", True),
        ("more than its length", b"content-length: 5\r\n", b"hello!", False),
    ],
)  # fmt: skip
def test_a_connection_is_kept_where_the_answer_ends_as_it_says(
    peer: Peer, story: str, head: bytes, body: bytes, is_kept: bool
) -> None:
    answer = peer.answer(OK + head + b"\r\n" + body)
    expected = b"" if story == "no body" else b"hello"
    assert all_of(answer) == expected, story
    assert answer.is_complete, story
    answer.close()
    answer.close()  # once more is nothing
    assert len(peer.kept) == int(is_kept), story


@pytest.mark.parametrize(
    ("version", "connection", "is_kept"),
    [
        (b"1.0", b"", False),
        (b"1.0", b"connection: Keep-Alive\r\n", True),
        (b"1.1", b"connection: keep-alive\r\n", True),
        (b"1.1", b"", True),
        (b"1.1", b"connection: close\r\n", False),
    ],
)
def test_http_1_0_keeps_a_connection_only_if_it_says_so(
    peer: Peer, version: bytes, connection: bytes, is_kept: bool
) -> None:
    answer = peer.answer(b"HTTP/" + version + b" 200 OK\r\n" + connection + b"content-length: 0\r\n\r\n")
    answer.close()
    assert len(peer.kept) == int(is_kept)


@pytest.mark.parametrize(
    ("status", "head", "is_kept"),
    [
        (204, b"", True),
        (304, b"content-length: 0\r\n", True),
        (204, b"content-length: 5\r\n", False),
        (304, b"transfer-encoding: chunked\r\n", False),
    ],
)
def test_an_answer_that_has_no_body_has_none_whatever_it_announces(
    peer: Peer, status: int, head: bytes, is_kept: bool
) -> None:
    """What it announces may still come, and would be taken for the next response."""
    answer = peer.answer(b"HTTP/1.1 %d X\r\n" % status + head + b"\r\n")
    assert (answer.is_complete, answer.read(10)) == (True, b"")
    answer.close()
    assert len(peer.kept) == int(is_kept)


def test_without_a_length_the_body_ends_with_the_connection(peer: Peer) -> None:
    answer = peer.answer(OK + b"\r\nhello", closes=True)
    assert not answer.is_complete
    assert all_of(answer) == b"hello"
    answer.close()
    assert peer.kept == []


@pytest.mark.parametrize("length", [b"five", b"3, x", b"-5", b"+5", b"5.0", b"\xb2", b"1" * 19])
def test_a_length_that_is_no_number_says_nothing(peer: Peer, length: bytes) -> None:
    answer = peer.answer(OK + b"content-length: " + length + b"\r\n\r\nhello", closes=True)
    assert all_of(answer) == b"hello"


def test_two_lengths_that_differ_are_no_answer(peer: Peer) -> None:
    assert is_refused(lambda: peer.answer(OK + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello"))


@pytest.mark.parametrize(
    "sent", [b"content-length: 9\r\n\r\nhello", b"transfer-encoding: chunked\r\n\r\n9\r\nhello"]
)
def test_a_body_that_breaks_off_is_what_came_and_ends_its_connection(peer: Peer, sent: bytes) -> None:
    answer = peer.answer(OK + sent, closes=True)
    assert all_of(answer) == b"hello"
    answer.close()
    assert peer.kept == []


@pytest.mark.parametrize(
    ("chunks", "body", "is_kept"),
    [
        (b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", b"hello world", True),
        (b"A;name=value\r\nhello worl\r\n1 \t\r\nd\r\n000\r\n\r\n", b"hello world", True),
        (b"b\r\nhello world\r\n0\r\nx-trailer: 1\r\n\r\n", b"hello world", True),
        (b"5\nhello\n0\n\n", b"hello", True),
        (b"5\r\nhelloX\r\n0\r\n\r\n", b"hello", False),
        (b"5\r\nhello\r\nx\r\n\r\n", b"hello", False),
        (b"5\r\nhello\r\n-1\r\n\r\n", b"hello", False),
        (b"5\r\nhello\r\n" + b"0" * 15 + b"5\r\nworld\r\n0\r\n\r\n", b"hello", False),
    ],
)
def test_chunks(peer: Peer, chunks: bytes, body: bytes, is_kept: bool) -> None:
    answer = peer.answer(OK + b"transfer-encoding: chunked\r\n\r\n" + chunks)
    assert all_of(answer) == body
    answer.close()
    assert len(peer.kept) == int(is_kept)


def test_no_more_is_read_than_is_asked_for(peer: Peer) -> None:
    answer = peer.answer(OK + b"content-length: 5\r\n\r\nhello")
    assert [answer.read(2), answer.read(2), answer.read(2), answer.read(2)] == [b"he", b"ll", b"o", b""]


def test_a_body_that_was_not_read_ends_its_connection(peer: Peer) -> None:
    answer = peer.answer(OK + b"content-length: 5\r\n\r\nhello")
    answer.close()
    assert peer.kept == []


def test_a_body_gets_no_more_time_than_it_is_given(peer: Peer) -> None:
    answer = peer.answer(OK + b"content-length: 5\r\n\r\nhe", seconds=30)
    assert answer.read(5) == b"he"
    started = time.monotonic()
    answer.limit_body_seconds(0.05)
    assert answer.read(5) == b""
    assert time.monotonic() - started < 5
    answer.close()
    assert peer.kept == []


def test_an_answer_that_never_comes_is_a_connection_that_was_lost(peer: Peer) -> None:
    for sent in (b"", b"HTTP/1.1 200", OK + b"x: y\r\n"):
        with pytest.raises(TransportError) as failed:
            peer.answer(sent, closes=True)
        assert failed.value.error_class is ErrorClass.CONNECTION_LOST


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
    connection = _Connection(Origin("http", host, 80), DeadlineSocket(ours), pool._clocks.now())
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
