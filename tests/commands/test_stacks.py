"""A command finds its stack on AWS as `make deploy` does, or says in one sentence why it cannot."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

from operations.admin import UnusableRequest, _ask
from operations.stacks import OUTPUTS, find_stack
from tests.commands.test_deploy import WITHOUT_CREDENTIALS, environment
from tests.commands.test_identity import ERROR, GOOD, sts
from tests.contract.template import TEMPLATE
from tools.progress import paint

BUS_ARN = "arn:aws:events:eu-west-1:123456789012:event-bus/lms"
WHOLE = dict.fromkeys(OUTPUTS, "value") | {"EventBusArn": BUS_ARN}
COMMANDS = {
    "smoke": [],
    "admin": ["--email", "ada@example.com", "--account", "1010"],
    "erase": ["--account", "1010", "--learner", "1"],
    "restore": [],
    "redrive": ["QuarantineQueue"],
}


def described(status: str, outputs: dict[str, str]) -> str:
    members = "".join(
        f"<member><OutputKey>{name}</OutputKey><OutputValue>{escape(value)}</OutputValue></member>"
        for name, value in outputs.items()
    )
    return (
        '<DescribeStacksResponse xmlns="http://cloudformation.amazonaws.com/doc/2010-05-15/">'
        "<DescribeStacksResult><Stacks><member><StackName>mine</StackName>"
        f"<StackStatus>{status}</StackStatus><CreationTime>2026-11-29T00:00:00Z</CreationTime>"
        f"<Outputs>{members}</Outputs></member></Stacks></DescribeStacksResult></DescribeStacksResponse>"
    )


@contextmanager
def aws(tmp_path: Path, status: int, body: str) -> Iterator[dict[str, str]]:
    """The environment of one who is signed in, with AWS_REGION alone, as CI sets it."""
    with sts(200, GOOD) as identity, sts(status, body) as cloudformation:
        yield environment(
            tmp_path,
            AWS_ACCESS_KEY_ID="AKIDEXAMPLE",
            AWS_SECRET_ACCESS_KEY="secret",
            AWS_REGION="eu-west-1",
            AWS_ENDPOINT_URL_STS=identity,
            AWS_ENDPOINT_URL_CLOUDFORMATION=cloudformation,
        )


def said_by(command: str, variables: dict[str, str]) -> str:
    ended = subprocess.run(
        [sys.executable, "-m", f"operations.{command}", *COMMANDS[command], "--stack", "mine"],
        env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (1, "")
    (sentence,) = ended.stderr.splitlines()
    return sentence


@pytest.mark.parametrize("command", COMMANDS)
def test_without_credentials_each_command_says_what_deploy_says(command: str, tmp_path: Path) -> None:
    assert said_by(command, environment(tmp_path)) == WITHOUT_CREDENTIALS


def test_a_stack_that_was_never_confirmed_is_said_to_be_so_by_each_command(tmp_path: Path) -> None:
    with aws(tmp_path, 200, described("REVIEW_IN_PROGRESS", {})) as variables:
        (said,) = {said_by(command, variables) for command in COMMANDS}
    assert said == (
        "mine is REVIEW_IN_PROGRESS in account 123456789012, region eu-west-1, without the output"
        " AdminApiFunctionName: it is no stack of this template.yaml, or was never deployed to its end."
    )


def test_a_stack_that_is_not_there_is_said_to_be_missing_where_it_was_looked_for(tmp_path: Path) -> None:
    error = ERROR.format(code="ValidationError", message="Stack with id mine does not exist")
    with aws(tmp_path, 400, error) as variables:
        assert said_by("smoke", variables) == (
            "AWS refused DescribeStacks: Stack with id mine does not exist in account 123456789012,"
            " region eu-west-1."
        )


def test_a_whole_stack_is_found_in_the_region_of_ci(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with aws(tmp_path, 200, described("UPDATE_COMPLETE", WHOLE)) as variables:
        monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        stack = find_stack("mine")
    assert stack.outputs == WHOLE
    assert stack.place == "account 123456789012, region eu-west-1"
    assert stack.client("sqs").meta.region_name == "eu-west-1"


def test_the_outputs_that_are_required_are_in_every_stack_of_the_template() -> None:
    outputs = TEMPLATE["Outputs"]
    assert {name for name, output in outputs.items() if "Condition" not in output} >= OUTPUTS


def test_closed_descriptors_are_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python has None for the stream of a descriptor that is closed, as by `<&- >&-`."""
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(UnusableRequest, match="There is no standard input"):
        _ask()
    monkeypatch.setattr("sys.stdout", None)
    assert paint("ok", "green") == "ok"
