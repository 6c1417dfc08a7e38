"""The receivers that docs/receivers.md shows: they take what the deployed system sends, keep each event once,
and refuse whatever else. Each runs as its reader would run it, with an inbox that outlives the process.

`-k "not function"` needs no stack where a test sends by itself."""

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
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks

from lms_webhooks.sending.signing import new_secret
from local.emulator_process import free_port
from tests.e2e.system import Account, System, until
from tests.patience import PATIENCE_SECONDS
from tools.bootstrap import node_wheel
from tools.progress import REPOSITORY, STATE_DIR

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
    inbox: Callable[[], list[tuple[str, str, str]]]
    """Account, name and id of each event in its inbox."""
    command: tuple[str, ...] = ()
    """What starts it, where that is not as usual."""
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks"

    @property
    def log(self) -> str:
        """What it printed so far."""
        return (self.folder / "output.log").read_text()

    def kept(self) -> list[str]:
        """The ids of the events in its inbox."""
        return [event_id for _, _, event_id in self.inbox()]

    def start(self, *secrets: str) -> None:
        """Start it, or start it again, with these `account=secret`; return when it listens."""
        self._launch(" ".join(secrets))
        until(self._is_listening, f"{self.name} to listen: {self.folder}/output.log")

    def refusal(self, secrets: str) -> str:
        """Start it with what it must not take, and give what it printed when it ended."""
        process = self._launch(secrets)
        assert process.wait(PATIENCE_SECONDS) != 0
        self._process = None
        return self.log

    def _launch(self, secrets: str) -> subprocess.Popen[bytes]:
        self.stop()
        variables = {"WEBHOOK_SECRETS": secrets} | dict.fromkeys(PORT_VARIABLES, str(self.port))
        with (self.folder / "output.log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command or COMMANDS[self.name],
                cwd=self.folder,
                env=os.environ | self.environment | variables,
                stdout=log,
                stderr=log,
            )
        return self._process

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE_SECONDS)
            self._process = None

    def post(self, body: bytes, headers: dict[str, str]) -> int:
        """Send it a request that is not the system's; return the status code."""
        return self.exchange(body, headers)[0]

    def exchange(self, body: bytes, headers: dict[str, str]) -> tuple[int, str]:
        """Send it a request that is not the system's; return status code and body."""
        request = urllib.request.Request(self.url, data=body, headers=headers)  # noqa: S310  # loopback
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as response:  # noqa: S310
                return int(response.status), response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def _is_listening(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture(params=COMMANDS)
def example(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Example]:
    """Each of them in turn, not yet started."""
    made = _example(str(request.param), request, tmp_path)
    try:
        yield made
    finally:
        made.stop()


def _example(name: str, request: pytest.FixtureRequest, folder: Path) -> Example:
    if name == "function-url":  # its table is the emulator's
        return _with_table(request.getfixturevalue("system"), folder)
    if name == "express":
        return _with_files(folder)
    return _with_database(name, folder)


def _with_database(name: str, folder: Path) -> Example:
    shutil.copy(EXAMPLES / f"{name}_app.py", folder)
    database = folder / "inbox.sqlite3"

    def inbox() -> list[tuple[str, str, str]]:
        with closing(sqlite3.connect(database)) as db:
            return db.execute("SELECT account_id, event_name, event_id FROM inbox").fetchall()

    return Example(name, folder, {"DATABASE": str(database)}, inbox)


def _with_files(folder: Path) -> Example:
    for name in ("express_app.js", "package.json"):
        shutil.copy(EXAMPLES / name, folder)
    (folder / "node_modules").symlink_to(STATE_DIR / "node" / "node_modules")
    files = folder / "inbox"

    def inbox() -> list[tuple[str, str, str]]:
        kept = [json.loads(file.read_text()) for file in files.iterdir()]
        return [(each["accountId"], each["eventName"], each["eventId"]) for each in kept]

    return Example("express", folder, {"INBOX": str(files)}, inbox)


def _with_table(system: System, folder: Path) -> Example:
    dynamodb = system.client("dynamodb")
    table = f"inbox-{uuid.uuid4()}"
    dynamodb.create_table(
        TableName=table,
        KeySchema=[{"AttributeName": "key", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "key", "AttributeType": "S"}],
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

    def inbox() -> list[tuple[str, str, str]]:
        found = dynamodb.scan(TableName=table, ConsistentRead=True)["Items"]
        keys = [item["key"]["S"].split(" ", 2) for item in found]
        return [(account_id, event_name, event_id) for account_id, event_name, event_id in keys]

    return Example("function-url", folder, environment, inbox)


def register(account: Account, example: Example, **changes: Any) -> tuple[str, str]:
    """A webhook that signs what it sends to `example`: its path in the API, and its `account=secret`."""
    created = account.create(example.url, authentication={"type": "signature"}, **changes)
    return (
        f"/v1/webhooks/{created['webhookId']}",
        f"{account.account_id}={created['authentication']['secret']}",
    )


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


def new_entry(account_id: str = "1010") -> str:
    """A secret of this account, as receivers are given it."""
    return f"{account_id}={new_secret()}"


def signed(
    entry: str,
    body: bytes,
    *,
    at: datetime | None = None,
    message_id: str = "id",
    content_type: str = "application/json",
) -> dict[str, str]:
    """The headers of a request that was signed by this `account=secret` at this time, or now."""
    at = at or datetime.now(UTC)
    _, _, secret = entry.partition("=")
    return {
        "content-type": content_type,
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": standardwebhooks.Webhook(secret).sign(message_id, at, body.decode()),
    }


def _has(example: Example, line: str) -> bool:
    return line in example.log


def body_of(
    *event_ids: str, account_id: int | str = 1010, event_name: str = "CI_STATS", padding: str = ""
) -> bytes:
    events = [
        {"eventId": event_id, "eventName": event_name, "data": {"text": padding}} for event_id in event_ids
    ]
    return json.dumps({"accountId": account_id, "events": events}, ensure_ascii=False).encode()


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


def test_no_account_can_forge_or_suppress_the_events_of_another(example: Example) -> None:
    """A knows its own secret and the id of an event of B. Its request for B is refused, and one of its own
    with the same id does not keep B's event out."""
    ours, theirs = new_entry("1010"), new_entry("attacker@example.com")
    example.start(ours, theirs)
    forged = body_of("known", account_id=1010)
    assert example.exchange(forged, signed(theirs, forged)) == (
        401,
        "Signed by the secret of another account",
    )
    assert example.inbox() == []
    own = body_of("known", account_id="attacker@example.com")
    assert example.post(own, signed(theirs, own)) == HTTPStatus.NO_CONTENT
    assert example.post(forged, signed(ours, forged)) == HTTPStatus.NO_CONTENT
    assert sorted(example.inbox()) == [
        ("1010", "CI_STATS", "known"),
        ("attacker@example.com", "CI_STATS", "known"),
    ]


def test_two_events_that_share_an_id_are_both_kept(example: Example) -> None:
    """The platform may use an id again for another type, and two platforms for anything."""
    entries = [new_entry(account_id) for account_id in ("1010", "12345678901234567891")]
    example.start(*entries)
    for entry in entries:
        for name in ("CI_STATS", "COURSE_ENROLLMENT"):
            body = body_of("same", account_id=int(entry.partition("=")[0]), event_name=name)
            assert example.post(body, signed(entry, body)) == HTTPStatus.NO_CONTENT
    assert sorted(example.inbox()) == [
        ("1010", "CI_STATS", "same"),
        ("1010", "COURSE_ENROLLMENT", "same"),
        ("12345678901234567891", "CI_STATS", "same"),
        ("12345678901234567891", "COURSE_ENROLLMENT", "same"),
    ]


def test_a_test_is_known_by_its_signed_webhook_id_alone(example: Example) -> None:
    """Ids of events are the platform's own, whatever they begin with."""
    entry = new_entry()
    example.start(entry)
    sample, real = body_of("sample"), body_of("test-1", "test_2")
    headers = signed(entry, sample, message_id="test_0123")
    assert example.post(sample, headers) == HTTPStatus.NO_CONTENT
    assert example.kept() == []
    assert example.post(real, signed(entry, real)) == HTTPStatus.NO_CONTENT
    assert sorted(example.kept()) == ["test-1", "test_2"]
    marked = signed(entry, sample) | {"webhook-id": "test_0123"}
    assert example.post(sample, marked) == HTTPStatus.UNAUTHORIZED


def test_what_nobody_signed_just_now_is_refused_with_the_reason(example: Example) -> None:
    entry = new_entry()
    example.start(entry)
    good = body_of("good")
    minutes_ago = datetime.now(UTC) - timedelta(minutes=6)
    in_minutes = datetime.now(UTC) + timedelta(minutes=6)
    by_us = signed(entry, good)
    foreign, missing, invalid = (
        "No matching signature found",
        "Missing required headers",
        "Invalid Signature Headers",
    )
    refused: dict[str, tuple[bytes, dict[str, str], set[str]]] = {
        "tampered": (good.replace(b"good", b"evil"), by_us, {foreign}),
        "written anew": (json.dumps(json.loads(good), indent=1).encode(), by_us, {foreign}),
        "old": (good, signed(entry, good, at=minutes_ago), {"Message timestamp too old"}),
        "of the future": (good, signed(entry, good, at=in_minutes), {"Message timestamp too new"}),
        "old, with a new timestamp": (
            good,
            signed(entry, good, at=minutes_ago) | {"webhook-timestamp": str(int(time.time()))},
            {foreign},
        ),
        "of somebody else": (good, signed(new_entry(), good), {foreign}),
        "unsigned": (good, {"content-type": "application/json"}, {missing}),
        "no signature": (good, by_us | {"webhook-signature": "v1"}, {foreign, invalid}),
        "no base64": (good, by_us | {"webhook-signature": "v1,a"}, {foreign, invalid}),
        "no timestamp": (good, by_us | {"webhook-timestamp": "now"}, {invalid}),
        "no UTF-8": (b"\xff", by_us, {foreign, invalid}),
    }
    if example.name == "function-url":  # AWS itself would not pass this one on as text
        body, headers, _ = refused.pop("no UTF-8")
        assert example.post(body, headers) == HTTPStatus.BAD_GATEWAY
    for what, (body, headers, reasons) in refused.items():
        status, reason = example.exchange(body, headers)
        assert (status, reason in reasons) == (HTTPStatus.UNAUTHORIZED, True), (what, reason)
        until(partial(_has, example, f"refused with 401: {reason}"), f"{reason} in the log")
    assert example.kept() == []
    assert example.post(good, signed(entry, good)) == HTTPStatus.NO_CONTENT
    assert example.kept() == ["good"]


def test_what_is_signed_and_cannot_be_read_is_422(example: Example) -> None:
    """422 asks for this one event later, by itself; 401 or 500 would hold up every other."""
    entry = new_entry()
    example.start(entry)
    event = '{"accountId":1010,"events":[{"eventId":"1","eventName":"CI_STATS","data":%s}]}'
    unreadable = {
        "cut": '{"accountId":1010,"events":[',
        "empty": "",
        "no object": "[]",
        "no events": '{"accountId":1010}',
        "text for events": '{"accountId":1010,"events":["a"]}',
        "an event without an id": '{"accountId":1010,"events":[{"eventName":"CI_STATS"}]}',
        "deep": event % ("[" * 100_000 + "]" * 100_000),
    }
    for what, text in unreadable.items():
        body = text.encode()
        status, reason = example.exchange(body, signed(entry, body))
        assert status == HTTPStatus.UNPROCESSABLE_ENTITY, (what, status, reason)
        assert reason.startswith("signed, but not readable: "), (what, reason)
    assert example.kept() == []
    digits = (event % ("9" * 4301)).encode()  # JavaScript takes them for infinite, Python for too many
    is_express = example.name == "express"
    assert example.post(digits, signed(entry, digits)) == (204 if is_express else 422)
    good = body_of("good")
    assert example.post(good, signed(entry, good)) == HTTPStatus.NO_CONTENT


def test_what_is_no_secret_is_refused_at_start(example: Example) -> None:
    """Most of these the library would take for a secret, and every request would be a 401 for no reason."""
    secret = "whsec_" + "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="  # the documents'
    wrong = {
        "": 1,
        " ": 1,
        secret: 1,
        f"1010=v1,{secret}": 1,
        f'1010="{secret}"': 1,
        f"1010={secret} 1010=": 2,
        f"1010={secret} 2020=whsec_": 2,
        f"1010={secret} 2020={secret[:-3]}": 2,
        f"1010={secret.replace('M', '_')}": 1,
        f"1010={secret.removeprefix('whsec_')}": 1,
    }
    for text, number in wrong.items():
        said = example.refusal(text)
        assert f"WEBHOOK_SECRETS: entry {number} is not <account>=<secret>" in said.splitlines()[-1], (
            text,
            said,
        )
        assert secret[6:40] not in said


def test_a_receiver_starts_and_serves_without_a_warning(example: Example) -> None:
    entry = new_entry()
    example.start(entry)
    body = body_of("good")
    assert example.post(body, signed(entry, body)) == HTTPStatus.NO_CONTENT
    said = example.log.lower().replace("this is a development server", "")
    assert "experimental" not in said
    assert "deprecat" not in said
    assert example.name != "express" or said == ""


def test_express_keeps_events_on_node_20(tmp_path: Path) -> None:
    """`writeFile` flushes since 20.10 and would ignore the option before (Node.js, fsPromises.writeFile)."""
    example = _with_files(tmp_path)
    node = node_wheel(STATE_DIR / "dynamodb") / "bin" / "node"
    assert subprocess.check_output([node, "--version"], text=True).startswith("v20.")
    example.command = (str(node), "express_app.js")
    try:
        assert "WEBHOOK_SECRETS: entry 1 is not" in example.refusal("1010=none")
        (example.folder / "output.log").unlink()
        entry, body = new_entry(), body_of("one", "two")
        example.start(entry)
        for _ in range(2):
            assert example.post(body, signed(entry, body)) == HTTPStatus.NO_CONTENT
        assert sorted(example.kept()) == ["one", "two"]
        assert example.log == ""
    finally:
        example.stop()


def test_either_of_two_secrets_will_do(example: Example) -> None:
    """As requests are signed while a change of the secret gets about, or by two webhooks."""
    secrets = {"new": new_entry(), "old": new_entry()}
    example.start(*secrets.values())
    for name, secret in secrets.items():
        assert example.post(body_of(name), signed(secret, body_of(name))) == HTTPStatus.NO_CONTENT
    assert example.post(body_of("none"), signed(new_entry(), body_of("none"))) == HTTPStatus.UNAUTHORIZED
    assert sorted(example.kept()) == ["new", "old"]


def test_the_largest_request_is_taken_whole(example: Example) -> None:
    """100 events, 256 KiB to the byte, most of it beyond ASCII."""
    secret = new_entry()
    example.start(secret)
    ids = [f"event-{number}" for number in range(100)]
    limit = 256 * 1024
    padding = "é" * ((limit - len(body_of(*ids))) // 200)
    body = body_of(*ids, padding=padding)
    body += b" " * (limit - len(body))
    assert example.post(body, signed(secret, body)) == HTTPStatus.NO_CONTENT
    assert sorted(example.kept()) == sorted(ids)


def test_a_body_that_strangers_send_fills_no_memory(example: Example) -> None:
    """None of ours is larger than 256 KiB. Before a function URL AWS has a limit of its own."""
    example.start(new_entry())
    expected = HTTPStatus.UNAUTHORIZED if example.name == "function-url" else 413
    status, said = example.exchange(b" " * (256 * 1024 + 1), {"content-type": "application/json"})
    assert status == expected
    assert str(example.folder) not in said  # nor do they see a stack trace
    assert "node_modules" not in said


def test_a_secret_is_replaced_and_nothing_is_refused(account: Account, example: Example) -> None:
    """While events come the receiver has the old secret, then both: each is taken at the first try. Once both
    sign, either will do."""
    webhook, old = register(account, example)
    example.start(old)
    ids = [account.emit()["eventId"]]
    delivered(account, webhook, 1)
    rotated = account.call("POST", f"{webhook}/signature")
    assert rotated.status == HTTPStatus.OK
    new = f"{account.account_id}={rotated.body['secret']}"
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
    assert sorted(example.kept()) == sorted(ids)  # a test is answered, and not kept


def test_a_wrong_secret_holds_events_and_loses_none(account: Account, example: Example) -> None:
    webhook, secret = register(account, example)
    example.start(new_entry(account.account_id))
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
    secret = new_entry()
    body = body_of("good", padding="é")
    try:
        function_url.start(secret)
        headers = signed(secret, body, content_type="application/octet-stream")
        assert function_url.post(body, headers) == HTTPStatus.NO_CONTENT
    finally:
        function_url.stop()
    assert function_url.kept() == ["good"]
