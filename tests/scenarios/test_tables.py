"""The tables in memory answer as moto's do: the same calls to both, and the same answers."""

from itertools import count
from typing import Any

import pytest
from moto import mock_aws

from tests.scenarios.tables import Refused, Tables
from tests.scenarios.world import Engine, moto_tables

TABLE = "deliveries"


def key(pk: str, sk: str) -> dict[str, Any]:
    return {"pk": {"S": pk}, "sk": {"S": sk}}


def update(sk: str, expression: str, **params: Any) -> tuple[str, dict[str, Any]]:
    return "UpdateItem", {"Key": key("a", sk), "UpdateExpression": expression, **params}


def query(**params: Any) -> tuple[str, dict[str, Any]]:
    values = {":pk": {"S": "a"}}
    return "Query", {"KeyConditionExpression": "pk = :pk", "ExpressionAttributeValues": values, **params}


def query_range(low: str, high: str, **params: Any) -> tuple[str, dict[str, Any]]:
    return "Query", {
        "KeyConditionExpression": "#pk = :pk AND #sk BETWEEN :low AND :high",
        "ExpressionAttributeNames": {"#pk": "pk", "#sk": "sk"},
        "ExpressionAttributeValues": {":pk": {"S": "a"}, ":low": {"S": low}, ":high": {"S": high}},
        **params,
    }


RANGES: list[dict[str, Any]] = [
    {},
    {"Limit": 1},
    {"ScanIndexForward": False},
    {"ScanIndexForward": False, "Limit": 1, "ExclusiveStartKey": key("a", "3")},
    {"ProjectionExpression": "#sk"},
    {"Select": "COUNT"},
]

CALLS: list[tuple[str, dict[str, Any]]] = [
    ("PutItem", {"Item": {**key("a", "1"), "n": {"N": "5"}, "s": {"S": "x"}}}),
    ("GetItem", {"Key": key("a", "1")}),
    ("GetItem", {"Key": key("a", "none")}),
    ("PutItem", {"Item": key("a", "1"), "ConditionExpression": "attribute_not_exists(pk)"}),
    (
        "PutItem",
        {
            "Item": {**key("a", "2"), "s": {"S": "y"}},
            "ConditionExpression": "attribute_not_exists(s) OR s <> :s",
            "ExpressionAttributeValues": {":s": {"S": "y"}},
        },
    ),
    (
        "PutItem",
        {
            "Item": {**key("a", "2"), "s": {"S": "z"}},
            "ConditionExpression": "attribute_not_exists(s) OR s <> :s",
            "ExpressionAttributeValues": {":s": {"S": "y"}},
        },
    ),
    update(
        "1",
        "SET #t = :t, n = if_not_exists(n, :n), m = if_not_exists(m, :n)",
        ExpressionAttributeNames={"#t": "token"},
        ExpressionAttributeValues={":t": {"S": "t"}, ":n": {"N": "7"}},
        ReturnValues="ALL_OLD",
    ),
    update("3", "SET n = :n", ExpressionAttributeValues={":n": {"N": "7"}}, ReturnValues="ALL_OLD"),
    update(
        "1",
        "SET n = :n REMOVE s, nothing",
        ConditionExpression="attribute_exists(pk) AND n <= :now AND (attribute_not_exists(m) OR m < :now)",
        ExpressionAttributeValues={":n": {"N": "8"}, ":now": {"N": "10"}},
        ReturnValues="ALL_NEW",
    ),
    *(
        update(
            sk,
            "SET n = :n",
            ConditionExpression=f"n {operator} :eight",
            ExpressionAttributeValues={":n": {"N": "8"}, ":eight": {"N": "8"}},
        )
        for operator in ("=", "<", "<=", ">", ">=", "<>")
        for sk in ("1", "2", "none")
    ),
    update("4", "ADD ids :id", ExpressionAttributeValues={":id": {"SS": ["b", "a"]}}, ReturnValues="ALL_NEW"),
    update(
        "4",
        "ADD ids :id",
        ConditionExpression="attribute_not_exists(ids) OR size(ids) < :limit",
        ExpressionAttributeValues={":id": {"SS": ["c"]}, ":limit": {"N": "2"}},
    ),
    update("4", "DELETE ids :id", ExpressionAttributeValues={":id": {"SS": ["a"]}}, ReturnValues="ALL_NEW"),
    update("4", "DELETE ids :id", ExpressionAttributeValues={":id": {"SS": ["b"]}}, ReturnValues="ALL_NEW"),
    query(),
    query(Limit=2),
    query(Limit=2, ExclusiveStartKey=key("a", "2")),
    query(ExclusiveStartKey=key("a", "4")),
    (
        "Query",
        {
            "KeyConditionExpression": "pk = :pk AND begins_with(sk, :prefix)",
            "ExpressionAttributeValues": {":pk": {"S": "a"}, ":prefix": {"S": "3"}},
        },
    ),
    *(
        query_range(low, high, **more)
        for low, high in (("1", "3"), ("2", "2"), ("5", "9"))
        for more in RANGES
    ),
    *(
        update(
            "1",
            "SET #l = list_append(if_not_exists(#l, :none), :added), #o = if_not_exists(#o, :one) "
            "ADD #n :two REMOVE nothing",
            ConditionExpression="attribute_not_exists(#l) OR (size(#l) < :two AND NOT contains(#l, :one))",
            ExpressionAttributeNames={"#l": "list", "#o": "other", "#n": "n"},
            ExpressionAttributeValues={
                ":none": {"L": []},
                ":added": {"L": [{"S": at}]},
                ":one": {"S": at},
                ":two": {"N": "2"},
            },
            ReturnValues="ALL_NEW",
        )
        for at in ("1", "1", "2", "3")
    ),
    ("DeleteItem", {"Key": key("a", "3"), "ConditionExpression": "attribute_not_exists(pk)"}),
    ("DeleteItem", {"Key": key("a", "3")}),
    ("DeleteItem", {"Key": key("a", "3")}),
    query(),
]


@pytest.fixture
def moto() -> Any:
    with mock_aws():
        yield moto_tables()


def result(engine: Engine, operation: str, params: dict[str, Any]) -> Any:
    try:
        table = {} if operation == "TransactWriteItems" else {"TableName": TABLE}
        answer = engine(operation, {**table, **params})
    except Refused as refused:
        return refused.code
    except Exception as error:  # noqa: BLE001  # botocore's, made on the fly
        return getattr(error, "response", {})["Error"]["Code"]
    for text in answer.get("Attributes", {}).values():
        text.get("SS", []).sort()  # a set has no order
    return {
        name: answer[name]
        for name in ("Item", "Items", "Count", "Attributes", "LastEvaluatedKey")
        if name in answer
    }


def test_single_calls(moto: Engine) -> None:
    tables = Tables("webhooks", TABLE).call
    numbers = count()
    for operation, params in CALLS:
        assert result(tables, operation, params) == result(moto, operation, params), (next(numbers), params)


def test_batches_and_transactions(moto: Engine) -> None:
    tables = Tables("webhooks", TABLE).call
    items = [{**key("a", str(number)), "n": {"N": str(number)}} for number in range(25)]
    put = {"RequestItems": {TABLE: [{"PutRequest": {"Item": item}} for item in items]}}
    delete = {"RequestItems": {TABLE: [{"DeleteRequest": {"Key": key("a", str(n))}} for n in range(20, 40)]}}
    condition = {"ConditionExpression": "n = :n", "ExpressionAttributeValues": {":n": {"N": "3"}}}
    refused = {
        "TransactItems": [
            {"Put": {"TableName": TABLE, "Item": key("b", "1")}},
            {"Delete": {"TableName": TABLE, "Key": key("a", "4"), **condition}},
        ]
    }
    done = {
        "TransactItems": [
            {"Put": {"TableName": TABLE, "Item": key("b", "1")}},
            {"Delete": {"TableName": TABLE, "Key": key("a", "3"), **condition}},
        ]
    }
    for engine in (tables, moto):
        engine("BatchWriteItem", put)
        engine("BatchWriteItem", delete)
        assert len(engine("Query", {"TableName": TABLE, **query()[1]})["Items"]) == 20
    assert result(tables, "TransactWriteItems", refused) == result(moto, "TransactWriteItems", refused)
    assert result(tables, "TransactWriteItems", refused) == "TransactionCanceledException"
    assert result(tables, *query()) == result(moto, *query())
    assert result(tables, "TransactWriteItems", done) == result(moto, "TransactWriteItems", done) == {}
    assert result(tables, *query()) == result(moto, *query())
    asked = {
        "RequestItems": {
            TABLE: {
                "Keys": [key("a", "5"), key("a", "none"), key("b", "1")],
                "ProjectionExpression": "pk, sk, #n",
                "ExpressionAttributeNames": {"#n": "n"},
            }
        }
    }
    answers = [engine("BatchGetItem", asked)["Responses"][TABLE] for engine in (tables, moto)]
    assert answers[0] == answers[1]


def test_pages_end_after_a_megabyte(moto: Engine) -> None:
    tables = Tables("webhooks", TABLE).call
    for engine in (tables, moto):
        for number in range(12):
            item = {**key("a", f"{number:02d}"), "text": {"S": "x" * 100_000}}
            engine("PutItem", {"TableName": TABLE, "Item": item})
        answer = engine("Query", {"TableName": TABLE, **query()[1]})
        assert len(answer["Items"]) in (9, 10, 11), "moto's megabyte is a little smaller"
        assert answer["LastEvaluatedKey"] == key("a", f"{len(answer['Items']) - 1:02d}")
