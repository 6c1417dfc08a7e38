"""`make smoke` puts one event through a stack: it passes where all is well, and names what is missing."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest

from operations import smoke
from operations.admin_function import AdminFunction, UnexpectedResponse
from operations.smoke import ACCOUNT_IDS, EVENT_NAME, Smoke, SmokeFailed, Target, own_api
from operations.stacks import FoundStack, find_stack
from tests.contract.test_documents import DEPLOY, fenced
from tests.e2e.system import System
from tests.fakes.receiver import Receiver, answer

COMMAND = ["smoke"]


@pytest.fixture
def stack(system: System, monkeypatch: pytest.MonkeyPatch) -> FoundStack:
    """The stack as the command finds it on this machine."""
    monkeypatch.setattr("operations.stacks.STATE_DIR", system.stack.state_dir)
    monkeypatch.setattr("sys.argv", COMMAND)
    return find_stack(None)


@pytest.fixture(autouse=True)
def left_behind(stack: FoundStack) -> Iterator[None]:
    """However it ends, no webhook stays."""
    yield
    assert webhooks(stack) == []


def webhooks(stack: FoundStack) -> list[dict[str, Any]]:
    """Of all smoke-test accounts."""
    return [
        webhook
        for account_id in ACCOUNT_IDS
        for webhook in AdminFunction(stack, account_id, caller="test")
        .call("GET", "/v1/webhooks", 200)
        .body["webhooks"]
    ]


def leave_webhook(stack: FoundStack, account_id: str) -> str:
    """Leave what a killed smoke test leaves; return its path."""
    body = {
        "name": smoke.WEBHOOK_NAME,
        "targetUrl": "http://127.0.0.1:65534/",
        "authentication": {"type": "none"},
        "events": [EVENT_NAME],
    }
    made = AdminFunction(stack, account_id, caller="test").call("POST", "/v1/webhooks", 201, body).body
    return f"/v1/webhooks/{made['webhookId']}"


@contextmanager
def without_policy(system: System) -> Iterator[None]:
    """Take away what lets the bus send to the dispatcher's queue. The emulator's bus sends all the same."""
    sqs, url = system.client("sqs"), system.stack.description["queues"]["realtime"]
    policy = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])["Attributes"]["Policy"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": ""})
    try:
        yield
    finally:
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})


def test_an_event_goes_through_the_stack_and_is_compared(
    stack: FoundStack, capsys: pytest.CaptureFixture[str]
) -> None:
    assert smoke.main() == 0
    first, *lines, last = capsys.readouterr().out.splitlines()
    assert first == f"One event through {stack.name} in account 000000000000, region us-east-1"
    assert last.startswith("Passed in ")
    steps = {line.split()[1]: line for line in lines}
    assert list(steps) == [
        "wiring", "webhook", "put", "dispatcher", "drainer", "delivered",
        "text", "values", "bodies", "cleaning",
    ]  # fmt: skip
    # As the page for operators shows it.
    (shown,) = fenced(DEPLOY, "console")
    assert [line.split()[:2] for line in lines] == [line.split()[:2] for line in shown.splitlines()[1:-1]]
    assert "sent, and got HTTP 503" in steps["dispatcher"]
    assert "sent again, and got HTTP 204" in steps["drainer"]
    # What the emulator's bus does to an event, and what no bus may do.
    assert "note" in steps["text"]
    assert "/data/decimal was written 1.10 and is written 1.1" in steps["text"]
    assert "2 requests, signed, as stored byte for byte" in steps["bodies"]
    assert "stays for 30 days" in steps["cleaning"]


def test_without_the_policy_of_the_dispatchers_queue_it_fails_and_names_it(
    system: System, capsys: pytest.CaptureFixture[str]
) -> None:
    with without_policy(system):
        assert smoke.main() == 1
    said = capsys.readouterr()
    assert said.err.startswith(
        "Failed: RealtimeQueue has no policy that lets RealtimeRule send to it, so EventBridge cannot put any"
    )
    assert said.out.count("\n") == 1  # nothing was made or put that could not arrive


def test_a_disabled_event_source_is_named_with_the_command_that_enables_it(
    system: System, capsys: pytest.CaptureFixture[str]
) -> None:
    functions = system.client("lambda")
    name = system.stack.description["functions"]["drainer"]
    mapping, _ = functions.list_event_source_mappings(FunctionName=name)["EventSourceMappings"]
    functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    try:
        assert smoke.main() == 1
    finally:
        functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)
    assert f"update-event-source-mapping --uuid {mapping['UUID']} --enabled" in capsys.readouterr().err


def test_an_event_that_the_dispatcher_does_not_get_is_waited_for_and_found(
    system: System, stack: FoundStack
) -> None:
    """It waits on the queue, where no wiring is wrong."""
    sqs, url = system.client("sqs"), system.stack.description["queues"]["realtime"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"DelaySeconds": "60"})
    try:
        with smoke.own_receiver() as target, pytest.raises(SmokeFailed) as failed:
            Smoke(stack, target, patience=1).run()
    finally:
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"DelaySeconds": "0"})
    assert str(failed.value).startswith("after 1 s the event did not come through the dispatcher: ")
    assert "wait on RealtimeQueue, and the dispatcher does not take them" in str(failed.value)


def test_an_event_that_goes_to_quarantine_is_found_there(
    system: System, stack: FoundStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the functions' source is another than the stack says."""
    monkeypatch.setattr(smoke, "look", lambda *_, **__: iter(()))
    stack.outputs["EventSource"] = "nobody"
    with smoke.own_receiver() as target, pytest.raises(SmokeFailed) as failed:
        Smoke(stack, target, patience=2).run()
    assert str(failed.value).endswith(
        "one went to quarantine: make redrive QUEUE=QuarantineQueue DRY_RUN=1 says why"
    )
    system.wait_for_quarantined('"source": "nobody"')


def test_on_aws_the_stacks_own_api_is_reached_by_both_functions_that_send(
    stack: FoundStack, capsys: pytest.CaptureFixture[str]
) -> None:
    Smoke(stack, own_api(stack.api_url)).run()
    said = capsys.readouterr().out
    assert "sent, and got HTTP 404" in said
    assert "sent again, and got HTTP 404" in said
    assert "bodies" not in said  # nobody sees them there


def test_an_endpoint_that_cannot_be_reached_is_no_success(stack: FoundStack) -> None:
    with pytest.raises(
        SmokeFailed, match=r"the dispatcher could not reach http://127\.0\.0\.1:65534/openapi.json: "
    ):
        Smoke(stack, own_api("http://127.0.0.1:65534")).run()


def test_a_receiver_of_the_deployer_gets_the_event_once(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", [*COMMAND, "--target", receiver.url("/lms")])
    assert smoke.main() == 0
    (request,) = receiver.requests_to("/lms")
    assert json.loads(request.body)["accountId"] in ACCOUNT_IDS
    assert request.events[0]["eventName"] == EVENT_NAME
    assert "by the dispatcher, responded 2xx" in capsys.readouterr().out


@pytest.mark.parametrize("status", [400, 500])
def test_a_receiver_that_does_not_take_it_is_named(
    status: int, stack: FoundStack, receiver: Receiver
) -> None:
    receiver.script = answer(status)
    url = receiver.url("/lms")
    with pytest.raises(SmokeFailed, match=f"{url} did not take the event: HTTP {status}"):
        Smoke(stack, Target(url, "a receiver of yours")).run()


def test_a_target_that_the_product_refuses_is_refused_in_its_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", [*COMMAND, "--target", "https://10.0.0.1/lms"])
    assert smoke.main() == 1
    assert "POST /v1/webhooks of the admin API returned 4" in capsys.readouterr().err


def test_what_a_killed_smoke_test_left_behind_is_deleted(
    stack: FoundStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_webhook(stack, ACCOUNT_IDS[-1])
    nowhere = Target("https://10.0.0.1/lms", "a receiver that the product refuses")
    with pytest.raises(UnexpectedResponse):
        Smoke(stack, nowhere).run()
    assert len(webhooks(stack)) == 1  # of now: it may be another deployer's, at work
    monkeypatch.setattr(smoke, "_LEFT_BEHIND", timedelta(0))
    with pytest.raises(UnexpectedResponse):
        Smoke(stack, nowhere).run()


def test_two_smoke_tests_at_once_do_not_get_each_others_events(stack: FoundStack) -> None:
    together = Barrier(2)

    def run() -> None:
        with smoke.own_receiver() as target:
            together.wait()
            Smoke(stack, target).run()

    with ThreadPoolExecutor(2) as threads:
        for ended in [threads.submit(run), threads.submit(run)]:
            ended.result()


def test_two_that_take_the_same_account_at_once_both_leave_it(
    stack: FoundStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other's webhook comes between the look and the webhook of this one."""
    first, second = ACCOUNT_IDS[:2]
    monkeypatch.setattr("random.sample", lambda *_: [first, second])
    others: list[str] = []
    make_here = Smoke._make_webhook_here

    def make_after_another(one: Smoke) -> str:
        if not others:
            others.append(leave_webhook(stack, first))
        return make_here(one)

    monkeypatch.setattr(Smoke, "_make_webhook_here", make_after_another)
    try:
        with smoke.own_receiver() as target:
            Smoke(stack, target).run()
            assert {json.loads(each.body)["accountId"] for each in target.received} == {second}
    finally:
        AdminFunction(stack, first, caller="test").call("DELETE", others[0], 204)


def test_where_others_use_every_account_it_says_so(
    stack: FoundStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    account_id = ACCOUNT_IDS[0]
    monkeypatch.setattr(smoke, "ACCOUNT_IDS", [account_id])
    path = leave_webhook(stack, account_id)
    try:
        with smoke.own_receiver() as target, pytest.raises(SmokeFailed, match="smoke tests are running in"):
            Smoke(stack, target).run()
    finally:
        AdminFunction(stack, account_id, caller="test").call("DELETE", path, 204)


def test_a_value_that_the_bus_changes_is_a_failure(stack: FoundStack, receiver: Receiver) -> None:
    """On AWS more digits are put than the emulator's bus keeps."""
    target = Target(receiver.url("/lms"), "a receiver of yours")
    with pytest.raises(SmokeFailed) as failed:
        Smoke(replace(stack, is_local=False), target).run()
    assert "/data/precise was 0.1234567890123456789 and is 0.12345678901234568" in str(failed.value)


def test_interrupted_it_takes_its_webhook_away(stack: FoundStack, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_smoke: Smoke) -> None:
        assert len(webhooks(stack)) == 1
        raise KeyboardInterrupt

    monkeypatch.setattr(Smoke, "_put", interrupt)
    assert smoke.main() == 130
