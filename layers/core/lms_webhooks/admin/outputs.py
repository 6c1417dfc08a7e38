"""Define the models of the API's responses, field by field. `presenters` fills them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from lms_webhooks.admin.query_parameters import DeliveryStatus
from lms_webhooks.admin.retries import RetryState
from lms_webhooks.admin.subscriptions import SubscriptionStatus
from lms_webhooks.model.deliveries import Outcome
from lms_webhooks.model.event_types import Category
from lms_webhooks.model.health import DisabledReason, Mode
from lms_webhooks.model.lanes import Lane
from lms_webhooks.model.webhooks import Status
from lms_webhooks.stores.replays import ReplayState


class _Output(BaseModel):
    # Each is built by the first call that returns it. A cold start would build all for a call that needs one.
    model_config = ConfigDict(
        frozen=True,
        alias_generator=to_camel,
        validate_by_name=True,
        hide_input_in_errors=True,
        defer_build=True,
    )


class NoAuthenticationOutput(_Output):
    """Requests carry no authentication."""

    type: Literal["none"] = "none"


class BasicAuthenticationOutput(_Output):
    """Requests carry this user name. The API never returns the password."""

    type: Literal["basic"] = "basic"
    username: str


class SignatureAuthenticationOutput(_Output):
    """Requests are signed. Only the response that makes the `secret` contains it."""

    type: Literal["signature"] = "signature"
    secret: Annotated[str | None, Field(repr=False)] = None
    previous_secret_expires_at: str | None = None
    """Until then the previous secret signs too."""


class WebhookOutput(_Output):
    """A webhook, its health, and the count of its pending events."""

    webhook_id: str
    name: str
    description: str
    target_url: str
    authentication: NoAuthenticationOutput | BasicAuthenticationOutput | SignatureAuthenticationOutput
    events: list[str]
    """The trigger events: names of event types."""
    unlisted_events: list[str] | None = None
    """Those of `events` that the catalogue no longer has. No event of them arrives."""
    status: Status
    ordered: bool
    """Whether every event goes through the backlog, in order, one request at a time."""
    headers: dict[str, str]
    batch_schedule: "BatchScheduleOutput"
    """When non-real-time events go out. The deployment's schedule, if the webhook has none of its own."""
    next_batch_at: str | None = None
    """The next slot: when non-real-time events go out, within a minute. Left out if none are to go out."""
    keep_response_bodies: bool
    """Whether the first KiB of a failure's response is kept with the attempt."""
    health: "HealthOutput"
    pending: "PendingOutput"
    last_delivery: "DeliveryOutput | None" = None
    """The newest delivery of the history, by the time of its event. Left out while there is none."""
    replay: "ReplayOutput | None" = None
    """The replay that is running."""
    created_at: str
    updated_at: str
    created_by: str
    """The admin, as the token names them."""
    updated_by: str


class BatchScheduleOutput(_Output):
    """Slots at the multiples of `everyMinutes` since midnight UTC, or at times of day in a time zone."""

    every_minutes: int | None = None
    daily_at: list[str] | None = None
    time_zone: str | None = None


class DisabledOutput(_Output):
    """Why the system disabled the webhook. Nothing is sent until an admin sets `status` to active."""

    reason: DisabledReason
    at: str


class HealthOutput(_Output):
    """The state of the endpoint. A field that does not apply is left out."""

    mode: Mode
    failing_since: str | None = None
    """When the first of the failures in a row was."""
    last_error: str | None = None
    """Text for people: `HTTP 503`, or the error class, with the reason where it is known."""
    next_attempt_at: str | None = None
    """When the next request is sent to the endpoint, to see whether it works again."""
    disabled: DisabledOutput | None = None
    attempts: list["AttemptOutput"]
    """The last requests to the endpoint, oldest first, at most 20: those from the backlog, and failures."""


class LaneCountOutput(_Output):
    """How many events are pending in one lane. With `atLeast` there may be more."""

    count: int
    at_least: bool = False


class PendingOutput(_Output):
    """How many events are pending, in all and by lane. Empty lanes are left out."""

    count: int
    at_least: bool = False
    lanes: dict[Lane, LaneCountOutput]


class WebhookList(_Output):
    """Every webhook of the account, oldest first."""

    webhooks: list[WebhookOutput]


class SigningSecretOutput(_Output):
    """A new signing secret. Only this response contains it. The previous secret signs too for a day."""

    webhook_id: str
    secret: Annotated[str, Field(repr=False)]
    previous_secret_expires_at: str
    """Until then the previous secret signs too."""


class SampleRequestOutput(_Output):
    """The POST of a test, as the receiver gets it, but for the password."""

    url: str
    headers: dict[str, str]
    """Those of this system and of the webhook. In `authorization`, asterisks stand for the credentials."""
    body: str


class SampleResultOutput(_Output):
    """The result of a test: a status code, or the class of the error."""

    delivered: bool
    """Whether the receiver responded with a 2xx."""
    status_code: int | None = None
    latency_ms: int
    error_class: str | None = None
    """Why there is no status code, such as `dns`, `connect`, `tls` or `timeout`."""
    reason: str | None = None
    """With `forbidden-address`, the rule that the target breaks. With `tls`, the fault, where known."""
    location: str | None = None
    """The target of a redirect (3xx). Redirects are not followed."""
    response_body: str | None = None
    """The first KiB of the response, if the test failed."""
    response_headers: dict[str, str] | None = None
    """The first 50 headers of the response, with names in lower case."""
    request: SampleRequestOutput


class AttemptOutput(_Output):
    """One POST: a status code, or the class of the error."""

    at: str
    """When it started."""
    latency_ms: int
    status_code: int | None = None
    error_class: str | None = None
    """Why there is no status code, such as `dns`, `connect`, `tls` or `timeout`."""
    reason: str | None = None
    """With `tls`, the fault, where known."""
    response_body: str | None = None
    """The first KiB of the response, if the attempt failed and the webhook has `keepResponseBodies`."""


class DeliveryOutput(_Output):
    """One event for one webhook, and its status."""

    delivery_id: str
    event_id: str
    event_name: str
    status: DeliveryStatus
    occurred_at: str
    """The time of the event itself."""
    accepted_at: str
    """When the event reached this system. It expires after a time from then on."""
    attempt_count: int
    last_attempt: AttemptOutput | None = None
    next_attempt_at: str | None = None
    """When a rejected event is retried."""
    reason: str | None = None
    """Text for people: why the delivery failed or expired."""


class DeliveryDetailOutput(DeliveryOutput):
    """A delivery with its attempts and, in `event`, the event as receivers get it."""

    attempts: list[AttemptOutput]
    endpoint_attempts: list[AttemptOutput] | None = None
    """While it is pending: the last requests to the endpoint since the event was accepted, oldest first."""


class RetryOutput(_Output):
    """A probe of the endpoint. Its result is the next of the webhook's `health.attempts`."""

    state: RetryState
    """`running`: a request was under way already, so no other was scheduled."""
    requested_at: str


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
    """Events that got a 2xx."""
    rejected: int
    """Events that the receiver rejected. A replay does not retry them."""
    processed_to: str | None = None
    """The time of the last event read."""
    started_at: str
    started_by: str
    ended_at: str | None = None


class ReplayPreviewOutput(_Output):
    """How many deliveries a replay with these fields would send now. With `atLeast` there may be more."""

    from_time: Annotated[str, Field(alias="from")]
    to_time: Annotated[str, Field(alias="to")]
    status: Outcome | None = None
    event_name: str | None = None
    count: int
    at_least: bool = False


class DeliveryListOutput(_Output):
    """Some deliveries, newest first. With `nextCursor` there may be more, even after a short page."""

    deliveries: list[DeliveryOutput]
    next_cursor: str | None = None
    """Send it as `cursor`, with the same filters, to get the next page."""
    incomplete: bool | None = None
    """True when the retry lane holds more events than one call reads. Some may be missing here."""


class LatencyOutput(_Output):
    """The latency of successful attempts, in milliseconds."""

    p50: int
    p95: int
    max: int


class HourOutput(_Output):
    """Counts by outcome for the events of one hour. The time of the event decides the hour."""

    starts_at: str
    delivered: int
    failed: int
    expired: int
    latency_ms: LatencyOutput | None = None


class StatsOutput(_Output):
    """Counts by hour, newest first, and pending events. Hours without a record are left out."""

    from_time: Annotated[str, Field(alias="from")]
    to_time: Annotated[str, Field(alias="to")]
    counted_from: str
    """The counts begin here. It is later than `from` if there is more than one call can count."""
    hours: list[HourOutput]
    pending: PendingOutput
    oldest_pending_at: str | None = None
    """The time of the oldest pending event."""
    next_expiry_at: str | None = None
    """No pending event expires earlier."""
    next_batch_at: str
    """When the next non-real-time events go out, within a minute."""


class SubscriptionOutput(_Output):
    """A person who gets notifications by mail, after confirming."""

    subscription_id: str
    email: str
    status: SubscriptionStatus
    """`ended`: the person did not confirm, or the unsubscribe link in a mail was opened."""
    created_at: str
    created_by: str


class SubscriptionList(_Output):
    """The people who get notifications by mail, oldest first."""

    subscriptions: list[SubscriptionOutput]


class ActivityOutput(_Output):
    """One change that an admin made. It names fields, and never has their values."""

    at: str
    by: str
    """The admin, as the token names them."""
    action: str
    """Such as `webhook.create`: one of the actions of the audit log, except `webhook.test`."""
    changed_fields: list[str]
    webhook_id: str | None = None
    delivery_id: str | None = None
    replay_id: str | None = None
    subscription_id: str | None = None


class ActivityListOutput(_Output):
    """Some changes, newest first. With `nextCursor` there may be more, even after a short page."""

    activity: list[ActivityOutput]
    next_cursor: str | None = None
    """Send it as `cursor`, with the same filter, to get the next page."""


class EventTypeOutput(_Output):
    """One event type. `sample` is an example of the `data` of its events, and `dataSchema` describes it."""

    event_name: str
    label: str
    translations: dict[str, str] | None = None
    """The label in other languages, by their codes. Only of types that the deployer added."""
    category: Category
    sample: dict[str, Any]
    data_schema: dict[str, Any]
    """JSON Schema (2020-12). It requires no field: events are delivered as the LMS emits them."""


class EventTypeList(_Output):
    """The catalogue of event types."""

    event_types: list[EventTypeOutput]
