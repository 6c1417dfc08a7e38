"""Call the deployed API as its description allows, and as it does not, with every check of schemathesis.

Prints how often each operation was called and how it answered. Ends with 0 only when every answer was as
described, and each operation was done at least 20 times in at least 2,000 calls.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from local.openapi import COMMITTED, describe
from local.stack import down, up
from local.steps import REPOSITORY
from tests.e2e.system import Account, System
from tests.fakes.receiver import Receiver

ACCOUNTS = 60  # with ten test sends a minute each
EVENTS = 5
MIN_CALLS = 2_000
MIN_DONE = 20
CONFIG = Path(__file__).with_name("schemathesis.toml")


def main() -> int:
    """Fuzz a stack of its own, and say how it went."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)))
    parser.add_argument("--seconds", type=int, default=420)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as directory, Receiver() as receiver:
        state_dir = Path(directory)
        try:
            system = System(up(state_dir))
            pool = state_dir / "pool.json"
            pool.write_text(json.dumps([_prepare(system.new_account(), receiver) for _ in range(ACCOUNTS)]))
            exit_code = _run(system, pool, arguments.seed, arguments.seconds, state_dir)
            calls = _calls(next(state_dir.glob("ndjson*")))
        finally:
            down(state_dir)
    is_enough = _print(calls)
    print(f"seed {arguments.seed}; schemathesis ended with {exit_code}")
    return exit_code or not is_enough


def _prepare(account: Account, receiver: Receiver) -> dict[str, Any]:
    """An account with a webhook that has a history."""
    signed = account.create(
        receiver.url(), events=["COURSE_UNENROLLMENT"], authentication={"type": "signature"}
    )
    created = account.create(receiver.url())
    for _ in range(EVENTS):
        account.emit()
    account.system.wait_for_history(created["webhookId"], EVENTS)
    listed = account.call("GET", f"/v1/webhooks/{created['webhookId']}/deliveries").body["deliveries"]
    return {
        "token": account.token,
        "webhookId": created["webhookId"],
        "signedWebhookId": signed["webhookId"],
        "deliveryIds": [delivery["deliveryId"] for delivery in listed],
    }


def _run(system: System, pool: Path, seed: int, seconds: int, report_dir: Path) -> int:
    command = [
        *("schemathesis", "--config-file", str(CONFIG), "run", str(COMMITTED)),
        *("--url", system.stack.api_url, "--seed", str(seed), "--max-time", str(seconds)),
        *("--max-examples", "100", "--continue-on-failure", "--no-color"),
        *("--report", "ndjson", "--report-dir", str(report_dir), "--generation-database", "none"),
    ]
    environment = os.environ | {"SCHEMATHESIS_HOOKS": "tests.fuzz.pool", "FUZZ_POOL": str(pool)}
    return subprocess.run(command, env=environment, cwd=REPOSITORY, check=False).returncode


def _calls(report: Path) -> Counter[tuple[str, str, int]]:
    calls: Counter[tuple[str, str, int]] = Counter()
    for line in report.read_text().splitlines():
        recorder = json.loads(line).get("ScenarioFinished", {}).get("recorder") or {}
        for case_id, interaction in recorder.get("interactions", {}).items():
            response = interaction["response"]
            if response is not None and case_id in recorder["cases"]:
                case = recorder["cases"][case_id]["value"]
                calls[case["method"], case["path"], response["status_code"]] += 1
    return calls


def _print(calls: Counter[tuple[str, str, int]]) -> bool:
    """Print the table; answer whether there is enough in it."""
    is_enough = calls.total() >= MIN_CALLS
    for path, methods in describe()["paths"].items():
        for method in methods:
            statuses = {
                status: number
                for (called, of, status), number in sorted(calls.items())
                if (called, of) == (method.upper(), path)
            }
            done = sum(number for status, number in statuses.items() if 200 <= status < 300)
            is_enough &= done >= MIN_DONE
            others = "  ".join(f"{status}: {number}" for status, number in statuses.items() if status >= 300)
            print(f"{method.upper():7}{path:66}{done:5} done  {others}")
    print(f"{calls.total()} calls, {len(describe()['paths'])} paths")
    return is_enough


if __name__ == "__main__":
    sys.exit(main())
