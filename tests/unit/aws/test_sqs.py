"""What goes on a queue is what its reader expects, and never waits longer than SQS can hold it back."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from lms_webhooks.aws.sqs import (
    MAX_MESSAGE_DELAY_SECONDS,
    DrainMessage,
    DrainQueue,
    QuarantineQueue,
    read_drain_message,
)
from tests.engines.dynamodb import REGION
from tests.unit.tables import Before, Fails

URL = "https://sqs.example.com/queue"


class Sent:
    """Stands in for SQS: keeps what it is asked to send."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.batches: list[list[dict[str, Any]]] = []
        self.refused: list[list[str]] = []
        """The entries that it takes not, of each batch."""

    def send_message(self, **message: Any) -> None:
        assert message.pop("QueueUrl") == URL
        self.messages.append(message)

    def send_message_batch(self, **batch: Any) -> dict[str, Any]:
        assert batch["QueueUrl"] == URL
        self.batches.append(batch["Entries"])
        refused = self.refused[len(self.batches) - 1 :][:1]
        return {"Successful": [], **({"Failed": [{"Id": each} for each in refused[0]]} if refused else {})}


def quarantined(message: str, *, reason: str = "why") -> str:
    sent: Any = Sent()
    QuarantineQueue(sent, URL).quarantine(message, reason=reason)
    (only,) = sent.messages
    return str(only["MessageBody"])


def refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


@pytest.mark.parametrize(
    ("story", "message", "envelope"),
    [
        (
            "an event, as the bus's own rule keeps it",
            '{"id":"1","detail":{}}',
            {"event": {"id": "1", "detail": {}}},
        ),
        ("JSON of another kind", "[1, 2]", {"event": [1, 2]}),
        ("JSON with space around it", ' {"id":1}\n', {"event": {"id": 1}}),
        ("cut short", '{"id":', {"message": '{"id":'}),
        ("no JSON at all", 'say "hello"\n', {"message": 'say "hello"\n'}),
        ("empty", "", {"message": ""}),
        ("two values", '{"id":1}{"id":2}', {"message": '{"id":1}{"id":2}'}),
        ("what only Python takes for JSON", '{"x":NaN}', {"message": '{"x":NaN}'}),
        ("the same, at the end of the numbers", "-Infinity", {"message": "-Infinity"}),
        ("nested too deeply to be read", "[" * 200_000, {"message": "[" * 200_000}),
        ("JSON with a character that is none", '{"x":"\ud800"}', {"message": '{"x":"\ud800"}'}),
        ("what would close the envelope", '"},{', {"message": '"},{'}),
    ],
)
def test_a_quarantined_message_is_kept_in_an_envelope(
    story: str, message: str, envelope: dict[str, object]
) -> None:
    body = quarantined(message, reason='detail is "x"; it must be an object')
    body.encode()
    assert json.loads(body, parse_constant=refuse_constant) == {
        "reason": 'detail is "x"; it must be an object',
        **envelope,
    }, story


@pytest.mark.parametrize("number", ["1.10", "1e2", "123456789012345678901234567890", "9" * 5000])
def test_a_quarantined_event_keeps_its_own_text(number: str) -> None:
    """So that it can be sent again as it was: Python would write 1.1, and refuse 5,000 digits."""
    assert quarantined(f'{{"b":{number}, "a":1}}') == f'{{"reason":"why","event":{{"b":{number}, "a":1}}}}'


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
def test_no_message_and_no_reason_break_the_envelope(message: str, reason: str) -> None:
    envelope = json.loads(quarantined(message, reason=reason), parse_constant=refuse_constant)
    assert envelope.pop("reason") == reason
    assert envelope in ({"message": message}, {"event": envelope.get("event")})


@pytest.mark.parametrize(
    ("asked", "delay"), [(0, 0), (5, 5), (899, 899), (900, 900), (901, 900), (259_200, 900)]
)
def test_a_drainer_is_sent_for_after_at_most_what_sqs_can_delay(asked: int, delay: int) -> None:
    sent: Any = Sent()
    DrainQueue(sent, URL, URL).schedule(DrainMessage("1010", "wh_1"), delay_seconds=asked)
    (message,) = sent.messages
    assert json.loads(message["MessageBody"]) == {"accountId": "1010", "webhookId": "wh_1"}
    assert message["DelaySeconds"] == delay <= MAX_MESSAGE_DELAY_SECONDS


@pytest.mark.parametrize(
    ("count", "sizes"), [(0, []), (1, [1]), (10, [10]), (11, [10, 1]), (35, [10, 10, 10, 5])]
)
def test_many_drainers_are_sent_for_ten_at_a_time(count: int, sizes: list[int]) -> None:
    sent: Any = Sent()
    messages = [DrainMessage("1010", f"wh_{number}", f"t{number}") for number in range(count)]
    assert DrainQueue(sent, URL, URL).schedule_all(messages) == []
    assert [len(batch) for batch in sent.batches] == sizes
    assert all(len({entry["Id"] for entry in batch}) == len(batch) for batch in sent.batches)
    bodies = [entry["MessageBody"] for batch in sent.batches for entry in batch]
    assert [read_drain_message({"body": each, "messageId": ""}) for each in bodies] == messages


def test_those_that_sqs_takes_not_are_told_apart() -> None:
    """It reports on each entry of a batch by itself."""
    sent: Any = Sent()
    sent.refused = [["0"], [], ["1", "4"]]
    messages = [DrainMessage("1010", f"wh_{number}") for number in range(25)]
    assert DrainQueue(sent, URL, URL).schedule_all(messages) == [messages[0], messages[21], messages[24]]


@pytest.mark.parametrize(
    ("message", "body"),
    [
        (DrainMessage("1010", "wh_1"), {"accountId": "1010", "webhookId": "wh_1"}),
        (
            DrainMessage("1010", "wh_1", "t", 3),
            {"accountId": "1010", "webhookId": "wh_1", "ticket": "t", "brokenOff": 3},
        ),
    ],
)
def test_a_drain_message_comes_back_from_its_body(message: DrainMessage, body: dict[str, object]) -> None:
    """Without a ticket it is as older versions write it."""
    assert json.loads(message.body()) == body
    record = {"messageId": "m1", "body": message.body()}
    assert read_drain_message(record) == replace(message, message_id="m1")


@pytest.fixture
def sqs() -> Iterator[Any]:
    with mock_aws():
        yield Before(boto3.client("sqs", region_name=REGION))


def test_sqs_takes_what_is_put_on_it(sqs: Any) -> None:
    """An account's id may hold anything that is printable."""
    url = sqs.create_queue(QueueName="queue")["QueueUrl"]
    queue = DrainQueue(sqs, url, url)
    ids = [('a"ä/\\', f"wh_{number}") for number in range(11)]
    queue.schedule(DrainMessage(*ids[0]), delay_seconds=0)
    queue.schedule_all([DrainMessage(*each) for each in ids[1:]])
    got = []
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        got += [json.loads(message["Body"]) for message in messages]
    assert sorted((each["accountId"], each["webhookId"]) for each in got) == sorted(ids)


def test_what_sqs_does_not_take_is_told(sqs: Any) -> None:
    """A message that could not be quarantined must come again; one for a drainer, the sweep repeats."""
    sqs.answers |= dict.fromkeys(("send_message", "send_message_batch"), Fails(lambda **_: None))
    with pytest.raises(ClientError):
        QuarantineQueue(sqs, URL).quarantine("{}", reason="why")
    with pytest.raises(ClientError):
        DrainQueue(sqs, URL, URL).schedule(DrainMessage("1010", "wh_1"), delay_seconds=0)
    with pytest.raises(ClientError):
        DrainQueue(sqs, URL, URL).schedule_all([DrainMessage("1010", "wh_1")])
