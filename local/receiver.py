"""A receiver of webhooks: takes requests on loopback and hands each one, checked, to a callback."""

import base64
import binascii
import hmac
import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import standardwebhooks

from tools.progress import paint


@dataclass(frozen=True)
class Received:
    """One request, and what is wrong with it."""

    path: str
    headers: dict[str, str]
    body: bytes
    at_seconds: float
    problem: str | None
    """Why it should not be trusted or cannot be read; None when all is as it should be."""
    is_refused: bool = False
    """It got a 503, as from a receiver that is down."""

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events it carries; none when the body is not what a delivery has."""
        try:
            return list(json.loads(self.body)["events"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return []


Check = Callable[[dict[str, str], bytes], str | None]

_SECRET = re.compile(r"whsec_[A-Za-z0-9+/]{43}=")  # 32 bytes, as `lms_webhooks.sending.signing` makes them


def no_authentication(headers: dict[str, str], _body: bytes) -> str | None:
    """Nothing that was not asked for is sent."""
    sent = [name for name in ("authorization", "webhook-signature") if name in headers]
    return f"unasked {' and '.join(sent)}" if sent else None


def basic_authentication(username: str, password: str) -> Check:
    """A check for requests that carry this name and password."""
    expected = f"{username}:{password}".encode()

    def check(headers: dict[str, str], _body: bytes) -> str | None:
        scheme, _, value = headers.get("authorization", "").partition(" ")
        try:
            given = base64.b64decode(value, validate=True)
        except binascii.Error:
            given = b""
        if scheme.lower() == "basic" and hmac.compare_digest(given, expected):
            return None
        return "wrong or missing basic authentication"

    return check


def signature(secret: str) -> Check:
    """A check for signed requests, by the public Standard Webhooks library.

    Raises:
        ValueError: `secret` is none that the API gives. The library would take most texts for one.
    """
    if not _SECRET.fullmatch(secret):
        raise ValueError("it is no signing secret: whsec_ and 44 characters of base64, without quotes")
    verifier = standardwebhooks.Webhook(secret)

    def check(headers: dict[str, str], body: bytes) -> str | None:
        try:
            verifier.verify(body, headers, json_parse=False)
        except standardwebhooks.WebhookVerificationError as error:
            return f"signature: {error}"
        except ValueError:  # what is no signature at all, or no UTF-8
            return "signature: Invalid Signature Headers"
        return None

    return check


def _unreadable(body: bytes) -> str | None:
    try:
        json.loads(body)
    except (ValueError, RecursionError) as error:
        return f"not readable as JSON: {type(error).__name__}"
    return None


def report(received: Received, *, is_checked: bool) -> str:
    """What `make listen` prints of a request."""
    if not is_checked:
        verdict = "not checked: SECRET=whsec_... or BASIC=user:password does"
    elif received.problem:
        verdict = paint(f"✗ {received.problem}", "red")
    else:
        verdict = paint("✓ verified", "green")
    if received.headers.get("webhook-id", "").startswith("test_"):
        verdict += "  (a test: nothing happened)"
    headers = [paint(f"  {name}: {value}", "grey") for name, value in received.headers.items()]
    return "\n".join(
        [f"POST {received.path}  {verdict}", *headers, f"  {received.body.decode(errors='replace')}"]
    )


class Receiver:
    """Listens from `with` to its end. Requests are checked by the check of their path, if it has one."""

    def __init__(self, on_request: Callable[[Received], None], *, port: int = 0) -> None:
        """Bind at once, so that `url` is known; `port` 0 takes a free one."""
        self.checks: dict[str, Check] = {}
        self.refusals: dict[str, int] = {}
        """How many more requests to a path are refused."""
        self.down: set[str] = set()
        """Paths at which every request is refused."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30

            def do_POST(self) -> None:
                length = self.headers.get("content-length", "")
                if not length.isdecimal():
                    self._respond(411, "content-length is missing")
                    self.close_connection = True  # what follows is no request
                    return
                body = self.rfile.read(int(length))
                headers = {name.lower(): value for name, value in self.headers.items()}
                check = receiver.checks.get(self.path)
                refusal = check(headers, body) if check else None
                problem = refusal or (_unreadable(body) if check else None)
                is_refused = self.path in receiver.down
                if receiver.refusals.get(self.path, 0) > 0:
                    receiver.refusals[self.path] -= 1
                    is_refused = True
                on_request(Received(self.path, headers, body, time.time(), problem, is_refused))
                if is_refused:
                    self._respond(503, "down on purpose")
                elif problem:
                    self._respond(401 if refusal else 422, problem)
                else:
                    self._respond(204)

            def _respond(self, status: int, reason: str = "") -> None:
                body = reason.encode()
                self.send_response(status)
                if status != 204:
                    self.send_header("content-type", "text/plain")
                    self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing: the callback does."""

        self._server = _Server(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
