"""Send one POST and say what came back. The only module that uses requests.

requests gives the HTTP; what it lacks for requests to strangers is added below it, on its adapter and
urllib3's connections: a total deadline, one TLS context for all, no redirects, a bound on what is read,
and the address rule of `targets` at the moment a socket is opened.
"""

import logging
import queue
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from http.client import BadStatusLine, HTTPException, HTTPResponse, IncompleteRead
from io import BufferedReader
from typing import Any

import certifi
import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.util import parse_url

from lms_webhooks.deadlines import DeadlineWatch, Limit
from lms_webhooks.messages import Message
from lms_webhooks.targets import ForbiddenTarget, check_addresses, check_url

# Its warnings quote target URLs and what receivers wrote in their headers: neither belongs in a log.
logging.getLogger("urllib3").setLevel(logging.ERROR)

MAX_ANSWER_BYTES = 64 * 1024
KEPT_ANSWER_BYTES = 1024
COURTESY_SECONDS = 0.2  # a receiver that dawdles over the body of its 2xx holds up nobody but itself
MAX_ADDRESSES_TRIED = 4  # of a name with many, so that dead ones leave time for the next
_REMEMBERED_URLS = 1000
MAX_IDLE_SECONDS = 50  # common load balancers close idle connections after 60


class ErrorClass(StrEnum):
    """Why there was no answer with a status code."""

    DNS = "dns"
    FORBIDDEN_ADDRESS = "forbidden-address"
    CONNECT = "connect"
    TLS = "tls"
    TIMEOUT = "timeout"
    CONNECTION_LOST = "connection-lost"
    BROKEN_ANSWER = "broken-answer"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a POST may take: to open a connection, then for the answer's header, and in all."""

    connect_seconds: float
    answer_seconds: float
    total_seconds: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one POST: a status code, or the class of error that stood in its way."""

    status_code: int | None
    error_class: ErrorClass | None
    latency_ms: int
    """Until the answer's header was complete, or it was clear that there would be none."""
    retry_after: str = ""
    body: str = ""
    """The first KiB of a failure's body; nothing of a success."""
    broken_rule: str = ""
    """Of a forbidden address: the rule of `targets`, in words for the admin."""

    @property
    def is_success(self) -> bool:
        return self.status_code is not None and 200 <= self.status_code < 300


class Sender:
    """Posts to receivers over kept-alive connections. Safe to share between threads."""

    def __init__(self, *, loopback_allowed: bool, trusted_ca_file: str = "") -> None:
        self._watch = DeadlineWatch()
        self._loopback_allowed = loopback_allowed
        self._adapter = _Adapter(_tls_context(trusted_ca_file), loopback_allowed=loopback_allowed)

    def post(self, message: Message, *, patience: Patience) -> Answer:
        """Send `message`, and wait for a complete answer header as long as `patience` lasts.

        Never raises for what the receiver or the network does: that is an expected outcome.
        """
        started = time.perf_counter()
        with self._watch.limit(patience.connect_seconds, total_seconds=patience.total_seconds) as limit:
            _call.answer_seconds = patience.answer_seconds
            _call.wants_new = False
            while True:
                _call.limit = limit
                _call.is_reused = False
                try:
                    answer = self._exchange(message, limit, started)
                finally:
                    _call.limit = None
                # A server may close a kept-alive connection just as it is used again (RFC 9112 9.3.1):
                # that says nothing about its health, so the request goes out once more, on a new one.
                if (
                    answer.error_class is ErrorClass.CONNECTION_LOST
                    and _call.is_reused
                    and not limit.has_passed
                ):
                    _call.wants_new = True
                    continue
                return answer

    def _exchange(self, message: Message, limit: Limit, started: float) -> Answer:
        request = _prepare(message)
        seconds = limit.remaining_seconds()
        try:
            _check_url(message.url, loopback_allowed=self._loopback_allowed)
            # Python's own time-outs only back the watch up, should the thread be late.
            response = self._adapter.send(request, stream=True, timeout=(seconds + 1, seconds + 1))
        except ForbiddenTarget as forbidden:
            latency_ms = _milliseconds_since(started)
            return Answer(None, ErrorClass.FORBIDDEN_ADDRESS, latency_ms, broken_rule=forbidden.rule)
        except _Failed as failure:
            return Answer(None, failure.error_class, _milliseconds_since(started))
        except (requests.RequestException, HTTPError, HTTPException, OSError, ValueError) as error:
            error_class = ErrorClass.TIMEOUT if limit.has_passed else _class_of(error)
            return Answer(None, error_class, _milliseconds_since(started))
        latency_ms = _milliseconds_since(started)
        is_success = 200 <= response.status_code < 300
        if is_success and response.raw.length_remaining != 0:
            # It is acknowledged; the rest is read so that the connection can be used again, and for no more.
            limit.restart(COURTESY_SECONDS)
        body = _read(response)
        retry_after = response.headers.get("retry-after", "")
        return Answer(response.status_code, None, latency_ms, retry_after[:100], "" if is_success else body)


def _milliseconds_since(started: float) -> int:
    return round((time.perf_counter() - started) * 1000)


class _Failed(Exception):
    """A connection could not be opened. Not an OSError, so urllib3 passes it on as it is."""

    def __init__(self, error_class: ErrorClass) -> None:
        super().__init__(error_class)
        self.error_class = error_class


class _Call(threading.local):
    """The call that this thread is in, for the connections far below `Sender.post`."""

    limit: Limit | None = None
    answer_seconds = 0.0
    is_reused = False
    wants_new = False


_call = _Call()

# What only the text of a URL decides, of the targets that are sent to at the moment.
_check_url = lru_cache(_REMEMBERED_URLS)(check_url)
_parsed = lru_cache(_REMEMBERED_URLS)(parse_url)


@lru_cache(_REMEMBERED_URLS)
def _target_of(url: str) -> str:
    request = requests.PreparedRequest()
    request.url = url
    return request.path_url


def _prepare(message: Message) -> requests.PreparedRequest:
    # Not PreparedRequest.prepare: it would parse and re-quote the URL, and the bytes and headers are ready.
    request = requests.PreparedRequest()
    request.method = "POST"
    request.url = message.url
    request.headers = requests.structures.CaseInsensitiveDict(message.headers)
    request.headers["content-length"] = str(len(message.body))
    request.headers["accept-encoding"] = "identity"
    request.body = message.body
    return request


def _read(response: requests.Response) -> str:
    """The start of the body. Reads no more than MAX_ANSWER_BYTES, decompressed; what breaks off is cut."""
    kept = b""
    read_bytes = 0
    try:
        while read_bytes < MAX_ANSWER_BYTES:
            chunk = response.raw.read(min(8192, MAX_ANSWER_BYTES - read_bytes), decode_content=True)
            if not chunk:
                response.raw.release_conn()
                break
            read_bytes += len(chunk)
            kept += chunk[: KEPT_ANSWER_BYTES - len(kept)]
    except (HTTPError, HTTPException, OSError, ValueError):
        pass  # the header was complete: that is the answer, whatever its body does
    finally:
        response.raw.close()
    return kept.decode("utf-8", "replace")


def _class_of(error: BaseException) -> ErrorClass:
    """Find the cause that urllib3 and requests wrapped."""
    seen: BaseException | None = error
    classes = {
        ssl.SSLEOFError: ErrorClass.CONNECTION_LOST,
        ssl.SSLZeroReturnError: ErrorClass.CONNECTION_LOST,
        ssl.SSLError: ErrorClass.TLS,
        TimeoutError: ErrorClass.TIMEOUT,
        ConnectionError: ErrorClass.CONNECTION_LOST,
        IncompleteRead: ErrorClass.CONNECTION_LOST,
        HTTPException: ErrorClass.BROKEN_ANSWER,
    }
    while seen is not None:
        for kind, error_class in classes.items():
            if isinstance(seen, kind):
                return error_class
        reason = getattr(seen, "reason", None)
        inner = [*seen.args, reason, seen.__cause__, seen.__context__]
        seen = next((each for each in inner if isinstance(each, BaseException)), None)
    return ErrorClass.BROKEN_ANSWER


def _tls_context(trusted_ca_file: str) -> ssl.SSLContext:
    # One for all connections: reading the CA bundle for each costs more than the rest of a delivery.
    context = ssl.create_default_context(cafile=certifi.where())
    if trusted_ca_file:
        context.load_verify_locations(cafile=trusted_ca_file)
    return context


_STATUS_LINE = re.compile(rb"(?P<version>HTTP/1\.[0-9]) (?P<status>[1-9][0-9]{2})(?: (?P<reason>.*))?\r?\n")


class _HeaderReader:
    """Reads the lines of an answer's header, and knows an end of file from an end of header.

    http.client takes a connection that breaks off inside the header for a complete one.
    """

    def __init__(self, wire: BufferedReader) -> None:
        self._wire = wire

    def readline(self, limit: int = -1) -> bytes:
        line = self._wire.readline(limit)
        if line:
            _call.is_reused = False  # it answers, so what breaks from here on says something about it
        if not line.endswith(b"\n") and (limit < 0 or len(line) < limit):
            raise ConnectionResetError("the answer ended inside its header")
        return line

    def flush(self) -> None:
        """Nothing is written here; HTTPResponse.close asks for it."""

    def close(self) -> None:
        self._wire.close()


class _Response(HTTPResponse):
    """An answer whose header is complete, with interim (1xx) ones skipped."""

    fp: Any

    def begin(self) -> None:
        wire = self.fp
        self.fp = _HeaderReader(wire)
        super().begin()
        if self.fp is not None:  # begin() closes it when there can be no body
            self.fp = wire

    def _read_status(self) -> tuple[str, int, str]:
        while True:
            line = self.fp.readline(65537)
            # http.client's own reading takes `2_00` and `+200` for a 200.
            read = _STATUS_LINE.fullmatch(line)
            if not read or read["status"] == b"101":  # another protocol, which we never asked for
                raise BadStatusLine(line.decode("latin-1"))
            if not read["status"].startswith(b"1"):
                reason = (read["reason"] or b"").decode("latin-1")
                return read["version"].decode(), int(read["status"]), reason
            while self.fp.readline(65537).strip():
                pass


class _Guarded:
    """What our connections add to urllib3's: the deadline and the address rule."""

    response_class: Any = _Response
    loopback_allowed = False
    host: str
    port: int
    sock: Any
    _dns_host: str
    connect: Callable[[], None]
    _last_used = 0.0
    _held: bytearray | None = None

    def _new_conn(self) -> socket.socket:
        limit = _call.limit
        if limit is None:
            raise RuntimeError("connections are opened by Sender.post only")
        _call.is_reused = False
        sock = _connect(self._dns_host, self.port, limit, loopback_allowed=self.loopback_allowed)
        limit.guard(sock)
        return sock

    def request(self, *args: Any, **kwargs: Any) -> None:
        limit = _call.limit
        if self.sock is not None and self._last_used and limit is not None:
            if _call.wants_new or time.monotonic() - self._last_used > MAX_IDLE_SECONDS:
                self.close()
            else:
                _call.is_reused = True
                limit.guard(self.sock)
        if self.sock is None:
            self.connect()
        if limit is not None:
            limit.restart(_call.answer_seconds)
        # http.client sends header and body apart: two packets, and a receiver that wakes up twice.
        self._held = held = bytearray()
        try:
            super().request(*args, **kwargs)  # type: ignore[misc]  # urllib3's, by the classes below
        finally:
            self._held = None
        self.send(held)
        self._last_used = time.monotonic()

    def send(self, data: Any) -> None:
        if self._held is None:
            super().send(data)  # type: ignore[misc]
        else:
            self._held += data

    def close(self) -> None:
        super().close()  # type: ignore[misc]
        self._last_used = 0.0


class _Http(_Guarded, HTTPConnection):
    pass


class _Https(_Guarded, HTTPSConnection):
    pass


class _Pool:
    """What our pools add to urllib3's."""

    def _put_conn(self, conn: HTTPConnection | None) -> None:
        # Before another thread can take it: a late cut must not hit that thread's call.
        if _call.limit is not None:
            _call.limit.release()
        super()._put_conn(conn)  # type: ignore[misc]


class _Adapter(HTTPAdapter):
    """requests' adapter over our connections; TLS settings are the context's alone."""

    def __init__(self, tls_context: ssl.SSLContext, *, loopback_allowed: bool) -> None:
        self._tls_context = tls_context
        self._loopback_allowed = loopback_allowed
        super().__init__()

    def init_poolmanager(self, *_: Any, **__: Any) -> None:
        allowed = {"loopback_allowed": self._loopback_allowed}
        http = type(
            "_HttpPool", (_Pool, HTTPConnectionPool), {"ConnectionCls": type("_Http", (_Http,), allowed)}
        )
        https = type(
            "_HttpsPool", (_Pool, HTTPSConnectionPool), {"ConnectionCls": type("_Https", (_Https,), allowed)}
        )
        # Up to 50 POSTs are in flight in one invocation; each host rarely sees more than five webhooks.
        self.poolmanager = PoolManager(num_pools=100, maxsize=10, ssl_context=self._tls_context)
        self.poolmanager.pool_classes_by_scheme = {"http": http, "https": https}

    def cert_verify(self, *_: Any, **__: Any) -> None:
        """Leave the pool alone: requests would point it at a CA file, read anew for each connection."""

    def request_url(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> str:
        """The target of the request line. There is no proxy: requests' own would look for one each time."""
        return _target_of(request.url or "")

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        """Only what `Sender` reads: requests' own would look for cookies and an encoding in every answer."""
        response = requests.Response()
        response.status_code = resp.status
        response.headers = resp.headers
        response.raw = resp
        response.url = req.url or ""
        response.request = req
        return response

    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, *_: Any, **__: Any
    ) -> HTTPConnectionPool:
        origin = _parsed(request.url)
        pool: HTTPConnectionPool = self.poolmanager.connection_from_host(
            origin.host, origin.port, origin.scheme
        )
        return pool


def _connect(host: str, port: int, limit: Limit, *, loopback_allowed: bool) -> socket.socket:
    addresses = _resolve(host, port, limit)
    check_addresses((str(address[4][0]) for address in addresses), loopback_allowed=loopback_allowed)
    tried = addresses[:MAX_ADDRESSES_TRIED]
    for index, (family, kind, protocol, _, address) in enumerate(tried):
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError:
            continue  # this machine does not speak the address's family
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(limit.remaining_seconds() / (len(tried) - index))
            sock.connect(address)
        except OSError:
            sock.close()
            continue
        sock.settimeout(limit.remaining_seconds() + 1)
        return sock
    raise _Failed(ErrorClass.TIMEOUT if limit.remaining_seconds() < 0.01 else ErrorClass.CONNECT)


def _resolve(host: str, port: int, limit: Limit) -> list[Any]:
    """getaddrinfo knows no time-out, so it runs in a thread that is left behind when it is late."""
    answers: queue.SimpleQueue[list[Any] | None] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError):
            answers.put(None)

    threading.Thread(target=look_up, name="dns", daemon=True).start()
    try:
        addresses = answers.get(timeout=limit.remaining_seconds())
    except queue.Empty:
        raise _Failed(ErrorClass.TIMEOUT) from None
    if not addresses:
        raise _Failed(ErrorClass.DNS)
    return addresses
