"""Have deliveries sent again for a caller who may: one of them, or all of a time range."""

import secrets
import time
from collections.abc import Callable

from lms_webhooks.admin.audit import audit
from lms_webhooks.admin.caller import Caller
from lms_webhooks.admin.deliveries import Deliveries, Shown
from lms_webhooks.admin.taken import ReplayTaken
from lms_webhooks.aws import AWS_FAULTS
from lms_webhooks.backlog import NEVER_MS, Backlog, Lane, Waiting
from lms_webhooks.delivery_store import Outcome
from lms_webhooks.dynamodb import Range
from lms_webhooks.observability import logger
from lms_webhooks.problems import Busy, NoSuchReplay
from lms_webhooks.queues import DrainQueue
from lms_webhooks.replay import Replay, ReplayStore
from lms_webhooks.webhook_store import WebhookStore


class Resends:
    """Redeliveries and replays of every account's webhooks. The drainer sends; here it is asked to."""

    def __init__(
        self,
        store: WebhookStore,
        deliveries: Deliveries,
        backlog: Backlog,
        replays: ReplayStore,
        drain_queue: DrainQueue,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._deliveries = deliveries
        self._backlog = backlog
        self._replays = replays
        self._drain_queue = drain_queue
        self._clock = clock

    def redeliver(self, caller: Caller, webhook_id: str, sort_key: str) -> Shown:
        """Send one event once more, after what waits, whatever became of it before; answer how it stands now.

        One that still waits may be sent ahead of its time in this way.

        Raises:
            NoSuchWebhook, NoSuchDelivery: there is none.
            Busy: it could not be noted.
        """
        shown, event = self._deliveries.find(caller, webhook_id, sort_key)
        if self._backlog.append(webhook_id, Lane.REPLAY, [Waiting(event)]):
            raise Busy
        self._backlog.mark(caller.account_id, webhook_id, Lane.REPLAY, accepted_at_ms=NEVER_MS)
        self._send_for_drainer(caller, webhook_id)
        audit(caller, "delivery.redeliver", webhookId=webhook_id, sortKey=sort_key)
        return shown

    def start(self, caller: Caller, webhook_id: str, wanted: ReplayTaken) -> Replay:
        """Begin to send a part of the history again, oldest first.

        It covers events until now at most, so it comes to an end while new ones arrive.

        Raises:
            NoSuchWebhook: the account has none by this id.
            ReplayRunning, Busy: as the store does.
        """
        self._store.get(caller.account_id, webhook_id)
        now_ms = int(self._clock() * 1000)
        to_ms = now_ms if wanted.to_time is None else min(now_ms, wanted.to_time)
        replay = Replay(
            replay_id="rp_" + secrets.token_urlsafe(16),
            account_id=caller.account_id,
            webhook_id=webhook_id,
            of=Range(f"{min(wanted.from_time, to_ms):013d}", f"{to_ms:013d}"),
            outcome=Outcome(wanted.status) if wanted.status is not None else None,
            event_name=wanted.event_name,
            started_at_ms=now_ms,
            started_by=caller.user_id,
        )
        self._replays.start(replay, self._backlog)
        self._send_for_drainer(caller, webhook_id)
        audit(caller, "webhook.replay", webhookId=webhook_id, replayId=replay.replay_id)
        return replay

    def progress(self, caller: Caller, webhook_id: str) -> Replay:
        """How far the webhook's replay is, or the last one came.

        Raises:
            NoSuchWebhook, NoSuchReplay: there is none.
        """
        self._store.get(caller.account_id, webhook_id)
        replay = self._replays.find(webhook_id)
        if replay is None:
            raise NoSuchReplay
        return replay

    def _send_for_drainer(self, caller: Caller, webhook_id: str) -> None:
        try:
            self._drain_queue.send(caller.account_id, webhook_id, delay_seconds=0)
        except AWS_FAULTS:
            logger.exception("drainer not sent for", webhookId=webhook_id)  # the sweep finds the mark
