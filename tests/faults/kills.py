"""Kill dispatchers and drainers at random while events flow to receivers that misbehave; and lose nothing.

    make faults SEED=7         this is its second part: 5,000 events, 20 webhooks, 50 kills and more
    python -m tests.faults.kills --events 1000 --kills 10

The deployed stack, real sockets, SIGKILL. Prints the outcomes of each webhook's events. Ends with 0 only if
every endpoint that recovered has all of its events, and every other event is failed with its reason. No
more events may come twice than were in flight at the kills: than receivers had taken, and the history
did not have.
"""

import argparse
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lms_webhooks.model.events import read_sort_key
from local.stack import down, up
from tests.conformance import behaviours
from tests.e2e.system import Account, System
from tests.e2e.workers import kill, workers
from tests.fakes.receiver import Behaviour, Receiver, Request, answer

ACCOUNTS = 4
EVENT_NAMES = (
    "COURSE_ENROLLMENT",
    "COURSE_COMPLETED",
    "COURSE_UNENROLLMENT",
    "LEARNING_PATH_ENROLLMENT",
    "COURSE_ENROLLMENT_BATCH",  # non-real-time: goes out with the schedule
)
MISBEHAVES_SECONDS = 20.0
"""Then the backlogs drain, while others still flow."""
DRAINS_SECONDS = 25.0
"""At least so long the kills go on after that: the next probe may be 20 s away."""
KILLS = 50
KILLED = ("dispatcher", "drainer")

# How receivers misbehave until they recover. Those after them reject, or are gone, for good; gone only once
# all events are emitted, for a webhook that is switched off takes nothing new.
RECOVERING: dict[str, Behaviour | None] = {
    "well": None,
    "fails": answer(500),
    "hangs": behaviours.hang(),
    "trickles": behaviours.trickle_header(),
    "resets": behaviours.reset_before_answer(),
    "redirects": behaviours.redirect("/elsewhere"),
    "bombs": behaviours.gzip_bomb(503),
    "garbage": behaviours.garbage(),
    "invalid header": behaviours.raw(b"HTTP/1.1 200 OK\r\nx\x00y: \xff\r\n", name="invalid header"),
    "breaks off": behaviours.truncated_header(),
    "asks to wait": behaviours.too_many_requests(2),
    "refuses": answer(401),
}
FOR_GOOD = {"rejects": answer(400), "gone": behaviours.gone()}


@dataclass
class Endpoint:
    """One webhook, what its receiver does, and which events are for it."""

    account: Account
    webhook_id: str
    kind: str
    path: str
    event_name: str
    emitted: list[str] = field(default_factory=list)

    @property
    def recovers(self) -> bool:
        return self.kind in RECOVERING


def main() -> int:
    """Run it once, and say how it went."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.kills")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)))
    parser.add_argument("--events", type=int, default=5_000)
    parser.add_argument("--kills", type=int, default=KILLS)
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="kills-") as directory:
        try:
            system = System(up(Path(directory)))
            return _run(system, random.Random(arguments.seed), arguments.events, arguments.kills)
        finally:
            down(Path(directory))


def _run(system: System, chance: random.Random, events: int, kills: int) -> int:
    began = time.monotonic()
    acknowledged: set[int] = set()
    in_flight = _InFlight()
    is_all_emitted = threading.Event()

    def script(request: Request) -> Behaviour:
        kind = request.path.split("/")[1].replace("-", " ")
        if kind in FOR_GOOD:
            return FOR_GOOD[kind] if kind != "gone" or is_all_emitted.is_set() else answer(503)
        misbehaviour = RECOVERING[kind]
        is_well = misbehaviour is None or time.monotonic() - began > MISBEHAVES_SECONDS
        if misbehaviour is not None and not is_well:
            return misbehaviour
        acknowledged.add(request.number)
        return answer(204)

    def requests(endpoint: Endpoint) -> list[Request]:
        """Those that got a 2xx, or are about to be."""
        return [each for each in receiver.requests_to(endpoint.path) if each.number in acknowledged]

    def taken(endpoint: Endpoint) -> Counter[str]:
        """Its events in these, by id."""
        return Counter(event_id for request in requests(endpoint) for event_id in request.event_ids)

    def note_kill() -> None:
        """A worker has died. What it had sent, nobody records before it is sent again, minutes later."""
        at_the_kill = [(endpoint, requests(endpoint)) for endpoint in endpoints]
        for endpoint, taken_requests in at_the_kill:
            in_flight.note(endpoint, taken_requests)

    def is_on() -> bool:
        return emitter.is_alive() or time.monotonic() - began < MISBEHAVES_SECONDS + DRAINS_SECONDS

    with Receiver(script) as receiver:
        endpoints = _register(system, receiver)
        began = time.monotonic()
        emitter = threading.Thread(target=_emit, args=(endpoints, events))
        emitter.start()
        killed = _kill(system, chance, kills, still=is_on, then=note_kill)
        emitter.join()
        is_all_emitted.set()
        print(f"{sum(killed.values())} kills: {dict(killed)}; {events} events emitted", flush=True)
        recovering = [endpoint for endpoint in endpoints if endpoint.recovers]
        _wait(recovering, lambda endpoint: taken(endpoint).keys() >= set(endpoint.emitted), "endpoints")
        for endpoint in endpoints:
            if not endpoint.recovers:
                endpoint.account.delete(endpoint.webhook_id)
        _wait(endpoints, _is_visible, "outcomes of every event")
        return _report(endpoints, taken, in_flight.total, time.monotonic() - began)


class _InFlight:
    """What receivers took and the history did not have when a worker was killed."""

    def __init__(self) -> None:
        self._of_requests: set[tuple[int, str]] = set()
        """Request and event: what stays so at the next kill is not in flight twice."""
        self._recorded: dict[str, set[str]] = {}

    @property
    def total(self) -> int:
        return len(self._of_requests)

    def note(self, endpoint: Endpoint, requests: list[Request]) -> None:
        """These are what its receiver took until a kill."""
        recorded = self._recorded.setdefault(endpoint.webhook_id, set())
        if all(event_id in recorded for request in requests for event_id in request.event_ids):
            return
        recorded |= _delivered(endpoint)
        self._of_requests |= {
            (request.number, event_id)
            for request in requests
            for event_id in request.event_ids
            if event_id not in recorded
        }


def _delivered(endpoint: Endpoint) -> set[str]:
    """The events that are on record as delivered, by id."""
    return {
        read_sort_key(item["sk"]["S"])[1]
        for item in endpoint.account.system.history(endpoint.webhook_id)
        if item["outcome"]["S"] == "delivered"
    }


def _register(system: System, receiver: Receiver) -> list[Endpoint]:
    kinds = [*RECOVERING, *FOR_GOOD]
    kinds += ["well"] * (ACCOUNTS * len(EVENT_NAMES) - len(kinds))
    endpoints: list[Endpoint] = []
    for number in range(ACCOUNTS):
        account = system.new_account()
        for event_name in EVENT_NAMES:
            kind = kinds[len(endpoints)]
            path = f"/{kind.replace(' ', '-')}/{len(endpoints)}"
            created = account.create(receiver.url(path), events=[event_name], name=f"{kind} {number}")
            endpoints.append(Endpoint(account, created["webhookId"], kind, path, event_name))
    return endpoints


def _emit(endpoints: list[Endpoint], count: int) -> None:
    """In turn to every endpoint, at the rate at which the emulator's bus takes them with ten an entry."""
    for start in range(0, count, 10):
        batch: list[dict[str, Any]] = []
        for index in range(start, min(start + 10, count)):
            endpoint = endpoints[index % len(endpoints)]
            event = endpoint.account.event(endpoint.event_name)
            endpoint.emitted.append(event["eventId"])
            batch.append(event)
        endpoints[0].account.system.put(*batch)
        time.sleep(0.15)  # the flow lasts as long as the kills do


def _kill(
    system: System,
    chance: random.Random,
    kills: int,
    *,
    still: Callable[[], bool],
    then: Callable[[], None],
) -> Counter[str]:
    """Kill workers, some now and some a moment later, until there were enough and the flow has ended."""
    killed: Counter[str] = Counter()
    while sum(killed.values()) < kills or still():
        time.sleep(chance.uniform(0.2, 2.0))
        function = chance.choice(KILLED)
        alive = workers(system.stack, function)
        if alive and kill(chance.choice(alive)):
            then()
            killed[function] += 1
    return killed


def _is_visible(endpoint: Endpoint) -> bool:
    """Whether each of its events has an outcome on record."""
    return len(endpoint.account.system.history(endpoint.webhook_id)) >= len(endpoint.emitted)


def _wait(endpoints: list[Endpoint], is_done: Callable[[Endpoint], Any], what: str) -> None:
    """Until it is so for all of them, with a line for each half minute."""
    give_up_at = time.monotonic() + 900
    told_at = time.monotonic()
    while left := [endpoint for endpoint in endpoints if not is_done(endpoint)]:
        if time.monotonic() > give_up_at:
            print(f"given up waiting for {what}: {[endpoint.path for endpoint in left]}", flush=True)
            return
        if time.monotonic() - told_at > 30:
            told_at = time.monotonic()
            print(f"  waiting for {what}: {len(left)} left", flush=True)
        time.sleep(1)


def _report(
    endpoints: list[Endpoint],
    taken_of: Callable[[Endpoint], Counter[str]],
    in_flight: int,
    seconds: float,
) -> int:
    duplicates = 0
    lost = 0
    print(f"\n{'receiver':16}{'emitted':>9}{'taken':>8}{'twice':>7}  on record")
    for endpoint in endpoints:
        taken = taken_of(endpoint)
        outcomes: Counter[str] = Counter()
        recorded: set[str] = set()
        for item in endpoint.account.system.history(endpoint.webhook_id):
            outcome = item["outcome"]["S"]
            reason = f" ({item['reason']['S']})" if "reason" in item else ""
            outcomes[outcome + reason] += 1
            if outcome == "delivered" or reason:
                recorded.add(read_sort_key(item["sk"]["S"])[1])
        emitted = set(endpoint.emitted)
        missing = len(emitted - set(taken)) if endpoint.recovers else len(emitted - recorded)
        missing += len(emitted - recorded) if endpoint.recovers else 0
        twice = sum(taken.values()) - len(taken)
        lost += missing
        duplicates += twice
        shown = ", ".join(f"{name}: {number}" for name, number in outcomes.items())
        print(f"{endpoint.kind:16}{len(emitted):9}{len(taken):8}{twice:7}  {shown}")
    print(f"\nlost {lost}; twice {duplicates}, {in_flight} were in flight at the kills; {seconds:.0f} s")
    return 0 if lost == 0 and duplicates <= in_flight else 1


if __name__ == "__main__":
    sys.exit(main())
