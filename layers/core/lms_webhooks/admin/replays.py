"""Redeliver one event, or replay a time range, for a caller. The drainer sends."""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lms_webhooks.admin.audit import audit
from lms_webhooks.admin.caller import Caller
from lms_webhooks.admin.deliveries import Deliveries, DeliveryView
from lms_webhooks.admin.inputs import ReplayInput
from lms_webhooks.admin.problems import FieldError, InvalidFields, ReplayNotFound
from lms_webhooks.admin.query_parameters import read_replay_query
from lms_webhooks.admin.rate_limit import SendRateLimit
from lms_webhooks.aws.dynamodb import KeyRange
from lms_webhooks.aws.sqs import DrainQueue
from lms_webhooks.model.deliveries import Outcome
from lms_webhooks.model.event_types import EVENT_TYPES, EventTypes
from lms_webhooks.model.lanes import Count
from lms_webhooks.model.webhooks import Webhook
from lms_webhooks.observability import report
from lms_webhooks.stores.backlog import Backlog
from lms_webhooks.stores.replays import Replay, ReplayState, ReplayStore
from lms_webhooks.stores.webhooks import WebhookStore

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

    type Writes = Sequence[TransactWriteItemTypeDef]


def _no_writes(_: object) -> "Writes":
    return ()


def audit_redelivery(caller: Caller, webhook_id: str, sort_key: str, *, repeated: bool = False) -> None:
    """Log that one event is redelivered; `repeated` as in `audit`."""
    audit(caller, "delivery.redeliver", repeated=repeated, webhookId=webhook_id, sortKey=sort_key)


def audit_replay(caller: Caller, webhook_id: str, replay_id: str, *, repeated: bool = False) -> None:
    """Log that a replay was started; `repeated` as in `audit`."""
    audit(caller, "webhook.replay", repeated=repeated, webhookId=webhook_id, replayId=replay_id)


def _range(from_ms: int, to_ms: int | None, now_ms: int) -> KeyRange:
    """Return the sort keys of a part of the history. It ends now, or earlier."""
    return KeyRange(f"{from_ms:013d}", f"{now_ms if to_ms is None else min(now_ms, to_ms):013d}")


@dataclass(frozen=True, slots=True)
class ReplayPreview:
    """How many deliveries a replay of a part of the history would send."""

    range: KeyRange
    outcome: Outcome | None
    event_name: str | None
    matching: Count


class ReplayService:
    """Redeliveries and replays of every account's webhooks."""

    def __init__(
        self,
        store: WebhookStore,
        deliveries: Deliveries,
        backlog: Backlog,
        replays: ReplayStore,
        drain_queue: DrainQueue,
        rate_limit: SendRateLimit,
        *,
        event_types: EventTypes = EVENT_TYPES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._deliveries = deliveries
        self._backlog = backlog
        self._replays = replays
        self._drain_queue = drain_queue
        self._rate_limit = rate_limit
        self._event_types = event_types
        self._clock = clock

    def redeliver(
        self,
        caller: Caller,
        webhook_id: str,
        sort_key: str,
        *,
        writes: "Callable[[DeliveryView], Writes]" = _no_writes,
    ) -> DeliveryView:
        """Send one event again, after the pending ones, in one transaction with `writes`.

        A pending event may go out earlier this way. If sending stays impossible until the event would expire,
        it is dropped.

        Returns:
            The delivery as it is now.

        Raises:
            WebhookNotFound, DeliveryNotFound: it does not exist.
            IdempotencyInProgress, Contention: as the store does.
            RateLimited: the account has reached its sends a minute.
        """
        delivery, pending = self._deliveries.find(caller, webhook_id, sort_key)
        self._rate_limit.consume_with(
            caller.account_id,
            lambda count: self._replays.redeliver(
                caller.account_id,
                webhook_id,
                pending,
                self._backlog,
                asked_at_ms=int(self._clock() * 1000),
                extra_writes=(*writes(delivery), count),
            ),
        )
        self._drain_queue.schedule_best_effort(caller.account_id, webhook_id)
        audit_redelivery(caller, webhook_id, sort_key)
        return delivery

    def start(
        self,
        caller: Caller,
        webhook_id: str,
        given: ReplayInput,
        *,
        writes: "Callable[[Replay], Writes]" = _no_writes,
    ) -> Replay:
        """Start to send part of the history again, oldest event first; in one transaction with `writes`.

        It covers events until now at most, so it ends while new ones arrive.

        Raises:
            WebhookNotFound: the account has no such webhook.
            InvalidFields: the range begins in the future.
            ReplayInProgress, IdempotencyInProgress, Contention: as the store does.
            RateLimited: the account has reached its sends a minute.
        """
        self._store.get(caller.account_id, webhook_id)
        now_ms = int(self._clock() * 1000)
        if given.from_time > now_ms:
            raise InvalidFields((FieldError("/from", "must not be later than now"),))
        replay = Replay(
            replay_id="rp_" + secrets.token_urlsafe(16),
            account_id=caller.account_id,
            webhook_id=webhook_id,
            range=_range(given.from_time, given.to_time, now_ms),
            outcome=Outcome(given.status) if given.status is not None else None,
            event_name=given.event_name,
            started_at_ms=now_ms,
            started_by=caller.user_id,
        )
        self._rate_limit.consume_with(
            caller.account_id,
            lambda count: self._replays.start(replay, self._backlog, extra_writes=(*writes(replay), count)),
        )
        self._drain_queue.schedule_best_effort(caller.account_id, webhook_id)
        audit_replay(caller, webhook_id, replay.replay_id)
        return replay

    def preview(self, caller: Caller, webhook_id: str, query: Mapping[str, str]) -> ReplayPreview:
        """Count what a replay of this part of the history would send now, with a bounded read.

        Raises:
            WebhookNotFound: the account has no such webhook.
            InvalidParameters: with an error for each that breaks its rule.
        """
        now_ms = int(self._clock() * 1000)
        wanted = read_replay_query(query, now_ms=now_ms, event_types=self._event_types)
        of = _range(wanted.from_ms, wanted.to_ms, now_ms)
        matching = self._deliveries.count_recorded(
            caller, webhook_id, of, outcome=wanted.status, event_name=wanted.event_name
        )
        return ReplayPreview(of, wanted.status, wanted.event_name, matching)

    def running(self, webhook: Webhook) -> Replay | None:
        """Return the replay of `webhook` that has not ended; None without one, or if it is damaged."""
        try:
            replay = self._replays.find(webhook.webhook_id)
        except (KeyError, ValueError) as error:  # the webhook itself is to be seen, and paused
            report(error, "replay not read", webhookId=webhook.webhook_id)
            return None
        return replay if replay is not None and replay.state is ReplayState.RUNNING else None

    def progress(self, caller: Caller, webhook_id: str) -> Replay:
        """Return the webhook's running replay, or the last one.

        Raises:
            WebhookNotFound, ReplayNotFound: it does not exist.
        """
        self._store.get(caller.account_id, webhook_id)
        replay = self._replays.find(webhook_id)
        if replay is None:
            raise ReplayNotFound
        return replay

    def cancel(self, caller: Caller, webhook_id: str) -> None:
        """Stop the webhook's replay where it is.

        Raises:
            WebhookNotFound: the account has no such webhook.
            ReplayNotFound: none is under way.
        """
        self._store.get(caller.account_id, webhook_id)
        if not self._replays.cancel(webhook_id, ended_at_ms=int(self._clock() * 1000)):
            raise ReplayNotFound("No replay of this webhook is running.")
        audit(caller, "webhook.cancel-replay", webhookId=webhook_id)
