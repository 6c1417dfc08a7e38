"""Health is changed by who knows the last state, and drained by one at a time."""

from collections.abc import Iterator
from dataclasses import replace

import boto3
import pytest
from moto import mock_aws

from lms_webhooks.attempts import Attempt
from lms_webhooks.dynamodb import Table, key_item
from lms_webhooks.health import Health, Mode, SwitchOff
from lms_webhooks.health_store import HealthStore, health_attributes, health_key, read_health_item
from tests.unit.admin_client import REGION, TABLE, make_table

ME, OTHER = "me", "other"
WEBHOOK = ("1010", "wh_1")
FAILING = Health(
    mode=Mode.BACKLOG,
    failures=3,
    rejections=2,
    failing_since_ms=5,
    last_error="HTTP 503",
    next_attempt_at_ms=100,
    switched_off=SwitchOff.FAILING,
    switched_off_at_ms=9,
    attempts=(Attempt(5, 80, 503, None), Attempt(6, 5000, None, "timeout")),
)


@pytest.fixture
def table() -> Iterator[Table]:
    with mock_aws():
        client = boto3.client("dynamodb", region_name=REGION)
        make_table(client)
        yield Table(client, TABLE)


@pytest.fixture
def store(table: Table) -> HealthStore:
    """With the health of one webhook, as it is made with it."""
    put(table, Health())
    return HealthStore(table)


def put(table: Table, health: Health) -> None:
    item = {**key_item(health_key(*WEBHOOK)), **health_attributes(health)}
    table.client.put_item(TableName=table.name, Item=item)


def stored(table: Table) -> Health | None:
    answer = table.client.get_item(TableName=table.name, Key=key_item(health_key(*WEBHOOK)))
    return read_health_item(answer["Item"]) if "Item" in answer else None


def acquire(store: HealthStore, owner: str, *, now_ms: int) -> Health | None:
    return store.acquire(*WEBHOOK, owner=owner, now_ms=now_ms, until_ms=now_ms + 70)


def test_every_field_comes_back(store: HealthStore, table: Table) -> None:
    assert store.save(*WEBHOOK, FAILING, revision=0)
    assert stored(table) == replace(FAILING, revision=1)


def test_of_two_who_saw_the_same_state_one_writes(store: HealthStore, table: Table) -> None:
    assert store.save(*WEBHOOK, FAILING, revision=0)
    assert not store.save(*WEBHOOK, Health(failures=9), revision=0)
    assert stored(table) == replace(FAILING, revision=1)


def test_late_news_of_an_earlier_epoch_changes_nothing(store: HealthStore, table: Table) -> None:
    """The admin changed the URL: revision 0 of epoch 2 is not the revision 0 that the failure was seen in."""
    put(table, Health(epoch=2))
    assert not store.save(*WEBHOOK, FAILING, revision=0)
    assert stored(table) == Health(epoch=2)


def test_a_deleted_webhook_is_not_brought_back(store: HealthStore, table: Table) -> None:
    table.client.delete_item(TableName=table.name, Key=key_item(health_key(*WEBHOOK)))
    assert not store.save(*WEBHOOK, FAILING, revision=0)
    assert acquire(store, ME, now_ms=0) is None
    assert not store.release(*WEBHOOK, owner=ME, health=FAILING, before=Health())
    assert stored(table) is None


def test_the_lease_is_held_by_one_until_it_ends(store: HealthStore) -> None:
    assert acquire(store, ME, now_ms=0) == Health()
    assert acquire(store, OTHER, now_ms=70) is None
    assert acquire(store, OTHER, now_ms=71) == Health()


def test_a_call_that_took_effect_unseen_gets_the_lease_when_it_is_tried_again(store: HealthStore) -> None:
    """botocore repeats a call whose answer was lost: the lease that it finds is its own."""
    assert acquire(store, ME, now_ms=0) == Health()
    assert acquire(store, ME, now_ms=1) == Health()


def test_before_the_next_attempt_nobody_gets_the_lease(store: HealthStore, table: Table) -> None:
    put(table, FAILING)
    assert acquire(store, ME, now_ms=99) is None
    assert acquire(store, ME, now_ms=100) == FAILING


def test_what_the_holder_learnt_is_written_with_the_release(store: HealthStore, table: Table) -> None:
    before = acquire(store, ME, now_ms=0)
    assert before is not None
    learnt = replace(before, failures=1, next_attempt_at_ms=50)
    assert store.release(*WEBHOOK, owner=ME, health=learnt, before=before)
    assert stored(table) == replace(learnt, revision=1)
    assert acquire(store, OTHER, now_ms=50) is not None


def test_nothing_learnt_is_nothing_written(store: HealthStore, table: Table) -> None:
    before = acquire(store, ME, now_ms=0)
    assert before is not None
    assert store.release(*WEBHOOK, owner=ME, health=before, before=before)
    assert stored(table) == before
    assert acquire(store, OTHER, now_ms=1) is not None


@pytest.mark.parametrize("meanwhile", [Health(epoch=2), replace(FAILING, revision=1, next_attempt_at_ms=0)])
def test_what_changed_meanwhile_stands_and_the_lease_is_given_back(
    store: HealthStore, table: Table, meanwhile: Health
) -> None:
    """A new epoch, or a dispatcher that saw the endpoint fail: the holder's news is dropped, its lease is
    not kept."""
    before = acquire(store, ME, now_ms=0)
    assert before is not None
    attributes = health_attributes(meanwhile)
    table.client.update_item(
        TableName=table.name,
        Key=key_item(health_key(*WEBHOOK)),
        UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in attributes),
        ExpressionAttributeNames={f"#{name}": name for name in attributes},
        ExpressionAttributeValues={f":{name}": value for name, value in attributes.items()},
    )
    learnt = replace(before, switched_off=SwitchOff.GONE)
    assert not store.release(*WEBHOOK, owner=ME, health=learnt, before=before)
    assert stored(table) == meanwhile
    assert acquire(store, OTHER, now_ms=1) == meanwhile


def test_who_lost_the_lease_releases_nothing(store: HealthStore, table: Table) -> None:
    """A drainer that was frozen past its lease wakes up while another is at work."""
    before = acquire(store, ME, now_ms=0)
    assert before is not None
    assert acquire(store, OTHER, now_ms=71) is not None
    assert not store.release(*WEBHOOK, owner=ME, health=FAILING, before=before)
    assert stored(table) == Health()
    assert acquire(store, ME, now_ms=72) is None
