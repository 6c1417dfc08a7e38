"""A function in this process, as its cold start builds it: its app.py, its environment, real clients."""

import importlib.util
import itertools
import json
import os
import random
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bench.servers import DELIVERIES, WEBHOOKS
from tools.progress import REPOSITORY
from tools.samples import ACCOUNT_ID

EVENT_NAME = "COURSE_ENROLLMENT"
_MADE = itertools.count(1)  # by whatever makes events in this process: one id, one event
_SAMPLE = REPOSITORY / "events" / "dispatcher_realtime.json"
_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "POWERTOOLS_SERVICE_NAME": "lms-webhooks",
    "POWERTOOLS_METRICS_NAMESPACE": "LmsWebhooks",
    "POWERTOOLS_LOG_LEVEL": "INFO",
    "WEBHOOKS_TABLE": WEBHOOKS,
    "DELIVERIES_TABLE": DELIVERIES,
    "DRAIN_QUEUE_URL": "https://sqs.test/drain",
    "BACKGROUND_DRAIN_QUEUE_URL": "https://sqs.test/background-drain",
    "SWEEP_QUEUE_URL": "https://sqs.test/sweep",
    "QUARANTINE_QUEUE_URL": "https://sqs.test/quarantine",
    "NOTICE_TOPIC_ARN": "arn:aws:sns:us-east-1:123456789012:notices",
    "KMS_KEY_ID": "key",
    "EVENT_SOURCE": "lms",
    "DELIVERY_RETENTION_DAYS": "30",
    "BACKLOG_RETENTION_DAYS": "7",
    "BATCH_EVERY_MINUTES": "15",
    "EXTRA_EVENT_TYPES": "",
    "EXTRA_EVENT_TYPE_DETAILS": "",
    "LOOPBACK_TARGETS_ALLOWED": "true",
    "TRUSTED_CA_FILE": "",
}


def prepare(aws_url: str) -> None:
    """Be an execution environment: to be called before anything of `lms_webhooks` is imported."""
    for name in [each for each in os.environ if each.lower().endswith("_proxy")]:
        del os.environ[name]  # what is measured is on this machine
    os.environ.update(_ENVIRONMENT, AWS_ENDPOINT_URL=aws_url)
    # What a function prints goes to Lambda, which does not read it in the function's time.
    sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  # as long as the process


class Function:
    """The function of a folder, after its cold start."""

    def __init__(self, folder: str, *, timeout_seconds: float = 60) -> None:
        path = REPOSITORY / "functions" / folder / "app.py"
        spec = importlib.util.spec_from_file_location(f"{folder}_app", path)
        assert spec is not None
        assert spec.loader is not None
        self._app: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self._app)
        self._folder = folder
        self._timeout_seconds = timeout_seconds

    def invoke(self, event: dict[str, Any]) -> dict[str, Any]:
        """Call the handler as Lambda does."""
        ends_at = time.monotonic() + self._timeout_seconds
        context = SimpleNamespace(
            function_name=self._folder,
            memory_limit_in_mb=512,
            invoked_function_arn=f"arn:aws:lambda:us-east-1:123456789012:function:{self._folder}",
            aws_request_id="request",
            get_remaining_time_in_millis=lambda: int((ends_at - time.monotonic()) * 1000),
        )
        answer: dict[str, Any] = self._app.lambda_handler(event, context)
        return answer


def register(account_id: str, *urls: str, ordered: bool = False) -> list[str]:
    """Register a webhook with a signature for each of `urls`; return their ids."""
    from lms_webhooks.aws import clients  # noqa: PLC0415  # after `prepare`
    from lms_webhooks.model.webhooks import SignatureAuthentication, Status, Webhook  # noqa: PLC0415
    from lms_webhooks.stores.webhooks import WebhookStore, new_webhook_id  # noqa: PLC0415
    from lms_webhooks.timestamps import format_time  # noqa: PLC0415

    store = WebhookStore(clients.dynamodb(), WEBHOOKS)
    now = format_time(datetime.now(UTC))
    ids = []
    for url in urls:
        webhook = Webhook(
            account_id=account_id,
            webhook_id=new_webhook_id(),
            name="measured",
            target_url=url,
            authentication=SignatureAuthentication(secret_ciphertext=b"sealed"),
            events=frozenset({EVENT_NAME}),
            status=Status.ACTIVE,
            created_at=now,
            updated_at=now,
            created_by="bench",
            updated_by="bench",
            ordered=ordered,
        )
        store.create(webhook)
        ids.append(webhook.webhook_id)
    return ids


class Events:
    """SQS messages with events as the bus writes them: the catalogue's sample, each with an id of its own."""

    def __init__(self, *, extra_bytes: int = 0) -> None:
        self._record = json.loads(_SAMPLE.read_text())["Records"][0]
        self._body: str = self._record["body"]
        if extra_bytes:
            # Text as people write it, so that storing it compresses no better than theirs.
            chance = random.Random(1)
            text = "".join(chance.choices("etaoinshrdlu ETA0123456789", k=extra_bytes))
            self._body = self._body.replace('"data": {', f'"data": {{"comment": "{text}", ', 1)
        self._event_id: str = json.loads(self._body)["detail"]["eventId"]

    def batch(self, *account_ids: str) -> dict[str, Any]:
        """One invocation's messages: an event of each account, in turn."""
        return {"Records": [self._message(account_id) for account_id in account_ids]}

    def _message(self, account_id: str) -> dict[str, Any]:
        event_id = f"{next(_MADE):08d}{self._event_id[8:]}"
        body = self._body.replace(self._event_id, event_id)
        body = body.replace(f'"accountId": {ACCOUNT_ID}', f'"accountId": {account_id}')
        attributes = {**self._record["attributes"], "SentTimestamp": str(time.time_ns() // 1_000_000)}
        return {**self._record, "messageId": event_id, "body": body, "attributes": attributes}
