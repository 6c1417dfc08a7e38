"""Map HTTP to what the API can do: paths and methods, what each call reads, and which answer it gets."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from pydantic import BaseModel

from lms_webhooks.admin import console_files
from lms_webhooks.admin.caller import Caller, identify
from lms_webhooks.admin.deliveries import Deliveries, DeliveryView
from lms_webhooks.admin.http_responses import (
    SAFETY_HEADERS,
    answer_recorder,
    etag,
    if_match_holds,
    json_response,
    no_content,
    problem_response,
    record_answer,
    stored_response,
)
from lms_webhooks.admin.idempotency import Claim, Idempotency, StoredResponse
from lms_webhooks.admin.inputs import (
    NothingInput,
    ReplayInput,
    SampleInput,
    SubscriptionInput,
    WebhookInput,
    WebhookPatch,
)
from lms_webhooks.admin.outputs import (
    SampleResultOutput,
    SigningSecretOutput,
    SubscriptionList,
    WebhookList,
    WebhookOutput,
    show,
    show_deliveries,
    show_delivery,
    show_event_types,
    show_redelivery,
    show_replay,
    show_stats,
    show_subscription,
)
from lms_webhooks.admin.query_parameters import (
    read_delivery_id,
    read_delivery_query,
    read_hours,
    read_no_parameters,
)
from lms_webhooks.admin.replays import ReplayService, audit_redelivery, audit_replay
from lms_webhooks.admin.request_body import read_body
from lms_webhooks.admin.stats import DEFAULT_HOURS, MAX_HOURS, StatsReader
from lms_webhooks.admin.webhooks import WebhookService, audit_creation, audit_rotation
from lms_webhooks.aws.clients import is_conflict
from lms_webhooks.model.webhooks import SignatureAuthentication, Webhook
from lms_webhooks.observability import logger
from lms_webhooks.problems import (
    Contention,
    Forbidden,
    InternalError,
    MethodNotAllowed,
    PathNotFound,
    Problem,
)
from lms_webhooks.settings import AdminApiSettings
from lms_webhooks.stores.replays import Replay
from lms_webhooks.stores.webhooks import WebhookWithHealth

if TYPE_CHECKING:
    from lms_webhooks.admin.sample_sends import SampleSender
    from lms_webhooks.admin.subscriptions import Subscriptions

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

ROUTES: dict[str, dict[str, str]] = {
    "/openapi.json": {"GET": "get_openapi"},
    "/console": {"GET": "get_console"},
    "/console/<name>": {"GET": "get_console_file"},
    "/v1/event-types": {"GET": "list_event_types"},
    "/v1/webhooks": {"GET": "list_webhooks", "POST": "create_webhook"},
    "/v1/webhooks/test": {"POST": "test_unsaved"},
    "/v1/webhooks/<webhook_id>": {
        "GET": "get_webhook",
        "PATCH": "change_webhook",
        "DELETE": "delete_webhook",
    },
    "/v1/webhooks/<webhook_id>/test": {"POST": "test_saved"},
    "/v1/webhooks/<webhook_id>/signature": {"POST": "rotate_secret"},
    "/v1/webhooks/<webhook_id>/deliveries": {"GET": "list_deliveries"},
    "/v1/webhooks/<webhook_id>/deliveries/<delivery_id>": {"GET": "get_delivery"},
    "/v1/webhooks/<webhook_id>/deliveries/<delivery_id>/redeliver": {"POST": "redeliver"},
    "/v1/webhooks/<webhook_id>/stats": {"GET": "get_stats"},
    "/v1/webhooks/<webhook_id>/replay": {
        "GET": "get_replay",
        "POST": "start_replay",
        "DELETE": "cancel_replay",
    },
    "/v1/notice-subscriptions": {"GET": "list_subscriptions", "POST": "add_subscription"},
    "/v1/notice-subscriptions/<subscription_id>": {"DELETE": "remove_subscription"},
}
"""Each path, its methods, and the method of `_Calls` that answers."""

_DESCRIPTION = Path(__file__).with_name("openapi.json")
_COUNTED_PENDING = 1000  # events a lane: about a megabyte of reading, once for one webhook
_LISTED_PENDING = 100  # for each of five webhooks

type _Handler = Callable[..., Response[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What calls are answered with. The first call that needs them makes `trials` and `subscriptions`."""

    registrations: WebhookService
    deliveries: Deliveries
    resends: ReplayService
    stats: StatsReader
    idempotency: Idempotency
    trials: "Callable[[], SampleSender]"
    subscriptions: "Callable[[], Subscriptions]"


def build_api(services: Services, settings: AdminApiSettings) -> APIGatewayHttpResolver:
    """The admin API, ready to resolve events of API Gateway's payload format 2.0."""
    # Powertools' own validation is left off: its import is a fifth of the cold start again.
    app = _Resolver()
    calls = _Calls(app, services, settings)
    for path, handlers in ROUTES.items():
        for method, name in handlers.items():
            # Nothing else: where a secret stands beside what a caller wrote, the length would tell of it.
            app.route(path, method=method, compress=path.startswith("/console"))(getattr(calls, name))
        others = [method for method in _METHODS if method not in handlers]
        app.route(path, method=others)(_refuse_method(tuple(handlers)))

    def fault(error: Exception) -> Response[str]:
        if is_conflict(error):
            return problem_response(Contention())
        logger.exception("The call failed")
        return problem_response(InternalError(app.lambda_context.aws_request_id))

    app.not_found(lambda _: problem_response(_nothing_there(app.current_event.raw_event)))
    app.exception_handler(Problem)(problem_response)
    app.exception_handler(Exception)(fault)
    return app


class _Resolver(APIGatewayHttpResolver):
    """One whose paths end where they end: `$`, which Powertools writes, lets a line break follow."""

    @staticmethod
    def _compile_regex(rule: str, base_regex: str = r"^{}\Z") -> re.Pattern[str]:
        pattern: re.Pattern[str] = APIGatewayHttpResolver._compile_regex(rule, base_regex)  # noqa: SLF001
        return pattern


class _Calls:
    """One method a call. Powertools keeps the current event on the app, so there they find it."""

    def __init__(self, app: APIGatewayHttpResolver, services: Services, settings: AdminApiSettings) -> None:
        self._app = app
        self._services = services
        self._settings = settings

    def get_openapi(self) -> Response[str]:
        """For everybody: it says nothing of anybody."""
        return Response(
            status_code=HTTPStatus.OK,
            content_type="application/json",
            body=_DESCRIPTION.read_text(),
            headers={"Cache-Control": "public, max-age=300", **SAFETY_HEADERS},
        )

    def get_console(self) -> Response[str]:
        return self.get_console_file(console_files.START)

    def get_console_file(self, name: str) -> Response[str]:
        """For everybody: who looks at it has yet to sign in."""
        page = console_files.page(name, self._settings)
        is_known = page.etag in (self._header("if-none-match") or "")
        return Response(
            status_code=HTTPStatus.NOT_MODIFIED if is_known else HTTPStatus.OK,
            content_type=page.content_type,
            body="" if is_known else page.text,
            headers={**console_files.headers(self._settings), "ETag": page.etag},
        )

    def list_event_types(self) -> Response[str]:
        self._caller()
        return json_response(HTTPStatus.OK, show_event_types())

    def create_webhook(self) -> Response[str]:
        caller = self._caller(reads_body=True)
        wanted = self._read(WebhookInput)

        def answer(created: WebhookWithHealth, secret: str | None) -> Response[str]:
            webhook = created.webhook
            headers = {"Location": f"/v1/webhooks/{webhook.webhook_id}", "ETag": etag(webhook)}
            return json_response(HTTPStatus.CREATED, show(*created, {}, secret=secret), headers)

        def again(body: Any) -> None:
            audit_creation(caller, wanted, body["webhookId"], repeated=True)
            self._services.registrations.await_readers()

        return self._once(
            caller,
            lambda claim: answer(
                *self._services.registrations.create(caller, wanted, record=answer_recorder(claim, answer))
            ),
            again=again,
        )

    def list_webhooks(self) -> Response[str]:
        webhooks = self._services.registrations.all(self._caller())
        return json_response(
            HTTPStatus.OK,
            WebhookList(webhooks=[self._show(each, limit=_LISTED_PENDING) for each in webhooks]),
        )

    def get_webhook(self, webhook_id: str) -> Response[str]:
        found = self._services.registrations.get(self._caller(), webhook_id)
        return json_response(HTTPStatus.OK, self._show(found), {"ETag": etag(found.webhook)})

    def change_webhook(self, webhook_id: str) -> Response[str]:
        caller = self._caller(reads_body=True)
        change = self._read(WebhookPatch)
        changed, secret = self._services.registrations.change(
            caller, webhook_id, change, is_expected=self._expectation()
        )
        answer = self._show(changed, secret=secret)
        return json_response(HTTPStatus.OK, answer, {"ETag": etag(changed.webhook)})

    def delete_webhook(self, webhook_id: str) -> Response[str]:
        self._services.registrations.delete(self._caller(), webhook_id, is_expected=self._expectation())
        return no_content()

    def rotate_secret(self, webhook_id: str) -> Response[str]:
        caller = self._caller()
        is_expected = self._expectation()

        def answer(registered: WebhookWithHealth, secret: str | None) -> Response[str]:
            authentication = registered.webhook.authentication
            assert isinstance(authentication, SignatureAuthentication)
            assert authentication.previous_secret_until is not None
            assert secret is not None
            given = SigningSecretOutput(
                webhook_id=webhook_id,
                secret=secret,
                previous_secret_expires_at=authentication.previous_secret_until,
            )
            file_name = f"{webhook_id}-signing-secret.json"
            headers = {
                "Content-Disposition": f'attachment; filename="{file_name}"',
                "ETag": etag(registered.webhook),
            }
            return json_response(HTTPStatus.OK, given, headers)

        def again(_: Any) -> None:
            audit_rotation(caller, webhook_id, repeated=True)
            self._services.registrations.await_readers()

        return self._once(
            caller,
            lambda claim: answer(
                *self._services.registrations.rotate_secret(
                    caller, webhook_id, is_expected=is_expected, record=answer_recorder(claim, answer)
                )
            ),
            again=again,
        )

    def test_unsaved(self) -> Response[str]:
        caller = self._caller(reads_body=True)
        wanted = self._read(WebhookInput)
        return self._once(
            caller, lambda claim: _tried(claim, self._services.trials().send_to_draft(caller, wanted))
        )

    def test_saved(self, webhook_id: str) -> Response[str]:
        caller = self._caller(reads_body=True)
        # A body is allowed, not needed: there is nothing that it must say.
        taken = self._read(SampleInput) if self._event.get("body") else SampleInput()
        return self._once(
            caller,
            lambda claim: _tried(
                claim, self._services.trials().send_to_saved(caller, webhook_id, taken.event_name)
            ),
        )

    def list_deliveries(self, webhook_id: str) -> Response[str]:
        caller = self._caller(reads_query=True)
        query = read_delivery_query(
            self._event.get("queryStringParameters") or {},
            account_id=caller.account_id,
            webhook_id=webhook_id,
        )
        return json_response(
            HTTPStatus.OK, show_deliveries(self._services.deliveries.page(caller, webhook_id, query))
        )

    def get_delivery(self, webhook_id: str, delivery_id: str) -> Response[str]:
        shown, waiting = self._services.deliveries.find(
            self._caller(), webhook_id, read_delivery_id(delivery_id)
        )
        answer = json_response(HTTPStatus.OK, show_delivery(shown))
        # The event's own text: parsed and written again, 1.10 would become 1.1.
        answer.body = f'{(answer.body or "")[:-1]},"event":{waiting.event.text}}}'
        return answer

    def redeliver(self, webhook_id: str, delivery_id: str) -> Response[str]:
        caller = self._caller()
        sort_key = read_delivery_id(delivery_id)
        location = {"Location": f"/v1/webhooks/{webhook_id}/deliveries/{delivery_id}"}

        def answer(shown: DeliveryView) -> Response[str]:
            return json_response(HTTPStatus.ACCEPTED, show_redelivery(shown), location)

        return self._once(
            caller,
            lambda claim: answer(
                self._services.resends.redeliver(
                    caller, webhook_id, sort_key, record=lambda shown: record_answer(claim, answer(shown))
                )
            ),
            again=lambda _: audit_redelivery(caller, webhook_id, sort_key, repeated=True),
        )

    def start_replay(self, webhook_id: str) -> Response[str]:
        caller = self._caller(reads_body=True)
        wanted = self._read(ReplayInput)
        location = {"Location": f"/v1/webhooks/{webhook_id}/replay"}

        def answer(replay: Replay) -> Response[str]:
            return json_response(HTTPStatus.ACCEPTED, show_replay(replay), location)

        return self._once(
            caller,
            lambda claim: answer(
                self._services.resends.start(
                    caller, webhook_id, wanted, record=lambda replay: record_answer(claim, answer(replay))
                )
            ),
            again=lambda body: audit_replay(caller, webhook_id, body["replayId"], repeated=True),
        )

    def cancel_replay(self, webhook_id: str) -> Response[str]:
        self._services.resends.cancel(self._caller(), webhook_id)
        return no_content()

    def get_replay(self, webhook_id: str) -> Response[str]:
        return json_response(
            HTTPStatus.OK, show_replay(self._services.resends.progress(self._caller(), webhook_id))
        )

    def get_stats(self, webhook_id: str) -> Response[str]:
        caller = self._caller(reads_query=True)
        hours = read_hours(
            self._event.get("queryStringParameters") or {}, default=DEFAULT_HOURS, maximum=MAX_HOURS
        )
        return json_response(
            HTTPStatus.OK, show_stats(self._services.stats.read(caller, webhook_id, hours=hours))
        )

    def list_subscriptions(self) -> Response[str]:
        caller = self._caller()
        found = self._services.subscriptions().all(caller)
        return json_response(
            HTTPStatus.OK, SubscriptionList(subscriptions=[show_subscription(each) for each in found])
        )

    def add_subscription(self) -> Response[str]:
        caller = self._caller(reads_body=True)
        wanted = self._read(SubscriptionInput)

        return self._once(
            caller,
            lambda _: json_response(
                HTTPStatus.CREATED,
                show_subscription(self._services.subscriptions().add(caller, wanted.email)),
            ),
        )

    def remove_subscription(self, subscription_id: str) -> Response[str]:
        self._services.subscriptions().remove(self._caller(), subscription_id)
        return no_content()

    @property
    def _event(self) -> dict[str, Any]:
        return self._app.current_event.raw_event

    def _header(self, name: str) -> str | None:
        """A header of the call; API Gateway writes names in lower case."""
        value: str | None = self._event.get("headers", {}).get(name)
        return value

    def _expectation(self) -> Callable[[Webhook], bool] | None:
        """Whether a webhook is what the caller takes it for; None when they do not say."""
        if_match = self._header("if-match")
        return None if if_match is None else lambda webhook: if_match_holds(if_match, webhook)

    def _once(
        self,
        caller: Caller,
        call: Callable[[Claim | None], Response[str]],
        *,
        again: Callable[[Any], None] = lambda _: None,
    ) -> Response[str]:
        """Make a call; under an Idempotency-Key not again, but answer what it answered then.

        Where the answer is written down with what was done, whoever did it may not have got beyond that:
        `again` does the rest, with the body of the answer.
        """
        key = self._header("idempotency-key")
        if key is None:
            return call(None)
        claim = self._services.idempotency.claim(
            caller, key, path=self._event["rawPath"], body=self._event.get("body") or ""
        )
        if isinstance(claim, StoredResponse):
            again(json.loads(claim.body))
            return Response(
                status_code=claim.status,
                content_type="application/json",
                body=claim.body,
                headers={**claim.headers, "Idempotency-Replayed": "true"},
            )
        try:
            answer = call(claim)
        except BaseException:
            claim.release()
            raise
        claim.finish(stored_response(answer))
        return answer

    def _show(
        self, registered: WebhookWithHealth, *, secret: str | None = None, limit: int = _COUNTED_PENDING
    ) -> WebhookOutput:
        pending = self._services.registrations.count_pending(registered.webhook, limit=limit)
        return show(
            *registered,
            pending,
            secret=secret,
            previous_secret_expires_at=self._services.registrations.overlap_until(registered.webhook),
        )

    def _read[Model: BaseModel](self, model: type[Model]) -> Model:
        return read_body(
            model,
            self._event,
            context={"loopback_allowed": self._settings.loopback_targets_allowed},
        )

    def _caller(self, *, reads_query: bool = False, reads_body: bool = False) -> Caller:
        """Who calls, once it is sure that they may, and that they say nothing that the call does not read.

        Only GET is open to those who cannot write.
        """
        event = self._event
        caller = identify(_claims(event), self._settings)
        if event["requestContext"]["http"]["method"] != "GET" and not caller.can_write:
            raise Forbidden(f"To change anything the token needs the role {self._settings.admin_role}.")
        if not reads_query:
            read_no_parameters(event.get("queryStringParameters") or {})
        # Nothing, or an object without fields: many clients send one with every POST.
        if not reads_body and event.get("body"):
            self._read(NothingInput)
        return caller


def _claims(event: dict[str, Any]) -> dict[str, object]:
    authorizer = event["requestContext"].get("authorizer") or {}
    claims: dict[str, object] = authorizer.get("jwt", {}).get("claims", {})
    return claims


def _tried(claim: Claim | None, trial: SampleResultOutput) -> Response[str]:
    """What became of a test send. Of a keyed one the receiver's own words are not kept: they may be anything,
    the request's credentials too."""
    if claim is not None:
        claim.finish(
            stored_response(json_response(HTTPStatus.OK, trial.model_copy(update={"response_body": None})))
        )
    return json_response(HTTPStatus.OK, trial)


def _nothing_there(event: dict[str, Any]) -> Problem:
    """Why no route took a call: the path is none of ours, or the method is one that HTTP has got since."""
    for path, handlers in ROUTES.items():
        is_path = re.fullmatch(re.sub(r"<\w+>", "[^/]+", path), event["rawPath"])
        if is_path and event["requestContext"]["http"]["method"] not in handlers:
            return MethodNotAllowed(tuple(handlers))
    return PathNotFound()


def _refuse_method(allowed: tuple[str, ...]) -> _Handler:
    def refuse(**_: str) -> Response[str]:
        raise MethodNotAllowed(allowed)

    return refuse
