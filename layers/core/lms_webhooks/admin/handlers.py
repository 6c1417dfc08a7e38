"""Handle the calls of the API: read what a call says, let a service do it, and return the response."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.event_handler import Response

from lms_webhooks.admin import console_files
from lms_webhooks.admin.activity import ActivityStore
from lms_webhooks.admin.batch_schedules import BatchSchedules
from lms_webhooks.admin.deliveries import Deliveries, DeliveryView
from lms_webhooks.admin.http_responses import (
    SAFETY_HEADERS,
    etag,
    json_response,
    no_content,
    response_writes,
    secret_response_writes,
    stored_response,
)
from lms_webhooks.admin.idempotency import Claim, Idempotency, StoredResponse
from lms_webhooks.admin.inputs import (
    ReplayInput,
    SampleInput,
    SubscriptionInput,
    WebhookInput,
    WebhookPatch,
)
from lms_webhooks.admin.openapi import describe_api
from lms_webhooks.admin.outputs import (
    ActivityListOutput,
    DeliveryDetailOutput,
    DeliveryListOutput,
    DeliveryOutput,
    EventTypeList,
    ReplayOutput,
    ReplayPreviewOutput,
    RetryOutput,
    SampleResultOutput,
    SigningSecretOutput,
    StatsOutput,
    SubscriptionList,
    SubscriptionOutput,
    WebhookList,
    WebhookOutput,
)
from lms_webhooks.admin.presenters import (
    present_activity,
    present_deliveries,
    present_delivery,
    present_event_types,
    present_redelivery,
    present_replay,
    present_replay_preview,
    present_retry,
    present_stats,
    present_subscription,
    present_webhook,
)
from lms_webhooks.admin.problems import (
    ContentionProblem,
    CreationLimitExceededProblem,
    MailLimitExceeded,
    NotActive,
    NothingToRetry,
    NotSigned,
    ReplayInProgressProblem,
    ReplayNotFound,
    RotationInProgress,
    SubscriptionLimitExceeded,
    WebhookLimitExceededProblem,
)
from lms_webhooks.admin.query_parameters import read_delivery_id, read_delivery_query, read_hours
from lms_webhooks.admin.replays import ReplayService, audit_redelivery, audit_replay
from lms_webhooks.admin.retries import Retry, RetryService, RetryState, audit_retry
from lms_webhooks.admin.routes import Call, Route, RouteTable
from lms_webhooks.admin.stats import DEFAULT_HOURS, MAX_HOURS, StatsReader
from lms_webhooks.admin.webhooks import WebhookService, audit_creation, audit_rotation
from lms_webhooks.model.event_types import EventTypes
from lms_webhooks.model.lanes import Lane
from lms_webhooks.model.webhooks import SignatureAuthentication, WebhookWithHealth
from lms_webhooks.settings import AdminApiSettings
from lms_webhooks.stores.replays import Replay

if TYPE_CHECKING:
    from lms_webhooks.admin.sample_sends import SampleSender
    from lms_webhooks.admin.subscriptions import Subscriptions

ROUTES = RouteTable()

_COUNTED_PENDING = 1000  # events a lane: about a megabyte of reading, once for one webhook
_LISTED_PENDING = 100  # for each of five webhooks


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The services that handlers call. The first call that needs the last two makes them."""

    webhooks: WebhookService
    deliveries: Deliveries
    replays: ReplayService
    retries: RetryService
    stats: StatsReader
    activity: ActivityStore
    idempotency: Idempotency
    sample_sends: "Callable[[], SampleSender]"
    subscriptions: "Callable[[], Subscriptions]"
    event_types: EventTypes
    schedules: BatchSchedules


class Handlers:
    """One method a call, below the declaration of its route. Public calls get the gateway's event."""

    def __init__(self, services: Services, settings: AdminApiSettings) -> None:
        self._services = services
        self._settings = settings

    @ROUTES.add(Route("GET", "/openapi.json", is_public=True))
    def get_openapi(self, _: Mapping[str, Any]) -> Response[str]:
        return Response(
            status_code=HTTPStatus.OK,
            content_type="application/json",
            body=describe_api(self._services.event_types),
            headers={"Cache-Control": "public, max-age=300", **SAFETY_HEADERS},
        )

    @ROUTES.add(Route("GET", "/console", is_public=True))
    def get_console(self, event: Mapping[str, Any]) -> Response[str]:
        return self.get_console_file(event, console_files.INDEX)

    @ROUTES.add(Route("GET", "/console/<name>", is_public=True))
    def get_console_file(self, event: Mapping[str, Any], name: str) -> Response[str]:
        file = console_files.find(name, self._settings)
        is_cached = file.etag in event.get("headers", {}).get("if-none-match", "")
        return Response(
            status_code=HTTPStatus.NOT_MODIFIED if is_cached else HTTPStatus.OK,
            content_type=file.content_type,
            body="" if is_cached else file.text,
            headers={**console_files.headers(self._settings), "ETag": file.etag},
        )

    @ROUTES.add(Route("GET", "/v1/event-types", gives=EventTypeList))
    def list_event_types(self, call: Call[None]) -> Response[str]:
        return call.respond(present_event_types(self._services.event_types))

    @ROUTES.add(Route("GET", "/v1/webhooks", gives=WebhookList))
    def list_webhooks(self, call: Call[None]) -> Response[str]:
        webhooks = self._services.webhooks.list_all(call.caller)
        return call.respond(
            WebhookList(webhooks=[self._present(each, limit=_LISTED_PENDING) for each in webhooks])
        )

    @ROUTES.add(
        Route(
            "POST",
            "/v1/webhooks",
            HTTPStatus.CREATED,
            takes=WebhookInput,
            gives=WebhookOutput,
            headers=("Location", "ETag"),
            is_idempotent=True,
            is_rate_limited=True,
            raises=(WebhookLimitExceededProblem, CreationLimitExceededProblem),
        )
    )
    def create_webhook(self, call: Call[WebhookInput]) -> Response[str]:
        def respond(created: WebhookWithHealth, secret: str | None) -> Response[str]:
            webhook = created.webhook
            headers = {"Location": f"/v1/webhooks/{webhook.webhook_id}", "ETag": etag(webhook)}
            model = present_webhook(
                *created,
                {},
                event_types=self._services.event_types,
                next_batch=self._services.schedules.next_batch(created, None),
                secret=secret,
            )
            return call.respond(model, headers)

        def on_repeat(body: Any) -> None:
            audit_creation(call.caller, call.body, body["webhookId"], repeated=True)
            self._services.webhooks.wait_for_caches()

        return self._idempotent(
            call,
            lambda claim: respond(
                *self._services.webhooks.create(
                    call.caller, call.body, writes=secret_response_writes(claim, respond)
                )
            ),
            on_repeat=on_repeat,
        )

    @ROUTES.add(
        Route(
            "POST",
            "/v1/webhooks/test",
            takes=WebhookInput,
            gives=SampleResultOutput,
            is_idempotent=True,
            is_rate_limited=True,
        )
    )
    def test_draft_webhook(self, call: Call[WebhookInput]) -> Response[str]:
        return self._idempotent(
            call,
            lambda claim: _respond_to_test(
                claim, self._services.sample_sends().send_to_draft(call.caller, call.body)
            ),
        )

    @ROUTES.add(Route("GET", "/v1/webhooks/<webhook_id>", gives=WebhookOutput, headers=("ETag",)))
    def get_webhook(self, call: Call[None], webhook_id: str) -> Response[str]:
        found = self._services.webhooks.get(call.caller, webhook_id)
        return call.respond(self._present(found), {"ETag": etag(found.webhook)})

    @ROUTES.add(
        Route(
            "PATCH",
            "/v1/webhooks/<webhook_id>",
            takes=WebhookPatch,
            gives=WebhookOutput,
            headers=("ETag",),
            is_conditional=True,
            is_rate_limited=True,
        )
    )
    def update_webhook(self, call: Call[WebhookPatch], webhook_id: str) -> Response[str]:
        updated, secret = self._services.webhooks.update(
            call.caller, webhook_id, call.body, is_expected=call.is_expected
        )
        return call.respond(self._present(updated, secret=secret), {"ETag": etag(updated.webhook)})

    @ROUTES.add(Route("DELETE", "/v1/webhooks/<webhook_id>", HTTPStatus.NO_CONTENT, is_conditional=True))
    def delete_webhook(self, call: Call[None], webhook_id: str) -> Response[str]:
        self._services.webhooks.delete(call.caller, webhook_id, is_expected=call.is_expected)
        return no_content()

    @ROUTES.add(
        Route(
            "POST",
            "/v1/webhooks/<webhook_id>/test",
            takes=SampleInput,
            needs_body=False,
            gives=SampleResultOutput,
            is_idempotent=True,
            is_rate_limited=True,
        )
    )
    def test_webhook(self, call: Call[SampleInput], webhook_id: str) -> Response[str]:
        return self._idempotent(
            call,
            lambda claim: _respond_to_test(
                claim,
                self._services.sample_sends().send_to_saved(call.caller, webhook_id, call.body.event_name),
            ),
        )

    @ROUTES.add(
        Route(
            "POST",
            "/v1/webhooks/<webhook_id>/retry",
            HTTPStatus.ACCEPTED,
            gives=RetryOutput,
            headers=("Location",),
            is_idempotent=True,
            is_rate_limited=True,
            raises=(NotActive, NothingToRetry),
        )
    )
    def retry_webhook(self, call: Call[None], webhook_id: str) -> Response[str]:
        location = {"Location": f"/v1/webhooks/{webhook_id}"}

        def respond(retry: Retry) -> Response[str]:
            return call.respond(present_retry(retry), location)

        def on_repeat(body: Any) -> None:
            if body["state"] == RetryState.SCHEDULED:
                audit_retry(call.caller, webhook_id, repeated=True)

        return self._idempotent(
            call,
            lambda claim: respond(
                self._services.retries.retry(
                    call.caller, webhook_id, writes=lambda retry: response_writes(claim, respond(retry))
                )
            ),
            on_repeat=on_repeat,
        )

    @ROUTES.add(
        Route(
            "POST",
            "/v1/webhooks/<webhook_id>/signature",
            gives=SigningSecretOutput,
            headers=("Content-Disposition", "ETag"),
            is_idempotent=True,
            is_conditional=True,
            raises=(NotSigned, RotationInProgress),
        )
    )
    def rotate_signing_secret(self, call: Call[None], webhook_id: str) -> Response[str]:
        def respond(rotated: WebhookWithHealth, secret: str | None) -> Response[str]:
            authentication = rotated.webhook.authentication
            assert isinstance(authentication, SignatureAuthentication)
            assert authentication.previous_secret_until is not None
            assert secret is not None
            model = SigningSecretOutput(
                webhook_id=webhook_id,
                secret=secret,
                previous_secret_expires_at=authentication.previous_secret_until,
            )
            file_name = f"{webhook_id}-signing-secret.json"
            headers = {
                "Content-Disposition": f'attachment; filename="{file_name}"',
                "ETag": etag(rotated.webhook),
            }
            return call.respond(model, headers)

        def on_repeat(_: Any) -> None:
            audit_rotation(call.caller, webhook_id, repeated=True)
            self._services.webhooks.wait_for_caches()

        return self._idempotent(
            call,
            lambda claim: respond(
                *self._services.webhooks.rotate_secret(
                    call.caller,
                    webhook_id,
                    is_expected=call.is_expected,
                    writes=secret_response_writes(claim, respond),
                )
            ),
            on_repeat=on_repeat,
        )

    @ROUTES.add(
        Route(
            "GET",
            "/v1/webhooks/<webhook_id>/deliveries",
            query=("status", "eventName", "eventId", "from", "to", "limit", "cursor"),
            gives=DeliveryListOutput,
        )
    )
    def list_deliveries(self, call: Call[None], webhook_id: str) -> Response[str]:
        query = read_delivery_query(
            call.query,
            account_id=call.caller.account_id,
            webhook_id=webhook_id,
            event_types=self._services.event_types,
        )
        return call.respond(
            present_deliveries(self._services.deliveries.page(call.caller, webhook_id, query))
        )

    @ROUTES.add(
        Route("GET", "/v1/webhooks/<webhook_id>/deliveries/<delivery_id>", gives=DeliveryDetailOutput)
    )
    def get_delivery(self, call: Call[None], webhook_id: str, delivery_id: str) -> Response[str]:
        delivery, pending = self._services.deliveries.find(
            call.caller, webhook_id, read_delivery_id(delivery_id)
        )
        endpoint_attempts = self._services.deliveries.endpoint_attempts(call.caller, webhook_id, delivery)
        bodies = self._services.deliveries.response_bodies(
            call.caller, webhook_id, delivery, endpoint_attempts
        )
        response = call.respond(present_delivery(delivery, endpoint_attempts, bodies))
        # The event's own text: parsed and written again, 1.10 would become 1.1.
        response.body = f'{(response.body or "")[:-1]},"event":{pending.event.text}}}'
        return response

    @ROUTES.add(
        Route(
            "POST",
            "/v1/webhooks/<webhook_id>/deliveries/<delivery_id>/redeliver",
            HTTPStatus.ACCEPTED,
            gives=DeliveryOutput,
            headers=("Location",),
            is_idempotent=True,
            is_rate_limited=True,
        )
    )
    def redeliver(self, call: Call[None], webhook_id: str, delivery_id: str) -> Response[str]:
        sort_key = read_delivery_id(delivery_id)
        location = {"Location": f"/v1/webhooks/{webhook_id}/deliveries/{delivery_id}"}

        def respond(delivery: DeliveryView) -> Response[str]:
            return call.respond(present_redelivery(delivery), location)

        return self._idempotent(
            call,
            lambda claim: respond(
                self._services.replays.redeliver(
                    call.caller,
                    webhook_id,
                    sort_key,
                    writes=lambda delivery: response_writes(claim, respond(delivery)),
                )
            ),
            on_repeat=lambda _: audit_redelivery(call.caller, webhook_id, sort_key, repeated=True),
        )

    @ROUTES.add(Route("GET", "/v1/webhooks/<webhook_id>/stats", query=("hours",), gives=StatsOutput))
    def get_stats(self, call: Call[None], webhook_id: str) -> Response[str]:
        hours = read_hours(call.query, default=DEFAULT_HOURS, maximum=MAX_HOURS)
        return call.respond(present_stats(self._services.stats.read(call.caller, webhook_id, hours=hours)))

    @ROUTES.add(
        Route("GET", "/v1/webhooks/<webhook_id>/replay", gives=ReplayOutput, raises=(ReplayNotFound,))
    )
    def get_replay(self, call: Call[None], webhook_id: str) -> Response[str]:
        return call.respond(present_replay(self._services.replays.progress(call.caller, webhook_id)))

    @ROUTES.add(
        Route(
            "GET",
            "/v1/webhooks/<webhook_id>/replay/preview",
            query=("from", "to", "status", "eventName"),
            gives=ReplayPreviewOutput,
        )
    )
    def preview_replay(self, call: Call[None], webhook_id: str) -> Response[str]:
        return call.respond(
            present_replay_preview(self._services.replays.preview(call.caller, webhook_id, call.query))
        )

    @ROUTES.add(
        Route(
            "POST",
            "/v1/webhooks/<webhook_id>/replay",
            HTTPStatus.ACCEPTED,
            takes=ReplayInput,
            gives=ReplayOutput,
            headers=("Location",),
            is_idempotent=True,
            is_rate_limited=True,
            raises=(ReplayInProgressProblem,),
        )
    )
    def start_replay(self, call: Call[ReplayInput], webhook_id: str) -> Response[str]:
        location = {"Location": f"/v1/webhooks/{webhook_id}/replay"}

        def respond(replay: Replay) -> Response[str]:
            return call.respond(present_replay(replay), location)

        return self._idempotent(
            call,
            lambda claim: respond(
                self._services.replays.start(
                    call.caller,
                    webhook_id,
                    call.body,
                    writes=lambda replay: response_writes(claim, respond(replay)),
                )
            ),
            on_repeat=lambda body: audit_replay(call.caller, webhook_id, body["replayId"], repeated=True),
        )

    @ROUTES.add(
        Route("DELETE", "/v1/webhooks/<webhook_id>/replay", HTTPStatus.NO_CONTENT, raises=(ReplayNotFound,))
    )
    def cancel_replay(self, call: Call[None], webhook_id: str) -> Response[str]:
        self._services.replays.cancel(call.caller, webhook_id)
        return no_content()

    @ROUTES.add(
        Route("GET", "/v1/activity", query=("webhookId", "limit", "cursor"), gives=ActivityListOutput)
    )
    def list_activity(self, call: Call[None]) -> Response[str]:
        return call.respond(present_activity(self._services.activity.page(call.caller, call.query)))

    @ROUTES.add(Route("GET", "/v1/notice-subscriptions", gives=SubscriptionList))
    def list_notification_subscriptions(self, call: Call[None]) -> Response[str]:
        found = self._services.subscriptions().list_all(call.caller)
        return call.respond(SubscriptionList(subscriptions=[present_subscription(each) for each in found]))

    @ROUTES.add(
        Route(
            "POST",
            "/v1/notice-subscriptions",
            HTTPStatus.CREATED,
            takes=SubscriptionInput,
            gives=SubscriptionOutput,
            is_idempotent=True,
            is_rate_limited=True,
            raises=(SubscriptionLimitExceeded, MailLimitExceeded),
        )
    )
    def create_notification_subscription(self, call: Call[SubscriptionInput]) -> Response[str]:
        return self._idempotent(
            call,
            lambda _: call.respond(
                present_subscription(self._services.subscriptions().add(call.caller, call.body.email))
            ),
        )

    @ROUTES.add(
        Route(
            "DELETE",
            "/v1/notice-subscriptions/<subscription_id>",
            HTTPStatus.NO_CONTENT,
            raises=(ContentionProblem,),
        )
    )
    def delete_notification_subscription(self, call: Call[None], subscription_id: str) -> Response[str]:
        self._services.subscriptions().remove(call.caller, subscription_id)
        return no_content()

    def _idempotent[Body](
        self,
        call: Call[Body],
        act: Callable[[Claim | None], Response[str]],
        *,
        on_repeat: Callable[[Any], None] = lambda _: None,
    ) -> Response[str]:
        """Return the response of `act`, or the stored one if the `Idempotency-Key` is known.

        Where the transaction that acts also stores the response, the first call may have ended right after
        it. So a repeat runs `on_repeat` with the stored body, which does the rest.
        """
        key = call.header("idempotency-key")
        if key is None:
            return act(None)
        claim = self._services.idempotency.claim(
            call.caller, key, path=call.event["rawPath"], body=call.event.get("body") or ""
        )
        if isinstance(claim, StoredResponse):
            on_repeat(json.loads(claim.body))
            return Response(
                status_code=claim.status,
                content_type="application/json",
                body=claim.body,
                headers={**claim.headers, "Idempotency-Replayed": "true"},
            )
        try:
            response = act(claim)
        except BaseException:
            claim.release()
            raise
        claim.finish(stored_response(response))
        return response

    def _present(
        self, found: WebhookWithHealth, *, secret: str | None = None, limit: int = _COUNTED_PENDING
    ) -> WebhookOutput:
        webhook = found.webhook
        pending, next_batch = self._services.webhooks.read_pending(found, limit=limit)
        return present_webhook(
            *found,
            pending,
            last_delivery=self._services.deliveries.newest(webhook),
            # The lane of a replay that runs has a marker.
            replay=self._services.replays.running(webhook) if Lane.REPLAY in pending else None,
            event_types=self._services.event_types,
            next_batch=next_batch,
            response_bodies=self._services.deliveries.endpoint_bodies(webhook, found.health.attempts),
            secret=secret,
            previous_secret_expires_at=self._services.webhooks.previous_secret_expires_at(webhook),
        )


def _respond_to_test(claim: Claim | None, result: SampleResultOutput) -> Response[str]:
    """Return the response to a test. What is stored under its key omits the receiver's headers and body.

    They may be anything, the credentials of the request included.
    """
    if claim is not None:
        stored = result.model_copy(update={"response_body": None, "response_headers": None})
        claim.finish(stored_response(json_response(HTTPStatus.OK, stored)))
    return json_response(HTTPStatus.OK, result)
