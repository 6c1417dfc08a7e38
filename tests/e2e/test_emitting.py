"""What docs/emitting.md shows to those who write an LMS does what it says, over the deployed stack."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.test_documents import fenced
from tests.e2e.system import Account, System, until
from tests.fakes.receiver import Receiver
from tools.progress import REPOSITORY

_, PRODUCER, LOOK, _ = fenced(REPOSITORY / "docs" / "emitting.md", "python")

type Run = Callable[[str], str]


@pytest.fixture
def run(system: System, tmp_path: Path) -> Run:
    """Runs a program of the page as its section *Test your producer* says; return what it prints."""
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local" / "stack.json").symlink_to(system.stack.state_dir / "stack.json")
    described = system.stack.description
    environment = {
        "PATH": os.environ["PATH"],
        "AWS_ENDPOINT_URL": described["endpointUrl"],
        "AWS_DEFAULT_REGION": described["region"],
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "EVENT_BUS": described["eventBusName"],
    }

    def run(program: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


def test_the_producer_s_event_arrives_and_only_with_another_time_again(
    run: Run, account: Account, receiver: Receiver
) -> None:
    account.create(receiver.url())
    mine = PRODUCER.replace("\n        1010,\n", f"\n        {account.account_id},\n")
    assert mine != PRODUCER
    event_id = run(mine)
    assert receiver.wait_for_requests(1)
    account.system.wait_until_done()
    (sent,) = receiver.requests[0].events
    assert sent["eventId"] == event_id

    # Put twice, then told apart from an event that has its id and happened a millisecond later.
    event = sent | {"accountId": int(account.account_id)}
    account.system.put(event)
    account.system.wait_until_taken()
    account.system.wait_until_done()
    account.system.put(event | {"timestamp": sent["timestamp"] + 1})
    assert receiver.wait_for_requests(2)
    account.system.wait_until_done()
    received = [each for request in receiver.requests for each in request.events]
    assert received == [sent, sent | {"timestamp": sent["timestamp"] + 1}]


def test_what_is_in_quarantine_is_printed_with_its_reason(run: Run, account: Account) -> None:
    malformed = account.event(timestamp="yesterday")
    account.system.put(malformed)

    def look() -> str:
        printed = run(LOOK)
        return printed if malformed["eventId"] in printed else ""

    assert "timestamp is 'yesterday'" in until(look, "it to be in quarantine")
    # It was printed, and left there.
    assert account.system.wait_for_quarantined(malformed["eventId"])
