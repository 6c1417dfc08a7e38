"""Build the admin API: route calls to their handlers, check who calls, and return errors as problems."""

import re
from collections.abc import Callable, Mapping
from http import HTTPMethod
from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from pydantic import BaseModel

from lms_webhooks.admin.caller import identify
from lms_webhooks.admin.handlers import ROUTES, Handlers, Services
from lms_webhooks.admin.http_responses import problem_response
from lms_webhooks.admin.inputs import EmptyInput
from lms_webhooks.admin.problems import (
    ContentionProblem,
    Forbidden,
    InternalError,
    MethodNotAllowed,
    PathNotFound,
    Problem,
    problem_for,
)
from lms_webhooks.admin.query_parameters import read_no_parameters
from lms_webhooks.admin.request_body import read_body
from lms_webhooks.admin.routes import Call, Route
from lms_webhooks.aws.clients import is_conflict
from lms_webhooks.errors import StoreError
from lms_webhooks.observability import logger
from lms_webhooks.settings import AdminApiSettings

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

type _Handler = Callable[..., Response[str]]


def build_api(services: Services, settings: AdminApiSettings) -> APIGatewayHttpResolver:
    """Return the admin API. It resolves events of API Gateway's payload format 2.0."""
    # Powertools' own validation is left off: its import is a fifth of the cold start again.
    app = _Resolver()
    handlers = Handlers(services, settings)
    for path, routes in ROUTES.by_path().items():
        for route in routes:
            handle = _with_call(app, route, getattr(handlers, route.handler), services, settings)
            # Only the console is compressed. Where a secret stands beside a caller's text, the length of the
            # compressed response would reveal it.
            app.route(path, method=route.method, compress=path.startswith("/console"))(handle)
        allowed = tuple(route.method for route in routes)
        others = [method for method in _METHODS if method not in allowed]
        app.route(path, method=others)(_refuse_method(allowed))

    def respond_to_error(error: Exception) -> Response[str]:
        if is_conflict(error):
            return problem_response(ContentionProblem())
        logger.exception("The call failed")
        return problem_response(InternalError(app.lambda_context.aws_request_id))

    app.not_found(lambda _: problem_response(_not_found(app.current_event.raw_event)))
    app.exception_handler(Problem)(problem_response)
    app.exception_handler(StoreError)(lambda error: problem_response(problem_for(error)))
    app.exception_handler(Exception)(respond_to_error)
    return app


class _Resolver(APIGatewayHttpResolver):
    """A resolver whose paths end where they end: Powertools' `$` lets a line break follow."""

    @staticmethod
    def _compile_regex(rule: str, base_regex: str = r"^{}\Z") -> re.Pattern[str]:
        pattern: re.Pattern[str] = APIGatewayHttpResolver._compile_regex(rule, base_regex)  # noqa: SLF001
        return pattern


def _with_call(
    app: APIGatewayHttpResolver,
    route: Route,
    handler: _Handler,
    services: Services,
    settings: AdminApiSettings,
) -> _Handler:
    """Return what Powertools calls.

    It checks the current event, hands it to `handler`, and keeps what that changed as the account's activity.
    """

    def handle(**ids: str) -> Response[str]:
        event = app.current_event.raw_event
        if route.is_public:
            return handler(event, **ids)
        call = _checked(event, route, services, settings)
        try:
            return handler(call, **ids)
        finally:  # a call that fails may have made its change before
            services.activity.record(call.caller)

    return handle


def _checked(
    event: Mapping[str, Any], route: Route, services: Services, settings: AdminApiSettings
) -> Call[Any]:
    """Return the call of `event`, if its caller may make it and it says nothing that the route ignores.

    Raises:
        Forbidden: only GET is open to callers who cannot write.
        Problem: query parameters or the body break a rule.
    """
    caller = identify(_claims(event), settings)
    if route.method != HTTPMethod.GET and not caller.can_write:
        raise Forbidden(f"To change anything the token needs the role {settings.admin_role}.")
    if not route.query:
        read_no_parameters(event.get("queryStringParameters") or {})
    context = {
        "loopback_allowed": settings.loopback_targets_allowed,
        "event_types": services.event_types,
        "batch_every_minutes": settings.batch_every_minutes,
    }
    return Call(route, event, caller, _body(event, route, context))


def _body(event: Mapping[str, Any], route: Route, context: Mapping[str, object]) -> BaseModel | None:
    if route.takes is None:
        # Nothing, or an object without fields: many clients send one with every POST.
        if event.get("body"):
            read_body(EmptyInput, event, context=context)
        return None
    if not route.needs_body and not event.get("body"):
        return route.takes()
    return read_body(route.takes, event, context=context)


def _claims(event: Mapping[str, Any]) -> dict[str, object]:
    authorizer = event["requestContext"].get("authorizer") or {}
    claims: dict[str, object] = authorizer.get("jwt", {}).get("claims", {})
    return claims


def _not_found(event: Mapping[str, Any]) -> Problem:
    """Return why no route matches: the path is unknown, or the method is not in `_METHODS`."""
    for path, routes in ROUTES.by_path().items():
        allowed = tuple(route.method for route in routes)
        is_path = re.fullmatch(re.sub(r"<\w+>", "[^/]+", path), event["rawPath"])
        if is_path and event["requestContext"]["http"]["method"] not in allowed:
            return MethodNotAllowed(allowed)
    return PathNotFound()


def _refuse_method(allowed: tuple[str, ...]) -> _Handler:
    def refuse(**_: str) -> Response[str]:
        raise MethodNotAllowed(allowed)

    return refuse
