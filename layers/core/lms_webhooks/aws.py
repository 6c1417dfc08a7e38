"""Make AWS clients: one way to retry, to wait and to pool, for every service.

By botocore's session, not boto3's: the clients are the same, and boto3 would import its transfer manager
and resources with them, a third of a cold start.
"""

from typing import TYPE_CHECKING, cast

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import get_session

from lms_webhooks import __version__

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_kms import KMSClient
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient

AWS_FAULTS = (BotoCoreError, ClientError)
"""What a call of AWS raises: a fault of ours, never charged to an endpoint."""

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


def dynamodb() -> "DynamoDBClient":
    """A DynamoDB client, safe to share between threads."""
    return cast("DynamoDBClient", _session.create_client("dynamodb", config=_CONFIG))


def sqs() -> "SQSClient":
    """An SQS client, safe to share between threads."""
    return cast("SQSClient", _session.create_client("sqs", config=_CONFIG))


def kms() -> "KMSClient":
    """A KMS client, safe to share between threads."""
    return cast("KMSClient", _session.create_client("kms", config=_CONFIG))


def sns() -> "SNSClient":
    """An SNS client, safe to share between threads."""
    return cast("SNSClient", _session.create_client("sns", config=_CONFIG))
