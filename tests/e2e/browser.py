"""A real Chromium, and the console in it as an admin uses it."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from tests.e2e.system import ADMIN, PASSWORD, System
from tests.fakes.receiver import Receiver
from tests.patience import PATIENCE_SECONDS

WIDE = {"width": 1280, "height": 860}
NARROW = {"width": 360, "height": 740}  # the smallest phones that are still about

_PATIENCE_MS = PATIENCE_SECONDS * 1000

expect.set_options(timeout=_PATIENCE_MS)

_INSTALL = "apt-get update && apt-get install --yes --no-install-recommends chromium"
_FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-lcd-text", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


def chromium() -> str:
    """Where Chromium is: `$CHROMIUM`, or where Debian has it, installed if we may."""
    usual = Path("/usr/bin/chromium")
    if named := os.environ.get("CHROMIUM"):
        return named
    if not usual.exists() and os.geteuid() == 0:
        subprocess.run(["sh", "-c", _INSTALL], check=False, stdout=subprocess.DEVNULL)
    assert usual.exists(), f"no Chromium: set CHROMIUM to one, or run as root: {_INSTALL}"
    return str(usual)


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser without a window."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium(), headless=True, args=list(_FLAGS))
        try:
            yield started
        finally:
            started.close()


class Console:
    """The console of one stack in one tab. What goes wrong in the page is kept."""

    def __init__(self, system: System, browser: Browser, **context: Any) -> None:
        self.system = system
        self.url = str(system.stack.description["consoleUrl"])
        self.context = browser.new_context(**{"viewport": WIDE, "locale": "en-GB", **context})
        self.context.set_default_timeout(_PATIENCE_MS)
        self.page: Page = self.context.new_page()
        self.faults: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on(
            "console", lambda message: self.faults.append(message.text) if _is_fault(message) else None
        )

    def close(self) -> None:
        self.context.close()

    def open(self, hash_: str = "") -> None:
        """Go to a screen; the tab stays signed in."""
        self.page.goto(self.url + hash_)
        self.settled()

    def settled(self) -> None:
        """Wait until the screen is drawn."""
        self.page.locator("main[aria-busy=false] h1").first.wait_for()

    def sign_in(self, account_id: str, group: str | None = ADMIN) -> str:
        """Through the pages of the sign-in, as a new user of an account; returns the user's name."""
        user = self.system.new_user(account_id, group)
        self.page.goto(self.url)
        self.page.get_by_role("button", name="Sign in").click()
        self.enter(user)
        return user

    def enter(self, user: str, password: str = PASSWORD) -> None:
        """Fill in Cognito's own page."""
        self.page.get_by_label("Username").fill(user)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.get_by_role("button", name="Sign out").wait_for()
        self.settled()


def _is_fault(message: Any) -> bool:
    # Chromium reports each answer of 4xx too; which of them there are is for each test to know.
    return message.type == "error" and "Failed to load resource" not in message.text


def press(where: Page | Locator, name: str) -> None:
    where.get_by_role("button", name=name, exact=True).click()


def said(page: Page, text: str | re.Pattern[str]) -> None:
    """Somebody who sees nothing hears it."""
    expect(page.locator("#said")).to_contain_text(text)


def error_of(control: Locator) -> Locator:
    """The text beside a field, that belongs to it also for who does not see it."""
    expect(control).to_have_attribute("aria-invalid", "true")
    described = (control.get_attribute("aria-describedby") or "").split()
    return control.page.locator(f"#{described[-1]}")


def fill_in(page: Page, receiver: Receiver, **more: str) -> None:
    """A form that can be saved, without authentication."""
    page.get_by_label("Name *", exact=True).fill(more.get("name", "Enrollments to HR"))
    page.get_by_label("Target URL").fill(receiver.url("/hooks"))
    page.get_by_label("Authentication").select_option(more.get("authentication", "none"))
    page.get_by_role("checkbox", name="COURSE_ENROLLMENT", exact=False).first.check()
