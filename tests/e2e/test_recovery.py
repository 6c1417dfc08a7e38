"""The ways back: dead letters, quarantine, and an archive of the bus reach the webhooks after all."""

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from operations.redrive import Deployed
from tests.commands.surroundings import OWN_CODE
from tests.e2e.system import Account, System, until
from tests.fakes.receiver import Receiver
from tests.patience import PATIENCE_SECONDS
from tools.progress import REPOSITORY

type Redrive = Callable[..., str]

_ENVIRONMENT = os.environ | OWN_CODE


def command(system: System, queue: str, *options: str) -> list[str]:
    """The command of `make redrive`, for this stack."""
    stack_json = str(system.stack.state_dir / "stack.json")
    return [sys.executable, "-m", "operations.redrive", queue, "--stack-json", stack_json, *options]


@pytest.fixture
def deployed(system: System) -> Deployed:
    return Deployed(system.client, system.stack.description["stackName"])


@pytest.fixture
def redrive(system: System) -> Redrive:
    """Runs the command against the stack; return what it printed."""

    def run(queue: str, *options: str, exit_code: int = 0) -> str:
        done = subprocess.run(
            command(system, queue, *options),
            cwd=REPOSITORY,
            env=_ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == exit_code, done.stdout + done.stderr
        return str(done.stdout + done.stderr)

    return run


@contextmanager
def sigint_stops_children() -> Iterator[None]:
    """A suite in the background of a script ignores SIGINT, and a child inherits that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def dead_letter(deployed: Deployed, queue: str, account: Account, event_name: str) -> dict[str, Any]:
    """An event that lies in a dead-letter queue, as SQS or the bus would have put it there."""
    event = account.event(event_name)
    body = account.system.envelope(json.dumps(event), detail_type=event_name)
    deployed.sqs.send_message(QueueUrl=deployed.urls[queue], MessageBody=body)
    return event


def test_real_time_dead_letters_reach_their_webhook(
    deployed: Deployed, redrive: Redrive, account: Account, receiver: Receiver
) -> None:
    account.create(receiver.url())
    queue = "RealtimeDeadLetterQueue"
    events = [dead_letter(deployed, queue, account, "COURSE_ENROLLMENT") for _ in range(12)]

    shown = redrive(queue, "--dry-run")
    assert shown.count("to RealtimeQueue") == 12
    assert not any(event["eventId"] in shown for event in events), "no payload unless it is asked for"
    assert deployed.waiting(queue) == 12

    assert "12 sent to RealtimeQueue, 0 left" in redrive(queue)
    assert receiver.wait_for_requests(12)
    assert {request.event_ids[0] for request in receiver.requests} == {event["eventId"] for event in events}
    assert "about 0 messages" in redrive(queue, "--dry-run")


def test_ctrl_c_loses_nothing(
    system: System, deployed: Deployed, redrive: Redrive, account: Account, receiver: Receiver
) -> None:
    """Ten are moved; the other two have to wait for the rate, and the command does not live to see it."""
    account.create(receiver.url())
    queue = "RealtimeDeadLetterQueue"
    events = [dead_letter(deployed, queue, account, "COURSE_ENROLLMENT") for _ in range(12)]
    with (
        sigint_stops_children(),
        subprocess.Popen(
            command(system, queue, "--rate", "0.1"),
            cwd=REPOSITORY,
            env=_ENVIRONMENT,
            stdout=subprocess.PIPE,
            text=True,
        ) as running,
    ):
        # Not only received: the command counts ten, and then deletes them. An event may be faster than that.
        url = deployed.urls[queue]
        until(lambda: system.messages_in(url, "", "NotVisible") == 2, "ten to be moved")
        running.send_signal(signal.SIGINT)
        told, _ = running.communicate(timeout=PATIENCE_SECONDS)
    assert running.returncode == 130
    assert "Interrupted" in told
    assert "10 sent to RealtimeQueue" in told
    assert " sent to RealtimeQueue, 0 left as they are" in redrive(queue)
    assert receiver.wait_for_requests(12)
    assert {request.event_ids[0] for request in receiver.requests} == {event["eventId"] for event in events}


def test_non_real_time_dead_letters_wait_for_the_schedule_after_all(
    deployed: Deployed, redrive: Redrive, account: Account, receiver: Receiver
) -> None:
    webhook = account.create(receiver.url(), events=["LEARNER_PROGRESS"])
    event = dead_letter(deployed, "BatchDeadLetterQueue", account, "LEARNER_PROGRESS")
    assert "1 sent to BatchQueue" in redrive(deployed.urls["BatchDeadLetterQueue"])
    account.system.wait_for_history(webhook["webhookId"], 1, seconds=180)
    assert receiver.requests[0].event_ids == [event["eventId"]]


def test_what_quarantine_holds_goes_on_if_it_would_be_taken_now(
    deployed: Deployed, redrive: Redrive, account: Account, receiver: Receiver
) -> None:
    """One event was unknown to the catalogue when it came; another is still malformed."""
    account.create(receiver.url())
    good, bad = account.event("COURSE_COMPLETED"), account.event("COURSE_COMPLETED", timestamp="yesterday")
    for event in (good, bad):
        text = account.system.envelope(json.dumps(event), detail_type="COURSE_COMPLETED")
        deployed.sqs.send_message(
            QueueUrl=deployed.urls["QuarantineQueue"], MessageBody=f'{{"reason":"unknown","event":{text}}}'
        )
    told = redrive("quarantinequeue")
    assert "1 sent to RealtimeQueue" in told
    assert "timestamp is 'yesterday'" in told
    assert receiver.wait_for_requests(1)
    assert receiver.requests[0].event_ids == [good["eventId"]]
    assert account.system.wait_for_quarantined(bad["eventId"])["reason"] == "unknown"


def test_from_a_queue_without_events_there_is_no_way_back(redrive: Redrive) -> None:
    assert "no way back" in redrive("ScheduleDeadLetterQueue", exit_code=1)
    assert "there is no queue 'nonsense'" in redrive("nonsense", exit_code=1)


@pytest.fixture
def archive(system: System) -> Iterator[Callable[[], None]]:
    """An archive of the bus, as the template makes one where there are archives. Call it to replay it all."""
    events = system.client("events")
    arn = events.describe_event_bus(Name=system.stack.description["eventBusName"])["Arn"]
    name = f"archive-{uuid.uuid4().hex[:8]}"
    archive_arn = events.create_archive(ArchiveName=name, EventSourceArn=arn, RetentionDays=1)["ArchiveArn"]
    started = datetime.now(UTC) - timedelta(seconds=5)

    def replay() -> None:
        replay_name = f"replay-{uuid.uuid4().hex[:8]}"
        events.start_replay(
            ReplayName=replay_name,
            EventSourceArn=archive_arn,
            EventStartTime=started,
            EventEndTime=datetime.now(UTC) + timedelta(seconds=5),
            Destination={"Arn": arn},
        )
        until(
            lambda: events.describe_replay(ReplayName=replay_name)["State"] == "COMPLETED",
            "the replay to end",
        )

    yield replay
    events.delete_archive(ArchiveName=name)


@pytest.fixture
def lost_events(system: System) -> Callable[[], AbstractContextManager[None]]:
    """Inside the block nothing takes real-time events off the bus: somebody switched the rule off."""
    events = system.client("events")
    bus = system.stack.description["eventBusName"]
    (rule,) = [
        each["Name"]
        for each in events.list_rules(EventBusName=bus)["Rules"]
        if each["Name"].endswith("-realtime") and not each["Name"].endswith("-non-realtime")
    ]

    @contextmanager
    def lost() -> Iterator[None]:
        events.disable_rule(Name=rule, EventBusName=bus)
        try:
            yield
        finally:
            events.enable_rule(Name=rule, EventBusName=bus)

    return lost


def test_an_archive_of_the_bus_brings_back_what_was_lost_and_sends_nothing_twice(
    archive: Callable[[], None],
    lost_events: Callable[[], AbstractContextManager[None]],
    account: Account,
    receiver: Receiver,
) -> None:
    system = account.system
    webhook_id = account.create(receiver.url())["webhookId"]
    ids = [account.emit()["eventId"] for _ in range(2)]
    system.wait_for_history(webhook_id, 2)
    with lost_events():
        ids += [account.emit()["eventId"] for _ in range(2)]
    system.wait_until_done()
    assert len(system.history(webhook_id)) == len(receiver.requests) == 2
    archive()
    system.wait_for_history(webhook_id, 4)
    archive()
    system.wait_until_taken()
    system.wait_until_done()
    assert sorted(each for request in receiver.requests for each in request.event_ids) == sorted(ids)
