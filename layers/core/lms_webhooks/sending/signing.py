"""Sign requests by Standard Webhooks (https://www.standardwebhooks.com, symmetric `v1`). Pure."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable

SECRET_PREFIX = "whsec_"  # noqa: S105 - no secret itself
SECRET_BYTES = 32  # Standard Webhooks: between 24 and 64; 32 is the strength of SHA-256


def new_secret() -> str:
    """Create a signing secret in the form that receivers' libraries read."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def sign(signing_secrets: Iterable[str], *, message_id: str, timestamp_seconds: int, body: bytes) -> str:
    """Compute the `webhook-signature` header: one `v1,<base64>` for each secret, separated by spaces.

    Two secrets sign during a rotation, so a receiver that knows either can verify the request.
    """
    signed = f"{message_id}.{timestamp_seconds}.".encode() + body
    return " ".join(
        "v1," + base64.b64encode(hmac.digest(_key(secret), signed, hashlib.sha256)).decode()
        for secret in signing_secrets
    )


def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(SECRET_PREFIX))
