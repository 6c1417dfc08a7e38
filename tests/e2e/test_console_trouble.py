"""The console when something is in the way: no connection, changes not saved, an endpoint that fails."""

import re
from collections.abc import Callable
from itertools import pairwise

import pytest
from playwright.sync_api import Page, Route, expect

from tests.e2e.browser import NARROW, WIDE, Console, fill_in, press, said
from tests.e2e.system import Account, System, until
from tests.fakes.receiver import Receiver, answer

AXIS = """svg => [...svg.querySelectorAll('text:not([text-anchor=end])')]
    .map(text => [text.textContent, text.getBoundingClientRect()])
    .filter(([, box]) => box.width).map(([name, box]) => [name, box.left, box.right])"""
"""The names of hours that are shown, each with its left and right edge."""

KEEP_CALLS = """() => {
    window.calls = [];
    const real = window.fetch;
    window.fetch = (url, options) => (calls.push(options.method), real(url, options));
}"""
"""Keep the method of each call, at the moment that the page makes it."""

READ_AGAIN = "dispatchEvent(new Event('online'))"
"""Run every poll of the screen, and make its calls before this returns."""

COUNT_TIMERS = """
    window.timers = new Set();
    const [set, clear] = [window.setInterval, window.clearInterval];
    window.setInterval = (...given) => (timers.add(set(...given)), [...timers].at(-1));
    window.clearInterval = (id) => (timers.delete(id), clear(id));
"""
"""Keep the timers that run."""


##### No connection


def test_a_screen_that_cannot_be_drawn_is_tried_again(
    console: Console, page: Page, account: Account, receiver: Receiver
) -> None:
    account.create(receiver.url("/hooks"))
    console.open("#/notices")
    calls = re.compile(r"/v1/webhooks$")
    page.route(calls, lambda route: route.fulfill(status=500, json={"detail": "An error of ours."}))
    page.get_by_role("link", name="Webhooks", exact=True).click()
    expect(page.get_by_role("heading", name="This did not work")).to_be_focused()
    expect(page.locator("main")).to_contain_text("An error of ours.")
    page.unroute(calls)
    press(page, "Try again")
    expect(page.get_by_role("heading", name="Enrollments to HR")).to_be_visible()
    console.context.set_offline(True)
    page.get_by_role("link", name="Notifications").click()
    expect(page.locator("main")).to_contain_text(
        "The API cannot be reached. This page tries again by itself."
    )
    console.context.set_offline(False)
    expect(page.get_by_text("Nobody gets mail yet.")).to_be_visible()


def test_what_is_shown_says_how_old_it_is_until_the_connection_is_back(
    console: Console, page: Page, account: Account, receiver: Receiver
) -> None:
    console.open()
    expect(page.get_by_text("0 of 5 used")).to_be_visible()
    console.context.set_offline(True)
    note = page.locator("#offline")
    expect(note.get_by_role("status")).to_have_text("Offline: the page reconnects by itself.")
    expect(note).to_contain_text(re.compile(r"Last updated [5-9] seconds ago"))
    expect(note).to_contain_text(re.compile(r"Last updated 1\d seconds ago"))
    account.create(receiver.url("/hooks"))
    console.context.set_offline(False)
    expect(page.get_by_text("1 of 5 used")).to_be_visible()
    expect(note).to_be_hidden()
    # One that somebody else deleted is not shown as if it were there.
    page.get_by_role("link", name="Enrollments to HR", exact=True).click()
    expect(page.get_by_role("heading", name="Enrollments to HR")).to_be_visible()
    account.delete_all()
    expect(page.get_by_role("heading", name="Not found")).to_be_visible()


##### What would be lost


def test_a_form_with_changes_is_not_left_by_mistake(console: Console, page: Page, receiver: Receiver) -> None:
    console.open()
    page.get_by_role("link", name="Add webhook").click()
    page.get_by_role("link", name="Notifications").click()  # nothing was typed yet
    expect(page.get_by_role("heading", name="Notifications")).to_be_visible()
    page.go_back()
    fill_in(page, receiver)
    name = page.get_by_label("Name *", exact=True)
    dialog = page.get_by_role("dialog", name="Leave this form?")
    leave: list[Callable[[], object]] = [
        lambda: page.get_by_role("link", name="Notifications").click(),
        lambda: page.get_by_role("link", name="Cancel").click(),
        page.go_back,
    ]
    for act in leave:
        act()
        press(dialog, "Cancel")
        expect(name).to_have_value("Enrollments to HR")
        expect(dialog).to_have_count(0)
    assert page.url.endswith("#/new")
    page.get_by_label("Language").select_option("it")
    expect(page.get_by_label("Nome *", exact=True)).to_have_value("Enrollments to HR")
    page.get_by_label("Lingua").select_option("en")
    expect(name).to_have_value("Enrollments to HR")
    expect(page.get_by_text("1 selected")).to_be_visible()

    with page.expect_event("dialog") as question:
        page.close(run_before_unload=True)
    assert question.value.type == "beforeunload"
    question.value.dismiss()
    page.get_by_role("link", name="Notifications").click()
    press(dialog, "Discard changes")
    expect(page.get_by_role("heading", name="Notifications")).to_be_visible()
    page.go_back()
    expect(name).to_have_value("")


def test_a_form_outlives_the_session(
    system: System, new_console: Callable[..., Console], account: Account, receiver: Receiver
) -> None:
    console = new_console()
    page = console.page
    console.sign_in(account.account_id)
    console.open("#/new")
    fill_in(page, receiver, authentication="basic")
    page.get_by_label("Password").fill("correct horse")
    page.route("**/v1/**", lambda route: route.fulfill(status=401, json={"message": "Unauthorized"}))
    press(page, "Save")
    expect(page.get_by_text("Your session has ended.")).to_be_visible()
    page.unroute("**/v1/**")
    press(page, "Sign in")
    console.enter(system.new_user(account.account_id))
    expect(page.get_by_label("Name *", exact=True)).to_have_value("Enrollments to HR")
    expect(page.get_by_label("Target URL")).to_have_value(receiver.url("/hooks"))
    expect(page.get_by_text("1 selected")).to_be_visible()
    expect(page.get_by_label("Password")).to_have_value("")
    said(page, "Your unsaved changes are here again, except passwords.")
    assert page.evaluate("sessionStorage.getItem('draft')") is None


def test_a_secret_stays_until_it_is_stored(
    console: Console, page: Page, account: Account, receiver: Receiver
) -> None:
    webhook = account.create(receiver.url("/hooks"), authentication={"type": "signature"})
    console.open()
    console.open(f"#/webhooks/{webhook['webhookId']}")
    press(page, "New secret")
    press(page.get_by_role("dialog"), "Generate")
    dialog = page.get_by_role("dialog", name="Signing secret")
    secret = dialog.get_by_label("Signing secret")
    expect(secret).to_be_visible()
    shown = secret.input_value()
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.go_back()
    press(dialog, "Done")
    expect(dialog.get_by_role("alert")).to_contain_text("It is shown only now.")
    expect(secret).to_have_value(shown)
    console.context.grant_permissions(["clipboard-read", "clipboard-write"])
    press(dialog, "Copy")
    assert page.evaluate("navigator.clipboard.readText()") == shown
    press(dialog, "Done")
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("heading", name="Enrollments to HR")).to_be_visible()


##### What was said wrongly, or too long


def test_what_one_screen_said_does_not_stay_for_the_next(
    console: Console, page: Page, account: Account, receiver: Receiver
) -> None:
    webhook = account.create(receiver.url("/hooks"))
    statuses: list[tuple[int, str]] = []
    page.on("response", lambda response: statuses.append((response.status, response.url)))
    console.open(f"#/webhooks/{webhook['webhookId']}")
    badge = page.locator(".head .badge").first
    expect(badge).to_have_text("No deliveries yet")
    press(page, "Pause")
    said(page, "is paused")
    page.get_by_role("link", name="Notifications").click()
    expect(page.get_by_role("heading", name="Notifications")).to_be_visible()
    expect(page.locator("#said")).to_be_empty()
    page.go_back()
    press(page, "Delete")
    press(page.get_by_role("dialog"), "Delete")
    said(page, "is deleted")
    expect(page.get_by_text("0 of 5 used")).to_be_visible()
    said(page, "is deleted")
    assert [each for each in statuses if each[0] == 404] == []


def test_nothing_is_read_beside_a_write(
    console: Console, page: Page, account: Account, receiver: Receiver
) -> None:
    """What is read before a change would be shown after it, and what is deleted would be asked for."""
    webhook = account.create(receiver.url("/hooks"))
    console.open(f"#/webhooks/{webhook['webhookId']}")
    expect(page.locator(".head .badge").first).to_have_text("No deliveries yet")
    page.evaluate(KEEP_CALLS)
    beside: list[list[str]] = []

    def while_it_runs(route: Route, act: str) -> None:
        """Act when the system has done what was asked, and before the page hears of it."""
        done = route.fetch()
        beside.append(page.evaluate(f"(() => {{ calls.length = 0; {act}; return [...calls]; }})()"))
        route.fulfill(response=done)

    its_path = re.compile(rf"/v1/webhooks/{webhook['webhookId']}$")
    pause = "[...document.querySelectorAll('button')].find(each => each.textContent === 'Pause').click()"
    page.route(its_path, lambda route: while_it_runs(route, pause), times=1)
    page.evaluate(READ_AGAIN)
    said(page, "is paused")
    expect(page.locator(".head .badge").first).to_have_text("Paused")
    press(page, "Delete")
    page.route(its_path, lambda route: while_it_runs(route, READ_AGAIN), times=1)
    press(page.get_by_role("dialog"), "Delete")
    said(page, "is deleted")
    assert beside == [[], []]


def test_a_screen_that_was_left_before_it_was_drawn_reads_no_more(
    console: Console, page: Page, account: Account, receiver: Receiver
) -> None:
    account.create(receiver.url("/hooks"))
    console.context.add_init_script(COUNT_TIMERS)
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route(re.compile("/v1/webhooks$"), hold, times=1)
    page.goto(console.url)
    until(lambda: page.evaluate("1") and held, "the call of the list")
    page.get_by_role("link", name="Event types").click()
    expect(page.get_by_role("heading", name="Event types")).to_be_visible()
    with page.expect_response(re.compile("/stats")):
        held[0].continue_()
    assert page.evaluate("timers.size") == 1  # that of the screen's own age


def test_what_is_kept_of_a_form_does_not_overwrite_a_later_change(
    console: Console, page: Page, account: Account, receiver: Receiver
) -> None:
    webhook = account.create(receiver.url("/hooks"))
    console.open(f"#/webhooks/{webhook['webhookId']}/edit")
    page.get_by_label("Name *", exact=True).fill("Mine")
    account.call("PATCH", f"/v1/webhooks/{webhook['webhookId']}", {"status": "paused", "ordered": True})
    page.get_by_label("Language").select_option("it")
    name = page.get_by_label("Nome *", exact=True)
    expect(name).to_have_value("Mine")
    press(page, "Salva")
    dialog = page.get_by_role("dialog", name="Qualcun altro ha modificato questo webhook")
    expect(dialog).to_be_visible()
    assert account.webhooks()[0]["ordered"] is True


def test_a_replay_is_stopped(console: Console, page: Page, account: Account, receiver: Receiver) -> None:
    webhook = account.create(receiver.url("/hooks"))
    account.emit()
    account.system.wait_for_history(webhook["webhookId"], 1)
    receiver.script = answer(503)
    console.open(f"#/webhooks/{webhook['webhookId']}")
    press(page, "Replay")
    page.get_by_role("dialog").get_by_label("Status").select_option("delivered")
    press(page, "Start replay")
    press(page, "Stop replay")
    expect(page.locator(".replay")).to_contain_text("Replay stopped:")
    expect(page.get_by_role("button", name="Stop replay")).to_be_hidden()


def test_italian_agrees_with_the_number(
    new_console: Callable[..., Console], account: Account, receiver: Receiver
) -> None:
    for status in ("inactive", "inactive", "paused"):
        account.create(receiver.url("/hooks"), status=status)
    for locale, expected in (
        ("it-IT", "3 di 5 in uso1 in pausa2 inattivi"),
        ("en-GB", "3 of 5 used1 paused2 inactive"),
    ):
        console = new_console(account.token, locale=locale)
        console.open()
        expect(console.page.locator(".summary")).to_have_text(expected)


@pytest.mark.parametrize(("locale", "name"), [("en-US", r"\d{1,2}\s[AP]M"), ("it-IT", r"\d\d:00")])
def test_the_hours_at_the_axis_can_be_read_in_every_locale(
    new_console: Callable[..., Console], account: Account, receiver: Receiver, locale: str, name: str
) -> None:
    webhook = account.create(receiver.url("/hooks"))
    account.emit()
    account.system.wait_for_history(webhook["webhookId"], 1)
    console = new_console(account.token, locale=locale, timezone_id="Europe/Rome")
    page = console.page
    console.open(f"#/webhooks/{webhook['webhookId']}")
    charts = page.locator("svg.chart")
    charts.first.locator("rect").wait_for()
    for size, shown in ((WIDE, 8), (NARROW, 4)):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        for chart in charts.all():
            hours = chart.evaluate(AXIS)
            assert len(hours) == shown
            assert all(re.fullmatch(name, each[0]) for each in hours), hours
            assert all(one[2] + 6 < other[1] for one, other in pairwise(hours)), hours
            assert hours[-1][2] <= size["width"]
    expect(page.get_by_text("Europe/Rome (")).to_be_visible()

    # The same numbers by pointer, by keyboard, and by touch.
    picker = page.get_by_role("slider").first
    expect(picker).to_have_attribute("aria-valuetext", re.compile(r"(Delivered|Consegnato) 1"))
    readout = page.locator(".readout").first
    picker.focus()
    expect(readout).to_contain_text(re.compile(r"(Delivered|Consegnato) 1"))
    page.keyboard.press("ArrowLeft")
    expect(readout).to_contain_text(re.compile(r"(Delivered|Consegnato) 0"))
    page.locator("h1").focus()
    expect(readout).to_contain_text(re.compile(r"(Delivered|Consegnato) 1"))  # the last hour again
    box = picker.bounding_box()
    assert box is not None
    picker.hover(position={"x": box["width"] - 2, "y": 20})
    expect(readout).to_contain_text(re.compile(r"(Delivered|Consegnato) 1"))
    picker.hover(position={"x": 2, "y": 20})
    expect(readout).to_contain_text(re.compile(r"(Delivered|Consegnato) 0"))


def test_a_pending_event_says_why_and_is_not_sent_a_second_time(
    console: Console, page: Page, account: Account
) -> None:
    with Receiver(answer(503, body=b"out of order")) as failing:
        webhook = account.create(failing.url("/hooks"), keepResponseBodies=True)
        account.emit()
        until(lambda: account.webhooks()[0]["health"].get("failingSince"), "the failure")
        console.open(f"#/webhooks/{webhook['webhookId']}?status=pending")
        page.locator(".history tbody a").click()
        attempts = page.get_by_role("table", name="Last requests to the endpoint")
        expect(attempts.locator("tbody tr").first).to_contain_text("503 Service Unavailable")
        expect(attempts).to_contain_text("its log says which")
        attempts.get_by_text("Response of the receiver").first.click()
        expect(attempts.locator("pre").first).to_have_text("out of order")
        expect(page.get_by_role("button", name="Redeliver")).to_be_hidden()
        page.get_by_role("link", name="← Enrollments to HR").click()
        press(page, "Retry now")
        said(page, "Retried. The receiver responded: 503 Service Unavailable.")
        failing.script = answer(200)
        press(page, "Retry now")
        said(page, "The receiver accepts events again: 200")
        expect(page.locator(".head .badge").first).to_have_text("Healthy")
        expect(page.get_by_role("button", name="Retry now")).to_be_hidden()
        page.get_by_label("Status").select_option("")
        page.locator(".history tbody a").click()
        expect(page.locator(".head .badge")).to_have_text("Delivered")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url) if "/redeliver" in request.url else None)
        press(page, "Redeliver")
        page.get_by_role("button", name="Redeliver").click(force=True)
        said(page, "Redelivered. The receiver responded: 200")
        assert len(asked) == 1
