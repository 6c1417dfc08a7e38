"""A transport adapter of requests that may send to untrusted hosts. Mount it on any `requests.Session`.

    session = requests.Session()
    session.mount("https://", WebhookAdapter())
    session.post("https://example.com/hooks", json={}, timeout=5).raise_for_status()

It holds each URL and each address to the rules of `targets`, also after a redirect. A time-out bounds all of
a request, and not each wait. It verifies every certificate, supports no proxies, and keeps no cookies.

The sender uses it without a session. A session looks for cookies, proxies and redirects in each request. That
costs more than the rest of a delivery.
"""

import os
import re
import ssl
from collections.abc import Iterator
from datetime import timedelta
from functools import cache, cached_property, lru_cache
from typing import Any, NamedTuple

import certifi
import requests
from requests.adapters import BaseAdapter
from requests.cookies import RequestsCookieJar
from requests.exceptions import InvalidHeader, InvalidProxyURL, InvalidURL, SSLError
from requests.structures import CaseInsensitiveDict
from requests.utils import get_encoding_from_headers, select_proxy
from urllib3 import HTTPResponse
from urllib3 import Timeout as Urllib3Timeout
from urllib3.exceptions import ProtocolError

from lms_webhooks.model.attempts import ErrorClass
from lms_webhooks.sending.connections import ConnectionPool, HttpResponse
from lms_webhooks.sending.sockets import Deadline, Origin, OutOfResources, TransportError
from lms_webhooks.sending.targets import PORTS, ForbiddenTarget, check_url

_REMEMBERED = 1000  # URLs, and sets of header names
_UNLIMITED_SECONDS = 24 * 3600
_ERRORS = {ErrorClass.TIMEOUT: requests.Timeout, ErrorClass.TLS: SSLError}

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 5.6.2
_VALUES = re.compile(r"[\t\n -~\x80-\xff]*")  # RFC 9110 5.5, one a line
# What the adapter says itself, since it depends on the connection and the body.
_OWN_HEADERS = frozenset({"host", "content-length", "transfer-encoding", "connection", "keep-alive", "te",
                          "upgrade", "expect", "proxy-connection", "proxy-authorization"})  # fmt: skip


class Timeouts(NamedTuple):  # to make a dataclass takes half a millisecond of a cold start
    """How long a request may take: to connect, then for the response's header, and in all."""

    connect_seconds: float
    response_seconds: float
    total_seconds: float


class WebhookAdapter(BaseAdapter):
    """Sends requests over kept-alive connections. Safe to share between threads."""

    def __init__(self, *, loopback_allowed: bool = False, trusted_ca_file: str = "") -> None:
        super().__init__()
        self._loopback_allowed = loopback_allowed
        self._ca_files = {certifi.where(), trusted_ca_file}
        # A session passes on what these name for all of a process. That asks nothing of this adapter.
        self._ca_files |= {os.environ.get(name, "") for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")}
        self.connections = ConnectionPool(_tls_context(trusted_ca_file), loopback_allowed=loopback_allowed)

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,  # noqa: ARG002  # a body is read when it is asked for
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        """Send `request` for a session, and return its response.

        `timeout` is what requests takes, or a `Timeouts`. A number limits the time to connect, and then the
        time until the response's header is complete. Both together limit the whole request.

        Raises:
            requests.RequestException: there is no response, or the target or a header is not allowed.
            ValueError: `verify` or `cert` ask for what this adapter does not do, or `timeout` is none.
        """
        if not verify or cert is not None:
            raise ValueError("this adapter verifies every server, and shows no client certificate")
        if isinstance(verify, str) and verify not in self._ca_files:
            raise ValueError("this adapter takes its certificate authorities when it is made")
        if select_proxy(request.url or "", proxies):
            raise InvalidProxyURL("this adapter supports no proxies", request=request)
        limits = _timeouts(timeout)
        if not _TOKEN.fullmatch(request.method or ""):  # another request could hide in it
            raise ValueError("the method holds a character that no method may have")
        # Not in place: a redirect sends the body once more, and requests rewinds the file that it was.
        sent = requests.PreparedRequest()
        sent.method, sent.url = request.method, request.url
        sent.headers = CaseInsensitiveDict(
            {_text(name): _text(value) for name, value in request.headers.items()}
        )
        sent.body = _body_bytes(request.body)
        try:
            response = self.exchange(sent, limits)
        except TransportError as failed:
            raise _ERRORS.get(failed.error_class, requests.ConnectionError)(
                failed.error_class, request=request
            ) from failed
        except ForbiddenTarget as forbidden:
            raise InvalidURL(f"The target {forbidden.rule}.", request=request) from forbidden
        except OutOfResources as error:
            raise requests.ConnectionError(error, request=request) from error
        except requests.RequestException:
            raise
        except ValueError as error:
            raise InvalidHeader(error, request=request) from error
        response.request = request
        return response

    def exchange(self, request: requests.PreparedRequest, timeouts: Timeouts) -> "AdapterResponse":
        """Send `request`, whose body is bytes, and return its response.

        Raises:
            TransportError, OutOfResources: as ConnectionPool.request.
            ForbiddenTarget: the URL, or an address that its name resolves to, is not allowed.
            ValueError: a header cannot be sent.
        """
        method = request.method or ""
        target = _target_of(request.url or "", self._loopback_allowed)
        http_response = self.connections.request(
            target.origin,
            _encode(method, target, request.headers, request.body or b""),  # type: ignore[arg-type]
            Deadline(timeouts.total_seconds),
            connect_seconds=timeouts.connect_seconds,
            response_seconds=timeouts.response_seconds,
        )
        if method == "HEAD":
            http_response.close()  # its header says how long the body would be
        return AdapterResponse(request, http_response, self)

    def close(self) -> None:
        """Close the idle connections."""
        self.connections.close()


class AdapterResponse(requests.Response):
    """A response of requests that makes its headers, its cookie jar and the like when they are asked for.

    For each response that would cost more than to read it, and a delivery asks for none of a 2xx.
    """

    _content = False  # type: ignore[assignment]  # as requests has it: not read yet
    _content_consumed = False
    _next = None
    elapsed = timedelta(0)  # a session sets it

    def __init__(
        self, request: requests.PreparedRequest, http_response: HttpResponse, adapter: WebhookAdapter
    ) -> None:
        # Not that of requests, whose attributes are these, those of the class and the properties.
        self.http_response = http_response
        self.status_code = http_response.status_code
        self.url = request.url or ""
        self.request = request
        self.connection = adapter  # type: ignore[assignment]  # as that of requests does

    @cached_property
    def raw(self) -> "_Raw":  # type: ignore[override]
        return _Raw(self.http_response)

    @cached_property
    def history(self) -> list[requests.Response]:  # type: ignore[override]
        return []

    @cached_property
    def headers(self) -> CaseInsensitiveDict[str]:  # type: ignore[override]
        return CaseInsensitiveDict(self.http_response.headers)

    @cached_property
    def encoding(self) -> str | None:  # type: ignore[override]
        return get_encoding_from_headers(self.headers)

    @cached_property
    def cookies(self) -> RequestsCookieJar:  # type: ignore[override]
        return RequestsCookieJar()

    @cached_property
    def reason(self) -> str:  # type: ignore[override]
        return self.http_response.reason


class _Raw:
    """The body of a response, as `requests.Response` reads it.

    The response of urllib3 that decompresses it is made when the body is read.
    """

    def __init__(self, http_response: HttpResponse) -> None:
        self.http_response = http_response
        self._urllib3_response: HTTPResponse | None = None

    @property
    def closed(self) -> bool:
        return self.http_response.is_closed

    def read(self, amount: int | None = None, decode_content: bool | None = None) -> bytes:
        return self._response().read(amount, decode_content)

    def stream(self, amount: int, decode_content: bool | None = None) -> Iterator[bytes]:
        return self._response().stream(amount, decode_content)

    def close(self) -> None:
        self.http_response.close()

    def release_conn(self) -> None:
        self.http_response.close()

    def _response(self) -> HTTPResponse:
        if self._urllib3_response is None:
            # Not its length: where it ends is known already, and of two lengths urllib3 makes another error.
            encoding = self.http_response.headers.get("content-encoding", "")
            self._urllib3_response = HTTPResponse(
                _Body(self.http_response),  # type: ignore[arg-type]  # has what is used of a file
                {"content-encoding": encoding},
                self.http_response.status_code,
                preload_content=False,
                decode_content=False,  # unless asked to, as requests has it
            )
        return self._urllib3_response


class _Body:
    """The bytes of a body, as urllib3 reads them from a file."""

    def __init__(self, http_response: HttpResponse) -> None:
        self._http_response = http_response

    @property
    def closed(self) -> bool:
        return self._http_response.is_closed

    def read(self, amount: int | None = None) -> bytes:
        pieces = []
        while piece := self._http_response.read(amount or 65536):
            pieces.append(piece)
            if amount is not None:
                return piece
        if self._http_response.is_cut:
            self.close()
            raise ProtocolError("the response broke off")
        return b"".join(pieces)

    def close(self) -> None:
        self._http_response.close()


class _Target(NamedTuple):
    """Where a request goes."""

    origin: Origin
    host: str
    """The value of the Host header."""
    path: str
    """With the query."""


@lru_cache(_REMEMBERED)
def _target_of(url: str, loopback_allowed: bool) -> _Target:
    """Return the target of a URL that passes `check_url`: the one parser that decides and connects."""
    parts = check_url(url, loopback_allowed=loopback_allowed)
    host = parts.hostname or ""
    port = parts.port or PORTS[parts.scheme]
    in_header = f"[{host}]" if ":" in host else host
    if port != PORTS[parts.scheme]:
        in_header += f":{port}"
    path = parts.path or "/"
    return _Target(
        Origin(parts.scheme, host, port), in_header, f"{path}?{parts.query}" if parts.query else path
    )


def _encode(method: str, target: _Target, headers: CaseInsensitiveDict[str], body: bytes) -> bytes:
    values = list(headers.values())
    joined = "\n".join(values)
    if joined.count("\n") > max(0, len(values) - 1) or not _VALUES.fullmatch(joined):
        raise ValueError("a header's value holds a character that no header may have")
    own, asks_for_encoding = _check_names(tuple(headers))
    lines = [f"{name}: {value}\r\n" for name, value in headers.items() if not own or name not in own]
    encoding = "" if asks_for_encoding else "accept-encoding: identity\r\n"
    length = f"content-length: {len(body)}\r\n" if body or method not in {"GET", "HEAD"} else ""
    head = f"{method} {target.path} HTTP/1.1\r\nhost: {target.host}\r\n{''.join(lines)}{length}{encoding}\r\n"
    return head.encode("latin-1") + body  # one packet, if it fits: the receiver wakes up once


@lru_cache(_REMEMBERED)
def _check_names(names: tuple[str, ...]) -> tuple[tuple[str, ...], bool]:
    """Check names of headers. Return those that are not sent, and whether one asks for an encoding.

    Raises:
        ValueError: one is no name.
    """
    if not all(map(_TOKEN.fullmatch, names)):
        raise ValueError("a header's name holds a character that no name may have")
    own = tuple(name for name in names if name.lower() in _OWN_HEADERS)
    return own, any(name.lower() == "accept-encoding" for name in names)


def _timeouts(timeout: Any) -> Timeouts:
    """Read a time-out of requests. None, also in a pair, is no limit: but for a day.

    Raises:
        ValueError: it is no time-out.
    """
    if isinstance(timeout, Timeouts):
        return timeout
    total = None
    if isinstance(timeout, Urllib3Timeout):
        total = timeout.total
        started = timeout.clone()
        started.start_connect()  # or it does not say how long a response may take
        timeout = (started.connect_timeout, started.read_timeout)
    pair = timeout if isinstance(timeout, tuple) else (timeout, timeout)
    if len(pair) != 2:
        raise ValueError("a time-out is a number, a pair of them, or None")
    connect, response = map(_seconds, pair)
    return Timeouts(connect, response, min(connect + response, _seconds(total)))


def _seconds(limit: Any) -> float:
    return min(float(limit), _UNLIMITED_SECONDS) if isinstance(limit, (int, float)) else _UNLIMITED_SECONDS


def _text(text: str | bytes) -> str:
    return text.decode("latin-1") if isinstance(text, bytes) else text


def _body_bytes(body: Any) -> bytes:
    """Return a body of requests as bytes. A file, or what yields pieces, is read first."""
    if hasattr(body, "read"):
        body = body.read()
    if body is None or isinstance(body, (str, bytes, bytearray)):
        return body.encode() if isinstance(body, str) else bytes(body or b"")
    return b"".join(piece.encode() if isinstance(piece, str) else piece for piece in body)


@cache
def _tls_context(trusted_ca_file: str) -> ssl.SSLContext:
    """Return the one TLS context of a process: the authorities take 10 ms to load."""
    context = ssl.create_default_context(cafile=certifi.where())
    if trusted_ca_file:
        context.load_verify_locations(cafile=trusted_ca_file)
    return context
