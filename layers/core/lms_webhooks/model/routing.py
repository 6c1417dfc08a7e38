"""Decide what becomes of an event for a webhook: nothing, a POST at once, or a place in its backlog. Pure."""

from enum import Enum, auto

from lms_webhooks.model.event_types import EVENT_TYPES, Category, EventTypes
from lms_webhooks.model.events import Event
from lms_webhooks.model.health import DisabledReason, Health, Mode
from lms_webhooks.model.webhooks import Status, Webhook


class Route(Enum):
    """Where an event goes for one webhook."""

    SKIP = auto()
    DIRECT = auto()
    REALTIME_LANE = auto()
    BATCH_LANE = auto()


def route(
    webhook: Webhook,
    health: Health,
    event: Event,
    *,
    retention_ms: int,
    event_types: EventTypes = EVENT_TYPES,
) -> Route:
    """Return where `event` goes now for `webhook`, which is of the same account.

    A webhook that was disabled for failing still takes events for one retention period, so that a
    recovering endpoint loses nothing. One that responded 410 takes none, like an inactive one.
    What counts is when the event was accepted: its message may have been held up for long.
    """
    if event.event_name not in webhook.events or webhook.status is Status.INACTIVE:
        return Route.SKIP
    if health.disabled_reason is not None:
        taken_for_ms = retention_ms if health.disabled_reason is DisabledReason.FAILING else 0
        if event.accepted_at_ms - health.disabled_at_ms >= taken_for_ms:
            return Route.SKIP
    lane_route = route_to_lane(event, event_types)
    must_wait = (
        webhook.status is Status.PAUSED
        or webhook.ordered
        or health.mode is Mode.BACKLOG
        or health.disabled_reason is not None
    )
    return lane_route if lane_route is Route.BATCH_LANE or must_wait else Route.DIRECT


def route_to_lane(event: Event, event_types: EventTypes = EVENT_TYPES) -> Route:
    """Return the route of `event` into the backlog, for when no POST carries it at once."""
    is_real_time = event_types[event.event_name].category is Category.REAL_TIME
    return Route.REALTIME_LANE if is_real_time else Route.BATCH_LANE
