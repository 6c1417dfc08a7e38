"""What the tests of stores stand on: the two tables, empty for each test, once on each engine."""

from collections.abc import Iterator

import pytest

from lms_webhooks.aws.dynamodb import Table
from lms_webhooks.stores.backlog import Backlog
from tests.engines.dynamodb import Engine
from tests.unit.tables import tables


@pytest.fixture
def both(dynamodb: Engine) -> Iterator[tuple[Table, Table]]:
    """The webhooks and the deliveries table."""
    with tables(dynamodb) as both:
        yield both


@pytest.fixture
def table(both: tuple[Table, Table]) -> Table:
    """The deliveries table. Tests of what the other one holds have a `table` of their own."""
    return both[1]


@pytest.fixture
def backlog(table: Table) -> Backlog:
    return Backlog(table, retention_days=7)
