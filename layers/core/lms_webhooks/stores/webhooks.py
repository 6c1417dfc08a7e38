"""Store webhooks in the webhooks table. No other module writes these items, except health.

| pk                    | sk                            | what                                               |
|-----------------------|-------------------------------|----------------------------------------------------|
| ACCOUNT#<accountId>   | WEBHOOK#<webhookId>           | one webhook                                        |
| ACCOUNT#<accountId>   | HEALTH#<webhookId>            | made, reset and deleted here; changed by `health`  |
| ACCOUNT#<accountId>   | ACCOUNT                       | the ids of the account's webhooks, for the limit   |
| LIMIT#<accountId>     | CREATIONS#<date>              | how many it created on that UTC day (TTL)          |
| TOMBSTONE#<accountId> | <13 digits of ms>#<webhookId> | a deleted webhook, while its history may exist     |
| TOMBSTONE#<accountId> | WEBHOOK#<webhookId>           | the same, by a version without a time in the key   |
"""

import math
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from lms_webhooks.aws.dynamodb import Key, key_item, transact
from lms_webhooks.errors import (
    CreationLimitExceeded,
    IdempotencyInProgress,
    UnreadableWebhook,
    VersionConflict,
    WebhookLimitExceeded,
    WebhookNotFound,
)
from lms_webhooks.model.health import Health, Mode
from lms_webhooks.model.slots import BatchSchedule, DailyAt, EveryMinutes
from lms_webhooks.model.webhooks import (
    MAX_WEBHOOKS_PER_ACCOUNT,
    Authentication,
    BasicAuthentication,
    NoAuthentication,
    SignatureAuthentication,
    Status,
    Tombstone,
    Unreadable,
    Webhook,
    WebhookWithHealth,
)
from lms_webhooks.observability import report
from lms_webhooks.stores.health import health_attributes, health_key, read_health_item
from lms_webhooks.timestamps import format_ms, format_time

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef, TransactWriteItemTypeDef

    type Item = dict[str, AttributeValueTypeDef]

CREATIONS_A_DAY = 1000  # of an account, in UTC: far more than admins create, and each leaves a tombstone
MAX_DELETED = 100  # limits the cost of a redelivered message: the history of each is searched
TOMBSTONE_DAYS = 366  # the longest that DeliveryRetentionDays allows, and one more: TTL deletes late

_OLD_TOMBSTONE = "WEBHOOK#"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WEBHOOK_ID = re.compile(r"wh_[A-Za-z0-9_-]{22}")


def new_webhook_id() -> str:
    """Return a new id: opaque, not guessable, safe in a URL."""
    return "wh_" + secrets.token_urlsafe(16)


class WebhookStore:
    """Read and write the webhooks of every account. Safe to share between threads."""

    def __init__(
        self, client: "DynamoDBClient", table_name: str, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._client = client
        self._table_name = table_name
        self._sleep = sleep

    def create(self, webhook: Webhook, *, extra_writes: "Sequence[TransactWriteItemTypeDef]" = ()) -> None:
        """Create `webhook`, in one transaction with `extra_writes`.

        Raises:
            WebhookLimitExceeded: the account has as many webhooks as it may have.
            CreationLimitExceeded: it created CREATIONS_A_DAY on this day already.
            IdempotencyInProgress: a condition of `extra_writes` failed: another process has the same call.
            Contention: see `transact`.
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
        created_at = datetime.fromisoformat(webhook.created_at)
        next_day = (created_at + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        count_today: TransactWriteItemTypeDef = {
            "Update": {
                "TableName": self._table_name,
                "Key": key_item((f"LIMIT#{webhook.account_id}", f"CREATIONS#{created_at:%Y-%m-%d}")),
                "UpdateExpression": "ADD made :one SET expires_at = :end",
                "ConditionExpression": "attribute_not_exists(made) OR made < :limit",
                "ExpressionAttributeValues": {
                    ":one": {"N": "1"},
                    ":end": {"N": str(int(next_day.timestamp()))},
                    ":limit": {"N": str(CREATIONS_A_DAY)},
                },
            }
        }
        actions = [count_it, put_it, put_health, count_today]
        refused = transact(self._client, [*actions, *extra_writes], sleep=self._sleep)
        if 0 in refused:
            raise WebhookLimitExceeded(MAX_WEBHOOKS_PER_ACCOUNT)
        if 3 in refused:
            raise CreationLimitExceeded(CREATIONS_A_DAY, math.ceil((next_day - created_at).total_seconds()))
        if refused and min(refused) >= len(actions):
            raise IdempotencyInProgress
        if refused:
            raise RuntimeError(f"webhook id {webhook.webhook_id} exists already; ids are 128 random bits")

    def get(self, account_id: str, webhook_id: str) -> Webhook:
        """Return one webhook by a consistent read.

        Raises:
            WebhookNotFound: the account has none with this id.
            UnreadableWebhook: it exists, but this version cannot read it.
        """
        # Any other text is not one of our ids, and may be longer than a key can be.
        if not _WEBHOOK_ID.fullmatch(webhook_id):
            raise WebhookNotFound
        response = self._client.get_item(
            TableName=self._table_name, Key=_webhook_key(account_id, webhook_id), ConsistentRead=True
        )
        if "Item" not in response:
            raise WebhookNotFound
        try:
            return _webhook(response["Item"])
        except (KeyError, ValueError) as error:
            raise UnreadableWebhook(webhook_id) from error

    def update(
        self,
        webhook: Webhook,
        *,
        expected: Webhook,
        extra_writes: "Sequence[TransactWriteItemTypeDef]" = (),
    ) -> None:
        """Write `webhook` over `expected`, from which it was made, in one transaction with `extra_writes`.

        A new epoch resets the health of the endpoint. New events go to the backlog until the pending ones are
        sent. A drainer that runs at this moment keeps the lease. The drain message that is on its way loses
        its ticket, so that a message sent now gets the lease at once.

        Raises:
            VersionConflict: the stored webhook is not `expected` any more.
            IdempotencyInProgress: as `create`.
            Contention: see `transact`.
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
                            # That drain message may arrive in minutes: the caller sends another.
                            + " REMOVE ticket, ticket_until_ms"
                        ),
                        "ExpressionAttributeNames": {f"#{name}": name for name in fresh},
                        "ExpressionAttributeValues": {f":{name}": value for name, value in fresh.items()},
                    }
                }
            )
        refused = transact(self._client, [*actions, *extra_writes], sleep=self._sleep)
        if refused and min(refused) >= len(actions):
            raise IdempotencyInProgress
        if refused:
            raise VersionConflict

    def read_account(self, account_id: str) -> list[WebhookWithHealth]:
        """Return the webhooks of an account by a consistent read, oldest first.

        Those that this version cannot read are left out.
        """
        return self.read_each(account_id)[0]

    def read_each(self, account_id: str) -> tuple[list[WebhookWithHealth], list[Unreadable]]:
        """Return the webhooks of an account, and separately those that this version cannot read."""
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table_name,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": f"ACCOUNT#{account_id}"}},
            ConsistentRead=True,
        )
        items = {item["sk"]["S"]: item for page in pages for item in page["Items"]}
        registered: list[WebhookWithHealth] = []
        unreadable: list[Unreadable] = []
        for sort_key, item in items.items():
            if not sort_key.startswith("WEBHOOK#"):
                continue
            webhook_id = sort_key.removeprefix("WEBHOOK#")
            try:
                webhook = _webhook(item)
                registered.append(WebhookWithHealth(webhook, _health(webhook, items)))
            except Exception as error:  # noqa: BLE001  # a damaged item must not stop the others
                report(error, "webhook not read", accountId=account_id, webhookId=webhook_id)
                unreadable.append(Unreadable(webhook_id, _events_of_unreadable(item)))
        registered.sort(key=lambda each: (each.webhook.created_at, each.webhook.webhook_id))
        return registered, unreadable

    def find(self, account_id: str, webhook_id: str) -> WebhookWithHealth:
        """Return one webhook with its health by a consistent read.

        Raises:
            WebhookNotFound: the account has none with this id.
            UnreadableWebhook: it exists, but this version cannot read it.
        """
        registered, unreadable = self.read_each(account_id)
        if any(each.webhook_id == webhook_id for each in unreadable):
            raise UnreadableWebhook(webhook_id)
        found = next((each for each in registered if each.webhook.webhook_id == webhook_id), None)
        if found is None:
            raise WebhookNotFound
        return found

    def delete(
        self,
        account_id: str,
        webhook_id: str,
        *,
        deleted_at: datetime,
        deleted_by: str,
        expected: Webhook | None = None,
    ) -> None:
        """Delete a webhook and leave a tombstone, which explains its history.

        Raises:
            WebhookNotFound: the account has none with this id.
            VersionConflict: the stored webhook is not `expected` any more.
            Contention: see `transact`.
        """
        if not _WEBHOOK_ID.fullmatch(webhook_id):
            raise WebhookNotFound
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
        put_tombstone: TransactWriteItemTypeDef = {
            "Put": {
                "TableName": self._table_name,
                "Item": {
                    "pk": {"S": f"TOMBSTONE#{account_id}"},
                    "sk": {"S": f"{(deleted_at - _EPOCH) // timedelta(milliseconds=1):013d}#{webhook_id}"},
                    "deleted_at": {"S": format_time(deleted_at)},
                    "deleted_by": {"S": deleted_by},
                    "expires_at": {"N": str(int(expires_at.timestamp()))},
                    **({"events": {"SS": sorted(events)}} if events else {}),
                },
            }
        }
        remove_health: TransactWriteItemTypeDef = {
            "Delete": {"TableName": self._table_name, "Key": key_item(health_key(account_id, webhook_id))}
        }
        actions = [remove_it, uncount_it, put_tombstone, remove_health]
        if transact(self._client, actions, sleep=self._sleep):
            raise WebhookNotFound if expected is None else VersionConflict

    def deleted(self, account_id: str, *, since_ms: int) -> list[Tombstone]:
        """Return the first MAX_DELETED webhooks that an account deleted at `since_ms` or later.

        Those that an older version deleted come after all others.
        """
        response = self._client.query(
            TableName=self._table_name,
            KeyConditionExpression="pk = :pk AND sk BETWEEN :low AND :high",
            ExpressionAttributeValues={
                ":pk": {"S": f"TOMBSTONE#{account_id}"},
                ":low": {"S": f"{since_ms:013d}"},
                ":high": {"S": f"{_OLD_TOMBSTONE}~"},
            },
            ConsistentRead=True,
            Limit=MAX_DELETED,
        )
        since = format_ms(since_ms)
        return [
            deleted for item in response["Items"] if (deleted := read_tombstone(item)).deleted_at >= since
        ]


def read_tombstone(item: "Item") -> Tombstone:
    """Return the tombstone of an item, also of one that an older version wrote."""
    return Tombstone(
        webhook_id=item["sk"]["S"].rpartition("#")[2],
        events=frozenset(item.get("events", {"SS": []})["SS"]),
        deleted_at=item["deleted_at"]["S"],
    )


def webhook_key(account_id: str, webhook_id: str) -> Key:
    """Return the key of a webhook."""
    return f"ACCOUNT#{account_id}", f"WEBHOOK#{webhook_id}"


def _account_key(account_id: str) -> "Item":
    return key_item((f"ACCOUNT#{account_id}", "ACCOUNT"))


def _webhook_key(account_id: str, webhook_id: str) -> "Item":
    return key_item(webhook_key(account_id, webhook_id))


def _health(webhook: Webhook, items: "Mapping[str, Item]") -> Health:
    """Return the health of `webhook`.

    A stored health of another epoch describes an endpoint that the webhook no longer has. Until its own is
    stored, the webhook is in backlog mode.
    """
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
        **({"batch_schedule": _schedule_item(webhook.batch_schedule)} if webhook.batch_schedule else {}),
        "created_at": {"S": webhook.created_at},
        "updated_at": {"S": webhook.updated_at},
        "created_by": {"S": webhook.created_by},
        "updated_by": {"S": webhook.updated_by},
        "epoch": {"N": str(webhook.epoch)},
        "version": {"N": str(webhook.version)},
        **({"keep_response_bodies": {"BOOL": True}} if webhook.keep_response_bodies else {}),
    }


def _events_of_unreadable(item: "Item") -> frozenset[str] | None:
    try:
        return frozenset() if item["status"]["S"] == Status.INACTIVE else frozenset(item["events"]["SS"])
    except (KeyError, TypeError):
        return None


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


def _schedule_item(schedule: BatchSchedule) -> "AttributeValueTypeDef":
    match schedule:
        case EveryMinutes(minutes):
            return {"M": {"every_minutes": {"N": str(minutes)}}}
        case DailyAt(times, time_zone):
            return {"M": {"daily_at": {"SS": list(times)}, "time_zone": {"S": time_zone}}}


def _schedule(item: "Mapping[str, AttributeValueTypeDef]") -> BatchSchedule:
    if "every_minutes" in item:
        return EveryMinutes(int(item["every_minutes"]["N"]))
    return DailyAt(tuple(sorted(item["daily_at"]["SS"])), item["time_zone"]["S"])


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
        batch_schedule=_schedule(item["batch_schedule"]["M"]) if "batch_schedule" in item else None,
        created_at=item["created_at"]["S"],
        updated_at=item["updated_at"]["S"],
        created_by=item["created_by"]["S"],
        updated_by=item["updated_by"]["S"],
        epoch=int(item["epoch"]["N"]),
        version=int(item["version"]["N"]),
        keep_response_bodies="keep_response_bodies" in item,
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
