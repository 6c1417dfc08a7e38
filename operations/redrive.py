"""Send dead letters, or quarantined events, back to where the dispatcher takes them.

    python -m operations.redrive RealtimeDeadLetterQueue --stack lms-webhooks --dry-run

Each message is sent before it is deleted. An interruption loses nothing and leaves duplicates, which
receivers recognize. What came after the start stays: it may be what was sent, failed again.

Dead letters go to the queue they came from. A quarantined event may be acceptable now, because the catalogue
grew or the source was corrected. It goes to the queue that the bus would have put it on, not on the bus. So
its text stays as it came, and neither an archive of the bus nor another rule there gets it twice.

SQS's own mover (StartMessageMoveTask) does not do this. It is for dead letters of queues, and ours hold those
of EventBridge rules too. It shows no reason, keeps no limit, and neither the emulator nor moto has it.

RedriveError (an Exception: its text is for the person who called)
"""

import argparse
import json
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from lms_webhooks.model.event_types import Category, EventTypes, with_extra_types
from lms_webhooks.model.events import MalformedEvent, read_event
from local.deploy import client as local_client
from operations.stacks import find_stack
from tools.progress import STATE_DIR

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef

AWS_ERRORS = (BotoCoreError, ClientError)
HELD_SECONDS = 600  # out of anybody's sight while this works; what stays is shown again at the end
MAX_BATCH_BYTES = 256 * 1024  # SendMessageBatch takes 1 MiB by now, and this much everywhere
PROGRESS_SECONDS = 5


class RedriveError(Exception):
    """What was asked for cannot be done."""


@dataclass(frozen=True)
class Message:
    """One message of the queue that is emptied."""

    message_id: str
    receipt_handle: str
    body: str
    sent_at_ms: int
    received: int
    group_id: str
    error: str
    """What the bus said when it could not put the event on its queue."""


@dataclass(frozen=True)
class Destination:
    """Where a message goes, and as what; without `queue_url` it stays. `reason` says why it was here."""

    reason: str
    queue_url: str = ""
    body: str = ""


@dataclass
class Tally:
    """What became of the messages."""

    sent: Counter[str] = field(default_factory=Counter)
    """By the URL of the queue."""
    stayed: int = 0
    newer: int = 0
    failed: int = 0
    undeleted: int = 0

    @property
    def seen(self) -> int:
        """All of them."""
        return self.sent.total() + self.stayed + self.newer + self.failed


type Route = Callable[[Message], Destination]
type Show = Callable[[Message, Destination], None]


class Redrive:
    """Empties one queue. `tally` counts while it runs, so that who interrupts it knows how far it came."""

    def __init__(
        self,
        sqs: "SQSClient",
        queue_url: str,
        route: Route,
        *,
        show: Show,
        rate: float,
        limit: int | None = None,
        wait_seconds: int = 1,  # SQS then asks all of its servers; else one that has none may answer
        clock: Callable[[], float] = time.time,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.tally = Tally()
        self._sqs = sqs
        self._queue_url = queue_url
        self._route = route
        self._show = show
        self._rate = rate
        self._limit = limit
        self._wait_seconds = wait_seconds
        self._clock = clock
        self._pause = pause
        self._held: dict[str, str] = {}
        self._started_at_ms = int(clock() * 1000)

    def look(self) -> None:
        """Show each message with its destination, and leave all of them."""
        self._see_to(self._keep_all)

    def send(self) -> None:
        """Send each message that has a destination, at most `rate` a second, then delete it."""
        self._see_to(self._send_batch)

    def _see_to(self, handle: Callable[[list[tuple[Message, Destination]]], None]) -> None:
        try:
            while messages := self._receive():
                old = [each for each in messages if each.sent_at_ms <= self._started_at_ms]
                self.tally.newer += len(messages) - len(old)
                handle([(message, self._route(message)) for message in old])
        finally:
            self._let_go()

    def _receive(self) -> list[Message]:
        left = 10 if self._limit is None else min(10, self._limit - self.tally.seen)
        if left <= 0:
            return []
        received = self._sqs.receive_message(
            QueueUrl=self._queue_url,
            MaxNumberOfMessages=left,
            VisibilityTimeout=HELD_SECONDS,
            WaitTimeSeconds=self._wait_seconds,
            AttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        messages = [_read(each) for each in received.get("Messages", [])]
        new = [each for each in messages if each.message_id not in self._held]
        self._held |= {each.message_id: each.receipt_handle for each in messages}
        return new  # none where this took so long that what stays came round again

    def _keep_all(self, batch: list[tuple[Message, Destination]]) -> None:
        for message, destination in batch:
            self._show(message, destination)
        self.tally.stayed += len(batch)

    def _send_batch(self, batch: list[tuple[Message, Destination]]) -> None:
        self._keep_all(
            [(message, destination) for message, destination in batch if not destination.queue_url]
        )
        for queue_url in {destination.queue_url for _, destination in batch if destination.queue_url}:
            going = [
                (message, destination.body)
                for message, destination in batch
                if destination.queue_url == queue_url
            ]
            for chunk in _chunks(going):
                started = self._clock()
                self._move(queue_url, chunk)
                self._pause(max(0.0, len(chunk) / self._rate - (self._clock() - started)))

    def _move(self, queue_url: str, chunk: Sequence[tuple[Message, str]]) -> None:
        entries: list[SendMessageBatchRequestEntryTypeDef] = []
        for index, (message, body) in enumerate(chunk):
            entries.append({"Id": str(index), "MessageBody": body})
            if message.group_id:
                entries[-1]["MessageGroupId"] = message.group_id
        taken = self._sqs.send_message_batch(QueueUrl=queue_url, Entries=entries)
        self.tally.failed += len(taken.get("Failed", []))
        sent = [chunk[int(each["Id"])][0] for each in taken.get("Successful", [])]
        self.tally.sent[queue_url] += len(sent)
        if sent:
            deleted = self._sqs.delete_message_batch(
                QueueUrl=self._queue_url,
                Entries=[
                    {"Id": str(index), "ReceiptHandle": message.receipt_handle}
                    for index, message in enumerate(sent)
                ],
            )
            self.tally.undeleted += len(deleted.get("Failed", []))
            for message in sent:
                del self._held[message.message_id]

    def _let_go(self) -> None:
        handles = list(self._held.values())
        for start in range(0, len(handles), 10):
            with suppress(*AWS_ERRORS):  # they show again by themselves, a little later
                self._sqs.change_message_visibility_batch(
                    QueueUrl=self._queue_url,
                    Entries=[
                        {"Id": str(index), "ReceiptHandle": handle, "VisibilityTimeout": 0}
                        for index, handle in enumerate(handles[start : start + 10])
                    ],
                )


def _read(message: Any) -> Message:
    attributes = message["Attributes"]
    attached = {
        name: each.get("StringValue", "") for name, each in message.get("MessageAttributes", {}).items()
    }
    return Message(
        message["MessageId"],
        message["ReceiptHandle"],
        message["Body"],
        int(attributes["SentTimestamp"]),
        int(attributes.get("ApproximateReceiveCount", 1)),
        attributes.get("MessageGroupId", ""),
        " ".join(attached[name] for name in ("ERROR_CODE", "ERROR_MESSAGE") if attached.get(name)),
    )


def _chunks(going: Sequence[tuple[Message, str]]) -> Iterator[list[tuple[Message, str]]]:
    """As many together as one call takes."""
    chunk: list[tuple[Message, str]] = []
    size = 0
    for each in going:
        own = len(each[1].encode())
        if chunk and size + own > MAX_BATCH_BYTES:
            yield chunk
            chunk, size = [], 0
        chunk.append(each)
        size += own
    if chunk:
        yield chunk


# The destinations


def back_to(queue_url: str) -> Route:
    """Dead letters go to the queue they came from, as they are."""

    def route(message: Message) -> Destination:
        return Destination(message.error or "could not be seen to", queue_url, message.body)

    return route


def out_of_quarantine(*, realtime_url: str, batch_url: str, source: str, event_types: EventTypes) -> Route:
    """What the dispatcher would take now goes to it; the rest stays, with the rule that it breaks."""

    def route(message: Message) -> Destination:
        kept, text = quarantined_event(message.body)
        if not text:
            return Destination(kept)
        try:
            event = read_event(
                text, source=source, accepted_at_ms=message.sent_at_ms, event_types=event_types
            )
        except MalformedEvent as malformed:
            return Destination(malformed.reason)
        is_for_slot = event_types[event.event_name].category is Category.NON_REAL_TIME
        return Destination(kept, batch_url if is_for_slot else realtime_url, text)

    return route


_BEFORE_REASON = re.compile(r'\s*\{\s*"reason"\s*:\s*')
_BEFORE_EVENT = re.compile(r'\s*,\s*"event"\s*:\s*')
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)


def quarantined_event(body: str) -> tuple[str, str]:
    """The reason that a message of the quarantine queue names, and the event's own text, cut out as it is.

    The text is empty where there is no event: what came was no JSON, or somebody else wrote the message.
    """
    try:
        before = _BEFORE_REASON.match(body)
        if before is None:
            raise ValueError("no reason")
        reason, end = _DECODER.raw_decode(body, before.end())
        between = _BEFORE_EVENT.match(body, end)
        if between is None:
            return str(reason), ""
        _, end = _DECODER.raw_decode(body, between.end())
        return str(reason), body[between.end() : end]
    except (ValueError, RecursionError):
        return "the message is not of the form that quarantine has", ""


def describe(message: Message, destination: Destination, *, names: dict[str, str], payload: bool) -> str:
    """One line about a message, without what it carries unless `payload`."""
    sent = datetime.fromtimestamp(message.sent_at_ms / 1000, UTC).isoformat(timespec="seconds")
    goes = (
        f"to {names.get(destination.queue_url, destination.queue_url)}" if destination.queue_url else "stays"
    )
    line = f"{sent}  {message.message_id}  {goes}  received {message.received} times  {destination.reason}"
    return f"{line}\n  {message.body}" if payload else line


# The stack


class Deployed:
    """The queues of a stack, on AWS or on this machine."""

    def __init__(self, make_client: Callable[[str], Any], stack_name: str) -> None:
        self.sqs: SQSClient = make_client("sqs")
        cloudformation = make_client("cloudformation")
        pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack_name)
        self.urls: dict[str, str] = {
            each["LogicalResourceId"]: each["PhysicalResourceId"]
            for page in pages
            for each in page["StackResourceSummaries"]
            if each["ResourceType"] == "AWS::SQS::Queue"
        }
        (stack,) = cloudformation.describe_stacks(StackName=stack_name)["Stacks"]
        self.outputs = {each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", [])}
        parameters = {each["ParameterKey"]: each["ParameterValue"] for each in stack.get("Parameters", [])}
        self.event_types = with_extra_types(parameters.get("ExtraEventTypes", ""))

    def find(self, queue: str) -> str:
        """The logical name of a queue that is given by name or URL."""
        for name, url in self.urls.items():
            if queue == url or queue.lower() == name.lower():
                return name
        raise RedriveError(f"there is no queue {queue!r} in this stack; there are {', '.join(self.urls)}")

    def route(self, name: str) -> Route:
        """The way back from a queue."""
        if name == "QuarantineQueue":
            return out_of_quarantine(
                realtime_url=self.urls["RealtimeQueue"],
                batch_url=self.urls["BatchQueue"],
                source=self.outputs["EventSource"],
                event_types=self.event_types,
            )
        arn = self._attribute(name, "QueueArn")
        for other in self.urls:
            policy = json.loads(self._attribute(other, "RedrivePolicy") or "{}")
            if policy.get("deadLetterTargetArn") == arn:
                return back_to(self.urls[other])
        raise RedriveError(
            f"no queue has {name} for its dead letters, so there is no way back from it; "
            "docs/recovery.md says what to do"
        )

    def waiting(self, name: str) -> int:
        """About how many messages wait there."""
        return int(self._attribute(name, "ApproximateNumberOfMessages"))

    def _attribute(self, name: str, attribute: Any) -> str:
        answer = self.sqs.get_queue_attributes(QueueUrl=self.urls[name], AttributeNames=[attribute])
        return str(answer.get("Attributes", {}).get(attribute, ""))


# The command


def main() -> int:
    """Do what the command line says; return the exit code."""
    arguments = _parse()
    for sign in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, _interrupt)
    try:
        return _run(arguments)
    except (RedriveError, *AWS_ERRORS) as error:
        print(f"Failed: {error}", file=sys.stderr)
        return 1


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m operations.redrive")
    parser.add_argument("queue", help="logical name, such as RealtimeDeadLetterQueue, or URL")
    parser.add_argument("--stack", help="a stack of the AWS account that you are signed in to")
    parser.add_argument(
        "--stack-json", type=Path, default=STATE_DIR / "stack.json", help="else the one on this machine"
    )
    parser.add_argument("--dry-run", action="store_true", help="show what is there, and leave it")
    parser.add_argument("--payload", action="store_true", help="show what messages carry, too")
    parser.add_argument("--rate", type=float, default=50.0, help="messages a second, at most")
    parser.add_argument("--limit", type=int, help="messages, at most")
    arguments = parser.parse_args()
    if arguments.rate <= 0:
        parser.error("--rate must be more than 0")
    return arguments


def _deployed(arguments: argparse.Namespace) -> Deployed:
    if arguments.stack:
        stack = find_stack(arguments.stack)
        return Deployed(stack.client, stack.name)
    if not arguments.stack_json.exists():
        raise RedriveError(
            f"{arguments.stack_json} is not there: `make up` makes it, or STACK=... names one on AWS"
        )
    local = json.loads(arguments.stack_json.read_text())
    return Deployed(lambda service: local_client(local["endpointUrl"], service), local["stackName"])


def _run(arguments: argparse.Namespace) -> int:
    deployed = _deployed(arguments)
    name = deployed.find(arguments.queue)
    route = deployed.route(name)
    names = {url: each for each, url in deployed.urls.items()}
    waiting = deployed.waiting(name)
    next_report = time.monotonic() + PROGRESS_SECONDS

    def pause(seconds: float) -> None:
        nonlocal next_report
        time.sleep(seconds)
        if time.monotonic() > next_report:
            next_report = time.monotonic() + PROGRESS_SECONDS
            print(f"  {redrive.tally.sent.total()} sent, of about {waiting}", flush=True)

    redrive = Redrive(
        deployed.sqs,
        deployed.urls[name],
        route,
        show=lambda message, destination: print(
            describe(message, destination, names=names, payload=arguments.payload)
        ),
        rate=arguments.rate,
        limit=arguments.limit,
        pause=pause,
    )
    print(f"{name}: about {waiting} message{'' if waiting == 1 else 's'}", flush=True)
    try:
        if arguments.dry_run:
            redrive.look()
        else:
            redrive.send()
        code = 1 if redrive.tally.failed else 0
    except KeyboardInterrupt:
        print("Interrupted. Nothing is lost, a few may come twice, and up to ten show again in ten minutes.")
        code = 130
    finally:
        print(summary(redrive.tally, names), flush=True)
    return code


def summary(tally: Tally, names: dict[str, str]) -> str:
    """What became of the messages, in one line."""
    told = [f"{count} sent to {names.get(url, url)}" for url, count in sorted(tally.sent.items())]
    told.append(f"{tally.stayed} left as they are")
    if tally.newer:
        told.append(f"{tally.newer} came meanwhile and were left")
    if tally.failed:
        told.append(f"{tally.failed} not taken by SQS and left")
    if tally.undeleted:
        told.append(f"{tally.undeleted} sent but not deleted, which will come again")
    return ", ".join(told)


if __name__ == "__main__":
    sys.exit(main())
