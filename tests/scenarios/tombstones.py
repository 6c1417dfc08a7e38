"""An account that made and deleted webhooks without end, and one of whose messages comes again."""

from collections.abc import Callable
from typing import Any

from lms_webhooks.stores.webhooks import new_webhook_id
from lms_webhooks.timestamps import format_ms
from tests.scenarios.world import ACCOUNT, REAL_TIME, WEBHOOKS, Call, World

NEIGHBOUR = "2020"
_SECONDS_AN_ITEM = 0.0002  # of botocore's, on a machine that is not busy: 60,000 tombstones took it 12.7 s
_COMES_AGAIN_SECONDS = 360  # the visibility timeout of the queue


class Redelivery:
    """A dispatcher dies over an event of the account, whose message comes again among the neighbour's.

    Its readings take as long as botocore needs for what they return.
    """

    def __init__(self, world: World) -> None:
        self.mine, self.theirs = world.endpoint("mine"), world.endpoint("theirs")
        world.register(self.mine)
        world.register(self.theirs, account=NEIGHBOUR)
        self.event_ids: list[str] = []
        self.looked: list[int] = []
        """How many items each query returned."""
        self._world = world

    def happen(self, count: int, *, over_seconds: float, is_old: bool = False) -> list[float]:
        """Return how long each of the neighbour's events waited. The account deleted `count` webhooks in the
        last `over_seconds`; with `is_old` a version deleted them whose tombstones are in no order."""
        world = self._world
        world.taps.append(self._die)
        self.event_ids = world.emit(1)
        world.run(10)
        assert world.deaths == 1
        world.taps.remove(self._die)
        bury(world, count, over_seconds=over_seconds, is_old=is_old)
        world.taps.append(self._take_time)
        world.run(_COMES_AGAIN_SECONDS - 11)
        emitted: dict[str, float] = {}
        for _ in range(4):
            emitted |= dict.fromkeys(world.emit(1, account=NEIGHBOUR), world.now)
            world.run(0.5)
        world.run(60)
        return [
            post.started_at - emitted[event_id] for post in self.theirs.posts for event_id in post.event_ids
        ]

    def _die(self, call: Call, proceed: Callable[[], Any]) -> Any:
        if call.service == "POST":
            self._world.die(call)
        return proceed()

    def _take_time(self, call: Call, proceed: Callable[[], Any]) -> Any:
        answer = proceed()
        if call.operation == "Query":
            self.looked.append(len(answer["Items"]))
            self._world.time.sleep(len(answer["Items"]) * _SECONDS_AN_ITEM)
        return answer


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
                "deleted_at": {"S": format_ms(deleted_at_ms)},
                "deleted_by": {"S": "ada@example.com"},
                "events": {"SS": [REAL_TIME]},
            },
        )
