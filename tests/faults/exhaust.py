"""Tell a story once for each call in it, and let that call go wrong."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from tests.faults.faults import Fault, FaultWorld, Strike, applies
from tests.faults.stories import Story


@dataclass(frozen=True)
class Telling:
    """A story that ran once: what was called, and what did not hold."""

    seen: list[tuple[str, str]]
    invocations: int
    repeats: int
    problems: list[str]


@dataclass
class Row:
    """A story with one fault at each of its calls."""

    story: str
    fault: Fault
    calls: int
    points: int = 0
    repeats: int = 0
    """Events that a receiver got once more, all of them in flight when the fault struck."""
    problems: list[str] = field(default_factory=list)

    @property
    def lost(self) -> int:
        return self._count("lost")

    @property
    def stranded(self) -> int:
        return self._count("stranded", "left over")

    def _count(self, *kinds: str) -> int:
        return sum(problem.partition("] ")[2].startswith(kinds) for problem in self.problems)


def tell(
    story: Story, strike: Strike | None, seed: int, *, world_of: type[FaultWorld] = FaultWorld
) -> Telling:
    """Tell a story, with one fault or none."""
    with world_of(strike, seed=seed) as world:
        try:
            story.play(world)
            world.settle(at_most=story.settles_within)
            problems = world.verdict()
        except AssertionError as error:
            problems = [f"stranded: {error}", *world.audit.problems]  # it never settles
        except Exception as error:  # noqa: BLE001  # whatever our code raises is what we look for
            problems = [f"raised: {error!r}", *world.audit.problems]
        if strike is not None and not world.is_struck:
            problems.append("the fault did not happen")
        where = f"[{strike.fault} at {strike.at}: {world.what_was_hit}] " if strike else "[no fault] "
        return Telling(
            world.seen, world.invocations, world.repeats(), [where + problem for problem in problems]
        )


@lru_cache(maxsize=64)
def tell_without_fault(story: Story, seed: int) -> Telling:
    """Tell a story in which all goes well."""
    return tell(story, None, seed)


def points(telling: Telling, fault: Fault) -> Sequence[int]:
    """Where a fault can happen: the numbers of calls, or of invocations."""
    if fault is Fault.COMES_AGAIN:
        return range(1, telling.invocations + 1)
    return [number for number, call in enumerate(telling.seen, 1) if applies(fault, *call)]


def exhaust(story: Story, fault: Fault, seed: int, *, step: int = 1) -> Row:
    """Tell a story with a fault at each call where it can happen, or at every `step`-th of them."""
    calm = tell_without_fault(story, seed)
    row = Row(story.name, fault, len(calm.seen), problems=list(calm.problems))
    for at in points(calm, fault)[seed % step :: step]:
        telling = tell(story, Strike(fault, at), seed)
        row.points += 1
        row.repeats += telling.repeats
        row.problems += telling.problems
    return row
