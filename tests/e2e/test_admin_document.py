"""Make each call of docs/admin-api.md, in its order, and compare the response.

Ids, times and secrets differ from run to run. The first time that the document names an id, it stands for the
id of the response. From then on it must be the same.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.e2e.system import Account, Answer, until
from tests.fakes.receiver import Behaviour, Receiver, Request, answer
from tools.progress import REPOSITORY

DOCUMENT = REPOSITORY / "docs" / "admin-api.md"
_STEP = re.compile(r"^<!-- (?P<note>[^\n]+) -->$|^```http\n(?P<text>.*?)\n?^```$", re.MULTILINE | re.DOTALL)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_MADE = re.compile(
    r"(wh|ns|rp)_[A-Za-z0-9_-]{22}|whsec_[A-Za-z0-9+/]{43}=|[\w-]+@example\.com"
    r"|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    r"|MT[A-Za-z0-9_-]{18,}|Wy[A-Za-z0-9_-]{20,}"  # ids of deliveries, and cursors
)
_MEASURED = {"latencyMs", "p50", "p95", "max", "timestamp", "everyMinutes"}
"""Numbers that differ from run to run, or from AWS: the local stack has a slot each minute."""


@dataclass
class Step:
    """One call of the document, or something that happens between two."""

    note: str = ""
    request: str = ""
    answer_note: str = ""
    answer: str = ""


@dataclass
class Reader:
    """Follows the document. `known` says what each of its values stands for."""

    account: Account
    known: dict[str, str] = field(default_factory=dict)

    def real(self, text: str) -> str:
        """A text of the document, as it is in this run."""
        for documented, real in self.known.items():
            text = text.replace(documented, real)
        return text

    def call(self, request: str) -> Answer:
        head, _, body = self.real(request).partition("\n\n")
        line, *headers = head.splitlines()
        method, path = line.split(" ")
        return self.account.system.call(
            method,
            path,
            token=self.account.token,
            text=body or None,
            headers=dict(header.split(": ", 1) for header in headers),
        )

    def know_tag(self, documented: str, real: str) -> None:
        """A webhook's tag ends with a hash of its id."""
        tags = [re.fullmatch(r'"\d+-([0-9a-f]{8})"', tag) for tag in (documented, real)]
        assert tags[0] is not None
        assert tags[1] is not None
        self.known.setdefault(tags[0][1], tags[1][1])

    def check(self, documented: Any, real: Any, note: str, at: str = "") -> None:
        """Compare the response with that of the document."""
        if isinstance(documented, dict):
            partial = note.removeprefix("only: ").split(" ")
            if note.startswith("only: ") and not at and len(partial) == 1:
                real = {partial[0]: real[partial[0]]}
            if note.startswith("without: ") and not at:
                left_out = note.removeprefix("without: ").split(" ")
                real = {name: value for name, value in real.items() if name not in left_out}
            assert documented.keys() == real.keys(), at
            for name, value in documented.items():
                if name in _MEASURED and isinstance(value, int):
                    assert isinstance(real[name], int), at
                    continue
                shown = real[name]
                if partial == [name, "1"] and not at:
                    shown = shown[:1]
                self.check(value, shown, note, f"{at}/{name}")
        elif isinstance(documented, list):
            assert len(documented) == len(real), at
            for number, (one, other) in enumerate(zip(documented, real, strict=True)):
                self.check(one, other, note, f"{at}/{number}")
        elif isinstance(documented, str) and _TIME.fullmatch(documented):
            assert _TIME.fullmatch(real), at
        elif isinstance(documented, str) and _MADE.fullmatch(documented):
            assert _MADE.fullmatch(real), at
            assert self.known.setdefault(documented, real) == real, at
        elif isinstance(documented, str):
            # Where the page says pending in a sentence, it does so here.
            assert real in (documented, self.real(documented)), at
        else:
            assert documented == real, at


def steps() -> list[Step]:
    """What the document has one do, in its order."""
    found: list[Step] = []
    note = ""
    for match in _STEP.finditer(DOCUMENT.read_text()):
        if match["note"]:
            note = match["note"]
            if note.startswith("here: "):
                found.append(Step(note=note))
        elif match["text"][:3].isdigit():
            found[-1].answer_note, found[-1].answer = note, match["text"]
            note = ""
        else:
            found.append(Step(request=match["text"]))
            note = ""
    return found


def deliver_two(account: Account, reader: Reader) -> None:
    webhook_id = reader.known["wh_0000000000000000000001"]
    # A second apart by their own time: their order is that of the document.
    for number in (2, 1):
        account.emit(timestamp=account.event()["timestamp"] - number * 1000)
    account.system.wait_for_history(webhook_id, 2)


def replayed(reader: Reader, request: str) -> Answer:
    """Return the response of the replay's path, once the replay has ended."""

    def ended() -> Answer | None:
        answered = reader.call(request)
        return answered if answered.body["state"] == "done" else None

    given = until(ended, "the replay to end")
    assert given is not None
    return given


def script(request: Request) -> Behaviour:
    return answer(401, body=b"who are you?") if request.path == "/refuses" else answer(204)


def follow(account: Account, receiver: Receiver, compare: Callable[[Reader, Step, Answer], None]) -> None:
    """Make every call of the document, and `compare` each response with it."""
    receiver.script = script
    # The emulator mails nobody, and takes everybody for confirmed.
    reader = Reader(account, {"https://hooks.example.com": receiver.url(""), "pending": "confirmed"})
    for step in steps():
        if step.note:
            assert step.note == "here: two events are delivered"
            deliver_two(account, reader)
            continue
        given = reader.call(step.request)
        if step.answer_note == "until: state done":
            given = replayed(reader, step.request)
        compare(reader, step, given)


def test_every_call_of_the_document_answers_what_stands_there(account: Account, receiver: Receiver) -> None:
    def compare(reader: Reader, step: Step, given: Answer) -> None:
        head, _, body = step.answer.partition("\n\n")
        line, *headers = head.splitlines()
        assert line.startswith(f"{given.status} "), (step.request, given.text)
        if body:
            reader.check(json.loads(body), given.body, step.answer_note)
        else:
            assert given.text == "", step.request
        for header in headers:
            name, value = header.split(": ", 1)
            if name == "ETag":
                reader.know_tag(value, given.headers["etag"])
            assert given.headers[name.lower()] == reader.real(value), step.request

    follow(account, receiver, compare)
    made = {step.request.partition("\n")[0].split(" ")[0] for step in steps() if step.request}
    assert made == {"GET", "POST", "PATCH", "DELETE"}
