"""The deployed stack of one state folder: bring it up, take it down, and talk to it.

`up(state_dir)` works for any folder, so that the tests have a stack of their own beside `make up`'s.
"""

import fcntl
import json
import shlex
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from lms_webhooks.model.event_types import EventTypes, with_extra_types
from local import deploy, emulator_process
from local.roles import make_enforceable
from local.tls import ensure_tls
from tools.progress import REPOSITORY, StepFailedError, failure, step

LOG_FILE = Path("logs", "functions.log")
"""In the state folder: it stays when the stack does not."""
ENV_FILE = "env"
"""In the state folder, for a shell to read."""
_TOKEN_MARGIN_SECONDS = 300


@dataclass(frozen=True)
class Answer:
    """What the admin API said."""

    status_code: int
    body: Any


@dataclass(frozen=True)
class Stack:
    """A stack that is up, as `.local/stack.json` describes it."""

    state_dir: Path
    description: dict[str, Any]

    @property
    def api_url(self) -> str:
        """The admin API, without `/v1`."""
        return str(self.description["apiUrl"])

    @property
    def event_types(self) -> EventTypes:
        """The catalogue, with the types that were added when it was brought up."""
        return with_extra_types(str(self.description.get("extraEventTypes", "")))

    @property
    def console_url(self) -> str:
        """The console."""
        return str(self.description["consoleUrl"])

    @property
    def admins(self) -> dict[str, dict[str, str]]:
        """The admin of each account, with `username` and `password`."""
        return {admin["accountId"]: admin for admin in self.description["admins"]}

    @property
    def log_file(self) -> Path:
        """What the functions logged until `save_logs` was last called."""
        return self.state_dir / LOG_FILE

    def save_logs(self) -> None:
        """Copy what the functions logged, oldest first, to `log_file`: the emulator has it in memory only."""
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        self.log_file.write_text("".join(f"{line}\n" for line in self.log_lines()))

    def log_lines(self, *, since_ms: int = 0) -> list[str]:
        """What the functions logged since then (UTC milliseconds), oldest first."""
        logs = self.client("logs")
        lines: list[tuple[int, str]] = []
        for group in logs.get_paginator("describe_log_groups").paginate().search("logGroups[].logGroupName"):
            pages = logs.get_paginator("filter_log_events").paginate(logGroupName=group, startTime=since_ms)
            for page in pages:
                lines += [(event["timestamp"], event["message"].rstrip()) for event in page["events"]]
        lines.sort(key=lambda line: line[0])
        return [text for _, text in lines]

    def client(self, service: str) -> Any:
        """A boto3 client of `service`."""
        return deploy.client(self.description["endpointUrl"], service)

    def id_token(self, account_id: str = deploy.ACCOUNT_IDS[0]) -> str:
        """Sign in as the admin of `account_id`; return a token that is valid for an hour."""
        return str(self._sign_in(account_id)["IdToken"])

    def _sign_in(self, account_id: str) -> dict[str, Any]:
        if account_id not in self.admins:
            raise StepFailedError(
                f"reading ACCOUNT: no admin of account {account_id!r}; there are {', '.join(self.admins)}"
            )
        admin = self.admins[account_id]
        signed_in = self.client("cognito-idp").initiate_auth(
            ClientId=self.description["clientId"],
            AuthFlow="USER_PASSWORD_AUTH",
            AuthParameters={"USERNAME": admin["username"], "PASSWORD": admin["password"]},
        )
        result: dict[str, Any] = signed_in["AuthenticationResult"]
        return result

    def write_env(self) -> Path:
        """Write API, CONSOLE and TOKEN for `. .local/env` in a shell; return the file.

        A token is valid for an hour. A shell that reads the file later gets a new one.
        """
        signed_in = self._sign_in(deploy.ACCOUNT_IDS[0])
        renew_at = int(time.time()) + signed_in["ExpiresIn"] - _TOKEN_MARGIN_SECONDS
        renewal = f"make --no-print-directory -C {shlex.quote(str(REPOSITORY))} token"
        env_file = self.state_dir / ENV_FILE
        env_file.unlink(missing_ok=True)  # one that others may read would stay so
        env_file.touch(mode=0o600)
        env_file.write_text(
            "# The stack on this machine. A TOKEN is valid for an hour; read this file again for a new one.\n"
            f"API={shlex.quote(self.api_url)}\n"
            f"CONSOLE={shlex.quote(self.console_url)}\n"
            f"TOKEN={shlex.quote(signed_in['IdToken'])}\n"
            f'if [ "$(date +%s)" -ge {renew_at} ]; then TOKEN="$({renewal})"; fi\n'
        )
        return env_file

    def call(self, method: str, path: str, *, token: str, body: object = None) -> Answer:
        """Call the admin API at `path`, such as `/v1/webhooks`. An error status is a response too."""
        request = urllib.request.Request(  # noqa: S310  # loopback
            self.api_url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"authorization": f"Bearer {token}", "content-type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
                return Answer(response.status, json.loads(response.read() or b"null"))
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            try:
                return Answer(error.code, json.loads(text))
            except ValueError:
                return Answer(error.code, text)

    def emit(self, events: list[dict[str, Any]]) -> None:
        """Put `events` on the bus.

        Raises:
            StepFailedError: when the bus refused one.
        """
        bus = self.client("events")
        for start in range(0, len(events), 10):  # PutEvents takes ten
            entries = [
                {
                    "EventBusName": self.description["eventBusName"],
                    "Source": self.description["eventSource"],
                    "DetailType": event["eventName"],
                    "Detail": json.dumps(event, separators=(",", ":")),
                }
                for event in events[start : start + 10]
            ]
            answer = bus.put_events(Entries=entries)
            if answer["FailedEntryCount"]:
                raise StepFailedError(
                    f"put_events: {answer['FailedEntryCount']} refused: {answer['Entries']}"
                )


def current(state_dir: Path) -> Stack | None:
    """The stack of `state_dir` if it is up and whole."""
    stack_file = state_dir / "stack.json"
    if emulator_process.running(state_dir) is None or not stack_file.exists():
        return None
    return Stack(state_dir, json.loads(stack_file.read_text()))


def up(
    state_dir: Path, *, port: int | None = None, roles_enforced: bool = False, extra_event_types: str = ""
) -> Stack:
    """Build, start, deploy; return when the stack is ready to use. Nothing is left of a failed try.

    `extra_event_types` is the parameter ExtraEventTypes. With `roles_enforced` functions are held to their
    roles, apart from conditions: see `roles`.
    """
    with _alone(state_dir):
        running = emulator_process.running(state_dir)
        if port is not None and (running is None or running.port != port):
            emulator_process.check_port(port)  # before the stack that runs is stopped for nothing
        _down(state_dir)
        built_template = deploy.build(state_dir)
        if roles_enforced:
            make_enforceable(built_template)
        with step("starting the emulator", log=emulator_process.log_file(state_dir)):
            tls = ensure_tls(state_dir / "tls")
            started = emulator_process.start(state_dir, port=port, roles_enforced=roles_enforced)
        try:
            description = deploy.deploy(
                state_dir, started, tls, built_template, extra_event_types=extra_event_types
            )
            stack = Stack(state_dir, description)
            _check(stack)
        except BaseException:
            _down(state_dir)
            raise
        return stack


def down(state_dir: Path) -> bool:
    """Stop the stack and remove its data; logs, certificates and the build cache stay. False if none ran."""
    with _alone(state_dir):
        return _down(state_dir)


@contextmanager
def _alone(state_dir: Path) -> Iterator[None]:
    """Keep a second terminal from stopping the emulator under a deployment of the first."""
    state_dir.mkdir(parents=True, exist_ok=True)
    with (state_dir / "stack.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StepFailedError(
                f"taking the stack: another command is bringing it up or down ({state_dir}); try again then"
            ) from error
        yield


def _down(state_dir: Path) -> bool:
    stack = current(state_dir)
    if stack is not None:
        with suppress(BotoCoreError, ClientError):  # one that is to be stopped may well be broken
            stack.save_logs()
    stopped = emulator_process.stop(state_dir)
    for name in ("stack.json", ENV_FILE):
        (state_dir / name).unlink(missing_ok=True)
    return stopped


def _check(stack: Stack) -> None:
    title = "first call of the admin API"
    with step(title, log=emulator_process.log_file(stack.state_dir)):
        answer = stack.call("GET", "/v1/event-types", token=stack.id_token())
        if answer.status_code != 200:
            stack.save_logs()
            raise failure(title, f"{answer.status_code} {answer.body}", stack.log_file)
