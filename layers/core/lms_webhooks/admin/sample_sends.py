"""Send a sample event to a saved or a draft webhook, in the request that a real event would get.

Imports the sender. So the first call that needs this module imports it, not the cold start.
"""

import json
import time
import uuid
from collections.abc import Callable, Mapping
from itertools import islice

from lms_webhooks.admin.audit import audit
from lms_webhooks.admin.caller import Caller
from lms_webhooks.admin.inputs import WebhookInput
from lms_webhooks.admin.outputs import SampleRequestOutput, SampleResultOutput
from lms_webhooks.admin.rate_limit import SendRateLimit
from lms_webhooks.admin.webhooks import WebhookService
from lms_webhooks.model.event_types import EVENT_TYPES, EventTypes, generic_type
from lms_webhooks.model.events import Event
from lms_webhooks.model.webhooks import Webhook
from lms_webhooks.sending.sender import Timeouts
from lms_webhooks.sending.webhook_client import WebhookClient
from lms_webhooks.sending.webhook_request import Credentials, WebhookRequest

TIMEOUTS = Timeouts(connect_seconds=5, response_seconds=5, total_seconds=5)  # as the dispatcher's
MAX_RESPONSE_HEADERS = 50
_MAX_SHOWN_CHARACTERS = 1024  # of a name, and of a value


class SampleSender:
    """Tests of the webhooks of every account."""

    def __init__(
        self,
        webhooks: WebhookService,
        webhook_client: WebhookClient,
        rate_limit: SendRateLimit,
        *,
        event_types: EventTypes = EVENT_TYPES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._webhooks = webhooks
        self._webhook_client = webhook_client
        self._rate_limit = rate_limit
        self._event_types = event_types
        self._clock = clock

    def send_to_saved(self, caller: Caller, webhook_id: str, event_name: str | None) -> SampleResultOutput:
        """Send a sample to a webhook of the caller's account, whatever its status.

        Raises:
            WebhookNotFound: the account has no such webhook.
            RateLimited, Contention: as `SendRateLimit.consume`.
        """
        webhook, _ = self._webhooks.get(caller, webhook_id)
        return self._send(caller, webhook, event_name)

    def send_to_draft(self, caller: Caller, given: WebhookInput) -> SampleResultOutput:
        """Send a sample to a webhook that is not saved, and save nothing.

        A signature uses a secret that is thrown away: only that of a saved webhook can be verified.

        Raises:
            RateLimited, Contention: as `SendRateLimit.consume`.
        """
        webhook, _ = self._webhooks.draft(caller, given)
        return self._send(caller, webhook, None)

    def _send(self, caller: Caller, webhook: Webhook, event_name: str | None) -> SampleResultOutput:
        self._rate_limit.consume(caller.account_id)
        name = event_name or self._first_event_name(webhook)
        credentials = self._webhook_client.decrypt_credentials(webhook)
        result = self._webhook_client.send(
            webhook,
            [self._sample(caller.account_id, name)],
            credentials=credentials,
            timeouts=TIMEOUTS,
        )
        self._webhook_client.log(webhook.account_id, webhook.webhook_id, [result])
        assert result.request is not None  # a test's
        response = result.response
        audit(caller, "webhook.test", webhookId=webhook.webhook_id)
        return SampleResultOutput(
            delivered=response.is_success,
            status_code=response.status_code,
            latency_ms=response.latency_ms,
            error_class=response.error_class,
            reason=response.violated_rule or result.attempt.reason,
            location=response.location or None,
            response_body=credentials.hide_in(response.body) or None,
            response_headers=_start_of(response.headers, credentials) or None,
            request=_without_credentials(result.request),
        )

    def _first_event_name(self, webhook: Webhook) -> str:
        listed = (name for name in self._event_types if name in webhook.events)
        return next(listed, min(webhook.events))

    def _sample(self, account_id: str, event_name: str) -> Event:
        now_ms = int(self._clock() * 1000)
        event_id = str(uuid.uuid4())  # as any event's: the request says that it is a test
        event_type = self._event_types.get(event_name) or generic_type(event_name)
        sample = event_type.sample_event(event_id) | {"timestamp": now_ms}
        return Event(
            account_id=account_id,
            event_id=event_id,
            event_name=event_name,
            occurred_at_ms=now_ms,
            accepted_at_ms=now_ms,
            text=json.dumps({name: value for name, value in sample.items() if name != "accountId"}),
        )


def _without_credentials(request: WebhookRequest) -> SampleRequestOutput:
    """Return the request as its admin may see it: a password is never readable again."""
    headers = dict(request.headers)
    if "authorization" in headers:
        headers["authorization"] = f"{headers['authorization'].partition(' ')[0]} ***"
    return SampleRequestOutput(url=request.url, headers=headers, body=request.body.decode())


def _start_of(headers: Mapping[str, str], credentials: Credentials) -> dict[str, str]:
    """Return the start of a response's headers: a receiver may send any number, of any length.

    It may also echo the password.
    """
    return {
        name[:_MAX_SHOWN_CHARACTERS]: credentials.hide_in(value[:_MAX_SHOWN_CHARACTERS])
        for name, value in islice(headers.items(), MAX_RESPONSE_HEADERS)
    }
