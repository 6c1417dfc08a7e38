"""An account that made and deleted webhooks without end costs its neighbours nothing."""

from collections.abc import Callable
from typing import Any

import pytest

from lms_webhooks.webhook_store import MAX_DELETED, new_webhook_id
from lms_webhooks.webhooks import rfc3339_of_ms
from tests.scenarios.world import ACCOUNT, DAY, REAL_TIME, WEBHOOKS, Call, World

NEIGHBOUR = "2020"
_SECONDS_AN_ITEM = 0.0002  # of botocore's, on a machine that is not busy: 60,000 tombstones took it 12.7 s


def bury(world: World, count: int, *, over_seconds: float, is_old: bool = False) -> None:
    """Leave the tombstones of webhooks that were deleted in the last `over_seconds`."""
    for number in range(count):
        deleted_at_ms = int((world.now - over_seconds * number / count) * 1000)
        webhook_id = new_webhook_id()
        world.put_past_the_taps(
            WEBHOOKS,
            {
                "pk": {"S": f"TOMBSTONE#{ACCOUNT}"},
                "sk": {"S": f"WEBHOOK#{webhook_id}" if is_old else f"{deleted_at_ms}#{webhook_id}"},
                "deleted_at": {"S": rfc3339_of_ms(deleted_at_ms)},
                "deleted_by": {"S": "ada@example.com"},
                "events": {"SS": [REAL_TIME]},
            },
        )


@pytest.mark.parametrize(
    ("over_seconds", "is_old"),
    [(60 * DAY, False), (60 * DAY, True), (10, False)],
    ids=["over sixty days", "by a version before", "since the event was accepted"],
)
def test_a_message_that_comes_again_holds_up_no_neighbour(
    world: World, over_seconds: float, *, is_old: bool
) -> None:
    mine, theirs = world.endpoint("mine"), world.endpoint("theirs")
    world.register(mine)
    world.register(theirs, account=NEIGHBOUR)
    looked: list[int] = []

    def take_time(call: Call, proceed: Callable[[], Any]) -> Any:
        answer = proceed()
        if call.operation == "Query":
            looked.append(len(answer["Items"]))
            world.time.sleep(len(answer["Items"]) * _SECONDS_AN_ITEM)
        return answer

    def die(call: Call, proceed: Callable[[], Any]) -> Any:
        if call.service == "POST":
            world.die(call)
        return proceed()

    world.taps.append(die)
    ids = world.emit(1)
    world.run(10)
    assert world.deaths == 1
    world.taps.remove(die)
    bury(world, 60_000, over_seconds=over_seconds, is_old=is_old)
    world.taps.append(take_time)
    world.run(349)  # the message comes again at 360 s
    emitted: dict[str, float] = {}
    for _ in range(4):
        emitted |= dict.fromkeys(world.emit(1, account=NEIGHBOUR), world.now)
        world.run(0.5)
    world.run(60)
    assert mine.acknowledged == ids
    assert max(looked) <= MAX_DELETED
    waited = [post.started_at - emitted[event_id] for post in theirs.posts for event_id in post.event_ids]
    assert len(waited) == 4
    assert max(waited) < 0.5
    world.run_until_quiet(at_most=DAY)
