"""A new signing secret: given once, and the one before signs along for a day."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import standardwebhooks

from lms_webhooks.model.webhooks import SignatureAuthentication, Webhook
from lms_webhooks.stores.webhook_cache import MAX_AGE_SECONDS
from tests.unit.admin_client import NOW, AdminClient, etag


@pytest.fixture
def created(client: AdminClient) -> dict[str, Any]:
    body: dict[str, Any] = client.create(authentication={"type": "signature"}).body
    return body


def verifies(client: AdminClient, secret: str) -> bool:
    """Whether a receiver that knows `secret` alone takes the last request."""
    message = client.posted[-1]
    signature = standardwebhooks.Webhook(secret).sign(
        message.headers["webhook-id"],
        NOW + timedelta(seconds=client.now_seconds - NOW.timestamp()),
        message.body.decode(),
    )
    return signature in message.headers["webhook-signature"].split(" ")


def test_both_secrets_sign_for_a_day_and_then_the_new_one(client: AdminClient, created: Any) -> None:
    path = f"/v1/webhooks/{created['webhookId']}"
    old = created["authentication"]["secret"]
    answer = client.call("POST", f"{path}/signature")
    assert answer.status == 200
    assert answer.body == {
        "webhookId": created["webhookId"],
        "secret": answer.body["secret"],
        "previousSecretExpiresAt": "2026-11-04T12:00:00.005Z",
    }
    assert client.slept_seconds[-1:] == [MAX_AGE_SECONDS], "until no sender knows the old one alone"
    new = answer.body["secret"]
    assert new.startswith("whsec_")
    assert new != old
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Content-Disposition"] == (
        f'attachment; filename="{created["webhookId"]}-signing-secret.json"'
    )
    assert answer.headers["Cache-Control"] == "no-store"
    for seconds, old_verifies in ((0, True), (86_399, True), (86_401, False)):
        client.now_seconds = NOW.timestamp() + seconds
        assert client.call("POST", f"{path}/test").body["delivered"]
        assert (verifies(client, old), verifies(client, new)) == (old_verifies, True)


def test_it_is_no_new_epoch_and_the_secret_is_never_shown_again(client: AdminClient, created: Any) -> None:
    path = f"/v1/webhooks/{created['webhookId']}"
    rotated = client.call("POST", f"{path}/signature")
    (registered,) = client.store.read_account("1010")
    assert (registered.webhook.epoch, registered.webhook.version) == (1, 2)
    assert rotated.headers["ETag"] == client.call("GET", path).headers["ETag"]
    assert rotated.headers["ETag"] == etag(created["webhookId"], 2)
    assert client.sent_for_drainers() == []
    assert "whsec_" not in client.call("GET", path).text


def test_while_two_secrets_sign_another_is_made_only_for_who_knows_the_version(
    client: AdminClient, created: Any
) -> None:
    path = f"/v1/webhooks/{created['webhookId']}"
    first = client.call("POST", f"{path}/signature")
    second = first.body["secret"]
    assert client.call("GET", path).body["authentication"] == {
        "type": "signature",
        "previousSecretExpiresAt": first.body["previousSecretExpiresAt"],
    }
    again = client.call("POST", f"{path}/signature")
    assert (again.status, again.body["type"]) == (409, "urn:lms-webhooks:problem:rotation-in-progress")
    stale = client.call("POST", f"{path}/signature", headers={"if-match": '"1"'})
    assert stale.status == 412
    client.call("POST", f"{path}/test")
    assert verifies(client, created["authentication"]["secret"])
    assert verifies(client, second)

    etag = client.call("GET", path).headers["ETag"]
    third = client.call("POST", f"{path}/signature", headers={"if-match": etag}).body["secret"]
    client.call("POST", f"{path}/test")
    assert not verifies(client, created["authentication"]["secret"])
    assert verifies(client, second)
    assert verifies(client, third)


def test_when_the_overlap_has_ended_the_next_begins(client: AdminClient, created: Any) -> None:
    path = f"/v1/webhooks/{created['webhookId']}"
    assert client.call("POST", f"{path}/signature").status == 200
    client.now_seconds += 86_400
    assert client.call("GET", path).body["authentication"] == {"type": "signature"}
    assert client.call("POST", f"{path}/signature").status == 200


@pytest.mark.parametrize(
    ("headers", "status", "slug"),
    [
        (lambda _: {}, 409, "rotation-in-progress"),
        (lambda webhook_id: {"if-match": etag(webhook_id, 1)}, 412, "version-conflict"),
        (lambda _: {"if-match": "*"}, 412, "version-conflict"),
    ],
    ids=["without If-Match", "with the version", "with any"],
)
def test_of_two_at_once_one_makes_a_secret(
    client: AdminClient,
    created: Any,
    monkeypatch: pytest.MonkeyPatch,
    headers: Callable[[str], dict[str, str]],
    status: int,
    slug: str,
) -> None:
    """The other's would end the only one that receivers know."""
    path = f"/v1/webhooks/{created['webhookId']}"
    meanwhile: list[str] = []
    update = client.store.update

    def slowly(webhook: Webhook, **more: Any) -> None:
        if not meanwhile:
            meanwhile.append("")
            meanwhile.append(client.call("POST", f"{path}/signature").body["secret"])
        update(webhook, **more)

    monkeypatch.setattr(client.store, "update", slowly)
    lost = client.call("POST", f"{path}/signature", headers=headers(created["webhookId"]))
    assert (lost.status, lost.body["type"]) == (status, f"urn:lms-webhooks:problem:{slug}")
    client.call("POST", f"{path}/test")
    assert verifies(client, created["authentication"]["secret"])
    assert verifies(client, meanwhile[1])


def test_another_change_at_the_same_time_does_not_stand_in_the_way(
    client: AdminClient, created: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/v1/webhooks/{created['webhookId']}"
    renamed: list[int] = []
    update = client.store.update

    def slowly(webhook: Webhook, **more: Any) -> None:
        if not renamed:
            renamed.append(0)
            renamed.append(client.call("PATCH", path, {"name": "Payroll"}).status)
        update(webhook, **more)

    monkeypatch.setattr(client.store, "update", slowly)
    assert client.call("POST", f"{path}/signature").status == 200
    assert renamed == [0, 200]
    assert client.call("GET", path).body["name"] == "Payroll"


def test_a_webhook_that_does_not_sign_has_no_secret_to_change(client: AdminClient) -> None:
    path = client.create().headers["Location"]
    answer = client.call("POST", f"{path}/signature")
    assert (answer.status, answer.body["type"]) == (409, "urn:lms-webhooks:problem:not-signed")


def test_what_was_read_meanwhile_is_guarded(client: AdminClient, created: Any) -> None:
    path = f"/v1/webhooks/{created['webhookId']}/signature"
    assert client.call("POST", path, headers={"if-match": '"7"'}).status == 412
    assert client.call("POST", path, headers={"if-match": etag(created["webhookId"], 1)}).status == 200
    (registered,) = client.store.read_account("1010")
    assert isinstance(registered.webhook.authentication, SignatureAuthentication)
    assert client.call("POST", "/v1/webhooks/wh_" + "a" * 22 + "/signature").status == 404
