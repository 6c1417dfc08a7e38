"""docs/emitting.md says what is taken and refused, and its programs do what they say, over real sockets."""

import json
import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lms_webhooks.model.event_types import EVENT_TYPES
from lms_webhooks.model.events import MAX_DETAIL_BYTES, MalformedEvent, read_event
from tests.contract.template import PARAMETERS, REPOSITORY, RULES, TEMPLATE
from tests.contract.test_documents import fenced, rows
from tests.fakes.receiver import Behaviour, Receiver, Request, answer, reset_before_answer

EMITTING = REPOSITORY / "docs" / "emitting.md"
SHORT, PRODUCER, _, VALIDATE = fenced(EMITTING, "python")
DATA = {"userId": 4279332}

type Emit = dict[str, Any]
"""What the program of the page defines."""


class Bus:
    """PutEvents on a port of this machine. `errors` says with which code an event fails at which call."""

    def __init__(self, receiver: Receiver) -> None:
        self.calls: list[list[dict[str, Any]]] = []
        """The entries of each."""
        self.taken: list[dict[str, Any]] = []
        """The events that it said yes to."""
        self.errors: Callable[[int, dict[str, Any]], str | None] = lambda _call, _event: None
        self.faults: list[Behaviour] = []
        """What happens to the next calls as a whole."""
        receiver.script = self._answer

    def _answer(self, request: Request) -> Behaviour:
        assert request.headers["x-amz-target"] == "AWSEvents.PutEvents"
        if self.faults:
            return self.faults.pop(0)
        entries = json.loads(request.body)["Entries"]
        self.calls.append(entries)
        results = []
        for entry in entries:
            event = json.loads(entry["Detail"])
            code = self.errors(len(self.calls), event)
            if code is None:
                self.taken.append(event)
            results.append({"EventId": "e"} if code is None else {"ErrorCode": code, "ErrorMessage": "no"})
        failed = sum("ErrorCode" in result for result in results)
        body = json.dumps({"FailedEntryCount": failed, "Entries": results}).encode()
        return answer(200, {"content-type": "application/x-amz-json-1.1"}, body)

    def ids(self, call: int) -> list[str]:
        """The events of a call, counted from 1."""
        return [json.loads(entry["Detail"])["eventId"] for entry in self.calls[call - 1]]


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with Receiver() as receiver:
        monkeypatch.setenv("AWS_ENDPOINT_URL", receiver.url())
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        monkeypatch.setenv("EVENT_BUS", "lms-webhooks-test")
        yield receiver


@pytest.fixture
def bus(receiver: Receiver) -> Bus:
    return Bus(receiver)


@pytest.fixture
def program(bus: Bus, tmp_path: Path) -> Emit:  # noqa: ARG001  # its address must be known before
    """The program, as a module that somebody imports; it waits milliseconds where it would seconds."""
    path = tmp_path / "emit.py"
    path.write_text(PRODUCER)
    defined = runpy.run_path(str(path), run_name="emit")
    defined["put"].__globals__["FIRST_DELAY_SECONDS"] = 0.001
    defined["put"].__globals__["MAX_DELAY_SECONDS"] = 0.004
    return defined


def events_of(program: Emit, count: int, **data: Any) -> list[dict[str, Any]]:
    return [program["make_event"](1010, "COURSE_ENROLLMENT", DATA | data) for _ in range(count)]


##### Its program


def test_the_program_puts_an_event_that_is_taken(bus: Bus, tmp_path: Path) -> None:
    path = tmp_path / "emit.py"
    path.write_text(PRODUCER)
    run = subprocess.run([sys.executable, path], capture_output=True, text=True, check=True)
    ((entry,),) = bus.calls
    assert entry["EventBusName"] == "lms-webhooks-test"
    assert entry["Source"] == PARAMETERS["EventSource"]["Default"]
    message = {"source": entry["Source"], "detail-type": entry["DetailType"], "detail": bus.taken[0]}
    event = read_event(json.dumps(message), source="lms", accepted_at_ms=1)
    assert run.stdout.strip() == event.event_id


def test_only_what_failed_is_put_again(bus: Bus, program: Emit) -> None:
    """Of ten entries two fail once, for reasons that pass."""
    events = events_of(program, 10)
    failing = {events[3]["eventId"]: "ThrottlingException", events[7]["eventId"]: "InternalFailure"}
    bus.errors = lambda call, event: failing.get(event["eventId"]) if call == 1 else None
    program["emit"](events)
    assert [len(call) for call in bus.calls] == [10, 2]
    assert bus.ids(2) == list(failing)
    assert bus.calls[1] == [bus.calls[0][3], bus.calls[0][7]]
    assert sorted(event["eventId"] for event in bus.taken) == sorted(event["eventId"] for event in events)


def test_what_is_refused_for_good_is_told_and_everything_else_is_taken(bus: Bus, program: Emit) -> None:
    """25 events: one is not authorized, another fails twice before it is taken."""
    events = events_of(program, 25)
    refused, slow = events[4], events[12]

    def errors(call: int, event: dict[str, Any]) -> str | None:
        if event == refused:
            return "NotAuthorizedForSourceException"
        return "InternalFailure" if event == slow and call < 4 else None

    bus.errors = errors
    with pytest.raises(program["NotTakenError"], match="NotAuthorizedForSourceException: no") as caught:
        program["emit"](events)
    ((entry, _),) = caught.value.refused
    assert json.loads(entry["Detail"]) == refused
    assert [len(call) for call in bus.calls] == [10, 10, 1, 1, 5]
    assert len(bus.taken) == 24
    assert refused not in bus.taken


def test_it_gives_up_on_a_bus_that_throttles_without_end(bus: Bus, program: Emit) -> None:
    bus.errors = lambda _call, _event: "ThrottlingException"
    events = events_of(program, 2)
    with pytest.raises(program["NotTakenError"]) as caught:
        program["emit"](events)
    assert [json.loads(entry["Detail"]) for entry, _ in caught.value.refused] == events
    assert [len(call) for call in bus.calls] == [2] * program["TRIES"]


def test_a_call_that_fails_as_a_whole_is_made_again(bus: Bus, program: Emit) -> None:
    bus.faults = [answer(500), reset_before_answer(), answer(503)]
    program["emit"](events_of(program, 3))
    assert [len(call) for call in bus.calls] == [3]


def test_a_call_stays_below_a_megabyte_and_an_event_below_its_limit(bus: Bus, program: Emit) -> None:
    largest = events_of(program, 6, text="é" * 122_700)
    program["emit"](largest)
    assert [len(call) for call in bus.calls] == [4, 2]
    assert all(sum(len(entry["Detail"].encode()) for entry in call) < 1_000_000 for call in bus.calls)
    assert all(len(entry["Detail"].encode()) <= MAX_DETAIL_BYTES for call in bus.calls for entry in call)
    with pytest.raises(ValueError, match=f"more than {MAX_DETAIL_BYTES} bytes"):
        program["emit"](events_of(program, 1, text="é" * 123_000))


def test_the_short_form_puts_an_event_and_minds_a_failure(bus: Bus) -> None:
    exec(SHORT, {})  # noqa: S102  # a file of this repository
    (entry,) = bus.calls[0]
    message = {"source": entry["Source"], "detail-type": entry["DetailType"], "detail": bus.taken[0]}
    assert read_event(json.dumps(message), source="lms", accepted_at_ms=1).account_id == "1010"
    bus.errors = lambda _call, _event: "InternalFailure"
    with pytest.raises(RuntimeError, match="InternalFailure"):
        exec(SHORT, {})  # noqa: S102  # as above


def test_an_entry_can_be_validated_as_it_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    exec(VALIDATE, {})  # noqa: S102  # a file of this repository


##### What it says


def test_each_example_of_a_timestamp_is_the_same_moment_or_a_quarter_of_a_second_later() -> None:
    moments = []
    for _, examples in rows(EMITTING, "Timestamps"):
        for text in re.findall(r"`([^`]+)`", examples):
            fields = json.dumps(EVENT_TYPES["CI_STATS"].sample_event() | {"accountId": 1, "timestamp": 0})
            detail = fields.replace('"timestamp": 0', f'"timestamp": {text}')
            message = f'{{"source": "lms", "detail-type": "CI_STATS", "detail": {detail}}}'
            moments.append(read_event(message, source="lms", accepted_at_ms=1).occurred_at_ms)
    assert moments == [1727414643000, 1727414643250, 1727414643000, 1727414643000, 1727414643250]


def test_each_reason_is_the_one_that_is_kept() -> None:
    told = [row[-1].strip("`") for row in rows(EMITTING, "Validation errors")]
    sample = EVENT_TYPES["CI_STATS"].sample_event() | {"accountId": 1010}
    (target,) = RULES["QuarantineRule"]["Targets"]
    of_the_rule = target["InputTransformer"]["InputTemplate"]["Fn::Sub"].replace("${EventSource}", "lms")
    kept = [json.loads(of_the_rule.replace("<aws.events.event.json>", "0"))["reason"]]
    wrong: list[dict[str, Any]] = [
        {"eventName": "NO_SUCH"},
        {"eventName": "LEARNER_PROGRESS"},
        {"accountId": None},
        {"eventId": 7},
        {"timestamp": "1727414643"},
        {"data": "x" * MAX_DETAIL_BYTES},
    ]
    texts = [json.dumps(sample | changes) for changes in wrong] + ['{"a": 1, "a": 2}']
    for text in texts:
        message = f'{{"source": "lms", "detail-type": "CI_STATS", "detail": {text}}}'
        with pytest.raises(MalformedEvent) as caught:
            read_event(message, source="lms", accepted_at_ms=1)
        kept.append(caught.value.reason)
    assert len(told) == len(kept)
    for shown, reason in zip(told, kept, strict=True):
        assert re.fullmatch(re.escape(shown).replace(r"\.\.\.", ".*"), reason), reason


def test_it_names_what_the_template_has() -> None:
    text = EMITTING.read_text()
    for name in ("EventBusName", "EventBusArn"):
        assert f"output `{name}`" in text
        assert name in TEMPLATE["Outputs"]
    for name in ("EventSource", "ProducerAccounts"):
        assert f"parameter `{name}`" in text
        assert name in PARAMETERS
    assert f"{MAX_DETAIL_BYTES:,} bytes" in text
    days = PARAMETERS["DeliveryRetentionDays"]["Default"]
    assert f"{days} days unless its deployer chose otherwise" in text
