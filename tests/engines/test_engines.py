"""What DynamoDB refuses and moto takes. Stores that were tested on moto alone could send it."""

import socket
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from tests.engines.dynamodb import DynamoDbLocal, moto
from tests.unit.admin_client import TABLE, make_table
from tools.progress import REPOSITORY

pytestmark = pytest.mark.dynamodb_local


def key(pk: str, sk: str) -> dict[str, Any]:
    return {"pk": {"S": pk}, "sk": {"S": sk}}


def query(condition: str, **params: Any) -> tuple[str, dict[str, Any]]:
    values = {f":{name}": {"S": name} for name in "abc" if f":{name}" in condition}
    return "query", {"KeyConditionExpression": condition, "ExpressionAttributeValues": values, **params}


def write(*requests: Any) -> tuple[str, dict[str, Any]]:
    return "batch_write_item", {"RequestItems": {TABLE: list(requests)}}


def put(**attributes: Any) -> dict[str, Any]:
    return {"Item": {**key("a", "2"), **attributes}}


def nested(levels: int) -> dict[str, Any]:
    return {"M": {"in": nested(levels - 1)}} if levels else {"S": ""}


REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "a range upside down": query("pk = :a AND sk BETWEEN :c AND :b"),
    "a start outside the range": query("pk = :a AND sk BETWEEN :b AND :c", ExclusiveStartKey=key("a", "d")),
    "a start in another partition": query("pk = :a", ExclusiveStartKey=key("b", "1")),
    "a start with more than its key": query("pk = :a", ExclusiveStartKey={**key("a", "1"), "n": {"N": "1"}}),
    "a filter of keys": query("pk = :a", FilterExpression="sk = :a"),
    "one key twice in a batch": write(
        {"PutRequest": {"Item": key("a", "2")}}, {"DeleteRequest": {"Key": key("a", "2")}}
    ),
    "26 in a batch": write(*({"PutRequest": {"Item": key("a", str(number))}} for number in range(26))),
    "a value that nothing uses": (
        "put_item",
        {
            **put(),
            "ConditionExpression": "attribute_not_exists(pk)",
            "ExpressionAttributeValues": {":n": {"N": "1"}},
        },
    ),
    "an empty condition": ("put_item", {**put(), "ConditionExpression": ""}),
    "39 digits": ("put_item", put(n={"N": "1" * 39})),
    "33 levels": ("put_item", put(levels=nested(33))),
    "a transaction of more than 4 MB": (
        "transact_write_items",
        {
            "TransactItems": [
                {"Put": {"TableName": TABLE, "Item": {**key("b", str(number)), "text": {"S": "x" * 300_000}}}}
                for number in range(15)
            ]
        },
    ),
}


def call(client: Any, operation: str, params: dict[str, Any]) -> str | None:
    """The code of the error that an empty table returns."""
    make_table(client)
    is_of_a_table = operation not in ("batch_write_item", "transact_write_items")
    try:
        getattr(client, operation)(**({"TableName": TABLE} if is_of_a_table else {}), **params)
    except ClientError as error:
        return error.response["Error"]["Code"]
    return None


@pytest.mark.parametrize(("operation", "params"), REFUSED.values(), ids=REFUSED.keys())
def test_dynamodb_local_refuses_what_moto_takes(
    dynamodb_local: DynamoDbLocal, operation: str, params: dict[str, Any]
) -> None:
    with moto() as client:
        assert call(client, operation, params) is None
    with dynamodb_local() as client:
        assert call(client, operation, params) == "ValidationException"


def test_it_is_asked_and_not_moto(dynamodb_local: DynamoDbLocal) -> None:
    with moto() as of_moto, dynamodb_local() as client:
        make_table(of_moto)
        assert client.list_tables()["TableNames"] == []
        assert client.meta.endpoint_url.startswith("http://127.0.0.1:")


def test_only_this_machine_reaches_it(dynamodb_local: DynamoDbLocal) -> None:
    """127.0.0.2 is another address of it: a server on all addresses responds there too."""
    with dynamodb_local() as client:
        port = urlsplit(client.meta.endpoint_url).port
    socket.create_connection(("127.0.0.1", port)).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port))


def test_each_that_is_open_has_tables_of_its_own(dynamodb_local: DynamoDbLocal) -> None:
    with dynamodb_local() as first:
        make_table(first)
        with dynamodb_local() as second:
            assert second.list_tables()["TableNames"] == []
    with dynamodb_local() as third:
        assert third.list_tables()["TableNames"] == []


def test_requests_reach_it_as_the_functions_would_send_them(dynamodb_local: DynamoDbLocal) -> None:
    """With botocore's own look at parameters this would be an error of botocore's."""
    incomplete: Any = {"TableName": TABLE}
    with dynamodb_local() as client, pytest.raises(ClientError, match="calling the PutItem operation"):
        client.put_item(**incomplete)


def test_no_unit_test_makes_a_dynamodb_of_its_own() -> None:
    """It would run on one engine only. The fixture `dynamodb` runs a test on each.

    `test_conflicts` may: it puts a conflict between botocore and moto, which no other engine lets it do.
    """
    for file in REPOSITORY.glob("tests/unit/*.py"):
        assert file.name == "test_conflicts.py" or 'client("dynamodb"' not in file.read_text(), file
