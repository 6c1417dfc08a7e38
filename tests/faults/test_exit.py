"""What dies in the other tests by an exception, dies here as processes do: twenty times, by `os._exit`."""

from functools import cache

import pytest

from tests.faults.child import ChildWorld
from tests.faults.exhaust import tell
from tests.faults.faults import Fault, Strike
from tests.faults.stories import STORIES, Story

TOLD = [
    story for story in STORIES if story.name in ("direct success", "drain", "set aside", "expiry", "replay")
]
FAULTS = (Fault.DIES_BEFORE, Fault.DIES_AFTER) * 2
"""One a point, and the points evenly over a story."""


@cache
def calls(story: Story) -> int:
    """How many there are where no process dies."""
    calm = tell(story, None, 0, world_of=ChildWorld)
    assert calm.problems == []
    return len(calm.seen)


@pytest.mark.parametrize("point", range(1, len(FAULTS) + 1))
@pytest.mark.parametrize("story", TOLD, ids=lambda story: story.name.replace(" ", "-"))
def test_a_process_that_really_dies(story: Story, point: int) -> None:
    strike = Strike(FAULTS[point - 1], calls(story) * point // (len(FAULTS) + 1) + 1)
    assert tell(story, strike, 0, world_of=ChildWorld).problems == []
