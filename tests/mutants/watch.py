"""A plugin of pytest that notes which lines of the product each test runs, and how long it takes."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import CodeType

import pytest

_TOOL = 4  # of sys.monitoring; 0 to 2 and 5 have names of their own


class Watch:
    """Notes lines as `file:line`, relative to `root`. Each line costs something once a test.

    Writes what it noted of one file of tests when it comes to the next. So an aborted run was not in
    vain. `keys` goes along: what the file was when it ran.
    """

    def __init__(self, root: Path, folder: Path, keys: Mapping[str, str]) -> None:
        self._root = f"{root}/"
        self._folder = folder
        self._keys = keys
        self._file = ""
        self._seconds: dict[str, float] = {}
        """Of each test that ran, in their order."""
        self._ran: dict[str, int] = {}
        """By line, the tests that ran it: a bit for each. As lists, the whole would take half a gigabyte."""
        self._failed: list[str] = []
        self._bit = 0

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Note what `item` runs, with its fixtures."""
        file = item.nodeid.partition("::")[0]
        if file != self._file:
            self._write()
            self._file = file
        self._bit = 1 << len(self._seconds)
        self._seconds[item.nodeid] = 0.0
        sys.monitoring.restart_events()
        return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add up how long it takes."""
        self._seconds[report.nodeid] += report.duration
        if report.failed:
            self._failed.append(report.nodeid)

    def pytest_sessionstart(self) -> None:
        """Begin."""
        sys.monitoring.use_tool_id(_TOOL, "mutants")
        sys.monitoring.register_callback(_TOOL, sys.monitoring.events.LINE, self._note)
        sys.monitoring.set_events(_TOOL, sys.monitoring.events.LINE)

    def pytest_sessionfinish(self) -> None:
        """End."""
        sys.monitoring.set_events(_TOOL, 0)
        sys.monitoring.free_tool_id(_TOOL)
        self._write()

    def _write(self) -> None:
        if not self._seconds:
            return
        noted = {
            "key": self._keys[self._file],
            "seconds": self._seconds,
            "ran": {line: f"{bits:x}" for line, bits in self._ran.items()},
            "failed": self._failed,
        }
        path = self._folder / f"{self._keys[self._file]}.json"
        path.with_suffix(".new").write_text(json.dumps(noted))
        path.with_suffix(".new").rename(path)
        self._seconds, self._ran, self._failed = {}, {}, []

    def _note(self, code: CodeType, line: int) -> object:
        if code.co_filename.startswith(self._root):
            place = f"{code.co_filename.removeprefix(self._root)}:{line}"
            self._ran[place] = self._ran.get(place, 0) | self._bit
        return sys.monitoring.DISABLE
