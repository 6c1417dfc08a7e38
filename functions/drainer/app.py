"""Send the pending events of the webhook that a message names.

Triggers: DrainQueue and BackgroundDrainQueue (SQS).
"""

from functools import partial
from typing import TYPE_CHECKING, Any

from lms_webhooks.aws import clients
from lms_webhooks.aws.dynamodb import Table
from lms_webhooks.aws.kms import SecretCipher
from lms_webhooks.aws.sqs import DrainQueue
from lms_webhooks.drainer.drain_run import DrainRun
from lms_webhooks.drainer.drainer import Drainer
from lms_webhooks.drainer.outcomes import OutcomeRecorder
from lms_webhooks.drainer.replay_runner import ReplayRunner
from lms_webhooks.observability import logger, metrics
from lms_webhooks.sending.sender import Sender
from lms_webhooks.sending.webhook_client import SendKind, WebhookClient
from lms_webhooks.settings import DrainerSettings, read
from lms_webhooks.stores.backlog import Backlog
from lms_webhooks.stores.deliveries import DeliveryStore
from lms_webhooks.stores.health import HealthStore
from lms_webhooks.stores.outbox import NotificationOutbox
from lms_webhooks.stores.replays import ReplayStore
from lms_webhooks.stores.webhook_cache import WebhookCache
from lms_webhooks.stores.webhooks import WebhookStore

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

# Built at cold start: a broken environment fails at once, not on some delivery later.
settings = read(DrainerSettings)
dynamodb = clients.dynamodb()
deliveries_table = Table(dynamodb, settings.deliveries_table)
webhook_cache = WebhookCache(WebhookStore(dynamodb, settings.webhooks_table))
backlog = Backlog(deliveries_table, retention_days=settings.backlog_retention_days)
deliveries = DeliveryStore(deliveries_table, retention_days=settings.delivery_retention_days)
recorder = OutcomeRecorder(backlog, deliveries)
replays = ReplayRunner(ReplayStore(deliveries_table), deliveries, backlog)
webhook_client = WebhookClient(
    SecretCipher(clients.kms(), settings.kms_key_id),
    Sender(loopback_allowed=settings.loopback_targets_allowed, trusted_ca_file=settings.trusted_ca_file),
    kind=SendKind.BACKLOG,
)
drainer = Drainer(
    webhook_cache=webhook_cache,
    health=HealthStore(Table(dynamodb, settings.webhooks_table)),
    backlog=backlog,
    recorder=recorder,
    replays=replays,
    outbox=NotificationOutbox(deliveries_table),
    queue=DrainQueue(clients.sqs(), settings.drain_queue_url, settings.background_drain_queue_url),
    new_run=partial(
        DrainRun,
        webhook_cache=webhook_cache,
        backlog=backlog,
        recorder=recorder,
        webhook_client=webhook_client,
        replays=replays,
        retention_days=settings.backlog_retention_days,
    ),
)


@metrics.log_metrics
@logger.inject_lambda_context
def lambda_handler(event: dict[str, Any], context: "LambdaContext") -> dict[str, Any]:
    """Drain the webhook that each message names. An unexpected error fails only its own message."""
    failed = drainer.drain_all(event["Records"], remaining_ms=context.get_remaining_time_in_millis)
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}
