"""The model check, bounded; `make faults` goes further. See `model`."""

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.faults.model import Model

pytestmark = pytest.mark.timeout(1_200)  # to find the shortest way to a failure takes minutes

TestModel = Model.TestCase
TestModel.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
