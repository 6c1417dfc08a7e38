"""What became of an event that waited is recorded first; only what is recorded leaves its lane."""

from collections.abc import Iterator

import pytest

from lms_webhooks.aws.dynamodb import UnprocessedKeys
from lms_webhooks.model.attempts import Attempt
from lms_webhooks.model.deliveries import Delivery, Outcome
from lms_webhooks.model.lanes import Lane
from tests.unit.flow import ID, Flow, flow, refuse_writes, waiting
from tests.unit.tables import NOW_MS, Fails, before, keep_requests, stand_in

REJECTED = Attempt(NOW_MS - 60_000, 30, 422, None)
DELIVERED = Attempt(NOW_MS, 80, 200, None)
FIRST = waiting("e1", at_ms=NOW_MS, attempts=(REJECTED,))
SECOND = waiting("e2", at_ms=NOW_MS + 1)


@pytest.fixture
def world() -> Iterator[Flow]:
    with flow(Flow) as world:
        yield world


def test_what_was_delivered_is_recorded_with_all_its_attempts_and_leaves_its_lane(world: Flow) -> None:
    world.put(Lane.REALTIME, FIRST, SECOND)
    assert world.recorder.record_delivered(ID, Lane.REALTIME, [FIRST, SECOND], DELIVERED)
    assert world.waiting(Lane.REALTIME) == []
    found = [world.history.find(ID, each.event.sort_key) for each in (FIRST, SECOND)]
    assert [each and (each[0].outcome, each[0].attempts) for each in found] == [
        ("delivered", (REJECTED, DELIVERED)),
        ("delivered", (DELIVERED,)),
    ]
    assert world.metrics == {"Deliveries": 2, "DeliveryLatency": 80}


def test_what_was_delivered_and_is_not_recorded_keeps_its_place(world: Flow) -> None:
    world.put(Lane.REALTIME, FIRST, SECOND)
    refuse_writes(world.deliveries_table, of="DELIVERY#")
    assert not world.recorder.record_delivered(ID, Lane.REALTIME, [FIRST, SECOND], DELIVERED)
    assert world.waiting_ids(Lane.REALTIME) == ["e1", "e2"]


def test_of_several_the_one_that_is_not_recorded_keeps_its_place(world: Flow) -> None:
    """A batch of which DynamoDB takes a part, however often it is asked."""
    world.put(Lane.REALTIME, FIRST, SECOND)
    client = before(world.deliveries_table).behind

    def leave_one(RequestItems: dict[str, list[dict[str, dict[str, object]]]]) -> object:  # noqa: N803
        ((name, requests),) = RequestItems.items()
        left = [each for each in requests if "PutRequest" in each and "#e2" in str(each)]
        taken = [each for each in requests if each not in left]
        if taken:
            client.batch_write_item(RequestItems={name: taken})
        return {"UnprocessedItems": {name: left} if left else {}}

    stand_in(world.deliveries_table, "batch_write_item", leave_one)
    assert not world.recorder.record_delivered(ID, Lane.REALTIME, [FIRST, SECOND], DELIVERED)
    assert world.waiting_ids(Lane.REALTIME) == ["e2"]
    assert (world.outcome(FIRST.event), world.outcome(SECOND.event)) == ("delivered", None)


@pytest.mark.parametrize(
    ("outcome", "metric"), [(Outcome.FAILED, "EventsFailed"), (Outcome.EXPIRED, "EventsExpired")]
)
def test_what_will_not_be_delivered_is_recorded_with_its_reason(
    world: Flow, outcome: Outcome, metric: str
) -> None:
    world.put(Lane.RETRY, FIRST)
    assert world.recorder.record_undelivered(ID, Lane.RETRY, [FIRST], outcome, "it was too late")
    assert world.waiting(Lane.RETRY) == []
    found = world.history.find(ID, FIRST.event.sort_key)
    assert found is not None
    assert (found[0].outcome, found[0].reason, found[0].attempts) == (outcome, "it was too late", (REJECTED,))
    assert world.metrics == {metric: 1}


def test_an_end_that_is_not_recorded_keeps_its_place_and_is_not_counted(world: Flow) -> None:
    world.put(Lane.REALTIME, FIRST, SECOND)
    client = before(world.deliveries_table)
    client.answers["put_item"] = lambda **request: (
        Fails(client.behind.put_item)(**request)
        if "e2" in request["Item"]["sk"]["S"]
        else client.behind.put_item(**request)
    )
    assert not world.recorder.record_undelivered(ID, Lane.REALTIME, [FIRST, SECOND], Outcome.EXPIRED, "late")
    assert world.waiting_ids(Lane.REALTIME) == ["e2"]
    assert world.metrics == {"EventsExpired": 1}


def test_an_end_is_none_as_long_as_its_event_stands_in_the_lane(world: Flow) -> None:
    world.put(Lane.REALTIME, FIRST)
    refuse_writes(world.deliveries_table, of="BACKLOG#")
    assert not world.recorder.record_undelivered(ID, Lane.REALTIME, [FIRST], Outcome.EXPIRED, "late")
    assert world.outcome(FIRST.event) == "expired"


def test_a_delivery_is_not_written_over_with_another_end(world: Flow) -> None:
    world.put(Lane.REALTIME, FIRST)
    world.history.record(
        [Delivery(ID, FIRST.event, Outcome.DELIVERED, (DELIVERED,))], recorded_at_seconds=NOW_MS // 1000
    )
    assert world.recorder.record_undelivered(ID, Lane.REALTIME, [FIRST], Outcome.FAILED, "too late for that")
    assert world.outcome(FIRST.event) == "delivered"
    assert world.waiting(Lane.REALTIME) == []


def test_what_waited_for_a_deleted_webhook_is_recorded_as_failed_unless_it_was_delivered(
    world: Flow,
) -> None:
    world.put(Lane.REALTIME, FIRST, SECOND)
    world.history.record(
        [Delivery(ID, SECOND.event, Outcome.DELIVERED, (DELIVERED,))], recorded_at_seconds=NOW_MS // 1000
    )
    assert world.recorder.record_purged(ID, Lane.REALTIME, [FIRST, SECOND], "it is gone") == (1, True)
    assert world.waiting(Lane.REALTIME) == []
    found = world.history.find(ID, FIRST.event.sort_key)
    assert found is not None
    assert (found[0].outcome, found[0].reason, found[0].attempts) == ("failed", "it is gone", (REJECTED,))
    assert world.outcome(SECOND.event) == "delivered"


@pytest.mark.parametrize(("refused", "ended"), [("DELIVERY#", (0, False)), ("BACKLOG#", (2, False))])
def test_what_cannot_be_written_for_a_deleted_webhook_keeps_its_place(
    world: Flow, refused: str, ended: tuple[int, bool]
) -> None:
    world.put(Lane.REALTIME, FIRST, SECOND)
    refuse_writes(world.deliveries_table, of=refused)
    assert world.recorder.record_purged(ID, Lane.REALTIME, [FIRST, SECOND], "it is gone") == ended
    assert world.waiting_ids(Lane.REALTIME) == ["e1", "e2"]


def test_a_delivery_that_stays_unread_is_not_written_over(world: Flow) -> None:
    """DynamoDB responds, and leaves the key unread, however often it is asked."""
    world.put(Lane.REALTIME, FIRST)
    stand_in(
        world.deliveries_table,
        "batch_get_item",
        lambda **request: {"Responses": {}, "UnprocessedKeys": request["RequestItems"]},
    )
    with pytest.raises(UnprocessedKeys):
        world.recorder.record_purged(ID, Lane.REALTIME, [FIRST], "it is gone")
    assert world.outcome(FIRST.event) is None
    assert world.waiting_ids(Lane.REALTIME) == ["e1"]


def test_only_what_is_delivered_counts_as_delivered_and_as_it_stands_now(world: Flow) -> None:
    ends = {"e1": Outcome.DELIVERED, "e2": Outcome.EXPIRED}
    for each in (FIRST, SECOND):
        delivery = Delivery(ID, each.event, ends[each.event.event_id], (DELIVERED,), "reason")
        world.history.record([delivery], recorded_at_seconds=NOW_MS // 1000)
    asked = keep_requests(world.deliveries_table, "batch_get_item")
    unknown = waiting("e3")
    assert world.recorder.already_delivered(ID, [FIRST, SECOND, unknown]) == {FIRST.event.sort_key}
    assert [each["ConsistentRead"] for request in asked for each in request["RequestItems"].values()] == [
        True
    ]


@pytest.mark.parametrize("method", ["record_delivered", "record_undelivered"])
def test_a_record_is_kept_from_the_second_in_which_it_was_written(world: Flow, method: str) -> None:
    """Not from the next one: 0.9996 s is rounded down."""
    world.now = NOW_MS / 1000 + 0.9996
    world.put(Lane.REALTIME, FIRST)
    if method == "record_delivered":
        world.recorder.record_delivered(ID, Lane.REALTIME, [FIRST], DELIVERED)
    else:
        world.recorder.record_undelivered(ID, Lane.REALTIME, [FIRST], Outcome.FAILED, "reason")
    item = world.deliveries_table.client.get_item(
        TableName="deliveries",
        Key={"pk": {"S": f"DELIVERY#{ID}"}, "sk": {"S": FIRST.event.sort_key}},
    )["Item"]
    assert item["expires_at"] == {"N": str(NOW_MS // 1000 + 30 * 86_400)}
