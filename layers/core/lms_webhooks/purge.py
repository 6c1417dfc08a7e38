"""Record what still waits for a deleted webhook as failed, and take it out of its lanes.

One purger has a lane at a time. A deleted webhook has no health, so its claim stands on the lane's due mark:
an owner, and until when. It is given on as a ticket is, see `health_store`. The sweep claims a lane for the
message that it sends, under no name; the purger that gets the message claims it for as long as it can live;
when its time is up it claims it for its successor, under the id of its own message, and sends for that one.
Where somebody dies, the claim ends and the sweep sends again.
"""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import batched

from lms_webhooks.aws import AWS_FAULTS
from lms_webhooks.backlog import Backlog, Lane, Mark, Waiting
from lms_webhooks.delivery_store import Outcome
from lms_webhooks.health_store import TICKET_GRACE_SECONDS
from lms_webhooks.observability import Metric, count, logger
from lms_webhooks.queues import DrainMessage, DrainQueue
from lms_webhooks.replay import Replays
from lms_webhooks.retry import delay_seconds
from lms_webhooks.settling import Settler
from lms_webhooks.turn import CLOSING_SECONDS

# 25 for each of the writers: a second's work where a partition takes its 1,000 writes. 20 s are left for it.
_AT_ONCE = 400
_REASON = "the webhook was deleted"


class Purger:
    """Purges the lanes of deleted webhooks. Nothing is sent, so no lease is needed."""

    def __init__(
        self,
        *,
        backlog: Backlog,
        settler: Settler,
        replays: Replays,
        queue: DrainQueue,
        claim_seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`claim_seconds` is longer than a purger can live."""
        self._backlog = backlog
        self._settler = settler
        self._replays = replays
        self._queue = queue
        self._claim_seconds = claim_seconds
        self._clock = clock

    def purge(self, message: DrainMessage, *, remaining_ms: Callable[[], int]) -> None:
        """Purge the lanes that nobody else purges while there is time, and send for a successor.

        Raises:
            aws.AWS_FAULTS: not even the successor could be sent for; this message comes again.
        """
        owner = secrets.token_urlsafe(12)
        mine: list[Mark] = []
        done: list[bool] = []
        try:
            marks = self._backlog.marks(message.webhook_id).values()
            names = message.ticket, message.message_id
            mine += [mark for mark in marks if self._claim(mark, owner, self._claim_seconds, *names)]
            done += [self._purge_lane(mark, remaining_ms) for mark in mine]
        except AWS_FAULTS:
            logger.exception("purge broke off", webhookId=message.webhook_id)
            count(Metric.TURNS_BROKEN_OFF)
        if len(done) == len(mine) and all(done):
            return
        # With time left, something could not be written: it may not be possible for a while.
        is_held_up = remaining_ms() >= CLOSING_SECONDS * 1000
        broken_off = message.broken_off + 1 if is_held_up else 0
        self._hand_on(replace(message, broken_off=broken_off), mine, owner)

    def _hand_on(self, message: DrainMessage, mine: Sequence[Mark], owner: str) -> None:
        """Send for a successor, who gets the claims that are still `mine`."""
        seconds = int(delay_seconds(message.broken_off, jitter=0)) if message.broken_off else 0
        successor = message.message_id
        left = [mark for mark in mine if self._claim(mark, successor, seconds + TICKET_GRACE_SECONDS, owner)]
        if left:
            self._queue.send(replace(message, ticket=successor, is_urgent=False), delay_seconds=seconds)

    def _claim(self, mark: Mark, owner: str, seconds: float, *instead_of: str) -> bool:
        now_ms = int(self._clock() * 1000)
        until_ms = now_ms + int(seconds * 1000)
        return self._backlog.claim(mark, owner, now_ms=now_ms, until_ms=until_ms, instead_of=instead_of)

    def _purge_lane(self, mark: Mark, remaining_ms: Callable[[], int]) -> bool:
        """Answer whether all of a lane is settled, and its mark gone."""
        is_settled = True
        for page in self._backlog.read_all(mark.webhook_id, mark.lane):
            # Where a replay is to be forgotten its lane may be empty.
            for waiting in list(batched(page, _AT_ONCE, strict=False)) or [()]:
                if remaining_ms() < CLOSING_SECONDS * 1000:
                    return False
                is_settled &= self._settle(mark.webhook_id, mark.lane, waiting)
        return is_settled and self._backlog.unmark(mark)

    def _settle(self, webhook_id: str, lane: Lane, waiting: Sequence[Waiting]) -> bool:
        if lane is Lane.REPLAY:
            return self._replays.bury(webhook_id, waiting)
        return self._settler.end(webhook_id, lane, waiting, Outcome.FAILED, _REASON)
