"""A webhook is changed field by field; what it means for the endpoint follows from the fields."""

from dataclasses import replace
from typing import Any

import pytest

from lms_webhooks.aws.dynamodb import Table
from lms_webhooks.errors import VersionConflict
from lms_webhooks.model.health import DisabledReason, Health, Mode
from lms_webhooks.model.webhooks import Webhook
from lms_webhooks.stores.health import HealthStore
from tests.unit.admin_client import ADMIN_CLAIMS, NOW, AdminClient, etag

VALUE_RULE = "must have a value of 1 to 1024 visible ASCII characters, with spaces or tabs only between them"


@pytest.fixture
def path(client: AdminClient) -> str:
    """Of a webhook that was just created."""
    return str(client.create().headers["Location"])


def tags_of(path: str, if_match: str) -> str:
    """`if_match` with the tags of the webhook's first two versions."""
    first, second = (etag(path.rpartition("/")[2], version) for version in (1, 2))
    return if_match.format(first=first, second=second)


def stored(client: AdminClient) -> tuple[Webhook, Health]:
    (registered,) = client.store.read_account("1010")
    return registered


@pytest.mark.parametrize(
    ("change", "begins_anew"),
    [
        ({"name": "Payroll"}, False),
        ({"description": "For payroll"}, False),
        ({"events": ["CI_STATS"]}, False),
        ({"ordered": True}, False),
        ({"headers": {"x-team": "payroll"}}, False),
        ({"targetUrl": "https://other.example.com/"}, True),
        ({"status": "paused"}, True),
        ({"status": "inactive"}, True),
    ],
    ids=str,
)
def test_what_is_given_changes_and_nothing_else(
    client: AdminClient, path: str, change: dict[str, Any], begins_anew: bool
) -> None:
    """Only URL, authentication and status say something about the endpoint: they begin a new epoch, in
    backlog mode, and a drain is scheduled."""
    before = client.call("GET", path).body
    answer = client.call("PATCH", path, change)
    assert (answer.status, answer.headers["ETag"]) == (200, etag(before["webhookId"], 2)), answer.text
    mode = "backlog" if begins_anew else "direct"
    assert answer.body == {**before, **change, "health": {"mode": mode, "attempts": []}}
    assert client.call("GET", path).body == answer.body
    webhook, _ = stored(client)
    assert webhook.epoch == (2 if begins_anew else 1)
    message = {"accountId": "1010", "webhookId": webhook.webhook_id, "isUrgent": True}
    assert client.sent_for_drainers() == ([message] if begins_anew else [])


@pytest.mark.parametrize(
    "change", [{}, {"targetUrl": "https://hooks.example.com/lms", "status": "active"}], ids=str
)
def test_what_changes_nothing_makes_no_version_old(
    client: AdminClient, path: str, change: dict[str, Any]
) -> None:
    before = client.call("GET", path)
    answer = client.call("PATCH", path, change)
    assert (answer.status, answer.headers["ETag"], answer.body) == (200, before.headers["ETag"], before.body)
    assert client.sent_for_drainers() == []


def test_authentication_is_changed_as_a_whole(client: AdminClient, path: str) -> None:
    """A new signing secret is shown once; asking for signatures again keeps it."""
    answer = client.call("PATCH", path, {"authentication": {"type": "signature"}})
    secret = answer.body["authentication"]["secret"]
    assert secret.startswith("whsec_")
    kept = stored(client)[0].authentication
    again = client.call("PATCH", path, {"authentication": {"type": "signature"}})
    assert again.body["authentication"] == {"type": "signature"}
    assert stored(client)[0].authentication == kept
    assert stored(client)[0].epoch == 2
    basic = {"type": "basic", "username": "ada", "password": "hunter2"}
    assert client.call("PATCH", path, {"authentication": basic}).body["authentication"] == {
        "type": "basic",
        "username": "ada",
    }
    assert stored(client)[0].epoch == 3
    half = client.call("PATCH", path, {"authentication": {"type": "basic", "username": "bob"}})
    assert half.errors == {"/authentication/password": "is required"}


def test_a_webhook_that_was_switched_off_is_set_active_again(client: AdminClient, path: str) -> None:
    """The system switched it off, so its status is active already: the admin's word begins a new epoch."""
    webhook, health = stored(client)
    off = replace(
        health, mode=Mode.BACKLOG, disabled_reason=DisabledReason.GONE, disabled_at_ms=1_793_707_200_000
    )
    table = Table(client.store._client, client.settings.webhooks_table)
    assert HealthStore(table).save("1010", webhook.webhook_id, off, revision=0)
    shown = client.call("GET", path).body["health"]
    assert shown["disabled"] == {"reason": "gone", "at": "2026-11-03T12:00:00.000Z"}
    assert client.call("PATCH", path, {"name": "Payroll"}).body["health"] == shown
    assert client.call("PATCH", path, {"status": "active"}).body["health"] == {
        "mode": "backlog",
        "attempts": [],
    }
    assert stored(client)[0].epoch == 2
    assert len(client.sent_for_drainers()) == 1


@pytest.mark.parametrize("if_match", ["{first}", "*", '"7", {first}', "{second}, {first}"])
def test_a_change_of_what_was_read_is_made(client: AdminClient, path: str, if_match: str) -> None:
    header = {"if-match": tags_of(path, if_match)}
    answer = client.call("PATCH", path, {"name": "Payroll"}, headers=header)
    assert (answer.status, answer.body["name"]) == (200, "Payroll")


@pytest.mark.parametrize("if_match", ["{second}", "W/{first}", '"1"', "1", "", '"1', '"1-00000000"'])
def test_a_change_of_something_else_is_refused(client: AdminClient, path: str, if_match: str) -> None:
    header = {"if-match": tags_of(path, if_match)}
    answer = client.call("PATCH", path, {"name": "Payroll"}, headers=header)
    assert (answer.status, answer.body["type"]) == (412, "urn:lms-webhooks:problem:version-conflict")
    assert stored(client)[0].name == "Enrollments to HR"


def test_of_two_who_change_at_once_both_are_heard(
    client: AdminClient, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither says what it expects: the second change is made again, on what the first one left."""
    update = client.store.update
    others = iter([{"description": "Mine first"}])

    def meet(webhook: Webhook, *, expected: Webhook) -> None:
        for other in others:
            assert client.call("PATCH", path, other).status == 200
        update(webhook, expected=expected)

    monkeypatch.setattr(client.store, "update", meet)
    answer = client.call("PATCH", path, {"name": "Payroll"})
    assert (answer.body["name"], answer.body["description"]) == ("Payroll", "Mine first")


@pytest.mark.parametrize(
    ("change", "errors"),
    [
        ({"name": None}, {"/name": "must not be null; leave out what is to stay"}),
        ({"webhookId": "wh_1"}, {"/webhookId": "is not a field that this call takes"}),
        ({"target_url": "https://a.example/"}, {"/target_url": "is not a field that this call takes"}),
        (
            {"name": " x", "events": []},
            {
                "/name": "must not begin or end with white space",
                "/events": "must not be empty",
            },
        ),
        ({"targetUrl": "http://hooks.example.com/"}, {"/targetUrl": "must start with https://"}),
        (
            {"headers": {"x-team": "a\nb"}},
            {"/headers/x-team": VALUE_RULE},
        ),
    ],
    ids=str,
)
def test_the_rules_are_those_of_creating(
    client: AdminClient, path: str, change: dict[str, Any], errors: dict[str, str]
) -> None:
    answer = client.call("PATCH", path, change)
    assert (answer.status, answer.errors) == (422, errors)
    assert stored(client)[0].version == 1


def test_another_accounts_webhook_is_not_found(client: AdminClient, path: str) -> None:
    claims: dict[str, object] = {"custom:account_id": "2020", "cognito:groups": "[integration-admin]"}
    answer = client.call("PATCH", path, {"name": "Mine"}, claims=claims)
    assert (answer.status, answer.body["type"]) == (404, "urn:lms-webhooks:problem:no-such-webhook")
    assert stored(client)[0].name == "Enrollments to HR"


def test_a_deletion_may_say_which_version_it_means(client: AdminClient) -> None:
    path = client.create().headers["Location"]
    client.call("PATCH", path, {"description": "new"})
    stale = client.call("DELETE", path, headers={"if-match": tags_of(path, "{first}")})
    assert (stale.status, stale.body["type"]) == (412, "urn:lms-webhooks:problem:version-conflict")
    assert client.call("GET", path).status == 200
    assert client.call("DELETE", path, headers={"if-match": tags_of(path, "{second}")}).status == 204
    assert client.call("DELETE", path, headers={"if-match": "*"}).status == 404


BOB: dict[str, object] = {**ADMIN_CLAIMS, "email": "bob@example.com"}


def test_a_change_says_who_made_it_and_when_and_who_made_the_webhook(
    client: AdminClient, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = client.call("GET", path).body
    assert (created["createdBy"], created["updatedBy"]) == ("ada@example.com", "ada@example.com")
    monkeypatch.setattr(client, "now_seconds", NOW.timestamp() + 60)
    changed = client.call("PATCH", path, {"name": "Payroll"}, claims=BOB).body
    for shown in (changed, client.call("GET", path).body):
        assert (shown["createdBy"], shown["updatedBy"]) == ("ada@example.com", "bob@example.com")
        assert (shown["createdAt"], shown["updatedAt"]) == (
            "2026-11-03T12:00:00.005Z",
            "2026-11-03T12:01:00.005Z",
        )


def test_who_changes_nothing_is_not_said_to_have_changed_it(client: AdminClient, path: str) -> None:
    assert client.call("PATCH", path, {"status": "active"}, claims=BOB).status == 200
    assert client.call("GET", path).body["updatedBy"] == "ada@example.com"


def test_who_makes_a_new_secret_is_said_to_have_changed_it(
    client: AdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = client.create(authentication={"type": "signature"}).headers["Location"]
    monkeypatch.setattr(client, "now_seconds", NOW.timestamp() + 60)
    assert client.call("POST", f"{path}/signature", claims=BOB).status == 200
    shown = client.call("GET", path).body
    assert (shown["createdBy"], shown["updatedBy"]) == ("ada@example.com", "bob@example.com")
    assert shown["updatedAt"] == "2026-11-03T12:01:00.005Z"


def test_a_deletion_with_if_match_that_races_a_change_is_refused(
    client: AdminClient, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tag was right when it was compared. Then somebody else changed what was to be deleted."""
    delete = client.store.delete

    def change_first(*arguments: Any, **more: Any) -> None:
        monkeypatch.setattr(client.store, "delete", delete)
        assert client.call("PATCH", path, {"name": "Keep me"}).status == 200
        delete(*arguments, **more)

    monkeypatch.setattr(client.store, "delete", change_first)
    answer = client.call("DELETE", path, headers={"if-match": tags_of(path, "{first}")})
    assert (answer.status, answer.body["type"]) == (412, "urn:lms-webhooks:problem:version-conflict")
    assert client.call("GET", path).body["name"] == "Keep me"


def test_a_deletion_that_expects_nothing_is_made_whatever_changes(
    client: AdminClient, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete = client.store.delete

    def change_first(*arguments: Any, **more: Any) -> None:
        monkeypatch.setattr(client.store, "delete", delete)
        assert client.call("PATCH", path, {"name": "Keep me"}).status == 200
        delete(*arguments, **more)

    monkeypatch.setattr(client.store, "delete", change_first)
    assert client.call("DELETE", path).status == 204
    assert client.call("GET", path).status == 404


def test_a_change_with_if_match_that_races_another_is_refused(
    client: AdminClient, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = client.store.update

    def change_first(*arguments: Any, **more: Any) -> None:
        monkeypatch.setattr(client.store, "update", update)
        assert client.call("PATCH", path, {"description": "Mine first"}).status == 200
        update(*arguments, **more)

    monkeypatch.setattr(client.store, "update", change_first)
    answer = client.call("PATCH", path, {"name": "Payroll"}, headers={"if-match": tags_of(path, "{first}")})
    assert (answer.status, answer.body["type"]) == (412, "urn:lms-webhooks:problem:version-conflict")
    shown = client.call("GET", path).body
    assert (shown["name"], shown["description"]) == ("Enrollments to HR", "Mine first")


def test_a_webhook_of_a_newer_version_costs_the_others_of_its_account_nothing(
    client: AdminClient, path: str
) -> None:
    """A call for it says that the error is ours; those for the others go on, and it is left alone."""
    other = str(client.create(name="Newer").headers["Location"])
    table = Table(client.store._client, client.store._table_name)
    key = {"pk": {"S": "ACCOUNT#1010"}, "sk": {"S": f"WEBHOOK#{other.rpartition('/')[2]}"}}
    table.client.update_item(
        TableName=table.name,
        Key=key,
        UpdateExpression="SET #status = :status",
        ExpressionAttributeNames={"#status": "status"},
        ExpressionAttributeValues={":status": {"S": "archived"}},
    )
    assert [each["webhookId"] for each in client.call("GET", "/v1/webhooks").body["webhooks"]] == [
        path.rpartition("/")[2]
    ]
    assert client.call("PATCH", path, {"name": "Payroll"}).status == 200
    for method, change in (("GET", None), ("PATCH", {"name": "Payroll"}), ("DELETE", None)):
        assert client.call(method, other, change).status == 500
    assert table.client.get_item(TableName=table.name, Key=key)["Item"]["status"] == {"S": "archived"}


@pytest.mark.parametrize("what", ["change", "rotation"])
def test_who_expects_nothing_and_is_always_too_late_may_try_again(
    client: AdminClient, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """412 would be about a condition that the caller never gave."""
    path = client.create(authentication={"type": "signature"}).headers["Location"]

    def be_late(*_: Any, **__: Any) -> None:
        raise VersionConflict

    monkeypatch.setattr(client.store, "update", be_late)
    call = ("PATCH", path, {"name": "Payroll"}) if what == "change" else ("POST", f"{path}/signature", None)
    answer = client.call(*call)
    assert (answer.status, answer.body["type"]) == (503, "urn:lms-webhooks:problem:busy")
    assert answer.headers["Retry-After"] == "1"
    answer = client.call(*call, headers={"if-match": "*"})
    assert (answer.status, answer.body["type"]) == (412, "urn:lms-webhooks:problem:version-conflict")
