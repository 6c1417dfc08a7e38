"""A finding needs a reason, and a reason needs a finding."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.nag.findings import Finding, accepted_in, findings_of, problems

TEXT = "The queue has no dead-letter queue."
FOUND = {Finding("R1", "Queue"): TEXT, Finding("R1", "Other"): TEXT}


def report(path: str, description: str) -> dict[str, Any]:
    """As CDK writes it."""
    violation = {
        "ruleName": "R1",
        "description": description,
        "violatingConstructs": [{"constructPath": path}],
    }
    return {"pluginReports": [{"pluginName": "Any", "violations": [violation]}]}


def entry(*resources: str) -> dict[str, Any]:
    return {"id": "R1", "resources": list(resources), "reason": "It is one."}


@pytest.mark.parametrize(
    ("path", "description", "resource"),
    [
        ("stack/template/Queue", TEXT, "Queue"),
        ("stack", "Parameters/Secret: it has no NoEcho", "Secret"),
        ("stack", "Condition 'IsOnAws' is always true", "IsOnAws"),
        ("stack", "The template is too long", "stack"),
    ],
)
def test_a_finding_has_its_logical_name(path: str, description: str, resource: str) -> None:
    assert findings_of(report(path, description)) == {Finding("R1", resource): description}


def test_each_resource_needs_the_reason() -> None:
    assert problems(FOUND, accepted_in([entry("Queue")])) == [f"Other: R1: {TEXT}"]
    assert problems(FOUND, accepted_in([entry("Queue", "Other")])) == []


def test_a_reason_without_a_finding_is_a_problem() -> None:
    accepted = accepted_in([entry("Queue", "Other", "Gone")])
    assert problems(FOUND, accepted) == ["Gone: R1: accepted, and not found any more"]


@pytest.mark.parametrize(
    "entries",
    [
        [{"id": "R1", "resources": ["Queue"]}],
        [{"id": "R1", "resources": ["Queue"], "reason": ""}],
        [{"id": "R1", "resources": [], "reason": "None."}],
        [entry("Queue"), entry("Queue")],
    ],
    ids=["no reason", "an empty reason", "no resource", "two reasons"],
)
def test_what_is_no_reason_is_refused(entries: list[dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match="R1"):
        accepted_in(entries)


@pytest.mark.parametrize("name", ["accepted.yaml", "accepted_by_checkov.yaml"])
def test_the_reasons_are_well_formed(name: str) -> None:
    assert accepted_in(yaml.safe_load(Path(__file__).with_name(name).read_text()))
