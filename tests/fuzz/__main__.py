"""Call the deployed API as its description allows, and as it does not, with every check of schemathesis.

Prints how often each operation was called and how it responded. Ends with 0 only when every response was as
described, and each operation was done at least 20 times in at least 2,000 cases.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from local.stack import down, up
from tests.e2e.system import Account, System, until
from tests.fakes.receiver import Receiver, answer
from tools.openapi import COMMITTED, describe
from tools.progress import REPOSITORY

ACCOUNTS = 60  # of which each may have the system send ten times a minute
EVENTS = 5
MIN_CASES = 2_000
MIN_DONE = 20
ROUND_SECONDS = 60
MAX_ROUNDS = 10
"""For what was done too seldom: what is slow, what deletes or stops, and anything on a slow machine."""
CONFIG = Path(__file__).with_name("schemathesis.toml")


def main() -> int:
    """Fuzz a stack of its own, and say how it went."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)))
    parser.add_argument("--seconds", type=int, default=420)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as directory, Receiver() as receiver:
        state_dir = Path(directory)
        receiver.script = lambda request: answer(503 if request.path == "/fails" else 204)
        try:
            system = System(up(state_dir))
            pool = state_dir / "pool.json"
            pool.write_text(json.dumps([_prepare(system.new_account(), receiver) for _ in range(ACCOUNTS)]))
            exit_codes = [_run(system, pool, arguments.seed, arguments.seconds, state_dir / "0.ndjson")]
            cases = list(read_cases(state_dir / "0.ndjson"))
            for round_ in range(1, MAX_ROUNDS + 1):
                if not (seldom := done_too_seldom(cases)):
                    break
                print(f"once more, for {', '.join(seldom)}", flush=True)
                report = state_dir / f"{round_}.ndjson"
                exit_codes.append(_run(system, pool, arguments.seed + round_, ROUND_SECONDS, report, seldom))
                cases += read_cases(report)
        finally:
            down(state_dir)
    is_enough = print_table(cases)
    print(f"seed {arguments.seed}; schemathesis ended with {' and '.join(map(str, exit_codes))}")
    return int(any(exit_codes) or not is_enough)


def _prepare(account: Account, receiver: Receiver) -> dict[str, Any]:
    """An account with a webhook that has a history, one in the middle of a replay, one whose endpoint fails,
    and one to spare."""
    active, paused, failing, spare = (
        account.create(receiver.url(path), status=status, authentication={"type": authentication})[
            "webhookId"
        ]
        for path, status, authentication in (
            ("/", "active", "signature"),
            ("/", "paused", "signature"),
            ("/fails", "active", "none"),
            ("/", "active", "none"),
        )
    )
    for _ in range(EVENTS):
        account.emit()
    account.system.wait_for_history(active, EVENTS)
    until(
        lambda: "failingSince" in account.call("GET", f"/v1/webhooks/{failing}").body["health"], "a failure"
    )
    subscribed = account.call("POST", "/v1/notice-subscriptions", {"email": "team@example.com"})
    started = account.call("POST", f"/v1/webhooks/{paused}/replay", {"from": "2026-01-01T00:00:00Z"})
    assert started.status == 202, started
    listed = account.call("GET", f"/v1/webhooks/{active}/deliveries").body["deliveries"]
    return {
        "token": account.token,
        "active": active,
        "paused": paused,
        "failing": failing,
        "spare": spare,
        "subscription": subscribed.body["subscriptionId"],
        "deliveryIds": [delivery["deliveryId"] for delivery in listed],
    }


def _run(system: System, pool: Path, seed: int, seconds: int, report: Path, only: Sequence[str] = ()) -> int:
    """Let schemathesis call every operation in every way, or `only` some, which have few links to follow."""
    command = [
        *("schemathesis", "--config-file", str(CONFIG), "run", str(COMMITTED)),
        *("--url", system.stack.api_url, "--seed", str(seed), "--max-time", str(seconds)),
        *("--max-examples", "100", "--continue-on-failure", "--no-color"),
        *("--report", "ndjson", "--report-ndjson-path", str(report)),
        *("--generation-database", "none"),
        *(argument for each in only for argument in ("--include-operation-id", each)),
        *(("--phases", "fuzzing") if only else ()),
    ]
    environment = os.environ | {"SCHEMATHESIS_HOOKS": "tests.fuzz.pool", "FUZZ_POOL": str(pool)}
    return subprocess.run(command, env=environment, cwd=REPOSITORY, check=False).returncode


class Case(NamedTuple):
    """One request and its checked response."""

    method: str
    path: str
    phase: str
    status: int


def read_cases(report: Path) -> Iterator[Case]:
    for line in report.read_text().splitlines():
        recorder = json.loads(line).get("ScenarioFinished", {}).get("recorder") or {}
        for case_id, interaction in recorder.get("interactions", {}).items():
            response = interaction["response"]
            # What a check calls for itself is no case, and is not judged by the others.
            if response is not None and recorder["checks"].get(case_id):
                case = recorder["cases"][case_id]["value"]
                phase = case["meta"]["phase"]["name"]
                yield Case(case["method"], case["path"], phase, response["status_code"])


def done_too_seldom(cases: list[Case]) -> list[str]:
    """The ids of the operations that were not done often enough."""
    done = Counter((case.method, case.path) for case in cases if 200 <= case.status < 300)
    return [
        operation["operationId"]
        for path, methods in describe()["paths"].items()
        for method, operation in methods.items()
        if done[method.upper(), path] < MIN_DONE
    ]


def print_table(cases: list[Case]) -> bool:
    """Print the table; return whether there is enough in it, and no 5xx."""
    operations = [
        (method.upper(), path) for path, methods in describe()["paths"].items() for method in methods
    ]
    for method, path in operations:
        statuses = Counter(case.status for case in cases if (case.method, case.path) == (method, path))
        done = sum(number for status, number in statuses.items() if 200 <= status < 300)
        others = "  ".join(
            f"{status}: {number}" for status, number in sorted(statuses.items()) if status >= 300
        )
        print(f"{method:7}{path:66}{statuses.total():5} cases {done:5} done  {others}")
    elsewhere = sum((case.method, case.path) not in operations for case in cases)
    print(f"{'methods that a path does not have':73}{elsewhere:5} cases")
    phases = ", ".join(f"{number} {phase}" for phase, number in Counter(case.phase for case in cases).items())
    broken = sum(case.status >= 500 for case in cases)
    print(f"{len(cases)} cases ({phases}) of {len(operations)} operations, {broken} answered with 5xx")
    return len(cases) >= MIN_CASES and not done_too_seldom(cases) and not broken


if __name__ == "__main__":
    sys.exit(main())
