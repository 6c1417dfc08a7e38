"""Five thousand events behind an endpoint that is down, then up."""

import pytest

from tests.scenarios.endpoints import DOWN, Reply, until
from tests.scenarios.world import MINUTE, World


@pytest.mark.slow
def test_five_thousand_events_behind_a_dead_endpoint(world: World) -> None:
    """They come within ten minutes, the endpoint is up after fifteen, and takes 0.2 s a POST. Once the mode
    has spread there is one probe at a time; about one POST for a hundred events brings them all, in order."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    up_at = world.now + 15 * MINUTE
    endpoint.script = until(up_at, DOWN, Reply(seconds=0.2))
    ids: list[str] = []
    for _ in range(100):
        ids += world.emit(50)
        world.run(6)
    world.run_until_quiet(at_most=30 * MINUTE)

    assert endpoint.acknowledged == ids
    assert world.outcomes(webhook) == {"delivered": 5_000}
    assert world.duplicates() == 0
    probes = [post for post in endpoint.posts if not post.is_acknowledged]
    assert len([post for post in probes if post.function == "dispatcher"]) <= 20, "one for each ten events"
    assert len([post for post in probes if post.function == "drainer"]) == 7 + 4, "four of the next events"
    good = [post for post in endpoint.posts if post.is_acknowledged]
    assert len(good) <= 5_000 / 100 + 12
    assert (good[-1].ended_at or 0) - good[0].started_at < 90
