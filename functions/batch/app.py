"""Schedule drains of non-real-time events at their slots, and wherever one is missing.

Triggers: BatchSweepSchedule (an EventBridge rule, every minute) and SweepQueue (SQS).
"""

from typing import TYPE_CHECKING, Any

from lms_webhooks.aws import clients
from lms_webhooks.aws.dynamodb import Table
from lms_webhooks.aws.sqs import DrainQueue, SweepQueue
from lms_webhooks.batch.notifier import Notifier
from lms_webhooks.batch.sweep import Sweep, sweep_for
from lms_webhooks.observability import logger, metrics
from lms_webhooks.settings import BatchSettings, read
from lms_webhooks.stores.backlog import Backlog
from lms_webhooks.stores.health import HealthStore
from lms_webhooks.stores.outbox import NotificationOutbox
from lms_webhooks.stores.webhook_states import WebhookStates

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

# Built at cold start: a broken environment fails at once, not on some event later.
settings = read(BatchSettings)
dynamodb = clients.dynamodb()
sqs = clients.sqs()
deliveries_table = Table(dynamodb, settings.deliveries_table)
backlog = Backlog(deliveries_table, retention_days=settings.backlog_retention_days)
webhooks_table = Table(dynamodb, settings.webhooks_table)
webhook_states = WebhookStates(webhooks_table)
notifier = Notifier(
    NotificationOutbox(deliveries_table), backlog, webhook_states, clients.sns(), settings.notice_topic_arn
)
sweep = Sweep(
    backlog=backlog,
    webhook_states=webhook_states,
    health=HealthStore(webhooks_table),
    queue=DrainQueue(sqs, settings.drain_queue_url, settings.background_drain_queue_url),
    sweep_queue=SweepQueue(sqs, settings.sweep_queue_url),
)


@metrics.log_metrics
@logger.inject_lambda_context
def lambda_handler(event: dict[str, Any], context: "LambdaContext") -> dict[str, Any]:
    """Sweep all shards for the schedule, or the rest of one shard for the queue."""
    return sweep_for(event, sweep, notifier, remaining_ms=context.get_remaining_time_in_millis)
