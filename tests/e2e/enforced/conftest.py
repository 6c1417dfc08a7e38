"""A stack of its own, on which each function may do what its role allows and no more."""

from collections.abc import Iterator

import pytest

from local.stack import down, up
from tests.e2e.system import EXTRA_EVENT_TYPES, System


@pytest.fixture(scope="package")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Stands in for the one of the tests above. Ends with this folder: two stacks at once are slow."""
    state_dir = tmp_path_factory.mktemp("enforced")
    try:
        system = System(up(state_dir, roles_enforced=True, extra_event_types=EXTRA_EVENT_TYPES))
        system.listen_to(system.notice_topic)
        yield system
        system.check_secrets()
    finally:
        down(state_dir)
