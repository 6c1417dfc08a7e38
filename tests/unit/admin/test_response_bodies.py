"""An admin who wants it sees what a receiver said when it refused; no other webhook pays for that."""

import base64
import json
from dataclasses import replace

import pytest

from lms_webhooks.model.attempts import Attempt
from lms_webhooks.model.deliveries import Delivery, Outcome
from lms_webhooks.model.health import Health, Mode
from lms_webhooks.model.lanes import Lane, PendingEvent
from lms_webhooks.sending.webhook_request import Credentials
from tests.unit.admin_client import AdminClient
from tests.unit.tables import NOW_MS, event

REFUSED = Attempt(NOW_MS - 9_000, 40, 422, None)
LOST = Attempt(NOW_MS - 8_000, 40, None, "timeout")
DOWN = Attempt(NOW_MS - 7_000, 40, 503, None)
OK = Attempt(NOW_MS - 6_000, 40, 204, None)
EARLY = NOW_MS - 60_000


def prepared(client: AdminClient, *, keeps: bool) -> str:
    """A webhook with a delivery that was refused first, and one that is pending while the endpoint fails."""
    webhook_id = str(client.create(keepResponseBodies=keeps).body["webhookId"])
    ended, pending = (event(name, at_ms=EARLY, accepted_at_ms=EARLY) for name in ("ended", "pending"))
    client.history.record(
        [Delivery(webhook_id, ended, Outcome.DELIVERED, (REFUSED, LOST, OK))],
        recorded_at_seconds=NOW_MS // 1000,
    )
    client.backlog.append(webhook_id, Lane.REALTIME, [PendingEvent(pending)])
    client.backlog.set_marker("1010", webhook_id, Lane.REALTIME, accepted_at_ms=EARLY)
    failing = Health(mode=Mode.BACKLOG, failures=1, failing_since_ms=NOW_MS, attempts=(OK, DOWN))
    assert client.health.save("1010", webhook_id, failing, revision=0)
    for key, attempt, body in (
        (ended.sort_key, REFUSED, "no such user"),
        (pending.sort_key, DOWN, "overloaded"),
    ):
        client.history.keep_body("1010", webhook_id, [key], attempt, body, recorded_at_seconds=NOW_MS // 1000)
    return webhook_id


def bodies(client: AdminClient, webhook_id: str) -> dict[str, list[str | None]]:
    """By where they are shown, a body or nothing for each attempt."""
    base = f"/v1/webhooks/{webhook_id}"
    shown = {"health": client.call("GET", base).body["health"]["attempts"]}
    for listed in client.call("GET", f"{base}/deliveries").body["deliveries"]:
        delivery = client.call("GET", f"{base}/deliveries/{listed['deliveryId']}").body
        shown[delivery["eventId"]] = [*delivery["attempts"], *delivery.get("endpointAttempts", [])]
    return {name: [each.get("responseBody") for each in attempts] for name, attempts in shown.items()}


def test_bodies_are_shown_with_their_attempts(client: AdminClient) -> None:
    webhook_id = prepared(client, keeps=True)
    assert bodies(client, webhook_id) == {
        "health": [None, "overloaded"],
        "ended": ["no such user", None, None],
        "pending": [None, "overloaded"],
    }


def test_they_are_off_by_default_and_can_be_turned_on_and_off(client: AdminClient) -> None:
    webhook_id = prepared(client, keeps=False)
    path = f"/v1/webhooks/{webhook_id}"
    nothing = {"health": [None, None], "ended": [None] * 3, "pending": [None] * 2}
    assert bodies(client, webhook_id) == nothing
    assert client.create().body["keepResponseBodies"] is False
    changed = client.call("PATCH", path, {"keepResponseBodies": True}).body
    assert (changed["keepResponseBodies"], changed["health"]["mode"]) == (True, "backlog")
    assert bodies(client, webhook_id)["ended"][0] == "no such user"
    client.call("PATCH", path, {"keepResponseBodies": False})
    assert client.call("GET", path).body["keepResponseBodies"] is False
    assert bodies(client, webhook_id) == nothing
    assert client.call("PATCH", path, {"keepResponseBodies": "yes"}).status == 422


def test_damaged_items_hide_nothing_else(client: AdminClient) -> None:
    """The list, and the response to each change, shows the newest delivery, bodies and a replay."""
    webhook_id = prepared(client, keeps=True)
    client.history.record(
        [Delivery(webhook_id, event("damaged"), Outcome.DELIVERED, (OK,))], recorded_at_seconds=NOW_MS // 1000
    )
    client.call("POST", f"/v1/webhooks/{webhook_id}/replay", {"from": "2026-01-01T00:00:00Z"})
    damage(client, f"BODY#{webhook_id}", "body")
    damage(client, f"DELIVERY#{webhook_id}", "outcome")
    damage(client, f"REPLAY#{webhook_id}", "state")
    (listed,) = client.call("GET", "/v1/webhooks").body["webhooks"]
    assert [each.get("responseBody") for each in listed["health"]["attempts"]] == [None, None]
    assert "replay" not in listed
    history = client.call("GET", f"/v1/webhooks/{webhook_id}/deliveries").body["deliveries"]
    assert [each["eventId"] for each in history] == ["pending", "ended"]
    assert client.call("PATCH", f"/v1/webhooks/{webhook_id}", {"status": "paused"}).status == 200


def damage(client: AdminClient, partition: str, attribute: str) -> None:
    """Take an attribute from the last item of a partition."""
    items = client._dynamodb.query(
        TableName=client.settings.deliveries_table,
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": partition}},
    )["Items"]
    client._dynamodb.update_item(
        TableName=client.settings.deliveries_table,
        Key={name: items[-1][name] for name in ("pk", "sk")},
        UpdateExpression="REMOVE #attribute",
        ExpressionAttributeNames={"#attribute": attribute},
        ConditionExpression="attribute_exists(#attribute)",
    )


def test_they_expire_with_the_history(client: AdminClient) -> None:
    webhook_id = prepared(client, keeps=True)
    items = client._dynamodb.scan(TableName=client.settings.deliveries_table)["Items"]
    (expires_at,) = {item["expires_at"]["N"] for item in items if item["pk"]["S"] == f"BODY#{webhook_id}"}
    assert int(expires_at) == NOW_MS // 1000 + 30 * 86_400


@pytest.mark.parametrize("password", ["correct horse", 'a"b\\c', "ü€", "zq"])
def test_a_password_that_a_receiver_echoes_is_hidden(password: str) -> None:
    credentials = Credentials(basic=("lms", password))
    token = _token(password)
    echoed = f"401: Basic {token} of lms with {password} or {json.dumps(password)} is wrong"
    hidden = credentials.hide_in(echoed)
    assert token not in hidden
    assert password not in hidden
    assert hidden.startswith("401: Basic ***")
    cut = credentials.hide_in(f"Basic {token[:-2]}")
    assert cut == "Basic ***"
    assert replace(credentials, basic=None).hide_in(echoed) == echoed


def _token(password: str) -> str:
    return base64.b64encode(f"lms:{password}".encode()).decode()
