"""Compare what was found in the template with the reasons for leaving it so."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

_PART = re.compile(r"^(?:Parameters|Conditions|Rules|Outputs)/(\w+)|'(\w+)'")


@dataclass(frozen=True, order=True)
class Finding:
    """One rule that one resource or parameter breaks."""

    rule: str
    """A rule with several findings in one resource names each: `AwsSolutions-IAM5[Resource::*]`."""
    resource: str
    """Its logical name."""


def findings_of(report: dict[str, Any]) -> dict[Finding, str]:
    """What CDK's validation report has, with the text of each."""
    return {
        Finding(violation["ruleName"], _resource(construct, violation["description"])): violation[
            "description"
        ]
        for plugin in report["pluginReports"]
        for violation in plugin["violations"]
        for construct in violation["violatingConstructs"]
    }


def _resource(construct: dict[str, Any], text: str) -> str:
    *_, name = construct["constructPath"].split("/")
    if name != "stack":
        return str(name)
    # What is no resource has no construct: the text begins with where it is.
    found = _PART.search(text)
    return (found[1] or found[2]) if found else name


def accepted_in(entries: Iterable[dict[str, Any]]) -> dict[Finding, str]:
    """The reason for each finding that is left as it is.

    Raises:
        ValueError: an entry lacks something, or a finding has two reasons.
    """
    accepted: dict[Finding, str] = {}
    for entry in entries:
        if not (entry.keys() == {"id", "resources", "reason"} and all(entry.values())):
            raise ValueError(f"not an id, resources and a reason: {entry}")
        for resource in entry["resources"]:
            finding = Finding(entry["id"], resource)
            if finding in accepted:
                raise ValueError(f"two reasons: {finding}")
            accepted[finding] = entry["reason"]
    return accepted


def problems(found: dict[Finding, str], accepted: dict[Finding, str]) -> list[str]:
    """What is found and has no reason, and what has a reason and is not found."""
    return [
        *(
            f"{finding.resource}: {finding.rule}: {' '.join(text.split())}"
            for finding, text in sorted(found.items())
            if finding not in accepted
        ),
        *(
            f"{finding.resource}: {finding.rule}: accepted, and not found any more"
            for finding in sorted(accepted.keys() - found.keys())
        ),
    ]
