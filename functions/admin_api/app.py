"""Answer the admin API. Trigger: the HTTP API's /v1 routes, behind its JWT authorizer."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from lms_webhooks import aws
from lms_webhooks.admin.registrations import Registrations
from lms_webhooks.admin.routes import build_api
from lms_webhooks.backlog import Backlog
from lms_webhooks.dynamodb import Table
from lms_webhooks.observability import logger
from lms_webhooks.queues import DrainQueue
from lms_webhooks.secrets import SecretBox
from lms_webhooks.settings import AdminApiSettings, read
from lms_webhooks.webhook_store import WebhookStore

# Built at cold start: a broken environment fails loudly at once, not on some call later.
settings = read(AdminApiSettings)
dynamodb = aws.dynamodb()
api = build_api(
    Registrations(
        WebhookStore(dynamodb, settings.webhooks_table),
        SecretBox(aws.kms(), settings.kms_key_id),
        DrainQueue(aws.sqs(), settings.drain_queue_url),
        Backlog(Table(dynamodb, settings.deliveries_table), retention_days=settings.backlog_retention_days),
    ),
    settings,
)


@logger.inject_lambda_context
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer one call."""
    return api.resolve(event, context)
