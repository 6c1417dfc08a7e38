"""The admin API through its real gateway: who may call, what is refused and how, and the limit of five."""

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from lms_webhooks.model.event_types import EVENT_TYPES
from tests.e2e.system import OWN_NON_REAL_TIME, OWN_REAL_TIME, READER, Account, Answer, System
from tests.fakes.issuer import with_claims

GOOD_URL = "https://hooks.example.com/lms"


def check_problem(answer: Answer, status: int, slug: str) -> None:
    """RFC 9457, in every part."""
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.body["status"] == status
    assert answer.body["type"] == f"urn:lms-webhooks:problem:{slug}"
    assert answer.body["title"]
    assert answer.body["detail"]


##### What an admin does


def test_a_webhook_is_created_read_listed_and_deleted(account: Account) -> None:
    answer = account.call(
        "POST", "/v1/webhooks", account.webhook(GOOD_URL, authentication={"type": "signature"})
    )
    assert answer.status == 201
    created = answer.body
    path = f"/v1/webhooks/{created['webhookId']}"
    assert answer.headers["location"] == path
    assert created["authentication"].pop("secret").startswith("whsec_")
    read = account.call("GET", path)
    assert (read.status, read.headers["content-type"]) == (200, "application/json")
    assert created.items() <= read.body.items(), "all that was created, except the secret"
    assert "whsec_" not in read.text
    assert [webhook["webhookId"] for webhook in account.webhooks()] == [created["webhookId"]]
    assert account.call("DELETE", path).status == 204
    for method in ("GET", "DELETE"):
        check_problem(account.call(method, path), 404, "no-such-webhook")
    assert account.webhooks() == []


def test_the_catalogue_is_there(account: Account) -> None:
    listed = account.call("GET", "/v1/event-types").body["eventTypes"]
    assert [one["eventName"] for one in listed] == [*EVENT_TYPES, OWN_REAL_TIME, OWN_NON_REAL_TIME]


def test_of_twenty_creates_at_once_five_succeed(account: Account) -> None:
    start = Barrier(20)

    def create(number: int) -> Answer:
        start.wait()
        return account.call("POST", "/v1/webhooks", account.webhook(GOOD_URL, name=f"Hook {number}"))

    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(create, range(20)))
    assert sorted(answer.status for answer in answers) == [201] * 5 + [409] * 15
    for answer in answers:
        if answer.status == 409:
            check_problem(answer, 409, "too-many-webhooks")
    made = {answer.body["webhookId"] for answer in answers if answer.status == 201}
    assert {webhook["webhookId"] for webhook in account.webhooks()} == made
    account.delete(made.pop())
    account.create(GOOD_URL)


##### What is refused


@pytest.fixture(scope="module")
def refused_account(system: System) -> Iterator[Account]:
    """Everything sent here is wrong in one way, so nothing may come of it."""
    account = system.new_account()
    yield account
    assert account.webhooks() == []


BASIC = {"type": "basic", "username": "ada", "password": "secret"}
BAD_FIELDS: list[tuple[str, dict[str, Any], str, str]] = [
    ("no name", {"name": None}, "/name", "is required"),
    ("empty name", {"name": ""}, "/name", "must not be empty"),
    ("long name", {"name": "é" * 81}, "/name", "at most 80 characters"),
    ("number as name", {"name": 1010}, "/name", "must be text"),
    ("two lines of name", {"name": "a\nb"}, "/name", "line breaks"),
    ("long description", {"description": "x" * 141}, "/description", "at most 140 characters"),
    ("no target", {"targetUrl": None}, "/targetUrl", "is required"),
    ("no URL", {"targetUrl": "example"}, "/targetUrl", "must"),
    ("ftp", {"targetUrl": "ftp://example.com/"}, "/targetUrl", "https://"),
    ("credentials in the URL", {"targetUrl": "https://ada:pw@example.com/"}, "/targetUrl", "user name"),
    ("private address", {"targetUrl": "http://10.0.0.1/"}, "/targetUrl", "public address"),
    ("private address, https", {"targetUrl": "https://192.168.1.1/"}, "/targetUrl", "public address"),
    ("metadata address", {"targetUrl": "http://169.254.169.254/latest"}, "/targetUrl", "public address"),
    ("metadata, v6", {"targetUrl": "https://[fd00:ec2::254]/"}, "/targetUrl", "public address"),
    ("wrapped loopback", {"targetUrl": "https://[::ffff:10.0.0.1]/"}, "/targetUrl", "must not wrap"),
    ("address as number", {"targetUrl": "https://167772161/"}, "/targetUrl", "four decimal numbers"),
    ("address as hex", {"targetUrl": "https://0x0a000001/"}, "/targetUrl", "four decimal numbers"),
    ("internal name", {"targetUrl": "https://db.internal/"}, "/targetUrl", "public internet"),
    ("fragment", {"targetUrl": "https://example.com/#a"}, "/targetUrl", "fragment"),
    ("no authentication", {"authentication": None}, "/authentication", "is required"),
    ("unknown authentication", {"authentication": {"type": "oauth"}}, "/authentication/type", "must be one"),
    ("no password", {"authentication": BASIC | {"password": ""}}, "/authentication/password", "empty"),
    ("colon", {"authentication": BASIC | {"username": "a:b"}}, "/authentication/username", "colon"),
    (
        "own secret",
        {"authentication": {"type": "signature", "secret": "x"}},
        "/authentication/secret",
        "not a",
    ),
    ("no events", {"events": []}, "/events", "must not be empty"),
    ("unknown event", {"events": ["CI_STATS", "NOPE"]}, "/events/1", "/v1/event-types"),
    ("event twice", {"events": ["CI_STATS", "CI_STATS"]}, "/events", "twice"),
    ("unknown status", {"status": "broken"}, "/status", "must be"),
    ("unknown field", {"colour": "red"}, "/colour", "is not a field"),
    ("account of another", {"accountId": "1010"}, "/accountId", "is not a field"),
]


@pytest.mark.parametrize(
    ("changes", "pointer", "rule"), [pytest.param(*case[1:], id=case[0]) for case in BAD_FIELDS]
)
def test_a_bad_field_is_refused_by_name_and_rule(
    changes: dict[str, Any], pointer: str, rule: str, refused_account: Account
) -> None:
    body = refused_account.webhook(GOOD_URL, **changes)
    answer = refused_account.call("POST", "/v1/webhooks", body)
    check_problem(answer, 422, "invalid-fields")
    (error,) = answer.body["errors"]
    assert error["pointer"] == pointer
    assert rule in error["detail"]


def test_every_bad_field_is_named_at_once(refused_account: Account) -> None:
    body = refused_account.webhook("https://10.0.0.1/", name="", events=["NOPE"])
    errors = refused_account.call("POST", "/v1/webhooks", body).body["errors"]
    assert {error["pointer"] for error in errors} == {"/name", "/targetUrl", "/events/0"}


def test_what_is_no_call_of_the_api_is_a_problem_too(refused_account: Account) -> None:
    account, system = refused_account, refused_account.system
    check_problem(system.call("POST", "/v1/webhooks", token=account.token, text="{"), 400, "unreadable-body")
    answer = system.call(
        "POST", "/v1/webhooks", token=account.token, text="name=x", content_type="text/plain"
    )
    check_problem(answer, 415, "unsupported-media-type")
    too_large = account.webhook(GOOD_URL, description="x" * 70_000)
    check_problem(account.call("POST", "/v1/webhooks", too_large), 413, "body-too-large")
    check_problem(account.call("GET", "/v1/nothing"), 404, "no-such-path")
    check_problem(account.call("PUT", "/v1/webhooks", {}), 405, "method-not-allowed")


##### Who may call


def unsigned(token: str) -> str:
    """`token` as one that says that it needs no signature."""
    return f"{_base64({'alg': 'none', 'typ': 'JWT'})}.{token.split('.')[1]}."


def _base64(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_without_a_good_token_nothing_is_answered(method: str, account: Account) -> None:
    webhook_id = account.create(GOOD_URL)["webhookId"]
    path = f"/v1/webhooks/{webhook_id}" if method == "DELETE" else "/v1/webhooks"
    body = account.webhook(GOOD_URL) if method == "POST" else None
    tokens = {
        "none": None,
        "garbage": "garbage",
        "three parts of garbage": "a.b.c",
        "claims of another account": with_claims(account.token, **{"custom:accountId": "1010"}),
        "expiry later": with_claims(account.token, exp=4_000_000_000),
        "unsigned": unsigned(account.token),
    }
    for name, token in tokens.items():
        answer = account.system.call(method, path, token=token, body=body)
        assert (answer.status, answer.body) == (401, {"message": "Unauthorized"}), name
    assert [webhook["webhookId"] for webhook in account.webhooks()] == [webhook_id]


def test_a_reader_reads_and_a_stranger_does_not_even_that(account: Account) -> None:
    webhook_id = account.create(GOOD_URL)["webhookId"]
    calls: list[tuple[str, str, object]] = [
        ("GET", "/v1/webhooks", None),
        ("GET", f"/v1/webhooks/{webhook_id}", None),
        ("POST", "/v1/webhooks", account.webhook(GOOD_URL)),
        ("DELETE", f"/v1/webhooks/{webhook_id}", None),
    ]
    reader = account.system.sign_in(account.account_id, READER)
    stranger = account.system.sign_in(account.account_id, None)
    for method, path, body in calls:
        answer = account.system.call(method, path, token=reader, body=body)
        if method == "GET":
            assert answer.status == 200
        else:
            check_problem(answer, 403, "forbidden")
        check_problem(account.system.call(method, path, token=stranger, body=body), 403, "forbidden")
    assert [webhook["webhookId"] for webhook in account.webhooks()] == [webhook_id]
