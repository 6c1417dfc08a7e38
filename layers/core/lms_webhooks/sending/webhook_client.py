"""Send events to one webhook: decrypt its secrets, build and POST the request, and log the attempt."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import groupby

from lms_webhooks.aws.kms import SecretCipher
from lms_webhooks.model.attempts import Attempt, ErrorClass, TlsFault, classify
from lms_webhooks.model.events import Event
from lms_webhooks.model.webhooks import BasicAuthentication, SignatureAuthentication, Webhook
from lms_webhooks.observability import logger
from lms_webhooks.sending.sender import PostResult, Sender, Timeouts
from lms_webhooks.sending.webhook_request import Credentials, WebhookRequest, build_request
from lms_webhooks.timestamps import format_ms


class SendKind(StrEnum):
    """The `kind` of a request in the log."""

    DIRECT = "direct"
    BACKLOG = "backlog"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class SendResult:
    """One POST: its events, its response while it is at hand, and the `Attempt` that is kept."""

    events: Sequence[Event]
    body_bytes: int
    response: PostResult
    attempt: Attempt
    request: WebhookRequest | None = None
    """Of a test, whose admin sees it. Any other would only be held in memory."""


class WebhookClient:
    """Sends events to webhooks. Safe to share between threads."""

    def __init__(
        self, secrets: SecretCipher, sender: Sender, *, kind: SendKind, clock: Callable[[], float] = time.time
    ) -> None:
        self._secrets = secrets
        self._sender = sender
        self._kind = kind
        self._clock = clock

    def decrypt_credentials(self, webhook: Webhook) -> Credentials:
        """Decrypt the credentials of `webhook`.

        KMS may take seconds, so the caller checks afterwards whether the webhook changed.

        Raises:
            AWS_ERRORS: a secret could not be decrypted.
        """
        authentication = webhook.authentication
        if isinstance(authentication, BasicAuthentication):
            password = self._decrypt(webhook, authentication.password_ciphertext)
            return Credentials(basic=(authentication.username, password))
        if isinstance(authentication, SignatureAuthentication):
            secrets = [self._decrypt(webhook, authentication.secret_ciphertext)]
            if authentication.previous_secret_ciphertext and self._is_in_future(
                authentication.previous_secret_until
            ):
                # A lost previous secret must not stop the new one from signing.
                previous = self._secrets.decrypt_unless_lost(
                    authentication.previous_secret_ciphertext,
                    account_id=webhook.account_id,
                    webhook_id=webhook.webhook_id,
                )
                secrets += [] if previous is None else [previous]
            return Credentials(signing_secrets=tuple(secrets))
        return Credentials()

    def send(
        self, webhook: Webhook, events: Sequence[Event], *, credentials: Credentials, timeouts: Timeouts
    ) -> SendResult:
        """POST `events` to `webhook`, in their order, in one request. `log` logs it later.

        Raises:
            OutOfResources: this process has no socket left, or no thread.
        """
        began_at = self._clock()
        is_test = self._kind is SendKind.TEST
        request = build_request(
            webhook.target_url,
            events,
            webhook_id=webhook.webhook_id,
            credentials=credentials,
            headers=webhook.headers,
            timestamp_seconds=int(began_at),
            is_test=is_test,
        )
        response = self._sender.post(request, timeouts=timeouts)
        attempt = Attempt(
            started_at_ms=int(began_at * 1000),
            latency_ms=response.latency_ms,
            status_code=response.status_code,
            error_class=f"{response.error_class}/{response.tls_fault}"
            if response.tls_fault
            else response.error_class,
        )
        return SendResult(events, len(request.body), response, attempt, request if is_test else None)

    def log(self, account_id: str, webhook_id: str, results: Sequence[SendResult]) -> None:
        """Log what was sent to one webhook: one line for attempts in a row with like responses.

        A line for each attempt would be a fifth of a delivery's time, and a tenth of its price.
        """
        for (status_code, error_class, violated_rule, tls_fault), alike in groupby(results, key=_result_key):
            attempts = list(alike)
            latencies_ms = [each.attempt.latency_ms for each in attempts]
            events = [event for each in attempts for event in each.events]
            logger.info(
                "attempt",
                kind=self._kind,
                accountId=account_id,
                webhookId=webhook_id,
                startedAt=format_ms(attempts[0].attempt.started_at_ms),  # the line is written later
                attempts=len(attempts),
                eventName=events[0].event_name,
                events=len(events),
                eventIds=[event.event_id for event in events],  # so that a search finds each of them
                bytes=sum(each.body_bytes for each in attempts),
                responseClass=classify(status_code),
                statusCode=status_code,
                errorClass=error_class,
                latencyMs=max(latencies_ms),
                totalLatencyMs=sum(latencies_ms),
                violatedRule=violated_rule or None,
                tlsFault=tls_fault,
            )

    def _decrypt(self, webhook: Webhook, ciphertext: bytes) -> str:
        return self._secrets.decrypt(ciphertext, account_id=webhook.account_id, webhook_id=webhook.webhook_id)

    def _is_in_future(self, until: str | None) -> bool:
        return until is not None and datetime.fromisoformat(until) > datetime.fromtimestamp(
            self._clock(), UTC
        )


def _result_key(result: SendResult) -> tuple[int | None, ErrorClass | None, str, TlsFault | None]:
    """Return what makes responses alike. What differs each time goes into a list, as `eventIds` does."""
    response = result.response
    return response.status_code, response.error_class, response.violated_rule, response.tls_fault
