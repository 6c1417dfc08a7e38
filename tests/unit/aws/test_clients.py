"""A batch of items reaches DynamoDB as botocore alone would write it."""

import json
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.session import get_session
from hypothesis import given
from hypothesis import strategies as st

from lms_webhooks.aws import clients
from tests.engines.dynamodb import REGION


class _Client:
    """A client of DynamoDB with the product's options, whose calls end before the network."""

    def __init__(self) -> None:
        session = get_session()
        session.set_credentials("key", "secret")
        self.client: Any = session.create_client("dynamodb", region_name=REGION, config=clients._CONFIG)
        self.client.meta.events.register("before-send.dynamodb", self._respond)
        self.sent: list[Any] = []

    def _respond(self, request: Any, **_: object) -> Any:
        self.sent.append(request)
        response: Any = AWSResponse(request.url, 200, HTTPHeaders(), raw=None)
        response._content = b"{}"
        return response

    def body(self, operation: str, items: object) -> Any:
        """What is sent."""
        getattr(self.client, operation)(RequestItems=items)
        request = self.sent.pop()
        assert int(request.headers["Content-Length"]) == len(request.body)
        return json.loads(request.body)


PLAIN, ENCODED = _Client(), _Client()
clients.encode_batches(ENCODED.client)

TEXT = st.text(max_size=20)
SCALARS = st.one_of(
    TEXT.map(lambda text: {"S": text}),
    st.integers().map(lambda number: {"N": str(number)}),
    st.binary(max_size=20).map(lambda data: {"B": data}),
    st.booleans().map(lambda truth: {"BOOL": truth}),
    st.lists(TEXT, min_size=1).map(lambda texts: {"SS": texts}),
    st.lists(st.binary(max_size=9), min_size=1).map(lambda pieces: {"BS": pieces}),
    st.just({"NULL": True}),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda values: {"L": values})
        | st.dictionaries(TEXT, inner, max_size=3).map(lambda values: {"M": values})
    ),
    max_leaves=6,
)
ITEMS = st.dictionaries(TEXT, VALUES, min_size=1, max_size=5)


@pytest.mark.slow
@given(st.lists(ITEMS, min_size=1, max_size=3), st.lists(ITEMS, max_size=2))
def test_items_are_written_as_botocore_writes_them(put: list[Any], deleted: list[Any]) -> None:
    requests = [{"PutRequest": {"Item": item}} for item in put]
    requests += [{"DeleteRequest": {"Key": key}} for key in deleted]
    wanted = PLAIN.body("batch_write_item", {"table": requests})
    assert wanted["RequestItems"]["table"]
    assert ENCODED.body("batch_write_item", {"table": requests}) == wanted


@pytest.mark.slow
@given(st.lists(ITEMS, min_size=1, max_size=3))
def test_keys_are_asked_for_as_botocore_asks(keys: list[Any]) -> None:
    asked = {
        "table": {
            "Keys": keys,
            "ProjectionExpression": "pk, #outcome",
            "ExpressionAttributeNames": {"#outcome": "outcome"},
            "ConsistentRead": False,
        }
    }
    wanted = PLAIN.body("batch_get_item", asked)
    assert ENCODED.body("batch_get_item", asked) == wanted


def test_the_same_call_goes_to_the_same_place() -> None:
    request = {"table": [{"PutRequest": {"Item": {"pk": {"S": "a"}}}}]}
    urls = []
    for each in (PLAIN, ENCODED):
        each.client.batch_write_item(RequestItems=request)
        sent: Any = each.sent.pop()
        urls.append((sent.method, sent.url, sent.headers["X-Amz-Target"], sent.headers["Content-Type"]))
    assert urls[0] == urls[1]


def test_what_dynamodb_has_no_type_for_is_refused_before_it_is_sent() -> None:
    with pytest.raises(TypeError, match="no values of type object"):
        ENCODED.client.batch_write_item(RequestItems={"table": [{"PutRequest": {"Item": {"pk": object()}}}]})
    assert not ENCODED.sent
