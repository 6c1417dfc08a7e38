"""What somebody with an admin's token tried on the running product, as far as it got before."""

import base64
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lms_webhooks.model.lanes import Lane, PendingEvent
from tests.unit.admin_client import ADMIN_CLAIMS, VALID, AdminClient, Answer, admin_client
from tests.unit.tables import NOW_MS, event

BASIC = {"type": "basic", "username": "lms", "password": "correct horse"}
SAVED_PASSWORD = "Basic " + base64.b64encode(b"lms:correct horse").decode()
AGAIN = "must be given again: the stored one is for another scheme, host or port"


@pytest.fixture(scope="module")
def shared_client() -> Iterator[AdminClient]:
    with admin_client("attacks") as client:
        yield client


def sent_by_a_test(client: AdminClient, path: str) -> tuple[str, str | None]:
    """Where a test send goes, and with which credentials."""
    assert client.call("POST", f"{path}/test").status == 200
    return client.posted[-1].url, client.posted[-1].headers.get("authorization")


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://attacker.example/lms",
        "https://hooks.example.com.attacker.example/lms",
        "https://hooks.example.com:8443/lms",
        "https://xn--hoks-loa.example.com/lms",
    ],
)
@pytest.mark.parametrize("more", [{}, {"status": "paused"}, {"name": "Moved"}], ids=str)
def test_a_stored_password_is_not_sent_to_a_place_of_the_admins_choice(
    client: AdminClient, elsewhere: str, more: dict[str, str]
) -> None:
    path = client.create(authentication=BASIC).headers["Location"]
    refused = client.call("PATCH", path, {"targetUrl": elsewhere, **more})
    assert (refused.status, refused.body.get("errors")) == (
        422,
        [{"pointer": "/authentication/password", "detail": AGAIN}],
    )
    assert sent_by_a_test(client, path) == (VALID["targetUrl"], SAVED_PASSWORD)
    assert client.call("GET", path).body["status"] == "active"


@pytest.mark.parametrize(
    "same",
    [
        "https://hooks.example.com/other?tenant=7",
        "https://hooks.example.com:443/lms",
        "https://HOOKS.example.com/lms",
    ],
)
def test_within_scheme_host_and_port_a_password_stays(client: AdminClient, same: str) -> None:
    path = client.create(authentication=BASIC).headers["Location"]
    assert client.call("PATCH", path, {"targetUrl": same}).status == 200
    assert sent_by_a_test(client, path) == (same, SAVED_PASSWORD)


@pytest.mark.parametrize(
    ("authentication", "sent"),
    [
        ({**BASIC, "password": "battery"}, "Basic " + base64.b64encode(b"lms:battery").decode()),
        ({"type": "none"}, None),
        ({"type": "signature"}, None),
    ],
    ids=["a password", "none", "signature"],
)
def test_with_credentials_of_its_own_a_webhook_moves(
    client: AdminClient, authentication: dict[str, str], sent: str | None
) -> None:
    path = client.create(authentication=BASIC).headers["Location"]
    moved = {"targetUrl": "https://elsewhere.example/lms", "authentication": authentication}
    assert client.call("PATCH", path, moved).status == 200
    assert sent_by_a_test(client, path) == ("https://elsewhere.example/lms", sent)


def test_a_move_to_plain_http_asks_for_the_password_too() -> None:
    with admin_client("attacks-http", loopback_targets_allowed=True) as client:
        path = client.create(targetUrl="https://127.0.0.1:8080/", authentication=BASIC).headers["Location"]
        refused = client.call("PATCH", path, {"targetUrl": "http://127.0.0.1:8080/"})
        assert refused.errors == {"/authentication/password": AGAIN}


def test_two_changes_at_once_move_no_password_either(
    client: AdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The URL is changed while there is no password; meanwhile another admin sets one."""
    path = client.create().headers["Location"]
    update = client.store.update

    def set_a_password_first(*arguments: Any, **more: Any) -> None:
        monkeypatch.setattr(client.store, "update", update)
        assert client.call("PATCH", path, {"authentication": BASIC}).status == 200
        update(*arguments, **more)

    monkeypatch.setattr(client.store, "update", set_a_password_first)
    refused = client.call("PATCH", path, {"targetUrl": "https://attacker.example/"})
    assert (refused.status, refused.body["type"]) == (422, "urn:lms-webhooks:problem:invalid-fields")
    assert sent_by_a_test(client, path) == (VALID["targetUrl"], SAVED_PASSWORD)


def test_a_signing_secret_stays_for_it_never_leaves(client: AdminClient) -> None:
    """What goes out is a signature of that request. The receiver that moves knows the secret."""
    created = client.create(authentication={"type": "signature"})
    path = created.headers["Location"]
    moved = client.call("PATCH", path, {"targetUrl": "https://elsewhere.example/lms"})
    assert (moved.status, moved.body["authentication"]) == (200, {"type": "signature"})
    sent_by_a_test(client, path)
    secret = created.body["authentication"]["secret"]
    sent = client.posted[-1]
    assert not any(secret.removeprefix("whsec_") in each for each in (*sent.headers.values(), str(sent.body)))


def test_whoever_has_another_s_mail_address_in_a_token_is_not_given_their_secret(client: AdminClient) -> None:
    """With some issuers people write the claim themselves. The same call and key gave the secret."""
    signed = {**VALID, "authentication": {"type": "signature"}}
    key = {"idempotency-key": "create-1"}
    created = client.call("POST", "/v1/webhooks", signed, headers=key)
    assert created.status == 201
    claims = {**ADMIN_CLAIMS, "sub": "9a0c-mallory"}
    refused = client.call("POST", "/v1/webhooks", signed, headers=key, claims=claims)
    assert (refused.status, refused.body["type"]) == (422, "urn:lms-webhooks:problem:idempotency-key-reused")
    assert client.call("POST", "/v1/webhooks", signed, headers=key).text == created.text


# What follows had the product make 434 requests a minute, each to a port of the admin's choice.


def have_sent(client: AdminClient, ask: Callable[[int], Answer], times: int = 20) -> list[Answer]:
    """Make the calls in a row, a second apart; return those that were refused as too many."""
    answers = []
    for number in range(times):
        answers.append(ask(number))
        client.now_seconds += 1
    return [answer for answer in answers if answer.status == 429]


def with_one_waiting(client: AdminClient, **changes: Any) -> str:
    """The path of a webhook for which one event waits."""
    webhook_id = client.create(**changes).body["webhookId"]
    client.backlog.append(webhook_id, Lane.REALTIME, [PendingEvent(event("e1", at_ms=NOW_MS))])
    client.backlog.set_marker("1010", webhook_id, Lane.REALTIME, accepted_at_ms=NOW_MS)
    client.now_seconds += 60
    client.sent_for_drainers()
    return f"/v1/webhooks/{webhook_id}"


@pytest.mark.slow
def test_a_change_of_url_probes_no_more_than_ten_ports_a_minute(client: AdminClient) -> None:
    path = with_one_waiting(client)
    refused = have_sent(
        client, lambda n: client.call("PATCH", path, {"targetUrl": f"https://hooks.example.com:{8000 + n}/"})
    )
    assert len(refused) == 10
    assert client.call("GET", path).body["targetUrl"].endswith(":8009/"), "what is refused changes nothing"
    assert len(client.sent_for_drainers()) == 10
    assert refused[0].body == {
        "type": "urn:lms-webhooks:problem:rate-limited",
        "title": "Too many sends",
        "status": 429,
        "detail": (
            "An account has 10 sends in any 60 seconds. Tests, new webhooks, retries, redeliveries,"
            " replays, notification subscriptions, and changes of URL, authentication or status that leave a"
            " webhook active count together. Try again in 50 s."
        ),
    }
    assert refused[0].headers["Retry-After"] == "50"


@pytest.mark.slow
def test_to_pause_and_go_on_probes_no_more_either(client: AdminClient) -> None:
    """The URL of a paused webhook is changed without a limit; to set it active has one."""
    path = with_one_waiting(client)

    def elsewhere(number: int) -> Answer:
        target = {"targetUrl": f"https://hooks.example.com:{8000 + number}/", "status": "paused"}
        assert client.call("PATCH", path, target).status == 200, "who must stop it can"
        return client.call("PATCH", path, {"status": "active"})

    assert len(have_sent(client, elsewhere)) == 10
    assert client.call("PATCH", path, {"status": "inactive"}).status == 200
    assert client.call("PATCH", path, {"name": "Renamed"}).status == 200, "it sends nothing"
    assert client.call("DELETE", path).status == 204


@pytest.mark.slow
def test_redeliveries_are_no_more_than_ten_a_minute(client: AdminClient) -> None:
    path = with_one_waiting(client)
    (listed,) = client.call("GET", f"{path}/deliveries").body["deliveries"]
    again = f"{path}/deliveries/{listed['deliveryId']}/redeliver"
    assert len(have_sent(client, lambda _: client.call("POST", again))) == 10
    assert len(client.sent_for_drainers()) == 10


def test_replays_are_no_more_than_ten_a_minute(client: AdminClient) -> None:
    path = f"{with_one_waiting(client)}/replay"

    def replay(_: int) -> Answer:
        answer = client.call("POST", path, {"from": "2026-11-01T00:00:00Z"})
        client.call("DELETE", path)
        return answer

    assert len(have_sent(client, replay)) == 10


@pytest.mark.slow
def test_new_webhooks_are_no_more_than_ten_a_minute(client: AdminClient) -> None:
    def make(number: int) -> Answer:
        answer = client.create(targetUrl=f"https://hooks.example.com:{8000 + number}/")
        if answer.status == 201:
            client.call("DELETE", answer.headers["Location"])
        return answer

    assert len(have_sent(client, make)) == 10


@pytest.mark.slow
def test_all_of_it_is_one_budget_of_the_account(client: AdminClient) -> None:
    path = with_one_waiting(client)
    (listed,) = client.call("GET", f"{path}/deliveries").body["deliveries"]
    again = f"{path}/deliveries/{listed['deliveryId']}/redeliver"
    calls: list[tuple[str, str, Any]] = [
        ("POST", f"{path}/test", None),
        ("POST", "/v1/webhooks/test", VALID),
        ("POST", "/v1/webhooks", VALID),
        ("POST", again, None),
        ("POST", f"{path}/replay", {"from": "2026-11-01T00:00:00Z"}),
        ("PATCH", path, {"targetUrl": "https://elsewhere.example/"}),
        ("PATCH", path, {"authentication": BASIC}),
        ("POST", "/v1/notice-subscriptions", {"email": "team@example.com"}),
    ]
    for method, url, body in calls:
        assert client.call(method, url, body).status < 300, url
    for _ in range(2):
        client.call("POST", f"{path}/test")
    client.call("PATCH", path, {"status": "paused"})
    client.call("DELETE", f"{path}/replay")
    for method, url, body in [*calls[:5], ("PATCH", path, {"status": "active"}), calls[7]]:
        assert client.call(method, url, body).status == 429, url
    others: dict[str, object] = {**ADMIN_CLAIMS, "custom:account_id": "2020"}
    assert client.call("POST", "/v1/webhooks", VALID, claims=others).status == 201


@pytest.mark.slow
def test_what_is_refused_for_another_reason_does_not_count(client: AdminClient) -> None:
    paths = [client.create().headers["Location"] for _ in range(5)]
    replay = {"from": "2026-11-01T00:00:00Z"}
    assert client.call("POST", f"{paths[0]}/replay", replay).status == 202
    for _ in range(20):
        assert client.create().status == 409
        assert client.call("POST", f"{paths[0]}/replay", replay).status == 409
    for path in paths[1:]:
        assert client.call("PATCH", path, {"targetUrl": "https://elsewhere.example/"}).status == 200
    assert client.create().status == 429


def test_what_an_idempotency_key_gives_again_does_not_count(client: AdminClient) -> None:
    for _ in range(20):
        answer = client.call("POST", "/v1/webhooks", VALID, headers={"idempotency-key": "k"})
        assert answer.status == 201
    assert len(client.call("GET", "/v1/webhooks").body["webhooks"]) == 1


# What follows had SNS mail somebody who never asked, ten times a minute.


def invite(client: AdminClient, email: str, account_id: str = "1010") -> Answer:
    """Have `email` mailed a link, and be ready for the next."""
    claims: dict[str, object] = {**ADMIN_CLAIMS, "custom:account_id": account_id}
    answer = client.call("POST", "/v1/notice-subscriptions", {"email": email}, claims=claims)
    for each in client.call("GET", "/v1/notice-subscriptions", claims=claims).body["subscriptions"]:
        path = f"/v1/notice-subscriptions/{each['subscriptionId']}"
        assert client.call("DELETE", path, claims=claims).status == 204
    client.now_seconds += 61
    return answer


def test_a_stranger_is_mailed_three_links_a_day(client: AdminClient) -> None:
    victims = ["eve@example.com", "eve@example.com", "eve+1@example.com", "EVE+2@example.com"]
    accounts = ["1010", "2020", "3030", "4040"]
    answers = [invite(client, *each) for each in zip(victims, accounts, strict=True)]
    assert [answer.status for answer in answers] == [201, 201, 201, 429]
    assert answers[-1].body["type"] == "urn:lms-webhooks:problem:too-many-mails"
    assert answers[-1].headers["Retry-After"] == str(12 * 3600 - 3 * 61)
    assert "at most 3 confirmation links" in answers[-1].body["detail"]
    assert invite(client, "eva@example.com").status == 201
    client.now_seconds += 12 * 3600
    assert invite(client, "eve@example.com").status == 201


@pytest.mark.parametrize(
    ("spelling", "is_the_same"),
    [
        ("e.v.e@gmail.com", True),
        ("eve+1@googlemail.com", True),
        ("EVE@gmail.com", True),
        ("+eve@gmail.com", False),
        ("eva@gmail.com", False),
        ("eve@example.com", False),
    ],
)
def test_a_mailbox_is_known_by_each_spelling(
    client: AdminClient, spelling: str, *, is_the_same: bool
) -> None:
    for account in ("1010", "2020", "3030"):
        assert invite(client, "eve@gmail.com", account).status == 201
    assert invite(client, spelling, "4040").status == (429 if is_the_same else 201)


@pytest.mark.slow
def test_an_account_mails_twenty_strangers_a_day(client: AdminClient) -> None:
    statuses = [invite(client, f"{number}@example.com").status for number in range(30)]
    assert statuses == [201] * 20 + [429] * 10
    assert invite(client, "29@example.com", "2020").status == 201, "what was refused was not counted"


def test_who_has_confirmed_is_mailed_no_link_and_costs_none(client: AdminClient) -> None:
    for _ in range(5):
        answer = client.call("POST", "/v1/notice-subscriptions", {"email": "team@example.com"})
        assert (answer.status, answer.body["status"]) == (201, "confirmed")
        client.now_seconds += 61


def test_who_is_refused_is_not_listed_and_was_not_mailed(client: AdminClient) -> None:
    for _ in range(3):
        invite(client, "eve@example.com")
    assert client.call("POST", "/v1/notice-subscriptions", {"email": "eve@example.com"}).status == 429
    assert client.call("GET", "/v1/notice-subscriptions").body == {"subscriptions": []}
    assert "eve@example.com" not in {
        each["Endpoint"] for each in client.sns.list_subscriptions()["Subscriptions"]
    }
