"""DynamoDB's tables in memory: what this product calls, with the same conditions and the same errors.

The engines of `tests.engines.dynamodb` do this too and know far more, at 2 to 5 ms a call. A week of probes
and a crash at each step need it a hundred times faster. Every scenario can run on an engine, and
`test_tables.py` holds the tables in memory against each.
"""

import re
import sys
from bisect import bisect_left, bisect_right, insort
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

type Item = dict[str, dict[str, Any]]
type Key = tuple[str, str]
type Names = Mapping[str, str]
type Values = Mapping[str, dict[str, Any]]

_PAGE_BYTES = 1024 * 1024
_ITEM_BYTES = 400 * 1024  # DynamoDB's limit
_TOKEN = re.compile(r"\s*(<>|<=|>=|[=<>(),+-]|[#:]?[A-Za-z_][A-Za-z0-9_]*)")


class Refused(Exception):
    """An error of DynamoDB: its code, and for a transaction the code of each action."""

    def __init__(self, code: str, reasons: list[str] | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.reasons = reasons


class _SortKeys:
    """The sort keys of a partition, in order: those of `keys` from `first` on.

    Lanes are emptied from their beginning. A list would move all that is behind, a million times a million.
    """

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.first = 0

    def add(self, key: str) -> None:
        insort(self.keys, key, lo=self.first)

    def remove(self, key: str) -> None:
        index = bisect_left(self.keys, key, lo=self.first)
        if index - self.first > len(self.keys) - index:
            del self.keys[index]
            return
        self.keys[self.first + 1 : index + 1] = self.keys[self.first : index]
        self.first += 1
        if self.first > len(self.keys) // 2:
            del self.keys[: self.first]
            self.first = 0


class _Table:
    def __init__(self) -> None:
        self.items: dict[Key, Item] = {}
        self._sizes: dict[Key, int] = {}
        self.sort_keys: defaultdict[str, _SortKeys] = defaultdict(_SortKeys)
        self.changes: Counter[str] = Counter()

    def put(self, item: Item) -> None:
        pk, sk = key = _key(item)
        size = _size(item)
        if size > _ITEM_BYTES:
            raise Refused("ValidationException")
        self.changes[pk] += 1
        if key not in self.items:
            self.sort_keys[pk].add(sk)
        self.items[key] = item
        self._sizes[key] = size

    def delete(self, key: Key) -> None:
        if self.items.pop(key, None) is not None:
            self.changes[key[0]] += 1
            self._sizes.pop(key, None)
            self.sort_keys[key[0]].remove(key[1])

    def size(self, key: Key) -> int:
        """Of the item there, in bytes."""
        return self._sizes[key]


class _Replica:
    """A table as it was a moment ago, which an eventually consistent read may return."""

    def __init__(self) -> None:
        self.table = _Table()
        self._changes: deque[tuple[float, Key, Item | None]] = deque()

    def note(self, moment: float, key: Key, item: Item | None) -> None:
        self._changes.append((moment, key, item))

    def catch_up(self, moment: float) -> None:
        """Take over what was changed until then."""
        while self._changes and self._changes[0][0] <= moment:
            _, key, item = self._changes.popleft()
            if item is None:
                self.table.delete(key)
            else:
                self.table.put(item)


class Tables:
    """`call` is what botocore's `_make_api_call` is: an operation's name and parameters in, a response out.

    With a `clock`, a read through `call_lagging` that does not ask for consistency sees the tables as they
    were `lag_seconds` ago.
    """

    def __init__(
        self, *names: str, clock: Callable[[], float] = lambda: 0.0, lag_seconds: float = 0.0
    ) -> None:
        self._clock = clock
        self._lag_seconds = lag_seconds
        self._tables = {name: _Table() for name in names}
        self._replicas = {name: _Replica() for name in names} if lag_seconds else {}
        self._is_lagging = False
        self._operations: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "GetItem": self._get_item,
            "PutItem": self._put_item,
            "UpdateItem": self._update_item,
            "DeleteItem": self._delete_item,
            "Query": self._query,
            "BatchGetItem": self._batch_get_item,
            "BatchWriteItem": self._batch_write_item,
            "TransactWriteItems": self._transact_write_items,
        }

    def call(self, operation: str, params: dict[str, Any]) -> dict[str, Any]:
        """Do it.

        Raises:
            Refused: a condition did not hold, or a limit was passed.
        """
        return self._operations[operation](params)

    def call_lagging(self, operation: str, params: dict[str, Any]) -> dict[str, Any]:
        """Do it; a read that does not ask for consistency may see what was."""
        self._is_lagging = bool(self._replicas)
        try:
            return self.call(operation, params)
        finally:
            self._is_lagging = False

    def changes(self, table: str, *partitions: str) -> list[int]:
        """How often each of these partitions was changed."""
        return [self._tables[table].changes[each] for each in partitions]

    def items(self, table: str) -> list[Item]:
        """Everything in a table, in order."""
        return [self._tables[table].items[key] for key in sorted(self._tables[table].items)]

    def _get_item(self, params: dict[str, Any]) -> dict[str, Any]:
        item = self._read(params["TableName"], params).items.get(_key(params["Key"]))
        return {"Item": dict(item)} if item is not None else {}

    def _put_item(self, params: dict[str, Any]) -> dict[str, Any]:
        self._check(params, _key(params["Item"]))
        self._put(params["TableName"], dict(params["Item"]))
        return {}

    def _delete_item(self, params: dict[str, Any]) -> dict[str, Any]:
        self._check(params, _key(params["Key"]))
        self._delete(params["TableName"], _key(params["Key"]))
        return {}

    def _update_item(self, params: dict[str, Any]) -> dict[str, Any]:
        table = self._tables[params["TableName"]]
        self._check(params, _key(params["Key"]))
        old = table.items.get(_key(params["Key"]))
        new = dict(old or params["Key"])
        names = params.get("ExpressionAttributeNames", {})
        values = params.get("ExpressionAttributeValues", {})
        _Update(params["UpdateExpression"], names, values).apply(new, old or {})
        self._put(params["TableName"], new)
        match params.get("ReturnValues"):
            case "ALL_OLD" if old:
                return {"Attributes": dict(old)}
            case "ALL_NEW":
                return {"Attributes": dict(new)}
        return {}

    def _query(self, params: dict[str, Any]) -> dict[str, Any]:
        table = self._read(params["TableName"], params)
        names = params.get("ExpressionAttributeNames", {})
        pk, low, high = _key_condition(
            params["KeyConditionExpression"], names, params["ExpressionAttributeValues"]
        )
        if pk not in table.sort_keys and "ExclusiveStartKey" not in params:  # so are most that are asked for
            nothing = {"Count": 0, "ScannedCount": 0}
            return nothing if params.get("Select") == "COUNT" else nothing | {"Items": []}
        sort_keys, first = table.sort_keys[pk].keys, table.sort_keys[pk].first
        start, end = bisect_left(sort_keys, low, lo=first), bisect_right(sort_keys, high, lo=first)
        is_forward = params.get("ScanIndexForward", True)
        if "ExclusiveStartKey" in params:
            last = params["ExclusiveStartKey"]["sk"]["S"]
            if params["ExclusiveStartKey"]["pk"]["S"] != pk or not low <= last <= high:
                raise Refused("ValidationException")
            if is_forward:
                start = bisect_right(sort_keys, last, lo=first)
            else:
                end = bisect_left(sort_keys, last, lo=first)
        read: list[str] = []
        size, limit = 0, params.get("Limit")
        for index in range(start, end) if is_forward else range(end - 1, start - 1, -1):
            sk = sort_keys[index]
            read.append(sk)
            size += table.size((pk, sk))
            if len(read) == limit or size > _PAGE_BYTES:
                break
        found = read
        if "FilterExpression" in params:
            condition = (params["FilterExpression"], names, params["ExpressionAttributeValues"])
            found = [sk for sk in read if _Condition(*condition).holds(table.items[pk, sk])]
        answer: dict[str, Any] = {"Count": len(found), "ScannedCount": len(read)}
        if params.get("Select") != "COUNT":
            wanted = _projection(params.get("ProjectionExpression"), names)
            answer["Items"] = [_projected(table.items[pk, sk], wanted) for sk in found]
        if read and (len(read) == limit or size > _PAGE_BYTES):
            answer["LastEvaluatedKey"] = _key_item((pk, read[-1]))
        return answer

    def _batch_get_item(self, params: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, list[Item]] = {}
        for name, asked in params["RequestItems"].items():
            keys = [_key(key) for key in asked["Keys"]]
            if len(keys) > 100 or len(set(keys)) < len(keys):
                raise Refused("ValidationException")
            wanted = _projection(asked["ProjectionExpression"], asked.get("ExpressionAttributeNames", {}))
            # In no order, as DynamoDB answers: in another than was asked for.
            there = self._read(name, asked).items
            items = [there[key] for key in keys[::-1] if key in there]
            found[name] = [_projected(item, wanted) for item in items]
        return {"Responses": found, "UnprocessedKeys": {}}

    def _batch_write_item(self, params: dict[str, Any]) -> dict[str, Any]:
        for name, requests in params["RequestItems"].items():
            keys = [
                _key(
                    request["PutRequest"]["Item"]
                    if "PutRequest" in request
                    else request["DeleteRequest"]["Key"]
                )
                for request in requests
            ]
            if not 0 < len(keys) <= 25 or len(set(keys)) < len(keys):
                raise Refused("ValidationException")
            for request, key in zip(requests, keys, strict=True):
                if "PutRequest" in request:
                    self._put(name, dict(request["PutRequest"]["Item"]))
                else:
                    self._delete(name, key)
        return {"UnprocessedItems": {}}

    def _transact_write_items(self, params: dict[str, Any]) -> dict[str, Any]:
        actions = [next(iter(action.items())) for action in params["TransactItems"]]
        reasons = [
            "None"
            if self._holds(action, _key(action.get("Key") or action["Item"]))
            else "ConditionalCheckFailed"
            for _, action in actions
        ]
        if set(reasons) != {"None"}:
            raise Refused("TransactionCanceledException", reasons)
        for kind, action in actions:
            if kind != "ConditionCheck":
                self._operations[f"{kind}Item"]({**action, "ConditionExpression": ""})
        return {}

    def _read(self, name: str, asked: Mapping[str, Any]) -> _Table:
        """What a read sees: the table, or its past."""
        if not self._is_lagging or asked.get("ConsistentRead"):
            return self._tables[name]
        replica = self._replicas[name]
        replica.catch_up(self._clock() - self._lag_seconds)
        return replica.table

    def _put(self, name: str, item: Item) -> None:
        self._tables[name].put(item)
        self._note(name, _key(item), item)

    def _delete(self, name: str, key: Key) -> None:
        self._tables[name].delete(key)
        self._note(name, key, None)

    def _note(self, name: str, key: Key, item: Item | None) -> None:
        if self._replicas:
            now = self._clock()
            self._replicas[name].note(now, key, item)
            self._replicas[name].catch_up(now - self._lag_seconds)

    def _check(self, params: dict[str, Any], key: Key) -> None:
        if not self._holds(params, key):
            raise Refused("ConditionalCheckFailedException")

    def _holds(self, params: dict[str, Any], key: Key) -> bool:
        if not params.get("ConditionExpression"):
            return True
        item = self._tables[params["TableName"]].items.get(key, {})
        names = params.get("ExpressionAttributeNames", {})
        values = params.get("ExpressionAttributeValues", {})
        return _Condition(params["ConditionExpression"], names, values).holds(item)


@cache
def _words(expression: str) -> list[str]:
    words: list[str] = _TOKEN.findall(expression)
    if "".join(words) != re.sub(r"\s", "", expression):
        raise LookupError(expression)
    return words


class _Words:
    """An expression, word by word."""

    def __init__(self, expression: str, names: Names, values: Values) -> None:
        self.words = _words(expression).copy()
        self.names = names
        self.values = values

    def next(self) -> str:
        word: str = self.words.pop(0)
        return word

    def take(self, *wanted: str) -> str | None:
        """The next word if it is one of `wanted`."""
        return self.next() if self.words and self.words[0] in wanted else None

    def expect(self, wanted: str) -> None:
        if self.take(wanted) is None:
            raise LookupError(f"{wanted!r} expected before {self.words}")

    def name(self) -> str:
        word = self.next()
        return self.names[word] if word.startswith("#") else word

    def in_brackets(self) -> str:
        self.expect("(")
        name = self.name()
        self.expect(")")
        return name


class _Condition(_Words):
    def holds(self, item: Item) -> bool:
        result = self._any(item)
        if self.words:
            raise LookupError(f"condition goes on with {self.words}")
        return result

    def _any(self, item: Item) -> bool:
        result = self._all(item)
        while self.take("OR"):
            result = self._all(item) or result
        return result

    def _all(self, item: Item) -> bool:
        result = self._one(item)
        while self.take("AND"):
            result = self._one(item) and result
        return result

    def _one(self, item: Item) -> bool:
        if self.take("NOT"):
            return not self._one(item)
        if self.take("("):
            result = self._any(item)
            self.expect(")")
            return result
        if self.take("attribute_exists"):
            return self.in_brackets() in item
        if self.take("attribute_not_exists"):
            return self.in_brackets() not in item
        if self.take("contains"):
            self.expect("(")
            name = self.name()
            self.expect(",")
            sought = self.values[self.next()]
            self.expect(")")
            return name in item and sought in item[name]["L"]
        left = self._operand(item)
        operator = self.next()
        right = self._operand(item)
        return _compare(left, operator, right)

    def _operand(self, item: Item) -> dict[str, Any] | None:
        if self.take("size"):
            attribute = item.get(self.in_brackets())
            return {"N": str(len(next(iter(attribute.values()))))} if attribute is not None else None
        if self.words[0].startswith(":"):
            return self.values[self.next()]
        return item.get(self.name())


class _Update(_Words):
    def apply(self, item: Item, old: Item) -> None:
        while self.words:
            clause = self.next()
            self._apply_one(clause, item, old)
            while self.take(","):
                self._apply_one(clause, item, old)

    def _apply_one(self, clause: str, item: Item, old: Item) -> None:
        name = self.name()
        match clause:
            case "SET":
                self.expect("=")
                item[name] = self._value(old)
            case "REMOVE":
                item.pop(name, None)
            case "ADD":
                item[name] = _sum(old.get(name), self.values[self.next()])
            case "DELETE":
                left = set(old.get(name, {"SS": []})["SS"]) - set(self.values[self.next()]["SS"])
                item[name] = {"SS": sorted(left)}
                if not left:
                    del item[name]
            case _:
                raise LookupError(clause)

    def _value(self, old: Item) -> dict[str, Any]:
        if self.take("list_append"):
            self.expect("(")
            first = self._value(old)
            self.expect(",")
            second = self._value(old)
            self.expect(")")
            return {"L": [*first["L"], *second["L"]]}
        if self.take("if_not_exists"):
            self.expect("(")
            name = self.name()
            self.expect(",")
            value = self._value(old)
            self.expect(")")
            return old.get(name, value)
        return self.values[self.next()] if self.words[0].startswith(":") else old[self.name()]


def _sum(old: dict[str, Any] | None, added: dict[str, Any]) -> dict[str, Any]:
    if "SS" in added:
        return {"SS": sorted({*(old or {"SS": []})["SS"], *added["SS"]})}
    return {"N": str(int((old or {"N": "0"})["N"]) + int(added["N"]))}


def _compare(left: dict[str, Any] | None, operator: str, right: dict[str, Any] | None) -> bool:
    if operator == "<>":
        return left != right
    if left is None or right is None or left.keys() != right.keys():
        return False
    kind = next(iter(left))
    first, second = (float(each[kind]) if kind == "N" else each[kind] for each in (left, right))
    return {
        "=": first == second,
        "<": first < second,
        "<=": first <= second,
        ">": first > second,
        ">=": first >= second,
    }[operator]


def _key_condition(expression: str, names: Names, values: Values) -> tuple[str, str, str]:
    """The partition that is asked for, and the first and the last of its sort keys."""
    places = _places(expression, tuple(names.items()))
    pk, prefix, low, high = [values[name]["S"] if name else "" for name in places]
    if high and low > high:
        raise Refused("ValidationException")
    return (pk, low, high) if high else (pk, prefix, prefix + chr(sys.maxunicode))


@cache
def _places(expression: str, names: tuple[tuple[str, str], ...]) -> tuple[str | None, ...]:
    """What stands for the partition, for a prefix, and for the first and the last sort key."""
    named = dict(names)
    plain = re.sub(r"#\w+", lambda name: named[name[0]], expression)
    read = re.fullmatch(
        r"pk = (:\w+)(?: AND (?:begins_with\(sk, (:\w+)\)|sk BETWEEN (:\w+) AND (:\w+)))?", plain
    )
    if not read:
        raise LookupError(expression)
    return read.groups()


def _projection(expression: str | None, names: Names) -> list[str] | None:
    if expression is None:
        return None
    return [names.get(each, each) for each in re.split(r"\s*,\s*", expression)]


def _projected(item: Item, wanted: list[str] | None) -> Item:
    return dict(item) if wanted is None else {name: item[name] for name in wanted if name in item}


def _key(item: Mapping[str, Any]) -> Key:
    return item["pk"]["S"], item["sk"]["S"]


def _key_item(key: Key) -> Item:
    return {"pk": {"S": key[0]}, "sk": {"S": key[1]}}


def _size(item: Item) -> int:
    """About what DynamoDB counts: the names, and what is in the values."""
    size = 0
    for name, value in item.items():
        for held in value.values():
            size += len(name) + (len(held) if type(held) is str else _nested_size(held))
    return size


def _nested_size(value: Any) -> int:
    match value:
        case dict():
            return sum(map(_nested_size, value.values()))
        case list():
            return sum(map(_nested_size, value))
        case str() | bytes():
            return len(value)
        case _:
            return 1
