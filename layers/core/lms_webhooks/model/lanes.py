"""Describe the lanes of a backlog: pending events, and the due markers of lanes that have some. Pure."""

from dataclasses import dataclass, replace
from enum import StrEnum

from lms_webhooks.model.attempts import Attempt
from lms_webhooks.model.events import Event

_FIRST_KEY, _LAST_KEY = "!", "~"  # the sort keys of due markers are printable ASCII


class Lane(StrEnum):
    """A part of a backlog: real-time, non-real-time, rejected, and replayed or redelivered events."""

    # The docstring is in the description of the admin API. A response lists lanes in the order below; the
    # order of requests is in `drainer/choosing.py`. The values are in keys of the deliveries table. Code that
    # does not know a value reports the due marker and skips it.

    REALTIME = "realtime"
    BATCH = "batch"
    RETRY = "retry"
    REPLAY = "replay"

    def is_urgent(self, *, failures: int) -> bool:
        """Return whether a drain of this lane goes to the urgent queue.

        It does for real-time events of an endpoint that works. A probe may hang, and the other lanes have
        time. So they have a queue and drainers of their own.
        """
        return self is Lane.REALTIME and not failures


@dataclass(frozen=True, slots=True)
class PendingEvent:
    """One event in a lane."""

    event: Event
    tries: int = 0
    """How often its receiver rejected it."""
    due_at_ms: int = 0
    """Do not send it earlier. Set in the retry lane, and for a redelivery of an event that is also there."""
    attempts: tuple[Attempt, ...] = ()
    """The attempts that concerned this event alone."""
    token: str = ""
    """Of a redelivery. A second request for the same event gives it another token."""
    lane: Lane | None = None
    """Of a redelivery: the other lane in which the event is pending, with its attempts there.

    `admin/deliveries.py` sets it for each pending event that it finds, which a redelivery then takes over.
    """
    asked_at_ms: int = 0
    """Of a redelivery: when an admin requested it. The request expires like a pending event."""


@dataclass(frozen=True, slots=True)
class Count:
    """The number of events in a lane, or its lower bound."""

    events: int
    is_complete: bool


@dataclass(frozen=True, slots=True)
class Check:
    """How far a lane was searched for expired events by a drain run that did not reach its end."""

    position: str
    """The sort key of the last event that was read."""
    first_ms: int
    """Since when the oldest of the events read is pending. 0 when there was none."""
    token: str
    """The token of the due marker when the search began."""


@dataclass(frozen=True, slots=True)
class DueMarker:
    """Says that a lane has events, and when to look at it. Times in UTC milliseconds."""

    account_id: str
    webhook_id: str
    lane: Lane
    token: str
    due_at_ms: int
    """Nothing in the lane is to be sent earlier."""
    check_at_ms: int
    """When the first of its events may expire."""
    check: Check | None = None
    """The search for expired events that is not finished."""
    purge_until_ms: int = 0
    """Of a deleted webhook: until then a purger has the lane, or is scheduled."""

    def is_due(self, now_ms: int) -> bool:
        """Return whether an event of the lane may be sent."""
        return self.due_at_ms <= now_ms

    def is_check_due(self, now_ms: int) -> bool:
        """Return whether an event of the lane may have expired."""
        return self.check_at_ms <= now_ms

    def needs_drainer(self, now_ms: int, *, may_send: bool) -> bool:
        """Return whether a drainer has something to do: an event to send, or one that expired."""
        return self.is_check_due(now_ms) or (may_send and self.is_due(now_ms))


def marker_sort_key(webhook_id: str, lane: Lane) -> str:
    """Return the sort key of a due marker in its shard."""
    return f"{webhook_id}#{lane}"


@dataclass(frozen=True, slots=True)
class ShardPart:
    """The due markers of one shard that are still to be read.

    A read goes from `next_key` to the last marker, then from the first one to `start`. Reads that begin at
    different places do not miss the same marker each time.
    """

    shard: int
    start: str
    next_key: str

    @property
    def end_key(self) -> str:
        """The end of the stretch that is read now."""
        return _LAST_KEY if self.next_key >= self.start else self.start

    def from_marker(self, marker: DueMarker) -> "ShardPart":
        """Return what remains from `marker` on, including it."""
        return replace(self, next_key=marker_sort_key(marker.webhook_id, marker.lane))

    def after(self, sort_key: str | None) -> "ShardPart | None":
        """Return what remains after `sort_key`, or after the whole stretch. None when all is read."""
        if sort_key is not None:
            # A lane's name has no blank, so no marker is in between.
            return replace(self, next_key=f"{sort_key} ")
        return replace(self, next_key=_FIRST_KEY) if self.next_key >= self.start else None


@dataclass(frozen=True, slots=True)
class DueMarkers:
    """Due markers of a shard for which there may be something to do."""

    markers: list[DueMarker]
    read: int
    """How many markers were read, due or not."""
    remaining: ShardPart | None
