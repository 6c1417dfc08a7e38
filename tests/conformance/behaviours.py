"""What a receiver can do with a request, well or badly, down to the bytes on the wire."""

import functools
import threading
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from tests.conformance.receiver import Behaviour, Stage, Wire


def answer(
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    *,
    delay_seconds: float = 0,
    version: str = "1.1",
    keep_alive: bool = True,
) -> Behaviour:
    """A well-formed response."""
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
    """A response that points elsewhere."""
    return answer(status, {"location": location})


def gone() -> Behaviour:
    """410: the receiver wants no more."""
    return answer(410, body=b"gone")


def too_many_requests(retry_after: int | str | timedelta | None = None) -> Behaviour:
    """429. A time as timedelta is given as an HTTP date, counted from the response."""
    return wait(429, retry_after)


def wait(status: int, retry_after: int | str | timedelta | None) -> Behaviour:
    """A response with Retry-After. A timedelta is given as an HTTP date, counted from the response."""

    def act(wire: Wire) -> bool:
        told = retry_after
        if isinstance(told, timedelta):
            told = format_datetime(datetime.now(UTC) + told, usegmt=True)
        return answer(status, {} if told is None else {"retry-after": str(told)}).act(wire)

    return Behaviour(f"answer {status}, retry-after {retry_after}", act)


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
    """Take the request and never respond."""
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
    """A body without end, as fast as it is read. After 64 MiB it only hangs, for the reader's sake."""
    block = b"z" * 65536
    head = _head(status, {"transfer-encoding": "chunked"} if chunked else {"connection": "close"})
    data = b"10000\r\n" + block + b"\r\n" if chunked else block
    return _then(f"endless body{' in chunks' if chunked else ''}", head, lambda wire: _flood(wire, data))


def gzip_bomb(status: int = 200, *, mebibytes: int = 64) -> Behaviour:
    """A small body that becomes a large one when it is decompressed."""
    return _late(
        "gzip bomb", lambda: answer(status, {"content-encoding": "gzip"}, _compressed_zeros(mebibytes))
    )


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
    """Reset after a complete response that promised to keep the connection."""
    return _then(
        "reset after answer", _head(status, {"content-length": str(len(body))}) + body, _reset_when_read
    )


def close_before_answer() -> Behaviour:
    """Take the request, then end the connection politely."""
    return raw(name="close before answer")


def close_after_answer(status: int = 200) -> Behaviour:
    """A complete response that promised to keep the connection; then an end."""
    return raw(_head(status, {"content-length": "0"}), name="close after answer")


def half_close(*, answering: bool = True) -> Behaviour:
    """End the sending side, after a response or instead of one, and read on."""

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


def early(status: int, *, then: str = "reads on") -> Behaviour:
    """A response as soon as the request's header is in, and before its body is read.

    Then it "reads on" as RFC 9112 9.6 advises, "closes", or "holds" the connection and reads nothing.
    """

    def act(wire: Wire) -> bool:
        wire.read_head()
        wire.send(_head(status, {"content-length": "0", "connection": "close"}))
        if then == "reads on":
            wire.end_sending()
            wire.hang()
        elif then == "holds":
            wire.pause(None)
        return False

    return Behaviour(f"early {status}, then {then}", act, Stage.CONNECTED)


def early_reset(after_bytes: int, *, of_body: bool = False) -> Behaviour:
    """Reset when so many bytes of the request are in, or of its body."""

    def act(wire: Wire) -> bool:
        if of_body:
            wire.read_head()
        missing = after_bytes
        while missing > 0 and (data := wire.read(missing)):
            missing -= len(data)
        wire.reset()
        return False

    return Behaviour(
        f"reset after {after_bytes} bytes of the {'body' if of_body else 'request'}", act, Stage.CONNECTED
    )


def reads_nothing() -> Behaviour:
    """Take the connection, and not a byte of the request."""

    def act(wire: Wire) -> bool:
        wire.pause(None)
        return False

    return Behaviour("reads nothing", act, Stage.CONNECTED)


def greets(greeting: bytes, *, name: str) -> Behaviour:
    """Speak before the request does, as other protocols do, and then read on to the end."""

    def act(wire: Wire) -> bool:
        wire.send(greeting)
        wire.end_sending()
        wire.hang()
        return False

    return Behaviour(name, act, Stage.CONNECTED)


def instead_of_tls(reply: bytes = b"", *, name: str, hanging: bool = False) -> Behaviour:
    """Take the TLS greeting and send these bytes."""

    def act(wire: Wire) -> bool:
        wire.read()
        if reply:
            wire.send(reply)
        if hanging:
            wire.hang()
        return False

    return Behaviour(name, act, Stage.ACCEPTED)


def empty_tls_records() -> Behaviour:
    """TLS messages that ask for nothing (HelloRequest), as fast as they are read, instead of a handshake."""
    hello_request = b"\x16\x03\x03\x00\x04" + bytes(4)

    def act(wire: Wire) -> bool:
        wire.read()
        _flood(wire, hello_request * 2000)
        return False

    return Behaviour("TLS: messages without end in the handshake", act, Stage.ACCEPTED)


def unlike(*, reused: Behaviour, fresh: Behaviour) -> Behaviour:
    """`fresh` for the first request of a connection, `reused` for each later one."""
    return Behaviour(
        f"{reused.name} when reused", lambda wire: (reused if wire.requests > 1 else fresh).act(wire)
    )


def endless_header() -> Behaviour:
    """One header line after the other, as fast as they are read, and never the last."""
    line = b"x-more: " + b"y" * 90 + b"\r\n"
    return _then("endless header", b"HTTP/1.1 200 OK\r\n", lambda wire: _flood(wire, line * 1000))


def gated(gate: threading.Event, then: Behaviour) -> Behaviour:
    """Do `then` as soon as the test opens the gate."""

    def act(wire: Wire) -> bool:
        gate.wait(60)
        return then.act(wire)

    return Behaviour(f"gated {then.name}", act)


def endless_interim(status: int = 103) -> Behaviour:
    """Interim responses without end, as fast as they are read."""
    return _then(f"endless interim {status}", b"", lambda wire: _flood(wire, _head(status, {}) * 1000))


def interim(*statuses: int, then: Behaviour | None = None) -> Behaviour:
    """Interim (1xx) responses before the real one."""
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


def _late(name: str, make: Callable[[], Behaviour]) -> Behaviour:
    """What costs something to make, made when it is first wanted."""
    return Behaviour(name, lambda wire: make().act(wire))


@functools.cache
def _compressed_zeros(mebibytes: int) -> bytes:
    compressor = zlib.compressobj(9, wbits=31)
    parts = [compressor.compress(bytes(1 << 20)) for _ in range(mebibytes)]
    return b"".join([*parts, compressor.flush()])


def _reset_when_read(wire: Wire) -> None:
    # A reset overtakes what was sent and is not yet read: give the other side a moment to take it.
    wire.pause(0.05)
    wire.reset()


def _flood(wire: Wire, data: bytes) -> None:
    for _ in range((64 << 20) // len(data)):
        wire.send(data)
    wire.hang()
