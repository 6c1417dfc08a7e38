"""A later run of the benchmark says what got worse than the baseline, and nothing of what is noise."""

import pytest

from bench.figures import Figure, figure, ratio, worse

BEFORE = {"value": 1.0, "noise": 0.05}


@pytest.mark.parametrize(
    ("now", "is_worse"),
    [
        (Figure("speed", 0.80, "x", 0.04, at_least=1, is_compared=True), True),
        (Figure("speed", 0.82, "x", 0.04, at_least=1, is_compared=True), False),
        (Figure("speed", 1.50, "x", 0.04, at_least=1, is_compared=True), False),
        (Figure("cost", 1.20, "x", 0.04, at_most=1, is_compared=True), True),
        (Figure("cost", 1.18, "x", 0.04, at_most=1, is_compared=True), False),
        (Figure("cost", 0.50, "x", 0.04, at_most=1, is_compared=True), False),
        (Figure("peer", 0.80, "x", 0.04, is_better_high=True, is_compared=True), True),
        (Figure("peer", 1.50, "x", 0.04, is_better_high=True, is_compared=True), False),
        (Figure("units", 1.20, "x", 0.04, is_compared=True), True),
        (Figure("absolute", 9.00, "ms", 0.04), False),
    ],
)
def test_worse_is_what_noise_does_not_explain(now: Figure, is_worse: bool) -> None:
    assert (worse(now, BEFORE) is not None) is is_worse


def test_one_round_that_was_disturbed_changes_nothing() -> None:
    assert figure("speed", [10, 10, 10, 10, 1000], "x").value == 10


def test_ratios_are_of_the_same_round() -> None:
    """The machine was three times as slow in the last rounds: the ratio does not see it."""
    found = ratio("ours / theirs", [20, 20, 6, 6], [10, 10, 3, 3], at_least=3)
    assert (found.value, found.noise, found.is_good) == (2, 0, False)
