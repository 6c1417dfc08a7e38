"""Lanes share the requests of a webhook: no steady stream starves another lane, or keeps direct mode away."""

import pytest

from lms_webhooks.model.health import Mode
from lms_webhooks.model.lanes import Lane
from lms_webhooks.model.slots import EveryMinutes, next_slot_ms
from lms_webhooks.stores.replays import ReplayState
from tests.scenarios.endpoints import Reply, always
from tests.scenarios.test_replay import progress, start
from tests.scenarios.world import BATCH_EVERY_MINUTES, MINUTE, NON_REAL_TIME, World

STREAMS = [
    pytest.param(0.1, 0.1, False, id="10-a-second-at-0.1-s"),
    pytest.param(0.5, 0.6, False, id="2-a-second-at-0.6-s"),
    pytest.param(0.1, 0.2, True, id="ordered-10-a-second-at-0.2-s"),
]


@pytest.mark.parametrize(("every", "seconds", "ordered"), STREAMS)
def test_every_lane_is_served_beside_a_stream_that_takes_all_of_the_time(
    world: World, every: float, seconds: float, *, ordered: bool
) -> None:
    """A webhook in backlog mode gets real-time events as fast as its receiver responds. It has a batch of
    300, an event that was rejected, and a replay of 300."""
    slot = next_slot_ms(int(world.now * 1000), EveryMinutes(BATCH_EVERY_MINUTES)) / 1000
    world.run(slot - 5 * MINUTE - world.now)
    endpoint = world.endpoint()
    webhook = world.register(endpoint, ordered=ordered)
    world.emit(300)
    world.run_until_quiet()
    (rejected,) = world.emit()
    endpoint.script = lambda ids, _now: Reply(422 if rejected in ids else 500)
    world.run(1)
    stream = world.emit()
    batch = world.emit(300, name=NON_REAL_TIME)
    world.run(2)
    assert world.health(webhook).mode is Mode.BACKLOG
    assert world.waiting_ids(webhook, Lane.RETRY) == [rejected]
    replayed = len(endpoint.acknowledged)
    start(world, webhook)
    endpoint.script = always(Reply(seconds=seconds))
    started_at = world.now
    returned_at = None
    while world.now < slot + MINUTE:
        stream += world.emit()
        world.run(every)
        if returned_at is None and world.health(webhook).mode is Mode.DIRECT:
            returned_at = world.now
    world.run(MINUTE)
    got = endpoint.acknowledged
    assert set(stream) <= set(got)
    assert rejected in got
    assert set(batch) <= set(got)
    assert progress(world, webhook).state is ReplayState.DONE
    assert len(got) == len(set(got)) + replayed
    if ordered:
        of_stream = set(stream)
        assert [each for each in got if each in of_stream] == stream
    else:
        assert returned_at is not None
        assert returned_at - started_at <= 3 * MINUTE
