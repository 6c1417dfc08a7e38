"""What the scenarios of a benchmark share: a stack, an account of it, and what receivers got."""

import itertools
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

from lms_webhooks.model.events import read_sort_key
from local.deploy import ACCOUNT_IDS
from local.stack import Answer, Stack, down, up
from tests.fakes.receiver import Receiver

ACCOUNT_ID = ACCOUNT_IDS[0]


@dataclass
class Scenario:
    """One scenario's stack, and whether all that it checked held."""

    stack: Stack
    token: str
    events: int
    holds: bool = True
    emitted_at: dict[str, float] = field(default_factory=dict)
    """Event id -> when it was put on the bus (monotonic)."""

    def say(self, text: str) -> None:
        print(f"    {text}", flush=True)

    def check(self, claim: str, is_true: bool) -> None:
        self.holds &= is_true
        print(f"    {'✓' if is_true else '✗'} {claim}", flush=True)

    def register(self, name: str, url: str, **more: Any) -> str:
        return str(self.create(name, url, **more)["webhookId"])

    def create(self, name: str, url: str, **more: Any) -> dict[str, Any]:
        """A new webhook, as the API returns it."""
        body = {
            "name": name,
            "targetUrl": url,
            "authentication": {"type": "none"},
            "events": ["COURSE_ENROLLMENT"],
            "status": "active",
            **more,
        }
        created = self._call("POST", "/v1/webhooks", body)
        if created.status_code != 201:
            raise SystemExit(f"could not register {name}: {created.status_code} {created.body}")
        webhook: dict[str, Any] = created.body
        return webhook

    def change(self, webhook_id: str, **fields: Any) -> None:
        changed = self._call("PATCH", f"/v1/webhooks/{webhook_id}", fields)
        if changed.status_code != 200:
            raise SystemExit(f"could not change {fields}: {changed.status_code} {changed.body}")

    def _call(self, method: str, path: str, body: object) -> Answer:
        """Call the admin API as soon as the account may: it makes and changes ten webhooks a minute."""
        while True:
            answer = self.stack.call(method, path, token=self.token, body=body)
            if answer.status_code != HTTPStatus.TOO_MANY_REQUESTS:
                return answer
            time.sleep(1)

    def emit(self, prefix: str, count: int, *, per_second: float = 0) -> list[str]:
        """Emit `count` events, whose ids and times are in one order; return the ids."""
        first_ms = time.time_ns() // 1_000_000
        ids = [f"{prefix}{index:06d}" for index in range(count)]
        for start in range(0, count, 10):
            began = time.monotonic()
            self.emitted_at.update(dict.fromkeys(ids[start : start + 10], began))
            self.stack.emit(
                [
                    {
                        "accountId": int(ACCOUNT_ID),
                        "eventId": id_,
                        "eventName": "COURSE_ENROLLMENT",
                        "timestamp": first_ms + start + offset,
                        "data": {"userId": 4279332, "loId": "course:7374992"},
                    }
                    for offset, id_ in enumerate(ids[start : start + 10])
                ]
            )
            if per_second:
                time.sleep(max(0.0, 10 / per_second - (time.monotonic() - began)))
        return ids

    def deliveries(self, webhook_id: str) -> dict[str, dict[str, Any]]:
        """The history of a webhook, by event id."""
        pages = (
            self.stack.client("dynamodb")
            .get_paginator("query")
            .paginate(
                TableName=self.stack.description["tables"]["deliveries"],
                KeyConditionExpression="pk = :pk",
                ExpressionAttributeValues={":pk": {"S": f"DELIVERY#{webhook_id}"}},
            )
        )
        return {read_sort_key(item["sk"]["S"])[1]: item for page in pages for item in page["Items"]}

    def delete(self, *webhook_ids: str) -> None:
        for webhook_id in webhook_ids:
            self.stack.call("DELETE", f"/v1/webhooks/{webhook_id}", token=self.token)

    def latencies_ms(self, receiver: Receiver, prefix: str) -> list[float]:
        """From the bus to the receiver, for the first arrival of each event."""
        arrived: dict[str, float] = {}
        for request in receiver.requests:
            for id_ in request.event_ids:
                if id_.startswith(prefix):
                    arrived.setdefault(id_, request.received_at)
        return [(at - self.emitted_at[id_]) * 1000 for id_, at in arrived.items()]


@contextmanager
def flow(scenario: Scenario, prefix: str, *, per_second: float) -> Iterator[None]:
    """Events without end, as long as the block runs."""
    stop = threading.Event()

    def emit() -> None:
        for index in itertools.count():
            if stop.is_set():
                return
            scenario.emit(f"{prefix}{index:05d}-", 10, per_second=per_second)

    emitter = threading.Thread(target=emit)
    emitter.start()
    try:
        yield
    finally:
        stop.set()
        emitter.join()


def arrive(receiver: Receiver, prefix: str, count: int, *, timeout_seconds: float = 120) -> None:
    """Wait until `count` different events whose ids start with `prefix` came in requests that got a 2xx."""

    def have_arrived() -> bool:
        return len({id_ for r in receiver.requests for id_ in r.event_ids if id_.startswith(prefix)}) >= count

    if not receiver.wait_for(have_arrived, timeout_seconds):
        raise SystemExit(f"{prefix}: not all of {count} events arrived in {timeout_seconds:.0f} s")


def waiting(scenario: Scenario, webhook_id: str, lane: str = "realtime") -> int:
    """How many events stand in a lane."""
    pages = (
        scenario.stack.client("dynamodb")
        .get_paginator("query")
        .paginate(
            TableName=scenario.stack.description["tables"]["deliveries"],
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": f"BACKLOG#{webhook_id}#{lane}"}},
            Select="COUNT",
        )
    )
    return sum(page["Count"] for page in pages)


def wait_until(
    is_so: Callable[[], bool], *, timeout_seconds: float = 180, every_seconds: float = 0.2
) -> None:
    """Poll what can only be seen by asking."""
    give_up_at = time.monotonic() + timeout_seconds
    while not is_so():
        if time.monotonic() > give_up_at:
            raise SystemExit(f"not within {timeout_seconds:.0f} s")
        time.sleep(every_seconds)


def run(scenarios: Mapping[str, Callable[[Scenario], None]], *, events: int) -> bool:
    """Run `scenarios` on a stack of their own, the largest with `events`; return whether all claims hold."""
    holds = True
    with tempfile.TemporaryDirectory() as folder:
        stack = up(Path(folder))
        try:
            for name, measure in scenarios.items():
                print(f"\n{name}: {measure.__doc__}", flush=True)
                began = time.monotonic()
                scenario = Scenario(stack, stack.id_token(ACCOUNT_ID), events)
                measure(scenario)
                scenario.say(f"({time.monotonic() - began:.0f} s)")
                holds &= scenario.holds
        finally:
            down(Path(folder))
    print("\nall of it holds" if holds else "\nnot all of it holds")
    return holds
