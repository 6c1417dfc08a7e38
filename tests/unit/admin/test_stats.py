"""An admin sees at a glance how a webhook did, hour by hour, and what waits for it."""

import pytest

from lms_webhooks.admin import stats
from lms_webhooks.admin.stats import percentile
from lms_webhooks.model.attempts import Attempt
from lms_webhooks.model.deliveries import Delivery, Outcome
from lms_webhooks.model.lanes import Lane, PendingEvent
from lms_webhooks.timestamps import format_ms
from tests.unit.admin_client import ADMIN_CLAIMS, AdminClient
from tests.unit.tables import DAY_MS, NOW_MS, event

MINUTE_MS = 60_000


@pytest.fixture
def webhook_id(client: AdminClient) -> str:
    return str(client.create().body["webhookId"])


def record(
    client: AdminClient, webhook_id: str, at_ms: int, outcome: Outcome, *, latency_ms: int = 10
) -> None:
    attempts = (Attempt(at_ms, 9000, 503, None), Attempt(at_ms, latency_ms, 204, None))
    delivery = Delivery(webhook_id, event(f"e{at_ms}", at_ms=at_ms), outcome, attempts, "")
    client.history.record([delivery], recorded_at_seconds=NOW_MS // 1000)


def test_of_a_new_webhook_there_is_nothing_to_tell(client: AdminClient, webhook_id: str) -> None:
    assert client.call("GET", f"/v1/webhooks/{webhook_id}/stats").body == {
        "from": "2026-11-02T13:00:00.000Z",
        "to": "2026-11-03T13:00:00.000Z",
        "countedFrom": "2026-11-02T13:00:00.000Z",
        "hours": [],
        "pending": {"count": 0, "atLeast": False, "lanes": {}},
        "nextBatchAt": "2026-11-03T12:15:00.000Z",
    }


def test_outcomes_and_latencies_are_counted_by_hour(client: AdminClient, webhook_id: str) -> None:
    for minute, latency_ms in ((-1, 10), (-2, 20), (-3, 30), (-4, 400)):
        record(client, webhook_id, NOW_MS + minute * MINUTE_MS, Outcome.DELIVERED, latency_ms=latency_ms)
    record(client, webhook_id, NOW_MS - 5 * MINUTE_MS, Outcome.FAILED)
    record(client, webhook_id, NOW_MS, Outcome.EXPIRED)
    record(client, webhook_id, NOW_MS - DAY_MS, Outcome.DELIVERED)
    answer = client.call("GET", f"/v1/webhooks/{webhook_id}/stats").body
    assert answer["hours"] == [
        {"startsAt": "2026-11-03T12:00:00.000Z", "delivered": 0, "failed": 0, "expired": 1},
        {
            "startsAt": "2026-11-03T11:00:00.000Z",
            "delivered": 4,
            "failed": 1,
            "expired": 0,
            "latencyMs": {"p50": 20, "p95": 400, "max": 400},
        },
    ]
    longer = client.call("GET", f"/v1/webhooks/{webhook_id}/stats?hours=25").body
    assert [hour["startsAt"] for hour in longer["hours"]][-1] == "2026-11-02T12:00:00.000Z"


def test_what_waits_since_when_until_when(client: AdminClient, webhook_id: str) -> None:
    """Of what is to be sent again nothing is lost, and its time says nothing of what waits."""
    for lane, minutes in ((Lane.REALTIME, 3), (Lane.BATCH, 9), (Lane.REPLAY, 5000)):
        at_ms = NOW_MS - minutes * MINUTE_MS
        client.backlog.append(webhook_id, lane, [PendingEvent(event(f"{lane}", at_ms=at_ms))])
        client.backlog.set_marker("1010", webhook_id, lane, accepted_at_ms=at_ms + 1000)
    answer = client.call("GET", f"/v1/webhooks/{webhook_id}/stats").body
    assert answer["pending"]["count"] == 3
    assert answer["oldestPendingAt"] == "2026-11-03T11:51:00.000Z"
    assert answer["nextExpiryAt"] == "2026-11-10T11:51:01.000Z"
    assert answer["nextBatchAt"] == "2026-11-03T12:15:00.000Z"


def test_more_than_can_be_counted_is_counted_in_part_and_says_so(
    client: AdminClient, webhook_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for minute in range(9):
        record(client, webhook_id, NOW_MS - minute * MINUTE_MS, Outcome.DELIVERED)
    monkeypatch.setattr(stats, "_PAGE", 2)
    monkeypatch.setattr(stats, "_MAX_PAGES", 3)
    answer = client.call("GET", f"/v1/webhooks/{webhook_id}/stats").body
    assert sum(hour["delivered"] for hour in answer["hours"]) == 6
    assert answer["countedFrom"] == "2026-11-03T11:55:00.000Z"


def test_who_may_and_what_is_wrong(client: AdminClient, webhook_id: str) -> None:
    path = f"/v1/webhooks/{webhook_id}/stats"
    stranger: dict[str, object] = {**ADMIN_CLAIMS, "custom:account_id": "2020"}
    reader: dict[str, object] = {**ADMIN_CLAIMS, "cognito:groups": "[integration-reader]"}
    assert client.call("GET", path, claims=stranger).status == 404
    assert client.call("GET", path, claims=reader).status == 200
    answer = client.call("GET", f"{path}?hours=169&days=1")
    assert answer.status == 400
    assert {each["parameter"] for each in answer.body["errors"]} == {"hours", "days"}


@pytest.mark.parametrize(
    ("due_in_minutes", "shown_in_minutes"), [(3, 3), (90, 90), (0, 15), (-1, 15)], ids=str
)
def test_the_next_batch_is_the_slot_that_events_wait_for_or_else_the_next(
    client: AdminClient, webhook_id: str, due_in_minutes: int, shown_in_minutes: int
) -> None:
    """The period may have changed since they came. Those that are due already go out now."""
    client.backlog.append(webhook_id, Lane.BATCH, [PendingEvent(event("e"))])
    due_at_ms = NOW_MS + due_in_minutes * MINUTE_MS
    client.backlog.set_marker("1010", webhook_id, Lane.BATCH, accepted_at_ms=NOW_MS, due_at_ms=due_at_ms)
    answer = client.call("GET", f"/v1/webhooks/{webhook_id}/stats").body
    assert answer["nextBatchAt"] == format_ms(NOW_MS + shown_in_minutes * MINUTE_MS)


@pytest.mark.parametrize(("percent", "expected"), [(50, 5), (95, 10), (100, 10), (1, 1), (10, 1), (11, 2)])
def test_percentiles_are_values_that_there_were(percent: int, expected: int) -> None:
    assert percentile(range(1, 11), percent) == expected
    assert percentile([7], percent) == 7
