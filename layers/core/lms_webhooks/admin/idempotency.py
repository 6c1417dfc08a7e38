"""Answer a POST that is sent again as it was answered first: the only module for these items.

| pk                      | sk                         | what                                              |
|-------------------------|----------------------------|---------------------------------------------------|
| IDEMPOTENCY#<accountId> | <hash of caller and key>   | a call under way, or its answer, for a day (TTL)  |

Who makes the item makes the call. What the call does and its answer are written in one transaction where
the call writes to the same table; so whatever breaks off, a second try does not do it twice.

The fingerprint of a call is encrypted: its body may hold a password, which a plain hash would let one guess.
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
from lms_webhooks.aws.clients import AWS_ERRORS
from lms_webhooks.aws.dynamodb import Table, conditional_write, key_item
from lms_webhooks.aws.kms import SecretCipher
from lms_webhooks.observability import logger
from lms_webhooks.problems import (
    Contention,
    IdempotencyInProgress,
    IdempotencyKeyReused,
    InvalidParameters,
    ParameterError,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef, TransactWriteItemTypeDef

    type Item = dict[str, AttributeValueTypeDef]

KEPT_SECONDS = 24 * 3600
LOCK_SECONDS = 20  # longer than the function can live (15 s): then nobody is at it any more
_TRIES = 5
_KEY = re.compile(r"[!-~](?:[ -~]{0,253}[!-~])?")
_FINGERPRINTS = "idempotency"  # where a secret's encryption context has a webhook's id


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """An answer to give once more."""

    status: int
    headers: dict[str, str]
    body: str


@dataclass(frozen=True, slots=True)
class ResponseSecret:
    """A secret that stands in an answer's body, and the webhook that it belongs to."""

    webhook_id: str
    secret: str


class Claim:
    """One call that this invocation makes, under its key."""

    def __init__(
        self, table: Table, secret_box: SecretCipher, account_id: str, item: "Item", *, token: str
    ) -> None:
        self._table = table
        self._secret_box = secret_box
        self._account_id = account_id
        self._key: Item = {name: item[name] for name in ("pk", "sk")}
        self._token = token
        self._is_recorded = False

    def record(
        self, answer: StoredResponse, secret: ResponseSecret | None = None
    ) -> "list[TransactWriteItemTypeDef]":
        """What writes `answer` down, to be part of the transaction that does what was asked for."""
        self._is_recorded = True
        return [
            {
                "Update": {
                    "TableName": self._table.name,
                    "Key": self._key,
                    "UpdateExpression": "SET answer = :answer",
                    "ConditionExpression": "claim_token = :token AND attribute_not_exists(answer)",
                    "ExpressionAttributeValues": {
                        ":token": {"S": self._token},
                        ":answer": {"M": self._answer_item(answer, secret)},
                    },
                }
            }
        ]

    def finish(self, answer: StoredResponse) -> None:
        """Write `answer` down, unless a transaction did."""
        if self._is_recorded:
            return
        (action,) = self.record(answer)
        try:
            conditional_write(lambda: self._table.client.update_item(**action["Update"]), self._table.client)
        except AWS_ERRORS:
            logger.exception("answer not kept")  # what was asked for is done: the caller must hear of it

    def release(self) -> None:
        """The call did not do what was asked for: it may be made again."""
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
            logger.exception("claim not given up")  # it ends by itself

    def _answer_item(self, answer: StoredResponse, secret: ResponseSecret | None) -> "Item":
        body = answer.body
        item: Item = {
            "status": {"N": str(answer.status)},
            "headers": {"S": json.dumps(answer.headers)},
        }
        if secret is not None:
            stand_in = secrets.token_urlsafe(24)  # of 192 bits, so nothing else in the body is like it
            body = body.replace(secret.secret, stand_in)
            item["stand_in"] = {"S": stand_in}
            item["webhook_id"] = {"S": secret.webhook_id}
            item["secret_ciphertext"] = {
                "B": self._secret_box.encrypt(
                    secret.secret, account_id=self._account_id, webhook_id=secret.webhook_id
                )
            }
        item["body"] = {"S": body}
        return item


class Idempotency:
    """The keyed calls of every account."""

    def __init__(
        self, table: Table, secret_box: SecretCipher, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._table = table
        self._secret_box = secret_box
        self._clock = clock

    def claim(self, caller: Caller, key: str, *, path: str, body: str) -> Claim | StoredResponse:
        """Begin the call of `caller` under `key`, or find the answer that it had before.

        Raises:
            InvalidParameters: `key` is no key.
            KeyReused: the key came with another call.
            KeyInUse: the same call is under way.
            Busy: others claim the same key at the same moment, again and again.
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
            answer = self._table.client.get_item(
                TableName=self._table.name, Key=item_key, ConsistentRead=True
            )
            found = answer.get("Item")
            if found is not None and int(found["expires_at"]["N"]) > self._clock():
                stored = self._stored(caller, found, fingerprint)
                if stored is not None:
                    return stored
            item = self._item(caller, item_key, fingerprint, token)
            if self._put(item, over=found):
                return Claim(self._table, self._secret_box, caller.account_id, item, token=token)
        raise Contention

    def _stored(self, caller: Caller, item: "Item", fingerprint: str) -> StoredResponse | None:
        """The answer of an earlier call; None when it broke off without one."""
        account_id = caller.account_id
        known = self._decrypt(account_id, _FINGERPRINTS, item["fingerprint_ciphertext"])
        # An answer may hold a secret. With some issuers people write the claims that name them themselves,
        # never `sub`; of an older version's item it is not known.
        is_theirs = item.get("subject", {"S": caller.subject})["S"] == caller.subject
        if known != fingerprint or not is_theirs:
            raise IdempotencyKeyReused
        if "answer" not in item:
            if int(item["locked_until"]["N"]) >= self._clock():
                raise IdempotencyInProgress
            return None
        answer = item["answer"]["M"]
        body = answer["body"]["S"]
        if "stand_in" in answer:
            secret = self._decrypt(account_id, answer["webhook_id"]["S"], answer["secret_ciphertext"])
            body = body.replace(answer["stand_in"]["S"], secret)
        return StoredResponse(int(answer["status"]["N"]), json.loads(answer["headers"]["S"]), body)

    def _decrypt(self, account_id: str, webhook_id: str, attribute: "AttributeValueTypeDef") -> str:
        return self._secret_box.decrypt(bytes(attribute["B"]), account_id=account_id, webhook_id=webhook_id)

    def _item(self, caller: Caller, key: "Item", fingerprint: str, token: str) -> "Item":
        now_seconds = int(self._clock())
        ciphertext = self._secret_box.encrypt(
            fingerprint, account_id=caller.account_id, webhook_id=_FINGERPRINTS
        )
        return {
            **key,
            "subject": {"S": caller.subject},
            "fingerprint_ciphertext": {"B": ciphertext},
            "claim_token": {"S": token},
            "locked_until": {"N": str(now_seconds + LOCK_SECONDS)},
            "expires_at": {"N": str(now_seconds + KEPT_SECONDS)},
        }

    def _put(self, item: "Item", *, over: "Item | None") -> bool:
        # Our own token may stand there already: then botocore repeated a call that took effect.
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
