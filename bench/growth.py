"""Which term grows, and how: one thing at a time made ten and a hundred times as much.

Measures the processor time of a delivery against events in a row, accounts, webhooks and the size of an
event. Measures that of an event in a backlog against the backlog's length. The exponent is the slope on a
log-log scale: 0 constant, 1 linear.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence

from bench.drain import drain, fill
from bench.in_process_function import Events, Function, prepare, register
from bench.plots import Line, draw
from bench.results import Figure, Row
from bench.servers import Aws, Receiver

_BATCH = 10
_ROUNDS = 7
_EVENTS = 100  # of a round
_ACCOUNTS = (10, 100, 1_000)
_WEBHOOKS = (1, 2, 5)  # five is an account's limit
_EXTRA_BYTES = (0, 4_800, 48_000)  # the sample has 0.5 KB
_SAMPLE_BYTES = 535
_BACKLOG = (100, 1_000, 10_000)
_RATES = (10, 100, 1_000)  # events in a row, without a pause: what comes faster than it goes waits in SQS


def measure() -> Row:
    """Measure each line, point by point."""
    with Aws() as aws, Receiver() as receiver:
        prepare(aws.url)
        dispatcher = Function("dispatcher")
        drainer = Function("drainer", timeout_seconds=600)
        register("1", receiver.url + "/1")
        lines = [
            Line("events in a row", [(n, _cost(dispatcher, Events(), ["1"], n)) for n in _RATES]),
            Line("accounts", [(n, _with_accounts(dispatcher, receiver, n)) for n in _ACCOUNTS]),
            Line("webhooks of an account", [(n, _with_webhooks(dispatcher, receiver, n)) for n in _WEBHOOKS]),
            Line(
                "bytes of an event",
                [
                    (n + _SAMPLE_BYTES, _cost(dispatcher, Events(extra_bytes=n), ["1"], _EVENTS))
                    for n in _EXTRA_BYTES
                ],
            ),
            Line("events of a backlog", [(n, _drained(drainer, receiver, n)) for n in _BACKLOG]),
        ]
    draw(
        "growth.svg",
        "Processor time of a delivery, as one thing grows",
        ("how much of it", "microseconds"),
        lines,
    )
    figures = []
    for line in lines:
        figures += [Figure(f"{line.name}: {x:,.0f}", y, "us/delivery") for x, y in line.points]
        figures.append(Figure(f"{line.name}: exponent", _slope(line.points), ""))
    return Row(figures)


def _cost(
    dispatcher: Function, events: Events, accounts: Sequence[str], count: int, webhooks: int = 1
) -> float:
    """Microseconds of this process for each delivery; the accounts take turns."""
    costs = []
    for _ in range(_ROUNDS + 1):
        batches = [
            events.batch(*(accounts[(first + each) % len(accounts)] for each in range(_BATCH)))
            for first in range(0, count, _BATCH)
        ]
        began = time.process_time()
        for batch in batches:
            if dispatcher.invoke(batch)["batchItemFailures"]:
                raise RuntimeError("not delivered")
        costs.append((time.process_time() - began) / len(batches) / _BATCH / webhooks * 1e6)
    return statistics.median(costs[1:])


def _with_accounts(dispatcher: Function, receiver: Receiver, count: int) -> float:
    accounts = [f"{count}{number:05}" for number in range(count)]
    for account in accounts:
        register(account, f"{receiver.url}/{account}")
    return _cost(dispatcher, Events(), accounts, max(count, _EVENTS))


def _with_webhooks(dispatcher: Function, receiver: Receiver, count: int) -> float:
    register(f"7{count}", *(f"{receiver.url}/7{count}/{number}" for number in range(count)))
    return _cost(dispatcher, Events(), [f"7{count}"], _EVENTS, count)


def _drained(drainer: Function, receiver: Receiver, count: int) -> float:
    costs = []
    for number in range(3):
        account = f"8{count}{number}"
        (webhook_id,) = register(account, f"{receiver.url}/{account}", ordered=True)
        fill(account, webhook_id, count)
        costs.append(_seconds_of(lambda of=(account, webhook_id): drain(drainer, *of)) / count * 1e6)  # type: ignore[misc]
    return statistics.median(costs)


def _seconds_of(work: Callable[[], None]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _slope(points: Sequence[tuple[float, float]]) -> float:
    return statistics.linear_regression(
        [math.log10(x) for x, _ in points], [math.log10(y) for _, y in points]
    ).slope
