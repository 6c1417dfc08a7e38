"""A POST under an Idempotency-Key happens once, whoever sends it again and however often."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lms_webhooks.admin.parameters import delivery_id
from lms_webhooks.delivery_store import Delivery, Outcome
from lms_webhooks.webhooks import Webhook
from tests.engines.dynamodb import Engine
from tests.logged import logged_lines
from tests.unit.admin_client import ADMIN_CLAIMS, NOW, VALID, AdminClient, Answer, admin_client
from tests.unit.tables import event

KEY = {"idempotency-key": "order 66"}
SIGNED = {**VALID, "authentication": {"type": "signature"}}


@pytest.fixture(scope="module")
def shared_client(dynamodb: Engine) -> Iterator[AdminClient]:
    with admin_client("idempotency", dynamodb=dynamodb) as client:
        yield client


@pytest.fixture
def client(shared_client: AdminClient) -> AdminClient:
    shared_client.forget_everything()
    shared_client.posted.clear()
    shared_client.now_seconds = NOW.timestamp()
    return shared_client


def create(client: AdminClient, **changes: Any) -> Answer:
    return client.call("POST", "/v1/webhooks", {**SIGNED, **changes}, headers=KEY)


def everything_stored(client: AdminClient) -> str:
    items = client._dynamodb.scan(TableName=client.settings.webhooks_table)["Items"]
    return str(items)


def test_a_repeated_create_answers_the_same_and_makes_one_webhook(client: AdminClient) -> None:
    """The secret too: whoever lost the answer lost the only copy."""
    first = create(client)
    second = create(client)
    assert first.status == second.status == 201
    assert second.text == first.text
    assert first.body["authentication"]["secret"].startswith("whsec_")
    for name in ("Location", "ETag", "Cache-Control", "Content-Type"):
        assert second.headers[name] == first.headers[name]
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["Idempotency-Replayed"] == "true"
    assert len(client.store.read_account("1010")) == 1


def test_neither_secret_nor_password_is_stored_in_the_clear(client: AdminClient) -> None:
    secret = create(client).body["authentication"]["secret"]
    basic = {"type": "basic", "username": "ada", "password": "hunter2-hunter2"}
    client.call("POST", "/v1/webhooks", {**VALID, "authentication": basic}, headers={"idempotency-key": "k2"})
    stored = everything_stored(client)
    assert secret not in stored
    assert secret.removeprefix("whsec_") not in stored
    assert "hunter2" not in stored


@pytest.mark.parametrize("changes", [{"name": "Another"}, {"status": "paused"}], ids=str)
def test_the_key_of_another_call_is_refused(client: AdminClient, changes: dict[str, Any]) -> None:
    create(client)
    answer = create(client, **changes)
    assert (answer.status, answer.body["type"]) == (422, "urn:lms-webhooks:problem:idempotency-key-reused")
    elsewhere = client.call("POST", "/v1/webhooks/test", SIGNED, headers=KEY)
    assert elsewhere.status == 422
    assert len(client.store.read_account("1010")) == 1


def test_a_call_that_is_under_way_is_not_made_twice(
    client: AdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    meanwhile: list[Answer] = []
    store_create = client.store.create

    def slowly(webhook: Webhook, **along: Any) -> None:
        if not meanwhile:
            meanwhile.append(create(client))
        store_create(webhook, **along)

    monkeypatch.setattr(client.store, "create", slowly)
    assert create(client).status == 201
    assert meanwhile[0].status == 409
    assert meanwhile[0].body["type"] == "urn:lms-webhooks:problem:idempotency-key-in-use"
    assert meanwhile[0].headers["Retry-After"] == "1"
    assert len(client.store.read_account("1010")) == 1


def test_who_died_over_a_call_leaves_it_to_the_next(
    client: AdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the transaction nothing has happened; the claim ends when the function must have."""
    with monkeypatch.context() as patch:
        patch.setattr("lms_webhooks.admin.idempotency.Claim.give_up", lambda _: None)
        patch.setattr(client.store, "create", lambda *_, **__: 1 / 0)
        assert create(client).status == 500
    assert create(client).status == 409
    client.now_seconds += 21
    assert create(client).status == 201
    assert len(client.store.read_account("1010")) == 1


def test_who_died_after_the_transaction_left_the_answer(
    client: AdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_create = client.store.create

    def time_out(webhook: Webhook, **along: Any) -> None:
        store_create(webhook, **along)
        raise ClientError({"Error": {"Code": "RequestTimeout"}}, "TransactWriteItems")

    with monkeypatch.context() as patch:
        patch.setattr(client.store, "create", time_out)
        assert create(client).status == 500
    again = create(client)
    assert (again.status, again.headers["Idempotency-Replayed"]) == (201, "true")
    (registered,) = client.store.read_account("1010")
    assert again.body["webhookId"] == registered.webhook.webhook_id


class Died(BaseException):
    """The process ends here."""


@pytest.mark.parametrize(
    ("path", "body", "action", "named"),
    [
        (
            "/v1/webhooks",
            SIGNED,
            "webhook.create",
            {"changedFields": ["authentication", "events", "name", "status", "targetUrl"]},
        ),
        (
            "{webhook}/signature",
            None,
            "webhook.rotate-secret",
            {"webhookId": "{id}", "changedFields": ["authentication"]},
        ),
        (
            "{webhook}/deliveries/{delivery}/redeliver",
            None,
            "delivery.redeliver",
            {"webhookId": "{id}", "sortKey": "{sort_key}", "changedFields": []},
        ),
        (
            "{webhook}/replay",
            {"from": "2026-11-01T00:00:00Z"},
            "webhook.replay",
            {"webhookId": "{id}", "changedFields": []},
        ),
    ],
    ids=["create", "rotate", "redeliver", "replay"],
)
def test_who_died_before_they_said_so_is_made_up_for_by_the_repetition(
    client: AdminClient,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    body: Any,
    action: str,
    named: dict[str, Any],
) -> None:
    """Each change that was made has a line in the audit log."""
    webhook = client.call("POST", "/v1/webhooks", SIGNED).headers["Location"]
    webhook_id = webhook.rpartition("/")[2]
    happened = event(at_ms=int(NOW.timestamp() * 1000) - 1)
    ended = Delivery(webhook_id, happened, Outcome.DELIVERED, ())
    client.history.record([ended], recorded_at_seconds=int(NOW.timestamp()))
    here = {
        "webhook": webhook,
        "id": webhook_id,
        "sort_key": happened.sort_key,
        "delivery": delivery_id(happened.sort_key),
    }

    def die(*_: Any, **__: Any) -> None:
        raise Died

    with monkeypatch.context() as patch, logged_lines() as lines:
        for module in ("registrations", "resends"):
            patch.setattr(f"lms_webhooks.admin.{module}.audit", die)
        with pytest.raises(Died):
            client.call("POST", path.format(**here), body, headers=KEY)
    assert [line for line in lines if line["message"] == "audit"] == []

    with logged_lines() as lines:
        again = client.call("POST", path.format(**here), body, headers=KEY)
    assert again.headers["Idempotency-Replayed"] == "true"
    (line,) = [line for line in lines if line["message"] == "audit"]
    expected = {
        name: value.format(**here) if isinstance(value, str) else value for name, value in named.items()
    }
    about = {"action": action, "accountId": "1010", "user": "ada@example.com", "repeated": True}
    assert line == line | about | expected
    for name in ("webhookId", "replayId"):
        assert name not in again.body or line[name] == again.body[name]


def test_a_refused_call_may_be_made_again_under_its_key(client: AdminClient) -> None:
    """What was not done is not remembered: five webhooks are there, one goes, and the same call is right."""
    paths = [client.create().headers["Location"] for _ in range(5)]
    assert create(client).status == 409
    client.call("DELETE", paths[0])
    assert create(client).status == 201


def test_a_repeated_change_of_secret_makes_one(client: AdminClient) -> None:
    path = client.call("POST", "/v1/webhooks", SIGNED).headers["Location"]
    first, second = (client.call("POST", f"{path}/signature", headers=KEY) for _ in range(2))
    assert first.text == second.text
    assert second.headers["Content-Disposition"] == first.headers["Content-Disposition"]
    (registered,) = client.store.read_account("1010")
    assert registered.webhook.version == 2


def test_a_repeated_change_of_secret_waits_as_the_first_does(client: AdminClient) -> None:
    """It may be answered first: then too every request that begins afterwards carries both signatures."""
    path = client.call("POST", "/v1/webhooks", SIGNED).headers["Location"]
    for seconds, waited in ((0, [2.0]), (0, [2.0]), (20, [2.0]), (21, [1.0]), (22, []), (80_000, [])):
        client.slept_seconds.clear()
        client.now_seconds = NOW.timestamp() + seconds
        answer = client.call("POST", f"{path}/signature", headers=KEY)
        assert answer.status == 200
        assert client.slept_seconds == pytest.approx(waited), seconds


def test_a_repeated_test_send_sends_once(client: AdminClient) -> None:
    first, second = (client.call("POST", "/v1/webhooks/test", VALID, headers=KEY) for _ in range(2))
    assert first.body == second.body
    assert len(client.posted) == 1


def test_a_key_lasts_a_day(client: AdminClient) -> None:
    first = create(client)
    client.now_seconds += 86_399
    assert create(client).body == first.body
    client.now_seconds += 2
    assert create(client).body["webhookId"] != first.body["webhookId"]


def test_one_admin_s_key_gives_nothing_away_to_another(client: AdminClient) -> None:
    first = create(client)
    for changes in ({"email": "bob@example.com"}, {"custom:account_id": "2020"}):
        claims: dict[str, object] = {**ADMIN_CLAIMS, **changes}
        other = client.call("POST", "/v1/webhooks", SIGNED, headers=KEY, claims=claims)
        assert other.status == 201
        assert other.body["webhookId"] != first.body["webhookId"]


@pytest.mark.parametrize("key", ["", " a", "a" * 256, "\u00e9", "a\tb"])
def test_what_is_no_key_is_refused(client: AdminClient, key: str) -> None:
    answer = client.call("POST", "/v1/webhooks", SIGNED, headers={"idempotency-key": key})
    assert answer.status == 400
    assert json.loads(answer.text)["errors"] == [
        {"parameter": "Idempotency-Key", "detail": "must have 1 to 255 visible ASCII characters"}
    ]
    assert client.store.read_account("1010") == []
