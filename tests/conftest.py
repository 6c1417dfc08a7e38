"""moto reaches only botocore sessions that are made after its import, and `lms_webhooks.aws` makes one at its
own. So moto comes first, whichever test is collected first."""

from collections.abc import Iterator

import pytest

from tests.engines.dynamodb import DynamoDbLocal, Engine, moto

pytest_plugins = ("tests.schedule", "tests.progress")


@pytest.fixture(scope="session")
def dynamodb_local() -> Iterator[DynamoDbLocal]:
    """One process for all tests; started by the first that needs it."""
    with DynamoDbLocal() as engine:
        yield engine


@pytest.fixture(scope="module", params=["moto", "dynamodb-local"])
def dynamodb(request: pytest.FixtureRequest) -> Engine:
    """Where a store keeps its items. Each test that asks for it runs once on each engine."""
    if request.param == "moto":
        return moto
    engine: DynamoDbLocal = request.getfixturevalue("dynamodb_local")
    return engine
