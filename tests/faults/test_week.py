"""A part of the week, see `week`; `make faults` lives all of it."""

import pytest

from lms_webhooks.clocks import ExpiringCache
from lms_webhooks.drainer import drain_run
from lms_webhooks.stores.health import TICKET_GRACE_SECONDS
from tests.faults.week import Week, overfull_memories
from tests.scenarios.endpoints import DOWN, always
from tests.scenarios.world import MINUTE


@pytest.mark.parametrize("seed", [1, 2])
def test_half_a_day_in_which_everything_happens(seed: int) -> None:
    assert Week(seed).live(0.5) == []


def test_a_webhook_whose_drain_message_was_lost_may_wait_until_its_ticket_ends() -> None:
    week = Week(1)
    with week.world:
        for name in ("plain", "neighbour"):
            week._register(name)
        plain, neighbour = week.subjects.values()
        plain.endpoint.script = always(DOWN)
        week._emit(plain.account, 1)
        week.world.run(MINUTE)
        week._lose_drain_messages()
        assert plain.unwell_until - week.world.now >= TICKET_GRACE_SECONDS
        assert neighbour.unwell_until < week.world.now


def test_a_week_sees_a_lane_that_starves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain_run, "number_of_stand_in", lambda _: None)
    assert any(problem.startswith("starved") for problem in Week(1).live(0.25))


def test_a_week_sees_what_remembers_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = ExpiringCache[str, str](max_age_seconds=60, max_weight=2)
    for key in "abc":
        memory.put(key, "")
    assert list(overfull_memories()) == []
    monkeypatch.setattr(ExpiringCache, "_remove", lambda *_: None)
    monkeypatch.setattr(memory, "_weight", 0)
    memory.put("d", "")
    assert list(overfull_memories()) == ["too much is remembered: 3 of 2"]
