"""What `python -m tests.fuzz` counts, and when that is enough."""

import json
from pathlib import Path

import pytest

from tests.fuzz.__main__ import MIN_CASES, MIN_DONE, Case, print_table, read_cases
from tools.openapi import describe

OPERATIONS = [(method.upper(), path) for path, methods in describe()["paths"].items() for method in methods]
ENOUGH = [Case(*operation, "fuzzing", 200) for operation in OPERATIONS for _ in range(MIN_CASES // 10)]


def test_a_request_counts_once_it_was_answered_and_checked(tmp_path: Path) -> None:
    case = {"value": {"method": "GET", "path": "/v1/webhooks", "meta": {"phase": {"name": "stateful"}}}}
    answer = {"response": {"status_code": 200}}
    recorder = {
        "cases": dict.fromkeys(("checked", "of-a-check", "unanswered"), case),
        "interactions": {"checked": answer, "of-a-check": answer, "unanswered": {"response": None}},
        "checks": {"checked": [{"name": "status_code_conformance"}], "unanswered": [{"name": "any"}]},
    }
    report = tmp_path / "all.ndjson"
    report.write_text(
        "\n".join(map(json.dumps, ({"Initialize": {}}, {"ScenarioFinished": {"recorder": recorder}})))
    )
    assert list(read_cases(report)) == [Case("GET", "/v1/webhooks", "stateful", 200)]


def test_it_is_enough_when_every_operation_was_done_often(capsys: pytest.CaptureFixture[str]) -> None:
    assert print_table(ENOUGH)
    assert f"of {len(OPERATIONS)} operations, 0 answered with 5xx" in capsys.readouterr().out


@pytest.mark.parametrize("operation", OPERATIONS)
def test_one_operation_done_too_seldom_is_not_enough(operation: tuple[str, str]) -> None:
    others = [case for case in ENOUGH if (case.method, case.path) != operation]
    refused = [Case(*operation, "fuzzing", 404)] * MIN_CASES
    assert not print_table([*others, *refused, *[Case(*operation, "fuzzing", 200)] * (MIN_DONE - 1)])
    assert print_table([*others, *refused, *[Case(*operation, "fuzzing", 200)] * MIN_DONE])


def test_too_few_cases_are_not_enough() -> None:
    few = [Case(*operation, "fuzzing", 200) for operation in OPERATIONS for _ in range(MIN_DONE)]
    assert len(few) < MIN_CASES
    assert not print_table(few)


def test_a_single_5xx_is_too_many() -> None:
    assert not print_table([*ENOUGH, Case("GET", "/v1/webhooks", "coverage", 500)])
