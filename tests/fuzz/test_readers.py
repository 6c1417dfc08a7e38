"""What reads text from outside keeps its promises for some inputs of each kind, and for all that were kept.

`make fuzz` tries 100,000 and more.
"""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lms_webhooks.observability import logger
from tests.fuzz.readers import READERS, close_world, corpus


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


def test_the_shares_are_a_whole() -> None:
    assert sum(reader.share for reader in READERS.values()) == pytest.approx(1)
