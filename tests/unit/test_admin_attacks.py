"""What somebody with an admin's token tried on the running product, as far as it got before."""

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.admin_client import NOW, VALID, AdminClient, admin_client

BASIC = {"type": "basic", "username": "lms", "password": "correct horse"}
SAVED_PASSWORD = "Basic " + base64.b64encode(b"lms:correct horse").decode()
AGAIN = "must be given again: the stored one is for another scheme, host or port"


@pytest.fixture(scope="module")
def shared_client() -> Iterator[AdminClient]:
    with admin_client("attacks") as client:
        yield client


@pytest.fixture
def client(shared_client: AdminClient) -> AdminClient:
    shared_client.forget_everything()
    shared_client.posted.clear()
    shared_client.now_seconds = NOW.timestamp()
    return shared_client


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
