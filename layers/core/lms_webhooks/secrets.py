"""Keep what webhooks prove themselves with: passwords and signing secrets, under KMS.

Each ciphertext is bound to its account and webhook (the encryption context), so one that is copied to
another item decrypts to nothing, and CloudTrail says whose secret was read.
"""

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

REMEMBERED_SECRETS = 1000


class SecretBox:
    """Encrypt and decrypt secrets with one KMS key. Safe to share between threads.

    Plaintexts are remembered, the least recently used forgotten first, so that deliveries do not each
    cost a call of KMS. A changed secret has a new ciphertext, so nothing remembered grows stale.
    """

    def __init__(self, client: "KMSClient", key_id: str) -> None:
        self._client = client
        self._key_id = key_id
        self._remembered = lru_cache(maxsize=REMEMBERED_SECRETS)(self._decrypt)

    def encrypt(self, plaintext: str, *, account_id: str, webhook_id: str) -> bytes:
        """The ciphertext of `plaintext`, at most 4,096 bytes of UTF-8.

        Raises:
            botocore.exceptions.ClientError: KMS refused, was throttled or down.
        """
        answer = self._client.encrypt(
            KeyId=self._key_id,
            Plaintext=plaintext.encode(),
            EncryptionContext=_context(account_id, webhook_id),
        )
        return answer["CiphertextBlob"]

    def decrypt(self, ciphertext: bytes, *, account_id: str, webhook_id: str) -> str:
        """What `encrypt` was given for the same account and webhook.

        Raises:
            botocore.exceptions.ClientError: as `encrypt`; also when account or webhook differ
                (InvalidCiphertextException).
        """
        return self._remembered(ciphertext, account_id, webhook_id)

    def _decrypt(self, ciphertext: bytes, account_id: str, webhook_id: str) -> str:
        answer = self._client.decrypt(
            KeyId=self._key_id,
            CiphertextBlob=ciphertext,
            EncryptionContext=_context(account_id, webhook_id),
        )
        return answer["Plaintext"].decode()


def _context(account_id: str, webhook_id: str) -> dict[str, str]:
    return {"accountId": account_id, "webhookId": webhook_id}
