"""The whole delivery side in one process and in fake time: the real code, wired as the functions wire it.

    with World() as world:
        endpoint = world.endpoint()
        webhook = world.register(endpoint)
        endpoint.script = always(DOWN)
        world.emit(100)
        world.run(60)

Every call of AWS and every POST of the functions goes through `World._call`: `world.taps` see each, and may
delay it, refuse it, let the process die before it or after it. The test's own calls are not tapped.
"""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Self, cast
from unittest.mock import patch

import boto3
from botocore.exceptions import ClientError
from botocore.validate import validate_parameters
from pydantic import BaseModel
from pydantic.alias_generators import to_camel

from lms_webhooks.admin import rate_limit
from lms_webhooks.admin.batch_schedules import BatchSchedules
from lms_webhooks.admin.caller import Caller
from lms_webhooks.admin.inputs import WebhookInput, WebhookPatch
from lms_webhooks.admin.rate_limit import SendRateLimit
from lms_webhooks.admin.retries import RetryService, RetryState
from lms_webhooks.admin.webhooks import WebhookService
from lms_webhooks.aws import clients
from lms_webhooks.aws.dynamodb import Table
from lms_webhooks.aws.kms import SecretCipher
from lms_webhooks.aws.sqs import (
    DrainMessage,
    DrainQueue,
    QuarantineQueue,
    SweepQueue,
    read_drain_message,
)
from lms_webhooks.batch.notifier import Notifier
from lms_webhooks.batch.sweep import Sweep, sweep_for
from lms_webhooks.clocks import Clocks
from lms_webhooks.dispatcher.dispatcher import Dispatcher
from lms_webhooks.drainer.drain_run import DrainRun
from lms_webhooks.drainer.drainer import Drainer
from lms_webhooks.drainer.outcomes import OutcomeRecorder
from lms_webhooks.drainer.purge import THREADS
from lms_webhooks.drainer.replay_runner import ReplayRunner
from lms_webhooks.errors import AWS_ERRORS
from lms_webhooks.model.event_types import EVENT_TYPES, Category
from lms_webhooks.model.health import Health
from lms_webhooks.model.lanes import DueMarker, Lane, PendingEvent
from lms_webhooks.model.webhooks import Status, Webhook
from lms_webhooks.observability import metrics
from lms_webhooks.sending.sender import PostResult, Sender, Timeouts
from lms_webhooks.sending.webhook_client import SendKind, WebhookClient
from lms_webhooks.sending.webhook_request import WebhookRequest
from lms_webhooks.stores import backlog
from lms_webhooks.stores import deliveries as delivery_store
from lms_webhooks.stores.backlog import Backlog
from lms_webhooks.stores.deliveries import DeliveryStore
from lms_webhooks.stores.health import TICKET_GRACE_SECONDS, HealthStore, health_key
from lms_webhooks.stores.items import read_attempts, read_event_id
from lms_webhooks.stores.outbox import NotificationOutbox
from lms_webhooks.stores.replays import ReplayStore
from lms_webhooks.stores.webhook_cache import WebhookCache
from lms_webhooks.stores.webhook_states import WebhookStates
from lms_webhooks.stores.webhooks import WebhookStore
from tests.contract.privileges import missing
from tests.contract.template import (
    FUNCTIONS,
    PARAMETERS,
    QUEUES,
    RULES,
    event_sources,
    folder_of,
    most_at_once,
)
from tests.scenarios.endpoints import Endpoint, Post, answer_of
from tests.scenarios.fake_time import FakeTime, Killed, Process, Threads
from tests.scenarios.queues import Message as QueuedMessage
from tests.scenarios.queues import Queue, event_ids_in
from tests.scenarios.tables import Refused, Tables
from tests.unit.admin_client import make_table

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

START = datetime(2026, 11, 3, 12, tzinfo=UTC).timestamp()
ACCOUNT = "1010"
REAL_TIME = "COURSE_COMPLETED"
NON_REAL_TIME = "COURSE_COMPLETED_BATCH"
UNSIGNED = {"type": "none"}
SIGNED = {"type": "signature"}
"""Its requests are signed, with a secret that KMS has to decrypt."""
MINUTE = 60.0
HOUR = 3600.0
DAY = 86_400.0

_SOURCE = str(PARAMETERS["EventSource"]["Default"])
WEBHOOKS = "webhooks"
_DELIVERIES = "deliveries"
_DRAIN_URL = "https://sqs.test/drain"
_SWEEP_URL = "https://sqs.test/sweep"
_BACKGROUND_DRAIN_URL = "https://sqs.test/background-drain"
_QUARANTINE_URL = "https://sqs.test/quarantine"
_NOTICE_TOPIC = "arn:aws:sns:us-east-1:123456789012:notices"
_CALL_SECONDS = 0.004  # of AWS, there and back
_REPEATED_SECONDS = _CALL_SECONDS * 1.01  # after it, what is sent is no call that botocore repeats
_LAG_SECONDS = 1.0  # of an eventually consistent read: "usually within one second or less" (DynamoDB guide)
BATCH_EVERY_MINUTES = int(PARAMETERS["BatchEveryMinutes"]["Default"])
_BACKLOG_DAYS = int(PARAMETERS["BacklogRetentionDays"]["Default"])
_HISTORY_DAYS = int(PARAMETERS["DeliveryRetentionDays"]["Default"])
_SWEEP_SECONDS = {"rate(1 minute)": 60}[RULES["BatchSweepSchedule"]["ScheduleExpression"]]
_TIMEOUT_SECONDS = {folder_of(name): function["Timeout"] for name, function in FUNCTIONS.items()}
_EVENT_SOURCES = {queue: (folder_of(function), source) for function, queue, source in event_sources()}
_READS = {"GetItem", "Query", "BatchGetItem", "Decrypt", "POST"}
_OPERATIONS = {
    *_READS, "PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems",
    "SendMessage", "SendMessageBatch", "Publish",
}  # fmt: skip
"""What functions ask of AWS. All else comes by botocore's own methods, and is refused."""


@dataclass(frozen=True)
class Call:
    """One call of AWS, or one POST (service and operation are `POST`), as a tap sees it."""

    number: int
    process: Process
    function: str
    service: str
    operation: str
    params: dict[str, Any]


type Tap = Callable[[Call, Callable[[], Any]], Any]
"""Gets a call, and what does it. Returns what the caller gets."""
type Engine = Callable[[str, dict[str, Any]], dict[str, Any]]
"""Does what a service does: an operation and its parameters in, the response out."""
type Handler = Callable[[dict[str, Any], Callable[[], int]], dict[str, Any]]


@dataclass(frozen=True)
class Recorded:
    """One delivery of the history."""

    item: dict[str, Any]

    @property
    def outcome(self) -> str:
        """How it ended."""
        outcome: str = self.item["outcome"]["S"]
        return outcome

    @property
    def reason(self) -> str:
        """Why, if it was not delivered."""
        reason: str = self.item.get("reason", {"S": ""})["S"]
        return reason

    @property
    def statuses(self) -> list[int | None]:
        """Of its attempts; None where there was no response."""
        return [attempt.status_code for attempt in read_attempts(self.item["attempts"])]


@dataclass(frozen=True)
class _OnItsWay:
    """A drain message that nobody has received yet."""

    message_id: str
    ticket: str
    until: float
    """When it is taken for lost."""
    repeated_until: float
    """Until then one with its ticket is the same, sent again by botocore."""


class Environment(Process):
    """One execution environment of a function: what its cold start built."""

    def __init__(self, function: str, handler: Handler) -> None:
        super().__init__(function)
        self.handler = handler
        self.ends_at = 0.0
        """When its invocation is killed, if it runs that long."""
        self.event: dict[str, Any] = {}
        """What its invocation got."""


@dataclass
class Function:
    """A function, and its environments that wait for the next invocation."""

    name: str
    build: Callable[[], Handler]
    idle: list[Environment] = field(default_factory=list)
    """They are frozen."""

    @property
    def timeout_seconds(self) -> float:
        """When an invocation is killed."""
        return float(_TIMEOUT_SECONDS[self.name])

    def environment(self, now: float) -> Environment:
        """A warm one, or a cold start."""
        if not self.idle:
            return Environment(self.name, self.build())
        environment = self.idle.pop()
        environment.thaw(now)
        return environment

    def give_back(self, environment: Environment, now: float) -> None:
        """An invocation is over. Unless its environment is dead, it stands still until the next one."""
        if not environment.is_dead:
            environment.freeze(now)
            self.idle.append(environment)


class World:
    """Everything from the queues to the receivers. A context manager.

    `moto` keeps the tables in moto instead of `tables`; `sender` really sends instead of to `endpoints`.
    """

    def __init__(
        self,
        *,
        retention_days: int = _BACKLOG_DAYS,
        jitter: float = 0.0,
        tables: Engine | None = None,
        sender: Sender | None = None,
    ) -> None:
        self.time = FakeTime(START)
        self.clocks = Clocks(wall=self.time.clock, monotonic=self.time.monotonic)
        """What functions go by."""
        self.draw_skew: Callable[[], float] = lambda: 0.0
        """By how many seconds the clock of a new environment is ahead."""
        self.most_skew_seconds = 0.0
        """The most that two clocks differ."""
        self.taps: list[Tap] = []
        self.jitter = jitter
        self.endpoints: dict[str, Endpoint] = {}
        self.emitted: dict[str, str] = {}
        """The names of the accepted events, by id."""
        self.webhooks: dict[str, Webhook] = {}
        """As registered last, by id; deleted ones as they were."""
        self.refused: set[tuple[str, str]] = set()
        """Webhook and event ids: what a test knows to be taken by nobody."""
        self.metrics: Counter[str] = Counter()
        """The sum of each."""
        self.may_break = False
        """An item or a test does what this version does not expect. Otherwise an internal error is a bug."""
        self.denied: set[str] = set()
        """What functions did that their roles do not allow. Nothing, or the scenario fails."""
        self.deaths = 0
        self.calls_of_the_dead: list[str] = []
        """What code tried to do after the death of its process: nothing, if it is right."""
        self.calls = 0
        self.second_messages: list[str] = []
        """Drain messages that were sent beside what may be on its way to their webhook: none, if it is right.

        Drainers and the sweep send one at a time to a webhook that is there. It is on its way from when it is
        sent until somebody receives it, or until it is taken for lost. The message that somebody has in hand
        is not counted, nor is one whose ticket a change of its webhook has ended. To a deleted webhook each
        goes under the claim of a lane. Who has no ticket, a dispatcher or the admin API, sends one for each
        mark that it made, or for each call."""
        self.conflicts_given_up = 0
        """Single writes whose item a transaction held for as long as they were tried."""
        self._on_their_way: dict[str, list[_OnItsWay]] = {}
        """The messages of each webhook that are on their way."""
        self._used_before_sent: dict[str, int] = {}
        """How many claims of a webhook were used by another message before their own was sent."""
        self._marks_made: Counter[tuple[str, Process, float]] = Counter()
        """How many marks of a webhook, for which no message was sent yet, an invocation made."""
        self._sent_without_ticket: dict[tuple[str, Process, float], float] = {}
        """Until when the last such message of an invocation may be sent again by botocore."""
        self._retention_days = retention_days
        self._sender = sender
        self._writes = 0
        self._swept_writes = -1
        self._known_marks: list[DueMarker] | None = None
        """All that there are, unless something was written since."""
        self._nothing_before = 0.0
        self._bodies: dict[str, str] = {}
        self._accounts: dict[str, str] = {}
        self._accepted_at: dict[str, float] = {}
        self._running: dict[Environment, None] = {}
        """In the order in which they began: that of a set is another one in each process."""
        self._opening: ExitStack = ExitStack()
        memory = Tables(WEBHOOKS, _DELIVERIES, clock=lambda: self.now, lag_seconds=_LAG_SECONDS)
        self._memory = None if tables else memory
        self._engine = tables or memory.call
        self._lagging_engine = tables or memory.call_lagging
        self._found: dict[str, tuple[object, list[str]]] = {}
        """The problems of each webhook, and what they were found in."""
        self._opening.enter_context(patch.object(metrics, "add_metric", self._note_metric))
        self._dynamodb = self._client("dynamodb")
        self._sqs = self._client("sqs")
        self._kms = self._client("kms")
        self._sns = self._client("sns")
        self._opening.enter_context(
            patch.object(delivery_store, "ThreadPoolExecutor", lambda _: Threads(self.time))
        )
        builds = {
            "dispatcher": self._build_dispatcher,
            "drainer": self._build_drainer,
            "batch": self._build_batch,
        }
        # A scenario has hundreds of webhooks made within a minute.
        self._opening.enter_context(patch.object(rate_limit, "SENDS_A_MINUTE", 100_000))
        self.functions = {name: Function(name, build) for name, build in builds.items()}
        self.realtime_queue = self._queue("RealtimeQueue")
        self.batch_queue = self._queue("BatchQueue")
        self.drain_queue = self._queue("DrainQueue")
        self.background_drain_queue = self._queue("BackgroundDrainQueue")
        self._drain_queues = {
            _DRAIN_URL: self.drain_queue,
            _BACKGROUND_DRAIN_URL: self.background_drain_queue,
        }
        self.sweep_queue = self._queue("SweepQueue")
        self.no_sweeps_until = 0.0
        self.quarantined: list[str] = []
        self.told: list[dict[str, Any]] = []
        """What owners were sent, as programs get it."""
        # The test's own way to what admins do, and to the tables. The admin API's answer waits until all see
        # a change; a test's does not, for what happens meanwhile is a scenario of its own.
        self._webhook_service = self._build_webhook_service(sleep=lambda _: None)
        self._backlog = Backlog(self._table(_DELIVERIES), retention_days=retention_days)
        self._notice_box = NotificationOutbox(self._table(_DELIVERIES))
        self._health = HealthStore(self._table(WEBHOOKS))
        self.time.at(START + _SWEEP_SECONDS, self._sweep)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.time.close()
        self._opening.close()
        assert kind or not self.denied, f"more than the template allows: {self.denied}"
        errors = self.metrics["InternalErrors"]
        assert kind or self.may_break or not errors, f"{errors} internal errors: see the log"

    # What a test does

    @property
    def now(self) -> float:
        """Fake seconds since 1970."""
        return self.time.now

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.time.run_until(self.now + seconds)

    def run_while(self, condition: Callable[[], bool], *, at_most: float) -> None:
        """Let time pass until `condition` is false."""
        end = self.now + at_most
        while condition():
            moment = self.time.next_moment()
            assert moment is not None, "nothing happens any more"
            assert moment <= end, f"still so after {at_most} s"
            self.time.run_until(moment)

    def run_until_quiet(self, *, at_most: float = 10 * MINUTE) -> None:
        """Let time pass until no event stands in a queue or a lane."""
        self.run_while(self._is_busy, at_most=at_most)
        self.run(2)  # for what is still to be written down

    def endpoint(self, name: str = "hooks") -> Endpoint:
        """A receiver that responds 200 by default."""
        url = f"https://{name}.example.com/"
        return self.endpoints.setdefault(url, Endpoint(url))

    def register(
        self,
        endpoint: Endpoint | str,
        *,
        account: str = ACCOUNT,
        events: Sequence[str] = (REAL_TIME, NON_REAL_TIME),
        status: Status = Status.ACTIVE,
        ordered: bool = False,
        authentication: Mapping[str, str] = UNSIGNED,
        batch_schedule: Mapping[str, object] | None = None,
    ) -> str:
        """Register a webhook as the admin API does; return its id."""
        wanted = _taken(
            WebhookInput,
            name="test",
            target_url=endpoint if isinstance(endpoint, str) else endpoint.url,
            authentication=authentication,
            events=events,
            status=status,
            ordered=ordered,
            **({"batch_schedule": batch_schedule} if batch_schedule else {}),
        )
        webhook = self._webhook_service.create(admin_of(account), wanted)[0].webhook
        self.webhooks[webhook.webhook_id] = webhook
        # They came before it.
        self.refused |= {(webhook.webhook_id, event_id) for event_id in self.emitted}
        return webhook.webhook_id

    def change(self, webhook_id: str, **changes: Any) -> None:
        """Change a registration as the admin API does."""
        admin = admin_of(self.webhooks[webhook_id].account_id)
        change = _taken(WebhookPatch, **changes)
        self.webhooks[webhook_id] = self._webhook_service.update(admin, webhook_id, change)[0].webhook

    def rotate_secret(self, webhook_id: str) -> None:
        """Make a new signing secret as the admin API does."""
        admin = admin_of(self.webhooks[webhook_id].account_id)
        self.webhooks[webhook_id] = self._webhook_service.rotate_secret(admin, webhook_id)[0].webhook

    def retry(self, webhook_id: str) -> RetryState:
        """Probe its endpoint now, as the admin API does."""
        service = RetryService(
            self._store(),
            self._health,
            self._backlog,
            DrainQueue(self._sqs, _DRAIN_URL, _BACKGROUND_DRAIN_URL),
            SendRateLimit(self._table(WEBHOOKS), clock=self.time.clock),
            clock=self.time.clock,
        )
        return service.retry(admin_of(self.webhooks[webhook_id].account_id), webhook_id).state

    def delete(self, webhook_id: str) -> None:
        """Delete a webhook as the admin API does."""
        self._webhook_service.delete(admin_of(self.webhooks[webhook_id].account_id), webhook_id)

    def emit(
        self,
        count: int = 1,
        *,
        name: str = REAL_TIME,
        account: str = ACCOUNT,
        occurred_at: float | None = None,
        accepted_at: float | None = None,
        prefix: str = "e",
        data_bytes: int = 0,
    ) -> list[str]:
        """Let the LMS emit `count` events, a millisecond of their own time apart; return their ids.

        With `accepted_at` their messages come late.
        """
        event_ids = []
        is_real_time = EVENT_TYPES[name].category is Category.REAL_TIME
        queue = self.realtime_queue if is_real_time else self.batch_queue
        first_ms = int((self.now if occurred_at is None else occurred_at) * 1000)
        for index in range(count):
            event_id = f"{prefix}{len(self.emitted):06d}"
            self.emitted[event_id] = name
            self._accounts[event_id] = account
            self._bodies[event_id] = event_message(
                event_id, name, first_ms + index, account, data_bytes=data_bytes
            )
            self._accepted_at[event_id] = self.now if accepted_at is None else accepted_at
            queue.send(self._bodies[event_id], accepted_at=accepted_at)
            event_ids.append(event_id)
        return event_ids

    def duplicate(self, event_id: str, *, name: str = REAL_TIME, delay_seconds: float = 0) -> None:
        """Deliver an event's message once more. It keeps the time that it was sent at first."""
        queue = self.realtime_queue if name == REAL_TIME else self.batch_queue
        queue.send(
            self._bodies[event_id], delay_seconds=delay_seconds, accepted_at=self._accepted_at[event_id]
        )

    def rewrite(self, table: str, pk: str, sk: str, /, **attributes: Any) -> dict[str, Any]:
        """Write attributes over those of an item, as a newer version or damage would; return the old item."""
        self.may_break = True
        old = self.stored(table, pk, sk)
        assert old is not None
        self._dynamodb.put_item(TableName=table, Item={**old, **attributes})
        return old

    def put(self, webhook_id: str, lane: Lane, *waiting: PendingEvent) -> None:
        """Append to a lane, and mark it, as no message of an event does."""
        account_id = self.webhooks[webhook_id].account_id
        assert not self._backlog.append(webhook_id, lane, waiting)
        accepted_at_ms = min(each.event.accepted_at_ms for each in waiting)
        self._backlog.set_marker(account_id, webhook_id, lane, accepted_at_ms=accepted_at_ms)

    def send_for_drainer(self, webhook_id: str, *, delay_seconds: float = 0) -> None:
        """A drain message that nobody of ours sent."""
        ids = {"accountId": self.webhooks[webhook_id].account_id, "webhookId": webhook_id}
        self.drain_queue.send(json.dumps(ids), delay_seconds=delay_seconds)

    @property
    def drain_queues(self) -> list[Queue]:
        """The urgent one, and that of the background."""
        return [*self._drain_queues.values()]

    def waiting_drain_messages(self) -> list[Any]:
        """Those that no drainer has in hand."""
        return [message for queue in self.drain_queues for message in queue.waiting]

    @contextmanager
    def drainers_busy(self) -> Iterator[None]:
        """Nobody takes drain messages."""
        with ExitStack() as stack:
            for queue in self.drain_queues:
                stack.enter_context(queue.held())
            yield

    def lose_drain_messages(self) -> int:
        """Forget every one that nobody works at; return how many."""
        return sum(queue.lose_all() for queue in self.drain_queues)

    def kill(self, function: str) -> int:
        """Kill every process of a function that runs at the moment; return how many there were."""
        running = [process for process in self._running if process.name == function]
        for process in running:
            self._die(process)
        return len(running)

    def die(self, call: Call) -> None:
        """For a tap: the process that makes `call` dies here."""
        self._die(call.process)
        raise Killed

    def aws_error(self, code: str, call: Call) -> ClientError:
        """What botocore raises when AWS returns `code`."""
        return ClientError({"Error": {"Code": code, "Message": "test"}}, call.operation)

    @contextmanager
    def fault(
        self,
        *services: str,
        function: str | None = None,
        operations: Sequence[str] = (),
        code: str = "ThrottlingException",
    ) -> Iterator[None]:
        """AWS returns nothing but errors: of these services, to this function or to all, for these operations
        or for all."""

        def refuse(call: Call, proceed: Callable[[], Any]) -> Any:
            is_meant = function in (None, call.function) and (not operations or call.operation in operations)
            if call.service in services and is_meant:
                raise self.aws_error(code, call)
            return proceed()

        self.taps.append(refuse)
        try:
            yield
        finally:
            self.taps.remove(refuse)

    # What a test sees

    def health(self, webhook_id: str) -> Health:
        """How its endpoint does."""
        health = self._health.read(self.webhooks[webhook_id].account_id, webhook_id)
        assert health is not None
        return health

    def waiting(self, webhook_id: str, lane: Lane = Lane.REALTIME) -> list[PendingEvent]:
        """What stands in a lane, in order."""
        return [each for page in self._backlog.read_all(webhook_id, lane) for each in page]

    def waiting_ids(self, webhook_id: str, *lanes: Lane) -> list[str]:
        """The ids of what stands in these lanes, or in all."""
        return [each.event.event_id for lane in lanes or Lane for each in self.waiting(webhook_id, lane)]

    def marks(self, webhook_id: str) -> dict[Lane, DueMarker]:
        """Its due markers."""
        return self._backlog.markers(webhook_id)

    def history(self, webhook_id: str) -> dict[str, "Recorded"]:
        """What is recorded of its deliveries, by event id."""
        items = self._partition(f"DELIVERY#{webhook_id}")
        return {read_event_id(item, item["sk"]["S"]): Recorded(item) for item in items}

    def items_of(self, webhook_id: str) -> list[dict[str, Any]]:
        """What the deliveries table has of a webhook, but where events stood in the retry lane."""
        partitions = [f"DELIVERY#{webhook_id}", *(f"BACKLOG#{webhook_id}#{lane}" for lane in Lane)]
        partitions += [f"{kind}#{webhook_id}" for kind in ("REPLAY", "NOTICE")]
        items = [item for partition in partitions for item in self._partition(partition)]
        assert self.marks(webhook_id) == {}
        return items

    def stored(self, table: str, pk: str, sk: str) -> dict[str, dict[str, Any]] | None:
        """What stands at a key, read past the taps."""
        answer = self._tables("GetItem", {"TableName": table, "Key": {"pk": {"S": pk}, "sk": {"S": sk}}})
        return answer.get("Item")

    def put_past_the_taps(self, table: str, item: dict[str, Any]) -> None:
        """Let an item stand there, as if it always had."""
        self._tables("PutItem", {"TableName": table, "Item": item})

    def outcomes(self, webhook_id: str) -> Counter[str]:
        """How many deliveries ended in which way."""
        return Counter(each.outcome for each in self.history(webhook_id).values())

    def posts(self) -> list[Post]:
        """Every POST, in the order in which they began."""
        return sorted(
            (post for endpoint in self.endpoints.values() for post in endpoint.posts),
            key=lambda post: post.started_at,
        )

    def duplicates(self) -> int:
        """How many events were acknowledged more than once, counted each time more."""
        taken = Counter(
            (endpoint.url, event_id)
            for endpoint in self.endpoints.values()
            for event_id in endpoint.acknowledged
        )
        return sum(taken.values()) - len(taken)

    def _ids_in(self, webhook_id: str, lane: Lane) -> list[str]:
        """As `waiting_ids`, without a look at the events: their sort keys are enough, see `backlog`."""
        items = self._partition(f"BACKLOG#{webhook_id}#{lane}")
        times = 2 if lane is Lane.RETRY else 1  # in the key, before the id
        return [item["sk"]["S"].split("#", times)[times].partition("\t")[0] for item in items]

    def _partition(self, pk: str) -> list[dict[str, Any]]:
        """The items of a partition of the deliveries, in order."""
        pages = self._dynamodb.get_paginator("query").paginate(
            TableName=_DELIVERIES,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": pk}},
            ConsistentRead=True,
        )
        return [item for page in pages for item in page["Items"]]

    def litter(self, webhook_id: str) -> list[str]:
        """What stands in a lane without a mark, though its end is recorded. The next drain removes it."""
        marks = self.marks(webhook_id)
        history = self.history(webhook_id)
        ids = [each for lane in Lane if lane not in marks for each in self.waiting_ids(webhook_id, lane)]
        return [each for each in ids if each in history]

    def problems(self) -> list[str]:
        """What does not hold of what must always hold; right at every moment of every scenario."""
        in_queues = event_ids_in(self.realtime_queue) | event_ids_in(self.batch_queue)
        problems = [f"dead letter: {message.body}" for message in self._dead_letters()]
        problems += [f"a call after death: {call}" for call in self.calls_of_the_dead]
        problems += self.second_messages
        for webhook_id in self.webhooks:
            problems += self._problems_of(webhook_id, in_queues)
        problems += self._overlaps()
        for endpoint in self.endpoints.values():
            problems += [f"out of order: {post.event_ids}" for post in endpoint.posts if not post.is_in_order]
        return problems

    def _problems_of(self, webhook_id: str, in_queues: set[str]) -> list[str]:
        """Those of one webhook. A week asks a hundred thousand times, mostly when another's events moved."""
        webhook, marks = self.webhooks[webhook_id], self.marks(webhook_id)
        now: tuple[object, ...] = (webhook, set(marks), in_queues, len(self.emitted), len(self.refused))
        if self._memory is not None:
            lanes = [f"BACKLOG#{webhook_id}#{lane}" for lane in Lane]
            now = (*now, self._memory.changes(_DELIVERIES, f"DELIVERY#{webhook_id}", *lanes))
            before, problems = self._found.get(webhook_id, ((), []))
            if now == before:
                return problems
        history = self.history(webhook_id)
        waiting = {lane: self._ids_in(webhook_id, lane) for lane in Lane}
        safe = {*in_queues, *history, *(each for ids in waiting.values() for each in ids)}
        problems = [
            f"lost: {event_id} for {webhook.target_url}"
            for event_id, name in self.emitted.items()
            if event_id not in safe
            and name in webhook.events
            and self._accounts[event_id] == webhook.account_id
            and (webhook_id, event_id) not in self.refused
        ]
        # What is safe elsewhere may stand unmarked for a while, or be litter, see `litter`.
        marked = {each for lane in marks for each in waiting[lane]}
        problems += [
            f"stranded: {event_id} in {lane} of {webhook.target_url}, where no mark is"
            for lane, ids in waiting.items()
            if lane not in marks
            for event_id in ids
            if event_id not in marked | in_queues | history.keys()
        ]
        problems += [
            f"without a reason: {event_id} {recorded.outcome}"
            for event_id, recorded in history.items()
            if recorded.outcome != "delivered" and not recorded.reason
        ]
        self._found[webhook_id] = (now, problems)
        return problems

    # How it works

    def _delivery_store(self) -> DeliveryStore:
        # Its rest is as long as a call took by the real clock.
        return DeliveryStore(self._table(_DELIVERIES), retention_days=_HISTORY_DAYS, sleep=lambda _: None)

    def _build_dispatcher(self) -> Handler:
        dispatcher = Dispatcher(
            webhook_cache=self._webhook_cache(),
            health=HealthStore(self._table(WEBHOOKS)),
            deliveries=self._delivery_store(),
            backlog=Backlog(self._table(_DELIVERIES), retention_days=self._retention_days),
            webhook_client=self._webhook_client(SendKind.DIRECT),
            drain_queue=DrainQueue(self._sqs, _DRAIN_URL, _BACKGROUND_DRAIN_URL),
            quarantine=QuarantineQueue(self._sqs, _QUARANTINE_URL),
            event_source=_SOURCE,
            retention_days=self._retention_days,
            batch_every_minutes=BATCH_EVERY_MINUTES,
            clock=self.time.clock,
            clocks=self.clocks,
            jitter=lambda: self.jitter,
        )
        dispatcher._threads = cast("Any", Threads(self.time))

        def handle(event: dict[str, Any], remaining_ms: Callable[[], int]) -> dict[str, Any]:
            unsafe = dispatcher.dispatch(event["Records"], remaining_ms=remaining_ms)
            return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in unsafe]}

        return handle

    def _build_drainer(self) -> Handler:
        webhook_cache = self._webhook_cache()
        backlog = Backlog(self._table(_DELIVERIES), retention_days=self._retention_days)
        deliveries = self._delivery_store()
        recorder = OutcomeRecorder(backlog, deliveries, clock=self.time.clock)
        replay_store = ReplayStore(self._table(_DELIVERIES), sleep=self.time.sleep)
        replays = ReplayRunner(replay_store, deliveries, backlog, clock=self.time.clock)
        drainer = Drainer(
            webhook_cache=webhook_cache,
            health=HealthStore(self._table(WEBHOOKS)),
            backlog=backlog,
            recorder=recorder,
            replays=replays,
            outbox=NotificationOutbox(self._table(_DELIVERIES), sleep=self.time.sleep),
            queue=DrainQueue(self._sqs, _DRAIN_URL, _BACKGROUND_DRAIN_URL),
            new_run=partial(
                DrainRun,
                webhook_cache=webhook_cache,
                backlog=backlog,
                recorder=recorder,
                webhook_client=self._webhook_client(SendKind.BACKLOG),
                replays=replays,
                retention_days=self._retention_days,
                clock=self.time.clock,
                jitter=lambda: self.jitter,
            ),
            clock=self.time.clock,
            sleep=self.time.sleep,
        )
        drainer._purger._threads = cast("Any", Threads(self.time, most=THREADS))

        def handle(event: dict[str, Any], remaining_ms: Callable[[], int]) -> dict[str, Any]:
            failed = drainer.drain_all(event["Records"], remaining_ms=remaining_ms)
            return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}

        return handle

    def _build_batch(self) -> Handler:
        table = self._table(_DELIVERIES)
        backlog = Backlog(table, retention_days=self._retention_days)
        webhook_states = WebhookStates(self._table(WEBHOOKS))
        notifier = Notifier(
            NotificationOutbox(table),
            backlog,
            webhook_states,
            self._sns,
            _NOTICE_TOPIC,
            clock=self.time.clock,
        )
        sweep = Sweep(
            backlog=backlog,
            webhook_states=webhook_states,
            health=HealthStore(self._table(WEBHOOKS)),
            queue=DrainQueue(self._sqs, _DRAIN_URL, _BACKGROUND_DRAIN_URL),
            sweep_queue=SweepQueue(self._sqs, _SWEEP_URL),
            clock=self.time.clock,
            new_start=lambda: (
                f"wh_{int(self.now) % 7919:04x}"
            ),  # elsewhere each time, and the same in each run
        )
        sweep._threads = cast("Any", Threads(self.time))

        def handle(event: dict[str, Any], remaining_ms: Callable[[], int]) -> dict[str, Any]:
            return sweep_for(event, sweep, notifier, remaining_ms=remaining_ms)

        return handle

    def _build_webhook_service(self, *, sleep: Callable[[float], None]) -> WebhookService:
        return WebhookService(
            self._store(),
            SecretCipher(self._kms, "key"),
            DrainQueue(self._sqs, _DRAIN_URL, _BACKGROUND_DRAIN_URL),
            Backlog(self._table(_DELIVERIES), retention_days=self._retention_days),
            SendRateLimit(self._table(WEBHOOKS), clock=self.time.clock),
            BatchSchedules(
                Backlog(self._table(_DELIVERIES), retention_days=self._retention_days),
                every_minutes=BATCH_EVERY_MINUTES,
                clock=self.time.clock,
            ),
            now=lambda: datetime.fromtimestamp(self.time.clock(), UTC),
            sleep=sleep,
        )

    def _webhook_cache(self) -> WebhookCache:
        return WebhookCache(self._store(), clocks=self.clocks)

    def _store(self) -> WebhookStore:
        return WebhookStore(self._dynamodb, WEBHOOKS, sleep=self.time.sleep)

    def _webhook_client(self, kind: SendKind) -> WebhookClient:
        sender = self._sender or cast("Sender", _FakeSender(self))
        secret_box = SecretCipher(self._kms, "key", clocks=self.clocks)
        return WebhookClient(secret_box, sender, kind=kind, clock=self.time.clock)

    def _table(self, name: str) -> Table:
        return Table(self._dynamodb, name, sleep=self.time.sleep)

    def _queue(self, name: str) -> Queue:
        """A queue of the template, and its event source."""
        function, source = _EVENT_SOURCES[name]
        return Queue(
            name,
            self.time,
            lambda records, then: self._invoke(function, {"Records": records}, then),
            visibility_seconds=QUEUES[name]["VisibilityTimeout"],
            batch_size=source["BatchSize"],
            max_receives=QUEUES[name]["RedrivePolicy"]["maxReceiveCount"],
            window_seconds=source.get("MaximumBatchingWindowInSeconds", 0),
            concurrency=most_at_once(source["ScalingConfig"]["MaximumConcurrency"]),
        )

    def _invoke(
        self, name: str, event: dict[str, Any], then: Callable[[dict[str, Any] | None], None]
    ) -> None:
        """Invoke a function as Lambda does: one invocation an environment, killed when its time is over."""
        function = self.functions[name]
        environment = function.environment(self.now)
        if not environment.ends_at:  # it is new
            environment.skew_seconds = self.draw_skew()
        environment.ends_at = ends_at = self.now + function.timeout_seconds
        environment.event = event
        is_over = False
        self._running[environment] = None

        def end(answer: dict[str, Any] | None) -> None:
            nonlocal is_over
            is_over = True
            self._running.pop(environment, None)
            function.give_back(environment, self.now)
            then(answer)

        def run() -> None:
            answer = None
            try:
                answer = environment.handler(event, lambda: int((ends_at - self.now) * 1000))
            except AWS_ERRORS:
                pass  # an invocation that failed; the environment lives on
            finally:
                end(answer if not environment.is_dead else None)

        def time_out() -> None:
            if not is_over:
                self._die(environment)

        self.time.start(environment, run)
        self.time.at(ends_at, time_out)

    def _die(self, process: Process) -> None:
        if not process.is_dead:
            self.deaths += 1
            self.time.kill(process)

    def _client(self, service: str) -> Any:
        """A client of botocore that ends here instead of at AWS."""
        real = real_client(service)
        client = object.__new__(type(real))
        client.__dict__.update(real.__dict__)  # making one costs as much as a scenario
        model = client.meta.service_model
        engines: dict[str, Engine] = {
            "dynamodb": self._dynamodb_call,
            "sqs": self._send_message,
            "kms": self._kms_call,
            "sns": self._publish,
        }

        def make_api_call(operation: str, params: dict[str, Any]) -> Any:
            if service != "dynamodb":  # the tables mind what they get; and it would cost half the time
                validate_parameters(params, model.operation_model(operation).input_shape)

            def act() -> Any:
                try:
                    return engines[service](operation, params)
                except Refused as refused:
                    error = client.exceptions.from_code(refused.code)
                    reasons = [{"Code": code} for code in refused.reasons or []]
                    raise error(
                        {"Error": {"Code": refused.code, "Message": "test"}, "CancellationReasons": reasons},
                        operation,
                    ) from None

            attempts = 1
            while True:  # as botocore's own loop, of which only what is ours is here
                try:
                    return self._call(service, operation, params, act, seconds=_CALL_SECONDS)
                except ClientError as error:
                    response: tuple[object, Any] = (None, error.response)
                    wait_seconds = clients._wait_for_transaction(attempts=attempts, response=response)
                    if wait_seconds is None:
                        self.conflicts_given_up += clients.is_conflict(error)
                        raise
                    self.time.sleep(wait_seconds)
                    attempts += 1

        # Past botocore's own methods and paginators: they take longer than the tables.
        client.__dict__.update(
            (method, partial(_called, make_api_call, operation))
            for method, operation in client.meta.method_to_api_mapping.items()
            if operation in _OPERATIONS
        )
        client._make_api_call = make_api_call
        client.get_paginator = partial(_Paginator, client)
        return client

    def _call(
        self,
        service: str,
        operation: str,
        params: dict[str, Any],
        act: Callable[[], Any],
        *,
        seconds: float,
    ) -> Any:
        """Let a call happen, in the middle of the time that it takes."""
        process = self.time.process
        if operation not in _READS:
            self._writes += 1
        if process is None:
            return act()  # the test's own
        if process.is_dead:
            self.calls_of_the_dead.append(f"{process.name}: {service} {operation}")
            raise Killed

        def travel() -> Any:
            self.time.sleep(seconds / 2)
            answer = act()
            self.time.sleep(seconds / 2)
            return answer

        self.calls += 1
        if service != "POST" and (denied := missing(process.name, service, operation, params)):
            self.denied.update(denied)
        if not self.taps:
            return travel()
        call = Call(self.calls, process, process.name, service, operation, params)
        step: Callable[[], Any] = travel
        for tap in reversed(self.taps):
            step = partial(tap, call, step)
        return step()

    def _post(self, message: WebhookRequest, timeouts: Timeouts) -> PostResult:
        """A POST to a receiver in fake time."""
        process = self.time.process
        assert process is not None

        def act() -> PostResult:
            post = self.endpoints[message.url].receive(message, timeouts, function=process.name, now=self.now)
            self.time.sleep(post.reply.seconds)
            post.ended_at = self.now
            return answer_of(post.reply)

        answer: PostResult = self._call(
            "POST", "POST", {"message": message, "timeouts": timeouts}, act, seconds=0
        )
        return answer

    def _send_message(self, operation: str, params: dict[str, Any]) -> dict[str, Any]:
        entries = params["Entries"] if operation == "SendMessageBatch" else [params]
        if len(entries) > 10 or any(not 0 <= each.get("DelaySeconds", 0) <= 900 for each in entries):
            raise Refused("InvalidParameterValue")
        for entry in entries:
            if params["QueueUrl"] == _QUARANTINE_URL:
                self.quarantined.append(entry["MessageBody"])
            else:
                delay_seconds = entry.get("DelaySeconds", 0)
                queue = {**self._drain_queues, _SWEEP_URL: self.sweep_queue}[params["QueueUrl"]]
                message = queue.send(entry["MessageBody"], delay_seconds=delay_seconds)
                if params["QueueUrl"] in self._drain_queues:
                    self._note_drain_message(message, delay_seconds)
        return {"Successful": [], "Failed": []} if operation == "SendMessageBatch" else {"MessageId": "m"}

    def _note_drain_message(self, sent: QueuedMessage, delay_seconds: float) -> None:
        """See whether a message may be sent beside those that are on their way."""
        process = self.time.process
        message = read_drain_message(sent.record())
        if process is None:
            return
        if process.name not in ("drainer", "batch"):
            self._note_message_without_ticket(process, message)
            return
        if self.stored(WEBHOOKS, *health_key(message.account_id, message.webhook_id)) is None:
            self._note_purge_message(process, sent, message)
            return
        if not message.ticket:
            self.second_messages.append(f"a message of the {process.name} has no ticket: {sent.body}")
        # One by one, for those that replace each other have one ticket.
        waiting = {each.message_id for each in self.waiting_drain_messages()}
        on_their_way = [
            each
            for each in self._on_their_way.get(message.webhook_id, [])
            if each.message_id in waiting and each.until >= self.now + self.most_skew_seconds
        ]
        # botocore sends one twice when the answer to the first call is lost.
        if any(each.ticket != message.ticket or self.now > each.repeated_until for each in on_their_way):
            self.second_messages.append(f"a second message of the {process.name} is on its way: {sent.body}")
        until = self.now + delay_seconds + TICKET_GRACE_SECONDS
        on_its_way = _OnItsWay(sent.message_id, message.ticket, until, self.now + _REPEATED_SECONDS)
        self._on_their_way[message.webhook_id] = [*on_their_way, on_its_way]

    def _note_message_without_ticket(self, process: Process, message: DrainMessage) -> None:
        """See that a dispatcher made a mark for its message, and that one call of an admin sends one."""
        assert isinstance(process, Environment)
        sender = message.webhook_id, process, process.ends_at
        if self.now <= self._sent_without_ticket.get(sender, 0.0):
            return  # botocore sent it again
        is_first = sender not in self._sent_without_ticket
        self._sent_without_ticket[sender] = self.now + _REPEATED_SECONDS
        if process.name == "dispatcher":
            is_first = self._marks_made[sender] > 0
            self._marks_made[sender] -= 1
        if not is_first:
            self.second_messages.append(f"a message of the {process.name} for nothing new: {message}")

    def _note_purge_message(self, process: Process, sent: QueuedMessage, message: DrainMessage) -> None:
        """See that each message for a deleted webhook has the claim of a lane, and each claim one message."""
        claimed = Counter(self._claims(message.webhook_id))
        waiting = {each.message_id for each in self.waiting_drain_messages()}
        on_their_way = [
            each
            for each in self._on_their_way.get(message.webhook_id, [])
            if each.message_id in waiting and each.ticket in claimed
        ]
        others = sum(
            each.ticket == message.ticket and self.now > each.repeated_until for each in on_their_way
        )
        if others >= claimed[message.ticket] + self._used_before_sent.pop(message.webhook_id, 0):
            self.second_messages.append(f"a purge message of the {process.name} has no claim: {sent.body}")
        on_its_way = _OnItsWay(sent.message_id, message.ticket, float("inf"), self.now + _REPEATED_SECONDS)
        self._on_their_way[message.webhook_id] = [*on_their_way, on_its_way]

    def _claims(self, webhook_id: str) -> Iterator[str]:
        """Who has the claims of a deleted webhook's lanes that live."""
        for lane in Lane:
            key = backlog._marker_key(webhook_id, lane)
            mark = self.stored(_DELIVERIES, key["pk"]["S"], key["sk"]["S"])
            if (
                mark
                and int(mark.get("purge_until", {"N": "0"})["N"]) / 1000 >= self.now - self.most_skew_seconds
            ):
                yield mark["purge_owner"]["S"]

    def _note_mark(self, update: dict[str, Any], before: dict[str, Any] | None) -> None:
        """Note who makes the mark of a lane, and whose message has used the claim of a deleted webhook's."""
        process = self.time.process
        key = update["Key"]["pk"]["S"], update["Key"]["sk"]["S"]
        after = self.stored(_DELIVERIES, *key) or {}
        webhook_id = key[1].rpartition("#")[0]
        # Who repeats a call cannot know whether the first one made the mark.
        is_repeated = update["UpdateExpression"].startswith("SET #token") and before == after
        if (before is None or is_repeated) and isinstance(process, Environment):
            self._marks_made[webhook_id, process, process.ends_at] += 1
        if before and "purge_owner" in before and before["purge_owner"] != after.get("purge_owner"):
            used = before["purge_owner"]["S"]
            sent = self._on_their_way.get(webhook_id, [])
            self._on_their_way[webhook_id] = [each for each in sent if each.ticket != used]
            # The sweep's claim is under no name, so a message without a ticket may use it first.
            if not used and not any(each.ticket == used for each in sent):
                self._used_before_sent[webhook_id] = 1

    def _note_ticket(self, webhook_id: str, before: dict[str, Any], after: dict[str, Any]) -> None:
        """See that nobody puts another ticket in the place of one that lives."""
        ticket = before.get("ticket", {"S": ""})["S"]
        if not ticket or after.get("ticket") == before["ticket"]:
            return
        # Used, given up by a sender whom SQS refused, or ended by a change of the webhook.
        left = [each for each in self._on_their_way.get(webhook_id, []) if each.ticket != ticket]
        self._on_their_way[webhook_id] = left
        if "ticket" in after and int(before["ticket_until_ms"]["N"]) >= self.now * 1000:
            self.second_messages.append(f"a ticket of {webhook_id} was replaced while it lived")

    def _dynamodb_call(self, operation: str, params: dict[str, Any]) -> dict[str, Any]:
        actions = [params] if operation == "UpdateItem" else []
        if operation == "TransactWriteItems":
            actions = [each["Update"] for each in params["TransactItems"] if "Update" in each]
        keys = [(each["Key"]["pk"]["S"], each["Key"]["sk"]["S"]) for each in actions]
        marks = [
            (each, self.stored(_DELIVERIES, *key))
            for each, key in zip(actions, keys, strict=True)
            if key[0].startswith("DUE#")
        ]
        keys = [key for key in keys if key[1].startswith("HEALTH#")]
        before = [self.stored(WEBHOOKS, *key) or {} for key in keys]
        answer = self._do_dynamodb_call(operation, params)
        for update, mark in marks:
            self._note_mark(update, mark)
        for key, health in zip(keys, before, strict=True):
            webhook_id = key[1].removeprefix("HEALTH#")
            self._note_ticket(webhook_id, health, self.stored(WEBHOOKS, *key) or {})
        return answer

    def _do_dynamodb_call(self, operation: str, params: dict[str, Any]) -> dict[str, Any]:
        call = self._tables_of_functions if self.time.process else self._tables
        return call(operation, params)

    def _tables(self, operation: str, params: dict[str, Any]) -> dict[str, Any]:
        self._forget_marks(operation)
        return self._engine(operation, params)

    def _tables_of_functions(self, operation: str, params: dict[str, Any]) -> dict[str, Any]:
        self._forget_marks(operation)
        return self._lagging_engine(operation, params)

    def _forget_marks(self, operation: str) -> None:
        if operation not in _READS:
            self._known_marks = None

    def _kms_call(self, operation: str, params: dict[str, Any]) -> dict[str, Any]:
        context = params["EncryptionContext"]
        if operation == "Encrypt":
            sealed = json.dumps([context, params["Plaintext"].decode()], sort_keys=True)
            return {"CiphertextBlob": sealed.encode()}
        sealed_context, plaintext = json.loads(params["CiphertextBlob"])
        if sealed_context != context:
            raise Refused("InvalidCiphertextException")
        return {"Plaintext": plaintext.encode()}

    def _publish(self, operation: str, params: dict[str, Any]) -> dict[str, Any]:
        assert operation == "Publish"
        if params["TopicArn"] != _NOTICE_TOPIC:
            raise Refused("NotFound")  # no account has anybody mailed
        self.told.append(json.loads(json.loads(params["Message"])["default"]))
        return {"MessageId": "n"}

    def _note_metric(self, *, name: str, value: float, **_: object) -> None:
        self.metrics[str(name)] += round(value)

    def _sweep(self) -> None:
        self.time.at(self.now + _SWEEP_SECONDS, self._sweep)
        if self.now < self.no_sweeps_until:
            return
        # A sweep does what the tables and the time tell it. Where they are as they were at the last one,
        # which had nothing to do, and nothing fell due since, this one has nothing to do either.
        if self._writes == self._swept_writes and self.now < self._nothing_before:
            return

        writes, started_at = self._writes, self.now
        self._swept_writes = -1

        def note(answer: dict[str, Any] | None) -> None:
            if answer == {"webhooks": 0}:
                self.time.at(self.now, remember)

        def remember() -> None:
            if any(self._notice_box.read()):
                return
            self._swept_writes = writes
            self._nothing_before = self._next_due(started_at)

        self._invoke("batch", {"task": "sweep"}, note)

    def _next_due(self, after: float) -> float:
        """The next moment at which a sweep may see something new that one that began at `after` did not."""
        times = [
            moment
            for mark in self._all_marks()
            for moment in (
                mark.due_at_ms,
                mark.check_at_ms,
                mark.purge_until_ms + 1,
                *self._health_times(mark),
            )
        ]
        return min((each / 1000 for each in times if each > after * 1000), default=float("inf"))

    def _health_times(self, mark: DueMarker) -> list[int]:
        answer = self._dynamodb.get_item(
            TableName=WEBHOOKS,
            Key={"pk": {"S": f"ACCOUNT#{mark.account_id}"}, "sk": {"S": f"HEALTH#{mark.webhook_id}"}},
            ConsistentRead=True,
        )
        item = answer.get("Item", {})
        # A lease is over a millisecond after its end, and so is a ticket.
        names = ("lease_until_ms", "ticket_until_ms", "next_attempt_at_ms")
        return [int(item[name]["N"]) + 1 for name in names if name in item]

    def _is_busy(self) -> bool:
        return bool(self.realtime_queue.messages or self.batch_queue.messages or self._all_marks())

    def _all_marks(self) -> list[DueMarker]:
        if self._known_marks is None:
            self._known_marks = list(self._backlog.all_markers())
        return self._known_marks

    def _dead_letters(self) -> list[Any]:
        # A dead drain message is no loss: the marks hold what is to be done, and the sweep sends again.
        return [*self.realtime_queue.dead, *self.batch_queue.dead]

    def _overlaps(self) -> Iterator[str]:
        """Drainers that send to one webhook at the same time."""
        for endpoint in self.endpoints.values():
            free_at = 0.0
            for post in endpoint.posts_of("drainer"):
                if post.started_at < free_at:
                    yield f"two drainers at {endpoint.url} at {post.started_at}"
                if post.ended_at is not None:
                    free_at = post.ended_at


def _called(call: Engine, operation: str, **params: Any) -> dict[str, Any]:
    return call(operation, params)


class _Paginator:
    """Stands in for botocore's; `test_tables.py` holds it against that."""

    def __init__(self, client: Any, name: str) -> None:
        self._call = getattr(client, name)

    def paginate(
        self,
        *,
        PaginationConfig: Mapping[str, int] | None = None,  # noqa: N803  # as boto3 has it
        **params: Any,
    ) -> Iterator[dict[str, Any]]:
        """One page after the other, until there are no more or `MaxItems` were read."""
        config = PaginationConfig or {}
        left = config.get("MaxItems", sys.maxsize)
        if "PageSize" in config:
            params["Limit"] = config["PageSize"]
        while True:
            page = self._call(**params)
            if len(page.get("Items", ())) > left:
                page["Items"] = page["Items"][:left]
            yield page
            left -= len(page.get("Items", ()))
            if not left or "LastEvaluatedKey" not in page:
                return
            params["ExclusiveStartKey"] = page["LastEvaluatedKey"]


class _FakeSender:
    def __init__(self, world: World) -> None:
        self._world = world

    def post(self, message: WebhookRequest, *, timeouts: Timeouts) -> PostResult:
        return self._world._post(message, timeouts)


def admin_of(account: str) -> Caller:
    """An admin of an account."""
    return Caller(account_id=account, user_id="ada", can_write=True)


def _taken[Model: BaseModel](model: type[Model], **fields: Any) -> Model:
    """What the admin API takes, from the names and values of Python. A receiver may be on this machine."""
    given = {to_camel(name): value for name, value in fields.items()}
    return model.model_validate(json.loads(json.dumps(given)), context={"loopback_allowed": True})


def event_message(event_id: str, name: str, timestamp_ms: int, account: str, *, data_bytes: int = 0) -> str:
    """An event as EventBridge puts it on a queue."""
    detail = {
        "accountId": int(account),
        "eventId": event_id,
        "eventName": name,
        "timestamp": timestamp_ms,
        "eventInfo": "test",
        "data": {"userId": 7, "note": "x" * data_bytes},
    }
    return json.dumps({"source": _SOURCE, "detail-type": name, "detail": detail})


@lru_cache
def real_client(service: str) -> Any:
    """What botocore makes; it is slow to make."""
    return boto3.client(
        cast("Any", service),
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


def make_tables(client: "DynamoDBClient") -> Engine:
    """The two tables in the DynamoDB of `client`."""
    for name in (WEBHOOKS, _DELIVERIES):
        make_table(client, name)
    call: Engine = cast("Any", client)._make_api_call
    return call
