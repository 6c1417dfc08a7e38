"""Probe a failing endpoint now, for a caller. The drainer sends, and its result is in the health.

A probe goes the way of every other one, through the drain queue. So the order of a lane stays, one drainer at
a time has the webhook, and the result counts like that of any probe.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from lms_webhooks.admin.audit import audit
from lms_webhooks.admin.caller import Caller
from lms_webhooks.admin.problems import NotActive, NothingToRetry
from lms_webhooks.admin.rate_limit import SendRateLimit
from lms_webhooks.aws.sqs import DrainQueue
from lms_webhooks.model.webhooks import Status, WebhookWithHealth
from lms_webhooks.stores.backlog import Backlog
from lms_webhooks.stores.health import HealthStore
from lms_webhooks.stores.webhooks import WebhookStore

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

    type Writes = Sequence[TransactWriteItemTypeDef]


class RetryState(StrEnum):
    """The state of a probe: this call scheduled it, or one was under way already."""

    SCHEDULED = "scheduled"
    RUNNING = "running"


@dataclass(frozen=True, slots=True)
class Retry:
    """What a call did, and when it was made."""

    state: RetryState
    requested_at_ms: int


def _no_writes(_: Retry) -> "Writes":
    return ()


def audit_retry(caller: Caller, webhook_id: str, *, repeated: bool = False) -> None:
    """Log that a probe was requested; `repeated` as in `audit`."""
    audit(caller, "webhook.retry", repeated=repeated, webhookId=webhook_id)


class RetryService:
    """Retries of the webhooks of every account."""

    def __init__(
        self,
        store: WebhookStore,
        health: HealthStore,
        backlog: Backlog,
        drain_queue: DrainQueue,
        rate_limit: SendRateLimit,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._health = health
        self._backlog = backlog
        self._drain_queue = drain_queue
        self._rate_limit = rate_limit
        self._clock = clock

    def retry(
        self, caller: Caller, webhook_id: str, *, writes: "Callable[[Retry], Writes]" = _no_writes
    ) -> Retry:
        """Schedule a probe of a failing endpoint now, in one transaction with `writes`.

        It does not wait for a `Retry-After` of the receiver: the admin knows better. While a drainer is at
        work, nothing is scheduled or counted.

        Raises:
            WebhookNotFound: the account has no such webhook.
            NotActive: the webhook is paused, inactive or disabled.
            NothingToRetry: the endpoint does not fail, or no pending event is due.
            RateLimited: the account has reached its sends a minute.
            IdempotencyInProgress, Contention: as the store does.
        """
        webhook, _ = self._failing(caller, webhook_id)
        now_ms = self._now_ms()
        scheduled = Retry(RetryState.SCHEDULED, now_ms)
        is_due = self._rate_limit.consume_with(
            caller.account_id,
            lambda count: self._health.retry_now(
                caller.account_id,
                webhook_id,
                epoch=webhook.epoch,
                now_ms=now_ms,
                extra_writes=(*writes(scheduled), count),
            ),
        )
        if not is_due:
            self._failing(caller, webhook_id)  # it may have recovered, or been paused, a moment ago
            return Retry(RetryState.RUNNING, now_ms)
        self._drain_queue.schedule_best_effort(caller.account_id, webhook_id)
        audit_retry(caller, webhook_id)
        return scheduled

    def _failing(self, caller: Caller, webhook_id: str) -> WebhookWithHealth:
        """Return a webhook that has something to probe with.

        Raises:
            WebhookNotFound, NotActive, NothingToRetry: as `retry`.
        """
        found = self._store.find(caller.account_id, webhook_id)
        if found.webhook.status is not Status.ACTIVE:
            raise NotActive(found.webhook.status.value)
        if found.health.disabled_reason is not None:
            raise NotActive("disabled")
        if not found.health.failures:
            raise NothingToRetry(
                "The endpoint does not fail, so its events go out by themselves. To send an event that"
                " was rejected now, redeliver it."
            )
        now_ms = self._now_ms()
        if not any(marker.is_due(now_ms) for marker in self._backlog.markers(webhook_id).values()):
            raise NothingToRetry("No pending event is due, so there is none to probe the endpoint with.")
        return found

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)
