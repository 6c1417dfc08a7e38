"""What is mistyped at a command on this machine is explained in words, not by a traceback."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import standardwebhooks

from lms_webhooks.sending.signing import new_secret
from local import __main__ as local
from local import deploy, stack
from local.emit import make_event
from local.receiver import Received, Receiver, report, signature
from tests.commands.surroundings import OWN_CODE
from tests.patience import PATIENCE_SECONDS
from tools.progress import StepFailedError

SECRET = new_secret()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        *(
            (["listen", f"--secret={secret}"], "reading SECRET: it is no signing secret")
            for secret in (
                "", "whsec_...", "hello", "whsec_", f"v1,{SECRET}", f'"{SECRET}"', SECRET[:-3],
                SECRET.removeprefix("whsec_"), f"whsec_{'_' * 43}=",
            )
        ),
        (["listen", "--basic", "lms"], "reading BASIC"),
        (["listen", "--basic="], "reading BASIC"),
        (["listen", f"--secret={SECRET}", "--basic=lms:word"], "reading SECRET and BASIC"),
        *(
            ([command, f"--port={port}"], f"reading PORT: {port!r} is no port")
            for command in ("listen", "up")
            for port in ("", "0", "65536", "-1", "http", "9" * 5000)
        ),
        *(
            (["listen", f"--webhook={webhook}"], f"reading WEBHOOK: it is {webhook!r}; `none` registers no")
            for webhook in ("", "0", "None")
        ),
        (["emit", "--event=COURSE_ENROLMENT"], "'COURSE_ENROLMENT'; do you mean COURSE_ENROLLMENT or "),
        (["emit", "--event="], "no event type is called ''"),
        (["emit", "--account", "a b"], "reading ACCOUNT: no account is called 'a b'"),
    ],
)  # fmt: skip
def test_a_mistyped_argument_is_named(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["local", *arguments])
    assert local.main() == 1
    printed = capsys.readouterr().err.strip()
    assert said in printed
    assert len(printed.splitlines()) == 1


@pytest.mark.parametrize(("account", "written"), [("1010", 1010), ("acme", "acme"), ("007", "007")])
def test_an_account_is_written_as_the_lms_would(account: str, written: object) -> None:
    assert make_event("COURSE_ENROLLMENT", account)["accountId"] == written


def test_an_account_that_none_can_be_is_refused() -> None:
    with pytest.raises(StepFailedError, match="no account is called ''"):
        make_event("COURSE_ENROLLMENT", "")


@pytest.fixture
def no_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No stack is up, and nothing can be built."""

    def build(*_: object, **__: object) -> Path:
        raise AssertionError("it is built")

    monkeypatch.setattr(local, "STATE_DIR", tmp_path)
    monkeypatch.setattr(deploy, "build", build)
    return tmp_path


@pytest.mark.usefixtures("no_stack")
@pytest.mark.parametrize("command", ["emit", "listen", "token"])
def test_a_stack_that_is_down_is_said_to_be(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["local", command])
    assert local.main() == 1
    assert "it is not up; `make up` starts it" in capsys.readouterr().err


def test_a_port_that_is_taken_is_named_before_anything_is_built(no_stack: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StepFailedError, match=rf"taking port {port}: .* PORT=\.\.\. picks another"):
            stack.up(no_stack, port=port)
    with pytest.raises(AssertionError, match="it is built"):
        stack.up(no_stack, port=port)


INTERRUPTED = """
import select, sys
from local import __main__ as local

def wait_for_line():
    # Not in one call: a signal just before its read would be handled only when that read ends.
    while not select.select([sys.stdin], [], [], 0.05)[0]:
        pass

def run(_):
    try:
        print("running", flush=True)
        wait_for_line()
    finally:
        print("stopping", flush=True)
        wait_for_line()
        print("stopped", flush=True)

local._run = run
sys.argv = ["local", "run"]
sys.exit(local.main())
"""


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_second_interrupt_leaves_nothing_behind(sign: signal.Signals) -> None:
    """Ctrl-C stops what was started; another one while it stops prints a line, and no more."""
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | OWN_CODE,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "running\n"
        process.send_signal(sign)
        assert process.stdout.readline() == "stopping\n"
        process.send_signal(sign)
        assert process.stderr.readline() == "\n"
        assert process.stderr.readline() == "Stopping already.\n"
        process.stdin.write("go\n")
        process.stdin.flush()
        assert process.stdout.readline() == "stopped\n"
        assert process.wait(PATIENCE_SECONDS) == 130


@pytest.mark.parametrize("package", ["local", "operations", "tools"])
def test_an_interrupt_that_nothing_handles_shows_no_traceback(package: str) -> None:
    """The imports of a command take a second, longer where the machine is busy: Ctrl-C may come meanwhile."""

    def ended_by(error: str) -> tuple[int, str]:
        code = f"import {package}; raise {error}"
        ended = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | OWN_CODE,
            capture_output=True,
            text=True,
            check=False,
        )
        return ended.returncode, ended.stderr

    assert ended_by("KeyboardInterrupt") == (-signal.SIGINT, "")
    assert "Traceback" in ended_by("ValueError")[1]


@pytest.fixture
def listener() -> Iterator[tuple[Receiver, list[Received]]]:
    """A receiver that verifies, and what it was sent."""
    received: list[Received] = []
    with Receiver(received.append) as listening:
        listening.checks["/"] = signature(SECRET)
        yield listening, received


def posted(url: str, body: bytes, headers: dict[str, str]) -> tuple[int, str]:
    request = urllib.request.Request(f"{url}/", data=body, headers=headers)  # noqa: S310  # loopback
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as response:  # noqa: S310
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def signed(body: bytes, *, age_seconds: int = 0, message_id: str = "id") -> dict[str, str]:
    at = datetime.fromtimestamp(int(datetime.now(UTC).timestamp()) - age_seconds, UTC)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": standardwebhooks.Webhook(SECRET).sign(message_id, at, body.decode()),
    }


def test_a_listener_says_why_it_refuses(listener: tuple[Receiver, list[Received]]) -> None:
    listening, received = listener
    good = b'{"events":[]}'
    refused: dict[str, tuple[bytes, dict[str, str], int]] = {
        "signature: No matching signature found": (b"{}", signed(good), 401),
        "signature: Message timestamp too old": (good, signed(good, age_seconds=400), 401),
        "signature: Message timestamp too new": (good, signed(good, age_seconds=-400), 401),
        "signature: Missing required headers": (good, {}, 401),
        "signature: Invalid Signature Headers": (good, signed(good) | {"webhook-signature": "v1"}, 401),
        "not readable as JSON: JSONDecodeError": (b"{", signed(b"{"), 422),
        "not readable as JSON: RecursionError": (b"[" * 200_000, signed(b"[" * 200_000), 422),
        "not readable as JSON: ValueError": (b"9" * 4301, signed(b"9" * 4301), 422),
    }
    for reason, (body, headers, status) in refused.items():
        assert posted(listening.url, body, headers) == (status, reason)
        assert re.search(f"✗ {reason}$", report(received[-1], is_checked=True), re.MULTILINE)
    assert posted(listening.url, good, signed(good)) == (204, "")
    assert received[-1].problem is None


def test_a_listener_knows_a_test(listener: tuple[Receiver, list[Received]]) -> None:
    listening, received = listener
    assert posted(listening.url, b"{}", signed(b"{}", message_id="test_1"))[0] == 204
    assert "✓ verified  (a test: nothing happened)" in report(received[-1], is_checked=True)
