"""A POST under an Idempotency-Key happens once, however often it is repeated."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lms_webhooks.admin.caller import Caller
from lms_webhooks.admin.idempotency import Claim, Idempotency, ResponseSecret, StoredResponse
from lms_webhooks.admin.problems import IdempotencyKeyReused
from lms_webhooks.admin.query_parameters import delivery_id
from lms_webhooks.aws.dynamodb import Table, transact
from lms_webhooks.errors import Contention, IdempotencyInProgress
from lms_webhooks.model.deliveries import Delivery, Outcome
from lms_webhooks.model.webhooks import Webhook
from lms_webhooks.stores.webhook_cache import MAX_AGE_SECONDS
from tests.logged import logged_lines
from tests.unit.admin_client import ADMIN_CLAIMS, NOW, VALID, AdminClient, Answer
from tests.unit.tables import Throttled, event

KEY = {"idempotency-key": "order 66"}
SIGNED = {**VALID, "authentication": {"type": "signature"}}


def create(client: AdminClient, **changes: Any) -> Answer:
    return client.call("POST", "/v1/webhooks", {**SIGNED, **changes}, headers=KEY)


def everything_stored(client: AdminClient) -> str:
    items = client._dynamodb.scan(TableName=client.settings.webhooks_table)["Items"]
    return str(items)


def test_a_repeated_create_answers_the_same_and_makes_one_webhook(client: AdminClient) -> None:
    """The secret too: a caller who lost the response lost the only copy."""
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

    def slowly(webhook: Webhook, **extra_writes: Any) -> None:
        if not meanwhile:
            meanwhile.append(create(client))
        store_create(webhook, **extra_writes)

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
        patch.setattr("lms_webhooks.admin.idempotency.Claim.release", lambda _: None)
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

    def time_out(webhook: Webhook, **extra_writes: Any) -> None:
        store_create(webhook, **extra_writes)
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
        for module in ("webhooks", "replays"):
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


@pytest.mark.parametrize("path", ["/v1/webhooks", "/v1/webhooks/{webhookId}/signature"])
def test_a_repeated_call_waits_as_the_first_does(client: AdminClient, path: str) -> None:
    """A repeat may get its response first. Then too an event that is put after it sees the change."""
    webhook_id = client.call("POST", "/v1/webhooks", SIGNED).body["webhookId"]
    body = SIGNED if path == "/v1/webhooks" else None
    for _ in range(3):
        client.slept_seconds.clear()
        answer = client.call("POST", path.format(webhookId=webhook_id), body, headers=KEY)
        assert answer.status in {200, 201}
        assert client.slept_seconds == [MAX_AGE_SECONDS]


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


class Faulty:
    """DynamoDB fails at calls of one name that concern a keyed call's own item."""

    def __init__(self, client: AdminClient, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.failed = 0
        self._call = getattr(client._dynamodb, name)
        monkeypatch.setattr(client._dynamodb, name, self)

    def __call__(self, **request: Any) -> Any:
        if request.get("Key", {}).get("pk", {}).get("S", "").startswith("IDEMPOTENCY#"):
            self.failed += 1
            raise Throttled
        return self._call(**request)


def send_test(client: AdminClient) -> Answer:
    return client.call("POST", "/v1/webhooks/test", VALID, headers=KEY)


def test_what_was_done_is_answered_though_the_answer_cannot_be_kept(
    client: AdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table fails while the call ends. An error would say that nothing was sent."""
    with monkeypatch.context() as patch:
        faulty = Faulty(client, patch, "update_item")
        answer = send_test(client)
    assert (answer.status, answer.body["delivered"]) == (200, True)
    assert faulty.failed == 1, "once: what the receiver said is not kept in its place"
    assert send_test(client).status == 409, "nobody knows whether the first call goes on"
    client.now_seconds += 21
    assert send_test(client).status == 200
    assert len(client.posted) == 2


def test_a_refusal_is_answered_though_its_claim_cannot_be_given_up(
    client: AdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table fails while the call ends. The admin must hear why, not of our table."""
    paths = [client.create().headers["Location"] for _ in range(5)]
    with monkeypatch.context() as patch:
        faulty = Faulty(client, patch, "delete_item")
        refused = create(client)
    assert (refused.status, refused.body["type"]) == (409, "urn:lms-webhooks:problem:too-many-webhooks")
    assert faulty.failed == 1
    client.call("DELETE", paths[0])
    assert create(client).body["type"] == "urn:lms-webhooks:problem:idempotency-key-in-use"
    client.now_seconds += 21
    assert create(client).status == 201, "the claim ends by itself"


ADA = Caller("1010", "ada@example.com", can_write=True)
FIRST = StoredResponse(200, {"X-Which": "first"}, '{"n":1}')
SECOND = StoredResponse(201, {"X-Which": "second"}, '{"n":2}')


@pytest.fixture
def calls(client: AdminClient) -> Idempotency:
    table = Table(client._dynamodb, client.settings.webhooks_table)
    return Idempotency(table, client.secret_box, clock=lambda: client.now_seconds)


def begin(calls: Idempotency, body: str = "b") -> Claim | StoredResponse:
    return calls.claim(ADA, "k", path="/v1/webhooks", body=body)


def claim(calls: Idempotency) -> Claim:
    claimed = begin(calls)
    assert isinstance(claimed, Claim)
    return claimed


def test_of_two_who_take_over_one_expired_claim_one_makes_the_call(
    client: AdminClient, calls: Idempotency, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have read the claim that ended. The second writes its own before the first does."""
    claim(calls)
    client.now_seconds += 21
    put_item = client._dynamodb.put_item
    made: list[Claim] = []

    def put_second(**request: Any) -> Any:
        monkeypatch.setattr(client._dynamodb, "put_item", put_item)
        made.append(claim(calls))
        return put_item(**request)

    monkeypatch.setattr(client._dynamodb, "put_item", put_second)
    with pytest.raises(IdempotencyInProgress):
        begin(calls)
    made[0].finish(SECOND)
    assert begin(calls) == SECOND


def test_of_two_who_begin_at_once_one_makes_the_call(
    client: AdminClient, calls: Idempotency, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have read that there is none."""
    put_item = client._dynamodb.put_item
    made: list[Claim] = []

    def put_second(**request: Any) -> Any:
        monkeypatch.setattr(client._dynamodb, "put_item", put_item)
        made.append(claim(calls))
        return put_item(**request)

    monkeypatch.setattr(client._dynamodb, "put_item", put_second)
    with pytest.raises(IdempotencyInProgress):
        begin(calls)
    assert len(made) == 1


@pytest.mark.parametrize("story", ["a first claim", "a takeover"])
def test_a_claim_whose_call_botocore_repeats_is_its_own(
    client: AdminClient, calls: Idempotency, monkeypatch: pytest.MonkeyPatch, story: str
) -> None:
    """The response to the first call was lost. No other call is under way."""
    if story == "a takeover":
        claim(calls)
        client.now_seconds += 21
    put_item = client._dynamodb.put_item

    def twice(**request: Any) -> Any:
        put_item(**request)
        return put_item(**request)

    monkeypatch.setattr(client._dynamodb, "put_item", twice)
    claim(calls).finish(FIRST)
    assert begin(calls) == FIRST


def test_who_lost_its_claim_writes_and_removes_nothing(client: AdminClient, calls: Idempotency) -> None:
    """Two functions that stood still go on after a third made the call in their place.

    One would store its response, the other would act and store its response in one transaction.
    """
    late = claim(calls)
    client.now_seconds += 21
    other_late = claim(calls)
    client.now_seconds += 21
    in_time = claim(calls)
    late.finish(FIRST)
    assert transact(client._dynamodb, other_late.record(FIRST)) == {0}
    for each in (late, other_late):
        each.release()
    with pytest.raises(IdempotencyInProgress):
        begin(calls)
    in_time.finish(SECOND)
    assert begin(calls) == SECOND


def test_an_answer_that_is_noted_is_neither_replaced_nor_given_up(
    client: AdminClient, calls: Idempotency
) -> None:
    """The transaction took effect and its response was lost: the call is made all the same."""
    made = claim(calls)
    assert transact(client._dynamodb, made.record(FIRST)) == set()
    assert transact(client._dynamodb, made.record(SECOND)) == {0}
    made.release()
    made.finish(SECOND)
    assert begin(calls) == FIRST


@pytest.mark.parametrize("seconds", [0, 15, 19])
def test_a_claim_lasts_longer_than_the_function_can_live(
    client: AdminClient, calls: Idempotency, seconds: int
) -> None:
    """The function is ended after 15 s. Until then its call may still be made."""
    claim(calls)
    client.now_seconds += seconds
    with pytest.raises(IdempotencyInProgress):
        begin(calls)


def test_a_claim_that_has_ended_is_no_way_to_make_another_call(
    client: AdminClient, calls: Idempotency
) -> None:
    claim(calls)
    client.now_seconds += 21
    with pytest.raises(IdempotencyKeyReused):
        begin(calls, body="another")


def test_who_always_comes_second_hears_that_others_are_faster(
    client: AdminClient, calls: Idempotency, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time others claim the key, and each claim ends before it is read."""
    rivals = iter(range(100))
    put_item = client._dynamodb.put_item
    tried = 0

    def put_after_a_rival(**request: Any) -> Any:
        nonlocal tried
        tried += 1
        rival = {**request["Item"], "claim_token": {"S": f"rival {next(rivals)}"}, "locked_until": {"N": "0"}}
        put_item(TableName=request["TableName"], Item=rival)
        return put_item(**request)

    monkeypatch.setattr(client._dynamodb, "put_item", put_after_a_rival)
    with pytest.raises(Contention):
        begin(calls)
    assert tried == 5


def test_what_a_key_leaves_behind_ends_after_a_day(client: AdminClient, calls: Idempotency) -> None:
    """By TTL, in seconds; and until DynamoDB has removed it, it counts for nothing."""
    claim(calls).finish(FIRST)
    (item,) = client._dynamodb.scan(TableName=client.settings.webhooks_table)["Items"]
    assert item["expires_at"] == {"N": str(int(NOW.timestamp()) + 86_400)}
    client.now_seconds += 86_399
    assert begin(calls) == FIRST
    client.now_seconds += 1
    assert isinstance(begin(calls, body="another"), Claim)


def test_neither_parts_nor_people_nor_accounts_run_into_one_key(calls: Idempotency) -> None:
    """Who is called ada and uses the key `x y`, is not who is called `ada x` and uses the key `y`."""
    for account_id, user_id, key in (
        ("1010", "ada", "x y"),
        ("1010", "ada x", "y"),
        ("1010", "ada", "y"),
        ("2020", "ada", "y"),
    ):
        caller = Caller(account_id, user_id, can_write=True)
        assert isinstance(calls.claim(caller, key, path="/p", body="b"), Claim)
    with pytest.raises(IdempotencyKeyReused):
        calls.claim(Caller("1010", "ada", can_write=True), "y", path="/", body="pb")


def test_a_secret_that_stands_twice_in_an_answer_is_stored_nowhere(
    client: AdminClient, calls: Idempotency
) -> None:
    body = '{"secret":"whsec_123","example":"use whsec_123"}'
    made = claim(calls)
    answer = StoredResponse(201, {}, body)
    assert transact(client._dynamodb, made.record(answer, ResponseSecret("wh_1", "whsec_123"))) == set()
    assert "whsec_123" not in everything_stored(client)
    assert begin(calls) == answer
