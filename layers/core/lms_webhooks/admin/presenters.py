"""Fill the models of the API's responses from what the stores and services return."""

from collections.abc import Mapping, Sequence
from typing import Any

from lms_webhooks.admin.activity import Activity, ActivityPage
from lms_webhooks.admin.batch_schedules import NextBatch
from lms_webhooks.admin.deliveries import DeliveryPage, DeliveryView
from lms_webhooks.admin.outputs import (
    ActivityListOutput,
    ActivityOutput,
    AttemptOutput,
    BasicAuthenticationOutput,
    BatchScheduleOutput,
    DeliveryDetailOutput,
    DeliveryListOutput,
    DeliveryOutput,
    DisabledOutput,
    EventTypeList,
    EventTypeOutput,
    HealthOutput,
    HourOutput,
    LaneCountOutput,
    LatencyOutput,
    NoAuthenticationOutput,
    PendingOutput,
    ReplayOutput,
    ReplayPreviewOutput,
    RetryOutput,
    SignatureAuthenticationOutput,
    StatsOutput,
    SubscriptionOutput,
    WebhookOutput,
)
from lms_webhooks.admin.query_parameters import delivery_id
from lms_webhooks.admin.replays import ReplayPreview
from lms_webhooks.admin.retries import Retry
from lms_webhooks.admin.stats import Hour, Stats, percentile
from lms_webhooks.admin.subscriptions import Subscription
from lms_webhooks.model.attempts import Attempt
from lms_webhooks.model.data_schemas import describe_data
from lms_webhooks.model.deliveries import Outcome
from lms_webhooks.model.event_types import EventTypes
from lms_webhooks.model.health import Health
from lms_webhooks.model.lanes import Count, Lane
from lms_webhooks.model.slots import BatchSchedule, DailyAt, EveryMinutes
from lms_webhooks.model.webhooks import (
    Authentication,
    BasicAuthentication,
    NoAuthentication,
    SignatureAuthentication,
    Webhook,
)
from lms_webhooks.stores.replays import Replay
from lms_webhooks.timestamps import format_ms

_NO_BODIES: Mapping[int, str] = {}


def present_webhook(
    webhook: Webhook,
    health: Health,
    pending: Mapping[Lane, Count],
    *,
    event_types: EventTypes,
    next_batch: NextBatch,
    secret: str | None = None,
    previous_secret_expires_at: str | None = None,
    last_delivery: DeliveryView | None = None,
    replay: Replay | None = None,
    response_bodies: Mapping[int, str] = _NO_BODIES,
) -> WebhookOutput:
    """Present a webhook.

    `secret` is its signing secret, if this call made one. `response_bodies` are those of the last attempts,
    by the time when each began.
    """
    unlisted = sorted(webhook.events - event_types.keys())
    return WebhookOutput(
        webhook_id=webhook.webhook_id,
        name=webhook.name,
        description=webhook.description,
        target_url=webhook.target_url,
        authentication=_authentication(webhook.authentication, secret, previous_secret_expires_at),
        events=[name for name in event_types if name in webhook.events] + unlisted,
        unlisted_events=unlisted or None,
        status=webhook.status,
        ordered=webhook.ordered,
        headers=webhook.headers,
        batch_schedule=_batch_schedule(next_batch.schedule),
        next_batch_at=_time_or_none(next_batch.at_ms),
        keep_response_bodies=webhook.keep_response_bodies,
        health=_health(health, response_bodies),
        pending=present_pending(pending),
        last_delivery=None if last_delivery is None else present_redelivery(last_delivery),
        replay=None if replay is None else present_replay(replay),
        created_at=webhook.created_at,
        updated_at=webhook.updated_at,
        created_by=webhook.created_by,
        updated_by=webhook.updated_by,
    )


def _batch_schedule(schedule: BatchSchedule) -> BatchScheduleOutput:
    match schedule:
        case EveryMinutes(minutes):
            return BatchScheduleOutput(every_minutes=minutes)
        case DailyAt(times, time_zone):
            return BatchScheduleOutput(daily_at=list(times), time_zone=time_zone)


def _health(health: Health, bodies: Mapping[int, str]) -> HealthOutput:
    disabled = None
    if health.disabled_reason is not None:
        disabled = DisabledOutput(reason=health.disabled_reason, at=format_ms(health.disabled_at_ms))
    return HealthOutput(
        mode=health.mode,
        failing_since=format_ms(health.failing_since_ms) if health.failing_since_ms else None,
        last_error=health.last_error or None,
        next_attempt_at=format_ms(health.next_attempt_at_ms) if health.failures else None,
        disabled=disabled,
        attempts=[_attempt(each, bodies) for each in health.attempts],
    )


def present_pending(pending: Mapping[Lane, Count]) -> PendingOutput:
    """Present the counts of pending events, in the order in which the lanes are served."""
    lanes = {lane: pending[lane] for lane in Lane if lane in pending and pending[lane].events}
    return PendingOutput(
        count=sum(each.events for each in lanes.values()),
        at_least=not all(each.is_complete for each in lanes.values()),
        lanes={
            lane: LaneCountOutput(count=each.events, at_least=not each.is_complete)
            for lane, each in lanes.items()
        },
    )


def present_deliveries(page: DeliveryPage) -> DeliveryListOutput:
    """Present a page of deliveries."""
    return DeliveryListOutput(
        deliveries=[DeliveryOutput(**_delivery(each)) for each in page.deliveries],
        next_cursor=page.next_cursor,
        incomplete=page.is_incomplete or None,
    )


def present_delivery(
    delivery: DeliveryView,
    endpoint_attempts: Sequence[Attempt] | None,
    response_bodies: Mapping[int, str] = _NO_BODIES,
) -> DeliveryDetailOutput:
    """Present one delivery with its attempts, without its event; a pending one with those of its endpoint."""
    return DeliveryDetailOutput(
        **_delivery(delivery),
        attempts=[_attempt(attempt, response_bodies) for attempt in delivery.attempts],
        endpoint_attempts=None
        if endpoint_attempts is None
        else [_attempt(attempt, response_bodies) for attempt in endpoint_attempts],
    )


def present_redelivery(delivery: DeliveryView) -> DeliveryOutput:
    """Present a redelivered delivery, as in a list."""
    return DeliveryOutput(**_delivery(delivery))


def present_replay(replay: Replay) -> ReplayOutput:
    """Present a replay and its progress."""
    processed_to_ms = replay.position.partition("#")[0]
    return ReplayOutput(
        replay_id=replay.replay_id,
        state=replay.state,
        from_time=format_ms(int(replay.range.start)),
        to_time=format_ms(int(replay.range.end)),
        status=replay.outcome,
        event_name=replay.event_name,
        processed=replay.read,
        delivered=replay.delivered,
        rejected=replay.rejected,
        processed_to=format_ms(int(processed_to_ms)) if processed_to_ms else None,
        started_at=format_ms(replay.started_at_ms),
        started_by=replay.started_by,
        ended_at=format_ms(replay.ended_at_ms) if replay.ended_at_ms else None,
    )


def present_replay_preview(preview: ReplayPreview) -> ReplayPreviewOutput:
    """Present what a replay would send."""
    return ReplayPreviewOutput(
        from_time=format_ms(int(preview.range.start)),
        to_time=format_ms(int(preview.range.end)),
        status=preview.outcome,
        event_name=preview.event_name,
        count=preview.matching.events,
        at_least=not preview.matching.is_complete,
    )


def present_retry(retry: Retry) -> RetryOutput:
    """Present a probe that was scheduled, or that is under way."""
    return RetryOutput(state=retry.state, requested_at=format_ms(retry.requested_at_ms))


def present_stats(stats: Stats) -> StatsOutput:
    """Present a webhook's stats."""
    return StatsOutput(
        from_time=format_ms(stats.from_ms),
        to_time=format_ms(stats.to_ms),
        counted_from=format_ms(stats.counted_from_ms),
        hours=[_hour(hour) for hour in stats.hours],
        pending=present_pending(stats.pending),
        oldest_pending_at=_time_or_none(stats.oldest_pending_ms),
        next_expiry_at=_time_or_none(stats.next_expiry_ms),
        next_batch_at=format_ms(stats.next_batch_ms),
    )


def _hour(hour: Hour) -> HourOutput:
    latencies_ms = sorted(hour.latencies_ms)
    latency = None
    if latencies_ms:
        latency = LatencyOutput(
            p50=percentile(latencies_ms, 50), p95=percentile(latencies_ms, 95), max=latencies_ms[-1]
        )
    return HourOutput(
        starts_at=format_ms(hour.starts_at_ms),
        delivered=hour.outcomes[Outcome.DELIVERED],
        failed=hour.outcomes[Outcome.FAILED],
        expired=hour.outcomes[Outcome.EXPIRED],
        latency_ms=latency,
    )


def _time_or_none(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else format_ms(milliseconds)


def _delivery(delivery: DeliveryView) -> dict[str, Any]:
    occurred_at_ms, _, _ = delivery.sort_key.partition("#")
    return {
        "delivery_id": delivery_id(delivery.sort_key),
        "event_id": delivery.event_id,
        "event_name": delivery.event_name,
        "status": delivery.status,
        "occurred_at": format_ms(int(occurred_at_ms)),
        "accepted_at": format_ms(delivery.accepted_at_ms),
        "attempt_count": len(delivery.attempts),
        "last_attempt": _attempt(delivery.attempts[-1]) if delivery.attempts else None,
        "next_attempt_at": format_ms(delivery.next_attempt_at_ms) if delivery.next_attempt_at_ms else None,
        "reason": delivery.reason or None,
    }


def _attempt(attempt: Attempt, bodies: Mapping[int, str] = _NO_BODIES) -> AttemptOutput:
    return AttemptOutput(
        at=format_ms(attempt.started_at_ms),
        latency_ms=attempt.latency_ms,
        status_code=attempt.status_code,
        error_class=attempt.plain_error_class,
        reason=attempt.reason,
        response_body=None if attempt.is_success else bodies.get(attempt.started_at_ms),
    )


def _authentication(
    authentication: Authentication, secret: str | None, previous_secret_expires_at: str | None
) -> NoAuthenticationOutput | BasicAuthenticationOutput | SignatureAuthenticationOutput:
    match authentication:
        case NoAuthentication():
            return NoAuthenticationOutput()
        case BasicAuthentication():
            return BasicAuthenticationOutput(username=authentication.username)
        case SignatureAuthentication():
            return SignatureAuthenticationOutput(
                secret=secret, previous_secret_expires_at=previous_secret_expires_at
            )


def present_subscription(subscription: Subscription) -> SubscriptionOutput:
    """Present one notification subscription."""
    return SubscriptionOutput(
        subscription_id=subscription.subscription_id,
        email=subscription.email,
        status=subscription.status,
        created_at=subscription.created_at,
        created_by=subscription.created_by,
    )


def present_activity(page: ActivityPage) -> ActivityListOutput:
    """Present a page of changes."""
    return ActivityListOutput(
        activity=[_activity(each) for each in page.activities], next_cursor=page.next_cursor
    )


def _activity(activity: Activity) -> ActivityOutput:
    ids = activity.change.ids
    return ActivityOutput(
        at=format_ms(activity.at_ms),
        by=activity.by,
        action=activity.change.action,
        changed_fields=list(activity.change.changed),
        webhook_id=ids.get("webhookId"),
        delivery_id=delivery_id(ids["sortKey"]) if "sortKey" in ids else None,
        replay_id=ids.get("replayId"),
        subscription_id=ids.get("subscriptionId"),
    )


def present_event_types(event_types: EventTypes) -> EventTypeList:
    """Present the catalogue of event types."""
    return EventTypeList(
        event_types=[
            EventTypeOutput(
                event_name=event_type.name,
                label=event_type.label,
                translations=dict(event_type.translations) or None,
                category=event_type.category,
                sample=dict(event_type.sample),
                data_schema=describe_data(event_type),
            )
            for event_type in event_types.values()
        ]
    )
