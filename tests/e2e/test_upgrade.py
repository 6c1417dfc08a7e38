"""The life of an installation, as docs/deploy.md tells it: a guided deployment with the values that it
offers, an upgrade, the way back, and its removal. Events come meanwhile, and the removal leaves the
data."""

import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from lms_webhooks import __version__
from local import deploy
from local.stack import Stack
from tests.commands.surroundings import OWN_CODE
from tests.contract.template import PARAMETERS, REPOSITORY
from tests.e2e.system import Account, System, until
from tests.fakes.receiver import Receiver
from tools.template import read_template

STACK_NAME = "lms-webhooks-dev"  # as samconfig.toml has it
NEXT_VERSION = "9.9.9"
VISIBILITY = 65  # more than a function may take
REDELIVERED = 3 * VISIBILITY
"""Seconds. The emulator ends workers when it changes their code, at work or not; Lambda lets them finish.
What such a worker had comes again when its messages are visible again, as after a crash."""
OF_THIS_MACHINE = {
    "Stage": "local",
    "DispatcherMaximumConcurrency": "2",
}
"""What the emulator and receivers on loopback ask for; everything else is left as it is offered."""


@dataclass
class Installation:
    """A stack beside the others' on the same emulator, deployed with a samconfig.toml of its own."""

    endpoint_url: str
    config_file: Path
    build: Path
    tls: dict[str, Any]

    def deploy(
        self, build: Path, answers: list[str], *options: str, meanwhile: Callable[[], None] = lambda: None
    ) -> str:
        """Deploy a build at a terminal, and do something again and again until it has ended; return what was
        printed."""
        log = self.config_file.with_name("deploy.log")
        primary, terminal = pty.openpty()
        with log.open("w") as output, os.fdopen(primary, "w") as keyboard:
            process = subprocess.Popen(
                [
                    sys.executable, "-m", "operations.deploy", *options,
                    "--config-file", self.config_file,
                    "--template-file", build / "template.yaml",
                ],
                cwd=self.config_file.parent,
                env=deploy.environment()
                | OWN_CODE
                | {"AWS_ENDPOINT_URL": self.endpoint_url},
                stdin=terminal,
                stdout=output,
                stderr=subprocess.STDOUT,
            )  # fmt: skip
            os.close(terminal)
            keyboard.write("".join(f"{answer}\n" for answer in answers))
            keyboard.flush()
            while process.poll() is None:
                meanwhile()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=0.5)
        assert process.returncode == 0, log.read_text()[-5000:]
        deploy.restate_concurrency(self.endpoint_url)
        return log.read_text()

    def parameters(self) -> dict[str, str]:
        """Those of the stack."""
        cloudformation = deploy.client(self.endpoint_url, "cloudformation")
        (stack,) = cloudformation.describe_stacks(StackName=STACK_NAME)["Stacks"]
        return {each["ParameterKey"]: each["ParameterValue"] for each in stack["Parameters"]}

    def system(self) -> System:
        """The stack as tests meet it."""
        outputs = deploy.outputs_of(self.endpoint_url, STACK_NAME)
        description = deploy.describe(self.endpoint_url, outputs, stack_name=STACK_NAME)
        return System(Stack(self.config_file.parent, description | {"tls": self.tls}))


@pytest.fixture
def installation(system: System, tmp_path: Path) -> Iterator[Installation]:
    config_file = tmp_path / "samconfig.toml"
    shutil.copy(REPOSITORY / "samconfig.toml", config_file)
    endpoint_url = system.stack.description["endpointUrl"]
    build = system.stack.state_dir / "build"
    yield Installation(endpoint_url, config_file, build, system.stack.description["tls"])
    system.client("cloudformation").delete_stack(StackName=STACK_NAME)


def next_version(build: Path, folder: Path) -> Path:
    """A build of what might be the next version: other code, another variable, another description."""
    shutil.copytree(build, folder)
    package = folder / "CoreLayer" / "python" / "lms_webhooks"
    for cached in (package / "__pycache__").glob("__init__.*"):
        cached.unlink()
    source = package / "__init__.py"
    source.write_text(source.read_text().replace(f'"{__version__}"', f'"{NEXT_VERSION}"'))
    template = read_template(folder / "template.yaml")
    template["Description"] += ", the next version"
    template["Globals"]["Function"]["Environment"]["Variables"]["OF_THE_NEXT_VERSION"] = "1"
    (folder / "template.yaml").write_text(yaml.safe_dump(template, sort_keys=False))
    return folder


def sent_by(receiver: Receiver, event_id: str) -> str:
    """The version that sent an event, as its user-agent says; empty while it has not come."""
    for request in receiver.requests_to("/live"):
        if event_id in request.event_ids:
            return request.headers["user-agent"].removeprefix("lms-webhooks/")
    return ""


def wait_until_version_sends(version: str, account: Account, receiver: Receiver, emitted: list[str]) -> None:
    """Emit, one after the other, until an event comes from `version`: workers of before end their work."""

    def emit_one() -> bool:
        event_id = account.emit()["eventId"]
        emitted.append(event_id)
        return until(lambda: sent_by(receiver, event_id), "an event to come") == version

    until(emit_one, f"version {version} to send")


def check_all_came(account: Account, receiver: Receiver, webhook_ids: list[str], emitted: list[str]) -> None:
    """All events came to both webhooks, once that which waits was let go, and are on record."""
    live, paused = webhook_ids
    assert not all_came(receiver, "/paused", emitted)
    assert account.call("PATCH", f"/v1/webhooks/{paused}", {"status": "active"}).status == 200
    for webhook_id, path in ((live, "/live"), (paused, "/paused")):
        until(partial(all_came, receiver, path, emitted), f"all at {path}", seconds=REDELIVERED)
        account.system.wait_for_history(webhook_id, len(emitted), seconds=REDELIVERED)
        deliveries = account.call("GET", f"/v1/webhooks/{webhook_id}/deliveries").body["deliveries"]
        assert {each["status"] for each in deliveries} == {"delivered"}


def all_came(receiver: Receiver, path: str, emitted: list[str]) -> bool:
    came = {event_id for request in receiver.requests_to(path) for event_id in request.event_ids}
    return set(emitted) <= came


def test_an_installation_lives_through_an_upgrade_and_back_and_its_data_outlives_it(
    installation: Installation, receiver: Receiver, tmp_path: Path
) -> None:
    # Installed, with nothing edited. The last answers: confirm, make roles, roll back, save, where, as what.
    answers = ["", "", *(OF_THIS_MACHINE.get(name, "") for name in PARAMETERS), "", "", "", "", "", "", "y"]
    told = installation.deploy(installation.build, answers, "--guided")
    for name, parameter in PARAMETERS.items():
        assert f"Parameter {name} [{parameter['Default']}]" in told
    system = installation.system()
    system.client("sqs").set_queue_attributes(
        QueueUrl=system.stack.description["queues"]["realtime"],
        Attributes={"VisibilityTimeout": str(VISIBILITY)},  # 360 s are too long for a test
    )
    account = system.new_account()
    live = account.create(receiver.url("/live"))["webhookId"]
    paused = account.create(receiver.url("/paused"), status="paused")["webhookId"]
    emitted = [account.emit()["eventId"]]
    system.wait_for_history(live, 1)
    assert sent_by(receiver, emitted[0]) == __version__

    def emit() -> None:
        emitted.append(account.emit()["eventId"])

    # Upgraded with the answers that were saved, one that is another, and one question, while events come.
    following = next_version(installation.build, tmp_path / "next")
    told = installation.deploy(following, ["y"], "--parameters", "LogRetentionDays=7", meanwhile=emit)
    assert told.count("[y/N]") == 1
    assert "Deploy this changeset? [y/N]" in told
    parameters = installation.parameters()
    assert parameters["LogRetentionDays"] == "7"
    assert OF_THIS_MACHINE.items() <= parameters.items()
    wait_until_version_sends(NEXT_VERSION, account, receiver, emitted)
    check_all_came(account, receiver, [live, paused], emitted)

    # And back. What waits now, the next version wrote.
    assert account.call("PATCH", f"/v1/webhooks/{paused}", {"status": "paused"}).status == 200
    emit()
    told = installation.deploy(installation.build, [], "--yes", meanwhile=emit)
    assert "[y/N]" not in told
    wait_until_version_sends(__version__, account, receiver, emitted)
    check_all_came(account, receiver, [live, paused], emitted)

    # Removed: the tables hold what they held.
    count = len(system.history(live))
    cloudformation = system.client("cloudformation")
    cloudformation.delete_stack(StackName=STACK_NAME)
    cloudformation.get_waiter("stack_delete_complete").wait(
        StackName=STACK_NAME, WaiterConfig={"Delay": 1, "MaxAttempts": 30}
    )
    assert len(system.history(live)) == count >= len(emitted)
    (registered,) = system.client("dynamodb").query(
        TableName=system.stack.description["tables"]["webhooks"],
        KeyConditionExpression="pk = :pk AND sk = :sk",
        ExpressionAttributeValues={
            ":pk": {"S": f"ACCOUNT#{account.account_id}"}, ":sk": {"S": f"WEBHOOK#{live}"},
        },
    )["Items"]  # fmt: skip
    assert registered
