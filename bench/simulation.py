"""The deployed system as a simulation of discrete events: what it does at rates that no one machine makes.

An event is put on the bus, waits in the real-time queue for a dispatcher (batches of ten), and is posted by
it. How many dispatchers run follows Lambda's scaling of SQS pollers, up to the template's MaximumConcurrency.
How long one takes follows from the endpoints' latencies and from what DynamoDB's partitions admit a second.
Direct mode only: an endpoint that is slow or fails leaves it, and costs the queue less from then on.
Each constant says where it is from: AWS's documentation as of November 2026, the template, or this benchmark.
"""

import heapq
import itertools
import random
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.in_process_function import Events, Function, prepare, register
from bench.plots import Line, draw
from bench.queueing import RealTimeQueue
from bench.results import ROUNDS, Figure, Row, Sample, figure, p99, ratio, sample
from bench.servers import Aws, Endpoints

# Lambda Developer Guide, "Using Lambda with Amazon SQS": five concurrent batches at first, 300 more a minute,
# up to 1,250 for a queue; MaximumConcurrency bounds it.
FIRST_POLLERS = 5
MORE_POLLERS_A_MINUTE = 300
# DynamoDB Developer Guide, "Best practices for partition keys": 1,000 write units a second for a partition.
# A webhook's history is one partition, and a delivery one unit.
PARTITION_WRITES = 1_000
# EventBridge, classic bus: 99 of 100 events are at the queue within 130 ms.
BUS_SECONDS = (0.03, 0.13)
# A call of DynamoDB within a region: single-digit milliseconds, by its product page. Two for each batch.
AWS_CALLS_SECONDS = 0.012
# Lambda: an execution environment begins with INIT; that of the dispatcher is measured in the row `cold`.
INIT_SECONDS = 0.35
BATCH_SIZE = 10  # the template's
DEADLINE_SECONDS = 5.0  # the dispatcher's for a POST
# Processor seconds of a delivery (row `delivery`). 512 MB have 0.29 of a processor (1,769 MB have one).
CPU_SECONDS = 0.0009
CPU_SHARE = 512 / 1769


# Of webhooks: which share answers in how many seconds. An assumption about receivers on the internet.
MIX = ((0.90, 0.1), (0.08, 0.4), (0.02, 1.5))
_GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class Load:
    """What comes, the parameters that the deployment chose, and what it stands on."""

    per_second: float
    seconds: float
    accounts: int
    flood: int = 0
    """Events of one account more, all at once, at half time."""
    max_concurrency: int = 100
    """DispatcherMaximumConcurrency."""
    fair: bool = False
    """FairQueues: SQS hands out messages of the account that floods when there is no other."""
    first_pollers: int = FIRST_POLLERS
    mix: Sequence[tuple[float, float]] = MIX
    cpu_seconds: float = CPU_SECONDS / CPU_SHARE
    bus_seconds: tuple[float, float] = BUS_SECONDS
    aws_seconds: float = AWS_CALLS_SECONDS
    init_seconds: float = INIT_SECONDS


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    p50: float
    p99: float
    others_p99: float
    """Of the accounts that did not flood, from half time on."""
    per_second: float
    longest_queue: int
    most_dispatchers: int
    limit: str
    """The first limit met, and when; or none."""


def latency_of(account: int, mix: Sequence[tuple[float, float]] = MIX) -> float:
    """In which an account's endpoint responds. The kinds are spread evenly: few accounts show the mix."""
    place = account * _GOLDEN % 1
    for share, seconds in mix:
        place -= share
        if place < 0:
            return seconds
    return mix[-1][1]


class Simulation:
    """One run. What happens is kept in a heap, by time."""

    def __init__(self, load: Load, *, seed: int = 1, whose: Sequence[int] = ()) -> None:
        """With `whose`, an event of each of these accounts comes at once, instead of so many a second."""
        self._load = load
        self._whose = whose
        self._chance = random.Random(seed)
        self._order = itertools.count()
        self._to_come: list[tuple[float, int, Callable[[float], None]]] = []
        self._queue = RealTimeQueue[tuple[float, int]]()
        self._busy = self._warm = self._most = self._longest = 0
        self._admitted_at: dict[int, float] = {}  # the next write of each webhook's partition
        self._waits: list[float] = []
        self._others: list[float] = []
        self._last = 0.0
        self._limit = ""

    def run(self) -> Outcome:
        """Let every event come, wait and go out."""
        self._plan()
        while self._to_come:
            now, _, act = heapq.heappop(self._to_come)
            act(now)
        return Outcome(
            p50=statistics.median(self._waits),
            p99=p99(self._waits),
            others_p99=p99(self._others) if self._others else 0.0,
            per_second=len(self._waits) / self._last,
            longest_queue=self._longest,
            most_dispatchers=self._most,
            limit=self._limit or "none",
        )

    def _plan(self) -> None:
        load, now = self._load, 0.0
        if self._whose:
            for account in self._whose:
                self._queue.put((now, account), is_passed=False)
            self._at(now, self._start)
            return
        while (now := now + self._chance.expovariate(load.per_second)) < load.seconds:
            self._put(self._chance.randrange(load.accounts), now)
        for _ in range(load.flood):
            self._put(load.accounts, load.seconds / 2)

    def _put(self, account: int, put_at: float) -> None:
        def arrive(now: float) -> None:
            self._queue.put((put_at, account), is_passed=self._load.fair and account == self._load.accounts)
            self._longest = max(self._longest, len(self._queue))
            self._start(now)

        self._at(put_at + self._chance.uniform(*self._load.bus_seconds), arrive)

    def _at(self, moment: float, act: Callable[[float], None]) -> None:
        heapq.heappush(self._to_come, (moment, next(self._order), act))

    def _start(self, now: float) -> None:
        load = self._load
        while self._queue:
            scaled = int(load.first_pollers + MORE_POLLERS_A_MINUTE * now / 60)
            if self._busy >= min(load.max_concurrency, scaled):
                by = "Lambda's scaling" if scaled < load.max_concurrency else "DispatcherMaximumConcurrency"
                self._meet(by, now)
                return
            batch = self._queue.take(BATCH_SIZE)
            self._busy += 1
            began = now
            if self._busy > self._warm:
                self._warm += 1
                began += load.init_seconds
            self._most = max(self._most, self._busy)
            self._at(self._dispatch(began, batch), self._finish)

    def _finish(self, now: float) -> None:
        self._busy -= 1
        self._last = now
        self._start(now)

    def _dispatch(self, began: float, batch: list[tuple[float, int]]) -> float:
        """When a batch is done: events of one webhook go one after the other, on the one processor of all."""
        load = self._load
        ready = began + load.aws_seconds / 2
        processor = ready
        free = dict.fromkeys((account for _, account in batch), ready)
        for put_at, account in batch:
            processor = max(processor, free[account]) if len(free) == 1 else processor
            processor += load.cpu_seconds
            took = latency_of(account, load.mix) * self._chance.uniform(0.9, 1.1)
            free[account] = max(free[account] + load.cpu_seconds, processor) + min(took, DEADLINE_SECONDS)
            self._waits.append(free[account] - put_at)
            if account != load.accounts and put_at >= load.seconds / 2:
                self._others.append(free[account] - put_at)
        ends = max(free.values()) + load.aws_seconds / 2
        for account, events in Counter(account for _, account in batch).items():
            admitted = max(self._admitted_at.get(account, 0.0), ends - 1) + events / PARTITION_WRITES
            self._admitted_at[account] = admitted
            if admitted > ends:  # DynamoDB refuses the rest for now, and botocore tries again
                self._meet("a webhook's DynamoDB partition", ends)
                ends = admitted
        return ends

    def _meet(self, limit: str, now: float) -> None:
        self._limit = self._limit or f"{limit}, after {now:.1f} s"


def hours_for(events: int, *, response_seconds: float, ordered: bool) -> float:
    """How long one webhook of one account takes to get `events`, and all of them at once."""
    # Through the backlog one POST of 100 at a time; each event is written, recorded and deleted, and the
    # busier of the two partitions has two units to do for each.
    by_backlog = min(100 / response_seconds, PARTITION_WRITES / 2)
    by_partition = float(PARTITION_WRITES)
    return events / (by_backlog if ordered else by_partition) / 3600


_FLOOD = "100 events/s, 10,000 more of one account"
_FAIR_FLOOD = "so, with FairQueues=true"
LOADS = {
    "1 event/s": Load(1, 600, 20),
    "100 events/s": Load(100, 120, 200),
    _FLOOD: Load(100, 120, 200, flood=10_000),
    "so, with DispatcherMaximumConcurrency=300": Load(100, 120, 200, flood=10_000, max_concurrency=300),
    _FAIR_FLOOD: Load(100, 120, 200, flood=10_000, fair=True),
    "10,000 events/s, all at once": Load(10_000, 30, 5_000),
    "10,000 events/s, scaled up, concurrency 100": Load(10_000, 20, 5_000, first_pollers=1_000),
    "10,000 events/s, scaled up, concurrency 1,000": Load(
        10_000, 20, 5_000, first_pollers=1_000, max_concurrency=1_000
    ),
}
_LOCAL_MIX = ((0.5, 0.02), (0.3, 0.1), (0.2, 0.3))
_LOCAL_ACCOUNTS = 20
_LOCAL_EVENTS = 200
_LEARNERS = 10_000_000


def measure() -> Row:
    """First one scenario both ways, then what no machine here can do."""
    chance = random.Random(1)
    whose = [chance.choices(range(_LOCAL_ACCOUNTS), k=_LOCAL_EVENTS) for _ in range(ROUNDS)]
    measured, cpu_seconds = _measured(whose)
    alone = Load(
        1, 1, _LOCAL_ACCOUNTS, max_concurrency=1, first_pollers=1, mix=_LOCAL_MIX,
        cpu_seconds=cpu_seconds, bus_seconds=(0, 0), aws_seconds=0, init_seconds=0,
    )  # fmt: skip
    simulated = [Simulation(alone, whose=each).run().per_second for each in whose]
    figures: list[Figure] = [
        figure("one dispatcher, measured", measured, "deliveries/s"),
        figure("one dispatcher, simulated", simulated, "deliveries/s"),
        ratio("simulated / measured", simulated, measured, at_most=1.2),
        ratio("measured / simulated", measured, simulated, at_most=1.2),
    ]
    outcomes = {name: Simulation(load).run() for name, load in LOADS.items()}
    undisturbed = outcomes["100 events/s"].p99
    figures += [
        Figure(
            "flood: p99 of the others / without",
            outcomes[_FLOOD].others_p99 / undisturbed,
            "x",
        ),
        Figure(
            "flood, FairQueues=true: p99 of the others / without",
            outcomes[_FAIR_FLOOD].others_p99 / undisturbed,
            "x",
            at_most=1.5,
            is_compared=True,
        ),
    ]
    notes = []
    for name, outcome in outcomes.items():
        load = LOADS[name]
        others = f"; p99 of the others {outcome.others_p99:.2f} s" if load.flood else ""
        notes.append(
            f"    {name}: {outcome.per_second:,.0f}/s, "
            f"p50 {outcome.p50:.2f} s, p99 {outcome.p99:.2f} s{others}; "
            f"queue {outcome.longest_queue:,}, dispatchers {outcome.most_dispatchers}; "
            f"first limit: {outcome.limit}"
        )
    for ordered in (False, True):
        hours = hours_for(_LEARNERS, response_seconds=0.1, ordered=ordered)
        way = "ordered, through the backlog" if ordered else "direct"
        notes.append(
            f"    {_LEARNERS:,} events for one webhook, {way}: {hours:.1f} hours; a DynamoDB partition"
        )
    draw(
        "simulation.svg",
        "p99 from PutEvents to the acknowledged POST, simulated, scaled up",
        ("events/s", "seconds"),
        [
            Line(
                f"DispatcherMaximumConcurrency={most}",
                [
                    (
                        rate,
                        Simulation(Load(rate, 20, 2_000, max_concurrency=most, first_pollers=most)).run().p99,
                    )
                    for rate in (1, 10, 100, 1_000, 3_000, 10_000)
                ],
            )
            for most in (100, 300, 1_000)
        ],
    )
    return Row(figures, notes)


def _measured(whose: Sequence[Sequence[int]]) -> tuple[list[float], float]:
    """Return the deliveries a second of one dispatcher, round by round, and its processor time for each.

    Its endpoints respond as `_LOCAL_MIX` says.
    """
    with Aws() as aws, Endpoints() as endpoints:
        prepare(aws.url)
        function, events = Function("dispatcher"), Events()
        for account in range(_LOCAL_ACCOUNTS):
            milliseconds = round(latency_of(account, _LOCAL_MIX) * 1000)
            register(str(5_000 + account), f"{endpoints.url}/{milliseconds}")

        def dispatch(accounts: Sequence[int]) -> Sample:
            names = [str(5_000 + account) for account in accounts]
            batches = [events.batch(*some) for some in itertools.batched(names, BATCH_SIZE, strict=True)]

            def work() -> int:
                if any(function.invoke(batch)["batchItemFailures"] for batch in batches):
                    raise RuntimeError("not delivered")
                return len(accounts)

            return sample(work)

        dispatch(whose[0])  # opens connections
        samples = [dispatch(accounts) for accounts in whose]
    return [each.per_second for each in samples], statistics.median(each.cpu_us for each in samples) / 1e6
