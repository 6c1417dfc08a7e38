"""Put messages on queues: the only module that talks to SQS."""

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient


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
            aws.AWS_FAULTS: SQS did not take it.
        """
        try:
            json.loads(message)
            kept = f'"event":{message}'
        except (ValueError, RecursionError):
            kept = f'"message":{json.dumps(message)}'
        self._client.send_message(QueueUrl=self._url, MessageBody=f'{{"reason":{json.dumps(reason)},{kept}}}')
