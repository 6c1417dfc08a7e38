"""What the roles of the template allow by key and by encryption context, and what they do not.

That they allow what the functions do, the scenarios show, and the tests of the admin API: `privileges` judges
each of their calls. Here is what the functions never do, and must not be able to.
"""

from collections.abc import Callable
from typing import Any

import pytest

from lms_webhooks.model.lanes import Lane
from tests.contract.privileges import missing
from tests.contract.template import FUNCTIONS, as_list, statements

WEBHOOK = "wh_0000000000000000000001"
SENDERS = ("admin_api", "dispatcher", "drainer")
LANES = [f"BACKLOG#{WEBHOOK}#{lane}" for lane in Lane]


def put(table: str, *keys: str) -> dict[str, Any]:
    return {"RequestItems": {table: [{"PutRequest": {"Item": {"pk": {"S": key}}}} for key in keys]}}


def at(table: str, key: str) -> dict[str, Any]:
    return {"TableName": table, "Key": {"pk": {"S": key}}}


def query(table: str, key: str) -> dict[str, Any]:
    return {
        "TableName": table,
        "KeyConditionExpression": "pk = :pk",
        "ExpressionAttributeValues": {":pk": {"S": key}},
    }


def secret(**context: str) -> dict[str, Any]:
    return {"EncryptionContext": context}


ALLOWED = [
    ("admin_api", "dynamodb", "PutItem", at("deliveries", f"BACKLOG#{WEBHOOK}#replay")),
    ("admin_api", "dynamodb", "UpdateItem", at("deliveries", "DUE#7")),
    ("admin_api", "dynamodb", "Query", query("webhooks", "ACCOUNT#1010")),
    (
        "dispatcher",
        "dynamodb",
        "BatchWriteItem",
        put("deliveries", f"DELIVERY#{WEBHOOK}", f"RETRY#{WEBHOOK}", *LANES),
    ),
    ("drainer", "dynamodb", "DeleteItem", at("deliveries", f"REPLAY#{WEBHOOK}")),
    ("admin_api", "sns", "Subscribe", {"Protocol": "email"}),
    *((sender, "kms", "Decrypt", secret(accountId="1010", webhookId=WEBHOOK)) for sender in SENDERS),
]

REFUSED = [
    # The history is not an admin's to write, nor any lane but the one for what is sent again.
    *(
        ("admin_api", "dynamodb", "PutItem", at("deliveries", key))
        for key in (f"DELIVERY#{WEBHOOK}", *(lane for lane in LANES if not lane.endswith("#replay")))
    ),
    ("admin_api", "dynamodb", "BatchWriteItem", put("deliveries", f"BACKLOG#{WEBHOOK}#replay")),
    ("admin_api", "dynamodb", "UpdateItem", at("deliveries", f"DELIVERY#{WEBHOOK}")),
    ("admin_api", "dynamodb", "PutItem", at("deliveries", "NOTICES")),
    # Bodies of responses are written by what sends, and read by admins alone.
    ("admin_api", "dynamodb", "PutItem", at("deliveries", f"BODY#{WEBHOOK}")),
    *((sender, "dynamodb", "Query", query("deliveries", f"BODY#{WEBHOOK}")) for sender in SENDERS[1:]),
    ("batch", "dynamodb", "PutItem", at("deliveries", f"BODY#{WEBHOOK}")),
    ("admin_api", "dynamodb", "DeleteItem", at("deliveries", f"BACKLOG#{WEBHOOK}#replay")),
    ("admin_api", "dynamodb", "Query", query("deliveries", "NOTICES")),
    # What keeps tenants apart and counts their calls is the API's own.
    *(
        (function, "dynamodb", "UpdateItem", at("webhooks", key))
        for function in ("dispatcher", "drainer")
        for key in (
            "TOMBSTONE#1010",
            "LIMIT#1010",
            "IDEMPOTENCY#1010",
            "SUBSCRIPTIONS#1010",
            "ACTIVITY#1010",
        )
    ),
    *(
        (function, "dynamodb", "Query", query("webhooks", "IDEMPOTENCY#1010"))
        for function in ("dispatcher", "drainer", "batch")
    ),
    ("dispatcher", "dynamodb", "BatchWriteItem", put("deliveries", f"REPLAY#{WEBHOOK}")),
    ("dispatcher", "dynamodb", "UpdateItem", at("deliveries", f"DELIVERY#{WEBHOOK}")),
    ("dispatcher", "dynamodb", "Query", query("deliveries", f"DELIVERY#{WEBHOOK}")),
    ("batch", "dynamodb", "UpdateItem", at("deliveries", f"DELIVERY#{WEBHOOK}")),
    ("batch", "dynamodb", "DeleteItem", at("deliveries", f"BACKLOG#{WEBHOOK}#realtime")),
    ("batch", "dynamodb", "Query", query("deliveries", f"DELIVERY#{WEBHOOK}")),
    # Of webhooks the sweep writes the tickets of their messages, and nothing that an admin wants.
    *(
        ("batch", "dynamodb", "UpdateItem", at("webhooks", "ACCOUNT#1010") | {"UpdateExpression": update})
        for update in ("SET target_url = :url", "SET ticket = :t, #status = :s", "REMOVE lease_owner")
    ),
    ("batch", "dynamodb", "UpdateItem", at("deliveries", "DUE#7") | {"UpdateExpression": "SET due_at = :d"}),
    ("batch", "dynamodb", "UpdateItem", at("webhooks", "TOMBSTONE#1010")),
    ("drainer", "dynamodb", "DeleteItem", at("deliveries", f"DELIVERY#{WEBHOOK}")),
    # A secret is asked for by whose it is, by both ids and nothing else.
    *(
        (sender, "kms", "Decrypt", secret(**context))
        for sender in SENDERS
        for context in (
            {},
            {"accountId": "1010"},
            {"webhookId": WEBHOOK},
            {"accountId": "1010", "webhookId": WEBHOOK, "more": "1"},
            {"table": "any"},
        )
    ),
    ("batch", "kms", "Decrypt", secret(accountId="1010", webhookId=WEBHOOK)),
    ("dispatcher", "kms", "Encrypt", secret(accountId="1010", webhookId=WEBHOOK)),
    ("drainer", "kms", "Encrypt", secret(accountId="1010", webhookId=WEBHOOK)),
    ("admin_api", "sqs", "SendMessage", {"QueueUrl": "https://sqs/QuarantineQueue"}),
    ("drainer", "sns", "Publish", {}),
    # What an account is told goes to people by mail, and to no program of anybody's.
    *(
        ("admin_api", "sns", "Subscribe", {"Protocol": protocol})
        for protocol in ("email-json", "sms", "http", "https", "sqs", "lambda", "firehose", "application", "")
    ),
    *(
        (function, "sns", "Subscribe", {"Protocol": "email"})
        for function in ("dispatcher", "batch", "drainer")
    ),
]


@pytest.mark.parametrize(("function", "service", "operation", "parameters"), ALLOWED)
def test_what_a_function_needs_is_allowed(
    function: str, service: str, operation: str, parameters: dict[str, Any]
) -> None:
    assert missing(function, service, operation, parameters) == []


@pytest.mark.parametrize(("function", "service", "operation", "parameters"), REFUSED)
def test_what_a_function_must_not_do_is_refused(
    function: str,
    service: str,
    operation: str,
    parameters: dict[str, Any],
    record_property: Callable[[str, object], None],
) -> None:
    assert missing(function, service, operation, parameters)
    record_property("forbidden calls, by the roles' conditions", 1)


def test_every_permission_on_a_table_names_its_keys_and_every_use_of_the_key_its_context() -> None:
    """These no emulator judges, and a stack that enforces roles locally runs without them."""
    for function in FUNCTIONS:
        for statement in statements(function):
            services = {action.partition(":")[0] for action in as_list(statement["Action"])}
            condition = statement.get("Condition", {})
            if "dynamodb" in services:
                assert condition.keys() == {"ForAllValues:StringLike"}, statement["Sid"]
                assert set(condition["ForAllValues:StringLike"]) - {"dynamodb:Attributes"} == {
                    "dynamodb:LeadingKeys"
                }
                # Which are absent from a scan: a condition for all of them holds when there are none.
                assert "dynamodb:Scan" not in as_list(statement["Action"])
            elif "kms" in services:
                assert condition == {
                    "ForAllValues:StringEquals": {"kms:EncryptionContextKeys": ["accountId", "webhookId"]},
                    "Null": {
                        "kms:EncryptionContext:accountId": "false",
                        "kms:EncryptionContext:webhookId": "false",
                    },
                }, statement["Sid"]
            elif "sns:Subscribe" in as_list(statement["Action"]):
                assert condition == {"StringEquals": {"sns:Protocol": "email"}}
            else:
                assert condition == {}, statement["Sid"]
