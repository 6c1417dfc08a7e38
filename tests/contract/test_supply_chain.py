"""What ships was locked, is written down, and is looked up: nothing passes for safe that nobody looked at."""

import json
import re
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.contract.template import REPOSITORY
from tests.fuzz.readers import CORPUS
from tools import audit, sbom

DECISION = REPOSITORY / "docs" / "decisions" / "0015-what-ships-is-known.md"
WORKFLOW = REPOSITORY / ".github" / "workflows" / "ci.yml"
LOCK = REPOSITORY / "layers" / "core" / "requirements.txt"


def locked(lock: Path = LOCK) -> dict[str, str]:
    """Versions by name."""
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ;]+)", lock.read_text(), re.MULTILINE))


##### Locks


@pytest.mark.parametrize("lock", audit.LOCKS)
def test_every_locked_package_has_hashes(lock: str) -> None:
    entries = (REPOSITORY / lock).read_text().replace("\\\n", " ").splitlines()
    assert entries
    for entry in entries:
        if not entry.startswith("#"):
            assert re.match(r"[a-z0-9][a-z0-9.\[\],-]*==\S+", entry), entry
            assert "--hash=sha256:" in entry, entry


def test_every_lock_is_audited() -> None:
    locks = [*REPOSITORY.glob("requirements/*.txt"), *REPOSITORY.glob("layers/*/requirements.txt")]
    assert sorted(audit.LOCKS) == sorted(str(each.relative_to(REPOSITORY)) for each in locks)
    of_npm = [*REPOSITORY.glob("docs/*/package-lock.json"), *REPOSITORY.glob("tests/*/package-lock.json")]
    assert sorted(audit.NPM_LOCKS) == sorted(str(each.relative_to(REPOSITORY)) for each in of_npm)


@pytest.mark.parametrize("lock", audit.NPM_LOCKS)
def test_every_package_of_npm_has_a_hash_or_comes_inside_of_one(lock: str) -> None:
    packages = json.loads((REPOSITORY / lock).read_text())["packages"]
    assert len(packages) > 1
    for name, package in packages.items():
        assert name == "" or package.get("inBundle") or package["integrity"].startswith("sha512-"), name
        assert "resolved" not in package, "it would name a host"


def test_of_dynamodb_local_s_package_the_jars_alone_are_installed() -> None:
    """Its wrapper for Node needs some hundred packages. `npm ci` takes what the lock says, and no more."""
    packages = json.loads((REPOSITORY / "tests/engines/package-lock.json").read_text())["packages"]
    assert packages.keys() == {"", "node_modules/amplify-dynamodb-simulator"}
    assert "dependencies" not in packages["node_modules/amplify-dynamodb-simulator"]


def test_each_package_of_the_layer_has_its_reason() -> None:
    text = DECISION.read_text()
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| `")]
    imported = {name for row in rows for name in re.findall(r"`([a-z0-9-]+)`", row[1])}
    brought = {name for row in rows for name in re.findall(r"`([a-z0-9-]+)`", row[3])}
    assert imported == set(sbom.asked_for_names())
    assert imported | brought == locked().keys()
    assert f"The layer has {len(locked())} packages." in text
    assert "It imports seven:" in text
    assert len(imported) == 7


##### The bill of materials


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A layer: our own package, and the metadata of the locked ones as they are installed here."""
    (tmp_path / "lms_webhooks").mkdir()
    source = REPOSITORY / "layers" / "core" / "lms_webhooks" / "__init__.py"
    (tmp_path / "lms_webhooks" / "__init__.py").write_text(source.read_text())
    for package in distributions():
        if package.name.lower().replace("_", "-") in locked():
            folder = tmp_path / f"{package.name}-{package.version}.dist-info"
            folder.mkdir()
            (folder / "METADATA").write_text(metadata(package))
    return tmp_path


def metadata(package: Distribution) -> str:
    text = package.read_text("METADATA")
    assert text is not None
    return text


def test_the_bill_has_each_locked_package_with_its_version_and_licence(site: Path) -> None:
    bill = sbom.bill_of(site)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert {each["name"]: each["version"] for each in bill["components"]} == locked()
    for each in bill["components"]:
        assert each["purl"] == f"pkg:pypi/{each['name']}@{each['version']}"
        assert each["licenses"], each


def test_the_bill_says_what_needs_what(site: Path) -> None:
    bill = sbom.bill_of(site)
    needs = {each["ref"]: each["dependsOn"] for each in bill["dependencies"]}
    known = {each["bom-ref"] for each in bill["components"]}
    us = bill["metadata"]["component"]["bom-ref"]
    assert needs.keys() == known | {us}
    reached, open_ones = set(), [us]
    while open_ones:
        ref = open_ones.pop()
        reached.add(ref)
        open_ones += set(needs[ref]) - reached
    assert reached == known | {us}  # nothing ships that nobody asked for


def test_the_same_layer_gives_the_same_bytes(site: Path) -> None:
    assert json.dumps(sbom.bill_of(site)) == json.dumps(sbom.bill_of(site))


##### The audit


def report(*packages: dict[str, Any]) -> dict[str, Any]:
    """As pip-audit writes it."""
    return {"dependencies": list(packages), "fixes": []}


GOOD = {"name": "good", "version": "1", "vulns": []}
BAD = {
    "name": "bad",
    "version": "2",
    "vulns": [{"id": "PYSEC-2026-1", "fix_versions": ["2.1", "3.0"], "aliases": [], "description": ""}],
}
UNKNOWN = {"name": "unknown", "skip_reason": "Dependency not found on PyPI and could not be audited"}


@pytest.mark.parametrize("lock", audit.LOCKS)
def test_what_is_for_other_machines_is_audited_too(lock: str) -> None:
    """pip-audit leaves out what its own machine does not install."""
    text = (REPOSITORY / lock).read_text()
    whole = audit.without_markers(text)
    assert " ;" not in whole
    assert audit.locked_names(whole) == audit.locked_names(text) == locked(REPOSITORY / lock).keys()
    assert whole.count("--hash=") == text.count("--hash=")
    assert re.findall(r"^[a-z0-9.\[\],-]+==\S+", whole, re.MULTILINE) == re.findall(
        r"^[a-z0-9.\[\],-]+==\S+", text, re.MULTILINE
    )


def test_some_package_is_for_other_machines_only() -> None:
    """Else the test before says nothing."""
    assert any("sys_platform == 'win32'" in (REPOSITORY / lock).read_text() for lock in audit.LOCKS)


@pytest.mark.parametrize(
    ("locked", "found", "code"),
    [
        ({"good"}, report(GOOD), 0),
        ({"good", "bad"}, report(GOOD, BAD), audit.VULNERABLE),
        ({"good", "unknown"}, report(GOOD, UNKNOWN), audit.NOT_AUDITED),
        ({"bad", "unknown"}, report(BAD, UNKNOWN), audit.VULNERABLE),
        ({"good", "left-out"}, report(GOOD), audit.NOT_AUDITED),
        ({"bad", "left-out"}, report(BAD), audit.VULNERABLE),
        ({"good"}, report(), audit.NOT_AUDITED),
        (set(), report(), audit.NOT_AUDITED),
        ({"good"}, None, audit.NOT_AUDITED),
    ],
    ids=lambda value: "+".join(sorted(value)) if isinstance(value, set) else None,
)
def test_only_what_was_looked_up_passes(locked: set[str], found: dict[str, Any] | None, code: int) -> None:
    lines, got = audit.judge("a.txt", locked, found, "no network")
    assert got == code
    text = "\n".join(lines)
    looked_up = {"good", "bad"} & {each["name"] for each in (found or report())["dependencies"]}
    assert ("NOT AUDITED" in text) == (looked_up != locked or not locked)
    assert ("NOT AUDITED left-out: not in the report" in text) == ("left-out" in locked)
    assert ("VULNERABLE bad 2: PYSEC-2026-1, fixed in 2.1, 3.0" in text) == ("bad" in looked_up)


def test_a_name_may_be_spelt_in_another_way() -> None:
    other = {"name": "Good_Package", "version": "1", "vulns": []}
    assert audit.judge("a.txt", audit.locked_names("good-package==1 \\\n"), report(other))[1] == 0


def test_without_a_network_nothing_passes() -> None:
    assert audit.judge("a.txt", {"good"}, None, "could not resolve the host") == (
        ["a.txt: NOT AUDITED: could not resolve the host"],
        audit.NOT_AUDITED,
    )


def npm_report(total: int, **vulnerable: dict[str, str]) -> dict[str, Any]:
    return {"vulnerabilities": vulnerable, "metadata": {"dependencies": {"total": total}}}


@pytest.mark.parametrize(
    ("found", "lines", "code"),
    [
        (npm_report(3), "3 packages, 3 looked up, 0 vulnerable", 0),
        (npm_report(3, bad={"range": "<2"}), "VULNERABLE bad <2", audit.VULNERABLE),
        (npm_report(2), "NOT AUDITED: 1 of 3 packages", audit.NOT_AUDITED),
        (npm_report(0), "NOT AUDITED: 3 of 3 packages", audit.NOT_AUDITED),
        ({"message": "405 Method Not Allowed"}, "NOT AUDITED: 405 Method Not Allowed", audit.NOT_AUDITED),
        ({}, "NOT AUDITED", audit.NOT_AUDITED),
    ],
    ids=str,
)
def test_packages_of_npm_are_audited_too(found: dict[str, Any], lines: str, code: int) -> None:
    said, got = audit.judge_npm("lock", 3, found)
    assert lines in "\n".join(said)
    assert got == code


def test_a_lock_of_npm_without_packages_is_not_audited() -> None:
    assert audit.judge_npm("lock", 0, npm_report(0))[1] == audit.NOT_AUDITED


##### The workflow


def workflow() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(WORKFLOW.read_text())
    return loaded


def commands(job: dict[str, Any]) -> str:
    return "\n".join(step.get("run", "") for step in job["steps"])


def test_nothing_is_deployed_that_was_not_checked_tested_and_audited() -> None:
    jobs = workflow()["jobs"]
    for job, command in (("lint", "make check"), ("test", "make test"), ("security", "make security")):
        assert command in commands(jobs[job])
    assert commands(jobs["audit"]).endswith("make audit")
    assert set(jobs["staging"]["needs"]) == {"lint", "test", "security", "audit"}
    assert jobs["staging"]["if"] == "github.event_name == 'push' && github.ref == 'refs/heads/main'"
    assert set(jobs["prod"]["needs"]) == {"lint", "test", "security", "audit"}
    assert jobs["prod"]["if"] == "github.event_name == 'workflow_dispatch' && github.ref == 'refs/heads/main'"
    for job in jobs.values():
        assert "continue-on-error" not in job


def test_an_input_that_broke_a_reader_outlives_the_run() -> None:
    (kept,) = (step for step in workflow()["jobs"]["security"]["steps"] if step.get("if") == "failure()")
    assert kept["uses"].startswith("actions/upload-artifact@")
    assert REPOSITORY / kept["with"]["path"] == CORPUS


def test_only_a_deployment_may_ask_for_credentials_and_none_is_stored() -> None:
    given = workflow()
    assert given["permissions"] == {"contents": "read"}
    for name, job in given["jobs"].items():
        deploys = name in ("staging", "prod")
        assert job.get("permissions") == ({"contents": "read", "id-token": "write"} if deploys else None)
        assert job.get("environment") == (name if deploys else None)
    assert "secrets." not in WORKFLOW.read_text()


def test_actions_are_pinned_to_a_commit() -> None:
    used = re.findall(r"uses: (\S+)(.*)", WORKFLOW.read_text())
    assert used
    for action, comment in used:
        assert re.fullmatch(r"[a-z-]+/[a-z-]+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), action
