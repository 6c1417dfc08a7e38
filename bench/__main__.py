"""Measure what the delivery path costs, against the floor and against what others write.

    make bench                    all of it
    make bench ONLY=delivery,cold
    make bench BASELINE=1         write bench/baseline.json, which later runs are compared with
    make bench ONLY=backlog,admin EVENTS=5000   scenarios on the local stack: a failing endpoint, replays
    make bench ONLY=console                     how soon the console lists webhooks, in a Chromium
    make bench ONLY=tenancy CALLS=50            whether the time of a response tells accounts apart

Prints a table for each row, with ✓ or ✗ where there is a goal. Prints what got worse than the baseline by
more than noise. Writes everything to .local/bench.json. The exit status is 1 when a goal is missed, or when a
figure is worse than the baseline of this machine in two measurements. A baseline of another machine only
gives notes. docs/performance.md explains the figures.
"""

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from bench import (
    admin,
    backlog,
    clients,
    cold,
    console,
    cost,
    delivery,
    drain,
    end_to_end,
    growth,
    latency,
    lazyhooks,
    noisy_neighbor,
    scale,
    scenario,
    sending,
    simulation,
    tenancy,
)
from bench.results import Row, as_json, judge, merged, table, this_machine
from tools.progress import REPOSITORY, STATE_DIR, step

ROWS: dict[str, tuple[str, Callable[[], Row]]] = {
    "delivery": ("deliveries of the dispatcher", delivery.measure),
    "lazyhooks": ("deliveries of the dispatcher, against lazyhooks", lazyhooks.measure),
    "sending": ("a POST over new TLS, and servers that stall", sending.measure),
    "clients": ("a POST by other HTTP clients", clients.measure),
    "cold": ("cold start of each function", cold.measure),
    "cost": ("calls, units and dollars of each way of an event", cost.measure),
    "drain": ("a backlog of 20,000 events", drain.measure),
    "latency": ("a backlog, and direct mode, at 50 ms an answer", latency.measure),
    "noisy_neighbor": ("endpoints that hang beside others", noisy_neighbor.measure),
    "end_to_end": ("from PutEvents to the acknowledged POST, on the local stack", end_to_end.measure),
    "growth": ("which term grows, and how", growth.measure),
    "simulation": ("the deployed system, simulated", simulation.measure),
    "scale": ("many at once: the real code, in fake time", scale.measure),
}
SCENARIOS = {**backlog.SCENARIOS, **admin.SCENARIOS}
GROUPS = {"backlog": backlog.SCENARIOS, "admin": admin.SCENARIOS}
TENANCY = "tenancy"
CONSOLE = "console"
BASELINE = Path(__file__).parent / "baseline.json"
RESULTS = STATE_DIR / "bench.json"


def main() -> int:
    """Run what the command line picks; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(ROWS), help="rows or scenarios, separated by commas")
    parser.add_argument("--baseline", action="store_true", help="write the baseline instead of comparing")
    parser.add_argument("--events", type=int, default=20_000, help="of the largest scenario")
    parser.add_argument("--calls", type=int, default=200, help=f"of each kind, in {TENANCY}")
    arguments = parser.parse_args()
    names = [name for each in arguments.only.split(",") for name in GROUPS.get(each, (each,))]
    if unknown := [name for name in names if name not in {*ROWS, *SCENARIOS, TENANCY, CONSOLE}]:
        known = ", ".join((*ROWS, *GROUPS, *SCENARIOS, TENANCY, CONSOLE))
        parser.error(f"nothing is named {', '.join(unknown)}; there are {known}")
    holds = True
    if picked := {name: SCENARIOS[name] for name in names if name in SCENARIOS}:
        holds &= scenario.run(picked, events=arguments.events)
    if TENANCY in names:
        holds &= tenancy.measure(calls=arguments.calls)
    if CONSOLE in names:
        holds &= console.measure()
    is_good = _measure_rows([name for name in names if name in ROWS], baseline=arguments.baseline)
    return 0 if holds and is_good else 1


def _measure_rows(names: list[str], *, baseline: bool) -> bool:
    """Measure `names`; return whether each reached its goals and is no worse than the baseline."""
    if not names:
        return True
    # The tools bring a signer in C with them, which is not deployed. For the processes that measure.
    os.environ["BOTO_DISABLE_CRT"] = "true"
    rows: dict[str, Row] = {}
    print(f"load of this machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors\n", flush=True)
    for name in names:
        rows[name] = _measure(name)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(_text(as_json(rows)))
    print(f"written to {RESULTS.relative_to(REPOSITORY)}")
    known = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    machine = this_machine()
    if baseline:
        BASELINE.write_text(_text(merged(known, rows, machine=machine)))
        print(f"written to {BASELINE.relative_to(REPOSITORY)}")
        known = {}
    verdict = judge(rows, known, machine=machine, measure_again=partial(_measure, again=True))
    for each in verdict.notes:
        print(f"  note: {each}")
    for each in verdict.missed:
        print(f"✗ goal missed: {each}")
    for each in verdict.slower:
        print(f"✗ worse than the baseline, twice: {each}")
    return verdict.is_good


def _measure(name: str, *, again: bool = False) -> Row:
    title, measure = ROWS[name]
    # A process of its own, which knows nothing of the rows before.
    with (
        step(f"{title}, again" if again else title),
        ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as processes,
    ):
        row = processes.submit(measure).result()
    print(table(row.figures), *row.notes, "", sep="\n", flush=True)
    return row


def _text(found: object) -> str:
    return json.dumps(found, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.exit(main())
