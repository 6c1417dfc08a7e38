"""One event that its receiver always fails at, among others that it takes: nothing else waits for it long."""

from functools import partial
from itertools import pairwise

import pytest

from lms_webhooks.model.attempts import ErrorClass
from lms_webhooks.model.health import Mode
from lms_webhooks.model.lanes import Lane
from tests.scenarios.endpoints import DOWN, OK, REFUSED, Endpoint, Reply, Script, always
from tests.scenarios.world import DAY, HOUR, MINUTE, NON_REAL_TIME, World

POISON = [DOWN, Reply(401), Reply(302), Reply(seconds=30), Reply(None, error=ErrorClass.INVALID_RESPONSE)]
NAMES = ["500", "401", "302", "hangs", "broken"]


def failing_at(*poison: str, reply: Reply) -> Script:
    return lambda ids, _now: reply if set(ids) & set(poison) else OK


def is_missing(endpoint: Endpoint, event_id: str) -> bool:
    return event_id not in endpoint.acknowledged


@pytest.mark.parametrize("reply", POISON, ids=NAMES)
def test_one_such_event_holds_nothing_up_for_a_week(world: World, reply: Reply) -> None:
    """An event every hour for seven days, and the first of them is poison."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    (poison,) = world.emit()
    endpoint.script = failing_at(poison, reply=reply)
    late = 0.0
    for _ in range(7 * 24):
        emitted_at = world.now
        (event,) = world.emit()
        world.run_while(partial(is_missing, endpoint, event), at_most=MINUTE)
        late = max(late, world.now - emitted_at)
        world.run(emitted_at + HOUR - world.now)
    assert late <= 40, "5 and 10 s, and three time-outs"
    assert world.told == []
    assert len(endpoint.acknowledged) == 7 * 24
    recorded = world.history(webhook)[poison]
    assert recorded.outcome == "failed"
    assert recorded.reason.startswith("rejected 8 times, at last with ")
    assert len(recorded.statuses) == 8
    assert world.outcomes(webhook) == {"delivered": 7 * 24, "failed": 1}
    assert world.health(webhook).mode is Mode.DIRECT


@pytest.mark.parametrize("reply", POISON[:4], ids=NAMES[:4])
def test_five_hundred_events_with_two_such_in_front(world: World, reply: Reply) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    ids = world.emit(500)
    endpoint.script = failing_at(*ids[:2], reply=reply)
    world.run(5 * MINUTE)
    assert sorted(endpoint.acknowledged) == ids[2:]
    assert sorted(world.waiting_ids(webhook, Lane.RETRY)) == ids[:2]
    assert world.health(webhook).failures == 0


def test_forty_such_events_in_front_block_nobody_for_long(world: World) -> None:
    """They are more than those that a failing endpoint is tried with one after the other."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = always(REFUSED)
    ids = world.emit(500)
    world.run(MINUTE)
    endpoint.script = failing_at(*ids[:40], reply=DOWN)
    world.run(10 * MINUTE)
    assert endpoint.acknowledged
    world.run(2 * HOUR)
    assert sorted(endpoint.acknowledged) == ids[40:]
    assert world.history(webhook).keys() == set(ids[40:])


def test_such_events_in_every_place_but_one_are_no_outage_for_a_week(world: World) -> None:
    """Of a hundred that wait, one gets through, wherever it stands: then so does what comes."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = always(REFUSED)
    ids = world.emit(100)
    world.run(MINUTE)
    endpoint.script = failing_at(*ids[:97], *ids[98:], reply=DOWN)
    world.run_while(partial(is_missing, endpoint, ids[97]), at_most=5 * DAY)
    assert world.health(webhook).disabled_reason is None


@pytest.mark.parametrize("minutes", [0, 5, 10, 15])
def test_such_an_event_in_front_after_an_outage_holds_the_others_up_for_a_quarter_of_an_hour_at_most(
    world: World, minutes: int
) -> None:
    """All of them failed in the outage, so that nothing tells it from them."""
    endpoint = world.endpoint()
    world.register(endpoint)
    endpoint.script = always(DOWN)
    ids = world.emit(60)
    world.run(6 * HOUR + minutes * MINUTE)
    endpoint.script = failing_at(ids[0], reply=DOWN)
    world.run(16 * MINUTE)
    assert sorted(endpoint.acknowledged) == ids[1:]


def test_what_comes_behind_such_an_event_is_tried_within_a_quarter_of_an_hour(world: World) -> None:
    """When another one should have been tried, none was there but what was set aside before."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    poison: set[str] = set()
    endpoint.script = lambda ids, _now: DOWN if poison & set(ids) else OK
    poison |= set(first := world.emit(4))
    well = world.emit(40)
    world.run_while(lambda: len(endpoint.acknowledged) < len(well), at_most=HOUR)
    assert len(world.waiting(webhook, Lane.RETRY)) == len(first)
    poison |= set(world.emit())
    world.run(3 * MINUTE)
    assert world.health(webhook).failures >= 6
    others = world.emit(5)
    world.run(14 * MINUTE)
    assert set(others) <= set(endpoint.acknowledged)


def test_an_endpoint_that_refuses_connections_gets_one_request_a_probe(world: World) -> None:
    """Whatever it did before: that says nothing of an event."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = always(DOWN)
    world.emit(60)
    world.run_while(lambda: world.health(webhook).failures < 4, at_most=3 * MINUTE)
    endpoint.script = always(REFUSED)
    world.run(5 * MINUTE)
    endpoint.posts.clear()
    world.run(2 * HOUR)
    assert 22 <= len(endpoint.posts) <= 24


def test_another_event_that_is_rejected_spares_the_endpoint_no_pause(world: World) -> None:
    """It got no 2xx, so that nothing says that the endpoint takes events."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = always(DOWN)
    ids = world.emit(30)
    world.run(1)
    endpoint.script = lambda sent, _now: DOWN if ids[0] in sent else Reply(422)
    world.run(11 * MINUTE)
    began = [post.started_at for post in endpoint.posts if post.event_ids == [ids[0]]]
    pauses = [later - earlier for earlier, later in pairwise(began)]
    assert [round(pause, -1) for pause in pauses[2:]] == [20, 40, 80, 160, 300]
    assert len(world.waiting_ids(webhook, Lane.RETRY)) == 4


def test_such_an_event_that_comes_in_front_late_in_an_outage_is_found(world: World) -> None:
    """Others failed often by then, each in its turn: what is in front is remembered all the same."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = always(DOWN)
    batch = world.emit(10, name=NON_REAL_TIME)
    world.run(DAY)
    assert min(world.health(webhook).suspects.values()) > 1
    (poison,) = world.emit()
    endpoint.script = failing_at(poison, reply=DOWN)
    world.run(HOUR)
    assert sorted(endpoint.acknowledged) == batch


def test_such_an_event_in_the_midst_of_a_batch_under_a_steady_stream(world: World) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    batch = world.emit(200, name=NON_REAL_TIME)
    endpoint.script = failing_at(batch[77], reply=DOWN)
    real_time = []
    for _ in range(40 * 60):
        real_time += world.emit()
        world.run(1)
    assert set(real_time) <= set(endpoint.acknowledged)
    assert set(batch) - set(endpoint.acknowledged) == {batch[77]}
    assert world.told == []
    world.run_until_quiet(at_most=8 * DAY)
    assert world.history(webhook)[batch[77]].outcome == "failed"


def test_an_outage_of_six_hours_sets_nothing_aside(world: World) -> None:
    """What fails then is the endpoint: back again, it gets every event, in order."""
    for number, reply in enumerate((DOWN, REFUSED, Reply(seconds=30), Reply(401))):
        account = str(number)
        endpoint = world.endpoint(f"hooks{number}")
        webhook = world.register(endpoint, account=account)
        endpoint.script = always(reply)
        ids = []
        for _ in range(36):
            ids += world.emit(account=account)
            world.run(10 * MINUTE)
        endpoint.script = always(OK)
        world.run(10 * MINUTE)
        assert endpoint.acknowledged == ids
        assert world.waiting_ids(webhook, Lane.RETRY) == []


def test_an_ordered_webhook_waits_for_such_an_event_for_seven_days(world: World) -> None:
    """So it is promised, and documented."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint, ordered=True)
    ids = world.emit(3)
    endpoint.script = failing_at(ids[0], reply=DOWN)
    world.run(HOUR)
    assert endpoint.acknowledged == []
    assert world.waiting_ids(webhook, Lane.REALTIME) == ids


def test_nothing_expires_untried_while_others_get_through() -> None:
    """More waits than goes out in the time that events are kept: what is late is sent, not ended."""
    with World(retention_days=1) as world:
        endpoint = world.endpoint()
        webhook = world.register(endpoint, ordered=True)
        endpoint.script = always(DOWN)
        ids = world.emit(60)
        world.run(DAY - 10 * MINUTE)
        # It recovers some minutes before they expire, and takes one at a time, in 20 s.
        endpoint.script = lambda ids, _now: Reply(seconds=4) if len(ids) == 1 else Reply(400)
        world.run(30 * MINUTE)
        assert endpoint.acknowledged == ids
        assert world.outcomes(webhook) == {"delivered": 60}
