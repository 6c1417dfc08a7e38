"""The history says what became of each delivery, and nothing takes a success back."""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lms_webhooks.attempts import Attempt
from lms_webhooks.delivery_store import Delivery, DeliveryStore, Outcome
from lms_webhooks.dynamodb import Table, key_item
from lms_webhooks.event_items import read_attempts, read_event_item
from lms_webhooks.event_types import EVENT_TYPES
from lms_webhooks.events import read_event
from tests.engines.dynamodb import Engine
from tests.unit.tables import DAY_MS, NOW_MS, Fails, before, event, keep_requests, tables

NOW_SECONDS = NOW_MS // 1000
ATTEMPT = Attempt(NOW_MS, 80, 200, None)
SAMPLES = Path(__file__).parents[2] / "events" / "put_events"
WAYS = ("record", "record_unless_delivered")


@pytest.fixture
def table(dynamodb: Engine) -> Iterator[Table]:
    with tables(dynamodb) as (_, deliveries):
        yield deliveries


@pytest.fixture
def store(table: Table) -> DeliveryStore:
    return DeliveryStore(table, retention_days=30)


def delivery(
    event_id: str = "e1", outcome: Outcome = Outcome.DELIVERED, *, webhook_id: str = "wh_1", **changes: Any
) -> Delivery:
    return replace(Delivery(webhook_id, event(event_id), outcome, (ATTEMPT,)), **changes)


def record(store: DeliveryStore, *deliveries: Delivery, way: str = "record") -> set[tuple[str, str]]:
    unwritten: set[tuple[str, str]] = getattr(store, way)(deliveries, recorded_at_seconds=NOW_SECONDS)
    return unwritten


def stored(table: Table, kept: Delivery) -> Any:
    key = key_item((f"DELIVERY#{kept.webhook_id}", kept.event.sort_key))
    return table.client.get_item(TableName=table.name, Key=key).get("Item")


@pytest.mark.parametrize("way", WAYS)
def test_all_of_a_delivery_is_kept_until_its_retention_is_over(
    store: DeliveryStore, table: Table, way: str
) -> None:
    kept = delivery(outcome=Outcome.EXPIRED, reason="not delivered within 7 days")
    assert record(store, kept, way=way) == set()
    item = stored(table, kept)
    assert read_event_item(item, item["sk"]["S"]) == kept.event
    assert read_attempts(item["attempts"]) == (ATTEMPT,)
    assert (item["outcome"]["S"], item["reason"]["S"]) == ("expired", "not delivered within 7 days")
    assert item["expires_at"]["N"] == str(NOW_SECONDS + 30 * DAY_MS // 1000), "TTL counts in seconds"


def test_what_has_no_reason_says_none(store: DeliveryStore, table: Table) -> None:
    record(store, delivery())
    assert "reason" not in stored(table, delivery())


def test_a_long_event_is_kept_compressed(store: DeliveryStore, table: Table) -> None:
    kept = delivery(event=event(text='{"data":"' + "long " * 1000 + '"}'))
    record(store, kept)
    assert len(stored(table, kept)["event"]["B"]) < 100


def test_only_what_is_delivered_is_found(store: DeliveryStore) -> None:
    """Not what failed or expired, not what was never recorded, not another webhook's."""
    record(
        store,
        delivery("delivered"),
        delivery("failed", Outcome.FAILED),
        delivery("expired", Outcome.EXPIRED),
        delivery("elsewhere", webhook_id="wh_2"),
    )
    asked = [delivery(each).key for each in ("delivered", "failed", "expired", "elsewhere", "unknown")]
    assert store.find_delivered(asked, consistent=True) == {delivery("delivered").key}
    assert store.find_delivered([("wh_2", delivery("elsewhere").event.sort_key)], consistent=True)


def test_an_id_with_the_separator_in_it_is_found(store: DeliveryStore) -> None:
    kept = delivery("a#b#c", webhook_id="wh_DELIVERY#")
    record(store, kept)
    assert store.find_delivered(iter([kept.key]), consistent=False) == {kept.key}


@pytest.mark.parametrize("consistent", [True, False])
def test_the_drainer_s_question_is_answered_consistently(
    store: DeliveryStore, table: Table, consistent: bool
) -> None:
    asked = keep_requests(table, "batch_get_item")
    store.find_delivered([delivery().key], consistent=consistent)
    assert asked[0]["RequestItems"][table.name]["ConsistentRead"] is consistent


def test_a_history_that_cannot_be_read_is_not_an_empty_one(store: DeliveryStore, table: Table) -> None:
    before(table).answers["batch_get_item"] = Fails(None)  # type: ignore[arg-type]  # is never called
    with pytest.raises(ClientError):
        store.find_delivered([delivery().key], consistent=True)


def test_a_message_that_comes_twice_meets_its_own_record(store: DeliveryStore, table: Table) -> None:
    record(store, delivery())
    record(store, delivery())
    assert table.client.scan(TableName=table.name)["Count"] == 1


@pytest.mark.parametrize(
    ("earlier", "ended", "stands"),
    [
        (None, Outcome.EXPIRED, Outcome.EXPIRED),
        (Outcome.DELIVERED, Outcome.EXPIRED, Outcome.DELIVERED),
        (Outcome.DELIVERED, Outcome.FAILED, Outcome.DELIVERED),
        (Outcome.FAILED, Outcome.EXPIRED, Outcome.EXPIRED),
        (Outcome.EXPIRED, Outcome.FAILED, Outcome.FAILED),
    ],
)
def test_what_ended_otherwise_is_not_written_over_a_success(
    store: DeliveryStore, table: Table, earlier: Outcome | None, ended: Outcome, stands: Outcome
) -> None:
    """It was delivered by another way while it waited: that it is not written is as it should be."""
    if earlier is not None:
        record(store, delivery(outcome=earlier))
    assert record(store, delivery(outcome=ended), way="record_unless_delivered") == set()
    assert stored(table, delivery())["outcome"]["S"] == stands


webhook_ids = map("wh_{}".format, count())


@given(st.lists(st.sampled_from(Outcome), max_size=6))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
def test_delivered_is_terminal(store: DeliveryStore, outcomes: list[Outcome]) -> None:
    kept = delivery(webhook_id=next(webhook_ids))
    for outcome in outcomes:
        way = "record" if outcome is Outcome.DELIVERED else "record_unless_delivered"
        record(store, replace(kept, outcome=outcome), way=way)
    found = store.find_delivered([kept.key], consistent=True)
    assert bool(found) is (Outcome.DELIVERED in outcomes)


def test_a_success_ends_what_had_failed(store: DeliveryStore, table: Table) -> None:
    record(store, delivery(outcome=Outcome.FAILED, reason="rejected 8 times"))
    record(store, delivery())
    assert stored(table, delivery())["outcome"]["S"] == "delivered"
    assert "reason" not in stored(table, delivery())


def test_many_are_written_whichever_way(store: DeliveryStore, table: Table) -> None:
    for way, outcome in zip(WAYS, (Outcome.DELIVERED, Outcome.FAILED), strict=True):
        assert (
            record(store, *(delivery(f"{way}-{number}", outcome) for number in range(60)), way=way) == set()
        )
    assert table.client.scan(TableName=table.name)["Count"] == 120


def test_successes_that_were_not_taken_are_told(store: DeliveryStore, table: Table) -> None:
    client = before(table)
    client.answers["batch_write_item"] = Fails(client.behind.batch_write_item, 2)
    made = [delivery(f"{number:02d}") for number in range(60)]
    assert record(store, *made) == {each.key for each in made[25:50]}
    assert store.find_delivered([each.key for each in made], consistent=True) == {
        each.key for each in made[:25] + made[50:]
    }


def test_other_endings_that_were_not_taken_are_told(store: DeliveryStore, table: Table) -> None:
    client = before(table)

    def throttle_two(**call: Any) -> Any:
        is_throttled = call["Item"]["sk"]["S"].endswith(("#03", "#17"))
        return Fails(client.behind.put_item)(**call) if is_throttled else client.behind.put_item(**call)

    client.answers["put_item"] = throttle_two
    made = [delivery(f"{number:02d}", Outcome.FAILED) for number in range(20)]
    unwritten = record(store, *made, way="record_unless_delivered")
    assert unwritten == {made[3].key, made[17].key}
    assert table.client.scan(TableName=table.name)["Count"] == 18


def test_a_delivery_of_the_catalogue_costs_one_write_unit(store: DeliveryStore, table: Table) -> None:
    """A started kilobyte is a write unit, and one is what a healthy delivery may cost."""
    sizes = {}
    for path in SAMPLES.glob("*.json"):
        (entry,) = json.loads(path.read_text())
        name, source = json.dumps(entry["DetailType"]), json.dumps(entry["Source"])
        message = f'{{"detail-type":{name},"source":{source},"detail":{entry["Detail"]}}}'
        sample = read_event(message, source="lms", accepted_at_ms=NOW_MS)
        kept = delivery(event=sample, webhook_id="wh_" + "a" * 22)
        record(store, kept)
        sizes[path.stem] = item_size(stored(table, kept))
    assert len(sizes) == len(EVENT_TYPES)
    assert {name: size for name, size in sizes.items() if size > 1024} == {}


def item_size(item: Any) -> int:
    """As DynamoDB counts it: names and values in bytes, and what lists and maps need."""
    return sum(len(name) + _value_size(value) for name, value in item.items())


def _value_size(value: Any) -> int:
    ((kind, held),) = value.items()
    match kind:
        case "S":
            return len(held.encode())
        case "B":
            return len(held)
        case "N":
            return len(held) // 2 + 2
        case "L":
            return 3 + sum(1 + _value_size(each) for each in held)
        case _:
            return 3 + len(held) + item_size(held)
