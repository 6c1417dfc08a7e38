"""Create AWS clients with the same retries, timeouts and connection pools for every service.

The session is botocore's, not boto3's. The clients are the same, but boto3 would also import its transfer
manager and resources, a third of a cold start.
"""

import base64
import json
import random
from typing import TYPE_CHECKING, Any, cast

from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.session import get_session

from lms_webhooks import __version__

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_kms import KMSClient
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient

# botocore retries. A call that hangs must not use the time that deliveries need, so each try is short:
# DynamoDB, SQS and KMS respond in milliseconds or not at all.
# Without validation, botocore saves a third of the time of a write of ten items. mypy checks the calls here,
# from the same models, and DynamoDB refuses what mypy cannot see.
_CONFIG = Config(
    connect_timeout=2,
    read_timeout=5,
    retries={"mode": "standard", "total_max_attempts": 4},
    max_pool_connections=64,
    parameter_validation=False,
    # botocore would compose its own twice for each call, a tenth of the time of the call.
    user_agent=f"lms-webhooks/{__version__}",
)
_session = get_session()

_CONFLICT = "TransactionConflictException"
# Seven waits, together 2 s at most. The drainer has 5 s to record what it sent and to release its lease, and
# the dispatcher has 5 s to record.
_CONFLICT_TRIES = 8
_FIRST_WAIT_SECONDS = 0.025
_MAX_WAIT_SECONDS = 0.4

_BATCH_OPERATIONS = ("BatchGetItem", "BatchWriteItem")
_BATCH = "lms_webhooks_batch"  # in the context of a call


def dynamodb() -> "DynamoDBClient":
    """Return a DynamoDB client. Safe to share between threads."""
    return retry_conflicts(
        encode_batches(cast("DynamoDBClient", _session.create_client("dynamodb", config=_CONFIG)))
    )


def sqs() -> "SQSClient":
    """Return an SQS client. Safe to share between threads."""
    return cast("SQSClient", _session.create_client("sqs", config=_CONFIG))


def kms() -> "KMSClient":
    """Return a KMS client. Safe to share between threads."""
    return cast("KMSClient", _session.create_client("kms", config=_CONFIG))


def sns() -> "SNSClient":
    """Return an SNS client. Safe to share between threads."""
    return cast("SNSClient", _session.create_client("sns", config=_CONFIG))


def retry_conflicts(client: "DynamoDBClient") -> "DynamoDBClient":
    """Make `client` retry a single write while a transaction holds its item.

    DynamoDB then refuses PutItem, UpdateItem and DeleteItem with TransactionConflictException, and writes
    nothing (its API model). So a retry is safe. botocore's retry modes do not know this error, and no setting
    adds it. botocore emits the event `needs-retry` for its own modes and for this handler. Its guide does not
    document the event: `tests/unit/aws/test_conflicts.py` fails with a version that no longer emits it.

    Returns:
        The same client.
    """
    client.meta.events.register(
        "needs-retry.dynamodb",
        _wait_for_transaction,  # type: ignore[arg-type]  # the stubs know no handler that returns something
    )
    return client


def encode_batches(client: "DynamoDBClient") -> "DynamoDBClient":
    """Make `client` encode a batch of items as one JSON text.

    botocore visits each value of each item, a seventh of the processor time of a write of ten. But it changes
    only bytes: DynamoDB's protocol has them in base64, and everything else as it is given. boto3's guide
    documents the event `provide-client-params` and not `before-call`: `tests/unit/aws/test_clients.py` fails
    with a version that no longer emits them.

    Returns:
        The same client.
    """
    for operation in _BATCH_OPERATIONS:
        client.meta.events.register(f"provide-client-params.dynamodb.{operation}", _take_batch)  # type: ignore[arg-type]
        client.meta.events.register(f"before-call.dynamodb.{operation}", _encode_batch)
    return client


def is_conflict(error: BaseException) -> bool:
    """Return whether a transaction held the item of a write until the last retry."""
    return isinstance(error, ClientError) and error.response["Error"]["Code"] == _CONFLICT


def conflict_wait_seconds(tried: int) -> float:
    """Draw the wait after `tried` collisions with a transaction. Equal waits would collide again."""
    return random.uniform(0, min(_MAX_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2**tried))


def _take_batch(*, params: dict[str, Any], context: dict[str, Any], **_: object) -> dict[str, Any]:
    """Keep a batch from botocore's serializer, which gets an empty one in its place."""
    context[_BATCH] = params
    return {"RequestItems": {}}


def _encode_batch(*, params: dict[str, Any], context: dict[str, Any], **_: object) -> None:
    params["body"] = json.dumps(context[_BATCH], default=_encode_bytes).encode()


def _encode_bytes(value: object) -> str:
    if not isinstance(value, bytes):
        raise TypeError(f"DynamoDB has no values of type {type(value).__name__}")
    return base64.b64encode(value).decode()


def _wait_for_transaction(
    *, attempts: int, response: tuple[object, dict[str, Any]] | None, **_: object
) -> float | None:
    """Decide for botocore whether a call is retried.

    Returns:
        The seconds to wait first, or None where the error is not this one or the retries are used up.
    """
    if response is None or response[1].get("Error", {}).get("Code") != _CONFLICT:
        return None
    return conflict_wait_seconds(attempts) if attempts < _CONFLICT_TRIES else None
