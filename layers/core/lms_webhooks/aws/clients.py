"""Create AWS clients with the same retries, timeouts and connection pools for every service.

The session is botocore's, not boto3's. The clients are the same, but boto3 would also import its transfer
manager and resources, a third of a cold start.
"""

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


def dynamodb() -> "DynamoDBClient":
    """Return a DynamoDB client. Safe to share between threads."""
    return retry_conflicts(cast("DynamoDBClient", _session.create_client("dynamodb", config=_CONFIG)))


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


def is_conflict(error: BaseException) -> bool:
    """Return whether a transaction held the item of a write until the last retry."""
    return isinstance(error, ClientError) and error.response["Error"]["Code"] == _CONFLICT


def conflict_wait_seconds(tried: int) -> float:
    """Draw the wait after `tried` collisions with a transaction. Equal waits would collide again."""
    return random.uniform(0, min(_MAX_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2**tried))


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
