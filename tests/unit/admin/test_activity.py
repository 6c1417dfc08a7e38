"""Who changed what in an account: newest first, for 90 days, and nothing that was said in confidence."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.logged import logged_lines
from tests.unit.admin_client import ADMIN_CLAIMS, NOW, VALID, AdminClient, Answer, admin_client
from tests.unit.tables import Throttled

BOB: dict[str, object] = {**ADMIN_CLAIMS, "email": "bob@example.com", "sub": "77-bob"}
READER: dict[str, object] = {**ADMIN_CLAIMS, "cognito:groups": "[integration-reader]"}
STRANGER: dict[str, object] = {**ADMIN_CLAIMS, "custom:account_id": "2020"}
DAY_SECONDS = 86_400


@pytest.fixture(scope="module")
def shared_client() -> Iterator[AdminClient]:
    with admin_client("activity") as client:
        yield client


def ask(client: AdminClient, query: str = "", **more: Any) -> Answer:
    return client.call("GET", f"/v1/activity{query}", **more)


def actions(answer: Answer) -> list[str]:
    assert answer.status == 200, answer.text
    return [each["action"] for each in answer.body["activity"]]


def changed(client: AdminClient, times: int) -> str:
    """A webhook that one admin made, and another changed so often, a second apart; its path."""
    path = client.create().headers["Location"]
    for number in range(times):
        client.now_seconds += 1
        assert client.call("PATCH", path, {"name": f"Payroll {number}"}, claims=BOB).status == 200
    return path


def test_each_change_says_who_made_it_and_which_fields(client: AdminClient) -> None:
    basic = {"type": "basic", "username": "lms", "password": "hunter2"}
    path = client.create(authentication=basic).headers["Location"]
    client.now_seconds += 1
    new = {"description": "secret plans", "authentication": {**basic, "password": "correct horse"}}
    assert client.call("PATCH", path, new, claims=BOB).status == 200
    answer = ask(client, claims=READER)
    assert answer.body["activity"][0] == {
        "at": "2026-11-03T12:00:01.005Z",
        "by": "bob@example.com",
        "action": "webhook.change",
        "changedFields": ["authentication", "description"],
        "webhookId": path.rpartition("/")[2],
    }
    assert actions(answer) == ["webhook.change", "webhook.create"]
    assert not any(word in answer.text for word in ("hunter2", "correct horse", "secret plans"))
    assert actions(ask(client, claims=STRANGER)) == []


def test_what_changes_nothing_is_not_in_it(client: AdminClient) -> None:
    path = client.create().headers["Location"]
    client.call("POST", f"{path}/test")
    client.call("PATCH", path, {"name": client.call("GET", path).body["name"]})
    client.call("PATCH", path, {"name": ""})
    client.call("PATCH", path, {"name": "Mine"}, claims=STRANGER)
    client.call("PATCH", path, {"name": "Mine"}, headers={"if-match": '"old"'})
    assert actions(ask(client)) == ["webhook.create"]


def test_a_call_that_is_repeated_under_its_key_is_in_it_once(client: AdminClient) -> None:
    for _ in range(3):
        key = {"idempotency-key": "k"}
        assert client.call("POST", "/v1/webhooks", VALID, headers=key).status == 201
    assert actions(ask(client)) == ["webhook.create"]


def test_pages_and_one_webhook(client: AdminClient) -> None:
    other = client.create().body["webhookId"]
    path = changed(client, 5)
    webhook_id = path.rpartition("/")[2]
    pages, query = [], ""
    while True:
        page = ask(client, f"?webhookId={webhook_id}&limit=2{query}")
        pages.append(actions(page))
        if "nextCursor" not in page.body:
            break
        query = f"&cursor={page.body['nextCursor']}"
    assert pages == [["webhook.change"] * 2, ["webhook.change"] * 2, ["webhook.change", "webhook.create"]]
    assert actions(ask(client, f"?webhookId={other}")) == ["webhook.create"]
    assert ask(client, f"?webhookId={other}{query}").status == 400, "the cursor is of another query"
    wrong = ask(client, "?webhookId=x&limit=0&from=2026-11-03T12:00:00Z")
    assert {each["parameter"] for each in wrong.body["errors"]} == {"webhookId", "limit", "from"}


def test_it_goes_back_90_days_and_says_what_became_of_a_deleted_webhook(client: AdminClient) -> None:
    path = client.create().headers["Location"]
    client.now_seconds += 1
    assert client.call("DELETE", path).status == 204
    assert actions(ask(client)) == ["webhook.delete", "webhook.create"]
    client.now_seconds = NOW.timestamp() + 90 * DAY_SECONDS + 0.5
    assert actions(ask(client)) == ["webhook.delete"], "TTL deletes late"
    items = client._dynamodb.scan(TableName=client.settings.webhooks_table)["Items"]
    kept = [item for item in items if item["pk"]["S"] == "ACTIVITY#1010"]
    assert {int(item["expires_at"]["N"]) for item in kept} == {
        int(NOW.timestamp()) + 90 * DAY_SECONDS + second for second in (0, 1)
    }


def test_a_change_is_made_though_it_cannot_be_kept(
    client: AdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log has it in any case. And what is damaged hides no other."""
    path = changed(client, 1)
    put = client._dynamodb.put_item

    def refuse(**request: Any) -> Any:
        if request["Item"]["pk"]["S"].startswith("ACTIVITY#"):
            raise Throttled
        return put(**request)

    with monkeypatch.context() as patch, logged_lines() as lines:
        patch.setattr(client._dynamodb, "put_item", refuse)
        assert client.call("DELETE", path).status == 204
    assert [each["message"] for each in lines] == ["audit", "activity not written"]
    client._dynamodb.put_item(
        TableName=client.settings.webhooks_table,
        Item={"pk": {"S": "ACTIVITY#1010"}, "sk": {"S": f"{int(NOW.timestamp() * 1000):013d}#damaged"}},
    )
    assert actions(ask(client)) == ["webhook.change", "webhook.create"]
