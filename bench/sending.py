"""One POST over a new TLS connection against the least that makes one, and servers that stall against the
deadline.

The least is a raw socket with a TLS context that was made once: connect, a full handshake, send, read the
response. Both ask the same server, which closes after each response, and gives session tickets. As with most
receivers, an intermediate authority signed its certificate. A root's own would cost less to verify.
"""

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

import trustme

from bench.results import Row, figure, ratio, rounds
from bench.servers import Server

_HOST = "127.0.0.1"
_POSTS = 40
_STALL_ROUNDS = 7
_ANSWER = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_BODY = b"x" * 535
_LARGE_BODY = b"x" * (16 << 20)  # more than the buffers of two sockets hold
_TRICKLE_SECONDS = 0.1


def measure() -> Row:
    """TLS first, then the five that stall, all at the same time."""
    from lms_webhooks.dispatcher.dispatcher import TIMEOUTS  # noqa: PLC0415  # not at the import of every row

    with TemporaryDirectory() as folder, _tls_server(Path(folder)) as server:
        samples = rounds(
            {
                "ours": _ours(server.port, Path(folder, "ca.pem")),
                "raw": _raw(server.port, Path(folder, "ca.pem")),
            }
        )
    cpu = {name: [one.cpu_us for one in taken] for name, taken in samples.items()}
    each = {name: [1e6 / one.per_second for one in taken] for name, taken in samples.items()}
    figures = [
        *(figure(f"POST over new TLS, {name}", values, "us") for name, values in each.items()),
        *(figure(f"POST over new TLS, {name}, CPU", values, "CPU us") for name, values in cpu.items()),
        ratio("ours / raw TLS", each["ours"], each["raw"], at_most=2.0),
        ratio("ours / raw TLS, CPU", cpu["ours"], cpu["raw"], at_most=0.9, is_compared=True),
    ]
    deadline = [TIMEOUTS.total_seconds] * _STALL_ROUNDS
    figures += [
        ratio(f"{name} / the deadline", taken, deadline, at_most=1.05) for name, taken in _stalls().items()
    ]
    return Row(figures)


def _ours(port: int, ca_file: Path) -> Callable[[], int]:
    from lms_webhooks.dispatcher.dispatcher import TIMEOUTS  # noqa: PLC0415
    from lms_webhooks.sending.sender import Sender  # noqa: PLC0415
    from lms_webhooks.sending.webhook_request import WebhookRequest  # noqa: PLC0415

    sender = Sender(loopback_allowed=True, trusted_ca_file=str(ca_file))
    message = WebhookRequest(f"https://{_HOST}:{port}/hooks", {"content-type": "application/json"}, _BODY)

    def work() -> int:
        for _ in range(_POSTS):
            answer = sender.post(message, timeouts=TIMEOUTS)
            if not answer.is_success:
                raise RuntimeError(f"not delivered: {answer}")
        return _POSTS

    return work


def _raw(port: int, ca_file: Path) -> Callable[[], int]:
    context = ssl.create_default_context(cafile=str(ca_file))
    request = (
        f"POST /hooks HTTP/1.1\r\nhost: {_HOST}:{port}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(_BODY)}\r\n\r\n"
    ).encode() + _BODY

    def work() -> int:
        for _ in range(_POSTS):
            with (
                socket.create_connection((_HOST, port)) as sock,
                context.wrap_socket(sock, server_hostname=_HOST) as wire,
            ):
                wire.sendall(request)
                if wire.recv(4096) != _ANSWER:
                    raise RuntimeError("no answer")
        return _POSTS

    return work


def _tls_server(folder: Path) -> Server:
    """One whose CA's certificate is `ca.pem` in `folder`."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    issued = authority.create_child_ca().issue_cert(_HOST)
    issued.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    return Server(_serve_tls, folder / "server.pem")


def _serve_tls(listener: socket.socket, certificate: Path) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    while True:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(OSError), context.wrap_socket(sock, server_side=True) as wire:
            request = b""
            while not request.endswith(_BODY):
                request += wire.recv(65536)
            wire.sendall(_ANSWER)


def _silent(_sock: socket.socket) -> None:
    """Takes the request and never responds; takes a connection and says nothing to TLS; reads nothing."""


def _trickle_status(sock: socket.socket) -> None:
    for byte in b"HTTP/1.1 200 " + b"O" * 1000:
        sock.sendall(bytes([byte]))
        time.sleep(_TRICKLE_SECONDS)


def _trickle_header(sock: socket.socket) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\n")
    for number in range(1000):
        sock.sendall(b"x-%d: y\r\n" % number)
        time.sleep(_TRICKLE_SECONDS)


_STALLS: dict[str, tuple[str, Callable[[socket.socket], None], bytes]] = {
    "never answers": ("http", _silent, _BODY),
    "no TLS handshake": ("https", _silent, _BODY),
    "reads no body": ("http", _silent, _LARGE_BODY),
    "trickles the status": ("http", _trickle_status, _BODY),
    "trickles the header": ("http", _trickle_header, _BODY),
}


def _stalls() -> dict[str, list[float]]:
    """Seconds that a POST to each took."""
    from lms_webhooks.dispatcher.dispatcher import TIMEOUTS  # noqa: PLC0415
    from lms_webhooks.model.attempts import ErrorClass  # noqa: PLC0415  # after `prepare`
    from lms_webhooks.sending.sender import Sender  # noqa: PLC0415
    from lms_webhooks.sending.webhook_request import WebhookRequest  # noqa: PLC0415

    sender = Sender(loopback_allowed=True)

    def post(kind: str) -> float:
        scheme, behave, body = _STALLS[kind]
        with _stalling(behave) as port:
            message = WebhookRequest(f"{scheme}://{_HOST}:{port}/", {}, body)
            began = time.monotonic()
            answer = sender.post(message, timeouts=TIMEOUTS)
            took = time.monotonic() - began
        if answer.error_class is not ErrorClass.TIMEOUT:
            raise RuntimeError(f"{kind}: {answer}")
        return took

    taken: dict[str, list[float]] = {kind: [] for kind in _STALLS}
    with ThreadPoolExecutor(len(_STALLS)) as threads:
        for _ in range(_STALL_ROUNDS):
            for kind, seconds in zip(_STALLS, threads.map(post, _STALLS), strict=True):
                taken[kind].append(seconds)
    return taken


@contextmanager
def _stalling(behave: Callable[[socket.socket], None]) -> Iterator[int]:
    with socket.create_server((_HOST, 0)) as listener:
        held: list[socket.socket] = []

        def serve() -> None:
            with suppress(OSError):  # the caller went
                sock, _ = listener.accept()
                held.append(sock)
                behave(sock)

        thread = Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()
        for sock in held:
            sock.close()
