"""Judge calls of AWS by the roles of template.yaml, as IAM would, conditions included.

The emulator knows no encryption context and no leading keys, so what roles say about them is judged here:
each call that a function makes in the scenarios, in the tests of the admin API, and with the samples of
events/. Knows the operators that the template uses, and fails at any other.
"""

import re
from collections.abc import Collection
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

from tests.contract.template import FUNCTIONS, Properties, as_list, folder_of, names_in, statements

_OF_FOLDER = {folder_of(name): name for name in FUNCTIONS}
_VERBS = {
    "Put": "PutItem",
    "Update": "UpdateItem",
    "Delete": "DeleteItem",
    "ConditionCheck": "ConditionCheckItem",
}
WITHOUT_RESOURCE = {"sns:Unsubscribe", "sns:GetSubscriptionAttributes", "sns:SetSubscriptionAttributes"}
"""Actions for which IAM knows no resource (Service Authorization Reference): only one for `*` grants them."""
_QUEUES = ("QuarantineQueue", "SweepQueue", "BackgroundDrainQueue", "DrainQueue")
_SERVICES = {"dynamodb", "kms", "sns", "sqs"}


def missing(folder: str, service: str, operation: str, parameters: dict[str, Any]) -> list[str]:
    """What the function of `folder` may not do of a call; nothing when IAM would let it through.

    Tables, queues, keys and topics are distinguished by what their names have in them: `webhooks`, `drain`.
    """
    assert service in _SERVICES, service
    refused = []
    for action, resource, context in _requests(service, operation, parameters):
        allowing = _allowing(folder, action, resource, tuple(context.items()))
        used.update(allowing)
        if not allowing:
            refused.append(f"{folder}: {action} on {resource} {context}")
    return refused


used: set[tuple[str, str, str]] = set()
"""Function, action and statement of each call that was let through."""


def granted() -> set[tuple[str, str, str]]:
    """Function, action and statement of all that roles allow, of the services that are judged here."""
    return {
        (folder, action, statement["Sid"])
        for folder, function in _OF_FOLDER.items()
        for statement in statements(function)
        for action in as_list(statement["Action"])
        if action.partition(":")[0] in _SERVICES
    }


type _Request = tuple[str, str, dict[str, tuple[str, ...]]]
"""An action, the resource that it is for, and the condition keys with their values."""


def _requests(service: str, operation: str, parameters: dict[str, Any]) -> list[_Request]:
    """What a call asks IAM for."""
    match service:
        case "kms":
            context = parameters.get("EncryptionContext", {})
            keys = {"kms:EncryptionContextKeys": tuple(sorted(context))}
            keys |= {f"kms:EncryptionContext:{name}": (value,) for name, value in context.items()}
            return [(f"kms:{operation}", "DeliveryKey", keys)]
        case "sqs":
            url = parameters["QueueUrl"].lower().replace("-", "")
            queue = next(each for each in _QUEUES if each.removesuffix("Queue").lower() in url)
            return [(f"sqs:{operation.removesuffix('Batch')}", queue, {})]
        case "sns":
            action = f"sns:{operation}"
            keys = {"sns:Protocol": (parameters["Protocol"],)} if operation == "Subscribe" else {}
            return [(action, "*" if action in WITHOUT_RESOURCE else "NoticeTopic", keys)]
    return _requests_of_dynamodb(operation, parameters)


def _requests_of_dynamodb(operation: str, parameters: dict[str, Any]) -> list[_Request]:
    match operation:
        case "TransactWriteItems":  # no action of IAM: each part is asked for as itself
            parts = [next(iter(each.items())) for each in parameters["TransactItems"]]
            return [
                _of_table(
                    _VERBS[kind],
                    part["TableName"],
                    [_pk(part)],
                    _attributes(part) if kind == "Update" else (),
                )
                for kind, part in parts
            ]
        case "BatchGetItem":
            return [
                _of_table(operation, table, [key["pk"]["S"] for key in asked["Keys"]])
                for table, asked in parameters["RequestItems"].items()
            ]
        case "BatchWriteItem":
            return [
                _of_table(operation, table, [_pk(part) for each in writes for part in each.values()])
                for table, writes in parameters["RequestItems"].items()
            ]
        case "UpdateItem":
            return [_of_table(operation, parameters["TableName"], [_pk(parameters)], _attributes(parameters))]
        case "Query":
            assert parameters["KeyConditionExpression"].startswith(("pk = :pk", "#pk = :pk")), parameters
            key = parameters["ExpressionAttributeValues"][":pk"]["S"]
            return [_of_table(operation, parameters["TableName"], [key])]
    return [_of_table(operation, parameters["TableName"], [_pk(parameters)])]


def _pk(part: dict[str, Any]) -> str:
    return str((part.get("Key") or part["Item"])["pk"]["S"])


def _attributes(update: dict[str, Any]) -> set[str]:
    """The attributes that an update reads or writes, its key's too: what IAM calls `dynamodb:Attributes`."""
    names = update.get("ExpressionAttributeNames", {})
    words = _words(f"{update.get('UpdateExpression', '')} {update.get('ConditionExpression', '')}")
    return {*update["Key"], *(names.get(word, word) for word in words)}


@cache
def _words(expression: str) -> frozenset[str]:
    words = re.findall(r"(?<![:\w#])#?[A-Za-z_]\w*(?!\w|\s*\()", expression)
    return frozenset(words) - {"SET", "REMOVE", "ADD", "DELETE", "AND", "OR", "NOT"}


def _of_table(operation: str, table: str, keys: list[str], attributes: Collection[str] = ()) -> _Request:
    name = "DeliveriesTable" if "eliveries" in table else "WebhooksTable"
    context = {"dynamodb:LeadingKeys": tuple(sorted(set(keys)))}
    if attributes:
        context["dynamodb:Attributes"] = tuple(sorted(attributes))
    return f"dynamodb:{operation}", name, context


@cache
def _allowing(
    folder: str, action: str, resource: str, context: tuple[tuple[str, tuple[str, ...]], ...]
) -> frozenset[tuple[str, str, str]]:
    """Function, action and statement of each statement that allows it."""
    return frozenset(
        (folder, action, statement["Sid"])
        for statement in statements(_OF_FOLDER[folder])
        if action in as_list(statement["Action"])
        and (statement["Resource"] == "*" or resource in names_in(statement["Resource"]))
        and _holds(statement.get("Condition", {}), dict(context))
    )


def _holds(condition: Properties, context: dict[str, tuple[str, ...]]) -> bool:
    return all(
        _holds_one(operator, context.get(key, ()), as_list(wanted))
        for operator, keys in condition.items()
        for key, wanted in keys.items()
    )


def _holds_one(operator: str, values: tuple[str, ...], wanted: list[str]) -> bool:
    match operator:
        case "ForAllValues:StringLike":
            return all(any(fnmatchcase(value, pattern) for pattern in wanted) for value in values)
        case "StringEquals":
            return bool(values) and all(value in wanted for value in values)
        case "ForAllValues:StringEquals":
            return all(value in wanted for value in values)
        case "Null":
            return wanted == ["false" if values else "true"]
    raise AssertionError(f"{operator} is not known here")
