"""Let every call of every story go wrong in every way, and print what came of it.

    make faults              everything, some minutes; SEED=7 repeats a run
    python -m tests.faults --only drain,replay
    python -m tests.faults --only week --days 2 --seed 7

Events without an outcome on record are counted as lost. Events pending where nobody looks are counted as
stranded. Events in flight at the fault that a receiver got again are counted as duplicates. The exit
status says whether all that must hold held.
"""

import moto  # noqa: F401, I001  # before the product, see tests/conftest.py

import argparse
import random
import sys
import time
from collections.abc import Sequence

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.faults.exhaust import Row, exhaust
from tests.faults.faults import Fault
from tests.faults.model import Model
from tests.faults.stories import STORIES
from tests.faults.week import Week

_SHOWN = 40  # problems; more say the same
_WEEK = "week"
_HEAD = ("calls", "points", "lost", "stranded", "duplicates", "problems")


def main(arguments: Sequence[str]) -> int:
    """Run it; return the exit status."""
    parser = argparse.ArgumentParser(prog="make faults")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--only", default="", help="some of the stories, by name, with commas between")
    parser.add_argument("--days", type=float, default=7, help="of the week")
    parser.add_argument("--examples", type=int, default=400, help="of the model check")
    options = parser.parse_args(arguments)
    print(f"SEED={options.seed}\n")
    started_at = time.monotonic()
    rows = exhaust_all(options.seed, [name for name in options.only.split(",") if name])
    print_by_fault(rows)
    problems = [problem for row in rows for problem in row.problems]
    for problem in problems[:_SHOWN]:
        print(f"  {problem}")
    holds = not problems
    if not options.only:
        holds &= check_model(options.examples, options.seed)
    if not options.only or _WEEK in options.only.split(","):
        holds &= live(options.days, options.seed)
    print(
        f"\n{'Everything held' if holds else 'SOMETHING DID NOT HOLD'}, {time.monotonic() - started_at:.0f} s"
    )
    return 0 if holds else 1


def exhaust_all(seed_: int, only: Sequence[str]) -> list[Row]:
    """Every fault at each call of each story, a line of the table for each story."""
    print_line("story", _HEAD)
    rows: list[Row] = []
    for story in STORIES:
        if only and story.name not in only:
            continue
        mine = [exhaust(story, fault, seed_) for fault in Fault]
        print_line(story.name, sums(mine, mine[0].calls))
        rows += mine
    print_line("all", sums(rows, sum(row.calls for row in rows) // len(Fault)))
    return rows


def print_by_fault(rows: Sequence[Row]) -> None:
    """The same numbers, by what went wrong."""
    print()
    print_line("fault", _HEAD)
    for fault in Fault:
        mine = [row for row in rows if row.fault is fault]
        print_line(fault, sums(mine, sum(row.calls for row in mine)))
    print()


def check_model(examples: int, seed_: int) -> bool:
    """Everything mixed, at random; see `model`."""
    print(f"model: {examples} examples ...", flush=True)
    profile = settings(
        max_examples=examples,
        stateful_step_count=40,
        deadline=None,
        database=None,
        print_blob=False,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(seed(seed_)(Model), settings=profile)
    except Exception as error:  # noqa: BLE001  # what hypothesis found, with the steps to it
        print("\n".join([f"  {error!r}", *getattr(error, "__notes__", [])]))
        return False
    print("model: held")
    return True


def live(days: float, seed_: int) -> bool:
    """Everything that lasts, see `week`."""
    print(f"week: {days:g} days ...", flush=True)
    week = Week(seed_)
    problems = week.live(days)
    world = week.world
    print(
        f"week: {len(world.emitted)} events, {len(world.posts())} POSTs, {world.calls} calls of AWS, "
        f"{world.deaths} deaths, {world.repeats()} repeats"
    )
    print("\n".join(f"  {problem}" for problem in problems[:_SHOWN]) or "week: held")
    return not problems


def sums(rows: Sequence[Row], calls: int) -> list[object]:
    """What stands in a line of the table."""
    return [
        calls,
        sum(row.points for row in rows),
        sum(row.lost for row in rows),
        sum(row.stranded for row in rows),
        sum(row.repeats for row in rows),
        sum(len(row.problems) for row in rows),
    ]


def print_line(name: str, cells: Sequence[object]) -> None:
    """One line of a table."""
    print(f"{name:22}" + "".join(f"{cell:>12}" for cell in cells), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
