"""Say how far each tier is while several processes run the tests, and at the end what took how long."""

import math
import time
from collections import defaultdict
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

import pytest

from tests.schedule import tier_of

_SAY_EVERY_SECONDS = 30
"""Into a log. On a terminal the lines are drawn again each second."""

_SOME = 0.05
"""This share of a tier must be done before it says anything about the rest."""

_CACHE_KEY = "suite/seconds"
_SLOWEST = 10


@dataclass
class Tier:
    """What is known of the tests of one folder."""

    expected: dict[str, float | None] = field(default_factory=dict)
    """Seconds of each test in the last run, if it was run here."""
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Seconds of each test that has begun to be reported: setup, call and teardown."""
    done: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    began_at: float = math.inf
    ended_at: float = 0.0

    def remaining_seconds(self, now: float) -> float | None:
        """Estimate from what the tests that are left took last time; None when nothing can be said yet."""
        if not self.done or not self.expected:
            return None
        known = [seconds for seconds in self.expected.values() if seconds is not None]
        usual = sum(known) / len(known) if known else 1.0
        weights = {test: usual if known_ is None else known_ for test, known_ in self.expected.items()}
        done = sum(weights.get(test, usual) for test in self.done)
        left = sum(seconds for test, seconds in weights.items() if test not in self.done)
        return (now - self.began_at) * left / done if done > _SOME * left else None


def line_of(name: str, tier: Tier, now: float) -> str:
    """One tier in one line."""
    total = len(tier.expected)
    line = f"  {name:<12}{len(tier.done):>6,} of {total:>5,}"
    if len(tier.done) >= total:
        line += f"   done, {_clock(tier.ended_at - tier.began_at)}"
    elif tier.done:
        line += f"   {_clock(now - tier.began_at)}"
        left = tier.remaining_seconds(now)
        line += f", about {_clock(left)} more" if left is not None else ""
    else:
        line += "   has not begun"
    return line + (f", {len(tier.failed)} failed" if tier.failed else "")


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


class Progress:
    """Watches the reports that the processes send, and writes instead of pytest's dots."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._reporter: pytest.TerminalReporter = config.pluginmanager.getplugin("terminalreporter")
        self._tiers: dict[str, Tier] = {}
        self._is_drawn = self._reporter.isatty
        self._lines_drawn = 0
        self._said_at = time.monotonic()
        self._is_over = False

    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Count what there is. Every process collects the same."""
        if self._tiers:
            return
        last = self._last_run()
        for test in ids:
            self._tiers.setdefault(tier_of(test), Tier()).expected[test] = last.get(test)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_report_teststatus(self) -> Generator[None, tuple[str, str, object], tuple[str, str, object]]:
        """Count as pytest does, and print no letter for each of thousands. The summary has words."""
        category, letter, word = yield
        return (category, letter, word) if self._is_over else (category, "", "")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take a report in."""
        tier = self._tiers.setdefault(tier_of(report.nodeid), Tier())
        tier.began_at = min(tier.began_at, report.start or time.time())
        tier.seconds[report.nodeid] += report.duration
        if report.failed:
            tier.failed.add(report.nodeid)
            self._say(f"  FAILED {report.nodeid}" + (f" ({report.when})" if report.when != "call" else ""))
        if report.when == "teardown" or report.failed:
            tier.done.add(report.nodeid)
        tier.ended_at = max(tier.ended_at, report.stop or time.time())
        if len(tier.done) == len(tier.expected) and report.when == "teardown" and not self._is_drawn:
            self._say(line_of(tier_of(report.nodeid), tier, time.time()))
        self._say_now_and_then()

    def _say_now_and_then(self) -> None:
        now = time.monotonic()
        if now - self._said_at < (1 if self._is_drawn else _SAY_EVERY_SECONDS):
            return
        self._said_at = now
        lines = [line_of(name, tier, time.time()) for name, tier in self._tiers.items()]
        if self._is_drawn:
            self._erase()
            self._write(lines)
            self._lines_drawn = len(lines)
        else:
            self._write([line for line in lines if "more" in line])

    def _say(self, line: str) -> None:
        self._erase()
        self._write([line])

    def _write(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._reporter.write_line(line)
        self._reporter.flush()

    def _erase(self) -> None:
        if self._lines_drawn:
            self._reporter.write(f"\033[{self._lines_drawn}A\033[J")
        self._lines_drawn = 0

    def pytest_sessionfinish(self) -> None:
        """Remember how long each took: the next run estimates from it."""
        self._erase()
        self._is_over = True
        known = self._last_run()
        if (cache := getattr(self._config, "cache", None)) is not None:
            for tier in self._tiers.values():
                known |= {test: round(tier.seconds[test], 3) for test in tier.done}
            cache.set(_CACHE_KEY, known)

    def _last_run(self) -> dict[str, float]:
        cache: pytest.Cache | None = getattr(self._config, "cache", None)  # none with -p no:cacheprovider
        return cache.get(_CACHE_KEY, {}) if cache is not None else {}

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """What took how long, by tier, and the slowest."""
        terminalreporter.section("durations")
        for name, tier in self._tiers.items():
            if tier.done:
                took, work = tier.ended_at - tier.began_at, sum(tier.seconds.values())
                terminalreporter.write_line(
                    f"  {name:<12}{len(tier.done):>6,} tests in {_clock(took)};"
                    f" {_clock(work)} one after the other"
                )
        every = [(seconds, test) for tier in self._tiers.values() for test, seconds in tier.seconds.items()]
        terminalreporter.write_line(f"the slowest {_SLOWEST}:")
        for seconds, test in sorted(every, reverse=True)[:_SLOWEST]:
            terminalreporter.write_line(f"  {seconds:6.1f} s  {test}")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Only where processes report to this one: a single test is as quick to read as ever."""
    if config.pluginmanager.has_plugin("dsession"):
        config.pluginmanager.register(Progress(config), "progress")
