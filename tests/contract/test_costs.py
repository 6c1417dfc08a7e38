"""What docs/deploy.md says of costs follows from the code, the template and the prices of `bench`:
of an event, of a history, and of a stack without events.
"""

from collections.abc import Mapping
from typing import Any

import pytest

from bench.cost import (
    PRICES,
    SWEEPS_AN_HOUR,
    Bill,
    bills,
    idle,
    idle_markdown,
    item_bytes,
    markdown,
    storage_markdown,
)
from tests.contract.template import FUNCTIONS, REPOSITORY, RULES, event_sources


@pytest.fixture(scope="module")
def found() -> Mapping[str, Bill]:
    return bills()


@pytest.mark.slow
def test_the_table_is_what_the_code_uses(found: Mapping[str, Bill]) -> None:
    documented = (REPOSITORY / "docs" / "deploy.md").read_text()
    assert markdown(found) in documented, f"make bench ONLY=cost prints it:\n{markdown(found)}"


def test_a_stack_without_events_costs_what_is_documented() -> None:
    documented = (REPOSITORY / "docs" / "deploy.md").read_text()
    table = idle_markdown(idle())
    assert table in documented, f"make bench ONLY=cost prints it:\n{table}"


def test_a_history_costs_what_is_documented(found: Mapping[str, Bill]) -> None:
    documented = (REPOSITORY / "docs" / "deploy.md").read_text()
    table = storage_markdown(found)
    assert table in documented, f"make bench ONLY=cost prints it:\n{table}"
    # Each item is a KB at most, or it would have cost two write units.
    assert 0.3 < found["direct"].history_gb < 1.1


def test_an_idle_queue_is_polled_by_five_pollers_for_twenty_seconds_at_least() -> None:
    """Lambda's guide: never fewer than five pollers a source, and long polling, which waits 20 s at most."""
    assert PRICES["assumptions"]["receivesOfAnIdleQueueADay"] >= 5 * 86_400 / 20
    queues = {queue for _, queue, _ in event_sources()}
    (polling,) = [part for part in idle() if part.name.startswith("Lambda's polling")]
    assert polling.reckoning.startswith(f"{len(queues)} queues")
    assert 0.25 * len(queues) < polling.dollars < 0.35 * len(queues)


def test_the_schedule_that_is_reckoned_with_is_the_template_s() -> None:
    assert RULES["BatchSweepSchedule"]["ScheduleExpression"] == f"rate({60 // SWEEPS_AN_HOUR} minute)"


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
