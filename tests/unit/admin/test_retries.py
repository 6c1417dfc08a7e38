"""An admin who has fixed a receiver has its endpoint probed now; what cannot be probed says why."""

from dataclasses import replace
from typing import Any

import pytest

from lms_webhooks.model.attempts import Attempt
from lms_webhooks.model.health import DisabledReason, Health, Mode
from lms_webhooks.model.lanes import Lane, PendingEvent
from lms_webhooks.stores.health import Ticket
from tests.unit.admin_client import NOW, AdminClient
from tests.unit.tables import event

NOW_MS = int(NOW.timestamp() * 1000)
DOWN = Attempt(NOW_MS - 20_000, 80, 503, None)
EARLIER = Attempt(NOW_MS - 300_000, 5000, None, "timeout")
FAILING = Health(
    mode=Mode.BACKLOG,
    failures=6,
    failing_since_ms=NOW_MS - 300_000,
    last_error="HTTP 503",
    next_attempt_at_ms=NOW_MS + 140_000,
    attempts=(EARLIER, DOWN),
)
ACCEPTED_MS = NOW_MS - 60_000


@pytest.fixture
def webhook_id(client: AdminClient) -> str:
    """A webhook whose endpoint fails, and whose next drain message is on its way."""
    webhook_id = str(client.create().body["webhookId"])
    assert client.health.save("1010", webhook_id, FAILING, revision=0)
    ticket = Ticket("its-own", FAILING.next_attempt_at_ms)
    assert client.health.take_ticket("1010", webhook_id, ticket, now_ms=NOW_MS)
    put(client, webhook_id)
    return webhook_id


def put(client: AdminClient, webhook_id: str, *, due_at_ms: int = 0) -> None:
    pending = PendingEvent(event("e1", at_ms=ACCEPTED_MS, accepted_at_ms=ACCEPTED_MS))
    assert not client.backlog.append(webhook_id, Lane.REALTIME, [pending])
    client.backlog.set_marker(
        "1010", webhook_id, Lane.REALTIME, accepted_at_ms=ACCEPTED_MS, due_at_ms=due_at_ms
    )


def acquire(client: AdminClient, webhook_id: str, *, ticket: str = "") -> Health | None:
    return client.health.acquire(
        "1010",
        webhook_id,
        owner=f"drainer{ticket}",
        now_ms=NOW_MS,
        until_ms=NOW_MS + 70_000,
        ticket=ticket,
    )


def test_the_next_attempt_is_due_and_one_drain_message_is_sent(client: AdminClient, webhook_id: str) -> None:
    assert acquire(client, webhook_id) is None, "the next attempt is not due"
    answer = client.call("POST", f"/v1/webhooks/{webhook_id}/retry")
    assert (answer.status, answer.headers["Location"]) == (202, f"/v1/webhooks/{webhook_id}")
    assert answer.body == {"state": "scheduled", "requestedAt": "2026-11-03T12:00:00.005Z"}
    assert client.sent_for_drainers() == [{"accountId": "1010", "webhookId": webhook_id}]
    shown = client.call("GET", f"/v1/webhooks/{webhook_id}").body["health"]
    assert shown["nextAttemptAt"] == "2026-11-03T12:00:00.005Z"
    assert shown["failingSince"], "it still fails, until the probe says otherwise"
    leased = acquire(client, webhook_id)
    assert leased is not None
    assert (leased.failures, leased.attempts) == (FAILING.failures, FAILING.attempts)


def test_a_drainer_that_outlived_its_lease_does_not_take_it_back(
    client: AdminClient, webhook_id: str
) -> None:
    client.health.drop_ticket("1010", webhook_id, "its-own")
    stale = client.health.read("1010", webhook_id)
    assert stale is not None
    assert client.call("POST", f"/v1/webhooks/{webhook_id}/retry").status == 202
    assert not client.health.save("1010", webhook_id, stale, revision=stale.revision)


def test_while_a_drainer_is_at_work_no_other_probe_is_scheduled_or_counted(
    client: AdminClient, webhook_id: str
) -> None:
    client.health.drop_ticket("1010", webhook_id, "its-own")
    assert client.health.retry_now("1010", webhook_id, epoch=1, now_ms=NOW_MS)
    assert acquire(client, webhook_id) is not None
    for _ in range(12):
        key = {"idempotency-key": "once"}
        answer = client.call("POST", f"/v1/webhooks/{webhook_id}/retry", headers=key)
        assert (answer.status, answer.body["state"]) == (202, "running")
    assert answer.headers["Idempotency-Replayed"] == "true"
    assert client.sent_for_drainers() == []
    assert client.call("POST", f"/v1/webhooks/{webhook_id}/test").status == 200


def test_a_repeat_under_its_key_probes_once(client: AdminClient, webhook_id: str) -> None:
    key = {"idempotency-key": "once"}
    first, second = (client.call("POST", f"/v1/webhooks/{webhook_id}/retry", headers=key) for _ in range(2))
    assert (first.status, first.text) == (second.status, second.text)
    assert len(client.sent_for_drainers()) == 1


@pytest.mark.slow
def test_retries_count_with_the_tests_of_the_account(client: AdminClient, webhook_id: str) -> None:
    statuses = [client.call("POST", f"/v1/webhooks/{webhook_id}/retry").status for _ in range(10)]
    assert statuses == [202] * 9 + [429], "the webhook itself was one of ten"
    assert len(client.sent_for_drainers()) == 9


@pytest.mark.parametrize(
    ("change", "health", "slug", "says"),
    [
        ({"status": "paused"}, None, "not-active", "is paused"),
        ({"status": "inactive"}, None, "not-active", "is inactive"),
        ({}, replace(FAILING, disabled_reason=DisabledReason.GONE), "not-active", "is disabled"),
        ({}, replace(FAILING, failures=0), "nothing-to-retry", "does not fail"),
    ],
)
def test_what_sends_nothing_or_works_is_not_probed(
    client: AdminClient,
    webhook_id: str,
    change: dict[str, Any],
    health: Health | None,
    slug: str,
    says: str,
) -> None:
    path = f"/v1/webhooks/{webhook_id}"
    if change:
        assert client.call("PATCH", path, change).status == 200
    if health is not None:
        assert client.health.save("1010", webhook_id, health, revision=1)
    client.sent_for_drainers()
    answer = client.call("POST", f"{path}/retry")
    assert (answer.status, answer.body["type"]) == (409, f"urn:lms-webhooks:problem:{slug}")
    assert says in answer.body["detail"]
    assert client.sent_for_drainers() == []


def test_without_a_due_event_there_is_nothing_to_probe_with(client: AdminClient) -> None:
    webhook_id = str(client.create().body["webhookId"])
    assert client.health.save("1010", webhook_id, FAILING, revision=0)
    path = f"/v1/webhooks/{webhook_id}/retry"
    assert client.call("POST", path).body["type"].endswith("nothing-to-retry")
    put(client, webhook_id, due_at_ms=NOW_MS + 1)
    assert client.call("POST", path).body["type"].endswith("nothing-to-retry")
    assert client.sent_for_drainers() == []


def test_the_last_requests_to_an_endpoint_are_shown_with_its_health(
    client: AdminClient, webhook_id: str
) -> None:
    shown = client.call("GET", f"/v1/webhooks/{webhook_id}").body["health"]["attempts"]
    assert shown == [
        {"at": "2026-11-03T11:55:00.005Z", "latencyMs": 5000, "errorClass": "timeout"},
        {"at": "2026-11-03T11:59:40.005Z", "latencyMs": 80, "statusCode": 503},
    ]


def test_a_pending_event_shows_the_requests_since_it_was_accepted(
    client: AdminClient, webhook_id: str
) -> None:
    """The first of them carried it. Its failure is stored with the health, and not with each event."""
    base = f"/v1/webhooks/{webhook_id}/deliveries"
    (listed,) = client.call("GET", base).body["deliveries"]
    shown = client.call("GET", f"{base}/{listed['deliveryId']}").body
    assert (shown["status"], shown["attempts"]) == ("pending", [])
    assert shown["endpointAttempts"] == [
        {"at": "2026-11-03T11:59:40.005Z", "latencyMs": 80, "statusCode": 503}
    ]
