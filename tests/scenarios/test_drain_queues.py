"""Probes and lower lanes have a queue and drainers of their own, so that they hold up no healthy webhook."""

from collections.abc import Callable
from typing import Any

import pytest

from lms_webhooks.aws.sqs import DrainMessage
from lms_webhooks.model.lanes import Lane
from tests.scenarios.endpoints import DOWN, HANGS, OK, always, rejecting, until
from tests.scenarios.world import ACCOUNT, HOUR, MINUTE, NON_REAL_TIME, Call, World

URGENT, BACKGROUND = "drain", "background-drain"


@pytest.fixture
def sent(world: World) -> list[tuple[str, str]]:
    """Who sent each drain message, and to which queue."""
    seen: list[tuple[str, str]] = []

    def watch(call: Call, proceed: Callable[[], Any]) -> Any:
        if call.operation in ("SendMessage", "SendMessageBatch"):
            queue = call.params["QueueUrl"].rpartition("/")[2]
            if queue in (URGENT, BACKGROUND):
                seen.extend([(call.function, queue)] * len(call.params.get("Entries", [call])))
        return proceed()

    world.taps.append(watch)
    return seen


def test_real_time_events_of_an_endpoint_that_answers_are_urgent(
    world: World, sent: list[tuple[str, str]]
) -> None:
    world.register(world.endpoint(), ordered=True)
    for _ in range(5):
        world.emit(3)
        world.run(10)
    assert {queue for _, queue in sent} == {URGENT}


def test_a_probe_is_not_urgent_and_what_waits_behind_it_is_again_once_it_is_answered(
    world: World, sent: list[tuple[str, str]]
) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint, ordered=True)
    endpoint.script = until(world.now + 5 * MINUTE, DOWN)
    world.emit(3)
    world.run(4 * MINUTE)
    assert sent[0] == ("dispatcher", URGENT), "nobody knew yet"
    assert {queue for _, queue in sent[1:]} == {BACKGROUND}
    world.run_until_quiet()
    assert world.health(webhook).failures == 0
    sent.clear()
    world.emit(3)
    world.run(10)
    assert sent[0] == ("dispatcher", URGENT)


def test_an_endpoint_that_fails_its_first_event_is_probed_in_the_background(
    world: World, sent: list[tuple[str, str]]
) -> None:
    endpoint = world.endpoint()
    world.register(endpoint)
    endpoint.script = always(DOWN)
    world.emit(3)
    world.run(HOUR)
    assert {queue for _, queue in sent} == {BACKGROUND}


def test_lower_lanes_are_not_urgent(world: World, sent: list[tuple[str, str]]) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    (poison,) = world.emit(1)
    endpoint.script = rejecting(poison)
    world.emit(2, name=NON_REAL_TIME)
    world.run(30 * MINUTE)
    assert world.waiting_ids(webhook) == [poison], "it is in the retry lane"
    assert {queue for _, queue in sent} == {BACKGROUND}


def test_an_urgent_drainer_leaves_lower_lanes_to_one_of_the_background(
    world: World, sent: list[tuple[str, str]]
) -> None:
    """Its webhook may have a long batch lane: the urgent drainer is for others then."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint, ordered=True)
    world.emit(2, name=NON_REAL_TIME)
    world.run(10)
    # A sweep comes at the same second, and would schedule that drain itself.
    with world.fault("dynamodb", function="batch"):
        world.run_while(
            lambda: not world.marks(webhook)[Lane.BATCH].is_due(int(world.now * 1000)), at_most=HOUR
        )
        sent.clear()
        world.drain_queue.send(DrainMessage(ACCOUNT, webhook, is_urgent=True).body())
        world.run(5)
    assert sent == [("drainer", BACKGROUND)]
    assert len(endpoint.acknowledged) == 2


def test_what_waits_for_a_deleted_webhook_is_not_urgent(world: World, sent: list[tuple[str, str]]) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = always(HANGS)
    world.emit(3)
    world.run(MINUTE)
    world.delete(webhook)
    sent.clear()
    world.run(30 * MINUTE)
    assert world.outcomes(webhook) == {"failed": 3}
    assert {queue for _, queue in sent} == {BACKGROUND}


@pytest.mark.slow
def test_many_that_hang_hold_up_no_healthy_one(world: World) -> None:
    """60 webhooks hang, ten more than there are drainers of the background."""
    hanging, healthy = [world.endpoint(f"dead{number}") for number in range(60)], world.endpoint("healthy")
    for number, endpoint in enumerate(hanging):
        endpoint.script = always(HANGS)
        world.register(endpoint, account=str(3000 + number))
        world.emit(1, account=str(3000 + number))
    world.register(healthy, ordered=True)
    world.run(10)
    for _ in range(60):
        emitted_at = world.now
        (event_id,) = world.emit(1)
        world.run(1)
        assert healthy.acknowledged[-1:] == [event_id]
        assert healthy.posts[-1].started_at - emitted_at < 0.5
    for endpoint in hanging:
        endpoint.script = always(OK)
    world.run_until_quiet(at_most=HOUR)
