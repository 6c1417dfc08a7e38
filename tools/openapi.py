"""Write the OpenAPI description of the admin API, from its routes, models and problems.

`make openapi` does; a test fails while what is committed is not what this would write. What pydantic's own
schemas cannot know (a rule that is code, a problem that a call may answer) stands in the tables here.
"""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from pydantic.alias_generators import to_camel
from pydantic.json_schema import models_json_schema

from lms_webhooks import problems
from lms_webhooks.admin import inputs, outputs, query_parameters, stats
from lms_webhooks.admin.routes import ROUTES
from lms_webhooks.drainer import drain_run
from lms_webhooks.model.event_types import EVENT_TYPES
from lms_webhooks.problems import Problem
from lms_webhooks.timestamps import RFC3339
from tools.progress import REPOSITORY

COMMITTED = REPOSITORY / "layers" / "core" / "lms_webhooks" / "admin" / "openapi.json"
"""Where the API serves it from."""

type Schema = dict[str, Any]

_ALWAYS: tuple[type[Problem], ...] = (
    problems.InvalidParameters,
    problems.InvalidJson,
    problems.Forbidden,
    problems.BodyTooLarge,
    problems.UnsupportedMediaType,
    problems.InvalidFields,
    problems.InternalError,
)
"""A call that takes no query parameters or no body refuses one that it is given."""
_OF_A_WEBHOOK: tuple[type[Problem], ...] = (
    problems.WebhookNotFound,
    problems.PathNotFound,  # when an id has characters that none of ours has
)
_OF_A_KEY: tuple[type[Problem], ...] = (
    problems.IdempotencyInProgress,
    problems.IdempotencyKeyReused,
    problems.Contention,
)
_OF_A_CHANGE: tuple[type[Problem], ...] = (problems.VersionConflict, problems.Contention)


@dataclass(frozen=True)
class Operation:
    """What is to be known of one call beside its path."""

    id: str
    summary: str
    tag: str
    status: int
    answer: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    needs_body: bool = True
    refusals: tuple[type[Problem], ...] = ()
    headers: tuple[str, ...] = ()
    """Of the answer."""
    parameters: tuple[str, ...] = ()
    links: dict[str, Schema] = field(default_factory=dict)
    description: str = ""


_COUNTED = " It is one of the ten times in any 60 seconds that an account may have the system send."

_WEBHOOK_LINKS: dict[str, Schema] = {
    name: {"operationId": name, "parameters": {"webhookId": "$response.body#/webhookId"}}
    for name in (
        "getWebhook",
        "updateWebhook",
        "deleteWebhook",
        "testWebhook",
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

OPERATIONS: dict[str, Operation] = {
    "list_event_types": Operation(
        "listEventTypes",
        "The catalogue of event types",
        "Event types",
        200,
        outputs.EventTypeList,
        links={"createWebhook": {"operationId": "createWebhook"}},
    ),
    "list_webhooks": Operation(
        "listWebhooks", "Every webhook of the account, oldest first", "Webhooks", 200, outputs.WebhookList
    ),
    "create_webhook": Operation(
        "createWebhook",
        "Create a webhook",
        "Webhooks",
        201,
        outputs.WebhookOutput,
        inputs.WebhookInput,
        refusals=(
            *_OF_A_KEY,
            problems.WebhookLimitExceeded,
            problems.CreationLimitExceeded,
            problems.RateLimited,
        ),
        headers=("Location", "ETag", "Idempotency-Replayed"),
        parameters=("Idempotency-Key",),
        links=_WEBHOOK_LINKS,
        description="The signing secret of a signature webhook is in this answer only." + _COUNTED,
    ),
    "test_unsaved": Operation(
        "testDraftWebhook",
        "Send a sample to a webhook that is not saved",
        "Webhooks",
        200,
        outputs.SampleResultOutput,
        inputs.WebhookInput,
        refusals=(*_OF_A_KEY, problems.RateLimited),
        headers=("Idempotency-Replayed",),
        parameters=("Idempotency-Key",),
        description=(
            "A signature is made with a secret that nobody has: only a saved webhook's can be verified."
            + _COUNTED
        ),
    ),
    "get_webhook": Operation(
        "getWebhook",
        "One webhook",
        "Webhooks",
        200,
        outputs.WebhookOutput,
        refusals=_OF_A_WEBHOOK,
        headers=("ETag",),
    ),
    "change_webhook": Operation(
        "updateWebhook",
        "Change what is given of a webhook",
        "Webhooks",
        200,
        outputs.WebhookOutput,
        inputs.WebhookPatch,
        refusals=(*_OF_A_WEBHOOK, *_OF_A_CHANGE, problems.RateLimited),
        headers=("ETag",),
        parameters=("If-Match",),
        description=(
            "What is left out stays. A change of targetUrl, authentication or status forgets how the endpoint"
            " did, and so does status active for a webhook that the system disabled. Authentication is"
            " given whole; a webhook that signs already keeps its secret. Where scheme, host or port of"
            " targetUrl change, a password must be given again. A change of targetUrl, authentication or"
            " status that leaves the webhook active is one of the ten times in any 60 seconds that an account"
            " may have the system send."
        ),
    ),
    "delete_webhook": Operation(
        "deleteWebhook",
        "Delete a webhook",
        "Webhooks",
        204,
        refusals=(*_OF_A_WEBHOOK, *_OF_A_CHANGE),
        parameters=("If-Match",),
        description=(
            "No request starts once the answer is there. One that had started may still arrive, within"
            f" {drain_run.TIMEOUTS.total_seconds} seconds."
        ),
    ),
    "test_saved": Operation(
        "testWebhook",
        "Send a sample to a webhook, whatever its status",
        "Webhooks",
        200,
        outputs.SampleResultOutput,
        inputs.SampleInput,
        needs_body=False,
        refusals=(*_OF_A_WEBHOOK, *_OF_A_KEY, problems.RateLimited),
        headers=("Idempotency-Replayed",),
        parameters=("Idempotency-Key",),
        description=("An answer that is repeated under its key is without responseBody." + _COUNTED),
    ),
    "rotate_secret": Operation(
        "rotateSigningSecret",
        "Make a new signing secret, as a JSON file to download",
        "Webhooks",
        200,
        outputs.SigningSecretOutput,
        refusals=(
            *_OF_A_WEBHOOK,
            *_OF_A_KEY,
            *_OF_A_CHANGE,
            problems.NotSigned,
            problems.RotationInProgress,
        ),
        headers=("Content-Disposition", "ETag", "Idempotency-Replayed"),
        parameters=("Idempotency-Key", "If-Match"),
        description=(
            "The previous secret signs along for 24 hours; one before that no more. So while one signs along"
            " another is made only with If-Match. When the answer is there, every request that begins carries"
            " both signatures."
        ),
    ),
    "list_deliveries": Operation(
        "listDeliveries",
        "What became of a webhook's events, newest first",
        "Deliveries",
        200,
        outputs.DeliveryListOutput,
        refusals=_OF_A_WEBHOOK,
        parameters=("status", "eventName", "from", "to", "limit", "cursor"),
        links=_DELIVERY_LINKS,
        description="A page may be short and yet not be the last: go on while there is a nextCursor.",
    ),
    "get_delivery": Operation(
        "getDelivery",
        "One delivery with its event and attempts",
        "Deliveries",
        200,
        outputs.DeliveryDetailOutput,
        refusals=(*_OF_A_WEBHOOK, problems.DeliveryNotFound),
    ),
    "redeliver": Operation(
        "redeliver",
        "Send one event again",
        "Deliveries",
        202,
        outputs.DeliveryOutput,
        refusals=(*_OF_A_WEBHOOK, problems.DeliveryNotFound, *_OF_A_KEY, problems.RateLimited),
        headers=("Location", "Idempotency-Replayed"),
        parameters=("Idempotency-Key",),
        description="After what waits. It adds an attempt; what is delivered stays delivered." + _COUNTED,
    ),
    "get_stats": Operation(
        "getStats",
        "Counts and latency by hour, and what waits",
        "Deliveries",
        200,
        outputs.StatsOutput,
        refusals=_OF_A_WEBHOOK,
        parameters=("hours",),
        description="By the hour of the events' own time. What one call counts is bounded: see countedFrom.",
    ),
    "start_replay": Operation(
        "startReplay",
        "Send part of the history again, oldest event first",
        "Deliveries",
        202,
        outputs.ReplayOutput,
        inputs.ReplayInput,
        refusals=(*_OF_A_WEBHOOK, *_OF_A_KEY, problems.ReplayInProgress, problems.RateLimited),
        headers=("Location", "Idempotency-Replayed"),
        parameters=("Idempotency-Key",),
        links=_REPLAY_LINKS,
        description=(
            "One at a time for a webhook, after what waits. Without `to` it covers events until now."
            + _COUNTED
        ),
    ),
    "list_subscriptions": Operation(
        "listNotificationSubscriptions",
        "Who is mailed about the account's webhooks",
        "Notifications",
        200,
        outputs.SubscriptionList,
        links=_SUBSCRIPTION_LINKS,
    ),
    "add_subscription": Operation(
        "createNotificationSubscription",
        "Have somebody mailed when a webhook fails, goes on failing, is disabled, or works again",
        "Notifications",
        201,
        outputs.SubscriptionOutput,
        inputs.SubscriptionInput,
        refusals=(
            *_OF_A_KEY,
            problems.SubscriptionLimitExceeded,
            problems.RateLimited,
            problems.MailLimitExceeded,
        ),
        headers=("Idempotency-Replayed",),
        parameters=("Idempotency-Key",),
        links=_ADDED_SUBSCRIPTION_LINKS,
        description=(
            "They get a link to confirm with first, good for two days; the same call once more sends it"
            " again. Ten at most for an account. A mailbox gets three links a day, an account has 20 mailed."
            + _COUNTED
        ),
    ),
    "remove_subscription": Operation(
        "deleteNotificationSubscription",
        "Have somebody mailed no more",
        "Notifications",
        204,
        refusals=(problems.SubscriptionNotFound, problems.PathNotFound, problems.Contention),
    ),
    "cancel_replay": Operation(
        "cancelReplay",
        "Stop the webhook's replay where it is",
        "Deliveries",
        204,
        refusals=(*_OF_A_WEBHOOK, problems.ReplayNotFound),
        description="What is on its way still arrives.",
    ),
    "get_replay": Operation(
        "getReplay",
        "How far the webhook's replay is, or the last one came",
        "Deliveries",
        200,
        outputs.ReplayOutput,
        refusals=(*_OF_A_WEBHOOK, problems.ReplayNotFound),
    ),
}
"""By the method of the routes that answers. What is not here is open to everybody and describes itself."""

_OPEN = {"get_openapi", "get_console", "get_console_file"}

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
        "description": "The ETag of the webhook as you know it; what was changed since is not overwritten.",
        "schema": {"type": "string"},
        "example": '"3-a3963681"',
    },
    "Idempotency-Key": {
        "in": "header",
        "description": "A value of your own. A call that is repeated under it is made once in 24 hours.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]([ -~]*[!-~])?$"},
    },
    "status": {
        "in": "query",
        "schema": {"type": "string", "enum": list(query_parameters.DeliveryStatus)},
    },
    "eventName": {"in": "query", "schema": _EVENT_NAME},
    "from": {"in": "query", "description": "Events of this time on.", "schema": _MOMENT},
    "to": {"in": "query", "description": "Events before this time.", "schema": _MOMENT},
    "limit": {
        "in": "query",
        "schema": {
            "type": "integer",
            "minimum": 1,
            "maximum": query_parameters.MAX_PAGE,
            "default": query_parameters.DEFAULT_PAGE,
        },
    },
    "hours": {
        "in": "query",
        "description": "This hour and those before it, in all.",
        "schema": {
            "type": "integer",
            "minimum": 1,
            "maximum": stats.MAX_HOURS,
            "default": stats.DEFAULT_HOURS,
        },
    },
    "cursor": {
        "in": "query",
        "description": "The nextCursor of a call with the same other parameters, limit excepted.",
        "schema": {"type": "string", "minLength": 1},
    },
}
_HEADERS: dict[str, Schema] = {
    "Location": {"description": "The path of what was made.", "schema": {"type": "string"}},
    "ETag": {
        "description": "The version of this webhook, for If-Match; opaque.",
        "schema": {"type": "string"},
    },
    "Content-Disposition": {"description": "A name for the file.", "schema": {"type": "string"}},
    "Idempotency-Replayed": {
        "description": "true when this is the answer to an earlier call under the same key.",
        "schema": {"type": "string", "const": "true"},
    },
    "Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}},
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
            "With a visible character; none that is invisible or changes the text's direction. Joiners and"
            " variation selectors only in words of Arabic, Indic and related scripts, and in emoji."
        ),
    },
    "description": {
        "description": (
            "Line breaks are allowed; other control characters, and those that are invisible or change the"
            " direction of text, are not. Joiners and variation selectors as in a name."
        )
    },
    "targetUrl": {
        "format": "uri",
        "pattern": "^https?://",
        "description": (
            "https, without a user name, and not at a private, loopback, link-local or otherwise special"
            " address. The stack on one machine also takes http and loopback."
        ),
    },
    "events": {"uniqueItems": True, "items": _EVENT_NAME},
    "headers": {
        "propertyNames": {"pattern": r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}$"},
        "additionalProperties": {
            "type": "string",
            "minLength": 1,
            "maxLength": inputs.MAX_HEADER_VALUE_LENGTH,
            "pattern": r"^[!-~]([ \t!-~]*[!-~])?$",
        },
        "description": (
            "Sent with each request, and shown to whoever may read the webhook: no place for secrets. Those"
            " that we set or that belong to the connection, and authorization and cookie, are refused."
        ),
    },
}
_RULES: dict[str, dict[str, Schema]] = {
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
    401: "The gateway's own: no token, or one that is not valid.",
    403: "The gateway's own, when the token lacks a scope.",
    404: "The gateway's own, for paths outside of the API.",
    429: "The gateway's own: too many calls at once.",
    500: "The gateway's own, when something of ours is broken.",
    503: "The gateway's own, when something of ours does not answer.",
}


def describe() -> Schema:
    """The whole description."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "LMS Webhooks",
            "version": "1",
            "summary": "Register webhooks for the events of a learning platform, and see what became of them",
            "description": (
                "A token of your OpenID Connect provider says which account you are of and what you may do."
                " Nothing of another account can be told from what does not exist: both answer 404."
            ),
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/", "description": "The deployment that this is served by"}],
        "security": [{"token": []}],
        "tags": [{"name": name} for name in ("Event types", "Webhooks", "Deliveries", "Notifications")],
        "paths": {
            _path(path): {
                method.lower(): _operation(path, OPERATIONS[name])
                for method, name in handlers.items()
                if name not in _OPEN
            }
            for path, handlers in ROUTES.items()
            if not _OPEN.issuperset(handlers.values())
        },
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
            "schemas": dict(sorted(_schemas().items())),
        },
    }


def text() -> str:
    """The description as it is written."""
    return json.dumps(describe(), indent=2, ensure_ascii=False) + "\n"


def _path(route: str) -> str:
    return re.sub(r"<(\w+)>", lambda name: "{" + to_camel(name[1]) + "}", route)


def _operation(route: str, operation: Operation) -> Schema:
    described: Schema = {
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [operation.tag],
    }
    if operation.description:
        described["description"] = operation.description
    in_path = re.findall(r"{(\w+)}", _path(route))
    named = [*in_path, *operation.parameters]
    if named:
        described["parameters"] = [{"name": name, **_PARAMETERS[name]} for name in named]
    if operation.body is not None:
        described["requestBody"] = {
            "required": operation.needs_body,
            "content": {"application/json": {"schema": _ref(_name(operation.body))}},
        }
    described["responses"] = {str(status): answer for status, answer in sorted(_answers(operation))}
    return described


def _answers(operation: Operation) -> Iterator[tuple[int, Schema]]:
    success: Schema = {"description": operation.summary + "."}
    if operation.headers:
        success["headers"] = {name: _HEADERS[name] for name in operation.headers}
    if operation.answer is not None:
        success["content"] = {"application/json": {"schema": _ref(_name(operation.answer))}}
    if operation.links:
        success["links"] = operation.links
    yield operation.status, success
    by_status: dict[int, list[type[Problem]]] = {}
    for problem in dict.fromkeys((*_ALWAYS, *operation.refusals)):
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
    bodies = {operation.body for operation in OPERATIONS.values() if operation.body is not None}
    answers = {operation.answer for operation in OPERATIONS.values() if operation.answer is not None}
    _, definitions = models_json_schema(
        [
            *((model, "validation") for model in sorted(bodies, key=_name)),
            *((model, "serialization") for model in sorted(answers, key=_name)),
        ],
        ref_template="#/components/schemas/{model}",
    )
    # Those whose names begin with an underscore are parts of a field's type, of no interest by themselves.
    parts = {name: schema for name, schema in definitions["$defs"].items() if name.startswith("_")}
    schemas = {
        _short(name): _cleaned(_inlined(schema, parts), is_answer=name.endswith(("Output", "List")))
        for name, schema in definitions["$defs"].items()
        if name not in parts
    }
    assert len(schemas) == len(definitions["$defs"]) - len(parts), "two models have one short name"
    for name, rules in _RULES.items():
        for property_name, rule in rules.items():
            schemas[name]["properties"].setdefault(property_name, {}).update(rule)
    schemas["DeliveryDetail"]["required"].append("event")
    refusals = {problem for operation in OPERATIONS.values() for problem in operation.refusals} | {*_ALWAYS}
    return schemas | _PROBLEM_SCHEMAS | {_problem_name(each): _problem(each) for each in refusals}


def _problem_name(problem: type[Problem]) -> str:
    return f"{problem.__name__}Problem"


def _problem(problem: type[Problem]) -> Schema:
    """Whole, by its own type: generators of clients do not merge what a problem has beside the others."""
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
        "description": "A rule that is broken, by a JSON pointer to the field or by the parameter's name.",
        "properties": {
            "pointer": {"type": "string"},
            "parameter": {"type": "string"},
            "detail": {"type": "string"},
        },
        "required": ["detail"],
    },
    "GatewayMessage": {
        "type": "object",
        "description": "What API Gateway answers by itself, before the API is asked.",
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


def _cleaned(schema: Any, *, is_answer: bool) -> Any:
    """Without titles that repeat names, and without nulls: what is not there is left out."""
    if isinstance(schema, list):
        return [_cleaned(each, is_answer=is_answer) for each in schema]
    if not isinstance(schema, dict):
        return _short_ref(schema) if isinstance(schema, str) else schema
    cleaned = {
        key: _cleaned(value, is_answer=is_answer)
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
    sys.stdout.write(f"{len(OPERATIONS)} operations in {COMMITTED.relative_to(REPOSITORY)}\n")
