"""Read one HTTP/1.1 response from its bytes: its status, its headers, its body, and where it ends.

Two readers in one. llhttp, which is strict, decides where the response ends. Its word alone lets a connection
carry the next request. A header that llhttp refuses still counts by its status line: a receiver that refuses
a sloppy 200 would get the same event again. Such a response has no body, and its connection is closed.

Pure: no socket and no clock.
"""

import re

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

MAX_LINE_BYTES = 64 * 1024  # of a header, as http.client and common servers have it
MAX_HEADERS = 100  # as http.client has it
MAX_HEADER_BYTES = 256 * 1024  # of all headers of a response, those of interim (1xx) responses too
MAX_FRAMING_BYTES = 256 * 1024  # of all that is no body and follows the header: sizes of chunks, trailers

_STATUS_LINE = re.compile(rb"HTTP/1\.([0-9]) ([1-9][0-9]{2})(?= |\r?\n)")
_BLANK_LINE = re.compile(rb"\n\r?\n")
_FRAMED = re.compile(
    rb"\n(?:content-length[ \t]*:(?![ \t]*0*[ \t]*\r?\n)|transfer-encoding[ \t]*:)", re.IGNORECASE
)
_TRANSFER_ENCODING = re.compile(rb"\ntransfer-encoding[ \t]*:", re.IGNORECASE)


class InvalidResponse(Exception):
    """The bytes are no response, or its header is larger than the bounds of this module."""


class ResponseReader:
    """Reads one response. Give it what arrives, piece by piece, and `close` it at the end."""

    def __init__(self) -> None:
        self.status_code = 0
        """Zero until the header is complete."""
        self.header = b""
        """The final header, from its status line to its blank line."""
        self.is_complete = False
        """Whether nothing more of this response is expected."""
        self.is_cut = False
        """Whether the body ended before its end, or where it ends cannot be said."""
        self.body = bytearray()
        """What arrived of the body. Readers remove what they take."""
        self._received: bytes | bytearray = b""
        """All bytes until the header is complete."""
        self._header_at = 0
        self._line_at = 0
        self._scanned = 0
        self._is_ambiguous = False
        self._is_reusable = False
        self._body_bytes = 0
        self._framing_bytes = 0
        self._tail = b""
        self._parser: HttpResponseParser | None = HttpResponseParser(self)

    @property
    def is_reusable(self) -> bool:
        """Whether the connection may carry the next request.

        Only after a response that llhttp read to its end, that allows it, and that nothing follows.
        """
        return self._is_reusable and self.is_complete

    @property
    def reason(self) -> str:
        """The reason phrase of the status line."""
        return self.header.partition(b"\n")[0][len("HTTP/1.1 200 ") :].decode("latin-1").rstrip("\r")

    @property
    def headers(self) -> dict[str, str]:
        """The headers by lower-case name. Several values of one name are joined by commas."""
        return parse_headers(self.header)

    def feed(self, data: bytes) -> None:
        """Read the next bytes.

        Raises:
            InvalidResponse: the header is not one of HTTP/1, or too large. What is wrong with a body raises
                nothing: the body ends there.
        """
        if self.status_code:
            self._feed_body(data)
            return
        self._receive(data)
        if self._parser:
            try:
                self._parser.feed_data(data)
            except (HttpParserError, HttpParserUpgrade):
                self._refuse()
        if not self._parser and not self.status_code:
            self._scan()
        if self.status_code:
            self._begin_body()
        elif len(self._received) > MAX_HEADER_BYTES or len(self._received) - self._line_at > MAX_LINE_BYTES:
            raise InvalidResponse

    def end(self, *, is_cut: bool = False) -> None:
        """Note that no more bytes follow. A body without an end of its own ends here, unless it `is_cut`."""
        self._is_reusable = False
        if self.status_code and not self.is_complete:
            self.is_cut = is_cut or _is_framed(self.header)
            self.is_complete = True
        self.close()

    def close(self) -> None:
        """Drop the parser. It refers to this object, which would otherwise wait for the garbage collector."""
        self._parser = None

    # What llhttp calls.

    def on_message_begin(self) -> None:
        if self.status_code:
            raise InvalidResponse  # a second response, for no request

    def on_headers_complete(self) -> None:
        """Judge the header. An interim (1xx) one is left behind."""
        # llhttp took no line feed without a carriage return. So this is where it saw the header end.
        end = self._received.find(b"\r\n\r\n", self._header_at) + 4
        self._judge(end)
        if not self.status_code and _is_framed(self._received, self._header_at, end):
            raise InvalidResponse  # an interim response has no body, and llhttp would read one
        self._header_at = end
        header = self.header
        if self.status_code in {204, 304}:
            self._is_ambiguous = _is_framed(header)  # what it announces may still come
        elif header[7:8] == b"0":
            # RFC 9112 6.1: a server of HTTP/1.0 may not know chunks.
            self._is_ambiguous = bool(_TRANSFER_ENCODING.search(header))
        if self._received.find(b"\0", 0, end) >= 0:  # llhttp lets it pass in a reason phrase
            self._is_ambiguous = True

    def on_body(self, data: bytes) -> None:
        self.body += data
        self._body_bytes += len(data)

    def on_message_complete(self) -> None:
        if self.status_code:
            assert self._parser is not None
            self.is_complete = True
            self._is_reusable = self._parser.should_keep_alive() and not self._is_ambiguous

    def _receive(self, data: bytes) -> None:
        """Append to what the header is read from. Most headers come in one piece, which is not copied."""
        line_feed = data.rfind(b"\n")
        if line_feed >= 0:
            self._line_at = len(self._received) + line_feed + 1
        if not self._received:
            self._received = data
            return
        if isinstance(self._received, bytes):
            self._received = bytearray(self._received)
        self._received += data

    def _scan(self) -> None:
        """Look for the end of a header that llhttp refused, and skip interim ones.

        Each byte is looked at once, also where they arrive one by one.
        """
        while blank_line := _BLANK_LINE.search(self._received, self._scanned):
            self._judge(blank_line.end())
            if self.status_code:
                self.is_cut = self.is_complete = True  # where its body ends, nobody can say
                return
            self._header_at = self._scanned = blank_line.end()
        has_first_line = self._line_at > self._header_at
        if has_first_line and not _STATUS_LINE.match(self._received, self._header_at):
            raise InvalidResponse  # another protocol, which may never send a blank line
        self._scanned = max(self._header_at, len(self._received) - 2)

    def _judge(self, end: int) -> None:
        """Take the status of a header that ends at `end`, if it is not an interim (1xx) one.

        Raises:
            InvalidResponse: it has none, or is too large; or the receiver changes the protocol.
        """
        header = bytes(self._received[self._header_at : end])
        line = _STATUS_LINE.match(header)
        if line is None or line[2] == b"101" or end > MAX_HEADER_BYTES:
            raise InvalidResponse
        lines = header.count(b"\n")
        if lines > MAX_HEADERS + 2:  # the first line and the blank one
            raise InvalidResponse
        if len(header) > MAX_LINE_BYTES and max(map(len, header.split(b"\n"))) > MAX_LINE_BYTES:
            raise InvalidResponse
        if line[2][0:1] != b"1":
            self.header = header
            self.status_code = int(line[2])

    def _refuse(self) -> None:
        """Go on without llhttp."""
        self._is_reusable = False
        if self.status_code and not self.is_complete:
            self.is_cut = self.is_complete = True
        self.close()
        self._scanned = self._header_at

    def _begin_body(self) -> None:
        """Count what follows the header already."""
        self._framing_bytes = len(self._received) - self._header_at - self._body_bytes
        self._tail = bytes(self._received[-5:])
        self._received = b""
        self._check_end()

    def _feed_body(self, data: bytes) -> None:
        if self.is_complete or self._parser is None:
            self._is_reusable = False
            return
        body_bytes = self._body_bytes
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            self._refuse()
        self._framing_bytes += len(data) - (self._body_bytes - body_bytes)
        self._tail = (self._tail + data)[-5:]
        self._check_end()

    def _check_end(self) -> None:
        """See that nothing follows a response. llhttp skips line breaks between two."""
        if self._framing_bytes > MAX_FRAMING_BYTES:
            self._refuse()
        if not self.is_complete:
            return
        self.close()
        if self._framing_bytes:
            is_whole = self._tail.endswith(b"\r\n\r\n") and self._tail[:1] not in {b"\r", b"\n"}
            if not is_whole or not _TRANSFER_ENCODING.search(self.header):
                self._is_reusable = False


def parse_headers(header: bytes) -> dict[str, str]:
    """Return the headers by lower-case name. Several values of one name are joined by commas."""
    headers: dict[str, str] = {}
    for line in header.decode("latin-1").split("\n")[1:]:
        name, colon, value = line.partition(":")
        if colon and name.strip() == name != "":  # the rest of a folded line begins with a blank
            name, value = name.lower(), value.strip()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _is_framed(header: bytes | bytearray, start: int = 0, end: int | None = None) -> bool:
    """Whether a header announces a body."""
    return bool(_FRAMED.search(header, start, len(header) if end is None else end))
