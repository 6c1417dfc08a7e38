"""A world for each scenario. Whatever a scenario does, what must always hold holds at its end."""

import logging
from collections.abc import Iterator

import pytest

from lms_webhooks.observability import logger
from tests.scenarios.world import World


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """A week of probes writes a hundred megabytes of log."""
    level = logger.log_level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world
        assert world.problems() == []
