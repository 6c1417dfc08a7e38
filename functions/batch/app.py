"""Send for drainers on time. Triggers: BatchSchedule and SweepSchedule (EventBridge rules)."""

import time
from typing import TYPE_CHECKING, Any

from lms_webhooks import aws
from lms_webhooks.backlog import Backlog
from lms_webhooks.dynamodb import Table
from lms_webhooks.health_store import HealthStore
from lms_webhooks.notices import NoticeBox, Notifier
from lms_webhooks.observability import logger, metrics
from lms_webhooks.queues import DrainQueue
from lms_webhooks.schedule import BatchSchedule
from lms_webhooks.settings import BatchSettings, read
from lms_webhooks.standings import Standings
from lms_webhooks.sweep import Sweep

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

# Built at cold start: a broken environment fails loudly at once, not on some event later.
settings = read(BatchSettings)
dynamodb = aws.dynamodb()
deliveries_table = Table(dynamodb, settings.deliveries_table)
schedule = BatchSchedule(deliveries_table)
backlog = Backlog(deliveries_table, retention_days=settings.backlog_retention_days)
webhooks_table = Table(dynamodb, settings.webhooks_table)
standings = Standings(webhooks_table)
notifier = Notifier(NoticeBox(deliveries_table), backlog, standings, aws.sns(), settings.notice_topic_arn)
sweep = Sweep(
    backlog=backlog,
    standings=standings,
    health=HealthStore(webhooks_table),
    queue=DrainQueue(aws.sqs(), settings.drain_queue_url),
)


def open_batch_lanes() -> int:
    """Let batches go, and then say when: a fault of the second must not keep them."""
    opened = sweep.open_batch_lanes()
    schedule.note_opening(int(time.time() * 1000))
    return opened


def send_for_drainers() -> int:
    """Send for drainers, and then tell what there is to tell: events come first."""
    sent_for = sweep.send_for_drainers()
    notifier.send()
    return sent_for


TASKS = {"open-batch-lanes": open_batch_lanes, "sweep": send_for_drainers}


@metrics.log_metrics
@logger.inject_lambda_context
def lambda_handler(event: dict[str, Any], _context: "LambdaContext") -> dict[str, Any]:
    """Do the task that the schedule names; answer for how many webhooks there was something to do."""
    return {"webhooks": TASKS[event["task"]]()}
