"""Serve the admin API and the console. Trigger: the HTTP API's /v1 routes, behind its JWT authorizer."""

from functools import cache
from typing import TYPE_CHECKING, Any

from lms_webhooks.admin.activity import ActivityStore
from lms_webhooks.admin.api import build_api
from lms_webhooks.admin.batch_schedules import BatchSchedules
from lms_webhooks.admin.deliveries import Deliveries
from lms_webhooks.admin.event_types import read_event_types
from lms_webhooks.admin.handlers import Services
from lms_webhooks.admin.idempotency import Idempotency
from lms_webhooks.admin.rate_limit import SendRateLimit
from lms_webhooks.admin.replays import ReplayService
from lms_webhooks.admin.retries import RetryService
from lms_webhooks.admin.stats import StatsReader
from lms_webhooks.admin.subscriptions import Subscriptions
from lms_webhooks.admin.webhooks import WebhookService
from lms_webhooks.aws import clients
from lms_webhooks.aws.dynamodb import Table
from lms_webhooks.aws.kms import SecretCipher
from lms_webhooks.aws.sqs import DrainQueue
from lms_webhooks.observability import logger
from lms_webhooks.settings import AdminApiSettings, read
from lms_webhooks.stores.backlog import Backlog
from lms_webhooks.stores.deliveries import DeliveryStore
from lms_webhooks.stores.health import HealthStore
from lms_webhooks.stores.replays import ReplayStore
from lms_webhooks.stores.webhooks import WebhookStore

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from lms_webhooks.admin.sample_sends import SampleSender

# Built at cold start: a broken environment fails loudly at once, not on some call later.
settings = read(AdminApiSettings)
event_types = read_event_types(settings)
dynamodb = clients.dynamodb()
secret_cipher = SecretCipher(clients.kms(), settings.kms_key_id)
store = WebhookStore(dynamodb, settings.webhooks_table)
webhooks_table = Table(dynamodb, settings.webhooks_table)
deliveries_table = Table(dynamodb, settings.deliveries_table)
backlog = Backlog(deliveries_table, retention_days=settings.backlog_retention_days)
delivery_store = DeliveryStore(deliveries_table, retention_days=settings.delivery_retention_days)
drain_queue = DrainQueue(clients.sqs(), settings.drain_queue_url, settings.background_drain_queue_url)
schedules = BatchSchedules(backlog, every_minutes=settings.batch_every_minutes, event_types=event_types)
rate_limit = SendRateLimit(webhooks_table)
webhooks = WebhookService(
    store, secret_cipher, drain_queue, backlog, rate_limit, schedules, event_types=event_types
)


@cache
def sample_sends() -> "SampleSender":
    """Return the sender of tests. The first test makes it, as it reads a bundle of CAs."""
    from lms_webhooks.admin.sample_sends import SampleSender  # noqa: PLC0415
    from lms_webhooks.sending.sender import Sender  # noqa: PLC0415
    from lms_webhooks.sending.webhook_client import SendKind, WebhookClient  # noqa: PLC0415

    sender = Sender(
        loopback_allowed=settings.loopback_targets_allowed, trusted_ca_file=settings.trusted_ca_file
    )
    return SampleSender(
        webhooks,
        WebhookClient(secret_cipher, sender, kind=SendKind.TEST),
        rate_limit,
        event_types=event_types,
    )


@cache
def subscriptions() -> Subscriptions:
    """Return the subscriptions. The first call about them makes the client, which takes its time."""
    return Subscriptions(webhooks_table, clients.sns(), settings.notice_topic_arn, rate_limit)


deliveries = Deliveries(store, delivery_store, backlog)
api = build_api(
    Services(
        webhooks=webhooks,
        deliveries=deliveries,
        replays=ReplayService(
            store,
            deliveries,
            backlog,
            ReplayStore(deliveries_table),
            drain_queue,
            rate_limit,
            event_types=event_types,
        ),
        retries=RetryService(store, HealthStore(webhooks_table), backlog, drain_queue, rate_limit),
        stats=StatsReader(
            store,
            delivery_store,
            backlog,
            schedules,
        ),
        activity=ActivityStore(webhooks_table),
        idempotency=Idempotency(webhooks_table, secret_cipher),
        sample_sends=sample_sends,
        subscriptions=subscriptions,
        event_types=event_types,
        schedules=schedules,
    ),
    settings,
)


@logger.inject_lambda_context
def lambda_handler(event: dict[str, Any], context: "LambdaContext") -> dict[str, Any]:
    """Serve one call."""
    return api.resolve(event, context)
