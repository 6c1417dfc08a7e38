"""moto reaches only botocore sessions that are made after its import, and `lms_webhooks.aws.clients`
makes one at its own. So moto comes first, whichever test is collected first."""

import gc
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.engines import quick_moto
from tests.engines.dynamodb import DynamoDbLocal, Engine
from tests.engines.dynamodb import moto as moto_engine

quick_moto.apply()

# Both are timed assertions. Beside other work, an example took 1.5 s to be drawn, and its test failed.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

pytest_plugins = ("tests.schedule", "tests.progress")


def pytest_collection_finish() -> None:
    """Keep the garbage collector from what was imported, a million objects that stay. It took a tenth of the
    time. Moto makes so many objects for each call that to look for cycles seldom saves another tenth."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000)


@pytest.fixture(scope="session")
def dynamodb_local() -> Iterator[DynamoDbLocal]:
    """One process for all tests; started by the first that needs it."""
    with DynamoDbLocal() as engine:
        yield engine


@pytest.fixture(
    scope="module", params=["moto", pytest.param("dynamodb-local", marks=pytest.mark.dynamodb_local)]
)
def dynamodb(request: pytest.FixtureRequest) -> Engine:
    """Where a store keeps its items. Each test that asks for it runs once on each engine."""
    if request.param == "moto":
        return moto_engine
    engine: DynamoDbLocal = request.getfixturevalue("dynamodb_local")
    return engine
