"""Measure what an admin's calls do to the flow of events: replay and change of secrets.

    make bench ONLY=admin        both, on a stack of their own, about five minutes
    make bench ONLY=replay EVENTS=2000

Each scenario prints what it found and ✓ or ✗ for what must hold; the exit status says whether all did.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import standardwebhooks

from bench.results import p99
from bench.scenario import ACCOUNT_ID, Scenario, arrive, flow, wait_until
from lms_webhooks.stores.webhook_cache import MAX_AGE_SECONDS
from tests.e2e.workers import kill, workers
from tests.fakes.receiver import Receiver, Request


@dataclass
class SentAgain:
    """How often each event of the history came since some moment. Each request is looked into once: to parse
    all of them at every look would slow the receiver down, whose times are measured."""

    receiver: Receiver
    looked_at: int
    times: Counter[str] = field(default_factory=Counter)

    def count(self) -> int:
        """How many different ones there were until now."""
        new = self.receiver.requests[self.looked_at :]
        self.looked_at += len(new)
        self.times.update(id_ for each in new for id_ in each.event_ids if id_.startswith("h"))
        return len(self.times)


def replay(scenario: Scenario) -> None:
    """Replay a history while live events flow; and once more, killing the drainer in the middle."""
    count = scenario.events
    with Receiver() as receiver:
        webhook_id = scenario.register("replayed", receiver.url())
        scenario.emit("h", count)
        arrive(receiver, "h", count, timeout_seconds=600)
        wait_until(lambda: len(scenario.deliveries(webhook_id)) == count, timeout_seconds=300)
        start_a_drainer(scenario, webhook_id, receiver)
        body = {"from": "2020-01-01T00:00:00Z", "to": datetime.now(UTC).isoformat()}
        time.sleep(0.1)  # what is emitted now is no part of it
        scenario.emit("alone", 600, per_second=60)
        arrive(receiver, "alone", 600)
        path = f"/v1/webhooks/{webhook_id}/replay"
        for prefix, is_killed in (("beside", False), ("killed", True)):
            sent = SentAgain(receiver, len(receiver.requests))
            started = scenario.stack.call("POST", path, token=scenario.token, body=body)
            scenario.check("accepted with 202", started.status_code == 202)
            began = time.monotonic()
            with flow(scenario, prefix, per_second=60):
                progress, wrong = watch_replay(
                    scenario, path, sent, kill_at=count // 2 if is_killed else None
                )
            scenario.say(f"{count} events in {time.monotonic() - began:.0f} s")
            arrive(receiver, prefix, sum(id_.startswith(prefix) for id_ in scenario.emitted_at))
            scenario.check(f"all {count} were sent again", sent.count() == count)
            twice = sum(number > 1 for number in sent.times.values())
            most = 100 if is_killed else 0
            scenario.check(f"{twice} of them twice, at most the {most} in flight at a kill", twice <= most)
            scenario.check(f"progress was right at each step (wrong: {wrong[:3]})", not wrong)
            scenario.check(
                "at the end it says so",
                (progress["delivered"], progress["rejected"], progress["processed"]) == (count, 0, count),
            )
        # Once more: the machine may have got slower or faster meanwhile.
        scenario.emit("alone-again", 600, per_second=60)
        arrive(receiver, "alone", 1200)
        alone, beside = (p99(scenario.latencies_ms(receiver, prefix)) for prefix in ("alone", "beside"))
        scenario.say(f"p99 of live events: {alone:.0f} ms alone, {beside:.0f} ms beside the first replay")
        scenario.check(f"x{beside / alone:.2f}, at most x1.5", beside <= alone * 1.5)
        scenario.delete(webhook_id)


def start_a_drainer(scenario: Scenario, webhook_id: str, receiver: Receiver) -> None:
    """Redeliver one event, so that a drainer runs before the measurement.

    A function's first process takes a second of the two processors here. On AWS it has its own machine.
    """
    base = f"/v1/webhooks/{webhook_id}/deliveries"
    listed = scenario.stack.call("GET", f"{base}?limit=1", token=scenario.token).body["deliveries"]
    sent = len(receiver.requests)
    scenario.stack.call("POST", f"{base}/{listed[0]['deliveryId']}/redeliver", token=scenario.token)
    receiver.wait_for(lambda: len(receiver.requests) > sent, 60)


def watch_replay(
    scenario: Scenario, path: str, sent: SentAgain, *, kill_at: int | None
) -> tuple[dict[str, Any], list[tuple[int, int, int]]]:
    """Follow a replay to its end, killing its drainer on the way.

    Returns its last progress, and each look at which progress was wrong.
    """
    wrong: list[tuple[int, int, int]] = []
    while True:
        before = sent.count()
        progress: dict[str, Any] = scenario.stack.call("GET", path, token=scenario.token).body
        after = sent.count()
        # What is on its way is counted when it is recorded: a request of a hundred at most.
        if not before - 100 <= progress["delivered"] <= after:
            wrong.append((before, progress["delivered"], after))
        if progress["state"] == "done":
            return progress, wrong
        if kill_at is not None and progress["delivered"] >= kill_at:
            kill_at = None
            killed = sum(map(kill, workers(scenario.stack, "drainer")))
            scenario.say(
                f"killed {killed} drainer(s) at {progress['delivered']}; another goes on when the lease has"
                " ended and a sweep has seen that, in a minute or two"
            )
        time.sleep(0.5)


def rotation(scenario: Scenario) -> None:
    """Change a signing secret under flow, and ask receivers that know the old, the new, or both."""
    with Receiver() as receiver:
        created = scenario.create("signed", receiver.url(), authentication={"type": "signature"})
        webhook_id, old = created["webhookId"], created["authentication"]["secret"]
        path = f"/v1/webhooks/{webhook_id}/signature"
        with flow(scenario, "r", per_second=100):
            receiver.wait_for(lambda: len(receiver.requests) >= 300, 60)
            new = scenario.stack.call("POST", path, token=scenario.token).body["secret"]
            rotated = len(receiver.requests)
            receiver.wait_for(lambda: len(receiver.requests) >= rotated + 500, 60)
            overlap = len(receiver.requests)
            end_overlap(scenario, webhook_id)
            time.sleep(2 * MAX_AGE_SECONDS)  # it is written past the API, whose answers wait as long
            ended = len(receiver.requests)
            receiver.wait_for(lambda: len(receiver.requests) >= ended + 300, 60)
        during = receiver.requests[rotated:overlap]
        after = receiver.requests[ended:]
        # A request that began before the answer may come after it: as many as dispatchers send at once.
        begun_before = sum(not verifies(new, request) for request in during[:10])
        scenario.say(f"{len(during)} requests in the overlap, {len(after)} after it")
        scenario.check(
            "the old secret verifies all before", all(verifies(old, r) for r in receiver.requests[:rotated])
        )
        scenario.check("the old secret verifies all of the overlap", all(verifies(old, r) for r in during))
        scenario.check(
            f"the new secret too, from the answer on ({begun_before} had begun before)",
            all(verifies(new, request) for request in during[begun_before:]),
        )
        scenario.check("after it the new one verifies all", all(verifies(new, r) for r in after))
        scenario.check("and the old one nothing", not any(verifies(old, r) for r in after))
        scenario.delete(webhook_id)


SCENARIOS: dict[str, Callable[[Scenario], None]] = {"replay": replay, "rotation": rotation}


def verifies(secret: str, request: Request) -> bool:
    """Whether a receiver that knows `secret` alone takes a request, by the public library."""
    try:
        standardwebhooks.Webhook(secret).verify(request.body, dict(request.headers))
    except standardwebhooks.WebhookVerificationError:
        return False
    return True


def end_overlap(scenario: Scenario, webhook_id: str) -> None:
    """Make the day pass after which the previous secret signs no more."""
    scenario.stack.client("dynamodb").update_item(
        TableName=scenario.stack.description["tables"]["webhooks"],
        Key={"pk": {"S": f"ACCOUNT#{ACCOUNT_ID}"}, "sk": {"S": f"WEBHOOK#{webhook_id}"}},
        UpdateExpression="SET authentication.previous_secret_until = :past",
        ExpressionAttributeValues={":past": {"S": "2026-01-01T00:00:00Z"}},
    )
