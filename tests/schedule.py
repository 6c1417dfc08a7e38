"""Share the tests out among processes, with `pytest -n`: what waits longest begins first.

End-to-end tests mostly wait and the others mostly compute, so more processes than cores pay. The tests of a
unit run in one process and always in the same order, so that a failure can be repeated.
"""

import os
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from local import stack

STACKS = {
    "the second stack": (
        "test_access", "test_claims", "test_erase", "test_leaks", "test_neighbours", "test_restore",
        "test_secrets", "test_upgrade",
    ),
    "the third stack": (
        "test_generated_client", "test_preflight", "test_receivers", "test_recovery", "test_smoke",
    ),
    "the fourth stack": (
        "test_admin_calls", "test_backlog", "test_deliveries", "test_emitting", "test_own_event_types",
        "test_resends", "test_tenants",
    ),
}  # fmt: skip
"""These end-to-end tests have stacks of their own: the four parts are about equally long."""

_WAITING = 5
"""Processes that mostly wait: one for each of these stacks, and one for the stack of enforced roles."""

_ORDER = (
    "e2e", "faults", "scenarios", "commands", "unit", "engines", "contract", "conformance", "fuzz", "nag",
)  # fmt: skip
"""The tiers by how long their longest unit takes: a long one that begins last is waited for alone."""

_SPLIT = frozenset({"faults", "scenarios"})
"""In these tiers a test builds its own world and may take long, so each is a unit."""


def tier_of(nodeid: str) -> str:
    """The folder below tests/."""
    return nodeid.split("/")[1]


def unit_of(nodeid: str) -> str:
    """Name what runs in one process: tests that share a stack, a module, or nothing."""
    path, _, _ = nodeid.partition("::")
    tier = tier_of(nodeid)
    if tier in _SPLIT:
        return nodeid
    if tier != "e2e":
        return path
    if path.startswith("tests/e2e/enforced/"):
        return "the stack whose roles are enforced"
    name = Path(path).stem
    return next((stack for stack, modules in STACKS.items() if name in modules), "the first stack")


class _Units(LoadScopeScheduling):  # type: ignore[misc]  # xdist ships no types
    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """For `-n auto`: one a core, and those that wait. Without the stacks, one more fills the pauses."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    is_whole = config.args == config.getini("testpaths")
    return cores + _WAITING if is_whole else cores + 1


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Hand out whole units, in the order in which they were collected."""
    config.option.loadscopereorder = False  # by the number of tests it would be
    return _Units(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let every process collect in the same order. A run in one process keeps pytest's own."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: _ORDER.index(tier_of(item.nodeid)))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Stop the stacks of processes that did not live to do it."""
    if session.config.pluginmanager.has_plugin("dsession"):
        factory: pytest.TempPathFactory = session.config._tmp_path_factory  # type: ignore[attr-defined]
        for record in factory.getbasetemp().glob("popen-*/*/emulator.json"):
            stack.down(record.parent)
