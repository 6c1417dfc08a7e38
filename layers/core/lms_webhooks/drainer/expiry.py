"""Find pending events that expired, and record them as expired. Sends nothing.

A lane is in the order of the events' own time, so an event that was accepted long ago may be anywhere in it.
A drain run checks a lane when its due marker says that an event may have expired. Several runs share the
check of a long lane, and the marker keeps the position.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from lms_webhooks.drainer.outcomes import OutcomeRecorder
from lms_webhooks.drainer.replay_runner import ReplayRunner
from lms_webhooks.model.deliveries import Outcome
from lms_webhooks.model.lanes import Check, DueMarker, Lane, PendingEvent
from lms_webhooks.observability import logger
from lms_webhooks.stores.backlog import Backlog, place_of

PAGES_PER_CHECK = 10  # of a megabyte; to check a long lane at once would leave no time to send
PAUSE_MS = 600_000
"""The least time between two checks. A lane whose events expire one by one is not read each minute."""
_APPENDED_MS = 86_400_000
"""The next check where events were appended during this one: they may be older than all that it saw."""


class Expiry:
    """Expires events that were pending for the retention period. Safe to share between threads."""

    def __init__(
        self,
        backlog: Backlog,
        recorder: OutcomeRecorder,
        replays: ReplayRunner,
        *,
        retention_days: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._backlog = backlog
        self._recorder = recorder
        self._replays = replays
        self._days = retention_days
        self.retention_ms = retention_days * 86_400_000
        self._clock = clock

    def check_lane(
        self, marker: DueMarker, *, endpoint_works: bool, last_error: str, has_time: Callable[[], bool]
    ) -> None:
        """Expire events of a lane from where the last check ended; clear the marker of an empty lane.

        Raises:
            AWS_ERRORS: a read or a write failed; the check stays due.
        """
        lane = marker.lane
        check = marker.check or Check("", 0, marker.token)
        pages = self._backlog.read_all(marker.webhook_id, lane, behind=check.position)
        for number, pending in enumerate(pages):
            if not pending:
                continue
            if number == PAGES_PER_CHECK or not has_time():
                self._backlog.keep_check(marker, check)
                return
            expired = self.expired(lane, pending, endpoint_works=endpoint_works)
            if not self.record(marker.webhook_id, lane, expired, last_error=last_error):
                return  # the check stays due
            ended = {each.event.sort_key for each in expired}
            kept = [_since_ms(lane, each) for each in pending if each.event.sort_key not in ended]
            first_ms = min([*kept, *([check.first_ms] if check.first_ms else [])], default=0)
            check = Check(place_of(pending[-1], lane), first_ms, check.token)
        self._finish(marker, check)

    def expired(
        self, lane: Lane, pending: Sequence[PendingEvent], *, endpoint_works: bool
    ) -> list[PendingEvent]:
        """Return the expired events of a lane: none that was never tried, while the endpoint works."""
        if endpoint_works and lane is not Lane.RETRY:
            return []
        oldest_ms = self._now_ms() - self.retention_ms
        return [each for each in pending if _since_ms(lane, each) <= oldest_ms]

    def record(
        self, webhook_id: str, lane: Lane, expired: Sequence[PendingEvent], *, last_error: str
    ) -> bool:
        """Record expired events, and remove them from their lane; return whether all of it is done."""
        if not expired:
            return True
        if lane is Lane.REPLAY:  # their outcome stands in the history; only the redelivery expires
            logger.info("redelivery expired", webhookId=webhook_id, events=len(expired))
            return self._backlog.remove(webhook_id, lane, expired)
        reason = f"not delivered within {self._days} days"
        if last_error:
            reason += f"; the last error was {last_error}"
        return self._recorder.record_undelivered(webhook_id, lane, expired, Outcome.EXPIRED, reason)

    def _finish(self, marker: DueMarker, check: Check) -> None:
        """Set the time of the next check, or clear the marker of an empty lane."""
        now_ms = self._now_ms()
        first_ms = check.first_ms
        if marker.lane is Lane.REPLAY and self._replays.is_running(marker.webhook_id):
            first_ms = first_ms or now_ms  # it needs the marker, and does not expire itself
        as_read = replace(marker, token=check.token)
        if not first_ms and self._backlog.clear_marker(as_read):
            return
        next_ms = max(first_ms + self.retention_ms, now_ms + PAUSE_MS)
        if not first_ms or not self._backlog.set_check(as_read, next_ms):
            self._backlog.set_check(marker, min(next_ms, now_ms + _APPENDED_MS), is_forced=True)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _since_ms(lane: Lane, pending: PendingEvent) -> int:
    """Return when the retention period of an event, or of its redelivery, began."""
    return pending.asked_at_ms if lane is Lane.REPLAY else pending.event.accepted_at_ms
