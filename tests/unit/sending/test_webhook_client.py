"""A line in the log says all of an attempt that somebody may ask for, and nothing that is secret."""

import base64
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import boto3
import pytest
from moto import mock_aws

from lms_webhooks.aws.kms import SecretCipher
from lms_webhooks.model.events import Event
from lms_webhooks.model.webhooks import (
    Authentication,
    BasicAuthentication,
    NoAuthentication,
    SignatureAuthentication,
    Status,
    Webhook,
)
from lms_webhooks.observability import logger
from lms_webhooks.sending.sender import Sender, Timeouts
from lms_webhooks.sending.signing import new_secret
from lms_webhooks.sending.webhook_client import SendKind, SendResult, WebhookClient
from lms_webhooks.timestamps import format_ms
from tests.fakes.receiver import Receiver, answer
from tests.logged import Line, logged_lines

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

EVENTS = [
    Event("1010", f"e-{number}", "COURSE_COMPLETED", 1727414643000, 1, f'{{"eventId":"e-{number}"}}')
    for number in (1, 2)
]
TIMEOUTS = Timeouts(2, 2, 2)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def kms() -> "Iterator[KMSClient]":
    with mock_aws():
        yield boto3.client("kms", region_name="us-east-1")


def webhook_to(url: str, authentication: Authentication | None = None) -> Webhook:
    return Webhook(
        account_id="1010",
        webhook_id="wh_1",
        name="HR",
        description="",
        target_url=url,
        authentication=authentication or NoAuthentication(),
        events=frozenset({"COURSE_COMPLETED"}),
        status=Status.ACTIVE,
        created_at="2026-11-03T12:00:00.000Z",
        updated_at="2026-11-03T12:00:00.000Z",
        created_by="ada",
        updated_by="ada",
        headers={"x-key": "of-the-receiver"},
    )


def carried(client: WebhookClient, webhook: Webhook, events: Sequence[Event]) -> SendResult:
    return client.send(webhook, events, credentials=client.decrypt_credentials(webhook), timeouts=TIMEOUTS)


def logged_by(box: SecretCipher, webhook: Webhook, *, loopback_allowed: bool = True) -> Line:
    """The line of one attempt with both events."""
    client = WebhookClient(box, Sender(loopback_allowed=loopback_allowed), kind=SendKind.BACKLOG)
    with logged_lines() as lines:
        client.log("1010", "wh_1", [carried(client, webhook, EVENTS)])
    (line,) = lines
    return line


def test_an_attempt_is_one_line_with_all_that_came_of_it(receiver: Receiver, kms: "KMSClient") -> None:
    line = logged_by(SecretCipher(kms, "key"), webhook_to(receiver.url()))
    assert (line["level"], line["message"], line["kind"], line["responseClass"]) == (
        "INFO",
        "attempt",
        "backlog",
        "delivered",
    )
    assert (line["accountId"], line["webhookId"]) == ("1010", "wh_1")
    assert (line["events"], line["eventIds"], line["eventName"]) == (2, ["e-1", "e-2"], "COURSE_COMPLETED")
    assert line["bytes"] == len(receiver.requests[0].body)
    assert (line["statusCode"], line["latencyMs"]) == (200, pytest.approx(1000, abs=1000))


def test_those_in_a_row_with_one_answer_share_a_line(receiver: Receiver, kms: "KMSClient") -> None:
    """And those with another have their own, in the order in which they were sent."""
    client = WebhookClient(SecretCipher(kms, "key"), Sender(loopback_allowed=True), kind=SendKind.DIRECT)
    webhook = webhook_to(receiver.url())
    receiver.script = [answer(), answer(), answer(422), answer(), answer(503)]
    with logged_lines() as lines:
        sent = [carried(client, webhook, [event]) for event in (*EVENTS, *EVENTS, EVENTS[0])]
        assert list(lines) == []
        client.log("1010", "wh_1", sent)
    assert [(line["statusCode"], line["attempts"], line["events"], line["eventIds"]) for line in lines] == [
        (200, 2, 2, ["e-1", "e-2"]),
        (422, 1, 1, ["e-1"]),
        (200, 1, 1, ["e-2"]),
        (503, 1, 1, ["e-1"]),
    ]
    assert lines[0]["bytes"] == sum(len(request.body) for request in receiver.requests[:2])
    latencies_ms = [each.response.latency_ms for each in sent[:2]]
    assert (lines[0]["latencyMs"], lines[0]["totalLatencyMs"]) == (max(latencies_ms), sum(latencies_ms))
    assert lines[0]["startedAt"] == format_ms(sent[0].attempt.started_at_ms)


def test_a_line_leaves_out_what_of_its_function_nobody_asks_for() -> None:
    known = {"function_name": "dispatcher", "function_arn": "arn:aws:lambda", "function_memory_size": 512}
    logger.append_keys(**known)
    try:
        with logged_lines() as lines:
            logger.info("said")
    finally:
        logger.remove_keys(known)
    (line,) = lines
    assert line["function_name"] == "dispatcher"
    assert not {"function_arn", "function_memory_size"} & line.keys()


def test_without_an_attempt_there_is_no_line(kms: "KMSClient") -> None:
    client = WebhookClient(SecretCipher(kms, "key"), Sender(loopback_allowed=True), kind=SendKind.DIRECT)
    with logged_lines() as lines:
        client.log("1010", "wh_1", [])
    assert list(lines) == []


@pytest.mark.parametrize(
    ("status", "response_class"), [(410, "gone"), (422, "event"), (503, "endpoint"), (302, "endpoint")]
)
def test_it_says_what_the_answer_speaks_of(
    receiver: Receiver, kms: "KMSClient", status: int, response_class: str
) -> None:
    receiver.script = answer(status)
    line = logged_by(SecretCipher(kms, "key"), webhook_to(receiver.url()))
    assert (line["statusCode"], line["responseClass"]) == (status, response_class)


def test_without_an_answer_it_says_why(kms: "KMSClient") -> None:
    box = SecretCipher(kms, "key")
    line = logged_by(box, webhook_to("https://127.0.0.1/"), loopback_allowed=False)
    assert (line["responseClass"], line["errorClass"]) == ("endpoint", "forbidden-address")
    assert line["violatedRule"]
    assert line.get("statusCode") is None


def test_it_holds_no_secret_no_address_no_header_and_nothing_of_a_body(
    receiver: Receiver, kms: "KMSClient"
) -> None:
    box = SecretCipher(kms, kms.create_key()["KeyMetadata"]["KeyId"])
    password = "correct-horse-battery"
    ciphertext = box.encrypt(password, account_id="1010", webhook_id="wh_1")
    receiver.script = answer(500, body=b"of-the-answer")
    webhook = webhook_to(receiver.url("/hooks?token=of-the-url"), BasicAuthentication("ada", ciphertext))
    line = json.dumps(logged_by(box, webhook))
    basic = base64.b64encode(f"ada:{password}".encode()).decode()
    for hidden in (password, basic, "of-the-answer", "of-the-url", "127.0.0.1", "of-the-receiver", "x-key"):
        assert hidden not in line


def test_a_request_is_of_the_second_and_its_attempt_of_the_millisecond_in_which_it_began(
    receiver: Receiver, kms: "KMSClient"
) -> None:
    """Rounded up, it would be of the future: a receiver may refuse a signature for that."""
    clock = lambda: 1_727_414_643.9996  # noqa: E731
    client = WebhookClient(
        SecretCipher(kms, "key"), Sender(loopback_allowed=True), kind=SendKind.DIRECT, clock=clock
    )
    sent = carried(client, webhook_to(receiver.url()), EVENTS)
    assert receiver.requests[0].headers["webhook-timestamp"] == "1727414643"
    assert sent.attempt.started_at_ms == 1_727_414_643_999
    assert (sent.attempt.status_code, sent.attempt.error_class) == (200, None)
    assert sent.attempt.latency_ms == sent.response.latency_ms


@pytest.mark.parametrize(
    ("until", "signatures"),
    [(None, 1), ("2026-11-03T12:00:00.000Z", 1), ("2026-11-03T12:00:00.001Z", 2)],
)
def test_the_previous_secret_signs_until_its_time_is_over(
    receiver: Receiver, kms: "KMSClient", until: str | None, signatures: int
) -> None:
    box = SecretCipher(kms, kms.create_key()["KeyMetadata"]["KeyId"])
    new, old = (box.encrypt(new_secret(), account_id="1010", webhook_id="wh_1") for _ in range(2))
    client = WebhookClient(
        box, Sender(loopback_allowed=True), kind=SendKind.DIRECT, clock=lambda: 1_793_707_200.0
    )
    signed = SignatureAuthentication(new, previous_secret_ciphertext=old, previous_secret_until=until)
    carried(client, webhook_to(receiver.url(), signed), EVENTS)
    assert len(receiver.requests[0].headers["webhook-signature"].split(" ")) == signatures
