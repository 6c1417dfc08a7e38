"""Faults: what can go wrong with a call, and a world in which it goes wrong once, at one call of a story.

    with FaultWorld(Strike(Fault.DIES_AFTER, 17)) as world:
        story.play(world)
        world.settle(at_most=HOUR)
        print(world.verdict())

While the story runs an audit watches each call, see `audit`; at its end the world says what does not hold.
"""

import logging
import random
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self
from unittest.mock import patch

from botocore.exceptions import ReadTimeoutError

from lms_webhooks.admin import webhooks
from lms_webhooks.admin.deliveries import Deliveries
from lms_webhooks.admin.inputs import ReplayInput, WebhookPatch
from lms_webhooks.admin.problems import Problem, problem_for
from lms_webhooks.admin.rate_limit import SendRateLimit
from lms_webhooks.admin.replays import ReplayService
from lms_webhooks.admin.webhooks import WebhookService
from lms_webhooks.aws.sqs import DrainQueue
from lms_webhooks.errors import StoreError, UnreadableWebhook
from lms_webhooks.model.attempts import ErrorClass
from lms_webhooks.model.events import read_sort_key
from lms_webhooks.model.health import Health
from lms_webhooks.model.notifications import NotificationKind
from lms_webhooks.observability import logger
from lms_webhooks.sending.sender import PostResult, Timeouts
from lms_webhooks.sending.webhook_request import WebhookRequest
from lms_webhooks.stores import backlog
from lms_webhooks.stores.backlog import Backlog
from lms_webhooks.stores.deliveries import DeliveryStore
from lms_webhooks.stores.replays import ReplayState, ReplayStore
from tests.faults.audit import Audit, Key, written
from tests.scenarios.endpoints import Endpoint
from tests.scenarios.world import ACCOUNT, MINUTE, Call, Function, Handler, World, admin_of

ADMIN = admin_of(ACCOUNT)

_OUTAGE_SECONDS = 30.0
_STALL_SECONDS = 25.0  # what botocore may take for four tries that all time out
_SHARDS = 2  # of the due markers. A sweep's reads of sixteen are all alike, and each is a point to fail at
_GIVEN_UP_AFTER = 4  # more tries, see `dynamodb`
_BATCHES = {"BatchWriteItem", "BatchGetItem", "SendMessageBatch"}
_READS = {"GetItem", "Query", "BatchGetItem", "Decrypt"}
CONFLICTING = {"PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems"}
"""What DynamoDB refuses where a transaction holds an item."""
_HELD_SECONDS = 0.1  # by a transaction: some times what one takes
_HELD_LONG_SECONDS = 6.0  # DynamoDB brings one that stands still to an end after five (its API model)


class Fault(StrEnum):
    """What goes wrong at one call. At a POST, no response stands for a refusal."""

    DIES_BEFORE = "dies before"
    DIES_AFTER = "dies after"
    REFUSED = "refused"
    ANSWER_LOST = "answer lost"
    """It takes effect, and then times out."""
    REPEATED = "repeated"
    """It takes effect, its response is lost, and botocore repeats it."""
    PARTLY_DONE = "partly done"
    """A batch of which some is left unprocessed."""
    PARTLY_FOR_GOOD = "partly, for good"
    """The same, at each repetition again."""
    OUTAGE = "outage"
    """From this call on AWS refuses everything for half a minute."""
    STALLS = "stalls"
    """The call takes as long as botocore lets it."""
    CONFLICTS = "conflicts"
    """Somebody's transaction holds the items of a write, for as long as one usually takes."""
    CONFLICTS_FOR_GOOD = "conflicts, for good"
    """The same, for longer than anybody tries."""
    COMES_AGAIN = "comes again"
    """Not a call, an invocation: all is well with it, and then its messages are not deleted."""


def applies(fault: Fault, service: str, operation: str) -> bool:
    """Whether a fault can happen to such a call, and is something else there than another one."""
    match fault:
        case Fault.PARTLY_DONE | Fault.PARTLY_FOR_GOOD:
            return operation in _BATCHES
        case Fault.ANSWER_LOST:
            return operation not in _READS  # of a read nobody can tell it from a refusal
        case Fault.REPEATED:
            # botocore gives a transaction a token, so that a repeated one is done once.
            return service != "POST" and operation not in _READS | {"TransactWriteItems"}
        case Fault.OUTAGE:
            return service != "POST"
        case Fault.CONFLICTS | Fault.CONFLICTS_FOR_GOOD:
            return operation in CONFLICTING
        case _:
            return fault is not Fault.COMES_AGAIN


@dataclass(frozen=True)
class Strike:
    """A fault, and the number of the call that it hits (or of the invocation, for `COMES_AGAIN`)."""

    fault: Fault
    at: int


def settle_in() -> None:
    """Make a process fit for a FaultWorld: few shards, and no log, for many faults are many lines."""
    logger.setLevel(logging.CRITICAL)
    backlog.SHARDS = _SHARDS


@dataclass
class Admin:
    """The admin API without its HTTP, wired as its function wires it."""

    webhooks: WebhookService
    replays: ReplayService


class FaultWorld(World):
    """A world where one call goes wrong. It remembers how each event must end, and who may come twice."""

    def __init__(self, strike: Strike | None = None, *, seed: int = 0, retention_days: int = 1) -> None:
        super().__init__(retention_days=retention_days, jitter=random.Random(seed).random())
        self.strike = strike
        self.is_struck = False
        self.seen: list[tuple[str, str]] = []
        """Service and operation of each call that can be hit."""
        self.invocations = 0
        self.what_was_hit = ""
        self.audit = Audit(self)
        self.expected: dict[tuple[str, str], set[str]] = {}
        self.resent: Counter[tuple[str, str]] = Counter()
        """How often an admin wanted a delivery once more."""
        self.counts_repeats = True
        """Whether no more may come twice than `may_repeat` says."""
        self.may_repeat: set[str] = set()
        """The events that were in flight when the fault struck."""
        self.asking = 0
        """How many calls of the admin API are without a response yet."""
        self.owners: dict[str, str] = {}
        """The webhook whose receiver is at a URL."""
        self.must_quarantine = 0
        self.must_tell: set[tuple[str, NotificationKind]] = set()
        """The webhooks whose owners must hear of something, and of what: once, if nothing goes wrong."""
        self._counts = True
        self._outage_until = 0.0
        self._held_until: dict[Key, float] = {}
        self._was_held_for_good = False
        self._left_undone = 0
        self._webhook_ids = 0
        self._asks: deque[Callable[[Admin], object]] = deque()
        self.functions["admin_api"] = Function("admin_api", self._build_admin)
        self.taps.append(self._maybe_strike)
        random.seed(seed)
        self._patches = ExitStack()
        self._patches.callback(logger.setLevel, logger.log_level)
        self._patches.callback(setattr, backlog, "SHARDS", backlog.SHARDS)
        settle_in()
        self._patches.enter_context(patch.object(webhooks, "new_webhook_id", self._next_webhook_id))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._patches.close()

    # What a story does

    def register(self, endpoint: Endpoint | str, **more: Any) -> str:
        """Register a webhook. Each has receivers of its own."""
        webhook_id = super().register(endpoint, **more)
        self.owners[self.webhooks[webhook_id].target_url] = webhook_id
        return webhook_id

    def prelude(self, seconds: float) -> None:
        """Let time pass in which nothing goes wrong."""
        self._counts = False
        self.run(seconds)
        self._counts = True

    def expect(self, webhook_id: str, event_ids: Iterable[str], *outcomes: str) -> None:
        """Each of these deliveries must end in one of these ways."""
        self.expected |= {(webhook_id, event_id): set(outcomes) for event_id in event_ids}

    def ask_admin(self, call: Callable[[Admin], object]) -> None:
        """Call the admin API as a client does that repeats a call until it gets no 5xx, and makes
        the next one then."""
        self.asking += 1
        self._asks.append(call)
        if len(self._asks) == 1:
            self._ask()

    def _ask(self) -> None:
        def hear(answer: dict[str, Any] | None) -> None:
            if answer is None or answer["status"] >= 500:
                self.time.at(self.now + 1, self._ask)
                return
            self.asking -= 1
            self._asks.popleft()
            if self._asks:
                self._ask()

        self._invoke("admin_api", {"call": self._asks[0]}, hear)

    def resend_one(self, webhook_id: str, event_id: str) -> None:
        """An admin wants a delivery once more."""
        (sort_key,) = (
            item["sk"]["S"]
            for item in self.audit.partition(f"DELIVERY#{webhook_id}")
            if f"#{event_id}\t" in item["sk"]["S"]
        )
        self._resend(
            webhook_id, [event_id], lambda admin: admin.replays.redeliver(ADMIN, webhook_id, sort_key)
        )

    def resend_all(self, webhook_id: str, event_ids: Iterable[str]) -> None:
        """An admin wants all of the history once more, which is `event_ids`."""
        wanted = ReplayInput.model_validate({"from": "2000-01-01T00:00:00Z"})
        self._resend(webhook_id, event_ids, lambda admin: admin.replays.start(ADMIN, webhook_id, wanted))

    def move(self, webhook_id: str, endpoint: Endpoint) -> None:
        """An admin changes the URL."""
        self.owners[endpoint.url] = webhook_id
        rule = {"loopback_allowed": False}
        change = WebhookPatch.model_validate({"targetUrl": endpoint.url}, context=rule)
        self.ask_admin(lambda admin: admin.webhooks.update(ADMIN, webhook_id, change))

    def keep_health(self, webhook_id: str, health: Health) -> None:
        """Begin with a health that would have taken long to come about."""
        self._health.save(self.webhooks[webhook_id].account_id, webhook_id, health, revision=health.revision)

    def _resend(self, webhook_id: str, event_ids: Iterable[str], call: Callable[[Admin], object]) -> None:
        self.resent.update((webhook_id, event_id) for event_id in event_ids)
        calls = 0

        def count_and_call(admin: Admin) -> None:
            nonlocal calls
            calls += 1
            if calls > 1:  # asked twice, sent twice
                self.may_repeat |= set(event_ids)
            call(admin)

        self.ask_admin(count_and_call)

    def settle(self, *, at_most: float) -> None:
        """Let time pass until nothing is left to do, and a little longer."""
        self.run_while(self._is_busy, at_most=at_most)
        self.run(2 * MINUTE)

    # What came of it

    def verdict(self) -> list[str]:
        """What does not hold, now that all has settled."""
        problems = [*self.problems(), *self.audit.problems]
        if self.conflicts_given_up and not self._was_held_for_good:
            problems.append("given up: a write that a transaction held up for a moment")
        if len(self.quarantined) < self.must_quarantine:
            problems.append("lost: a malformed message is not in quarantine")
        told = Counter((notice["webhookId"], NotificationKind(notice["kind"])) for notice in self.told)
        problems += [f"lost: nobody was told of {kind}" for _, kind in self.must_tell - told.keys()]
        if self.strike is None:
            problems += [f"told twice: {kind}" for of, kind in self.must_tell if told[of, kind] > 1]
        for webhook_id in self.webhooks:
            problems += [f"stranded: a mark without an event in {lane}" for lane in self.marks(webhook_id)]
            problems += [f"left over: {each}" for each in self.waiting_ids(webhook_id)]
            problems += self._unfinished(webhook_id)
            problems += self._wrong_outcomes(webhook_id)
        return list(dict.fromkeys(problems))

    def taken(self, webhook_id: str) -> Counter[str]:
        """How often a webhook's receivers acknowledged each event."""
        return self.audit.taken[webhook_id]

    def repeats(self) -> int:
        """How many events came more often than they should have."""
        return sum(
            max(0, times - 1 - self.resent[webhook_id, event_id])
            for webhook_id in self.webhooks
            for event_id, times in self.taken(webhook_id).items()
        )

    def _wrong_outcomes(self, webhook_id: str) -> Iterable[str]:
        history = self.history(webhook_id)
        taken = self.taken(webhook_id)
        for (of, event_id), outcomes in self.expected.items():
            if of != webhook_id:
                continue
            recorded = history.get(event_id)
            if recorded is None and (of, event_id) in self.refused:
                continue
            if recorded is None:
                yield f"lost: {event_id} has no outcome"
            elif recorded.outcome not in outcomes:
                yield f"wrong: {event_id} {recorded.outcome} ({recorded.reason})"
        for event_id, recorded in history.items():
            wanted = 1 + self.resent[webhook_id, event_id]
            allowed = wanted + (event_id in self.may_repeat)
            if recorded.outcome == "delivered" and taken[event_id] < wanted:
                yield f"lost: {event_id} came {taken[event_id]} times, not {wanted}"
            if recorded.outcome == "delivered" and len(recorded.statuses) < wanted:
                yield f"lost: an attempt of {event_id}, of which {recorded.statuses} are on record"
            if taken[event_id] > allowed and self.counts_repeats:
                yield f"duplicate: {event_id} came {taken[event_id]} times, not {allowed}"

    def _unfinished(self, webhook_id: str) -> Iterable[str]:
        item = self.audit.health_item(webhook_id)
        if "lease_until_ms" in item and int(item["lease_until_ms"]["N"]) >= self.now * 1000:
            yield "stranded: a lease that nobody gave back"
        replay = ReplayStore(self._table("deliveries")).find(webhook_id)
        if replay is not None and replay.state is ReplayState.RUNNING:
            yield f"stranded: a replay at {replay.position}"

    # How it works

    def _next_webhook_id(self) -> str:
        self._webhook_ids += 1
        return f"wh_{self._webhook_ids:022d}"  # a run must be the same as the one before it

    def _is_busy(self) -> bool:
        return bool(
            self.realtime_queue.messages
            or self.batch_queue.messages
            or any(queue.in_flight for queue in self.drain_queues)
            or any(self.audit.partition(f"DUE#{shard}") for shard in range(_SHARDS))
            or self.audit.partition("NOTICES")
            or self.asking
        )

    def _do_dynamodb_call(self, operation: str, params: dict[str, Any]) -> dict[str, Any]:
        return self.audit.dynamodb(operation, params)

    def _post(self, message: WebhookRequest, timeouts: Timeouts) -> PostResult:
        with self.audit.post(message):
            return super()._post(message, timeouts)

    def _invoke(
        self, name: str, event: dict[str, Any], then: Callable[[dict[str, Any] | None], None]
    ) -> None:
        if "Records" not in event:
            super()._invoke(name, event, then)
            return
        self.invocations += 1
        is_hit = self.strike == Strike(Fault.COMES_AGAIN, self.invocations)

        def end(answer: dict[str, Any] | None) -> None:
            if is_hit:
                self._note_hit(f"invocation of {name}")
            then(None if is_hit else answer)
            self.audit.look()

        super()._invoke(name, event, end)

    def _maybe_strike(self, call: Call, proceed: Callable[[], Any]) -> Any:
        if self.now < self._outage_until and call.service != "POST":
            raise self.aws_error("InternalServerError", call)
        if self._left_undone and call.operation in _BATCHES:
            self._left_undone -= 1
            return self._do_partly(call, proceed, 0)
        held = self._held(call)
        if held:
            return self._refuse_held(call, held, proceed)
        if not self._counts:
            return proceed()
        self.seen.append((call.service, call.operation))
        if (
            self.strike is None
            or len(self.seen) != self.strike.at
            or not applies(self.strike.fault, call.service, call.operation)
        ):
            return proceed()
        self._note_hit(f"{call.function}'s {call.operation} {_subject(call)}")
        try:
            return self._hit(self.strike.fault, call, proceed)
        finally:
            self.may_repeat |= self.audit.in_flight(call.process)

    def _note_hit(self, what: str) -> None:
        self.is_struck = True
        self.what_was_hit = what
        self.may_repeat |= self.audit.in_flight()

    def _hit(self, fault: Fault, call: Call, proceed: Callable[[], Any]) -> Any:
        if fault in (Fault.DIES_AFTER, Fault.ANSWER_LOST, Fault.REPEATED):
            proceed()
        match fault:
            case Fault.DIES_BEFORE | Fault.DIES_AFTER:
                return self.die(call)
            case Fault.REPEATED:
                return proceed()
            case Fault.STALLS:
                self.time.sleep(_STALL_SECONDS)
                return proceed()
            case Fault.PARTLY_DONE | Fault.PARTLY_FOR_GOOD:
                self._left_undone = _GIVEN_UP_AFTER if fault is Fault.PARTLY_FOR_GOOD else 0
                return self._do_partly(call, proceed, 0.5)
            case Fault.CONFLICTS | Fault.CONFLICTS_FOR_GOOD:
                self._was_held_for_good |= fault is Fault.CONFLICTS_FOR_GOOD
                seconds = _HELD_LONG_SECONDS if fault is Fault.CONFLICTS_FOR_GOOD else _HELD_SECONDS
                until = self.now + seconds
                self._held_until = dict.fromkeys(written(call.operation, call.params), until)
                return self._refuse_held(call, set(self._held_until), proceed)
            case Fault.OUTAGE:
                self._outage_until = self.now + _OUTAGE_SECONDS
                self.time.at(self._outage_until, self._end_outage)
        if call.service == "POST":
            return PostResult(
                None, ErrorClass.TIMEOUT if fault is Fault.ANSWER_LOST else ErrorClass.CONNECT, 10
            )
        if fault is Fault.ANSWER_LOST:
            raise ReadTimeoutError(endpoint_url="https://aws.test")
        raise self.aws_error("ThrottlingException", call)

    def _held(self, call: Call) -> set[Key]:
        """The items of a write that somebody's transaction holds at this moment."""
        if call.service != "dynamodb" or not self._held_until:
            return set()
        keys = written(call.operation, call.params)
        return {key for key in keys if self.now < self._held_until.get(key, 0)}

    def _refuse_held(self, call: Call, held: set[Key], proceed: Callable[[], Any]) -> Any:
        """Refuse a write as DynamoDB does. Of a batch nobody says what comes: it is left unprocessed here."""
        if call.operation == "BatchWriteItem":
            return self._do_partly(call, proceed, 0)
        is_transaction = call.operation == "TransactWriteItems"
        code = "TransactionCanceledException" if is_transaction else "TransactionConflictException"
        reasons = [
            {"Code": "TransactionConflict" if key in held else "None"}
            for key in written(call.operation, call.params)
        ]
        error = self._dynamodb.exceptions.from_code(code)
        raise error(
            {"Error": {"Code": code, "Message": "test"}, "CancellationReasons": reasons}, call.operation
        )

    def _end_outage(self) -> None:
        self.may_repeat |= self.audit.in_flight()

    def _do_partly(self, call: Call, proceed: Callable[[], Any], share: float) -> Any:
        """Do the first of what a batch asks for, and leave the rest."""
        if call.operation == "SendMessageBatch":
            entries: Sequence[Any] = call.params["Entries"]
            done = int(len(entries) * share)
            call.params["Entries"] = entries[:done]
            if done:
                proceed()
            return {"Successful": [], "Failed": [{"Id": each["Id"]} for each in entries[done:]]}
        ((table, asked),) = call.params["RequestItems"].items()
        if call.operation == "BatchWriteItem":
            done = int(len(asked) * share)
            call.params["RequestItems"] = {table: asked[:done]}
            if done:
                proceed()
            return {"UnprocessedItems": {table: asked[done:]}}
        keys = asked["Keys"]
        done = int(len(keys) * share)
        call.params["RequestItems"] = {table: {**asked, "Keys": keys[:done]}}
        answer = proceed() if done else {"Responses": {table: []}}
        # Who cannot see what is delivered may send it again.
        self.may_repeat |= {
            read_sort_key(key["sk"]["S"])[1]
            for key in keys[done:]
            if key["pk"]["S"].startswith("DELIVERY#")  # states of webhooks are read so too
        }
        return {**answer, "UnprocessedKeys": {table: {**asked, "Keys": keys[done:]}}}

    def _build_admin(self) -> Handler:
        store = self._store()
        table = self._table("deliveries")
        waiting = Backlog(table, retention_days=self._retention_days)
        queue = DrainQueue(self._sqs, *self._drain_queues)
        deliveries = Deliveries(store, DeliveryStore(table, retention_days=30), waiting)
        limit = SendRateLimit(self._table("webhooks"), clock=self.time.clock)
        admin = Admin(
            self._build_webhook_service(sleep=self.time.sleep),
            ReplayService(
                store,
                deliveries,
                waiting,
                ReplayStore(table, sleep=self.time.sleep),
                queue,
                limit,
                clock=self.time.clock,
            ),
        )

        def handle(event: dict[str, Any], _: Callable[[], int]) -> dict[str, Any]:
            try:
                event["call"](admin)
            except Problem as problem:
                return {"status": problem.status}
            except StoreError as error:
                return {"status": problem_for(error).status}
            except UnreadableWebhook:
                return {"status": 500}
            return {"status": 200}

        return handle


def _subject(call: Call) -> str:
    """What a call is about, for people: the partition or the table."""
    params = call.params
    for key in (params.get("Key"), params.get("Item"), params.get("ExpressionAttributeValues")):
        for name in ("pk", ":pk"):
            if key and name in key:
                return str(key[name]["S"])
    return ""
