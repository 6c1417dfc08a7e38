"""Measure how soon the console shows an admin's webhooks, against its own page without any script.

    make bench ONLY=console      on a stack of its own, with a Chromium, some minutes

Each round opens the page once without scripts, which is the floor: what the browser and the stack take for
one small page. Then it opens the console of an admin who comes back: signed in, and the function warm. Prints
the medians, and ✓ or ✗ for the goal; the exit status says whether it is reached.
"""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from playwright.sync_api import Page

from local.stack import down, up
from tests.e2e.browser import Console, browser
from tests.e2e.system import System

FIRST_USEFUL_PAINT_MS = 1000
_WEBHOOKS = 5  # as many as an account may have
_ROUNDS = 9


def measure() -> bool:
    """Open the console some times, on a stack of its own. Return whether the goal is reached."""
    with tempfile.TemporaryDirectory(prefix="console-") as directory:
        try:
            return _measure(System(up(Path(directory))))
        finally:
            down(Path(directory))


def _measure(system: System) -> bool:
    account = system.new_account()
    for number in range(_WEBHOOKS):
        account.create(f"https://hooks.example.com/{number}")
    with browser() as chromium:
        floor = Console(system, chromium, java_script_enabled=False)
        console = Console(system, chromium)
        console.context.add_init_script(f"sessionStorage.setItem('token', {json.dumps(account.token)})")
        summary = console.page.locator("main[aria-busy=false] .summary").first
        found: dict[str, list[float]] = {"floor": [], "ours": []}
        for _ in range(_ROUNDS + 1):
            found["floor"].append(_milliseconds(floor.page, floor.url, lambda: None))
            found["ours"].append(_milliseconds(console.page, console.url, summary.wait_for))
        floor.close()
        console.close()
    ours, floor_ms = median(found["ours"][1:]), median(found["floor"][1:])  # the first warms up
    is_reached = ours <= FIRST_USEFUL_PAINT_MS
    print(f"  the page without scripts          {floor_ms:7.0f} ms")
    print(f"  {_WEBHOOKS} webhooks are listed            {ours:7.0f} ms   {ours / floor_ms:.1f} x")
    print(f"{'✓' if is_reached else '✗'} at most {FIRST_USEFUL_PAINT_MS} ms")
    return is_reached


def _milliseconds(page: Page, url: str, wait: Callable[[], None]) -> float:
    page.goto("about:blank")
    started = time.perf_counter()
    page.goto(url)
    wait()
    return (time.perf_counter() - started) * 1000
