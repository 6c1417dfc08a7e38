"""Map HTTP to registrations: paths, methods, headers, status codes and problem documents."""

import json
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from pydantic import BaseModel

from lms_webhooks.admin.bodies import read_body
from lms_webhooks.admin.caller import Caller, identify
from lms_webhooks.admin.models import (
    TrialTaken,
    WebhookChange,
    WebhookGiven,
    WebhookList,
    WebhookTaken,
    show,
    show_event_types,
)
from lms_webhooks.admin.registrations import Registrations
from lms_webhooks.observability import logger
from lms_webhooks.problems import Forbidden, InternalError, MethodNotAllowed, NoSuchPath, Problem
from lms_webhooks.settings import AdminApiSettings
from lms_webhooks.webhook_store import Registered
from lms_webhooks.webhooks import Webhook

if TYPE_CHECKING:
    from lms_webhooks.admin.trials import Trials

# An answer may hold a secret, and is only good for the token that asked.
_NOT_STORED = {"Cache-Control": "no-store"}
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

_COUNTED_WAITING = 1000  # events a lane: about a megabyte of reading, once for one webhook
_LISTED_WAITING = 100  # for each of five webhooks

type _Handler = Callable[..., Response[str]]


def build_api(
    registrations: Registrations, settings: AdminApiSettings, *, trials: "Callable[[], Trials]"
) -> APIGatewayHttpResolver:
    """The admin API, ready to resolve events of API Gateway's payload format 2.0.

    `trials` is called by the calls that send, and makes what they need at the first of them.
    """
    # Powertools' own validation is left off: its import is a fifth of the cold start again.
    app = APIGatewayHttpResolver()
    calls = _Calls(app, registrations, settings, trials)
    routes: dict[str, dict[str, _Handler]] = {
        "/v1/event-types": {"GET": calls.list_event_types},
        "/v1/webhooks": {"GET": calls.list_webhooks, "POST": calls.create_webhook},
        "/v1/webhooks/test": {"POST": calls.test_unsaved},
        "/v1/webhooks/<webhook_id>": {
            "GET": calls.get_webhook,
            "PATCH": calls.change_webhook,
            "DELETE": calls.delete_webhook,
        },
        "/v1/webhooks/<webhook_id>/test": {"POST": calls.test_saved},
    }
    for path, handlers in routes.items():
        for method, handler in handlers.items():
            app.route(path, method=method)(handler)
        others = [method for method in _METHODS if method not in handlers]
        app.route(path, method=others)(_refuse_method(tuple(handlers)))

    def fault(_: Exception) -> Response[str]:
        logger.exception("The call failed")
        return _problem_answer(InternalError(app.lambda_context.aws_request_id))

    app.not_found(lambda _: _problem_answer(NoSuchPath()))
    app.exception_handler(Problem)(_problem_answer)
    app.exception_handler(Exception)(fault)
    return app


class _Calls:
    """One method a call. Powertools keeps the current event on the app, so there they find it."""

    def __init__(
        self,
        app: APIGatewayHttpResolver,
        registrations: Registrations,
        settings: AdminApiSettings,
        trials: "Callable[[], Trials]",
    ) -> None:
        self._app = app
        self._registrations = registrations
        self._settings = settings
        self._trials = trials

    def list_event_types(self) -> Response[str]:
        self._caller()
        return _answer(HTTPStatus.OK, show_event_types())

    def create_webhook(self) -> Response[str]:
        caller = self._caller()
        created, secret = self._registrations.create(caller, self._read(WebhookTaken))
        webhook = created.webhook
        headers = {"Location": f"/v1/webhooks/{webhook.webhook_id}", "ETag": _etag(webhook)}
        return _answer(HTTPStatus.CREATED, show(*created, {}, secret=secret), headers)

    def list_webhooks(self) -> Response[str]:
        webhooks = self._registrations.all(self._caller())
        return _answer(
            HTTPStatus.OK,
            WebhookList(webhooks=[self._show(each, limit=_LISTED_WAITING) for each in webhooks]),
        )

    def get_webhook(self, webhook_id: str) -> Response[str]:
        found = self._registrations.get(self._caller(), webhook_id)
        return _answer(HTTPStatus.OK, self._show(found), {"ETag": _etag(found.webhook)})

    def change_webhook(self, webhook_id: str) -> Response[str]:
        caller = self._caller()
        change = self._read(WebhookChange)
        expected = self._app.current_event.raw_event.get("headers", {}).get("if-match")
        changed, secret = self._registrations.change(
            caller,
            webhook_id,
            change,
            is_expected=None if expected is None else lambda webhook: _matches(expected, webhook),
        )
        answer = self._show(changed, secret=secret)
        return _answer(HTTPStatus.OK, answer, {"ETag": _etag(changed.webhook)})

    def delete_webhook(self, webhook_id: str) -> Response[str]:
        self._registrations.delete(self._caller(), webhook_id)
        return Response(status_code=HTTPStatus.NO_CONTENT, body="", headers=_NOT_STORED)

    def test_unsaved(self) -> Response[str]:
        caller = self._caller()
        return _answer(HTTPStatus.OK, self._trials().of_unsaved(caller, self._read(WebhookTaken)))

    def test_saved(self, webhook_id: str) -> Response[str]:
        caller = self._caller()
        # A body is allowed, not needed: there is nothing that it must say.
        taken = self._read(TrialTaken) if self._app.current_event.raw_event.get("body") else TrialTaken()
        return _answer(HTTPStatus.OK, self._trials().of_saved(caller, webhook_id, taken.event_name))

    def _show(
        self, registered: Registered, *, secret: str | None = None, limit: int = _COUNTED_WAITING
    ) -> WebhookGiven:
        waiting = self._registrations.count_waiting(registered.webhook, limit=limit)
        return show(*registered, waiting, secret=secret)

    def _read[Model: BaseModel](self, model: type[Model]) -> Model:
        return read_body(
            model,
            self._app.current_event.raw_event,
            context={"loopback_allowed": self._settings.loopback_targets_allowed},
        )

    def _caller(self) -> Caller:
        """Who calls, once it is sure that they may: only GET is open to those who cannot write."""
        event = self._app.current_event.raw_event
        caller = identify(_claims(event), self._settings)
        if event["requestContext"]["http"]["method"] != "GET" and not caller.can_write:
            raise Forbidden(f"To change anything the token needs the role {self._settings.admin_role}.")
        return caller


def _claims(event: dict[str, Any]) -> dict[str, object]:
    authorizer = event["requestContext"].get("authorizer") or {}
    claims: dict[str, object] = authorizer.get("jwt", {}).get("claims", {})
    return claims


def _refuse_method(allowed: tuple[str, ...]) -> _Handler:
    def refuse(**_: str) -> Response[str]:
        raise MethodNotAllowed(allowed)

    return refuse


def _etag(webhook: Webhook) -> str:
    return f'"{webhook.version}"'


def _matches(if_match: str, webhook: Webhook) -> bool:
    """Whether an `If-Match` header (RFC 9110 13.1.1) holds for `webhook`. A weak tag never does."""
    tags = [tag.strip() for tag in if_match.split(",")]
    return "*" in tags or _etag(webhook) in tags


def _answer(status: HTTPStatus, model: BaseModel, headers: dict[str, str] | None = None) -> Response[str]:
    return Response(
        status_code=status,
        content_type="application/json",
        body=model.model_dump_json(by_alias=True, exclude_none=True),
        headers={**_NOT_STORED, **(headers or {})},
    )


def _problem_answer(problem: Problem) -> Response[str]:
    return Response(
        status_code=problem.status,
        content_type="application/problem+json",
        body=json.dumps(problem.document()),
        headers={**_NOT_STORED, **problem.headers},
    )
