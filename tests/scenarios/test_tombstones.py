"""An account that made and deleted webhooks without end costs its neighbours nothing."""

import pytest

from lms_webhooks.stores.webhooks import MAX_DELETED
from tests.scenarios.tombstones import Redelivery
from tests.scenarios.world import DAY, World


@pytest.mark.slow
@pytest.mark.parametrize(
    ("over_seconds", "is_old"),
    [(60 * DAY, False), (60 * DAY, True), (10, False)],
    ids=["over sixty days", "by a version before", "since the event was accepted"],
)
def test_a_message_that_comes_again_holds_up_no_neighbour(
    world: World, over_seconds: float, *, is_old: bool
) -> None:
    redelivery = Redelivery(world)
    waited = redelivery.happen(10_000, over_seconds=over_seconds, is_old=is_old)
    assert redelivery.mine.acknowledged == redelivery.event_ids
    assert max(redelivery.looked) <= MAX_DELETED
    assert len(waited) == 4
    assert max(waited) < 0.5
    world.run_until_quiet(at_most=DAY)
