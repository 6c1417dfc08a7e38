"""The same with the real sender and a receiver on a port of this machine: nothing about HTTP is faked."""

from collections.abc import Iterator

import pytest

from lms_webhooks.model.health import DisabledReason, Mode
from lms_webhooks.model.lanes import Lane
from lms_webhooks.sending.sender import Sender
from tests.fakes.receiver import Receiver, answer, gone, redirect, reset_before_answer, too_many_requests
from tests.scenarios.world import MINUTE, World


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def world() -> Iterator[World]:
    with World(sender=Sender(loopback_allowed=True)) as world:
        yield world
        assert world.problems() == []


def test_three_failures_then_all_in_order(world: World, receiver: Receiver) -> None:
    webhook = world.register(receiver.url())
    receiver.script = [answer(500), reset_before_answer(), redirect("https://example.com/"), answer()]
    ids = world.emit(20)
    world.run_until_quiet()
    taken = [each for request in receiver.requests[3:] for each in request.event_ids]
    assert taken == ids
    assert [len(request.event_ids) for request in receiver.requests] == [1, 1, 1, 1, 2, 4, 8, 5]
    assert world.outcomes(webhook) == {"delivered": 20}


def test_retry_after_and_gone(world: World, receiver: Receiver) -> None:
    webhook = world.register(receiver.url())
    receiver.script = [too_many_requests(120), gone()]
    world.emit(2)
    world.run(110)
    assert len(receiver.requests) == 1
    world.run(MINUTE)
    assert len(receiver.requests) == 2
    assert world.health(webhook).disabled_reason is DisabledReason.GONE


def test_a_poison_event(world: World, receiver: Receiver) -> None:
    webhook = world.register(receiver.url())
    ids = world.emit(10)
    receiver.script = lambda request: answer(400 if ids[4] in request.event_ids else 200)
    world.run(5)
    assert world.outcomes(webhook) == {"delivered": 9}
    assert world.waiting_ids(webhook, Lane.RETRY) == [ids[4]]
    assert world.health(webhook).mode is Mode.DIRECT
