"""Send events to one webhook: its secrets, the request, the POST, and one line in the log."""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import StrEnum

from lms_webhooks.attempts import Attempt
from lms_webhooks.events import Event
from lms_webhooks.messages import Credentials, compose
from lms_webhooks.observability import logger
from lms_webhooks.retry import classify
from lms_webhooks.secrets import SecretBox
from lms_webhooks.sender import Answer, Patience, Sender
from lms_webhooks.webhooks import BasicAuthentication, SignatureAuthentication, Webhook


class Kind(StrEnum):
    """What a request is for, as the log says it."""

    DIRECT = "direct"
    BACKLOG = "backlog"
    TEST = "test"


class Courier:
    """Carries events to webhooks. Safe to share between threads."""

    def __init__(
        self, secrets: SecretBox, sender: Sender, *, kind: Kind, clock: Callable[[], float] = time.time
    ) -> None:
        self._secrets = secrets
        self._sender = sender
        self._kind = kind
        self._clock = clock

    def carry(
        self, webhook: Webhook, events: Sequence[Event], *, patience: Patience
    ) -> tuple[Answer, Attempt]:
        """POST `events` to `webhook`, in their order, in one request.

        Raises:
            aws.AWS_FAULTS: the webhook's secret could not be decrypted. Nothing was sent.
        """
        started_at = self._clock()
        message = compose(
            webhook.target_url,
            events,
            webhook_id=webhook.webhook_id,
            credentials=self._credentials(webhook),
            headers=webhook.headers,
            timestamp_seconds=int(started_at),
        )
        answer = self._sender.post(message, patience=patience)
        logger.info(
            "attempt",
            kind=self._kind,
            accountId=webhook.account_id,
            webhookId=webhook.webhook_id,
            eventName=events[0].event_name,
            events=len(events),
            eventIds=[event.event_id for event in events],  # one of many could not be followed otherwise
            bytes=len(message.body),
            outcome=classify(answer.status_code),
            statusCode=answer.status_code,
            errorClass=answer.error_class,
            latencyMs=answer.latency_ms,
            brokenRule=answer.broken_rule or None,
        )
        return answer, Attempt(
            started_at_ms=int(started_at * 1000),
            latency_ms=answer.latency_ms,
            status_code=answer.status_code,
            error_class=answer.error_class,
        )

    def _credentials(self, webhook: Webhook) -> Credentials:
        authentication = webhook.authentication
        if isinstance(authentication, BasicAuthentication):
            password = self._decrypt(webhook, authentication.password_ciphertext)
            return Credentials(basic=(authentication.username, password))
        if isinstance(authentication, SignatureAuthentication):
            ciphertexts = [authentication.secret_ciphertext]
            if authentication.previous_secret_ciphertext and self._is_ahead(
                authentication.previous_secret_until
            ):
                ciphertexts.append(authentication.previous_secret_ciphertext)
            return Credentials(signing_secrets=tuple(self._decrypt(webhook, each) for each in ciphertexts))
        return Credentials()

    def _decrypt(self, webhook: Webhook, ciphertext: bytes) -> str:
        return self._secrets.decrypt(ciphertext, account_id=webhook.account_id, webhook_id=webhook.webhook_id)

    def _is_ahead(self, until: str | None) -> bool:
        return until is not None and datetime.fromisoformat(until) > datetime.fromtimestamp(
            self._clock(), UTC
        )
