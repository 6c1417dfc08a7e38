"""`make deploy` asks one question, or says at once in one sentence why it cannot ask any."""

import json
import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import boto3
import pytest
from botocore.stub import Stubber

from operations.deploy import protect, sam_command
from operations.environments import Environment
from tests.commands.surroundings import OWN_CODE
from tests.commands.test_identity import GOOD, sts
from tests.patience import PATIENCE_SECONDS
from tests.unit.operations.test_environments import as_sam_reads
from tools.progress import REPOSITORY

WITHOUT_CREDENTIALS = (
    "There are no AWS credentials here: sign in (`aws login`, `aws sso login`), or set AWS_PROFILE."
)
STAGING = Environment(
    "staging", "lms-webhooks-staging", "", "", {"Stage": "staging", "AlarmEmail": "old@example.com"}
)


def command(**options: bool) -> list[str]:
    return sam_command(STAGING, {}, region="eu-west-1", config_file=Path("samconfig.toml"), **options)


def test_sam_asks_for_the_change_set_and_nothing_else() -> None:
    assert command()[2:] == [
        "--config-file", "samconfig.toml", "--config-env", "staging", "--region", "eu-west-1",
        "--confirm-changeset",
    ]  # fmt: skip
    assert command(is_confirmed=True)[-1] == "--no-confirm-changeset"
    assert command(is_guided=True)[-1] == "--guided"
    assert not {"--confirm-changeset", "--no-confirm-changeset"} & set(command(is_guided=True))


def test_parameters_are_given_beside_those_of_samconfig() -> None:
    """sam puts those of its command line in the place of all that samconfig.toml has."""
    given = {"AlarmEmail": "new@example.com", "EventSource": "our own lms"}
    called = sam_command(STAGING, given, region="eu-west-1", config_file=Path("samconfig.toml"))
    overrides = called[called.index("--parameter-overrides") + 1 :]
    assert as_sam_reads(overrides) == {"Stage": "staging", **given}
    assert "--parameter-overrides" not in command()


@pytest.mark.parametrize(
    ("stage", "status", "is_protected", "turns_on"),
    [
        ("prod", "CREATE_COMPLETE", False, True),
        ("prod", "UPDATE_COMPLETE", False, True),
        ("prod", "UPDATE_COMPLETE", True, False),
        ("prod", "REVIEW_IN_PROGRESS", False, False),  # nobody confirmed its first change set
        ("staging", "CREATE_COMPLETE", False, False),
    ],
)
def test_a_stack_of_prod_is_protected_once_it_is_there(
    stage: str, status: str, *, is_protected: bool, turns_on: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    cloudformation = boto3.client(
        "cloudformation",
        region_name="eu-west-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    stack = {
        "StackName": "lms-webhooks",
        "StackStatus": status,
        "CreationTime": datetime(2026, 11, 29, tzinfo=UTC),
        "EnableTerminationProtection": is_protected,
        "Parameters": [{"ParameterKey": "Stage", "ParameterValue": stage}],
    }
    with Stubber(cloudformation) as aws:
        aws.add_response("describe_stacks", {"Stacks": [stack]}, {"StackName": "lms-webhooks"})
        if turns_on:
            aws.add_response(
                "update_termination_protection",
                {"StackId": "arn"},
                {"StackName": "lms-webhooks", "EnableTerminationProtection": True},
            )
        protect(cloudformation, "lms-webhooks")
        aws.assert_no_pending_responses()
    assert bool(capsys.readouterr().out) == turns_on


def test_a_deployment_that_cannot_be_protected_has_succeeded_all_the_same(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cloudformation = boto3.client(
        "cloudformation", region_name="eu-west-1", aws_access_key_id="test", aws_secret_access_key="test"
    )
    with Stubber(cloudformation) as aws:
        aws.add_client_error("describe_stacks", "AccessDenied", "no", 403)
        protect(cloudformation, "lms-webhooks")
    assert capsys.readouterr().err.startswith("lms-webhooks is deployed, and not protected from deletion: ")


# The command itself


def environment(tmp_path: Path, **variables: str) -> dict[str, str]:
    """A machine without any configuration of AWS, but for `variables`, and without a make above."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MAKE", "MFLAGS"))
    }
    return inherited | {
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
        **OWN_CODE,
        **variables,
    }


@contextmanager
def black_hole() -> Iterator[str]:
    """An address that takes no connection and refuses none, as that of the metadata does at home."""
    with socket.socket() as listening, socket.socket() as one, socket.socket() as other:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for waiting in (one, other):
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_without_credentials_it_ends_with_one_sentence_before_it_builds(tmp_path: Path) -> None:
    """Where no instance serves metadata, too: botocore by itself would wait for it twice."""
    with black_hole() as url:
        variables = environment(tmp_path, AWS_EC2_METADATA_SERVICE_ENDPOINT=url)
        del variables["AWS_EC2_METADATA_DISABLED"]
        ended = subprocess.run(
            ["make", "deploy"],
            cwd=REPOSITORY,
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    assert ended.returncode != 0
    assert ended.stdout == ""
    sentence, *of_make = ended.stderr.splitlines()
    assert sentence == WITHOUT_CREDENTIALS
    assert all(line.startswith("make: ***") for line in of_make)


INTERRUPTED_SAM = """#!/usr/bin/env python3
import sys, time
try:
    print("ready", flush=True)
    while True:  # a signal just before a long sleep would be handled only after it
        time.sleep(0.05)
except KeyboardInterrupt:
    time.sleep(1)  # more than subprocess.run leaves a child
    print("stopped in order", flush=True)
    sys.exit(3)
"""

SAM = """#!/usr/bin/env python3
import json, os, sys
with open({log!r}, "a") as log:
    log.write(json.dumps([sys.argv[1:], sys.stdin.isatty()]) + "\\n")
sys.exit(int(os.environ.get("SAM_ENDS_WITH", "0")))
"""


@pytest.fixture
def scripted_sam(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a deployer who is signed in, with a sam that only notes how it is called."""
    folder = tmp_path / "bin"
    folder.mkdir()
    sam = folder / "sam"
    sam.write_text(SAM.format(log=str(tmp_path / "called")))
    sam.chmod(0o755)
    with sts(200, GOOD) as url:
        yield environment(
            tmp_path,
            AWS_ACCESS_KEY_ID="AKIDEXAMPLE",
            AWS_SECRET_ACCESS_KEY="secret",
            AWS_DEFAULT_REGION="eu-west-1",
            AWS_ENDPOINT_URL_STS=url,
            PATH=f"{folder}:{os.environ['PATH']}",
        )


def deploy(variables: dict[str, str], *options: str, has_terminal: bool) -> subprocess.CompletedProcess[str]:
    primary, replica = pty.openpty() if has_terminal else (-1, subprocess.DEVNULL)
    try:
        return subprocess.run(
            [sys.executable, "-m", "operations.deploy", *options],
            env=variables, stdin=replica, capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        if has_terminal:
            os.close(primary)
            os.close(replica)


def called(tmp_path: Path) -> list[tuple[list[str], bool]]:
    log = tmp_path / "called"
    return [tuple(json.loads(line)) for line in log.read_text().splitlines()] if log.exists() else []


def test_at_a_terminal_sam_has_the_terminal_and_asks_itself(
    scripted_sam: dict[str, str], tmp_path: Path
) -> None:
    ended = deploy(scripted_sam | {"SAM_ENDS_WITH": "7"}, "--environment", "prod", has_terminal=True)
    assert ended.returncode == 7
    ((arguments, has_terminal),) = called(tmp_path)
    assert has_terminal
    assert arguments[0] == "deploy"
    assert arguments[arguments.index("--config-env") + 1] == "prod"
    assert "--confirm-changeset" in arguments


@pytest.mark.parametrize("options", [[], ["--guided"]])
def test_without_a_terminal_it_asks_nobody_and_hangs_nowhere(
    options: list[str], scripted_sam: dict[str, str], tmp_path: Path
) -> None:
    ended = deploy(scripted_sam, *options, has_terminal=False)
    assert ended.returncode == 1
    assert ended.stderr == "There is no terminal to confirm the change set at: YES=1 deploys it unseen.\n"
    assert called(tmp_path) == []


def test_a_workflow_says_beforehand_that_it_agrees(scripted_sam: dict[str, str], tmp_path: Path) -> None:
    assert deploy(scripted_sam, "--yes", has_terminal=False).returncode == 0
    ((arguments, _),) = called(tmp_path)
    assert "--no-confirm-changeset" in arguments


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--environment", "pord"],
            "samconfig.toml has no environment 'pord' for AWS: choose ENVIRONMENT=default,",
        ),
        (["--parameters", "AlarmEmial=x"], "did you mean AlarmEmail?"),
        (["--guided", "--yes"], "GUIDED=1 asks and YES=1 does not: give one of them."),
    ],
)
def test_what_cannot_be_meant_is_refused(
    options: list[str], said: str, scripted_sam: dict[str, str], tmp_path: Path
) -> None:
    ended = deploy(scripted_sam, *options, has_terminal=True)
    assert ended.returncode == 1
    (sentence,) = ended.stderr.splitlines()
    assert said in sentence
    assert called(tmp_path) == []


def test_ctrl_c_is_sams_to_handle_and_its_code_is_returned(
    scripted_sam: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "bin" / "sam").write_text(INTERRUPTED_SAM)
    with subprocess.Popen(
        [sys.executable, "-m", "operations.deploy", "--yes"],
        env=scripted_sam,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as deploying:
        assert deploying.stdout is not None
        assert deploying.stdout.readline() == "ready\n"
        os.killpg(deploying.pid, signal.SIGINT)  # as a terminal sends Ctrl-C
        out, err = deploying.communicate(timeout=PATIENCE_SECONDS)
    assert (out, err, deploying.returncode) == ("stopped in order\n", "", 3)


@pytest.mark.parametrize("closed", ["<&-", "<&- >&-"])
def test_a_closed_descriptor_is_no_terminal(
    closed: str, scripted_sam: dict[str, str], tmp_path: Path
) -> None:
    ended = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m operations.deploy {closed}"],
        env=scripted_sam, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert ended.stderr == "There is no terminal to confirm the change set at: YES=1 deploys it unseen.\n"
    assert called(tmp_path) == []
