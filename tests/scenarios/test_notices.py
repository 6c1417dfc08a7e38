"""Over a real failure, owners hear of its beginning, of each day, and of its end: once each."""

from lms_webhooks.notices import Kind, NoticeBox
from tests.scenarios.endpoints import DOWN, Reply, always, until
from tests.scenarios.world import DAY, HOUR, MINUTE, World


def told(world: World) -> list[Kind]:
    notices = NoticeBox(world._table("deliveries")).read()
    return [notice.kind for notice in sorted(notices, key=lambda notice: notice.at_ms)]


def test_a_short_failure_is_nobody_s_concern(world: World) -> None:
    endpoint = world.endpoint()
    world.register(endpoint)
    endpoint.script = until(world.now + 10 * MINUTE, DOWN)
    world.emit(3)
    world.run(HOUR)
    assert told(world) == []


def test_a_long_failure_is_told_at_its_beginning_daily_and_at_its_end(world: World) -> None:
    endpoint = world.endpoint()
    world.register(endpoint)
    endpoint.script = until(world.now + 2 * DAY + HOUR, DOWN)
    world.emit(3)
    world.run(14 * MINUTE)
    assert told(world) == []
    world.run(10 * MINUTE)
    assert told(world) == [Kind.FAILING]
    world.run(2 * DAY + 2 * HOUR)
    assert told(world) == [Kind.FAILING, Kind.STILL_FAILING, Kind.STILL_FAILING, Kind.RECOVERED]


def test_a_switch_off_is_told(world: World) -> None:
    endpoint = world.endpoint()
    world.register(endpoint)
    endpoint.script = always(Reply(410))
    world.emit(1)
    world.run(MINUTE)
    assert told(world) == [Kind.SWITCHED_OFF]
