"""How the suite is shared out among processes, and what it says meanwhile."""

from pathlib import Path

import pytest

from tests import schedule
from tests.progress import Tier, line_of
from tests.schedule import tier_of, unit_of

TESTS = Path(schedule.__file__).parent


def test_every_tier_has_its_place() -> None:
    tiers = {path.relative_to(TESTS).parts[0] for path in TESTS.rglob("test_*.py")}
    assert tiers <= set(schedule._ORDER)


@pytest.mark.parametrize("stack", schedule.STACKS)
def test_every_module_of_a_stack_is_there(stack: str) -> None:
    """One that was renamed would go to the first, which would then take longer."""
    assert {path.stem for path in (TESTS / "e2e").glob("test_*.py")} >= set(schedule.STACKS[stack])


@pytest.mark.parametrize(
    ("nodeid", "unit"),
    [
        ("tests/unit/test_a.py::test_b[/::c]", "tests/unit/test_a.py"),
        ("tests/scenarios/test_a.py::test_b", "tests/scenarios/test_a.py::test_b"),
        ("tests/e2e/test_new.py::test_b", "the first stack"),
        ("tests/e2e/test_upgrade.py::test_b", "the second stack"),
        ("tests/e2e/test_smoke.py::test_b", "the third stack"),
        ("tests/e2e/test_backlog.py::test_b", "the fourth stack"),
        ("tests/e2e/enforced/test_roles.py::test_b", "the stack whose roles are enforced"),
    ],
)
def test_what_shares_a_stack_or_a_module_stays_together(nodeid: str, unit: str) -> None:
    assert unit_of(nodeid) == unit


def test_a_tier_is_a_folder() -> None:
    assert tier_of("tests/e2e/enforced/test_roles.py::test_b") == "e2e"


def tier(done: str = "", **expected: float | None) -> Tier:
    """A tier that began at 0."""
    return Tier(expected, done=set(done), began_at=0)


@pytest.mark.parametrize(
    ("tier", "line"),
    [
        (tier(a=None), "0 of     1   has not begun"),
        # Of forty seconds in the last run, thirty are done after sixty: the rest takes twenty.
        (tier("a", a=30.0, b=10.0), "1 of     2   1:00, about 0:20 more"),
        # One that was not there in the last run takes as long as those that were, on average.
        (tier("a", a=10.0, b=None), "1 of     2   1:00, about 1:00 more"),
        (tier("a", a=1.0, b=99.0), "1 of     2   1:00"),
        (
            Tier({"a": 1.0}, done={"a"}, failed={"a"}, began_at=0, ended_at=5),
            "1 of     1   done, 0:05, 1 failed",
        ),
    ],
)
def test_a_line_says_how_far_a_tier_is_and_how_long_it_may_take(tier: Tier, line: str) -> None:
    assert line_of("unit", tier, 60.0) == f"  unit             {line}"
