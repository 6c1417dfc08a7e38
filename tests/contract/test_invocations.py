"""The samples in events/ of what invokes each function: the functions themselves, built from the environment
that the template gives them, take them and do what they should. AWS is moto, receivers are real sockets."""

import importlib.util
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from moto import mock_aws

from events.generate import ACCOUNT_ID, WEBHOOK_ID
from lms_webhooks import aws as aws_clients
from lms_webhooks.backlog import Backlog, Lane, Waiting
from lms_webhooks.delivery_store import DeliveryStore
from lms_webhooks.dynamodb import Table
from lms_webhooks.event_types import EVENT_TYPES
from lms_webhooks.events import read_event
from lms_webhooks.observability import metrics
from lms_webhooks.queues import DrainQueue
from lms_webhooks.webhook_store import WebhookStore
from lms_webhooks.webhooks import NoAuthentication, Status, Webhook
from local.openapi import COMMITTED
from tests.contract.privileges import missing
from tests.contract.template import (
    FUNCTIONS,
    GLOBALS,
    PARAMETERS,
    QUEUES,
    REPOSITORY,
    RULES,
    TABLES,
    environment,
    event_sources,
    name_in,
    of_type,
)
from tests.fakes.receiver import Receiver

# What only stores events has none to publish; Powertools warns, Lambda goes on.
pytestmark = pytest.mark.filterwarnings("ignore:No application metrics to publish:UserWarning")

REGION = "us-east-1"
TRUE_BY_DEFAULT = {"HasOwnUserPool"}
"""Conditions of the template."""
ACCOUNT = str(ACCOUNT_ID)
SAMPLES = {path.stem: json.loads(path.read_text()) for path in sorted((REPOSITORY / "events").glob("*.json"))}
"""By the name of the file."""


def sample(function: str, trigger: str = "") -> dict[str, Any]:
    """What invokes the function of a folder."""
    found: dict[str, Any] = SAMPLES[f"{function}_{trigger}" if trigger else function]
    return found


def of_function(function: str) -> list[dict[str, Any]]:
    """The samples for a function of the template."""
    folder = Path(FUNCTIONS[function]["CodeUri"]).name
    return [each for name, each in SAMPLES.items() if name.startswith(folder)]


##### Each trigger of the template has one


def test_each_queue_has_a_sample_that_is_no_larger_than_its_batches() -> None:
    for function, queue, source in event_sources():
        records = [
            record
            for each in of_function(function)
            for record in each.get("Records", [])
            if record["eventSourceARN"].endswith(f":{queue}")
        ]
        assert 1 <= len(records) <= source["BatchSize"], queue


def test_each_schedule_has_a_sample() -> None:
    for rule in RULES.values():
        if "ScheduleExpression" in rule:
            (target,) = rule["Targets"]
            assert json.loads(target["Input"]) in of_function(name_in(target["Arn"]))


def test_each_route_has_a_sample_with_the_claims_that_the_template_names() -> None:
    calls = {each["routeKey"]: each for each in of_function("AdminApiFunction")}
    routes = of_type("AWS::ApiGatewayV2::Route").values()
    assert calls.keys() == {route["RouteKey"] for route in routes}
    for route in routes:
        call = calls[route["RouteKey"]]
        authorizer = call["requestContext"].get("authorizer")
        assert (authorizer is None) == (route["AuthorizationType"] == "NONE")
        if authorizer is not None:
            claims = authorizer["jwt"]["claims"]
            assert claims[PARAMETERS["AccountClaim"]["Default"]] == ACCOUNT
            assert PARAMETERS["AdminRole"]["Default"] in claims[PARAMETERS["RoleClaim"]["Default"]]


##### And each function does what it should


@dataclass(frozen=True)
class Aws:
    """moto, with what the template defines, under the names of the template."""

    values: dict[str, str]
    """What a reference to a resource becomes."""
    webhooks: WebhookStore
    backlog: Backlog
    history: DeliveryStore
    drain_queue: DrainQueue

    def register(self, url: str) -> None:
        """The webhook of the samples, for every type."""
        self.webhooks.create(
            Webhook(
                account_id=ACCOUNT,
                webhook_id=WEBHOOK_ID,
                name="sample",
                description="",
                target_url=url,
                authentication=NoAuthentication(),
                events=frozenset(EVENT_TYPES),
                status=Status.ACTIVE,
                created_at="2026-11-03T12:00:00.000Z",
                updated_at="2026-11-03T12:00:00.000Z",
                created_by="test",
                updated_by="test",
            )
        )

    def sent_for_drainers(self) -> list[str]:
        """The messages on the drain queue."""
        answer = boto3.client("sqs").receive_message(
            QueueUrl=self.values["DrainQueue"], MaxNumberOfMessages=10
        )
        return [message["Body"] for message in answer.get("Messages", [])]

    def waiting_ids(self, lane: Lane) -> list[str]:
        """The events that wait for the webhook of the samples."""
        return [each.event.event_id for each in self.backlog.read(WEBHOOK_ID, lane, limit=100)]


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    with mock_aws():
        dynamodb = boto3.client("dynamodb")
        sqs = boto3.client("sqs")
        for name, properties in TABLES.items():
            keys = {key: properties[key] for key in ("KeySchema", "AttributeDefinitions", "BillingMode")}
            dynamodb.create_table(TableName=name, **keys)
        values = {name: name for name in TABLES}
        values |= {name: sqs.create_queue(QueueName=name)["QueueUrl"] for name in QUEUES}
        values["DeliveryKey"] = boto3.client("kms").create_key()["KeyMetadata"]["Arn"]
        values["NoticeTopic"] = boto3.client("sns").create_topic(Name="NoticeTopic")["TopicArn"]
        deliveries = Table(dynamodb, "DeliveriesTable")
        yield Aws(
            values,
            WebhookStore(dynamodb, "WebhooksTable"),
            Backlog(deliveries, retention_days=7),
            DeliveryStore(deliveries, retention_days=30),
            DrainQueue(sqs, values["DrainQueue"]),
        )


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def told_as(value: Any, resources: dict[str, str]) -> str:
    """What CloudFormation makes of a variable, where every parameter has its default."""
    match value:
        case {"Fn::If": [condition, then, otherwise]}:
            return told_as(then if condition in TRUE_BY_DEFAULT else otherwise, resources)
        case {"Fn::Sub": text}:
            return re.sub(r"\$\{[\w:]+\}", "name", text)
        case str():
            return value
    told = name_in(value)
    return resources[told] if told in resources else str(PARAMETERS.get(told, {"Default": told})["Default"])


@pytest.fixture
def invoke(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Invokes the function of a folder with an event, after a cold start."""

    def invoke(folder: str, event: dict[str, Any]) -> dict[str, Any]:
        (function,) = [name for name, each in FUNCTIONS.items() if Path(each["CodeUri"]).name == folder]
        for name, value in environment(function).items():
            monkeypatch.setenv(name, told_as(value, aws.values))
        if "LOOPBACK_TARGETS_ALLOWED" in environment(function):
            monkeypatch.setenv("LOOPBACK_TARGETS_ALLOWED", "true")
        path = REPOSITORY / "functions" / folder / "app.py"
        spec = importlib.util.spec_from_file_location(f"{folder}_app", path)
        assert spec is not None
        assert spec.loader is not None
        app = importlib.util.module_from_spec(spec)
        denied: list[str] = []

        def judge(**call: Any) -> None:
            model = call["model"]
            denied.extend(missing(folder, model.service_model.service_name, model.name, call["params"]))

        # Clients take over what hangs on the session when they are made.
        session.register("provide-client-params", judge, unique_id="privileges")
        spec.loader.exec_module(app)
        context = SimpleNamespace(
            function_name=folder,
            memory_limit_in_mb=512,
            invoked_function_arn=f"arn:aws:lambda:{REGION}:123456789012:function:{folder}",
            aws_request_id="request-7",
            get_remaining_time_in_millis=lambda: 60_000,
        )
        answer: dict[str, Any] = app.lambda_handler(event, context)
        session.unregister("provide-client-params", unique_id="privileges")
        assert denied == [], "more than the template allows"
        return answer

    session = aws_clients._session
    told = GLOBALS["Environment"]["Variables"]
    # Powertools read its variables when another test imported it.
    monkeypatch.setattr(metrics.provider, "namespace", told["POWERTOOLS_METRICS_NAMESPACE"])
    monkeypatch.setattr(metrics.provider, "service", told_as(told["POWERTOOLS_SERVICE_NAME"], {}))
    yield invoke
    metrics.clear_metrics()


def ids_in(invocation: dict[str, Any]) -> list[str]:
    """The ids of the events in a sample, by their order."""
    return sorted(json.loads(record["body"])["detail"]["eventId"] for record in invocation["Records"])


def test_the_admin_api_creates_the_webhook_of_its_sample(aws: Aws, invoke: Any) -> None:
    answer = invoke("admin_api", sample("admin_api"))
    assert answer["statusCode"] == 201, answer["body"]
    assert json.loads(answer["body"])["authentication"]["secret"].startswith("whsec_")
    assert len(aws.webhooks.read_account(ACCOUNT)) == 1


def test_the_admin_api_describes_itself(invoke: Any) -> None:
    answer = invoke("admin_api", sample("admin_api", "openapi"))
    assert answer["statusCode"] == 200
    assert answer["body"] == COMMITTED.read_text()


def test_the_admin_api_serves_the_console(invoke: Any) -> None:
    start = invoke("admin_api", sample("admin_api", "console"))
    assert (start["statusCode"], start["isBase64Encoded"]) == (200, True)
    assert start["headers"]["Content-Type"].startswith("text/html")
    assert (
        "connect-src 'self' https://name.auth.name.amazoncognito.com;"
        in (start["headers"]["Content-Security-Policy"])
    )
    script = invoke("admin_api", sample("admin_api", "console_file"))
    assert script["headers"]["Content-Type"].startswith("text/javascript")


def test_the_dispatcher_delivers_real_time_events(aws: Aws, invoke: Any, receiver: Receiver) -> None:
    aws.register(receiver.url())
    assert invoke("dispatcher", sample("dispatcher", "realtime")) == {"batchItemFailures": []}
    received = sorted(event_id for request in receiver.requests for event_id in request.event_ids)
    assert received == ids_in(sample("dispatcher", "realtime"))


def test_the_dispatcher_keeps_non_real_time_events_until_a_schedule_lets_them_go(
    aws: Aws, invoke: Any, receiver: Receiver
) -> None:
    aws.register(receiver.url())
    assert invoke("dispatcher", sample("dispatcher", "batch")) == {"batchItemFailures": []}
    assert sorted(aws.waiting_ids(Lane.BATCH)) == ids_in(sample("dispatcher", "batch"))
    assert (receiver.requests, aws.sent_for_drainers()) == ([], [])

    assert invoke("batch", sample("batch", "schedule")) == {"webhooks": 1}
    assert aws.sent_for_drainers() == [sample("drainer")["Records"][0]["body"]]


def test_the_drainer_sends_what_waits(aws: Aws, invoke: Any, receiver: Receiver) -> None:
    aws.register(receiver.url())
    wait(aws)
    assert invoke("drainer", sample("drainer")) == {"batchItemFailures": []}
    received = [event_id for request in receiver.requests for event_id in request.event_ids]
    assert sorted(received) == ids_in(sample("dispatcher", "realtime"))
    assert aws.waiting_ids(Lane.REALTIME) == []


def test_the_sweep_sends_for_a_drainer_that_is_missing(aws: Aws, invoke: Any, receiver: Receiver) -> None:
    aws.register(receiver.url())
    wait(aws)
    assert invoke("batch", sample("batch", "sweep")) == {"webhooks": 1}
    assert aws.sent_for_drainers() == [sample("drainer")["Records"][0]["body"]]


def wait(aws: Aws) -> None:
    """The events of the dispatcher's sample wait, as if they had just come."""
    now_ms = time.time_ns() // 1_000_000
    events = [
        read_event(record["body"], source="lms", accepted_at_ms=now_ms)
        for record in sample("dispatcher", "realtime")["Records"]
    ]
    assert not aws.backlog.append(WEBHOOK_ID, Lane.REALTIME, [Waiting(event) for event in events])
    aws.backlog.mark(ACCOUNT, WEBHOOK_ID, Lane.REALTIME, accepted_at_ms=now_ms)
