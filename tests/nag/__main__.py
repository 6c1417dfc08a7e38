"""Judge template.yaml by cdk-nag and CDK's offline validation: `python -m tests.nag`, part of `make check`.

CDK knows nothing of SAM. So the template is transformed first, by the translator that CloudFormation runs.
Ends with 0 when each finding has a reason in accepted.yaml, and each reason a finding.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from tests.contract.transform import plain
from tests.nag.findings import accepted_in, findings_of, problems
from tools.bootstrap import node_wheel
from tools.progress import REPOSITORY, STATE_DIR
from tools.template import read_template

_HERE = Path(__file__).parent
_PACKAGES = STATE_DIR / "nag"
_CHOSEN = {
    "SubnetIds": "subnet-0123456789abcdef0",
    "SecurityGroupIds": "sg-0123456789abcdef0",
    "ConsoleUrl": "https://webhooks.example.com/console",
}
"""Parameters that are empty by default. The validation would put the default where it is never used."""


def main() -> int:
    """Print what is wrong; return the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        template = Path(folder) / "template.json"
        template.write_text(json.dumps(plain(_with_chosen_parameters())))
        report = _report(template, Path(folder) / "cdk.out")
    accepted = accepted_in(yaml.safe_load((_HERE / "accepted.yaml").read_text()))
    found = findings_of(report)
    wrong = problems(found, accepted)
    print(
        "\n".join(wrong) or f"cdk-nag and CDK: {len(found)} findings, each with its reason in accepted.yaml"
    )
    return 1 if wrong else 0


def _with_chosen_parameters() -> dict[str, Any]:
    template = read_template(REPOSITORY / "template.yaml")
    for name, value in _CHOSEN.items():
        template["Parameters"][name]["Default"] = value
    return template


def _report(template: Path, out: Path) -> dict[str, Any]:
    done = subprocess.run(
        [node_wheel() / "bin" / "node", _HERE / "include.mjs", _PACKAGES, template, out],
        capture_output=True,  # CDK prints each finding at length
        text=True,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"CDK did not report: {done.stderr.strip()}")
    report: dict[str, Any] = json.loads((out / "validation-report.json").read_text())
    return report


if __name__ == "__main__":
    sys.exit(main())
