"""Follow the recipes of CONTRIBUTING.md literally, in a copy: nothing that they leave out is needed."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands.surroundings import OUTSIDE_MAKE
from tests.contract.template import REPOSITORY

COPIED = ("docs", "events", "functions", "layers", "local", "operations", "tests", "tools")
BIN = Path(sys.executable).parent
TESTS = {
    "Add an event type": (
        "tests/unit/model/test_event_types.py",
        "tests/unit/tools/test_schemas.py::test_each_schema_is_one_and_takes_the_sample_of_its_type_alone",
        "tests/unit/tools/test_schemas.py::test_the_request_s_schema_is_one_and_takes_every_sample",
        "tests/unit/model/test_events.py::test_every_type_of_the_catalogue_is_read",
        "tests/unit/operations/test_erase.py::test_every_type_of_the_catalogue_that_names_a_learner_is_found",
        "tests/unit/admin/test_console_files.py::test_the_catalogue_is_translated",
        "tests/contract/test_openapi.py::test_what_is_committed_is_what_the_code_says",
        "tests/contract/test_template.py::test_each_event_type_goes_to_the_queue_of_its_category",
        "tests/contract/test_template.py::test_the_rules_name_the_non_real_time_types_and_no_other",
    ),
    "Add a setting": (
        "tests/contract/test_template.py::test_a_function_is_told_exactly_what_its_settings_read",
        "tests/contract/test_template.py::test_the_parameters_defaults_can_be_read",
        "tests/contract/test_documents.py::test_every_variable_of_a_function_is_explained",
    ),
    "Add a metric": (
        "tests/contract/test_dashboard.py",
        "tests/contract/test_documents.py::test_every_metric_is_explained",
    ),
    "Add an alarm": (
        "tests/contract/test_dashboard.py",
        "tests/contract/test_template.py::test_every_alarm_is_heard_and_says_what_to_think_of_it",
        "tests/contract/test_template.py::test_alarms_on_our_own_metrics_name_ones_that_the_code_emits",
        "tests/contract/test_documents.py::test_every_alarm_is_explained",
        "tests/contract/test_documents.py::test_the_runbook_has_commands_for_every_alarm",
    ),
    "Add a document": (
        "tests/contract/test_documents.py::test_every_link_leads_somewhere[docs/questions.md]",
        "tests/contract/test_documents.py::test_a_page_is_in_the_readme_relies_on_the_concepts_and_lists_its_headings",
    ),
}
"""For each recipe the tests that fail while one of its steps is missing."""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the repository, in a path with blanks."""
    folder = tmp_path / "a b" / "check out"
    ignored = shutil.ignore_patterns("__pycache__", "images", "node_modules")
    for name in COPIED:
        shutil.copytree(REPOSITORY / name, folder / name, ignore=ignored)
    for file in (path for path in REPOSITORY.iterdir() if path.is_file()):
        shutil.copy(file, folder)
    return folder


def blocks(heading: str) -> Iterator[tuple[str, list[str]]]:
    """Kind and lines of each block of code under a heading of CONTRIBUTING.md."""
    page = (REPOSITORY / "CONTRIBUTING.md").read_text()
    text = page.split(f"\n## {heading}\n")[1].partition("\n## ")[0]
    for block in re.finditer(r"^( *)```(\w*)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL):
        yield block[2], [line.removeprefix(block[1]) for line in block[3].splitlines()]


def apply(diff: list[str], folder: Path) -> None:
    """Add what a block says: `--- file`, `@@ line under which to look`, ` line after which`, `+line`.

    The start of a line is enough after `@@`. A file that is not there begins empty.
    """
    file = folder / diff[0].removeprefix("--- ")
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    at = 0
    for line in diff[1:]:
        if line.startswith("@@ "):
            at = next(n for n, each in enumerate(lines, 1) if each.strip().startswith(line[3:]))
        elif line.startswith("+"):
            lines.insert(at, line[1:] + "\n")
            at += 1
        else:
            at = lines.index(line[1:] + "\n", at) + 1
    file.write_text("".join(lines))


@pytest.mark.parametrize("recipe", TESTS)
def test_a_recipe_is_enough(recipe: str, checkout: Path) -> None:
    for kind, lines in blocks(recipe):
        if kind == "diff":
            apply(lines, checkout)
        else:
            (command,) = lines
            run([*command.split(), "READY=", f"BIN={BIN}"], checkout)
    run([str(BIN / "ruff"), "format", "--check", "--no-cache", "layers", "tools"], checkout)
    run(
        [sys.executable, "-m", "pytest", "-n0", "-p", "no:cacheprovider", "-x", "-q", *TESTS[recipe]],
        checkout,
    )


def run(command: list[str], folder: Path) -> None:
    """Run it in the copy, with the bytecode of the packages that is there, and none of the copy."""
    own_code = {"PYTHONPATH": os.pathsep.join(map(str, (folder, folder / "layers" / "core")))}
    environment = OUTSIDE_MAKE | own_code | {"PYTHONDONTWRITEBYTECODE": "1"}
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, (ended.stdout + ended.stderr)[-3000:]
