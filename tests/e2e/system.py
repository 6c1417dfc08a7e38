"""The deployed stack as the tests meet it: through its API, its bus, its queues and what receivers get."""

import json
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

from lms_webhooks.model.event_types import REAL_TIME
from lms_webhooks.model.lanes import Lane
from lms_webhooks.stores.backlog import PURGE_DELAY_SECONDS
from lms_webhooks.timestamps import format_ms
from local import deploy
from local.emit import make_event
from local.stack import Stack
from tests.e2e import leaks
from tests.e2e.leaks import KnownSecrets
from tests.patience import PATIENCE_SECONDS

ADMIN, READER = "integration-admin", "integration-reader"
OWN_REAL_TIME, OWN_NON_REAL_TIME = "BADGE_AWARDED", "ROLE:CHANGED"
"""Event types that the catalogue lacks. The stacks have them by a parameter:"""
EXTRA_EVENT_TYPES = f"{OWN_REAL_TIME},{OWN_NON_REAL_TIME}:non-real-time"
PASSWORD = "Correct-horse-1"
"""Of every user that tests make."""


def until[T](condition: Callable[[], T], what: str, *, seconds: float = PATIENCE_SECONDS) -> T:
    """Ask again and again until the result is true, and return it."""
    give_up_at = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < give_up_at, f"after {seconds:.0f} s still waiting for {what}"
        time.sleep(0.02)
    return answer


@dataclass(frozen=True)
class Answer:
    """What the admin API returned; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def body(self) -> Any:
        return json.loads(self.text)


class System:
    """One stack. Tests keep out of each other's way by accounts of their own."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.secrets = KnownSecrets()
        """Those of the whole run. They must stand nowhere in the clear."""
        self._quarantined: list[dict[str, Any]] = []

    def client(self, service: str) -> Any:
        return self.stack.client(service)

    @cached_property
    def _cognito(self) -> Any:
        return self.client("cognito-idp")

    @cached_property
    def _events(self) -> Any:
        return self.client("events")

    @cached_property
    def _sqs(self) -> Any:
        return self.client("sqs")

    @cached_property
    def _dynamodb(self) -> Any:
        return self.client("dynamodb")

    def new_account(self) -> "Account":
        """An account that nobody has used, and its first admin."""
        account_id = str(10**9 + uuid.uuid4().int % 10**12)
        return Account(self, account_id, self.sign_in(account_id))

    def new_user(self, account_id: str, group: str | None = ADMIN) -> str:
        """The name of a new user of an account."""
        pool = self.stack.description["userPoolId"]
        user = f"{uuid.uuid4().hex}@example.com"
        self._cognito.admin_create_user(
            UserPoolId=pool,
            Username=user,
            UserAttributes=[
                {"Name": "email", "Value": user},
                {"Name": "custom:accountId", "Value": account_id},
            ],
            MessageAction="SUPPRESS",
        )
        self._cognito.admin_set_user_password(
            UserPoolId=pool, Username=user, Password=PASSWORD, Permanent=True
        )
        if group is not None:
            self._cognito.admin_add_user_to_group(UserPoolId=pool, Username=user, GroupName=group)
        return user

    def sign_in(self, account_id: str, group: str | None = ADMIN) -> str:
        """The ID token of a new user of an account."""
        user = self.new_user(account_id, group)
        signed_in = self._cognito.initiate_auth(
            ClientId=self.stack.description["clientId"],
            AuthFlow="USER_PASSWORD_AUTH",
            AuthParameters={"USERNAME": user, "PASSWORD": PASSWORD},
        )
        token = str(signed_in["AuthenticationResult"]["IdToken"])
        self.secrets.add(token, "a token", only_in_logs=True)
        return token

    def call(
        self,
        method: str,
        path: str,
        *,
        token: str | None,
        body: object = None,
        text: str | None = None,
        content_type: str = "application/json",
        headers: Mapping[str, str] = MappingProxyType({}),
        api_url: str | None = None,
    ) -> Answer:
        """Call the admin API with `body` as JSON, or with `text` as it is; or that at `api_url`."""
        sent = text if text is not None else None if body is None else json.dumps(body)
        sent_headers = {"content-type": content_type, **headers}
        if token:
            sent_headers["authorization"] = f"Bearer {token}"
        request = urllib.request.Request(  # noqa: S310  # loopback
            (api_url or self.stack.api_url) + path,
            method=method,
            data=None if sent is None else sent.encode(),
            headers=sent_headers,
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as response:  # noqa: S310
                answer = _answer(response.status, response.headers, response.read())
        except urllib.error.HTTPError as error:
            with error:
                answer = _answer(error.code, error.headers, error.read())
        is_repeated = "idempotency-replayed" in answer.headers
        self.secrets.note_call(sent, answer.text, is_repeated=is_repeated)
        return answer

    def put(
        self, *entries: dict[str, Any], detail_type: str | None = None, source: str | None = None
    ) -> None:
        """Put events on the bus, up to ten, under their own name and our source by default."""
        answer = self._events.put_events(
            Entries=[
                {
                    "EventBusName": self.stack.description["eventBusName"],
                    "Source": source or self.stack.description["eventSource"],
                    "DetailType": detail_type or event["eventName"],
                    "Detail": json.dumps(event),
                }
                for event in entries
            ]
        )
        assert answer["FailedEntryCount"] == 0, answer

    def listen_to(self, topic_arn: str) -> str:
        """The URL of a new queue that gets what is published to a topic."""
        url: str = self._sqs.create_queue(QueueName=f"told-{uuid.uuid4().hex}")["QueueUrl"]
        arn = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"][
            "QueueArn"
        ]
        allowed = {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"Service": "sns.amazonaws.com"},
                    "Action": "sqs:SendMessage",
                    "Resource": arn,
                }
            ],
        }
        self._sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(allowed)})
        self.client("sns").subscribe(TopicArn=topic_arn, Protocol="sqs", Endpoint=arn)
        return url

    @cached_property
    def notice_topic(self) -> str:
        """The ARN of the topic that has every notification, of all accounts."""
        description = self.stack.description
        return deploy.outputs_of(description["endpointUrl"], description["stackName"])["NoticeTopicArn"]

    def check_secrets(self) -> None:
        """No secret of the run stands in what this stack wrote, or was given away by a response."""
        found = leaks.everywhere(self.stack, self.secrets) + self.secrets.given_away
        assert not found, "\n".join(found)

    def send_raw(self, message: str) -> None:
        """Put a message on the real-time queue as if the bus had."""
        self._sqs.send_message(QueueUrl=self.stack.description["queues"]["realtime"], MessageBody=message)

    def envelope(self, detail: str, *, detail_type: str) -> str:
        """The message that EventBridge makes of an event, with the text of `detail` as it is."""
        return (
            f'{{"version":"0","id":"{uuid.uuid4()}","detail-type":"{detail_type}",'
            f'"source":"{self.stack.description["eventSource"]}","account":"000000000000",'
            '"time":"2026-11-03T12:00:00Z","region":"us-east-1","resources":[],'
            f'"detail":{detail}}}'
        )

    def dispatchers_at_once(self) -> int:
        """How many of them this stack runs for the real-time queue."""
        mappings = self.client("lambda").list_event_source_mappings()["EventSourceMappings"]
        name = self.stack.description["queues"]["realtime"].rpartition("/")[2]
        (mapping,) = [each for each in mappings if each["EventSourceArn"].endswith(f":{name}")]
        return int(mapping["ScalingConfig"]["MaximumConcurrency"])

    def wait_until_taken(self) -> None:
        """Wait until a dispatcher has every message of the real-time queue."""
        until(lambda: self._in_real_time_queue("") == 0, "dispatchers to take what is queued")

    def wait_until_done(self) -> None:
        """Wait until dispatchers have done everything that is to be done with those messages."""
        until(lambda: self._in_real_time_queue("", "NotVisible") == 0, "dispatchers to be done")

    def _in_real_time_queue(self, *kinds: str) -> int:
        return self.messages_in(self.stack.description["queues"]["realtime"], *kinds)

    def messages_in(self, url: str, *kinds: str) -> int:
        """How many messages a queue has: `""` counts those that wait, `"NotVisible"` those in flight."""
        names: Any = [f"ApproximateNumberOfMessages{kind}" for kind in kinds]
        answer = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)
        return sum(int(answer["Attributes"][name]) for name in names)

    def wait_for_quarantined(self, marker: str) -> dict[str, Any]:
        """The message in quarantine that has `marker` in it."""
        url = self.stack.description["queues"]["quarantine"]

        def find() -> dict[str, Any] | None:
            answer = self._sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)
            for message in answer.get("Messages", []):
                self.secrets.given_away += self.secrets.found_in([("quarantine", message["Body"].encode())])
                self._quarantined.append(json.loads(message["Body"]))
                self._sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            return next((each for each in self._quarantined if marker in json.dumps(each)), None)

        found = until(find, f"{marker} in quarantine")
        assert found is not None
        return found

    def sweep(self) -> None:
        """Sweep now: the schedule would in the next minute."""
        answer = self.client("lambda").invoke(
            FunctionName=self.stack.description["functions"]["batch"], Payload=json.dumps({"task": "sweep"})
        )
        assert "FunctionError" not in answer, answer["Payload"].read()

    def items(self, table: str, kind: str = "") -> list[dict[str, Any]]:
        """All items of one of the tables, or those whose partition key begins with `kind`."""
        pages = self._dynamodb.get_paginator("scan").paginate(
            TableName=self.stack.description["tables"][table], ConsistentRead=True
        )
        return [item for page in pages for item in page["Items"] if item["pk"]["S"].startswith(kind)]

    def let_purges_begin(self) -> None:
        """Make every deletion so long ago that what still waited is purged now, and sweep."""
        tables = self.stack.description["tables"]
        deleted = set()
        for tombstone in self.items("webhooks", "TOMBSTONE#"):
            at_ms, _, webhook_id = tombstone["sk"]["S"].partition("#")
            then_ms = int(at_ms) - PURGE_DELAY_SECONDS * 1000
            then = {"sk": {"S": f"{then_ms:013d}#{webhook_id}"}, "deleted_at": {"S": format_ms(then_ms)}}
            self._dynamodb.put_item(TableName=tables["webhooks"], Item=tombstone | then)
            self._dynamodb.delete_item(TableName=tables["webhooks"], Key=key_of(tombstone))
            deleted.add(f"{webhook_id}#{Lane.REPLAY}")
        for mark in self.items("deliveries", "DUE#"):
            if mark["sk"]["S"] not in deleted:
                continue
            with suppress(self._dynamodb.exceptions.ConditionalCheckFailedException):  # it is purged already
                self._dynamodb.update_item(
                    TableName=tables["deliveries"],
                    Key=key_of(mark),
                    UpdateExpression="SET due_at = :now",
                    ConditionExpression="attribute_exists(pk)",
                    ExpressionAttributeValues={":now": {"N": "0"}},
                )
        self.sweep()

    def history(self, webhook_id: str) -> list[dict[str, Any]]:
        """What is recorded of a webhook's deliveries, oldest event first: items as DynamoDB has them."""
        items: list[dict[str, Any]] = self._dynamodb.query(
            TableName=self.stack.description["tables"]["deliveries"],
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": f"DELIVERY#{webhook_id}"}},
            ConsistentRead=True,
        )["Items"]
        return items

    def wait_for_history(
        self, webhook_id: str, count: int, *, seconds: float = PATIENCE_SECONDS
    ) -> list[dict[str, Any]]:
        """The history, once it has `count` records."""
        return until(
            lambda: items if len(items := self.history(webhook_id)) >= count else [],
            f"{count} records of {webhook_id}",
            seconds=seconds,
        )


class Account:
    """One account, through the eyes of its admin."""

    def __init__(self, system: System, account_id: str, token: str) -> None:
        self.system = system
        self.account_id = account_id
        self.token = token

    def call(self, method: str, path: str, body: object = None) -> Answer:
        return self.system.call(method, path, token=self.token, body=body)

    def webhook(self, target_url: str, **changes: Any) -> dict[str, Any]:
        """The body of a valid call that creates a webhook; a field changed to None is left out."""
        body = {
            "name": "Enrollments to HR",
            "targetUrl": target_url,
            "authentication": {"type": "none"},
            "events": list(REAL_TIME),
            "status": "active",
        }
        return {name: value for name, value in (body | changes).items() if value is not None}

    def create(self, target_url: str, **changes: Any) -> dict[str, Any]:
        """Create a webhook; return what the API showed."""
        answer = self.call("POST", "/v1/webhooks", self.webhook(target_url, **changes))
        assert answer.status == 201, answer
        created: dict[str, Any] = answer.body
        return created

    def webhooks(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = self.call("GET", "/v1/webhooks").body["webhooks"]
        return listed

    def delete(self, webhook_id: str) -> None:
        answer = self.call("DELETE", f"/v1/webhooks/{webhook_id}")
        assert answer.status == 204, answer

    def delete_all(self) -> None:
        """End what would go on: a webhook with a receiver that is gone is tried for days."""
        ids = [webhook["webhookId"] for webhook in self.webhooks()]
        if ids:
            with ThreadPoolExecutor(len(ids)) as pool:  # each answer takes a second
                list(pool.map(self.delete, ids))

    def event(self, event_name: str = "COURSE_ENROLLMENT", **changes: Any) -> dict[str, Any]:
        """An event of this account, now; a field changed to None is left out."""
        event = make_event(event_name, self.account_id, self.system.stack.event_types) | changes
        return {name: value for name, value in event.items() if value is not None}

    def emit(self, event_name: str = "COURSE_ENROLLMENT", **changes: Any) -> dict[str, Any]:
        """Put one event on the bus; return it."""
        event = self.event(event_name, **changes)
        self.system.put(event)
        return event


def key_of(item: dict[str, Any]) -> dict[str, Any]:
    """The key of an item."""
    return {name: item[name] for name in ("pk", "sk")}


def _answer(status: int, headers: Any, body: bytes) -> Answer:
    return Answer(status, {name.lower(): value for name, value in headers.items()}, body.decode())
