"""A shell can read where the local stack is, and every address can be pasted into it."""

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from local import deploy
from local.stack import Stack

OUTPUTS = {"ApiId": "2040b25e", "EventBusName": "bus", "EventSource": "lms"} | dict.fromkeys(
    ("UserPoolId", "UserPoolClientId"), "id"
)


class SignedIn(Stack):
    """Its admin has signed in, for as long as the test says."""

    seconds = 3600

    def _sign_in(self, account_id: str) -> dict[str, Any]:
        assert account_id == "1010"
        return {"IdToken": "head.body.sign", "ExpiresIn": self.seconds}


@pytest.fixture
def stack(tmp_path: Path) -> SignedIn:
    return SignedIn(tmp_path, deploy.describe("http://127.0.0.1:20970", OUTPUTS))


def read(env_file: Path, path: Path) -> list[str]:
    """The variables, as a shell has them that finds its commands in `path` first."""
    shown = subprocess.run(
        ["sh", "-ec", '. "$0"; printf "%s\\n" "$API" "$CONSOLE" "$TOKEN"', env_file],
        env=os.environ | {"PATH": f"{path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stderr == ""
    return shown.stdout.splitlines()


def test_every_address_can_be_pasted_into_a_shell(stack: SignedIn) -> None:
    for url in (stack.api_url, stack.console_url):
        assert url.startswith("http://127.0.0.1:20970/")
        assert shlex.quote(url) == url


def test_a_shell_reads_the_addresses_and_a_token(stack: SignedIn, tmp_path: Path) -> None:
    env_file = tmp_path / "env"
    env_file.write_text("of an earlier stack, which everybody may read")
    env_file.chmod(0o644)
    assert stack.write_env() == env_file
    assert env_file.stat().st_mode & 0o777 == 0o600
    assert read(env_file, tmp_path) == [stack.api_url, stack.console_url, "head.body.sign"]


def test_a_shell_that_reads_it_later_gets_a_new_token(stack: SignedIn, tmp_path: Path) -> None:
    make = tmp_path / "make"
    make.write_text('#!/bin/sh\n[ "$4" = token ] && echo "new"\n')
    make.chmod(0o755)
    stack.seconds = 299
    assert read(stack.write_env(), tmp_path)[2] == "new"
