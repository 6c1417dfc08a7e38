"""Look every locked package up among the known vulnerabilities. `python -m local.audit`; see `make audit`.

Ends with 0 when each was looked up and none is vulnerable, with 1 when one is, and else with 2 when one could
not be looked up: not to know is not to be safe.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from local.set_up import node_wheel
from local.steps import REPOSITORY, STATE_DIR

LOCKS = (
    "layers/core/requirements.txt",
    "requirements/dev.txt",
    "requirements/engine.txt",
    "requirements/bootstrap.txt",
    "requirements/security.txt",
    "requirements/bench.txt",
)
NPM_LOCK = "docs/receivers/package-lock.json"
_PIP_AUDIT = STATE_DIR / "security" / "bin" / "pip-audit"
VULNERABLE, NOT_AUDITED = 1, 2


def main() -> int:
    """Audit each lock, the layer's first; answers the exit code."""
    codes = set()
    for judged in (*(judge(lock, *_look_up(REPOSITORY / lock)) for lock in LOCKS), judge_npm(_look_up_npm())):
        lines, code = judged
        print("\n".join(lines), flush=True)
        codes.add(code)
    return next((code for code in (VULNERABLE, NOT_AUDITED) if code in codes), 0)


def judge(lock: str, report: dict[str, Any] | None, problem: str) -> tuple[list[str], int]:
    """What to print about a lock, and the exit code. Without a report, `problem` says why there is none."""
    if report is None:
        return [f"{lock}: NOT AUDITED: {problem}"], NOT_AUDITED
    packages = report["dependencies"]
    vulnerable = [each for each in packages if each.get("vulns")]
    unknown = [each for each in packages if "skip_reason" in each]
    looked_up = len(packages) - len(unknown)
    lines = [f"{lock}: {len(packages)} packages, {looked_up} looked up, {len(vulnerable)} vulnerable"]
    for each in vulnerable:
        for found in each["vulns"]:
            mended = ", ".join(found["fix_versions"]) or "none"
            lines.append(f"  VULNERABLE {each['name']} {each['version']}: {found['id']}, mended in {mended}")
    lines += [f"  NOT AUDITED {each['name']}: {each['skip_reason']}" for each in unknown]
    if not packages:
        return [*lines, "  NOT AUDITED: it names no package"], NOT_AUDITED
    return lines, VULNERABLE if vulnerable else NOT_AUDITED if unknown else 0


def judge_npm(report: dict[str, Any]) -> tuple[list[str], int]:
    """What to print about the lock of the example in Node, and the exit code."""
    if "vulnerabilities" not in report:
        return [f"{NPM_LOCK}: NOT AUDITED: {report.get('message', 'npm gave no report')}"], NOT_AUDITED
    vulnerable: dict[str, Any] = report["vulnerabilities"]
    total = report["metadata"]["dependencies"]["total"]
    lines = [f"{NPM_LOCK}: {total} packages, {total} looked up, {len(vulnerable)} vulnerable"]
    lines += [f"  VULNERABLE {name} {found['range']}" for name, found in vulnerable.items()]
    return lines, VULNERABLE if vulnerable else 0


def _look_up_npm() -> dict[str, Any]:
    wheel = node_wheel()
    npm = wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    done = subprocess.run(
        [wheel / "bin" / "node", npm, "audit", "--json", "--package-lock-only"],
        cwd=(REPOSITORY / NPM_LOCK).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        return {}
    return report


def _look_up(lock: Path) -> tuple[dict[str, Any] | None, str]:
    done = subprocess.run(
        [
            _PIP_AUDIT, "--disable-pip", "--require-hashes", "--requirement", lock,
            "--format", "json", "--progress-spinner", "off",
        ],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    try:
        return json.loads(done.stdout), ""
    except ValueError:
        said = done.stderr.strip().splitlines()
        return None, said[-1] if said else f"pip-audit ended with {done.returncode}"


if __name__ == "__main__":
    sys.exit(main())
