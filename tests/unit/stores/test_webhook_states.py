"""What the sweep reads of many webhooks at once."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from botocore.exceptions import ClientError

from lms_webhooks.aws.dynamodb import Table, UnprocessedKeys, key_item
from lms_webhooks.model.health import DisabledReason, Health, Mode
from lms_webhooks.model.webhooks import Status
from lms_webhooks.stores.health import HealthStore, health_attributes, health_key
from lms_webhooks.stores.webhook_states import WebhookState, WebhookStates
from lms_webhooks.stores.webhooks import WebhookStore, webhook_key
from tests.engines.dynamodb import Engine
from tests.unit.tables import NOW_MS, Fails, Unprocessed, before, stand_in, tables, webhook

ID = ("1010", webhook().webhook_id)


@pytest.fixture
def table(dynamodb: Engine) -> Iterator[Table]:
    with tables(dynamodb) as (webhooks, _):
        yield webhooks


def create(
    table: Table, *, account_id: str = "1010", webhook_id: str = ID[1], status: Status = Status.ACTIVE
) -> None:
    WebhookStore(table.client, table.name).create(
        webhook(account_id=account_id, webhook_id=webhook_id, status=status)
    )


@pytest.mark.parametrize(
    ("story", "status", "disabled_reason", "may_send"),
    [
        ("all is well", Status.ACTIVE, None, True),
        ("the admin holds it", Status.PAUSED, None, False),
        ("the admin retired it", Status.INACTIVE, None, False),
        ("it answered 410", Status.ACTIVE, DisabledReason.GONE, False),
        ("it failed for days", Status.ACTIVE, DisabledReason.FAILING, False),
        ("both", Status.PAUSED, DisabledReason.FAILING, False),
    ],
)
def test_whether_anything_may_be_sent(
    table: Table, story: str, status: Status, disabled_reason: DisabledReason | None, may_send: bool
) -> None:
    create(table, status=status)
    HealthStore(table).save(*ID, Health(disabled_reason=disabled_reason), revision=0)
    standing = WebhookState(may_send, 0, 0, is_switched_off=disabled_reason is not None)
    assert WebhookStates(table).read([ID]) == {ID: standing}, story


def test_the_lease_and_the_next_attempt_are_told(table: Table) -> None:
    create(table)
    store = HealthStore(table)
    store.save(*ID, Health(mode=Mode.BACKLOG, next_attempt_at_ms=NOW_MS), revision=0)
    assert store.acquire(*ID, owner="me", now_ms=NOW_MS, until_ms=NOW_MS + 70_000)
    assert WebhookStates(table).read([ID]) == {ID: WebhookState(True, NOW_MS + 70_000, NOW_MS)}


def test_a_lease_that_was_given_back_is_none(table: Table) -> None:
    create(table)
    store = HealthStore(table)
    leased = store.acquire(*ID, owner="me", now_ms=NOW_MS, until_ms=NOW_MS + 70_000)
    assert leased is not None
    store.release(*ID, owner="me", health=replace(leased, failures=1), before=leased)
    assert WebhookStates(table).read([ID]) == {ID: WebhookState(True, 0, 0, failures=1)}


def test_a_deleted_webhook_has_none_and_an_account_s_id_is_no_other_account_s(table: Table) -> None:
    create(table)
    assert set(WebhookStates(table).read([ID, ("2020", ID[1]), ("1010", "wh_gone")])) == {ID}


def test_a_hundred_are_told_apart(table: Table) -> None:
    """Two keys each are two hundred, and a read takes a hundred."""
    ids = [(f"{number}", f"wh_{number:022d}") for number in range(100)]
    create(table)
    registration = table.client.get_item(TableName=table.name, Key=key_item(webhook_key(*ID)))["Item"]
    items = []
    for number, each in enumerate(ids):
        health = health_attributes(Health(next_attempt_at_ms=number))
        items += [registration | key_item(webhook_key(*each)), key_item(health_key(*each)) | health]
    assert table.put_all(items) == set()  # moto takes 4 s for a hundred transactions
    assert WebhookStates(table).read(ids) == {
        each: WebhookState(True, 0, number) for number, each in enumerate(ids)
    }
    assert before(table).calls["batch_get_item"] == 2


def test_nobody_asked_is_nothing_read(table: Table) -> None:
    assert WebhookStates(table).read([]) == {}
    assert not before(table).calls


def test_standings_that_cannot_be_read_are_not_those_of_deleted_webhooks(table: Table) -> None:
    create(table)
    before(table).answers["batch_get_item"] = Fails(before(table).behind.batch_get_item)
    with pytest.raises(ClientError):
        WebhookStates(table).read([ID])


def test_the_epoch_is_that_of_the_registration(table: Table) -> None:
    """A notice of an earlier one is old news."""
    store = WebhookStore(table.client, table.name)
    create(table)
    kept = store.get(*ID)
    store.update(replace(kept, epoch=3, version=2), expected=kept)
    assert WebhookStates(table).read([ID]) == {ID: WebhookState(True, 0, 0, epoch=3)}


def test_a_webhook_whose_health_is_missing_may_be_sent_to(table: Table) -> None:
    """Its drainer knows better, and finds out."""
    create(table)
    table.client.delete_item(TableName=table.name, Key=key_item(health_key(*ID)))
    assert WebhookStates(table).read([ID]) == {ID: WebhookState(True, 0, 0)}


def test_what_stays_unread_is_missing_unless_the_whole_is_wanted(table: Table) -> None:
    create(table)
    stand_in(table, "batch_get_item", Unprocessed(table, lambda key: "WEBHOOK#" in key, times=99).read)
    assert WebhookStates(table).read([ID]) == {}
    with pytest.raises(UnprocessedKeys):
        WebhookStates(table).read([ID], require_all=True)
