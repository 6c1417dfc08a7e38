"""What is typed for `make` reaches the commands as it was typed, and only `1` means yes."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands.surroundings import OUTSIDE_MAKE
from tools.progress import REPOSITORY

HARD = 'it\'s "$(id)" `id` ; \\ -x'
PYTHON = """#!/usr/bin/env python3
import sys
print("\\0".join(sys.argv[1:]), end="")
"""


def called(tmp_path: Path, target: str, *variables: str) -> list[str]:
    """The arguments that the recipe of `target` gives to Python."""
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    ended = subprocess.run(
        ["make", target, f"BIN={tmp_path}", "READY=", *(each.replace("$", "$$") for each in variables)],
        cwd=REPOSITORY,
        env=OUTSIDE_MAKE,
        capture_output=True,
        text=True,
        check=True,
    )
    return ended.stdout.split("\0")


@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("preflight", {"ENVIRONMENT": "--environment", "PARAMS": "--parameters"}),
        ("admin", {"EMAIL": "--email", "ACCOUNT": "--account", "ROLE": "--role", "STACK": "--stack"}),
        ("smoke", {"STACK": "--stack", "TARGET": "--target"}),
        ("erase", {"ACCOUNT": "--account", "LEARNER": "--learner", "STACK": "--stack"}),
        ("restore", {"STACK": "--stack", "WEBHOOKS": "--webhooks", "DELIVERIES": "--deliveries"}),
    ],
)
@pytest.mark.parametrize("value", [HARD, "--yes"])
def test_a_value_is_a_value_whatever_is_in_it(
    target: str, options: dict[str, str], value: str, tmp_path: Path
) -> None:
    arguments = called(tmp_path, target, *(f"{name}={value}" for name in options))
    assert sorted(arguments[2:]) == sorted(f"{option}={value}" for option in options.values())


@pytest.mark.parametrize(
    ("target", "variables"),
    [
        ("listen", ("PORT", "SECRET", "BASIC", "WEBHOOK", "ACCOUNT")),
        ("emit", ("EVENT", "ACCOUNT")),
        ("token", ("ACCOUNT",)),
        ("up", ("PORT",)),
    ],
)
@pytest.mark.parametrize("value", [HARD, "", "--yes"])
def test_a_value_for_the_stack_here_is_one_too_an_empty_one_as_well(
    target: str, variables: tuple[str, ...], value: str, tmp_path: Path
) -> None:
    """`make listen SECRET=$UNSET` must not run unchecked."""
    arguments = called(tmp_path, target, *(f"{name}={value}" for name in variables))
    assert arguments == ["-m", "local", target, *(f"--{name.lower()}={value}" for name in variables)]
    assert called(tmp_path, target) == ["-m", "local", target]


def test_the_queue_is_a_value_too(tmp_path: Path) -> None:
    arguments = called(tmp_path, "redrive", f"QUEUE={HARD}", f"STACK={HARD}", "DRY_RUN=1")
    assert arguments[2:] == [f"--stack={HARD}", "--dry-run", "--", HARD]


@pytest.mark.parametrize(("target", "variable"), [("erase", "ERASE"), ("restore", "APPLY")])
@pytest.mark.parametrize(("value", "means_yes"), [("1", True), ("0", False), ("no", False), ("false", False)])
def test_only_1_means_yes(target: str, variable: str, value: str, *, means_yes: bool, tmp_path: Path) -> None:
    assert (f"--{variable.lower()}" in called(tmp_path, target, f"{variable}={value}")) == means_yes


@pytest.mark.parametrize(("value", "means_yes"), [("1", True), ("0", False), ("no", False)])
def test_only_1_deploys_unseen(value: str, *, means_yes: bool) -> None:
    shown = subprocess.run(
        ["make", "--dry-run", "deploy", f"YES={value}"],
        cwd=REPOSITORY, env=OUTSIDE_MAKE, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ("--yes" in shown.stdout) == means_yes


def test_a_checkout_may_stand_in_a_path_with_blanks(tmp_path: Path) -> None:
    """Node is found in the environment of this checkout, and no path of a recipe ends at a blank."""
    checkout = tmp_path / "a b" / "check out"
    checkout.mkdir(parents=True)
    (checkout / ".venv").symlink_to(REPOSITORY / ".venv")
    for name in ("Makefile", ".python-version"):
        shutil.copy(REPOSITORY / name, checkout)
    for name in ("local", "tools", "layers/core/lms_webhooks"):
        shutil.copytree(REPOSITORY / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    (checkout / "node").write_text("npm: ; @$(NPM) --version\n")

    def make(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["make", "-f", "Makefile", "-f", "node", "READY=", *arguments]
        return subprocess.run(
            command, cwd=checkout, env=OUTSIDE_MAKE, capture_output=True, text=True, check=False
        )

    assert re.fullmatch(r"[0-9.]+\n", make("npm").stdout)
    refused = make("emit", "EVENT=COURSE_COMPLETD")
    assert "COURSE_COMPLETD" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert str(checkout) not in make("-n", "lock").stdout


def test_bytecode_is_kept_whatever_the_shell_says(tmp_path: Path) -> None:
    """Without it each process of the tests compiles all that it imports, for seven seconds."""
    (tmp_path / "shown").write_text("shown: ; @printenv PYTHONDONTWRITEBYTECODE PYTHONPYCACHEPREFIX")
    printed = subprocess.run(
        ["make", "-f", "Makefile", "-f", tmp_path / "shown", "shown"],
        cwd=REPOSITORY,
        env=OUTSIDE_MAKE | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert printed == f"\n{REPOSITORY / '.local' / 'pycache'}\n"


@pytest.mark.parametrize("tool", ["pyenv", "uv"])
def test_the_layer_finds_the_python_that_pyenv_or_uv_has(tool: str, tmp_path: Path) -> None:
    """sam copies the layer's folder to one without `.python-version`, where pyenv starts another Python."""
    found = f'exec "{sys.executable}" "$@"' if tool == "pyenv" else "exit 127"
    for name in ("python3.13", "python3", "python"):
        _program(tmp_path / name, f'[ "$PYENV_VERSION" = 3.13 ] || exit 127\n{found}')
    _program(tmp_path / "uv", f'[ "$*" = "python find 3.13" ] && echo "{sys.executable}"')
    (tmp_path / "more").write_text("shown: ; @echo '$(PYTHON)'")
    environment = {
        name: value for name, value in OUTSIDE_MAKE.items() if name not in ("PYTHON", "PYENV_VERSION")
    }
    printed = subprocess.run(
        ["make", "-f", REPOSITORY / "layers" / "core" / "Makefile", "-f", tmp_path / "more", "shown"],
        cwd=tmp_path,
        env=environment | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert printed == f"{sys.executable}\n"


def _program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
