"""`make logs`, when no stack is up: what the last one logged, or word that there is nothing."""

from pathlib import Path

import pytest

from local import __main__ as commands
from local.stack import LOG_FILE


@pytest.fixture(autouse=True)
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder in which no stack was ever up."""
    monkeypatch.setattr(commands, "STATE_DIR", tmp_path)
    monkeypatch.setattr("sys.argv", ["local", "logs"])
    return tmp_path


def test_the_logs_of_a_stack_that_was_stopped_are_printed_and_said_to_be_old(
    state_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log_file = state_dir / LOG_FILE
    log_file.parent.mkdir()
    log_file.write_text('{"message":"attempt"}\n')
    assert commands.main() == 0
    printed = capsys.readouterr()
    assert printed.out == '{"message":"attempt"}\n'
    assert "not up; this is what the last one logged" in printed.err


def test_without_a_stack_and_its_logs_that_is_said_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main() == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "the stack is not up, and none has left any" in printed.err
