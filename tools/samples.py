"""Write the samples and JSON Schemas of the event types: `make generate`. A test fails while a file is stale.

`events/put_events/` has one entry for each event type, as the list that `aws events put-events --entries file://...`
reads. The entries name no bus, since that is each stack's own; add `EventBusName` on the way:

    aws events put-events --entries \\
        "$(jq -c --arg bus "$BUS" 'map(. + {EventBusName: $bus})' events/put_events/COURSE_ENROLLMENT.json)"

In `events/`, `dispatcher_realtime.json`, `dispatcher_batch.json`, `batch_sweep.json`, `drainer.json` and
`drainer_background.json` are what Lambda hands to these functions from their queues:

    sam local invoke DispatcherFunction -e events/dispatcher_realtime.json

`docs/schemas/` has the JSON Schema of each event type, and of what a receiver gets.
"""

import hashlib
import json
import uuid
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lms_webhooks.model.event_types import EVENT_TYPES, EventType
from tools import schemas
from tools.progress import REPOSITORY

SOURCE = "lms"
ACCOUNT_ID = 1010
WEBHOOK_ID = "wh_0123456789abcdefghijkl"
SHARD = zlib.crc32(WEBHOOK_ID.encode()) % 16  # where its due markers stand
EVENTS = REPOSITORY / "events"
DIRECTORY = EVENTS / "put_events"
SCHEMAS = REPOSITORY / "docs" / "schemas"

_BATCH_OF_TWO = ("COURSE_ENROLLMENT_BATCH", "LEARNER_PROGRESS")
_ACCEPTED_AT_MS = 1_793_707_200_000  # 2026-11-03 12:00. Old enough for what waits to expire at once


def file_name(event_type: EventType) -> str:
    """Where the sample of a type stands. A colon in a name is no file name on every system."""
    return event_type.name.replace(":", "-") + ".json"


def detail(event_type: EventType) -> dict[str, Any]:
    """A sample on the bus. The event's id comes from the type's name: the same catalogue, the same files."""
    return {"accountId": ACCOUNT_ID, **event_type.sample_event(_id("sample", event_type.name))}


def entry_text(event_type: EventType) -> str:
    """The text of a sample's file."""
    entry = {
        "Source": SOURCE,
        "DetailType": event_type.name,
        "Detail": json.dumps(detail(event_type)),
    }
    return _text([entry])


def invocations() -> dict[Path, str]:
    """What Lambda hands over from each queue, by file."""
    real_time = ("COURSE_ENROLLMENT", "COURSE_COMPLETED")
    drain = json.dumps({"accountId": str(ACCOUNT_ID), "webhookId": WEBHOOK_ID})
    part = json.dumps({"shard": SHARD, "start": WEBHOOK_ID, "low": WEBHOOK_ID})
    return {
        EVENTS / "dispatcher_realtime.json": _from_queue("RealtimeQueue", [*map(_message, real_time)]),
        EVENTS / "dispatcher_batch.json": _from_queue("BatchQueue", [*map(_message, _BATCH_OF_TWO)]),
        EVENTS / "batch_sweep.json": _from_queue("SweepQueue", [part]),
        EVENTS / "drainer.json": _from_queue("DrainQueue", [drain]),
        EVENTS / "drainer_background.json": _from_queue("BackgroundDrainQueue", [drain]),
    }


def detail_schema(event_type: EventType) -> dict[str, Any]:
    """The schema of the `Detail` of a type."""
    return schemas.of_detail(event_type, detail(event_type))


def request_schema() -> dict[str, Any]:
    """The schema of what a receiver gets."""
    samples = [EVENT_TYPES[name].sample_event(_id("sample", name)) for name in _BATCH_OF_TWO]
    return schemas.of_request({"accountId": ACCOUNT_ID, "events": samples})


def files() -> dict[Path, str]:
    """Everything that is generated: what each file must hold."""
    samples = {DIRECTORY / file_name(each): entry_text(each) for each in EVENT_TYPES.values()}
    described = {SCHEMAS / file_name(each): _text(detail_schema(each)) for each in EVENT_TYPES.values()}
    return samples | invocations() | described | {SCHEMAS / "request.json": _text(request_schema())}


def _message(name: str) -> str:
    """What the bus makes of the sample of a type."""
    envelope = {
        "version": "0",
        "id": _id("message", name),
        "detail-type": name,
        "source": SOURCE,
        "account": "123456789012",
        "time": "2026-11-03T12:00:00Z",
        "region": "us-east-1",
        "resources": [],
        "detail": detail(EVENT_TYPES[name]),
    }
    return json.dumps(envelope)


def _from_queue(queue: str, bodies: Sequence[str]) -> str:
    records = [
        {
            "messageId": _id(queue, str(number)),
            "receiptHandle": f"handle-{number}",
            "body": body,
            "attributes": {
                "ApproximateReceiveCount": "1",
                "SentTimestamp": str(_ACCEPTED_AT_MS),
                "SenderId": "AIDAEXAMPLE",
                "ApproximateFirstReceiveTimestamp": str(_ACCEPTED_AT_MS + 5),
            },
            "messageAttributes": {},
            "md5OfBody": hashlib.md5(body.encode(), usedforsecurity=False).hexdigest(),
            "eventSource": "aws:sqs",
            "eventSourceARN": f"arn:aws:sqs:us-east-1:123456789012:{queue}",
            "awsRegion": "us-east-1",
        }
        for number, body in enumerate(bodies, 1)
    ]
    return _text({"Records": records})


def _id(kind: str, name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"urn:lms-webhooks:{kind}:{name}"))


def _text(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"


if __name__ == "__main__":
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
