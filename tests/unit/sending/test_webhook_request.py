"""The request that a receiver gets: exact bytes, ids that a retry repeats, and headers."""

import base64
import hashlib
import json
import time

import pytest
from standardwebhooks import Webhook

from lms_webhooks import __version__
from lms_webhooks.model.events import Event
from lms_webhooks.sending.signing import new_secret
from lms_webhooks.sending.webhook_request import Credentials, WebhookRequest, build_body, build_request

URL = "https://example.com/hooks?x=1"


ADDED, REMOVED = (f"RESPONSE:ASYNCAPI_USERGROUP_USER_{done}" for done in ("ADDED", "REMOVED"))


def event_of(
    event_id: str = "e-1",
    *,
    account_id: str = "1010",
    name: str = "COURSE_ENROLLMENT",
    text: str = '{"eventId":"e-1"}',
) -> Event:
    return Event(account_id, event_id, name, 1727414643000, 1, text)


def compose_for(
    *events: Event,
    webhook_id: str = "wh_1",
    credentials: Credentials | None = None,
    headers: dict[str, str] | None = None,
    timestamp_seconds: int = 1727414643,
    is_test: bool = False,
) -> WebhookRequest:
    return build_request(
        URL,
        events or (event_of(),),
        webhook_id=webhook_id,
        credentials=credentials or Credentials(),
        headers=headers or {},
        timestamp_seconds=timestamp_seconds,
        is_test=is_test,
    )


def test_the_body_is_each_event_s_own_text_under_the_account() -> None:
    texts = ['{"price":1.10,  "big":12345678901234567890}', '{"é":"\\u00e9","\\ud800":null}']
    body = build_body([event_of(text=text) for text in texts])
    assert body == f'{{"accountId":1010,"events":[{texts[0]},{texts[1]}]}}'.encode()
    assert compose_for(*(event_of(text=text) for text in texts)).body == body


@pytest.mark.parametrize(
    ("account_id", "text"),
    [
        ("1010", "1010"),
        ("0", "0"),
        ("9" * 64, "9" * 64),
        ("0010", '"0010"'),
        ("-1", '"-1"'),
        ("1.5", '"1.5"'),
        ("1e3", '"1e3"'),
        ("\u0661\u0660", '"\\u0661\\u0660"'),
        ("acme", '"acme"'),
        ('a"b\\c', '"a\\"b\\\\c"'),
        ("é", '"\\u00e9"'),
    ],
)
def test_an_account_is_a_number_where_it_is_one_and_a_string_otherwise(account_id: str, text: str) -> None:
    body = build_body([event_of(account_id=account_id)])
    assert body.startswith(f'{{"accountId":{text},'.encode())
    assert str(json.loads(body)["accountId"]) == account_id


@pytest.mark.parametrize("event_id", ["e", "d5fb7071-10a9-46b2-9f9e-79dde346c052", "A_z-9", "a" * 64])
def test_one_event_gives_the_request_its_own_id(event_id: str) -> None:
    assert compose_for(event_of(event_id)).headers["webhook-id"] == event_id


@pytest.mark.parametrize("event_id", ["a" * 65, "a.b", "a b", "a/b", "é", "😀", "a:b", "a\u0661"])
def test_an_id_that_a_header_cannot_carry_is_hashed(event_id: str) -> None:
    assert (
        compose_for(event_of(event_id)).headers["webhook-id"] == hashlib.sha256(event_id.encode()).hexdigest()
    )


def test_a_test_is_marked_in_what_is_signed_and_no_event_is() -> None:
    """Receivers do nothing for a test. An event must not be taken for one, whatever id its emitter chose."""
    assert compose_for(event_of("e-1"), is_test=True).headers["webhook-id"] == "test_e-1"
    for event_id in ("test_", "test_e-1", "test_" + "a" * 59):
        sent = compose_for(event_of(event_id)).headers["webhook-id"]
        assert sent == hashlib.sha256(event_id.encode()).hexdigest()
    for event_id in ("test-1", "TEST_1", "a_test_1"):
        assert compose_for(event_of(event_id)).headers["webhook-id"] == event_id


def test_several_events_give_a_hash_of_webhook_and_ids_in_their_order() -> None:
    """A retry of the same events has the same id; whatever else differs has another."""
    one, two, three = event_of("e-1"), event_of("e-2"), event_of("e-3")
    sent = compose_for(one, two).headers["webhook-id"]
    assert len(sent) == 64
    assert compose_for(one, two, timestamp_seconds=1727414700).headers["webhook-id"] == sent
    others = [
        compose_for(two, one),
        compose_for(one, three),
        compose_for(one, two, three),
        compose_for(event_of("e-1e-2"), event_of("")),
        compose_for(event_of('e-1","e-2'), event_of("x")),
        compose_for(one, two, webhook_id="wh_2"),
        compose_for(one),
    ]
    assert len({sent, *(message.headers["webhook-id"] for message in others)}) == len(others) + 1


def test_an_id_of_a_caller_s_own_goes_with_its_type_s_name() -> None:
    """A caller may give one id to a request that adds users and to one that removes them."""
    requests = [
        *(compose_for(event_of(name=name)) for name in (ADDED, REMOVED, "COURSE_ENROLLMENT")),
        *(compose_for(event_of(name=name), event_of("e-2", name=name)) for name in (ADDED, REMOVED)),
    ]
    assert len({each.headers["webhook-id"] for each in requests}) == len(requests)
    assert compose_for(event_of(name=ADDED)).headers["webhook-id"] == requests[0].headers["webhook-id"]
    assert compose_for(event_of(name=ADDED), is_test=True).headers["webhook-id"].startswith("test_")


def test_a_request_without_authentication_has_these_headers_and_no_others() -> None:
    message = compose_for(headers={"x-team": "learning"})
    assert message.url == URL
    assert message.headers == {
        "x-team": "learning",
        "content-type": "application/json",
        "user-agent": f"lms-webhooks/{__version__}",
        "webhook-id": "e-1",
        "webhook-timestamp": "1727414643",
    }


def test_a_static_header_does_not_replace_one_of_ours() -> None:
    ours = compose_for().headers
    assert compose_for(headers=dict.fromkeys(ours, "theirs")).headers == ours


def test_a_signed_request_verifies_with_the_public_library() -> None:
    now, secrets = int(time.time()), (new_secret(), new_secret())
    message = compose_for(credentials=Credentials(signing_secrets=secrets), timestamp_seconds=now)
    for secret in secrets:
        Webhook(secret).verify(message.body, message.headers)
    assert "authorization" not in message.headers


@pytest.mark.parametrize(
    ("user", "password"), [("ada", "s3cret"), ("ada", "a:b:c"), ("zoë", "pässwörd €"), ("a", "")]
)
def test_basic_authentication_is_utf_8(user: str, password: str) -> None:
    message = compose_for(credentials=Credentials(basic=(user, password)))
    scheme, _, value = message.headers["authorization"].partition(" ")
    assert scheme == "Basic"
    assert base64.b64decode(value, validate=True) == f"{user}:{password}".encode()
    assert "webhook-signature" not in message.headers


def test_no_secret_shows_when_it_is_printed() -> None:
    """A log line, or a traceback that prints its variables."""
    secret = new_secret()
    credentials = Credentials(basic=("ada", "hunter2"), signing_secrets=(secret,))
    message = compose_for(event_of(text='{"name":"Ada Lovelace"}'), credentials=credentials)
    for shown in (repr(credentials), f"{credentials}", repr(message), f"{message}"):
        for hidden in ("hunter2", secret, message.headers["authorization"], "Lovelace", message.url):
            assert hidden not in shown
