"""Run the tests of the system's safety, and print how much of each was tried: a part of `make security`.

Ends with 0 only when all of it held.
"""

import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

SUITES = {
    "URLs and names that are refused": ("tests.unit.test_targets", "tests.unit.test_hostile_targets"),
    "operations with another account's ids": ("tests.unit.test_tenancy",),
    "calls that a role must allow or refuse, judged": ("tests.contract.test_privileges",),
    "the same, enforced on a deployed stack": (
        "tests.e2e.enforced.test_roles",
        "tests.e2e.enforced.test_again",
    ),
    "calls without a good token": ("tests.e2e.test_access",),
    "secrets, moved and searched for": ("tests.e2e.test_secrets",),
    "what ships": ("tests.contract.test_supply_chain",),
}


def main() -> int:
    """Run it; answer the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        files = [module.replace(".", "/") + ".py" for modules in SUITES.values() for module in modules]
        exit_code = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *files], check=False
        ).returncode
        passed: Counter[str] = Counter()
        for case in ET.parse(report).iter("testcase"):  # noqa: S314  # pytest's own
            passed[case.attrib["classname"]] += len(case) == 0
    print()
    for title, modules in SUITES.items():
        print(f"{sum(passed[module] for module in modules):7}  {title}")
    print()
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
