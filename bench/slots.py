"""A slot of 100,000 webhooks: when each has its drain message, and when each is served.

The real sweep runs in fake time, one process for each invocation, against the tables in memory. What DynamoDB
and SQS take is a latency and a rate; what the processor takes is measured first: a shard of the same size, by
the real function over real sockets, on this processor. Lambda gives a function of 512 MB 0.29 of one.

Drainers are simulated: how long one takes for a webhook follows from the calls that the real one makes.
"""

import json
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from bench.in_process_function import Function, prepare, register
from bench.memory import peak_mb
from bench.results import Figure, Row
from bench.servers import DELIVERIES, WEBHOOKS, Aws
from bench.simulation import FIRST_POLLERS, MORE_POLLERS_A_MINUTE
from tests.contract.template import FUNCTIONS, PARAMETERS, event_sources
from tests.scenarios.fake_time import FakeTime, Process, Threads
from tests.scenarios.queues import Queue
from tests.scenarios.tables import Refused, Tables

# Nothing of lms_webhooks is imported here: it is to find the environment that `prepare` makes.
_PRICES: dict[str, Any] = json.loads((Path(__file__).parent / "prices.json").read_text())
_ASSUMED: dict[str, float] = _PRICES["assumptions"]
_BATCH = FUNCTIONS["BatchFunction"]
_WEBHOOKS = 100_000
_OF_AN_ACCOUNT = 5
_GOAL_SECONDS = 300.0
_START = 1_793_707_200.0  # 2026-11-03 12:00, a slot
_MINUTE = 60
_NEVER_MS = 4_000_000_000_000
_MARK_BYTES = 125  # of the due marker of a batch lane, by DynamoDB's rules
_DEFAULT = int(PARAMETERS["DrainerMaximumConcurrency"]["Default"])
_ENOUGH = 200  # docs/scale.md says so
_SHARE = _BATCH["MemorySize"] / _ASSUMED["memoryMbOfOneProcessor"]
_INIT_SECONDS = 0.35  # of an execution environment, as in `simulation`
_POLL_SECONDS = 0.1  # from SendMessage until Lambda invokes: an assumption
# DynamoDB's product page: single-digit milliseconds. SQS says no number; reports have 10 to 20 ms.
_SECONDS_OF = {"dynamodb": 0.006, "sqs": 0.015}
# DynamoDB Developer Guide, on-demand: what a new table takes a second before it grows. A consistent read of a
# key is a whole unit. No partition comes near its own limit: an account has five webhooks.
_READS_OF_A_NEW_TABLE = 12_000
_WRITES_OF_A_NEW_TABLE = 4_000
_RECEIVER_SECONDS = 0.1
_DUPLICATE_SECONDS = 0.02  # of a drainer that ends at once


def measure() -> Row:
    """Measure the processor time of a sweep, then let a slot come."""
    sweep_us, idle_us, peak_mb = _measured()
    drain_seconds, drain_calls = _drain()
    world = _Slot(_WEBHOOKS, sweep_us / 1e6, drain_seconds, drainers=_background(_ENOUGH))
    world.run()
    as_deployed = _Slot(_WEBHOOKS, sweep_us / 1e6, drain_seconds)
    as_deployed.run()
    later = _Slot(
        _WEBHOOKS, sweep_us / 1e6, drain_seconds, due_in_seconds=600, idle_cpu_seconds=idle_us / 1e6
    )
    later.run(seconds=59)
    memory = _BATCH["MemorySize"]
    dollars = (
        later.read_units * _PRICES["dollars"]["dynamoDbReadUnit"]
        + later.seconds * memory / 1024 * _PRICES["dollars"]["lambdaGbSecond"]
    ) * (_ASSUMED["hoursAMonth"] * 60)
    figures = [
        Figure("processor time of a sweep", sweep_us, "us/webhook"),
        Figure("a drainer's time for a webhook", drain_seconds, "s"),
        Figure("share of webhooks that got a drain message", len(world.sent_at) / _WEBHOOKS, "", at_least=1),
        Figure("the last of these", max(world.sent_at.values()), "s", at_most=_GOAL_SECONDS),
        Figure("share of webhooks that were served", len(world.served_at) / _WEBHOOKS, "", at_least=1),
        Figure("the last of these", max(world.served_at.values()), "s", at_most=_GOAL_SECONDS),
        Figure(f"the last with {_DEFAULT}, the default", max(as_deployed.served_at.values()), "s"),
        Figure("half of these", statistics.median(world.served_at.values()), "s"),
        Figure("drain messages a webhook", world.messages / _WEBHOOKS, ""),
        Figure("invocations of the batch function in 15 minutes", world.invocations, ""),
        Figure("the longest invocation", world.longest, "s", at_most=_BATCH["Timeout"]),
        Figure("memory of a process that swept a shard", peak_mb, "MB", at_most=memory),
        Figure("read units of a sweep of so many that are not due", later.read_units, ""),
        Figure("its time, of all invocations", later.seconds, "s"),
        Figure("that each minute", dollars, "dollars a month"),
    ]
    figures = [replace(each, name=f"a slot: {each.name}") for each in figures]
    notes = [
        f"    {_WEBHOOKS:,} webhooks, all due in the same minute, with one event each",
        f"    {_SHARE:.2f} of a processor, {memory} MB; at most {world.most_at_once} invocations at once",
        f"    DrainerMaximumConcurrency={_ENOUGH}, half of it for what is not urgent",
        f"    a drainer takes {drain_calls} AWS calls and {_RECEIVER_SECONDS} s of a receiver",
    ]
    return Row(figures, notes)


def _background(most: int) -> int:
    """How many drainers there are for what is not urgent."""
    (source,) = [source for _, queue, source in event_sources() if queue == "BackgroundDrainQueue"]
    assert source["ScalingConfig"]["MaximumConcurrency"]["Fn::FindInMap"][0] == "HalfOf"
    return most // 2


##### Measured: the real function over real sockets


def _measured() -> tuple[float, float, float]:
    """Return the processor's microseconds for each webhook of a shard that is due, and for each that is not.

    The third number is the most megabytes that this process had.
    """
    with Aws() as aws:
        prepare(aws.url)
        function = Function("batch")
        (webhook_id,) = register("1", "https://hooks.example.com/")
        from lms_webhooks.aws import clients  # noqa: PLC0415  # after `prepare`
        from lms_webhooks.aws.dynamodb import Table  # noqa: PLC0415
        from lms_webhooks.model.lanes import ShardPart  # noqa: PLC0415
        from lms_webhooks.stores.backlog import SHARDS  # noqa: PLC0415

        dynamodb = clients.dynamodb()
        webhooks, deliveries = Table(dynamodb, WEBHOOKS), Table(dynamodb, DELIVERIES)
        registered = dynamodb.query(
            TableName=WEBHOOKS,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": "ACCOUNT#1"}},
        )["Items"]
        samples = _Samples(registered, webhook_id)
        now_ms = int(time.time() * 1000)
        costs = {}
        for shard, due_at_ms in ((0, 0), (1, now_ms + 3_600_000)):
            count = _WEBHOOKS // SHARDS
            ids = list(samples.ids(count))
            webhooks.put_all([item for account, each in ids for item in samples.items(account, each)])
            deliveries.put_all([samples.mark(account, each, due_at_ms, shard=shard) for account, each in ids])
            part = ShardPart(shard, "wh_", "wh_")
            record = {"messageId": "m", "body": json.dumps(asdict(part))}
            began = time.process_time()
            function.invoke({"Records": [record]})
            costs[due_at_ms] = (time.process_time() - began) / count * 1e6
        most_mb = peak_mb()
    due, not_due = costs.values()
    return due, not_due, most_mb


class _Samples:
    """Items of as many webhooks as are wanted, like those of one that was registered."""

    def __init__(self, registered: list[dict[str, Any]], webhook_id: str) -> None:
        self._items = [each for each in registered if webhook_id in each["sk"]["S"]]
        self._id = webhook_id

    def ids(self, count: int) -> Iterator[tuple[str, str]]:
        """Account and webhook ids, spread over their keys as real ones are."""
        for number in range(count):
            account = str(100_000 + number // _OF_AN_ACCOUNT)
            yield account, f"wh_{number * 2_654_435_761 % 2**32:08x}{number:014d}"

    def items(self, account: str, webhook_id: str) -> list[dict[str, Any]]:
        """Its registration and its health."""
        return [
            {
                **item,
                "pk": {"S": f"ACCOUNT#{account}"},
                "sk": {"S": item["sk"]["S"].replace(self._id, webhook_id)},
            }
            for item in self._items
        ]

    def mark(self, account: str, webhook_id: str, due_at_ms: int, *, shard: int) -> dict[str, Any]:
        """The due marker of its batch lane."""
        return {
            "pk": {"S": f"DUE#{shard}"},
            "sk": {"S": f"{webhook_id}#batch"},
            "token": {"S": "0123456789abcdef"},
            "account_id": {"S": account},
            "due_at": {"N": str(due_at_ms)},
            "check_at": {"N": str(_NEVER_MS)},
        }


def _drain() -> tuple[float, int]:
    """How long a drainer of 512 MB takes for one webhook with one non-real-time event, and its calls."""
    from tests.scenarios.endpoints import Reply, always  # noqa: PLC0415  # after `prepare`
    from tests.scenarios.world import NON_REAL_TIME, Call, World  # noqa: PLC0415

    with World() as world:
        endpoint = world.endpoint()
        endpoint.script = always(Reply(seconds=_RECEIVER_SECONDS))
        world.register(endpoint)
        world.emit(1, name=NON_REAL_TIME)
        calls: list[float] = []

        def note(call: Call, proceed: Callable[[], Any]) -> Any:
            if call.function == "drainer" and call.service != "POST":
                calls.append(world.now)
            return proceed()

        world.taps.append(note)
        world.run(16 * _MINUTE)
        assert endpoint.acknowledged
        posts = len(endpoint.posts)
    assumed = _ASSUMED
    processor_us = len(calls) * assumed["processorUsPerAwsCall"] + posts * assumed["processorUsPerPost"]
    waiting = len(calls) * _SECONDS_OF["dynamodb"] + posts * _RECEIVER_SECONDS
    return waiting + processor_us / 1e6 / _SHARE, len(calls)


##### Simulated: a slot


class _Environment(Process):
    """An execution environment, with its part of a processor."""

    free_at = 0.0


@dataclass
class _Rate:
    """What a table admits a second."""

    per_second: float
    admitted_at: float = 0.0

    def seconds_for(self, units: float, now: float) -> float:
        """How long to wait until so many are admitted. What was not used in a second is lost."""
        self.admitted_at = max(self.admitted_at, now - 1) + units / self.per_second
        return max(0.0, self.admitted_at - now)


class _Slot:
    """The batch function and its queues when webhooks fall due at the same moment."""

    def __init__(
        self,
        count: int,
        cpu_seconds: float,
        drain_seconds: float,
        *,
        due_in_seconds: float = 0,
        idle_cpu_seconds: float = 0,
        drainers: int | None = None,
    ) -> None:
        from lms_webhooks.aws.dynamodb import Table  # noqa: PLC0415
        from lms_webhooks.aws.sqs import DrainQueue, SweepQueue  # noqa: PLC0415
        from lms_webhooks.batch.sweep import Sweep  # noqa: PLC0415
        from lms_webhooks.stores.backlog import Backlog  # noqa: PLC0415  # after `prepare`
        from lms_webhooks.stores.health import HealthStore  # noqa: PLC0415
        from lms_webhooks.stores.webhook_states import WebhookStates  # noqa: PLC0415

        self.time = FakeTime(_START)
        self.sent_at: dict[str, float] = {}
        self.served_at: dict[str, float] = {}
        self.messages = self.invocations = 0
        self.longest = self.seconds = 0.0
        self.most_at_once = 0
        self.read_units = 0.0
        self._cpu_seconds = cpu_seconds / _SHARE
        self._idle_cpu_seconds = idle_cpu_seconds / _SHARE
        self._tables = Tables(WEBHOOKS, DELIVERIES)
        self._reads = _Rate(_READS_OF_A_NEW_TABLE)
        self._writes = _Rate(_WRITES_OF_A_NEW_TABLE)
        self._at_once = 0
        self._idle: list[_Environment] = []
        self._fill(count, int((_START + due_in_seconds) * 1000))
        (source,) = [source for _, queue, source in event_sources() if queue == "SweepQueue"]
        self._most_parts = source["ScalingConfig"]["MaximumConcurrency"]
        self._sweep_queue = Queue(
            "SweepQueue", self.time, self._consume, 300, 1, 5, concurrency=FIRST_POLLERS
        )
        self._drainers = _Drainers(
            self.time, drain_seconds, self._serve, most=drainers or _background(_DEFAULT)
        )
        dynamodb, sqs = self._client("dynamodb"), self._client("sqs")
        self._sweep = Sweep(
            backlog=Backlog(Table(dynamodb, DELIVERIES), retention_days=7),
            webhook_states=WebhookStates(Table(dynamodb, WEBHOOKS)),
            health=HealthStore(Table(dynamodb, WEBHOOKS)),
            queue=DrainQueue(sqs, "drain", "background-drain"),
            sweep_queue=SweepQueue(sqs, "sweep"),
            clock=self.time.clock,
        )
        self._sweep._threads = cast("Any", Threads(self.time))  # noqa: SLF001  # threads in fake time

    def run(self, *, seconds: float = 15 * _MINUTE) -> None:
        """Let the schedule come each minute, until all is done."""
        for minute in range(int(seconds // _MINUTE) + 1):
            self.time.at(_START + minute * _MINUTE, self._schedule)
        self.time.run_until(_START + seconds)
        self.time.close()

    def _schedule(self) -> None:
        self._invoke(lambda _: self._sweep.sweep_all(), lambda _: None)

    def _consume(self, records: list[dict[str, Any]], then: Callable[[dict[str, Any] | None], None]) -> None:
        from lms_webhooks.aws.sqs import read_sweep_message  # noqa: PLC0415

        part = read_sweep_message(records[0]["body"])
        self._sweep_queue.concurrency = min(
            self._most_parts, FIRST_POLLERS + int(MORE_POLLERS_A_MINUTE * (self.time.now - _START) / 60)
        )
        self._invoke(lambda left: self._sweep.sweep_part(part, remaining_seconds=left), then)

    def _invoke(self, work: Callable[[float], object], then: Callable[[dict[str, Any] | None], None]) -> None:
        began = self.time.now
        is_cold = not self._idle
        environment = self._idle.pop() if self._idle else _Environment("batch")
        self.invocations += 1
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)

        def run() -> None:
            if is_cold:
                self.time.sleep(_INIT_SECONDS)
            work(_BATCH["Timeout"])
            self.longest = max(self.longest, self.time.now - began)
            self.seconds += self.time.now - began
            self._at_once -= 1
            self._idle.append(environment)
            then({"batchItemFailures": []})

        self.time.start(environment, run)

    def _serve(self, webhook_id: str) -> None:
        """A drainer has sent what was there."""
        if webhook_id in self.served_at:
            return
        self.served_at[webhook_id] = self.time.now - _START
        key = {"pk": {"S": f"DUE#{_shard_of(webhook_id)}"}, "sk": {"S": f"{webhook_id}#batch"}}
        self._tables.call("DeleteItem", {"TableName": DELIVERIES, "Key": key})

    def _fill(self, count: int, due_at_ms: int) -> None:
        registered = [
            {
                "pk": {"S": "ACCOUNT#1"},
                "sk": {"S": "WEBHOOK#wh"},
                "status": {"S": "active"},
                "epoch": {"N": "1"},
            },
            {"pk": {"S": "ACCOUNT#1"}, "sk": {"S": "HEALTH#wh"}, "next_attempt_at_ms": {"N": "0"}},
        ]
        samples = _Samples(registered, "wh")
        for account, webhook_id in samples.ids(count):
            for item in samples.items(account, webhook_id):
                self._tables.call("PutItem", {"TableName": WEBHOOKS, "Item": item})
            mark = samples.mark(account, webhook_id, due_at_ms, shard=_shard_of(webhook_id))
            self._tables.call("PutItem", {"TableName": DELIVERIES, "Item": mark})

    def _client(self, service: str) -> Any:
        """A client of botocore whose calls take fake time, and processor time of their environment."""
        from tests.scenarios.world import real_client  # noqa: PLC0415

        real = real_client(service)
        client = object.__new__(type(real))
        client.__dict__.update(real.__dict__)

        def make_api_call(operation: str, params: dict[str, Any]) -> Any:
            self.time.sleep(_SECONDS_OF[service] + self._limited(operation, params))
            if service == "sqs":
                return self._take(params)
            try:
                answer = self._tables.call(operation, params)
            except Refused as refused:
                error = client.exceptions.from_code(refused.code)
                raise error({"Error": {"Code": refused.code, "Message": "test"}}, operation) from None
            self._compute(operation, params, answer)
            return answer

        client._make_api_call = make_api_call
        return client

    def _limited(self, operation: str, params: dict[str, Any]) -> float:
        match operation:
            case "BatchGetItem":
                units = sum(len(asked["Keys"]) for asked in params["RequestItems"].values())
                return self._reads.seconds_for(units, self.time.now)
            case "UpdateItem":
                return self._writes.seconds_for(1, self.time.now)
        return 0.0

    def _compute(self, operation: str, params: dict[str, Any], answer: dict[str, Any]) -> None:
        """Let pass what the processor takes: all that it does for a webhook, where its standing is read."""
        seconds = 0.0
        if operation == "BatchGetItem":
            keys = sum(len(asked["Keys"]) for asked in params["RequestItems"].values())
            seconds = keys / 2 * self._cpu_seconds
        elif operation == "Query":
            self.read_units += max(1, -(-answer["ScannedCount"] * _MARK_BYTES // 4096)) / 2
            seconds = (answer["ScannedCount"] - answer["Count"]) * self._idle_cpu_seconds
        environment = self.time.process
        assert isinstance(environment, _Environment)
        environment.free_at = max(environment.free_at, self.time.now) + seconds
        self.time.sleep(environment.free_at - self.time.now)

    def _take(self, params: dict[str, Any]) -> dict[str, Any]:
        for entry in params["Entries"]:
            if params["QueueUrl"] == "sweep":
                self._sweep_queue.send(entry["MessageBody"], delay_seconds=_POLL_SECONDS)
                continue
            webhook_id = json.loads(entry["MessageBody"])["webhookId"]
            self.messages += 1
            self.sent_at.setdefault(webhook_id, self.time.now - _START)
            self._drainers.send(webhook_id)
        return {"Successful": params["Entries"], "Failed": []}


class _Drainers:
    """As many as Lambda's scaling and the background queue's concurrency let run, one message after the
    other."""

    def __init__(self, fake: FakeTime, seconds: float, serve: Callable[[str], None], *, most: int) -> None:
        self._time = fake
        self._seconds = seconds
        self._serve = serve
        self._most = most
        self._first: float | None = None
        self._busy = 0
        self._waiting: deque[str] = deque()
        self._seen: set[str] = set()

    def send(self, webhook_id: str) -> None:
        if self._first is None:
            self._first = self._time.now
        self._waiting.append(webhook_id)
        self._start()

    def _start(self) -> None:
        assert self._first is not None
        scaled = FIRST_POLLERS + int(MORE_POLLERS_A_MINUTE * (self._time.now - self._first) / 60)
        while self._waiting and self._busy < min(self._most, scaled):
            webhook_id = self._waiting.popleft()
            self._busy += 1
            seconds = _DUPLICATE_SECONDS if webhook_id in self._seen else self._seconds
            self._seen.add(webhook_id)
            self._time.at(self._time.now + seconds, partial(self._end, webhook_id))

    def _end(self, webhook_id: str) -> None:
        self._busy -= 1
        self._serve(webhook_id)
        self._start()


def _shard_of(webhook_id: str) -> int:
    from lms_webhooks.stores.backlog import _shard  # noqa: PLC0415

    return _shard(webhook_id)
