"""A part of the week, see `week`; `make faults` lives all of it."""

import pytest

from lms_webhooks import turn
from tests.faults.week import Week


@pytest.mark.parametrize("seed", [1, 2])
def test_half_a_day_in_which_everything_happens(seed: int) -> None:
    assert Week(seed).live(0.5) == []


def test_a_week_sees_a_lane_that_starves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn, "stand_in", lambda *_: None)
    assert any(problem.startswith("starved") for problem in Week(1).live(0.25))
