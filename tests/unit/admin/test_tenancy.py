"""What belongs to another account looks exactly like what does not exist: same response, same work.

One account makes each call of the API about the things of another, and about things that do not exist. If the
two differed, it would know that the other account has them.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from lms_webhooks.model.attempts import Attempt
from lms_webhooks.model.deliveries import Delivery, Outcome
from lms_webhooks.model.lanes import Lane, PendingEvent
from tests.operations import Operation, operations
from tests.unit.admin_client import ADMIN_CLAIMS, VALID, AdminClient, Answer, admin_client
from tests.unit.tables import NOW_MS, event

THEIRS: dict[str, object] = {**ADMIN_CLAIMS, "custom:account_id": "2020"}
NEVER_MADE = {
    "webhookId": "wh_" + "n" * 22,
    "deliveryId": "MTc5MzcwNzIwMDAwMCNuZXZlcg",  # 1793707200000#never
    "subscriptionId": "ns_" + "n" * 22,
}
OPERATIONS = operations()
ABOUT_A_THING = [each for each in OPERATIONS if each.ids]
each_about_a_thing = pytest.mark.parametrize("operation", ABOUT_A_THING, ids=lambda each: each.name)

type Calls = list[tuple[str, str]]


@dataclass(frozen=True)
class Mine:
    """An account with one of everything, and the client that made it."""

    client: AdminClient
    ids: dict[str, str]
    cursor: str
    etag: str
    secret: str

    def stored(self) -> list[str]:
        """Every item, but those that count or remember the other account's own calls."""
        items: list[dict[str, Any]] = []
        for name in (self.client.settings.webhooks_table, self.client.settings.deliveries_table):
            items += self.client._dynamodb.scan(TableName=name, ConsistentRead=True)["Items"]
        return sorted(str(item) for item in items if not item["pk"]["S"].endswith("#2020"))


@pytest.fixture(scope="module")
def shared_client() -> Iterator[AdminClient]:
    with admin_client("tenancy") as client:
        yield client


@pytest.fixture
def mine(shared_client: AdminClient) -> Mine:
    """A signed webhook with a history, a backlog and a replay; a notice subscription."""
    client = shared_client
    client.forget_everything()
    created = client.create(authentication={"type": "signature"})
    webhook_id = str(created.body["webhookId"])
    ok = Attempt(NOW_MS, 40, 204, None)
    for number in (1, 2):
        happened = event(f"e{number}", at_ms=NOW_MS + number)
        client.history.record(
            [Delivery(webhook_id, happened, Outcome.DELIVERED, (ok,))], recorded_at_seconds=NOW_MS // 1000
        )
    client.backlog.append(webhook_id, Lane.REALTIME, [PendingEvent(event("e3", at_ms=NOW_MS + 3))])
    client.backlog.set_marker("1010", webhook_id, Lane.REALTIME, accepted_at_ms=NOW_MS)
    page = client.call("GET", f"/v1/webhooks/{webhook_id}/deliveries?limit=1").body
    replay = {"from": "2026-11-01T00:00:00Z"}
    assert client.call("POST", f"/v1/webhooks/{webhook_id}/replay", replay).status == 202
    subscribed = client.call("POST", "/v1/notice-subscriptions", {"email": "me@example.com"})
    ids = {
        "webhookId": webhook_id,
        "deliveryId": page["deliveries"][0]["deliveryId"],
        "subscriptionId": subscribed.body["subscriptionId"],
    }
    return Mine(
        client, ids, page["nextCursor"], created.headers["ETag"], created.body["authentication"]["secret"]
    )


@contextmanager
def aws_calls(client: AdminClient) -> Iterator[Calls]:
    """What is asked of AWS: each call, and what it is about. Not what is fresh in each, such as a token."""
    calls: Calls = []

    def keep(params: dict[str, Any], model: Any, **_: Any) -> None:
        names = (
            "TableName",
            "Key",
            "KeyConditionExpression",
            "ConsistentRead",
            "Limit",
            "QueueUrl",
            "TopicArn",
        )
        asked = {name: params[name] for name in names if name in params}
        if "KeyConditionExpression" in params:
            asked["values"] = params["ExpressionAttributeValues"]
        calls.append((model.name, json.dumps([sorted(params), asked])))

    clients: list[Any] = [client._dynamodb, client._sqs, client.sns, client.secret_box._client]
    for each in clients:
        each.meta.events.register("provide-client-params", keep, unique_id="tenancy")
    try:
        yield calls
    finally:
        for each in clients:
            each.meta.events.unregister("provide-client-params", unique_id="tenancy")


def ask(
    mine: Mine, operation: Operation, ids: dict[str, str], headers: dict[str, str]
) -> tuple[Answer, Calls]:
    """Call it as the other account. The ids that were asked for are replaced by their names."""
    path = operation.path(**ids)
    with aws_calls(mine.client) as calls:
        answer = mine.client.call(operation.method, path, operation.body, claims=THEIRS, headers=headers)

    def unnamed(text: str) -> str:
        for name, value in ids.items():
            text = text.replace(value, name)
        return text

    shown = Answer(answer.status, {key: unnamed(each) for key, each in answer.headers.items()}, answer.text)
    return shown, [(name, unnamed(asked)) for name, asked in calls]


@each_about_a_thing
def test_another_s_is_answered_as_what_never_was(
    operation: Operation, mine: Mine, record_property: Callable[[str, object], None]
) -> None:
    """Whether it comes with no header, with the webhook's tag, or with a key of its own."""
    before = mine.stored()
    for header in ("", "if-match", "idempotency-key"):
        value = mine.etag if header == "if-match" else "key-{}"
        sent = [{header: value.format(number)} if header else {} for number in range(2)]
        theirs, calls_for_theirs = ask(mine, operation, mine.ids, sent[0])
        nobody_s, calls_for_nobody_s = ask(mine, operation, NEVER_MADE, sent[1])
        assert theirs.status == 404
        assert theirs == nobody_s
        assert calls_for_theirs
        if header != "idempotency-key":
            assert calls_for_theirs == calls_for_nobody_s
        else:  # where the answer is kept has a hash of the key in its name
            assert [name for name, _ in calls_for_theirs] == [name for name, _ in calls_for_nobody_s]
        assert mine.stored() == before, header
        assert mine.client.posted == []
    record_property("operations on another account's ids", 3)


@pytest.mark.parametrize(
    "operation",
    [each for each in OPERATIONS if "deliveryId" in each.ids],
    ids=lambda each: each.name,
)
def test_a_delivery_is_of_its_webhook_alone(
    operation: Operation, mine: Mine, record_property: Callable[[str, object], None]
) -> None:
    """Its id holds a time and an event's id, which are no secrets: from another webhook it leads nowhere."""
    own = mine.client.call("POST", "/v1/webhooks", VALID, claims=THEIRS).body["webhookId"]
    theirs, calls_for_theirs = ask(mine, operation, {**mine.ids, "webhookId": own}, {})
    nobody_s, calls_for_nobody_s = ask(mine, operation, {**NEVER_MADE, "webhookId": own}, {})
    assert theirs.status == 404
    assert theirs == nobody_s
    assert [name for name, _ in calls_for_theirs] == [name for name, _ in calls_for_nobody_s]
    record_property("operations on another account's ids", 1)


@pytest.mark.parametrize(
    "operation", [each for each in OPERATIONS if each.is_read and not each.ids], ids=lambda each: each.name
)
def test_what_is_listed_is_one_s_own(operation: Operation, mine: Mine) -> None:
    answer = mine.client.call("GET", operation.template, claims=THEIRS)
    assert answer.status == 200
    for id_ in (*mine.ids.values(), "me@example.com"):
        assert id_ not in answer.text


def test_a_cursor_of_another_is_refused_as_one_that_is_made_up(mine: Mine) -> None:
    own = mine.client.call("POST", "/v1/webhooks", VALID, claims=THEIRS).body["webhookId"]
    answers = [
        mine.client.call("GET", f"/v1/webhooks/{own}/deliveries?limit=1&cursor={cursor}", claims=THEIRS)
        for cursor in (mine.cursor, "WyJuZXZlciIsIjE3OTM3MDcyMDAwMDAjZSJd")
    ]
    assert answers[0].status == 400
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    "operation", [each for each in OPERATIONS if each.is_guarded], ids=lambda each: each.name
)
def test_a_tag_is_good_for_its_webhook_alone(operation: Operation, mine: Mine) -> None:
    """Each is at its first version. Neither another account's tag nor that of another webhook of one's own
    says that this one was read."""
    body = {**VALID, "authentication": {"type": "signature"}}
    own, other = (mine.client.call("POST", "/v1/webhooks", body, claims=THEIRS) for _ in range(2))
    path = operation.path(webhookId=own.body["webhookId"])

    def status_with(tag: str) -> int:
        headers = {"if-match": tag}
        return mine.client.call(operation.method, path, operation.body, claims=THEIRS, headers=headers).status

    assert status_with(mine.etag) == 412
    assert status_with(other.headers["ETag"]) == 412
    assert status_with(own.headers["ETag"]) in (200, 204)


def test_the_same_idempotency_key_is_another_in_another_account(mine: Mine) -> None:
    """Even of the same person, who is an admin of both: the stored response has a secret in it."""
    body = {**VALID, "authentication": {"type": "signature"}}
    key = {"idempotency-key": "same"}
    first = mine.client.call("POST", "/v1/webhooks", body, headers=key)
    other = mine.client.call("POST", "/v1/webhooks", body, headers=key, claims=THEIRS)
    assert (first.status, other.status) == (201, 201)
    assert "Idempotency-Replayed" not in other.headers
    assert other.body["webhookId"] != first.body["webhookId"]
    assert other.body["authentication"]["secret"] != first.body["authentication"]["secret"]
    again = mine.client.call("POST", "/v1/webhooks", body, headers=key)
    assert again.text == first.text


def test_a_key_that_another_account_has_used_with_another_body_is_free(mine: Mine) -> None:
    key = {"idempotency-key": "same"}
    assert mine.client.call("POST", "/v1/webhooks", VALID, headers=key).status == 201
    other = mine.client.call("POST", "/v1/webhooks", {**VALID, "name": "Other"}, headers=key, claims=THEIRS)
    assert other.status == 201
