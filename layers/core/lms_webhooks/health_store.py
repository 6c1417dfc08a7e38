"""Keep the health of webhooks, and the lease of their drainer: the only module that changes these items.

| pk                  | sk                 | what                                                         |
|---------------------|--------------------|--------------------------------------------------------------|
| ACCOUNT#<accountId> | HEALTH#<webhookId> | how the endpoint does, and who drains its backlog until when |

`webhook_store` makes the item with its webhook and deletes it with it, so that a change on condition that
the item exists is one on condition that the webhook does.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from lms_webhooks.dynamodb import Table, holds, key_item
from lms_webhooks.event_items import attempts_attribute, read_attempts
from lms_webhooks.health import Health, Mode, SwitchOff

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

    type Item = dict[str, AttributeValueTypeDef]

_NUMBERS = (
    "failures",
    "rejections",
    "failing_since_ms",
    "next_attempt_at_ms",
    "backlog_since_ms",
    "recovered_at_ms",
    "min_stay_seconds",
    "batch_size",
    "batch_ceiling",
    "switched_off_at_ms",
)
_NEWER_NUMBERS = (  # items of an older version have none of them
    "ceiling_left",
    "ceiling_trials",
    "max_bytes",
    "max_bytes_until_ms",
    "realtime_in_a_row",
    "nearly_empty_since_ms",
)


class HealthStore:
    """The health of every webhook. Safe to share between threads."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def read(self, account_id: str, webhook_id: str) -> Health | None:
        """How a webhook does now (consistent read); None when the webhook is gone."""
        answer = self._table.client.get_item(
            TableName=self._table.name, Key=key_item(health_key(account_id, webhook_id)), ConsistentRead=True
        )
        return read_health_item(answer["Item"]) if "Item" in answer else None

    def save(self, account_id: str, webhook_id: str, health: Health, *, revision: int) -> bool:
        """Write `health`, which follows from revision `revision`; answer whether that was still the last.

        A later epoch resets the revision's item, so what belongs to an earlier one is not written either.

        Raises:
            aws.AWS_FAULTS: nothing may have been written.
        """
        return self._save(account_id, webhook_id, health, revision=revision, owner=None)

    def acquire(
        self, account_id: str, webhook_id: str, *, owner: str, now_ms: int, until_ms: int
    ) -> Health | None:
        """Take the lease of a webhook, if nobody has it and its next attempt is due.

        Each `owner` is fresh, so that one who has it already is this call, tried again by botocore.

        Returns its health, or None when another drains it, it is too early, or the webhook is gone.
        """
        values: Item = {
            ":owner": {"S": owner},
            ":until": {"N": str(until_ms)},
            ":now": {"N": str(now_ms)},
        }
        try:
            answer = self._table.client.update_item(
                TableName=self._table.name,
                Key=key_item(health_key(account_id, webhook_id)),
                UpdateExpression="SET lease_owner = :owner, lease_until_ms = :until",
                ConditionExpression=(
                    "attribute_exists(pk) AND next_attempt_at_ms <= :now"
                    " AND (attribute_not_exists(lease_until_ms) OR lease_until_ms < :now"
                    " OR lease_owner = :owner)"
                ),
                ExpressionAttributeValues=values,
                ReturnValues="ALL_NEW",
            )
        except self._table.client.exceptions.ConditionalCheckFailedException:
            return None
        return read_health_item(answer["Attributes"])

    def release(
        self, account_id: str, webhook_id: str, *, owner: str, health: Health, before: Health
    ) -> bool:
        """Give the lease back, with what the holder learnt (`before` became `health`).

        What it learnt is dropped when something else changed meanwhile: a new epoch, or a dispatcher that
        saw the endpoint fail. Answers whether it was written, or was nothing new.
        """
        if health != before and self._save(
            account_id, webhook_id, health, revision=before.revision, owner=owner
        ):
            return True
        holds(
            lambda: self._table.client.update_item(
                TableName=self._table.name,
                Key=key_item(health_key(account_id, webhook_id)),
                UpdateExpression="REMOVE lease_owner, lease_until_ms",
                ConditionExpression="lease_owner = :owner",
                ExpressionAttributeValues={":owner": {"S": owner}},
            ),
            self._table.client,
        )
        return health == before

    def _save(
        self, account_id: str, webhook_id: str, health: Health, *, revision: int, owner: str | None
    ) -> bool:
        state = health_attributes(replace(health, revision=revision + 1))
        names = {f"#{name}": name for name in state}
        values: Item = {f":{name}": value for name, value in state.items()}
        values[":expected"] = {"N": str(revision)}
        condition = "attribute_exists(pk) AND #revision = :expected AND #epoch = :epoch"
        update = "SET " + ", ".join(f"#{name} = :{name}" for name in state)
        if owner is not None:
            values[":owner"] = {"S": owner}
            condition += " AND lease_owner = :owner"
            update += " REMOVE lease_owner, lease_until_ms"
        return holds(
            lambda: self._table.client.update_item(
                TableName=self._table.name,
                Key=key_item(health_key(account_id, webhook_id)),
                UpdateExpression=update,
                ConditionExpression=condition,
                ExpressionAttributeNames=names,
                ExpressionAttributeValues=values,
            ),
            self._table.client,
        )


def health_key(account_id: str, webhook_id: str) -> tuple[str, str]:
    """Where the health of a webhook stands, in the webhooks table."""
    return f"ACCOUNT#{account_id}", f"HEALTH#{webhook_id}"


def health_attributes(health: Health) -> "Item":
    """`health` as attributes, without the lease, which is no part of it."""
    return {
        **{
            name: {"N": str(getattr(health, name))}
            for name in ("epoch", "revision", *_NUMBERS, *_NEWER_NUMBERS)
        },
        "mode": {"S": health.mode.value},
        "last_error": {"S": health.last_error},
        "switched_off": {"S": health.switched_off.value if health.switched_off else ""},
        "attempts": attempts_attribute(health.attempts),
        "suspects": {"M": {key: {"N": str(failures)} for key, failures in health.suspects.items()}},
        "lower_lane": {"S": health.lower_lane},
        "batch_ceiling_until_ms": {"N": "0"},  # an older version that is rolled back to reads it
    }


def read_health_item(item: "Item") -> Health:
    """The health that `health_attributes` wrote."""
    numbers = {name: int(item[name]["N"]) for name in ("epoch", "revision", *_NUMBERS)}
    numbers |= {name: int(item[name]["N"]) for name in _NEWER_NUMBERS if name in item}
    suspects = item.get("suspects", {"M": {}})["M"]
    switched_off = item["switched_off"]["S"]
    return Health(
        **numbers,
        mode=Mode(item["mode"]["S"]),
        last_error=item["last_error"]["S"],
        switched_off=SwitchOff(switched_off) if switched_off else None,
        attempts=read_attempts(item["attempts"]),
        suspects={key: int(failures["N"]) for key, failures in suspects.items()},
        lower_lane=item.get("lower_lane", {"S": ""})["S"],
    )
