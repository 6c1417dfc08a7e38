"""What a benchmark found: figures with their noise, what they must be, and what they were before."""

import hashlib
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

ROUNDS = 9  # interleaved, so that whatever else the machine does hits all contenders alike
MACHINES = "machines"  # beside the rows of a baseline: on which machine each was measured
_SLACK = 0.10  # between two runs on one machine, beyond what their rounds differed by


@dataclass(frozen=True)
class Figure:
    """One line of the table. What compares two things of one run holds on any machine, and is compared with
    the baseline; the rest is for reading."""

    name: str
    value: float
    unit: str
    noise: float = 0.0
    """Half of the range of the middle half of the rounds, as a share of the value."""
    at_least: float | None = None
    at_most: float | None = None
    is_compared: bool = False
    is_better_high: bool = False
    """Of what has no goal; one that has says it by that."""

    @property
    def is_good(self) -> bool:
        return (self.at_least is None or self.value >= self.at_least) and (
            self.at_most is None or self.value <= self.at_most
        )

    @property
    def goal(self) -> str:
        if self.at_least is not None:
            return f">= {self.at_least:g}"
        return f"<= {self.at_most:g}" if self.at_most is not None else ""


@dataclass(frozen=True)
class Row:
    """What one benchmark returns: its figures, and text that goes below its table."""

    figures: list[Figure]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Sample:
    """One round of one contender."""

    per_second: float
    cpu_us: float
    """Of this process, for each thing done."""


def sample(work: Callable[[], int]) -> Sample:
    """Do `work`, which returns how many things it did."""
    wall, cpu = time.perf_counter(), time.process_time()
    done = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Sample(done / wall, cpu / done * 1e6)


def turns[T](contenders: Mapping[str, Callable[[], T]], *, count: int = ROUNDS) -> dict[str, list[T]]:
    """Let each contender work once a round, in turn; the first round warms up and is not kept."""
    found: dict[str, list[T]] = {name: [] for name in contenders}
    for number in range(count + 1):
        for name, work in contenders.items():
            taken = work()
            if number:
                found[name].append(taken)
    return found


def rounds(contenders: Mapping[str, Callable[[], int]], *, count: int = ROUNDS) -> dict[str, list[Sample]]:
    """The same, for work that returns how many things it did."""
    return turns({name: partial(sample, work) for name, work in contenders.items()}, count=count)


def figure(name: str, values: Sequence[float], unit: str, **more: Any) -> Figure:
    """The median of the rounds."""
    median = statistics.median(values)
    first, _, third = statistics.quantiles(values, n=4)
    return Figure(name, median, unit, (third - first) / 2 / median if median else 0.0, **more)


def ratio(name: str, ours: Sequence[float], theirs: Sequence[float], **more: Any) -> Figure:
    """The median of the rounds' ratios."""
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    return figure(name, ratios, "x", **{"is_compared": True} | more)


def percentile(values: Sequence[float], percent: int) -> float:
    """The value below which so many of a hundred lie."""
    return sorted(values)[min(len(values) * percent // 100, len(values) - 1)]


def p99(values: Sequence[float]) -> float:
    """The value below which 99 of a hundred lie."""
    return percentile(values, 99)


def worse(now: Figure, before: Mapping[str, Any]) -> str | None:
    """In words how `now` is worse than `before`, by more than noise; None when it is not."""
    then = float(before["value"])
    if not now.is_compared or not then:
        return None
    change = now.value / then - 1
    is_better_high = now.is_better_high or now.at_least is not None
    is_worse = change < 0 if is_better_high else change > 0
    if not is_worse or abs(change) <= _SLACK + now.noise + float(before["noise"]):
        return None
    return f"{now.name}: {then:.3g} {now.unit} then, {now.value:.3g} now"


@dataclass
class Verdict:
    """What a run says of the code."""

    missed: list[str] = field(default_factory=list)
    """Goals. They hold on every machine."""
    slower: list[str] = field(default_factory=list)
    """Than the baseline of this machine, twice."""
    notes: list[str] = field(default_factory=list)
    """Differences that prove nothing: of another machine, or of one measurement."""

    @property
    def is_good(self) -> bool:
        return not self.missed and not self.slower


def judge(
    rows: Mapping[str, Row], baseline: Mapping[str, Any], *, machine: str, measure_again: Callable[[str], Row]
) -> Verdict:
    """Hold `rows` to their goals, and to the baseline of this machine.

    What got worse is measured once more, and counts when it is worse than the baseline again: of some eighty
    ratios one lies beyond its noise by chance now and then, but hardly twice in a row.

    Returns:
        A verdict in which rows of another machine's baseline have notes only.
    """
    verdict = Verdict()
    for name, row in rows.items():
        verdict.missed += [each.name for each in row.figures if not each.is_good]
        then = baseline.get(name, {})
        found = _all_worse(row, then)
        if baseline.get(MACHINES, {}).get(name) != machine:
            verdict.notes += [f"another machine's baseline: {text}" for text in found.values()]
        elif found:
            confirmed = _all_worse(measure_again(name), then)
            verdict.slower += [text for figure_name, text in confirmed.items() if figure_name in found]
            verdict.notes += [
                f"not so when measured again: {text}"
                for figure_name, text in found.items()
                if figure_name not in confirmed
            ]
    return verdict


def _all_worse(row: Row, then: Mapping[str, Any]) -> dict[str, str]:
    return {
        each.name: text
        for each in row.figures
        if each.name in then and (text := worse(each, then[each.name]))
    }


def this_machine() -> str:
    """Tell this machine from others, and say nothing else about it.

    Two virtual machines of one kind count as two: what their neighbours leave them differs.
    """
    files = [Path("/etc/machine-id"), Path("/proc/cpuinfo")]
    texts = [path.read_text() if path.exists() else "" for path in files]
    model = next((line for line in texts[1].splitlines() if line.startswith("model name")), "")
    known = (platform.node(), platform.machine(), str(os.cpu_count()), texts[0], model)
    return hashlib.sha256("\n".join(known).encode()).hexdigest()[:16]


def table(figures: Sequence[Figure]) -> str:
    """As text, with ✓ or ✗ where there is a goal."""
    width = max(len(each.name) for each in figures)
    lines = []
    for each in figures:
        mark = ("✓" if each.is_good else "✗") if each.goal else " "
        noise = f"± {each.noise:.0%}" if each.noise else ""
        lines.append(
            f"  {mark} {each.name:{width}}  {each.value:>10,.4g} {each.unit:14} {noise:6} {each.goal}"
        )
    return "\n".join(lines)


def merged(baseline: Mapping[str, Any], rows: Mapping[str, Row], *, machine: str) -> dict[str, Any]:
    """The baseline with these rows in the place of its own. The others stay those of their machines."""
    machines = baseline.get(MACHINES, {}) | dict.fromkeys(rows, machine)
    return {**baseline, **as_json(rows), MACHINES: machines}


def as_json(rows: Mapping[str, Row]) -> dict[str, Any]:
    """What is written down of a run."""
    return {
        name: {each.name: {k: v for k, v in asdict(each).items() if k != "name"} for each in row.figures}
        for name, row in rows.items()
    }
