"""Read for many webhooks at once what the sweep must know to schedule drains."""

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
    """The state of one webhook that the sweep needs. Times in UTC milliseconds."""

    may_send: bool
    """Active, and not disabled by the system."""
    lease_until_ms: int
    next_attempt_at_ms: int
    epoch: int = 1
    """Of the webhook."""
    is_switched_off: bool = False
    """By the system."""
    ticket: str = ""
    """Of the last drain message, if no drainer received it yet."""
    ticket_until_ms: int = 0
    """Until then, that message does not count as lost."""
    failures: int = 0
    """Endpoint failures in a row."""


class WebhookStates:
    """Read the states of webhooks."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def read(
        self, ids: Sequence[tuple[str, str]], *, require_all: bool = False
    ) -> dict[tuple[str, str], WebhookState]:
        """Return the states of webhooks, by account id and webhook id. Deleted webhooks have none.

        A webhook that DynamoDB leaves unread has none either, unless `require_all` is set.

        Raises:
            AWS_ERRORS: they could not be read. With `require_all`, also when some were left unread.
        """
        keys = [key(*each) for each in ids for key in (webhook_key, health_key)]
        items = {
            item_key(item): item
            for item in self._table.get_all(
                keys,
                attributes=_ATTRIBUTES,
                names={"#status": "status"},
                consistent=True,
                require_all=require_all,
            )
        }
        return {
            each: _state(items[webhook_key(*each)], items.get(health_key(*each), {}))
            for each in ids
            if webhook_key(*each) in items
        }


def _state(webhook: "Item", health: "Item") -> WebhookState:
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
