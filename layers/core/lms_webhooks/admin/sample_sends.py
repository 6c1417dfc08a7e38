"""Send a sample to a webhook, as it is saved or before it is: the request that a real event would be.

Imports the sender, so this is imported by the first call that needs it and not at cold start.
"""

import json
import time
import uuid
from collections.abc import Callable

from lms_webhooks.admin.audit import audit
from lms_webhooks.admin.caller import Caller
from lms_webhooks.admin.inputs import WebhookInput
from lms_webhooks.admin.outputs import SampleResultOutput
from lms_webhooks.admin.rate_limit import SendRateLimit
from lms_webhooks.admin.webhooks import WebhookService
from lms_webhooks.model.event_types import EVENT_TYPES
from lms_webhooks.model.events import Event
from lms_webhooks.model.webhooks import Webhook
from lms_webhooks.sending.sender import Timeouts
from lms_webhooks.sending.webhook_client import WebhookClient

TIMEOUTS = Timeouts(connect_seconds=5, response_seconds=5, total_seconds=5)  # as the dispatcher's


class SampleSender:
    """The test sends of every account."""

    def __init__(
        self,
        registrations: WebhookService,
        webhook_client: WebhookClient,
        limit: SendRateLimit,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._registrations = registrations
        self._webhook_client = webhook_client
        self._limit = limit
        self._clock = clock

    def send_to_saved(self, caller: Caller, webhook_id: str, event_name: str | None) -> SampleResultOutput:
        """Send a sample to a webhook of the caller's account, whatever its status.

        Raises:
            NoSuchWebhook: the account has none by this id.
            TooManySends, Busy: as the limit does.
        """
        webhook, _ = self._registrations.get(caller, webhook_id)
        return self._send(caller, webhook, event_name)

    def send_to_draft(self, caller: Caller, wanted: WebhookInput) -> SampleResultOutput:
        """Send a sample to what `wanted` would be; nothing is saved.

        A signature is made with a secret that nobody has: only a saved webhook's can be verified.

        Raises:
            TooManySends, Busy: as the limit does.
        """
        webhook, _ = self._registrations.draft(caller, wanted)
        return self._send(caller, webhook, None)

    def _send(self, caller: Caller, webhook: Webhook, event_name: str | None) -> SampleResultOutput:
        self._limit.take(caller.account_id)
        name = event_name or next(name for name in EVENT_TYPES if name in webhook.events)
        sent = self._webhook_client.send(
            webhook,
            [self._sample(caller.account_id, name)],
            credentials=self._webhook_client.decrypt_credentials(webhook),
            timeouts=TIMEOUTS,
        )
        self._webhook_client.log(webhook.account_id, webhook.webhook_id, [sent])
        answer = sent.response
        audit(caller, "webhook.test", webhookId=webhook.webhook_id)
        return SampleResultOutput(
            delivered=answer.is_success,
            status_code=answer.status_code,
            latency_ms=answer.latency_ms,
            error_class=answer.error_class,
            reason=answer.violated_rule or sent.attempt.reason,
            location=answer.location or None,
            response_body=answer.body or None,
        )

    def _sample(self, account_id: str, event_name: str) -> Event:
        now_ms = int(self._clock() * 1000)
        event_id = str(uuid.uuid4())  # as any event's: the request says that it is a test
        sample = EVENT_TYPES[event_name].sample_event(event_id) | {"timestamp": now_ms}
        return Event(
            account_id=account_id,
            event_id=event_id,
            event_name=event_name,
            occurred_at_ms=now_ms,
            accepted_at_ms=now_ms,
            text=json.dumps({name: value for name, value in sample.items() if name != "accountId"}),
        )
