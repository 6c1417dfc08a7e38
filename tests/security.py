"""Try what must not be possible, and print how much of it was tried: `make security`.

The tests of the system's safety, the fuzzing of what reads text from outside, and checkov on the templates.
All of it runs, whatever fails; ends with 0 only when all of it held, and was as much as it is to be.
"""

import json
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from tests.fuzz.readers import MIN_INPUTS, WHOLE
from tests.nag.findings import Finding, accepted_in, problems
from tools.progress import REPOSITORY, STATE_DIR

FILES = (
    "tests/unit/sending/test_targets.py",
    "tests/unit/sending/test_hostile_targets.py",
    "tests/unit/admin/test_tenancy.py",
    "tests/unit/admin/test_audit.py",
    "tests/contract/test_invocations.py",
    "tests/contract/test_privileges.py",
    "tests/contract/test_deploy_role.py",
    "tests/contract/test_supply_chain.py",
    "tests/e2e/test_access.py",
    "tests/e2e/test_claims.py",
    "tests/e2e/test_secrets.py",
    "tests/e2e/test_tenants.py",
    "tests/e2e/enforced",
)
LEAST = {
    "hostile URLs": 150,
    "calls and sends with them refused": 600,
    "calls and sends with hostile targets, on a stack without the switch for loopback": 300,
    "hostile names": 20,
    "redirects": 30,
    "operations on another account's ids": 40,
    "calls of Cognito without IAM credentials": 30,
    "forbidden calls, by the roles' conditions": 50,
    "forbidden calls, on a stack that enforces its roles": 100,
}
"""What the tests count as tried and refused, and how much it is at least."""

LEAST_FUZZED = {
    "inputs: events, timestamps, cursors, If-Match, bodies of SQS into the dispatcher": (WHOLE, MIN_INPUTS),
    "of them, bodies of SQS into the dispatcher": (("dispatch",), 3000),
}
"""What the fuzzer counts: its readers, and how many inputs they get at least."""

_CHECKOV = (
    str(STATE_DIR / "security" / "bin" / "checkov"),
    *("--file", "template.yaml", "operations/deploy_role.yaml", "--framework", "cloudformation"),
    *("--skip-download", "--quiet", "--compact", "--soft-fail", "--output", "json"),
)
_ACCEPTED = REPOSITORY / "tests" / "nag" / "accepted_by_checkov.yaml"


def main() -> int:
    """Run it; return the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        is_good = _holds(sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *FILES)
        counted, passed = _counts(report)
        counts = Path(folder) / "fuzzed.json"
        is_good &= _holds(sys.executable, "-m", "tests.fuzz.readers", "--counts", str(counts))
        fuzzed = Counter(json.loads(counts.read_text())) if counts.exists() else Counter[str]()
    is_good &= _checkov_agrees()
    print("\ntried and refused:")
    for name, least in LEAST.items():
        is_enough = counted[name] >= least
        is_good &= is_enough
        print(f"{counted[name]:7}  {name}" + ("" if is_enough else f": TOO FEW, at least {least}"))
    print("\ntried, and answered with a documented error or a result that holds:")
    for name, (readers, least) in LEAST_FUZZED.items():
        count = sum(fuzzed[reader] for reader in readers)
        is_good &= count >= least
        print(f"{count:7}  {name}" + ("" if count >= least else f": TOO FEW, at least {least}"))
    print(f"{sum(fuzzed[reader] for reader in fuzzed if reader not in WHOLE):7}  inputs into other readers")
    print(f"\n{passed} tests passed; above, the checks of checkov")
    print("all of it held" if is_good else "NOT ALL OF IT HELD")
    return 0 if is_good else 1


def _holds(*command: str) -> bool:
    return subprocess.run(command, check=False).returncode == 0


def _checkov_agrees() -> bool:
    """Whether checkov finds what has its reason in a file, and nothing else."""
    done = subprocess.run(_CHECKOV, check=False, capture_output=True, text=True)
    try:
        reported: Any = json.loads(done.stdout)
    except ValueError:
        print(f"checkov did not report: {done.stderr.strip() or done.stdout.strip()}")
        return False
    found = {
        Finding(each["check_id"], each["resource"].rpartition(".")[2]): each["check_name"]
        for report in (reported if isinstance(reported, list) else [reported])
        for each in report["results"]["failed_checks"]
    }
    wrong = problems(found, accepted_in(yaml.safe_load(_ACCEPTED.read_text())))
    print("\n".join(wrong) or f"checkov: {len(found)} findings, each with its reason in {_ACCEPTED.name}")
    return not wrong


def _counts(report: Path) -> tuple[Counter[str], int]:
    """What the tests that passed counted, and how many they were."""
    counted: Counter[str] = Counter()
    passed = 0
    for case in ET.parse(report).iter("testcase"):  # noqa: S314  # pytest's own
        if any(child.tag in ("failure", "error", "skipped") for child in case):
            continue
        passed += 1
        for each in case.iter("property"):
            counted[each.attrib["name"]] += int(each.attrib["value"])
    return counted, passed


if __name__ == "__main__":
    sys.exit(main())
