"""Count what each way of an event costs: every call of AWS, every unit, every byte, and so the dollars.

The real code runs in fake time (`tests.scenarios`); each of its calls is metered as AWS bills it. What cannot
be counted there (prices, how long a receiver takes, what Lambda itself logs) stands in `prices.json`.
"""

import io
import json
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from bench.results import Figure, Row
from lms_webhooks.observability import logger
from tests.contract.template import ALARMS, event_sources, of_type
from tests.scenarios.endpoints import DOWN, Endpoint, Reply, always, until
from tests.scenarios.world import (
    ACCOUNT,
    MINUTE,
    NON_REAL_TIME,
    REAL_TIME,
    WEBHOOKS,
    Call,
    World,
    event_message,
)

PRICES: dict[str, Any] = json.loads((Path(__file__).parent / "prices.json").read_text())
_KB = 1024
_SQS_CHUNK = 64 * _KB  # a message of SQS, or of EventBridge, is billed by these
_A_MILLION = 1_000_000
# What Powertools adds to each line in Lambda.
_INVOCATION = {
    "cold_start": False,
    "function_name": "lms-webhooks-DispatcherFunction-0123456789ab",
    "function_memory_size": 512,
    "function_arn": "arn:aws:lambda:us-east-1:123456789012:function:lms-webhooks-DispatcherFunction-01",
    "function_request_id": "12345678-1234-1234-1234-123456789012",
    "xray_trace_id": "1-12345678-123456789012345678901234",
}


@dataclass
class Bill:
    """What a scenario used: AWS's units, as they are billed."""

    events: int
    bus_events: int = 0
    """Of them, those that were put on the bus meanwhile."""
    calls: Counter[str] = field(default_factory=Counter)
    """Of our functions, by service and operation."""
    write_units: float = 0.0
    read_units: float = 0.0
    look_read_units: float = 0.0
    """Of them, each dispatcher's for its look at an account's registrations, every second: they grow with
    time, not with deliveries."""
    kms_requests: int = 0
    sns_publishes: int = 0
    sqs_requests: int = 0
    posts: int = 0
    post_bytes: int = 0
    invocations: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    """Of waiting, in all invocations: for AWS and for receivers."""
    log_bytes: int = 0
    """Of the functions' own lines. What Lambda writes for each invocation, and its metrics, are assumed."""
    history: dict[tuple[str, str], int] = field(default_factory=dict)
    """Bytes of what it left in the history, by key."""

    @property
    def history_gb(self) -> float:
        """For a million deliveries, with what DynamoDB bills beside each item."""
        beside: int = PRICES["assumptions"]["bytesPerItemBeside"]
        return sum(size + beside for size in self.history.values()) / len(self.history) * _A_MILLION / 1e9

    def dollars(self) -> dict[str, float]:
        """For a million events, by part."""
        price: Mapping[str, float] = PRICES["dollars"]
        assumed: Mapping[str, float] = PRICES["assumptions"]
        drained = max(0, self.events - self.posts)
        processor_us = (
            self.posts * assumed["processorUsPerPost"] + drained * assumed["processorUsPerDrainedEvent"]
        )
        share = assumed["lambdaMemoryMb"] / assumed["memoryMbOfOneProcessor"]
        seconds = self.seconds + processor_us / 1e6 / share
        invocations = self.invocations.total()
        log_bytes = self.log_bytes + invocations * assumed["logBytesPerInvocation"]
        parts = {
            "EventBridge": self.bus_events * price["eventBridgeEvent"],
            "SQS": self.sqs_requests * price["sqsRequest"],
            "Lambda": invocations * price["lambdaRequest"]
            + seconds * assumed["lambdaMemoryMb"] / _KB * price["lambdaGbSecond"],
            "DynamoDB": self.write_units * price["dynamoDbWriteUnit"]
            + self.read_units * price["dynamoDbReadUnit"],
            "KMS, SNS": self.kms_requests * price["kmsRequest"] + self.sns_publishes * price["snsPublish"],
            "logs": log_bytes / 1e9 * price["logGb"],
            "bytes out": self.post_bytes / 1e9 * price["transferOutGb"],
        }
        return {name: dollars / self.events * _A_MILLION for name, dollars in parts.items()}


class _LogMeter(io.TextIOBase):
    """Counts what is logged, in place of writing it out."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def write(self, text: str) -> int:
        self.bytes += len(text.encode())
        return len(text)


@contextmanager
def _metered_log() -> Iterator[_LogMeter]:
    meter = _LogMeter()
    handler = cast("logging.StreamHandler[Any]", logger.registered_handler)
    written_to = handler.setStream(meter)
    logger.append_keys(**_INVOCATION)
    try:
        yield meter
    finally:
        logger.remove_keys(_INVOCATION)
        handler.setStream(written_to)


class Meter:
    """Reads a world's calls as AWS bills them. To be made before anything happens in it."""

    def __init__(self, world: World, log: _LogMeter) -> None:
        self._world = world
        self._log = log
        self.bill = Bill(events=0)
        world.taps.append(self._tap)
        for function in world.functions.values():
            function.build = self._counted(function.name, function.build)

    def start(self) -> None:
        """What was before this does not count."""
        self.bill = Bill(events=0)
        self._log.bytes = 0

    def _counted(self, name: str, build: Callable[[], Any]) -> Callable[[], Any]:
        def build_counted() -> Any:
            handler = build()

            def handle(event: dict[str, Any], remaining_ms: Callable[[], int]) -> Any:
                began = self._world.now
                self.bill.invocations[name] += 1
                if "Records" in event:  # received, and deleted, as a batch
                    sent = sum(len(record["body"]) for record in event["Records"])
                    self.bill.sqs_requests += math.ceil(sent / _SQS_CHUNK) + 1
                try:
                    return handler(event, remaining_ms)
                finally:
                    self.bill.seconds += self._world.now - began

            return handle

        return build_counted

    def _tap(self, call: Call, proceed: Callable[[], Any]) -> Any:
        bill = self.bill
        if call.service == "POST":
            message = call.params["message"]
            bill.posts += 1
            bill.post_bytes += len(message.body) + sum(
                len(k) + len(v) + 4 for k, v in message.headers.items()
            )
            return proceed()
        bill.calls[f"{call.service} {call.operation}"] += 1
        match call.service:
            case "dynamodb":
                return self._metered(call.operation, call.params, proceed)
            case "sqs":
                bill.sqs_requests += 1
            case "kms":
                bill.kms_requests += 1
            case "sns":
                bill.sns_publishes += 1
        return proceed()

    def _metered(self, operation: str, params: dict[str, Any], proceed: Callable[[], Any]) -> Any:
        factor = 2 if operation.startswith("Transact") else 1
        written = list(_written(operation, params))
        before = [self._bytes(table, key) for table, key in written]
        try:
            answer = proceed()
        finally:  # a condition that fails is billed too
            for (table, key), old in zip(written, before, strict=True):
                new = self._bytes(table, key)
                self.bill.write_units += factor * math.ceil(max(old, new, 1) / _KB)
                if key["pk"]["S"].startswith("DELIVERY#"):
                    self.bill.history[key["pk"]["S"], key["sk"]["S"]] = new
        read = self._read_units(operation, params, answer)
        self.bill.read_units += read
        if operation == "Query" and params["TableName"] == WEBHOOKS:
            self.bill.look_read_units += read
        return answer

    def _read_units(self, operation: str, params: dict[str, Any], answer: dict[str, Any]) -> float:
        match operation:
            case "GetItem":
                read = self._bytes(params["TableName"], params["Key"])
                return _units(read, consistent=params.get("ConsistentRead", False))
            case "BatchGetItem":
                return sum(
                    _units(self._bytes(table, key), consistent=asked.get("ConsistentRead", False))
                    for table, asked in params["RequestItems"].items()
                    for key in asked["Keys"]
                )
            case "Query":
                # By what is read, whatever is projected; all items of a query together.
                read = sum(self._bytes(params["TableName"], item) for item in answer.get("Items", []))
                return _units(read, consistent=params.get("ConsistentRead", False))
        return 0.0

    def _bytes(self, table: str, key: Mapping[str, Any]) -> int:
        item = self._world.stored(table, key["pk"]["S"], key["sk"]["S"])
        return item_bytes(item) if item else 0


def item_bytes(item: Mapping[str, Mapping[str, Any]]) -> int:
    """The size of an item by DynamoDB's rules."""
    return sum(len(name.encode()) + _value_bytes(value) for name, value in item.items())


def _value_bytes(value: Mapping[str, Any]) -> int:
    ((kind, content),) = value.items()
    size_of: dict[str, Callable[[], int]] = {
        "S": lambda: len(content.encode()),
        "B": lambda: len(content),
        "N": lambda: len(content.lstrip("-")) // 2 + 2,
        "L": lambda: 3 + sum(1 + _value_bytes(each) for each in content),
        "M": lambda: 3 + sum(1 + len(name.encode()) + _value_bytes(each) for name, each in content.items()),
        "SS": lambda: sum(len(each.encode()) for each in content),
        "BOOL": lambda: 1,
    }
    return size_of[kind]()


def _units(size: int, *, consistent: bool) -> float:
    return max(1, math.ceil(size / (4 * _KB))) * (1.0 if consistent else 0.5)


def _written(operation: str, params: dict[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    match operation:
        case "PutItem":
            yield params["TableName"], params["Item"]
        case "UpdateItem" | "DeleteItem":
            yield params["TableName"], params["Key"]
        case "BatchWriteItem":
            for table, requests in params["RequestItems"].items():
                for request in requests:
                    put, delete = request.get("PutRequest"), request.get("DeleteRequest")
                    yield table, put["Item"] if put else delete["Key"]
        case "TransactWriteItems":
            for action in params["TransactItems"]:
                (each,) = action.values()
                yield each["TableName"], each.get("Key") or each["Item"]


##### The ways of an event, each for one webhook

_WELL = Reply(seconds=PRICES["assumptions"]["receiverMs"] / 1000)
# What is left for `data`, so that an event is as long as the assumption says.
_DATA_BYTES = PRICES["assumptions"]["eventBytes"] - len(
    json.dumps(json.loads(event_message("e" * 7, REAL_TIME, 1_793_707_200_000, ACCOUNT))["detail"])
)
_ENOUGH = 1000  # events, so that what happens once weighs little


def _direct(world: World, _meter: Meter, _endpoint: Endpoint) -> int:
    """A healthy endpoint, in direct mode, at 100 events a second: ten in a batch."""
    for _ in range(_ENOUGH // 10):
        world.emit(10, data_bytes=_DATA_BYTES)
        world.run(0.1)
    world.run_until_quiet()
    return _ENOUGH


def _failing(world: World, _meter: Meter, endpoint: Endpoint) -> int:
    """An endpoint that fails for ten minutes while events come, and is well again then."""
    endpoint.script = until(world.now + 10 * MINUTE, DOWN, _WELL)
    for _ in range(_ENOUGH // 10):
        world.emit(10, data_bytes=_DATA_BYTES)
        world.run(1)
    world.run_until_quiet(at_most=60 * MINUTE)
    return _ENOUGH


def _drain(world: World, meter: Meter, endpoint: Endpoint) -> int:
    """A backlog of ten thousand that goes out: what the drainer does, without what put it there."""
    endpoint.script = until(world.now + MINUTE, DOWN, _WELL)
    for _ in range(100):
        world.emit(100, data_bytes=_DATA_BYTES)
        world.run(0.5)
    meter.start()
    world.run_until_quiet(at_most=60 * MINUTE)
    return 100 * 100


def _batch(world: World, _meter: Meter, _endpoint: Endpoint) -> int:
    """Non-real-time events, that go out at the next slot."""
    for _ in range(_ENOUGH // 10):
        world.emit(10, name=NON_REAL_TIME, data_bytes=_DATA_BYTES)
        world.run(0.1)
    world.run_until_quiet(at_most=60 * MINUTE)
    return _ENOUGH


SCENARIOS: dict[str, Callable[[World, Meter, Endpoint], int]] = {
    "direct": _direct,
    "failing": _failing,
    "drain": _drain,
    "batch": _batch,
}
_PUT_BEFORE = {"drain"}  # its events came before the meter ran


def bills() -> dict[str, Bill]:
    """What each scenario uses."""
    found: dict[str, Bill] = {}
    for name, scenario in SCENARIOS.items():
        with World() as world, _metered_log() as log:
            meter = Meter(world, log)
            endpoint = world.endpoint()
            endpoint.script = always(_WELL)
            world.register(endpoint)
            events = scenario(world, meter, endpoint)
            bill = meter.bill
            bill.events = events
            bill.log_bytes = log.bytes
            if name not in _PUT_BEFORE:
                bill.bus_events = events
                bill.sqs_requests += events  # the rule's, one a message
            assert world.problems() == []
        found[name] = bill
    return found


def markdown(of: Mapping[str, Bill]) -> str:
    """The table of docs/deploy.md."""
    dollars = {name: bill.dollars() for name, bill in of.items()}
    counts: dict[str, Callable[[Bill], float]] = {
        "calls of AWS, an event": lambda bill: bill.calls.total() / bill.events,
        "POSTs, an event": lambda bill: bill.posts / bill.events,
        "write units, an event": lambda bill: bill.write_units / bill.events,
        "read units, an event": lambda bill: bill.read_units / bill.events,
    }
    lines = [["", *of], ["---", *("---:" for _ in of)]]
    lines += [[name, *(f"{count(bill):.2f}" for bill in of.values())] for name, count in counts.items()]
    for part in next(iter(dollars.values())):
        lines.append([f"{part}, $", *(f"{dollars[name][part]:.2f}" for name in of)])
    lines.append(["**together, $**", *(f"**{sum(dollars[name].values()):.2f}**" for name in of)])
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


##### What it costs while nothing happens


SWEEPS_AN_HOUR = 60
"""As the template's schedule says; a test compares them."""


@dataclass(frozen=True)
class Part:
    """A line of a monthly bill."""

    name: str
    reckoning: str
    dollars: float


def idle() -> list[Part]:
    """Return what a stack costs a month when no event comes: what it has, and what it does all the same."""
    price: Mapping[str, float] = PRICES["dollars"]
    assumed: Mapping[str, float] = PRICES["assumptions"]
    hours = assumed["hoursAMonth"]
    sweep, metric_count = _sweep()
    sweeps = SWEEPS_AN_HOUR * hours
    queue_count = len({queue for _, queue, _ in event_sources()})
    receives = queue_count * assumed["receivesOfAnIdleQueueADay"] * hours / 24
    dashboards = len(of_type("AWS::CloudWatch::Dashboard"))
    keys = len(of_type("AWS::KMS::Key"))
    return [
        _counted("keys", keys, price["kmsKeyMonth"]),
        _counted("alarms", sum(map(_watched, ALARMS.values())), price["alarmMonth"]),
        _counted("metrics that the sweep sends", metric_count, price["metricMonth"]),
        _counted("dashboards", dashboards, price["dashboardMonth"]),
        Part(
            "Lambda's polling of the queues",
            f"{queue_count} queues: {receives / _A_MILLION:.2f} M receives"
            f" x ${price['sqsRequest'] * _A_MILLION:.2f} a million",
            receives * price["sqsRequest"],
        ),
        Part(
            "the sweep",
            f"{sweeps:,.0f} invocations, {sweep.read_units:g} read units in each",
            sweeps * _work_dollars(sweep),
        ),
    ]


def _watched(alarm: Mapping[str, Any]) -> int:
    """How many metrics an alarm is billed for."""
    return sum("MetricStat" in each for each in alarm.get("Metrics", [])) or 1


def _sweep() -> tuple[Bill, int]:
    """What a sweep that finds nothing uses, and how many metrics it sends."""
    with World() as world, _metered_log() as log:
        meter = Meter(world, log)
        world.run(MINUTE + 5)
        sweep = meter.bill
        sweep.log_bytes = log.bytes
        assert sweep.invocations == {"batch": 1}
        return sweep, len(world.metrics)


def _work_dollars(bill: Bill) -> float:
    """Of what a function of ours does, without what brings its events."""
    price: Mapping[str, float] = PRICES["dollars"]
    assumed: Mapping[str, float] = PRICES["assumptions"]
    share = assumed["lambdaMemoryMb"] / assumed["memoryMbOfOneProcessor"]
    seconds = bill.seconds + bill.calls.total() * assumed["processorUsPerAwsCall"] / 1e6 / share
    invocations = bill.invocations.total()
    return (
        invocations * price["lambdaRequest"]
        + seconds * assumed["lambdaMemoryMb"] / _KB * price["lambdaGbSecond"]
        + bill.write_units * price["dynamoDbWriteUnit"]
        + bill.read_units * price["dynamoDbReadUnit"]
        + (bill.log_bytes + invocations * assumed["logBytesPerInvocation"]) / 1e9 * price["logGb"]
    )


def _counted(name: str, count: int, dollars: float) -> Part:
    return Part(name, f"{count} x ${dollars:.2f}", count * dollars)


def idle_markdown(parts: list[Part]) -> str:
    """The table of docs/deploy.md about a stack without events."""
    lines = ["| without events | reckoning | dollars a month |", "| --- | --- | ---: |"]
    lines += [f"| {each.name} | {each.reckoning} | {each.dollars:.2f} |" for each in parts]
    lines.append(f"| **together** | | **{sum(each.dollars for each in parts):.2f}** |")
    return "\n".join(lines)


def storage_markdown(of: Mapping[str, Bill]) -> str:
    """The table of docs/deploy.md about what is kept."""
    price: Mapping[str, float] = PRICES["dollars"]
    lines = ["| kept for a month | reckoning | dollars a month |", "| --- | --- | ---: |"]
    gigabytes = of["direct"].history_gb
    for name, a_gigabyte in (
        ("the history of a million deliveries", price["dynamoDbGbMonth"]),
        ("its point-in-time recovery, in staging and prod", price["recoveryGbMonth"]),
    ):
        lines.append(f"| {name} | {gigabytes:.2f} GB x ${a_gigabyte:.2f} | {gigabytes * a_gigabyte:.2f} |")
    return "\n".join(lines)


def measure() -> Row:
    """Count all scenarios."""
    found = bills()
    figures: list[Figure] = []
    for name, bill in found.items():
        healthy = name == "direct"
        counted = {
            "AWS calls": (bill.calls.total() / bill.events, "an event", 0.35),
            "WRU": (bill.write_units / bill.events, "an event", 1.0),
            "RRU": (bill.read_units / bill.events, "an event", 0.55),
            "POSTs": (bill.posts / bill.events, "an event", None),
            "dollars": (sum(bill.dollars().values()), "a million", 2.50),
        }
        figures += [
            Figure(f"{name} {what}", value, unit, at_most=most if healthy else None, is_compared=True)
            for what, (value, unit, most) in counted.items()
        ]
        if healthy:
            own = (bill.read_units - bill.look_read_units) / bill.events
            figures.append(Figure(f"{name} RRU, of the delivery itself", own, "an event", at_most=0.5))
    without_events = idle()
    tables = (markdown(found), idle_markdown(without_events), storage_markdown(found))
    notes = ["\n" + "\n".join("  " + line for line in table.splitlines()) for table in tables]
    together = sum(each.dollars for each in without_events)
    figures.append(Figure("dollars without events", together, "a month"))
    for name, bill in found.items():
        each = ", ".join(f"{call} {count / bill.events:.3f}" for call, count in bill.calls.most_common(6))
        notes.append(f"  {name}, an event: {each}")
    return Row(figures, notes)
