"""What docs/operations.md says that an event costs is what the code uses, at the prices of `bench`."""

from collections.abc import Mapping
from typing import Any

import pytest

from bench.cost import PRICES, Bill, bills, item_bytes, markdown
from tests.contract.template import FUNCTIONS, REPOSITORY


@pytest.fixture(scope="module")
def found() -> Mapping[str, Bill]:
    return bills()


def test_the_table_is_what_the_code_uses(found: Mapping[str, Bill]) -> None:
    documented = (REPOSITORY / "docs" / "operations.md").read_text()
    assert markdown(found) in documented, f"make bench ONLY=cost prints it:\n{markdown(found)}"


def test_a_healthy_delivery_is_written_once_and_read_by_its_key(found: Mapping[str, Bill]) -> None:
    healthy = found["direct"]
    assert healthy.write_units == healthy.events
    assert healthy.read_units - healthy.look_read_units <= healthy.events * 0.5
    assert healthy.read_units <= healthy.events * 0.55
    assert healthy.calls.total() <= healthy.events * 0.35
    assert healthy.posts == healthy.events


def test_a_backlog_goes_out_in_few_requests(found: Mapping[str, Bill]) -> None:
    assert found["drain"].posts <= found["drain"].events / 90
    assert found["drain"].write_units <= found["drain"].events * 2 + 20


def test_the_memory_that_is_reckoned_with_is_the_template_s() -> None:
    assert {each["MemorySize"] for each in FUNCTIONS.values()} == {PRICES["assumptions"]["lambdaMemoryMb"]}


def test_items_are_measured_by_the_rules_of_dynamodb() -> None:
    """Text by its bytes, a number by half its digits and some, lists and maps with their overhead."""
    item: dict[str, dict[str, Any]] = {
        "pk": {"S": "é"},
        "n": {"N": "1234"},
        "l": {"L": [{"M": {"a": {"BOOL": True}}}]},
    }
    assert item_bytes(item) == (2 + 2) + (1 + 4) + (1 + 3 + 1 + 3 + 1 + 1 + 1)
