"""Send one POST and return its result. The only module that uses requests.

In each request and response, requests looks for cookies, proxies, redirects and encodings. That costs more
than the rest of a delivery. So only its ends are used: a prepared request goes in and a response comes out,
through our own transport adapter over `connections`.
"""

import codecs
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any, cast

import certifi
import requests
from requests.adapters import BaseAdapter
from urllib3 import HTTPResponse
from urllib3.exceptions import HTTPError
from urllib3.util import parse_url

from lms_webhooks.model.attempts import ErrorClass, TlsFault
from lms_webhooks.sending.connections import ConnectionPool, HttpResponse
from lms_webhooks.sending.sockets import Deadline, Origin, TransportError
from lms_webhooks.sending.targets import PORTS, ForbiddenTarget, check_url
from lms_webhooks.sending.webhook_request import WebhookRequest

MAX_RESPONSE_BYTES = 64 * 1024
KEPT_RESPONSE_BYTES = 1024
BODY_READ_SECONDS = 0.2  # a slow body after a 2xx holds up only the connection's reuse
_KEPT_LOCATION_CHARACTERS = 1024
_KEPT_RETRY_AFTER_CHARACTERS = 100  # a date has 29, and a proxy may add its own
_REMEMBERED_URLS = 1000


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a POST may take: to connect, then for the response's header, and in all."""

    connect_seconds: float
    response_seconds: float
    total_seconds: float


@dataclass(frozen=True, slots=True)
class PostResult:
    """The result of one POST: a status code, or the class of the error that prevented one.

    It has all that is read of a response. Health and history keep less of it, an `Attempt`.
    """

    status_code: int | None
    error_class: ErrorClass | None
    latency_ms: int
    """Until the response's header was complete, or it was clear that there would be none."""
    retry_after: str = ""
    """The start of the header, as it came: `model/retry.py` reads it."""
    body: str = ""
    """The first KiB of a failure's body; empty after a success."""
    violated_rule: str = ""
    """For a forbidden address: the rule of `targets`, in words for the admin."""
    tls_fault: TlsFault | None = None
    location: str = ""
    """The target of a redirect, which is not followed."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Of the response, with names in lower case."""

    @property
    def is_success(self) -> bool:
        return self.status_code is not None and 200 <= self.status_code < 300


class Sender:
    """Posts to receivers over kept-alive connections. Safe to share between threads."""

    def __init__(self, *, loopback_allowed: bool, trusted_ca_file: str = "") -> None:
        self._loopback_allowed = loopback_allowed
        self._adapter = _Adapter(
            ConnectionPool(_tls_context(trusted_ca_file), loopback_allowed=loopback_allowed)
        )

    def post(self, webhook_request: WebhookRequest, *, timeouts: Timeouts) -> PostResult:
        """POST `webhook_request`, and wait for a complete response header as long as `timeouts` allows.

        Nothing that the receiver or the network does raises an exception.

        Raises:
            OutOfResources: our own error, which says nothing about the receiver.
        """
        started = time.perf_counter()
        request = requests.PreparedRequest()
        # Not PreparedRequest.prepare: it would parse and quote the URL again, and all is ready.
        request.method, request.url, request.body = "POST", webhook_request.url, webhook_request.body
        request.headers = webhook_request.headers  # type: ignore[assignment]  # our adapter only lists them
        try:
            _check_url(webhook_request.url, loopback_allowed=self._loopback_allowed)
            answered = self._adapter.send(request, stream=True, timeout=timeouts)
        except ForbiddenTarget as forbidden:
            latency_ms = _milliseconds_since(started)
            return PostResult(None, ErrorClass.FORBIDDEN_ADDRESS, latency_ms, violated_rule=forbidden.rule)
        except TransportError as failed:
            latency_ms = _milliseconds_since(started)
            return PostResult(None, failed.error_class, latency_ms, tls_fault=failed.tls_fault)
        except ValueError:
            return PostResult(None, ErrorClass.INVALID_RESPONSE, _milliseconds_since(started))
        latency_ms = _milliseconds_since(started)
        response = cast("HttpResponse", answered.raw)
        body = ""
        if 200 <= response.status_code < 300:
            _discard_body(response)
        else:
            body = _read_start(response)
        retry_after = response.headers.get("retry-after", "")[:_KEPT_RETRY_AFTER_CHARACTERS]
        location = ""
        if 300 <= response.status_code < 400:
            location = response.headers.get("location", "")[:_KEPT_LOCATION_CHARACTERS]
        return PostResult(
            response.status_code,
            None,
            latency_ms,
            retry_after,
            body,
            location=location,
            headers=response.headers,
        )


class _Adapter(BaseAdapter):
    """A transport adapter of requests over our own connections."""

    def __init__(self, connections: ConnectionPool) -> None:
        super().__init__()
        self._connections = connections

    def send(
        self, request: requests.PreparedRequest, *_: Any, timeout: Any = None, **__: Any
    ) -> requests.Response:
        """Send `request` unchanged.

        `timeout` is a `Timeouts`. The `raw` attribute of the returned response is an `HttpResponse`.

        Raises:
            TransportError, ForbiddenTarget, OutOfResources: as ConnectionPool.request.
            ValueError: a header, or the URL, cannot be put into a request.
        """
        timeouts: Timeouts = timeout
        origin, first_lines = _origin_and_first_lines(request.url or "")
        response = self._connections.request(
            origin,
            _encode_request(request, first_lines),
            Deadline(timeouts.total_seconds),
            connect_seconds=timeouts.connect_seconds,
            response_seconds=timeouts.response_seconds,
        )
        return _Response(request, response)

    def close(self) -> None:
        """Close the idle connections."""
        self._connections.close()


class _Response(requests.Response):
    """The parts of a response that are used here. Requests would make a cookie jar and more for each."""

    def __init__(self, request: requests.PreparedRequest, response: HttpResponse) -> None:
        self.request = request
        self.url = request.url or ""
        self.status_code = response.status_code
        self.headers = response.headers  # type: ignore[assignment]  # in lower case, as we ask for them
        self.raw = response


# Checks the text of a URL only. It is cached for the targets of the moment.
_check_url = lru_cache(_REMEMBERED_URLS)(check_url)


@lru_cache(_REMEMBERED_URLS)
def _origin_and_first_lines(url: str) -> tuple[Origin, str]:
    """Return the origin of a URL, and the first lines of a request to it."""
    parsed = parse_url(url)
    if parsed.scheme not in PORTS or not parsed.host:
        raise ValueError("not an http or https URL")
    port = parsed.port or PORTS[parsed.scheme]
    host = parsed.host.removesuffix(".")  # RFC 3986 6.2.3: the root's dot is for the name server alone
    if port != PORTS[parsed.scheme]:
        host += f":{port}"
    request = requests.PreparedRequest()
    request.url = url
    # The path as requests takes it from the URL: urllib3's parser would resolve the dots in it.
    first_lines = f"POST {request.path_url} HTTP/1.1\r\nhost: {host}"
    return Origin(parsed.scheme, parsed.host, port), first_lines


def _encode_request(request: requests.PreparedRequest, first_lines: str) -> bytes:
    body = request.body or b""
    assert isinstance(body, bytes)
    lines = [f"{name}: {value}" for name, value in request.headers.items()]
    head = "\r\n".join(
        (first_lines, *lines, f"content-length: {len(body)}", "accept-encoding: identity\r\n\r\n")
    )
    if head.count("\n") != len(lines) + 5 or head.count("\r") != len(lines) + 5:
        raise ValueError("a header with a line break")
    return head.encode("latin-1") + body  # one packet, if it fits: the receiver wakes up once


def _discard_body(response: HttpResponse) -> None:
    """Read the rest of a 2xx, up to a limit, so that its connection can be used again."""
    if not response.is_complete:
        response.limit_body_seconds(BODY_READ_SECONDS)
    read_bytes = 0
    while read_bytes < MAX_RESPONSE_BYTES and (piece := response.read(MAX_RESPONSE_BYTES - read_bytes)):
        read_bytes += len(piece)
    response.close()


def _read_start(response: HttpResponse) -> str:
    """Return the start of a body, decompressed. Reads at most MAX_RESPONSE_BYTES."""
    encoding = {"content-encoding": response.headers.get("content-encoding", "")}
    raw = HTTPResponse(response, encoding, preload_content=False)  # type: ignore[arg-type]  # has read, close
    kept = b""
    read_bytes = 0
    try:
        while read_bytes < MAX_RESPONSE_BYTES:
            piece = raw.read(min(8192, MAX_RESPONSE_BYTES - read_bytes), decode_content=True)
            if not piece:
                break
            read_bytes += len(piece)
            kept += piece[: KEPT_RESPONSE_BYTES - len(kept)]
    except (HTTPError, ValueError):
        pass  # compressed otherwise than it says
    response.close()
    # Incremental and without an end, so that a character that is cut is left out.
    return codecs.getincrementaldecoder("utf-8")("replace").decode(kept)


def _milliseconds_since(started: float) -> int:
    return round((time.perf_counter() - started) * 1000)


@cache
def _tls_context(trusted_ca_file: str) -> ssl.SSLContext:
    """Return the one TLS context of a process: the authorities take 10 ms to load."""
    context = ssl.create_default_context(cafile=certifi.where())
    if trusted_ca_file:
        context.load_verify_locations(cafile=trusted_ca_file)
    return context
