"""What the events of a deleted webhook cost until they are all recorded as failed.

The real code in fake time (`tests.scenarios`), with the sweep beside it. A partition takes 1,000 writes a
second, as DynamoDB's do, and lets who comes too fast wait. What a function's share of a processor allows is
not modelled.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import batched, count
from typing import Any

from bench.crowds import quiet
from bench.figures import Figure
from lms_webhooks.backlog import Lane, Waiting
from lms_webhooks.events import Event
from lms_webhooks.webhooks import Status
from tests.scenarios.world import ACCOUNT, HOUR, REAL_TIME, Call, World

_WRITES_A_SECOND = 1000  # of a partition (DynamoDB guide, "Best practices for partition keys")


def purge(events: int) -> list[Figure]:
    """Delete a webhook for which so many events wait."""
    with quiet(), World() as world:
        webhook = world.register(world.endpoint(), status=Status.PAUSED)
        _fill(world, webhook, events)
        world.delete(webhook)
        began = world.now  # the sweep finds it within a minute
        with _partitions(world) as writes:
            world.run_while(lambda: bool(world.marks(webhook)), at_most=events / _WRITES_A_SECOND * 4 + HOUR)
        seconds = world.now - began
        failed = world.outcomes(webhook)["failed"]
    return [
        Figure(f"{events:,} events of a deleted webhook: left", events - failed, "events", at_most=0),
        Figure("writes of each", (writes["DELIVERY"] + writes["BACKLOG"]) / events, "", at_most=2.0),
        Figure("drain messages of the sweep", writes["batch"], "", at_most=1),
        Figure("events a second", events / seconds, "/s", at_least=350),
    ]


def _fill(world: World, webhook: str, events: int) -> None:
    now_ms = int(world.now * 1000)
    numbers = count()
    for chunk in batched(range(events), 1000, strict=False):
        waiting = []
        for number in chunk:
            event_id = f"e{next(numbers):07d}"
            text = f'{{"eventId":"{event_id}"}}'
            waiting.append(Waiting(Event(ACCOUNT, event_id, REAL_TIME, now_ms + number, now_ms, text)))
        world.put(webhook, Lane.REALTIME, *waiting)


@contextmanager
def _partitions(world: World) -> Iterator[Counter[str]]:
    """Let each partition take its writes, and count them by kind; and the messages of the sweep."""
    free_at: defaultdict[str, float] = defaultdict(float)
    writes: Counter[str] = Counter()

    def take(call: Call, proceed: Callable[[], Any]) -> Any:
        if call.service == "sqs" and call.function == "batch":
            writes["batch"] += len(call.params["Entries"])
        for pk, number in _written(call):
            writes[pk.partition("#")[0]] += number
            free_at[pk] = max(free_at[pk], world.now) + number / _WRITES_A_SECOND
            world.time.sleep(free_at[pk] - world.now)
        return proceed()

    world.taps.append(take)
    try:
        yield writes
    finally:
        world.taps.remove(take)


def _written(call: Call) -> list[tuple[str, int]]:
    if call.operation == "PutItem":
        return [(call.params["Item"]["pk"]["S"], 1)]
    if call.operation == "BatchWriteItem":
        ((_, requests),) = call.params["RequestItems"].items()
        return [(requests[0]["DeleteRequest"]["Key"]["pk"]["S"], len(requests))]
    return []
