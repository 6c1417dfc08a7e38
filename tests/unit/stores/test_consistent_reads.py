"""Each read is as consistent as what follows from it needs, as DynamoDB is asked for it.

No stand-in for DynamoDB lags behind its writes. So a read that became eventually consistent, which returns
what stood a moment ago, would go unnoticed anywhere but here.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from lms_webhooks.admin.caller import Caller
from lms_webhooks.admin.rate_limit import SendRateLimit
from lms_webhooks.admin.subscriptions import Subscriptions
from lms_webhooks.aws.dynamodb import KeyRange, Table
from lms_webhooks.drainer.outcomes import OutcomeRecorder
from lms_webhooks.drainer.replay_runner import ReplayRunner
from lms_webhooks.model.lanes import Lane, PendingEvent, ShardPart
from lms_webhooks.stores.backlog import Backlog, parts_of_all_shards
from lms_webhooks.stores.deliveries import DeliveryStore
from lms_webhooks.stores.health import HealthStore
from lms_webhooks.stores.outbox import NotificationOutbox
from lms_webhooks.stores.replays import Replay, ReplayStore
from lms_webhooks.stores.webhook_cache import WebhookCache
from lms_webhooks.stores.webhook_states import WebhookStates
from lms_webhooks.stores.webhooks import WebhookStore
from tests.engines.dynamodb import Engine
from tests.unit.admin_client import VALID, AdminClient, admin_client
from tests.unit.tables import NOW_MS, event, tables, webhook

ADA = Caller("1010", "ada", can_write=True)
WEBHOOK_ID = webhook().webhook_id
ALL = KeyRange("0", ":")
READS = ("GetItem", "Query", "BatchGetItem", "Scan", "TransactGetItems")

SIGNED = {**VALID, "authentication": {"type": "signature"}}

type Read = tuple[str, str, bool]
"""What kind of item, by the beginning of its partition key; the operation; whether it is consistent."""


@dataclass(frozen=True)
class Parts:
    """What reads the tables, and a webhook with a mark in each lane and a replay."""

    webhooks: Table
    deliveries: Table
    registrations: WebhookStore
    history: DeliveryStore
    backlog: Backlog
    replays: ReplayStore


@pytest.fixture
def parts(dynamodb: Engine) -> Iterator[Parts]:
    with tables(dynamodb) as (webhooks, deliveries):
        made = Parts(
            webhooks,
            deliveries,
            WebhookStore(webhooks.client, webhooks.name),
            DeliveryStore(deliveries, retention_days=30),
            Backlog(deliveries, retention_days=7),
            ReplayStore(deliveries),
        )
        made.registrations.create(webhook())
        for lane in (Lane.REALTIME, Lane.BATCH, Lane.RETRY):
            made.backlog.set_marker("1010", WEBHOOK_ID, lane, accepted_at_ms=NOW_MS)
        made.replays.start(
            Replay("rp_1", "1010", WEBHOOK_ID, ALL, None, None, NOW_MS, "ada"),
            made.backlog,
        )
        yield made


def keep_reads(client: Any) -> list[Read]:
    """What is read from now on, by whichever of a client's ways."""
    reads: list[Read] = []

    def keep(params: dict[str, Any], model: Any, **_: Any) -> None:
        if model.name not in READS:
            return
        if model.name == "BatchGetItem":
            for asked in params["RequestItems"].values():
                kinds = {_kind(key["pk"]["S"]) for key in asked["Keys"]}
                reads.extend((kind, model.name, asked.get("ConsistentRead", False)) for kind in sorted(kinds))
            return
        pk = params["Key"]["pk"] if "Key" in params else params["ExpressionAttributeValues"][":pk"]
        operation = "Count" if params.get("Select") == "COUNT" else model.name
        reads.append((_kind(pk["S"]), operation, params.get("ConsistentRead", False)))

    client.meta.events.register("provide-client-params.dynamodb", keep)
    return reads


def _kind(partition: str) -> str:
    return partition.partition("#")[0]


def portion(parts: Parts) -> object:
    return ReplayRunner(parts.replays, parts.history, parts.backlog).next_batch(WEBHOOK_ID, limit=5)


def subscriptions(parts: Parts) -> Subscriptions:
    client: Any = None  # SNS is asked nothing where nobody is subscribed
    return Subscriptions(parts.webhooks, client, "arn:topic", SendRateLimit(parts.webhooks))


MUST_BE_CONSISTENT: list[tuple[str, Callable[[Parts], object], list[tuple[str, str]]]] = [
    (
        "a registration that lags is one that was paused or deleted ten seconds ago",
        lambda parts: WebhookCache(parts.registrations).for_account("1010"),
        [("ACCOUNT", "Query")],
    ),
    (
        "an event that came late would be lost to whom it was for",
        lambda parts: WebhookCache(parts.registrations).deleted("1010", since_ms=0),
        [("TOMBSTONE", "Query")],
    ),
    (
        "an admin reads what they have just written",
        lambda parts: parts.registrations.find("1010", WEBHOOK_ID),
        [("ACCOUNT", "Query")],
    ),
    (
        "what is deleted with If-Match was compared with this",
        lambda parts: parts.registrations.get("1010", WEBHOOK_ID),
        [("ACCOUNT", "GetItem")],
    ),
    (
        "a change of health is made from the last one",
        lambda parts: HealthStore(parts.webhooks).read("1010", WEBHOOK_ID),
        [("ACCOUNT", "GetItem")],
    ),
    (
        "a webhook that is not there is taken for deleted",
        lambda parts: WebhookStates(parts.webhooks).read([("1010", WEBHOOK_ID)]),
        [("ACCOUNT", "BatchGetItem")],
    ),
    (
        "a token that lags is not that of the last append",
        lambda parts: parts.backlog.markers(WEBHOOK_ID),
        [("DUE", "Query")],
    ),
    (
        "a lane that is found empty loses its mark",
        lambda parts: parts.backlog.read(WEBHOOK_ID, Lane.REALTIME, limit=5),
        [("BACKLOG", "Query")],
    ),
    (
        "a lane of a deleted webhook is read once",
        lambda parts: list(parts.backlog.read_all(WEBHOOK_ID, Lane.REALTIME)),
        [("BACKLOG", "Query")],
    ),
    (
        "an admin sees each delivery in one place or the other",
        lambda parts: parts.backlog.page(WEBHOOK_ID, Lane.BATCH, ALL, limit=5),
        [("BACKLOG", "Query")],
    ),
    (
        "an admin sees each delivery in one place or the other, one",
        lambda parts: parts.backlog.find(WEBHOOK_ID, Lane.BATCH, "1"),
        [("BACKLOG", "GetItem")],
    ),
    (
        "what was delivered a moment ago is not sent again by a drainer",
        lambda parts: OutcomeRecorder(parts.backlog, parts.history).already_delivered(
            WEBHOOK_ID, [PendingEvent(event())]
        ),
        [("DELIVERY", "BatchGetItem")],
    ),
    (
        "an admin sees each delivery in one place or the other, listed",
        lambda parts: parts.history.page(WEBHOOK_ID, ALL, limit=5),
        [("DELIVERY", "Query")],
    ),
    (
        "an admin sees each delivery in one place or the other, with its event",
        lambda parts: parts.history.find(WEBHOOK_ID, "1"),
        [("DELIVERY", "GetItem")],
    ),
    (
        "a replay does not send once more what it has just sent",
        portion,
        [("BACKLOG", "Query"), ("REPLAY", "GetItem"), ("DELIVERY", "Query")],
    ),
    (
        "a lane keeps its mark while its replay is under way",
        lambda parts: ReplayRunner(parts.replays, parts.history, parts.backlog).is_running(WEBHOOK_ID),
        [("REPLAY", "GetItem")],
    ),
    (
        "of ten sends a minute none is forgotten",
        lambda parts: SendRateLimit(parts.webhooks).consume("1010"),
        [("LIMIT", "GetItem")],
    ),
    (
        "an admin sees whom they have just added",
        lambda parts: subscriptions(parts).list_all(ADA),
        [("SUBSCRIPTIONS", "GetItem")],
    ),
]


@pytest.mark.parametrize(
    ("story", "read", "expected"), MUST_BE_CONSISTENT, ids=[story for story, *_ in MUST_BE_CONSISTENT]
)
def test_what_matters_is_read_as_it_stands_now(
    parts: Parts, story: str, read: Callable[[Parts], object], expected: list[tuple[str, str]]
) -> None:
    reads = keep_reads(parts.webhooks.client)
    read(parts)
    assert reads == [(kind, operation, True) for kind, operation in expected], story


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (
            lambda parts: parts.history.find_delivered([(WEBHOOK_ID, "1")], consistent=False),
            [("DELIVERY", "BatchGetItem", False)],
        ),
        (lambda parts: due_markers(parts.backlog), [("DUE", "Query", False)] * 32),
        (lambda parts: list(NotificationOutbox(parts.deliveries).read()), [("NOTICES", "Query", False)]),
        (
            lambda parts: [
                parts.backlog.count(mark, limit=5) for mark in parts.backlog.markers(WEBHOOK_ID).values()
            ],
            [("DUE", "Query", True), *[("BACKLOG", "Count", False)] * 4],
        ),
    ],
    ids=["of each direct event", "by each sweep", "by each sweep, notices", "of what is only shown"],
)
def test_what_may_lag_costs_half(parts: Parts, read: Callable[[Parts], object], expected: list[Read]) -> None:
    """A direct event may be sent a second time, and a sweep comes each minute. A number that is shown is
    old when it is seen."""
    reads = keep_reads(parts.webhooks.client)
    read(parts)
    assert reads == expected


def due_markers(backlog: Backlog) -> None:
    """Read all of them, as a sweep does: two stretches of each shard."""
    for part in parts_of_all_shards("wh_"):
        rest: ShardPart | None = part
        while rest is not None:
            rest = backlog.due_markers(rest, now_ms=NOW_MS, limit=1000).remaining


@pytest.fixture
def client() -> Iterator[AdminClient]:
    with admin_client("consistent") as client:
        yield client


def test_the_admin_api_reads_everything_but_counts_as_it_stands_now(client: AdminClient) -> None:
    """An admin who asks again sees what they have just changed; a keyed call is found by the next."""
    reads = keep_reads(client._dynamodb)
    key = {"idempotency-key": "k"}
    path = client.call("POST", "/v1/webhooks", SIGNED, headers=key).headers["Location"]
    client.call("POST", "/v1/webhooks", SIGNED, headers=key)
    client.call("GET", "/v1/webhooks")
    client.call("GET", path)
    client.call("PATCH", path, {"name": "Payroll"})
    webhook_id = path.rpartition("/")[2]
    client.backlog.append(webhook_id, Lane.REALTIME, [PendingEvent(event("late"))])
    client.backlog.set_marker("1010", webhook_id, Lane.REALTIME, accepted_at_ms=NOW_MS)
    (waiting,) = client.call("GET", f"{path}/deliveries?status=pending").body["deliveries"]
    client.call("GET", f"{path}/deliveries/{waiting['deliveryId']}")
    client.call("POST", f"{path}/signature")
    client.call("GET", f"{path}/deliveries")
    client.call("GET", f"{path}/stats")
    client.call("POST", f"{path}/test")
    client.call("POST", f"{path}/replay", {"from": "2026-11-01T00:00:00Z"})
    client.call("GET", f"{path}/replay")
    client.call("GET", path)
    client.call("POST", "/v1/notice-subscriptions", {"email": "team@example.com"})
    client.call("GET", "/v1/notice-subscriptions")
    client.call("DELETE", path, headers={"if-match": "*"})
    kinds = {kind for kind, _, _ in reads}
    assert {
        "ACCOUNT",
        "IDEMPOTENCY",
        "DUE",
        "BACKLOG",
        "DELIVERY",
        "REPLAY",
        "LIMIT",
        "SUBSCRIPTIONS",
    } <= kinds
    assert {(kind, operation) for kind, operation, is_consistent in reads if not is_consistent} == {
        ("BACKLOG", "Count"),
    }
