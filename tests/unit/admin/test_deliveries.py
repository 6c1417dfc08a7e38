"""An admin reads what became of a webhook's events: delivered, ended, or still waiting, as one list."""

import base64
import json
from itertools import chain
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from lms_webhooks.admin import deliveries
from lms_webhooks.model.attempts import Attempt
from lms_webhooks.model.deliveries import Delivery, Outcome
from lms_webhooks.model.lanes import Lane, PendingEvent
from tests.unit.admin_client import ADMIN_CLAIMS, AdminClient, Answer
from tests.unit.tables import NOW_MS, event

OK = Attempt(NOW_MS + 5, 40, 204, None)
DOWN = Attempt(NOW_MS + 1, 900, 503, None)


@pytest.fixture
def webhook_id(client: AdminClient) -> str:
    return str(client.create().body["webhookId"])


def record(
    client: AdminClient, webhook_id: str, second: int, outcome: Outcome = Outcome.DELIVERED, **changes: Any
) -> None:
    """The event of a second after noon ended in this way."""
    happened = event(f"e{second}", at_ms=NOW_MS + second * 1000, **changes)
    reason = "" if outcome is Outcome.DELIVERED else "as it was"
    attempts = (DOWN, OK) if outcome is Outcome.DELIVERED else (DOWN,)
    client.history.record(
        [Delivery(webhook_id, happened, outcome, attempts, reason)], recorded_at_seconds=NOW_MS // 1000
    )


def wait(client: AdminClient, webhook_id: str, lane: Lane, *seconds: int, due_at_ms: int = 0) -> None:
    """The events of these seconds after noon wait in a lane."""
    waiting = [
        PendingEvent(event(f"e{second}", at_ms=NOW_MS + second * 1000), due_at_ms=due_at_ms)
        for second in seconds
    ]
    client.backlog.append(webhook_id, lane, waiting)
    client.backlog.set_marker("1010", webhook_id, lane, accepted_at_ms=NOW_MS)


def ask(client: AdminClient, webhook_id: str, **query: str) -> Answer:
    return client.call("GET", f"/v1/webhooks/{webhook_id}/deliveries?{urlencode(query)}")


def shown(answer: Answer) -> list[tuple[str, str]]:
    assert answer.status == 200, answer
    return [(each["eventId"], each["status"]) for each in answer.body["deliveries"]]


def walk(client: AdminClient, webhook_id: str, **query: str) -> list[list[tuple[str, str]]]:
    """Every page."""
    pages = []
    cursor: dict[str, str] = {}
    while True:
        answer = ask(client, webhook_id, **query, **cursor)
        pages.append(shown(answer))
        if "nextCursor" not in answer.body:
            return pages
        cursor = {"cursor": answer.body["nextCursor"]}


def test_a_new_webhook_has_none(client: AdminClient, webhook_id: str) -> None:
    assert ask(client, webhook_id).body == {"deliveries": []}


def test_history_and_what_waits_are_one_list_newest_first(client: AdminClient, webhook_id: str) -> None:
    for second, outcome in ((1, Outcome.DELIVERED), (4, Outcome.FAILED), (6, Outcome.EXPIRED)):
        record(client, webhook_id, second, outcome)
    wait(client, webhook_id, Lane.REALTIME, 2, 7)
    wait(client, webhook_id, Lane.BATCH, 5)
    wait(client, webhook_id, Lane.RETRY, 3, due_at_ms=NOW_MS + 60_000)
    expected = [
        ("e7", "pending"),
        ("e6", "expired"),
        ("e5", "pending"),
        ("e4", "failed"),
        ("e3", "pending"),
        ("e2", "pending"),
        ("e1", "delivered"),
    ]
    answer = ask(client, webhook_id)
    assert shown(answer) == expected
    assert "nextCursor" not in answer.body
    (retried,) = [each for each in answer.body["deliveries"] if each["eventId"] == "e3"]
    assert retried["nextAttemptAt"] == "2026-11-03T12:01:00.000Z"
    for limit in ("1", "2", "3", "7"):
        pages = walk(client, webhook_id, limit=limit)
        assert list(chain(*pages)) == expected
        assert all(len(page) <= int(limit) for page in pages)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"status": "pending"}, ["e2"]),
        ({"status": "delivered"}, ["e3", "e0"]),
        ({"status": "failed"}, ["e1"]),
        ({"status": "expired"}, []),
        ({"eventName": "LEARNER_PROGRESS"}, ["e3"]),
        ({"eventId": "e2"}, ["e2"]),
        ({"eventId": "e3", "status": "delivered"}, ["e3"]),
        ({"eventId": "e3", "status": "failed"}, []),
        ({"from": "2026-11-03T12:00:01Z"}, ["e3", "e2", "e1"]),
        ({"to": "2026-11-03T13:00:02+01:00"}, ["e1", "e0"]),
        ({"from": "2026-11-03T12:00:01Z", "to": "2026-11-03T12:00:01.001Z"}, ["e1"]),
        ({"status": "delivered", "to": "2026-11-03T12:00:03Z"}, ["e0"]),
    ],
    ids=str,
)
def test_filters(client: AdminClient, webhook_id: str, query: dict[str, str], expected: list[str]) -> None:
    record(client, webhook_id, 0)
    record(client, webhook_id, 1, Outcome.FAILED)
    wait(client, webhook_id, Lane.REALTIME, 2)
    record(client, webhook_id, 3, event_name="LEARNER_PROGRESS")
    assert [event_id for event_id, _ in shown(ask(client, webhook_id, **query))] == expected


@pytest.mark.slow
def test_an_event_is_found_by_its_id_in_one_call_though_it_is_far_down(
    client: AdminClient, webhook_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one call reads is bounded: beyond it the search goes on with the cursor."""
    monkeypatch.setattr(deliveries, "_COUNTED_PAGE", 3)
    for second in range(45):
        record(client, webhook_id, second)
    answer = ask(client, webhook_id, eventId="e20")
    assert shown(answer) == [("e20", "delivered")]
    beyond = ask(client, webhook_id, eventId="e1")
    assert shown(beyond) == []
    assert beyond.body["nextCursor"]
    pages = walk(client, webhook_id, eventId="e1")
    assert [page for page in pages if page] == [[("e1", "delivered")]]
    assert list(chain(*walk(client, webhook_id, eventId="never-made"))) == []


@pytest.mark.slow
def test_a_rare_status_is_found_page_by_page_with_bounded_reads(client: AdminClient, webhook_id: str) -> None:
    """A page may be short or empty: what is read for it is bounded, not what is found."""
    client.history.record(
        [
            Delivery(webhook_id, event(f"e{n:04d}", at_ms=NOW_MS + n * 1000), Outcome.DELIVERED, (OK,))
            for n in range(700)
        ],
        recorded_at_seconds=NOW_MS // 1000,
    )
    record(client, webhook_id, -1, Outcome.FAILED)
    pages = walk(client, webhook_id, status="failed")
    assert list(chain(*pages)) == [("e-1", "failed")]
    assert len(pages) == 3
    everything = walk(client, webhook_id, limit="100")
    assert [len(page) for page in everything] == [100] * 7 + [1]


def test_events_that_come_between_two_pages_disturb_neither(client: AdminClient, webhook_id: str) -> None:
    for second in range(4):
        record(client, webhook_id, second)
    first = ask(client, webhook_id, limit="2")
    record(client, webhook_id, 9)
    next_page = ask(client, webhook_id, limit="2", cursor=first.body["nextCursor"])
    assert shown(first) + shown(next_page) == [(f"e{n}", "delivered") for n in (3, 2, 1, 0)]


def test_what_is_recorded_but_not_yet_out_of_its_lane_is_shown_once(
    client: AdminClient, webhook_id: str
) -> None:
    """A drainer records first and removes then; and what failed once may come again and wait."""
    record(client, webhook_id, 1)
    record(client, webhook_id, 2, Outcome.FAILED)
    wait(client, webhook_id, Lane.REALTIME, 1, 2)
    assert shown(ask(client, webhook_id)) == [("e2", "pending"), ("e1", "delivered")]


def test_one_delivery_has_its_event_as_it_came_and_its_attempts(client: AdminClient, webhook_id: str) -> None:
    record(client, webhook_id, 1, text='{"eventId":"e1","n":1.10,"big":123456789012345678901}')
    (listed,) = ask(client, webhook_id).body["deliveries"]
    assert listed == {
        "deliveryId": listed["deliveryId"],
        "eventId": "e1",
        "eventName": "COURSE_ENROLLMENT",
        "status": "delivered",
        "occurredAt": "2026-11-03T12:00:01.000Z",
        "acceptedAt": "2026-11-03T12:00:00.000Z",
        "attemptCount": 2,
        "lastAttempt": {"at": "2026-11-03T12:00:00.005Z", "latencyMs": 40, "statusCode": 204},
    }
    answer = client.call("GET", f"/v1/webhooks/{webhook_id}/deliveries/{listed['deliveryId']}")
    assert answer.status == 200
    assert '"event":{"eventId":"e1","n":1.10,"big":123456789012345678901}}' in answer.text
    assert answer.body["attempts"] == [
        {"at": "2026-11-03T12:00:00.001Z", "latencyMs": 900, "statusCode": 503},
        listed["lastAttempt"],
    ]
    assert listed.items() <= answer.body.items()


def test_an_attempt_says_what_is_wrong_with_tls(client: AdminClient, webhook_id: str) -> None:
    failed = Attempt(NOW_MS, 9, None, "tls/wrong-name")
    client.history.record(
        [Delivery(webhook_id, event("e1", at_ms=NOW_MS), Outcome.FAILED, (failed,), "as it was")],
        recorded_at_seconds=NOW_MS // 1000,
    )
    (listed,) = ask(client, webhook_id).body["deliveries"]
    assert listed["lastAttempt"] == {
        "at": "2026-11-03T12:00:00.000Z",
        "latencyMs": 9,
        "errorClass": "tls",
        "reason": "The receiver's certificate is for another name",
    }


@pytest.mark.parametrize("lane", [Lane.REALTIME, Lane.BATCH, Lane.RETRY])
def test_one_that_waits_is_found_in_each_lane(client: AdminClient, webhook_id: str, lane: Lane) -> None:
    wait(client, webhook_id, lane, 1, due_at_ms=NOW_MS if lane is Lane.RETRY else 0)
    (listed,) = ask(client, webhook_id).body["deliveries"]
    answer = client.call("GET", f"/v1/webhooks/{webhook_id}/deliveries/{listed['deliveryId']}")
    assert (answer.body["status"], answer.body["attempts"]) == ("pending", [])
    assert answer.body["event"] == {"n": 1.1}


def test_ids_may_hold_anything_that_an_event_id_may(client: AdminClient, webhook_id: str) -> None:
    strange = event("a/b?c=ü#😀 \\" + "x" * 200)
    client.history.record(
        [Delivery(webhook_id, strange, Outcome.DELIVERED, (OK,))], recorded_at_seconds=NOW_MS // 1000
    )
    (listed,) = ask(client, webhook_id).body["deliveries"]
    assert listed["eventId"] == strange.event_id
    assert quote(listed["deliveryId"], safe="") == listed["deliveryId"]
    path = f"/v1/webhooks/{webhook_id}/deliveries/{listed['deliveryId']}"
    assert client.call("GET", path).body["eventId"] == strange.event_id


@pytest.mark.parametrize(
    "delivery_id", ["x", "MTIz", "MDAwMDAwMDAwMDAwMCNl=", "%2e%2e", "MTc5MzcwNzIwMDAwMCNl"]
)
def test_what_is_no_delivery_is_not_found(client: AdminClient, webhook_id: str, delivery_id: str) -> None:
    answer = client.call("GET", f"/v1/webhooks/{webhook_id}/deliveries/{delivery_id}")
    assert (answer.status, answer.body["type"]) == (404, "urn:lms-webhooks:problem:no-such-delivery")


def test_parameters_that_break_their_rules_are_all_named(client: AdminClient, webhook_id: str) -> None:
    answer = ask(
        client,
        webhook_id,
        status="gone",
        eventName="NO_SUCH",
        to="yesterday",
        limit="101",
        cursor="abc",
        page="2",
        **{"from": "2026-11-03T12:00:00"},
    )
    assert (answer.status, answer.body["type"]) == (400, "urn:lms-webhooks:problem:invalid-parameters")
    assert {each["parameter"]: each["detail"] for each in answer.body["errors"]} == {
        "status": "must be one of pending, delivered, failed, expired",
        "eventName": "must be an event name that GET /v1/event-types lists",
        "from": "must be a time such as 2026-11-03T12:00:00Z",
        "to": "must be a time such as 2026-11-03T12:00:00Z",
        "limit": "must be a whole number from 1 to 100",
        "cursor": "must be the nextCursor of a call with the same other parameters",
        "page": "is not a parameter that this call takes",
    }
    (lost_plus,) = ask(client, webhook_id, to="2026-11-03T12:00:00 01:00").body["errors"]
    assert lost_plus["detail"] == "must be a time such as 2026-11-03T12:00:00Z, and its + written as %2B"
    turned = ask(client, webhook_id, to="2026-11-03T12:00:00Z", **{"from": "2026-11-03T12:00:00Z"})
    assert turned.body["errors"] == [{"parameter": "to", "detail": "must be later than from"}]


def test_a_cursor_is_good_for_its_own_query_and_account_only(client: AdminClient, webhook_id: str) -> None:
    for second in range(3):
        record(client, webhook_id, second)
    cursor = ask(client, webhook_id, limit="1").body["nextCursor"]
    assert ask(client, webhook_id, limit="2", cursor=cursor).status == 200
    assert ask(client, webhook_id, status="failed", cursor=cursor).status == 400
    other_id = client.create().body["webhookId"]
    assert ask(client, other_id, cursor=cursor).status == 400


def test_another_account_s_deliveries_are_not_found(client: AdminClient, webhook_id: str) -> None:
    record(client, webhook_id, 1)
    (listed,) = ask(client, webhook_id).body["deliveries"]
    claims: dict[str, object] = {**ADMIN_CLAIMS, "custom:account_id": "2020"}
    for path in ("", f"/{listed['deliveryId']}"):
        answer = client.call("GET", f"/v1/webhooks/{webhook_id}/deliveries{path}", claims=claims)
        assert (answer.status, answer.body["type"]) == (404, "urn:lms-webhooks:problem:no-such-webhook")
    reader: dict[str, object] = {**ADMIN_CLAIMS, "cognito:groups": "[integration-reader]"}
    assert client.call("GET", f"/v1/webhooks/{webhook_id}/deliveries", claims=reader).status == 200


def test_what_is_set_aside_without_end_is_read_in_part_and_says_so(
    client: AdminClient, webhook_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three pages of DynamoDB's in the retry lane: two of them are looked at."""
    pages = [[PendingEvent(event(f"r{number}", at_ms=NOW_MS + number))] for number in range(3)]
    wait(client, webhook_id, Lane.RETRY, 1)
    monkeypatch.setattr(client.backlog, "read_all", lambda *_: iter(pages))
    answer = ask(client, webhook_id)
    assert shown(answer) == [("r1", "pending"), ("r0", "pending")]
    assert answer.body["incomplete"] is True


def test_a_cursor_that_somebody_wrote_leads_nowhere_else(client: AdminClient, webhook_id: str) -> None:
    """It holds no partition, and a place outside of what is asked for is refused."""
    for second in range(3):
        record(client, webhook_id, second)
    query = {"from": "2026-11-03T12:00:00Z", "limit": "1"}
    text = ask(client, webhook_id, **query).body["nextCursor"]
    filters, position = json.loads(base64.urlsafe_b64decode(text + "=="))
    assert position == f"{NOW_MS + 2000}#e2\tCOURSE_ENROLLMENT"
    for forged in ([filters, "0000000000000#a"], [filters, 7], [filters], {"a": 1, "b": 2}, 7, None):
        cursor = base64.urlsafe_b64encode(json.dumps(forged).encode()).decode().rstrip("=")
        assert ask(client, webhook_id, **query, cursor=cursor).status == 400
