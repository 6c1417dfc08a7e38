"""Put messages on queues: the only module that talks to SQS."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import batched
from typing import TYPE_CHECKING, Any, NoReturn

from lms_webhooks.errors import AWS_ERRORS
from lms_webhooks.model.lanes import ShardPart
from lms_webhooks.observability import logger

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

MAX_MESSAGE_DELAY_SECONDS = 900  # of an SQS message
SEND_LIMIT = 10  # messages of a SendMessageBatch


class QuarantineQueue:
    """Where events go that cannot be delivered, for a person to find."""

    def __init__(self, client: "SQSClient", url: str) -> None:
        self._client = client
        self._url = url

    def keep(self, message: str, *, reason: str) -> None:
        """Keep `message` as it came, with the reason why nothing could be done with it.

        Its form is the one that the bus's own quarantine rule writes: `{"reason": ..., "event": {...}}`,
        or `"message"` with the text where that is no JSON.

        Raises:
            AWS_ERRORS: SQS did not take it.
        """
        try:
            message.encode()  # SQS takes no lone surrogate; below, it is written as an escape
            json.loads(message, parse_int=str, parse_constant=_refuse_constant)
            kept = f'"event":{message}'
        except (ValueError, RecursionError):
            kept = f'"message":{json.dumps(message)}'
        self._client.send_message(QueueUrl=self._url, MessageBody=f'{{"reason":{json.dumps(reason)},{kept}}}')


@dataclass(frozen=True, slots=True)
class DrainMessage:
    """Sends a drainer to one webhook."""

    account_id: str
    webhook_id: str
    ticket: str = ""
    """See `health_store`. Older versions write none. Neither does the process that made a mark or changed a
    webhook."""
    broken_off: int = 0
    """How many turns in a row broke off on an error of our own."""
    message_id: str = ""
    """Of one that was received. It stays the same when the message comes again."""
    is_urgent: bool = False
    """By which queue it goes, see `Lane.is_urgent`."""

    def body(self) -> str:
        """As it stands on the queue."""
        body: dict[str, str | int] = {"accountId": self.account_id, "webhookId": self.webhook_id}
        if self.ticket:
            body["ticket"] = self.ticket
        if self.broken_off:
            body["brokenOff"] = self.broken_off
        if self.is_urgent:
            body["isUrgent"] = True
        return json.dumps(body)


def read_drain_message(record: Mapping[str, Any]) -> DrainMessage:
    """The message of one of SQS's records, see `DrainMessage.body`."""
    body = json.loads(record["body"])
    return DrainMessage(
        body["accountId"],
        body["webhookId"],
        body.get("ticket", ""),
        body.get("brokenOff", 0),
        record["messageId"],
        is_urgent=body.get("isUrgent", False),
    )


class DrainQueue:
    """Where drainers are sent for: a queue for what is urgent, see `Lane.is_urgent`, and one for the rest.

    A message on the wrong one is late at worst, so the rest is what nobody says more about.
    """

    def __init__(self, client: "SQSClient", urgent_url: str, background_url: str) -> None:
        self._client = client
        self._urls = {True: urgent_url, False: background_url}

    def send(self, message: DrainMessage, *, delay_seconds: float) -> None:
        """Send for one drainer, after at most MAX_DELAY_SECONDS.

        Raises:
            AWS_ERRORS: SQS did not take it; the sweep will send again.
        """
        self._client.send_message(
            QueueUrl=self._urls[message.is_urgent],
            MessageBody=message.body(),
            DelaySeconds=min(int(delay_seconds), MAX_MESSAGE_DELAY_SECONDS),
        )

    def schedule_best_effort(self, account_id: str, webhook_id: str, *, is_urgent: bool = False) -> None:
        """Send for one drainer now, for a change that is made already: an error would say that it is not.
        When SQS does not take it, the sweep sends within a minute."""
        try:
            self.send(DrainMessage(account_id, webhook_id, is_urgent=is_urgent), delay_seconds=0)
        except AWS_ERRORS:
            logger.exception("drainer not sent for", webhookId=webhook_id)

    def send_all(self, messages: Sequence[DrainMessage]) -> list[DrainMessage]:
        """Send for a drainer for each, now; answer those that SQS did not take.

        Raises:
            AWS_ERRORS: it took none, or none from some ten on.
        """
        refused: list[DrainMessage] = []
        for is_urgent, url in self._urls.items():
            of_queue = [each for each in messages if each.is_urgent is is_urgent]
            for chunk in batched(of_queue, SEND_LIMIT, strict=False):
                answer = self._client.send_message_batch(
                    QueueUrl=url,
                    Entries=[
                        {"Id": str(index), "MessageBody": each.body()} for index, each in enumerate(chunk)
                    ],
                )
                refused += [chunk[int(each["Id"])] for each in answer.get("Failed", [])]
        return refused


class SweepQueue:
    """Where a sweep goes on that had more to do than time."""

    def __init__(self, client: "SQSClient", url: str) -> None:
        self._client = client
        self._url = url

    def send_all(self, parts: Sequence[ShardPart]) -> None:
        """Have each part swept by an invocation of its own.

        Raises:
            AWS_ERRORS: SQS did not take them all; the next sweep begins elsewhere.
        """
        for chunk in batched(parts, SEND_LIMIT, strict=False):
            self._client.send_message_batch(
                QueueUrl=self._url,
                Entries=[
                    {"Id": str(index), "MessageBody": _sweep_message(part)}
                    for index, part in enumerate(chunk)
                ],
            )


def _sweep_message(part: ShardPart) -> str:
    return json.dumps({"shard": part.shard, "start": part.start, "low": part.next_key})


def read_sweep_message(body: str) -> ShardPart:
    """The part that `SweepQueue` was given."""
    part = json.loads(body)
    return ShardPart(part["shard"], part["start"], next_key=part["low"])


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
