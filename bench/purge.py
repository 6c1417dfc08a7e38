"""What the events of a deleted webhook cost until they are all recorded as failed, and how fast that goes.

The real code in fake time (`tests.scenarios`), with the sweep beside it. A partition takes 1,000 writes a
second, as DynamoDB's do, and lets who comes too fast wait. What a processor allows is measured beside it: the
same code over real sockets. Lambda gives a function of 512 MB 0.29 of one.
"""

import json
import multiprocessing
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from itertools import batched
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from bench.crowds import quiet
from bench.results import Figure
from bench.servers import DELIVERIES, WEBHOOKS, Aws
from tests.contract.template import FUNCTIONS

if TYPE_CHECKING:
    from lms_webhooks.model.lanes import PendingEvent
    from tests.scenarios.world import Call, World

# Nothing of lms_webhooks is imported here: the measured process needs the environment that `prepare` makes.
_WRITES_A_SECOND = 1000  # of a partition (DynamoDB guide, "Best practices for partition keys")
_GOAL = 900  # events a second: the rest is for who begins, and for the end of each page
_MEASURED = 10_000
_SAMPLE_BYTES = 360  # `eventBytes` of prices.json
_PRICES: dict[str, Any] = json.loads((Path(__file__).parent / "prices.json").read_text())
_SHARE = FUNCTIONS["DrainerFunction"]["MemorySize"] / _PRICES["assumptions"]["memoryMbOfOneProcessor"]


def purge(events: int) -> list[Figure]:
    """Delete a webhook for which so many events wait."""
    from lms_webhooks.model.webhooks import Status  # noqa: PLC0415
    from tests.scenarios.world import HOUR, World  # noqa: PLC0415

    with quiet(), World() as world:
        webhook = world.register(world.endpoint(), status=Status.PAUSED)
        _fill(world, webhook, events)
        world.delete(webhook)
        with _partitions(world) as seen:
            world.run_while(lambda: bool(world.marks(webhook)), at_most=events / _WRITES_A_SECOND * 4 + HOUR)
        seconds = world.now - seen.began
        failed = world.outcomes(webhook)["failed"]
    writes = seen.writes
    allowed = _SHARE * 1e6 / _processor_us()
    return [
        Figure(f"{events:,} events of a deleted webhook: left", events - failed, "events", at_most=0),
        Figure("writes of each", (writes["DELIVERY"] + writes["BACKLOG"]) / events, "", at_most=2.0),
        Figure("drain messages of the sweep", writes["batch"], "", at_most=1),
        Figure("events a second, from the first write", events / seconds, "/s", at_least=_GOAL),
        Figure("that a purger's share of a processor allows", allowed, "/s", at_least=_WRITES_A_SECOND),
    ]


def _processor_us() -> float:
    """Microseconds of the processor for each event that is purged, measured."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as processes:
        return processes.submit(_measured).result()


def _measured() -> float:
    from bench.in_process_function import prepare  # noqa: PLC0415

    with Aws() as aws:
        prepare(aws.url)
        from lms_webhooks.aws import clients  # noqa: PLC0415
        from lms_webhooks.aws.dynamodb import Table  # noqa: PLC0415
        from lms_webhooks.aws.sqs import DrainMessage  # noqa: PLC0415
        from lms_webhooks.drainer.outcomes import OutcomeRecorder  # noqa: PLC0415
        from lms_webhooks.drainer.purge import Purger  # noqa: PLC0415
        from lms_webhooks.model.lanes import Lane  # noqa: PLC0415
        from lms_webhooks.stores.backlog import Backlog  # noqa: PLC0415
        from lms_webhooks.stores.deliveries import DeliveryStore  # noqa: PLC0415
        from lms_webhooks.stores.webhook_cache import WebhookCache  # noqa: PLC0415
        from lms_webhooks.stores.webhooks import WebhookStore  # noqa: PLC0415

        dynamodb = clients.dynamodb()
        backlog = Backlog(Table(dynamodb, DELIVERIES), retention_days=7)
        purger = Purger(
            webhook_cache=WebhookCache(WebhookStore(dynamodb, WEBHOOKS)),
            backlog=backlog,
            recorder=OutcomeRecorder(backlog, DeliveryStore(Table(dynamodb, DELIVERIES), retention_days=30)),
            replays=cast("Any", SimpleNamespace()),  # nothing is to be sent again
            queue=cast("Any", SimpleNamespace()),  # nor is there a successor
            claim_seconds=70,
        )
        assert not backlog.append("wh_1", Lane.REALTIME, list(_samples(_MEASURED, int(time.time() * 1000))))
        backlog.set_marker("1010", "wh_1", Lane.REALTIME, accepted_at_ms=0)
        began = time.process_time()
        purger.purge(DrainMessage("1010", "wh_1"), remaining_ms=lambda: 60_000)
        assert not backlog.markers("wh_1")
        return (time.process_time() - began) / _MEASURED * 1e6


def _samples(events: int, now_ms: int) -> "Iterator[PendingEvent]":
    from lms_webhooks.model.events import Event  # noqa: PLC0415
    from lms_webhooks.model.lanes import PendingEvent  # noqa: PLC0415

    text = json.dumps({"note": "x" * _SAMPLE_BYTES})  # one for all: a million are in memory
    for number in range(events):
        event_id = f"e{number:07d}"
        yield PendingEvent(Event("1010", event_id, "COURSE_COMPLETED", now_ms + number, now_ms, text))


def _fill(world: "World", webhook: str, events: int) -> None:
    from lms_webhooks.model.lanes import Lane  # noqa: PLC0415

    for chunk in batched(_samples(events, int(world.now * 1000)), 1000, strict=False):
        world.put(webhook, Lane.REALTIME, *chunk)


class _Seen:
    """What was written, by kind; the messages of the sweep; and when the first was."""

    def __init__(self) -> None:
        self.writes: Counter[str] = Counter()
        self.began = float("inf")


@contextmanager
def _partitions(world: "World") -> "Iterator[_Seen]":
    """Let each partition take its writes, and see them."""
    free_at: defaultdict[str, float] = defaultdict(float)
    seen = _Seen()

    def take(call: "Call", proceed: Callable[[], Any]) -> Any:
        if call.service == "sqs" and call.function == "batch":
            seen.writes["batch"] += len(call.params["Entries"])
        for pk, number in _written(call):
            seen.began = min(seen.began, world.now)
            seen.writes[pk.partition("#")[0]] += number
            free_at[pk] = max(free_at[pk], world.now) + number / _WRITES_A_SECOND
            world.time.sleep(free_at[pk] - world.now)
        return proceed()

    world.taps.append(take)
    try:
        yield seen
    finally:
        world.taps.remove(take)


def _written(call: "Call") -> list[tuple[str, int]]:
    if call.operation != "BatchWriteItem":
        return []
    ((_, requests),) = call.params["RequestItems"].items()
    (first, *_) = requests
    key = first["PutRequest"]["Item"] if "PutRequest" in first else first["DeleteRequest"]["Key"]
    return [(key["pk"]["S"], len(requests))]
