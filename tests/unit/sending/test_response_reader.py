"""What one response is, where it ends, and whether its connection may carry the next request.

Each response is read whole and byte by byte: both must come to the same.
"""

import gc
import time
from collections.abc import Sequence
from contextlib import suppress

import pytest

from lms_webhooks.sending.response_reader import (
    MAX_FRAMING_BYTES,
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    MAX_LINE_BYTES,
    InvalidResponse,
    ResponseReader,
)

KIB = 1024
OK = b"HTTP/1.1 200 OK\r\n"
EMPTY = b"content-length: 0\r\n\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"


def fed(pieces: Sequence[bytes], *, ends: bool = False) -> ResponseReader:
    """A reader that read these pieces."""
    reader = ResponseReader()
    for piece in pieces:
        reader.feed(piece)
    if ends:
        reader.end()
    return reader


def read(sent: bytes, *, ends: bool = False) -> ResponseReader:
    """What was read, which is the same for one piece and for many."""
    whole, trickled = fed([sent], ends=ends), fed(in_pieces(sent), ends=ends)
    assert whole.status_code == trickled.status_code
    assert whole.headers == trickled.headers
    assert whole.body == trickled.body
    assert whole.is_complete == trickled.is_complete
    assert whole.is_reusable == trickled.is_reusable
    return whole


def single_bytes(sent: bytes) -> list[bytes]:
    return [sent[at : at + 1] for at in range(len(sent))]


def in_pieces(sent: bytes) -> list[bytes]:
    """Byte by byte, or what is large in pieces that end anywhere."""
    return single_bytes(sent) if len(sent) < KIB else [sent[at : at + 997] for at in range(0, len(sent), 997)]


def is_refused(sent: bytes) -> bool:
    refusals = 0
    for pieces in ([sent], in_pieces(sent)):
        try:
            fed(pieces)
        except InvalidResponse:
            refusals += 1
    assert refusals in {0, 2}
    return refusals == 2


# Status and headers


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"HTTP/1.1 200 OK", 200),
        (b"HTTP/1.1 204", 204),
        (b"HTTP/1.1 204 ", 204),
        (b"HTTP/1.0 503 Service Unavailable", 503),
        (b"HTTP/1.1 999 ?", 999),
        (b"HTTP/1.1 404 \xff\xfe", 404),
        (b"HTTP/1.7 410 Gone", 410),
    ],
)
@pytest.mark.parametrize("ending", [b"\r\n", b"\n"])
def test_a_status_counts(line: bytes, status: int, ending: bytes) -> None:
    assert read(line + ending + ending).status_code == status


@pytest.mark.parametrize(
    "line",
    [
        b"HTTP/2 200 OK",
        b"HTTP/2.0 200 OK",
        b"HTTP/0.9 200 OK",
        b"HTTP/1.1 0200 OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 099 OK",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1 200OK",
        b"HTTP/1.1\t200 OK",
        b"HTTP/1.1 200\tOK",
        b"HTTP/1.1 200\rOK",
        b"HTTP/1.10 200 OK",
        b"http/1.1 200 OK",
        b" HTTP/1.1 200 OK",
        b"RTSP/1.0 200 OK",
        b"ICE/1.0 200 OK",
        b"HTTP/1.1 101 Switching Protocols",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c",
        b"\r\nHTTP/1.1 200 OK",
    ],
)
@pytest.mark.parametrize("ending", [b"\r\n", b"\n"])
def test_what_is_no_status_is_refused(line: bytes, ending: bytes) -> None:
    assert is_refused(line + ending + ending)


def test_another_protocol_is_refused_at_its_first_line() -> None:
    for sent in (b"220 mail.example ESMTP\r\n", b"SSH-2.0-OpenSSH_9.6\n"):
        assert is_refused(sent)


def test_nothing_counts_before_the_header_is_complete() -> None:
    for sent in (OK + EMPTY, b"HTTP/1.1 429 Slow\nretry-after: 9\n\n"):
        for end in range(1, len(sent)):
            reader = fed([sent[:end]])
            assert (reader.status_code, reader.is_complete, reader.is_reusable) == (0, False, False)


def test_headers_are_known_by_their_lower_case_name() -> None:
    reader = read(OK + b"Retry-After:  120 \r\nX-Two: a\r\nx-two:b\r\nEmpty:\r\nu: caf\xe9\r\n\r\n")
    assert reader.headers == {"retry-after": "120", "x-two": "a, b", "empty": "", "u": "café"}


def test_lines_that_are_no_header_are_passed_over() -> None:
    """A folded line, one without a colon, one without a name."""
    reader = read(OK + b"a: 1\r\n folded: 2\r\nnothing\r\n: 3\r\nb : 4\r\nc: 5\r\n\r\n")
    assert reader.headers == {"a": "1", "c": "5"}
    assert not reader.is_reusable


@pytest.mark.parametrize("status", [b"200", b"429", b"503"])
def test_what_is_badly_said_counts_by_its_status_and_has_no_body(status: bytes) -> None:
    reader = read(b"HTTP/1.1 " + status + b" X\nretry-after: 120\nno colon\n\nbody")
    assert (reader.status_code, reader.headers["retry-after"]) == (int(status), "120")
    assert (bytes(reader.body), reader.is_complete, reader.is_reusable) == (b"", True, False)


# Interim responses


def test_interim_responses_are_passed_over_with_their_headers() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nx: early\r\n\r\n"
    reader = read(interim + b"HTTP/1.1 422 No\r\ncontent-length: 2\r\n\r\nno")
    assert (reader.status_code, reader.headers) == (422, {"content-length": "2"})
    assert (bytes(reader.body), reader.is_reusable) == (b"no", True)


@pytest.mark.parametrize(
    "interim",
    [
        b"HTTP/1.1 103 Hints\nx: y\n\n",
        b"HTTP/1.1 100 Continue\r\ncontent-length: 3\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\nconnection: close\r\n\r\n",
        b"HTTP/1.0 100 Continue\r\n\r\n",
    ],
)
def test_after_an_interim_response_that_is_odd_the_connection_is_not_kept(interim: bytes) -> None:
    reader = read(interim * 2 + b"HTTP/1.1 201 Created\r\n" + EMPTY)
    assert (reader.status_code, reader.is_complete, reader.is_reusable) == (201, True, False)


# Where a response ends, and whether its connection is kept


@pytest.mark.parametrize(
    ("story", "sent", "body", "is_kept"),
    [
        ("a length", OK + b"content-length: 5\r\n\r\nhello", b"hello", True),
        ("no body", OK + EMPTY, b"", True),
        ("the server closes", OK + b"connection: close\r\ncontent-length: 5\r\n\r\nhello", b"hello", False),
        ("it closes, among others", OK + b"connection: x, Close\r\n" + EMPTY, b"", False),
        ("chunks", CHUNKED + b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", b"hello world", True),
        ("chunks with trailers", CHUNKED + b"5\r\nhello\r\n0\r\nx: y\r\n\r\n", b"hello", True),
        ("chunks with extensions", CHUNKED + b"5;a=b\r\nhello\r\n000\r\n\r\n", b"hello", True),
        ("chunks in capitals", OK + b"Transfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n", b"", True),
        ("no chunk", CHUNKED + b"0\r\n\r\n", b"", True),
        ("HTTP/1.0", b"HTTP/1.0 200 OK\r\n" + EMPTY, b"", False),
        ("HTTP/1.0, keeps", b"HTTP/1.0 200 OK\r\nconnection: Keep-Alive\r\n" + EMPTY, b"", True),
        ("offers h2c", OK + b"connection: upgrade\r\nupgrade: h2c\r\n" + EMPTY, b"", True),
        ("204", b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
        ("304", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 0\r\n\r\n", b"", True),
        ("204 that announces a body", b"HTTP/1.1 204 X\r\ncontent-length: 5\r\n\r\n", b"", False),
        ("304 that announces chunks", b"HTTP/1.1 304 X\r\ntransfer-encoding: chunked\r\n\r\n", b"", False),
        ("more than its length", OK + b"content-length: 5\r\n\r\nhello!", b"hello", False),
        ("a second response", (OK + EMPTY) * 2, b"", False),
        ("a response after chunks", CHUNKED + b"0\r\n\r\n" + OK + EMPTY, b"", False),
        ("a line break", OK + EMPTY + b"\r\n", b"", False),
        ("half a line break", OK + EMPTY + b"\r", b"", False),
        ("line breaks after a body", OK + b"content-length: 1\r\n\r\nx\r\n\r\n", b"x", False),
        ("a line break after chunks", CHUNKED + b"0\r\n\r\n\r\n", b"", False),
        ("a line feed after chunks", CHUNKED + b"0\r\n\r\n\n", b"", False),
        ("line breaks after chunks", CHUNKED + b"0\r\n\r\n\r\n\r\n", b"", False),
        ("a chunk too long", CHUNKED + b"5\r\nhelloX\r\n0\r\n\r\n", b"hello", False),
        ("a chunk of no size", CHUNKED + b"5\r\nhello\r\nx\r\n\r\n", b"hello", False),
        ("a chunk of negative size", CHUNKED + b"5\r\nhello\r\n-1\r\n\r\n", b"hello", False),
        ("a chunk of 16 EiB", CHUNKED + b"5\r\nhello\r\n10000000000000000\r\nx", b"hello", False),
        ("chunks with line feeds", CHUNKED + b"5\nhello\n0\n\n", b"", False),
        ("gzip and a length", OK + b"transfer-encoding: gzip\r\n" + EMPTY, b"", False),
        ("a length and chunks", OK + b"transfer-encoding: chunked\r\n" + EMPTY, b"", False),
        ("folded chunks", OK + b"transfer-encoding:\r\n chunked\r\n" + EMPTY, b"", False),
        ("spaced chunks", OK + b"transfer-encoding : chunked\r\n" + EMPTY, b"", False),
        (
            "chunks in HTTP/1.0",
            b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            b"",
            False,
        ),
        ("a bare CR", OK + b"x: a\rb\r\n" + EMPTY, b"", False),
        ("a NUL in the reason", b"HTTP/1.1 200 \0OK\r\n" + EMPTY, b"", False),
        ("a CR in the reason", b"HTTP/1.1 200 O\rK\r\n" + EMPTY, b"", False),
        ("a NUL", OK + b"x: a\0b\r\n" + EMPTY, b"", False),
        ("a Unicode blank", OK + b"content-length: \xa00\r\n\r\n", b"", False),
        ("the same length twice", OK + b"content-length: 0\r\n" + EMPTY, b"", False),
        ("two lengths", OK + b"content-length: 5\r\n" + EMPTY, b"", False),
        ("no-keep-alive", b"HTTP/1.0 200 OK\r\nconnection: no-keep-alive\r\n" + EMPTY, b"", False),
    ],
)
def test_a_connection_is_kept_only_where_all_read_the_same_end(
    story: str, sent: bytes, body: bytes, is_kept: bool
) -> None:
    reader = read(sent)
    assert reader.is_complete, story
    assert reader.body == body, story
    assert reader.is_reusable is is_kept, story


@pytest.mark.parametrize("length", [b"five", b"3, x", b"-5", b"+5", b"5.0", b"\xb2", b"1" * 30, b"5, 5", b""])
def test_a_length_that_is_no_number_ends_the_response_with_its_header(length: bytes) -> None:
    reader = read(OK + b"content-length: " + length + b"\r\n\r\nhello")
    assert (reader.status_code, bytes(reader.body), reader.is_complete) == (200, b"", True)
    assert not reader.is_reusable


@pytest.mark.parametrize("extra", [b"\r", b"\n", b"x", b"HTTP/1.1 200 OK\r\n"])
def test_what_comes_after_the_end_in_a_piece_of_its_own_ends_the_connection(extra: bytes) -> None:
    for sent in (OK + b"content-length: 2\r\n\r\nhi", CHUNKED + b"2\r\nhi\r\n0\r\n\r\n"):
        reader = fed([sent, extra])
        assert (bytes(reader.body), reader.is_complete, reader.is_reusable) == (b"hi", True, False)


@pytest.mark.parametrize("sent", [OK + b"\r\nhello", OK + b"transfer-encoding: gzip\r\n\r\nhello"])
def test_without_a_length_the_body_ends_with_the_connection(sent: bytes) -> None:
    assert not read(sent).is_complete
    reader = read(sent, ends=True)
    assert (bytes(reader.body), reader.is_complete, reader.is_reusable) == (b"hello", True, False)


@pytest.mark.parametrize("sent", [OK + b"content-length: 9\r\n\r\nhello", CHUNKED + b"9\r\nhello"])
def test_a_body_that_breaks_off_is_what_came_and_ends_its_connection(sent: bytes) -> None:
    assert not read(sent).is_reusable
    reader = read(sent, ends=True)
    assert (bytes(reader.body), reader.is_complete, reader.is_reusable) == (b"hello", True, False)


def test_the_end_of_a_connection_that_could_be_kept_ends_it() -> None:
    assert read(OK + EMPTY).is_reusable
    assert not read(OK + EMPTY, ends=True).is_reusable


# Bounds


@pytest.mark.parametrize(("headers", "refused"), [(MAX_HEADERS, False), (MAX_HEADERS + 1, True)])
@pytest.mark.parametrize("ending", [b"\r\n", b"\n"])
def test_a_response_has_a_hundred_headers_at_most(headers: int, refused: bool, ending: bytes) -> None:
    lines = b"".join(b"x-%d: y" % number + ending for number in range(headers))
    assert is_refused(OK + lines + ending) is refused


@pytest.mark.parametrize(("line_bytes", "refused"), [(MAX_LINE_BYTES, False), (MAX_LINE_BYTES + 1, True)])
@pytest.mark.parametrize("ending", [b"\r\n", b"\n"])
def test_a_line_has_64_kib_at_most(line_bytes: int, refused: bool, ending: bytes) -> None:
    value = b"v" * (line_bytes - len(b"x: ") - len(ending) + 1)  # with the CR, without the LF
    assert is_refused(OK + b"x: " + value + ending + b"y: z" + ending + ending) is refused


@pytest.mark.parametrize("start", [b"HTTP/1.1 200 ", b"HTTP/1.1 200 \0", OK + b"x: ", OK + b"x: \0", b""])
def test_a_line_that_never_ends_is_refused_early(start: bytes) -> None:
    assert not is_refused(start + b"x" * (MAX_LINE_BYTES - len(b"HTTP/1.1 200 \0")))
    assert is_refused(start + b"x" * (MAX_LINE_BYTES + 1))


@pytest.mark.parametrize(("beyond", "refused"), [(0, False), (1, True)])
@pytest.mark.parametrize("sloppy", [b"", b"no colon\r\n"])
def test_all_headers_have_256_kib_at_most(beyond: int, refused: bool, sloppy: bytes) -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nlink: " + b"v" * (60 * KIB) + b"\r\n\r\n"
    start = interim * 4 + OK + sloppy
    last = b"x: " + b"v" * (MAX_HEADER_BYTES - len(start) - len(b"x: \r\n\r\n") + beyond) + b"\r\n\r\n"
    assert is_refused(start + last) is refused


def test_interim_responses_without_end_are_refused() -> None:
    for interim in (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\n\n"):
        with pytest.raises(InvalidResponse):
            fed([interim * 1000] * (1 + MAX_HEADER_BYTES // len(interim * 1000)))


@pytest.mark.parametrize(
    "line", [b"1;" + b"x" * 1000 + b"\r\nz\r\n", b"1\r\nz\r\n" * 100, b"0\r\n" + b"x: y\r\n" * 100]
)
def test_what_stands_between_pieces_of_a_body_is_bounded(line: bytes) -> None:
    reader = fed([CHUNKED])
    pieces = 0
    while not reader.is_complete:
        reader.feed(line if pieces == 0 or not line.startswith(b"0") else line[3:])
        pieces += 1
        assert pieces <= 2 * MAX_FRAMING_BYTES // (len(line) - line.count(b"z")) + 2
    assert not reader.is_reusable
    assert set(reader.body) <= {ord("z")}


def test_the_bounds_are_these() -> None:
    assert (MAX_LINE_BYTES, MAX_HEADERS, MAX_HEADER_BYTES) == (65_536, 100, 262_144)
    assert MAX_FRAMING_BYTES == 262_144


@pytest.mark.parametrize(
    ("start", "unit", "end"),
    [
        (OK, b"x: y" + b"z" * 1000 + b"\r\n", EMPTY),
        (OK + b"no colon\r\n", b"x: y" + b"z" * 1000 + b"\r\n", EMPTY),
        (OK + b"x: ", b"v" * 1000, b"\r\n\r\n"),
        (OK + b"no colon\r\nx: ", b"v" * 1000, b"\r\n\r\n"),
        (b"", b"HTTP/1.1 100 C\r\nx: " + b"z" * 1000 + b"\r\n\r\n", OK + EMPTY),
        (b"", b"HTTP/1.1 100 C\nx: " + b"z" * 1000 + b"\n\n", OK + EMPTY),
        (CHUNKED + b"1;x=", b"y" * 1000, b"\r\nz\r\n0\r\n\r\n"),
        (CHUNKED + b"0\r\nx: ", b"y" * 1000, b"\r\n\r\n"),
        (OK + b"content-length: 9999999\r\n\r\n", b"y" * 1000, b""),
    ],
)
def test_bytes_that_come_one_by_one_cost_the_same_each(start: bytes, unit: bytes, end: bytes) -> None:
    def seconds(count: int) -> float:
        pieces = single_bytes(start + unit * count + end)
        started = time.process_time()
        fed(pieces)
        return time.process_time() - started

    # Sixteen times for four times as many, if each looked at all that came before.
    assert min(seconds(40) for _ in range(3)) < 10 * min(seconds(10) for _ in range(3))


# What is left behind


@pytest.mark.parametrize(
    "sent",
    [
        OK + EMPTY,
        CHUNKED + b"1\r\nx\r\n0\r\n\r\n",
        CHUNKED + b"x",
        OK + b"content-length: 5\r\n\r\nhalf",
        b"HTTP/1.1 100 Continue\r\ncontent-length: 5\r\n\r\n" + OK + EMPTY,
        (OK + EMPTY) * 2,
        b"HTTP/1.1 200 sloppy\n\n",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200",
    ],
)
def test_a_response_leaves_nothing_to_the_garbage_collector(sent: bytes) -> None:
    def read_and_close() -> None:
        reader = ResponseReader()
        with suppress(InvalidResponse):
            reader.feed(sent)
        reader.close()

    read_and_close()
    gc.collect()
    gc.disable()
    try:
        for _ in range(100):
            read_and_close()
        assert gc.collect() == 0
    finally:
        gc.enable()
