"""Deliveries a second of the dispatcher, all its bookkeeping on, against what does less.

- the floor: requests that are ready, over raw kept-alive sockets, nothing written down
- sessions: a pool of ten threads, each with a bare `requests.Session`; the body is made and signed
- loop: what is written first: `requests.post` in a loop, and a put by boto3's DynamoDB client for each
"""

import base64
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import boto3
import requests

from bench.in_process_function import EVENT_NAME, Events, Function, prepare, register
from bench.results import ROUNDS, Figure, Row, Sample, figure, ratio, rounds
from bench.servers import DELIVERIES, SECRET, Aws, Receiver

BATCH = 10
WEBHOOKS_EACH = (1, 5)
_BATCHES = {1: 20, 5: 6}  # of a round, so that each takes about as long
GOALS = {"sessions": 1.0, "loop": 3.0, "floor": 0.05}  # deliveries/s, at least so many times theirs
_FLOOR_POSTS = 2_000
_SESSION_POSTS = 200
_LOOP_POSTS = 100
_ACKNOWLEDGED_BYTES = len(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")


def measure() -> Row:
    """Measure with one webhook an event, and with five."""
    with Aws() as aws, Receiver() as receiver:
        prepare(aws.url)
        function = Function("dispatcher")
        events = Events()
        figures: list[Figure] = []
        for webhooks in WEBHOOKS_EACH:
            account_id = str(1000 + webhooks)
            urls = [f"{receiver.url}/hooks/{number}" for number in range(webhooks)]
            register(account_id, *urls)
            samples = rounds(
                {
                    "ours": dispatcher(
                        function, events, [account_id] * BATCH, batches=_BATCHES[webhooks], webhooks=webhooks
                    ),
                    "floor": floor(receiver, webhooks),
                    "sessions": sessions(urls),
                    "loop": loop(urls),
                }
            )
            figures += _figures(samples, webhooks)
        least = (ROUNDS + 1) * sum(_BATCHES[each] * BATCH * each for each in WEBHOOKS_EACH)
        if (posts := receiver.seen()["posts"]) < least:
            raise RuntimeError(f"the receiver saw {posts} POSTs of at least {least}")
        return Row(figures)


def _figures(samples: dict[str, list[Sample]], webhooks: int) -> list[Figure]:
    each = {name: [one.per_second for one in taken] for name, taken in samples.items()}
    cpu = {name: [one.cpu_us for one in taken] for name, taken in samples.items()}
    where = f"w={webhooks}"
    ours = each["ours"]
    return [
        *(figure(f"{where} {name}", values, "deliveries/s") for name, values in each.items()),
        *(figure(f"{where} {name}, CPU", values, "us/delivery") for name, values in cpu.items()),
        *(ratio(f"{where} ours / {name}", ours, each[name], at_least=least) for name, least in GOALS.items()),
        # The one to trust where the machine has other work: wall time is shared, CPU is our own.
        ratio(f"{where} CPU of sessions / ours", cpu["sessions"], cpu["ours"], at_least=1.0),
    ]


def dispatcher(
    function: Function, events: Events, accounts: Sequence[str], *, batches: int, webhooks: int
) -> Callable[[], int]:
    """Ours: in a round so many `batches`, each with an event of each of `accounts`, which have as many
    `webhooks` each."""
    # Made before anything is measured.
    ready = [events.batch(*accounts) for _ in range(batches * (ROUNDS + 1))]

    def work() -> int:
        for _ in range(batches):
            answer = function.invoke(ready.pop())
            if answer["batchItemFailures"]:
                raise RuntimeError(f"not delivered: {answer}")
        return batches * len(accounts) * webhooks

    return work


def floor(receiver: Receiver, webhooks: int) -> Callable[[], int]:
    body = b"x" * 535
    request = (
        f"POST /hooks HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode() + body
    sockets = [socket.create_connection(("127.0.0.1", receiver.port)) for _ in range(webhooks)]
    for sock in sockets:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def work() -> int:
        for _ in range(_FLOOR_POSTS // webhooks):
            for sock in sockets:
                sock.sendall(request)
            for sock in sockets:
                sock.recv(_ACKNOWLEDGED_BYTES, socket.MSG_WAITALL)
        return _FLOOR_POSTS // webhooks * webhooks

    return work


def sessions(urls: Sequence[str]) -> Callable[[], int]:
    of_thread = threading.local()
    threads = ThreadPoolExecutor(BATCH)
    key = base64.b64decode(SECRET.removeprefix("whsec_"))

    def post(number: int) -> None:
        if not hasattr(of_thread, "session"):
            of_thread.session = requests.Session()
        body, message_id = event_body(number), f"message-{number}"
        timestamp = int(time.time())
        signed = f"{message_id}.{timestamp}.".encode() + body
        signature = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
        headers = {
            "content-type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": f"v1,{signature}",
        }
        answer = of_thread.session.post(urls[number % len(urls)], data=body, headers=headers, timeout=5)
        answer.raise_for_status()

    def work() -> int:
        list(threads.map(post, range(_SESSION_POSTS)))
        return _SESSION_POSTS

    return work


def loop(urls: Sequence[str]) -> Callable[[], int]:
    dynamodb = boto3.client("dynamodb")  # as it comes: nobody begins with a configuration of it

    def work() -> int:
        for number in range(_LOOP_POSTS):
            body = event_body(number)
            headers = {"content-type": "application/json"}
            answer = requests.post(urls[number % len(urls)], data=body, headers=headers, timeout=5)
            dynamodb.put_item(
                TableName=DELIVERIES,
                Item={
                    "pk": {"S": "LOOP"},
                    "sk": {"S": str(number)},
                    "event": {"S": body.decode()},
                    "status": {"N": str(answer.status_code)},
                },
            )
        return _LOOP_POSTS

    return work


def event_body(number: int) -> bytes:
    data = {"userId": 4279332, "loId": "course:7374992", "loInstanceId": "course:7374992_10250977"}
    more = {"loType": "course", "enrollmentSource": "SELF_ENROLL", "dateEnrolled": 1727414643}
    event = {
        "eventId": f"{number:08d}-10a9-46b2-9f9e-79dde346c052",
        "eventName": EVENT_NAME,
        "timestamp": 1727414643000,
        "eventInfo": "1727414643000-047210-84242-0",
        "data": data | more,
    }
    return json.dumps({"accountId": 1010, "events": [event]}).encode()
