"""Non-real-time events wait for their slot; then the drainer sends them, in either mode."""

from lms_webhooks.model.health import Mode
from lms_webhooks.model.lanes import Lane
from tests.scenarios.endpoints import DOWN, HANGS, OK, Reply, always, in_turn, rejecting, until
from tests.scenarios.world import HOUR, MINUTE, NON_REAL_TIME, START, World


def test_they_wait_for_their_slot_and_go_out_in_batches(world: World) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    ids = world.emit(300, name=NON_REAL_TIME)
    world.run(14 * MINUTE)
    assert endpoint.posts == []
    assert world.waiting_ids(webhook, Lane.BATCH) == ids
    world.run(MINUTE + 5)
    assert endpoint.acknowledged == ids
    assert endpoint.sizes == [1, 2, 4, 8, 16, 32, 64, 100, 73]
    assert endpoint.posts[0].started_at - START < 15 * MINUTE + 1
    assert world.outcomes(webhook) == {"delivered": 300}
    assert world.marks(webhook) == {}
    assert world.metrics["DrainsScheduledBySweep"] == 1


def test_what_comes_after_a_slot_waits_for_the_next(world: World) -> None:
    endpoint = world.endpoint()
    world.register(endpoint)
    first = world.emit(3, name=NON_REAL_TIME)
    world.run(16 * MINUTE)
    assert endpoint.acknowledged == first
    second = world.emit(3, name=NON_REAL_TIME)
    world.run(13 * MINUTE)
    assert endpoint.acknowledged == first
    world.run(2 * MINUTE)
    assert endpoint.acknowledged == first + second


def test_real_time_events_do_not_wait_for_the_others(world: World) -> None:
    """While two thousand are drained at half a second a POST, real-time events go out directly."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    world.emit(2000, name=NON_REAL_TIME)
    world.run(15 * MINUTE + 1)
    for _ in range(5):
        (event,) = world.emit(1)
        world.run(0.5)
        assert event in endpoint.acknowledged
    assert world.health(webhook).mode is Mode.DIRECT
    world.run_until_quiet()


def test_a_failure_in_the_batch_lane_sets_backlog_mode(world: World) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    batch = world.emit(5, name=NON_REAL_TIME)
    endpoint.script = until(world.now + 16 * MINUTE, DOWN)
    world.run(15 * MINUTE + 10)
    assert world.health(webhook).mode is Mode.BACKLOG
    real_time = world.emit(5)
    world.run(5)
    assert endpoint.posts_of("dispatcher") == []
    world.run_until_quiet()
    assert endpoint.acknowledged[0] == real_time[0], "the real-time lane goes first"
    assert [each for each in endpoint.acknowledged if each in real_time] == real_time
    assert [each for each in endpoint.acknowledged if each in batch] == batch


def test_a_lane_whose_slot_has_come_stays_due_while_its_endpoint_is_down(world: World) -> None:
    endpoint = world.endpoint()
    world.register(endpoint)
    ids = world.emit(5, name=NON_REAL_TIME)
    endpoint.script = until(world.now + 2 * HOUR, HANGS)
    world.run(2 * HOUR + 6 * MINUTE)
    assert endpoint.acknowledged == ids


def test_what_comes_while_a_lane_that_is_due_is_drained_goes_out_with_it(world: World) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = always(Reply(seconds=2))
    first = world.emit(20, name=NON_REAL_TIME)
    world.run(15 * MINUTE + 3)
    assert 0 < len(endpoint.acknowledged) < 20
    second = world.emit(20, name=NON_REAL_TIME)
    world.run(MINUTE)
    assert endpoint.acknowledged == first + second
    assert world.marks(webhook) == {}


def test_both_kinds_are_set_aside_alike(world: World) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    ids = world.emit(20, name=NON_REAL_TIME)
    endpoint.script = rejecting(ids[7])
    world.run(15 * MINUTE + 10)
    assert endpoint.acknowledged == [each for each in ids if each != ids[7]]
    assert world.waiting_ids(webhook, Lane.RETRY) == [ids[7]]
    endpoint.script = always(OK)
    world.run(2 * MINUTE)
    assert world.outcomes(webhook) == {"delivered": 20}


def test_a_message_of_the_batch_queue_that_comes_twice(world: World) -> None:
    endpoint = world.endpoint()
    world.register(endpoint)
    endpoint.script = in_turn(OK)
    ids = world.emit(3, name=NON_REAL_TIME)
    world.duplicate(ids[0], name=NON_REAL_TIME, delay_seconds=60)
    world.duplicate(ids[1], name=NON_REAL_TIME, delay_seconds=HOUR)
    world.run(2 * HOUR)
    assert endpoint.acknowledged == ids


def test_each_webhook_goes_out_at_its_own_times(world: World) -> None:
    """The world begins at 12:00 UTC, which is 13:00 in Rome."""
    often, daily = world.endpoint("often"), world.endpoint("daily")
    world.register(often, batch_schedule={"everyMinutes": 5})
    in_rome = {"dailyAt": ["02:00", "14:30"], "timeZone": "Europe/Rome"}
    webhook = world.register(daily, batch_schedule=in_rome)
    first = world.emit(3, name=NON_REAL_TIME)
    world.run(6 * MINUTE)
    assert (often.acknowledged, daily.posts) == (first, [])
    world.run(83 * MINUTE)
    assert daily.posts == [], "14:30 is a minute away"
    world.run(2 * MINUTE)
    assert daily.acknowledged == first
    second = world.emit(2, name=NON_REAL_TIME)
    world.run(11 * HOUR + 28 * MINUTE)
    assert daily.acknowledged == first
    world.run(3 * MINUTE)
    assert daily.acknowledged == first + second, "02:00 in Rome"
    assert world.outcomes(webhook) == {"delivered": 5}


def test_a_slot_that_no_sweep_saw_goes_out_at_the_next_and_once(world: World) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint, batch_schedule={"dailyAt": ["12:30"], "timeZone": "UTC"})
    ids = world.emit(3, name=NON_REAL_TIME)
    world.run(MINUTE)
    world.no_sweeps_until = world.now + 3 * HOUR
    world.run(2 * HOUR)
    assert endpoint.posts == []
    world.run(2 * HOUR)
    assert endpoint.acknowledged == ids
    assert world.outcomes(webhook) == {"delivered": 3}
    assert len(endpoint.posts) == len(endpoint.sizes) == 2


def test_a_new_schedule_holds_for_what_is_pending_and_for_what_comes(world: World) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    first = world.emit(2, name=NON_REAL_TIME)
    world.run(5 * MINUTE)
    world.change(webhook, batch_schedule={"dailyAt": ["13:00"], "timeZone": "UTC"})
    second = world.emit(2, name=NON_REAL_TIME)
    world.run(54 * MINUTE)
    assert endpoint.posts == []
    world.change(webhook, batch_schedule={"everyMinutes": 240})
    world.run(2 * HOUR + 55 * MINUTE)
    assert endpoint.posts == []
    world.run(7 * MINUTE)
    assert endpoint.acknowledged == first + second, "16:00"
