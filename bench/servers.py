"""What a measured function talks to, each in a process of its own so that only the function's work is seen.

`Receiver` acknowledges every POST with as little work as a server can do. `Aws` stands in for DynamoDB, SQS
and KMS with tables in memory: at once, and without the network's share.
"""

import asyncio
import base64
import json
import multiprocessing
import random
import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from tests.scenarios.tables import Refused, Tables

WEBHOOKS = "webhooks"
DELIVERIES = "deliveries"
SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
HANGS = "/hangs"  # a path that starts so is never answered
SEEN = "/seen"  # GET: when each path was last answered, and how many POSTs there were

_ACKNOWLEDGED = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"

type Answer = Callable[[str, dict[str, str], bytes], bytes | None]
"""Path, headers and body of a request in; the whole response out, or None for none ever."""


@dataclass
class _Connection:
    sock: socket.socket
    unread: bytearray = field(default_factory=bytearray)


class Server:
    """One process that serves a socket by `serve(listener, *details)`. A context manager."""

    def __init__(self, serve: Callable[..., None], *details: object) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        # It listens already: what is asked before the process is there waits for it.
        self._process = multiprocessing.get_context("spawn").Process(
            target=serve, args=(self._listener, *details), daemon=True
        )

    def __enter__(self) -> Self:
        self._process.start()
        self._listener.close()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.join()


class Receiver(Server):
    """Acknowledges what comes. It reads no more of a request than how long it is."""

    def __init__(self) -> None:
        super().__init__(_serve, _acknowledge)

    def seen(self) -> dict[str, Any]:
        """`{"posts": n, "answered": {path: monotonic seconds}}`, since the last time this was asked."""
        return _ask(self.port)


class Endpoints(Server):
    """Acknowledges `POST /300` after some 300 milliseconds, many at a time."""

    def __init__(self) -> None:
        super().__init__(_serve_endpoints)

    def answered(self) -> dict[str, float]:
        """When each message was acknowledged, by its id, in monotonic seconds; since this was last asked."""
        return _ask(self.port)


class Aws(Server):
    """DynamoDB with the product's two tables, SQS that forgets, and KMS with one secret."""

    def __init__(self) -> None:
        super().__init__(_serve, _aws)


def _ask(port: int) -> dict[str, Any]:
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(f"GET {SEEN} HTTP/1.1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".encode())
        sock.shutdown(socket.SHUT_WR)
        answer = bytearray()
        while piece := sock.recv(65536):
            answer += piece
    seen: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
    return seen


def _acknowledge() -> Answer:
    seen: dict[str, Any] = {"posts": 0, "answered": {}}

    def answer(path: str, _headers: dict[str, str], _body: bytes) -> bytes | None:
        if path == SEEN:
            told = _json_answer("200 OK", seen)
            seen.update(posts=0, answered={})
            return told
        if path.startswith(HANGS):
            return None
        seen["posts"] += 1
        seen["answered"][path] = time.monotonic()
        return _ACKNOWLEDGED

    return answer


def _aws() -> Answer:
    tables = Tables(WEBHOOKS, DELIVERIES)

    def act(operation: str, params: dict[str, Any]) -> dict[str, Any]:
        match operation:
            case "Decrypt":
                return {"Plaintext": base64.b64encode(SECRET.encode()).decode(), "KeyId": "key"}
            case "SendMessage":
                return {"MessageId": "message"}
            case "SendMessageBatch":
                return {"Successful": [{"Id": each["Id"]} for each in params["Entries"]]}
            case _:
                return tables.call(operation, params)

    def answer(_path: str, headers: dict[str, str], body: bytes) -> bytes | None:
        status = "200 OK"
        try:
            told = act(headers["x-amz-target"].rpartition(".")[2], json.loads(body))
        except Refused as refused:
            status = "400 Bad Request"
            told = {"__type": refused.code, "message": "refused"}
            told["CancellationReasons"] = [{"Code": code} for code in refused.reasons or []]
        return _json_answer(status, told)

    return answer


def _serve(listener: socket.socket, make_answer: Callable[[], Answer]) -> None:
    answer = make_answer()
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                sock, _address = listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(sock, selectors.EVENT_READ, _Connection(sock))
            elif not _read(key.data, answer):
                selector.unregister(key.data.sock)
                key.data.sock.close()


def _serve_endpoints(listener: socket.socket) -> None:
    answered: dict[str, float] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionResetError):
                writer.close()
                return
            path, headers = _read_head(head.decode("latin-1"))
            await reader.readexactly(int(headers["content-length"]))
            if path == SEEN:
                writer.write(_json_answer("200 OK", answered))
                answered.clear()
                continue
            # Never quite the same, or dispatchers that began together would go on together.
            await asyncio.sleep(int(path[1:]) / 1000 * random.uniform(0.9, 1.1))
            answered[headers["webhook-id"]] = time.monotonic()
            writer.write(_ACKNOWLEDGED)

    async def main() -> None:
        server = await asyncio.start_server(serve, sock=listener)
        await server.serve_forever()

    asyncio.run(main())


def _read(connection: _Connection, answer: Answer) -> bool:
    """Respond to each complete request; return False when the connection is at its end."""
    try:
        piece = connection.sock.recv(1 << 20)
        if not piece:
            return False
        connection.unread += piece
        while request := _cut_request(connection.unread):
            told = answer(*request)
            if told is not None:
                connection.sock.sendall(told)
    except OSError:
        return False
    return True


def _cut_request(unread: bytearray) -> tuple[str, dict[str, str], bytes] | None:
    """Take the first complete request out of `unread`."""
    end = unread.find(b"\r\n\r\n")
    if end < 0:
        return None
    path, headers = _read_head(unread[:end].decode("latin-1"))
    whole = end + 4 + int(headers.get("content-length", 0))
    if len(unread) < whole:
        return None
    body = bytes(unread[end + 4 : whole])
    del unread[:whole]
    return path, headers, body


def _read_head(text: str) -> tuple[str, dict[str, str]]:
    first, *lines = text.strip().split("\r\n")
    return first.split(" ")[1], {
        name.lower(): value for name, _, value in (line.partition(": ") for line in lines)
    }


def _json_answer(status: str, told: object) -> bytes:
    text = json.dumps(told).encode()
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: {len(text)}"
    return head.encode() + b"\r\n\r\n" + text
