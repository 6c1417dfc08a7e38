"""Record the pending events of a deleted webhook as failed, and remove them from their lanes.

A purge begins when every process that worked on the webhook at its deletion has ended. From then on no other
process writes its history, so the purge can read and write it in batches. Conditional writes have no batches,
and 0.29 of a processor makes 350 such calls a second: a third of what a partition takes.

One purger has a lane at a time. A deleted webhook has no health, so the claim is on the lane's due marker: an
owner, and an end. A claim passes from one process to the next as a ticket does, see `stores/health.py`. The
sweep claims a lane, without an owner, for the message that it sends. The purger that gets the message claims
the lane for its own lifetime. When its time is up, it claims the lane for its successor, under the id of its
own message, and schedules it. If a process dies, the claim ends and the sweep schedules another purge.
"""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import batched

from lms_webhooks.aws.sqs import DrainMessage, DrainQueue
from lms_webhooks.drainer.drain_run import CLOSING_SECONDS
from lms_webhooks.drainer.outcomes import OutcomeRecorder, PurgeResult
from lms_webhooks.drainer.replay_runner import ReplayRunner
from lms_webhooks.errors import AWS_ERRORS
from lms_webhooks.model.lanes import DueMarker, Lane, PendingEvent
from lms_webhooks.model.retry import backoff_seconds
from lms_webhooks.observability import Metric, count, logger
from lms_webhooks.stores.backlog import Backlog
from lms_webhooks.stores.health import TICKET_GRACE_SECONDS
from lms_webhooks.stores.webhook_cache import WebhookCache
from lms_webhooks.stores.webhooks import MAX_DELETED
from lms_webhooks.thread_pool import ThreadPool

_EVENTS_PER_CALL = 25  # BatchWriteItem
# While some threads wait for the partition of the history, others write to that of the lane. Eight threads
# with 25 events each fill both at 1,000 writes a second, with three calls for each (`bench/purge.py`).
THREADS = 8
_REASON = "the webhook was deleted"


class Purger:
    """Purges the lanes of deleted webhooks. Nothing is sent, so no lease is needed."""

    def __init__(
        self,
        *,
        webhook_cache: WebhookCache,
        backlog: Backlog,
        recorder: OutcomeRecorder,
        replays: ReplayRunner,
        queue: DrainQueue,
        claim_seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`claim_seconds` is longer than a purger lives, and than any process that sends to a webhook."""
        self._webhook_cache = webhook_cache
        self._backlog = backlog
        self._recorder = recorder
        self._replays = replays
        self._queue = queue
        self._claim_seconds = claim_seconds
        self._clock = clock
        self._threads = ThreadPool("purge", size=THREADS - 1)

    def purge(self, message: DrainMessage, *, remaining_ms: Callable[[], int]) -> None:
        """Purge the lanes that no other purger has while there is time; schedule a successor for the rest.

        Raises:
            AWS_ERRORS: not even the successor could be scheduled. SQS redelivers this message.
        """
        owner = secrets.token_urlsafe(12)
        claimed: list[DueMarker] = []
        done: list[bool] = []
        is_early = False
        try:
            markers = self._backlog.markers(message.webhook_id).values()
            names = message.ticket, message.message_id
            claimed += [
                marker for marker in markers if self._claim(marker, owner, self._claim_seconds, *names)
            ]
            is_early = bool(claimed) and self._was_just_deleted(message)
            if not is_early:
                self._purge_lanes(claimed, done, remaining_ms)
        except AWS_ERRORS:
            logger.exception("purge aborted", webhookId=message.webhook_id)
            count(Metric.DRAIN_RUNS_ABORTED)
        if len(done) == len(claimed) and all(done):
            return
        seconds, aborted_runs = 0.0, 0
        if is_early:
            seconds = self._claim_seconds
        elif remaining_ms() >= CLOSING_SECONDS * 1000:
            # With time left, a write failed, and may fail for a while.
            aborted_runs = message.aborted_runs + 1
            seconds = backoff_seconds(aborted_runs, jitter=0)
        self._schedule_successor(replace(message, aborted_runs=aborted_runs), claimed, owner, seconds=seconds)

    def _was_just_deleted(self, message: DrainMessage) -> bool:
        """Return whether a process may still record what it sent before the deletion."""
        since_ms = int((self._clock() - self._claim_seconds) * 1000)
        deleted = self._webhook_cache.deleted(message.account_id, since_ms=since_ms)
        # A full list may lack this webhook.
        return len(deleted) == MAX_DELETED or any(each.webhook_id == message.webhook_id for each in deleted)

    def _schedule_successor(
        self, message: DrainMessage, claimed: Sequence[DueMarker], owner: str, *, seconds: float
    ) -> None:
        """Schedule a successor after some seconds, and pass it the claims that are still ours."""
        successor = message.message_id
        left = [
            marker
            for marker in claimed
            if self._claim(marker, successor, seconds + TICKET_GRACE_SECONDS, owner)
        ]
        if left:
            self._queue.schedule(replace(message, ticket=successor, is_urgent=False), delay_seconds=seconds)

    def _claim(self, marker: DueMarker, owner: str, seconds: float, *instead_of: str) -> bool:
        now_ms = int(self._clock() * 1000)
        until_ms = now_ms + int(seconds * 1000)
        return self._backlog.claim(marker, owner, now_ms=now_ms, until_ms=until_ms, instead_of=instead_of)

    def _purge_lanes(
        self, markers: Sequence[DueMarker], done: list[bool], remaining_ms: Callable[[], int]
    ) -> None:
        """Add to `done`, for each lane, whether it is purged and its marker cleared.

        The replay lane is the last, and its marker stays as long as any other. The deletion made that marker
        due. If this purger dies, it brings the next one, even where the other lanes are due much later.
        """
        for marker in sorted(markers, key=_is_of_replay):
            done.append((all(done) or not _is_of_replay(marker)) and self._purge_lane(marker, remaining_ms))

    def _purge_lane(self, marker: DueMarker, remaining_ms: Callable[[], int]) -> bool:
        is_recorded = True
        for page in self._backlog.read_all(marker.webhook_id, marker.lane):
            # A replay may have to be deleted although its lane is empty.
            chunks = list(batched(page, _EVENTS_PER_CALL, strict=False)) or [()]
            results: list[PurgeResult] = []

            def record(pending: Sequence[PendingEvent], results: list[PurgeResult] = results) -> None:
                if remaining_ms() >= CLOSING_SECONDS * 1000:
                    results.append(self._record(marker.webhook_id, marker.lane, pending))

            self._threads.run_all(record, chunks)
            count(Metric.EVENTS_FAILED, sum(each.recorded for each in results))
            is_recorded &= all(each.is_all for each in results)
            if len(results) < len(chunks):
                return False
        return is_recorded and self._backlog.clear_marker(marker)

    def _record(self, webhook_id: str, lane: Lane, pending: Sequence[PendingEvent]) -> PurgeResult:
        if lane is Lane.REPLAY:
            return PurgeResult(0, self._replays.discard(webhook_id, pending))
        return self._recorder.record_purged(webhook_id, lane, pending, _REASON)


def _is_of_replay(marker: DueMarker) -> bool:
    return marker.lane is Lane.REPLAY
