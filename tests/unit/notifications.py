"""Health of a webhook that fails, and the notification of it."""

from dataclasses import replace
from typing import Any

from lms_webhooks.aws.dynamodb import Table
from lms_webhooks.model.attempts import Attempt
from lms_webhooks.model.health import DisabledReason, Health, Mode
from lms_webhooks.model.notifications import notifications_for
from lms_webhooks.stores.webhooks import WebhookStore
from tests.unit.tables import NOW_MS, webhook

MINUTE_MS = 60_000
WELL = Health()
FAILING = Health(
    mode=Mode.BACKLOG,
    failures=3,
    failing_since_ms=NOW_MS,
    last_error="HTTP 503",
    attempts=(Attempt(NOW_MS, 10, 503, None),),
)
GONE = replace(
    WELL,
    disabled_reason=DisabledReason.GONE,
    disabled_at_ms=NOW_MS,
    last_error="HTTP 410",
    attempts=(Attempt(NOW_MS, 10, 410, None),),
)


def create(webhooks: Table, **changes: Any) -> None:
    WebhookStore(webhooks.client, webhooks.name).create(webhook(**changes))


def failing_notification(*, at_ms: int = NOW_MS + 15 * MINUTE_MS, **changes: Any) -> Any:
    (notice,) = notifications_for(webhook(**changes), FAILING, FAILING, now_ms=at_ms)
    return notice
