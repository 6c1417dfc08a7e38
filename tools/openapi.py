"""Generate the OpenAPI description of the admin API, from its routes, models and problems.

A test fails while the committed description differs from what this generates. The tables here add the prose,
and the rules that are code in the models.
"""

import ast
import inspect
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from pydantic import BaseModel
from pydantic.alias_generators import to_camel
from pydantic.json_schema import models_json_schema

from lms_webhooks.admin import inputs, outputs, query_parameters, stats
from lms_webhooks.admin.handlers import ROUTES
from lms_webhooks.admin.problems import Problem
from lms_webhooks.admin.routes import Route
from lms_webhooks.drainer import drain_run
from lms_webhooks.model.deliveries import Outcome
from lms_webhooks.model.event_types import EVENT_TYPES
from lms_webhooks.model.events import MAX_EVENT_ID_BYTES
from lms_webhooks.model.slots import MAX_EVERY_MINUTES, MIN_EVERY_MINUTES
from lms_webhooks.timestamps import RFC3339
from tools.progress import REPOSITORY

COMMITTED = REPOSITORY / "layers" / "core" / "lms_webhooks" / "admin" / "openapi.json"
"""The API serves it from there."""

type Schema = dict[str, Any]


@dataclass(frozen=True)
class Text:
    """The prose of one call. The facts are in its route."""

    tag: str
    summary: str
    description: str = ""
    links: dict[str, Schema] = field(default_factory=dict)


_COUNTED = " It counts as a send. An account has ten sends in any 60 seconds."

_WEBHOOK_LINKS: dict[str, Schema] = {
    name: {"operationId": name, "parameters": {"webhookId": "$response.body#/webhookId"}}
    for name in (
        "getWebhook",
        "updateWebhook",
        "deleteWebhook",
        "testWebhook",
        "retryWebhook",
        "rotateSigningSecret",
        "listDeliveries",
        "startReplay",
        "getStats",
    )
}
_DELIVERY_LINKS: dict[str, Schema] = {
    name: {
        "operationId": name,
        "parameters": {
            "webhookId": "$request.path.webhookId",
            "deliveryId": "$response.body#/deliveries/0/deliveryId",
        },
    }
    for name in ("getDelivery", "redeliver")
}
_ADDED_SUBSCRIPTION_LINKS: dict[str, Schema] = {
    "deleteNotificationSubscription": {
        "operationId": "deleteNotificationSubscription",
        "parameters": {"subscriptionId": "$response.body#/subscriptionId"},
    }
}
_SUBSCRIPTION_LINKS: dict[str, Schema] = {
    "deleteNotificationSubscription": {
        "operationId": "deleteNotificationSubscription",
        "parameters": {"subscriptionId": "$response.body#/subscriptions/0/subscriptionId"},
    }
}
_REPLAY_LINKS: dict[str, Schema] = {
    name: {"operationId": name, "parameters": {"webhookId": "$request.path.webhookId"}}
    for name in ("getReplay", "cancelReplay")
}

TEXTS: dict[str, Text] = {
    "list_event_types": Text(
        "Event types", "List the event types", links={"createWebhook": {"operationId": "createWebhook"}}
    ),
    "list_webhooks": Text("Webhooks", "List the webhooks of the account, oldest first"),
    "create_webhook": Text(
        "Webhooks",
        "Create a webhook",
        "Only this response contains the signing secret of a signature webhook." + _COUNTED,
        _WEBHOOK_LINKS,
    ),
    "test_draft_webhook": Text(
        "Webhooks",
        "Send a sample to a webhook that is not saved",
        "The signature uses a secret that is thrown away. Only that of a saved webhook can be verified."
        + _COUNTED,
    ),
    "get_webhook": Text("Webhooks", "Get a webhook"),
    "update_webhook": Text(
        "Webhooks",
        "Change some fields of a webhook",
        "Fields that are left out stay. A change of targetUrl, authentication or status resets the health. So"
        " does status active for a webhook that the system disabled. Give authentication whole; a webhook"
        " that signs already keeps its secret. If scheme, host or port of targetUrl change, give the password"
        " again."
        " A change of targetUrl, authentication or status that leaves the webhook active counts as a send. An"
        " account has ten sends in any 60 seconds.",
    ),
    "delete_webhook": Text(
        "Webhooks",
        "Delete a webhook",
        "No request starts after this response. One that had started may still arrive, within"
        f" {drain_run.TIMEOUTS.total_seconds} seconds.",
    ),
    "test_webhook": Text(
        "Webhooks",
        "Send a sample to a webhook, whatever its status",
        "A repeat under the same Idempotency-Key gets the first response without its responseBody and"
        " responseHeaders." + _COUNTED,
    ),
    "retry_webhook": Text(
        "Webhooks",
        "Probe a failing endpoint now",
        "One request goes out at once, with the first pending event. If it gets a 2xx, the others follow. A"
        " failure counts like any other, and the pause until the next probe grows. While a request is under"
        " way, no other is scheduled." + _COUNTED,
    ),
    "rotate_signing_secret": Text(
        "Webhooks",
        "Make a new signing secret, as a JSON file to download",
        "The previous secret signs too for 24 hours, and any older one no longer. While two sign, send"
        " If-Match to make another. Every request that begins after this response carries both signatures.",
    ),
    "list_deliveries": Text(
        "Deliveries",
        "List the deliveries of a webhook, newest first",
        "A short page need not be the last. Go on while there is a nextCursor.",
        _DELIVERY_LINKS,
    ),
    "get_delivery": Text("Deliveries", "Get a delivery with its event and attempts"),
    "redeliver": Text(
        "Deliveries",
        "Send one event again",
        "It goes out after the pending events. It adds an attempt, and a delivered event stays delivered."
        + _COUNTED,
    ),
    "get_stats": Text(
        "Deliveries",
        "Get counts and latency by hour, and the pending events",
        "By the hour of the events' own time. One call counts a bounded number of events: see countedFrom.",
    ),
    "preview_replay": Text(
        "Deliveries",
        "Count what a replay would send",
        "Sends nothing. One call counts a bounded part of the history: with atLeast there may be more.",
    ),
    "start_replay": Text(
        "Deliveries",
        "Send part of the history again, oldest event first",
        "A webhook has one replay at a time. It goes out after the pending events. Without `to`, or with a"
        " later one, it covers events until now." + _COUNTED,
        _REPLAY_LINKS,
    ),
    "list_activity": Text(
        "Activity",
        "List who changed what in the account, newest first",
        "The last 90 days. A short page need not be the last. Go on while there is a nextCursor.",
    ),
    "list_notification_subscriptions": Text(
        "Notifications", "List who gets notifications by mail", links=_SUBSCRIPTION_LINKS
    ),
    "create_notification_subscription": Text(
        "Notifications",
        "Mail a person when a webhook fails, keeps failing, is disabled, or works again",
        "The person first gets a link to confirm with, good for two days. The same call again sends another"
        " link. An account has at most ten subscriptions. A mailbox gets at most three links a day, and an"
        " account mails at most 20." + _COUNTED,
        _ADDED_SUBSCRIPTION_LINKS,
    ),
    "delete_notification_subscription": Text("Notifications", "Remove a notification subscription"),
    "cancel_replay": Text(
        "Deliveries", "Stop the webhook's replay where it is", "A request that had started may still arrive."
    ),
    "get_replay": Text("Deliveries", "Get the progress of the webhook's replay, or the last one"),
}
"""By the handler of the call. Public calls have none."""

_MOMENT: Schema = {"type": "string", "format": "date-time", "pattern": f"^{RFC3339}$"}
_EVENT_NAME: Schema = {"type": "string", "enum": list(EVENT_TYPES)}
_PARAMETERS: dict[str, Schema] = {
    "webhookId": {
        "in": "path",
        "required": True,
        "schema": {"type": "string", "pattern": "^wh_[A-Za-z0-9_-]{22}$"},
    },
    "deliveryId": {
        "in": "path",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{20,1400}$"},
    },
    "subscriptionId": {
        "in": "path",
        "required": True,
        "schema": {"type": "string", "pattern": "^ns_[A-Za-z0-9_-]{22}$"},
    },
    "If-Match": {
        "in": "header",
        "description": "The ETag that you read. If the webhook has changed since, the response is 412.",
        "schema": {"type": "string"},
        "example": '"3-a3963681"',
    },
    "Idempotency-Key": {
        "in": "header",
        "description": "Such as a UUID. The same call under the same key is made once in 24 hours.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]([ -~]*[!-~])?$"},
    },
    "status": {
        "in": "query",
        "description": "Deliveries with this status.",
        "schema": {"type": "string", "enum": list(query_parameters.DeliveryStatus)},
    },
    "eventName": {"in": "query", "description": "Deliveries of this event type.", "schema": _EVENT_NAME},
    "eventId": {
        "in": "query",
        "description": (
            "Deliveries of the events with this id. One call reads about ten thousand. Go on while there is a"
            " nextCursor, or give from and to."
        ),
        "schema": {"type": "string", "minLength": 1, "maxLength": MAX_EVENT_ID_BYTES},
    },
    "from": {"in": "query", "description": "Events at or after this time.", "schema": _MOMENT},
    "to": {"in": "query", "description": "Events before this time.", "schema": _MOMENT},
    "limit": {
        "in": "query",
        "description": "How many deliveries a page has at most.",
        "schema": {
            "type": "integer",
            "minimum": 1,
            "maximum": query_parameters.MAX_PAGE,
            "default": query_parameters.DEFAULT_PAGE,
        },
    },
    "hours": {
        "in": "query",
        "description": "How many hours, the current one included.",
        "schema": {
            "type": "integer",
            "minimum": 1,
            "maximum": stats.MAX_HOURS,
            "default": stats.DEFAULT_HOURS,
        },
    },
    "cursor": {
        "in": "query",
        "description": "The nextCursor of a call with the same parameters; limit may differ.",
        "schema": {"type": "string", "minLength": 1},
    },
}
_PARAMETERS_OF: dict[str, dict[str, Schema]] = {
    "list_activity": {
        "webhookId": {
            "in": "query",
            "description": "Changes of this webhook, also of a deleted one.",
            "schema": _PARAMETERS["webhookId"]["schema"],
        },
        "limit": {**_PARAMETERS["limit"], "description": "How many changes a page has at most."},
    },
    "preview_replay": {
        "from": {**_PARAMETERS["from"], "required": True},
        "status": {
            "in": "query",
            "description": "Deliveries with this status.",
            "schema": {"type": "string", "enum": list(Outcome)},
        },
    },
}
"""What differs in one call, by its handler."""
_HEADERS: dict[str, Schema] = {
    "Location": {"description": "The path of the result.", "schema": {"type": "string"}},
    "ETag": {
        "description": "The version of this webhook, for If-Match; opaque.",
        "schema": {"type": "string"},
    },
    "Content-Disposition": {"description": "A name for the file.", "schema": {"type": "string"}},
    "Idempotency-Replayed": {
        "description": "true when this is the response to an earlier call under the same key.",
        "schema": {"type": "string", "const": "true"},
    },
    "Retry-After": {"description": "Seconds to wait before the next try.", "schema": {"type": "integer"}},
    "Allow": {"description": "The methods of this path.", "schema": {"type": "string"}},
}
_SENT_HEADERS = {
    409: ("Retry-After",),
    429: ("Retry-After",),
    503: ("Retry-After",),
}

# Rules that are code in the models, as far as a schema can say them.
_ONE_LINE = r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$"
_CONTROL = r"\u0000-\u001f\u007f-\u009f\u2028\u2029"
_TRIMMED = rf"^[^\s{_CONTROL}]([^{_CONTROL}]*[^\s{_CONTROL}])?$"
_LABEL = r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_ATOM = r"[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]+"
_ADDRESS = rf"^{_ATOM}(\.{_ATOM})*@{_LABEL}(\.{_LABEL})+$"
_WEBHOOK_RULES: dict[str, Schema] = {
    "name": {
        "pattern": _TRIMMED,
        "description": (
            "On one line, without white space at its ends. At least one visible character, and none that is"
            " invisible or changes the direction of text."
            " Joiners and variation selectors only in words of Arabic, Indic and related scripts, and emoji."
        ),
    },
    "description": {
        "description": (
            "Line breaks are allowed. Other control characters are not, nor those that are invisible or"
            " change the direction of text. Joiners and variation selectors as in a name."
        )
    },
    "targetUrl": {
        "format": "uri",
        "pattern": "^https?://",
        "description": (
            "https, without a user name, and not at a private, loopback, link-local or otherwise special"
            " address. The local stack also takes http and loopback."
        ),
    },
    "events": {
        "uniqueItems": True,
        "items": _EVENT_NAME,
        "description": "The trigger events: names that GET /v1/event-types lists.",
    },
    "keepResponseBodies": {
        "description": (
            "Whether the first KiB of a failure's response is kept with the attempt, for as long as the"
            " history. A receiver may put personal data there."
        )
    },
    "ordered": {"description": "Whether events go through the backlog, in order, one request at a time."},
    "status": {
        "description": (
            "active sends events, paused keeps them pending, inactive takes no new ones. active also enables"
            " a webhook that the system disabled."
        )
    },
    "headers": {
        "propertyNames": {"pattern": r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}$"},
        "additionalProperties": {
            "type": "string",
            "minLength": 1,
            "maxLength": inputs.MAX_HEADER_VALUE_LENGTH,
            "pattern": r"^[!-~]([ \t!-~]*[!-~])?$",
        },
        "description": (
            "Sent with each request, and visible to all readers of the webhook: not for secrets. Headers that"
            " the system or the connection sets, authorization and cookie are refused."
        ),
    },
}
_RULES: dict[str, dict[str, Schema]] = {
    "BatchScheduleInput": {
        "everyMinutes": {
            "minimum": MIN_EVERY_MINUTES,
            "maximum": MAX_EVERY_MINUTES,
            "description": (
                "Slots are at its multiples since 1970-01-01T00:00Z: the same each day, if it divides a day."
                " The period of the deployment stands for the deployment's schedule, and may be shorter."
            ),
        },
        "dailyAt": {
            "uniqueItems": True,
            "items": {"type": "string", "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$"},
            "description": (
                "Times of day in timeZone. One that a day lacks has its slot when the missing hour ends; one"
                " that a day has twice, the first time."
            ),
        },
        "timeZone": {"description": "A name of the IANA database, such as Europe/Rome. Only with dailyAt."},
    },
    "WebhookInput": _WEBHOOK_RULES,
    "WebhookPatch": _WEBHOOK_RULES,
    "BasicAuthenticationInput": {
        "username": {"pattern": r"^[^:\u0000-\u001f\u007f-\u009f\u2028\u2029]*$"},
        "password": {"pattern": _ONE_LINE, "format": "password"},
    },
    "SampleInput": {"eventName": _EVENT_NAME},
    "SubscriptionInput": {"email": {"format": "email", "pattern": _ADDRESS}},
    "ReplayInput": {"eventName": _EVENT_NAME, "from": _MOMENT, "to": _MOMENT},
    "DeliveryDetail": {
        "event": {"type": "object", "description": "The event as receivers get it, to the last digit."}
    },
}
_GATEWAY = {
    401: "From the gateway: no token, or an invalid one.",
    403: "From the gateway: the token lacks a scope.",
    404: "From the gateway: a path outside of the API.",
    429: "From the gateway: too many calls at once.",
    500: "From the gateway: the function failed.",
    503: "From the gateway: the function did not respond.",
}


def describe() -> Schema:
    """Return the whole description."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "LMS Webhooks",
            "version": "1",
            "summary": "Register webhooks for the events of a learning platform, and follow their deliveries",
            "description": (
                "A token of your OpenID Connect provider identifies your account and your role."
                " What belongs to another account is 404, like what does not exist."
            ),
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/", "description": "This deployment"}],
        "security": [{"token": []}],
        "tags": [
            {"name": name} for name in ("Event types", "Webhooks", "Deliveries", "Activity", "Notifications")
        ],
        "paths": {
            _path(path): {route.method.lower(): _operation(route) for route in routes}
            for path, routes in ROUTES.by_path().items()
            if not routes[0].is_public
        },
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
            "schemas": dict(sorted(_schemas().items())),
        },
    }


def text() -> str:
    """Return the description as its file has it."""
    return json.dumps(describe(), indent=2, ensure_ascii=False) + "\n"


def _path(route: str) -> str:
    return re.sub(r"<(\w+)>", lambda name: "{" + to_camel(name[1]) + "}", route)


def _operation(route: Route) -> Schema:
    text = TEXTS[route.handler]
    described: Schema = {
        "operationId": route.operation_id,
        "summary": text.summary,
        "tags": [text.tag],
    }
    if text.description:
        described["description"] = text.description
    names = [
        *re.findall(r"{(\w+)}", _path(route.path)),
        *(["Idempotency-Key"] if route.is_idempotent else []),
        *(["If-Match"] if route.is_conditional else []),
        *route.query,
    ]
    if names:
        of_call = _PARAMETERS | _PARAMETERS_OF.get(route.handler, {})
        described["parameters"] = [{"name": name, **of_call[name]} for name in names]
    if route.takes is not None:
        described["requestBody"] = {
            "required": route.needs_body,
            "content": {"application/json": {"schema": _ref(_name(route.takes))}},
        }
    described["responses"] = {str(status): response for status, response in sorted(_responses(route, text))}
    return described


def _responses(route: Route, text: Text) -> Iterator[tuple[int, Schema]]:
    success: Schema = {"description": "No content."}
    headers = (*route.headers, *(["Idempotency-Replayed"] if route.is_idempotent else []))
    if headers:
        success["headers"] = {name: _HEADERS[name] for name in headers}
    if route.gives is not None:
        success["description"] = inspect.getdoc(route.gives)
        success["content"] = {"application/json": {"schema": _ref(_name(route.gives))}}
    if text.links:
        success["links"] = text.links
    yield route.status, success
    by_status: dict[int, list[type[Problem]]] = {}
    for problem in route.problems():
        by_status.setdefault(problem.status, []).append(problem)
    for status in by_status.keys() | _GATEWAY.keys():
        yield status, _refusal(status, by_status.get(status, []))


def _refusal(status: int, possible: list[type[Problem]]) -> Schema:
    refusal: Schema = {
        "description": " ".join(
            [
                *(f"{problem.title}." for problem in possible),
                *([_GATEWAY[status]] if status in _GATEWAY else []),
            ]
        ),
        "content": {},
    }
    if status in _SENT_HEADERS and possible:
        refusal["headers"] = {name: _HEADERS[name] for name in _SENT_HEADERS[status]}
    if possible:
        refused = [_ref(_problem_name(problem)) for problem in possible]
        refusal["content"]["application/problem+json"] = {
            "schema": refused[0] if len(refused) == 1 else {"oneOf": refused}
        }
    if status in _GATEWAY:
        refusal["content"]["application/json"] = {"schema": _ref("GatewayMessage")}
    return refusal


def _schemas() -> dict[str, Schema]:
    routes = [route for route in ROUTES.routes if not route.is_public]
    bodies = {route.takes for route in routes if route.takes is not None}
    results = {route.gives for route in routes if route.gives is not None}
    _, definitions = models_json_schema(
        [
            *((model, "validation") for model in sorted(bodies, key=_name)),
            *((model, "serialization") for model in sorted(results, key=_name)),
        ],
        ref_template="#/components/schemas/{model}",
    )
    # Names that begin with an underscore are parts of the type of a field.
    parts = {name: schema for name, schema in definitions["$defs"].items() if name.startswith("_")}
    schemas = {
        _short(name): _cleaned(_inlined(schema, parts), is_response=name.endswith(("Output", "List")))
        for name, schema in definitions["$defs"].items()
        if name not in parts
    }
    assert len(schemas) == len(definitions["$defs"]) - len(parts), "two models have one short name"
    for name, property_name, said in _texts_of_results():
        if name in schemas:
            schemas[name]["properties"][property_name]["description"] = said
    for name, rules in _RULES.items():
        for property_name, rule in rules.items():
            schemas[name]["properties"].setdefault(property_name, {}).update(rule)
    schemas["DeliveryDetail"]["required"].append("event")
    refusals = {problem for route in routes for problem in route.problems()}
    return schemas | _PROBLEM_SCHEMAS | {_problem_name(each): _problem(each) for each in refusals}


def _texts_of_results() -> Iterator[tuple[str, str, str]]:
    """Yield the docstring of each field of the responses, after the names of its schema and property."""
    models = [
        each for each in vars(outputs).values() if isinstance(each, type) and issubclass(each, BaseModel)
    ]
    for model in models:
        for base in model.__mro__:
            if base.__module__ != outputs.__name__:
                continue
            (declared,) = ast.parse(inspect.getsource(base)).body
            assert isinstance(declared, ast.ClassDef)
            for one, following in pairwise(declared.body):
                match one, following:
                    case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(
                        value=ast.Constant(value=str(said))
                    ):
                        property_name = model.model_fields[name].alias or to_camel(name)
                        yield _name(model), property_name, " ".join(said.split())
                    case _:
                        pass


def _problem_name(problem: type[Problem]) -> str:
    return f"{problem.__name__.removesuffix('Problem')}Problem"


def _problem(problem: type[Problem]) -> Schema:
    """Return a whole schema for one problem: client generators do not merge it with a common one."""
    return {
        "type": "object",
        "description": f"{problem.title}. RFC 9457.",
        "properties": {
            "type": {"const": f"urn:lms-webhooks:problem:{problem.slug}"},
            "title": {"type": "string"},
            "status": {"const": problem.status},
            "detail": {"type": "string"},
            "errors": {"type": "array", "items": _ref("ProblemError")},
        },
        "required": ["type", "title", "status", "detail"],
    }


_PROBLEM_SCHEMAS: dict[str, Schema] = {
    "ProblemError": {
        "type": "object",
        "description": (
            "A violated rule, with a JSON pointer to the field, or the name of the parameter or the header."
        ),
        "properties": {
            "pointer": {"type": "string"},
            "parameter": {"type": "string"},
            "detail": {"type": "string"},
        },
        "required": ["detail"],
    },
    "GatewayMessage": {
        "type": "object",
        "description": "A response of API Gateway itself, before it calls the API.",
        "properties": {"message": {"type": ["string", "null"]}},
        "required": ["message"],
    },
}


def _inlined(schema: Any, parts: dict[str, Schema]) -> Any:
    if isinstance(schema, list):
        return [_inlined(each, parts) for each in schema]
    if not isinstance(schema, dict):
        return schema
    part = parts.get(str(schema.get("$ref", "")).rpartition("/")[2])
    if part is not None:
        schema = {**part, **{key: value for key, value in schema.items() if key != "$ref"}}
    return {key: _inlined(value, parts) for key, value in schema.items()}


def _cleaned(schema: Any, *, is_response: bool) -> Any:
    """Drop titles, which repeat names, and nulls, which the API never takes or returns."""
    if isinstance(schema, list):
        return [_cleaned(each, is_response=is_response) for each in schema]
    if not isinstance(schema, dict):
        return _short_ref(schema) if isinstance(schema, str) else schema
    cleaned = {
        key: _cleaned(value, is_response=is_response)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str)) and not (key == "default" and value is None)
    }
    options = cleaned.get("anyOf")
    if isinstance(options, list) and {"type": "null"} in options:
        left = [option for option in options if option != {"type": "null"}]
        del cleaned["anyOf"]
        cleaned = {**left[0], **cleaned} if len(left) == 1 else {**cleaned, "anyOf": left}
    return cleaned


def _name(model: type[BaseModel]) -> str:
    return _short(model.__name__)


def _short(name: str) -> str:
    return name.removesuffix("Output")


def _short_ref(text: str) -> str:
    prefix = "#/components/schemas/"
    return prefix + _short(text.removeprefix(prefix)) if text.startswith(prefix) else text


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


if __name__ == "__main__":
    COMMITTED.write_text(text())
    sys.stdout.write(f"{len(TEXTS)} operations in {COMMITTED.relative_to(REPOSITORY)}\n")
