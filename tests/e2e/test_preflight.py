"""`make preflight` as it is called, against the local stack in the place of AWS."""

import os
import subprocess

from tests.e2e.system import System
from tools.progress import REPOSITORY


def preflight(system: System, **variables: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment = inherited | {
        "AWS_ENDPOINT_URL": system.stack.description["endpointUrl"],
        "AWS_DEFAULT_REGION": system.stack.description["region"],
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    return subprocess.run(
        ["make", "preflight", *(f"{name}={value}" for name, value in variables.items())],
        cwd=REPOSITORY,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def results(ended: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """By the name of the check."""
    lines = [line.split(maxsplit=2) for line in ended.stdout.splitlines()]
    return {rest.split("  ")[0] if name == "logs" else name: result for result, name, rest in lines}


def test_a_stack_that_is_not_there_yet_can_be_deployed(system: System) -> None:
    ended = preflight(system, PARAMS="EventSource='acme.lms' DispatcherMaximumConcurrency=20")
    assert ended.returncode == 0, ended
    assert set(results(ended).values()) == {"ok"}
    first, second, *_ = ended.stdout.splitlines()
    assert "stack lms-webhooks-dev in account 000000000000, region us-east-1, as arn:aws:iam::" in first
    assert "lms-webhooks-dev is not there yet" in second


def test_one_that_fails_ends_with_an_error_after_all_were_made(system: System) -> None:
    ended = preflight(system, ENVIRONMENT="prod", PARAMS="OidcIssuer=http://127.0.0.1:9")
    assert ended.returncode != 0
    assert results(ended)["issuer"] == "failed"
    assert len(ended.stdout.splitlines()) == 6


def test_quotes_that_are_not_closed_are_no_affair_of_the_shells(system: System) -> None:
    ended = preflight(system, PARAMS="AlarmEmail='; echo never")
    assert ended.stdout == ""
    assert ended.stderr.startswith("PARAMS cannot be read, no closing quotation: AlarmEmail='; echo never")
