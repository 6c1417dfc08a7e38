"""The dashboard and the alarms show what is really measured: the metrics that the code emits, and those that
AWS emits for the resources of the template. A name that nobody emits would be an empty graph, an alarm that
never fires: neither the emulator nor AWS says so."""

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from lms_webhooks.observability import Metric
from tests.contract.template import (
    ALARMS,
    FUNCTIONS,
    GLOBALS,
    QUEUES,
    REPOSITORY,
    RESOURCES,
    TABLES,
    TEMPLATE,
    Measured,
    dead_letter_queues,
    measured,
    name_in,
    of_type,
    quarantine_queue,
)

OF_AWS = {
    "AWS/SQS": (
        "QueueName",
        "AWS::SQS::Queue",
        {"NumberOfMessagesSent", "ApproximateAgeOfOldestMessage", "ApproximateNumberOfMessagesVisible"},
    ),
    "AWS/Lambda": (
        "FunctionName",
        "AWS::Serverless::Function",
        {
            "Invocations",
            "Errors",
            "Throttles",
            "Duration",
            "ConcurrentExecutions",
            "AsyncEventsDropped",
            "DestinationDeliveryFailures",
        },
    ),
    "AWS/DynamoDB": (
        "TableName",
        "AWS::DynamoDB::Table",
        {
            "ReadThrottleEvents",
            "WriteThrottleEvents",
            "ConsumedReadCapacityUnits",
            "ConsumedWriteCapacityUnits",
        },
    ),
    "AWS/ApiGateway": ("ApiId", "AWS::ApiGatewayV2::Api", {"Count", "4xx", "5xx", "Latency"}),
}
"""What AWS emits by itself, of what we use: by namespace the dimension, what it names, and the metrics."""

BODY: dict[str, Any] = json.loads(RESOURCES["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"])
WIDGETS: list[dict[str, Any]] = BODY["widgets"]


def lines(widget: dict[str, Any]) -> Iterator[list[str]]:
    """Namespace, metric and dimensions of each line of a graph, written out as CloudWatch reads them.

    `.` repeats what the line above has at that place, `...` all that it has but the last.
    """
    above: list[str] = []
    for metric in widget["properties"].get("metrics", ()):
        line = [each for each in metric if not isinstance(each, dict)]
        if line[0] == "...":
            line = above[: len(above) - len(line) + 1] + line[1:]
        else:
            line = [above[at] if each == "." else each for at, each in enumerate(line)]
        yield line
        above = line


def on_graphs() -> Iterator[Measured]:
    for widget in WIDGETS:
        for namespace, metric, *dimensions in lines(widget):
            pairs = itertools.batched(dimensions, 2, strict=True)
            yield namespace, metric, {name: {"Fn::Sub": value} for name, value in pairs}


def with_alarms() -> Iterator[Measured]:
    for alarm in ALARMS.values():
        yield from measured(alarm)


def shown(namespace: str, metric: str) -> set[str]:
    """The resources of which a metric is on some graph."""
    return {
        name_in(value)
        for shown_namespace, shown_metric, dimensions in on_graphs()
        for value in dimensions.values()
        if (shown_namespace, shown_metric) == (namespace, metric)
    }


def emitted() -> set[Metric]:
    """The members of Metric that some code hands to `count` or `measure_ms`, and that of `report`."""
    sources = [
        path.read_text()
        for path in (REPOSITORY / "layers" / "core" / "lms_webhooks").rglob("*.py")
        if path.stem != "observability"
    ]
    used = {name for source in sources for name in re.findall(r"\bMetric\.([A-Z_]+)", source)}
    return {Metric[name] for name in used} | {Metric.INTERNAL_ERRORS}


def test_every_metric_of_the_code_is_emitted_and_on_a_graph() -> None:
    assert emitted() == set(Metric)
    assert {metric for namespace, metric, _ in on_graphs() if not namespace.startswith("AWS/")} == set(Metric)


@pytest.mark.parametrize("watched", [*on_graphs(), *with_alarms()], ids=str)
def test_what_is_on_a_graph_or_has_an_alarm_is_emitted_by_the_code_or_by_aws(watched: Measured) -> None:
    namespace, metric, dimensions = watched
    variables = GLOBALS["Environment"]["Variables"]
    if namespace == variables["POWERTOOLS_METRICS_NAMESPACE"]:
        assert metric in emitted()
        assert dimensions.keys() == {"service"}, "an account or a webhook would be a metric to pay for, each"
        assert name_in(dimensions["service"]) == name_in(variables["POWERTOOLS_SERVICE_NAME"])
        return
    if namespace == "AWS/Events":  # test_aws_facts has what its dimensions must be
        assert metric in {"FailedInvocations", "InvocationsFailedToBeSentToDlq"}
        return
    dimension, resource_type, metrics = OF_AWS[namespace]
    assert metric in metrics
    assert dimensions.keys() == {dimension}
    assert name_in(dimensions[dimension]) in of_type(resource_type)


def test_every_alarm_stands_on_top() -> None:
    first = WIDGETS[0]
    assert first["type"] == "alarm"
    assert {name_in({"Fn::Sub": each}) for each in first["properties"]["alarms"]} == ALARMS.keys()


def test_every_queue_function_table_and_api_is_on_a_graph() -> None:
    ends = dead_letter_queues() | {quarantine_queue()}
    assert shown("AWS/SQS", "ApproximateNumberOfMessagesVisible") == QUEUES.keys()
    assert shown("AWS/SQS", "ApproximateAgeOfOldestMessage") == QUEUES.keys() - ends
    for metric in ("Errors", "Throttles", "Duration"):
        assert shown("AWS/Lambda", metric) == FUNCTIONS.keys()
    for metric in ("ReadThrottleEvents", "WriteThrottleEvents"):
        assert shown("AWS/DynamoDB", metric) == TABLES.keys()
    for metric in ("4xx", "5xx", "Latency"):
        assert shown("AWS/ApiGateway", metric) == of_type("AWS::ApiGatewayV2::Api").keys()


def test_what_the_body_names_is_in_the_template() -> None:
    """CloudFormation would refuse the stack."""
    names = {each.partition(".")[0] for each in re.findall(r"\$\{([^}]+)\}", json.dumps(BODY))}
    assert names <= RESOURCES.keys() | {"AWS::Region", "AWS::StackName"}
    condition = RESOURCES["Dashboard"]["Condition"]
    for each in re.findall(r"\$\{(\w+)(?:\.\w+)?\}", json.dumps(BODY)):
        assert RESOURCES[each].get("Condition", condition) == condition, f"{each} may not be there"


def test_graphs_fill_the_page_row_by_row() -> None:
    """A widget without `x` and `y` takes the next free place, six rows high: "Dashboard body structure" of
    CloudWatch. Three in a row leave none."""
    assert [widget["width"] for widget in WIDGETS] == [24, *[8] * 12]
    assert not any({"x", "y"} & widget.keys() for widget in WIDGETS)
    assert len(WIDGETS) <= 500
    assert {widget["type"] for widget in WIDGETS} == {"alarm", "metric"}
    for widget in WIDGETS:
        if widget["type"] == "metric":
            assert widget["properties"]["region"] == "${AWS::Region}"
            assert widget["properties"]["title"]
            assert widget["properties"]["metrics"]


def test_it_is_named_for_stack_and_region_and_an_output_says_so() -> None:
    """An AWS account has one list of dashboards for all regions: a second stack would take the first's."""
    (board,) = of_type("AWS::CloudWatch::Dashboard").values()
    assert board["DashboardName"] == {"Fn::Sub": "${AWS::StackName}-${AWS::Region}"}
    output = TEMPLATE["Outputs"]["DashboardName"]
    assert output["Value"] == {"Ref": "Dashboard"}
    assert output["Condition"] == RESOURCES["Dashboard"]["Condition"]
