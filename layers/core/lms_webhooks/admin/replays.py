"""Have deliveries sent again for a caller who may: one of them, or all of a time range."""

import secrets
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lms_webhooks.admin.audit import audit
from lms_webhooks.admin.caller import Caller
from lms_webhooks.admin.deliveries import Deliveries, DeliveryView
from lms_webhooks.admin.inputs import ReplayInput
from lms_webhooks.admin.rate_limit import SendRateLimit
from lms_webhooks.aws.dynamodb import KeyRange
from lms_webhooks.aws.sqs import DrainQueue
from lms_webhooks.problems import FieldError, InvalidFields, ReplayNotFound
from lms_webhooks.stores.backlog import Backlog
from lms_webhooks.stores.deliveries import Outcome
from lms_webhooks.stores.replays import Replay, ReplayStore
from lms_webhooks.stores.webhooks import WebhookStore

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

    type Along = Sequence[TransactWriteItemTypeDef]


def _record_nothing(_: object) -> "Along":
    return ()


def audit_redelivery(caller: Caller, webhook_id: str, sort_key: str, *, repeated: bool = False) -> None:
    """Log that one event is sent again; `repeated` as `audit` has it."""
    audit(caller, "delivery.redeliver", repeated=repeated, webhookId=webhook_id, sortKey=sort_key)


def audit_replay(caller: Caller, webhook_id: str, replay_id: str, *, repeated: bool = False) -> None:
    """Log that a history is sent again; `repeated` as `audit` has it."""
    audit(caller, "webhook.replay", repeated=repeated, webhookId=webhook_id, replayId=replay_id)


class ReplayService:
    """Redeliveries and replays of every account's webhooks. The drainer sends; here it is asked to."""

    def __init__(
        self,
        store: WebhookStore,
        deliveries: Deliveries,
        backlog: Backlog,
        replays: ReplayStore,
        drain_queue: DrainQueue,
        limit: SendRateLimit,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._deliveries = deliveries
        self._backlog = backlog
        self._replays = replays
        self._drain_queue = drain_queue
        self._limit = limit
        self._clock = clock

    def redeliver(
        self,
        caller: Caller,
        webhook_id: str,
        sort_key: str,
        *,
        record: "Callable[[DeliveryView], Along]" = _record_nothing,
    ) -> DeliveryView:
        """Send one event once more, after what waits, whatever became of it before; answer how it stands now.

        One that still waits may be sent ahead of its time in this way. Where nothing may be sent for as long
        as events are tried, it is not sent. What `record` makes of the answer is done in the same
        transaction.

        Raises:
            NoSuchWebhook, NoSuchDelivery: there is none.
            KeyInUse, Busy: as the store does.
            TooManySends: as the limit does.
        """
        shown, waiting = self._deliveries.find(caller, webhook_id, sort_key)
        self._limit.take_along(
            caller.account_id,
            lambda count_it: self._replays.redeliver(
                caller.account_id,
                webhook_id,
                waiting,
                self._backlog,
                asked_at_ms=int(self._clock() * 1000),
                along=(*record(shown), count_it),
            ),
        )
        self._drain_queue.schedule_best_effort(caller.account_id, webhook_id)
        audit_redelivery(caller, webhook_id, sort_key)
        return shown

    def start(
        self,
        caller: Caller,
        webhook_id: str,
        wanted: ReplayInput,
        *,
        record: "Callable[[Replay], Along]" = _record_nothing,
    ) -> Replay:
        """Begin to send a part of the history again, oldest first.

        It covers events until now at most, so it comes to an end while new ones arrive. What `record` makes
        of the answer is done in the same transaction.

        Raises:
            NoSuchWebhook: the account has none by this id.
            InvalidFields: it is to begin in the future.
            ReplayRunning, KeyInUse, Busy: as the store does.
            TooManySends: as the limit does.
        """
        self._store.get(caller.account_id, webhook_id)
        now_ms = int(self._clock() * 1000)
        if wanted.from_time > now_ms:
            raise InvalidFields((FieldError("/from", "must not be later than now"),))
        to_ms = now_ms if wanted.to_time is None else min(now_ms, wanted.to_time)
        replay = Replay(
            replay_id="rp_" + secrets.token_urlsafe(16),
            account_id=caller.account_id,
            webhook_id=webhook_id,
            of=KeyRange(f"{wanted.from_time:013d}", f"{to_ms:013d}"),
            outcome=Outcome(wanted.status) if wanted.status is not None else None,
            event_name=wanted.event_name,
            started_at_ms=now_ms,
            started_by=caller.user_id,
        )
        self._limit.take_along(
            caller.account_id,
            lambda count_it: self._replays.start(replay, self._backlog, along=(*record(replay), count_it)),
        )
        self._drain_queue.schedule_best_effort(caller.account_id, webhook_id)
        audit_replay(caller, webhook_id, replay.replay_id)
        return replay

    def progress(self, caller: Caller, webhook_id: str) -> Replay:
        """How far the webhook's replay is, or the last one came.

        Raises:
            NoSuchWebhook, NoSuchReplay: there is none.
        """
        self._store.get(caller.account_id, webhook_id)
        replay = self._replays.find(webhook_id)
        if replay is None:
            raise ReplayNotFound
        return replay

    def cancel(self, caller: Caller, webhook_id: str) -> None:
        """Stop the webhook's replay where it is.

        Raises:
            NoSuchWebhook: the account has none by this id.
            NoSuchReplay: none is under way.
        """
        self._store.get(caller.account_id, webhook_id)
        if not self._replays.cancel(webhook_id, ended_at_ms=int(self._clock() * 1000)):
            raise ReplayNotFound("No replay of this webhook is under way.")
        audit(caller, "webhook.cancel-replay", webhookId=webhook_id)
