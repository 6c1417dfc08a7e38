"""What dies in the other tests by an exception, dies here as processes do: twenty times, by `os._exit`."""

import pytest

from tests.faults.child import ChildWorld
from tests.faults.exhaust import tell
from tests.faults.faults import Fault, Strike
from tests.faults.stories import STORIES, Story

TOLD = [
    story for story in STORIES if story.name in ("direct success", "drain", "set aside", "expiry", "replay")
]


@pytest.mark.parametrize("story", TOLD, ids=lambda story: story.name.replace(" ", "-"))
def test_a_process_that_really_dies(story: Story) -> None:
    calm = tell(story, None, 0, world_of=ChildWorld)
    assert calm.problems == []
    for index, fault in enumerate((Fault.DIES_BEFORE, Fault.DIES_AFTER) * 2, 1):
        strike = Strike(fault, len(calm.seen) * index // 5 + 1)
        assert tell(story, strike, 0, world_of=ChildWorld).problems == []
