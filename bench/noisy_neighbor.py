"""What endpoints that hang, and accounts that flood, cost those beside them in the same batches.

Ten accounts have five webhooks each, and each batch an event of each account.

The first batch meets the endpoints that hang. Its whole time is held against the deadline of a POST. The
slowest of the others is held against the slowest of a batch in which all respond at once. From the second
batch on the endpoints that hang are in backlog mode, and the dispatcher sends nothing to them.

Of a flood each batch has nine events of the ten thousand, and one of an account with five webhooks. The times
of the five are held against the same batches where the nine are of nine accounts. The times of the one event
alone show what a full batch costs. How long a batch is on the queue is measured by the row `simulation`.
"""

import statistics
import time
from dataclasses import dataclass
from functools import partial

from bench.in_process_function import Events, Function, prepare, register
from bench.results import ROUNDS, Figure, Row, figure, p99, percentile, ratio, turns
from bench.servers import HANGS, Aws, Receiver

_ACCOUNTS = 10
_WEBHOOKS = 5
_MORE_BATCHES = 10
_FLOODS, _OTHER = "9001", "9002"
_CALM = [str(9101 + number) for number in range(9)]
_FLOOD, _FLOOD_ROUNDS = 10_000, 7
_HANGING = {"1 in 50": 1, "1 in 5": 10}


@dataclass(frozen=True)
class _Run:
    """What became of the first batch, and of those after it."""

    whole_seconds: float
    slowest_ms: float
    later_p50_ms: float
    later_p99_ms: float
    """Both of the deliveries of all later batches."""


def measure() -> Row:
    """Runs with fast endpoints only, and with some that hang, in turn."""
    with Aws() as aws, Receiver() as receiver:
        prepare(aws.url)
        function = Function("dispatcher")
        events = Events()
        flood = _flood(function, events, receiver)
        alone: list[_Run] = []
        beside: dict[str, list[_Run]] = {share: [] for share in _HANGING}
        for number in range(ROUNDS + 1):
            # New accounts each time: an endpoint that hung is in backlog mode from then on.
            runs = [
                _run(function, events, receiver, 1_000 * index + number * _ACCOUNTS, hanging=hanging)
                for index, hanging in enumerate((0, *_HANGING.values()), 10)
            ]
            if number:  # the first opens connections
                alone.append(runs[0])
                for share, run in zip(_HANGING, runs[1:], strict=True):
                    beside[share].append(run)
    deadline = [_patience_seconds()] * len(alone)
    figures = [figure("slowest of 50 that are fast", [each.slowest_ms for each in alone], "ms")]
    for share, runs in beside.items():
        figures += [
            figure(f"slowest beside {share} that hangs", [each.slowest_ms for each in runs], "ms"),
            ratio(
                f"slowest beside {share} / slowest alone",
                [each.slowest_ms for each in runs],
                [each.slowest_ms for each in alone],
                at_most=2.0,
            ),
            ratio(
                f"first batch with {share} / the deadline",
                [each.whole_seconds for each in runs],
                deadline,
                # The goal speaks of one that hangs. After the deadline ten fall into backlog mode, each by
                # four calls of AWS, on the one processor that they share.
                at_most=1.05 if _HANGING[share] == 1 else None,
            ),
            ratio(
                f"p50 of the later batches beside {share} / alone",
                [each.later_p50_ms for each in runs],
                [each.later_p50_ms for each in alone],
            ),
            ratio(
                f"p99 of the later batches beside {share} / alone",
                [each.later_p99_ms for each in runs],
                [each.later_p99_ms for each in alone],
                at_most=1.5,
            ),
        ]
    return Row([*figures, *flood])


def _run(function: Function, events: Events, receiver: Receiver, first_account: int, *, hanging: int) -> _Run:
    accounts = [str(first_account + number) for number in range(_ACCOUNTS)]
    for index, account in enumerate(accounts):
        # One of an account's five, so that ten of fifty are one in each.
        paths = [f"/fast/{account}/{number}" for number in range(_WEBHOOKS)]
        if index < hanging:
            paths[0] = f"{HANGS}/{account}"
        register(account, *(receiver.url + path for path in paths))
    answering = _ACCOUNTS * _WEBHOOKS - hanging
    whole, first = _batch(function, events, receiver, accounts, answering)
    if not hanging:
        # As long as the others' first batch takes: registrations are remembered for a second, and are
        # looked up again in the first of the later batches.
        time.sleep(_patience_seconds())
    later = [
        each
        for _ in range(_MORE_BATCHES)
        for each in _batch(function, events, receiver, accounts, answering)[1].values()
    ]
    return _Run(whole, max(first.values()) * 1000, statistics.median(later) * 1000, p99(later) * 1000)


def _flood(function: Function, events: Events, receiver: Receiver) -> list[Figure]:
    register(_FLOODS, f"{receiver.url}/floods")
    register(_OTHER, *(f"{receiver.url}/other/{number}" for number in range(_WEBHOOKS)))
    for account in _CALM:
        register(account, f"{receiver.url}/calm/{account}")

    def run(beside: list[str]) -> list[float]:
        """In milliseconds, each response of the five."""
        answering = _WEBHOOKS + len(set(beside))
        took: list[float] = []
        for _ in range(_FLOOD // len(_CALM)):
            _, answered = _batch(function, events, receiver, [*beside, _OTHER], answering)
            took += [seconds * 1000 for path, seconds in answered.items() if path.startswith("/other")]
        return took

    ways = {"alone": [], "beside nine": _CALM, "beside a flood": [_FLOODS] * len(_CALM)}
    runs = turns({name: partial(run, beside) for name, beside in ways.items()}, count=_FLOOD_ROUNDS)
    figures: list[Figure] = []
    for percent, at_most in ((50, None), (99, 1.5)):
        each = {name: [percentile(taken, percent) for taken in of] for name, of in runs.items()}
        flooded = each["beside a flood"]
        figures += [figure(f"p{percent} of five {name}", values, "ms") for name, values in each.items()]
        figures += [
            ratio(f"p{percent} beside a flood / beside nine", flooded, each["beside nine"], at_most=at_most),
            ratio(f"p{percent} beside a flood / alone", flooded, each["alone"], is_compared=False),
        ]
    return figures


def _patience_seconds() -> float:
    from lms_webhooks.dispatcher.dispatcher import TIMEOUTS  # noqa: PLC0415  # after `prepare`

    return TIMEOUTS.total_seconds


def _batch(
    function: Function, events: Events, receiver: Receiver, accounts: list[str], answering: int
) -> tuple[float, dict[str, float]]:
    """How many seconds the batch took, and each path until its last response."""
    batch = events.batch(*accounts)
    receiver.seen()
    began = time.monotonic()
    answer = function.invoke(batch)
    took = time.monotonic() - began
    if answer["batchItemFailures"]:
        raise RuntimeError(f"not seen to: {answer}")
    answered = receiver.seen()["answered"]
    if len(answered) != answering:
        raise RuntimeError(f"only {len(answered)} endpoints were reached")
    return took, {path: at - began for path, at in answered.items()}
