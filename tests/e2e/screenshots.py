"""Take the pictures in docs/images, on a stack made for it: `python -m tests.e2e.screenshots`."""

import json
import math
import random
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import FloatRect

from lms_webhooks.aws.dynamodb import Table
from lms_webhooks.model.attempts import Attempt
from lms_webhooks.model.deliveries import Delivery, Outcome
from lms_webhooks.model.events import read_event
from lms_webhooks.stores.deliveries import DeliveryStore
from local.stack import Stack, current, down, up
from tests.e2e.browser import NARROW, WIDE, Console, browser
from tests.e2e.system import Account, System, until
from tests.fakes.receiver import Receiver, answer
from tools.progress import REPOSITORY, STATE_DIR, step

IMAGES = REPOSITORY / "docs" / "images"
MAX_BYTES = 100_000
MAX_HEIGHT = 1500
ACCOUNT_ID = "1010"
HOURS = 24
_CHANCE = random.Random(7)  # the same pictures each time, but for the hour


def take(system: System) -> None:
    """Every screen, in both themes and both widths."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    account = Account(system, ACCOUNT_ID, system.stack.id_token(ACCOUNT_ID))
    account.delete_all()
    with ExitStack() as stack:
        good = stack.enter_context(Receiver(answer(204)))
        bad = stack.enter_context(Receiver(answer(503)))
        with step("making webhooks and their history"):
            webhook_id, failing_id = _furnish(account, good, bad)
        chromium = stack.enter_context(browser())
        stack.callback(account.delete_all)
        for theme in ("light", "dark"):
            for width, viewport in (("wide", WIDE), ("narrow", NARROW)):
                with step(f"pictures: {theme}, {width}"):
                    console = Console(system, chromium, viewport=viewport, color_scheme=theme)
                    _visit(console, webhook_id, failing_id, f"{theme}-{width}")
                    console.close()
        with step("picture: hours of a 12-hour clock"):
            console = Console(system, chromium, locale="en-US", timezone_id="America/New_York")
            _sign_in(console)
            console.open(f"#/webhooks/{webhook_id}")
            page = console.page
            page.locator(".history tbody tr").nth(5).wait_for()
            page.locator(".chart rect").nth(9).wait_for()
            page.get_by_role("slider").first.focus()
            for _ in range(9):
                page.keyboard.press("ArrowLeft")
            _shoot(console, "webhook-12-hour", keeps_focus=True)
            console.close()


def _visit(console: Console, webhook_id: str, failing_id: str, suffix: str) -> None:
    page = console.page
    page.goto(console.url)
    console.settled()
    _shoot(console, f"sign-in-{suffix}")
    _sign_in(console)
    page.locator(".spark").nth(3).wait_for()
    _shoot(console, f"webhooks-{suffix}")
    console.open("#/new")
    page.get_by_label("Name", exact=False).first.fill("Certificates to payroll")
    page.get_by_label("Find events").fill("completed")
    page.get_by_role("checkbox", name="Learner completes a course").first.check()
    _shoot(console, f"form-{suffix}")
    page.get_by_role("link", name="Cancel").click()
    page.get_by_role("button", name="Discard changes").click()
    console.open(f"#/webhooks/{webhook_id}")
    page.locator(".history tbody tr").nth(5).wait_for()
    page.locator(".chart rect").nth(9).wait_for()
    _shoot(console, f"webhook-{suffix}")
    page.locator(".history tbody a").first.click()
    page.locator("pre").wait_for()
    _shoot(console, f"delivery-{suffix}")
    console.open(f"#/webhooks/{failing_id}")
    page.get_by_role("button", name="Send test").click()
    page.locator(".result .bad").wait_for()
    page.locator(".chart rect").nth(9).wait_for()
    _shoot(console, f"failing-{suffix}")
    console.open("#/event-types")
    page.get_by_label("Find events").fill("course")
    page.get_by_text("COURSE_COMPLETED", exact=True).click()
    page.locator("pre").last.wait_for()
    _shoot(console, f"event-types-{suffix}")
    console.open("#/activity")
    page.locator("tbody tr").nth(1).wait_for()
    _shoot(console, f"activity-{suffix}")
    console.open("#/notices")
    page.locator("tbody tr").nth(1).wait_for()
    _shoot(console, f"notices-{suffix}")


def _sign_in(console: Console) -> None:
    console.page.goto(console.url)
    console.page.get_by_role("button", name="Sign in").click()
    (admin,) = [
        each for each in console.system.stack.description["admins"] if each["accountId"] == ACCOUNT_ID
    ]
    console.enter(admin["username"], admin["password"])


def _shoot(console: Console, name: str, *, keeps_focus: bool = False) -> None:
    target = IMAGES / f"{name}.png"
    page = console.page
    if not keeps_focus:
        page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    size = page.viewport_size
    assert size is not None
    height = max(size["height"], page.evaluate("document.documentElement.scrollHeight"))
    clip: FloatRect = {"x": 0, "y": 0, "width": size["width"], "height": min(height, MAX_HEIGHT)}
    picture = page.screenshot(full_page=True, clip=clip, animations="disabled", caret="hide")
    _with_few_colours(Image.open(BytesIO(picture)).convert("RGB")).save(target, optimize=True)
    assert target.stat().st_size < MAX_BYTES, f"{name}.png has {target.stat().st_size} bytes"


def _with_few_colours(picture: Image.Image) -> Image.Image:
    """The same in 256 colours, for half the size: of areas all stay, at the edges of letters the next best.

    Pillow's own way with a palette moves the colours of areas as well.
    """
    data = picture.tobytes()
    pixels = [data[at : at + 3] for at in range(0, len(data), 3)]
    by_count = [colour for colour, _ in Counter(pixels).most_common()]
    kept = by_count[:160]
    # A small area of a colour that nothing else has, such as the dot of a legend.
    for colour in by_count[160:]:
        if len(kept) < 256 and min(math.dist(each, colour) for each in kept) > 24:
            kept.append(colour)
    index = {
        colour: min(range(len(kept)), key=lambda place: math.dist(kept[place], colour)) for colour in by_count
    }
    reduced = Image.frombytes("P", picture.size, bytes(index[colour] for colour in pixels))
    reduced.putpalette(b"".join(kept))
    return reduced


def _furnish(account: Account, good: Receiver, bad: Receiver) -> tuple[str, str]:
    """Make four webhooks, each with another status; return the ids of a good one and of one that fails."""
    busy = account.create(
        good.url("/lms"),
        name="Enrollments to HR",
        description="The HR system mirrors who is enrolled in what",
        authentication={"type": "signature"},
        events=["COURSE_ENROLLMENT", "COURSE_COMPLETED", "COURSE_UNENROLLMENT", "LEARNER_PROGRESS"],
        headers={"x-team": "hr"},
    )
    failing = account.create(
        bad.url("/events"),
        name="Completions to the data warehouse",
        authentication={"type": "basic", "username": "lms", "password": "correct horse"},
        events=["COURSE_COMPLETED", "CERTIFICATION_COMPLETED", "LEARNING_PATH_COMPLETED"],
    )
    paused = account.create(
        good.url("/chat"),
        name="Seats to the team chat",
        events=["CI_STATS"],
        status="paused",
    )
    account.create(good.url("/crm"), name="Old CRM", events=["CERTIFICATION_COMPLETED"], status="inactive")
    for email in ("integration-team@example.com", "ada@example.com"):
        account.call("POST", "/v1/notice-subscriptions", {"email": email})
    _write_history(account, busy["webhookId"], 60, failed=0.02)
    _write_history(account, failing["webhookId"], 22, failed=0.1)
    _write_history(account, paused["webhookId"], 8, failed=0)
    for _ in range(7):
        account.emit("COURSE_COMPLETED")
        account.emit("CI_STATS")
    until(
        lambda: (
            _of(account, failing["webhookId"])["health"].get("failingSince")
            and _of(account, paused["webhookId"])["pending"]["count"] == 7
        ),
        "one to fail and one to wait",
    )
    return busy["webhookId"], failing["webhookId"]


def _of(account: Account, webhook_id: str) -> dict[str, Any]:
    shown: dict[str, Any] = account.call("GET", f"/v1/webhooks/{webhook_id}").body
    return shown


def _write_history(account: Account, webhook_id: str, most: int, *, failed: float) -> None:
    """A day of deliveries, by the code that writes them: nobody wants to wait for a day."""
    system = account.system
    table = Table(system.client("dynamodb"), system.stack.description["tables"]["deliveries"])
    store = DeliveryStore(table, retention_days=30)
    now = time.time()
    deliveries = []
    for hour in range(HOURS):
        # A working day: little at night, most around noon.
        clock = time.localtime(now - (HOURS - hour) * 3600).tm_hour
        count = round(most * max(0.06, math.sin((clock - 5) / 16 * math.pi)) * _CHANCE.uniform(0.8, 1.1))
        for _ in range(count):
            at_ms = round((now - (HOURS - hour - _CHANCE.random()) * 3600) * 1000)
            names = ("COURSE_ENROLLMENT", "COURSE_COMPLETED", "COURSE_UNENROLLMENT")
            event = account.event(_CHANCE.choice(names), timestamp=at_ms)
            has_failed = _CHANCE.random() < failed
            latency_ms = round(_CHANCE.lognormvariate(4.2, 0.35))
            attempt = Attempt(at_ms + 40, latency_ms, 422 if has_failed else 204, None)
            reason = "rejected 8 times, at last with HTTP 422" if has_failed else ""
            outcome = Outcome.FAILED if has_failed else Outcome.DELIVERED
            deliveries.append(Delivery(webhook_id, _read(system, event, at_ms), outcome, (attempt,), reason))
    unwritten = store.record(deliveries, recorded_at_seconds=int(now))
    assert not unwritten


def _read(system: System, event: dict[str, Any], at_ms: int) -> Any:
    message = system.envelope(json.dumps(event), detail_type=event["eventName"])
    source = system.stack.description["eventSource"]
    return read_event(message, source=source, accepted_at_ms=at_ms + 20)


def main() -> None:
    """On the stack that is up, or on one of its own."""
    running: Stack | None = current(STATE_DIR)
    if running is not None:
        take(System(running))
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            take(System(up(Path(folder))))
        finally:
            down(Path(folder))


if __name__ == "__main__":
    main()
