"""A single write whose item a transaction holds is tried again, wherever the product makes one.

`SITES` are found in the source, so that a new write cannot be forgotten here: each needs its driver.
"""

import ast
import os
import secrets
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.moto_api._internal import mock_random

from lms_webhooks.admin.activity import ActivityStore
from lms_webhooks.admin.caller import Caller, Change
from lms_webhooks.admin.idempotency import Claim, Idempotency, StoredResponse
from lms_webhooks.admin.rate_limit import SendRateLimit
from lms_webhooks.admin.subscriptions import Subscriptions
from lms_webhooks.aws import clients
from lms_webhooks.aws.dynamodb import KeyRange, Table, conditional_write, item_key, key_item
from lms_webhooks.aws.kms import SecretCipher
from lms_webhooks.errors import AWS_ERRORS
from lms_webhooks.model.attempts import Attempt
from lms_webhooks.model.deliveries import Delivery, Outcome
from lms_webhooks.model.health import Health, enter_backlog_mode
from lms_webhooks.model.lanes import Lane, PendingEvent
from lms_webhooks.model.notifications import Notification, NotificationKind
from lms_webhooks.stores.backlog import Backlog
from lms_webhooks.stores.deliveries import DeliveryStore
from lms_webhooks.stores.health import HealthStore, Ticket
from lms_webhooks.stores.outbox import NotificationOutbox
from lms_webhooks.stores.replays import Replay, ReplayStore
from lms_webhooks.stores.webhooks import WebhookStore
from operations import erase, restore
from tests.engines.dynamodb import REGION
from tests.unit.admin_client import NOW, AdminClient, admin_client, make_table
from tests.unit.held_items import SINGLE_WRITES, held_items, is_called_from
from tests.unit.tables import NOW_MS, event, webhook

REPOSITORY = Path(__file__).resolve().parents[3]
PACKAGE = REPOSITORY / "layers" / "core" / "lms_webhooks"
SOURCES = [
    path
    for folder in (PACKAGE, REPOSITORY / "functions", REPOSITORY / "operations")
    for path in sorted(folder.rglob("*.py"))
]
METHODS = {"put_item", "update_item", "delete_item"}
LONGEST_WAITS = [0.05, 0.1, 0.2, 0.4, 0.4, 0.4, 0.4]
"""Of random ones, before each try but the first. Together 2 s: drainers and dispatchers have 5 s to end."""


class Site(NamedTuple):
    """Where the product makes a single write."""

    name: str
    path: str
    first_line: int
    last_line: int


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """The calls of methods in a module, each with the name of the class and method around it."""

    def walk(node: ast.AST, around: str) -> Iterator[tuple[str, ast.Call]]:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            around = f"{around}.{node.name}"
        if isinstance(node, ast.Call):
            yield around, node
        for child in ast.iter_child_nodes(node):
            yield from walk(child, around)

    yield from walk(ast.parse(path.read_text()), path.stem)


def method_of(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else ""


def sites() -> list[Site]:
    found: list[Site] = []
    seen: Counter[str] = Counter()
    for path in SOURCES:
        for around, call in calls(path):
            if method_of(call) in METHODS:
                seen[around] += 1
                name = around if seen[around] == 1 else f"{around} {seen[around]}"
                found.append(Site(name, str(path), call.lineno, call.end_lineno or call.lineno))
    return found


SITES = sites()
WEBHOOK = webhook().webhook_id
IDS = ("1010", WEBHOOK)
OK = Attempt(NOW_MS, 40, 204, None)
AGAIN = Attempt(NOW_MS + 1000, 40, 204, None)
ADA = Caller(account_id="1010", user_id="ada", can_write=True)
REPLAY = Replay("rp_1", "1010", WEBHOOK, KeyRange("0", "9"), None, None, NOW_MS, "ada")


@dataclass(frozen=True)
class Stage:
    """The two tables with one webhook, by the client that the functions have."""

    webhooks: Table
    deliveries: Table

    @property
    def backlog(self) -> Backlog:
        return Backlog(self.deliveries, retention_days=7)

    @property
    def history(self) -> DeliveryStore:
        return DeliveryStore(self.deliveries, retention_days=30, sleep=lambda _: None)

    @property
    def health(self) -> HealthStore:
        return HealthStore(self.webhooks)

    @property
    def replays(self) -> ReplayStore:
        return ReplayStore(self.deliveries)

    @property
    def system(self) -> restore.System:
        return restore.System(self.webhooks.client, self.webhooks.name, self.deliveries.name, 7)

    @property
    def idempotency(self) -> Idempotency:
        key_id = boto3.client("kms").create_key()["KeyMetadata"]["KeyId"]
        return Idempotency(self.webhooks, SecretCipher(clients.kms(), key_id), clock=NOW.timestamp)

    def claim(self) -> Claim:
        claim = self.idempotency.claim(ADA, "order 66", path="/v1/webhooks", body="{}")
        assert isinstance(claim, Claim)
        return claim

    def mark(self, lane: Lane = Lane.REALTIME, *, due_at_ms: int = 9) -> bool:
        return self.backlog.set_marker(*IDS, lane, accepted_at_ms=NOW_MS, due_at_ms=due_at_ms)

    def record(self) -> None:
        delivery = Delivery(WEBHOOK, event(), Outcome.FAILED, (OK,))
        self.history.record([delivery], recorded_at_seconds=NOW_MS // 1000)

    def acquire(self) -> Health | None:
        return self.health.acquire(*IDS, owner="me", now_ms=NOW_MS, until_ms=NOW_MS + 70)

    def contents(self) -> dict[Any, Any]:
        """All that stands in the tables, but for what KMS encrypts in another way each time."""
        return {
            (table.name, *item_key(item)): {
                name: value for name, value in item.items() if name != "fingerprint_ciphertext"
            }
            for table in (self.webhooks, self.deliveries)
            for item in table.client.scan(TableName=table.name)["Items"]
        }


@contextmanager
def stage() -> Iterator[Stage]:
    with mock_aws():
        client = clients.dynamodb()
        for name in ("webhooks", "deliveries"):
            make_table(client, name)
        WebhookStore(client, "webhooks").create(webhook())
        yield Stage(Table(client, "webhooks"), Table(client, "deliveries"))


@pytest.fixture(autouse=True)
def region(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The longest that each wait may be, in order. None of them is waited for."""
    longest: list[float] = []

    def draw(_: float, most: float) -> float:
        longest.append(most)
        return 0.0

    monkeypatch.setattr("lms_webhooks.aws.clients.random.uniform", draw)
    return longest


# One driver a site: makes the write, and answers what its caller got.


def clear_marker(stage: Stage) -> object:
    stage.mark()
    return stage.backlog.clear_marker(stage.backlog.markers(WEBHOOK)[Lane.REALTIME])


def mark_for_an_earlier_event(stage: Stage) -> object:
    stage.mark(due_at_ms=9)
    return stage.mark(due_at_ms=3)


def set_due(stage: Stage) -> object:
    stage.mark(Lane.RETRY)
    return stage.backlog.set_due(stage.backlog.markers(WEBHOOK)[Lane.RETRY], 7)


def claim_lane(stage: Stage) -> object:
    stage.mark()
    return stage.backlog.claim(stage.backlog.markers(WEBHOOK)[Lane.REALTIME], "me", now_ms=0, until_ms=1)


def add_attempt_to_a_waiting_event(stage: Stage) -> object:
    waiting = PendingEvent(event())
    stage.backlog.append(WEBHOOK, Lane.REALTIME, [waiting])
    return stage.backlog.add_attempt(WEBHOOK, Lane.REALTIME, waiting, AGAIN)


def remove_one_that_was_sent_again(stage: Stage) -> object:
    stage.replays.redeliver(*IDS, PendingEvent(event()), stage.backlog, asked_at_ms=NOW_MS)
    return stage.backlog.remove(WEBHOOK, Lane.REPLAY, stage.backlog.read(WEBHOOK, Lane.REPLAY, limit=1))


def record_a_failure(stage: Stage) -> object:
    delivery = Delivery(WEBHOOK, event(), Outcome.EXPIRED, (), "too old")
    return stage.history.record_unless_delivered([delivery], recorded_at_seconds=NOW_MS // 1000)


def add_attempt_to_a_delivery(stage: Stage) -> object:
    stage.record()
    return stage.history.add_attempt(
        [(WEBHOOK, event(), ())], AGAIN, is_delivered=True, recorded_at_seconds=NOW_MS // 1000
    )


def add_the_same_attempt_to_a_delivery(stage: Stage) -> object:
    """It is there already, so only the outcome is written."""
    stage.record()
    return stage.history.add_attempt(
        [(WEBHOOK, event(), ())], OK, is_delivered=True, recorded_at_seconds=NOW_MS // 1000
    )


def save_health(stage: Stage) -> object:
    fallen = enter_backlog_mode(Health(webhook().epoch), now_ms=NOW_MS)
    return stage.health.save(*IDS, fallen, revision=0)


def take_ticket(stage: Stage) -> object:
    return stage.health.take_ticket(*IDS, Ticket("t", NOW_MS), now_ms=NOW_MS)


def drop_ticket(stage: Stage) -> None:
    take_ticket(stage)
    stage.health.drop_ticket(*IDS, "t")


def release(stage: Stage) -> object:
    health = stage.acquire()
    assert health is not None
    return stage.health.release(*IDS, owner="me", health=health, before=health)


def remove_notice(stage: Stage) -> None:
    box = NotificationOutbox(stage.deliveries)
    notice = Notification(*IDS, "HR", NotificationKind.FAILING, "key", 1, NOW_MS, NOW_MS, "HTTP 500")
    box.put(notice)
    box.remove(notice)


def cancel_replay(stage: Stage) -> object:
    stage.replays.start(REPLAY, stage.backlog)
    return stage.replays.cancel(WEBHOOK, ended_at_ms=NOW_MS)


def advance_replay(stage: Stage) -> object:
    stage.replays.start(REPLAY, stage.backlog)
    return stage.replays.advance(REPLAY, "5", read=3, delivered=2, rejected=1, ended_at_ms=0)


def forget_replay(stage: Stage) -> None:
    stage.replays.start(REPLAY, stage.backlog)
    stage.replays.delete(WEBHOOK)


def claim(stage: Stage) -> None:
    stage.claim()


def finish_claim(stage: Stage) -> None:
    stage.claim().finish(StoredResponse(201, {}, "{}"))


def give_up_claim(stage: Stage) -> None:
    stage.claim().release()


def record_activity(stage: Stage) -> None:
    caller = Caller(
        "1010", "ada", can_write=True, changes=[Change("webhook.delete", (), {"webhookId": WEBHOOK})]
    )
    ActivityStore(stage.webhooks, clock=NOW.timestamp).record(caller)


def keep_a_body(stage: Stage) -> None:
    keys = [event().sort_key]
    stage.history.keep_body(*IDS, keys, OK, "no", recorded_at_seconds=NOW_MS // 1000)


def count_a_send(stage: Stage) -> None:
    SendRateLimit(stage.webhooks, clock=NOW.timestamp).consume("1010")


def subscribe(stage: Stage) -> object:
    topic_arn = boto3.client("sns").create_topic(Name="notices")["TopicArn"]
    limit = SendRateLimit(stage.webhooks, clock=NOW.timestamp)
    subscriptions = Subscriptions(stage.webhooks, clients.sns(), topic_arn, limit, now=lambda: NOW)
    return subscriptions.add(ADA, "eve@example.com").email


def erase_an_event(stage: Stage) -> None:
    stage.record()
    sort_key = event().sort_key
    key = f"DELIVERY#{WEBHOOK}", sort_key
    found = erase.Found(key_item(key), sort_key, WEBHOOK, None)
    erase.erase(stage.deliveries.client, stage.deliveries.name, found)


def make_health(stage: Stage) -> object:
    key = {"pk": {"S": "ACCOUNT#1010"}, "sk": {"S": f"HEALTH#{WEBHOOK}"}}
    stage.webhooks.delete_all([(key["pk"]["S"], key["sk"]["S"])])
    return restore.make_health(stage.system, applying=True)


def bring_back_a_delivery(stage: Stage) -> object:
    make_table(stage.deliveries.client, "copy")
    copy = DeliveryStore(Table(stage.deliveries.client, "copy"), retention_days=30)
    copy.record([Delivery(WEBHOOK, event(), Outcome.FAILED, (OK,))], recorded_at_seconds=NOW_MS // 1000)
    return restore.bring_deliveries(stage.system, "copy", applying=True)


DRIVERS: dict[str, Callable[[Stage], object]] = {
    "backlog.Backlog.set_marker": Stage.mark,
    "backlog.Backlog.clear_marker": clear_marker,
    "backlog.Backlog.add_attempt": add_attempt_to_a_waiting_event,
    "backlog.Backlog._remove_sent_again": remove_one_that_was_sent_again,
    "backlog.Backlog._advance": mark_for_an_earlier_event,
    "backlog.Backlog._set": set_due,
    "backlog.Backlog.claim": claim_lane,
    "deliveries.DeliveryStore._add_attempt": add_attempt_to_a_delivery,
    "deliveries.DeliveryStore._add_attempt 2": add_the_same_attempt_to_a_delivery,
    "deliveries.DeliveryStore.keep_body": keep_a_body,
    "deliveries.DeliveryStore._put_unless_delivered": record_a_failure,
    "health.HealthStore.acquire": Stage.acquire,
    "health.HealthStore.release": release,
    "health.HealthStore._save": save_health,
    "health.HealthStore.take_ticket": take_ticket,
    "health.HealthStore.drop_ticket": drop_ticket,
    "outbox.NotificationOutbox.remove": remove_notice,
    "replays.ReplayStore.cancel": cancel_replay,
    "replays.ReplayStore.advance": advance_replay,
    "replays.ReplayStore.delete": forget_replay,
    "activity.ActivityStore.record": record_activity,
    "idempotency.Claim.finish": finish_claim,
    "idempotency.Claim.release": give_up_claim,
    "idempotency.Idempotency._put": claim,
    "rate_limit.SendRateLimit._save": count_a_send,
    "subscriptions.Subscriptions._put": subscribe,
    "erase.erase": erase_an_event,
    "restore.make_health": make_health,
    "restore._put_if_missing": bring_back_a_delivery,
}
UNWRITTEN = {(WEBHOOK, event().sort_key)}
NOT_RAISED: dict[str, object] = {
    "deliveries.DeliveryStore._add_attempt": UNWRITTEN,
    "deliveries.DeliveryStore._add_attempt 2": UNWRITTEN,
    "deliveries.DeliveryStore._put_unless_delivered": UNWRITTEN,
    "deliveries.DeliveryStore.keep_body": None,
    "activity.ActivityStore.record": None,
    "idempotency.Claim.finish": None,
    "idempotency.Claim.release": None,
}
"""Where a fault does not reach the caller: those who write many say which are not written. A response of
the admin API that could not be kept for a repetition is returned all the same. A change is made
though its activity could not be written."""


class Told(NamedTuple):
    """What a driver got, what the tables have then, and how often the write was tried."""

    answer: object
    contents: dict[Any, Any]
    tries: int


def tell(site: Site, *, refusals: int) -> Told:
    # Ids and tokens as in the telling before, so that the tables can be compared.
    numbers = count()
    with pytest.MonkeyPatch.context() as patch, stage() as world:
        patch.setattr(secrets, "token_urlsafe", lambda _=16: f"token-{next(numbers)}")
        patch.setattr(secrets, "token_hex", lambda _=4: f"{next(numbers):08x}")
        mock_random.seed(0)
        with held_items(refusals=refusals, is_meant=lambda: is_called_from(*site[1:])) as held:
            answer = DRIVERS[site.name](world)
        return Told(answer, world.contents(), held.tries)


def test_every_single_write_of_the_product_is_driven_here() -> None:
    assert DRIVERS.keys() == {site.name for site in SITES}


@pytest.mark.parametrize("site", SITES, ids=lambda site: site.name)
def test_a_write_waits_for_a_transaction_and_is_made(site: Site, waits: list[float]) -> None:
    calm = tell(site, refusals=0)
    held = tell(site, refusals=2)
    assert calm.tries > 0, "the driver gets there"
    assert held.tries == calm.tries + 2
    assert waits == LONGEST_WAITS[:2]
    assert held[:2] == calm[:2]


@pytest.mark.parametrize("site", SITES, ids=lambda site: site.name)
def test_a_write_that_is_held_for_good_is_a_fault_in_bounded_time(site: Site, waits: list[float]) -> None:
    if site.name in NOT_RAISED:
        assert tell(site, refusals=99).answer == NOT_RAISED[site.name]
    else:
        with pytest.raises(AWS_ERRORS) as raised:
            tell(site, refusals=99)
        assert clients.is_conflict(raised.value)
    assert waits == LONGEST_WAITS


ONCE: Any = {
    "TableName": "webhooks",
    "Item": {"pk": {"S": "LIMIT#1"}, "sk": {"S": "SENDS"}},
    "ConditionExpression": "attribute_not_exists(pk)",
}


def test_other_refusals_are_not_repeated() -> None:
    with stage() as world, held_items(refusals=0) as held:
        for _ in range(2):
            conditional_write(lambda: world.webhooks.client.put_item(**ONCE), world.webhooks.client)
    assert held.tries == 2, "the second finds an item there, which no wait changes"


def test_botocore_by_itself_does_not_repeat_them() -> None:
    """The day it does, ours is not needed any more."""
    with mock_aws():
        client = boto3.client("dynamodb", config=Config(retries={"mode": "standard"}))
        with held_items(refusals=99) as held, pytest.raises(ClientError) as raised:
            client.delete_item(TableName="none", Key={"pk": {"S": "p"}, "sk": {"S": "s"}})
    assert clients.is_conflict(raised.value)
    assert held.tries == 1


def test_of_all_that_the_product_calls_only_single_writes_collide() -> None:
    """By DynamoDB's API model neither a batch nor a read does. A transaction is cancelled instead, see
    `transact`. The product makes no transactional reads."""
    model = boto3.client("dynamodb", region_name=REGION).meta.service_model
    operations_by_error: dict[str, set[str]] = defaultdict(set)
    for name in model.operation_names:
        for shape in model.operation_model(name).error_shapes:
            operations_by_error[shape.name].add(name)
    assert operations_by_error["TransactionConflictException"] == SINGLE_WRITES | {"ExecuteStatement"}
    assert operations_by_error["TransactionCanceledException"] == {
        "TransactWriteItems",
        "TransactGetItems",
        "ExecuteTransaction",
    }
    called = {(method_of(call), around) for path in SOURCES for around, call in calls(path)}
    others = {"transact_get_items", "execute_statement", "batch_execute_statement", "execute_transaction"}
    assert not others & {method for method, _ in called}
    assert {around for method, around in called if method == "transact_write_items"} == {"dynamodb.transact"}


@pytest.mark.slow
def test_every_client_of_dynamodb_repeats_them() -> None:
    made = {
        (path.stem, around): ast.unparse(call)
        for path in SOURCES
        for around, call in calls(path)
        if method_of(call) in {"client", "create_client", "resource"}
        and [each.value for each in call.args if isinstance(each, ast.Constant)] == ["dynamodb"]
    }
    wrapped = {
        (path.stem, around): ast.unparse(call)
        for path in SOURCES
        for around, call in calls(path)
        if isinstance(call.func, ast.Name) and call.func.id == "retry_conflicts"
    }
    assert made
    assert made.keys() == wrapped.keys()
    assert all(text in wrapped[where] for where, text in made.items())


@pytest.fixture
def admin() -> Iterator[AdminClient]:
    with admin_client("conflicts") as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "body", "headers"),
    [
        ("POST", "/v1/webhooks", {}, {"idempotency-key": "order 66"}),
        ("POST", "/v1/webhooks/{}/test", {}, {}),
        ("POST", "/v1/notice-subscriptions", {"email": "eve@example.com"}, {}),
        ("DELETE", "/v1/webhooks/{}/replay", None, {}),
    ],
    ids=["a keyed call", "a test send", "a subscription", "the end of a replay"],
)
def test_a_call_of_the_admin_api_that_is_held_up_for_good_may_be_made_again(
    admin: AdminClient, method: str, path: str, body: Any, headers: dict[str, str]
) -> None:
    created = admin.create()
    webhook_id = str(created.body["webhookId"])
    if path == "/v1/webhooks":
        body = {"name": "second", "targetUrl": "https://hooks.example.com/"} | {
            name: created.body[name] for name in ("authentication", "events", "status")
        }
    if path.endswith("/replay"):
        started = {"from": "2026-11-03T11:00:00Z", "to": "2026-11-03T11:59:00Z"}
        assert admin.call("POST", path.format(webhook_id), started).status == 202
    with held_items(refusals=99):
        answer = admin.call(method, path.format(webhook_id), body, headers=headers)
    assert answer.status == 503
    assert answer.body["type"].endswith(":busy")
    assert answer.headers["Retry-After"] == "1"
    assert admin.call(method, path.format(webhook_id), body, headers=headers).status < 300
