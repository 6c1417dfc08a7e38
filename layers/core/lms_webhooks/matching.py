"""Decide which webhooks an event is for. Pure."""

from collections.abc import Iterable

from lms_webhooks.events import Event
from lms_webhooks.webhooks import Status, Webhook


def wants(webhook: Webhook, event: Event) -> bool:
    """Whether `event` becomes a delivery of `webhook`: same account, asked for, and not retired."""
    return (
        webhook.account_id == event.account_id
        and event.event_name in webhook.events
        and webhook.status is not Status.INACTIVE
    )


def matching(webhooks: Iterable[Webhook], event: Event) -> list[Webhook]:
    """Those of `webhooks` that want `event`."""
    return [webhook for webhook in webhooks if wants(webhook, event)]
