"""Registrations are kept whole, five an account, and each account sees its own."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from lms_webhooks.admin.problems import problem_for
from lms_webhooks.aws.dynamodb import Table
from lms_webhooks.errors import (
    Contention,
    CreationLimitExceeded,
    IdempotencyInProgress,
    UnreadableWebhook,
    VersionConflict,
    WebhookLimitExceeded,
    WebhookNotFound,
)
from lms_webhooks.model.health import Health, Mode
from lms_webhooks.model.slots import BatchSchedule, DailyAt, EveryMinutes
from lms_webhooks.model.webhooks import (
    Authentication,
    BasicAuthentication,
    NoAuthentication,
    SignatureAuthentication,
    Status,
    Tombstone,
    Webhook,
)
from lms_webhooks.stores import webhooks
from lms_webhooks.stores.health import HealthStore, health_attributes
from lms_webhooks.stores.webhooks import WebhookStore, new_webhook_id
from lms_webhooks.timestamps import format_ms, format_time
from tests.engines.dynamodb import Engine
from tests.unit.admin_client import TABLE, make_table
from tests.unit.held_items import Collisions

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

NOW = datetime(2026, 11, 3, 12, 0, tzinfo=UTC)


@pytest.fixture
def client(dynamodb: Engine) -> "Iterator[DynamoDBClient]":
    with dynamodb() as client:
        make_table(client)
        yield client


@pytest.fixture
def store(client: "DynamoDBClient") -> WebhookStore:
    return WebhookStore(client, TABLE)


def webhook(account_id: str = "1010", **changes: Any) -> Webhook:
    return replace(
        Webhook(
            account_id=account_id,
            webhook_id=new_webhook_id(),
            name="HR",
            target_url="https://hooks.example.com/",
            authentication=NoAuthentication(),
            events=frozenset({"COURSE_ENROLLMENT"}),
            status=Status.ACTIVE,
            created_at=format_time(NOW),
            updated_at=format_time(NOW),
            created_by="ada",
            updated_by="ada",
        ),
        **changes,
    )


def listed(store: WebhookStore, account_id: str) -> list[Webhook]:
    return [each.webhook for each in store.read_account(account_id)]


@pytest.mark.parametrize(
    "authentication",
    [
        NoAuthentication(),
        BasicAuthentication(username="ada", password_ciphertext=b"\x00\xff"),
        SignatureAuthentication(secret_ciphertext=b"now"),
        SignatureAuthentication(b"now", b"before", "2026-11-04T12:00:00.000Z"),
    ],
)
def test_every_field_comes_back(store: WebhookStore, authentication: Authentication) -> None:
    kept = webhook(
        authentication=authentication,
        description="Two\nlines",
        events=frozenset({"COURSE_ENROLLMENT", "CI_STATS"}),
        status=Status.INACTIVE,
        ordered=True,
        headers={"x-team": "hr"},
        updated_by="bob",
        epoch=3,
        version=7,
    )
    store.create(kept)
    assert store.get("1010", kept.webhook_id) == kept
    assert listed(store, "1010") == [kept]


@pytest.mark.parametrize("schedule", [EveryMinutes(45), DailyAt(("02:00", "14:30"), "Europe/Rome")])
def test_a_batch_schedule_comes_back_and_goes_with_the_change_that_ends_it(
    client: "DynamoDBClient", store: WebhookStore, schedule: BatchSchedule
) -> None:
    kept = webhook(batch_schedule=schedule)
    store.create(kept)
    assert store.get("1010", kept.webhook_id) == kept
    without = replace(kept, batch_schedule=None, version=2)
    store.update(without, expected=kept)
    assert store.get("1010", kept.webhook_id) == without
    item = stands(client, "ACCOUNT#1010", f"WEBHOOK#{kept.webhook_id}")
    assert "batch_schedule" not in item, "as older versions have it"


def test_authentication_of_an_unknown_type_is_named(client: "DynamoDBClient", store: WebhookStore) -> None:
    kept = webhook()
    store.create(kept)
    client.update_item(
        TableName=TABLE,
        Key={"pk": {"S": "ACCOUNT#1010"}, "sk": {"S": f"WEBHOOK#{kept.webhook_id}"}},
        UpdateExpression="SET authentication.#type = :type",
        ExpressionAttributeNames={"#type": "type"},
        ExpressionAttributeValues={":type": {"S": "telepathy"}},
    )
    with pytest.raises(UnreadableWebhook) as unreadable:
        store.get("1010", kept.webhook_id)
    assert "'telepathy'" in str(unreadable.value.__cause__)


def test_an_account_is_listed_oldest_first(store: WebhookStore) -> None:
    late = webhook(created_at="2026-11-03T12:00:00.002Z")
    early = webhook(created_at="2026-11-03T12:00:00.001Z")
    twin = webhook(created_at="2026-11-03T12:00:00.002Z")
    for one in (late, early, twin):
        store.create(one)
    assert listed(store, "1010") == [early, *sorted([late, twin], key=lambda one: one.webhook_id)]


def test_every_page_of_an_account_is_read(client: "DynamoDBClient", store: WebhookStore) -> None:
    # DynamoDB ends a page at 1 MB, and moto does too.
    kept = [webhook(description="x" * 300_000) for _ in range(5)]
    for one in kept:
        store.create(one)
    pages: list[Any] = []
    client.meta.events.register("before-call.dynamodb.Query", lambda params, **_: pages.append(params))
    assert {one.webhook_id for one in listed(store, "1010")} == {one.webhook_id for one in kept}
    assert len(pages) == 2


def test_accounts_do_not_see_each_other(store: WebhookStore) -> None:
    mine = webhook("1010")
    store.create(mine)
    store.create(webhook("10"))
    assert listed(store, "1010") == [mine]
    for account_id in ("10", "2020", "101"):
        with pytest.raises(WebhookNotFound):
            store.get(account_id, mine.webhook_id)
        with pytest.raises(WebhookNotFound):
            store.delete(account_id, mine.webhook_id, deleted_at=NOW, deleted_by="eve")
    assert store.get("1010", mine.webhook_id) == mine


@pytest.mark.parametrize("webhook_id", ["", "wh_", "x" * 3000, "wh_" + "a" * 22 + "\n", "ACCOUNT"])
def test_what_is_no_id_is_not_found(store: WebhookStore, webhook_id: str) -> None:
    with pytest.raises(WebhookNotFound):
        store.get("1010", webhook_id)
    with pytest.raises(WebhookNotFound):
        store.delete("1010", webhook_id, deleted_at=NOW, deleted_by="ada")


def test_the_sixth_webhook_is_refused_until_one_is_deleted(store: WebhookStore) -> None:
    first, *_ = kept = [webhook() for _ in range(5)]
    for one in kept:
        store.create(one)
    with pytest.raises(WebhookLimitExceeded):
        store.create(webhook())
    assert len(store.read_account("1010")) == 5

    store.delete("1010", first.webhook_id, deleted_at=NOW, deleted_by="ada")
    store.create(webhook())
    with pytest.raises(WebhookLimitExceeded):
        store.create(webhook())
    store.create(webhook("2020"))


def test_of_twenty_creates_at_once_five_succeed(client: "DynamoDBClient") -> None:
    colliding = Collisions(client)
    store = WebhookStore(colliding, TABLE)  # type: ignore[arg-type]  # a stand-in for the client
    start = threading.Barrier(20)

    def create(_: int) -> bool:
        start.wait()
        while True:
            try:
                store.create(webhook())
            except WebhookLimitExceeded:
                return False
            except Contention:  # on a machine that is busy itself a transaction outlasts all the waits
                continue
            return True

    with ThreadPoolExecutor(20) as pool:
        created = list(pool.map(create, range(20)))
    assert (created.count(True), len(store.read_account("1010"))) == (5, 5)
    assert colliding.collisions > 0


def test_a_collision_is_tried_again_after_growing_random_waits(client: "DynamoDBClient") -> None:
    waits: list[float] = []
    colliding: Any = Collisions(client, first=11)
    WebhookStore(colliding, TABLE, sleep=waits.append).create(webhook())
    assert len(waits) == 11
    assert max(waits) <= 0.4
    assert len(set(waits)) == 11


def test_endless_collisions_end_as_busy_and_change_nothing(client: "DynamoDBClient") -> None:
    colliding: Any = Collisions(client, first=1000)
    store = WebhookStore(colliding, TABLE, sleep=lambda _: None)
    with pytest.raises(Contention):
        store.create(webhook())
    assert colliding.collisions == 12
    assert store.read_account("1010") == []


def test_another_cancellation_is_not_hidden(client: "DynamoDBClient") -> None:
    colliding: Any = Collisions(client, first=1, reason="ItemCollectionSizeLimitExceeded")
    with pytest.raises(ClientError):
        WebhookStore(colliding, TABLE).create(webhook())


def test_an_id_that_exists_is_never_overwritten(store: WebhookStore) -> None:
    kept = webhook()
    store.create(kept)
    with pytest.raises(RuntimeError, match=kept.webhook_id):
        store.create(replace(kept, name="Another"))
    assert store.get("1010", kept.webhook_id) == kept


def test_a_deleted_webhook_leaves_a_tombstone_for_its_history(
    client: "DynamoDBClient", store: WebhookStore
) -> None:
    kept = webhook()
    store.create(kept)
    store.delete("1010", kept.webhook_id, deleted_at=NOW, deleted_by="bob")
    with pytest.raises(WebhookNotFound):
        store.get("1010", kept.webhook_id)
    with pytest.raises(WebhookNotFound):
        store.delete("1010", kept.webhook_id, deleted_at=NOW, deleted_by="bob")
    assert store.read_account("1010") == []
    items = {item["pk"]["S"]: item for item in client.scan(TableName=TABLE)["Items"]}
    assert items["TOMBSTONE#1010"] == {
        "pk": {"S": "TOMBSTONE#1010"},
        "sk": {"S": f"1793707200000#{kept.webhook_id}"},
        "deleted_at": {"S": "2026-11-03T12:00:00.000Z"},
        "deleted_by": {"S": "bob"},
        "expires_at": {"N": str(int(NOW.timestamp()) + 366 * 86_400)},
        "events": {"SS": sorted(kept.events)},
    }
    assert "webhook_ids" not in items["ACCOUNT#1010"]


def test_an_account_s_deleted_webhooks_are_known_and_when_that_was(store: WebhookStore) -> None:
    gone, kept, of_another = webhook(), webhook(), webhook("2020")
    for one in (gone, kept, of_another):
        store.create(one)
    store.delete("1010", gone.webhook_id, deleted_at=NOW, deleted_by="bob")
    store.delete("2020", of_another.webhook_id, deleted_at=NOW, deleted_by="eve")
    assert store.deleted("1010", since_ms=0) == [
        Tombstone(gone.webhook_id, gone.events, "2026-11-03T12:00:00.000Z")
    ]
    assert store.deleted("10", since_ms=0) == []


def test_health_begins_and_ends_with_its_webhook(store: WebhookStore, client: "DynamoDBClient") -> None:
    """Changes of health are on condition that its item exists: it must stand for the webhook's own life."""
    kept = webhook()
    store.create(kept)
    assert [each.health for each in store.read_account("1010")] == [Health()]
    store.delete("1010", kept.webhook_id, deleted_at=NOW, deleted_by="ada")
    left = client.query(
        TableName=TABLE,
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": "ACCOUNT#1010"}},
    )["Items"]
    assert [item["sk"]["S"] for item in left] == ["ACCOUNT"]


def test_a_new_epoch_begins_in_the_backlog_and_keeps_the_lease(store: WebhookStore) -> None:
    """The URL changed while a drainer holds the lease: what was known of the old endpoint is forgotten, the
    lease is not, and what waits goes out before anything goes directly."""
    kept = webhook()
    store.create(kept)
    health_store = HealthStore(Table(store._client, TABLE))
    failing = replace(Health(), failures=3, last_error="HTTP 500")
    assert health_store.save("1010", kept.webhook_id, failing, revision=0)
    assert health_store.acquire("1010", kept.webhook_id, owner="me", now_ms=1, until_ms=99)
    store.update(replace(kept, target_url="https://new.example.com/", epoch=2, version=2), expected=kept)
    assert [each.health for each in store.read_account("1010")] == [Health(2, mode=Mode.BACKLOG)]
    assert health_store.acquire("1010", kept.webhook_id, owner="other", now_ms=50, until_ms=99) is None


def test_a_change_that_is_no_new_epoch_leaves_health_alone(store: WebhookStore) -> None:
    kept = webhook()
    store.create(kept)
    failing = replace(Health(), failures=3)
    assert HealthStore(Table(store._client, TABLE)).save("1010", kept.webhook_id, failing, revision=0)
    store.update(replace(kept, name="Payroll", version=2), expected=kept)
    ((changed, health),) = store.read_account("1010")
    assert (changed.name, health.failures) == ("Payroll", 3)


def test_of_two_changes_of_the_same_version_one_is_refused(store: WebhookStore) -> None:
    kept = webhook()
    store.create(kept)
    store.update(replace(kept, name="First", version=2), expected=kept)
    with pytest.raises(VersionConflict):
        store.update(replace(kept, name="Second", version=2), expected=kept)
    assert store.get("1010", kept.webhook_id).name == "First"


def test_a_deleted_webhook_is_not_changed_back_to_life(store: WebhookStore) -> None:
    kept = webhook()
    store.create(kept)
    store.delete("1010", kept.webhook_id, deleted_at=NOW, deleted_by="ada")
    with pytest.raises(VersionConflict):
        store.update(replace(kept, name="Ghost", epoch=2, version=2), expected=kept)
    assert store.read_account("1010") == []


def stands(client: "DynamoDBClient", pk: str, sk: str) -> Any:
    return client.get_item(TableName=TABLE, Key={"pk": {"S": pk}, "sk": {"S": sk}}).get("Item")


@pytest.mark.parametrize(("epoch", "is_trusted"), [(1, False), (2, True), (3, False)])
def test_health_of_another_epoch_is_not_trusted(
    client: "DynamoDBClient", store: WebhookStore, epoch: int, is_trusted: bool
) -> None:
    """A page of a query ended between the two items, and the URL changed meanwhile: what is known is of an
    endpoint that the webhook has no more. Until its own health is there, nothing goes out directly."""
    kept = webhook(epoch=2)
    store.create(kept)
    told = Health(epoch, mode=Mode.DIRECT, failures=3, next_attempt_at_ms=99)
    put_health(client, kept, told)
    ((_, health),) = store.read_account("1010")
    assert health == (told if is_trusted else Health(2, mode=Mode.BACKLOG))


def test_a_webhook_whose_health_is_missing_gets_nothing_directly(
    client: "DynamoDBClient", store: WebhookStore
) -> None:
    kept = webhook(epoch=4)
    store.create(kept)
    client.delete_item(
        TableName=TABLE, Key={"pk": {"S": "ACCOUNT#1010"}, "sk": {"S": f"HEALTH#{kept.webhook_id}"}}
    )
    assert [each.health for each in store.read_account("1010")] == [Health(4, mode=Mode.BACKLOG)]


def put_health(client: "DynamoDBClient", of: Webhook, health: Health) -> None:
    key = {"pk": {"S": f"ACCOUNT#{of.account_id}"}, "sk": {"S": f"HEALTH#{of.webhook_id}"}}
    client.put_item(TableName=TABLE, Item={**key, **health_attributes(health)})


def test_a_deletion_that_names_a_version_is_refused_when_that_is_old(store: WebhookStore) -> None:
    """Nothing of it happened: the webhook counts, has its health, and no tombstone."""
    kept = webhook()
    store.create(kept)
    store.update(replace(kept, name="Payroll", version=2), expected=kept)
    with pytest.raises(VersionConflict):
        store.delete("1010", kept.webhook_id, deleted_at=NOW, deleted_by="bob", expected=kept)
    assert [(each.webhook.name, each.health) for each in store.read_account("1010")] == [
        ("Payroll", Health())
    ]
    assert store.deleted("1010", since_ms=0) == []
    for _ in range(4):
        store.create(webhook())
    with pytest.raises(WebhookLimitExceeded):
        store.create(webhook())


def test_a_deletion_that_names_a_version_is_made_when_that_is_the_last(store: WebhookStore) -> None:
    kept = webhook(version=7)
    store.create(kept)
    store.delete("1010", kept.webhook_id, deleted_at=NOW, deleted_by="bob", expected=kept)
    assert store.read_account("1010") == []
    with pytest.raises(VersionConflict):
        store.delete("1010", kept.webhook_id, deleted_at=NOW, deleted_by="eve", expected=kept)
    assert [each.deleted_at for each in store.deleted("1010", since_ms=0)] == ["2026-11-03T12:00:00.000Z"]


def test_a_webhook_that_took_nothing_is_remembered_with_no_events(
    client: "DynamoDBClient", store: WebhookStore
) -> None:
    """Inactive, it took nothing new, so no event that comes late is one that it lost. Paused, it did."""
    inactive, paused = webhook(status=Status.INACTIVE), webhook(status=Status.PAUSED)
    for each in (inactive, paused):
        store.create(each)
        store.delete("1010", each.webhook_id, deleted_at=NOW, deleted_by="bob")
    assert {each.webhook_id: each.events for each in store.deleted("1010", since_ms=0)} == {
        inactive.webhook_id: frozenset(),
        paused.webhook_id: frozenset({"COURSE_ENROLLMENT"}),
    }
    assert "events" not in stands(client, "TOMBSTONE#1010", f"1793707200000#{inactive.webhook_id}")


def put_tombstone(client: "DynamoDBClient", sort_key: str, deleted_at_ms: int, **more: Any) -> None:
    client.put_item(
        TableName=TABLE,
        Item={
            "pk": {"S": "TOMBSTONE#1010"},
            "sk": {"S": sort_key},
            "deleted_at": {"S": format_ms(deleted_at_ms)},
            **more,
        },
    )


NOW_MS = int(NOW.timestamp() * 1000)


@pytest.mark.parametrize(
    ("since_ms", "found"),
    [
        (0, ["wh_a", "wh_b", "wh_old", "wh_older"]),
        (NOW_MS, ["wh_a", "wh_b", "wh_old"]),
        (NOW_MS + 1, ["wh_b", "wh_old"]),
        (NOW_MS + 6, ["wh_old"]),
        (NOW_MS + 8, []),
    ],
)
def test_only_what_was_deleted_since_is_read(
    client: "DynamoDBClient", store: WebhookStore, since_ms: int, found: list[str]
) -> None:
    """What an older version deleted has no time in its key, and is read too, after the others."""
    put_tombstone(client, f"{NOW_MS}#wh_a", NOW_MS)
    put_tombstone(client, f"{NOW_MS + 5}#wh_b", NOW_MS + 5)
    put_tombstone(client, "WEBHOOK#wh_old", NOW_MS + 7)
    put_tombstone(client, "WEBHOOK#wh_older", NOW_MS - 1)
    assert [each.webhook_id for each in store.deleted("1010", since_ms=since_ms)] == found


def test_the_deleted_are_one_page_of_a_hundred(client: "DynamoDBClient", store: WebhookStore) -> None:
    """The first that were deleted since: they were there when the message came first."""
    for number in range(130):
        put_tombstone(client, f"{NOW_MS + number}#wh_{number:03d}", NOW_MS + number)
    found = [each.webhook_id for each in store.deleted("1010", since_ms=NOW_MS + 10)]
    assert found == [f"wh_{number:03d}" for number in range(10, 110)]


def test_an_account_makes_a_thousand_webhooks_a_day(
    client: "DynamoDBClient", store: WebhookStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In UTC. Deleting one makes room for another, not for one more creation."""
    assert webhooks.CREATIONS_A_DAY == 1000
    monkeypatch.setattr(webhooks, "CREATIONS_A_DAY", 7)
    evening = "2026-11-03T23:59:59.500Z"

    def make(account_id: str = "1010", created_at: str = evening) -> None:
        made = replace(webhook(account_id), created_at=created_at)
        store.create(made)
        store.delete(account_id, made.webhook_id, deleted_at=NOW, deleted_by="bob")

    for _ in range(7):
        make()
    with pytest.raises(CreationLimitExceeded) as refused:
        make()
    assert problem_for(refused.value).headers == {"Retry-After": "1"}
    assert "at most 7 webhooks a day" in problem_for(refused.value).detail
    assert store.read_account("1010") == []
    make("2020")
    make(created_at="2026-11-04T00:00:00.000Z")
    assert stands(client, "LIMIT#1010", "CREATIONS#2026-11-03") == {
        "pk": {"S": "LIMIT#1010"},
        "sk": {"S": "CREATIONS#2026-11-03"},
        "made": {"N": "7"},
        "expires_at": {"N": "1793750400"},
    }


def test_when_the_next_day_begins_is_said(store: WebhookStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "CREATIONS_A_DAY", 1)
    at_midnight = "2026-11-03T00:00:00.000Z"
    store.create(replace(webhook(), created_at=at_midnight))
    with pytest.raises(CreationLimitExceeded) as refused:
        store.create(replace(webhook(), created_at=at_midnight))
    assert problem_for(refused.value).headers == {"Retry-After": "86400"}


def refused_along(key: str) -> list[Any]:
    """An action whose condition fails: the call is made elsewhere."""
    return [
        {
            "Update": {
                "TableName": TABLE,
                "Key": {"pk": {"S": key}, "sk": {"S": "x"}},
                "UpdateExpression": "SET answer = :a",
                "ConditionExpression": "attribute_exists(pk)",
                "ExpressionAttributeValues": {":a": {"S": "a"}},
            }
        }
    ]


def test_what_is_made_elsewhere_is_not_made_here(store: WebhookStore) -> None:
    """Neither a webhook, nor a change of one, with and without a new epoch."""
    with pytest.raises(IdempotencyInProgress):
        store.create(webhook(), extra_writes=refused_along("none"))
    assert store.read_account("1010") == []
    kept = webhook()
    store.create(kept)
    for epoch in (1, 2):
        changed = replace(kept, name="Payroll", version=2, epoch=epoch)
        with pytest.raises(IdempotencyInProgress):
            store.update(changed, expected=kept, extra_writes=refused_along("none"))
    assert store.read_account("1010") == [(kept, Health())]


def test_a_full_account_hears_that_it_is_full_whatever_else_is_refused(store: WebhookStore) -> None:
    for _ in range(5):
        store.create(webhook())
    with pytest.raises(WebhookLimitExceeded):
        store.create(webhook(), extra_writes=refused_along("none"))


def test_a_change_of_what_was_changed_is_told_so_whatever_else_is_refused(store: WebhookStore) -> None:
    kept = webhook()
    store.create(kept)
    store.update(replace(kept, version=2), expected=kept)
    for epoch in (1, 2):
        with pytest.raises(VersionConflict):
            store.update(
                replace(kept, epoch=epoch, version=2), expected=kept, extra_writes=refused_along("none")
            )


@pytest.mark.slow
def test_a_new_id_is_one_that_is_found(store: WebhookStore) -> None:
    ids = {new_webhook_id() for _ in range(200)}
    assert len(ids) == 200
    for each in list(ids)[:50]:
        kept = webhook(str(each), webhook_id=each)
        store.create(kept)
        assert store.get(str(each), each) == kept


def test_a_new_epoch_is_that_of_its_health_too(store: WebhookStore) -> None:
    """Health of another epoch cannot be changed: the webhook would stay in backlog mode for ever."""
    kept = webhook()
    store.create(kept)
    store.update(replace(kept, target_url="https://new.example.com/", epoch=2, version=2), expected=kept)
    health = HealthStore(Table(store._client, TABLE))
    assert health.read("1010", kept.webhook_id) == Health(2, mode=Mode.BACKLOG)
    assert health.save("1010", kept.webhook_id, Health(2), revision=0)
    assert [each.health for each in store.read_account("1010")] == [Health(2, revision=1)]


@pytest.mark.parametrize(
    "webhook_id", ["", "wh_", "x" * 3000, "wh_" + "a" * 22 + "\n", "wh_" + "a" * 21 + "#"]
)
def test_what_is_no_id_is_asked_of_nobody(
    client: "DynamoDBClient", store: WebhookStore, webhook_id: str
) -> None:
    """DynamoDB calls a key of 3,000 bytes invalid, and the admin would read of a fault of ours."""
    asked: list[str] = []
    client.meta.events.register("provide-client-params.dynamodb", lambda model, **_: asked.append(model.name))
    with pytest.raises(WebhookNotFound):
        store.get("1010", webhook_id)
    with pytest.raises(WebhookNotFound):
        store.delete("1010", webhook_id, deleted_at=NOW, deleted_by="ada")
    assert asked == []
