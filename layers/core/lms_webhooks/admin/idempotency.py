"""Return the first response to a POST that is repeated under its key: the only module for these items.

| pk                      | sk                         | what                                              |
|-------------------------|----------------------------|---------------------------------------------------|
| IDEMPOTENCY#<accountId> | <hash of caller and key>   | a call under way, or its response, for a day (TTL)|

The invocation that creates the item makes the call. Where the call writes to the same table, one transaction
writes what it does and its response. So a second try never does it twice, wherever the first one ended.

The fingerprint of a call is encrypted. Its body may hold a password, which a plain hash would let one guess.
"""

import hashlib
import json
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lms_webhooks.admin.caller import Caller
from lms_webhooks.admin.problems import IdempotencyKeyReused, InvalidParameters, ParameterError
from lms_webhooks.aws.dynamodb import Table, conditional_write, key_item
from lms_webhooks.aws.kms import SecretCipher
from lms_webhooks.errors import AWS_ERRORS, Contention, IdempotencyInProgress
from lms_webhooks.observability import logger

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef, TransactWriteItemTypeDef

    type Item = dict[str, AttributeValueTypeDef]

KEPT_SECONDS = 24 * 3600
LOCK_SECONDS = 20  # longer than the function can live (15 s): then its invocation has ended
_TRIES = 5
_KEY = re.compile(r"[!-~](?:[ -~]{0,253}[!-~])?")
_FINGERPRINTS = "idempotency"  # where a secret's encryption context has a webhook's id


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response to return again."""

    status: int
    headers: dict[str, str]
    body: str


@dataclass(frozen=True, slots=True)
class ResponseSecret:
    """A secret in the body of a response, and the webhook that it belongs to."""

    webhook_id: str
    secret: str


class Claim:
    """The right of this invocation to make the call of a key."""

    def __init__(
        self, table: Table, cipher: SecretCipher, account_id: str, item: "Item", *, token: str
    ) -> None:
        self._table = table
        self._cipher = cipher
        self._account_id = account_id
        self._key: Item = {name: item[name] for name in ("pk", "sk")}
        self._token = token
        self._recorded: StoredResponse | None = None

    def record(
        self, response: StoredResponse, secret: ResponseSecret | None = None
    ) -> "list[TransactWriteItemTypeDef]":
        """Return the write that stores `response`, for the transaction that makes the change."""
        self._recorded = response
        return [
            {
                "Update": {
                    "TableName": self._table.name,
                    "Key": self._key,
                    "UpdateExpression": "SET answer = :answer",
                    "ConditionExpression": "claim_token = :token AND attribute_not_exists(answer)",
                    "ExpressionAttributeValues": {
                        ":token": {"S": self._token},
                        ":answer": {"M": self._response_item(response, secret)},
                    },
                }
            }
        ]

    def finish(self, response: StoredResponse) -> None:
        """Store `response`, unless a transaction did.

        A transaction that was refused stored nothing. Then the call returns another response than the one
        that was to be recorded.
        """
        if response == self._recorded:
            return
        (action,) = self.record(response)
        try:
            conditional_write(lambda: self._table.client.update_item(**action["Update"]), self._table.client)
        except AWS_ERRORS:
            logger.exception("response not stored")  # the change is made: the caller must get the response

    def release(self) -> None:
        """Give the key back after a call that changed nothing, so that it may be made again."""
        try:
            conditional_write(
                lambda: self._table.client.delete_item(
                    TableName=self._table.name,
                    Key=self._key,
                    ConditionExpression="claim_token = :token AND attribute_not_exists(answer)",
                    ExpressionAttributeValues={":token": {"S": self._token}},
                ),
                self._table.client,
            )
        except AWS_ERRORS:
            logger.exception("claim not released")  # it ends by itself

    def _response_item(self, response: StoredResponse, secret: ResponseSecret | None) -> "Item":
        body = response.body
        item: Item = {
            "status": {"N": str(response.status)},
            "headers": {"S": json.dumps(response.headers)},
        }
        if secret is not None:
            stand_in = secrets.token_urlsafe(24)  # of 192 bits, so nothing else in the body is like it
            body = body.replace(secret.secret, stand_in)
            item["stand_in"] = {"S": stand_in}
            item["webhook_id"] = {"S": secret.webhook_id}
            item["secret_ciphertext"] = {
                "B": self._cipher.encrypt(
                    secret.secret, account_id=self._account_id, webhook_id=secret.webhook_id
                )
            }
        item["body"] = {"S": body}
        return item


class Idempotency:
    """The idempotency keys of every account."""

    def __init__(self, table: Table, cipher: SecretCipher, *, clock: Callable[[], float] = time.time) -> None:
        self._table = table
        self._cipher = cipher
        self._clock = clock

    def claim(self, caller: Caller, key: str, *, path: str, body: str) -> Claim | StoredResponse:
        """Claim `key` for a call of `caller`, or return the stored response of an earlier call.

        Raises:
            InvalidParameters: `key` breaks the rule for keys.
            IdempotencyKeyReused: an earlier call under the key had another path or body.
            IdempotencyInProgress: the same call is under way.
            Contention: other calls claim the same key at the same moment, again and again.
        """
        if not _KEY.fullmatch(key):
            raise InvalidParameters(
                ParameterError("Idempotency-Key", "must have 1 to 255 visible ASCII characters")
            )
        item_key = key_item(
            (
                f"IDEMPOTENCY#{caller.account_id}",
                _hash(caller.user_id, key),
            )  # one admin's key is not another's
        )
        fingerprint = _hash(path, body)
        token = secrets.token_urlsafe(12)
        for _ in range(_TRIES):
            response = self._table.client.get_item(
                TableName=self._table.name, Key=item_key, ConsistentRead=True
            )
            found = response.get("Item")
            if found is not None and int(found["expires_at"]["N"]) > self._clock():
                stored = self._stored(caller, found, fingerprint)
                if stored is not None:
                    return stored
            item = self._item(caller, item_key, fingerprint, token)
            if self._put(item, over=found):
                return Claim(self._table, self._cipher, caller.account_id, item, token=token)
        raise Contention

    def _stored(self, caller: Caller, item: "Item", fingerprint: str) -> StoredResponse | None:
        """Return the response of an earlier call; None when it ended without one."""
        account_id = caller.account_id
        known = self._decrypt(account_id, _FINGERPRINTS, item["fingerprint_ciphertext"])
        # A response may hold a secret. With some issuers people choose the claims that name them, but never
        # `sub`. An item of an older version has none.
        is_same_person = item.get("subject", {"S": caller.subject})["S"] == caller.subject
        if known != fingerprint or not is_same_person:
            raise IdempotencyKeyReused
        if "answer" not in item:
            if int(item["locked_until"]["N"]) >= self._clock():
                raise IdempotencyInProgress
            return None
        stored = item["answer"]["M"]
        body = stored["body"]["S"]
        if "stand_in" in stored:
            secret = self._decrypt(account_id, stored["webhook_id"]["S"], stored["secret_ciphertext"])
            body = body.replace(stored["stand_in"]["S"], secret)
        return StoredResponse(int(stored["status"]["N"]), json.loads(stored["headers"]["S"]), body)

    def _decrypt(self, account_id: str, webhook_id: str, attribute: "AttributeValueTypeDef") -> str:
        return self._cipher.decrypt(bytes(attribute["B"]), account_id=account_id, webhook_id=webhook_id)

    def _item(self, caller: Caller, key: "Item", fingerprint: str, token: str) -> "Item":
        now_seconds = int(self._clock())
        ciphertext = self._cipher.encrypt(fingerprint, account_id=caller.account_id, webhook_id=_FINGERPRINTS)
        return {
            **key,
            "subject": {"S": caller.subject},
            "fingerprint_ciphertext": {"B": ciphertext},
            "claim_token": {"S": token},
            "locked_until": {"N": str(now_seconds + LOCK_SECONDS)},
            "expires_at": {"N": str(now_seconds + KEPT_SECONDS)},
        }

    def _put(self, item: "Item", *, over: "Item | None") -> bool:
        # Our own token may be there already: then botocore repeated a call that took effect.
        condition = "attribute_not_exists(pk) OR claim_token = :own"
        values: Item = {":own": item["claim_token"]}
        if over is not None:
            condition = "claim_token = :other OR claim_token = :own"
            values[":other"] = over["claim_token"]
        return conditional_write(
            lambda: self._table.client.put_item(
                TableName=self._table.name,
                Item=item,
                ConditionExpression=condition,
                ExpressionAttributeValues=values,
            ),
            self._table.client,
        )


def _hash(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
