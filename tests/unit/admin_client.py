"""Call the admin API as API Gateway does, on moto's KMS, SQS and SNS, and on moto's DynamoDB or another."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qsl

import boto3
from aws_lambda_powertools.utilities.typing import LambdaContext
from moto import mock_aws

from lms_webhooks.admin.activity import ActivityStore
from lms_webhooks.admin.api import build_api
from lms_webhooks.admin.batch_schedules import BatchSchedules
from lms_webhooks.admin.deliveries import Deliveries
from lms_webhooks.admin.event_types import read_event_types
from lms_webhooks.admin.handlers import Services
from lms_webhooks.admin.idempotency import Idempotency
from lms_webhooks.admin.rate_limit import SendRateLimit
from lms_webhooks.admin.replays import ReplayService
from lms_webhooks.admin.retries import RetryService
from lms_webhooks.admin.sample_sends import SampleSender
from lms_webhooks.admin.stats import StatsReader
from lms_webhooks.admin.subscriptions import Subscriptions
from lms_webhooks.admin.webhooks import WebhookService
from lms_webhooks.aws.dynamodb import Table
from lms_webhooks.aws.kms import SecretCipher
from lms_webhooks.aws.sqs import DrainQueue
from lms_webhooks.sending.sender import PostResult, Sender, Timeouts
from lms_webhooks.sending.webhook_client import SendKind, WebhookClient
from lms_webhooks.sending.webhook_request import WebhookRequest
from lms_webhooks.settings import AdminApiSettings
from lms_webhooks.stores.backlog import Backlog
from lms_webhooks.stores.deliveries import DeliveryStore
from lms_webhooks.stores.health import HealthStore
from lms_webhooks.stores.replays import ReplayStore
from lms_webhooks.stores.webhooks import WebhookStore
from tests.contract.privileges import missing
from tests.engines.dynamodb import REGION, Engine, moto

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_kms import KMSClient
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient

TABLE = "webhooks"
NOW = datetime(2026, 11, 3, 12, 0, 0, 5000, tzinfo=UTC)
ADMIN_CLAIMS: dict[str, object] = {
    "custom:account_id": "1010",
    "cognito:groups": "[integration-admin]",
    "email": "ada@example.com",
    "sub": "5f1d-ada",
}
VALID: dict[str, Any] = {
    "name": "Enrollments to HR",
    "targetUrl": "https://hooks.example.com/lms",
    "authentication": {"type": "none"},
    "events": ["COURSE_COMPLETED", "COURSE_ENROLLMENT"],
    "status": "active",
}


def admin_settings(
    kms_key_id: str = "unused",
    table_name: str = TABLE,
    *,
    drain_queue_url: str = "unused",
    background_drain_queue_url: str = "unused",
    notice_topic_arn: str = "unused",
    loopback_targets_allowed: bool = False,
    extra_event_types: str = "",
    extra_event_type_details: str = "",
) -> AdminApiSettings:
    return AdminApiSettings(
        webhooks_table=table_name,
        deliveries_table=f"{table_name}-deliveries",
        delivery_retention_days=30,
        backlog_retention_days=7,
        batch_every_minutes=15,
        extra_event_types=extra_event_types,
        extra_event_type_details=extra_event_type_details,
        notice_topic_arn=notice_topic_arn,
        drain_queue_url=drain_queue_url,
        background_drain_queue_url=background_drain_queue_url,
        kms_key_id=kms_key_id,
        account_claim="custom:account_id",
        role_claim="cognito:groups",
        admin_role="integration-admin",
        reader_role="integration-reader",
        oidc_issuer="",
        sign_in_url="https://signin.example.com",
        sign_in_client_id="console-client",
        loopback_targets_allowed=loopback_targets_allowed,
        trusted_ca_file="",
    )


def etag(webhook_id: str, version: int) -> str:
    return f'"{version}-{hashlib.sha256(webhook_id.encode()).hexdigest()[:8]}"'


def make_table(client: "DynamoDBClient", table_name: str = TABLE) -> None:
    client.create_table(
        TableName=table_name,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": "sk", "AttributeType": "S"},
        ],
        BillingMode="PAY_PER_REQUEST",
    )


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    text: str

    @property
    def body(self) -> Any:
        return json.loads(self.text)

    @property
    def errors(self) -> dict[str, str]:
        """The detail of each bad field, by its pointer."""
        return {error["pointer"]: error["detail"] for error in self.body["errors"]}


class AdminClient:
    """One admin's way to the API."""

    def __init__(
        self,
        dynamodb: "DynamoDBClient",
        kms: "KMSClient",
        sqs: "SQSClient",
        sns: "SNSClient",
        settings: AdminApiSettings,
    ) -> None:
        self.settings = settings
        self.store = WebhookStore(dynamodb, settings.webhooks_table)
        self.secret_box = SecretCipher(kms, settings.kms_key_id)
        self._dynamodb = dynamodb
        self._is_calling = False
        self._denied: list[str] = []
        for client in (dynamodb, kms, sqs, sns):
            client.meta.events.register("provide-client-params", self._judge)
        self._sqs = sqs
        self.sns = sns
        drain_queue = DrainQueue(sqs, settings.drain_queue_url, settings.background_drain_queue_url)
        self.deliveries_table = Table(dynamodb, settings.deliveries_table)
        self.backlog = Backlog(self.deliveries_table, retention_days=settings.backlog_retention_days)
        self.history = DeliveryStore(self.deliveries_table, retention_days=settings.delivery_retention_days)
        self.health = HealthStore(Table(dynamodb, settings.webhooks_table), sleep=lambda _: None)
        self.slept_seconds: list[float] = []
        self.now_seconds = NOW.timestamp()
        rate_limit = SendRateLimit(Table(dynamodb, settings.webhooks_table), clock=self._clock)
        event_types = read_event_types(settings)
        schedules = BatchSchedules(
            self.backlog,
            every_minutes=settings.batch_every_minutes,
            event_types=event_types,
            clock=self._clock,
        )
        webhooks = WebhookService(
            self.store,
            self.secret_box,
            drain_queue,
            self.backlog,
            rate_limit,
            schedules,
            event_types=event_types,
            now=lambda: NOW + timedelta(seconds=self.now_seconds - NOW.timestamp()),
            sleep=self.slept_seconds.append,
        )
        self.posted: list[WebhookRequest] = []
        self.answer: PostResult = PostResult(204, None, 12)
        """How receivers respond to tests."""
        self.sender: Sender | None = None
        """A real one, where test sends shall go out."""
        sample_sends = SampleSender(
            webhooks,
            WebhookClient(self.secret_box, cast("Sender", self), kind=SendKind.TEST, clock=self._clock),
            rate_limit,
            event_types=event_types,
            clock=self._clock,
        )
        subscriptions = Subscriptions(
            Table(dynamodb, settings.webhooks_table),
            sns,
            settings.notice_topic_arn,
            rate_limit,
            now=lambda: NOW,
        )
        deliveries = Deliveries(self.store, self.history, self.backlog)
        self._api = build_api(
            Services(
                webhooks=webhooks,
                deliveries=deliveries,
                replays=ReplayService(
                    self.store,
                    deliveries,
                    self.backlog,
                    ReplayStore(self.deliveries_table, sleep=lambda _: None),
                    drain_queue,
                    rate_limit,
                    event_types=event_types,
                    clock=self._clock,
                ),
                retries=RetryService(
                    self.store, self.health, self.backlog, drain_queue, rate_limit, clock=self._clock
                ),
                stats=StatsReader(
                    self.store,
                    self.history,
                    self.backlog,
                    schedules,
                    clock=self._clock,
                ),
                activity=ActivityStore(Table(dynamodb, settings.webhooks_table), clock=self._clock),
                idempotency=Idempotency(
                    Table(dynamodb, settings.webhooks_table), self.secret_box, clock=self._clock
                ),
                sample_sends=lambda: sample_sends,
                subscriptions=lambda: subscriptions,
                event_types=event_types,
                schedules=schedules,
            ),
            settings,
        )
        self._make_tables()

    def post(self, message: WebhookRequest, *, timeouts: Timeouts) -> PostResult:
        """The sender's part: keep what a receiver would get."""
        assert timeouts.total_seconds == 5
        self.posted.append(message)
        return self.sender.post(message, timeouts=timeouts) if self.sender else self.answer

    def _judge(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        """What the API does, its role in the template must allow; what a test does by itself, need not be."""
        if self._is_calling:
            service = str(model.service_model.service_name)
            self._denied += missing("admin_api", service, str(model.name), params)

    def _clock(self) -> float:
        return self.now_seconds

    def sent_for_drainers(self) -> list[dict[str, str]]:
        """What was put on the drain queues since the last time."""
        found = []
        for url in (self.settings.drain_queue_url, self.settings.background_drain_queue_url):
            while messages := self._sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
                for message in messages:
                    self._sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                    found.append(json.loads(message["Body"]))
        return found

    def forget_everything(self) -> None:
        """Be as at the beginning."""
        self.sent_for_drainers()
        self.posted.clear()
        self.slept_seconds.clear()
        self.answer = PostResult(204, None, 12)
        self.now_seconds = NOW.timestamp()
        for name in (self.settings.webhooks_table, self.settings.deliveries_table):
            self._dynamodb.delete_table(TableName=name)
        self._make_tables()

    def _make_tables(self) -> None:
        for name in (self.settings.webhooks_table, self.settings.deliveries_table):
            make_table(self._dynamodb, name)

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        text: str | None = None,
        content_type: str | None = "application/json",
        is_base64: bool = False,
        claims: dict[str, object] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send `body` as JSON, or `text` as it is."""
        sent = text if text is not None else json.dumps(body) if body is not None else None
        if sent is not None and is_base64:
            sent = base64.b64encode(sent.encode("utf-8", "surrogatepass")).decode()
        path, _, query = path.partition("?")
        parameters = dict(parse_qsl(query, keep_blank_values=True))
        event = {
            "version": "2.0",
            "routeKey": "ANY /v1/{proxy+}",
            "rawPath": path,
            "rawQueryString": query,
            **({"queryStringParameters": parameters} if parameters else {}),
            "headers": ({"content-type": content_type} if content_type else {}) | (headers or {}),
            "requestContext": {
                "authorizer": {"jwt": {"claims": ADMIN_CLAIMS if claims is None else claims, "scopes": None}},
                "http": {"method": method, "path": path, "sourceIp": "192.0.2.1"},
                "requestId": "gateway-request",
                "stage": "$default",
            },
            "isBase64Encoded": is_base64,
            **({} if sent is None else {"body": sent}),
        }
        self._is_calling = True
        try:
            raw = self._api.resolve(event, cast("LambdaContext", SimpleNamespace(aws_request_id="request-7")))
        finally:
            self._is_calling = False
        assert not self._denied, f"more than the template allows: {self._denied}"
        return Answer(raw["statusCode"], raw.get("headers", {}), raw["body"])

    def create(self, **changes: Any) -> Answer:
        """Create a valid webhook with `changes`; a field that is changed to None is left out."""
        body = {name: value for name, value in {**VALID, **changes}.items() if value is not None}
        return self.call("POST", "/v1/webhooks", body)


@contextmanager
def admin_client(
    table_name: str = TABLE,
    *,
    dynamodb: Engine = moto,
    loopback_targets_allowed: bool = False,
    extra_event_types: str = "",
    extra_event_type_details: str = "",
) -> Iterator[AdminClient]:
    """An admin of a system of their own. Those that live at the same time need tables of different names."""
    with mock_aws(), dynamodb() as client:
        kms = boto3.client("kms", region_name=REGION)
        sqs = boto3.client("sqs", region_name=REGION)
        sns = boto3.client("sns", region_name=REGION)
        settings = admin_settings(
            kms.create_key()["KeyMetadata"]["KeyId"],
            table_name,
            notice_topic_arn=sns.create_topic(Name="notices")["TopicArn"],
            drain_queue_url=sqs.create_queue(QueueName=f"drain-{table_name}")["QueueUrl"],
            background_drain_queue_url=sqs.create_queue(QueueName=f"background-drain-{table_name}")[
                "QueueUrl"
            ],
            loopback_targets_allowed=loopback_targets_allowed,
            extra_event_types=extra_event_types,
            extra_event_type_details=extra_event_type_details,
        )
        yield AdminClient(client, kms, sqs, sns, settings)
