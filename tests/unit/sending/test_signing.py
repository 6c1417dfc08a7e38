"""Signatures verify with the public Standard Webhooks library, and are what its specification shows."""

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from lms_webhooks.sending.signing import SECRET_BYTES, SECRET_PREFIX, new_secret, sign

BODY = b'{"accountId":1010,"events":[]}'


def headers_of(signature: str, *, timestamp_seconds: int) -> dict[str, str]:
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(timestamp_seconds),
        "webhook-signature": signature,
    }


def now_seconds() -> int:
    return int(datetime.now(UTC).timestamp())


@pytest.mark.parametrize("prefix", ["", SECRET_PREFIX])
def test_the_published_example_comes_out(prefix: str) -> None:
    assert (
        sign(
            [prefix + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
            message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
            timestamp_seconds=1614265330,
            body=b'{"test": 2432232314}',
        )
        == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )


def test_a_new_secret_is_random_and_of_the_length_that_the_standard_asks_for() -> None:
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    for secret in made:
        assert secret.startswith("whsec_")
        assert len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == SECRET_BYTES == 32


def test_the_public_library_verifies_with_either_secret_during_a_rotation() -> None:
    now, new, old = now_seconds(), new_secret(), new_secret()
    signature = sign([new, old], message_id="msg_1", timestamp_seconds=now, body=BODY)
    assert len(signature.split(" ")) == 2
    for secret in (new, old):
        Webhook(secret).verify(BODY, headers_of(signature, timestamp_seconds=now))
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(BODY, headers_of(signature, timestamp_seconds=now))


@pytest.mark.parametrize(
    ("changed", "value"),
    [("webhook-id", "msg_2"), ("webhook-timestamp", "+1"), ("body", BODY + b" "), ("secret", new_secret())],
    ids=["id", "timestamp", "body", "secret"],
)
def test_the_public_library_refuses_whatever_was_changed(changed: str, value: str | bytes) -> None:
    now, secret = now_seconds(), new_secret()
    signature = sign([secret], message_id="msg_1", timestamp_seconds=now, body=BODY)
    headers = headers_of(signature, timestamp_seconds=now)
    if changed == "webhook-timestamp":
        headers[changed] = str(now + 1)
    elif changed == "webhook-id":
        headers[changed] = str(value)
    body = value if changed == "body" else BODY
    with pytest.raises(WebhookVerificationError):
        Webhook(str(value) if changed == "secret" else secret).verify(body, headers)


@given(st.text(st.characters(blacklist_categories=["Cs"])).map(lambda text: f'{{"a":"{text!r}"}}'.encode()))
def test_any_body_is_signed_as_the_library_signs_it(body: bytes) -> None:
    now, secret = datetime.now(UTC), new_secret()
    ours = sign([secret], message_id="msg_1", timestamp_seconds=int(now.timestamp()), body=body)
    assert ours == Webhook(secret).sign("msg_1", now, body.decode())
