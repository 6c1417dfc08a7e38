"""What the README shows of `make listen`, `make emit` and the API is what its reader sees."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from tests.commands.surroundings import OWN_CODE
from tests.contract.test_documents import README, fenced
from tests.e2e.system import System

# The command, with the stack of the tests in place of `make up`'s.
_COMMAND = """
import sys
from pathlib import Path
from local import __main__ as local

local.STATE_DIR = Path(sys.argv.pop(1))
sys.exit(local.main())
"""
_ACCOUNT_ID = "1010"  # of which the README tells; no other test uses it
_ANEW_EACH_TIME = [
    (r"127\.0\.0\.1:\d+", "127.0.0.1:<port>"),
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<event id>"),
    (r"webhook-timestamp: \d{10}\n", "webhook-timestamp: <time>\n"),
    (r"\"timestamp\": \d{13},", '"timestamp": <time>,'),
    (r"v1,[A-Za-z0-9+/]{43}=", "v1,<signature>"),
]


def test_a_listener_registers_itself_and_prints_what_the_readme_shows(system: System) -> None:
    """The event that `make emit` puts reaches it, is verified, and `make emit` says so. Ctrl-C ends both."""
    with _command(system, "listen") as listener:
        assert listener.stdout is not None
        url, webhook_id = _greeting(listener.stdout)
        with _command(system, "emit", "--event", "COURSE_ENROLLMENT") as emitter:
            emitted, _ = emitter.communicate()
        port = url.rpartition(":")[2]
        assert re.fullmatch(
            rf"COURSE_ENROLLMENT [0-9a-f-]{{36}}\n  ✓ make listen on port {port} \({webhook_id}\):"
            rf" delivered, 204 in \d+ ms, {url}/\n",
            emitted,
        )
        printed = ""
        while '"accountId"' not in printed:
            line = listener.stdout.readline()
            assert line, "it ended"
            printed += line
        (shown,) = fenced(README, "text")
        assert _what_stays(printed.lstrip("\n")) == _what_stays(shown)
        _ends(listener, signal.SIGINT, webhook_id)
    assert webhook_id not in _webhooks(system)


def test_a_listener_removes_what_a_killed_one_left_behind(system: System) -> None:
    """It leaves alone what another one listens for, and ends by SIGTERM as by Ctrl-C."""
    with _command(system, "listen") as killed, _command(system, "listen") as another:
        assert killed.stdout is not None
        assert another.stdout is not None
        (_, left_behind), (_, of_another) = _greeting(killed.stdout), _greeting(another.stdout)
        killed.kill()
        killed.wait()
        with _command(system, "listen") as listener:
            assert listener.stdout is not None
            _, webhook_id = _greeting(listener.stdout)
            registered = _webhooks(system)
            assert left_behind not in registered
            assert registered >= {of_another, webhook_id}
            _ends(listener, signal.SIGTERM, webhook_id)
    assert not _webhooks(system) & {left_behind, of_another, webhook_id}


def test_a_shell_registers_the_webhook_of_the_readme(system: System) -> None:
    """By `. .local/env` and curl, as the README shows both."""
    (block,) = [each for each in fenced(README, "sh") if "application/json" in each]
    env_file = system.stack.write_env()
    ended = subprocess.run(
        ["sh", "-ec", block.replace(". .local/env", f". {env_file}")],
        capture_output=True,
        text=True,
        check=True,
    )
    created = json.loads(ended.stdout)
    assert created["status"] == "active", created
    token = system.stack.id_token(_ACCOUNT_ID)
    system.stack.call("DELETE", f"/v1/webhooks/{created['webhookId']}", token=token)


@contextmanager
def _command(system: System, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", _COMMAND, str(system.stack.state_dir), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | OWN_CODE) as process:
        try:
            yield process
        finally:
            process.terminate()


def _greeting(output: IO[str]) -> tuple[str, str]:
    """The URL of a listener and the id of its webhook, once it says both."""
    (listening,) = re.findall(r"^Listening at (\S+)/  \(Ctrl-C ends\)$", output.readline())
    (webhook_id,) = re.findall(r"^  registered as (wh_\S+) of account 1010,", output.readline())
    assert "make emit" in output.readline()
    return str(listening), str(webhook_id)


def _ends(listener: subprocess.Popen[str], sign: signal.Signals, webhook_id: str) -> None:
    listener.send_signal(sign)
    assert listener.communicate()[0] == f"\nRemoved {webhook_id}.\n"
    assert listener.returncode == 0


def _webhooks(system: System) -> set[str]:
    """The ids of the webhooks of the account."""
    answer = system.stack.call("GET", "/v1/webhooks", token=system.stack.id_token(_ACCOUNT_ID))
    return {webhook["webhookId"] for webhook in answer.body["webhooks"]}


def _what_stays(text: str) -> str:
    for pattern, name in _ANEW_EACH_TIME:
        text = re.sub(pattern, name, text)
    return text
