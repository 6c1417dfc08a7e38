"""The tables in memory behave as those of each engine: the same calls to both, and the same responses."""

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from tests.engines.dynamodb import Engine as DynamoDb
from tests.scenarios.tables import Refused, Tables
from tests.scenarios.world import Engine, World, make_tables

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


RANGES: list[tuple[str, str, dict[str, Any]]] = [
    *(
        (low, high, more)
        for low, high in (("1", "3"), ("2", "2"), ("5", "9"))
        for more in (
            {},
            {"ScanIndexForward": False},
            {"ProjectionExpression": "#sk"},
            {"Select": "COUNT"},
        )
    ),
    # Not up to the end of a range: engines differ in whether they say then that there is more. DynamoDB may.
    ("1", "3", {"Limit": 1}),
    ("5", "9", {"Limit": 1}),
    ("1", "3", {"ScanIndexForward": False, "Limit": 1, "ExclusiveStartKey": key("a", "3")}),
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
    *(query_range(low, high, **more) for low, high, more in RANGES),
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
def engine(dynamodb: DynamoDb) -> Iterator[Engine]:
    with dynamodb() as client:
        yield make_tables(client)


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


def test_single_calls(engine: Engine) -> None:
    tables = Tables("webhooks", TABLE).call
    numbers = count()
    for operation, params in CALLS:
        assert result(tables, operation, params) == result(engine, operation, params), (next(numbers), params)


def test_batches_and_transactions(engine: Engine) -> None:
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
    for each in (tables, engine):
        each("BatchWriteItem", put)
        each("BatchWriteItem", delete)
        assert len(each("Query", {"TableName": TABLE, **query()[1]})["Items"]) == 20
    assert result(tables, "TransactWriteItems", refused) == result(engine, "TransactWriteItems", refused)
    assert result(tables, "TransactWriteItems", refused) == "TransactionCanceledException"
    assert result(tables, *query()) == result(engine, *query())
    assert result(tables, "TransactWriteItems", done) == result(engine, "TransactWriteItems", done) == {}
    assert result(tables, *query()) == result(engine, *query())
    asked = {
        "RequestItems": {
            TABLE: {
                "Keys": [key("a", "5"), key("a", "none"), key("b", "1")],
                "ProjectionExpression": "pk, sk, #n",
                "ExpressionAttributeNames": {"#n": "n"},
            }
        }
    }
    answers = [each("BatchGetItem", asked)["Responses"][TABLE] for each in (tables, engine)]
    first, second = (sorted(each, key=lambda item: str(item["pk"])) for each in answers)
    assert first == second


@pytest.mark.dynamodb_local
@pytest.mark.parametrize(
    ("operation", "params"),
    [
        query_range("3", "1"),
        query_range("1", "3", ExclusiveStartKey=key("a", "4")),
        query_range("1", "3", ExclusiveStartKey=key("b", "2")),
    ],
    ids=["no range", "start beyond the range", "start in another partition"],
)
def test_no_range_and_no_start_outside_of_one(
    dynamodb_local: DynamoDb, operation: str, params: dict[str, Any]
) -> None:
    """moto takes these: see tests/engines/test_engines.py."""
    tables = Tables("webhooks", TABLE).call
    with dynamodb_local() as client:
        engine = make_tables(client)
        for each in (tables, engine):
            assert result(each, operation, params) == "ValidationException"


def test_an_item_has_400_kilobytes_at_most(engine: Engine) -> None:
    """Moto's 400 are a little smaller."""
    for each in (engine, Tables(TABLE).call):
        for kilobytes, answer in ((395, {}), (401, "ValidationException")):
            item = {**key("a", "1"), "text": {"S": "x" * kilobytes * 1024}}
            assert result(each, "PutItem", {"Item": item}) == answer


def test_pages_end_after_a_megabyte(engine: Engine) -> None:
    tables = Tables("webhooks", TABLE).call
    for each in (tables, engine):
        for number in range(12):
            item = {**key("a", f"{number:02d}"), "text": {"S": "x" * 100_000}}
            each("PutItem", {"TableName": TABLE, "Item": item})
        answer = each("Query", {"TableName": TABLE, **query()[1]})
        assert len(answer["Items"]) in (9, 10, 11), "moto's megabyte is a little smaller"
        assert answer["LastEvaluatedKey"] == key("a", f"{len(answer['Items']) - 1:02d}")


def test_a_read_that_is_not_consistent_sees_what_was() -> None:
    """A second late, as DynamoDB's guide allows; each kind of read, after each kind of write."""
    now = 10.0
    tables = Tables("webhooks", TABLE, clock=lambda: now, lag_seconds=1.0)

    def read(*, consistent: bool) -> tuple[Any, Any, Any]:
        asked = {"Keys": [key("a", "1")], "ProjectionExpression": "n", "ConsistentRead": consistent}
        more = {"TableName": TABLE, "ConsistentRead": consistent}
        answers = [
            tables.call_lagging("GetItem", {"Key": key("a", "1"), **more}).get("Item", {}).get("n"),
            [each["n"] for each in tables.call_lagging("Query", {**query()[1], **more})["Items"]],
            tables.call_lagging("BatchGetItem", {"RequestItems": {TABLE: asked}})["Responses"][TABLE],
        ]
        return answers[0], answers[1], answers[2]

    def seen(number: str | None) -> tuple[Any, Any, Any]:
        value = {"N": number}
        return (value, [value], [{"n": value}]) if number else (None, [], [])

    put = {"PutRequest": {"Item": {**key("a", "1"), "n": {"N": "1"}}}}
    change = update("1", "SET n = :n", ExpressionAttributeValues={":n": {"N": "2"}})[1]
    remove = {"Delete": {"TableName": TABLE, "Key": key("a", "1")}}
    last = None
    for number, (operation, params) in [
        ("1", ("BatchWriteItem", {"RequestItems": {TABLE: [put]}})),
        ("2", ("UpdateItem", {"TableName": TABLE, **change})),
        (None, ("TransactWriteItems", {"TransactItems": [remove]})),
    ]:
        tables.call_lagging(operation, params)
        assert read(consistent=True) == seen(number)
        assert read(consistent=False) == seen(last)
        now += 0.9
        assert read(consistent=False) == seen(last)
        now += 0.1
        assert read(consistent=False) == seen(number)
        last = number


@pytest.mark.parametrize("config", [{}, {"PageSize": 2}, {"MaxItems": 3}, {"PageSize": 2, "MaxItems": 4}])
def test_pages_are_those_of_botocore(config: dict[str, int]) -> None:
    with World() as world:
        client = world._dynamodb
        for number in range(5):
            client.put_item(TableName=TABLE, Item=key("a", str(number)))
        asked = {"PaginationConfig": config, "TableName": TABLE, **query()[1]}
        pages = list(client.get_paginator("query").paginate(**asked))
        wanted = list(type(client).get_paginator(client, "query").paginate(**asked))
    assert pages == wanted
    assert pages[0]["Items"]
