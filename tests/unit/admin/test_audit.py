"""Who changed what: each change that was made leaves one line, and each that was refused leaves none."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from lms_webhooks.model.attempts import Attempt
from lms_webhooks.model.deliveries import Delivery, Outcome
from lms_webhooks.model.health import Health, Mode
from lms_webhooks.model.lanes import Lane, PendingEvent
from tests.logged import Line, logged_lines
from tests.operations import Operation, operations
from tests.unit.admin_client import ADMIN_CLAIMS, VALID, AdminClient, Answer, admin_client
from tests.unit.tables import NOW_MS, event

CHANGES = [each for each in operations() if not each.is_read]
each_change = pytest.mark.parametrize("operation", CHANGES, ids=lambda each: each.name)
WEBHOOK = "/v1/webhooks/{webhookId}"
AUDITED: dict[str, tuple[str, set[str]]] = {
    "POST /v1/webhooks": ("webhook.create", {"webhookId"}),
    "POST /v1/webhooks/test": ("webhook.test", {"webhookId"}),
    f"PATCH {WEBHOOK}": ("webhook.change", {"webhookId"}),
    f"DELETE {WEBHOOK}": ("webhook.delete", {"webhookId"}),
    f"POST {WEBHOOK}/test": ("webhook.test", {"webhookId"}),
    f"POST {WEBHOOK}/retry": ("webhook.retry", {"webhookId"}),
    f"POST {WEBHOOK}/signature": ("webhook.rotate-secret", {"webhookId"}),
    f"POST {WEBHOOK}/deliveries/{{deliveryId}}/redeliver": ("delivery.redeliver", {"webhookId", "sortKey"}),
    f"POST {WEBHOOK}/replay": ("webhook.replay", {"webhookId", "replayId"}),
    f"DELETE {WEBHOOK}/replay": ("webhook.cancel-replay", {"webhookId"}),
    "POST /v1/notice-subscriptions": ("notice-subscription.create", {"subscriptionId"}),
    "DELETE /v1/notice-subscriptions/{subscriptionId}": ("notice-subscription.delete", {"subscriptionId"}),
}
"""What the line of each operation says was done, and which ids it has."""

DONE_WITH_THEIR_ANSWER = {
    "POST /v1/webhooks",
    f"POST {WEBHOOK}/retry",
    f"POST {WEBHOOK}/signature",
    f"POST {WEBHOOK}/deliveries/{{deliveryId}}/redeliver",
    f"POST {WEBHOOK}/replay",
}
READER = {**ADMIN_CLAIMS, "cognito:groups": "[integration-reader]"}
THEIRS = {**ADMIN_CLAIMS, "custom:account_id": "2020"}
NEVER_MADE = {
    "webhookId": "wh_" + "n" * 22,
    "deliveryId": "MTc5MzcwNzIwMDAwMCNuZXZlcg",  # 1793707200000#never
    "subscriptionId": "ns_" + "n" * 22,
}


@dataclass(frozen=True)
class Mine:
    """An account with one of everything that a change can be about."""

    client: AdminClient
    ids: dict[str, str]

    def call(
        self,
        operation: Operation,
        *,
        ids: dict[str, str] | None = None,
        claims: dict[str, object] | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[Answer, list[Line]]:
        """Make the call, and return the lines that it left in the audit log."""
        path = operation.path(**(ids or self.ids))
        with logged_lines() as lines:
            answer = self.client.call(operation.method, path, operation.body, claims=claims, headers=headers)
        return answer, [line for line in lines if line["message"] == "audit"]


@pytest.fixture(scope="module")
def shared_client() -> Iterator[AdminClient]:
    with admin_client("audit") as client:
        yield client


@pytest.fixture
def mine(shared_client: AdminClient, request: pytest.FixtureRequest) -> Mine:
    """A signed webhook with a history, and somebody who is mailed.

    Where a replay is to be stopped, one runs; where a probe is wanted, the endpoint fails.
    """
    client = shared_client
    client.forget_everything()
    webhook_id = str(client.create(authentication={"type": "signature"}).body["webhookId"])
    delivered = Delivery(
        webhook_id, event("e1", at_ms=NOW_MS), Outcome.DELIVERED, (Attempt(NOW_MS, 40, 204, None),)
    )
    client.history.record([delivered], recorded_at_seconds=NOW_MS // 1000)
    subscribed = client.call("POST", "/v1/notice-subscriptions", {"email": "me@example.com"})
    page = client.call("GET", f"/v1/webhooks/{webhook_id}/deliveries").body
    name = request.getfixturevalue("operation").name if "operation" in request.fixturenames else ""
    if name == f"DELETE {WEBHOOK}/replay":
        replay = {"from": "2026-11-01T00:00:00Z"}
        assert client.call("POST", f"/v1/webhooks/{webhook_id}/replay", replay).status == 202
    if name == f"POST {WEBHOOK}/retry":
        failing = Health(mode=Mode.BACKLOG, failures=1, failing_since_ms=NOW_MS)
        assert client.health.save("1010", webhook_id, failing, revision=0)
        client.backlog.append(webhook_id, Lane.REALTIME, [PendingEvent(event("e2", at_ms=NOW_MS))])
        client.backlog.set_marker("1010", webhook_id, Lane.REALTIME, accepted_at_ms=NOW_MS)
    return Mine(
        client,
        {
            "webhookId": webhook_id,
            "deliveryId": page["deliveries"][0]["deliveryId"],
            "subscriptionId": subscribed.body["subscriptionId"],
        },
    )


def test_every_operation_that_changes_something_is_here() -> None:
    assert {each.name for each in CHANGES} == set(AUDITED)


@each_change
def test_a_change_leaves_one_line(operation: Operation, mine: Mine) -> None:
    answer, lines = mine.call(operation)
    assert 200 <= answer.status < 300, answer.text
    action, ids = AUDITED[operation.name]
    assert len(lines) == 1
    line = lines[0]
    assert (line["action"], line["accountId"], line["user"]) == (action, "1010", "ada@example.com")
    assert line["sub"] == "5f1d-ada"  # the mail address is the user's word, with some issuers
    assert {name for name in line if name.endswith("Id") or name == "sortKey"} == {"accountId", *ids}
    for name in ids & set(operation.ids):
        assert line[name] == mine.ids[name]
    if action in ("webhook.create", "notice-subscription.create", "webhook.replay"):
        for name in ids - set(operation.ids):
            assert line[name] == answer.body[name]
    if action == "delivery.redeliver":
        assert line["sortKey"] == f"{NOW_MS:013d}#e1\tCOURSE_ENROLLMENT"
    newest = mine.client.call("GET", "/v1/activity").body["activity"]
    if action == "webhook.test":
        assert action not in [each["action"] for each in newest], "it changed nothing"
        return
    expected = {"action": action, "by": line["user"], "changedFields": line["changedFields"]}
    expected |= {name: line[name] for name in ids if name != "sortKey"}
    if action == "delivery.redeliver":
        expected["deliveryId"] = mine.ids["deliveryId"]
    assert expected in [{name: value for name, value in each.items() if name != "at"} for each in newest]


@pytest.mark.parametrize(
    "operation", [each for each in CHANGES if each.method == "POST"], ids=lambda each: each.name
)
def test_a_repeated_call_leaves_one_more_where_the_first_may_have_died_before_its_own(
    operation: Operation, mine: Mine
) -> None:
    """If one transaction makes the change and stores the response, the line comes after it; else before."""
    key = {"idempotency-key": "once"}
    _, first = mine.call(operation, headers=key)
    again, second = mine.call(operation, headers=key)
    assert again.headers["Idempotency-Replayed"] == "true"
    (line,) = first
    told = [{**line, "repeated": True}] if operation.name in DONE_WITH_THEIR_ANSWER else []
    own = ("timestamp", "changedFields", "location")
    assert [_without(each, *own) for each in second] == [_without(each, *own) for each in told]


def _without(line: Line, *names: str) -> Line:
    return {name: value for name, value in line.items() if name not in names}


@each_change
def test_who_may_only_read_leaves_none(operation: Operation, mine: Mine) -> None:
    answer, lines = mine.call(operation, claims=READER)
    assert (answer.status, lines) == (403, [])


@pytest.mark.parametrize("operation", [each for each in CHANGES if each.ids], ids=lambda each: each.name)
def test_what_is_not_there_or_another_s_leaves_none(operation: Operation, mine: Mine) -> None:
    for answer, lines in (mine.call(operation, ids=NEVER_MADE), mine.call(operation, claims=THEIRS)):
        assert (answer.status, lines) == (404, [])


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_a_change_of_what_was_changed_meanwhile_leaves_none(method: str, mine: Mine) -> None:
    operation = next(each for each in CHANGES if each.name == f"{method} {WEBHOOK}")
    answer, lines = mine.call(operation, headers={"if-match": '"another"'})
    assert (answer.status, lines) == (412, [])


def test_one_webhook_too_many_leaves_none(mine: Mine) -> None:
    create = next(each for each in CHANGES if each.name == "POST /v1/webhooks")
    statuses = [mine.client.call("POST", "/v1/webhooks", VALID).status for _ in range(4)]
    assert statuses == [201] * 4
    answer, lines = mine.call(create)
    assert (answer.status, lines) == (409, [])


@pytest.mark.parametrize(
    "operation", [each for each in CHANGES if each.body is not None], ids=lambda each: each.name
)
def test_a_body_that_is_no_good_leaves_none(operation: Operation, mine: Mine) -> None:
    broken = Operation(operation.method, operation.template, operation.ids, {"no": "such field"})
    answer, lines = mine.call(broken)
    assert (400 <= answer.status < 500, lines) == (True, [])


def test_what_is_only_read_leaves_none(mine: Mine) -> None:
    for operation in operations():
        if operation.is_read and not operation.template.endswith("/replay"):
            answer, lines = mine.call(operation)
            assert (operation.name, answer.status, lines) == (operation.name, 200, [])
