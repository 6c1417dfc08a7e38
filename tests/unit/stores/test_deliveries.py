"""The history says what became of each delivery, and nothing takes a success back."""

import json
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lms_webhooks.aws.dynamodb import KeyRange, Table, key_item
from lms_webhooks.model.attempts import Attempt
from lms_webhooks.model.deliveries import Delivery, Outcome
from lms_webhooks.model.event_types import EVENT_TYPES
from lms_webhooks.model.events import read_event, read_sort_key
from lms_webhooks.stores.deliveries import DeliveryStore
from lms_webhooks.stores.items import read_attempts, read_event_item
from tests.unit.tables import DAY_MS, NOW_MS, Fails, before, event, keep_requests

NOW_SECONDS = NOW_MS // 1000
ATTEMPT = Attempt(NOW_MS, 80, 200, None)
SAMPLES = Path(__file__).parents[3] / "events" / "put_events"
WAYS = ("record", "record_unless_delivered")


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


@pytest.mark.slow
@given(st.lists(st.sampled_from(Outcome), max_size=6))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60)
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
        is_throttled = read_sort_key(call["Item"]["sk"]["S"])[1] in ("03", "17")
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


FAR_LATER = NOW_SECONDS + 20 * DAY_MS // 1000
AGAIN = Attempt(NOW_MS + 60_000, 90, 204, None)
REJECTED = Attempt(NOW_MS + 60_000, 90, 422, None)
MANY = tuple(Attempt(NOW_MS + number, 1, 422, None) for number in range(500))


def send_again(
    store: DeliveryStore,
    kept: Delivery,
    attempt: Attempt,
    *,
    is_delivered: bool,
    earlier: tuple[Attempt, ...] = (),
    replay_id: str = "",
) -> set[tuple[str, str]]:
    """Add an attempt to a delivery, twenty days after it was recorded."""
    return store.add_attempt(
        [(kept.webhook_id, kept.event, earlier)],
        attempt,
        is_delivered=is_delivered,
        recorded_at_seconds=FAR_LATER,
        replay_id=replay_id,
    )


def erase(table: Table, kept: Delivery) -> None:
    key = key_item((f"DELIVERY#{kept.webhook_id}", kept.event.sort_key))
    table.client.delete_item(TableName=table.name, Key=key)


def test_a_success_after_five_hundred_attempts_is_a_success(store: DeliveryStore) -> None:
    """The list of attempts is full. That it was delivered at last must be seen all the same."""
    kept = delivery(outcome=Outcome.FAILED, attempts=MANY, reason="rejected 8 times")
    record(store, kept)
    assert send_again(store, kept, AGAIN, is_delivered=True) == set()
    found = store.find("wh_1", kept.event.sort_key)
    assert found is not None
    assert (found[0].outcome, found[0].reason, found[0].attempts) == (Outcome.DELIVERED, "", MANY)
    assert store.find_delivered([kept.key], consistent=True) == {kept.key}


@pytest.mark.parametrize(("kept_before", "kept_after"), [(498, 499), (499, 500), (500, 500)])
def test_at_most_five_hundred_attempts_of_a_delivery_are_kept(
    store: DeliveryStore, kept_before: int, kept_after: int
) -> None:
    """An item has 400 KB, and a person who clicks on Redeliver every day must not fill it."""
    kept = delivery(outcome=Outcome.FAILED, attempts=MANY[:kept_before])
    record(store, kept)
    assert send_again(store, kept, REJECTED, is_delivered=False) == set()
    found = store.find("wh_1", kept.event.sort_key)
    assert found is not None
    assert (found[0].outcome, len(found[0].attempts)) == (Outcome.FAILED, kept_after)


def test_a_success_of_what_is_erased_meanwhile_leaves_no_stub(store: DeliveryStore, table: Table) -> None:
    """A full list of attempts takes two calls, and an operator erases the person between the two. An item
    with an outcome alone could not be read: it would break every page of the history that it stands on."""
    kept = delivery(outcome=Outcome.FAILED, attempts=MANY)
    record(store, kept)
    client = before(table)

    def erased_after(**call: Any) -> Any:
        client.answers.clear()
        try:
            return client.behind.update_item(**call)
        finally:
            erase(table, kept)

    client.answers["update_item"] = erased_after
    assert send_again(store, kept, AGAIN, is_delivered=True) == set()
    assert stored(table, kept) is None
    assert store.page("wh_1", KeyRange("0", ":"), limit=10).entries == []


def test_a_rejection_of_what_was_erased_leaves_no_stub(store: DeliveryStore, table: Table) -> None:
    """With its attempts and those that it had while it waited, and without: neither is a record."""
    kept = delivery()
    for earlier in ((), (ATTEMPT,)):
        assert send_again(store, kept, REJECTED, is_delivered=False, earlier=earlier, replay_id="r") == set()
        assert stored(table, kept) is None


@pytest.mark.parametrize(
    ("outcome", "is_delivered"),
    [(Outcome.DELIVERED, True), (Outcome.DELIVERED, False), (Outcome.FAILED, True), (Outcome.FAILED, False)],
)
def test_sending_again_prolongs_no_retention(
    store: DeliveryStore, table: Table, outcome: Outcome, is_delivered: bool
) -> None:
    """Thirty days are a promise to the people whose data it is."""
    kept = delivery(outcome=outcome)
    record(store, kept)
    attempt = AGAIN if is_delivered else REJECTED
    assert send_again(store, kept, attempt, is_delivered=is_delivered) == set()
    item = stored(table, kept)
    assert item["expires_at"] == {"N": str(NOW_SECONDS + 30 * 86_400)}
    assert read_attempts(item["attempts"]) == (ATTEMPT, attempt)


def test_a_success_of_what_is_on_no_record_makes_a_whole_one(store: DeliveryStore, table: Table) -> None:
    """It was sent ahead of its time, or its record had passed its retention. It has one retention more."""
    kept = delivery(event=event("e9", text='{"n":9}', event_name="CI_STATS", accepted_at_ms=NOW_MS - 7))
    assert send_again(store, kept, AGAIN, is_delivered=True, earlier=(REJECTED,), replay_id="rp_1") == set()
    found = store.find("wh_1", kept.event.sort_key)
    assert found is not None
    recorded, of = found
    assert of == kept.event
    assert (recorded.outcome, recorded.attempts, recorded.replay_id) == (
        Outcome.DELIVERED,
        (REJECTED, AGAIN),
        "rp_1",
    )
    assert stored(table, kept)["expires_at"] == {"N": str(FAR_LATER + 30 * 86_400)}


def test_what_is_on_record_stays_as_it_was_when_it_is_sent_again(store: DeliveryStore) -> None:
    """Only outcome, attempts and replay are new: the record says what came first, and when."""
    kept = delivery(outcome=Outcome.FAILED, reason="rejected 8 times")
    record(store, kept)
    later = replace(kept, event=replace(kept.event, text="{}", accepted_at_ms=1, account_id="2"))
    assert send_again(store, later, AGAIN, is_delivered=True, earlier=(REJECTED,)) == set()
    found = store.find("wh_1", kept.event.sort_key)
    assert found is not None
    assert found[1] == kept.event
    assert (found[0].outcome, found[0].attempts, found[0].reason) == (
        Outcome.DELIVERED,
        (ATTEMPT, AGAIN),
        "",
    )


def test_attempts_that_could_not_be_added_are_told_by_their_keys(store: DeliveryStore, table: Table) -> None:
    client = before(table)
    first, second, third = kept = [delivery(each, Outcome.FAILED) for each in ("a", "b", "c")]
    record(store, *kept)
    client.answers["update_item"] = Fails(client.behind.update_item, 2)
    unwritten = store.add_attempt(
        [(each.webhook_id, each.event, ()) for each in kept],
        AGAIN,
        is_delivered=True,
        recorded_at_seconds=FAR_LATER,
    )
    assert unwritten == {second.key}
    assert store.find_delivered([each.key for each in kept], consistent=True) == {first.key, third.key}


def test_sending_again_rests_after_each_write_and_never_long(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Live events share the partition. A hundred rests must leave a turn time to write the hundred down."""
    took_seconds = iter([0.0, 0.004, 0.0, 3.0])
    now = [100.0]
    rested: list[float] = []
    client = before(table)

    def slow(**call: Any) -> Any:
        now[0] += next(took_seconds)
        return client.behind.update_item(**call)

    client.answers["update_item"] = slow
    monkeypatch.setattr("lms_webhooks.stores.deliveries.time.monotonic", lambda: now[0])
    store = DeliveryStore(table, retention_days=30, sleep=rested.append)
    kept = [delivery(each) for each in ("a", "b", "c", "d")]
    sent = [(each.webhook_id, each.event, ()) for each in kept]
    store.add_attempt(sent, AGAIN, is_delivered=True, recorded_at_seconds=FAR_LATER)
    assert rested == pytest.approx([0.0, 0.004, 0.0, 0.01])


@pytest.mark.parametrize("way", ["page", "scan_oldest_first"])
def test_a_range_of_the_history_has_its_first_key_and_not_its_last(store: DeliveryStore, way: str) -> None:
    kept = [delivery(event=event(f"e{n}", at_ms=NOW_MS + n)) for n in range(5)]
    record(store, *kept[:4], delivery("other", webhook_id="wh_2"))
    asked = KeyRange(kept[1].event.sort_key, kept[4].event.sort_key)
    whole = getattr(store, way)("wh_1", asked, limit=3)
    part = getattr(store, way)("wh_1", asked, limit=2)
    keys = [each.event.sort_key for each in kept[1:4]]
    if way == "page":
        keys.reverse()
    assert [getattr(each, "sort_key", None) or each[0].sort_key for each in whole.entries] == keys
    assert [getattr(each, "sort_key", None) or each[0].sort_key for each in part.entries] == keys[:2]
    assert (whole.last_key, part.last_key) == (None, keys[1])
    record(store, kept[4])
    assert len(getattr(store, way)("wh_1", asked, limit=9).entries) == 3
