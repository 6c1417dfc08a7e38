"""Measure what an endpoint that fails costs, and whom: order, delays, requests, neighbours.

    make bench ONLY=backlog      all of it, on a stack of its own, about seven minutes
    make bench ONLY=outage,poison EVENTS=5000

Each scenario prints what it found and ✓ or ✗ for what must hold; the exit status says whether all did.
"""

import statistics
import threading
import time
from collections.abc import Callable
from itertools import pairwise

from bench.results import p99
from bench.scenario import Scenario, arrive, flow, wait_until, waiting
from lms_webhooks.stores.webhook_cache import MAX_AGE_SECONDS
from tests.fakes.receiver import Behaviour, Receiver, Request, answer


def failing_then_well(scenario: Scenario) -> None:
    """An endpoint that responds with 500 three times, then 200, beside a neighbour of the same account."""
    failures = iter([500, 500, 500])
    with Receiver() as good, Receiver(lambda _: answer(next(failures, 200))) as bad:
        good_id = scenario.register("good", good.url())
        scenario.emit("warm", 40)
        arrive(good, "warm", 40)
        scenario.emit("alone", 300, per_second=60)
        arrive(good, "alone", 300)
        bad_id = scenario.register("bad", bad.url())
        scenario.emit("beside", 300, per_second=60)
        arrive(good, "beside", 300)
        arrive(bad, "beside", 300)
        alone, beside = (p99(scenario.latencies_ms(good, prefix)) for prefix in ("alone", "beside"))
        gaps = [later.received_at - earlier.received_at for earlier, later in pairwise(bad.requests[:4])]
        taken = [id_ for request in bad.requests[3:] for id_ in request.event_ids]
        scenario.say("between the attempts: " + ", ".join(f"{gap:.1f} s" for gap in gaps))
        scenario.check(
            "delays of 5, 10 and 20 s, at most 10 % and a poll more",
            all(low <= gap <= low * 1.1 + 2 for gap, low in zip(gaps, (5, 10, 20), strict=True)),
        )
        scenario.check(
            "every event arrived once, in order", taken == sorted(set(taken)) and len(taken) == 300
        )
        scenario.check(
            f"the neighbour's p99 is within 1.5 x: {alone:.0f} ms alone, {beside:.0f} ms beside",
            beside <= 1.5 * alone,
        )
        scenario.delete(good_id, bad_id)


def outage(scenario: Scenario) -> None:
    """Many events behind an endpoint that is down, then up."""
    is_up = threading.Event()
    with Receiver(lambda _: answer(200 if is_up.is_set() else 503)) as receiver:
        webhook_id = scenario.register("down", receiver.url())
        scenario.emit("first", 1)
        wait_until(lambda: bool(receiver.requests))
        time.sleep(2 * MAX_AGE_SECONDS)  # until every dispatcher has heard that it fails
        spread = len(receiver.requests)
        began = time.monotonic()
        count = scenario.events
        scenario.emit("e", count)
        emitted_seconds = time.monotonic() - began
        # Rarely: the emulator reads the whole lane to count it.
        wait_until(lambda: waiting(scenario, webhook_id) >= count, timeout_seconds=600, every_seconds=5)
        probes = len(receiver.requests) - spread
        scenario.say(
            f"{count} events emitted in {emitted_seconds:.0f} s, all waiting after"
            f" {time.monotonic() - began:.0f} s; {probes} probes meanwhile"
        )
        before = len(receiver.requests)
        is_up.set()
        arrive(receiver, "e", count, timeout_seconds=900)
        drained = [request for request in receiver.requests[before:] if request.event_ids]
        # What the receiver refused just before it came up is sent again first.
        taken = [id_ for request in drained for id_ in request.event_ids if id_.startswith("e")]
        seconds = drained[-1].received_at - drained[0].received_at
        scenario.say(
            f"{len(drained)} requests for {count + 1} events ({(count + 1) / len(drained):.1f} a request)"
            f" in {seconds:.1f} s: {count / seconds:.0f} events/s"
        )
        scenario.check("every event arrived, in order", list(dict.fromkeys(taken)) == sorted(set(taken)))
        scenario.check(f"{len(taken) - len(set(taken))} duplicates", len(taken) == len(set(taken)) == count)
        scenario.check("requests are about events / 100", len(drained) <= count / 95 + 10)
        scenario.check("never more than one request at a time", receiver.max_in_flight("/") == 1)
        scenario.delete(webhook_id)


def slow_batches(scenario: Scenario) -> None:
    """An endpoint that needs 60 ms an event: a hundred of them would take longer than it may."""

    def script(request: Request) -> Behaviour:
        return answer(503) if not is_up.is_set() else answer(200, delay_seconds=0.06 * len(request.event_ids))

    is_up = threading.Event()
    with Receiver(script) as receiver:
        webhook_id = scenario.register("60 ms", receiver.url())
        scenario.emit("s", 1500)
        wait_until(lambda: waiting(scenario, webhook_id) >= 1490)
        is_up.set()
        arrive(receiver, "s", 1500, timeout_seconds=300)
        wait_until(lambda: len(scenario.deliveries(webhook_id)) == 1500)
        sizes = [len(request.event_ids) for request in receiver.requests]
        scenario.say("events a request: " + " ".join(map(str, sizes)))
        too_large = sum(size * 0.06 >= 5 for size in sizes)
        scenario.check(f"{too_large} request was too large, and none after it", too_large <= 1)
        scenario.check("all 1,500 delivered", len(scenario.deliveries(webhook_id)) == 1500)
        scenario.delete(webhook_id)


def poison(scenario: Scenario) -> None:
    """One event among 500 that its receiver rejects, whatever else it comes with."""
    with Receiver(lambda request: answer(400 if "p000217" in request.event_ids else 200)) as receiver:
        webhook_id = scenario.register("poison", receiver.url(), status="paused")
        ids = scenario.emit("p", 500)
        wait_until(lambda: waiting(scenario, webhook_id) == 500)
        began = time.monotonic()
        scenario.change(webhook_id, status="active")
        wait_until(lambda: len(scenario.deliveries(webhook_id)) == 499)
        scenario.say(f"499 delivered {time.monotonic() - began:.1f} s after the resume")
        refused = sum("p000217" in request.event_ids for request in receiver.requests)
        taken = [
            id_
            for request in receiver.requests
            if "p000217" not in request.event_ids
            for id_ in request.event_ids
        ]
        scenario.check(
            f"the others arrived once, in order; {refused} requests found the culprit",
            taken == [id_ for id_ in ids if id_ != "p000217"],
        )
        scenario.check("the culprit waits to be tried again", waiting(scenario, webhook_id, "retry") == 1)
        scenario.delete(webhook_id)


def pause(scenario: Scenario) -> None:
    """Pause, 50 events, resume; then delete with a backlog."""
    with Receiver() as receiver:
        webhook_id = scenario.register("paused", receiver.url())
        scenario.change(webhook_id, status="paused")
        ids = scenario.emit("q", 50)
        wait_until(lambda: waiting(scenario, webhook_id) == 50)
        scenario.check("nothing was sent while paused", not receiver.requests)
        began = time.monotonic()
        scenario.change(webhook_id, status="active")
        arrive(receiver, "q", 50)
        scenario.say(f"all of them {time.monotonic() - began:.1f} s after the resume")
        taken = [id_ for request in receiver.requests for id_ in request.event_ids]
        scenario.check("all 50, in order", taken == ids)
        scenario.change(webhook_id, status="paused")
        scenario.emit("d", 50)
        wait_until(lambda: waiting(scenario, webhook_id) == 50)
        scenario.delete(webhook_id)
        wait_until(lambda: len(scenario.deliveries(webhook_id)) == 100)
        failed = [
            item
            for id_, item in scenario.deliveries(webhook_id).items()
            if id_.startswith("d")
            and item["outcome"]["S"] == "failed"
            and item["reason"]["S"] == "the webhook was deleted"
        ]
        scenario.check("deleted with a backlog: all 50 visible as failed", len(failed) == 50)


def changes(scenario: Scenario) -> None:
    """Fifty changes of the target URL under flow: how long the old one still gets requests."""
    with Receiver() as receiver:
        webhook_id = scenario.register("changing", receiver.url("/0"))
        changed_at: list[float] = []
        with flow(scenario, "c", per_second=100):
            for change in range(1, 51):
                scenario.change(webhook_id, targetUrl=receiver.url(f"/{change}"))
                changed_at.append(time.monotonic())
                wait_until(lambda path=f"/{change}": bool(receiver.requests_to(path)))  # type: ignore[misc]
        time.sleep(10)  # the stragglers of the last change, if there are any
        late = [
            max((request.received_at - at for request in receiver.requests_to(f"/{change}")), default=0.0)
            for change, at in enumerate(changed_at)
        ]
        late = [max(0.0, seconds) for seconds in late]
        scenario.say(
            f"the last request to an old URL: median {statistics.median(late):.2f} s, longest"
            f" {max(late):.2f} s after the change"
        )
        scenario.check("none later than 10 s, over 50 changes", max(late) <= 10)
        scenario.delete(webhook_id)


SCENARIOS: dict[str, Callable[[Scenario], None]] = {
    "failing": failing_then_well,
    "outage": outage,
    "slow-batches": slow_batches,
    "poison": poison,
    "pause": pause,
    "changes": changes,
}
