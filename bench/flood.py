"""One account that floods beside twenty that do not: from the queue to the acknowledged POST.

Dispatchers as deployed, each a process of its own as each execution environment is, take batches of ten from
one queue. The emulator's SQS knows no fair queues, so the queue is that of `queueing`; all else is real. What
is compared is the p99 of the twenty: with the flood and without, with `FairQueues` and without.
"""

import itertools
import multiprocessing
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from bench.figures import Row, figure, ratio
from bench.function import Events, Function, prepare, register
from bench.queueing import RealTimeQueue
from bench.servers import Aws, Endpoints

_DISPATCHERS = 16
_BATCH = 10
_ROUNDS = 3  # each is some ten thousand deliveries
_FLOOD = 10_000
_FLOODED_MS = 20
_OTHERS_MS = (20,) * 10 + (100,) * 6 + (300,) * 4
_OTHERS_PER_SECOND = 50
_OTHERS_SECONDS = 15  # about as long as the flood
_FLOODS = "4000"
_OTHERS = [str(4001 + number) for number in range(len(_OTHERS_MS))]

type Record = dict[str, Any]
"""A message, as a function gets it."""


@dataclass
class _Run:
    """What is put into the queue, and when."""

    to_come: list[tuple[float, Record]]
    """Of the others: after how many seconds, in order."""
    flood: list[Record]
    is_fair: bool
    put_at: dict[str, float] = field(default_factory=dict)

    def run(self, dispatchers: Sequence[Connection]) -> None:
        """Bring all of it to the dispatchers."""
        queue, idle = RealTimeQueue[Record](), list(dispatchers)
        began = time.monotonic()
        for record in self.flood:
            queue.put(record, is_passed=self.is_fair)
        to_come = iter(self.to_come)
        due, record = next(to_come)
        while True:
            elapsed = time.monotonic() - began
            while due <= elapsed:
                self.put_at[record["messageId"]] = began + due
                queue.put(record, is_passed=False)
                due, record = next(to_come, (float("inf"), {}))
            while idle and queue:
                idle.pop().send({"Records": queue.take(_BATCH)})
            busy = [each for each in dispatchers if each not in idle]
            if not busy and due == float("inf"):
                return
            for ended in wait(busy, max(0.0, min(due - elapsed, 1.0))):
                assert isinstance(ended, Connection)
                if ended.recv()["batchItemFailures"]:
                    raise RuntimeError("not delivered")
                idle.append(ended)


def measure() -> Row:
    """In turn the twenty alone, and beside a flood that they may pass; once beside one that they may not."""
    alone: list[float] = []
    fair: list[float] = []
    with ExitStack() as stack:
        aws, endpoints = stack.enter_context(Aws()), stack.enter_context(Endpoints())
        prepare(aws.url)
        register(_FLOODS, f"{endpoints.url}/{_FLOODED_MS}")
        for account, milliseconds in zip(_OTHERS, _OTHERS_MS, strict=True):
            register(account, f"{endpoints.url}/{milliseconds}")
        dispatchers = [stack.enter_context(_dispatcher(aws.url)) for _ in range(_DISPATCHERS)]
        events, chance = Events(), random.Random(1)
        _p99_ms(_planned(events, chance, flood=_DISPATCHERS * _BATCH), dispatchers, endpoints)  # warms up
        for _ in range(_ROUNDS):
            alone.append(_p99_ms(_planned(events, chance), dispatchers, endpoints))
            fair.append(_p99_ms(_planned(events, chance, flood=_FLOOD), dispatchers, endpoints))
        unfair = _p99_ms(_planned(events, chance, flood=_FLOOD, is_fair=False), dispatchers, endpoints)
    return Row(
        [
            figure("p99 of the others, alone", alone, "ms"),
            figure("p99 of the others, beside a flood, FairQueues=true", fair, "ms"),
            ratio("flood, FairQueues=true: p99 of the others / alone", fair, alone, at_most=1.5),
            ratio("flood: p99 of the others / alone", [unfair] * _ROUNDS, alone, is_compared=False),
        ]
    )


def _planned(events: Events, chance: random.Random, *, flood: int = 0, is_fair: bool = True) -> _Run:
    moments = itertools.accumulate(iter(lambda: chance.expovariate(_OTHERS_PER_SECOND), None))
    due = list(itertools.takewhile(lambda moment: moment < _OTHERS_SECONDS, moments))
    others = events.batch(*(chance.choice(_OTHERS) for _ in due))["Records"]
    flooding = events.batch(*[_FLOODS] * flood)["Records"]
    return _Run(list(zip(due, others, strict=True)), flooding, is_fair)


def _p99_ms(run: _Run, dispatchers: Sequence[Connection], endpoints: Endpoints) -> float:
    """Of those that did not flood."""
    run.run(dispatchers)
    answered = endpoints.answered()
    missing = [each["messageId"] for each in run.flood if each["messageId"] not in answered]
    if missing:
        raise RuntimeError(f"{len(missing)} of the flood were not delivered at once")
    took = sorted(answered[message_id] - put_at for message_id, put_at in run.put_at.items())
    return took[len(took) * 99 // 100] * 1000


@contextmanager
def _dispatcher(aws_url: str) -> Iterator[Connection]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_dispatch, args=(theirs, aws_url))
    process.start()
    theirs.close()
    try:
        ours.recv()  # it is ready
        yield ours
    finally:
        process.terminate()
        process.join()


def _dispatch(requests: Connection, aws_url: str) -> None:
    prepare(aws_url)
    function = Function("dispatcher")
    requests.send("ready")
    while True:
        requests.send(function.invoke(requests.recv()))
