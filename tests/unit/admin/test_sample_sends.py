"""An admin tries a webhook, saved or not: the sample is what an event would be, and bounded in number."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import standardwebhooks

from lms_webhooks.model.attempts import ErrorClass, TlsFault
from lms_webhooks.sending.sender import PostResult
from tests.unit.admin_client import ADMIN_CLAIMS, NOW, VALID, AdminClient, admin_client

UNAUTHORIZED = b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\n\r\n"


@pytest.fixture(scope="module")
def shared_client() -> Iterator[AdminClient]:
    with admin_client("trials") as client:
        yield client


def _without_request(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != "request"}


def test_a_saved_webhook_gets_a_sample_that_its_secret_verifies(client: AdminClient) -> None:
    created = client.create(authentication={"type": "signature"}, status="paused", headers={"x-team": "hr"})
    answer = client.call("POST", f"{created.headers['Location']}/test")
    (message,) = client.posted
    request = {"url": message.url, "headers": message.headers, "body": message.body.decode()}
    assert answer.status == 200
    assert answer.body == {"delivered": True, "statusCode": 204, "latencyMs": 12, "request": request}
    assert message.url == VALID["targetUrl"]
    assert message.headers["x-team"] == "hr"
    (event,) = json.loads(message.body)["events"]
    assert uuid.UUID(event["eventId"]).version == 4, "as any event's"
    assert event["eventName"] == "COURSE_ENROLLMENT"
    assert event["timestamp"] == int(NOW.timestamp() * 1000)
    message_id = message.headers["webhook-id"]
    assert message_id == f"test_{event['eventId']}"
    verifier = standardwebhooks.Webhook(created.body["authentication"]["secret"])
    assert verifier.sign(message_id, NOW, message.body.decode()) == message.headers["webhook-signature"]


def test_another_sample_may_be_asked_for(client: AdminClient) -> None:
    path = f"{client.create().headers['Location']}/test"
    assert client.call("POST", path, {"eventName": "LEARNER_PROGRESS"}).status == 200
    assert json.loads(client.posted[0].body)["events"][0]["eventName"] == "LEARNER_PROGRESS"
    wrong = client.call("POST", path, {"eventName": "NO_SUCH", "more": 1})
    assert wrong.status == 422
    assert set(wrong.errors) == {"/eventName", "/more"}
    assert len(client.posted) == 1


def test_an_unsaved_webhook_is_tried_and_not_saved(client: AdminClient) -> None:
    basic = {"type": "basic", "username": "ada", "password": "hunter2"}
    client.answer = PostResult(401, None, 30, body="who are you?", header=UNAUTHORIZED)
    answer = client.call("POST", "/v1/webhooks/test", {**VALID, "authentication": basic})
    request = answer.body["request"]
    assert _without_request(answer.body) == {
        "delivered": False,
        "statusCode": 401,
        "latencyMs": 30,
        "responseBody": "who are you?",
        "responseHeaders": {"www-authenticate": "Basic"},
    }
    assert request["headers"]["authorization"] == "Basic ***", "a password is never readable again"
    assert client.posted[0].headers["authorization"] == "Basic YWRhOmh1bnRlcjI="
    assert client.call("GET", "/v1/webhooks").body == {"webhooks": []}


def test_without_an_answer_the_class_of_error_says_why(client: AdminClient) -> None:
    client.answer = PostResult(None, ErrorClass.TIMEOUT, 5000)
    answer = client.call("POST", "/v1/webhooks/test", VALID)
    assert _without_request(answer.body) == {
        "delivered": False,
        "errorClass": "timeout",
        "latencyMs": 5000,
    }


def test_without_tls_the_reason_says_what_is_wrong(client: AdminClient) -> None:
    client.answer = PostResult(None, ErrorClass.TLS, 9, tls_fault=TlsFault.EXPIRED)
    answer = client.call("POST", "/v1/webhooks/test", VALID)
    assert _without_request(answer.body) == {
        "delivered": False,
        "errorClass": "tls",
        "reason": "The receiver's certificate has expired",
        "latencyMs": 9,
    }


def test_a_redirect_is_shown_and_not_followed(client: AdminClient) -> None:
    client.answer = PostResult(308, None, 9, location="https://example.com/new")
    answer = client.call("POST", "/v1/webhooks/test", VALID)
    assert (answer.body["statusCode"], answer.body["location"]) == (308, "https://example.com/new")
    assert len(client.posted) == 1


def test_a_password_that_the_receiver_echoes_is_hidden(client: AdminClient) -> None:
    """Otherwise a test would read it back: from an echo at another path of the same host."""
    basic = {"type": "basic", "username": "ada", "password": "hunter2"}
    echoed = "Basic YWRhOmh1bnRlcjI= is hunter2"
    header = f"HTTP/1.1 400 Bad Request\r\nx-echo: {echoed}\r\n\r\n".encode()
    client.answer = PostResult(400, None, 30, body=echoed, header=header)
    path = client.create(authentication=basic).headers["Location"]
    answer = client.call("POST", f"{path}/test")
    assert answer.body["responseBody"] == "Basic *** is ***"
    assert answer.body["responseHeaders"] == {"x-echo": "Basic *** is ***"}


def test_of_a_flood_of_headers_the_first_are_shown(client: AdminClient) -> None:
    header = b"".join(b"x-%d: %s\r\n" % (number, b"v" * 5000) for number in range(500))
    client.answer = PostResult(500, None, 9, header=b"HTTP/1.1 500 No\r\n" + header + b"\r\n")
    shown = client.call("POST", "/v1/webhooks/test", VALID).body["responseHeaders"]
    assert shown == {f"x-{number}": "v" * 1024 for number in range(50)}


def test_the_rules_are_those_of_creating(client: AdminClient) -> None:
    answer = client.call("POST", "/v1/webhooks/test", {**VALID, "targetUrl": "https://127.0.0.1/"})
    assert answer.status == 422
    assert set(answer.errors) == {"/targetUrl"}
    assert not client.posted


def test_ten_a_minute_and_account_are_sent(client: AdminClient) -> None:
    """In any 60 seconds, not in each minute of the clock; what is refused does not count."""
    path = f"{client.create().headers['Location']}/test"
    client.now_seconds += 60  # the new webhook counts too
    for _ in range(6):
        assert client.call("POST", path).status == 200
    client.now_seconds += 40
    for _ in range(4):
        assert client.call("POST", "/v1/webhooks/test", VALID).status == 200
    refused = client.call("POST", path)
    assert (refused.status, refused.body["type"]) == (429, "urn:lms-webhooks:problem:rate-limited")
    assert refused.headers["Retry-After"] == "20"
    others: dict[str, object] = {**ADMIN_CLAIMS, "custom:account_id": "2020"}
    assert client.call("POST", "/v1/webhooks/test", VALID, claims=others).status == 200
    client.now_seconds += 20
    assert client.call("POST", path).status == 200
    assert len(client.posted) == 12


def test_readers_and_strangers_send_nothing(client: AdminClient) -> None:
    path = f"{client.create().headers['Location']}/test"
    reader: dict[str, object] = {**ADMIN_CLAIMS, "cognito:groups": "[integration-reader]"}
    assert client.call("POST", path, claims=reader).status == 403
    stranger: dict[str, object] = {**ADMIN_CLAIMS, "custom:account_id": "2020"}
    assert client.call("POST", path, claims=stranger).status == 404
    assert client.call("GET", path).status == 405
    assert not client.posted
