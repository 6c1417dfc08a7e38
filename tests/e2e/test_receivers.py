"""The receivers that docs/receivers.md shows: they take what the deployed system sends, keep each event once,
and refuse whatever else. Each runs as its reader would run it, with an inbox that outlives the process."""

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks

from lms_webhooks.signing import new_secret
from local.engine import free_port
from local.set_up import node_wheel
from local.steps import REPOSITORY, STATE_DIR
from tests.e2e.system import Account, System, until

EXAMPLES = REPOSITORY / "docs" / "receivers"
COMMANDS: dict[str, tuple[str, ...]] = {
    "flask": (sys.executable, "-m", "flask", "--app", "flask_app", "run"),
    "fastapi": (sys.executable, "-m", "uvicorn", "fastapi_app:app"),
    "express": (str(node_wheel() / "bin" / "node"), "express_app.js"),
    "function-url": (
        sys.executable, "-m", "tests.fakes.function_url", str(EXAMPLES / "lambda_function.py"),
    ),
}  # fmt: skip
PORT_VARIABLES = ("PORT", "FLASK_RUN_PORT", "UVICORN_PORT")
PROBING_SECONDS = 180  # after a failure the first probe comes in 5 s, the next 10 s later


@dataclass
class Example:
    """One of the receivers, on a port of its own that stays the same when it is started again."""

    name: str
    folder: Path
    environment: dict[str, str]
    kept: Callable[[], list[str]]
    """The ids of the events in its inbox."""
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks"

    def start(self, *secrets: str) -> None:
        """Start it, or start it again, with these signing secrets; answers when it listens."""
        self.stop()
        variables = {"WEBHOOK_SECRETS": " ".join(secrets)} | dict.fromkeys(PORT_VARIABLES, str(self.port))
        with (self.folder / "output.log").open("ab") as log:
            self._process = subprocess.Popen(
                COMMANDS[self.name],
                cwd=self.folder,
                env=os.environ | self.environment | variables,
                stdout=log,
                stderr=log,
            )
        until(self._is_listening, f"{self.name} to listen: {self.folder}/output.log")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def post(self, body: bytes, headers: dict[str, str]) -> int:
        """Send it a request that is not the system's; answers the status code."""
        request = urllib.request.Request(self.url, data=body, headers=headers)  # noqa: S310  # loopback
        try:
            with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
                return int(response.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def _is_listening(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "output.log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture(params=COMMANDS)
def example(request: pytest.FixtureRequest, system: System, tmp_path: Path) -> Iterator[Example]:
    """Each of them in turn, not yet started."""
    made = _with_table(system, tmp_path) if request.param == "function-url" else _with_file(request, tmp_path)
    try:
        yield made
    finally:
        made.stop()


def _with_file(request: pytest.FixtureRequest, folder: Path) -> Example:
    name = str(request.param)
    for file in EXAMPLES.glob(f"{name}_app.*"):
        shutil.copy(file, folder)
    if name == "express":
        shutil.copy(EXAMPLES / "package.json", folder)
        (folder / "node_modules").symlink_to(STATE_DIR / "node" / "node_modules")
    database = folder / "inbox.sqlite3"

    def kept() -> list[str]:
        with closing(sqlite3.connect(database)) as db:
            return [row[0] for row in db.execute("SELECT event_id FROM inbox")]

    return Example(name, folder, {"DATABASE": str(database)}, kept)


def _with_table(system: System, folder: Path) -> Example:
    dynamodb = system.client("dynamodb")
    table = f"inbox-{uuid.uuid4()}"
    dynamodb.create_table(
        TableName=table,
        KeySchema=[{"AttributeName": "eventId", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "eventId", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    environment = {
        "INBOX": table,
        "AWS_ENDPOINT_URL": system.stack.description["endpointUrl"],
        "AWS_DEFAULT_REGION": system.stack.description["region"],
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "PYTHONPATH": str(REPOSITORY),
    }

    def kept() -> list[str]:
        found = dynamodb.scan(TableName=table, ConsistentRead=True)["Items"]
        return [item["eventId"]["S"] for item in found]

    return Example("function-url", folder, environment, kept)


def register(account: Account, example: Example, **changes: Any) -> tuple[str, str]:
    """A webhook that signs what it sends to `example`: its path in the API, and its secret."""
    created = account.create(example.url, authentication={"type": "signature"}, **changes)
    return f"/v1/webhooks/{created['webhookId']}", str(created["authentication"]["secret"])


def deliveries(account: Account, webhook: str) -> list[dict[str, Any]]:
    answer = account.call("GET", f"{webhook}/deliveries?limit=100")
    assert answer.status == HTTPStatus.OK, answer
    listed: list[dict[str, Any]] = answer.body["deliveries"]
    return listed


def delivered(account: Account, webhook: str, count: int, *, attempts: int = 1) -> list[dict[str, Any]]:
    """The deliveries, once `count` are delivered and have had `attempts`."""

    def look() -> list[dict[str, Any]]:
        ended = [
            each
            for each in deliveries(account, webhook)
            if each["status"] == "delivered" and each["attemptCount"] >= attempts
        ]
        return ended if len(ended) >= count else []

    return until(look, f"{count} deliveries with {attempts} attempts", seconds=PROBING_SECONDS)


def signed(
    secret: str, body: bytes, *, at: datetime | None = None, content_type: str = "application/json"
) -> dict[str, str]:
    """The headers of a request that was signed at this time, or now."""
    at = at or datetime.now(UTC)
    return {
        "content-type": content_type,
        "webhook-id": "id",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": standardwebhooks.Webhook(secret).sign("id", at, body.decode()),
    }


def body_of(*event_ids: str, padding: str = "") -> bytes:
    events = [{"eventId": event_id, "data": {"text": padding}} for event_id in event_ids]
    return json.dumps({"accountId": 1010, "events": events}, ensure_ascii=False).encode()


def test_each_event_is_kept_once_however_often_it_is_sent(account: Account, example: Example) -> None:
    """Four events arrive; each is sent again after a restart: taken, and not kept twice."""
    webhook, secret = register(account, example)
    example.start(secret)
    ids = [account.emit()["eventId"] for _ in range(4)]
    delivered(account, webhook, 4)
    assert sorted(example.kept()) == sorted(ids)
    example.start(secret)
    assert account.call("POST", f"{webhook}/replay", {"from": "2020-01-01T00:00:00Z"}).status == 202
    for delivery in delivered(account, webhook, 4, attempts=2):
        detail = account.call("GET", f"{webhook}/deliveries/{delivery['deliveryId']}").body
        assert [attempt["statusCode"] for attempt in detail["attempts"]] == [204, 204]
    assert sorted(example.kept()) == sorted(ids)


def test_several_events_in_a_request_are_all_kept(account: Account, example: Example) -> None:
    """Twenty events that waited come in fewer requests than events, each taken at the first try."""
    webhook, secret = register(account, example, status="paused")
    example.start(secret)
    ids = [account.emit()["eventId"] for _ in range(20)]
    until(lambda: len(deliveries(account, webhook)) == 20, "20 events to wait")
    assert account.call("PATCH", webhook, {"status": "active"}).status == HTTPStatus.OK
    ended = delivered(account, webhook, 20)
    assert {each["attemptCount"] for each in ended} == {1}
    assert len({each["lastAttempt"]["at"] for each in ended}) < len(ended)
    assert sorted(example.kept()) == sorted(ids)


def test_what_nobody_signed_just_now_is_refused(example: Example) -> None:
    secret = new_secret()
    example.start(secret)
    good = body_of("good")
    minutes_ago = datetime.now(UTC) - timedelta(minutes=6)
    in_minutes = datetime.now(UTC) + timedelta(minutes=6)
    unsigned = {"content-type": "application/json"}
    refused: dict[str, tuple[bytes, dict[str, str]]] = {
        "tampered": (good.replace(b"good", b"evil"), signed(secret, good)),
        "written anew": (json.dumps(json.loads(good), indent=1).encode(), signed(secret, good)),
        "old": (good, signed(secret, good, at=minutes_ago)),
        "of the future": (good, signed(secret, good, at=in_minutes)),
        "old, with a new timestamp": (
            good,
            signed(secret, good, at=minutes_ago) | {"webhook-timestamp": str(int(time.time()))},
        ),
        "of somebody else": (good, signed(new_secret(), good)),
        "unsigned": (good, unsigned),
        "no signature": (good, signed(secret, good) | {"webhook-signature": "v1"}),
        "no base64": (good, signed(secret, good) | {"webhook-signature": "v1,a"}),
        "no timestamp": (good, signed(secret, good) | {"webhook-timestamp": "now"}),
        "no UTF-8": (b"\xff", signed(secret, good) | {"content-type": "application/json"}),
    }
    answers = {what: example.post(*sent) for what, sent in refused.items()}
    if example.name == "function-url":  # AWS itself would not pass this one on as text
        assert answers.pop("no UTF-8") == HTTPStatus.BAD_GATEWAY
    assert set(answers.values()) == {HTTPStatus.UNAUTHORIZED}, answers
    assert example.kept() == []
    assert example.post(good, signed(secret, good)) == HTTPStatus.NO_CONTENT
    assert example.kept() == ["good"]


def test_either_of_two_secrets_will_do(example: Example) -> None:
    """As requests are signed while a change of the secret gets about, or by two webhooks."""
    secrets = {"new": new_secret(), "old": new_secret()}
    example.start(*secrets.values())
    for name, secret in secrets.items():
        assert example.post(body_of(name), signed(secret, body_of(name))) == HTTPStatus.NO_CONTENT
    assert example.post(body_of("none"), signed(new_secret(), body_of("none"))) == HTTPStatus.UNAUTHORIZED
    assert sorted(example.kept()) == ["new", "old"]


def test_the_largest_request_is_taken_whole(example: Example) -> None:
    """100 events, 256 KiB to the byte, most of it beyond ASCII."""
    secret = new_secret()
    example.start(secret)
    ids = [f"event-{number}" for number in range(100)]
    limit = 256 * 1024
    padding = "é" * ((limit - len(body_of(*ids))) // 200)
    body = body_of(*ids, padding=padding)
    body += b" " * (limit - len(body))
    assert example.post(body, signed(secret, body)) == HTTPStatus.NO_CONTENT
    assert sorted(example.kept()) == sorted(ids)


def test_a_secret_is_replaced_and_nothing_is_refused(account: Account, example: Example) -> None:
    """While events come the receiver has the old secret, then both: each is taken at the first try. Once both
    sign, either will do."""
    webhook, old = register(account, example)
    example.start(old)
    ids = [account.emit()["eventId"]]
    delivered(account, webhook, 1)
    rotated = account.call("POST", f"{webhook}/signature")
    assert rotated.status == HTTPStatus.OK
    new = rotated.body["secret"]
    ids.append(account.emit()["eventId"])
    delivered(account, webhook, 2)
    example.start(new, old)
    ids.append(account.emit()["eventId"])
    ended = delivered(account, webhook, 3)
    assert {each["attemptCount"] for each in ended} == {1}
    assert sorted(example.kept()) == sorted(ids)
    for secrets in ((old,), (new, old), (new,)):
        example.start(*secrets)
        tried = account.call("POST", f"{webhook}/test").body
        assert (tried["delivered"], tried["statusCode"]) == (True, 204)
    samples = set(example.kept()) - set(ids)
    assert len(samples) == 3
    assert all(event_id.startswith("test-") for event_id in samples)


def test_a_wrong_secret_holds_events_and_loses_none(account: Account, example: Example) -> None:
    webhook, secret = register(account, example)
    example.start(new_secret())
    ids = [account.emit()["eventId"] for _ in range(3)]
    until(
        lambda: account.call("GET", webhook).body["health"].get("lastError") == "HTTP 401", "the 401 to show"
    )
    assert example.kept() == []
    example.start(secret)
    delivered(account, webhook, 3)
    assert sorted(example.kept()) == sorted(ids)


def test_a_body_in_base64_is_taken_too(system: System, tmp_path: Path) -> None:
    """A function URL passes on as base64 what it does not take for text."""
    function_url = _with_table(system, tmp_path)
    secret = new_secret()
    body = body_of("good", padding="é")
    try:
        function_url.start(secret)
        headers = signed(secret, body, content_type="application/octet-stream")
        assert function_url.post(body, headers) == HTTPStatus.NO_CONTENT
    finally:
        function_url.stop()
    assert function_url.kept() == ["good"]
