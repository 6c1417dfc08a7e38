"""One account that floods beside twenty that do not: from the queue to the acknowledged POST.

Dispatchers as deployed, each a process of its own as each execution environment is, take batches of ten from
one queue. The emulator's SQS knows no fair queues, so the queue is that of `queueing`; all else is real. How
long the twenty wait is for reading: it depends on how many dispatchers there are, and on how long the
receiver of who floods keeps each of them busy.
"""

import itertools
import multiprocessing
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Any

from bench.in_process_function import Events, Function, prepare, register
from bench.queueing import RealTimeQueue
from bench.results import Figure, Row, figure, percentile, turns
from bench.servers import Aws, Endpoints

_DISPATCHERS = 16
_BATCH = 10
_ROUNDS = 7
_FLOOD = 3_000
_SECONDS = 5  # about as long as the flood
_OTHERS_PER_SECOND = 100
_ANSWER_MS = 20
_FLOODS = "4000"
_OTHERS = [str(4001 + number) for number in range(20)]
# What floods, and whether the queue is fair.
_WAYS = {
    "alone": (0, True),
    "beside a flood, FairQueues=true": (_FLOOD, True),
    "beside a flood": (_FLOOD, False),
}

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
                idle.pop(0).send({"Records": queue.take(_BATCH)})
            busy = [each for each in dispatchers if each not in idle]
            if not busy and due == float("inf"):
                return
            for ended in wait(busy, max(0.0, min(due - elapsed, 1.0))):
                assert isinstance(ended, Connection)
                if ended.recv()["batchItemFailures"]:
                    raise RuntimeError("not delivered")
                idle.append(ended)


def measure() -> Row:
    """The twenty alone, beside a flood that they may pass, and beside one that they may not, in turn."""
    with ExitStack() as stack:
        aws, endpoints = stack.enter_context(Aws()), stack.enter_context(Endpoints())
        prepare(aws.url)
        for account in (_FLOODS, *_OTHERS):
            register(account, f"{endpoints.url}/{_ANSWER_MS}")
        dispatchers = [stack.enter_context(_dispatcher(aws.url)) for _ in range(_DISPATCHERS)]
        events, chance = Events(), random.Random(1)

        def work(flood: int, is_fair: bool) -> list[float]:
            run = _planned(events, chance, flood=flood, is_fair=is_fair)
            run.run(dispatchers)
            return _latencies_ms(run, endpoints.answered())

        took = turns({name: partial(work, *way) for name, way in _WAYS.items()}, count=_ROUNDS)
    figures: list[Figure] = []
    for percent in (50, 99):
        each = {name: [percentile(taken, percent) for taken in of] for name, of in took.items()}
        figures += [figure(f"p{percent}, {name}", values, "ms") for name, values in each.items()]
    return Row(figures)


def _planned(events: Events, chance: random.Random, *, flood: int, is_fair: bool) -> _Run:
    moments = itertools.accumulate(iter(lambda: chance.expovariate(_OTHERS_PER_SECOND), None))
    due = list(itertools.takewhile(lambda moment: moment < _SECONDS, moments))
    others = events.batch(*chance.choices(_OTHERS, k=len(due)))["Records"]
    flooding = events.batch(*[_FLOODS] * flood)["Records"]
    return _Run(list(zip(due, others, strict=True)), flooding, is_fair)


def _latencies_ms(run: _Run, answered: dict[str, float]) -> list[float]:
    """Of those that did not flood."""
    ids = [*run.put_at, *(each["messageId"] for each in run.flood)]
    if missing := sum(message_id not in answered for message_id in ids):
        raise RuntimeError(f"{missing} were not delivered at once")
    return [(answered[message_id] - put_at) * 1000 for message_id, put_at in run.put_at.items()]


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
