"""Dead letters and quarantined events find the way back: none is lost, whatever interrupts it."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from lms_webhooks.aws.sqs import QuarantineQueue
from lms_webhooks.model.event_types import generic_type, with_extra_types
from operations.redrive import (
    MAX_BATCH_BYTES,
    Destination,
    Message,
    Redrive,
    Route,
    back_to,
    describe,
    out_of_quarantine,
    quarantined_event,
    summary,
)
from tests.engines.dynamodb import REGION


class Queues:
    """Three queues, and what is on them."""

    def __init__(self, sqs: Any) -> None:
        self.sqs = sqs
        self.dead, self.realtime, self.batch = (
            sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("dead", "realtime", "batch")
        )

    def fill(self, *bodies: str) -> None:
        for body in bodies:
            self.sqs.send_message(QueueUrl=self.dead, MessageBody=body)

    def held(self) -> int:
        """How many were received, and neither deleted nor let go."""
        name = "ApproximateNumberOfMessagesNotVisible"
        answer = self.sqs.get_queue_attributes(QueueUrl=self.dead, AttributeNames=[name])
        return int(answer["Attributes"][name])

    def on(self, url: str) -> list[str]:
        bodies = []
        while messages := self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            bodies += [each["Body"] for each in messages]
        return sorted(bodies)


@pytest.fixture
def queues() -> Iterator[Queues]:
    with mock_aws():
        yield Queues(boto3.client("sqs", region_name=REGION))


class Shown:
    """What was shown, and how long it was waited."""

    def __init__(self) -> None:
        self.destinations: list[Destination] = []
        self.pauses: list[float] = []

    def show(self, _message: Message, destination: Destination) -> None:
        self.destinations.append(destination)


def make(
    queues: Queues, route: Route, shown: Shown | None = None, *, sqs: Any = None, **more: Any
) -> Redrive:
    shown = shown or Shown()
    options: dict[str, Any] = {"rate": 1000, "pause": shown.pauses.append, "wait_seconds": 0, **more}
    return Redrive(sqs or queues.sqs, queues.dead, route, show=shown.show, **options)


# Dead letters


def test_dead_letters_go_back_as_they_are(queues: Queues) -> None:
    bodies = [f'{{"n": {number}, "price": 1.10}}' for number in range(25)]
    queues.fill(*bodies)
    redrive = make(queues, back_to(queues.realtime))
    redrive.send()
    assert queues.on(queues.realtime) == sorted(bodies)
    assert queues.on(queues.dead) == []
    assert redrive.tally.sent == {queues.realtime: 25}


def test_a_look_leaves_everything_and_lets_others_see_it_at_once(queues: Queues) -> None:
    queues.fill("a", "b", "c")
    shown = Shown()
    redrive = make(queues, back_to(queues.realtime), shown)
    redrive.look()
    assert [each.queue_url for each in shown.destinations] == [queues.realtime] * 3
    assert (redrive.tally.stayed, redrive.tally.sent.total()) == (3, 0)
    assert queues.on(queues.dead) == ["a", "b", "c"]


def test_no_more_than_the_rate(queues: Queues) -> None:
    queues.fill(*(str(number) for number in range(30)))
    shown = Shown()
    make(
        queues, back_to(queues.realtime), shown, rate=2, clock=lambda: time.time() // 3600 * 3600 + 3600
    ).send()
    assert sum(shown.pauses) == 15


def test_no_more_than_the_limit(queues: Queues) -> None:
    queues.fill(*(str(number) for number in range(30)))
    redrive = make(queues, back_to(queues.realtime), limit=12)
    redrive.send()
    assert redrive.tally.sent.total() == len(queues.on(queues.realtime)) == 12
    assert len(queues.on(queues.dead)) == 18


def test_what_came_after_the_start_stays(queues: Queues) -> None:
    """Else what fails again would go round for ever."""
    queues.fill("old")
    started = time.time() + 0.001
    later = [started]
    redrive = make(queues, back_to(queues.realtime), clock=lambda: later[0])
    while int(time.time() * 1000) <= int(started * 1000):
        pass
    queues.fill("new")
    redrive.send()
    assert queues.on(queues.realtime) == ["old"]
    assert queues.on(queues.dead) == ["new"]
    assert redrive.tally.newer == 1


def test_large_messages_go_in_several_calls(queues: Queues) -> None:
    queues.fill(*("x" * (MAX_BATCH_BYTES // 2 - number) for number in range(5)))
    calls = Calls(queues.sqs)
    make(queues, back_to(queues.realtime), sqs=calls).send()
    sizes = [
        sum(len(each["MessageBody"]) for each in call["Entries"]) for call in calls.of("send_message_batch")
    ]
    assert len(sizes) == 3
    assert max(sizes) <= MAX_BATCH_BYTES
    assert len(queues.on(queues.realtime)) == 5


class Calls:
    """SQS with what a test puts in the way: `before` and `after` each call, or a response of its own."""

    def __init__(
        self,
        sqs: Any,
        *,
        after: Callable[[str, int], None] = lambda _name, _number: None,
        answer: Callable[[str, Any], Any] = lambda _name, answer: answer,
    ) -> None:
        self._sqs = sqs
        self._after = after
        self._answer = answer
        self.made: list[tuple[str, dict[str, Any]]] = []

    def of(self, name: str) -> list[dict[str, Any]]:
        return [arguments for called, arguments in self.made if called == name]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(**arguments: Any) -> Any:
            self.made.append((name, arguments))
            answer = self._answer(name, getattr(self._sqs, name)(**arguments))
            self._after(name, len(self.made))
            return answer

        return call


@pytest.mark.parametrize("number", range(1, 9))
def test_an_interruption_after_any_call_loses_nothing(queues: Queues, number: int) -> None:
    bodies = {str(each) for each in range(25)}
    queues.fill(*bodies)

    def interrupt(_name: str, made: int) -> None:
        if made == number:
            raise KeyboardInterrupt

    redrive = make(queues, back_to(queues.realtime), sqs=Calls(queues.sqs, after=interrupt))
    with pytest.raises(KeyboardInterrupt):
        redrive.send()
    held = queues.held()
    assert held in (0, 10, 5), "those that an interrupted receive took show again by themselves"
    there, here = queues.on(queues.realtime), queues.on(queues.dead)
    assert len(set(there) | set(here)) == 25 - held
    assert len(there) == len(set(there))


def test_what_sqs_does_not_take_is_not_deleted(queues: Queues) -> None:
    def refuse(name: str, answer: Any) -> Any:
        if name != "send_message_batch":
            return answer
        first, *others = answer["Successful"]
        return {"Successful": others, "Failed": [{"Id": first["Id"], "Code": "why", "SenderFault": False}]}

    queues.fill("a", "b", "c")
    redrive = make(queues, back_to(queues.realtime), sqs=Calls(queues.sqs, answer=refuse))
    redrive.send()
    assert redrive.tally.failed == 1
    assert len(queues.on(queues.dead)) == 1


def test_a_fair_queue_s_group_goes_along(queues: Queues) -> None:
    def grouped(name: str, answer: Any) -> Any:
        for message in answer.get("Messages", []) if name == "receive_message" else []:
            message["Attributes"]["MessageGroupId"] = "1010"
        return answer

    queues.fill("a")
    calls = Calls(queues.sqs, answer=grouped)
    make(queues, back_to(queues.realtime), sqs=calls).send()
    assert calls.of("send_message_batch")[0]["Entries"][0]["MessageGroupId"] == "1010"


# Quarantine


def envelope(event_name: str, *, source: str = "lms", detail: str = "") -> str:
    text = detail or json.dumps(generic_type(event_name).sample_event("e-1") | {"accountId": 1010})
    return f'{{"id": "1", "detail-type": "{event_name}", "source": "{source}", "detail": {text}}}'


def test_what_would_be_taken_now_leaves_quarantine_and_the_rest_stays(queues: Queues) -> None:
    realtime, batch = envelope("COURSE_COMPLETED"), envelope("LEARNER_PROGRESS")
    kept = QuarantineQueue(queues.sqs, queues.dead)
    kept.quarantine(realtime, reason="eventName is unknown")
    # As the bus's own rule writes it.
    queues.fill(f'{{"reason": "source is not \'lms\', or ...", "event": {batch}}}')
    kept.quarantine(envelope("COURSE_COMPLETED", source="crm"), reason="source is 'crm'")
    kept.quarantine("no JSON", reason="the message is not the JSON of an event")
    queues.fill('{"someone": "else"}')
    shown = Shown()
    own_realtime, own_batch = envelope("BADGE_AWARDED"), envelope("ROLE_CHANGED")
    for each in (own_realtime, own_batch):
        kept.quarantine(each, reason="eventName is unknown")
    route = out_of_quarantine(
        realtime_url=queues.realtime,
        batch_url=queues.batch,
        source="lms",
        event_types=with_extra_types("BADGE_AWARDED,ROLE_CHANGED:non-real-time"),
    )
    redrive = make(queues, route, shown)
    redrive.send()
    assert sorted(queues.on(queues.realtime)) == sorted([realtime, own_realtime])
    assert sorted(queues.on(queues.batch)) == sorted([batch, own_batch])
    assert len(queues.on(queues.dead)) == redrive.tally.stayed == 3
    assert sorted(each.reason for each in shown.destinations) == [
        "source is 'crm'; this bus takes events from 'lms'",
        "the message is not of the form that quarantine has",
        "the message is not the JSON of an event",
    ]


@pytest.mark.slow
@given(
    reason=st.text(),
    event=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ),
    indent=st.sampled_from([None, 2]),
)
def test_the_event_is_cut_out_of_what_quarantine_keeps(reason: str, event: Any, indent: int | None) -> None:
    text = json.dumps(event, indent=indent)
    sent: list[str] = []

    class Sqs:
        def send_message(self, *, QueueUrl: str, MessageBody: str) -> None:  # noqa: N803  # boto3's names
            assert QueueUrl == "url"
            sent.append(MessageBody)

    sqs: Any = Sqs()
    QuarantineQueue(sqs, "url").quarantine(text, reason=reason)
    assert quarantined_event(sent[0]) == (reason, text)


def test_decimals_and_large_integers_come_through() -> None:
    text = '{"price":1.10,"id":123456789012345678901234567890}'
    assert quarantined_event(f'{{"reason":"why","event":{text}}}') == ("why", text)


# What is told


def test_a_line_names_the_message_and_why_but_not_what_it_carries() -> None:
    message = Message("m-1", "handle", '{"secret": 1}', 1_727_414_643_000, 51, "", "")
    destination = Destination("could not be seen to", "url", message.body)
    line = describe(message, destination, names={"url": "RealtimeQueue"}, payload=False)
    assert line == (
        "2024-09-27T05:24:03+00:00  m-1  to RealtimeQueue  received 51 times  could not be seen to"
    )
    assert "secret" in describe(message, destination, names={}, payload=True)
    assert "  stays  " in describe(message, Destination("no"), names={}, payload=False)


def test_the_bus_s_own_reason_is_told(queues: Queues) -> None:
    queues.sqs.send_message(
        QueueUrl=queues.dead,
        MessageBody="{}",
        MessageAttributes={
            "ERROR_CODE": {"DataType": "String", "StringValue": "NO_PERMISSIONS"},
            "ERROR_MESSAGE": {"DataType": "String", "StringValue": "not authorized"},
        },
    )
    shown = Shown()
    make(queues, back_to(queues.realtime), shown).look()
    assert [each.reason for each in shown.destinations] == ["NO_PERMISSIONS not authorized"]


def test_the_summary_counts_what_became_of_them(queues: Queues) -> None:
    queues.fill("a", "b")
    redrive = make(queues, back_to(queues.realtime))
    redrive.send()
    assert summary(redrive.tally, {queues.realtime: "RealtimeQueue"}) == (
        "2 sent to RealtimeQueue, 0 left as they are"
    )
