"""`make emit` says of each webhook of the account what became of the event."""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from lms_webhooks.timestamps import format_ms
from local.emit import make_event
from local.followed_event import where_it_went
from local.stack import Answer, Stack
from tests.patience import PATIENCE_SECONDS

EVENT = make_event("COURSE_ENROLLMENT", "1010") | {"timestamp": 1_796_000_000_000}
BATCH_EVENT = make_event("LEARNER_PROGRESS", "1010") | {"timestamp": 1_796_000_000_000}
SOON = {"at": "2026-12-01T00:00:00.000Z", "latencyMs": 7}
LONG_AGO = "2020-01-01T00:00:00.000Z"


class StackOfOneWebhook(Stack):
    """What the admin API of a stack says, and no more of the stack."""

    webhook: dict[str, Any] | None
    deliveries: list[dict[str, Any]]
    """Those of successive calls; the last one stays."""

    def id_token(self, account_id: str = "1010") -> str:
        return f"token of {account_id}"

    def call(self, method: str, path: str, *, token: str, body: object = None) -> Answer:
        assert (method, token, body) == ("GET", "token of 1010", None)
        webhook = self.webhook
        if path == "/v1/webhooks":
            return Answer(200, {"webhooks": [webhook] if webhook else []})
        assert webhook is not None
        if path == f"/v1/webhooks/{webhook['webhookId']}":
            return Answer(200, webhook)
        url = urlsplit(path)
        assert url.path == f"/v1/webhooks/{webhook['webhookId']}/deliveries"
        (name,), (start,), (end,) = (parse_qs(url.query)[key] for key in ("eventName", "from", "to"))
        assert (start, end) == (format_ms(EVENT["timestamp"]), format_ms(EVENT["timestamp"] + 1))
        delivery = self.deliveries.pop(0) if len(self.deliveries) > 1 else self.deliveries[0]
        other = {"eventId": "of another event", "status": "delivered", "eventName": name}
        return Answer(200, {"deliveries": [other, delivery]})


def lines(
    *deliveries: dict[str, Any],
    event: dict[str, Any] = EVENT,
    account_id: str = "1010",
    patience_seconds: float = PATIENCE_SECONDS,
    **webhook: Any,
) -> list[str]:
    admin = {"accountId": "1010", "username": "ada", "password": "word"}
    stack = StackOfOneWebhook(Path(), {"admins": [admin], "batchScheduleSeconds": 120})
    known = {
        "webhookId": "wh_1",
        "name": "HR",
        "targetUrl": "http://127.0.0.1:8080/",
        "events": ["COURSE_ENROLLMENT", "LEARNER_PROGRESS"],
        "status": "active",
        "health": {"mode": "direct"},
    }
    object.__setattr__(stack, "webhook", known | webhook)
    found = [{"eventId": event["eventId"]} | each for each in deliveries]
    object.__setattr__(stack, "deliveries", found or [{"eventId": "none yet"}])
    return list(where_it_went(stack, event, account_id, patience_seconds=patience_seconds))


def test_a_delivery_is_awaited_and_shown_with_its_response() -> None:
    pending = {"status": "pending"}
    delivered = {"status": "delivered", "lastAttempt": SOON | {"statusCode": 204}}
    assert lines({"eventId": "none yet"}, pending, delivered) == [
        "  ✓ HR (wh_1): delivered, 204 in 7 ms, http://127.0.0.1:8080/"
    ]


@pytest.mark.parametrize(
    ("delivery", "webhook", "said"),
    [
        ({"status": "failed", "reason": "given up"}, {}, "failed: given up"),
        ({"status": "pending"}, {"status": "paused"}, "pending: it is paused"),
        (
            {"status": "pending", "nextAttemptAt": LONG_AGO, "lastAttempt": SOON | {"statusCode": 422}},
            {},
            "rejected with 422; retried now",
        ),
        (
            {"status": "pending"},
            {"health": {"failingSince": LONG_AGO, "lastError": "HTTP 503", "nextAttemptAt": LONG_AGO}},
            "pending: http://127.0.0.1:8080/ fails (HTTP 503); tried again now",
        ),
    ],
)
def test_what_was_not_delivered_has_its_reason(
    delivery: dict[str, Any], webhook: dict[str, Any], said: str
) -> None:
    assert lines(delivery, **webhook) == [f"  … HR (wh_1): {said}"]


@pytest.mark.parametrize(
    ("delivery", "said"),
    [({"status": "pending"}, "pending"), ({"eventId": "none yet"}, "nothing is recorded")],
)
def test_it_is_awaited_only_so_long(delivery: dict[str, Any], said: str) -> None:
    assert lines(delivery, patience_seconds=0.3) == [
        f"  … HR (wh_1): {said} after 0 s: `make logs` shows what the functions did"
    ]


def test_a_non_real_time_event_waits_for_its_slot() -> None:
    assert lines({"status": "pending"}, event=BATCH_EVENT) == [
        "  … HR (wh_1): pending: goes out at the next slot, within 120 s"
    ]


@pytest.mark.parametrize(
    ("webhook", "said"),
    [
        ({"events": ["CI_STATS"]}, "this type is not among its trigger events"),
        ({"status": "inactive"}, "it is inactive"),
        (
            {"health": {"mode": "backlog", "disabled": {"reason": "gone", "at": LONG_AGO}}},
            "it is disabled, because its receiver responded 410",
        ),
    ],
)
def test_a_webhook_that_does_not_take_it_says_why(webhook: dict[str, Any], said: str) -> None:
    assert lines(**webhook) == [f"  - HR (wh_1): not sent: {said}"]


def test_an_account_without_a_webhook_or_an_admin_is_said_to_be_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lines(account_id="acme") == [
        "  account acme has no admin on this stack, so nobody can list its webhooks"
    ]
    monkeypatch.setattr(StackOfOneWebhook, "call", lambda *_, **__: Answer(200, {"webhooks": []}))
    assert lines() == ["  account 1010 has no webhook, so it reached nobody: `make listen` registers one"]
