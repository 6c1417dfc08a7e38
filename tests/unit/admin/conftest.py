"""An admin for the tests of a module: made once, on each engine, and without a trace of the last test."""

from collections.abc import Iterator

import pytest

from tests.engines.dynamodb import Engine
from tests.unit.admin_client import AdminClient, admin_client


@pytest.fixture(scope="module")
def shared_client(dynamodb: Engine) -> Iterator[AdminClient]:
    """Modules whose calls depend on no engine make one of their own, on moto."""
    with admin_client(dynamodb=dynamodb) as client:
        yield client


@pytest.fixture
def client(shared_client: AdminClient) -> AdminClient:
    shared_client.forget_everything()
    return shared_client
