"""What a table lost comes back from a copy, what is there stays as it is, and every lane has its mark."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from lms_webhooks.aws.dynamodb import KeyRange, Table
from lms_webhooks.model.attempts import Attempt
from lms_webhooks.model.deliveries import Delivery, Outcome
from lms_webhooks.model.health import Health, Mode
from lms_webhooks.model.lanes import Lane, PendingEvent
from lms_webhooks.stores.backlog import Backlog
from lms_webhooks.stores.deliveries import DeliveryStore
from lms_webhooks.stores.health import HealthStore
from lms_webhooks.stores.replays import Replay, ReplayStore
from lms_webhooks.stores.webhooks import WebhookStore
from operations.restore import System, run
from tests.engines.dynamodb import Engine
from tests.unit.admin_client import make_table
from tests.unit.tables import DAY_MS, NOW_MS, event, tables, webhook

WEBHOOK = webhook().webhook_id
OTHER = "wh_" + "b" * 22
DELETED = "wh_" + "c" * 22
OK = Attempt(NOW_MS, 40, 204, None)
DELETED_AT = datetime(2026, 11, 3, 13, tzinfo=UTC)


class Tables:
    """A stack's tables with stores over them; `copy` makes the tables that a recovery would."""

    def __init__(self, webhooks: Table, deliveries: Table) -> None:
        self.client: Any = webhooks.client
        self.names = {"webhooks": webhooks.name, "deliveries": deliveries.name}
        self.store = WebhookStore(webhooks.client, webhooks.name)
        self.health = HealthStore(webhooks)
        self.backlog = Backlog(deliveries, retention_days=7)
        self.history = DeliveryStore(deliveries, retention_days=30)
        self.replays = ReplayStore(deliveries)

    def items(self, table: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.client.scan(TableName=table)["Items"]
        return found

    def copy(self) -> None:
        """As `restore-table-to-point-in-time` does."""
        for name in self.names.values():
            make_table(self.client.behind, f"{name}-copy")
            for item in self.items(name):
                self.client.put_item(TableName=f"{name}-copy", Item=item)

    def lose(self, table: str, *prefixes: str) -> None:
        """Delete the items whose partition or sort key begins so."""
        for item in self.items(table):
            if item["pk"]["S"].startswith(prefixes) or item["sk"]["S"].startswith(prefixes):
                self.client.delete_item(TableName=table, Key={"pk": item["pk"], "sk": item["sk"]})

    def restore(self, *, copies: bool = True, applying: bool = True) -> None:
        run(
            System(self.client, self.names["webhooks"], self.names["deliveries"], 7),
            webhooks_copy="webhooks-copy" if copies else "",
            deliveries_copy="deliveries-copy" if copies else "",
            applying=applying,
        )

    def waiting(self, lane: Lane) -> list[str]:
        return [each.event.event_id for each in self.backlog.read(WEBHOOK, lane, limit=100)]


@pytest.fixture
def stack(dynamodb: Engine) -> Iterator[Tables]:
    """A webhook with a history and events in each lane."""
    with tables(dynamodb) as (webhooks, deliveries):
        stack = Tables(webhooks, deliveries)
        stack.store.create(webhook())
        stack.history.record(
            [Delivery(WEBHOOK, event("done"), Outcome.DELIVERED, (OK,))], recorded_at_seconds=NOW_MS // 1000
        )
        for lane in (Lane.REALTIME, Lane.BATCH):
            stack.backlog.append(WEBHOOK, lane, [PendingEvent(event(f"in-{lane}"))])
            stack.backlog.set_marker("1010", WEBHOOK, lane, accepted_at_ms=NOW_MS)
        retry = PendingEvent(event("in-retry"), tries=1, due_at_ms=NOW_MS + 60_000, attempts=(OK,))
        stack.backlog.append(WEBHOOK, Lane.RETRY, [retry])
        stack.backlog.set_marker(
            "1010", WEBHOOK, Lane.RETRY, accepted_at_ms=NOW_MS, due_at_ms=retry.due_at_ms
        )
        yield stack


def test_lanes_without_marks_get_them_as_those_who_appended_made_them(stack: Tables) -> None:
    before = stack.backlog.markers(WEBHOOK)
    stack.lose("deliveries", "DUE#")
    stack.restore(copies=False)
    after = stack.backlog.markers(WEBHOOK)
    assert after.keys() == before.keys()
    for lane, mark in after.items():
        assert (mark.account_id, mark.due_at_ms, mark.check_at_ms) == (
            "1010",
            before[lane].due_at_ms,
            before[lane].check_at_ms,
        )


def test_the_earliest_event_of_a_lane_says_when_it_is_due_and_when_it_expires(stack: Tables) -> None:
    older = PendingEvent(event("old", accepted_at_ms=NOW_MS - DAY_MS), tries=2, due_at_ms=NOW_MS + 5_000)
    stack.backlog.append(WEBHOOK, Lane.RETRY, [older])
    stack.restore(copies=False)
    mark = stack.backlog.markers(WEBHOOK)[Lane.RETRY]
    assert (mark.due_at_ms, mark.check_at_ms) == (NOW_MS + 5_000, NOW_MS + 6 * DAY_MS)


def test_a_replay_under_way_and_what_is_to_be_sent_again_get_a_mark_that_is_looked_at_soon(
    stack: Tables,
) -> None:
    stack.replays.redeliver("1010", WEBHOOK, PendingEvent(event("again")), stack.backlog, asked_at_ms=NOW_MS)
    replay = Replay("rp_1", "1010", OTHER, KeyRange("0", "9"), None, None, NOW_MS, "ada")
    stack.replays.start(replay, stack.backlog)
    stack.lose("deliveries", "DUE#")
    stack.restore(copies=False)
    for webhook_id in (WEBHOOK, OTHER):
        assert stack.backlog.markers(webhook_id)[Lane.REPLAY].check_at_ms <= NOW_MS


def test_without_being_told_to_nothing_is_changed(stack: Tables, capsys: pytest.CaptureFixture[str]) -> None:
    stack.copy()
    stack.lose("deliveries", "DUE#", "BACKLOG#")
    stack.lose("webhooks", "WEBHOOK#", "HEALTH#")
    before = {name: stack.items(name) for name in stack.names}
    stack.restore(applying=False)
    assert {name: stack.items(name) for name in stack.names} == before
    printed = capsys.readouterr().out
    assert "webhooks brought back: 1\n" in printed
    assert "waiting events brought back: 3\n" in printed
    assert "Nothing was changed" in printed


def test_a_lost_webhook_comes_back_with_fresh_health_and_counts_towards_the_limit(stack: Tables) -> None:
    owner = stack.health.acquire("1010", WEBHOOK, owner="a", now_ms=NOW_MS, until_ms=NOW_MS + 70_000)
    assert owner is not None
    stack.copy()
    stack.lose("webhooks", "ACCOUNT#")
    stack.restore()
    ((registered, health),) = stack.store.read_account("1010")
    assert registered == webhook()
    assert health == Health(mode=Mode.BACKLOG)
    # Nobody has the lease that stood in the copy.
    assert stack.health.acquire("1010", WEBHOOK, owner="b", now_ms=NOW_MS, until_ms=NOW_MS + 1) is not None
    (account,) = [item for item in stack.items("webhooks") if item["sk"]["S"] == "ACCOUNT"]
    assert account["webhook_ids"] == {"SS": [WEBHOOK]}


@pytest.mark.parametrize("is_old", [False, True], ids=["", "by a version before"])
def test_a_webhook_that_somebody_deleted_since_stays_deleted(
    stack: Tables, capsys: pytest.CaptureFixture[str], *, is_old: bool
) -> None:
    stack.store.create(webhook(webhook_id=DELETED))
    stack.copy()
    stack.store.delete("1010", DELETED, deleted_at=DELETED_AT, deleted_by="ada")
    if is_old:
        (tombstone,) = [item for item in stack.items("webhooks") if item["pk"]["S"] == "TOMBSTONE#1010"]
        stack.client.delete_item(TableName="webhooks", Key={name: tombstone[name] for name in ("pk", "sk")})
        old = tombstone | {"sk": {"S": f"WEBHOOK#{DELETED}"}}
        stack.client.put_item(TableName="webhooks", Item=old)
    stack.restore()
    assert [each.webhook.webhook_id for each in stack.store.read_account("1010")] == [WEBHOOK]
    assert f"webhooks that were deleted and stay so ({DELETED}): 1\n" in capsys.readouterr().out


def test_what_is_there_is_newer_than_the_copy_and_stays(stack: Tables) -> None:
    stack.copy()
    changed = webhook(name="HR, new", version=2)
    stack.store.update(changed, expected=webhook())
    stack.backlog.append(WEBHOOK, Lane.REALTIME, [PendingEvent(event("newer"))])
    stack.restore()
    assert stack.store.get("1010", WEBHOOK) == changed
    assert sorted(stack.waiting(Lane.REALTIME)) == ["in-realtime", "newer"]


def test_health_of_another_epoch_is_made_anew(stack: Tables) -> None:
    stack.client.update_item(
        TableName="webhooks",
        Key={"pk": {"S": "ACCOUNT#1010"}, "sk": {"S": f"WEBHOOK#{WEBHOOK}"}},
        UpdateExpression="SET epoch = :epoch",
        ExpressionAttributeValues={":epoch": {"N": "7"}},
    )
    stack.restore(copies=False)
    assert stack.health.read("1010", WEBHOOK) == Health(7, mode=Mode.BACKLOG)


def test_what_waited_comes_back_unless_it_was_delivered_since(stack: Tables) -> None:
    stack.replays.redeliver("1010", WEBHOOK, PendingEvent(event("again")), stack.backlog, asked_at_ms=NOW_MS)
    stack.copy()
    stack.history.record(
        [Delivery(WEBHOOK, event("in-realtime"), Outcome.DELIVERED, (OK,))], recorded_at_seconds=1
    )
    stack.history.record_unless_delivered(
        [Delivery(WEBHOOK, event("in-batch"), Outcome.FAILED, (), "the webhook was deleted")],
        recorded_at_seconds=1,
    )
    stack.lose("deliveries", "BACKLOG#", "DUE#")
    stack.restore()
    assert stack.waiting(Lane.REALTIME) == []
    # Who found no webhook recorded it as failed. It is to be sent all the same.
    assert stack.waiting(Lane.BATCH) == ["in-batch"]
    (retry,) = stack.backlog.read(WEBHOOK, Lane.RETRY, limit=10)
    assert (retry.event.event_id, retry.tries, retry.due_at_ms) == ("in-retry", 1, NOW_MS + 60_000)
    assert stack.waiting(Lane.REPLAY) == []
    assert stack.backlog.markers(WEBHOOK).keys() == {Lane.BATCH, Lane.RETRY}


def test_lost_history_comes_back(stack: Tables) -> None:
    stack.copy()
    stack.lose("deliveries", "DELIVERY#")
    stack.restore()
    key = (WEBHOOK, event("done").sort_key)
    assert stack.history.find_delivered([key], consistent=True) == {key}


def test_done_twice_it_changes_nothing_more(stack: Tables) -> None:
    stack.copy()
    stack.lose("deliveries", "DELIVERY#", "BACKLOG#", "DUE#")
    stack.lose("webhooks", "ACCOUNT#")
    stack.restore()

    def state() -> list[Any]:
        return [
            {name: value for name, value in item.items() if name != "token"}
            for table in stack.names
            for item in stack.items(table)
        ]

    before = state()
    stack.restore()
    assert state() == before
