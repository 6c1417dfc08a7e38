"""Nothing expires silently: what waits too long is recorded as expired, and why."""

import json
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from lms_webhooks.model.events import Event, read_sort_key
from lms_webhooks.model.health import DisabledReason, Mode
from lms_webhooks.model.lanes import Lane, PendingEvent
from lms_webhooks.model.webhooks import Status
from tests.scenarios.endpoints import DOWN, OK, Reply, always
from tests.scenarios.world import ACCOUNT, DAY, HOUR, MINUTE, NON_REAL_TIME, REAL_TIME, Call, World


def test_events_expire_seven_days_after_they_were_accepted(world: World) -> None:
    """The events' own time is years ago, and a younger one is accepted a day later."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint, status=Status.PAUSED)
    old = world.emit(3, occurred_at=world.now - 3000 * DAY)
    world.run(DAY)
    young = world.emit(1, occurred_at=world.now - 4000 * DAY)
    world.run(6 * DAY - 10)
    assert world.waiting_ids(webhook) == young + old
    world.run(2 * MINUTE)
    assert world.waiting_ids(webhook) == young
    assert {each.reason for each in world.history(webhook).values()} == {"not delivered within 7 days"}
    world.run(DAY)
    assert world.outcomes(webhook) == {"expired": 4}
    assert world.marks(webhook) == {}, "a lane that is empty has no mark"
    assert world.metrics["EventsExpired"] == 4
    assert endpoint.posts == []
    assert set(old) | set(young) == set(world.history(webhook))


def test_seven_days_of_failure_expire_events_and_switch_the_webhook_off(world: World) -> None:
    """An endpoint is down for good. Each event expires after its seven days with the last error; after
    seven days of failure the webhook is disabled. Later events stay pending for one retention period
    more. Then
    nothing new is taken."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = always(DOWN)
    first = world.emit(5)
    world.run(5 * DAY)
    second = world.emit(5)
    world.run(2 * DAY + 10 * MINUTE)
    assert world.health(webhook).disabled_reason is DisabledReason.FAILING
    assert world.metrics["WebhooksDisabled"] == 1
    history = world.history(webhook)
    assert set(history) == set(first)
    assert {each.reason for each in history.values()} == {
        "not delivered within 7 days; the last error was HTTP 500"
    }
    posts = len(endpoint.posts)
    assert 2000 < posts < 2040 * 4 / 3, "every 300 s, and each quarter of an hour another event"

    third = world.emit(5)
    world.run(DAY)
    assert world.waiting_ids(webhook) == second + third
    world.run(6 * DAY)
    later = world.emit(5)
    world.refused |= {(webhook, each) for each in later}
    world.run(3 * DAY)
    assert len(endpoint.posts) == posts
    assert world.outcomes(webhook) == {"expired": 15}
    assert world.marks(webhook) == {}


def test_a_webhook_that_is_switched_on_again_gets_what_waits() -> None:
    """With a retention of one day: the endpoint comes back while the webhook is switched off."""
    with World(retention_days=1) as world:
        endpoint = world.endpoint()
        webhook = world.register(endpoint)
        endpoint.script = always(DOWN)
        world.emit(1)
        world.run(12 * HOUR)
        world.emit(1)
        world.run(12 * HOUR + 10 * MINUTE)
        assert world.health(webhook).disabled_reason is DisabledReason.FAILING
        waiting = world.emit(50)
        world.run(20 * HOUR)
        endpoint.script = always(OK)
        world.change(webhook, status=Status.ACTIVE)
        world.run(2 * MINUTE)
        assert endpoint.acknowledged == waiting
        assert world.outcomes(webhook) == {"expired": 2, "delivered": 50}
        health = world.health(webhook)
        assert (health.epoch, health.disabled_reason) == (2, None)
        world.emit(1)
        world.run(MINUTE)
        assert world.health(webhook).mode is Mode.DIRECT
        assert world.problems() == []


def test_one_success_among_failures_starts_the_seven_days_afresh() -> None:
    """With a retention of one day."""
    with World(retention_days=1) as world:
        endpoint = world.endpoint()
        webhook = world.register(endpoint)
        endpoint.script = always(DOWN)
        world.emit(3)
        world.run(20 * HOUR)
        endpoint.script = lambda ids, _: OK if ids == ["e000000"] else DOWN
        world.run(10 * MINUTE)
        assert world.outcomes(webhook) == {"delivered": 1}
        world.emit(3)
        world.run(20 * HOUR)
        assert world.health(webhook).disabled_reason is None
        assert world.outcomes(webhook) == {"delivered": 1, "expired": 2}
        assert world.problems() == []


@pytest.mark.parametrize("lane", [Lane.BATCH, Lane.RETRY])
def test_the_other_lanes_expire_too(world: World, lane: Lane) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = always(Reply(400))
    if lane is Lane.BATCH:
        world.change(webhook, status=Status.PAUSED)
        world.emit(3, name=NON_REAL_TIME)
    else:
        world.emit(3)
    world.run(30)
    assert len(world.waiting_ids(webhook, lane)) == 3
    world.change(webhook, status=Status.PAUSED)
    world.run(7 * DAY + 2 * MINUTE)
    assert world.outcomes(webhook) == {"expired": 3}
    assert world.marks(webhook) == {}


def test_an_expiry_that_cannot_be_written_comes_again(world: World) -> None:
    """DynamoDB refuses writes at the moment of expiry: nothing is forgotten for another week."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint, status=Status.PAUSED)
    world.emit(30)
    world.run(7 * DAY - HOUR)
    with world.fault("dynamodb", function="drainer", operations=("PutItem",)):
        world.run(2 * HOUR)
    assert world.outcomes(webhook) == {}
    world.run(5 * MINUTE)
    assert world.outcomes(webhook) == {"expired": 30}
    assert world.marks(webhook) == {}


def test_an_expired_event_that_cannot_be_removed_is_removed_later(world: World) -> None:
    webhook = world.register(world.endpoint(), status=Status.PAUSED)
    world.emit(30)
    world.run(7 * DAY - HOUR)
    with world.fault("dynamodb", function="drainer", operations=("BatchWriteItem",)):
        world.run(2 * HOUR)
    assert world.outcomes(webhook) == {"expired": 30}
    world.run(5 * MINUTE)
    assert world.waiting_ids(webhook) == []
    assert world.marks(webhook) == {}


def test_of_a_deleted_webhook_all_is_gone_when_the_history_s_retention_has_passed(world: World) -> None:
    """One event was delivered long ago, one was rejected, others wait, in every lane. After the deletion
    nothing is left but history, each record of which has a TTL: the retention after it at the latest."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    world.emit(1)
    world.run(5 * DAY)
    endpoint.script = always(Reply(422))
    world.emit(1)
    world.run(3)
    endpoint.script = always(DOWN)
    world.emit(20)
    world.emit(20, name=NON_REAL_TIME)
    world.run(20)
    deleted_at = world.now
    world.delete(webhook)
    world.run(3 * MINUTE)
    left = world.items_of(webhook)
    assert len(left) == 42
    for item in left:
        assert item["pk"]["S"] == f"DELIVERY#{webhook}"
        assert int(item["expires_at"]["N"]) <= deleted_at + 30 * DAY + 3 * MINUTE
    world.run(2 * DAY)
    assert world.items_of(webhook) == left, "nothing prolongs it"


def test_what_expires_behind_ten_megabytes_of_a_lane_expires_in_time() -> None:
    """It is accepted first, and the last in the order of the lane. A page of the lane is read once a look."""
    with World(retention_days=1) as world:
        webhook = world.register(world.endpoint(), status=Status.PAUSED)
        (old,) = world.emit(1, occurred_at=world.now + HOUR)
        world.run(MINUTE)
        random = Random(16)
        for number in range(160):
            event_id = f"big{number:03d}"
            event = Event(
                ACCOUNT,
                event_id,
                REAL_TIME,
                int(world.now * 1000) + number,
                int(world.now * 1000) + int(12 * HOUR * 1000),
                json.dumps({"eventId": event_id, "data": random.randbytes(100_000).hex()}),
            )
            world.put(webhook, Lane.REALTIME, PendingEvent(event))
        read = Counter[str]()

        def note(call: Call, proceed: Callable[[], Any]) -> Any:
            answer = proceed()
            if call.operation == "Query" and "BACKLOG#" in str(call.params["ExpressionAttributeValues"]):
                read.update(read_sort_key(item["sk"]["S"])[1] for item in answer["Items"])
            return answer

        world.taps.append(note)
        world.run(DAY)
        assert world.outcomes(webhook) == {}
        world.run(5 * MINUTE)
        assert world.history(webhook)[old].outcome == "expired"
        assert max(read.values()) <= 2, "the last page of one portion is the first of the next"
        world.run(DAY)
        assert world.outcomes(webhook) == {"expired": 161}
        assert max(read.values()) <= 4
        assert world.marks(webhook) == {}
