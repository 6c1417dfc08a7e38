"""Drain one webhook for a while: send its pending events, oldest first, several in each request.

A drain run reads the due markers, chooses a lane, sends its first events, and records their outcome. It
clears the marker of an empty lane, unless events were appended since. What it learns about the endpoint is
`health`, which the drainer writes after the run, because the drainer holds the lease.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from lms_webhooks.drainer.choosing import (
    CHOSEN_FROM,
    after_request,
    lanes_to_probe,
    next_lane,
    number_of_stand_in,
    request_of,
    stand_in,
)
from lms_webhooks.drainer.expiry import Expiry
from lms_webhooks.drainer.outcomes import OutcomeRecorder
from lms_webhooks.drainer.replay_runner import ReplayBatch, ReplayRunner
from lms_webhooks.model import health as endpoint
from lms_webhooks.model.attempts import Attempt
from lms_webhooks.model.consequences import Fate, decide, is_suspect_when_retried
from lms_webhooks.model.health import MAX_REJECTIONS_IN_A_ROW, Health
from lms_webhooks.model.lanes import DueMarker, Lane, PendingEvent
from lms_webhooks.model.webhooks import Status, Webhook
from lms_webhooks.observability import Metric, count
from lms_webhooks.sending.sender import Timeouts
from lms_webhooks.sending.webhook_client import WebhookClient
from lms_webhooks.stores.backlog import Backlog
from lms_webhooks.stores.webhook_cache import WebhookCache

CLOSING_SECONDS = 20  # no POST starts later: 15 s for it, 5 s to record its outcome and to release the lease
TIMEOUTS = Timeouts(
    connect_seconds=10, response_seconds=5, total_seconds=15
)  # Adobe Learning Manager's two time-outs
MAX_BYTES = 256 * 1024  # of a POST
_BYTES_AROUND_EVENTS = 256
_REPLAY_PAUSE_SECONDS = 60  # a replay that is only rejected continues with the next sweep

ERROR_DELAY_SECONDS = 5.0  # after an error of DynamoDB or KMS: do not send the same again at once


class RunResult(NamedTuple):
    """What a drain run leaves to do."""

    delay_seconds: float | None
    """The delay of the successor's message. None: there is nothing for a successor to do."""
    has_error: bool = False
    """Whether an error of our own stopped the run. The drainer makes the delay longer while errors last."""


_IDLE = RunResult(None)
_CONTINUE = RunResult(0.0)


@dataclass(frozen=True, slots=True)
class _Found:
    """The first events of a lane that may be sent. Those of a replay come from `replay_batch`."""

    marker: DueMarker
    pending: list[PendingEvent]
    replay_batch: ReplayBatch | None = None


class DrainRun:
    """Sends the pending events of one webhook. `health` follows from `initial_health`."""

    def __init__(
        self,
        webhook: Webhook,
        health: Health,
        remaining_seconds: Callable[[], float],
        *,
        webhook_cache: WebhookCache,
        backlog: Backlog,
        recorder: OutcomeRecorder,
        webhook_client: WebhookClient,
        replays: ReplayRunner,
        retention_days: int,
        clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._webhook: Webhook | None = webhook
        self._account_id = webhook.account_id
        self._webhook_id = webhook.webhook_id
        self._remaining_seconds = remaining_seconds
        self._webhook_cache = webhook_cache
        self._backlog = backlog
        self._recorder = recorder
        self._webhook_client = webhook_client
        self._replays = replays
        self._expiry = Expiry(backlog, recorder, replays, retention_days=retention_days, clock=clock)
        self._clock = clock
        self._jitter = jitter
        self._checked_lanes: set[Lane] = set()
        self._replay_rejections = 0
        self._has_error = False
        self.initial_health = health
        self.health = health
        self.is_urgent = False
        """Whether the run ends when no real-time event is due: see `Lane.is_urgent`."""
        self.has_real_time = False
        """Whether real-time events were due when the run last read the markers."""

    def may_send(self) -> bool:
        """Return whether the webhook is active and not disabled."""
        return (
            self._webhook is not None
            and self._webhook.status is Status.ACTIVE
            and self.health.disabled_reason is None
        )

    def run(self) -> RunResult:
        """Send pending events until none is due, the endpoint fails, or the time is up.

        Returns:
            What is left for a successor to do, and when.

        Raises:
            AWS_ERRORS: a read failed. What was sent is recorded, or will be sent again.
        """
        while self._has_time():
            if not self._refresh_webhook():
                break  # deleted: the successor will purge the lanes
            markers = self._backlog.markers(self._webhook_id)
            if self._check_expiry(markers):
                continue
            if not self.may_send():
                return _IDLE
            due = [markers[lane] for lane in Lane if lane in markers and markers[lane].is_due(self._now_ms())]
            self.has_real_time = any(marker.lane is Lane.REALTIME for marker in due)
            if not due:
                self.health = endpoint.clear_ended_failure(self.health)
            if self._returns_to_direct_mode(markers) or not due:
                return _CONTINUE if due else _IDLE
            if self.is_urgent and not self.has_real_time:
                return _CONTINUE
            delay = self._probe(due) if self.health.failures else self._send_lane(due)
            if self._has_error:
                delay = ERROR_DELAY_SECONDS
            if delay is not None:
                return RunResult(delay, self._has_error) if self.may_send() else _IDLE
        return _CONTINUE

    def _has_time(self) -> bool:
        return self._remaining_seconds() > 0

    def _refresh_webhook(self) -> bool:
        """Read the webhook again, which may have changed since the last POST.

        Returns:
            Whether the webhook still exists.
        """
        stored = self._webhook_cache.find(self._account_id, self._webhook_id)
        if stored is not None and stored.webhook.epoch != self.health.epoch:
            # Either the run's health is about an endpoint that the webhook had before, or the cached webhook
            # is older than the lease.
            stored = self._webhook_cache.find(self._account_id, self._webhook_id, fresh=True)
            if stored is not None:
                self.initial_health = self.health = stored.health
        self._webhook = stored.webhook if stored is not None else None
        return stored is not None

    def _returns_to_direct_mode(self, markers: dict[Lane, DueMarker]) -> bool:
        """Return to direct mode when it is time, and end the run: the mode counts once it is written."""
        assert self._webhook is not None
        now_ms = self._now_ms()
        is_empty = Lane.REALTIME not in markers
        if self._webhook.ordered or not endpoint.is_ready_for_direct(
            self.health, is_empty=is_empty, now_ms=now_ms
        ):
            return False
        self.health = endpoint.enter_direct_mode(self.health, now_ms=now_ms)
        return True

    def _check_expiry(self, markers: dict[Lane, DueMarker]) -> bool:
        """Check lanes for expired events where that is due, each lane once a run.

        Returns:
            Whether a lane was checked.
        """
        has_checked = False
        for lane, marker in markers.items():
            will_be_sent = self._endpoint_works() and marker.is_due(self._now_ms())
            if lane in self._checked_lanes or will_be_sent or not marker.is_check_due(self._now_ms()):
                continue
            has_checked = True
            self._checked_lanes.add(lane)
            self._expiry.check_lane(
                marker,
                endpoint_works=self._endpoint_works(),
                last_error=self.health.last_error,
                has_time=self._has_time,
            )
        return has_checked

    def _endpoint_works(self) -> bool:
        return self.may_send() and not self.health.failures

    def _send_lane(self, due: Sequence[DueMarker]) -> float | None:
        """Send the first events of one of the lanes that are `due`.

        Returns:
            A delay when the run must end.
        """
        lane = next_lane([marker.lane for marker in due], self.health)
        marker = next(marker for marker in due if marker.lane is lane)
        limit = 1 if lane is Lane.RETRY else self.health.request_size
        found = self._find(marker, limit=limit)
        if found is None:
            return None
        most_bytes = endpoint.max_body_bytes(self.health, most_bytes=MAX_BYTES, now_ms=self._now_ms())
        chosen = request_of(found.pending, self.health, most_bytes=most_bytes - _BYTES_AROUND_EVENTS)
        if lane is Lane.REALTIME:
            is_all = len(chosen) == len(found.pending) < limit
            self.health = endpoint.after_lane_read(self.health, is_nearly_empty=is_all, now_ms=self._now_ms())
        return self._send(found, chosen)

    def _probe(self, due: Sequence[DueMarker]) -> float | None:
        """Send the first event to an endpoint that fails, and at times another event too: see `stand_in`.

        The first event is always sent first. So nothing overtakes it when the endpoint works again.
        """
        assert self._webhook is not None
        markers = {marker.lane: marker for marker in due}
        lanes = lanes_to_probe([*markers])
        found = next((found for lane in lanes if (found := self._find(markers[lane], limit=1))), None)
        if found is None:
            return None
        first = found.pending[0].event.sort_key
        known_failures = self.health.suspects.get(first, 0)
        delay = self._send(found, found.pending)
        failures = self.health.suspects.get(first, 0)
        number = number_of_stand_in(failures) if failures > known_failures else None
        if delay is None or number is None or self._webhook.ordered or not self.may_send():
            return delay
        other = self._find_other(first, number, [markers[lane] for lane in lanes])
        return delay if other is None else self._stand_in(other, delay)

    def _stand_in(self, found: _Found, delay: float) -> float | None:
        """Send another event than the one that just failed.

        Without a 2xx both count as one failure. A rejection does not shorten the pause of the endpoint.
        """
        failed = self.health
        self.health = uncounted = replace(failed, failures=max(failed.failures - 1, 1))
        other_delay = self._send(found, found.pending)
        if self.health is uncounted:  # there was no time for it
            self.health = failed
            return delay
        if not self.health.failures or self.health.epoch != failed.epoch:
            return None  # it was delivered, so the next request shows what is wrong with the first one
        failures = max(failed.failures, self.health.failures)
        next_ms = max(failed.next_attempt_at_ms, self.health.next_attempt_at_ms)
        self.health = replace(self.health, failures=failures, next_attempt_at_ms=next_ms)
        return max(delay, other_delay or 0)

    def _find_other(self, first: str, number: int, markers: Sequence[DueMarker]) -> _Found | None:
        """Find another event than the `first` one, at which the endpoint failed; None when there is none."""
        by_lane = {marker.lane: marker for marker in markers}
        lanes, depth = stand_in(number, [*by_lane])
        for lane in lanes:
            found = self._read(by_lane[lane], limit=CHOSEN_FROM)
            others = [each for each in found.pending if each.event.sort_key != first] if found else []
            if found and others:
                return self._still_pending(replace(found, pending=[others[int(depth * len(others))]]))
        return None

    def _find(self, marker: DueMarker, *, limit: int) -> _Found | None:
        """Find the first events to send of a due lane; None when none of them is to be sent now."""
        found = self._read(marker, limit=limit)
        return found and self._still_pending(found)

    def _read(self, marker: DueMarker, *, limit: int) -> _Found | None:
        """Read the first due events of a lane; None when none is due."""
        if marker.lane is Lane.REPLAY:
            return self._read_replay(marker, limit=limit)
        pending = self._backlog.read(self._webhook_id, marker.lane, limit=limit)
        if not pending:
            self._backlog.clear_marker(marker)
            return None
        if marker.lane is Lane.RETRY and pending[0].due_at_ms > self._now_ms():
            self._backlog.set_due(marker, pending[0].due_at_ms)
            return None
        return _Found(marker, [each for each in pending if each.due_at_ms <= self._now_ms()])

    def _read_replay(self, marker: DueMarker, *, limit: int) -> _Found | None:
        """Read the next events that an admin asked to redeliver or replay."""
        batch = self._replays.next_batch(self._webhook_id, limit=limit)
        if batch is None:
            self._backlog.clear_marker(marker)
        elif not batch.pending:
            self._replays.skip(batch)
        else:
            return _Found(marker, batch.pending, batch)
        return None

    def _still_pending(self, found: _Found) -> _Found | None:
        """Drop events that have an outcome, except from a replay; None when none is left."""
        if found.replay_batch is not None:
            return found
        left = self._without_ended(found.marker.lane, found.pending)
        return replace(found, pending=left) if left else None

    def _without_ended(self, lane: Lane, pending: list[PendingEvent]) -> list[PendingEvent]:
        """Record what expired, remove what was delivered by another way, and return the other events."""
        delivered = self._recorder.already_delivered(self._webhook_id, pending)
        is_recorded = self._backlog.remove(
            self._webhook_id, lane, [each for each in pending if each.event.sort_key in delivered]
        )
        undelivered = [each for each in pending if each.event.sort_key not in delivered]
        expired = self._expiry.expired(lane, undelivered, endpoint_works=self._endpoint_works())
        is_recorded &= self._expiry.record(self._webhook_id, lane, expired, last_error=self.health.last_error)
        ended = delivered | {each.event.sort_key for each in expired}
        self.health = endpoint.without_suspects(self.health, ended)
        left = [each for each in pending if each.event.sort_key not in ended]
        # The next read would find the same events, and repeat the same writes, at once.
        self._has_error = not left and not is_recorded
        return left

    def _send(self, found: _Found, pending: list[PendingEvent]) -> float | None:
        webhook, lane = self._webhook, found.marker.lane
        assert webhook is not None
        credentials = self._webhook_client.decrypt_credentials(webhook)
        # KMS, or DynamoDB before, may have taken long. So check last whether the webhook changed.
        if not self._refresh_webhook() or self._webhook != webhook or not self._has_time():
            return None
        result = self._webhook_client.send(
            webhook, [each.event for each in pending], credentials=credentials, timeouts=TIMEOUTS
        )
        self._webhook_client.log(self._account_id, self._webhook_id, [result])
        consequence = decide(
            after_request(self._suspecting(webhook), lane),
            result.attempt,
            [each.event.sort_key for each in pending],
            body_bytes=result.body_bytes,
            retry_after=result.response.retry_after,
            now_ms=self._now_ms(),
            jitter=self._jitter(),
            disable_after_ms=self._expiry.retention_ms,
            is_known=lane in (Lane.RETRY, Lane.REPLAY),
            is_suspect=lane is Lane.RETRY and is_suspect_when_retried(pending[0]),
        )
        if consequence.health.failures > self.health.failures:
            count(Metric.ATTEMPTS_FAILED)
        if consequence.health.disabled_reason is not None:
            count(Metric.WEBHOOKS_DISABLED)
        self.health = consequence.health
        self._has_error = not self._record(found, pending, consequence.fate, result.attempt)
        self._recorder.keep_body(webhook, pending, result.attempt, result.response.body, credentials)
        return consequence.delay_seconds

    def _suspecting(self, webhook: Webhook) -> Health:
        """Return the health to decide by. An `ordered` webhook has no suspects: its first event blocks it."""
        return replace(self.health, suspects={}) if webhook.ordered else self.health

    def _record(self, found: _Found, pending: list[PendingEvent], fate: Fate, attempt: Attempt) -> bool:
        """Record the outcome of the events of one POST; return whether all of it is recorded."""
        lane = found.marker.lane
        if fate is Fate.PENDING:
            return True
        if found.replay_batch is not None:
            return self._record_replay(found.marker, found.replay_batch, pending, fate, attempt)
        if fate is Fate.DELIVERED:
            self._replay_rejections = 0
            return self._recorder.record_delivered(self._webhook_id, lane, pending, attempt)
        return self._recorder.set_aside(self._account_id, self._webhook_id, lane, pending[0], attempt)

    def _record_replay(
        self, marker: DueMarker, batch: ReplayBatch, pending: list[PendingEvent], fate: Fate, attempt: Attempt
    ) -> bool:
        """Record what a replay sent. It sends each event once, not until it succeeds."""
        is_delivered = fate is Fate.DELIVERED
        self._replay_rejections = 0 if is_delivered else self._replay_rejections + 1
        is_recorded = self._replays.record(batch, pending, attempt, is_delivered=is_delivered)
        if self._replay_rejections >= MAX_REJECTIONS_IN_A_ROW:
            # Not an endpoint failure: a replay of unwanted events must not delay live events.
            self._replay_rejections = 0
            self._backlog.set_due(marker, self._now_ms() + _REPLAY_PAUSE_SECONDS * 1000)
        return is_recorded

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)
