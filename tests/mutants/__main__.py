"""Let the fast tests look for mutants, and print how many they found, by module."""

import argparse
import ast
import hashlib
import importlib.machinery
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.mutants.changes import Mutant, mutants_of
from tests.mutants.watch import Watch

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "layers/core/lms_webhooks"
KEPT = ROOT / ".local/mutants"
_UNREAD = ("tests/mutants", "tests/e2e")
_READ = ("layers/core", "functions", "tests")
FAST = (
    "tests/unit", "tests/contract", "tests/scenarios", "tests/conformance",
    *(f"tests/faults/test_{name}.py" for name in ("lanes", "poison", "retention")),
)  # fmt: skip
# Wiring: what is wrong there, a deployment shows at once, and no fast test can.
LEFT_OUT = {"__init__", "clients", "observability", "settings"}
# Of the admin API, what is no form of words or JSON; its tests go through its routes.
ADMIN = {"idempotency", "rate_limit", "replays", "webhooks"}
SHARED = ("pytest", "moto", "boto3", "hypothesis", "requests", "pydantic", "aws_lambda_powertools")
"""What each run imports, and none changes: imported once, before it is forked."""
_FACTOR = 10  # so much longer than without a mutant a test may take
_LEAST_SECONDS = 10
_SAID_EVERY_SECONDS = 30
_MOST_SECONDS = 30  # of tests for one mutant, the quick ones first: a mutant that lives costs all of them


class Tests:
    """The fast tests, and which of them run which line."""

    def __init__(self, watched: Iterable[dict[str, Any]]) -> None:
        self.seconds: dict[str, float] = {}
        self._ran: list[tuple[list[str], dict[str, str]]] = []
        for each in watched:
            for test in each["failed"]:
                print(f"fails without a mutant, and is left out: {test}")
            sound = {test: seconds for test, seconds in each["seconds"].items() if test not in each["failed"]}
            self.seconds |= sound
            self._ran.append((list(each["seconds"]), each["ran"]))

    def of(self, mutant: Mutant) -> list[str]:
        """Those that run a mutant, the ones that are quickest to tell first."""
        found = self._of_lines([_place(mutant.path, mutant.line)])
        if mutant.names:
            # Its own tests may compare it with a number, and run no line that uses it.
            found = self._of_lines(_uses(mutant.names)) | {
                each for each in self.seconds if self.is_of(mutant, each)
            }
        elif not found:  # not every line of a long statement counts as one
            found = self._of_lines(_place(mutant.path, line) for line in mutant.lines)
        chosen: list[str] = []
        seconds = 0.0
        for test in sorted(found, key=lambda test: (not self.is_of(mutant, test), self.seconds[test])):
            seconds += self.seconds[test]
            if seconds > _MOST_SECONDS:
                break
            chosen.append(test)
        return chosen

    @staticmethod
    def is_of(mutant: Mutant, test: str) -> bool:
        """Whether a test stands in the file for the module of a mutant."""
        module = mutant.path.relative_to(PACKAGE)
        return test.startswith(f"tests/unit/{module.with_name('test_' + module.name)}::")

    def _of_lines(self, places: Iterable[str]) -> set[str]:
        found: set[str] = set()
        wanted = set(places)
        for tests, ran in self._ran:
            bits = 0
            for place in wanted & ran.keys():
                bits |= int(ran[place], 16)
            found.update(test for index, test in enumerate(tests) if bits >> index & 1)
        return found & self.seconds.keys()


def main() -> int:
    """Parse the arguments, and do it.

    Returns 1 when fewer were noticed than `--floor` asks for.
    """
    parser = argparse.ArgumentParser(prog="make mutants")
    parser.add_argument("--only", help="modules, with commas: drain_run,dispatcher")
    parser.add_argument("--sample", type=int, help="so many of them")
    parser.add_argument("--seed", type=int, default=random.randrange(10_000), help="which ones")
    parser.add_argument("--floor", type=float, default=0.0, help="the least score, in percent")
    options = parser.parse_args()
    paths = _modules(options.only.split(",") if options.only else None)
    mutants = [mutant for path in paths for mutant in mutants_of(path)]
    if options.sample and options.sample < len(mutants):
        print(f"{options.sample} of {len(mutants)} mutants, by SEED={options.seed}")
        mutants = random.Random(options.seed).sample(mutants, options.sample)
    for name in SHARED:
        __import__(name)
    sys.stdout.flush()
    tests = _watched()
    started = time.monotonic()
    survivors = _hunt(mutants, tests)
    score = _print_table(mutants, survivors, seconds=time.monotonic() - started)
    return 1 if score < options.floor else 0


def _modules(only: Sequence[str] | None) -> list[Path]:
    paths = [
        path
        for path in sorted(PACKAGE.rglob("*.py"))
        if (path.stem in ADMIN if path.parent.name == "admin" else path.stem not in LEFT_OUT)
    ]
    chosen = [path for path in paths if only is None or path.stem in only]
    unknown = set(only or ()) - {path.stem for path in chosen}
    if unknown:
        sys.exit(f"no such module: {', '.join(sorted(unknown))}")
    return chosen


def _watched() -> Tests:
    """What each test runs. A file of tests is looked at again when it, or what it stands on, has changed."""
    files = {
        path: path.read_bytes()
        for folder in _READ
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not _name(path).startswith(_UNREAD)
    }
    is_test = {path: path.name.startswith("test_") and _name(path).startswith(FAST) for path in files}
    below = hashlib.sha256(b"".join(text for path, text in files.items() if not is_test[path])).hexdigest()
    keys = {
        _name(path): hashlib.sha256(text + below.encode()).hexdigest()
        for path, text in files.items()
        if is_test[path]
    }
    KEPT.mkdir(parents=True, exist_ok=True)
    known = {path.stem for path in KEPT.glob("*.json")}
    stale = sorted(
        (name for name in keys if keys[name] not in known), key=lambda name: -len(files[ROOT / name])
    )
    if stale:
        print(f"looking which line the tests of {len(stale)} files run; it is remembered", flush=True)
        parts = [stale[number :: _workers()] for number in range(_workers())]
        for pid in [_fork(partial(_watch, names, keys)) for names in parts if names]:
            os.waitpid(pid, 0)
    noted: list[dict[str, Any]] = []
    for path in KEPT.glob("*.json"):
        if path.stem in keys.values():
            noted.append(json.loads(path.read_text()))
        else:
            path.unlink()
    if missing := set(keys.values()) - {each["key"] for each in noted}:
        files_of = {key: name for name, key in keys.items()}
        sys.exit(f"pytest ran no test of {', '.join(sorted(files_of[key] for key in missing))}")
    return Tests(noted)


def _watch(names: Sequence[str], keys: Mapping[str, str]) -> int:
    _be_quiet()
    return int(pytest.main([*_PYTEST, *names], plugins=[Watch(ROOT, KEPT, keys)]))


class _Chosen:
    """Of what is collected, the tests that run a mutant; each may take some multiple of its usual time."""

    def __init__(self, ids: Sequence[str], tests: Tests) -> None:
        self._places = {each: place for place, each in enumerate(ids)}
        self._tests = tests

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted(
            (item for item in items if item.nodeid in self._places),
            key=lambda item: self._places[item.nodeid],
        )
        for item in items:
            seconds = max(_LEAST_SECONDS, _FACTOR * self._tests.seconds[item.nodeid])
            # Not by a signal: fake time has threads that a test which is broken off would wait for.
            item.add_marker(pytest.mark.timeout(seconds, method="thread"), append=False)


_PYTEST = (
    "-q",
    "-p",
    "no:cacheprovider",
    "-W",
    "ignore::pytest.PytestAssertRewriteWarning",
    "--no-header",
    "--no-summary",
)


def _hunt(mutants: Sequence[Mutant], tests: Tests) -> list[Mutant]:
    """Those that no test notices. Several at a time, each in a process of its own."""
    survivors: list[Mutant] = []
    running: dict[int, tuple[Mutant, float]] = {}

    def lived(mutant: Mutant) -> None:
        survivors.append(mutant)
        print(f"survived: {_place(mutant.path, mutant.line)}  {mutant.change}", flush=True)

    left = list(reversed(mutants))
    said_at = time.monotonic()
    while left or running:
        if time.monotonic() - said_at > _SAID_EVERY_SECONDS:
            said_at = time.monotonic()
            done = len(mutants) - len(left) - len(running)
            print(f"{done} of {len(mutants)} tried, {len(survivors)} survived", flush=True)
        while left and len(running) < _workers():
            mutant = left.pop()
            ids = tests.of(mutant)
            if not ids:
                lived(mutant)
                continue
            limit = 60 + 3 * sum(tests.seconds[each] for each in ids)
            running[_fork(partial(_try, mutant, ids, tests))] = mutant, time.monotonic() + limit
        for pid, (mutant, ends_at) in list(running.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del running[pid]
                # Ended by what the mutant did to it, it was noticed too.
                if os.waitstatus_to_exitcode(status) == int(pytest.ExitCode.OK):
                    lived(mutant)
            elif time.monotonic() > ends_at:
                os.killpg(pid, signal.SIGKILL)
        time.sleep(0.02)
    return survivors


def _try(mutant: Mutant, ids: Sequence[str], tests: Tests) -> int:
    _be_quiet()
    get_code = importlib.machinery.SourceFileLoader.get_code

    def get_mutated(loader: importlib.machinery.SourceFileLoader, name: str) -> Any:
        if loader.path == str(mutant.path):
            return compile(mutant.text, loader.path, "exec")
        return get_code(loader, name)

    importlib.machinery.SourceFileLoader.get_code = get_mutated  # type: ignore[assignment,method-assign]
    # Most are noticed by the tests of their own module: the other files need not be imported for those.
    own = [each for each in ids if tests.is_of(mutant, each)]
    others = [each for each in ids if each not in set(own)]
    for some in filter(None, (own, others)):
        files = dict.fromkeys(each.partition("::")[0] for each in some)
        # By file: pytest takes long to find thousands of tests by their ids.
        status = int(pytest.main([*_PYTEST, "-x", *files], plugins=[_Chosen(some, tests)]))
        if status:
            return status
    return 0


def _fork(work: Callable[[], int]) -> int:
    """Do `work` in a process of its own, and let its result be the exit status; its id."""
    pid = os.fork()
    if pid:
        return pid
    status = 99
    try:
        os.setpgid(0, 0)
        status = work()
    finally:
        os._exit(status)


def _be_quiet() -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)


def _workers() -> int:
    return max(2, os.cpu_count() or 1)


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _place(path: Path, line: int) -> str:
    return f"{_name(path)}:{line}"


def _uses(names: frozenset[str]) -> Iterator[str]:
    """The lines of the product that name one of `names`."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            name = (
                node.id
                if isinstance(node, ast.Name)
                else node.attr
                if isinstance(node, ast.Attribute)
                else ""
            )
            if isinstance(node, ast.keyword):
                name = node.arg or ""
            if name in names and isinstance(node, ast.expr | ast.keyword):
                yield _place(path, node.lineno)


def _print_table(mutants: Sequence[Mutant], survivors: Sequence[Mutant], *, seconds: float) -> float:
    print(f"\n{'module':<24}{'mutants':>9}{'killed':>9}{'survived':>10}{'score':>9}")
    rows = {path.relative_to(PACKAGE).with_suffix("") for path in (mutant.path for mutant in mutants)}
    score = 100.0
    for name in (*sorted(map(str, rows)), "all"):
        made, lived = (
            sum(name in ("all", str(each.path.relative_to(PACKAGE).with_suffix(""))) for each in some)
            for some in (mutants, survivors)
        )
        score = 100 * (made - lived) / made if made else 100.0
        print(f"{name:<24}{made:>9}{made - lived:>9}{lived:>10}{score:>8.1f}%")
    print(f"in {seconds:.0f} s")
    return score


if __name__ == "__main__":
    sys.exit(main())
