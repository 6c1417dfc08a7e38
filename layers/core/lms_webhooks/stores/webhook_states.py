"""Read, for many webhooks at once, whether a drainer could do something for them now."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lms_webhooks.aws.dynamodb import Table, item_key
from lms_webhooks.model.webhooks import Status
from lms_webhooks.stores.health import health_key
from lms_webhooks.stores.webhooks import webhook_key

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

    type Item = dict[str, AttributeValueTypeDef]

_ATTRIBUTES = (
    "#status",
    "epoch",
    "switched_off",
    "lease_until_ms",
    "ticket",
    "ticket_until_ms",
    "next_attempt_at_ms",
    "failures",
)


@dataclass(frozen=True, slots=True)
class WebhookState:
    """What the sweep must know of a webhook. Times in UTC milliseconds."""

    may_send: bool
    """Active, and not switched off by the system."""
    lease_until_ms: int
    next_attempt_at_ms: int
    epoch: int = 1
    """Of its registration."""
    is_switched_off: bool = False
    """By the system."""
    ticket: str = ""
    """Of the drain message that was sent last, if nobody got it yet."""
    ticket_until_ms: int = 0
    """Until then that message is on its way."""
    failures: int = 0
    """Endpoint failures in a row."""


class WebhookStates:
    """The standing of every webhook."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def read(
        self, ids: Sequence[tuple[str, str]], *, whole: bool = False
    ) -> dict[tuple[str, str], WebhookState]:
        """The standings of webhooks, by account id and webhook id; deleted webhooks have none.

        Nor has one that DynamoDB left unread, unless the `whole` is wanted.

        Raises:
            AWS_ERRORS: they could not be read.
        """
        keys = [key(*each) for each in ids for key in (webhook_key, health_key)]
        items = {
            item_key(item): item
            for item in self._table.get_all(
                keys, attributes=_ATTRIBUTES, names={"#status": "status"}, consistent=True, whole=whole
            )
        }
        return {
            each: _standing(items[webhook_key(*each)], items.get(health_key(*each), {}))
            for each in ids
            if webhook_key(*each) in items
        }


def _standing(webhook: "Item", health: "Item") -> WebhookState:
    def number(name: str) -> int:
        return int(health[name]["N"]) if name in health else 0

    is_switched_off = bool(health.get("switched_off", {"S": ""})["S"])
    return WebhookState(
        may_send=webhook["status"]["S"] == Status.ACTIVE and not is_switched_off,
        lease_until_ms=number("lease_until_ms"),
        next_attempt_at_ms=number("next_attempt_at_ms"),
        epoch=int(webhook["epoch"]["N"]),
        is_switched_off=is_switched_off,
        ticket=health["ticket"]["S"] if "ticket" in health else "",
        ticket_until_ms=number("ticket_until_ms"),
        failures=number("failures"),
    )
