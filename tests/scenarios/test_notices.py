"""Over a real failure, owners hear of its beginning, of each day, and of its end: once each."""

import pytest

from lms_webhooks.model.notifications import NotificationKind
from tests.scenarios.endpoints import DOWN, OK, Reply, always, until
from tests.scenarios.world import DAY, HOUR, MINUTE, World


def told(world: World) -> list[NotificationKind]:
    return [NotificationKind(notice["kind"]) for notice in world.told]


def test_a_short_failure_is_nobody_s_concern(world: World) -> None:
    endpoint = world.endpoint()
    world.register(endpoint)
    endpoint.script = until(world.now + 10 * MINUTE, DOWN)
    world.emit(3)
    world.run(HOUR)
    assert told(world) == []


@pytest.mark.slow
def test_a_long_failure_is_told_at_its_beginning_daily_and_at_its_end(world: World) -> None:
    endpoint = world.endpoint()
    world.register(endpoint)
    endpoint.script = until(world.now + 2 * DAY + HOUR, DOWN)
    world.emit(3)
    world.run(14 * MINUTE)
    assert told(world) == []
    world.run(10 * MINUTE)
    assert told(world) == [NotificationKind.FAILING]
    world.run(2 * DAY + 2 * HOUR)
    assert told(world) == [
        NotificationKind.FAILING,
        NotificationKind.STILL_FAILING,
        NotificationKind.STILL_FAILING,
        NotificationKind.RECOVERED,
    ]


def test_while_notices_cannot_be_written_probes_keep_their_distance(world: World) -> None:
    endpoint = world.endpoint()
    world.register(endpoint)
    endpoint.script = always(DOWN)
    world.emit(1)
    world.run(14 * MINUTE)
    before = len(endpoint.posts)
    with world.fault("dynamodb", function="drainer", operations=("TransactWriteItems",)):
        world.run(20 * MINUTE)
    assert len(endpoint.posts) - before in (3, 4), "one in five minutes"
    assert told(world) == []
    world.run(10 * MINUTE)
    assert told(world) == [NotificationKind.FAILING]


@pytest.mark.parametrize(
    ("then", "kind"), [(Reply(410), NotificationKind.DISABLED), (OK, NotificationKind.RECOVERED)]
)
def test_a_transition_whose_notice_could_not_be_written_is_found_again(
    world: World, then: Reply, kind: NotificationKind
) -> None:
    endpoint = world.endpoint()
    world.register(endpoint)
    endpoint.script = until(world.now + HOUR, DOWN, then)
    world.emit(3)
    world.run(HOUR - MINUTE)
    assert told(world) == [NotificationKind.FAILING]
    with world.fault("dynamodb", function="drainer", operations=("TransactWriteItems",)):
        world.run(30 * MINUTE)
        assert told(world) == [NotificationKind.FAILING]
    world.emit(1)
    world.run(30 * MINUTE)
    assert told(world) == [NotificationKind.FAILING, kind]


def test_a_switch_off_is_told(world: World) -> None:
    endpoint = world.endpoint()
    world.register(endpoint)
    endpoint.script = always(Reply(410))
    world.emit(1)
    world.run(2 * MINUTE)
    assert told(world) == [NotificationKind.DISABLED]
