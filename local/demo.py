"""The main job, shown: three webhooks, one event of each real-time type, and a check of each delivery."""

import queue
import secrets
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Never

from lms_webhooks.event_types import EVENT_TYPES
from local.deploy import ACCOUNT_IDS
from local.emit import make_event
from local.engine import log_file
from local.receiver import Received, Receiver, basic_authentication, no_authentication, signature
from local.stack import Stack
from local.steps import failure, paint, step

ACCOUNT_ID = ACCOUNT_IDS[0]
DELIVERY_WAIT_SECONDS = 60.0
# A dispatcher that already runs may know the account's webhooks as they were: registrations are
# cached for at most this long.
REGISTRATION_CACHE_SECONDS = 10.0

_NAME_PREFIX = "Demo: "
_VERIFIED = {
    "none": "no authentication, as asked",
    "basic": "name and password right",
    "signature": "signature verified",
}


@dataclass
class Tally:
    """What arrived: each event once for each webhook, however often it was sent."""

    emitted: dict[str, dict[str, Any]]
    emitted_at_seconds: float
    delivered: dict[tuple[str, str], str | None] = field(default_factory=dict)
    """(kind of webhook, event id) -> what was wrong with it."""
    latencies_ms: list[float] = field(default_factory=list)

    @property
    def expected(self) -> int:
        """Every event for every webhook."""
        return len(self.emitted) * len(_VERIFIED)

    @property
    def verified(self) -> int:
        """How many were right in every way."""
        return sum(problem is None for problem in self.delivered.values())

    def missing(self, kind: str) -> list[str]:
        """Names of the events that the webhook of this kind did not get."""
        return [
            event["eventName"] for id_, event in self.emitted.items() if (kind, id_) not in self.delivered
        ]

    def take(self, received: Received) -> None:
        """Count a request's events, and print a line for each."""
        kind = received.path.strip("/")
        if not received.events:
            print(paint(f"  ✗ {kind:<10} a body without events: {received.body[:80]!r}", "red"), flush=True)
        for event in received.events:
            event_id = str(event.get("eventId"))
            problem = received.problem or self._difference(event_id, event)
            again = " (again)" if (kind, event_id) in self.delivered else ""
            latency_ms = (received.at_seconds - self.emitted_at_seconds) * 1000
            if event_id in self.emitted and not again:
                self.delivered[kind, event_id] = problem
                self.latencies_ms.append(latency_ms)
            mark, colour = ("✗", "red") if problem else ("✓", "green")
            result = problem or _VERIFIED.get(kind, "not checked")
            print(
                f"  {paint(mark, colour)} {event.get('eventName', '?'):<42} {kind:<10}"
                f" {result:<28}{paint(f'{latency_ms:7.0f} ms', 'grey')}{again}",
                flush=True,
            )

    def _difference(self, event_id: str, event: dict[str, Any]) -> str | None:
        if event_id not in self.emitted:
            return None
        sent = {name: value for name, value in self.emitted[event_id].items() if name != "accountId"}
        return None if event == sent else "not what was emitted"


def demo(stack: Stack, *, fresh: bool, stay: bool) -> bool:
    """Run it against `stack`; with `stay`, go on receiving until Ctrl-C. True when every number agrees."""
    received: queue.Queue[Received] = queue.Queue()
    with Receiver(received.put) as receiver:
        token = stack.id_token(ACCOUNT_ID)
        with step("registering three webhooks: none, basic, signature", log=log_file(stack.state_dir)):
            remove_demo_webhooks(stack, token)
            webhook_ids = _register(stack, token, receiver)
        try:
            if not fresh:
                with step("waiting until the running dispatcher knows them"):
                    time.sleep(REGISTRATION_CACHE_SECONDS)
            tally = _emit(stack)
            print(flush=True)
            give_up_at = time.monotonic() + DELIVERY_WAIT_SECONDS
            while len(tally.delivered) < tally.expected and time.monotonic() < give_up_at:
                with suppress(queue.Empty):
                    tally.take(received.get(timeout=0.2))
            all_agree = _summarize(stack, tally)
            if stay:
                _suggest(stack, receiver, webhook_ids)
                with suppress(KeyboardInterrupt):  # how it is meant to end
                    _show_from_now_on(tally, received)
            return all_agree
        finally:
            with suppress(OSError):  # the stack may be what failed
                remove_demo_webhooks(stack, token)


def remove_demo_webhooks(stack: Stack, token: str) -> None:
    """Delete what an earlier demo registered: an account has only so many webhooks."""
    answer = stack.call("GET", "/v1/webhooks", token=token)
    if answer.status_code != 200:
        raise failure("listing webhooks", f"{answer.status_code} {answer.body}", stack.log_file)
    for webhook in answer.body["webhooks"]:
        if webhook["name"].startswith(_NAME_PREFIX):
            stack.call("DELETE", f"/v1/webhooks/{webhook['webhookId']}", token=token)


def _register(stack: Stack, token: str, receiver: Receiver) -> list[str]:
    password = secrets.token_urlsafe(12)
    ways: dict[str, tuple[dict[str, str], Callable[[dict[str, Any]], Any]]] = {
        "none": ({"type": "none"}, lambda _: no_authentication),
        "basic": (
            {"type": "basic", "username": "lms", "password": password},
            lambda _: basic_authentication("lms", password),
        ),
        "signature": ({"type": "signature"}, lambda webhook: signature(webhook["authentication"]["secret"])),
    }
    webhook_ids = []
    for kind, (authentication, check_for) in ways.items():
        webhook = {
            "name": f"{_NAME_PREFIX}{kind}",
            "targetUrl": f"{receiver.url}/{kind}",
            "authentication": authentication,
            "events": [event_type.name for event_type in EVENT_TYPES.values()],
            "status": "active",
        }
        answer = stack.call("POST", "/v1/webhooks", token=token, body=webhook)
        if answer.status_code != 201:
            raise failure(
                f"registering webhook {kind}", f"{answer.status_code} {answer.body}", stack.log_file
            )
        receiver.checks[f"/{kind}"] = check_for(answer.body)
        webhook_ids.append(answer.body["webhookId"])
    return webhook_ids


def _emit(stack: Stack) -> Tally:
    real_time = [name for name, event_type in EVENT_TYPES.items() if event_type.category == "real-time"]
    events = [make_event(name, ACCOUNT_ID) for name in real_time]
    tally = Tally({event["eventId"]: event for event in events}, time.time())
    with step(f"emitting one event of each of {len(events)} real-time types"):
        stack.emit(events)
    return tally


def _show_from_now_on(tally: Tally, received: queue.Queue[Received]) -> Never:
    while True:
        request = received.get()
        tally.emitted_at_seconds = _emitted_at(request, tally.emitted_at_seconds)
        tally.take(request)


def _emitted_at(request: Received, otherwise: float) -> float:
    """When the events of `request` were emitted, as `make emit` stamps them."""
    stamps = [event.get("timestamp") for event in request.events]
    return stamps[0] / 1000 if stamps and isinstance(stamps[0], int) else otherwise


def _summarize(stack: Stack, tally: Tally) -> bool:
    delivered = len(tally.delivered)
    all_agree = tally.expected == delivered == tally.verified
    print(
        f"\n  emitted {len(tally.emitted)} x webhooks {len(_VERIFIED)} = expected {tally.expected},"
        f" delivered {delivered}, verified {tally.verified}  "
        + (paint("✓ all agree", "green") if all_agree else paint("✗ they differ", "red"))
    )
    if tally.latencies_ms:
        print(
            f"  from put_events to the receiver: median {statistics.median(tally.latencies_ms):.0f} ms,"
            f" last {max(tally.latencies_ms):.0f} ms, cold start included",
            flush=True,
        )
    if not all_agree:
        for kind in _VERIFIED:
            if missing := tally.missing(kind):
                rest = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
                print(paint(f"  missing at {kind}: {', '.join(missing[:3])}{rest}", "red"))
        stack.save_logs()
        print(f"  what the functions logged: {stack.log_file}\n  the emulator: {log_file(stack.state_dir)}")
    return all_agree


def _suggest(stack: Stack, receiver: Receiver, webhook_ids: list[str]) -> None:
    webhooks = f"'{stack.api_url}/v1/webhooks'"
    authorization = '-H "authorization: Bearer $(make token)"'
    example = (
        f'{{"name":"Mine","targetUrl":"{receiver.url}/mine","authentication":{{"type":"signature"}},'
        '"events":["COURSE_ENROLLMENT"],"status":"active"}'
    )
    print(
        f"\n{paint('The stack stays up. In another terminal, try:', 'bold')}\n\n"
        f"  make emit EVENT=COURSE_ENROLLMENT      # three more lines appear here\n"
        f"  make listen                            # a receiver of your own\n\n"
        f"  curl -s {authorization} {webhooks}\n\n"
        f"  curl -s {authorization} '{stack.api_url}/v1/webhooks/{webhook_ids[0]}'\n\n"
        f"  curl -s {authorization} {webhooks} -H 'content-type: application/json' -d '{example}'\n\n"
        "  make logs                              # what the functions logged\n\n"
        "Ctrl-C ends the demo.\n",
        flush=True,
    )
