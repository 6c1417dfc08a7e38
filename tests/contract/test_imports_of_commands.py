"""Commands import one way: `bench` and `operations` use `local`, `local` uses `tools`.

Nothing that is deployed imports a command.
"""

import ast
from pathlib import Path

import pytest

from tests.contract.template import REPOSITORY

MAY_IMPORT: dict[str, set[str]] = {
    "tools": set(),
    "local": {"tools"},
    "operations": {"local", "tools"},
    "bench": {"local", "tools", "tests"},  # it measures against the same fakes
    "layers": set(),
    "functions": set(),
}
FOLDERS = {*MAY_IMPORT, "tests"}


def imported(path: Path) -> set[str]:
    """The first parts of the names of all modules that `path` imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
        elif isinstance(node, ast.Import):
            names |= {each.name.partition(".")[0] for each in node.names}
    return names


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_imports_run_one_way(folder: str) -> None:
    wrong = {
        str(path.relative_to(REPOSITORY)): sorted(upward)
        for path in (REPOSITORY / folder).rglob("*.py")
        if (upward := imported(path) & (FOLDERS - MAY_IMPORT[folder] - {folder}))
    }
    assert not wrong


def test_events_are_data() -> None:
    assert not list((REPOSITORY / "events").rglob("*.py"))
