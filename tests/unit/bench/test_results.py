"""A later run of the benchmark says what got worse than the baseline, and nothing of what is noise."""

from collections.abc import Callable

import pytest

from bench.results import Figure, Row, figure, judge, merged, ratio, this_machine, worse

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


HERE, ELSEWHERE = "this machine", "another machine"
GOOD = Row([Figure("speed", 1.0, "x", is_compared=True, is_better_high=True)])
WORSE = Row([Figure("speed", 0.8, "x", is_compared=True, is_better_high=True)])
MISSED = Row([Figure("goal", 0.9, "x", at_least=1)])


def measuring(row: Row, calls: list[str]) -> Callable[[str], Row]:
    """What a repeated measurement finds; notes which row it was of."""

    def measure(name: str) -> Row:
        calls.append(name)
        return row

    return measure


def test_a_baseline_of_another_machine_gives_notes_and_goals_alone_decide() -> None:
    baseline, calls = merged({}, {"row": GOOD}, machine=ELSEWHERE), list[str]()
    verdict = judge({"row": WORSE}, baseline, machine=HERE, measure_again=measuring(WORSE, calls))
    assert verdict.is_good
    assert verdict.notes == ["another machine's baseline: speed: 1 x then, 0.8 now"]
    assert calls == [], "a second measurement would prove nothing"

    verdict = judge({"row": MISSED}, baseline, machine=HERE, measure_again=measuring(MISSED, calls))
    assert not verdict.is_good
    assert verdict.missed == ["goal"]


def test_a_baseline_that_names_no_machine_is_another_s() -> None:
    baseline = {"row": merged({}, {"row": GOOD}, machine=HERE)["row"]}
    assert judge({"row": WORSE}, baseline, machine=HERE, measure_again=measuring(WORSE, [])).is_good


def test_what_is_worse_twice_on_one_machine_counts() -> None:
    baseline, calls = merged({}, {"row": GOOD}, machine=HERE), list[str]()
    verdict = judge({"row": WORSE}, baseline, machine=HERE, measure_again=measuring(WORSE, calls))
    assert not verdict.is_good
    assert verdict.slower == ["speed: 1 x then, 0.8 now"]
    assert calls == ["row"]


def test_what_is_worse_once_is_a_note() -> None:
    baseline, calls = merged({}, {"row": GOOD}, machine=HERE), list[str]()
    verdict = judge({"row": WORSE}, baseline, machine=HERE, measure_again=measuring(GOOD, calls))
    assert verdict.is_good
    assert verdict.notes == ["not so when measured again: speed: 1 x then, 0.8 now"]
    assert calls == ["row"]


def test_what_is_worse_only_when_measured_again_does_not_count() -> None:
    row = Row([*WORSE.figures, Figure("other", 1.0, "x", is_compared=True, is_better_high=True)])
    again = Row([*GOOD.figures, Figure("other", 0.5, "x", is_compared=True, is_better_high=True)])
    baseline = merged({}, {"row": Row([*GOOD.figures, row.figures[1]])}, machine=HERE)
    assert judge({"row": row}, baseline, machine=HERE, measure_again=measuring(again, [])).is_good


def test_a_row_that_is_as_before_is_not_measured_again() -> None:
    calls: list[str] = []
    baseline = merged({}, {"row": GOOD}, machine=HERE)
    assert judge({"row": GOOD}, baseline, machine=HERE, measure_again=measuring(WORSE, calls)).is_good
    assert calls == []


def test_a_part_of_the_baseline_that_is_written_anew_leaves_the_rest_to_its_machine() -> None:
    baseline = merged({}, {"one": GOOD, "two": GOOD}, machine=ELSEWHERE)
    baseline = merged(baseline, {"two": GOOD}, machine=HERE)
    verdict = judge({"one": WORSE, "two": WORSE}, baseline, machine=HERE, measure_again=measuring(WORSE, []))
    assert (len(verdict.notes), len(verdict.slower)) == (1, 1)


def test_a_machine_is_itself_each_time() -> None:
    assert this_machine() == this_machine() != ""
