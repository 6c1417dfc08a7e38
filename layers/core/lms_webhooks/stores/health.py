"""Store the health of webhooks, the lease of their drainer, and the ticket of the drainer's message.

| pk                  | sk                 | what                                                          |
|---------------------|--------------------|---------------------------------------------------------------|
| ACCOUNT#<accountId> | HEALTH#<webhookId> | health of the endpoint, drainer of its backlog until when,    |
|                     |                    | and the ticket of the drain message that is on its way        |

A ticket says that one drain message is on its way, and until when that message does not count as lost. While
the ticket lives, no other message gets the lease, and no process sends another message. A ticket is used
once: it is removed when its message takes the lease. So a webhook has one chain of messages, even when a
message fails or is redelivered.

The ticket that a drainer leaves to its successor is the id of the drainer's own message. If the drainer dies
before it sends the successor, its own message is redelivered and replaces the successor.

`webhooks` makes the item with its webhook, resets it, and deletes it with the webhook. So a write on
condition that the item exists is a write on condition that the webhook exists.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from lms_webhooks.aws.dynamodb import Table, conditional_write, key_item, transact
from lms_webhooks.errors import IdempotencyInProgress
from lms_webhooks.model.health import DisabledReason, Health, Mode
from lms_webhooks.stores.items import attempts_attribute, read_attempts

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef, TransactWriteItemTypeDef

    type Item = dict[str, AttributeValueTypeDef]

TICKET_GRACE_SECONDS = 900
"""How long after its due time a message may stay in its queue before it counts as lost. 2,500 receivers that
hang keep 100 drainers busy for 375 s a round, 15 s each. A longer grace delays a webhook whose message was
really lost."""

_NUMBERS = (
    "failures",
    "rejections",
    "failing_since_ms",
    "next_attempt_at_ms",
    "backlog_since_ms",
    "recovered_at_ms",
    "min_stay_seconds",
    "request_size",
    "request_size_ceiling",
    "disabled_at_ms",
)
_NEWER_NUMBERS = (  # items of an older version have none of them
    "ceiling_left",
    "ceiling_trials",
    "max_bytes",
    "max_bytes_until_ms",
    "realtime_in_a_row",
    "nearly_empty_since_ms",
)
_STORED_NAMES = {
    "request_size": "batch_size",
    "request_size_ceiling": "batch_ceiling",
    "disabled_at_ms": "switched_off_at_ms",
}
"""The attribute of an item, where it is not named like the field of `Health`."""


class Ticket(NamedTuple):
    """The text that a drain message carries, and when it can be received first, in UTC milliseconds."""

    text: str
    due_ms: int


_GIVES_LEASE_BACK = "REMOVE lease_owner, lease_until_ms"
_LEASE_IS_FREE = "(attribute_not_exists(lease_until_ms) OR lease_until_ms < :now)"
_TICKET_IS_FREE = "(attribute_not_exists(ticket_until_ms) OR ticket_until_ms < :now)"


class HealthStore:
    """Read and write the health, lease and ticket of every webhook. Safe to share between threads."""

    def __init__(self, table: Table, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._table = table
        self._sleep = sleep

    def read(self, account_id: str, webhook_id: str) -> Health | None:
        """Return the health of a webhook by a consistent read, or None when the webhook is deleted."""
        response = self._table.client.get_item(
            TableName=self._table.name, Key=key_item(health_key(account_id, webhook_id)), ConsistentRead=True
        )
        return read_health_item(response["Item"]) if "Item" in response else None

    def save(self, account_id: str, webhook_id: str, health: Health, *, revision: int) -> bool:
        """Write `health`, which was computed from revision `revision`.

        A health of an earlier epoch is not written either: a new epoch resets the item.

        Returns:
            Whether it was written: `revision` was still the last one.

        Raises:
            AWS_ERRORS: nothing may have been written.
        """
        return self._save(account_id, webhook_id, health, revision=revision, owner=None)

    def acquire(
        self,
        account_id: str,
        webhook_id: str,
        *,
        owner: str,
        now_ms: int,
        until_ms: int,
        ticket: str = "",
        message_id: str = "",
    ) -> Health | None:
        """Take the lease of a webhook for the drainer that received a message with this `ticket` and id.

        This uses up the stored ticket: that of the message, or that of its successor. Each call of a drainer
        has a new `owner`. If that owner has the lease already, botocore repeated this call.

        Returns:
            The health. None when another drainer has the lease, another message is on its way, it is too
            early, or the webhook is deleted.
        """
        values: Item = {
            ":owner": {"S": owner},
            ":until": {"N": str(until_ms)},
            ":now": {"N": str(now_ms)},
            ":ticket": {"S": ticket},
            ":left": {"S": message_id},
        }
        try:
            response = self._table.client.update_item(
                TableName=self._table.name,
                Key=key_item(health_key(account_id, webhook_id)),
                UpdateExpression=(
                    "SET lease_owner = :owner, lease_until_ms = :until REMOVE ticket, ticket_until_ms"
                ),
                ConditionExpression=(
                    "attribute_exists(pk) AND next_attempt_at_ms <= :now"
                    f" AND ({_LEASE_IS_FREE} OR lease_owner = :owner)"
                    f" AND ({_TICKET_IS_FREE} OR ticket = :ticket OR ticket = :left)"
                ),
                ExpressionAttributeValues=values,
                ReturnValues="ALL_NEW",
            )
        except self._table.client.exceptions.ConditionalCheckFailedException:
            return None
        return read_health_item(response["Attributes"])

    def release(
        self,
        account_id: str,
        webhook_id: str,
        *,
        owner: str,
        health: Health,
        before: Health,
        ticket: Ticket | None = None,
    ) -> bool:
        """Give the lease back, and write the new health and the `ticket` of the message that is sent next.

        The drain run changed the health from `before` to `health`. This change and the ticket are dropped if
        another process changed the item in between: a new epoch, or a dispatcher that saw the endpoint fail.

        Returns:
            Whether they were written, or the health had not changed.
        """
        if health != before:
            if self._save(
                account_id, webhook_id, health, revision=before.revision, owner=owner, ticket=ticket
            ):
                return True
            ticket = None
        sets, values = _ticket_sets(ticket)
        values[":owner"] = {"S": owner}
        conditional_write(
            lambda: self._table.client.update_item(
                TableName=self._table.name,
                Key=key_item(health_key(account_id, webhook_id)),
                UpdateExpression=_update(sets) + _GIVES_LEASE_BACK,
                ConditionExpression="lease_owner = :owner",
                ExpressionAttributeValues=values,
            ),
            self._table.client,
        )
        return health == before

    def take_ticket(self, account_id: str, webhook_id: str, ticket: Ticket, *, now_ms: int) -> bool:
        """Record that a message with `ticket` is sent next.

        A message that replaces an early or lost one gets the same text. So the one that is received first
        counts. If the earlier one lost its ticket, messages that are queued longer than a ticket lives would
        all be useless.

        Returns:
            Whether the message may be sent. It may not when another message is on its way, a drainer has the
            lease, or the webhook is deleted.
        """
        return conditional_write(
            lambda: self._table.client.update_item(
                TableName=self._table.name,
                Key=key_item(health_key(account_id, webhook_id)),
                UpdateExpression="SET ticket = :ticket, ticket_until_ms = :until",
                ConditionExpression=(
                    f"attribute_exists(pk) AND {_LEASE_IS_FREE} AND ({_TICKET_IS_FREE} OR ticket = :ticket)"
                ),
                ExpressionAttributeValues={
                    ":ticket": {"S": ticket.text},
                    ":until": {"N": str(_until_ms(ticket))},
                    ":now": {"N": str(now_ms)},
                },
            ),
            self._table.client,
        )

    def drop_ticket(self, account_id: str, webhook_id: str, ticket: str) -> None:
        """Remove a ticket whose message could not be sent. The sweep then sends one within a minute.

        Raises:
            AWS_ERRORS: the ticket may stay until it expires.
        """
        conditional_write(
            lambda: self._table.client.update_item(
                TableName=self._table.name,
                Key=key_item(health_key(account_id, webhook_id)),
                UpdateExpression="REMOVE ticket, ticket_until_ms",
                ConditionExpression="ticket = :ticket",
                ExpressionAttributeValues={":ticket": {"S": ticket}},
            ),
            self._table.client,
        )

    def retry_now(
        self,
        account_id: str,
        webhook_id: str,
        *,
        epoch: int,
        now_ms: int,
        extra_writes: "Sequence[TransactWriteItemTypeDef]" = (),
    ) -> bool:
        """Make the next attempt at a failing endpoint due now, in one transaction with `extra_writes`.

        The drain message that is on its way loses its ticket, as after a change of the webhook. So a message
        that is sent now gets the lease at once, and the earlier one ends silently.

        Returns:
            False when nothing was written: a drainer has the lease, or in this epoch the endpoint does not
            fail, or the system has disabled the webhook.

        Raises:
            IdempotencyInProgress: a condition of `extra_writes` failed.
            Contention: see `transact`.
        """
        make_due: TransactWriteItemTypeDef = {
            "Update": {
                "TableName": self._table.name,
                "Key": key_item(health_key(account_id, webhook_id)),
                # The revision, so that a drainer that outlived its lease does not write its own time over it.
                "UpdateExpression": (
                    "SET next_attempt_at_ms = :now ADD revision :one REMOVE ticket, ticket_until_ms"
                ),
                "ConditionExpression": (
                    "attribute_exists(pk) AND epoch = :epoch AND failures > :none AND switched_off = :not"
                    f" AND {_LEASE_IS_FREE}"
                ),
                "ExpressionAttributeValues": {
                    ":now": {"N": str(now_ms)},
                    ":one": {"N": "1"},
                    ":epoch": {"N": str(epoch)},
                    ":none": {"N": "0"},
                    ":not": {"S": ""},
                },
            }
        }
        refused = transact(self._table.client, [make_due, *extra_writes], sleep=self._sleep)
        if refused and 0 not in refused:
            raise IdempotencyInProgress
        return not refused

    def _save(
        self,
        account_id: str,
        webhook_id: str,
        health: Health,
        *,
        revision: int,
        owner: str | None,
        ticket: Ticket | None = None,
    ) -> bool:
        state = health_attributes(replace(health, revision=revision + 1))
        names = {f"#{name}": name for name in state}
        values: Item = {f":{name}": value for name, value in state.items()}
        values[":expected"] = {"N": str(revision)}
        condition = "attribute_exists(pk) AND #revision = :expected AND #epoch = :epoch"
        sets, ticket_values = _ticket_sets(ticket)
        values |= ticket_values
        update = _update([*(f"#{name} = :{name}" for name in state), *sets])
        if owner is not None:
            values[":owner"] = {"S": owner}
            condition += " AND lease_owner = :owner"
            update += _GIVES_LEASE_BACK
        return conditional_write(
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
    """Return the key of a webhook's health in the webhooks table."""
    return f"ACCOUNT#{account_id}", f"HEALTH#{webhook_id}"


def _ticket_sets(ticket: Ticket | None) -> "tuple[list[str], Item]":
    """Return the parts of an update that write a ticket, and their values."""
    if ticket is None:
        return [], {}
    values: Item = {":ticket": {"S": ticket.text}, ":ticket_until": {"N": str(_until_ms(ticket))}}
    return ["ticket = :ticket", "ticket_until_ms = :ticket_until"], values


def _until_ms(ticket: Ticket) -> int:
    return ticket.due_ms + TICKET_GRACE_SECONDS * 1000


def _update(sets: Sequence[str]) -> str:
    return f"SET {', '.join(sets)} " if sets else ""


def health_attributes(health: Health) -> "Item":
    """Return `health` as attributes, without the lease and the ticket, which are not part of it."""
    return {
        **{
            _STORED_NAMES.get(name, name): {"N": str(getattr(health, name))}
            for name in ("epoch", "revision", *_NUMBERS, *_NEWER_NUMBERS)
        },
        "mode": {"S": health.mode.value},
        "last_error": {"S": health.last_error},
        "switched_off": {"S": health.disabled_reason.value if health.disabled_reason else ""},
        "attempts": attempts_attribute(health.attempts),
        "suspects": {"M": {key: {"N": str(failures)} for key, failures in health.suspects.items()}},
        "lower_lane": {"S": health.lower_lane},
        "batch_ceiling_until_ms": {"N": "0"},  # an older version that is rolled back to reads it
    }


def read_health_item(item: "Item") -> Health:
    """Return the health that `health_attributes` wrote."""
    numbers = {
        name: int(item[_STORED_NAMES.get(name, name)]["N"]) for name in ("epoch", "revision", *_NUMBERS)
    }
    numbers |= {name: int(item[name]["N"]) for name in _NEWER_NUMBERS if name in item}
    suspects = item.get("suspects", {"M": {}})["M"]
    disabled_reason = item["switched_off"]["S"]
    return Health(
        **numbers,
        mode=Mode(item["mode"]["S"]),
        last_error=item["last_error"]["S"],
        disabled_reason=DisabledReason(disabled_reason) if disabled_reason else None,
        attempts=read_attempts(item["attempts"]),
        suspects={key: int(failures["N"]) for key, failures in suspects.items()},
        lower_lane=item.get("lower_lane", {"S": ""})["S"],
    )
