"""Build the signed HTTP request that a receiver gets. Pure: the signed bytes are the bytes sent."""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from lms_webhooks import __version__
from lms_webhooks.model.event_types import has_id_of_caller
from lms_webhooks.model.events import Event
from lms_webhooks.sending.signing import sign

USER_AGENT = f"lms-webhooks/{__version__}"

TEST_ID_PREFIX = "test_"
"""The prefix of a test's `webhook-id`. No other request has it, and the signature covers it."""

_HIDDEN = "***"
_MIN_CUT = 4
"""Fewer characters at the end of a text than this say nothing of a password."""
_SAFE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_WHOLE_NUMBER = re.compile(r"0|[1-9][0-9]*")


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """One POST: its URL, headers and exact body. Its repr keeps them out of logs."""

    url: str = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Credentials:
    """The decrypted secrets of one webhook, kept only in memory. At most one kind is set."""

    basic: tuple[str, str] | None = None
    signing_secrets: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return "Credentials(...)"

    def hide_in(self, text: str) -> str:
        """Return a receiver's `text` with asterisks in place of the password, which it may echo.

        A signing secret is never sent, so no receiver can echo it.
        """
        if self.basic is None:
            return text
        password = self.basic[1]
        secrets = (_basic_token(self.basic), json.dumps(password)[1:-1], password)
        for secret in secrets:
            text = text.replace(secret, _HIDDEN)
        for secret in secrets:  # the text may have been cut in the middle of one
            cut = (secret[:length] for length in range(len(secret) - 1, _MIN_CUT - 1, -1))
            if start := next((each for each in cut if text.endswith(each)), ""):
                text = text.removesuffix(start) + _HIDDEN
        return text


def build_request(
    url: str,
    events: Sequence[Event],
    *,
    webhook_id: str,
    credentials: Credentials,
    headers: dict[str, str],
    timestamp_seconds: int,
    is_test: bool = False,
) -> WebhookRequest:
    """Build the POST that carries `events`: at least one, all of one account."""
    body = build_body(events)
    message_id = TEST_ID_PREFIX * is_test + _message_id(webhook_id, events)
    sent_headers = {
        **headers,
        "content-type": "application/json",
        "user-agent": USER_AGENT,
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_seconds),
    }
    if credentials.signing_secrets:
        sent_headers["webhook-signature"] = sign(
            credentials.signing_secrets, message_id=message_id, timestamp_seconds=timestamp_seconds, body=body
        )
    if credentials.basic:
        sent_headers["authorization"] = f"Basic {_basic_token(credentials.basic)}"
    return WebhookRequest(url, sent_headers, body)


def _basic_token(user_and_password: tuple[str, str]) -> str:
    return base64.b64encode(":".join(user_and_password).encode()).decode()  # RFC 7617: UTF-8


def build_body(events: Sequence[Event]) -> bytes:
    """Build `{"accountId":...,"events":[...]}`, with each event's text as it came from the bus."""
    account_id = events[0].account_id
    account = account_id if _WHOLE_NUMBER.fullmatch(account_id) else json.dumps(account_id)
    return f'{{"accountId":{account},"events":[{",".join(event.text for event in events)}]}}'.encode()


def _message_id(webhook_id: str, events: Sequence[Event]) -> str:
    """Return the `webhook-id`: a retry of the same events has the same one.

    A single event gives its own id, hashed where a header cannot carry it. An id that a caller chose is
    hashed with the event's name, since the id alone may be that of another event.
    """
    if len(events) == 1:
        event_id = _own_id(events[0])
        is_safe = _SAFE_ID.fullmatch(event_id) and not event_id.startswith(TEST_ID_PREFIX)
        return event_id if is_safe else hashlib.sha256(event_id.encode()).hexdigest()
    ids = json.dumps([webhook_id, *(_own_id(event) for event in events)])
    return hashlib.sha256(ids.encode()).hexdigest()


def _own_id(event: Event) -> str:
    """Return what tells an event from others of its account in a `webhook-id`."""
    if has_id_of_caller(event.event_name):
        return f"{event.event_name} {event.event_id}"
    return event.event_id
