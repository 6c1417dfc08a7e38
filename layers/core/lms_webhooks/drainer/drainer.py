"""Drain one webhook for each message of the drain queue: take its lease, run, schedule the successor.

One drainer at a time holds the lease of a webhook, which lasts longer than a drainer can. It releases the
lease before it schedules its successor. With the lease it leaves a ticket, which the successor's message
carries. A drainer without the ticket ends silently, and the sweep schedules none. If a process dies, the due
markers are still there, and the sweep schedules a drain once the ticket has expired.

So a drainer sends to the queue that invoked it. AWS would stop that loop after some 16 messages (Lambda
guide, recursive loop detection), and the template allows it. Three rules bound it. A message has at most one
successor. No drainer gets the lease before the next attempt is due, or while another message is on its way.
The pauses grow while an endpoint fails, or while our own errors last. `tests/scenarios/test_loop.py` and
`tests/scenarios/test_chains.py` prove it.
"""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lms_webhooks.aws.sqs import DrainMessage, DrainQueue, read_drain_message
from lms_webhooks.drainer.drain_run import CLOSING_SECONDS, DrainRun, RunResult
from lms_webhooks.drainer.outcomes import OutcomeRecorder
from lms_webhooks.drainer.purge import Purger
from lms_webhooks.drainer.replay_runner import ReplayRunner
from lms_webhooks.errors import AWS_ERRORS, Contention
from lms_webhooks.model.health import Health, without_unnotified_transition
from lms_webhooks.model.lanes import Lane
from lms_webhooks.model.notifications import notifications_for
from lms_webhooks.model.retry import backoff_seconds
from lms_webhooks.model.webhooks import Webhook
from lms_webhooks.observability import Metric, count, logger, report
from lms_webhooks.stores.backlog import Backlog
from lms_webhooks.stores.health import HealthStore, Ticket
from lms_webhooks.stores.outbox import NotificationOutbox
from lms_webhooks.stores.webhook_cache import WebhookCache

TIMEOUT_SECONDS = 60  # the template's Timeout for this function
LEASE_SECONDS = TIMEOUT_SECONDS + 10  # longer than a drainer can live
_EARLY_SECONDS = 2.0  # SQS delays whole seconds; the drainer sleeps for the rest


class Drainer:
    """Drains the webhooks that the messages of the drain queue name, one after the other."""

    def __init__(
        self,
        *,
        webhook_cache: WebhookCache,
        health: HealthStore,
        backlog: Backlog,
        recorder: OutcomeRecorder,
        replays: ReplayRunner,
        outbox: NotificationOutbox,
        queue: DrainQueue,
        new_run: Callable[[Webhook, Health, Callable[[], float]], DrainRun],
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._webhook_cache = webhook_cache
        self._health = health
        self._backlog = backlog
        self._outbox = outbox
        self._queue = queue
        self._new_run = new_run
        self._clock = clock
        self._sleep = sleep
        self._purger = Purger(
            webhook_cache=webhook_cache,
            backlog=backlog,
            recorder=recorder,
            replays=replays,
            queue=queue,
            claim_seconds=LEASE_SECONDS,
            clock=clock,
        )

    def drain_all(
        self, records: Sequence[Mapping[str, Any]], *, remaining_ms: Callable[[], int]
    ) -> list[str]:
        """Drain the webhook that each of SQS's `records` names.

        Returns:
            The ids of the messages that SQS must deliver again.

        Raises:
            AWS_ERRORS: as `drain`. The function fails then, which has an alarm of its own.
        """
        failed: list[str] = []
        for record in records:
            try:
                self.drain(read_drain_message(record), remaining_ms=remaining_ms)
            except AWS_ERRORS:
                raise
            except Exception as error:  # noqa: BLE001  # damage, or an item of a newer version
                report(error, "webhook not drained", messageId=record["messageId"])
                failed.append(record["messageId"])
        return failed

    def drain(self, message: DrainMessage, *, remaining_ms: Callable[[], int]) -> None:
        """Send pending events of a webhook while there is time, and schedule a successor for the rest.

        An urgent drainer leaves a webhook that has only lower lanes due to a background drainer.

        Raises:
            AWS_ERRORS: not even the successor could be scheduled. SQS redelivers this message.
        """
        account_id, webhook_id = message.account_id, message.webhook_id
        try:
            stored = self._webhook_cache.find(account_id, webhook_id, fresh=True)
        except AWS_ERRORS:
            _report_aborted(webhook_id)
            self._retry_later(message)
            return
        if stored is None:
            self._purger.purge(message, remaining_ms=remaining_ms)
            return
        webhook, health = stored
        if health.failures:
            message = replace(message, is_urgent=False)
        early_seconds = health.next_attempt_at_ms / 1000 - self._clock()
        if early_seconds > _EARLY_SECONDS:
            self._schedule_if_free(message, delay_seconds=early_seconds)
            return
        if early_seconds > 0:
            self._sleep(early_seconds)
        owner = secrets.token_urlsafe(12)
        now_ms = self._now_ms()
        try:
            leased = self._health.acquire(
                account_id,
                webhook_id,
                owner=owner,
                now_ms=now_ms,
                until_ms=now_ms + LEASE_SECONDS * 1000,
                ticket=message.ticket,
                message_id=message.message_id,
            )
        except AWS_ERRORS:
            _report_aborted(webhook_id)
            leased = None
        if leased is None:
            # Where another drainer has the lease, or is scheduled, this changes nothing. But the next attempt
            # may have moved, or our call failed. Then the ticket must not stay without a message.
            self._retry_later(message)
            return
        run = self._new_run(webhook, leased, lambda: remaining_ms() / 1000 - CLOSING_SECONDS)
        run.is_urgent = message.is_urgent
        try:
            result = run.run()
        except Exception as error:  # noqa: BLE001  # no error of ours counts against an endpoint or keeps the lease
            report(error, "drain run aborted", accountId=account_id, webhookId=webhook_id)
            count(Metric.DRAIN_RUNS_ABORTED)
            result = RunResult(None, has_error=True)
        health = run.health
        if not self._save_notifications(webhook, run):
            health = without_unnotified_transition(run.initial_health, health)
            result = result._replace(has_error=True)
        aborted_runs, delay_seconds = 0, result.delay_seconds
        if result.has_error:
            aborted_runs = 1 if _made_progress(run) else message.aborted_runs + 1
            delay_seconds = max(delay_seconds or 0, _pause_seconds(aborted_runs))
        message = replace(message, ticket=message.message_id, aborted_runs=aborted_runs)
        self._release(message, owner, run, health, delay_seconds)

    def _release(
        self, successor: DrainMessage, owner: str, run: DrainRun, health: Health, delay_seconds: float | None
    ) -> None:
        """Release the lease, and schedule a successor if there is something for one to do.

        In this order: an earlier successor would find the lease taken and end silently.
        """
        account_id, webhook_id = successor.account_id, successor.webhook_id
        ticket = None
        if delay_seconds is not None:
            ticket = Ticket(successor.ticket, self._now_ms() + int(delay_seconds * 1000))
        try:
            is_unchanged = self._health.release(
                account_id, webhook_id, owner=owner, health=health, before=run.initial_health, ticket=ticket
            )
        except AWS_ERRORS:
            _report_aborted(webhook_id)
            is_unchanged = False  # or it was released, and the response was lost
        # The webhook changed, or events were appended, and the drainer for that found the lease taken.
        if not is_unchanged:
            # Mostly an admin fixed the webhook, so the failures before say nothing.
            self._schedule_if_free(_for(successor, [Lane.REALTIME], failures=0), delay_seconds=0)
        elif delay_seconds is not None:
            lanes = [Lane.REALTIME] if run.has_real_time else []
            self._send(_for(successor, lanes, failures=health.failures), delay_seconds=delay_seconds)
        elif run.may_send() and (lanes := self._due_lanes(webhook_id)):
            self._schedule_if_free(_for(successor, lanes, failures=health.failures), delay_seconds=0)

    def _retry_later(self, message: DrainMessage) -> None:
        message = replace(message, aborted_runs=message.aborted_runs + 1)
        self._schedule_if_free(message, delay_seconds=_pause_seconds(message.aborted_runs))

    def _schedule_if_free(self, message: DrainMessage, *, delay_seconds: float) -> None:
        """Schedule a successor with `message`, unless another drainer has the webhook or is scheduled."""
        now_ms = self._now_ms()
        message = replace(message, ticket=message.ticket or message.message_id)
        ticket = Ticket(message.ticket, now_ms + int(delay_seconds * 1000))
        if self._health.take_ticket(message.account_id, message.webhook_id, ticket, now_ms=now_ms):
            self._send(message, delay_seconds=delay_seconds)

    def _send(self, message: DrainMessage, *, delay_seconds: float) -> None:
        try:
            self._queue.schedule(message, delay_seconds=delay_seconds)
        except AWS_ERRORS:
            self._health.drop_ticket(message.account_id, message.webhook_id, message.ticket)
            raise

    def _save_notifications(self, webhook: Webhook, run: DrainRun) -> bool:
        """Save the notifications that follow from the run; return whether all are saved."""
        try:
            for notification in notifications_for(
                webhook, run.initial_health, run.health, now_ms=self._now_ms()
            ):
                self._outbox.put(notification)
        except (*AWS_ERRORS, Contention):
            logger.exception("notification not saved", webhookId=webhook.webhook_id)
            return False
        return True

    def _due_lanes(self, webhook_id: str) -> list[Lane]:
        """Return the lanes that became due during the run: their drainer found the lease taken."""
        now_ms = self._now_ms()
        return [lane for lane, marker in self._backlog.markers(webhook_id).items() if marker.is_due(now_ms)]

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _for(message: DrainMessage, lanes: Sequence[Lane], *, failures: int) -> DrainMessage:
    """Return `message` for the queue that suits a webhook with these lanes due."""
    return replace(message, is_urgent=any(lane.is_urgent(failures=failures) for lane in lanes))


def _report_aborted(webhook_id: str) -> None:
    """Log and count an error of AWS. For an except clause."""
    logger.exception("drain run aborted", webhookId=webhook_id)
    count(Metric.DRAIN_RUNS_ABORTED)


def _pause_seconds(aborted_runs: int) -> float:
    """Return the pause after so many aborted runs in a row: the same as for an endpoint that fails."""
    return backoff_seconds(aborted_runs, jitter=0)


def _made_progress(run: DrainRun) -> bool:
    """Return whether an aborted run made progress.

    It sends no second request before the outcome of the first is recorded.
    """
    return len(set(run.health.attempts) - set(run.initial_health.attempts)) > 1
