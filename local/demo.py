"""The main job, shown: three webhooks, one event of each type, and a check of each delivery.

While the non-real-time ones wait for their schedule, a fourth receiver goes down and comes back.
"""

import queue
import secrets
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Never

from lms_webhooks.model.event_types import EVENT_TYPES, Category
from local.deploy import ACCOUNT_IDS, BATCH_SCHEDULE_SECONDS
from local.emit import make_event
from local.emulator_process import log_file
from local.receiver import Received, Receiver, basic_authentication, no_authentication, signature
from local.stack import Stack
from tools.progress import failure, paint, step

ACCOUNT_ID, OUTAGE_ACCOUNT_ID = ACCOUNT_IDS
DELIVERY_WAIT_SECONDS = 60.0
SILENCE_SECONDS = 10.0
OUTAGE_EVENTS = 40
OUTAGE_REFUSALS = 2  # the first attempt, and the first probe 5 s later; the next comes after 10 s more
_OUTAGE_PATH = "/outage"

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
    latencies_ms: dict[Category, list[float]] = field(default_factory=dict)

    @property
    def expected(self) -> int:
        """Every event for every webhook."""
        return len(self.emitted) * len(_VERIFIED)

    @property
    def verified(self) -> int:
        """How many were right in every way."""
        return sum(problem is None for problem in self.delivered.values())

    @property
    def non_real_time(self) -> int:
        """How many of the emitted ones wait for the schedule."""
        names = [event["eventName"] for event in self.emitted.values()]
        return sum(EVENT_TYPES[name].category is Category.NON_REAL_TIME for name in names)

    @property
    def is_complete(self) -> bool:
        """Every event reached every webhook."""
        return len(self.delivered) == self.expected

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
                category = EVENT_TYPES[event["eventName"]].category
                self.latencies_ms.setdefault(category, []).append(latency_ms)
            mark, colour = ("✗", "red") if problem else ("✓", "green")
            result = problem or _VERIFIED.get(kind, "not checked")
            print(
                f"  {paint(mark, colour)} {event.get('eventName', '?'):<44}{kind:<10}"
                f" {result:<28}{paint(f'{latency_ms:7.0f} ms', 'grey')}{again}",
                flush=True,
            )

    def _difference(self, event_id: str, event: dict[str, Any]) -> str | None:
        if event_id not in self.emitted:
            return None
        sent = {name: value for name, value in self.emitted[event_id].items() if name != "accountId"}
        return None if event == sent else "not what was emitted"


@dataclass
class Outage:
    """What came to the receiver that went down. `expected` is in the order that waiting events have."""

    expected: list[str]
    started_at_seconds: float
    delivered: list[str] = field(default_factory=list)
    requests: int = 0

    @property
    def is_over(self) -> bool:
        """Everything that was emitted into it has arrived."""
        return len(set(self.delivered)) == len(self.expected)

    def take(self, received: Received) -> None:
        """Print a line for a request."""
        carried = len(received.events)
        seconds = received.at_seconds - self.started_at_seconds
        if received.is_refused:
            line = paint(f"  ✗ outage: down on purpose, responds 503 to {carried} event", "red")
        else:
            self.requests += 1
            self.delivered += [str(event["eventId"]) for event in received.events]
            line = f"  {paint('✓', 'green')} outage: back, takes {carried:>2} pending events"
        print(f"{line}  {paint(f'{seconds:5.1f} s', 'grey')}", flush=True)

    def summarize(self) -> bool:
        """Print what it came to; True when nothing was lost and the order was kept."""
        is_whole = self.delivered == self.expected
        print(
            f"  outage: {len(self.expected)} events emitted, {len(set(self.delivered))} delivered in"
            f" {self.requests} requests  "
            + (paint("✓ all, in order", "green") if is_whole else paint("✗ lost or out of order", "red")),
            flush=True,
        )
        return is_whole


def demo(stack: Stack, *, stay: bool) -> bool:
    """Run it against `stack`; with `stay`, go on receiving until Ctrl-C. True when every number agrees."""
    received: queue.Queue[Received] = queue.Queue()
    with Receiver(received.put) as receiver:
        token = stack.id_token(ACCOUNT_ID)
        outage_token = stack.id_token(OUTAGE_ACCOUNT_ID)
        tokens = (token, outage_token)
        with step("registering three webhooks: none, basic, signature", log=log_file(stack.state_dir)):
            for each in tokens:
                remove_demo_webhooks(stack, each)
            webhook_ids = _register(stack, token, receiver)
        with step("registering one whose receiver will go down", log=log_file(stack.state_dir)):
            _create(stack, outage_token, "outage", f"{receiver.url}{_OUTAGE_PATH}", {"type": "none"})
        try:
            tally = _emit(stack)
            outage = _emit_into_outage(stack, receiver)
            print(
                f"\n  the {tally.non_real_time} non-real-time types go out at the next slot,"
                f" here within {BATCH_SCHEDULE_SECONDS} s\n",
                flush=True,
            )
            _watch(received, tally, outage)
            all_agree = _summarize(stack, tally) and outage.summarize()
            if stay:
                _suggest(stack, receiver, webhook_ids)
                with suppress(KeyboardInterrupt):  # how it is meant to end
                    _show_from_now_on(tally, received)
            return all_agree
        finally:
            with suppress(OSError):  # the stack may be what failed
                for each in tokens:
                    remove_demo_webhooks(stack, each)


def _watch(received: queue.Queue[Received], tally: Tally, outage: Outage) -> None:
    """Show what comes until all has come; and when nothing comes for a while, that this is no standstill."""
    began = last_shown = time.monotonic()
    while not (tally.is_complete and outage.is_over):
        now = time.monotonic()
        if now - began > DELIVERY_WAIT_SECONDS + BATCH_SCHEDULE_SECONDS:
            return
        try:
            request = received.get(timeout=0.2)
        except queue.Empty:
            if now - last_shown > SILENCE_SECONDS:
                last_shown = now
                missing = tally.expected - len(tally.delivered)
                line = f"    {missing} of {tally.expected} are still to come, {now - began:.0f} s so far"
                print(paint(line, "grey"), flush=True)
        else:
            (outage if request.path == _OUTAGE_PATH else tally).take(request)
            last_shown = now


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
        webhook = _create(stack, token, kind, f"{receiver.url}/{kind}", authentication)
        receiver.checks[f"/{kind}"] = check_for(webhook)
        webhook_ids.append(webhook["webhookId"])
    return webhook_ids


def _create(stack: Stack, token: str, kind: str, url: str, authentication: dict[str, str]) -> dict[str, Any]:
    webhook = {
        "name": f"{_NAME_PREFIX}{kind}",
        "targetUrl": url,
        "authentication": authentication,
        "events": list(EVENT_TYPES),
        "status": "active",
    }
    answer = stack.call("POST", "/v1/webhooks", token=token, body=webhook)
    if answer.status_code != 201:
        raise failure(f"registering webhook {kind}", f"{answer.status_code} {answer.body}", stack.log_file)
    created: dict[str, Any] = answer.body
    return created


def _emit(stack: Stack) -> Tally:
    events = [make_event(name, ACCOUNT_ID) for name in EVENT_TYPES]
    tally = Tally({event["eventId"]: event for event in events}, time.time())
    with step(f"emitting one event of each of {len(events)} types"):
        stack.emit(events)
    return tally


def _emit_into_outage(stack: Stack, receiver: Receiver) -> "Outage":
    receiver.refusals[_OUTAGE_PATH] = OUTAGE_REFUSALS
    events = [make_event("COURSE_ENROLLMENT", OUTAGE_ACCOUNT_ID) for _ in range(OUTAGE_EVENTS)]
    outage = Outage([event["eventId"] for event in sorted(events, key=_order)], time.time())
    with step(f"emitting {len(events)} events to a receiver that is down"):
        stack.emit(events)
    return outage


def _order(event: dict[str, Any]) -> tuple[int, str]:
    """As events that wait are ordered: by their time, then by their id."""
    return event["timestamp"], event["eventId"]


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
    for category, latencies_ms in tally.latencies_ms.items():
        included = "cold start" if category is Category.REAL_TIME else "the schedule"
        print(
            f"  from put_events to the receiver, {category}: median"
            f" {statistics.median(latencies_ms) / 1000:.1f} s, last {max(latencies_ms) / 1000:.1f} s,"
            f" {included} included",
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
