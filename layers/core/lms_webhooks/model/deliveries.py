"""Describe deliveries: how an event ended for a webhook, and the attempts before that. Pure."""

from dataclasses import dataclass
from enum import StrEnum

from lms_webhooks.model.attempts import Attempt
from lms_webhooks.model.events import Event

type DeliveryKey = tuple[str, str]
"""Webhook id and sort key of the event."""


class Outcome(StrEnum):
    """How a delivery ended: with a 2xx, given up, or pending for too long."""

    DELIVERED = "delivered"
    FAILED = "failed"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one webhook, with its outcome."""

    webhook_id: str
    event: Event
    outcome: Outcome
    attempts: tuple[Attempt, ...]
    reason: str = ""

    @property
    def key(self) -> DeliveryKey:
        return self.webhook_id, self.event.sort_key


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    """A delivery of the history, without its event's text."""

    sort_key: str
    event_id: str
    event_name: str
    accepted_at_ms: int
    outcome: Outcome
    attempts: tuple[Attempt, ...]
    reason: str = ""
    replay_id: str = ""
    """The last replay that sent it."""

    def has(self, outcome: Outcome | None, event_name: str | None) -> bool:
        """Return whether it has this outcome and this event name. None stands for any."""
        return (outcome is None or self.outcome is outcome) and (
            event_name is None or self.event_name == event_name
        )

    @property
    def first_success(self) -> Attempt | None:
        """The attempt that delivered it; those after it were asked for."""
        return next((attempt for attempt in self.attempts if attempt.is_success), None)
