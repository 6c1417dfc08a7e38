"""People are mailed about the webhooks of accounts that want it, each through one subscription of SNS."""

import json
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from lms_webhooks.aws.sns import account_topic
from tests.engines.dynamodb import Engine
from tests.logged import logged_lines
from tests.unit.admin_client import ADMIN_CLAIMS, NOW, AdminClient, admin_client
from tests.unit.tables import Throttled

PATH = "/v1/notice-subscriptions"
OTHER_CLAIMS = ADMIN_CLAIMS | {"custom:account_id": "2020"}


@pytest.fixture
def client(dynamodb: Engine) -> Iterator[AdminClient]:
    with admin_client("subscriptions", dynamodb=dynamodb) as client:
        yield client


def mailed(client: AdminClient, account_id: str = "1010") -> set[str]:
    """Whom SNS mails about an account."""
    topic_arn = account_topic(client.settings.notice_topic_arn, account_id)
    try:
        found = client.sns.list_subscriptions_by_topic(TopicArn=topic_arn)["Subscriptions"]
    except client.sns.exceptions.NotFoundException:
        return set()
    assert {each["Protocol"] for each in found} <= {"email"}
    return {each["Endpoint"] for each in found}


def test_who_is_added_is_mailed_about_this_account_and_listed(client: AdminClient) -> None:
    added = client.call("POST", PATH, {"email": "Team@Example.com"})
    assert added.status == 201
    assert added.body["subscriptionId"].startswith("ns_")
    assert (added.body["email"], added.body["status"]) == ("team@example.com", "confirmed")
    assert added.body["createdBy"] == "ada@example.com"
    assert mailed(client) == {"team@example.com"}
    assert client.call("GET", PATH).body == {"subscriptions": [added.body]}
    assert client.call("GET", PATH, claims=OTHER_CLAIMS).body == {"subscriptions": []}


def test_who_is_removed_is_mailed_no_more(client: AdminClient) -> None:
    kept = client.call("POST", PATH, {"email": "kept@example.com"}).body
    gone = client.call("POST", PATH, {"email": "gone@example.com"}).body
    removed = client.call("DELETE", f"{PATH}/{gone['subscriptionId']}")
    assert (removed.status, removed.text) == (204, "")
    assert mailed(client) == {"kept@example.com"}
    assert client.call("GET", PATH).body == {"subscriptions": [kept]}
    again = client.call("DELETE", f"{PATH}/{gone['subscriptionId']}")
    assert (again.status, again.body["type"]) == (404, "urn:lms-webhooks:problem:no-such-subscription")


def test_the_same_address_again_is_the_same_subscription(client: AdminClient) -> None:
    first = client.call("POST", PATH, {"email": "team@example.com"}).body
    second = client.call("POST", PATH, {"email": "team@example.com"})
    assert (second.status, second.body) == (201, first)
    assert len(client.call("GET", PATH).body["subscriptions"]) == 1


def test_accounts_that_mail_the_same_person_know_nothing_of_each_other(client: AdminClient) -> None:
    mine = client.call("POST", PATH, {"email": "agency@example.com"}).body
    theirs = client.call("POST", PATH, {"email": "agency@example.com"}, claims=OTHER_CLAIMS).body
    assert theirs["subscriptionId"] != mine["subscriptionId"]
    assert mailed(client, "1010") == mailed(client, "2020") == {"agency@example.com"}
    stolen = client.call("DELETE", f"{PATH}/{mine['subscriptionId']}", claims=OTHER_CLAIMS)
    assert stolen.status == 404
    client.call("DELETE", f"{PATH}/{mine['subscriptionId']}")
    assert (mailed(client, "1010"), mailed(client, "2020")) == (set(), {"agency@example.com"})
    assert client.call("GET", PATH, claims=OTHER_CLAIMS).body == {"subscriptions": [theirs]}


def test_who_ended_it_by_the_link_in_a_mail_is_shown_so_and_may_be_added_again(client: AdminClient) -> None:
    added = client.call("POST", PATH, {"email": "team@example.com"}).body
    (found,) = client.sns.list_subscriptions()["Subscriptions"]
    client.sns.unsubscribe(SubscriptionArn=found["SubscriptionArn"])
    assert client.call("GET", PATH).body == {"subscriptions": [added | {"status": "ended"}]}
    assert client.call("POST", PATH, {"email": "team@example.com"}).body == added
    assert mailed(client) == {"team@example.com"}


def test_one_that_is_not_confirmed_is_pending(client: AdminClient) -> None:
    client.call("POST", PATH, {"email": "team@example.com"})
    original = client.sns.get_subscription_attributes

    def pending(**arguments: str) -> Any:
        answer: Any = original(**arguments)
        return {"Attributes": answer["Attributes"] | {"PendingConfirmation": "true"}}

    client.sns.get_subscription_attributes = pending  # type: ignore[method-assign]
    assert [each["status"] for each in client.call("GET", PATH).body["subscriptions"]] == ["pending"]


def test_one_that_is_removed_before_it_is_confirmed_stays_silent(
    client: AdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SNS keeps it for two days, and a person who follows the link then would get mail."""
    added = client.call("POST", PATH, {"email": "team@example.com"}).body
    (found,) = client.sns.list_subscriptions()["Subscriptions"]

    def refuse(**_: str) -> None:
        error = {"Error": {"Code": "InvalidParameter", "Message": "pending confirmation"}}
        raise client.sns.exceptions.InvalidParameterException(error, "Unsubscribe")  # type: ignore[arg-type]

    monkeypatch.setattr(client.sns, "unsubscribe", refuse)
    assert client.call("DELETE", f"{PATH}/{added['subscriptionId']}").status == 204
    attributes = client.sns.get_subscription_attributes(SubscriptionArn=found["SubscriptionArn"])[
        "Attributes"
    ]
    assert json.loads(attributes["FilterPolicy"]) == {"accountId": ["-"]}
    assert client.call("GET", PATH).body == {"subscriptions": []}


def test_what_sns_does_not_mail_is_refused_and_not_listed(
    client: AdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: Any) -> None:
        error = {"Error": {"Code": "InvalidParameter", "Message": "Email address"}}
        raise client.sns.exceptions.InvalidParameterException(error, "Subscribe")  # type: ignore[arg-type]

    monkeypatch.setattr(client.sns, "subscribe", refuse)
    answer = client.call("POST", PATH, {"email": "team@example.com"})
    assert (answer.status, list(answer.errors)) == (422, ["/email"])
    assert client.call("GET", PATH).body == {"subscriptions": []}


@pytest.mark.slow
def test_an_account_has_ten_and_makes_ten_a_minute(client: AdminClient) -> None:
    for number in range(10):
        assert client.call("POST", PATH, {"email": f"{number}@example.com"}).status == 201
    hasty = client.call("POST", PATH, {"email": "more@example.com"})
    assert (hasty.status, hasty.headers["Retry-After"]) == (429, "60")
    client.now_seconds += 61
    full = client.call("POST", PATH, {"email": "more@example.com"})
    assert (full.status, full.body["type"]) == (409, "urn:lms-webhooks:problem:too-many-subscriptions")
    assert full.body["detail"].startswith(
        "An account has at most 10 notification subscriptions. Delete one to"
    )
    assert "more@example.com" not in mailed(client)
    assert client.call("POST", PATH, {"email": "3@example.com"}).status == 201


@pytest.mark.parametrize(
    "email",
    [
        "",
        "ada",
        "ada@",
        "@example.com",
        "ada@localhost",
        "a b@example.com",
        "ada@exa_mple.com",
        "ü@example.com",
        "ada@example.com\n",
        "a@" + "x" * 250 + ".com",
        "ada@-example.com",
        "ada@example..com",
        ".ada@example.com",
        "a..da@example.com",
        "a" * 65 + "@example.com",
    ],
)
def test_what_is_no_address_is_refused(client: AdminClient, email: str) -> None:
    answer = client.call("POST", PATH, {"email": email})
    assert answer.status == 422
    assert list(answer.errors) == ["/email"]
    assert mailed(client) == set()


def test_a_reader_sees_them_and_adds_none(client: AdminClient) -> None:
    reader = ADMIN_CLAIMS | {"cognito:groups": "[integration-reader]"}
    assert client.call("GET", PATH, claims=reader).status == 200
    assert client.call("POST", PATH, {"email": "team@example.com"}, claims=reader).status == 403


def add(client: AdminClient, email: str) -> Any:
    answer = client.call("POST", PATH, {"email": email})
    assert answer.status == 201, answer.text
    return answer.body


def listed(client: AdminClient) -> list[str]:
    return [each["email"] for each in client.call("GET", PATH).body["subscriptions"]]


class Meanwhile:
    """Somebody else's call, made before the first write of this kind that the caller makes."""

    def __init__(self, client: AdminClient, monkeypatch: pytest.MonkeyPatch, act: Any) -> None:
        self._update_item = client._dynamodb.update_item
        self._act = act
        self._patch = partial(monkeypatch.setattr, client._dynamodb, "update_item")
        self._patch(self)

    def __call__(self, **request: Any) -> Any:
        self._patch(self._update_item)
        self._act()
        return self._update_item(**request)


def test_they_are_listed_oldest_first(client: AdminClient, monkeypatch: pytest.MonkeyPatch) -> None:
    emails = ["z@example.com", "a@example.com", "m@example.com"]
    for number, email in enumerate(emails):
        moment = NOW + timedelta(seconds=number)
        monkeypatch.setattr("tests.unit.admin_client.NOW", moment)
        add(client, email)
    assert listed(client) == emails


@pytest.mark.parametrize("was_empty", [True, False])
def test_of_two_who_add_at_once_both_are_heard(
    client: AdminClient, monkeypatch: pytest.MonkeyPatch, was_empty: bool
) -> None:
    if not was_empty:
        add(client, "first@example.com")
    Meanwhile(client, monkeypatch, lambda: add(client, "other@example.com"))
    add(client, "mine@example.com")
    expected = {"other@example.com", "mine@example.com"} | (set() if was_empty else {"first@example.com"})
    assert set(listed(client)) == expected == mailed(client)


def test_who_removes_while_another_adds_removes_what_they_meant(
    client: AdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = add(client, "gone@example.com")
    Meanwhile(client, monkeypatch, lambda: add(client, "other@example.com"))
    assert client.call("DELETE", f"{PATH}/{gone['subscriptionId']}").status == 204
    assert listed(client) == ["other@example.com"]


@pytest.mark.slow
def test_the_eleventh_is_refused_though_ten_came_meanwhile(
    client: AdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(9):
        add(client, f"{number}@example.com")
    client.now_seconds += 61
    Meanwhile(client, monkeypatch, lambda: add(client, "tenth@example.com"))
    answer = client.call("POST", PATH, {"email": "eleventh@example.com"})
    assert (answer.status, answer.body["type"]) == (409, "urn:lms-webhooks:problem:too-many-subscriptions")
    assert "eleventh@example.com" not in mailed(client)
    assert len(listed(client)) == 10


def test_a_list_that_always_changes_meanwhile_is_busy(
    client: AdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = 0

    def refuse(**_: Any) -> None:
        nonlocal tried
        tried += 1
        error: Any = {"Error": {"Code": "ConditionalCheckFailedException", "Message": "no"}}
        raise client._dynamodb.exceptions.ConditionalCheckFailedException(error, "UpdateItem")

    with monkeypatch.context() as patch:
        patch.setattr(client._dynamodb, "update_item", refuse)
        answer = client.call("POST", PATH, {"email": "team@example.com"})
    assert (answer.status, answer.body["type"]) == (503, "urn:lms-webhooks:problem:busy")
    assert tried == 5
    assert mailed(client) == set()


def test_one_whose_adding_broke_off_is_shown_as_ended_and_can_be_added_or_removed(
    client: AdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SNS failed after the list was written: nobody is mailed, and the list says so, without asking SNS of a
    subscription that has no name: that is an error."""
    ask = client.sns.get_subscription_attributes

    def fail(**_: Any) -> None:
        raise Throttled

    def ask_by_name(**arguments: str) -> Any:
        assert arguments["SubscriptionArn"]
        return ask(**arguments)

    monkeypatch.setattr(client.sns, "get_subscription_attributes", ask_by_name)
    for end in ("added", "removed"):
        with monkeypatch.context() as patch:
            patch.setattr(client.sns, "subscribe", fail)
            assert client.call("POST", PATH, {"email": "team@example.com"}).status >= 500
        (half,) = client.call("GET", PATH).body["subscriptions"]
        assert (half["email"], half["status"]) == ("team@example.com", "ended")
        if end == "added":
            assert add(client, "team@example.com") == half | {"status": "confirmed"}
            assert mailed(client) == {"team@example.com"}
        assert client.call("DELETE", f"{PATH}/{half['subscriptionId']}").status == 204
        assert (listed(client), mailed(client)) == ([], set())


def test_an_address_that_sns_refuses_later_stays_where_it_was_before(
    client: AdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for a second time: the first call's subscription is not taken back."""
    added = add(client, "team@example.com")

    def refuse(**_: Any) -> None:
        error: Any = {"Error": {"Code": "InvalidParameter", "Message": "Email address"}}
        raise client.sns.exceptions.InvalidParameterException(error, "Subscribe")

    monkeypatch.setattr(client.sns, "subscribe", refuse)
    assert client.call("POST", PATH, {"email": "team@example.com"}).status == 422
    assert client.call("GET", PATH).body == {"subscriptions": [added]}


def test_one_that_sns_has_forgotten_is_removed_all_the_same(
    client: AdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not confirmed, and its two days passed between the two calls."""
    added = add(client, "team@example.com")

    def refuse(**_: Any) -> None:
        error: Any = {"Error": {"Code": "InvalidParameter", "Message": "pending confirmation"}}
        raise client.sns.exceptions.InvalidParameterException(error, "Unsubscribe")

    def forget(**_: Any) -> None:
        error: Any = {"Error": {"Code": "NotFound", "Message": "no subscription"}}
        raise client.sns.exceptions.NotFoundException(error, "SetSubscriptionAttributes")

    monkeypatch.setattr(client.sns, "unsubscribe", refuse)
    monkeypatch.setattr(client.sns, "set_subscription_attributes", forget)
    assert client.call("DELETE", f"{PATH}/{added['subscriptionId']}").status == 204
    assert listed(client) == []


def test_who_may_publish_about_an_account_is_said_by_roles_alone(client: AdminClient) -> None:
    """SNS's own policy lets everybody of the AWS account who may call SNS, subscribe others too."""
    add(client, "team@example.com")
    topic_arn = account_topic(client.settings.notice_topic_arn, "1010")
    attributes = client.sns.get_topic_attributes(TopicArn=topic_arn)["Attributes"]
    (statement,) = json.loads(attributes["Policy"])["Statement"]
    assert statement == {
        "Sid": "RolesDecide",
        "Effect": "Allow",
        "Principal": {"AWS": "arn:aws:iam::123456789012:root"},
        "Action": "sns:Publish",
        "Resource": topic_arn,
    }


def test_who_came_and_went_is_in_the_audit_log(client: AdminClient) -> None:
    with logged_lines() as lines:
        added = add(client, "team@example.com")
        client.call("DELETE", f"{PATH}/{added['subscriptionId']}")
    said = [
        (line["action"], line["subscriptionId"], line["user"]) for line in lines if line["message"] == "audit"
    ]
    assert said == [
        ("notice-subscription.create", added["subscriptionId"], "ada@example.com"),
        ("notice-subscription.delete", added["subscriptionId"], "ada@example.com"),
    ]


def test_an_address_that_is_there_already_needs_no_write(
    client: AdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = add(client, "team@example.com")

    def fail(**_: Any) -> None:
        raise Throttled

    monkeypatch.setattr(client._dynamodb, "update_item", fail)
    assert add(client, "team@example.com") == added
