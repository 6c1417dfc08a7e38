"""What reads text from outside keeps its promises for some inputs of each kind, and for all that were kept.

`python -m tests.fuzz.readers` tries 100,000 and more.
"""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lms_webhooks.observability import logger
from tests.fuzz.readers import MIN_INPUTS, READERS, WHOLE, Reader, close_world, corpus, count_for, main


@pytest.fixture(autouse=True, scope="module")
def worlds() -> Iterator[None]:
    """Each malformed event is a line in the log."""
    level = logger.log_level
    logger.setLevel(logging.CRITICAL)
    yield
    close_world()
    logger.setLevel(level)


@pytest.mark.parametrize("name", READERS)
def test_a_reader_keeps_its_promise(name: str) -> None:
    @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def check(data: st.DataObject) -> None:
        READERS[name].check(data.draw(READERS[name].inputs))

    check()


@pytest.mark.parametrize(
    ("reader", "kept"), [pytest.param(reader, kept, id=name) for name, reader, kept in corpus()]
)
def test_what_was_kept_breaks_nothing(reader: str, kept: Any) -> None:
    READERS[reader].check(kept)


def test_every_input_that_is_kept_has_a_reader_and_every_reader_one() -> None:
    assert {reader for _, reader, _ in corpus()} == set(READERS)


def test_those_that_matter_most_get_all_that_is_asked_for() -> None:
    assert sum(count_for(name, MIN_INPUTS) for name in WHOLE) >= 100_000
    assert sum(READERS[name].share for name in WHOLE) == pytest.approx(1)
    assert count_for("dispatch", MIN_INPUTS) >= 3000


def test_a_run_counts_what_it_gave(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = tmp_path / "counts.json"
    assert main(["--inputs", "50", "--only", "cursor,moment", "--seed", "1", "--counts", str(counts)]) == 0
    got = json.loads(counts.read_text())
    assert got.keys() == {"cursor", "moment"}
    assert got["cursor"] >= count_for("cursor", 50) == 11
    assert f"{got['cursor']} inputs for event" in capsys.readouterr().out


def test_a_reader_that_got_too_few_is_no_success(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def check(_: object) -> None:
        """Whatever it is, it is good."""

    monkeypatch.setitem(READERS, "event", Reader(st.booleans(), check, 1.0))
    assert main(["--inputs", "10", "--only", "event", "--seed", "1"]) == 1
    assert "✗ event: TOO FEW: 2 inputs of 10" in capsys.readouterr().out


def test_a_reader_that_breaks_its_promise_is_no_success_and_its_input_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def check(text: str) -> None:
        assert len(text) < 3

    monkeypatch.setattr("tests.fuzz.readers.CORPUS", tmp_path)
    monkeypatch.setitem(READERS, "event", Reader(st.text(), check, 1.0))
    assert main(["--inputs", "1000", "--only", "event", "--seed", "1"]) == 1
    kept = [json.loads(path.read_text()) for path in tmp_path.iterdir()]
    assert kept == [{"reader": "event", "input": "000"}]
