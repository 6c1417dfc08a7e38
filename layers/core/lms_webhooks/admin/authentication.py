"""Turn the authentication that an admin gives into what is stored, with every secret encrypted."""

from dataclasses import replace
from datetime import datetime, timedelta

from lms_webhooks.admin.inputs import (
    BasicAuthenticationInput,
    NoAuthenticationInput,
    SignatureAuthenticationInput,
    WebhookPatch,
)
from lms_webhooks.admin.problems import FieldError, InvalidFields
from lms_webhooks.aws.kms import SecretCipher
from lms_webhooks.model.webhooks import (
    Authentication,
    BasicAuthentication,
    NoAuthentication,
    SignatureAuthentication,
    Webhook,
)
from lms_webhooks.sending.signing import new_secret
from lms_webhooks.sending.targets import origin_of
from lms_webhooks.timestamps import format_time

SECRET_OVERLAP = timedelta(hours=24)

type AuthenticationInput = NoAuthenticationInput | BasicAuthenticationInput | SignatureAuthenticationInput


def new_authentication(
    cipher: SecretCipher, account_id: str, webhook_id: str, given: AuthenticationInput
) -> tuple[Authentication, str | None]:
    """Return what is stored for `given`, and the signing secret, if it makes one."""
    match given:
        case NoAuthenticationInput():
            return NoAuthentication(), None
        case BasicAuthenticationInput(username=username, password=password):
            ciphertext = cipher.encrypt(password, account_id=account_id, webhook_id=webhook_id)
            return BasicAuthentication(username=username, password_ciphertext=ciphertext), None
        case SignatureAuthenticationInput():
            return _new_signature(cipher, account_id, webhook_id)


def updated_authentication(
    cipher: SecretCipher, webhook: Webhook, patch: WebhookPatch
) -> tuple[Authentication, str | None]:
    """Return the authentication of `webhook` after `patch`, and the signing secret, if it makes one.

    A webhook that signs already keeps its secret: a new one takes a call of its own.

    Raises:
        InvalidFields: a stored password would go to another scheme, host or port.
    """
    if patch.authentication is None:
        if patch.target_url is not None:
            _require_same_origin(webhook, patch.target_url)
        return webhook.authentication, None
    is_signed = isinstance(webhook.authentication, SignatureAuthentication)
    if is_signed and isinstance(patch.authentication, SignatureAuthenticationInput):
        return webhook.authentication, None
    return new_authentication(cipher, webhook.account_id, webhook.webhook_id, patch.authentication)


def rotated_authentication(
    cipher: SecretCipher, webhook: Webhook, current: SignatureAuthentication, *, now: datetime
) -> tuple[SignatureAuthentication, str]:
    """Return a new signing secret, and what is stored for it. The current secret signs too for a day."""
    fresh, secret = _new_signature(cipher, webhook.account_id, webhook.webhook_id)
    rotated = replace(
        fresh,
        previous_secret_ciphertext=current.secret_ciphertext,
        previous_secret_until=format_time(now + SECRET_OVERLAP),
    )
    return rotated, secret


def previous_secret_expires_at(webhook: Webhook, *, now: datetime) -> str | None:
    """Return until when the previous secret signs too, in RFC 3339; None when none does."""
    if not isinstance(webhook.authentication, SignatureAuthentication):
        return None
    until = webhook.authentication.previous_secret_until
    return until if until is not None and until > format_time(now) else None


def _new_signature(
    cipher: SecretCipher, account_id: str, webhook_id: str
) -> tuple[SignatureAuthentication, str]:
    secret = new_secret()
    ciphertext = cipher.encrypt(secret, account_id=account_id, webhook_id=webhook_id)
    return SignatureAuthentication(secret_ciphertext=ciphertext), secret


def _require_same_origin(webhook: Webhook, target_url: str) -> None:
    """Keep a stored password from going anywhere but where it was given for.

    Nobody can read it through the API, but an admin who chooses another host could read it there. A signing
    secret never leaves the system, and the receiver that moves knows it. Headers are not secret.

    Raises:
        InvalidFields: `target_url` has another scheme, host or port.
    """
    has_password = isinstance(webhook.authentication, BasicAuthentication)
    if has_password and origin_of(target_url) != origin_of(webhook.target_url):
        raise InvalidFields(
            (
                FieldError(
                    "/authentication/password",
                    "must be given again: the stored one is for another scheme, host or port",
                ),
            )
        )
