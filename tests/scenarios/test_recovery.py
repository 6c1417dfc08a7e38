"""A webhook leaves direct mode when its endpoint fails or is slow, and comes back when it is well again."""

from itertools import pairwise

import pytest

from lms_webhooks.model.health import Mode
from tests.scenarios.endpoints import DOWN, OK, Reply, always, in_turn, until
from tests.scenarios.world import MINUTE, World


def test_back_to_direct_after_the_minimum_stay(world: World) -> None:
    """One failure. For a minute all goes through the backlog; the first event after that is drained still."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = in_turn(DOWN, OK)
    world.emit(1)
    world.run(50)
    world.emit(1)
    world.run(5)
    assert world.health(webhook).mode is Mode.BACKLOG
    assert endpoint.posts[-1].function == "drainer"
    world.run(10)
    world.emit(1)
    world.run(5)
    assert endpoint.posts[-1].function == "drainer"
    assert world.health(webhook).mode is Mode.DIRECT
    world.emit(1)
    world.run(5)
    assert endpoint.posts[-1].function == "dispatcher"
    assert world.outcomes(webhook) == {"delivered": 4}


@pytest.mark.slow
def test_flapping_doubles_the_stay_up_to_a_quarter_of_an_hour(world: World) -> None:
    """An endpoint fails a minute after each recovery. It stays in the backlog 60, 120, ... 900, 900 s."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    stays: list[float] = []
    for _ in range(6):
        endpoint.script = in_turn(DOWN, OK)
        world.emit(1)
        world.run(2)
        fell_at = world.now
        assert world.health(webhook).mode is Mode.BACKLOG
        while world.health(webhook).mode is Mode.BACKLOG:
            world.run(5)
            world.emit(1)
        stays.append(world.now - fell_at)
        world.run(MINUTE)
    assert stays == pytest.approx([60, 120, 240, 480, 900, 900], abs=12)


def test_a_long_time_without_failure_forgives_the_flapping(world: World) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    for _ in range(3):
        endpoint.script = in_turn(DOWN, OK)
        world.emit(1)
        world.run(70)
        world.emit(1)
        world.run(20 * MINUTE)
        assert world.health(webhook).min_stay_seconds == 60
        assert world.health(webhook).mode is Mode.DIRECT


def test_a_steady_stream_finds_its_way_back_to_direct(world: World) -> None:
    """An event each half second, through a failure and the recovery: all once, and direct at the end."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = until(world.now + 30, DOWN)
    ids: list[str] = []
    for _ in range(300):
        ids += world.emit(1)
        world.run(0.5)
    world.run_until_quiet()
    assert world.health(webhook).mode is Mode.DIRECT
    assert endpoint.acknowledged == ids
    assert world.duplicates() == 0


def test_three_slow_answers_in_a_row_send_a_webhook_to_the_backlog(world: World) -> None:
    """4 s a response. After three it costs the dispatcher nothing more; quick again, it comes back."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = always(Reply(seconds=4))
    ids: list[str] = []
    for _ in range(3):  # each in a batch of its own: together they would take more than a webhook has of one
        ids += world.emit(1)
        world.run(5)
    assert world.health(webhook).mode is Mode.BACKLOG
    assert world.health(webhook).failures == 0
    ids += world.emit(7)
    world.run(1)
    assert len(endpoint.posts_of("dispatcher")) == 3
    for _ in range(20):
        ids += world.emit(1)
        world.run(10)
    assert len(endpoint.posts_of("dispatcher")) == 3
    assert world.health(webhook).mode is Mode.BACKLOG
    endpoint.script = always(OK)
    for _ in range(5):
        ids += world.emit(1)
        world.run(10)
    assert world.health(webhook).mode is Mode.DIRECT
    assert endpoint.acknowledged == ids


def test_slow_on_average_is_slow(world: World) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = in_turn(*[Reply(seconds=2), Reply(seconds=0.4)] * 20)
    for _ in range(5):
        world.emit(1)
        world.run(5)
    assert world.health(webhook).mode is Mode.BACKLOG
    world.run_until_quiet()


def test_now_and_then_a_slow_answer_is_nothing(world: World) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = in_turn(*[Reply(seconds=2), *[OK] * 4] * 20)
    for _ in range(60):
        world.emit(1)
        world.run(5)
    assert world.health(webhook).mode is Mode.DIRECT
    assert world.health(webhook).revision == 0


@pytest.mark.slow
def test_one_slow_receiver_and_fifty_fast_ones(world: World) -> None:
    """One receiver takes 4 s a response. The other fifty do not notice."""
    slow = world.endpoint("slow")
    slow.script = always(Reply(seconds=4))
    world.register(slow, account="1")
    fast = [world.endpoint(f"fast{number}") for number in range(50)]
    for number, endpoint in enumerate(fast):
        world.register(endpoint, account=str(2 + number // 5))
    for _ in range(20):
        for account in range(1, 12):
            world.emit(2, account=str(account))
        world.run(1)
    delays = [
        post.started_at - post.events[0]["timestamp"] / 1000 for endpoint in fast for post in endpoint.posts
    ]
    assert len(delays) == 50 * 40
    delays.sort()
    assert delays[len(delays) * 99 // 100] < 4.5
    settled = [
        post.started_at - post.events[0]["timestamp"] / 1000
        for endpoint in fast
        for post in endpoint.posts
        if post.started_at > world.now - 5
    ]
    assert max(settled) < 0.5, "once it is known to be slow"
    world.run_until_quiet()


@pytest.mark.slow
def test_a_drain_that_takes_longer_than_one_drainer_lives(world: World) -> None:
    """Each response takes 4.5 s. No POST starts with less than 20 s left, nobody is killed, and one drainer
    follows the other."""
    endpoint = world.endpoint()
    world.register(endpoint, ordered=True)
    endpoint.script = always(Reply(seconds=4.5))
    ids = world.emit(2500)
    world.run_until_quiet(at_most=10 * MINUTE)
    assert endpoint.acknowledged == ids
    assert world.deaths == 0
    gaps = [after.started_at - (before.ended_at or 0) for before, after in pairwise(endpoint.posts)]
    assert max(gaps) < 0.5
