"""Encrypt and decrypt passwords and signing secrets with KMS.

Each ciphertext is bound to its account and webhook by the encryption context. A ciphertext that is copied to
another item cannot be decrypted there. CloudTrail records whose secret was decrypted.
"""

from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from lms_webhooks.clocks import Clocks, ExpiringCache
from lms_webhooks.observability import logger

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

REMEMBERED_SECRETS = 1000
MAX_AGE_SECONDS = 3600
"""When a key is disabled, deliveries with its secrets stop within this time."""


class SecretCipher:
    """Encrypt and decrypt secrets with one KMS key. Safe to share between threads.

    Plaintexts are cached, so that not every delivery costs a call of KMS. A changed secret has a new
    ciphertext, so no cached plaintext is out of date.
    """

    def __init__(self, client: "KMSClient", key_id: str, *, clocks: Clocks | None = None) -> None:
        self._client = client
        self._key_id = key_id
        self._plaintexts = ExpiringCache[tuple[bytes, str, str], str](
            max_age_seconds=MAX_AGE_SECONDS, max_weight=REMEMBERED_SECRETS, clocks=clocks
        )
        self._lost = ExpiringCache[tuple[bytes, str, str], bool](
            max_age_seconds=MAX_AGE_SECONDS, max_weight=REMEMBERED_SECRETS, clocks=clocks
        )

    def encrypt(self, plaintext: str, *, account_id: str, webhook_id: str) -> bytes:
        """Return the ciphertext of `plaintext`, which has at most 4,096 bytes of UTF-8.

        Raises:
            botocore.exceptions.ClientError: KMS refused or throttled the call, or is down.
        """
        response = self._client.encrypt(
            KeyId=self._key_id,
            Plaintext=plaintext.encode(),
            EncryptionContext=_context(account_id, webhook_id),
        )
        return response["CiphertextBlob"]

    def decrypt(self, ciphertext: bytes, *, account_id: str, webhook_id: str) -> str:
        """Return the plaintext that was encrypted for the same account and webhook.

        Raises:
            botocore.exceptions.ClientError: as `encrypt`; also when account or webhook differ
                (InvalidCiphertextException).
        """
        key = ciphertext, account_id, webhook_id
        plaintext = self._plaintexts.get(key)
        if plaintext is None:
            began = self._plaintexts.clocks.now()
            plaintext = self._decrypt(*key)
            self._plaintexts.put(key, plaintext, since=began)
        return plaintext

    def decrypt_unless_lost(self, ciphertext: bytes, *, account_id: str, webhook_id: str) -> str | None:
        """Return the plaintext, or None if the secret was encrypted with a key that was replaced.

        A lost secret is cached too, so that not every delivery calls KMS for it.

        Raises:
            botocore.exceptions.ClientError: as `decrypt`, for any other reason.
        """
        key = ciphertext, account_id, webhook_id
        if self._lost.get(key):
            return None
        began = self._lost.clocks.now()
        try:
            return self.decrypt(ciphertext, account_id=account_id, webhook_id=webhook_id)
        except ClientError as error:
            if error.response["Error"]["Code"] != "IncorrectKeyException":
                raise
        self._lost.put(key, True, since=began)
        logger.warning("previous secret is lost", webhookId=webhook_id)
        return None

    def _decrypt(self, ciphertext: bytes, account_id: str, webhook_id: str) -> str:
        response = self._client.decrypt(
            KeyId=self._key_id,
            CiphertextBlob=ciphertext,
            EncryptionContext=_context(account_id, webhook_id),
        )
        return response["Plaintext"].decode()


def _context(account_id: str, webhook_id: str) -> dict[str, str]:
    return {"accountId": account_id, "webhookId": webhook_id}
