"""See whether everything that a real-time event passes is as the template has it, and which part is not.

Somebody may have changed a part by hand, or a deployment may have ended half-way. It reads only, and notes
each part that it may not read.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

from botocore.exceptions import ClientError

from operations.identity import DENIED, explain
from operations.stacks import FoundStack

RESTORE = 'docs/recovery.md, "Revert manual changes", restores it'
# A mapping on its way to one of these works, or soon does (Lambda API, EventSourceMappingConfiguration).
_WORKING = {"Enabled", "Enabling", "Creating", "Updating"}
# With one of these a target gets another text than the event (EventBridge API, Target).
_REWRITING = ("Input", "InputPath", "InputTransformer")


@dataclass(frozen=True, slots=True)
class Finding:
    """A part that is broken, with the next step; or one that could not be read."""

    text: str
    is_fault: bool = True


class _Broken(Exception):
    """A part that is not as it must be; nothing behind it need be looked at."""


@dataclass(slots=True)
class _Way:
    """What is known of the way so far."""

    stack: FoundStack
    detail_type: str
    detail: str
    queue_arn: str = ""
    policy: str = ""
    rule_arn: str = ""


def look(stack: FoundStack, *, detail_type: str, detail: str) -> Iterator[Finding]:
    """Find what keeps an event from the dispatcher or the drainer, in the order of its way."""
    way = _Way(stack, detail_type, detail)
    for part, permissions, check in _PARTS:
        try:
            check(way)
        except _Broken as broken:
            yield Finding(str(broken))
        except ClientError as error:
            if error.response["Error"]["Code"] in DENIED:
                yield Finding(f"{part} is not checked: it needs the permission {permissions}", is_fault=False)
            else:
                yield Finding(f"{part}: {explain(error)} {RESTORE}")


def _read_queue(way: _Way) -> None:
    attributes = _attributes(way.stack, "RealtimeQueueUrl", "QueueArn", "Policy")
    way.queue_arn, way.policy = attributes["QueueArn"], attributes.get("Policy", "")


def _check_rule(way: _Way) -> None:
    if not way.queue_arn:
        return
    events = way.stack.client("events")
    bus = way.stack.outputs["EventBusName"]
    for rule in events.get_paginator("list_rules").paginate(EventBusName=bus).search("Rules[]"):
        pages = events.get_paginator("list_targets_by_rule").paginate(Rule=rule["Name"], EventBusName=bus)
        target = next((each for each in pages.search("Targets[]") if each["Arn"] == way.queue_arn), None)
        if target is not None:
            break
    else:
        raise _Broken(f"no rule of the bus {bus} has RealtimeQueue for its target: {RESTORE}")
    way.rule_arn = rule["Arn"]
    if rule["State"] != "ENABLED":
        raise _Broken(
            f"RealtimeRule is {rule['State']}:"
            f" aws events enable-rule --name {rule['Name']} --event-bus-name {bus}"
        )
    if rewriting := [name for name in _REWRITING if target.get(name)]:
        raise _Broken(f"RealtimeRule's target has {rewriting[0]}, which changes every event: {RESTORE}")
    event = {
        "id": "smoke-test",
        "account": rule["Arn"].split(":")[4],
        "source": way.stack.outputs["EventSource"],
        "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": rule["Arn"].split(":")[3],
        "resources": [],
        "detail-type": way.detail_type,
        "detail": json.loads(way.detail),
    }
    matches = events.test_event_pattern(EventPattern=rule["EventPattern"], Event=json.dumps(event))["Result"]
    if not matches:
        raise _Broken(f"RealtimeRule does not take {way.detail_type} of source {event['source']}: {RESTORE}")


def _check_policy(way: _Way) -> None:
    if way.queue_arn and way.rule_arn and not lets_send(way.policy, way.queue_arn, way.rule_arn):
        raise _Broken(
            "RealtimeQueue has no policy that lets RealtimeRule send to it, so EventBridge cannot put any"
            f" event there: {RESTORE} (RealtimeQueuePolicy)"
        )


def _check_dispatcher_mapping(way: _Way) -> None:
    if way.queue_arn:
        _check_mapping(way.stack, way.queue_arn, "RealtimeQueue", "DispatcherFunction")


def _check_drainer_mapping(way: _Way) -> None:
    for queue in ("DrainQueue", "BackgroundDrainQueue"):
        arn = _attributes(way.stack, f"{queue}Url", "QueueArn")["QueueArn"]
        _check_mapping(way.stack, arn, queue, "DrainerFunction")


def _check_mapping(stack: FoundStack, queue_arn: str, queue: str, function: str) -> None:
    found = stack.client("lambda").list_event_source_mappings(EventSourceArn=queue_arn)["EventSourceMappings"]
    if not found:
        raise _Broken(f"no event source mapping takes messages from {queue} to {function}: {RESTORE}")
    if all(each["State"] not in _WORKING for each in found):
        raise _Broken(
            f"the event source mapping from {queue} to {function} is {found[0]['State']}:"
            f" aws lambda update-event-source-mapping --uuid {found[0]['UUID']} --enabled"
        )


def _check_functions(way: _Way) -> None:
    for function in ("DispatcherFunction", "DrainerFunction"):
        name = way.stack.outputs[f"{function}Name"]
        reserved = way.stack.client("lambda").get_function_concurrency(FunctionName=name)
        if reserved.get("ReservedConcurrentExecutions") == 0:
            raise _Broken(
                f"{function} is throttled to nothing (its reserved concurrency is 0):"
                f" aws lambda delete-function-concurrency --function-name {name}"
            )


_PARTS: tuple[tuple[str, str, Callable[[_Way], None]], ...] = (
    ("RealtimeQueue", "sqs:GetQueueAttributes", _read_queue),
    ("RealtimeRule", "events:ListRules, events:ListTargetsByRule, events:TestEventPattern", _check_rule),
    ("the policy of RealtimeQueue", "sqs:GetQueueAttributes", _check_policy),
    ("the dispatcher's event source", "lambda:ListEventSourceMappings", _check_dispatcher_mapping),
    ("the drainer's event source", "lambda:ListEventSourceMappings", _check_drainer_mapping),
    ("the functions' concurrency", "lambda:GetFunctionConcurrency", _check_functions),
)
"""In the order of an event's way: what it is, what reading it takes, and how."""


def lets_send(policy: str, queue_arn: str, rule_arn: str) -> bool:
    """Whether a queue's policy lets EventBridge send what this rule takes. A statement that denies anything
    is taken for one that denies this: the template writes none."""
    statements = _listed(json.loads(policy or "{}").get("Statement"))
    return all(statement.get("Effect") == "Allow" for statement in statements) and any(
        statement.get("Effect") == "Allow"
        and _names(statement.get("Principal"), "events.amazonaws.com")
        and any(
            action.lower() in ("sqs:sendmessage", "sqs:*", "*") for action in _listed(statement.get("Action"))
        )
        and any(resource in (queue_arn, "*") for resource in _listed(statement.get("Resource")))
        and _is_met(statement.get("Condition", {}), rule_arn)
        for statement in statements
    )


def _is_met(condition: dict[str, dict[str, Any]], rule_arn: str) -> bool:
    """Whether a condition lets this rule through, of those that name a source. Others are not met, as far as
    anybody here can tell."""
    return all(
        operator in ("ArnEquals", "ArnLike", "StringEquals", "StringLike")
        and all(
            key.lower() == "aws:sourcearn" and any(fnmatchcase(rule_arn, each) for each in _listed(value))
            for key, value in keys.items()
        )
        for operator, keys in condition.items()
    )


def _names(principal: object, service: str) -> bool:
    return principal == "*" or (isinstance(principal, dict) and service in _listed(principal.get("Service")))


def _listed(value: Any) -> list[Any]:
    """IAM takes one, or a list."""
    return value if isinstance(value, list) else [] if value is None else [value]


def _attributes(stack: FoundStack, output: str, *names: str) -> dict[str, str]:
    answer = stack.client("sqs").get_queue_attributes(
        QueueUrl=stack.outputs[output], AttributeNames=list(names)
    )
    attributes: dict[str, str] = answer["Attributes"]
    return attributes
