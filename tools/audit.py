"""Look every locked package up among the known vulnerabilities. `python -m tools.audit`; see `make audit`.

Ends with 0 when each was looked up and none is vulnerable. Ends with 1 when one is vulnerable, and else with
2 when one could not be looked up: not to know is not to be safe.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tools.bootstrap import node_wheel
from tools.progress import REPOSITORY, STATE_DIR

LOCKS = (
    "layers/core/requirements.txt",
    "requirements/dev.txt",
    "requirements/emulator.txt",
    "requirements/bootstrap.txt",
    "requirements/security.txt",
    "requirements/bench.txt",
    "requirements/dynamodb.txt",
)
NPM_LOCKS = (
    "docs/receivers/package-lock.json",
    "tests/engines/package-lock.json",
    "tests/nag/package-lock.json",
)
_PIP_AUDIT = STATE_DIR / "security" / "bin" / "pip-audit"
VULNERABLE, NOT_AUDITED = 1, 2
_VERDICTS = {
    0: "All were looked up, and none is known to be vulnerable.",
    VULNERABLE: "Some are vulnerable.",
    NOT_AUDITED: "None that was looked up is vulnerable, but some could not be: see NOT AUDITED above.",
}


def main() -> int:
    """Audit each lock, the layer's first; return the exit code."""
    codes = set()
    for lock in (*LOCKS, *NPM_LOCKS):
        print(f"looking up {lock} ...", flush=True)
        lines, code = _audit_npm(lock) if lock in NPM_LOCKS else _audit(lock)
        print("\n".join(lines), flush=True)
        codes.add(code)
    worst = next((code for code in (VULNERABLE, NOT_AUDITED) if code in codes), 0)
    print(_VERDICTS[worst])
    return worst


def without_markers(lock: str) -> str:
    """The text of a lock with every package for every machine: pip-audit leaves out, without a word, what is
    not for the one that it runs on."""
    return re.sub(r"^(\S+==\S+) ;[^\\\n]*", r"\1 ", lock, flags=re.MULTILINE)


def locked_names(lock: str) -> set[str]:
    return {_name(found) for found in re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==", lock, re.MULTILINE)}


def _name(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def judge(
    lock: str, locked: set[str], report: dict[str, Any] | None, problem: str = ""
) -> tuple[list[str], int]:
    """What to print about a lock that has the packages `locked`, and the exit code. Without a report,
    `problem` says why there is none."""
    if report is None:
        return [f"{lock}: NOT AUDITED: {problem}"], NOT_AUDITED
    packages = report["dependencies"]
    vulnerable = [each for each in packages if each.get("vulns")]
    unknown = {_name(each["name"]): each["skip_reason"] for each in packages if "skip_reason" in each}
    unknown |= dict.fromkeys(locked - {_name(each["name"]) for each in packages}, "not in the report")
    looked_up = len(locked - unknown.keys())
    lines = [f"{lock}: {len(locked)} packages, {looked_up} looked up, {len(vulnerable)} vulnerable"]
    for each in vulnerable:
        for found in each["vulns"]:
            fixed = ", ".join(found["fix_versions"]) or "none"
            lines.append(f"  VULNERABLE {each['name']} {each['version']}: {found['id']}, fixed in {fixed}")
    lines += [f"  NOT AUDITED {name}: {reason}" for name, reason in sorted(unknown.items())]
    if not locked:
        lines.append("  NOT AUDITED: it names no package")
    return lines, VULNERABLE if vulnerable else NOT_AUDITED if unknown or not locked else 0


def judge_npm(lock: str, locked: int, report: dict[str, Any]) -> tuple[list[str], int]:
    """What to print about a lock of npm, which has `locked` packages, and the exit code."""
    if "vulnerabilities" not in report:
        return [f"{lock}: NOT AUDITED: {report.get('message', 'npm gave no report')}"], NOT_AUDITED
    vulnerable: dict[str, Any] = report["vulnerabilities"]
    looked_up = report["metadata"]["dependencies"]["total"]
    lines = [f"{lock}: {locked} packages, {looked_up} looked up, {len(vulnerable)} vulnerable"]
    lines += [f"  VULNERABLE {name} {found['range']}" for name, found in vulnerable.items()]
    missed = locked - looked_up
    if missed > 0 or not locked:
        lines.append(f"  NOT AUDITED: {missed} of {locked} packages")
    return lines, VULNERABLE if vulnerable else NOT_AUDITED if missed > 0 or not locked else 0


def _audit(lock: str) -> tuple[list[str], int]:
    text = (REPOSITORY / lock).read_text()
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "requirements.txt"
        whole.write_text(without_markers(text))
        return judge(lock, locked_names(text), *_look_up(whole))


def _audit_npm(lock: str) -> tuple[list[str], int]:
    packages = json.loads((REPOSITORY / lock).read_text())["packages"]
    return judge_npm(lock, len(packages.keys() - {""}), _look_up_npm(lock))


def _look_up_npm(lock: str) -> dict[str, Any]:
    wheel = node_wheel()
    npm = wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    done = subprocess.run(
        [wheel / "bin" / "node", npm, "audit", "--json", "--package-lock-only"],
        cwd=(REPOSITORY / lock).parent,
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
