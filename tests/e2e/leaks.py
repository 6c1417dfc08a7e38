"""Look for secrets in all that a stack wrote: tables, queues, logs, metrics, notices and responses.

Every secret that a call of the tests hands over or gets is known here, by `System.call`. At the end of the
run none of them may stand anywhere in a form that one could read.
"""

import base64
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from local.emulator_process import log_file
from local.stack import Stack

_SIGNING_SECRET = re.compile(r"whsec_[A-Za-z0-9+/]{43}=")
_MIN_LENGTH = 8  # of a password: shorter ones are words of the tests that stand elsewhere too

type Text = tuple[str, bytes]
"""Where it stands, and what stands there."""


class KnownSecrets:
    """The secrets of a run, in each form in which one could read them; and responses that gave one away."""

    def __init__(self) -> None:
        self._names: dict[bytes, str] = {}
        self._only_in_logs: set[bytes] = set()
        self.given_away: list[str] = []

    def __len__(self) -> int:
        return len(self._names)

    def add(self, secret: str, name: str, *, only_in_logs: bool = False) -> None:
        """Know `secret` from now on. Some, such as a header's value, an admin may read, and no log may."""
        forms = {secret.encode(), json.dumps(secret)[1:-1].encode(), base64.b64encode(secret.encode())}
        if secret.startswith("whsec_"):
            key = secret.removeprefix("whsec_")
            forms |= {key.encode(), base64.b64decode(key), base64.b64decode(key).hex().encode()}
        for form in forms:
            self._names.setdefault(form, name)
            if only_in_logs:
                self._only_in_logs.add(form)

    def note_call(self, sent: str | None, answer: str, *, is_repeated: bool) -> None:
        """Know the secrets of a call, and see that its response gives none away that were known before."""
        if not is_repeated:
            self.given_away += self.found_in([("an answer", answer.encode())])
        for secret in _SIGNING_SECRET.findall(answer):
            self.add(secret, "a signing secret")
        with suppress(ValueError, TypeError, AttributeError, KeyError):
            authentication = json.loads(sent or "")["authentication"]
            username, password = authentication["username"], authentication["password"]
            if len(password) >= _MIN_LENGTH:
                self.add(password, "a password")
                self.add(f"{username}:{password}", "a basic authorization")

    def found_in(self, texts: Iterable[Text], *, logs: bool = False) -> list[str]:
        """Which secrets stand where."""
        forms = self._names.keys() if logs else self._names.keys() - self._only_in_logs
        return [
            f"{self._names[form]} in {place}: {text[max(0, text.find(form) - 80) :][:160]!r}"
            for place, text in texts
            for form in forms
            if form in text
        ]


def everywhere(stack: Stack, secrets: KnownSecrets) -> list[str]:
    """Which secrets stand in what the stack wrote."""
    return [
        *secrets.found_in(in_tables(stack)),
        *secrets.found_in(in_queues(stack)),
        *secrets.found_in(in_metrics(stack), logs=True),
        *secrets.found_in(in_logs(stack), logs=True),
    ]


def in_tables(stack: Stack) -> Iterator[Text]:
    """Every item, with what is compressed also as it was before."""
    for name in stack.description["tables"].values():
        pages = stack.client("dynamodb").get_paginator("scan").paginate(TableName=name, ConsistentRead=True)
        for page in pages:
            for item in page["Items"]:
                yield f"table {name}", b"\n".join(_values(item))


def in_queues(stack: Stack, *urls: str) -> Iterator[Text]:
    """Every message of these queues, or of all. Nobody else gets one for a while."""
    sqs = stack.client("sqs")
    for url in urls or sqs.list_queues().get("QueueUrls", []):
        while messages := sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=600, MessageAttributeNames=["All"]
        ).get("Messages", []):
            for message in messages:
                yield f"queue {url}", json.dumps(message, ensure_ascii=False, default=str).encode()


def in_metrics(stack: Stack) -> Iterator[Text]:
    """The names and dimensions of every metric. Those of EMF stand in the logs."""
    for page in stack.client("cloudwatch").get_paginator("list_metrics").paginate():
        yield "metrics", json.dumps(page, default=str).encode()


def in_logs(stack: Stack) -> Iterator[Text]:
    """What the functions logged, and the emulator."""
    stack.save_logs()
    yield "the functions' logs", stack.log_file.read_bytes()
    yield "the emulator's log", log_file(stack.state_dir).read_bytes()


def _values(value: Any) -> Iterator[bytes]:
    match value:
        case bytes():
            yield value
            with suppress(zlib.error):
                yield zlib.decompress(value)
        case str():
            yield value.encode()
        case Mapping():
            for key, each in value.items():
                yield str(key).encode()
                yield from _values(each)
        case list() | set() | tuple():
            for each in value:
                yield from _values(each)
        case _:
            yield str(value).encode()
