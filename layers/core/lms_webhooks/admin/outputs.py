"""What the admin API gives, field by field, and how it is made of what the system knows."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from lms_webhooks.admin.deliveries import DeliveryPage, DeliveryView
from lms_webhooks.admin.query_parameters import DeliveryStatus, delivery_id
from lms_webhooks.admin.stats import Hour, Stats, percentile
from lms_webhooks.admin.subscriptions import Subscription, SubscriptionStatus
from lms_webhooks.model.attempts import Attempt
from lms_webhooks.model.event_types import EVENT_TYPES, Category
from lms_webhooks.model.health import DisabledReason, Health, Mode
from lms_webhooks.model.webhooks import (
    Authentication,
    BasicAuthentication,
    NoAuthentication,
    SignatureAuthentication,
    Status,
    Webhook,
    format_ms,
)
from lms_webhooks.stores.backlog import Count, Lane
from lms_webhooks.stores.deliveries import Outcome
from lms_webhooks.stores.replays import Replay, ReplayState


class _Output(BaseModel):
    # Built by the first call that gives one: a cold start would build them all, for a call that needs one.
    model_config = ConfigDict(
        frozen=True,
        alias_generator=to_camel,
        validate_by_name=True,
        hide_input_in_errors=True,
        defer_build=True,
    )


class NoAuthenticationOutput(_Output):
    """The webhook's requests prove nothing."""

    type: Literal["none"] = "none"


class BasicAuthenticationOutput(_Output):
    """The webhook's requests carry this user name. The password is never given back."""

    type: Literal["basic"] = "basic"
    username: str


class SignatureAuthenticationOutput(_Output):
    """The webhook's requests are signed. `secret` is there in the answer that made it, and nowhere else."""

    type: Literal["signature"] = "signature"
    secret: Annotated[str | None, Field(repr=False)] = None
    previous_secret_expires_at: str | None = None
    """While the previous secret signs along."""


class WebhookOutput(_Output):
    """A webhook as the API shows it."""

    webhook_id: str
    name: str
    description: str
    target_url: str
    authentication: NoAuthenticationOutput | BasicAuthenticationOutput | SignatureAuthenticationOutput
    events: list[str]
    status: Status
    ordered: bool
    headers: dict[str, str]
    health: "HealthOutput"
    pending: "PendingOutput"
    created_at: str
    updated_at: str
    created_by: str
    updated_by: str


class DisabledOutput(_Output):
    """The system sends nothing more, until an admin sets the status to active again."""

    reason: DisabledReason
    at: str


class HealthOutput(_Output):
    """How the endpoint does. What is not there is not the case."""

    mode: Mode
    failing_since: str | None = None
    last_error: str | None = None
    next_attempt_at: str | None = None
    disabled: DisabledOutput | None = None


class LaneCountOutput(_Output):
    """How many events wait in one lane; with `atLeast`, more may."""

    count: int
    at_least: bool = False


class PendingOutput(_Output):
    """How many events wait for the webhook, in all and by lane. Lanes in which none waits are left out."""

    count: int
    at_least: bool = False
    lanes: dict[Lane, LaneCountOutput]


class WebhookList(_Output):
    """Every webhook of the account, oldest first."""

    webhooks: list[WebhookOutput]


class SigningSecretOutput(_Output):
    """A new signing secret. It is in this answer only, and signs along with the previous one for a day."""

    webhook_id: str
    secret: Annotated[str, Field(repr=False)]
    previous_secret_expires_at: str


class SampleResultOutput(_Output):
    """What became of a test send: a status code, or the class of error that stood in its way."""

    delivered: bool
    status_code: int | None = None
    latency_ms: int
    error_class: str | None = None
    reason: str | None = None
    """Of `forbidden-address`: what a target must or must not be. Of `tls`: what is wrong, where known."""
    location: str | None = None
    """Of a 3xx, which is not followed: where it would lead."""
    response_body: str | None = None
    """Of a failure, the first KiB."""


class AttemptOutput(_Output):
    """One POST: a status code, or the class of error that stood in its way."""

    at: str
    latency_ms: int
    status_code: int | None = None
    error_class: str | None = None
    reason: str | None = None
    """Of `tls`: what is wrong with it, where known."""


class DeliveryOutput(_Output):
    """One event for one webhook, and how it stands."""

    delivery_id: str
    event_id: str
    event_name: str
    status: DeliveryStatus
    occurred_at: str
    """The event's own time."""
    accepted_at: str
    attempt_count: int
    last_attempt: AttemptOutput | None = None
    next_attempt_at: str | None = None
    reason: str | None = None


class DeliveryDetailOutput(DeliveryOutput):
    """A delivery with each of its attempts and, in `event`, the event as receivers get it."""

    attempts: list[AttemptOutput]


class ReplayOutput(_Output):
    """A replay: the deliveries that it covers, and its progress."""

    replay_id: str
    state: ReplayState
    from_time: Annotated[str, Field(alias="from")]
    to_time: Annotated[str, Field(alias="to")]
    status: Outcome | None = None
    event_name: str | None = None
    processed: int
    """Deliveries read so far. It sends those that match."""
    delivered: int
    rejected: int
    """By their receiver, each alone; they are not tried again."""
    processed_to: str | None = None
    """The time of the last event read."""
    started_at: str
    started_by: str
    ended_at: str | None = None


class DeliveryListOutput(_Output):
    """Some deliveries, newest first. With `nextCursor` there may be more, even after a short page."""

    deliveries: list[DeliveryOutput]
    next_cursor: str | None = None
    incomplete: bool | None = None
    """More events are set aside for later tries than were looked at: some may be missing here."""


class LatencyOutput(_Output):
    """Of the attempts that delivered, in milliseconds."""

    p50: int
    p95: int
    max: int


class HourOutput(_Output):
    """The events of one hour, by their own time, and how they ended."""

    starts_at: str
    delivered: int
    failed: int
    expired: int
    latency_ms: LatencyOutput | None = None


class StatsOutput(_Output):
    """How a webhook did and what waits for it. Hours without a record are left out; newest first."""

    from_time: Annotated[str, Field(alias="from")]
    to_time: Annotated[str, Field(alias="to")]
    counted_from: str
    """Later than `from` when there is more than one call counts."""
    hours: list[HourOutput]
    pending: PendingOutput
    oldest_pending_at: str | None = None
    """The time of the oldest event that waits."""
    next_expiry_at: str | None = None
    """Nothing that waits expires earlier."""
    next_batch_at: str
    """When non-real-time events go out next, within a minute."""


class SubscriptionOutput(_Output):
    """Somebody who is mailed about the account's webhooks, once they have confirmed that they want to be."""

    subscription_id: str
    email: str
    status: SubscriptionStatus
    """ended: they never confirmed, or the unsubscribe link in a notice was opened."""
    created_at: str
    created_by: str


class SubscriptionList(_Output):
    """Everybody who is mailed about the account's webhooks, oldest first."""

    subscriptions: list[SubscriptionOutput]


class EventTypeOutput(_Output):
    """One event type. `sample` is what `data` of such an event holds."""

    event_name: str
    label: str
    category: Category
    sample: dict[str, Any]


class EventTypeList(_Output):
    """The whole catalogue."""

    event_types: list[EventTypeOutput]


def show(
    webhook: Webhook,
    health: Health,
    pending: Mapping[Lane, Count],
    *,
    secret: str | None = None,
    previous_secret_expires_at: str | None = None,
) -> WebhookOutput:
    """A webhook as the API shows it, with its signing secret where that has just been made."""
    return WebhookOutput(
        webhook_id=webhook.webhook_id,
        name=webhook.name,
        description=webhook.description,
        target_url=webhook.target_url,
        authentication=_show_authentication(webhook.authentication, secret, previous_secret_expires_at),
        events=[name for name in EVENT_TYPES if name in webhook.events],
        status=webhook.status,
        ordered=webhook.ordered,
        headers=webhook.headers,
        health=_show_health(health),
        pending=show_pending(pending),
        created_at=webhook.created_at,
        updated_at=webhook.updated_at,
        created_by=webhook.created_by,
        updated_by=webhook.updated_by,
    )


def _show_health(health: Health) -> HealthOutput:
    disabled = None
    if health.disabled_reason is not None:
        disabled = DisabledOutput(reason=health.disabled_reason, at=format_ms(health.disabled_at_ms))
    return HealthOutput(
        mode=health.mode,
        failing_since=format_ms(health.failing_since_ms) if health.failing_since_ms else None,
        last_error=health.last_error or None,
        next_attempt_at=format_ms(health.next_attempt_at_ms) if health.failures else None,
        disabled=disabled,
    )


def show_pending(pending: Mapping[Lane, Count]) -> PendingOutput:
    """How many events wait, lane by lane in the order in which they are served."""
    lanes = {lane: pending[lane] for lane in Lane if lane in pending and pending[lane].events}
    return PendingOutput(
        count=sum(each.events for each in lanes.values()),
        at_least=not all(each.is_complete for each in lanes.values()),
        lanes={
            lane: LaneCountOutput(count=each.events, at_least=not each.is_complete)
            for lane, each in lanes.items()
        },
    )


def show_deliveries(page: DeliveryPage) -> DeliveryListOutput:
    """A page of deliveries as the API shows it."""
    return DeliveryListOutput(
        deliveries=[DeliveryOutput(**_delivery(each)) for each in page.deliveries],
        next_cursor=page.next_cursor,
        incomplete=page.is_incomplete or None,
    )


def show_delivery(shown: DeliveryView) -> DeliveryDetailOutput:
    """One delivery as the API shows it, without its event."""
    return DeliveryDetailOutput(
        **_delivery(shown), attempts=[_show_attempt(attempt) for attempt in shown.attempts]
    )


def show_redelivery(shown: DeliveryView) -> DeliveryOutput:
    """A delivery as the API shows it in a list."""
    return DeliveryOutput(**_delivery(shown))


def show_replay(replay: Replay) -> ReplayOutput:
    """A replay as the API shows it."""
    processed_to_ms = replay.position.partition("#")[0]
    return ReplayOutput(
        replay_id=replay.replay_id,
        state=replay.state,
        from_time=format_ms(int(replay.of.low)),
        to_time=format_ms(int(replay.of.high)),
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


def show_stats(stats: Stats) -> StatsOutput:
    """A webhook's stats as the API shows them."""
    return StatsOutput(
        from_time=format_ms(stats.from_ms),
        to_time=format_ms(stats.to_ms),
        counted_from=format_ms(stats.counted_from_ms),
        hours=[_show_hour(hour) for hour in stats.hours],
        pending=show_pending(stats.pending),
        oldest_pending_at=_moment_or_none(stats.oldest_pending_ms),
        next_expiry_at=_moment_or_none(stats.next_expiry_ms),
        next_batch_at=format_ms(stats.next_batch_ms),
    )


def _show_hour(hour: Hour) -> HourOutput:
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


def _moment_or_none(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else format_ms(milliseconds)


def _delivery(shown: DeliveryView) -> dict[str, Any]:
    occurred_at_ms, _, event_id = shown.sort_key.partition("#")
    return {
        "delivery_id": delivery_id(shown.sort_key),
        "event_id": event_id,
        "event_name": shown.event_name,
        "status": shown.status,
        "occurred_at": format_ms(int(occurred_at_ms)),
        "accepted_at": format_ms(shown.accepted_at_ms),
        "attempt_count": len(shown.attempts),
        "last_attempt": _show_attempt(shown.attempts[-1]) if shown.attempts else None,
        "next_attempt_at": format_ms(shown.next_attempt_at_ms) if shown.next_attempt_at_ms else None,
        "reason": shown.reason or None,
    }


def _show_attempt(attempt: Attempt) -> AttemptOutput:
    return AttemptOutput(
        at=format_ms(attempt.started_at_ms),
        latency_ms=attempt.latency_ms,
        status_code=attempt.status_code,
        error_class=attempt.plain_error_class,
        reason=attempt.reason,
    )


def _show_authentication(
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


def show_subscription(subscription: Subscription) -> SubscriptionOutput:
    """Who is mailed, as the API shows it."""
    return SubscriptionOutput(
        subscription_id=subscription.subscription_id,
        email=subscription.email,
        status=subscription.status,
        created_at=subscription.created_at,
        created_by=subscription.created_by,
    )


def show_event_types() -> EventTypeList:
    """The catalogue as the API shows it."""
    return EventTypeList(
        event_types=[
            EventTypeOutput(
                event_name=event_type.name,
                label=event_type.label,
                category=event_type.category,
                sample=dict(event_type.sample),
            )
            for event_type in EVENT_TYPES.values()
        ]
    )
