"""What an admin does with deliveries, over the deployed stack: try, list, send again, change the secret."""

import json
from collections import Counter
from typing import Any

import pytest
import standardwebhooks

from lms_webhooks.admin.openapi import describe_api
from lms_webhooks.model.event_types import REAL_TIME, with_extra_types
from tests.e2e.system import EXTRA_EVENT_TYPES, Account, System, until
from tests.fakes.receiver import Receiver


def deliveries(account: Account, webhook_id: str, query: str = "") -> list[dict[str, Any]]:
    """All of them, page by page."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        answer = account.call("GET", f"/v1/webhooks/{webhook_id}/deliveries?limit=7{query}{cursor}")
        assert answer.status == 200, answer
        found += answer.body["deliveries"]
        if "nextCursor" not in answer.body:
            return found
        cursor = f"&cursor={answer.body['nextCursor']}"


def delivered_ids(receiver: Receiver) -> list[str]:
    bodies = [json.loads(request.body) for request in receiver.requests]
    return [event["eventId"] for body in bodies for event in body["events"]]


@pytest.fixture
def history(account: Account, receiver: Receiver) -> tuple[str, list[str]]:
    """A webhook that got 20 events, and their ids."""
    webhook_id = account.create(receiver.url())["webhookId"]
    ids = [account.emit()["eventId"] for _ in range(20)]
    account.system.wait_for_history(webhook_id, 20)
    return webhook_id, ids


def test_deliveries_are_listed_page_by_page_and_shown(
    account: Account, history: tuple[str, list[str]]
) -> None:
    webhook_id, ids = history
    listed = deliveries(account, webhook_id)
    assert sorted(each["eventId"] for each in listed) == sorted(ids)
    assert [each["occurredAt"] for each in listed] == sorted(
        (each["occurredAt"] for each in listed), reverse=True
    )
    assert {each["status"] for each in listed} == {"delivered"}
    assert deliveries(account, webhook_id, "&status=failed") == []
    one = account.call("GET", f"/v1/webhooks/{webhook_id}/deliveries/{listed[3]['deliveryId']}").body
    assert one["event"]["eventId"] == listed[3]["eventId"]
    assert [attempt["statusCode"] for attempt in one["attempts"]] == [200]
    stats = account.call("GET", f"/v1/webhooks/{webhook_id}/stats").body
    assert sum(hour["delivered"] for hour in stats["hours"]) == 20


def test_one_and_then_all_are_sent_again(
    account: Account, receiver: Receiver, history: tuple[str, list[str]]
) -> None:
    webhook_id, ids = history
    base = f"/v1/webhooks/{webhook_id}"
    (one, *_) = deliveries(account, webhook_id)
    assert account.call("POST", f"{base}/deliveries/{one['deliveryId']}/redeliver").status == 202
    until(lambda: delivered_ids(receiver).count(one["eventId"]) == 2, "the redelivery")
    until(
        lambda: deliveries(account, webhook_id)[0]["attemptCount"] == 2, "the second attempt in the history"
    )
    assert account.call("POST", f"{base}/replay", {"from": "2020-01-01T00:00:00Z"}).status == 202
    until(lambda: account.call("GET", f"{base}/replay").body["state"] == "done", "the end of the replay")
    ended = account.call("GET", f"{base}/replay").body
    assert (ended["processed"], ended["delivered"], ended["rejected"]) == (20, 20, 0)
    assert Counter(delivered_ids(receiver)) == Counter(ids * 2 + [one["eventId"]])
    assert {each["status"] for each in deliveries(account, webhook_id)} == {"delivered"}


def test_a_replay_of_a_paused_webhook_waits_until_it_is_resumed(
    account: Account, receiver: Receiver, history: tuple[str, list[str]]
) -> None:
    webhook_id, ids = history
    base = f"/v1/webhooks/{webhook_id}"
    assert account.call("PATCH", base, {"status": "paused"}).status == 200
    assert account.call("POST", f"{base}/replay", {"from": "2020-01-01T00:00:00Z"}).status == 202
    account.system.sweep()
    assert account.call("GET", f"{base}/replay").body["state"] == "running"
    assert len(delivered_ids(receiver)) == 20
    assert account.call("PATCH", base, {"status": "active"}).status == 200
    until(lambda: account.call("GET", f"{base}/replay").body["state"] == "done", "the end of the replay")
    assert Counter(delivered_ids(receiver)) == Counter(ids * 2)


def test_a_sample_is_sent_and_both_secrets_verify_it_during_a_change(
    account: Account, receiver: Receiver
) -> None:
    created = account.create(receiver.url(), authentication={"type": "signature"})
    base = f"/v1/webhooks/{created['webhookId']}"
    rotated = account.call("POST", f"{base}/signature")
    assert rotated.status == 200
    assert rotated.headers["content-disposition"].startswith("attachment; filename=")
    tried = account.call("POST", f"{base}/test")
    assert (tried.body["delivered"], tried.body["statusCode"]) == (True, 200)
    (request,) = receiver.requests
    headers = {name.lower(): value for name, value in request.headers.items()}
    for secret in (created["authentication"]["secret"], rotated.body["secret"]):
        body = standardwebhooks.Webhook(secret).verify(request.body, headers)
        assert headers["webhook-id"] == f"test_{body['events'][0]['eventId']}"
    assert account.call("POST", "/v1/webhooks/test", account.webhook(receiver.url())).body["delivered"]
    assert len(account.webhooks()) == 1


def test_the_description_is_open_to_everybody(system: System) -> None:
    answer = system.call("GET", "/openapi.json", token=None)
    described = json.loads(describe_api(with_extra_types(EXTRA_EVENT_TYPES)))
    assert (answer.status, answer.body) == (200, described)
    assert REAL_TIME[0] in answer.text
