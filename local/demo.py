"""The main job, shown: three webhooks, one event of each type, and a check of each delivery.

While the non-real-time ones wait for their schedule, a fourth receiver goes down and comes back. Then come
some more events one at a time, to show what a delivery takes when the functions have started.
"""

import queue
import secrets
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from lms_webhooks.model.event_types import EVENT_TYPES, Category
from local.deploy import ACCOUNT_IDS, BATCH_SCHEDULE_SECONDS
from local.emit import make_event
from local.emulator_process import log_file
from local.next_steps import commands_to_try, sign_in
from local.own_webhooks import create, remove
from local.receiver import Received, Receiver, basic_authentication, no_authentication, signature
from local.stack import Stack
from tools.progress import StepFailedError, paint, step

ACCOUNT_ID, OUTAGE_ACCOUNT_ID = ACCOUNT_IDS
DELIVERY_WAIT_SECONDS = 60.0
SILENCE_SECONDS = 10.0
WARM_EVENTS = 20
WARM_WAIT_SECONDS = 20.0  # for one of them, on a machine that does much else
OUTAGE_EVENTS = 40
_OUTAGE_PATH = "/outage"

_NAME_PREFIX = "Demo: "
_KINDS = ("none", "basic", "signature")
"""Of authentication: a webhook for each, whose path has its name."""


@dataclass(frozen=True)
class Arrival:
    """An event at one webhook, for the first time."""

    problem: str | None
    """What was wrong with it."""
    latency_ms: float
    """From its timestamp, at which it was emitted."""


@dataclass
class Tally:
    """What arrived: each event once for each webhook, however often it was sent."""

    emitted: dict[str, dict[str, Any]]
    """By event id. Others, of `make emit`, are shown and do not count."""
    arrivals: dict[str, dict[str, Arrival]] = field(default_factory=dict)
    """By event id, then by kind."""

    @property
    def expected(self) -> int:
        """Every event for every webhook."""
        return len(self.emitted) * len(_KINDS)

    @property
    def delivered(self) -> int:
        """How many of these arrived."""
        return sum(len(self.arrivals.get(event_id, {})) for event_id in self.emitted)

    @property
    def verified(self) -> int:
        """How many of these were right in every way."""
        return sum(
            arrival.problem is None
            for event_id in self.emitted
            for arrival in self.arrivals.get(event_id, {}).values()
        )

    @property
    def agrees(self) -> bool:
        """Every event reached every webhook, and was right."""
        return self.expected == self.delivered == self.verified

    @property
    def is_complete(self) -> bool:
        """Every event reached every webhook."""
        return self.delivered == self.expected

    @property
    def non_real_time(self) -> int:
        """How many of the emitted ones wait for the schedule."""
        return sum(_category(event) is Category.NON_REAL_TIME for event in self.emitted.values())

    def latencies_ms(self, category: Category) -> list[float]:
        """Of each delivery of this category."""
        return [
            arrival.latency_ms
            for event_id, event in self.emitted.items()
            if _category(event) is category
            for arrival in self.arrivals.get(event_id, {}).values()
        ]

    def missing(self, kind: str) -> list[str]:
        """Names of the events that the webhook of this kind did not get."""
        return [
            event["eventName"]
            for event_id, event in self.emitted.items()
            if kind not in self.arrivals.get(event_id, {})
        ]

    def take(self, received: Received) -> list[str]:
        """Count a request's events; return the lines to show.

        An event has one line, when it has reached every webhook. What is wrong or comes again has its own.
        """
        kind = received.path.strip("/")
        if kind not in _KINDS:
            return [f"  ? a request to {received.path}, which no webhook of the demo has"]
        if not received.events:
            return [paint(f"  ✗ {kind}: a body without events: {received.body[:80]!r}", "red")]
        lines = []
        for event in received.events:
            event_id, name = str(event.get("eventId")), str(event.get("eventName", "?"))
            problem = received.problem or self._difference(event_id, event)
            if problem:
                lines.append(paint(f"  ✗ {name} at {kind}: {problem}", "red"))
            arrivals = self.arrivals.setdefault(event_id, {})
            if kind in arrivals:
                lines.append(f"  = {name} at {kind} again")
                continue
            arrivals[kind] = Arrival(problem, _age_ms(event, received.at_seconds))
            if len(arrivals) == len(_KINDS):
                lines.append(_line(name, arrivals))
        return lines

    def _difference(self, event_id: str, event: dict[str, Any]) -> str | None:
        if event_id not in self.emitted:
            return None
        sent = {name: value for name, value in self.emitted[event_id].items() if name != "accountId"}
        return None if event == sent else "not what was emitted"


def _category(event: dict[str, Any]) -> Category:
    return EVENT_TYPES[event["eventName"]].category


def _age_ms(event: dict[str, Any], at_seconds: float) -> float:
    """How long ago it was emitted. `make_event` stamps each in milliseconds."""
    stamp = event.get("timestamp")
    return at_seconds * 1000 - stamp if isinstance(stamp, int) else 0.0


def _line(name: str, arrivals: dict[str, Arrival]) -> str:
    verdicts = "  ".join(f"{kind} {'✗' if arrivals[kind].problem else '✓'}" for kind in _KINDS)
    is_right = all(arrival.problem is None for arrival in arrivals.values())
    mark, colour = ("✓", "green") if is_right else ("✗", "red")
    last_ms = max(arrival.latency_ms for arrival in arrivals.values())
    return f"  {paint(mark, colour)} {name:<44}{verdicts}  {paint(f'{last_ms:7.0f} ms', 'grey')}"


@dataclass
class Outage:
    """What came to the receiver that went down. `expected` is in the order that waiting events have."""

    expected: list[str]
    started_at_seconds: float
    webhook_id: str = ""
    delivered: list[str] = field(default_factory=list)
    requests: int = 0

    @property
    def is_over(self) -> bool:
        """Everything that was emitted into it has arrived."""
        return len(set(self.delivered)) == len(self.expected)

    def take(self, received: Received) -> list[str]:
        """Count a request; return the line to show."""
        carried = len(received.events)
        seconds = received.at_seconds - self.started_at_seconds
        if received.is_refused:
            line = paint(f"  ✗ outage: down on purpose, responds 503 to {carried} event", "red")
        else:
            self.requests += 1
            self.delivered += [str(event["eventId"]) for event in received.events]
            line = f"  {paint('✓', 'green')} outage: back, takes {carried:>2} pending events"
        return [f"{line}  {paint(f'{seconds:5.1f} s', 'grey')}"]

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
        with step("registering three webhooks: none, basic, signature", log=log_file(stack.state_dir)):
            for each in (token, outage_token):
                remove(stack, each, _is_ours)
            _register(stack, token, receiver)
        with step("registering one whose receiver will go down", log=log_file(stack.state_dir)):
            url = f"{receiver.url}{_OUTAGE_PATH}"
            outage_id = _create(stack, outage_token, "outage", url, {"type": "none"})["webhookId"]
        try:
            tally = _emit(stack)
            outage = _emit_into_outage(stack, receiver, outage_id)
            print(
                f"\n  the {tally.non_real_time} non-real-time types go out at the next slot,"
                f" here within {BATCH_SCHEDULE_SECONDS} s\n",
                flush=True,
            )
            end_outage = partial(end_outage_in_time, stack, outage_token, receiver, outage)
            _watch(received, tally, outage, end_outage)
            print()
            warm = _emit_warm(stack, received) if tally.is_complete and outage.is_over else None
            all_agree = _summarize(stack, tally, outage, warm)
            if stay:
                print(f"\n{sign_in(stack)}\n\n{commands_to_try()}\n\nCtrl-C ends the demo.\n", flush=True)
                with suppress(KeyboardInterrupt):  # how it is meant to end
                    while True:  # without an end to the wait, it would sleep through a Ctrl-C just before it
                        with suppress(queue.Empty):
                            _show(tally.take(received.get(timeout=0.5)))
            return all_agree
        finally:
            # The stack may be what failed.
            with suppress(OSError, BotoCoreError, ClientError, StepFailedError):
                for account_id in ACCOUNT_IDS:
                    # By other tokens: those from above are valid for an hour.
                    remove(stack, stack.id_token(account_id), _is_ours)


def _show(lines: list[str]) -> None:
    for line in lines:
        print(line, flush=True)


def _watch(
    received: queue.Queue[Received], tally: Tally, outage: Outage, end_outage: Callable[[], None]
) -> None:
    """Show what comes until all has come; and when nothing comes for a while, that this is no standstill."""
    began = last_shown = time.monotonic()
    while not (tally.is_complete and outage.is_over):
        now = time.monotonic()
        if now - began > DELIVERY_WAIT_SECONDS + BATCH_SCHEDULE_SECONDS:
            return
        try:
            request = received.get(timeout=0.2)
        except queue.Empty:
            end_outage()
            if now - last_shown > SILENCE_SECONDS:
                last_shown = now
                missing = tally.expected - tally.delivered
                line = f"    {missing} of {tally.expected} are still to come, {now - began:.0f} s so far"
                print(paint(line, "grey"), flush=True)
        else:
            _show((outage if request.path == _OUTAGE_PATH else tally).take(request))
            last_shown = now


def _is_ours(webhook: dict[str, Any]) -> bool:
    """Whether this demo or an earlier one registered it: an account has only so many webhooks."""
    return str(webhook["name"]).startswith(_NAME_PREFIX)


def _register(stack: Stack, token: str, receiver: Receiver) -> None:
    password = secrets.token_urlsafe(12)
    ways: dict[str, tuple[dict[str, str], Callable[[dict[str, Any]], Any]]] = {
        "none": ({"type": "none"}, lambda _: no_authentication),
        "basic": (
            {"type": "basic", "username": "lms", "password": password},
            lambda _: basic_authentication("lms", password),
        ),
        "signature": ({"type": "signature"}, lambda webhook: signature(webhook["authentication"]["secret"])),
    }
    for kind in _KINDS:
        authentication, check_for = ways[kind]
        webhook = _create(stack, token, kind, f"{receiver.url}/{kind}", authentication)
        receiver.checks[f"/{kind}"] = check_for(webhook)


def _create(stack: Stack, token: str, kind: str, url: str, authentication: dict[str, str]) -> dict[str, Any]:
    return create(stack, token, name=_NAME_PREFIX + kind, target_url=url, authentication=authentication)


def _emit(stack: Stack) -> Tally:
    events = [make_event(name, ACCOUNT_ID) for name in EVENT_TYPES]
    with step(f"emitting one event of each of {len(events)} types"):
        stack.emit(events)
    return Tally({event["eventId"]: event for event in events})


def _emit_warm(stack: Stack, received: queue.Queue[Received]) -> Tally:
    """Emit more events, one at a time: each when the one before has arrived everywhere."""
    tally = Tally({})
    with step(f"emitting {WARM_EVENTS} more, one at a time"):
        for _ in range(WARM_EVENTS):
            event = make_event("COURSE_ENROLLMENT", ACCOUNT_ID)
            tally.emitted[event["eventId"]] = event
            stack.emit([event])
            give_up_at = time.monotonic() + WARM_WAIT_SECONDS
            while not tally.is_complete:
                try:
                    tally.take(received.get(timeout=max(0.0, give_up_at - time.monotonic())))
                except queue.Empty:
                    return tally
    return tally


def end_outage_in_time(stack: Stack, token: str, receiver: Receiver, outage: Outage) -> None:
    """Let the receiver come back once every event is pending.

    Some would be sent at once if it came back before: several dispatchers try it at the same time.
    """
    if _OUTAGE_PATH not in receiver.down:
        return
    answer = stack.call("GET", f"/v1/webhooks/{outage.webhook_id}", token=token)
    if answer.status_code == 200 and answer.body["pending"]["count"] == len(outage.expected):
        receiver.down.discard(_OUTAGE_PATH)
        print(f"    outage: all {len(outage.expected)} events are pending: it ends", flush=True)


def _emit_into_outage(stack: Stack, receiver: Receiver, webhook_id: str) -> Outage:
    receiver.down.add(_OUTAGE_PATH)
    events = [make_event("COURSE_ENROLLMENT", OUTAGE_ACCOUNT_ID) for _ in range(OUTAGE_EVENTS)]
    event_ids = [event["eventId"] for event in sorted(events, key=_order)]
    outage = Outage(event_ids, time.time(), webhook_id)
    with step(f"emitting {len(events)} events to a receiver that is down"):
        stack.emit(events)
    return outage


def _order(event: dict[str, Any]) -> tuple[int, str]:
    """As events that wait are ordered: by their time, then by their id."""
    return event["timestamp"], event["eventId"]


def _summarize(stack: Stack, tally: Tally, outage: Outage, warm: Tally | None) -> bool:
    print(
        f"\n  emitted {len(tally.emitted)} x webhooks {len(_KINDS)} = expected {tally.expected},"
        f" delivered {tally.delivered}, verified {tally.verified}  "
        + (paint("✓ all agree", "green") if tally.agrees else paint("✗ they differ", "red"))
    )
    all_agree = outage.summarize() and tally.agrees
    rows = [
        ("real-time, cold: functions start first", tally.latencies_ms(Category.REAL_TIME)),
        ("non-real-time: the wait for a slot included", tally.latencies_ms(Category.NON_REAL_TIME)),
    ]
    if warm is not None:
        all_agree = all_agree and warm.agrees
        title = f"real-time, warm: {warm.verified} of {warm.expected} more, verified"
        rows.insert(1, (title, warm.latencies_ms(Category.REAL_TIME)))
    print("  from put_events to the receiver:")
    for title, latencies_ms in rows:
        if latencies_ms:
            median, last = _duration(statistics.median(latencies_ms)), _duration(max(latencies_ms))
            print(f"    {title:<46} median {median:>8}, last {last:>8}", flush=True)
    if not all_agree:
        for kind in _KINDS:
            if missing := tally.missing(kind):
                rest = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
                print(paint(f"  missing at {kind}: {', '.join(missing[:3])}{rest}", "red"))
        stack.save_logs()
        print(f"  what the functions logged: {stack.log_file}\n  the emulator: {log_file(stack.state_dir)}")
    return all_agree


def _duration(milliseconds: float) -> str:
    """In milliseconds below a second, else in seconds."""
    return f"{milliseconds:.0f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"
