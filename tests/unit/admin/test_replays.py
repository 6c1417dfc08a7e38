"""An admin has deliveries sent again: the API notes it for the drainer, and shows how far it is."""

from typing import Any

import pytest

from lms_webhooks.admin import deliveries
from lms_webhooks.drainer.replay_runner import ReplayRunner
from lms_webhooks.model.attempts import Attempt
from lms_webhooks.model.deliveries import Delivery, Outcome
from lms_webhooks.model.lanes import Lane, PendingEvent
from lms_webhooks.stores.replays import ReplayStore
from tests.unit.admin_client import ADMIN_CLAIMS, NOW, AdminClient
from tests.unit.tables import DAY_MS, NOW_MS, event

OK = Attempt(NOW_MS - 50_000, 40, 204, None)
AGAIN = Attempt(NOW_MS + 100, 40, 204, None)


@pytest.fixture
def webhook_id(client: AdminClient) -> str:
    webhook_id = str(client.create().body["webhookId"])
    client.history.record(
        [
            Delivery(webhook_id, event(f"e{n}", at_ms=NOW_MS - 60_000 + n), Outcome.DELIVERED, (OK,))
            for n in range(3)
        ],
        recorded_at_seconds=NOW_MS // 1000,
    )
    return webhook_id


def replays(client: AdminClient) -> ReplayRunner:
    return ReplayRunner(
        ReplayStore(client.deliveries_table), client.history, client.backlog, clock=lambda: NOW_MS / 1000 + 9
    )


def test_one_delivery_is_put_into_the_replay_lane(client: AdminClient, webhook_id: str) -> None:
    (listed, *_) = client.call("GET", f"/v1/webhooks/{webhook_id}/deliveries").body["deliveries"]
    path = f"/v1/webhooks/{webhook_id}/deliveries/{listed['deliveryId']}"
    answer = client.call("POST", f"{path}/redeliver")
    assert (answer.status, answer.body, answer.headers["Location"]) == (202, listed, path)
    (waiting,) = client.backlog.read(webhook_id, Lane.REPLAY, limit=2)
    assert waiting.token
    assert (waiting.event.event_id, waiting.event.text) == ("e2", '{"n":1.10}')
    mark = client.backlog.markers(webhook_id)[Lane.REPLAY]
    assert mark.due_at_ms == 0
    assert waiting.asked_at_ms == int(NOW.timestamp() * 1000)
    assert mark.check_at_ms == waiting.asked_at_ms + 7 * DAY_MS
    assert client.sent_for_drainers() == [{"accountId": "1010", "webhookId": webhook_id}]
    shown = client.call("GET", f"/v1/webhooks/{webhook_id}").body["pending"]
    assert shown["lanes"] == {"replay": {"count": 1, "atLeast": False}}
    assert client.call("GET", path).body["status"] == "delivered"


def test_a_replay_is_begun_shown_and_ends(client: AdminClient, webhook_id: str) -> None:
    path = f"/v1/webhooks/{webhook_id}/replay"
    assert client.call("GET", path).status == 404
    body = {"from": "2026-11-03T11:00:00Z", "to": "2026-11-03T11:59:00.002Z", "status": "delivered"}
    started = client.call("POST", path, body)
    assert started.status == 202
    assert started.headers["Location"] == path
    assert started.body == {
        "replayId": started.body["replayId"],
        "state": "running",
        "from": "2026-11-03T11:00:00.000Z",
        "to": "2026-11-03T11:59:00.002Z",
        "status": "delivered",
        "processed": 0,
        "delivered": 0,
        "rejected": 0,
        "startedAt": "2026-11-03T12:00:00.005Z",
        "startedBy": "ada@example.com",
    }
    assert client.call("GET", path).body == started.body
    assert client.sent_for_drainers() == [{"accountId": "1010", "webhookId": webhook_id}]
    assert Lane.REPLAY in client.backlog.markers(webhook_id)

    drainer = replays(client)
    first = drainer.next_batch(webhook_id, limit=1)
    assert first is not None
    assert [each.event.event_id for each in first.pending] == ["e0"]
    assert drainer.record(first, first.pending, AGAIN, is_delivered=True)
    half = client.call("GET", path).body
    assert half["processedTo"] == "2026-11-03T11:59:00.000Z"
    assert (half["state"], half["processed"], half["delivered"]) == ("running", 1, 1)
    rest = drainer.next_batch(webhook_id, limit=100)
    assert rest is not None
    assert [each.event.event_id for each in rest.pending] == ["e1"]
    assert drainer.record(rest, rest.pending, AGAIN, is_delivered=False)
    ended = client.call("GET", path).body
    assert (ended["state"], ended["processed"], ended["delivered"], ended["rejected"]) == ("done", 2, 1, 1)
    assert ended["endedAt"] == "2026-11-03T12:00:09.000Z"
    assert drainer.next_batch(webhook_id, limit=100) is None
    attempts = [
        each["attemptCount"]
        for each in client.call("GET", f"/v1/webhooks/{webhook_id}/deliveries?status=delivered").body[
            "deliveries"
        ]
    ]
    assert attempts == [1, 2, 2]


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("from=2026-11-03T11:00:00Z", 4),
        ("from=2026-11-03T11:00:00Z&status=delivered", 3),
        ("from=2026-11-03T11:00:00Z&status=failed", 1),
        ("from=2026-11-03T11:00:00Z&to=2026-11-03T11:59:00.002Z", 2),
        ("from=2026-11-03T11:00:00Z&eventName=CI_STATS", 1),
        ("from=2026-11-03T11:00:00Z&eventName=CI_STATS&status=delivered", 0),
    ],
)
def test_a_preview_counts_what_the_replay_then_sends(
    client: AdminClient, webhook_id: str, query: str, count: int
) -> None:
    other = event("e9", at_ms=NOW_MS - 60_000 + 9, event_name="CI_STATS")
    client.history.record(
        [Delivery(webhook_id, other, Outcome.FAILED, (OK,), "tried in vain")],
        recorded_at_seconds=NOW_MS // 1000,
    )
    path = f"/v1/webhooks/{webhook_id}/replay"
    shown = client.call("GET", f"{path}/preview?{query}")
    assert (shown.status, shown.body["count"], shown.body["atLeast"]) == (200, count, False)
    assert client.backlog.markers(webhook_id) == {}
    wanted = dict(pair.split("=") for pair in query.split("&"))
    started = client.call("POST", path, wanted).body
    assert {name: shown.body[name] for name in ("from", "to", *wanted)} == {
        name: started[name] for name in ("from", "to", *wanted)
    }
    batch = replays(client).next_batch(webhook_id, limit=100)
    assert batch is not None
    assert len(batch.pending) == count


def test_a_preview_of_a_long_history_says_that_there_is_more(
    client: AdminClient, webhook_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "_COUNTED_PAGES", 2)
    monkeypatch.setattr(deliveries, "_COUNTED_PAGE", 1)
    shown = client.call("GET", f"/v1/webhooks/{webhook_id}/replay/preview?from=2026-11-03T11:00:00Z").body
    assert (shown["count"], shown["atLeast"]) == (2, True)


@pytest.mark.parametrize(
    ("query", "errors"),
    [
        ("", {"from": "is required"}),
        ("from=2027-01-01T00:00:00Z", {"from": "must not be later than now"}),
        (
            "from=2026-11-03T11:00:00Z&to=2026-11-03T11:00:00Z&status=pending&limit=1",
            {
                "to": "must be later than from",
                "status": "must be one of delivered, failed, expired",
                "limit": "is not a parameter that this call takes",
            },
        ),
    ],
)
def test_a_preview_has_the_rules_of_a_replay(
    client: AdminClient, webhook_id: str, query: str, errors: dict[str, str]
) -> None:
    answer = client.call("GET", f"/v1/webhooks/{webhook_id}/replay/preview?{query}")
    assert answer.status == 400
    assert {each["parameter"]: each["detail"] for each in answer.body["errors"]} == errors


def test_a_webhook_shows_its_newest_delivery_and_the_replay_that_runs(
    client: AdminClient, webhook_id: str
) -> None:
    """So a webhook that was never tried does not look healthy, and a page need not ask for a replay."""
    path = f"/v1/webhooks/{webhook_id}"
    shown = client.call("GET", path).body
    (newest, *_) = client.call("GET", f"{path}/deliveries").body["deliveries"]
    assert shown["lastDelivery"] == newest
    assert "replay" not in shown
    started = client.call("POST", f"{path}/replay", {"from": "2026-11-03T11:00:00Z"}).body
    assert client.call("GET", path).body["replay"] == started
    assert client.call("GET", "/v1/webhooks").body["webhooks"][0]["replay"] == started
    drainer = replays(client)
    batch = drainer.next_batch(webhook_id, limit=100)
    assert batch is not None
    assert drainer.record(batch, batch.pending, AGAIN, is_delivered=True)
    assert "replay" not in client.call("GET", path).body
    new = client.create().body
    assert "lastDelivery" not in client.call("GET", f"/v1/webhooks/{new['webhookId']}").body


def test_one_replay_at_a_time(client: AdminClient, webhook_id: str) -> None:
    path = f"/v1/webhooks/{webhook_id}/replay"
    body = {"from": "2026-11-03T11:00:00Z"}
    first = client.call("POST", path, body)
    refused = client.call("POST", path, body)
    assert (refused.status, refused.body["type"]) == (409, "urn:lms-webhooks:problem:replay-running")
    drainer = replays(client)
    batch = drainer.next_batch(webhook_id, limit=100)
    assert batch is not None
    assert drainer.record(batch, batch.pending, AGAIN, is_delivered=True)
    client.now_seconds += 60
    second = client.call("POST", path, body)
    assert second.status == 202
    assert second.body["replayId"] != first.body["replayId"]
    batch = drainer.next_batch(webhook_id, limit=100)
    assert batch is not None
    assert len(batch.pending) == 3, "what the first replay sent, the second sends as well"


def test_one_that_is_asked_for_again_while_it_is_sent_is_sent_again(
    client: AdminClient, webhook_id: str
) -> None:
    (listed, *_) = client.call("GET", f"/v1/webhooks/{webhook_id}/deliveries").body["deliveries"]
    path = f"/v1/webhooks/{webhook_id}/deliveries/{listed['deliveryId']}/redeliver"
    client.call("POST", path)
    drainer = replays(client)
    in_flight = drainer.next_batch(webhook_id, limit=10)
    assert in_flight is not None
    assert client.call("POST", path).status == 202
    assert drainer.record(in_flight, in_flight.pending, AGAIN, is_delivered=False)
    again = drainer.next_batch(webhook_id, limit=10)
    assert again is not None
    assert [each.event.event_id for each in again.pending] == ["e2"]
    assert drainer.record(again, again.pending, AGAIN, is_delivered=True)
    assert drainer.next_batch(webhook_id, limit=10) is None


def test_a_rejected_redelivery_of_what_still_waits_is_one_attempt_more_and_no_outcome(
    client: AdminClient, webhook_id: str
) -> None:
    client.backlog.append(webhook_id, Lane.REALTIME, [PendingEvent(event("late", at_ms=NOW_MS))])
    client.backlog.set_marker("1010", webhook_id, Lane.REALTIME, accepted_at_ms=NOW_MS)
    (listed, *_) = client.call("GET", f"/v1/webhooks/{webhook_id}/deliveries?status=pending").body[
        "deliveries"
    ]
    client.call("POST", f"/v1/webhooks/{webhook_id}/deliveries/{listed['deliveryId']}/redeliver")
    drainer = replays(client)
    batch = drainer.next_batch(webhook_id, limit=10)
    assert batch is not None
    assert drainer.record(batch, batch.pending, AGAIN, is_delivered=False)
    assert client.call("GET", f"/v1/webhooks/{webhook_id}/deliveries?status=failed").body["deliveries"] == []
    (still, *_) = client.call("GET", f"/v1/webhooks/{webhook_id}/deliveries?status=pending").body[
        "deliveries"
    ]
    assert (listed["attemptCount"], still["attemptCount"]) == (0, 1)
    assert drainer.next_batch(webhook_id, limit=10) is None


def test_a_replay_is_stopped_where_it_is(client: AdminClient, webhook_id: str) -> None:
    path = f"/v1/webhooks/{webhook_id}/replay"
    assert client.call("DELETE", path).body["type"].endswith("no-such-replay")
    client.call("POST", path, {"from": "2026-11-03T11:00:00Z"})
    drainer = replays(client)
    in_flight = drainer.next_batch(webhook_id, limit=1)
    assert in_flight is not None
    stopped = client.call("DELETE", path)
    assert (stopped.status, stopped.text) == (204, "")
    assert drainer.record(in_flight, in_flight.pending, AGAIN, is_delivered=True)
    shown = client.call("GET", path).body
    assert (shown["state"], shown["delivered"]) == ("cancelled", 1), "what was on its way arrived"
    assert drainer.next_batch(webhook_id, limit=1) is None
    assert client.call("DELETE", path).status == 404
    assert client.call("POST", path, {"from": "2026-11-03T11:00:00Z"}).status == 202


def test_a_replay_that_is_stopped_at_its_last_step_stays_so(client: AdminClient, webhook_id: str) -> None:
    path = f"/v1/webhooks/{webhook_id}/replay"
    client.call("POST", path, {"from": "2026-11-03T11:00:00Z"})
    drainer = replays(client)
    last = drainer.next_batch(webhook_id, limit=100)
    assert last is not None
    client.call("DELETE", path)
    drainer.record(last, last.pending, AGAIN, is_delivered=True)
    shown = client.call("GET", path).body
    assert (shown["state"], shown["delivered"]) == ("cancelled", 3)


def test_a_keyed_redelivery_is_noted_with_its_answer(client: AdminClient, webhook_id: str) -> None:
    """So a second try under the key does not send it once more, whenever the first one broke off."""
    (listed, *_) = client.call("GET", f"/v1/webhooks/{webhook_id}/deliveries").body["deliveries"]
    path = f"/v1/webhooks/{webhook_id}/deliveries/{listed['deliveryId']}/redeliver"
    first = client.call("POST", path, headers={"idempotency-key": "k"})
    drainer = replays(client)
    batch = drainer.next_batch(webhook_id, limit=10)
    assert batch is not None
    drainer.record(batch, batch.pending, AGAIN, is_delivered=True)
    client.now_seconds += 30
    second = client.call("POST", path, headers={"idempotency-key": "k"})
    assert (second.status, second.text) == (202, first.text)
    assert second.headers["Idempotency-Replayed"] == "true"
    assert drainer.next_batch(webhook_id, limit=10) is None


def test_a_replay_begun_twice_under_one_key_is_one(client: AdminClient, webhook_id: str) -> None:
    key = {"idempotency-key": "r1"}
    body = {"from": "2026-11-03T11:00:00Z"}
    first, second = (
        client.call("POST", f"/v1/webhooks/{webhook_id}/replay", body, headers=key) for _ in range(2)
    )
    assert (first.status, second.status) == (202, 202)
    assert first.text == second.text


def test_an_attempt_is_added_once_however_often_the_call_is_repeated(
    client: AdminClient, webhook_id: str
) -> None:
    """botocore repeats a call that took effect and whose response was lost."""
    events = [event("e0", at_ms=NOW_MS - 60_000), event("new", at_ms=NOW_MS)]
    sent = [(webhook_id, each, (OK,)) for each in events]
    for _ in range(2):
        assert not client.history.add_attempt(
            sent, AGAIN, is_delivered=False, recorded_at_seconds=NOW_MS // 1000
        )
    old = client.history.find(webhook_id, sent[0][1].sort_key)
    assert client.history.find(webhook_id, sent[1][1].sort_key) is None, "rejected, and on no record before"
    for _ in range(2):
        assert not client.history.add_attempt(
            sent, AGAIN, is_delivered=True, recorded_at_seconds=NOW_MS // 1000
        )
    new = client.history.find(webhook_id, sent[1][1].sort_key)
    assert old is not None
    assert new is not None
    assert (old[0].outcome, old[0].attempts) == (Outcome.DELIVERED, (OK, AGAIN))
    assert (new[0].outcome, new[0].attempts, new[1].text) == (Outcome.DELIVERED, (OK, AGAIN), '{"n":1.10}')


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({}, {"/from": "is required"}),
        ({"from": 7}, {"/from": "must be a time such as 2026-11-03T12:00:00Z"}),
        (
            {"from": "2026-11-03", "to": "x", "status": "pending", "eventName": "NO", "more": 1},
            {
                "/from": "must be a time such as 2026-11-03T12:00:00Z",
                "/to": "must be a time such as 2026-11-03T12:00:00Z",
                "/status": "must be 'delivered', 'failed' or 'expired'",
                "/eventName": "must be an event name that GET /v1/event-types lists",
                "/more": "is not a field that this call takes",
            },
        ),
        ({"from": "2027-01-01T00:00:00Z"}, {"/from": "must not be later than now"}),
        (
            {"from": "2026-11-03T12:00:00Z", "to": "2026-11-03T12:00:00Z"},
            {"/to": "must be later than from"},
        ),
    ],
    ids=str,
)
def test_rules(client: AdminClient, webhook_id: str, body: dict[str, Any], errors: dict[str, str]) -> None:
    answer = client.call("POST", f"/v1/webhooks/{webhook_id}/replay", body)
    assert (answer.status, answer.errors) == (422, errors)
    assert client.backlog.markers(webhook_id) == {}


def test_who_may_not_asks_in_vain(client: AdminClient, webhook_id: str) -> None:
    (listed, *_) = client.call("GET", f"/v1/webhooks/{webhook_id}/deliveries").body["deliveries"]
    reader: dict[str, object] = {**ADMIN_CLAIMS, "cognito:groups": "[integration-reader]"}
    stranger: dict[str, object] = {**ADMIN_CLAIMS, "custom:account_id": "2020"}
    body = {"from": "2026-11-03T11:00:00Z"}
    base = f"/v1/webhooks/{webhook_id}"
    for claims, status in ((reader, 403), (stranger, 404)):
        assert client.call("POST", f"{base}/replay", body, claims=claims).status == status
        redeliver = f"{base}/deliveries/{listed['deliveryId']}/redeliver"
        assert client.call("POST", redeliver, claims=claims).status == status
    assert client.call("GET", f"{base}/replay", claims=stranger).body["type"].endswith("no-such-webhook")
    assert client.call("POST", f"{base}/deliveries/MTIz/redeliver").body["type"].endswith("no-such-delivery")
    assert client.backlog.markers(webhook_id) == {}
    assert client.backlog.append(webhook_id, Lane.REPLAY, [PendingEvent(event())]) == set()
