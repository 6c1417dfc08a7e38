"""Measure how much memory the functions take at the worst that tenants can do.

Each case runs in a process of its own: the product's code over botocore, whose wire is cut. What AWS would
return is made here, and is parsed as ever. Receivers are in another process. The figure is the most that the
process ever took: VmHWM, for ru_maxrss counts what the process took that started it. The functions have
512 MB (the template's MemorySize).
"""

import base64
import gzip
import io
import json
import multiprocessing
import os
import random
import re
import string
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bench.results import Figure

if TYPE_CHECKING:
    from lms_webhooks.aws.dynamodb import Table
    from lms_webhooks.model.webhooks import Webhook

MOST_MB = 256
"""Half of what the functions have. One that is at two of these cases at once still has room."""
ACCOUNTS = 10_000
_ACCOUNT = "1010"
_WEBHOOK = "wh_" + "a" * 22
_NOW_MS = 1_793_707_200_000
_TEXT_BYTES = 240_000  # of an event, about the most that there may be
_REQUEST_BYTES = 256 * 1024
_PAGE_BYTES = 1024 * 1024  # of a query's answer

type Answers = Callable[[str, dict[str, Any]], dict[str, Any]]
"""What DynamoDB returns for an operation with its parameters."""


def worst() -> list[Figure]:
    """Run each case in a process of its own."""
    figures: list[Figure] = []
    context = multiprocessing.get_context("spawn")
    for name, case in CASES.items():
        with ProcessPoolExecutor(1, mp_context=context) as processes:
            megabytes, told = processes.submit(_peak, case).result()
        title = f"{name}: {told}" if told else name
        figures.append(Figure(title, round(megabytes), "MB", at_most=MOST_MB))
    return figures


def _peak(case: Callable[[], str]) -> tuple[float, str]:
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    os.environ.setdefault("AWS_ACCESS_KEY_ID", "test")
    os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "test")
    told = case()
    return peak_mb(), told


def peak_mb() -> float:
    """The most memory that this process had. Linux."""
    (line,) = re.findall(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(line) / 1024


def nothing_yet() -> str:
    """Import what the drainer and the dispatcher import."""
    from lms_webhooks.dispatcher import dispatcher  # noqa: PLC0415
    from lms_webhooks.drainer import drain_run, drainer  # noqa: PLC0415
    from lms_webhooks.sending import sender  # noqa: PLC0415

    _table(lambda *_: {})
    return f"the code alone, {len((dispatcher, drainer, sender, drain_run))} modules and theirs"


def registrations() -> str:
    """Ten thousand accounts, each with the five largest webhooks that there may be, all of them failing."""
    from lms_webhooks.clocks import Clocks  # noqa: PLC0415
    from lms_webhooks.dispatcher.slow_endpoints import SlownessDetector  # noqa: PLC0415
    from lms_webhooks.stores.webhook_cache import WebhookCache  # noqa: PLC0415
    from lms_webhooks.stores.webhooks import WebhookStore  # noqa: PLC0415

    items = _largest_account()
    table = _table(lambda *_: {"Items": items, "Count": len(items)})
    webhook_cache = WebhookCache(
        WebhookStore(table.client, table.name),
        clocks=Clocks(wall=lambda: 0, monotonic=lambda: 0),  # none grows old
    )
    for number in range(ACCOUNTS):
        webhook_cache.for_account(f"{number}")
    known = sum(webhook_cache.cached(f"{number}") is not None for number in range(ACCOUNTS))
    pace = SlownessDetector()
    for number in range(5 * ACCOUNTS):
        for latency_ms in range(500, 520):
            pace.record_success(f"wh_{number:022d}", latency_ms)
    return f"{ACCOUNTS:,} accounts of five large webhooks, {known:,} remembered"


def page_to_expire() -> str:
    """A lane of ten pages of events that compress four-hundredfold, and all of them have expired."""
    return _end_all(texts=_compressible)


def page_to_purge() -> str:
    """A lane of ten pages of events that do not compress, and their webhook is deleted."""
    return _end_all(texts=_incompressible)


def _end_all(*, texts: Callable[[int], str]) -> str:
    from lms_webhooks.drainer.outcomes import OutcomeRecorder  # noqa: PLC0415
    from lms_webhooks.model.deliveries import Outcome  # noqa: PLC0415
    from lms_webhooks.model.lanes import Lane  # noqa: PLC0415
    from lms_webhooks.stores.backlog import Backlog  # noqa: PLC0415
    from lms_webhooks.stores.deliveries import DeliveryStore  # noqa: PLC0415

    page = _page(texts)
    left = 10

    def answer(operation: str, _: dict[str, Any]) -> dict[str, Any]:
        nonlocal left
        if operation != "Query":
            return {}
        left -= 1
        last = {"LastEvaluatedKey": {"pk": page[0]["pk"], "sk": {"S": f"{left}"}}} if left else {}
        return {"Items": page, "Count": len(page), **last}

    table = _table(answer)
    backlog = Backlog(table, retention_days=7)
    recorder = OutcomeRecorder(backlog, DeliveryStore(table, retention_days=30))
    ended = 0
    for waiting in backlog.read_all(_WEBHOOK, Lane.REALTIME):
        assert recorder.record_undelivered(
            _WEBHOOK, Lane.REALTIME, waiting, Outcome.EXPIRED, "not delivered within 7 days"
        )
        ended += len(waiting)
    return f"ten pages of a lane, {ended:,} events of {len(texts(0)) / 1000:.0f} KB"


def request_of_many() -> str:
    """The next request of a lane with a hundred events that compress four-hundredfold."""
    from lms_webhooks.drainer.choosing import request_of  # noqa: PLC0415
    from lms_webhooks.model.health import Health  # noqa: PLC0415
    from lms_webhooks.model.lanes import Lane  # noqa: PLC0415
    from lms_webhooks.sending.webhook_request import build_body  # noqa: PLC0415
    from lms_webhooks.stores.backlog import Backlog  # noqa: PLC0415

    page = _page(_compressible)[:100]
    backlog = Backlog(_table(lambda *_: {"Items": page, "Count": len(page)}), retention_days=7)
    for _ in range(50):
        waiting = backlog.read(_WEBHOOK, Lane.REALTIME, limit=100)
        body = build_body([each.event for each in request_of(waiting, Health(), most_bytes=_REQUEST_BYTES)])
    return f"50 requests of {len(body) / 1000:.0f} KB, from {len(waiting)} events each time"


def batch_for_five() -> str:
    """An SQS batch of six megabytes, all that Lambda takes, which is put into five backlogs at once."""
    from lms_webhooks.model.events import read_event  # noqa: PLC0415
    from lms_webhooks.model.lanes import Lane, PendingEvent  # noqa: PLC0415
    from lms_webhooks.stores.backlog import Backlog  # noqa: PLC0415

    bodies = [_message(number) for number in range(25)]
    size = sum(map(len, bodies))
    backlog = Backlog(_table(lambda *_: {}), retention_days=7)
    events = [read_event(body, source="lms", accepted_at_ms=_NOW_MS) for body in bodies]
    with ThreadPoolExecutor(5) as threads:
        for unwritten in threads.map(
            lambda number: backlog.append(
                f"wh_{number}", Lane.BATCH, [PendingEvent(each) for each in events]
            ),
            range(5),
        ):
            assert not unwritten
    return f"a batch of {size / 1e6:.0f} MB for five webhooks"


def admin_pages() -> str:
    """What admins may ask of the largest account, whose lanes hold events that compress four-hundredfold."""
    from lms_webhooks.admin import api  # noqa: PLC0415  # all that the function imports
    from lms_webhooks.admin.batch_schedules import BatchSchedules  # noqa: PLC0415
    from lms_webhooks.admin.caller import Caller  # noqa: PLC0415
    from lms_webhooks.admin.deliveries import Deliveries  # noqa: PLC0415
    from lms_webhooks.admin.inputs import WebhookInput  # noqa: PLC0415
    from lms_webhooks.admin.problems import BodyTooLarge, InvalidFields, InvalidJson  # noqa: PLC0415
    from lms_webhooks.admin.query_parameters import read_delivery_query  # noqa: PLC0415
    from lms_webhooks.admin.request_body import MAX_BODY_BYTES, read_body  # noqa: PLC0415
    from lms_webhooks.admin.stats import StatsReader  # noqa: PLC0415
    from lms_webhooks.model.lanes import Lane  # noqa: PLC0415
    from lms_webhooks.stores.backlog import Backlog  # noqa: PLC0415
    from lms_webhooks.stores.deliveries import DeliveryStore  # noqa: PLC0415
    from lms_webhooks.stores.webhooks import WebhookStore  # noqa: PLC0415

    webhook_id = f"wh_{0:022d}"
    account, lane, history = _largest_account(), _page(_compressible), _history()
    retry = [{**item, "sk": {"S": f"{_NOW_MS}#{item['sk']['S']}"}} for item in lane]
    marks, pages = [_mark(webhook_id, each) for each in Lane], count()

    def answer(operation: str, params: dict[str, Any]) -> dict[str, Any]:
        if operation == "GetItem" and params["Key"]["pk"]["S"].startswith("ACCOUNT#"):
            return {"Item": account[0]}
        if operation == "GetItem":
            return {"Item": {**lane[0], "outcome": {"S": "failed"}, "attempts": {"L": []}}}
        pk = params["ExpressionAttributeValues"][":pk"]["S"]
        if pk.startswith("ACCOUNT#"):
            return {"Items": account, "Count": len(account)}
        if pk.startswith("DUE#"):
            return {"Items": marks, "Count": len(marks)}
        items = history if pk.startswith("DELIVERY#") else retry if pk.endswith("#retry") else lane
        last = {"pk": {"S": pk}, "sk": {"S": f"{next(pages)}"}}
        if params.get("Select") == "COUNT":
            return {"Count": len(items), "LastEvaluatedKey": last}
        return {"Items": items, "Count": len(items), "LastEvaluatedKey": last}

    table = _table(answer)
    store = WebhookStore(table.client, table.name)
    backlog, records = Backlog(table, retention_days=7), DeliveryStore(table, retention_days=30)
    deliveries = Deliveries(store, records, backlog)

    def clock() -> float:
        return _NOW_MS / 1000

    schedules = BatchSchedules(backlog, every_minutes=15, clock=clock)
    stats = StatsReader(store, records, backlog, schedules, clock=clock)
    caller = Caller(_ACCOUNT, "ada@example.com", can_write=True)
    queries = [
        read_delivery_query(given, account_id=_ACCOUNT, webhook_id=webhook_id)
        for given in ({"limit": "100"}, {"eventName": "COURSE_COMPLETED"}, {"status": "pending"})
    ]
    for query in queries:
        deliveries.page(caller, webhook_id, query)
    stats.read(caller, webhook_id, hours=24)
    _, waiting = deliveries.find(caller, webhook_id, lane[0]["sk"]["S"])
    assert waiting.event.text
    for body in ("[" * MAX_BODY_BYTES, '{"x":1,' * 9_000 + "}", "x" * 10_000_000):  # API Gateway takes 10 MB
        event = {"headers": {"content-type": "application/json"}, "body": body}
        with suppress(BodyTooLarge, InvalidFields, InvalidJson):
            read_body(WebhookInput, event, context={"loopback_allowed": False})
    return f"the API, {api.__name__}: 3 pages of deliveries, its stats, 3 large bodies"


def sweep() -> str:
    """The batch function: a shard with 5,000 lanes of as many webhooks that are due, then its notices."""
    from lms_webhooks.aws.clients import sns, sqs  # noqa: PLC0415
    from lms_webhooks.aws.sqs import DrainQueue, SweepQueue  # noqa: PLC0415
    from lms_webhooks.batch.notifier import Notifier  # noqa: PLC0415
    from lms_webhooks.batch.sweep import Sweep  # noqa: PLC0415
    from lms_webhooks.model.lanes import ShardPart  # noqa: PLC0415
    from lms_webhooks.stores.backlog import Backlog  # noqa: PLC0415
    from lms_webhooks.stores.health import HealthStore  # noqa: PLC0415
    from lms_webhooks.stores.outbox import NotificationOutbox  # noqa: PLC0415
    from lms_webhooks.stores.webhook_states import WebhookStates  # noqa: PLC0415

    left = 5

    def answer(operation: str, params: dict[str, Any]) -> dict[str, Any]:
        nonlocal left
        if operation == "BatchGetItem":
            keys = params["RequestItems"]["table"]["Keys"]
            return {"Responses": {"table": [{**key, **_STANDING} for key in keys]}}
        if operation != "Query":
            return {}
        if params["ExpressionAttributeValues"][":pk"]["S"] == "NOTICES" or not left:
            return {"Items": [], "Count": 0, "ScannedCount": 0}
        left -= 1
        items = [_mark(f"wh_{left:04d}{number:018d}", "batch") for number in range(1000)]
        last = {"LastEvaluatedKey": {"pk": {"S": "DUE#1"}, "sk": items[-1]["sk"]}} if left else {}
        return {"Items": items, "Count": len(items), "ScannedCount": len(items), **last}

    table, queues = _table(answer), sqs()

    def send(request: Any, **_: Any) -> Any:
        entries = json.loads(request.body)["Entries"]
        return _response(request, {"Successful": [{"Id": each["Id"]} for each in entries], "Failed": []})

    cast("Any", queues.meta.events).register("before-send.sqs.*", send)
    backlog, webhook_states = Backlog(table, retention_days=7), WebhookStates(table)
    swept = Sweep(
        backlog=backlog,
        webhook_states=webhook_states,
        health=HealthStore(table),
        queue=DrainQueue(queues, "https://sqs.test/drain", "https://sqs.test/background"),
        sweep_queue=SweepQueue(queues, "https://sqs.test/sweep"),
    ).sweep_part(ShardPart(1, "wh_", "wh_"), remaining_seconds=3600)
    Notifier(
        NotificationOutbox(table), backlog, webhook_states, sns(), "arn:aws:sns:us-east-1:1:topic"
    ).send()
    assert not left
    return f"a sweep of {swept:,} webhooks that are due"


def hostile_answers() -> str:
    """Fifty receivers at once, whose responses are as long as may be, and whose bodies are gzip bombs."""
    from lms_webhooks.sending.sender import Sender, Timeouts  # noqa: PLC0415
    from lms_webhooks.sending.webhook_request import WebhookRequest  # noqa: PLC0415

    context = multiprocessing.get_context("spawn")
    urls = context.Queue()
    receiver = context.Process(target=_receive, args=(urls,), daemon=True)
    receiver.start()
    url = urls.get(timeout=60)
    sender = Sender(loopback_allowed=True)
    timeouts = Timeouts(connect_seconds=30, response_seconds=30, total_seconds=60)
    message = WebhookRequest(url, {}, b"x" * 250_000)
    with ThreadPoolExecutor(50) as threads:
        answers = list(threads.map(lambda _: sender.post(message, timeouts=timeouts), range(500)))
    receiver.kill()
    statuses = {answer.status_code for answer in answers}
    return f"500 answers with long headers and gzip bombs, 50 at once: {statuses}"


def _receive(urls: Any) -> None:
    from tests.fakes.receiver import Receiver, answer  # noqa: PLC0415

    bomb = gzip.compress(b"x" * 100_000_000)
    headers = {f"x-{number}": "v" * 2_000 for number in range(90)} | {"content-encoding": "gzip"}
    with Receiver(answer(500, headers=headers, body=bomb)) as receiver:
        urls.put(receiver.url())
        threading.Event().wait()


CASES: dict[str, Callable[[], str]] = {
    "nothing": nothing_yet,
    "registrations": registrations,
    "expiry": page_to_expire,
    "purge": page_to_purge,
    "request": request_of_many,
    "batch": batch_for_five,
    "admin": admin_pages,
    "sweep": sweep,
    "answers": hostile_answers,
}


def _table(answers: Answers) -> "Table":
    """A table whose client is whole but for its wire."""
    from lms_webhooks.aws import clients  # noqa: PLC0415
    from lms_webhooks.aws.dynamodb import Table  # noqa: PLC0415

    client = clients.dynamodb()

    def send(request: Any, **_: Any) -> Any:
        operation = request.headers["X-Amz-Target"].decode().partition(".")[2]
        return _response(request, answers(operation, json.loads(request.body)))

    cast("Any", client.meta.events).register("before-send.dynamodb.*", send)
    return Table(client, "table")


def _response(request: Any, answer: dict[str, Any]) -> Any:
    from botocore.awsrequest import AWSResponse  # noqa: PLC0415

    return AWSResponse(request.url, 200, cast("Any", {}), _Raw(_wired(answer)))


class _Raw(io.BytesIO):
    def stream(self, *_: object, **__: object) -> Any:
        yield self.read()


def _wired(answer: dict[str, Any]) -> bytes:
    def encoded(value: object) -> str:
        assert isinstance(value, bytes)
        return base64.b64encode(value).decode()

    return json.dumps(answer, default=encoded).encode()


def _compressible(_: int) -> str:
    return json.dumps({"note": "x" * _TEXT_BYTES})


def _incompressible(number: int, length: int = 12_000) -> str:
    draw = random.Random(number)
    return json.dumps({"note": "".join(draw.choices(string.printable[:95], k=length))})


def _message(number: int) -> str:
    detail = {
        "accountId": int(_ACCOUNT),
        "eventId": f"e{number}",
        "eventName": "COURSE_COMPLETED_BATCH",
        "timestamp": _NOW_MS + number,
        "data": json.loads(_incompressible(number, length=_TEXT_BYTES - 20_000)),
    }
    return json.dumps({"source": "lms", "detail-type": "COURSE_COMPLETED_BATCH", "detail": detail})


def _page(texts: Callable[[int], str]) -> list[dict[str, Any]]:
    """A megabyte of a lane, as `stores/items` writes it."""
    from lms_webhooks.model.events import Event  # noqa: PLC0415
    from lms_webhooks.stores.items import event_attributes  # noqa: PLC0415

    items: list[dict[str, Any]] = []
    size = 0
    while size < _PAGE_BYTES:
        number = len(items)
        event = Event(_ACCOUNT, f"e{number}", "COURSE_COMPLETED", _NOW_MS + number, _NOW_MS, texts(number))
        attributes = event_attributes(event)
        item = {"pk": {"S": f"BACKLOG#{_WEBHOOK}#realtime"}, "sk": {"S": event.sort_key}, **attributes}
        items.append(item)
        size += len(cast("bytes", next(iter(attributes["event"].values())))) + 150
    return items


_STANDING = {
    "status": {"S": "active"},
    "epoch": {"N": "1"},
    "next_attempt_at_ms": {"N": "0"},
    "failures": {"N": "0"},
}


def _mark(webhook_id: str, lane: str) -> dict[str, Any]:
    return {
        "pk": {"S": "DUE#1"},
        "sk": {"S": f"{webhook_id}#{lane}"},
        "token": {"S": "0123456789abcdef"},
        "account_id": {"S": _ACCOUNT},
        "due_at": {"N": "0"},
        "check_at": {"N": str(10 * _NOW_MS)},
    }


def _history() -> list[dict[str, Any]]:
    """A page of the history, without the events: as many records as a megabyte holds."""
    attempts = {"L": [{"S": f"{_NOW_MS} 80 503 -"}]}
    return [
        {
            "pk": {"S": f"DELIVERY#{_WEBHOOK}"},
            "sk": {"S": f"{_NOW_MS - number}#e{number}"},
            "event_name": {"S": "COURSE_COMPLETED"},
            "accepted_at": {"N": str(_NOW_MS)},
            "outcome": {"S": "failed"},
            "attempts": attempts,
        }
        for number in range(_PAGE_BYTES // 150)
    ]


def _largest_account() -> list[dict[str, Any]]:
    from lms_webhooks.aws.dynamodb import key_item  # noqa: PLC0415
    from lms_webhooks.model.attempts import Attempt  # noqa: PLC0415
    from lms_webhooks.model.health import Health  # noqa: PLC0415
    from lms_webhooks.stores.health import health_attributes, health_key  # noqa: PLC0415
    from lms_webhooks.stores.webhooks import _item  # noqa: PLC0415

    attempts = tuple(Attempt(_NOW_MS + number, 5000 + number, 503, None) for number in range(20))
    items: list[dict[str, Any]] = []
    for number in range(5):
        webhook = _largest_webhook(f"wh_{number:022d}")
        health = {
            **key_item(health_key(_ACCOUNT, webhook.webhook_id)),
            **health_attributes(Health(attempts=attempts)),
        }
        items += [dict(_item(webhook)), dict(health)]
    return items


def _largest_webhook(webhook_id: str) -> "Webhook":
    from lms_webhooks.model.event_types import EVENT_TYPES  # noqa: PLC0415
    from lms_webhooks.model.webhooks import SignatureAuthentication, Status, Webhook  # noqa: PLC0415

    return Webhook(
        account_id=_ACCOUNT,
        webhook_id=webhook_id,
        name="n" * 80,
        description="d" * 140,
        target_url="https://hooks.example.com/" + "u" * 2_000,
        authentication=SignatureAuthentication(b"c" * 200, b"c" * 200, "2026-11-04T12:00:00.000Z"),
        events=frozenset(EVENT_TYPES),
        status=Status.ACTIVE,
        created_at="2026-11-03T12:00:00.000Z",
        updated_at="2026-11-03T12:00:00.000Z",
        created_by="ada@example.com",
        updated_by="ada@example.com",
        headers={f"x-header-{number}": "v" * 1_000 for number in range(10)},
    )
