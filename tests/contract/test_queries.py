"""The saved queries ask for fields that the functions really log. Insights does not mind a field that no line
has: it shows an empty column, and finds nothing."""

import ast
import re
from typing import Any

import boto3
import pytest

from lms_webhooks.stores.webhooks import new_webhook_id
from tests.contract.invocations import Aws, sample
from tests.contract.template import FUNCTIONS, REPOSITORY, RESOURCES, TEMPLATE, name_in, names_in, of_type
from tests.fakes.receiver import Receiver, answer
from tests.logged import Line

pytestmark = pytest.mark.filterwarnings("ignore:No application metrics to publish:UserWarning")

QUERIES = of_type("AWS::Logs::QueryDefinition")
FROM_INSIGHTS = {"@timestamp", "@message"}
"""Fields that each line has by itself."""
COMMANDS = {"filter", "stats", "sort", "display", "limit"}
FUNCTIONS_OF_STATS = {"count", "count_distinct", "sum", "pct", "max", "latest"}
WORDS = {"and", "or", "like", "as", "by", "asc", "desc"}

each_query = pytest.mark.parametrize("query", QUERIES)


def steps(query: str) -> list[tuple[str, str]]:
    """The commands of a query, each with what it is given."""
    text = QUERIES[query]["QueryString"]
    return [(command, rest) for command, _, rest in (each.strip().partition(" ") for each in text.split("|"))]


def fields(query: str) -> set[str]:
    """What a query asks of the lines."""
    made: set[str] = set()
    asked: set[str] = set()
    for command, given in steps(query):
        assert command in COMMANDS, command
        if command == "limit":
            assert 0 < int(given) <= 10_000
            continue
        names = re.sub(r'"[^"]*"', "", given)  # without the texts that are compared with
        made |= set(re.findall(r"\bas (\w+)", names))
        assert set(re.findall(r"(\w+)\(", names)) <= FUNCTIONS_OF_STATS
        asked |= set(re.findall(r"@?[A-Za-z_]\w*", names)) - WORDS - FUNCTIONS_OF_STATS
    return asked - made - FROM_INSIGHTS


def is_found(query: str, line: Line) -> bool:
    """Whether a line is of the kind that a query looks for, whatever the ids in it."""
    (condition,) = [given for command, given in steps(query) if command == "filter"]
    kinds = re.findall(r'\b(message|level) = "([^"]+)"', condition)
    return any(line.get(name) == value for name, value in kinds) or "@message like" in condition


def ids_of_audits() -> set[str]:
    """What the calls of `audit` name, whichever admin's call they stand in."""
    calls = [
        node
        for path in (REPOSITORY / "layers" / "core" / "lms_webhooks" / "admin").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "audit"
    ]
    names = {keyword.arg for call in calls for keyword in call.keywords}
    return {name for name in names if name is not None and name != "changed"}


@pytest.fixture
def lines(aws: Aws, invoke: Any, receiver: Receiver, logged: list[Line]) -> list[Line]:
    """What the functions log when an admin calls, when events come and go out, when DynamoDB is broken."""
    invoke("admin_api", sample("admin_api"))
    aws.register(receiver.url())
    aws.register("https://10.0.0.1/", webhook_id=new_webhook_id())
    realtime = sample("dispatcher", "realtime")
    invoke("dispatcher", {"Records": [realtime["Records"][0] | {"body": "{}"}]})
    receiver.script = answer(503)
    invoke("dispatcher", realtime)
    boto3.client("dynamodb").delete_table(TableName=aws.values["DeliveriesTable"])
    invoke("dispatcher", realtime)
    return logged


def test_each_query_finds_lines_and_asks_for_what_stands_in_them(lines: list[Line]) -> None:
    for query in QUERIES:
        found = [line for line in lines if is_found(query, line)]
        assert found, query
        logged = {name for line in found for name in line}
        if "AdminApiLogs" in names_in(QUERIES[query]["LogGroupNames"]):
            logged |= ids_of_audits()
        assert fields(query) - logged == set(), query


@each_query
def test_a_query_looks_where_its_lines_are(query: str) -> None:
    groups = names_in(QUERIES[query]["LogGroupNames"])
    assert groups <= {name_in(each["LoggingConfig"]["LogGroup"]) for each in FUNCTIONS.values()}
    who_says = {
        "attempt": {"DispatcherLogs", "DrainerLogs"},
        "event quarantined": {"DispatcherLogs"},
        "audit": {"AdminApiLogs"},
    }
    for message in re.findall(r'message = "([^"]+)"', QUERIES[query]["QueryString"]):
        assert groups == who_says[message]


@each_query
def test_a_query_is_the_stack_s_own_and_not_for_the_emulator(query: str) -> None:
    assert QUERIES[query]["Name"]["Fn::Sub"].startswith("${AWS::StackName}/")
    assert RESOURCES[query]["Condition"] == "IsOnAws"
    assert TEMPLATE["Conditions"]["IsOnAws"] == {"Fn::Not": [{"Condition": "IsLocal"}]}


def test_a_field_that_nobody_logs_is_noticed() -> None:
    """The test above is worth nothing if it overlooks one."""
    assert fields("FailuresByClassQuery") == {
        "message", "responseClass", "attempts", "webhookId", "statusCode", "errorClass", "violatedRule",
    }  # fmt: skip
    assert fields("TraceAnEventQuery") >= {"kind", "action", "user"}
