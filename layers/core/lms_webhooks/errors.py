"""Name the errors that stores raise. They say nothing of HTTP: `admin/problems.py` has the response to each.

StoreError
├── WebhookNotFound
├── WebhookLimitExceeded
├── CreationLimitExceeded
├── VersionConflict
├── IdempotencyInProgress
├── ReplayInProgress
└── Contention
"""

from botocore.exceptions import BotoCoreError, ClientError

AWS_ERRORS = (BotoCoreError, ClientError)
"""What a call to AWS raises. It is our error, and never counts as a failure of an endpoint."""


class StoreError(Exception):
    """A store refused a read or a change. Nothing was changed."""


class WebhookNotFound(StoreError):
    """The account has no webhook with this id."""


class WebhookLimitExceeded(StoreError):
    """The account has as many webhooks as it may have."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)


class CreationLimitExceeded(StoreError):
    """The account created as many webhooks as it may create in a day."""

    def __init__(self, limit: int, wait_seconds: int) -> None:
        super().__init__(limit, wait_seconds)


class VersionConflict(StoreError):
    """The webhook changed since the caller read it."""


class IdempotencyInProgress(StoreError):
    """Another call with the same Idempotency-Key has not ended."""


class ReplayInProgress(StoreError):
    """The webhook has a replay that has not ended."""


class Contention(StoreError):
    """Other writes to the same items conflicted with each try."""


class UnreadableWebhook(Exception):
    """The webhook exists, but this version cannot read it. It is damaged, or a newer version wrote it."""
