"""Functions as the template deploys them: built from the environment that it gives them, over moto, and
held to their roles. Real sockets to receivers."""

import importlib.util
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from moto import mock_aws

from lms_webhooks.aws import clients as aws_clients
from lms_webhooks.aws.dynamodb import Table
from lms_webhooks.aws.sqs import DrainMessage, DrainQueue, read_drain_message
from lms_webhooks.model.event_types import EVENT_TYPES
from lms_webhooks.model.lanes import Lane
from lms_webhooks.model.webhooks import NoAuthentication, Status, Webhook
from lms_webhooks.observability import metrics
from lms_webhooks.stores.backlog import Backlog
from lms_webhooks.stores.deliveries import DeliveryStore
from lms_webhooks.stores.webhooks import WebhookStore
from tests.contract.privileges import missing
from tests.contract.template import (
    FUNCTIONS,
    GLOBALS,
    PARAMETERS,
    QUEUES,
    REPOSITORY,
    TABLES,
    environment,
    name_in,
)
from tests.fakes.receiver import Receiver
from tests.logged import Line, logged_lines
from tools.samples import ACCOUNT_ID, WEBHOOK_ID

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


@dataclass(frozen=True)
class Aws:
    """moto, with what the template defines, under the names of the template."""

    values: dict[str, str]
    """What a reference to a resource becomes."""
    webhooks: WebhookStore
    backlog: Backlog
    history: DeliveryStore
    drain_queue: DrainQueue

    def register(self, url: str, *, webhook_id: str = WEBHOOK_ID) -> None:
        """A webhook for every type: the one of the samples, by default."""
        self.webhooks.create(
            Webhook(
                account_id=ACCOUNT,
                webhook_id=webhook_id,
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

    def drain_messages(self) -> list[DrainMessage]:
        """The messages on the drain queues."""
        bodies = [*self.messages("DrainQueue"), *self.messages("BackgroundDrainQueue")]
        return [read_drain_message({"body": body, "messageId": ""}) for body in bodies]

    def messages(self, queue: str) -> list[str]:
        """The messages on a queue."""
        sqs = boto3.client("sqs")
        bodies: list[str] = []
        while got := sqs.receive_message(QueueUrl=self.values[queue], MaxNumberOfMessages=10).get("Messages"):
            bodies += [message["Body"] for message in got]
        return bodies

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
            DrainQueue(sqs, values["DrainQueue"], values["BackgroundDrainQueue"]),
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
        case {"Fn::Sub": [str(text), *_]} | {"Fn::Sub": str(text)}:
            return re.sub(r"\$\{[\w:]+\}", "name", text)
        case str():
            return value
    told = name_in(value)
    return resources[told] if told in resources else str(PARAMETERS.get(told, {"Default": told})["Default"])


@pytest.fixture
def invoke(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Invokes the function of a folder with an event, after a cold start. Targets on this machine are allowed
    by default: receivers are there."""

    def invoke(folder: str, event: dict[str, Any], *, loopback_allowed: bool = True) -> dict[str, Any]:
        (function,) = [name for name, each in FUNCTIONS.items() if Path(each["CodeUri"]).name == folder]
        for name, value in environment(function).items():
            monkeypatch.setenv(name, told_as(value, aws.values))
        if loopback_allowed and "LOOPBACK_TARGETS_ALLOWED" in environment(function):
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


@pytest.fixture
def logged() -> Iterator[list[Line]]:
    """What the functions log."""
    with logged_lines() as lines:
        yield lines
