"""Send one POST and return its result."""

import codecs
import time
from typing import NamedTuple

import requests
from urllib3 import HTTPResponse
from urllib3.exceptions import HTTPError

from lms_webhooks.model.attempts import ErrorClass, TlsFault
from lms_webhooks.sending.adapter import Timeouts, WebhookAdapter
from lms_webhooks.sending.connections import HttpResponse
from lms_webhooks.sending.response_reader import parse_headers
from lms_webhooks.sending.sockets import TransportError
from lms_webhooks.sending.targets import ForbiddenTarget
from lms_webhooks.sending.webhook_request import WebhookRequest

__all__ = ["PostResult", "Sender", "Timeouts"]

MAX_RESPONSE_BYTES = 64 * 1024
KEPT_RESPONSE_BYTES = 1024
BODY_READ_SECONDS = 0.2  # a slow body after a 2xx holds up only the connection's reuse
_KEPT_HEADER_BYTES = 16 * 1024
_KEPT_LOCATION_CHARACTERS = 1024
_KEPT_RETRY_AFTER_CHARACTERS = 100  # a date has 29, and a proxy may add its own


class PostResult(NamedTuple):
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
    header: bytes = b""
    """The start of the response's header, as it came. Only of a test are the headers in it read."""

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the response by lower-case name."""
        return parse_headers(self.header)

    @property
    def is_success(self) -> bool:
        return self.status_code is not None and 200 <= self.status_code < 300


class Sender:
    """Posts to receivers over kept-alive connections. Safe to share between threads."""

    def __init__(self, *, loopback_allowed: bool, trusted_ca_file: str = "") -> None:
        self._adapter = WebhookAdapter(loopback_allowed=loopback_allowed, trusted_ca_file=trusted_ca_file)

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
        request.headers = webhook_request.headers  # type: ignore[assignment]  # the adapter only lists them
        try:
            sent = self._adapter.exchange(request, timeouts)
        except ForbiddenTarget as forbidden:
            latency_ms = _milliseconds_since(started)
            return PostResult(None, ErrorClass.FORBIDDEN_ADDRESS, latency_ms, violated_rule=forbidden.rule)
        except TransportError as failed:
            latency_ms = _milliseconds_since(started)
            return PostResult(None, failed.error_class, latency_ms, tls_fault=failed.tls_fault)
        except ValueError:
            return PostResult(None, ErrorClass.INVALID_RESPONSE, _milliseconds_since(started))
        latency_ms = _milliseconds_since(started)
        response = sent.http_response
        header = response.header[:_KEPT_HEADER_BYTES]
        if 200 <= response.status_code < 300:
            _discard_body(response)
            return PostResult(response.status_code, None, latency_ms, header=header)
        body = _read_start(response)
        headers = response.headers
        retry_after = headers.get("retry-after", "")[:_KEPT_RETRY_AFTER_CHARACTERS]
        location = ""
        if 300 <= response.status_code < 400:
            location = headers.get("location", "")[:_KEPT_LOCATION_CHARACTERS]
        return PostResult(
            response.status_code, None, latency_ms, retry_after, body, location=location, header=header
        )


def _discard_body(response: HttpResponse) -> None:
    """Read the rest of a 2xx, up to a limit, so that its connection can be used again."""
    if not response.is_complete:
        response.limit_body_seconds(BODY_READ_SECONDS)
        read_bytes = 0
        while read_bytes < MAX_RESPONSE_BYTES and (piece := response.read(MAX_RESPONSE_BYTES - read_bytes)):
            read_bytes += len(piece)
    response.close()


class _Start:
    """The first MAX_RESPONSE_BYTES of a body, as urllib3 reads them: there are blocks that hold nothing."""

    def __init__(self, response: HttpResponse) -> None:
        self._response = response
        self._left_bytes = MAX_RESPONSE_BYTES

    @property
    def closed(self) -> bool:
        return self._response.is_closed

    def read(self, amount: int | None = None) -> bytes:
        most_bytes = self._left_bytes if amount is None else min(amount, self._left_bytes)
        piece = self._response.read(most_bytes) if most_bytes else b""
        self._left_bytes -= len(piece)
        return piece

    def close(self) -> None:
        self._response.close()


def _read_start(response: HttpResponse) -> str:
    """Return the start of a body, decompressed. Reads at most MAX_RESPONSE_BYTES, compressed or not."""
    encoding = {"content-encoding": response.headers.get("content-encoding", "")}
    start = _Start(response)
    raw = HTTPResponse(start, encoding, preload_content=False)  # type: ignore[arg-type]  # has read, close
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
