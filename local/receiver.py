"""A receiver of webhooks: takes requests on loopback and hands each one, checked, to a callback."""

import base64
import binascii
import hmac
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import standardwebhooks

from local.steps import paint


@dataclass(frozen=True)
class Received:
    """One request, and what is wrong with it."""

    path: str
    headers: dict[str, str]
    body: bytes
    at_seconds: float
    problem: str | None
    """Why it should not be trusted; None when all is as it should be."""
    is_refused: bool = False
    """It was answered with 503, as a receiver that is down."""

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events it carries; none when the body is not what a delivery has."""
        try:
            return list(json.loads(self.body)["events"])
        except (ValueError, KeyError, TypeError):
            return []


Check = Callable[[dict[str, str], bytes], str | None]


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
    """A check for signed requests, by the public Standard Webhooks library."""
    verifier = standardwebhooks.Webhook(secret)

    def check(headers: dict[str, str], body: bytes) -> str | None:
        try:
            verifier.verify(body, headers)
        except standardwebhooks.WebhookVerificationError as error:
            return f"signature: {error}"
        return None

    return check


def report(received: Received, *, is_checked: bool) -> str:
    """What `make listen` prints of a request."""
    if not is_checked:
        verdict = "not checked: SECRET=whsec_... or BASIC=user:password does"
    elif received.problem:
        verdict = paint(f"✗ {received.problem}", "red")
    else:
        verdict = paint("✓ verified", "green")
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
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                check = receiver.checks.get(self.path)
                problem = check(headers, body) if check else None
                is_refused = receiver.refusals.get(self.path, 0) > 0
                if is_refused:
                    receiver.refusals[self.path] -= 1
                on_request(Received(self.path, headers, body, time.time(), problem, is_refused))
                self.send_response(503 if is_refused else 401 if problem else 204)
                self.send_header("content-length", "0")
                self.end_headers()

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
