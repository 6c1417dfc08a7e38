"""Send messages to SQS. No other module does."""

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

MAX_MESSAGE_DELAY_SECONDS = 900  # the limit of SQS
SEND_LIMIT = 10  # messages in a SendMessageBatch


class QuarantineQueue:
    """The queue of invalid events, for an operator to find."""

    def __init__(self, client: "SQSClient", url: str) -> None:
        self._client = client
        self._url = url

    def quarantine(self, message: str, *, reason: str) -> None:
        """Send a message with an invalid event to the quarantine queue, unchanged, with the reason.

        Its form is that of the bus's own quarantine rule: `{"reason": ..., "event": {...}}`. If the text is
        not JSON, it has `"message"` with the text instead.

        Raises:
            AWS_ERRORS: SQS did not accept it.
        """
        try:
            message.encode()  # SQS refuses a lone surrogate; below, it is written as an escape
            json.loads(message, parse_int=str, parse_constant=_refuse_constant)
            kept = f'"event":{message}'
        except (ValueError, RecursionError):
            kept = f'"message":{json.dumps(message)}'
        self._client.send_message(QueueUrl=self._url, MessageBody=f'{{"reason":{json.dumps(reason)},{kept}}}')


@dataclass(frozen=True, slots=True)
class DrainMessage:
    """A message that schedules a drain of one webhook."""

    account_id: str
    webhook_id: str
    ticket: str = ""
    """See `stores/health.py`. Older versions write none. Neither does a process that set a marker or changed
    a webhook."""
    aborted_runs: int = 0
    """How many drain runs in a row were aborted by an internal error."""
    message_id: str = ""
    """Of a received message. It stays the same when the message is redelivered."""
    is_urgent: bool = False
    """Whether it goes to the urgent queue, see `Lane.is_urgent`."""

    def body(self) -> str:
        """Return the body of the SQS message."""
        body: dict[str, str | int] = {"accountId": self.account_id, "webhookId": self.webhook_id}
        if self.ticket:
            body["ticket"] = self.ticket
        if self.aborted_runs:
            body["brokenOff"] = self.aborted_runs
        if self.is_urgent:
            body["isUrgent"] = True
        return json.dumps(body)


def read_drain_message(record: Mapping[str, Any]) -> DrainMessage:
    """Return the message of an SQS record, see `DrainMessage.body`."""
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
    """The two queues of drain messages: one for urgent lanes, see `Lane.is_urgent`, and one for the others.

    A message on the wrong queue is late at worst. So a message is not urgent unless it says so.
    """

    def __init__(self, client: "SQSClient", urgent_url: str, background_url: str) -> None:
        self._client = client
        self._urls = {True: urgent_url, False: background_url}

    def schedule(self, message: DrainMessage, *, delay_seconds: float) -> None:
        """Schedule one drain, after at most MAX_MESSAGE_DELAY_SECONDS.

        Raises:
            AWS_ERRORS: SQS did not accept the message; the sweep will schedule a drain.
        """
        self._client.send_message(
            QueueUrl=self._urls[message.is_urgent],
            MessageBody=message.body(),
            DelaySeconds=min(int(delay_seconds), MAX_MESSAGE_DELAY_SECONDS),
        )

    def schedule_best_effort(self, account_id: str, webhook_id: str, *, is_urgent: bool = False) -> None:
        """Schedule one drain now, and only log an error of SQS.

        The caller has already made its change, and an error would deny that. The sweep schedules the drain
        within a minute.
        """
        try:
            self.schedule(DrainMessage(account_id, webhook_id, is_urgent=is_urgent), delay_seconds=0)
        except AWS_ERRORS:
            logger.exception("drain not scheduled", webhookId=webhook_id)

    def schedule_all(self, messages: Sequence[DrainMessage]) -> list[DrainMessage]:
        """Schedule a drain for each of `messages` now.

        Returns:
            The messages that SQS did not accept.

        Raises:
            AWS_ERRORS: SQS accepted none, or only the first tens.
        """
        refused: list[DrainMessage] = []
        for is_urgent, url in self._urls.items():
            of_queue = [each for each in messages if each.is_urgent is is_urgent]
            for chunk in batched(of_queue, SEND_LIMIT, strict=False):
                response = self._client.send_message_batch(
                    QueueUrl=url,
                    Entries=[
                        {"Id": str(index), "MessageBody": each.body()} for index, each in enumerate(chunk)
                    ],
                )
                refused += [chunk[int(each["Id"])] for each in response.get("Failed", [])]
        return refused


class SweepQueue:
    """The queue of sweeps that did not end in time."""

    def __init__(self, client: "SQSClient", url: str) -> None:
        self._client = client
        self._url = url

    def send_all(self, parts: Sequence[ShardPart]) -> None:
        """Schedule the sweep of each part, in an invocation of its own.

        Raises:
            AWS_ERRORS: SQS did not accept them all; the next sweep begins elsewhere.
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
    """Return the part that `SweepQueue.send_all` sent."""
    part = json.loads(body)
    return ShardPart(part["shard"], part["start"], next_key=part["low"])


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
