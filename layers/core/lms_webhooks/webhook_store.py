"""Keep registrations in the webhooks table: the only module that reads or writes these items.

| pk                    | sk                  | what                                                  |
|-----------------------|---------------------|-------------------------------------------------------|
| ACCOUNT#<accountId>   | WEBHOOK#<webhookId> | one registration                                      |
| ACCOUNT#<accountId>   | HEALTH#<webhookId>  | made and deleted with it; `health_store` changes it   |
| ACCOUNT#<accountId>   | ACCOUNT             | the ids of the account's webhooks, for the limit      |
| TOMBSTONE#<accountId> | WEBHOOK#<webhookId> | a deleted one, for as long as its history lives (TTL) |
"""

import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from lms_webhooks.dynamodb import Key, key_item, transact
from lms_webhooks.health import Health, Mode
from lms_webhooks.health_store import health_attributes, health_key, read_health_item
from lms_webhooks.problems import ChangedMeanwhile, KeyInUse, NoSuchWebhook, TooManyWebhooks
from lms_webhooks.webhooks import (
    MAX_WEBHOOKS_PER_ACCOUNT,
    Authentication,
    BasicAuthentication,
    NoAuthentication,
    SignatureAuthentication,
    Status,
    Webhook,
    rfc3339,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef, TransactWriteItemTypeDef

    type Item = dict[str, AttributeValueTypeDef]

TOMBSTONE_DAYS = 366  # the longest that DeliveryRetentionDays allows, and one more: TTL deletes late

_WEBHOOK_ID = re.compile(r"wh_[A-Za-z0-9_-]{22}")


def new_webhook_id() -> str:
    """A fresh id: opaque, not guessable, safe in a URL."""
    return "wh_" + secrets.token_urlsafe(16)


class Registered(NamedTuple):
    """A webhook as its admin wants it, and how its endpoint does."""

    webhook: Webhook
    health: Health


class Deleted(NamedTuple):
    """A webhook that is no more."""

    webhook_id: str
    events: frozenset[str]
    """Those it took until then."""
    deleted_at: str
    """As RFC 3339 has it, in UTC and of one length, so that texts compare as times do."""


class WebhookStore:
    """The registrations of every account. Safe to share between threads."""

    def __init__(
        self, client: "DynamoDBClient", table_name: str, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._client = client
        self._table_name = table_name
        self._sleep = sleep

    def create(self, webhook: Webhook, *, along: "Sequence[TransactWriteItemTypeDef]" = ()) -> None:
        """Add `webhook`, if its account has room for it; and do what is to be done `along` with it.

        Raises:
            TooManyWebhooks: the account has its five.
            KeyInUse: a condition of `along` failed: the call is made elsewhere.
            Busy: see `transact`.
        """
        count_it: TransactWriteItemTypeDef = {
            "Update": {
                "TableName": self._table_name,
                "Key": _account_key(webhook.account_id),
                "UpdateExpression": "ADD webhook_ids :id",
                "ConditionExpression": "attribute_not_exists(webhook_ids) OR size(webhook_ids) < :limit",
                "ExpressionAttributeValues": {
                    ":id": {"SS": [webhook.webhook_id]},
                    ":limit": {"N": str(MAX_WEBHOOKS_PER_ACCOUNT)},
                },
            }
        }
        put_it: TransactWriteItemTypeDef = {
            "Put": {
                "TableName": self._table_name,
                "Item": _item(webhook),
                "ConditionExpression": "attribute_not_exists(pk)",
            }
        }
        put_health: TransactWriteItemTypeDef = {
            "Put": {
                "TableName": self._table_name,
                "Item": {
                    **key_item(health_key(webhook.account_id, webhook.webhook_id)),
                    **health_attributes(Health(webhook.epoch)),
                },
            }
        }
        actions = [count_it, put_it, put_health]
        refused = transact(self._client, [*actions, *along], sleep=self._sleep)
        if 0 in refused:
            raise TooManyWebhooks(MAX_WEBHOOKS_PER_ACCOUNT)
        if refused and min(refused) >= len(actions):
            raise KeyInUse
        if refused:
            raise RuntimeError(f"webhook id {webhook.webhook_id} exists already; ids are 128 random bits")

    def get(self, account_id: str, webhook_id: str) -> Webhook:
        """One registration, as it stands now (consistent read).

        Raises:
            NoSuchWebhook: the account has none by this id.
        """
        # Anything else is no id of ours, and may be longer than a key can be.
        if not _WEBHOOK_ID.fullmatch(webhook_id):
            raise NoSuchWebhook
        answer = self._client.get_item(
            TableName=self._table_name, Key=_webhook_key(account_id, webhook_id), ConsistentRead=True
        )
        if "Item" not in answer:
            raise NoSuchWebhook
        return _webhook(answer["Item"])

    def update(
        self,
        webhook: Webhook,
        *,
        expected: Webhook,
        along: "Sequence[TransactWriteItemTypeDef]" = (),
    ) -> None:
        """Write `webhook` over `expected`, the registration that the change was made from; and do what is to
        be done `along` with it.

        A new epoch resets what is known of the endpoint. Its events go through the backlog until what waits
        there has gone out; whoever drains at this moment keeps the lease. The message that is on its way
        loses its ticket, so that one which is sent now is heard at once.

        Raises:
            ChangedMeanwhile: the registration is not `expected` any more.
            KeyInUse: as `create`.
            Busy: see `transact`.
        """
        put_it: TransactWriteItemTypeDef = {
            "Put": {
                "TableName": self._table_name,
                "Item": _item(webhook),
                "ConditionExpression": "version = :expected",
                "ExpressionAttributeValues": {":expected": {"N": str(expected.version)}},
            }
        }
        actions = [put_it]
        if webhook.epoch != expected.epoch:
            fresh = health_attributes(Health(webhook.epoch, mode=Mode.BACKLOG))
            actions.append(
                {
                    "Update": {
                        "TableName": self._table_name,
                        "Key": key_item(health_key(webhook.account_id, webhook.webhook_id)),
                        "UpdateExpression": (
                            "SET "
                            + ", ".join(f"#{name} = :{name}" for name in fresh)
                            # The drain message that is on its way may come in minutes: another is sent.
                            + " REMOVE ticket, ticket_until_ms"
                        ),
                        "ExpressionAttributeNames": {f"#{name}": name for name in fresh},
                        "ExpressionAttributeValues": {f":{name}": value for name, value in fresh.items()},
                    }
                }
            )
        refused = transact(self._client, [*actions, *along], sleep=self._sleep)
        if refused and min(refused) >= len(actions):
            raise KeyInUse
        if refused:
            raise ChangedMeanwhile

    def read_account(self, account_id: str) -> list[Registered]:
        """Every webhook of an account, as they stand now (consistent read), oldest first."""
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table_name,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": f"ACCOUNT#{account_id}"}},
            ConsistentRead=True,
        )
        items = {item["sk"]["S"]: item for page in pages for item in page["Items"]}
        webhooks = [_webhook(item) for sort_key, item in items.items() if sort_key.startswith("WEBHOOK#")]
        webhooks.sort(key=lambda webhook: (webhook.created_at, webhook.webhook_id))
        return [Registered(webhook, _health(webhook, items)) for webhook in webhooks]

    def find(self, account_id: str, webhook_id: str) -> Registered:
        """One webhook as it stands now (consistent read).

        Raises:
            NoSuchWebhook: the account has none by this id.
        """
        for registered in self.read_account(account_id):
            if registered.webhook.webhook_id == webhook_id:
                return registered
        raise NoSuchWebhook

    def delete(
        self,
        account_id: str,
        webhook_id: str,
        *,
        deleted_at: datetime,
        deleted_by: str,
        expected: Webhook | None = None,
    ) -> None:
        """Remove a registration and leave its tombstone, by which its history stays explicable.

        Raises:
            NoSuchWebhook: the account has none by this id.
            ChangedMeanwhile: the registration is not `expected` any more.
            Busy: see `transact`.
        """
        if not _WEBHOOK_ID.fullmatch(webhook_id):
            raise NoSuchWebhook
        webhook = expected or self.get(account_id, webhook_id)
        events = webhook.events if webhook.status is not Status.INACTIVE else ()
        expires_at = deleted_at + timedelta(days=TOMBSTONE_DAYS)
        remove_it: TransactWriteItemTypeDef = {
            "Delete": {
                "TableName": self._table_name,
                "Key": _webhook_key(account_id, webhook_id),
                "ConditionExpression": "attribute_exists(pk)",
            }
        }
        if expected is not None:
            remove_it["Delete"]["ConditionExpression"] = "version = :expected"
            remove_it["Delete"]["ExpressionAttributeValues"] = {":expected": {"N": str(expected.version)}}
        uncount_it: TransactWriteItemTypeDef = {
            "Update": {
                "TableName": self._table_name,
                "Key": _account_key(account_id),
                "UpdateExpression": "DELETE webhook_ids :id",
                "ExpressionAttributeValues": {":id": {"SS": [webhook_id]}},
            }
        }
        bury_it: TransactWriteItemTypeDef = {
            "Put": {
                "TableName": self._table_name,
                "Item": {
                    "pk": {"S": f"TOMBSTONE#{account_id}"},
                    "sk": {"S": f"WEBHOOK#{webhook_id}"},
                    "deleted_at": {"S": rfc3339(deleted_at)},
                    "deleted_by": {"S": deleted_by},
                    "expires_at": {"N": str(int(expires_at.timestamp()))},
                    **({"events": {"SS": sorted(events)}} if events else {}),
                },
            }
        }
        remove_health: TransactWriteItemTypeDef = {
            "Delete": {"TableName": self._table_name, "Key": key_item(health_key(account_id, webhook_id))}
        }
        actions = [remove_it, uncount_it, bury_it, remove_health]
        if transact(self._client, actions, sleep=self._sleep):
            raise NoSuchWebhook if expected is None else ChangedMeanwhile

    def deleted(self, account_id: str) -> list[Deleted]:
        """The webhooks that an account had, for as long as that is remembered."""
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table_name,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": f"TOMBSTONE#{account_id}"}},
            ConsistentRead=True,
        )
        return [
            Deleted(
                item["sk"]["S"].removeprefix("WEBHOOK#"),
                frozenset(item.get("events", {"SS": []})["SS"]),
                item["deleted_at"]["S"],
            )
            for page in pages
            for item in page["Items"]
        ]


def webhook_key(account_id: str, webhook_id: str) -> Key:
    """Where the registration of a webhook stands."""
    return f"ACCOUNT#{account_id}", f"WEBHOOK#{webhook_id}"


def _account_key(account_id: str) -> "Item":
    return key_item((f"ACCOUNT#{account_id}", "ACCOUNT"))


def _webhook_key(account_id: str, webhook_id: str) -> "Item":
    return key_item(webhook_key(account_id, webhook_id))


def _health(webhook: Webhook, items: "Mapping[str, Item]") -> Health:
    """The health that belongs to `webhook`. What is known of another epoch is about an endpoint that it has
    no more; until its own is there, nothing goes out directly."""
    item = items.get(f"HEALTH#{webhook.webhook_id}")
    health = read_health_item(item) if item else None
    return health if health and health.epoch == webhook.epoch else Health(webhook.epoch, mode=Mode.BACKLOG)


def _item(webhook: Webhook) -> "Item":
    return {
        **_webhook_key(webhook.account_id, webhook.webhook_id),
        "account_id": {"S": webhook.account_id},
        "webhook_id": {"S": webhook.webhook_id},
        "name": {"S": webhook.name},
        "description": {"S": webhook.description},
        "target_url": {"S": webhook.target_url},
        "authentication": {"M": _authentication_item(webhook.authentication)},
        "events": {"SS": sorted(webhook.events)},
        "status": {"S": webhook.status.value},
        "ordered": {"BOOL": webhook.ordered},
        "headers": {"M": {name: {"S": value} for name, value in webhook.headers.items()}},
        "created_at": {"S": webhook.created_at},
        "updated_at": {"S": webhook.updated_at},
        "created_by": {"S": webhook.created_by},
        "updated_by": {"S": webhook.updated_by},
        "epoch": {"N": str(webhook.epoch)},
        "version": {"N": str(webhook.version)},
    }


def _authentication_item(authentication: Authentication) -> "Item":
    match authentication:
        case NoAuthentication():
            return {"type": {"S": "none"}}
        case BasicAuthentication():
            return {
                "type": {"S": "basic"},
                "username": {"S": authentication.username},
                "password_ciphertext": {"B": authentication.password_ciphertext},
            }
        case SignatureAuthentication():
            item: Item = {
                "type": {"S": "signature"},
                "secret_ciphertext": {"B": authentication.secret_ciphertext},
            }
            if authentication.previous_secret_ciphertext is not None:
                item["previous_secret_ciphertext"] = {"B": authentication.previous_secret_ciphertext}
            if authentication.previous_secret_until is not None:
                item["previous_secret_until"] = {"S": authentication.previous_secret_until}
            return item


def _webhook(item: "Item") -> Webhook:
    return Webhook(
        account_id=item["account_id"]["S"],
        webhook_id=item["webhook_id"]["S"],
        name=item["name"]["S"],
        description=item["description"]["S"],
        target_url=item["target_url"]["S"],
        authentication=_authentication(item["authentication"]["M"]),
        events=frozenset(item["events"]["SS"]),
        status=Status(item["status"]["S"]),
        ordered=item["ordered"]["BOOL"],
        headers={name: value["S"] for name, value in item["headers"]["M"].items()},
        created_at=item["created_at"]["S"],
        updated_at=item["updated_at"]["S"],
        created_by=item["created_by"]["S"],
        updated_by=item["updated_by"]["S"],
        epoch=int(item["epoch"]["N"]),
        version=int(item["version"]["N"]),
    )


def _authentication(item: "Mapping[str, AttributeValueTypeDef]") -> Authentication:
    kind = item["type"]["S"]
    if kind == "none":
        return NoAuthentication()
    if kind == "basic":
        return BasicAuthentication(
            username=item["username"]["S"], password_ciphertext=bytes(item["password_ciphertext"]["B"])
        )
    if kind != "signature":
        raise ValueError(f"stored authentication has type {kind!r}; expected none, basic or signature")
    previous = item.get("previous_secret_ciphertext")
    until = item.get("previous_secret_until")
    return SignatureAuthentication(
        secret_ciphertext=bytes(item["secret_ciphertext"]["B"]),
        previous_secret_ciphertext=bytes(previous["B"]) if previous else None,
        previous_secret_until=until["S"] if until else None,
    )
