"""The table: what a receiver does, and what a sender of webhooks must make of it.

Each row stands on its own. What it expects is what follows from three rules:

- A complete header of a 2xx within the deadline acknowledges. Whatever its body does, the event was taken.
- Anything else is no acknowledgement: of no response, a broken one, or another status, none may be lost.
- A sender that serves many receivers gives none of them more time or memory than it means to.
"""

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from tests.conformance import behaviours as does
from tests.conformance.behaviours import answer
from tests.conformance.certificates import Tls
from tests.conformance.receiver import Behaviour, Stage

DEADLINE_SECONDS = 0.5
"""What a sender gets where the receiver never comes to an end."""
LONG_SECONDS = 20.0
"""What it gets where the receiver does: a busy machine must not turn a response into a time-out."""
MARGIN_SECONDS = 5.0
"""How much later than its deadline a sender may return; a busy machine again."""

MAX_TAKEN_BYTES = 2 << 20  # of an answer without end; more than sockets hold between two processes
MAX_MEMORY_BYTES = 8 << 20  # while a body of 64 MiB or more is at hand
BOTH = ("http", "https")


class Verdict(StrEnum):
    """What a sender must make of an attempt."""

    DELIVERED = "delivered"
    GONE = "gone"  # the receiver wants no more: stop
    ENDPOINT = "endpoint"  # the endpoint fails: try again later, all its events wait
    EVENT = "event"  # it rejects this one event: the others may go on


class Fault(StrEnum):
    """Why there was no response. A sender need not tell them apart; one that does is held to it."""

    CONNECT = "connect"
    TLS = "tls"
    TIMEOUT = "timeout"
    LOST = "connection-lost"
    INVALID = "invalid-response"


@dataclass(frozen=True)
class Outcome:
    """One thing that a sender may make of a row."""

    verdict: Verdict
    status_code: int | None = None
    fault: Fault | None = None
    wait_seconds: tuple[float, float] | None = None
    """Where the receiver named a time: the least and the most that a sender may read from it."""


@dataclass(frozen=True)
class Row:
    """What a receiver does, and what may come of it.

    The first of `outcomes` is the best; the others are defensible too. Where `is_race` they are equal:
    chance decides which it is.
    """

    behaviour: Behaviour
    outcomes: tuple[Outcome, ...]
    why: str = ""
    over: tuple[str, ...] = BOTH
    tls: Tls = Tls.GOOD
    listens: bool = True
    before: Behaviour | None = None
    """Serves an earlier POST, which leaves a connection behind."""
    after: Behaviour | None = None
    """Serves whatever else the sender asks for during this POST."""
    reuses: bool | None = None
    """Whether the POST must come over the connection of the earlier one; None: as the sender likes."""
    requests: tuple[int, ...] = (1,)
    """How many whole requests may come, the earlier POST's not counted."""
    deadline_seconds: float = LONG_SECONDS
    body_bytes: int = 0
    max_taken_bytes: int | None = None
    max_memory_bytes: int | None = None
    is_race: bool = False
    title: str = ""
    """Where the behaviour's own name does not say enough."""

    @property
    def name(self) -> str:
        """What it is called in tables; no two rows are called the same."""
        return self.title or self.behaviour.name


def delivered(status_code: int = 200) -> Outcome:
    """A 2xx."""
    return Outcome(Verdict.DELIVERED, status_code)


def gone() -> Outcome:
    """A 410."""
    return Outcome(Verdict.GONE, 410)


def endpoint(status_code: int, *, wait: tuple[float, float] | None = None) -> Outcome:
    """A response that speaks of the endpoint."""
    return Outcome(Verdict.ENDPOINT, status_code, wait_seconds=wait)


def event(status_code: int) -> Outcome:
    """A response that speaks of the event."""
    return Outcome(Verdict.EVENT, status_code)


def unanswered(fault: Fault) -> Outcome:
    """No response."""
    return Outcome(Verdict.ENDPOINT, None, fault)


CONNECT, LOST, TLS = unanswered(Fault.CONNECT), unanswered(Fault.LOST), unanswered(Fault.TLS)
TIMEOUT, INVALID = unanswered(Fault.TIMEOUT), unanswered(Fault.INVALID)

_A_MEBIBYTE = 1 << 20
_TLS_ALERT_PROTOCOL_VERSION = bytes.fromhex("15 03 01 0002 02 46")
_HTTP2_SETTINGS_AND_GOAWAY = bytes.fromhex("000000 04 00 00000000  000008 07 00 00000000 00000000 00000001")


def _raw(name: str, *parts: bytes, pause_seconds: float = 0) -> Behaviour:
    return does.raw(*parts, pause_seconds=pause_seconds, name=name)


def _chunked(name: str, *chunks: bytes) -> Behaviour:
    return _raw(name, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", *chunks)


def _status(status_code: int, outcome: Outcome) -> Row:
    return Row(answer(status_code), (outcome,))


def _statuses() -> Iterator[Row]:
    for status_code in (200, 201, 202, 204, 206, 299):
        yield _status(status_code, delivered(status_code))
    yield _status(410, gone())
    for status_code in (300, 304, 305, 399, *range(401, 409), 411, 421, 425, 426, 429, 431, 451):
        yield _status(status_code, endpoint(status_code))
    for status_code in (400, 409, 412, 413, 414, 415, 418, 422, 428, 499):
        yield _status(status_code, event(status_code))
    for status_code in (500, 501, 502, 503, 504, 505, 511, 520, 599, 600, 999):
        yield _status(status_code, endpoint(status_code))


def _redirects() -> Iterator[Row]:
    """A POST that follows a 303 becomes a GET without body, and its 200 a false acknowledgement."""
    for status_code in (301, 302, 303, 307, 308):
        yield Row(
            does.redirect("/elsewhere", status_code),
            (endpoint(status_code),),
            "a redirect is never followed: where it leads nobody has checked",
            after=answer(),
        )
    yield Row(
        does.redirect("/elsewhere"),
        (endpoint(302),),
        "one hop is one too many, however many there would be",
        after=does.redirect("/elsewhere/again"),
        title="answer 302 to another 302",
    )
    for location in ("http://127.0.0.1:1/", "//127.0.0.1:1/", ":// not a url \x7f", ""):
        title = f"answer 302 to {location!r}"
        yield Row(does.redirect(location), (endpoint(302),), after=answer(), title=title)


def _waits() -> Iterator[Row]:
    for status_code in (429, 503):
        for told, least, most in (
            (120, 120, 120),
            (timedelta(seconds=120), 110, 120),
            ("0", 0, 0),
            ("30, 120", 120, 120),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 0, 0),
            ("Sunday, 06-Nov-94 08:49:37 GMT", 0, 0),
            ("soon", 0, 0),
            ("-5", 0, 0),
            ("9" * 400, 60, float("inf")),
        ):
            yield Row(
                does.wait(status_code, told),
                (endpoint(status_code, wait=(least, most)),),
                "RFC 9110 10.2.3: seconds or an HTTP date; what cannot be read asks for nothing",
                title=f"answer {status_code}, retry-after {str(told)[:20]}",
            )


def _well_formed() -> Iterator[Row]:
    yield Row(answer(200, delay_seconds=0.05), (delivered(),), title="answer 200, a little later")
    yield Row(answer(200, version="1.0"), (delivered(),), title="answer 200 in HTTP/1.0")
    yield Row(answer(200, keep_alive=False), (delivered(),), title="answer 200, then closes")
    yield Row(does.interim(100), (delivered(),), "RFC 9110 15.2: interim answers are to be skipped")
    yield Row(does.interim(102, 103), (delivered(),))
    yield Row(does.interim(*[100] * 50, *[103] * 50), (delivered(), INVALID), title="100 interim answers")
    yield Row(does.interim(100, 103, 100, then=answer(503)), (endpoint(503),), title="interim, then 503")
    yield Row(_raw("no reason", b"HTTP/1.1 200\r\n\r\n"), (delivered(), INVALID))
    yield Row(_raw("empty reason", b"HTTP/1.1 204 \r\n\r\n"), (delivered(204),))
    in_pieces = (b"H", b"TTP/1.1 20", b"0 OK\r", b"\n\r", b"\n")
    yield Row(_raw("in pieces", *in_pieces, pause_seconds=0.01), (delivered(),))


def _odd_headers() -> Iterator[Row]:
    """RFC 9112 lets a recipient be lenient or give up; what counts is that it knows which."""
    lenient = (delivered(), INVALID)
    for name, head in (
        ("reason not ASCII", b"HTTP/1.1 200 \xe4\xff\r\ncontent-length: 0"),
        ("bad cookie", b"HTTP/1.1 200 OK\r\nset-cookie: =;;;\x00; expires=x"),
        ("header not ASCII", b"HTTP/1.1 200 OK\r\nx: \xff\xfe\x80\r\ncontent-length: 0"),
        ("header with a null byte", b"HTTP/1.1 200 OK\r\nx\x00y: \x00\r\ncontent-length: 0"),
        ("header without colon", b"HTTP/1.1 200 OK\r\nno colon here\r\ncontent-length: 0"),
        ("header without name", b"HTTP/1.1 200 OK\r\n: value\r\ncontent-length: 0"),
        ("folded header", b"HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 0"),
        ("content-length no number", b"HTTP/1.1 200 OK\r\ncontent-length: many"),
        ("content-length below zero", b"HTTP/1.1 200 OK\r\ncontent-length: -9"),
        ("content-length of 5,000 digits", b"HTTP/1.1 200 OK\r\ncontent-length: " + b"9" * 5000),
        ("both lengths", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked"),
    ):
        yield Row(_raw(name, head + b"\r\n\r\n", b"x"), lenient)
    yield Row(
        _raw("sloppy 429 with a retry-after", b"HTTP/1.1 429 Slow\nretry-after: 120\nno colon\n\n"),
        (endpoint(429, wait=(120, 120)),),
        "who asks badly for time asks for it all the same",
    )
    yield Row(_raw("bare line feeds", b"HTTP/1.1 200 OK\ncontent-length: 0\n\n"), lenient)
    yield Row(
        _raw("two content-lengths", b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n"),
        lenient,
    )
    yield Row(
        _raw("200 headers", b"HTTP/1.1 200 OK" + b"\r\nx: y" * 200 + b"\r\n\r\n"), (INVALID, delivered())
    )


def _header_bombs() -> Iterator[Row]:
    for name, head in (
        ("status line of 70 kB", b"HTTP/1.1 200 " + b"x" * 70_000),
        ("header line of 70 kB", b"HTTP/1.1 200 OK\r\nx: " + b"x" * 70_000),
    ):
        yield Row(_raw(name, head + b"\r\n\r\n"), (INVALID, delivered()))
    for name, head in (
        ("100,000 headers", b"HTTP/1.1 200 OK" + (b"\r\nx: " + b"y" * 100) * 100_000),
        ("header line of 32 MiB", b"HTTP/1.1 200 OK\r\nx: " + bytes(32 << 20)),
    ):
        yield Row(
            _raw(name, head + b"\r\n\r\n"),
            (INVALID,),
            "a header has a bound, or one receiver takes the memory of all",
            max_taken_bytes=MAX_TAKEN_BYTES,
        )
    yield Row(
        _raw("99 header lines of 64 kB", b"HTTP/1.1 200 OK" + (b"\r\nx: " + b"y" * 65_000) * 99),
        (INVALID,),
        "a bound on each line and one on their number bound nothing together",
        max_taken_bytes=MAX_TAKEN_BYTES,
    )
    yield Row(
        does.endless_header(),
        (INVALID, TIMEOUT),
        deadline_seconds=DEADLINE_SECONDS,
        max_taken_bytes=MAX_TAKEN_BYTES,
    )


def _bodies() -> Iterator[Row]:
    why = "the header was complete: the event was taken, whatever its body does"
    for behaviour in (
        does.reset_in_body(),
        does.reset_after_answer(),
        does.close_after_answer(),
        does.half_close(),
        _raw("204 with a body", b"HTTP/1.1 204 No Content\r\ncontent-length: 4\r\n\r\nbody"),
        _raw("body without length or end", b"HTTP/1.1 200 OK\r\n\r\n", b"body"),
        _raw("a second answer nobody asked for", (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n") * 2),
        _chunked("chunks", b"5\r\nhello\r\n0\r\n\r\n"),
        _chunked("chunk cut short", b"5\r\nhel"),
        _chunked("chunk of no size", b"zz\r\nhello\r\n"),
        _chunked("chunk of negative size", b"-5\r\nhello\r\n"),
        _chunked("chunk size of 100 kB", b"f" * 100_000),
        _chunked("chunk of 16 EiB", b"ffffffffffffffff\r\nhello"),
        _chunked("no last chunk", b"5\r\nhello\r\n"),
    ):
        yield Row(behaviour, (delivered(204 if behaviour.name.startswith("204") else 200),), why)
    for title, behaviour in (
        ("content-length too long", does.wrong_content_length(told=100)),
        ("content-length too short", does.wrong_content_length(told=2)),
        ("gzip that is none", answer(200, {"content-encoding": "gzip"}, b"this is no gzip")),
        ("gzip cut short", answer(200, {"content-encoding": "gzip"}, gzip.compress(b"x" * 1000)[:-20])),
        ("gzip fifty times", answer(200, {"content-encoding": ", ".join(["gzip"] * 50)}, b"xx")),
        ("unknown content-encoding", answer(200, {"content-encoding": "nonsense"}, b"xx")),
        ("unknown charset", answer(200, {"content-type": "text/html; charset=nonsense"}, b"\xff\xfe")),
    ):
        yield Row(behaviour, (delivered(),), why, title=title)
    for title, behaviour in (
        ("", does.hang_in_body()),
        ("", does.trickle_body()),
        ("trickle body till the end", does.trickle_body(content_length=None)),
    ):
        yield Row(behaviour, (delivered(),), why, deadline_seconds=DEADLINE_SECONDS, title=title)
    for behaviour in (does.endless_body(), does.endless_body(chunked=False)):
        yield Row(
            behaviour,
            (delivered(),),
            why,
            deadline_seconds=DEADLINE_SECONDS,
            max_taken_bytes=MAX_TAKEN_BYTES,
            max_memory_bytes=MAX_MEMORY_BYTES,
        )
    yield Row(does.gzip_bomb(), (delivered(),), why, max_memory_bytes=MAX_MEMORY_BYTES)
    yield Row(
        does.gzip_bomb(500),
        (endpoint(500),),
        "who keeps the start of a failure's body counts it after decompression",
        max_memory_bytes=MAX_MEMORY_BYTES,
        title="gzip bomb with a 500",
    )


def _no_end() -> Iterator[Row]:
    why = "a deadline counts in all: each byte must not start it again"
    for title, behaviour in (
        ("", does.hang()),
        ("", does.trickle_header()),
        ("", _raw("stall in header", b"HTTP/1.1 200 OK\r\nx: 1\r\n", b"", pause_seconds=30)),
        ("interim, then hang", does.interim(100, 103, then=does.hang())),
        ("answer 200, much too late", answer(200, delay_seconds=30)),
        ("", does.reads_nothing()),
    ):
        requests = (1,) if behaviour.stage is Stage.REQUEST else (0,)
        yield Row(
            behaviour, (TIMEOUT,), why, requests=requests, deadline_seconds=DEADLINE_SECONDS, title=title
        )
    for status_code in (100, 103):
        yield Row(
            does.endless_interim(status_code),
            (INVALID, TIMEOUT),
            "who reads them all until the deadline has no time for others",
            deadline_seconds=DEADLINE_SECONDS,
        )
    yield Row(
        does.reads_nothing(),
        (TIMEOUT,),
        "the deadline holds while the request is sent, too",
        requests=(0,),
        body_bytes=32 * _A_MEBIBYTE,
        deadline_seconds=DEADLINE_SECONDS,
        title="reads nothing of a large request",
    )


def _lost() -> Iterator[Row]:
    why = "no whole answer is no answer"
    for title, behaviour in (
        ("", does.reset_before_answer()),
        ("", does.reset_in_header()),
        ("", does.close_before_answer()),
        ("half-close instead of an answer", does.half_close(answering=False)),
        ("", does.truncated_header()),
        ("truncated header of a 204", does.truncated_header(204)),
        ("", does.truncated_status_line()),
        ("", _raw("cut in a header line", b"HTTP/1.1 200 OK\r\nx: 1")),
        ("interim, then closes", does.interim(100, then=does.close_before_answer())),
        ("interim, then truncated header", does.interim(103, then=does.truncated_header())),
    ):
        yield Row(behaviour, (LOST, INVALID), why, title=title)
    for behaviour in (does.early_reset(40), does.early_reset(65536, of_body=True)):
        yield Row(behaviour, (LOST,), why, requests=(0,), body_bytes=4 * _A_MEBIBYTE)
    yield Row(does.early_reset(0), (LOST, CONNECT), why, requests=(0,), is_race=True)


def _not_http() -> Iterator[Row]:
    why = "RFC 9112 4: what does not start with a status line is no answer, however much of it looks right"
    yield Row(does.garbage(), (INVALID,), why)
    for line in (
        b"",
        b"HTTP/1.1",
        b"HTTP/1.1 OK",
        b"HTTP/1.1 20",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1 2_0 OK",
        b"HTTP/1.1 +200 OK",
        b"HTTP/1.1 099 OK",
        b"HTTP/1.1 200OK",
        b"HTTP/2 200",
        b"HTTP/2.0 200 OK",
        b"HTTP/0.9 200 OK",
        b"http/1.1 200 OK",
        b"ICY 200 OK",
        b" HTTP/1.1 200 OK",
        b"SSH-2.0-OpenSSH_9.6",
        b"<html>HTTP/0.9 had no status line</html>",
    ):
        name = f"status line {line.decode()!r}"
        yield Row(_raw(name, line + b"\r\ncontent-length: 0\r\n\r\n"), (INVALID,), why)
    yield Row(
        _raw("101 upgrade", b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\n\r\n"),
        (INVALID, endpoint(101)),
        "nobody asked for another protocol",
    )
    yield Row(does.greets(_HTTP2_SETTINGS_AND_GOAWAY, name="HTTP/2 only"), (LOST, INVALID), requests=(0,))
    yield Row(
        does.greets(b"220 mail.example ESMTP\r\n", name="a mail server"), (INVALID, LOST), requests=(0,)
    )


def _kept_framings() -> Iterator[Row]:
    """What says in two ways where it ends, or in none that all read alike: one reads more, another less."""
    why = "RFC 9112 6.1, 6.3, 9.3: the rest of such a response would be taken for the next one"
    one_point_one, one_point_oh = b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n"
    empty, last_chunk = b"content-length: 0\r\n\r\n", b"0\r\n\r\n"
    for name, sent in (
        ("gzip and a length", one_point_one + b"transfer-encoding: gzip\r\n" + empty),
        ("folded chunks and a length", one_point_one + b"transfer-encoding:\r\n chunked\r\n" + empty),
        ("spaced chunks and a length", one_point_one + b"transfer-encoding : chunked\r\n" + empty),
        ("chunks in HTTP/1.0", one_point_oh + b"transfer-encoding: chunked\r\n\r\n" + last_chunk),
        (
            "chunks and a length",
            one_point_one + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n" + last_chunk,
        ),
        ("a bare CR in a value", one_point_one + b"x: a\rcontent-length: 5\r\n" + empty),
        ("a NUL in a value", one_point_one + b"x: a\0b\r\n" + empty),
        ("a blank in a length", one_point_one + b"content-length: \xa00\r\n\r\n"),
        ("no-keep-alive", b"HTTP/1.0 200 OK\r\nconnection: no-keep-alive\r\n" + empty),
    ):
        yield Row(
            answer(),
            (delivered(),),
            why,
            before=does.raw(sent, keep_alive=True, name=f"answer with {name}"),
            reuses=False,
            title=f"answer 200, after one with {name}",
        )
    yield Row(
        answer(),
        (delivered(),),
        "RFC 9110 7.8: a server may offer another protocol, and nobody has to take it",
        before=answer(200, {"upgrade": "h2c", "connection": "Upgrade"}),
        reuses=True,
        title="answer 200, after one that offers h2c",
    )


def _early() -> Iterator[Row]:
    """Responds before the body of the request is read."""
    large = 4 * _A_MEBIBYTE
    yield Row(does.early(413), (event(413), LOST), "RFC 9112 9.6", requests=(0,), body_bytes=large)
    yield Row(does.early(200), (delivered(), LOST), requests=(0,), body_bytes=large)
    yield Row(
        does.early(413, then="closes"),
        (event(413), LOST),
        "a reset may overtake the answer",
        requests=(0,),
        body_bytes=large,
        is_race=True,
    )
    yield Row(
        does.early(503, then="holds"),
        (endpoint(503), TIMEOUT),
        requests=(0,),
        body_bytes=32 * _A_MEBIBYTE,
        deadline_seconds=DEADLINE_SECONDS,
        is_race=True,
    )
    yield Row(
        does.early(413, then="holds"),
        (event(413),),
        "RFC 9112 9.5: a client watches for a response while it sends",
        requests=(0,),
        body_bytes=32 * _A_MEBIBYTE,
        title="early 413, and reads no more",
    )


def _kept_connections() -> Iterator[Row]:
    why = "RFC 9112 9.3.1: that a kept connection ends says nothing of the endpoint; a new one works"
    for before in (does.close_after_answer(), does.reset_after_answer()):
        title = f"answer 200, once there was a {before.name}"
        yield Row(answer(), (delivered(),), why, before=before, title=title)
    for reused in (does.close_before_answer(), does.reset_before_answer()):
        yield Row(
            does.unlike(reused=reused, fresh=answer()),
            (delivered(),),
            why,
            before=answer(),
            requests=(1, 2),
        )
    yield Row(
        does.unlike(reused=answer(408, keep_alive=False), fresh=answer()),
        (delivered(),),
        "RFC 9110 15.5.9: the receiver gave up an idle connection, and says so on it",
        before=answer(),
        requests=(1, 2),
    )
    yield Row(
        does.unlike(reused=does.truncated_header(), fresh=does.truncated_header()),
        (LOST, INVALID),
        "an answer that began is the endpoint's own",
        before=answer(),
    )
    yield Row(
        does.close_before_answer(),
        (LOST,),
        "and a new one that is lost as well speaks of the endpoint",
        before=answer(),
        requests=(1, 2),
        title="close before answer, reused or not",
    )

    for name, head, body in (
        ("chunked", b"transfer-encoding: chunked", b"0\r\n\r\n"),
        ("of two bytes", b"content-length: 2", b"ok"),
    ):
        late = does.raw(
            b"HTTP/1.1 204 No Content\r\n" + head + b"\r\n\r\n", body, pause_seconds=0.05,
            keep_alive=True, name="answer 204",
        )  # fmt: skip
        yield Row(
            answer(),
            (delivered(),),
            "a 204 has no body (RFC 9112 6.3); one that comes all the same answers nothing",
            before=late,
            title=f"answer 200, after a 204 with a body {name}, a little later",
        )


def _connecting() -> Iterator[Row]:
    yield Row(Behaviour("nobody listens", lambda _: False), (CONNECT,), listens=False, requests=(0,))


def _tls() -> Iterator[Row]:
    for tls in Tls:
        if tls is not Tls.GOOD:
            behaviour = Behaviour(f"TLS: {tls}", answer().act)
            yield Row(behaviour, (TLS,), over=("https",), tls=tls, requests=(0,))
    for reply, name, outcomes in (
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "plain HTTP at an https URL", (TLS,)),
        (_TLS_ALERT_PROTOCOL_VERSION, "TLS: refuses the version", (TLS,)),
        (b"", "TLS: closes in the handshake", (LOST, TLS)),
    ):
        yield Row(does.instead_of_tls(reply, name=name), outcomes, over=("https",), requests=(0,))
    yield Row(
        does.instead_of_tls(name="TLS: stalls in the handshake", hanging=True),
        (TIMEOUT,),
        over=("https",),
        requests=(0,),
        deadline_seconds=DEADLINE_SECONDS,
    )
    yield Row(
        does.empty_tls_records(),
        (TIMEOUT, TLS),
        "a TLS library reads them in one call, whatever the socket's time-out",
        over=("https",),
        requests=(0,),
        deadline_seconds=DEADLINE_SECONDS,
    )


ROWS = (
    *_statuses(),
    *_redirects(),
    *_waits(),
    *_well_formed(),
    *_odd_headers(),
    *_header_bombs(),
    *_bodies(),
    *_no_end(),
    *_lost(),
    *_not_http(),
    *_early(),
    *_kept_connections(),
    *_kept_framings(),
    *_connecting(),
    *_tls(),
)
