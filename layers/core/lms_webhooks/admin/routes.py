"""Declare the calls of the API: method, path, status, models and problems of each, in one place.

A handler's decorator is the only place for these. The API routes and checks calls by it, and the OpenAPI
description is generated from it.
"""

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, replace
from http import HTTPStatus
from typing import Any

from aws_lambda_powertools.event_handler import Response
from pydantic import BaseModel
from pydantic.alias_generators import to_camel

from lms_webhooks.admin.caller import Caller
from lms_webhooks.admin.http_responses import if_match_holds, json_response
from lms_webhooks.admin.problems import (
    BodyTooLarge,
    ContentionProblem,
    DeliveryNotFound,
    Forbidden,
    IdempotencyInProgressProblem,
    IdempotencyKeyReused,
    InternalError,
    InvalidFields,
    InvalidJson,
    InvalidParameters,
    PathNotFound,
    Problem,
    RateLimited,
    SubscriptionNotFound,
    UnsupportedMediaType,
    VersionConflictProblem,
    WebhookNotFoundProblem,
)
from lms_webhooks.model.webhooks import Webhook

_OF_EVERY_CALL: tuple[type[Problem], ...] = (
    InvalidParameters,  # a call without query parameters refuses them
    InvalidJson,  # a call without a body refuses one with fields
    Forbidden,
    BodyTooLarge,
    UnsupportedMediaType,
    InvalidFields,
    InternalError,
)
# An id with a character that no id has is no such path.
_OF_A_PATH: dict[str, tuple[type[Problem], ...]] = {
    "<webhook_id>": (WebhookNotFoundProblem, PathNotFound),
    "<delivery_id>": (DeliveryNotFound,),
    "<subscription_id>": (SubscriptionNotFound, PathNotFound),
}
_IF_IDEMPOTENT = (IdempotencyInProgressProblem, IdempotencyKeyReused, ContentionProblem)
_IF_CONDITIONAL = (VersionConflictProblem, ContentionProblem)


@dataclass(frozen=True, slots=True)
class Route:
    """One call of the API: how to reach it, what it takes, and what it returns."""

    method: str
    path: str
    status: HTTPStatus = HTTPStatus.OK
    _: KW_ONLY
    takes: type[BaseModel] | None = None
    """The model of the body."""
    needs_body: bool = True
    query: tuple[str, ...] = ()
    gives: type[BaseModel] | None = None
    """The model of the response."""
    headers: tuple[str, ...] = ()
    """Of the response."""
    is_public: bool = False
    """Whether the call needs no token. Its handler gets the gateway's event."""
    is_idempotent: bool = False
    """Whether the call takes an `Idempotency-Key`."""
    is_conditional: bool = False
    """Whether the call takes an `If-Match`."""
    is_rate_limited: bool = False
    """Whether the call counts as one of the account's sends."""
    raises: tuple[type[Problem], ...] = ()
    """The problems that do not follow from the fields above."""
    handler: str = ""
    """The name of the method that handles the call. `RouteTable.add` sets it."""

    @property
    def operation_id(self) -> str:
        return to_camel(self.handler)

    def problems(self) -> tuple[type[Problem], ...]:
        """Return every problem that this call may respond with, without repeats."""
        found = [
            *_OF_EVERY_CALL,
            *(each for name, problems in _OF_A_PATH.items() if name in self.path for each in problems),
            *(_IF_IDEMPOTENT if self.is_idempotent else ()),
            *(_IF_CONDITIONAL if self.is_conditional else ()),
            *self.raises,
            *([RateLimited] if self.is_rate_limited else ()),
        ]
        return tuple(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class Call[Body]:
    """One call by a caller who may make it, with its valid body."""

    route: Route
    event: Mapping[str, Any]
    """As API Gateway's payload format 2.0 has it."""
    caller: Caller
    body: Body

    def header(self, name: str) -> str | None:
        """Return a header of the call. API Gateway writes names in lower case."""
        value: str | None = self.event.get("headers", {}).get(name)
        return value

    @property
    def query(self) -> Mapping[str, str]:
        return self.event.get("queryStringParameters") or {}

    @property
    def is_expected(self) -> Callable[[Webhook], bool] | None:
        """Whether a webhook has the version of `If-Match`; None without that header."""
        if_match = self.header("if-match")
        return None if if_match is None else lambda webhook: if_match_holds(if_match, webhook)

    def respond(self, model: BaseModel, headers: dict[str, str] | None = None) -> Response[str]:
        """Return the response of a call that succeeded."""
        return json_response(self.route.status, model, headers)


class RouteTable:
    """The routes of the API, in the order in which their handlers are declared."""

    def __init__(self) -> None:
        self.routes: list[Route] = []

    def add[Handler: Callable[..., Response[str]]](self, route: Route) -> Callable[[Handler], Handler]:
        """Declare that the decorated method handles a call."""

        def declare(handler: Handler) -> Handler:
            self.routes.append(replace(route, handler=handler.__name__))
            return handler

        return declare

    def by_path(self) -> dict[str, list[Route]]:
        """Return the routes of each path."""
        found: dict[str, list[Route]] = {}
        for route in self.routes:
            found.setdefault(route.path, []).append(route)
        return found
