"""The console in a real Chromium, against the deployed stack: what an admin does in it, and that all can."""

import json
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest
import standardwebhooks
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Route, expect

from tests.conformance.certificates import Certificates, Tls
from tests.e2e.browser import NARROW, Console, error_of, fill_in, press, said
from tests.e2e.system import OWN_REAL_TIME, READER, Account, System, until
from tests.fakes.receiver import Receiver, answer

##### Signing in and out


def test_an_admin_signs_in_with_pkce_and_out_again(
    system: System, new_console: Callable[..., Console], account: Account
) -> None:
    console = new_console()
    page = console.page
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(console.url + "#/notices")
    press(page, "Sign in")
    page.get_by_label("Username").wait_for()
    query = parse_qs(urlsplit(page.url).query)
    assert query["code_challenge_method"] == ["S256"]
    assert query["response_type"] == ["code"]
    assert query["state"] != query["nonce"]

    user = system.new_user(account.account_id)
    console.enter(user)
    expect(page.get_by_role("heading", name="Notifications")).to_be_visible()
    assert page.url == console.url + "#/notices", "back where we were, with nothing in the address"
    expect(page.locator(".who")).to_contain_text(user)
    expect(page.locator(".who")).to_contain_text(account.account_id)
    token = page.evaluate("sessionStorage.getItem('token')")
    assert token.count(".") == 2
    assert not any(token in url for url in asked)
    assert page.evaluate("localStorage.length + document.cookie.length") == 0
    page.reload()
    expect(page.get_by_role("heading", name="Notifications")).to_be_visible()

    press(page, "Sign out")
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0
    assert not any(token in url for url in asked)


def test_an_issuer_of_one_s_own_is_asked_where_to_sign_in(
    system: System, new_console: Callable[..., Console], account: Account
) -> None:
    """The stack's pool stands for it, found by its discovery document alone."""
    console = new_console()
    page = console.page
    described = system.stack.description
    issuer = f"{described['endpointUrl']}/{described['userPoolId']}"

    def configure(route: Any) -> None:
        config = route.fetch().json()
        del config["signInUrl"]
        route.fulfill(json=config | {"issuer": issuer})

    page.route("**/console/config.json", configure)
    page.goto(console.url)
    with page.expect_response(issuer + "/.well-known/openid-configuration"):
        press(page, "Sign in")
    console.enter(system.new_user(account.account_id))
    expect(page.locator(".who")).to_contain_text("@example.com")
    expect(page.get_by_text("0 of 5 used")).to_be_visible()


def test_a_code_that_this_tab_did_not_ask_for_is_not_taken(new_console: Callable[..., Console]) -> None:
    console = new_console()
    console.page.goto(console.url + "?code=somebody-elses&state=guessed")
    expect(console.page.locator("#failed")).to_contain_text("Signing in did not work")
    expect(console.page.get_by_role("button", name="Sign in")).to_be_visible()
    assert console.page.url == console.url


def test_a_session_that_ends_says_so_before_and_after(
    new_console: Callable[..., Console], account: Account
) -> None:
    console = new_console(account.token)
    page = console.page
    page.clock.install()
    console.open()
    page.clock.fast_forward(56 * 60_000)
    expect(page.get_by_text("Your session ends in a few minutes.")).to_be_visible()
    page.clock.fast_forward(5 * 60_000)
    expect(page.get_by_text("Your session has ended.")).to_be_visible()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()


def test_a_token_that_the_api_refuses_ends_the_session(
    new_console: Callable[..., Console], account: Account
) -> None:
    head, body, signature = account.token.split(".")
    console = new_console(f"{head}.{body}.{signature[::-1]}")
    console.page.goto(console.url)
    expect(console.page.get_by_text("Your session has ended.")).to_be_visible()


def test_a_reader_sees_everything_and_can_change_nothing(
    system: System, new_console: Callable[..., Console], account: Account, receiver: Receiver
) -> None:
    webhook = account.create(receiver.url("/hooks"))
    console = new_console(system.sign_in(account.account_id, READER))
    console.open()
    page = console.page
    expect(page.get_by_role("link", name="Enrollments to HR", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="Add webhook")).to_have_count(0)
    expect(page.get_by_role("button", name=re.compile("Pause"))).to_have_count(0)
    console.open(f"#/webhooks/{webhook['webhookId']}")
    for name in ("Pause", "Send test", "Retire", "Delete", "Replay"):
        expect(page.get_by_role("button", name=name, exact=True)).to_have_count(0)


##### Adding and changing


def test_a_webhook_is_added_tested_and_gets_its_events(
    console: Console, page: Page, account: Account, receiver: Receiver
) -> None:
    console.open()
    expect(page.get_by_text("0 of 5 used")).to_be_visible()
    page.get_by_role("link", name="Add webhook").click()
    fill_in(page, receiver)
    page.get_by_label("Description").fill("Who is enrolled in what")
    expect(page.get_by_text("117 characters left")).to_be_visible()
    press(page, "Test webhook")
    expect(page.locator(".result")).to_contain_text("The receiver accepted the sample: 200")
    assert account.webhooks() == [], "a test saves nothing"
    press(page, "Test and save")
    expect(page.get_by_role("heading", name="Enrollments to HR")).to_be_visible()
    said(page, "is saved")
    (saved,) = account.webhooks()
    assert saved["events"] == ["COURSE_ENROLLMENT"]
    assert saved["description"] == "Who is enrolled in what"
    event = account.emit("COURSE_ENROLLMENT")
    until(lambda: any(event["eventId"] in each.event_ids for each in receiver.requests), "the event")
    console.open()
    expect(page.get_by_text("1 of 5 used")).to_be_visible()


def test_what_is_wrong_stands_beside_its_field(console: Console, page: Page, account: Account) -> None:
    console.open("#/new")
    page.get_by_label("Target URL").fill("https://169.254.169.254/latest")
    page.get_by_label("Authentication").select_option("basic")
    page.get_by_label("More options").or_(page.get_by_text("More options")).first.click()
    page.get_by_label("Static headers").fill("content-length: 7")
    press(page, "Save")
    name = page.get_by_label("Name *", exact=True)
    expect(name).to_be_focused()
    expect(error_of(name)).to_have_text("must not be empty")
    expect(error_of(page.get_by_label("Target URL"))).to_contain_text("must be a public address")
    expect(error_of(page.get_by_label("User name"))).to_have_text("must not be empty")
    expect(error_of(page.get_by_label("Password"))).to_have_text("must not be empty")
    expect(error_of(page.get_by_label("Static headers"))).to_have_text(
        "content-length: must not be set here: the system or the connection sets it"
    )
    expect(error_of(page.get_by_label("Find events"))).to_have_text("must not be empty")
    said(page, "6 fields need your attention")
    assert account.webhooks() == []
    name.fill("HR")
    press(page, "Save")
    expect(page.get_by_label("Target URL")).to_be_focused()
    assert name.get_attribute("aria-invalid") is None


def test_a_receiver_that_refuses_the_sample_keeps_it_from_being_saved(
    console: Console, page: Page, account: Account, receiver: Receiver
) -> None:
    receiver.script = answer(401, body=b"who are you?")
    console.open("#/new")
    fill_in(page, receiver)
    press(page, "Test and save")
    expect(page.locator(".result")).to_contain_text("did not accept the sample: 401")
    expect(page.locator(".result")).to_contain_text("Check the secret or password")
    response = page.get_by_role("region", name="Response of the receiver")
    expect(response).to_have_text(re.compile(r"^HTTP 401 Unauthorized\n(.+\n)+\nwho are you\?$"))
    page.locator(".result").get_by_text("Request", exact=True).click()
    sent = page.locator(".result").get_by_role("region", name="Request")
    expect(sent).to_contain_text(f"POST {receiver.url('/hooks')}")
    expect(sent).to_contain_text("content-type: application/json")
    expect(sent).to_contain_text(re.compile('"eventName": ?"COURSE_ENROLLMENT"'))
    assert account.webhooks() == []
    press(page, "Save")
    expect(page.get_by_role("heading", name="Enrollments to HR")).to_be_visible()
    assert len(account.webhooks()) == 1


def test_events_are_found_by_their_words_and_chosen_together(console: Console, page: Page) -> None:
    console.open("#/new")
    events = page.get_by_role("group", name="Trigger events")
    expect(events.get_by_role("checkbox")).to_have_count(33)
    page.get_by_label("Find events").fill("course enrollment")
    expect(events.get_by_role("checkbox").and_(page.locator(":visible"))).to_have_count(4)
    expect(events.get_by_text("[Real Time]").and_(page.locator(":visible"))).to_have_count(2)
    expect(events.get_by_text("[Non-real-time]").and_(page.locator(":visible"))).to_have_count(2)
    press(page, "Select all shown")
    expect(page.get_by_text("4 selected")).to_be_visible()
    page.get_by_label("Find events").fill("no such event")
    expect(page.get_by_text("No event matches.")).to_be_visible()
    page.get_by_label("Find events").fill("")
    press(page, "Clear all shown")
    expect(page.get_by_text("0 selected")).to_be_visible()


def test_labels_are_those_of_adobe_with_the_category_and_the_name(console: Console, page: Page) -> None:
    console.open("#/new")
    rows = page.get_by_role("group", name="Trigger events").get_by_role("listitem")
    for text in (
        "Learner enrolls themselves in a course [Real Time]COURSE_ENROLLMENT",
        "Learner makes progress in a module [Non-real-time]LEARNER_PROGRESS",
        f"Badge awarded [Real Time]{OWN_REAL_TIME}",
    ):
        expect(rows.get_by_text(text, exact=True)).to_have_count(1)
    page.get_by_label("Language").select_option("it")
    rows = page.get_by_role("group", name="Eventi").get_by_role("listitem")
    expect(rows.filter(has_text="si iscrive a un corso [Tempo reale]COURSE_ENROLLMENT")).to_have_count(1)


def test_the_defaults_of_adobe_and_a_schedule_are_chosen_saved_and_shown(
    console: Console, page: Page, account: Account, receiver: Receiver
) -> None:
    console.open("#/new")
    fill_in(page, receiver)
    press(page, "As Adobe Learning Manager")
    page.get_by_label("Non-real-time events").select_option("At times of day")
    page.get_by_label("Times of day").fill("2:00")
    page.get_by_label("Time zone").fill("Europe/Rome")
    press(page, "Save")
    expect(error_of(page.get_by_label("Times of day"))).to_contain_text("must be a time of day such as 02:00")
    page.get_by_label("Times of day").fill("14:30, 02:00")
    page.get_by_label("Keep the first KiB of each failed response").check()
    press(page, "Save")
    settings = page.get_by_role("region", name="Settings")
    expect(settings).to_contain_text("Daily at 02:00, 14:30 (Europe/Rome)")
    expect(settings).to_contain_text("The first KiB is kept")
    (saved,) = account.webhooks()
    assert (saved["status"], saved["ordered"]) == ("inactive", True)
    assert saved["keepResponseBodies"]
    assert saved["batchSchedule"] == {"dailyAt": ["02:00", "14:30"], "timeZone": "Europe/Rome"}

    console.open(f"#/webhooks/{saved['webhookId']}/edit")
    expect(page.get_by_label("Times of day")).to_have_value("02:00, 14:30")
    page.get_by_text("More options").click()
    page.get_by_label("Non-real-time events").select_option("At regular intervals")
    minutes = page.get_by_label("Minutes from batch to batch")
    press(page, "Save")  # with no number, which would leave the times of day as they are
    expect(error_of(minutes)).to_contain_text("must be a whole number from 5 to 1440")
    minutes.fill("60")
    press(page, "Save")
    expect(settings).to_contain_text("Every 60 minutes")


def test_a_secret_is_generated_downloaded_and_tested_before_the_webhook_is_active(
    console: Console, page: Page, account: Account, receiver: Receiver
) -> None:
    console.open("#/new")
    fill_in(page, receiver, authentication="signature")
    press(page, "Generate")
    dialog = page.get_by_role("dialog", name="Signing secret")
    secret = dialog.get_by_label("Signing secret").input_value()
    with page.expect_download() as download:
        press(dialog, "Download as JSON")
    content = json.loads(Path(download.value.path()).read_text())
    (saved,) = account.webhooks()
    assert content == {"webhookId": saved["webhookId"], "secret": secret}
    assert download.value.suggested_filename == f"{saved['webhookId']}-signing-secret.json"
    assert saved["status"] == "inactive", "the receiver must know the secret first"
    press(dialog, "Done")
    expect(page.get_by_role("heading", name="Edit “Enrollments to HR”")).to_be_visible()

    press(page, "Test webhook")
    expect(page.locator(".result")).to_contain_text("The receiver accepted the sample")
    request = receiver.requests[-1]
    standardwebhooks.Webhook(secret).verify(request.body, dict(request.headers))
    page.get_by_role("switch", name="Activation status").check()
    press(page, "Test and save")
    expect(page.locator(".badge.new")).to_be_visible()
    assert account.webhooks()[0]["status"] == "active"


def test_a_password_is_kept_unless_it_is_typed_anew(
    console: Console, page: Page, account: Account, receiver: Receiver
) -> None:
    basic = {"type": "basic", "username": "lms", "password": "first"}
    webhook = account.create(receiver.url("/hooks"), authentication=basic)
    edit = f"#/webhooks/{webhook['webhookId']}/edit"
    console.open(edit)
    page.get_by_label("Name *", exact=True).fill("Renamed")
    press(page, "Test and save")
    expect(page.get_by_role("heading", name="Renamed")).to_be_visible()
    assert receiver.requests[-1].headers["authorization"] == "Basic bG1zOmZpcnN0"
    console.open(edit)
    page.get_by_label("Target URL").fill(receiver.url("/elsewhere"))
    press(page, "Test webhook")
    expect(error_of(page.get_by_label("Password"))).to_contain_text("Type the password to test with it")
    page.get_by_label("Password").fill("second")
    press(page, "Test and save")
    expect(page.get_by_text(receiver.url("/elsewhere"))).to_be_visible()
    assert receiver.requests[-1].headers["authorization"] == "Basic bG1zOnNlY29uZA=="


def test_a_change_does_not_overwrite_one_that_was_made_meanwhile(
    console: Console, page: Page, account: Account, receiver: Receiver
) -> None:
    webhook = account.create(receiver.url("/hooks"))
    console.open(f"#/webhooks/{webhook['webhookId']}/edit")
    account.call("PATCH", f"/v1/webhooks/{webhook['webhookId']}", {"name": "Of somebody else"})
    page.get_by_label("Name *", exact=True).fill("Mine")
    press(page, "Save")
    dialog = page.get_by_role("dialog", name="Somebody else changed this webhook")
    expect(dialog.get_by_role("row")).to_have_text(["SettingSavedIn this form", "NameOf somebody elseMine"])
    assert account.webhooks()[0]["name"] == "Of somebody else"
    press(dialog, "Cancel")
    expect(page.get_by_label("Name *", exact=True)).to_have_value("Mine")
    press(page, "Save")
    press(dialog, "Reload")
    expect(page.get_by_label("Name *", exact=True)).to_have_value("Of somebody else")
    console.open(f"#/webhooks/{webhook['webhookId']}")
    account.call("PATCH", f"/v1/webhooks/{webhook['webhookId']}", {"name": "Of yet another"})
    press(page, "Pause")
    expect(page.locator("#failed")).to_contain_text("Somebody changed this webhook meanwhile")
    expect(page.get_by_role("heading", name="Of yet another")).to_be_visible()
    assert account.webhooks()[0]["status"] == "active"


def test_five_are_all_that_there_may_be(
    console: Console, page: Page, account: Account, receiver: Receiver
) -> None:
    for number in range(5):
        account.create(receiver.url("/hooks"), name=f"Number {number}")
    console.open()
    expect(page.get_by_text("5 of 5 used")).to_be_visible()
    expect(page.get_by_text("Add webhook")).to_have_attribute("aria-disabled", "true")
    page.get_by_text("Add webhook").click()
    expect(page.get_by_role("heading", name="Webhooks", exact=True)).to_be_visible()


##### Looking after them


def test_one_is_paused_and_resumed_without_loss(
    console: Console, page: Page, account: Account, receiver: Receiver
) -> None:
    account.create(receiver.url("/hooks"))
    console.open()
    pause = page.get_by_role("button", name="Pause: Enrollments to HR")
    pause.click()
    said(page, "is paused. Its events stay pending.")
    resume = page.get_by_role("button", name="Resume: Enrollments to HR")
    expect(resume).to_be_focused()
    expect(page.locator(".card .badge")).to_have_text("Paused")
    # No event that comes a moment after the click goes out; caches of ten seconds are the API's promise.
    until(lambda: account.webhooks()[0]["status"] == "paused", "the pause")
    event = account.emit()
    page.get_by_role("link", name="Enrollments to HR", exact=True).click()
    if not receiver.requests:
        expect(page.locator(".tiles")).to_contain_text("real-time 1")
    press(page, "Resume")
    said(page, "is active")
    until(lambda: any(event["eventId"] in each.event_ids for each in receiver.requests), "the event")


def test_one_is_retired_activated_and_deleted_when_that_is_meant(
    console: Console, page: Page, account: Account, receiver: Receiver
) -> None:
    webhook = account.create(receiver.url("/hooks"))
    console.open(f"#/webhooks/{webhook['webhookId']}")
    press(page, "Retire")
    press(page.get_by_role("dialog"), "Retire")
    expect(page.locator(".head .badge").first).to_have_text("Inactive")
    assert account.webhooks()[0]["status"] == "inactive"
    press(page, "Activate")
    expect(page.locator(".head .badge").first).to_have_text("No deliveries yet")

    press(page, "Delete")
    dialog = page.get_by_role("dialog", name="Delete “Enrollments to HR”?")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("button", name="Delete", exact=True)).to_be_focused()
    assert len(account.webhooks()) == 1
    press(page, "Delete")
    press(dialog, "Delete")
    expect(page.get_by_text("0 of 5 used")).to_be_visible()
    assert account.webhooks() == []


def test_one_that_fails_is_seen_at_a_glance_and_one_that_is_gone_too(
    console: Console, page: Page, account: Account
) -> None:
    with Receiver(answer(503)) as failing, Receiver(answer(410)) as gone:
        account.create(failing.url("/hooks"), name="Failing one")
        account.create(gone.url("/hooks"), name="Gone one")
        console.open()
        account.emit()
        card = page.locator(".card", has_text="Failing one")
        expect(card.locator(".badge")).to_have_text("Failing")
        expect(card.locator(".note")).to_contain_text(
            "HTTP 503 Service Unavailable. The receiver has an error"
        )
        expect(card.locator(".note")).to_contain_text("Next attempt at")
        other = page.locator(".card", has_text="Gone one")
        expect(other.locator(".badge")).to_have_text("Disabled")
        expect(other.get_by_role("button", name="Activate: Gone one")).to_be_visible()
        expect(page.locator(".summary")).to_contain_text("1 failing")
        page.get_by_role("link", name="Failing one", exact=True).click()
        expect(page.get_by_role("heading", name="Failing one", level=1)).to_be_visible()
        expect(page.locator(".note.bad")).to_contain_text("1 event is pending. Nothing is lost.")
        expect(page.locator(".tiles")).to_contain_text(re.compile("Next expiry.*in [67] days"))


def test_a_saved_webhook_is_tested_and_its_secret_changed(
    console: Console, page: Page, account: Account, receiver: Receiver
) -> None:
    webhook = account.create(receiver.url("/hooks"), authentication={"type": "signature"})
    old = webhook["authentication"]["secret"]
    console.open(f"#/webhooks/{webhook['webhookId']}")
    press(page, "New secret")
    press(page.get_by_role("dialog"), "Generate")
    dialog = page.get_by_role("dialog", name="Signing secret")
    new = dialog.get_by_label("Signing secret").input_value()
    expect(dialog).to_contain_text("The previous secret signs too until")
    press(dialog, "Copy")
    press(dialog, "Done")
    page.reload()
    overlap = page.locator(".settings").get_by_text("The previous secret signs too until")
    expect(overlap).to_be_visible()
    press(page, "Send test")
    expect(page.locator(".result")).to_contain_text("The receiver accepted the sample: 200")
    request = receiver.requests[-1]
    for secret in (old, new):
        standardwebhooks.Webhook(secret).verify(request.body, dict(request.headers))
    assert new != old
    for where in ("", "/edit"):
        console.open(f"#/webhooks/{webhook['webhookId']}{where}")
        press(page, "Generate" if where else "New secret")
        warning = page.get_by_role("dialog", name="Generate a new signing secret?")
        expect(warning).to_contain_text("A new one ends the older of them at once")
        press(warning, "Cancel")
    press(page, "Generate")
    press(page.get_by_role("dialog"), "Generate")
    third = page.get_by_role("dialog", name="Signing secret").get_by_label("Signing secret").input_value()
    assert third not in {old, new}


@pytest.mark.parametrize(
    ("language", "answered", "reason", "redirected", "ruled"),
    [
        (
            "en-GB",
            "TLS failed",
            "The receiver's certificate is self-signed, or its authority is not public",
            "The receiver redirects to https://hooks.example.org/new. Redirects are not followed",
            "must not use port 25, which belongs to another service",
        ),
        (
            "it-IT",
            "errore TLS",
            "Il certificato del ricevitore è autofirmato, o la sua autorità non è pubblica",
            "Il ricevitore rimanda a https://hooks.example.org/new. I reindirizzamenti non vengono seguiti",
            "non può usare la porta 25, che appartiene a un altro servizio",
        ),
    ],
)
def test_a_receiver_that_cannot_be_reached_is_said_to_and_why(
    new_console: Callable[..., Console],
    account: Account,
    receiver: Receiver,
    tmp_path: Path,
    language: str,
    answered: str,
    reason: str,
    redirected: str,
    ruled: str,
) -> None:
    """By test sends of what is saved and what is not, by health, in the history and for each attempt."""
    console = new_console(account.token, locale=language)
    page = console.page
    receiver.script = answer(302, headers={"location": "https://hooks.example.org/new"})
    webhook = account.create(receiver.url("/hooks"))
    send, test, save = ("Send test", "Test webhook", "Save")
    if language == "it-IT":
        send, test, save = ("Invia prova", "Prova webhook", "Salva")
    console.open(f"#/webhooks/{webhook['webhookId']}")
    press(page, send)
    expect(page.locator(".result")).to_contain_text(redirected)
    console.open(f"#/webhooks/{webhook['webhookId']}/edit")
    press(page, test)
    expect(page.locator(".result")).to_contain_text(redirected)

    with Receiver(certificate=Certificates(tmp_path).files(Tls.SELF_SIGNED)) as stranger:
        address = page.locator("input[type=url]")
        address.fill(stranger.url("/hooks"))
        press(page, test)
        expect(page.locator(".result")).to_contain_text(answered)
        expect(page.locator(".result")).to_contain_text(reason)
        account.call("PATCH", f"/v1/webhooks/{webhook['webhookId']}", {"targetUrl": stranger.url("/hooks")})
        account.emit("COURSE_ENROLLMENT")
        page.reload()  # nobody asks here about the form: the test has no browser's dialog
        console.open(f"#/webhooks/{webhook['webhookId']}")
        expect(page.locator(".note.bad")).to_contain_text(f"{answered}: {reason}")
        console.open()
        expect(page.locator(".card .note")).to_contain_text(f"{answered}: {reason}")

    def with_attempt(route: Any) -> None:
        """As an event has one that was set aside after it; that takes hours."""
        given = route.fetch().json()
        attempt = {
            "at": "2026-11-03T12:00:00Z",
            "latencyMs": 9,
            "errorClass": "tls",
            "reason": "The receiver's certificate is self-signed, or its authority is not public",
        }
        for each in given.get("deliveries", [given]):
            each |= {"attemptCount": 1, "lastAttempt": attempt, "attempts": [attempt]}
        if "event" in given:
            given["event"] = given.pop("event")  # the last field, as the page reads it
        route.fulfill(content_type="application/json", body=json.dumps(given, separators=(",", ":")))

    page.route(re.compile(r"/v1/webhooks/[^/]+/deliveries[?/]"), with_attempt)
    console.open(f"#/webhooks/{webhook['webhookId']}")
    expect(page.locator(".history tbody tr")).to_contain_text(f"{answered}{reason}")
    page.locator(".history tbody a").click()
    attempts = page.locator("section", has=page.locator("tbody")).locator("tbody tr")
    expect(attempts).to_contain_text(f"{answered}{reason}")
    console.open(f"#/webhooks/{webhook['webhookId']}/edit")
    address.fill("https://hooks.example.com:25/")
    press(page, save)
    expect(error_of(address)).to_have_text(ruled)


##### History


def test_deliveries_appear_by_themselves_are_filtered_opened_and_sent_again(
    console: Console, page: Page, account: Account, receiver: Receiver
) -> None:
    webhook = account.create(receiver.url("/hooks"))
    console.open(f"#/webhooks/{webhook['webhookId']}")
    expect(page.get_by_text("The first event of the chosen types appears here by itself.")).to_be_visible()
    event = account.event("COURSE_COMPLETED")
    event["data"] = event["data"] | {"score": 17, "note": 'a "quoted": {brace}, and [more]'}
    account.system.put(event)
    account.emit("COURSE_ENROLLMENT")
    rows = page.locator(".history tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("Delivered")

    page.get_by_label("Event", exact=True).select_option("COURSE_COMPLETED")
    expect(rows).to_have_count(1)
    page.get_by_label("Status").select_option("failed")
    expect(page.get_by_text("No deliveries match.")).to_be_visible()
    page.get_by_label("Status").select_option("")
    expect(rows).to_have_count(1)
    page.get_by_label("From").fill("2100-01-01T00:00:00")
    expect(rows).to_have_count(0)
    page.get_by_label("From").fill("")
    expect(rows).to_have_count(1)

    page.get_by_label("Event", exact=True).select_option("")
    expect(rows).to_have_count(2)
    page.get_by_label("Event id").fill(event["eventId"])
    page.keyboard.press("Enter")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("COURSE_COMPLETED")
    page.get_by_label("Event id").fill("")
    page.get_by_label("Event", exact=True).select_option("COURSE_COMPLETED")
    expect(rows).to_have_count(1)

    rows.first.get_by_role("link").click()
    expect(page.get_by_role("heading", name="Learner completes a course")).to_be_visible()
    expect(page.locator("#bar nav a").first).to_have_attribute("aria-current", "true")
    page.get_by_role("link", name="← Enrollments to HR").click()
    assert page.url.endswith("?eventName=COURSE_COMPLETED"), "a link that a colleague can open"
    page.reload()
    expect(page.get_by_label("Event", exact=True)).to_have_value("COURSE_COMPLETED")
    expect(rows).to_have_count(1)
    page.go_back()
    request = page.locator("section", has_text="Target URL")
    expect(request).to_contain_text(receiver.url("/hooks"))
    sent = next(each for each in receiver.requests if event["eventId"] in each.event_ids)
    assert json.loads(request.locator("pre").inner_text()) == json.loads(sent.body)
    attempts = page.locator("section", has_text="Attempts").locator("tbody tr")
    expect(attempts).to_have_count(1)
    press(page, "Redeliver")
    said(page, "It goes out after the pending events")
    expect(attempts).to_have_count(2)
    said(page, "Redelivered. The receiver responded: 200")


def test_a_click_is_not_lost_to_what_is_read_meanwhile(
    console: Console, page: Page, account: Account, receiver: Receiver
) -> None:
    """A poll that draws the row again between the two halves of a click would take its link away."""
    webhook = account.create(receiver.url("/hooks"))
    account.emit("COURSE_COMPLETED")
    account.system.wait_for_history(webhook["webhookId"], 1)
    console.open(f"#/webhooks/{webhook['webhookId']}")
    link = page.locator(".history tbody tr a")
    link.hover()
    held: list[Route] = []
    deliveries = re.compile("/deliveries[?]")
    with page.expect_request(deliveries):
        page.route(deliveries, lambda route: held.append(route))  # noqa: PLW0108  # playwright marks it
    page.mouse.down()
    changed = held[0].fetch().json()
    changed["deliveries"][0]["attemptCount"] = 7
    with page.expect_response(deliveries):
        held[0].fulfill(json=changed)
    page.evaluate("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
    page.unroute(deliveries)
    page.mouse.up()
    expect(page.get_by_role("heading", name="Learner completes a course")).to_be_visible()


def test_a_part_of_the_history_is_replayed_while_one_looks_on(
    console: Console, page: Page, account: Account, receiver: Receiver
) -> None:
    webhook = account.create(receiver.url("/hooks"))
    for _ in range(3):
        account.emit()
    account.system.wait_for_history(webhook["webhookId"], 3)
    console.open(f"#/webhooks/{webhook['webhookId']}")
    press(page, "Replay")
    dialog = page.get_by_role("dialog", name="Replay deliveries")
    dialog.get_by_label("To", exact=True).fill("2001-01-01T00:00:00")
    press(dialog, "Start replay")
    expect(error_of(dialog.get_by_label("To", exact=True))).to_have_text("must be later than from")
    dialog.get_by_label("To", exact=True).fill("")
    dialog.get_by_label("Status").select_option("delivered")
    expect(dialog.get_by_role("status")).to_have_text("3 deliveries will be sent again.")
    press(dialog, "Start replay")
    expect(dialog).to_have_count(0)
    progress = page.locator(".replay")
    expect(progress.get_by_role("progressbar")).to_be_visible()
    expect(progress.get_by_role("status")).to_have_text("Replay done: 3 processed, 3 delivered, 0 rejected.")
    until(lambda: sum(len(each.events) for each in receiver.requests) == 6, "all of them again")
    press(page, "Replay")
    press(dialog, "Start replay")
    expect(progress.get_by_role("status")).to_have_text("Replay done: no delivery matched.")


def test_numbers_are_drawn_and_there_as_a_table_too(
    console: Console, page: Page, account: Account, receiver: Receiver
) -> None:
    webhook = account.create(receiver.url("/hooks"))
    account.emit()
    account.system.wait_for_history(webhook["webhookId"], 1)
    console.open(f"#/webhooks/{webhook['webhookId']}")
    chart = page.get_by_role("img", name="Deliveries by hour: 1 delivered, 0 failed, 0 expired")
    expect(chart).to_be_visible()
    expect(chart.locator("rect.delivered")).to_have_count(1)
    expect(page.get_by_role("img", name=re.compile("Latency by hour: median"))).to_be_visible()
    expect(page.locator(".tiles")).to_contain_text(re.compile("Next batch.*(in|now)"))
    page.get_by_text("Show as a table").click()
    table = page.get_by_role("region", name="Show as a table").locator("tbody tr")
    expect(table).to_have_count(1)
    page.get_by_label("Time shown").select_option("168")
    expect(chart).to_be_visible()


def test_people_are_subscribed_to_notices_and_removed(console: Console, page: Page) -> None:
    console.open("#/notices")
    expect(page.get_by_text("Nobody gets mail yet.")).to_be_visible()
    email = page.get_by_label("Mail address")
    email.fill("nobody")
    press(page, "Subscribe")
    expect(error_of(email)).to_contain_text("must be a mail address")
    email.fill("team@example.com")
    email.press("Enter")
    said(page, "team@example.com has been mailed a link")
    row = page.locator("tbody tr", has_text="team@example.com")
    expect(row).to_be_visible()
    page.get_by_role("button", name="Remove: team@example.com").click()
    press(page.get_by_role("dialog"), "Remove")
    expect(row).to_have_count(0)
    expect(page.get_by_text("Nobody gets mail yet.")).to_be_visible()


def test_the_catalogue_is_searched_and_says_who_sends_a_type(
    console: Console, page: Page, account: Account, receiver: Receiver
) -> None:
    account.create(receiver.url("/hooks"), events=["COURSE_COMPLETED"])
    console.open("#/event-types")
    page.get_by_label("Find events").fill("course_completed")
    expect(page.get_by_text("2 of 33")).to_be_visible()  # two are the deployer's own
    assert page.url.endswith("#/event-types?q=course_completed")
    page.get_by_text("COURSE_COMPLETED", exact=True).click()
    console.context.grant_permissions(["clipboard-read", "clipboard-write"])
    schema = page.get_by_role("region", name="JSON Schema: COURSE_COMPLETED")
    expect(schema).to_contain_text("Whether the learner passed")
    page.get_by_role("button", name="Copy: Sample of data").click()
    said(page, "Copied.")
    assert json.loads(page.evaluate("navigator.clipboard.readText()"))["loType"] == "course"
    page.get_by_role("link", name="Enrollments to HR").click()
    expect(page.get_by_role("heading", name="Enrollments to HR")).to_be_visible()


def test_who_changed_what_is_listed(
    console: Console, page: Page, account: Account, receiver: Receiver
) -> None:
    webhook = account.create(receiver.url("/hooks"))
    account.call("PATCH", f"/v1/webhooks/{webhook['webhookId']}", {"targetUrl": receiver.url("/other")})
    account.create(receiver.url("/hooks"), name="Another")
    console.open("#/activity")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.first).to_contain_text(re.compile("Webhook added.+Another"))
    page.get_by_role("combobox", name="Webhook").select_option("Enrollments to HR")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text(re.compile("Webhook changedTarget URL.+@example.comEnrollments to HR"))
    page.reload()
    expect(rows).to_have_count(2)
    rows.first.get_by_role("link", name="Enrollments to HR").click()
    expect(page.get_by_role("heading", name="Enrollments to HR")).to_be_visible()
    page.locator(".settings").get_by_role("link", name="Activity").click()
    expect(rows).to_have_count(2)


##### For everybody


def test_a_language_is_chosen_and_stays(console: Console, page: Page) -> None:
    console.open("#/new")
    page.get_by_label("Language").select_option("it")
    expect(page.get_by_role("heading", name="Aggiungi webhook")).to_be_visible()
    assert page.evaluate("document.documentElement.lang") == "it"
    expect(page.get_by_text("allievo si iscrive a un corso", exact=False).first).to_be_visible()
    page.get_by_label("Nome *", exact=True).fill("")
    press(page, "Salva")
    expect(error_of(page.get_by_label("Nome *", exact=True))).to_have_text("non può essere vuoto")
    page.reload()
    expect(page.get_by_role("heading", name="Aggiungi webhook")).to_be_visible()


def test_a_browser_in_italian_is_spoken_to_in_italian(new_console: Callable[..., Console]) -> None:
    console = new_console(locale="it-IT")
    console.page.goto(console.url)
    expect(console.page.get_by_role("button", name="Accedi")).to_be_visible()


def test_the_theme_follows_the_system_until_one_is_chosen(
    new_console: Callable[..., Console], account: Account
) -> None:
    console = new_console(account.token, color_scheme="dark")
    page = console.page
    console.open()
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    theme = page.get_by_role("button", name="Dark theme")
    expect(theme).to_have_attribute("aria-pressed", "true")
    theme.click()
    light = page.evaluate(ground)
    assert light != dark
    page.reload()
    console.settled()
    assert page.evaluate(ground) == light
    expect(theme).to_have_attribute("aria-pressed", "false")


def test_everything_can_be_reached_and_done_by_keyboard(
    console: Console, page: Page, account: Account, receiver: Receiver
) -> None:
    console.open()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Add webhook")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Add webhook")).to_be_focused()
    page.keyboard.press("Tab")  # past the defaults of Adobe Learning Manager
    page.keyboard.press("Tab")
    page.keyboard.type("By keyboard")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.type(receiver.url("/hooks"))
    page.keyboard.press("Tab")
    page.keyboard.type("None")
    page.keyboard.press("Tab")  # past More options
    page.keyboard.press("Tab")
    page.keyboard.type("COURSE_COMPLETED")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    expect(page.get_by_text("1 selected")).to_be_visible()
    go_to(page, "Save")
    expect(page.get_by_role("heading", name="By keyboard")).to_be_focused()
    go_to(page, "Replay")
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Replay")).to_be_focused()
    page.locator("h1").focus()
    go_to(page, "Delete")
    dialog = page.get_by_role("dialog")
    for _ in range(4):
        page.keyboard.press("Tab")
        assert page.evaluate(
            "document.activeElement === document.body || !!document.activeElement.closest('dialog')"
        )
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    assert [each["name"] for each in account.webhooks()] == ["By keyboard"]


def go_to(page: Page, name: str) -> None:
    """Press Tab as far as a button, and then Enter."""
    button = page.get_by_role("button", name=name, exact=True)
    for _ in range(60):
        page.keyboard.press("Tab")
        if button.evaluate("button => button === document.activeElement"):
            break
    expect(button).to_be_focused()
    page.keyboard.press("Enter")


class Furnished(NamedTuple):
    """The ids of a webhook with a history, and of one whose receiver fails."""

    good: str
    failing: str


@pytest.fixture
def furnished(account: Account) -> Iterator[Furnished]:
    """An account with a webhook that delivers, one that fails and one that is paused."""
    with Receiver() as good, Receiver(answer(503, body=b"out of order")) as bad:
        webhook = account.create(
            good.url("/hooks"), authentication={"type": "signature"}, headers={"x-a": "b"}
        )
        failing = account.create(
            bad.url("/hooks"), name="Failing", description="One that fails", keepResponseBodies=True
        )
        account.create(good.url("/paused"), name="Paused", status="paused")
        account.emit()
        # A mailbox gets three links a day, and more tests than three come by here.
        mailbox = f"team-{secrets.token_hex(4)}@example.com"
        account.call("POST", "/v1/notice-subscriptions", {"email": mailbox})
        account.system.wait_for_history(webhook["webhookId"], 1)
        until(lambda: any(each["health"].get("failingSince") for each in account.webhooks()), "a failure")
        yield Furnished(webhook["webhookId"], failing["webhookId"])


def each_screen(console: Console, account: Account, webhooks: Furnished) -> Iterator[str]:
    """Every screen and every dialog, drawn in full; its name."""
    page = console.page
    console.open()
    page.locator(".spark").nth(2).wait_for()
    yield "webhooks"
    console.open("#/new")
    page.get_by_label("Authentication").select_option("basic")
    page.get_by_text("More options").click()
    press(page, "Save")
    page.locator("[aria-invalid]").first.wait_for()
    yield "form, with errors"
    page.get_by_role("link", name="Cancel").click()
    page.get_by_role("dialog", name="Leave this form?").wait_for()
    yield "leave"
    press(page, "Discard changes")
    page.locator(".spark").nth(2).wait_for()
    its_page = f"#/webhooks/{webhooks.good}"
    console.open(f"{its_page}/edit")
    yield "form, to edit"
    account.call("PATCH", f"/v1/webhooks/{webhooks.good}", {"description": "By somebody else"})
    page.get_by_label("Name *", exact=True).fill("Mine")
    press(page, "Save")
    page.get_by_role("dialog", name="Somebody else changed this webhook").wait_for()
    yield "conflict"
    press(page, "Reload")
    console.settled()
    console.open(its_page)
    page.get_by_text("Show as a table").click()
    page.locator(".history tbody tr").first.wait_for()
    yield "webhook"
    press(page, "Replay")
    expect(page.get_by_text("No deliveries match.")).to_be_visible()
    yield "replay"
    page.keyboard.press("Escape")
    press(page, "Delete")
    yield "delete"
    page.keyboard.press("Escape")
    press(page, "New secret")
    press(page.get_by_role("dialog"), "Generate")
    page.get_by_role("textbox", name="Signing secret").wait_for()
    yield "secret"
    press(page, "Done")
    press(page, "Done")
    page.locator(".history tbody a").first.click()
    page.locator("pre").wait_for()
    yield "delivery"
    console.open(f"#/webhooks/{webhooks.failing}")
    press(page, "Send test")
    page.locator(".result .bad").wait_for()
    page.get_by_role("button", name="Retry now").wait_for()
    yield "failing webhook, with a test's result"
    page.locator(".history tbody a").first.click()
    attempts = page.get_by_role("table", name="Last requests to the endpoint")
    attempts.get_by_text("Response of the receiver").first.click()
    yield "pending delivery"
    calls = re.compile("/v1/")
    page.route(calls, lambda route: route.abort())
    page.reload()
    page.get_by_role("button", name="Try again").wait_for()
    yield "no connection"
    page.unroute(calls)
    console.open("#/notices")
    page.locator("tbody tr").first.wait_for()
    yield "notices"
    console.open("#/event-types")
    page.get_by_text("LEARNER_PROGRESS").click()
    page.locator("pre").last.wait_for()
    yield "event types"
    console.open("#/activity")
    page.locator("tbody tr").first.wait_for()
    yield "activity"
    console.open("#/nowhere")
    yield "not found"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(
    new_console: Callable[..., Console],
    account: Account,
    new_account: Callable[[], Account],
    furnished: Furnished,
    theme: str,
) -> None:
    # Axe is put into the page, which lets nothing in; only for it the page's policy is off.
    outside = new_console(color_scheme=theme, bypass_csp=True, reduced_motion="reduce")
    outside.page.goto(outside.url)
    outside.page.get_by_role("button", name="Sign in").wait_for()
    found = {"sign-in": Axe().run(outside.page)}
    empty = new_console(new_account().token, color_scheme=theme, bypass_csp=True, reduced_motion="reduce")
    empty.open()
    found["first run"] = Axe().run(empty.page)
    console = new_console(account.token, color_scheme=theme, bypass_csp=True, reduced_motion="reduce")
    for name in each_screen(console, account, furnished):
        found[name] = Axe().run(console.page)
    broken = {name: result.generate_report() for name, result in found.items() if result.violations_count}
    assert not broken, "\n\n".join(broken.values())
    assert len(found) == 19


@pytest.mark.parametrize("language", ["en-GB", "it-IT"])
def test_nothing_is_wider_than_a_phone(
    new_console: Callable[..., Console], account: Account, furnished: Furnished, language: str
) -> None:
    if language == "it-IT":
        console = new_console(account.token, viewport=NARROW, locale=language)
        console.open(f"#/webhooks/{furnished.good}")
        console.page.locator(".history tbody tr").first.wait_for()
        assert_fits(console, "webhook")
        console.open("#/new")
        assert_fits(console, "form")
        return
    console = new_console(account.token, viewport=NARROW, locale=language)
    for name in each_screen(console, account, furnished):
        assert_fits(console, name)


def assert_fits(console: Console, name: str) -> None:
    width = console.page.evaluate("document.documentElement.scrollWidth")
    assert width <= NARROW["width"], f"{name} is {width} px wide"


def test_a_long_name_and_address_fit_too_and_are_text_whatever_they_hold(
    new_console: Callable[..., Console], account: Account, receiver: Receiver
) -> None:
    name = "<img src=x onerror=document.body.remove()>" + "N" * 38
    webhook = account.create(receiver.url("/" + "x" * 300), name=name, description="</script>" + "D" * 131)
    console = new_console(account.token, viewport=NARROW)
    for hash_ in ("", f"#/webhooks/{webhook['webhookId']}", f"#/webhooks/{webhook['webhookId']}/edit"):
        console.open(hash_)
        expect(console.page.get_by_text(name).first).to_be_visible()
        assert_fits(console, hash_)


def test_the_first_screen_waits_for_little(new_console: Callable[..., Console], account: Account) -> None:
    """As an admin meets it who comes back. `make bench ONLY=console` has the time that this takes."""
    console = new_console(account.token)
    requested: list[str] = []
    console.page.on("request", lambda request: requested.append(urlsplit(request.url).path))
    console.page.goto(console.url, wait_until="commit")
    console.page.locator("main[aria-busy=false] .summary").wait_for()
    files = {path for path in requested if "/console" in path}
    assert len(files) <= 11, sorted(files)
    calls = [path.partition("/v1/")[2] for path in requested if "/v1/" in path]
    assert calls == ["webhooks"], "one call, and none that the list does not need"


##### How it is served


def test_the_gateway_gives_it_to_everybody_and_nothing_else(system: System) -> None:
    start = system.call("GET", "/console", token=None)
    assert start.status == 200
    assert start.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in start.headers["content-security-policy"]
    script = system.call("GET", "/console/app.js", token=None, headers={"accept-encoding": "identity"})
    assert script.headers["content-type"].startswith("text/javascript")
    again = system.call(
        "GET", "/console/app.js", token=None, headers={"if-none-match": script.headers["etag"]}
    )
    assert (again.status, again.text) == (304, "")
    missing = system.call("GET", "/console/nothing.js", token=None)
    assert missing.status == 404
    assert missing.body["type"] == "urn:lms-webhooks:problem:no-such-path"
    assert system.call("GET", "/console/..%2f..%2fproblems.py", token=None).status == 404
    assert system.call("GET", "/v1/webhooks", token=None).status == 401
