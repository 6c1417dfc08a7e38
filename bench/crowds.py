"""What slow and hanging receivers cost one healthy webhook of another account.

The real code in fake time (`tests.scenarios`): thousands of webhooks and minutes of waiting take seconds. It
shows how long a healthy event waits until it is acknowledged.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.results import Figure, percentile
from lms_webhooks.observability import logger
from tests.contract.template import PARAMETERS
from tests.scenarios.endpoints import HANGS, Endpoint, Reply, always
from tests.scenarios.tombstones import Redelivery
from tests.scenarios.world import DAY, REAL_TIME, World

_MINUTES = 2
_HEALTHY = "2020"
_HANGING_ACCOUNT = 3000
_STEP_SECONDS = 0.1
DISPATCHERS = int(PARAMETERS["DispatcherMaximumConcurrency"]["Default"])


@dataclass(frozen=True)
class Waits:
    """How long the healthy webhook's events waited, in seconds."""

    each: list[float]
    of: int

    def figures(self, name: str, *, at_most: float) -> list[Figure]:
        """What one run returns. An event that never came counts as one that waits for ever."""
        missing = [float("inf")] * (self.of - len(self.each))
        waits = self.each + missing
        return [
            Figure(f"{name}: p95", percentile(waits, 95), "s", at_most=at_most),
            Figure(f"{name}: longest", max(waits), "s"),
        ]


def nearly_slow() -> list[Figure]:
    """150 events a second for one webhook that takes 0.9 s for each, just under the threshold of slowness."""
    with quiet(), World() as world:
        world.realtime_queue.concurrency = DISPATCHERS
        slow = world.endpoint("slow")
        slow.script = always(Reply(seconds=0.9))
        world.register(slow, events=[REAL_TIME])
        waits = _healthy(world, lambda: world.emit(15))
    return waits.figures("0.9 s an answer, 150 events/s beside it", at_most=1.0)


def hanging(count: int) -> list[Figure]:
    """So many webhooks whose receivers take each request and say nothing, once their first events failed.

    Until then each has a dispatcher for five seconds, as any endpoint that begins to hang.
    """
    with quiet(), World() as world:
        world.realtime_queue.concurrency = DISPATCHERS
        dead = world.endpoint("dead")
        dead.script = always(HANGS)
        for number in range(count):
            account = str(_HANGING_ACCOUNT + number)
            world.register(dead, account=account, events=[REAL_TIME])
            world.emit(1, account=account)
            if number % 10 == 9:
                world.run(_STEP_SECONDS)
        waits = _healthy(world, lambda: None, ordered=True)
    return waits.figures(f"{count:,} receivers that hang", at_most=1.0)


def deleted(count: int) -> list[Figure]:
    """One account deleted so many webhooks in two months, and one of its messages comes again."""
    with quiet(), World() as world:
        waits = Redelivery(world).happen(count, over_seconds=60 * DAY)
    return [Figure(f"a neighbour beside {count:,} deleted webhooks: longest", max(waits), "s", at_most=0.5)]


def _healthy(world: World, load: Callable[[], object], *, ordered: bool = False) -> Waits:
    """Let a healthy webhook get an event each second, while the `load` comes ten times a second."""
    endpoint = world.endpoint("healthy")
    world.register(endpoint, account=_HEALTHY, events=[REAL_TIME], ordered=ordered)
    emitted: dict[str, float] = {}
    seconds = _MINUTES * 60
    for step in range(round(seconds / _STEP_SECONDS)):
        load()
        if step % round(1 / _STEP_SECONDS) == 0:
            (event_id,) = world.emit(1, account=_HEALTHY)
            emitted[event_id] = world.now
        world.run(_STEP_SECONDS)
    world.run(10)
    return Waits(_acknowledged(endpoint, emitted), len(emitted))


def _acknowledged(endpoint: Endpoint, emitted: dict[str, float]) -> list[float]:
    ended: dict[str, float] = {}
    for post in endpoint.posts:
        if post.is_acknowledged and post.ended_at is not None:
            for event_id in post.event_ids:
                ended.setdefault(event_id, post.ended_at)
    return [ended[each] - began for each, began in emitted.items() if each in ended]


@contextmanager
def quiet() -> Iterator[None]:
    """The functions log nothing: each run writes a hundred megabytes otherwise."""
    level = logger.log_level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
