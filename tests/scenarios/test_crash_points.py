"""A process dies just before or just after each of its calls: nothing is lost, nothing is stranded.

The frame that a fault suite grows from: a scenario, a fault, and the number of the call that it hits.
"""

from collections.abc import Callable
from typing import Any

import pytest

from tests.scenarios.endpoints import DOWN, OK, Reply, in_turn
from tests.scenarios.world import MINUTE, START, Call, World

type Scenario = Callable[[World], str]


def direct_success(world: World) -> str:
    webhook = world.register(world.endpoint())
    world.emit(3)
    return webhook


def failure_and_drain(world: World) -> str:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = in_turn(OK, DOWN, OK, OK, DOWN, OK)
    world.emit(10)
    return webhook


def split_and_set_aside(world: World) -> str:
    endpoint = world.endpoint()
    webhook = world.register(endpoint, ordered=True)
    endpoint.script = lambda ids, now: Reply(422) if "e000005" in ids and now < START + 90 else OK
    world.emit(12)
    return webhook


def run(scenario: Scenario, hit: int, *, after: bool) -> int:
    """Run it, with a death at call number `hit`; answer how many calls there were."""
    with World() as world:

        def die_once(call: Call, proceed: Callable[[], Any]) -> Any:
            if call.number != hit:
                return proceed()
            if after:
                proceed()
            return world.die(call)

        world.taps.append(die_once)
        webhook = scenario(world)
        for _ in range(10):
            world.run(10)
            assert world.problems() == []
        world.run(30 * MINUTE)
        assert world.problems() == []
        assert world.outcomes(webhook) == {"delivered": len(world.emitted)}
        assert world.marks(webhook) == {}
        assert world.deaths == (1 if 0 < hit <= world.calls else 0)
        assert world.duplicates() <= 10
        return world.calls


@pytest.mark.parametrize("scenario", [direct_success, failure_and_drain, split_and_set_aside])
def test_a_death_at_each_call(scenario: Scenario) -> None:
    calls = run(scenario, 0, after=False)
    assert calls > 20
    for hit in range(1, min(calls, 80) + 1):
        run(scenario, hit, after=False)
        run(scenario, hit, after=True)
