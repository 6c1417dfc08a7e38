"""Write the CloudWatch dashboard into template.yaml: the code's metrics, and those of its resources.

`make dashboard` does; a test fails while what is committed is not what this would write. The rows stand in
the order in which an event travels. Which queues, functions, tables and alarms there are, the template says.
"""

import json
import sys
from dataclasses import dataclass
from typing import Any

from lms_webhooks.observability import Metric
from tools.progress import REPOSITORY
from tools.template import read_template

TEMPLATE = REPOSITORY / "template.yaml"

BEGIN = "      DashboardBody: !Sub |- # written by `make dashboard`\n"
"""The line of template.yaml after which the body stands, up to the next line that is indented less."""

_INDENT = " " * 8
_COLUMNS = 24
_HEIGHT = 6

type Widget = dict[str, Any]


@dataclass(frozen=True)
class Line:
    """One line of a graph."""

    namespace: str
    metric: str
    dimension: str
    value: str
    statistic: str
    label: str


@dataclass(frozen=True)
class Graph:
    """One graph of a row."""

    title: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Row:
    """Graphs beside each other, and what to look for in them."""

    heading: str
    graphs: tuple[Graph, ...]


def body() -> str:
    """The body, one widget a line, with `${...}` where CloudFormation puts names."""
    resources = read_template(TEMPLATE)["Resources"]

    def named(resource_type: str) -> list[str]:
        return [name for name, each in resources.items() if each["Type"] == f"AWS::{resource_type}"]

    widgets = [_alarms(named("CloudWatch::Alarm"))]
    top = 3
    queues = named("SQS::Queue")
    worked_off = [name for name in queues if "RedrivePolicy" in resources[name]["Properties"]]
    for row in _rows(queues, worked_off, named("Serverless::Function"), named("DynamoDB::Table")):
        widgets.append(_place("text", 0, top, _COLUMNS, 1, {"markdown": row.heading}))
        width = _COLUMNS // len(row.graphs)
        for number, graph in enumerate(row.graphs):
            widgets.append(_place("metric", number * width, top + 1, width, _HEIGHT, _graph(graph)))
        top += 1 + _HEIGHT
    lines = ",\n".join(json.dumps(widget, separators=(",", ":"), ensure_ascii=False) for widget in widgets)
    return f'{{"widgets":[\n{lines}\n]}}'


def written(template: str) -> str:
    """The text of a template, with the body that belongs into it."""
    before, begin, after = template.partition(BEGIN)
    if not begin:
        raise SystemExit(f"template.yaml has no line {BEGIN.strip()!r}")
    rest = after.splitlines(keepends=True)
    end = next((at for at, line in enumerate(rest) if not line.startswith(_INDENT)), len(rest))
    block = "".join(f"{_INDENT}{line}\n" for line in body().splitlines())
    return before + begin + block + "".join(rest[end:])


def _rows(queues: list[str], worked_off: list[str], functions: list[str], tables: list[str]) -> list[Row]:
    ends = [name for name in queues if name not in worked_off]
    return [
        Row(
            "**Coming in.** Events on their queues. Age above minutes: the dispatcher fails, is throttled, "
            "or has too much to do",
            (
                Graph("Messages sent", _queues(queues, "NumberOfMessagesSent", "Sum")),
                Graph("Oldest message, seconds", _queues(worked_off, "ApproximateAgeOfOldestMessage")),
                Graph("Messages waiting", _queues(worked_off, "ApproximateNumberOfMessagesVisible")),
                Graph("Quarantine and dead letters", _queues(ends, "ApproximateNumberOfMessagesVisible")),
            ),
        ),
        Row(
            "**Functions.** Errors and throttles should be none; what they had in hand comes again",
            (
                Graph("Invocations", _functions(functions, "Invocations", "Sum")),
                Graph("Errors", _functions(functions, "Errors", "Sum")),
                Graph("Throttles", _functions(functions, "Throttles", "Sum")),
                Graph("Duration, p99, milliseconds", _functions(functions, "Duration", "p99")),
                Graph("At once", _functions(functions, "ConcurrentExecutions", "Maximum")),
                Graph(
                    "Given up and handed back",
                    (
                        _own(Metric.DRAIN_RUNS_ABORTED),
                        _own(Metric.MESSAGES_RETURNED),
                        _own(Metric.INTERNAL_ERRORS),
                    ),
                ),
            ),
        ),
        Row(
            "**Going out.** What receivers took and refused. Failures here are theirs, not ours",
            (
                Graph("Deliveries", (_own(Metric.DELIVERIES),)),
                Graph("Requests that an endpoint failed", (_own(Metric.ATTEMPTS_FAILED),)),
                Graph(
                    "Latency of deliveries, milliseconds",
                    tuple(_own(Metric.DELIVERY_LATENCY, each) for each in ("p50", "p90", "p99")),
                ),
            ),
        ),
        Row(
            "**Waiting.** The backlog. Some drainers sent for are normal; many, minute after minute, are not",
            (
                Graph("Lanes in which events wait", (_own(Metric.LANES_PENDING),)),
                Graph("Drainers that the sweep sent for", (_own(Metric.DRAINS_SCHEDULED_BY_SWEEP),)),
                Graph("Shards swept", (_own(Metric.SHARDS_SWEPT),)),
            ),
        ),
        Row(
            "**Ending otherwise.** Each has its reason on record",
            (
                Graph(
                    "Events that were not delivered",
                    (
                        _own(Metric.EVENTS_EXPIRED),
                        _own(Metric.EVENTS_FAILED),
                        _own(Metric.EVENTS_QUARANTINED),
                    ),
                ),
                Graph("Webhooks switched off", (_own(Metric.WEBHOOKS_DISABLED),)),
            ),
        ),
        Row(
            "**Tables.** Throttled calls are tried again; many: one webhook gets more than its share",
            (
                Graph("Throttled reads", _tables(tables, "ReadThrottleEvents")),
                Graph("Throttled writes", _tables(tables, "WriteThrottleEvents")),
                Graph("Read units", _tables(tables, "ConsumedReadCapacityUnits")),
                Graph("Write units", _tables(tables, "ConsumedWriteCapacityUnits")),
            ),
        ),
        Row(
            "**Admin API**",
            (
                Graph("Calls", (_api("Count"),)),
                Graph("Answers 4xx and 5xx", (_api("4xx"), _api("5xx"))),
                Graph("Latency, milliseconds", (_api("Latency", "p50"), _api("Latency", "p99"))),
            ),
        ),
    ]


def _own(metric: Metric, statistic: str = "Sum") -> Line:
    label = metric if statistic in ("Sum", "Maximum") else statistic
    # Of the stack alone: an account or a webhook as a dimension would be a metric to pay for, each.
    return Line("LmsWebhooks", metric, "service", "${AWS::StackName}", statistic, label)


def _queues(queues: list[str], metric: str, statistic: str = "Maximum") -> tuple[Line, ...]:
    return tuple(
        Line("AWS/SQS", metric, "QueueName", f"${{{name}.QueueName}}", statistic, name) for name in queues
    )


def _functions(functions: list[str], metric: str, statistic: str) -> tuple[Line, ...]:
    return tuple(
        Line("AWS/Lambda", metric, "FunctionName", f"${{{name}}}", statistic, name) for name in functions
    )


def _tables(tables: list[str], metric: str) -> tuple[Line, ...]:
    return tuple(Line("AWS/DynamoDB", metric, "TableName", f"${{{name}}}", "Sum", name) for name in tables)


def _api(metric: str, statistic: str = "Sum") -> Line:
    label = metric if statistic == "Sum" else statistic
    return Line("AWS/ApiGateway", metric, "ApiId", "${HttpApi}", statistic, label)


def _alarms(alarms: list[str]) -> Widget:
    properties = {"title": "Alarms", "alarms": [f"${{{name}.Arn}}" for name in alarms]}
    return _place("alarm", 0, 0, _COLUMNS, 3, properties)


def _graph(graph: Graph) -> dict[str, Any]:
    return {
        "title": graph.title,
        "region": "${AWS::Region}",
        "period": 60,
        "yAxis": {"left": {"min": 0, "showUnits": False}},
        "metrics": [
            [
                line.namespace,
                line.metric,
                line.dimension,
                line.value,
                {"stat": line.statistic, "label": line.label},
            ]
            for line in graph.lines
        ],
    }


def _place(kind: str, x: int, y: int, width: int, height: int, properties: dict[str, Any]) -> Widget:
    return {"type": kind, "x": x, "y": y, "width": width, "height": height, "properties": properties}


if __name__ == "__main__":
    TEMPLATE.write_text(written(TEMPLATE.read_text()))
    sys.stdout.write(f"{len(json.loads(body())['widgets'])} widgets in {TEMPLATE.name}\n")
