"""End what was pending for too long: look through lanes for events that expired. Apart from sending.

Lanes are in the order of the events' own time, so an event that was accepted long ago may stand anywhere.
A lane is looked through when its mark says that the first of its events may expire. A long one is looked
through in portions, each by another drain run, and the mark says how far.
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

PORTION_PAGES = 10  # megabytes of a lane; were it all of it, a long one would leave no time to send
PAUSE_MS = 600_000
"""No lane is looked through again sooner, or one whose events expire one by one would be read each minute."""
_APPENDED_MS = 86_400_000
"""Where something was appended during the look: what was accepted before all that was seen is found then."""


class Expiry:
    """Ends what was pending for as long as the deployment keeps it. Safe to share between threads."""

    def __init__(
        self,
        backlog: Backlog,
        settler: OutcomeRecorder,
        replays: ReplayRunner,
        *,
        retention_days: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._backlog = backlog
        self._settler = settler
        self._replays = replays
        self._days = retention_days
        self.retention_ms = retention_days * 86_400_000
        self._clock = clock

    def look_through(
        self, mark: DueMarker, *, endpoint_answers: bool, last_error: str, has_time: Callable[[], bool]
    ) -> None:
        """End what expired in a lane, from where the last look ended; remove the mark of one that is empty.

        Raises:
            AWS_ERRORS: something could not be read or written; the look stays due.
        """
        lane = mark.lane
        check = mark.check or Check("", 0, mark.token)
        pages = self._backlog.read_all(mark.webhook_id, lane, behind=check.position)
        for number, waiting in enumerate(pages):
            if not waiting:
                continue
            if number == PORTION_PAGES or not has_time():
                self._backlog.keep_check(mark, check)
                return
            expired = self.expired(lane, waiting, endpoint_answers=endpoint_answers)
            if not self.end(mark.webhook_id, lane, expired, last_error=last_error):
                return  # the look stays due
            ended = {each.event.sort_key for each in expired}
            kept = [_since_ms(lane, each) for each in waiting if each.event.sort_key not in ended]
            first_ms = min([*kept, *([check.first_ms] if check.first_ms else [])], default=0)
            check = Check(place_of(waiting[-1], lane), first_ms, check.token)
        self._finish(mark, check)

    def expired(
        self, lane: Lane, waiting: Sequence[PendingEvent], *, endpoint_answers: bool
    ) -> list[PendingEvent]:
        """Those of a lane that expired. None that was never tried, while its endpoint answers: it is sent."""
        if endpoint_answers and lane is not Lane.RETRY:
            return []
        oldest_ms = self._now_ms() - self.retention_ms
        return [each for each in waiting if _since_ms(lane, each) <= oldest_ms]

    def end(self, webhook_id: str, lane: Lane, expired: Sequence[PendingEvent], *, last_error: str) -> bool:
        """Record what expired, and take it out of its lane; answer whether all of it is."""
        if not expired:
            return True
        if lane is Lane.REPLAY:  # the history says what became of these; only that they be sent again ends
            logger.info("not sent again", webhookId=webhook_id, events=len(expired))
            return self._backlog.remove(webhook_id, lane, expired)
        reason = f"not delivered within {self._days} days"
        if last_error:
            reason += f"; the last error was {last_error}"
        return self._settler.end(webhook_id, lane, expired, Outcome.EXPIRED, reason)

    def _finish(self, mark: DueMarker, check: Check) -> None:
        """Say when the lane is to be looked through again, or that it is empty."""
        now_ms = self._now_ms()
        first_ms = check.first_ms
        if mark.lane is Lane.REPLAY and self._replays.is_running(mark.webhook_id):
            first_ms = first_ms or now_ms  # it needs the mark, and does not expire itself
        as_it_was = replace(mark, token=check.token)
        if not first_ms and self._backlog.clear_marker(as_it_was):
            return
        next_ms = max(first_ms + self.retention_ms, now_ms + PAUSE_MS)
        if not first_ms or not self._backlog.set_check(as_it_was, next_ms):
            self._backlog.set_check(mark, min(next_ms, now_ms + _APPENDED_MS), is_forced=True)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _since_ms(lane: Lane, waiting: PendingEvent) -> int:
    """From when on it waits, for what ends after some time."""
    return waiting.asked_at_ms if lane is Lane.REPLAY else waiting.event.accepted_at_ms
