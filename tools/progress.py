"""Show what is being done and for how long; keep what the tools say in a log; name both on failure.

Standard library only, and no newer than Python 3.11: `bootstrap` runs on whatever python3 there is.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
STATE_DIR = REPOSITORY / ".local"

_LOG_LINES_SHOWN = 15


class StepFailedError(Exception):
    """A step did not succeed. Its text is meant for a person: the step, the reason, the log."""


def paint(text: str, colour: str) -> str:
    """`text` in green, red or grey on a terminal; plain elsewhere, and where NO_COLOR is set."""
    if sys.stdout is None or not sys.stdout.isatty() or "NO_COLOR" in os.environ:
        return text
    codes = {"green": "32", "red": "31", "grey": "90", "bold": "1"}
    return f"\033[{codes[colour]}m{text}\033[0m"


@contextmanager
def step(title: str, *, log: Path | None = None) -> Iterator[None]:
    """Print `title` as the work starts and its seconds when it ends.

    Raises:
        StepFailedError: for whatever the work raises, naming the step and `log`.
    """
    started = time.monotonic()
    print(f"  {title:.<54} ", end="", flush=True)
    try:
        yield
    except BaseException as error:
        print(paint(f"failed after {time.monotonic() - started:.1f} s", "red"), flush=True)
        if isinstance(error, StepFailedError) or not isinstance(error, Exception):
            raise
        raise failure(title, f"{type(error).__name__}: {error}", log) from error
    print(f"{time.monotonic() - started:5.1f} s", flush=True)


def run(
    title: str, command: Sequence[str | Path], *, log: Path, env: Mapping[str, str] | None = None
) -> None:
    """Run `command` as one step, what it prints going to `log`.

    Raises:
        StepFailedError: with the last lines of the log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with step(title, log=log), log.open("w") as output:
        exit_code = subprocess.run(
            command,
            cwd=REPOSITORY,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=False,
        ).returncode
        if exit_code != 0:
            raise failure(title, f"{Path(command[0]).name} ended with {exit_code}", log)


def failure(title: str, reason: str, log: Path | None) -> StepFailedError:
    """What to raise when step `title` failed for `reason`, and `log` says more."""
    if log is None:
        return StepFailedError(f"{title}: {reason}")
    lines = log.read_text(errors="replace").splitlines()[-_LOG_LINES_SHOWN:] if log.exists() else []
    shown = "".join(f"    {line}\n" for line in lines)
    return StepFailedError(f"{title}: {reason}\n{shown}  log: {log}")
