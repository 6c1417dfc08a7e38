"""The parts that the flow is made of, on tables in memory, and an endpoint that responds as a test
says.

Not on moto: a flow is made for each of hundreds of tests, and moto's takes a hundred times as long.
`tests/scenarios/test_tables.py` holds these tables against moto's.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast
from unittest.mock import patch

from botocore.validate import validate_parameters

from lms_webhooks.aws.dynamodb import Table
from lms_webhooks.aws.sqs import DrainMessage, DrainQueue, QuarantineQueue, read_drain_message
from lms_webhooks.clocks import Clocks
from lms_webhooks.drainer.outcomes import OutcomeRecorder
from lms_webhooks.drainer.replay_runner import ReplayRunner
from lms_webhooks.model.attempts import Attempt, ErrorClass
from lms_webhooks.model.events import Event
from lms_webhooks.model.health import Health
from lms_webhooks.model.lanes import Lane, PendingEvent
from lms_webhooks.model.webhooks import Webhook
from lms_webhooks.observability import metrics
from lms_webhooks.sending.sender import PostResult, Timeouts
from lms_webhooks.sending.webhook_client import SendResult, WebhookClient
from lms_webhooks.sending.webhook_request import Credentials
from lms_webhooks.stores.backlog import Backlog
from lms_webhooks.stores.deliveries import DeliveryStore
from lms_webhooks.stores.health import HealthStore
from lms_webhooks.stores.replays import ReplayStore
from lms_webhooks.stores.webhook_cache import WebhookCache
from lms_webhooks.stores.webhooks import WebhookStore
from tests.scenarios.tables import Refused, Tables
from tests.scenarios.world import Engine, real_client
from tests.unit.tables import DAY_MS, NOW_MS, Before, Throttled, event, webhook

WEBHOOK = webhook()
ID = WEBHOOK.webhook_id
ACCOUNT = WEBHOOK.account_id
WHEN = datetime.fromtimestamp(NOW_MS / 1000, UTC)
RETENTION_DAYS = 7
RETENTION_MS = RETENTION_DAYS * DAY_MS
REALTIME = "COURSE_ENROLLMENT"
BATCH = "LEARNER_PROGRESS"
CREDENTIALS = Credentials()

type Reply = int | ErrorClass
"""A status code, or the reason why there is none."""


class Endpoint:
    """Stands in for client and receiver: returns the replies of a test in turn, and repeats the last."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.replies: list[Reply] = [200]
        self.answers: Callable[[list[str]], Reply] | None = None
        """In place of replies: what the ids of a POST's events get."""
        self.retry_after = ""
        self.latency_ms = 20
        self.body_bytes = 2
        self.posts: list[list[str]] = []
        """The ids of the events that each POST carried."""
        self.urls: list[str] = []
        self.timeouts: Timeouts | None = None
        self.before_credentials: Callable[[], None] = lambda: None
        self.before_reply: Callable[[], None] = lambda: None
        self.logged: list[str] = []
        self._now = now

    def decrypt_credentials(self, _: Webhook) -> Credentials:
        self.before_credentials()
        return CREDENTIALS

    def send(
        self, webhook: Webhook, events: list[Event], *, credentials: Credentials, timeouts: Timeouts
    ) -> SendResult:
        assert credentials is CREDENTIALS
        self.timeouts = timeouts
        self.urls.append(webhook.target_url)
        self.posts.append([each.event_id for each in events])
        self.before_reply()
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if self.answers is not None:
            reply = self.answers(self.posts[-1])
        status_code = reply if isinstance(reply, int) else None
        error_class = reply if isinstance(reply, ErrorClass) else None
        answer = PostResult(status_code, error_class, self.latency_ms, self.retry_after)
        started_at_ms = int(self._now() * 1000)
        return SendResult(
            events, self.body_bytes, answer, Attempt(started_at_ms, self.latency_ms, status_code, error_class)
        )

    def log(self, _account_id: str, _webhook_id: str, sent: list[SendResult]) -> None:
        self.logged += [each.event_id for one in sent for each in one.events]


class Flow:
    """Stores, queues and an endpoint. `now` is the clock of all of them, in seconds."""

    def __init__(self) -> None:
        self.now = NOW_MS / 1000
        dynamodb: Any = Before(client_over("dynamodb", Tables("webhooks", "deliveries").call))
        webhooks, deliveries = (
            Table(dynamodb, name, sleep=lambda _: None) for name in ("webhooks", "deliveries")
        )
        self.webhooks_table, self.deliveries_table = webhooks, deliveries
        self.store = WebhookStore(webhooks.client, webhooks.name)
        self.health_store = HealthStore(webhooks)
        self.backlog = Backlog(deliveries, retention_days=RETENTION_DAYS)
        self.history = DeliveryStore(deliveries, retention_days=30, sleep=lambda _: None)
        self.recorder = OutcomeRecorder(self.backlog, self.history, clock=self.clock)
        self.replay_store = ReplayStore(deliveries, sleep=lambda _: None)
        self.replays = ReplayRunner(self.replay_store, self.history, self.backlog, clock=self.clock)
        self.webhook_cache = WebhookCache(self.store, clocks=Clocks(wall=self.clock, monotonic=self.clock))
        self.endpoint = Endpoint(self.clock)
        self.webhook_client = cast("WebhookClient", self.endpoint)
        sqs = client_over("sqs", self._take)
        self.drain_queue = DrainQueue(sqs, "https://sqs.test/drain", "https://sqs.test/background")
        self.quarantine = QuarantineQueue(sqs, "https://sqs.test/quarantine")
        self.sent_for: list[int] = []
        """The delay of each drain message, in seconds."""
        self.drain_messages: list[DrainMessage] = []
        """The same messages."""
        self.urgent: list[bool] = []
        """By which queue each went."""
        self.quarantined: list[Any] = []
        self.metrics: Counter[str] = Counter()
        """The sum of each."""
        self.may_break = False
        """Something raises what nobody expects. Otherwise an internal error is a bug."""

    def clock(self) -> float:
        return self.now

    def register(self, health: Health | None = None, **changes: Any) -> Webhook:
        """Register the webhook, with `health` if it is given."""
        registered = replace(WEBHOOK, **changes)
        self.store.create(registered)
        if health is not None:
            assert self.health_store.save(ACCOUNT, ID, health, revision=0)
        return registered

    def health(self) -> Health:
        health = self.health_store.read(ACCOUNT, ID)
        assert health is not None
        return health

    def put(self, lane: Lane, *waiting: PendingEvent, due_at_ms: int = 0) -> None:
        """Append to a lane, and mark it as what appends does."""
        assert not self.backlog.append(ID, lane, waiting)
        self.backlog.set_marker(
            ACCOUNT,
            ID,
            lane,
            accepted_at_ms=min(each.event.accepted_at_ms for each in waiting),
            due_at_ms=due_at_ms,
        )

    def waiting(self, lane: Lane) -> list[PendingEvent]:
        return [each for page in self.backlog.read_all(ID, lane) for each in page]

    def waiting_ids(self, lane: Lane) -> list[str]:
        return [each.event.event_id for each in self.waiting(lane)]

    def outcome(self, which: Event) -> str | None:
        """What the history says became of an event."""
        found = self.history.find(ID, which.sort_key)
        return found[0].outcome if found is not None else None

    def _take(self, operation: str, params: dict[str, Any]) -> dict[str, Any]:
        """SQS."""
        assert operation == "SendMessage"
        body = json.loads(params["MessageBody"])
        if params["QueueUrl"].endswith("/quarantine"):
            self.quarantined.append(body)
        else:
            assert body["accountId"] == ACCOUNT
            self.sent_for.append(params["DelaySeconds"])
            self.drain_messages.append(
                read_drain_message({"body": params["MessageBody"], "messageId": f"m{len(self.sent_for)}"})
            )
            self.urgent.append(params["QueueUrl"].endswith("/drain"))
        return {"MessageId": "m-1"}


def client_over(service: str, engine: Engine) -> Any:
    """A client of botocore that ends at `engine`."""
    real = real_client(service)
    client = object.__new__(type(real))
    client.__dict__.update(real.__dict__)  # making one takes longer than most tests

    def make_api_call(operation: str, params: dict[str, Any]) -> Any:
        validate_parameters(params, client.meta.service_model.operation_model(operation).input_shape)
        try:
            return engine(operation, params)
        except Refused as refused:
            error = client.exceptions.from_code(refused.code)
            reasons = [{"Code": code} for code in refused.reasons or []]
            answer = {"Error": {"Code": refused.code, "Message": "test"}, "CancellationReasons": reasons}
            raise error(answer, operation) from None

    client._make_api_call = make_api_call
    return client


@contextmanager
def flow[F: Flow](kind: type[F]) -> Iterator[F]:
    """One of these, and what it counts."""
    flow = kind()

    def note(name: str, unit: object, value: float, **_: object) -> None:
        assert unit
        flow.metrics[name] += int(value)

    with patch.object(metrics, "add_metric", note):
        yield flow
        assert flow.may_break or not flow.metrics["InternalErrors"]


def waiting(event_id: str, *, at_ms: int = NOW_MS, accepted_at_ms: int = NOW_MS, **more: Any) -> PendingEvent:
    return PendingEvent(event(event_id, at_ms=at_ms, accepted_at_ms=accepted_at_ms), **more)


def refuse_writes(table: Table, *, of: str) -> None:
    """DynamoDB takes every write of a table but those to the partition that begins so."""
    client: Any = table.client
    names = {"put_item": "Item", "update_item": "Key", "delete_item": "Key"}

    def judge(name: str, **request: Any) -> Any:
        if request[names[name]]["pk"]["S"].startswith(of):
            raise Throttled
        return getattr(client.behind, name)(**request)

    def in_batch(**request: Any) -> Any:
        asked = str(request["RequestItems"])
        if f"'{of}" in asked:
            raise Throttled
        return client.behind.batch_write_item(**request)

    for name in names:
        client.answers[name] = lambda name=name, **request: judge(name, **request)
    client.answers["batch_write_item"] = in_batch
