"""Send events to one webhook: its secrets, the request, the POST, and the log's line about it."""

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
from lms_webhooks.sending.webhook_request import Credentials, build_request
from lms_webhooks.timestamps import format_ms


class SendKind(StrEnum):
    """What a request is for, as the log says it."""

    DIRECT = "direct"
    BACKLOG = "backlog"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class SendResult:
    """One POST, and what came of it."""

    events: Sequence[Event]
    body_bytes: int
    response: PostResult
    attempt: Attempt


class WebhookClient:
    """Carries events to webhooks. Safe to share between threads."""

    def __init__(
        self, secrets: SecretCipher, sender: Sender, *, kind: SendKind, clock: Callable[[], float] = time.time
    ) -> None:
        self._secrets = secrets
        self._sender = sender
        self._kind = kind
        self._clock = clock

    def decrypt_credentials(self, webhook: Webhook) -> Credentials:
        """What `webhook` proves itself with. KMS may take its time: check afterwards what may have changed.

        Raises:
            AWS_ERRORS: a secret could not be decrypted.
        """
        authentication = webhook.authentication
        if isinstance(authentication, BasicAuthentication):
            password = self._decrypt(webhook, authentication.password_ciphertext)
            return Credentials(basic=(authentication.username, password))
        if isinstance(authentication, SignatureAuthentication):
            secrets = [self._decrypt(webhook, authentication.secret_ciphertext)]
            if authentication.previous_secret_ciphertext and self._is_ahead(
                authentication.previous_secret_until
            ):
                # The one that signs along. It may be lost, and a new secret would help nobody for a day then.
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
        """POST `events` to `webhook`, in their order, in one request. It is not in the log yet.

        Raises:
            wires.OutOfResources: this process has no socket for it, or no thread.
        """
        started_at = self._clock()
        message = build_request(
            webhook.target_url,
            events,
            webhook_id=webhook.webhook_id,
            credentials=credentials,
            headers=webhook.headers,
            timestamp_seconds=int(started_at),
            is_test=self._kind is SendKind.TEST,
        )
        answer = self._sender.post(message, timeouts=timeouts)
        attempt = Attempt(
            started_at_ms=int(started_at * 1000),
            latency_ms=answer.latency_ms,
            status_code=answer.status_code,
            error_class=f"{answer.error_class}/{answer.tls_fault}"
            if answer.tls_fault
            else answer.error_class,
        )
        return SendResult(events, len(message.body), answer, attempt)

    def log(self, account_id: str, webhook_id: str, sent: Sequence[SendResult]) -> None:
        """Write down what was sent to one webhook: a line for those in a row with one answer.

        A line for each would be a fifth of the time that a delivery takes, and a tenth of its price.
        """
        for (status_code, error_class, violated_rule, tls_fault), alike in groupby(sent, key=_answer_of):
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
                eventIds=[event.event_id for event in events],  # one of many could not be followed otherwise
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

    def _is_ahead(self, until: str | None) -> bool:
        return until is not None and datetime.fromisoformat(until) > datetime.fromtimestamp(
            self._clock(), UTC
        )


def _answer_of(sent: SendResult) -> tuple[int | None, ErrorClass | None, str, TlsFault | None]:
    answer = sent.response
    return answer.status_code, answer.error_class, answer.violated_rule, answer.tls_fault
