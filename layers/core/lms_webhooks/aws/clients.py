"""Make AWS clients: one way to retry, to wait and to pool, for every service.

By botocore's session, not boto3's: the clients are the same, and boto3 would import its transfer manager
and resources with them, a third of a cold start.
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

# Retries are botocore's. A call that hangs must not eat the time that deliveries need, so each try
# is short: DynamoDB, SQS and KMS answer in milliseconds or not at all.
# botocore would hold every value of every item against its model first: a third of the time that a write of
# ten takes. mypy does that here, from the same models, and what it cannot see DynamoDB refuses.
_CONFIG = Config(
    connect_timeout=2,
    read_timeout=5,
    retries={"mode": "standard", "total_max_attempts": 4},
    max_pool_connections=64,
    parameter_validation=False,
    # botocore would compose its own, twice for each call: a tenth of the time that the call takes.
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
    """A DynamoDB client, safe to share between threads."""
    return retry_conflicts(cast("DynamoDBClient", _session.create_client("dynamodb", config=_CONFIG)))


def sqs() -> "SQSClient":
    """An SQS client, safe to share between threads."""
    return cast("SQSClient", _session.create_client("sqs", config=_CONFIG))


def kms() -> "KMSClient":
    """A KMS client, safe to share between threads."""
    return cast("KMSClient", _session.create_client("kms", config=_CONFIG))


def sns() -> "SNSClient":
    """An SNS client, safe to share between threads."""
    return cast("SNSClient", _session.create_client("sns", config=_CONFIG))


def retry_conflicts(client: "DynamoDBClient") -> "DynamoDBClient":
    """Make `client` retry a single write while a transaction holds its item.

    DynamoDB answers PutItem, UpdateItem and DeleteItem with TransactionConflictException then, and writes
    nothing (its API model). So a retry is safe. botocore's retry modes do not know this error, and no setting
    adds one. botocore asks them by the event `needs-retry`, and this too. Its guide to events does not name
    that one: `tests/unit/aws/test_conflicts.py` fails with a version that no longer asks.

    Returns:
        The same client.
    """
    client.meta.events.register(
        "needs-retry.dynamodb",
        _wait_for_transaction,  # type: ignore[arg-type]  # the stubs know no handler that returns something
    )
    return client


def is_conflict(error: BaseException) -> bool:
    """Tell whether a transaction held the item of a write until the last retry."""
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
