"""Count the outcomes of a webhook's events by the hour, and its pending events, with bounded reads."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lms_webhooks.admin.batch_schedules import BatchSchedules
from lms_webhooks.admin.caller import Caller
from lms_webhooks.aws.dynamodb import KeyRange
from lms_webhooks.model.deliveries import DeliveryRecord, Outcome
from lms_webhooks.model.lanes import Count, Lane
from lms_webhooks.stores.backlog import Backlog
from lms_webhooks.stores.deliveries import DeliveryStore
from lms_webhooks.stores.webhooks import WebhookStore

HOUR_MS = 3_600_000
DEFAULT_HOURS = 24
MAX_HOURS = 7 * 24
_MAX_PAGES = 10  # megabytes of the history: ten thousand deliveries and more
_PAGE = 5_000  # more than a megabyte holds
_READ_OF_RETRY = 1000
_COUNTED_PENDING = 1000  # as for a single webhook


@dataclass
class Hour:
    """The outcomes of the events of one hour. The time of the event decides the hour."""

    starts_at_ms: int
    outcomes: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))
    latencies_ms: list[int] = field(default_factory=list)
    """The latency of each successful attempt."""

    def add(self, recorded: DeliveryRecord) -> None:
        self.outcomes[recorded.outcome] += 1
        if recorded.outcome is Outcome.DELIVERED and recorded.first_success is not None:
            self.latencies_ms.append(recorded.first_success.latency_ms)


@dataclass(frozen=True, slots=True)
class Stats:
    """The stats of one webhook. Hours without a record are left out; newest first."""

    from_ms: int
    to_ms: int
    counted_from_ms: int
    """Later than `from_ms` when there is more than was read."""
    hours: list[Hour]
    pending: dict[Lane, Count]
    oldest_pending_ms: int | None
    next_expiry_ms: int | None
    """No pending event expires earlier."""
    next_batch_ms: int
    """When the next non-real-time events go out."""


class StatsReader:
    """The stats of every account's webhooks."""

    def __init__(
        self,
        store: WebhookStore,
        deliveries: DeliveryStore,
        backlog: Backlog,
        schedules: BatchSchedules,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._deliveries = deliveries
        self._backlog = backlog
        self._schedules = schedules
        self._clock = clock

    def read(self, caller: Caller, webhook_id: str, *, hours: int) -> Stats:
        """Return the stats of the last `hours`, the current hour included.

        Raises:
            WebhookNotFound: the account has no such webhook.
        """
        webhook = self._store.get(caller.account_id, webhook_id)
        now_ms = int(self._clock() * 1000)
        to_ms = (now_ms // HOUR_MS + 1) * HOUR_MS
        from_ms = to_ms - hours * HOUR_MS
        by_hour, counted_from_ms = self._count(webhook_id, from_ms, to_ms)
        markers = self._backlog.markers(webhook_id)
        expiring = [marker.check_at_ms for lane, marker in markers.items() if lane is not Lane.REPLAY]
        firsts = [
            each.event.occurred_at_ms
            for lane in markers
            if lane is not Lane.REPLAY
            # The retry lane is in the order in which events are tried again, so the oldest may be any.
            for each in self._backlog.read(
                webhook_id, lane, limit=_READ_OF_RETRY if lane is Lane.RETRY else 1
            )
        ]
        return Stats(
            from_ms=from_ms,
            to_ms=to_ms,
            counted_from_ms=counted_from_ms,
            hours=by_hour,
            pending={
                lane: self._backlog.count(marker, limit=_COUNTED_PENDING) for lane, marker in markers.items()
            },
            oldest_pending_ms=min(firsts, default=None),
            next_expiry_ms=min(expiring, default=None) if firsts else None,
            next_batch_ms=self._schedules.next_slot_ms(webhook, markers.get(Lane.BATCH)),
        )

    def _count(self, webhook_id: str, from_ms: int, to_ms: int) -> tuple[list[Hour], int]:
        by_hour: dict[int, Hour] = {}
        of = KeyRange(f"{from_ms:013d}", f"{to_ms:013d}")
        for _ in range(_MAX_PAGES):
            page = self._deliveries.page(webhook_id, of, limit=_PAGE)
            for recorded in page.entries:
                starts_at_ms = int(recorded.sort_key[:13]) // HOUR_MS * HOUR_MS
                by_hour.setdefault(starts_at_ms, Hour(starts_at_ms)).add(recorded)
            if page.last_key is None:
                return list(by_hour.values()), from_ms
            of = KeyRange(of.start, page.last_key)
        return list(by_hour.values()), int(of.end[:13])


def percentile(sorted_values: Sequence[int], percent: int) -> int:
    """Return the smallest of `sorted_values` that `percent` of them do not exceed."""
    return sorted_values[max(0, -(-len(sorted_values) * percent // 100) - 1)]
