"""When a webhook's non-real-time events go out: what an admin says, sees, and changes meanwhile."""

from typing import Any

import pytest

from lms_webhooks.aws.dynamodb import Table
from lms_webhooks.model.health import DisabledReason, Health
from lms_webhooks.model.lanes import Lane
from lms_webhooks.stores.health import HealthStore
from tests.unit.admin_client import NOW, AdminClient

NOW_MS = int(NOW.timestamp() * 1000) - 5  # 2026-11-03, 12:00 UTC and 13:00 in Rome
MINUTE_MS = 60_000
BATCH = ["COURSE_COMPLETED_BATCH"]
DAILY = {"dailyAt": ["14:30", "02:00"], "timeZone": "Europe/Rome"}
DEFAULT = {"everyMinutes": 15}


def batch(client: AdminClient, path: str) -> tuple[Any, Any]:
    """The schedule and the next batch of a webhook, the same from each call that shows them."""
    shown = client.call("GET", path).body
    (listed,) = client.call("GET", "/v1/webhooks").body["webhooks"]
    assert listed["batchSchedule"] == shown["batchSchedule"]
    assert listed.get("nextBatchAt") == shown.get("nextBatchAt")
    if "nextBatchAt" in shown:
        assert client.call("GET", f"{path}/stats").body["nextBatchAt"] == shown["nextBatchAt"]
    return shown["batchSchedule"], shown.get("nextBatchAt")


@pytest.mark.parametrize(
    ("given", "shown", "next_batch_at"),
    [
        (None, DEFAULT, "2026-11-03T12:15:00.000Z"),
        ({"everyMinutes": 15}, DEFAULT, "2026-11-03T12:15:00.000Z"),
        ({"everyMinutes": 5}, {"everyMinutes": 5}, "2026-11-03T12:05:00.000Z"),
        ({"everyMinutes": 1440}, {"everyMinutes": 1440}, "2026-11-04T00:00:00.000Z"),
        (DAILY, {**DAILY, "dailyAt": ["02:00", "14:30"]}, "2026-11-03T13:30:00.000Z"),
    ],
)
def test_a_webhook_has_a_schedule_and_shows_its_next_batch(
    client: AdminClient, given: Any, shown: Any, next_batch_at: str
) -> None:
    created = client.create(events=BATCH, batchSchedule=given)
    assert (created.status, created.body["batchSchedule"]) == (201, shown)
    assert created.body["nextBatchAt"] == next_batch_at
    assert batch(client, f"/v1/webhooks/{created.body['webhookId']}") == (shown, next_batch_at)


def test_what_a_call_shows_another_takes(client: AdminClient) -> None:
    webhook_id = client.create(events=BATCH, batchSchedule=DAILY).body["webhookId"]
    path = f"/v1/webhooks/{webhook_id}"
    for schedule in (client.call("GET", path).body["batchSchedule"], DEFAULT):
        assert client.call("PATCH", path, {"batchSchedule": schedule}).body["batchSchedule"] == schedule
    stored = client.store.get("1010", webhook_id).batch_schedule
    assert stored is None, "that of the deployment, whatever it becomes"
    assert client.call("PATCH", path, {"batchSchedule": None}).status == 422
    assert client.call("PATCH", path, {"name": "New"}).body["batchSchedule"] == DEFAULT


@pytest.mark.parametrize(
    ("changes", "health"),
    [
        ({"events": ["COURSE_COMPLETED"]}, Health()),
        ({"status": "paused"}, Health()),
        ({"status": "inactive"}, Health()),
        ({}, Health(disabled_reason=DisabledReason.GONE, disabled_at_ms=NOW_MS)),
    ],
    ids=["no non-real-time type", "paused", "inactive", "disabled"],
)
def test_there_is_no_next_batch_where_none_goes_out(
    client: AdminClient, changes: dict[str, Any], health: Health
) -> None:
    webhook_id = client.create(**{"events": BATCH, **changes}).body["webhookId"]
    if health.disabled_reason is not None:
        table = Table(client.store._client, client.store._table_name)
        assert HealthStore(table).save("1010", webhook_id, health, revision=0)
    assert batch(client, f"/v1/webhooks/{webhook_id}") == (DEFAULT, None)


def pend(client: AdminClient, webhook_id: str, *, due_at_ms: int) -> None:
    client.backlog.set_marker(
        "1010", webhook_id, Lane.BATCH, accepted_at_ms=NOW_MS - MINUTE_MS, due_at_ms=due_at_ms
    )


@pytest.mark.parametrize(
    ("schedule", "next_batch_at"),
    [({"everyMinutes": 5}, "2026-11-03T12:05:00.000Z"), (DAILY, "2026-11-03T13:30:00.000Z")],
    ids=["earlier", "later"],
)
def test_a_new_schedule_holds_for_what_is_pending(
    client: AdminClient, schedule: Any, next_batch_at: str
) -> None:
    webhook_id = client.create(events=BATCH).body["webhookId"]
    path = f"/v1/webhooks/{webhook_id}"
    pend(client, webhook_id, due_at_ms=NOW_MS + 15 * MINUTE_MS)
    assert batch(client, path) == (DEFAULT, "2026-11-03T12:15:00.000Z")
    client.slept_seconds.clear()
    changed = client.call("PATCH", path, {"batchSchedule": schedule})
    assert changed.body["nextBatchAt"] == next_batch_at
    assert batch(client, path)[1] == next_batch_at
    assert client.slept_seconds, "no dispatcher has the old one any more"


def test_events_whose_slot_has_come_stay_due(client: AdminClient) -> None:
    webhook_id = client.create(events=BATCH).body["webhookId"]
    pend(client, webhook_id, due_at_ms=NOW_MS)
    client.call("PATCH", f"/v1/webhooks/{webhook_id}", {"batchSchedule": DAILY})
    assert client.backlog.markers(webhook_id)[Lane.BATCH].due_at_ms == NOW_MS
    assert batch(client, f"/v1/webhooks/{webhook_id}")[1] == "2026-11-03T13:30:00.000Z"


def test_another_change_moves_no_slot(client: AdminClient) -> None:
    webhook_id = client.create(events=BATCH, batchSchedule=DAILY).body["webhookId"]
    pend(client, webhook_id, due_at_ms=NOW_MS + MINUTE_MS)
    client.call("PATCH", f"/v1/webhooks/{webhook_id}", {"name": "New"})
    assert client.backlog.markers(webhook_id)[Lane.BATCH].due_at_ms == NOW_MS + MINUTE_MS
