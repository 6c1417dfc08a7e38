"""An event on the bus reaches the webhooks that asked for it: proven, unchanged, once, and on record."""

import base64
import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
import standardwebhooks
import trustme

from lms_webhooks.model.event_types import REAL_TIME
from tests.e2e.system import Account, System
from tests.fakes.receiver import Receiver, Request
from tests.patience import PATIENCE_SECONDS

AUTHENTICATIONS: dict[str, dict[str, str]] = {
    "none": {"type": "none"},
    "basic": {"type": "basic", "username": "zoë", "password": "pässwörd: 1"},
    "signature": {"type": "signature"},
}


def check_proof(request: Request, webhook: dict[str, Any]) -> None:
    """The request proves what its webhook's authentication promises, and nothing else."""
    assert ("webhook-signature" in request.headers) == (webhook["authentication"]["type"] == "signature")
    assert ("authorization" in request.headers) == (webhook["authentication"]["type"] == "basic")
    if webhook["authentication"]["type"] == "signature":
        secret = webhook["authentication"]["secret"]
        standardwebhooks.Webhook(secret).verify(request.body, dict(request.headers))
    if webhook["authentication"]["type"] == "basic":
        scheme, _, credentials = request.headers["authorization"].partition(" ")
        assert scheme == "Basic"
        assert base64.b64decode(credentials, validate=True).decode() == "zoë:pässwörd: 1"


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("kind", AUTHENTICATIONS)
def test_an_event_arrives_with_the_proof_that_its_webhook_chose(
    kind: str, scheme: str, account: Account, receiver: Receiver, tls_receiver: Receiver
) -> None:
    used = tls_receiver if scheme == "https" else receiver
    webhook = account.create(used.url("/hook?team=hr"), authentication=AUTHENTICATIONS[kind])
    event = account.emit()
    assert used.wait_for_requests(1)

    (request,) = used.requests
    check_proof(request, webhook)
    assert (request.method, request.path) == ("POST", "/hook?team=hr")
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"].startswith("lms-webhooks/")
    assert request.headers["webhook-id"] == event["eventId"]
    assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < 60
    assert request.headers["host"] == f"127.0.0.1:{used.port}"
    assert json.loads(request.body) == {
        "accountId": int(account.account_id),
        "events": [{name: value for name, value in event.items() if name != "accountId"}],
    }


def test_every_real_time_type_reaches_the_webhooks_that_asked_for_it(
    account: Account, receiver: Receiver
) -> None:
    account.create(receiver.url("/all"))
    account.create(receiver.url("/some"), events=["CI_STATS", "RESPONSE:ASYNCAPI_USERGROUP_USER_ADDED"])
    for name in REAL_TIME:
        account.emit(name)
    assert receiver.wait_for_requests(len(REAL_TIME) + 2)
    account.system.wait_until_done()

    def names_to(path: str) -> list[str]:
        events = [event for request in receiver.requests_to(path) for event in request.events]
        return sorted(event["eventName"] for event in events)

    assert names_to("/all") == sorted(REAL_TIME)
    assert names_to("/some") == ["CI_STATS", "RESPONSE:ASYNCAPI_USERGROUP_USER_ADDED"]


def test_a_receiver_with_a_certificate_of_somebody_else_gets_no_byte(
    account: Account, tls_receiver: Receiver, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("stranger")
    certificate = trustme.CA().issue_cert("localhost", "127.0.0.1")
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    with Receiver(certificate=(folder / "cert.pem", folder / "key.pem")) as stranger:
        account.create(stranger.url())
        account.create(tls_receiver.url())
        account.emit()
        assert tls_receiver.wait_for_requests(1)
        assert stranger.wait_for(lambda: stranger.failed_handshakes > 0, PATIENCE_SECONDS)
        assert stranger.requests == []


##### Unchanged


@pytest.mark.parametrize(
    "timestamp",
    [1762164000, 1762164000123, "2025-11-03T12:00:00.5+02:00"],
    ids=["seconds", "milliseconds", "ISO 8601"],
)
def test_what_the_bus_carries_arrives_as_it_was(
    timestamp: int | str, account: Account, receiver: Receiver
) -> None:
    """Key order, unknown fields, integers beyond 64 bits, and each form of the timestamp."""
    account.create(receiver.url())
    event: dict[str, Any] = {
        "zebra": {"z": 1, "a": {}, "m": []},
        "timestamp": timestamp,
        "eventName": "COURSE_COMPLETED",
        "accountId": int(account.account_id),
        "data": {
            "userId": 12345678901234567890,
            "balance": -98765432109876543210,
            "name": 'Zoë "😀" \\ /\n\u2028',
            "": [None, True, False, "", {"b": [], "a": 0}],
        },
        "eventId": str(uuid.uuid4()),
        "aardvark": None,
    }
    account.system.put(event)
    assert receiver.wait_for_requests(1)
    del event["accountId"]
    sent = {"accountId": int(account.account_id), "events": [event]}

    def in_order(value: Any) -> Any:
        return json.loads(json.dumps(value), object_pairs_hook=list)

    (request,) = receiver.requests
    assert json.loads(request.body, object_pairs_hook=list) == in_order(sent)


def test_not_a_character_of_a_message_on_the_queue_changes(
    system: System, account: Account, receiver: Receiver
) -> None:
    """Past the bus, whose local stand-in writes 1.10 as 1.1; AWS does not promise that its own keeps it."""
    account.create(receiver.url())
    event_id = str(uuid.uuid4())
    members = [
        '"price":1.10',
        f'"eventId":"{event_id}"',
        '"data" : {"b":[1.0,1.00, 1E+2,-0.0],"a":12345678901234567890,"é":"\\u00e9\\/\\ud83d\\ude00"}',
        '"eventName":"COURSE_COMPLETED"',
        '"timestamp":1762164000.250',
    ]
    detail = "{" + ", ".join([*members, f'"accountId":"{account.account_id}"']) + "}"
    system.send_raw(system.envelope(detail, detail_type="COURSE_COMPLETED"))
    assert receiver.wait_for_requests(1)
    body = f'{{"accountId":{account.account_id},"events":[{{{",".join(members)}}}]}}'
    assert receiver.requests[0].body.decode() == body


##### Once, and on record


def test_every_delivery_is_on_record(account: Account, receiver: Receiver) -> None:
    webhooks = [account.create(receiver.url(f"/{number}"))["webhookId"] for number in range(2)]
    before = int(time.time())
    events = [account.emit(timestamp=1762164000123 + number) for number in range(3)]
    for webhook_id in webhooks:
        items = account.system.wait_for_history(webhook_id, len(events))
        assert [item["sk"]["S"] for item in items] == [
            f"{event['timestamp']:013d}#{event['eventId']}\tCOURSE_ENROLLMENT" for event in events
        ]
        for item in items:
            assert item["outcome"]["S"] == "delivered"
            assert item["account_id"]["S"] == account.account_id
            assert item["event_name"]["S"] == "COURSE_ENROLLMENT"
            assert before + 29 * 86_400 < int(item["expires_at"]["N"]) < time.time() + 31 * 86_400
    assert len(receiver.requests) == len(webhooks) * len(events)


def test_a_message_that_comes_twice_is_delivered_once(
    system: System, account: Account, receiver: Receiver
) -> None:
    """As SQS may bring it, and as the LMS may put it: what counts is the event's own time and id."""
    webhook_id = account.create(receiver.url())["webhookId"]
    event = account.event()
    message = system.envelope(json.dumps(event), detail_type=event["eventName"])
    system.send_raw(message)
    system.wait_for_history(webhook_id, 1)
    system.send_raw(message)
    system.put(event)
    account.emit()
    system.wait_for_history(webhook_id, 2)
    system.wait_until_done()
    arrived = [event_id for request in receiver.requests for event_id in request.event_ids]
    assert arrived.count(event["eventId"]) == 1
    assert len(arrived) == 2


##### Those that want nothing


def test_an_inactive_webhook_gets_nothing(account: Account, receiver: Receiver) -> None:
    inactive = account.create(receiver.url("/inactive"), status="inactive")
    account.create(receiver.url("/active"))
    account.emit()
    assert receiver.wait_for_requests(1)
    account.system.wait_until_done()
    assert [request.path for request in receiver.requests] == ["/active"]
    assert account.system.history(inactive["webhookId"]) == []


def test_a_deleted_webhook_gets_nothing(account: Account, receiver: Receiver) -> None:
    deleted = account.create(receiver.url("/deleted"))["webhookId"]
    account.create(receiver.url("/kept"))
    account.delete(deleted)
    account.emit()
    assert receiver.wait_for_requests(1)
    account.system.wait_until_done()
    assert [request.path for request in receiver.requests] == ["/kept"]
    assert account.system.history(deleted) == []


def test_what_is_put_after_the_answer_of_a_change_sees_it(
    new_account: Callable[[], Account], receiver: Receiver
) -> None:
    """Dispatchers remember the account's webhooks as they were; the API responds when none does any
    more."""
    account = new_account()
    ended = account.create(receiver.url("/ended"))["webhookId"]
    account.create(receiver.url("/kept"))
    account.emit()
    assert receiver.wait_for_requests(2)

    def move() -> None:
        changed = account.call("PATCH", f"/v1/webhooks/{ended}", {"targetUrl": receiver.url("/moved")})
        assert changed.status == 200

    for change, paths in (
        (move, {"/moved", "/kept"}),
        (lambda: account.create(receiver.url("/new")), {"/moved", "/kept", "/new"}),
        (lambda: account.delete(ended), {"/kept", "/new"}),
    ):
        change()
        ids = [account.emit()["eventId"] for _ in range(3)]

        def arrived(ids: list[str] = ids) -> set[tuple[str, str]]:
            return {
                (each.path, event_id)
                for each in receiver.requests
                for event_id in each.event_ids
                if event_id in ids
            }

        receiver.wait_for(lambda: len(arrived()) >= len(ids) * len(paths), PATIENCE_SECONDS)  # noqa: B023
        account.system.wait_until_done()
        assert arrived() == {(path, event_id) for path in paths for event_id in ids}
