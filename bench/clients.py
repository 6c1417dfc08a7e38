"""One POST by our sender, and by other HTTP clients: one after the other, and ten at a time.

All send the same body with the same headers to the same receiver over kept-alive connections. None has a
goal: it shows what requests as it is, or another client in its place, would give.
"""

import http.client
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import requests
import urllib3

from bench.results import Row, figure, ratio, rounds
from bench.servers import Receiver

_POSTS = 200
_AT_ONCE = 10
_BODY = b"x" * 535
_HEADERS = {
    "content-type": "application/json",
    "user-agent": "lms-webhooks",
    "webhook-id": "message",
    "webhook-timestamp": "1727414643",
    "webhook-signature": "v1," + "x" * 44,
}

type Post = Callable[[], int]
"""Send one; return the status."""


def measure() -> Row:
    """Each client alone, then with ten threads."""
    with Receiver() as receiver:
        clients = {
            "ours": _ours(receiver),
            "requests.Session": _of_thread(lambda: _session(receiver)),
            "urllib3": _urllib3(receiver),
            "httpx": _httpx(receiver),
            "http.client": _of_thread(lambda: _http_client(receiver)),
        }
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            alone = rounds({name: _one_by_one(post) for name, post in clients.items()})
            together = rounds({name: _together(threads, post) for name, post in clients.items()})
    figures = []
    for way, samples in (("one by one", alone), ("ten at a time", together)):
        cpu = {name: [each.cpu_us for each in taken] for name, taken in samples.items()}
        figures += [figure(f"{name}, {way}", taken, "CPU us/POST") for name, taken in cpu.items()]
        figures += [
            ratio(f"CPU of {name} / ours, {way}", taken, cpu["ours"], is_better_high=True)
            for name, taken in cpu.items()
            if name != "ours"
        ]
    return Row(figures)


def _one_by_one(post: Post) -> Callable[[], int]:
    def work() -> int:
        if any(post() != 200 for _ in range(_POSTS)):
            raise RuntimeError("not acknowledged")
        return _POSTS

    return work


def _together(threads: ThreadPoolExecutor, post: Post) -> Callable[[], int]:
    def work() -> int:
        if any(status != 200 for status in threads.map(lambda _: post(), range(_POSTS))):
            raise RuntimeError("not acknowledged")
        return _POSTS

    return work


def _ours(receiver: Receiver) -> Post:
    from lms_webhooks.dispatcher.dispatcher import TIMEOUTS  # noqa: PLC0415  # not at the import of every row
    from lms_webhooks.sending.sender import Sender  # noqa: PLC0415
    from lms_webhooks.sending.webhook_request import WebhookRequest  # noqa: PLC0415

    sender = Sender(loopback_allowed=True)
    message = WebhookRequest(f"{receiver.url}/hooks", _HEADERS, _BODY)
    return lambda: sender.post(message, timeouts=TIMEOUTS).status_code or 0


def _of_thread(make: Callable[[], Post]) -> Post:
    """For clients that threads cannot share."""
    local = threading.local()

    def post() -> int:
        if not hasattr(local, "post"):
            local.post = make()
        status: int = local.post()
        return status

    return post


def _session(receiver: Receiver) -> Post:
    session = requests.Session()
    url = f"{receiver.url}/hooks"
    return lambda: session.post(url, data=_BODY, headers=_HEADERS, timeout=5).status_code


def _urllib3(receiver: Receiver) -> Post:
    pool = urllib3.PoolManager(maxsize=_AT_ONCE)
    url = f"{receiver.url}/hooks"
    return lambda: pool.request("POST", url, body=_BODY, headers=_HEADERS, timeout=5).status


def _httpx(receiver: Receiver) -> Post:
    client = httpx.Client(trust_env=False)
    url = f"{receiver.url}/hooks"
    return lambda: client.post(url, content=_BODY, headers=_HEADERS, timeout=5).status_code


def _http_client(receiver: Receiver) -> Post:
    connection = http.client.HTTPConnection("127.0.0.1", receiver.port, timeout=5)

    def post() -> int:
        connection.request("POST", "/hooks", body=_BODY, headers=_HEADERS)
        answer = connection.getresponse()
        answer.read()
        return answer.status

    return post
