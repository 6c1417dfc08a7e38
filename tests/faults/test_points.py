"""Every fault at every call of every story: nothing is lost or stranded, and one drainer sends, in order."""

import pytest

from tests.faults.exhaust import exhaust, tell_without_fault
from tests.faults.faults import Fault
from tests.faults.stories import STORIES, Story

SEED = 0
RARE = {Fault.OUTAGE: 3, Fault.STALLS: 3}
"""Of these, every third call; `make faults` does them all."""
WITHOUT_A_POINT = {
    (story, fault)
    for stories, faults in (
        (("redeliver", "replay"), (Fault.PARTLY_DONE, Fault.PARTLY_FOR_GOOD)),
        (("direct success", "malformed"), (Fault.CONFLICTS, Fault.CONFLICTS_FOR_GOOD)),
    )
    for story in stories
    for fault in faults
}
"""Stories without a batch, or where all that is written is a batch."""


@pytest.mark.parametrize("fault", list(Fault), ids=lambda fault: fault.value.replace(" ", "-"))
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name.replace(" ", "-"))
def test_a_fault_at_each_call(story: Story, fault: Fault) -> None:
    row = exhaust(story, fault, SEED, step=RARE.get(fault, 1))
    assert row.problems == []
    assert row.points > 0 or (story.name, fault) in WITHOUT_A_POINT


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name.replace(" ", "-"))
def test_without_a_fault_nothing_comes_twice(story: Story) -> None:
    calm = tell_without_fault(story, SEED)
    assert calm.problems == []
    assert calm.repeats == 0
