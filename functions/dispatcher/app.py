"""Deliver real-time events to their webhooks, and append the others to backlogs.

Triggers: RealtimeQueue and BatchQueue (SQS).
"""

from typing import TYPE_CHECKING, Any

from lms_webhooks.aws import clients
from lms_webhooks.aws.dynamodb import Table
from lms_webhooks.aws.kms import SecretCipher
from lms_webhooks.aws.sqs import DrainQueue, QuarantineQueue
from lms_webhooks.dispatcher.dispatcher import Dispatcher
from lms_webhooks.model.event_types import with_extra_types
from lms_webhooks.observability import logger, metrics
from lms_webhooks.sending.sender import Sender
from lms_webhooks.sending.webhook_client import SendKind, WebhookClient
from lms_webhooks.settings import DispatcherSettings, read
from lms_webhooks.stores.backlog import Backlog
from lms_webhooks.stores.deliveries import DeliveryStore
from lms_webhooks.stores.health import HealthStore
from lms_webhooks.stores.webhook_cache import WebhookCache
from lms_webhooks.stores.webhooks import WebhookStore

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

# Built at cold start: a broken environment fails loudly at once, not on some delivery later.
settings = read(DispatcherSettings)
dynamodb = clients.dynamodb()
sqs = clients.sqs()
deliveries_table = Table(dynamodb, settings.deliveries_table)
dispatcher = Dispatcher(
    webhook_cache=WebhookCache(WebhookStore(dynamodb, settings.webhooks_table)),
    health=HealthStore(Table(dynamodb, settings.webhooks_table)),
    deliveries=DeliveryStore(deliveries_table, retention_days=settings.delivery_retention_days),
    backlog=Backlog(deliveries_table, retention_days=settings.backlog_retention_days),
    webhook_client=WebhookClient(
        SecretCipher(clients.kms(), settings.kms_key_id),
        Sender(loopback_allowed=settings.loopback_targets_allowed, trusted_ca_file=settings.trusted_ca_file),
        kind=SendKind.DIRECT,
    ),
    drain_queue=DrainQueue(sqs, settings.drain_queue_url, settings.background_drain_queue_url),
    quarantine=QuarantineQueue(sqs, settings.quarantine_queue_url),
    event_source=settings.event_source,
    retention_days=settings.backlog_retention_days,
    batch_every_minutes=settings.batch_every_minutes,
    event_types=with_extra_types(settings.extra_event_types),
)


@metrics.log_metrics
@logger.inject_lambda_context
def lambda_handler(event: dict[str, Any], context: "LambdaContext") -> dict[str, Any]:
    """Dispatch one SQS batch. Messages that failed return to the queue, alone."""
    failed = dispatcher.dispatch(event["Records"], remaining_ms=context.get_remaining_time_in_millis)
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}
