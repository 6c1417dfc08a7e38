"""Create, show and delete webhooks for a caller who may: the admin API without its HTTP."""

from collections.abc import Callable
from datetime import UTC, datetime

from pydantic.alias_generators import to_camel

from lms_webhooks.admin.caller import Caller
from lms_webhooks.admin.models import (
    BasicAuthenticationTaken,
    NoAuthenticationTaken,
    SignatureAuthenticationTaken,
    WebhookTaken,
)
from lms_webhooks.observability import logger
from lms_webhooks.secrets import SecretBox
from lms_webhooks.signing import new_secret
from lms_webhooks.webhook_store import WebhookStore, new_webhook_id
from lms_webhooks.webhooks import (
    Authentication,
    BasicAuthentication,
    NoAuthentication,
    SignatureAuthentication,
    Status,
    Webhook,
    rfc3339,
)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Registrations:
    """The webhooks of every account; each call is for one caller and reaches only that caller's account."""

    def __init__(
        self, store: WebhookStore, secret_box: SecretBox, *, now: Callable[[], datetime] = _utc_now
    ) -> None:
        self._store = store
        self._secret_box = secret_box
        self._now = now

    def create(self, caller: Caller, wanted: WebhookTaken) -> tuple[Webhook, str | None]:
        """Register what `wanted` says; also answer its signing secret, when one was made.

        Raises:
            TooManyWebhooks, Busy: as the store does.
        """
        webhook_id = new_webhook_id()
        authentication, secret = self._protect(caller.account_id, webhook_id, wanted)
        now = rfc3339(self._now())
        webhook = Webhook(
            account_id=caller.account_id,
            webhook_id=webhook_id,
            name=wanted.name,
            description=wanted.description,
            target_url=wanted.target_url,
            authentication=authentication,
            events=frozenset(wanted.events),
            status=Status(wanted.status),
            created_at=now,
            updated_at=now,
            created_by=caller.user_id,
            updated_by=caller.user_id,
        )
        self._store.create(webhook)
        _audit(
            caller,
            "webhook.create",
            webhook_id,
            changed=sorted(to_camel(name) for name in wanted.model_fields_set),
        )
        return webhook, secret

    def get(self, caller: Caller, webhook_id: str) -> Webhook:
        """One webhook of the caller's account.

        Raises:
            NoSuchWebhook: it has none by this id.
        """
        return self._store.get(caller.account_id, webhook_id)

    def all(self, caller: Caller) -> list[Webhook]:
        """Every webhook of the caller's account, oldest first."""
        return [each.webhook for each in self._store.read_account(caller.account_id)]

    def delete(self, caller: Caller, webhook_id: str) -> None:
        """Delete one webhook of the caller's account.

        Raises:
            NoSuchWebhook, Busy: as the store does.
        """
        self._store.delete(caller.account_id, webhook_id, deleted_at=self._now(), deleted_by=caller.user_id)
        _audit(caller, "webhook.delete", webhook_id, changed=[])

    def _protect(
        self, account_id: str, webhook_id: str, wanted: WebhookTaken
    ) -> tuple[Authentication, str | None]:
        match wanted.authentication:
            case NoAuthenticationTaken():
                return NoAuthentication(), None
            case BasicAuthenticationTaken(username=username, password=password):
                ciphertext = self._secret_box.encrypt(password, account_id=account_id, webhook_id=webhook_id)
                return BasicAuthentication(username=username, password_ciphertext=ciphertext), None
            case SignatureAuthenticationTaken():
                secret = new_secret()
                ciphertext = self._secret_box.encrypt(secret, account_id=account_id, webhook_id=webhook_id)
                return SignatureAuthentication(secret_ciphertext=ciphertext), secret


def _audit(caller: Caller, action: str, webhook_id: str, *, changed: list[str]) -> None:
    """One line for each change: who did what to which webhook. Names of fields, never their values."""
    logger.info(
        "audit",
        action=action,
        accountId=caller.account_id,
        webhookId=webhook_id,
        user=caller.user_id,
        changedFields=changed,
    )
