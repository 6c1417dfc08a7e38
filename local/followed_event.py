"""Follow an event to the webhooks of its account, and say of each what became of it."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from lms_webhooks.model.event_types import Category
from lms_webhooks.timestamps import format_ms, read_rfc3339, utc_now
from local.stack import Stack
from tools.progress import failure, paint

_PATIENCE_SECONDS = 30.0
"""A first delivery takes some seconds, in which functions start. A slow machine takes more of them."""
_POLL_SECONDS = 0.1


def where_it_went(
    stack: Stack, event: dict[str, Any], account_id: str, *, patience_seconds: float = _PATIENCE_SECONDS
) -> Iterator[str]:
    """Return one line a webhook, as soon as it is known, from the deliveries that the API has.

    Args:
        stack: the event was put on its bus.
        event: as `make_event` makes it.
        account_id: the account of the event.
        patience_seconds: how long to wait for a delivery or a failure.
    """
    if account_id not in stack.admins:
        yield f"  account {account_id} has no admin on this stack, so nobody can list its webhooks"
        return
    followed = _FollowedEvent(stack, stack.id_token(account_id), event)
    waiting = []
    webhooks = followed.get("/v1/webhooks")["webhooks"]
    for webhook in webhooks:
        if reason := _why_not(webhook, event):
            yield _line(webhook, paint("-", "grey"), f"not sent: {reason}")
        else:
            waiting.append(webhook)
    if not webhooks:
        yield f"  account {account_id} has no webhook, so it reached nobody: `make listen` registers one"
    give_up_at = time.monotonic() + patience_seconds
    while waiting:
        is_last_look = time.monotonic() >= give_up_at
        for webhook in list(waiting):
            delivery = followed.delivery(webhook)
            said = None if delivery is None else followed.outcome(webhook, delivery)
            if said is None and is_last_look:
                known = "nothing is recorded" if delivery is None else "pending"
                said = f"{known} after {patience_seconds:.0f} s: `make logs` shows what the functions did"
            if said is not None:
                waiting.remove(webhook)
                is_delivered = delivery is not None and delivery["status"] == "delivered"
                yield _line(webhook, paint("✓", "green") if is_delivered else paint("…", "grey"), said)
        if waiting:
            time.sleep(_POLL_SECONDS)


def _line(webhook: dict[str, Any], mark: str, text: str) -> str:
    return f"  {mark} {webhook['name']} ({webhook['webhookId']}): {text}"


def _why_not(webhook: dict[str, Any], event: dict[str, Any]) -> str:
    """Why a webhook does not take this event; empty if it does."""
    if event["eventName"] not in webhook["events"]:
        return "this type is not among its trigger events"
    if webhook["status"] == "inactive":
        return "it is inactive"
    if webhook["health"].get("disabled", {}).get("reason") == "gone":
        return "it is disabled, because its receiver responded 410"
    return ""


def _when(moment: str) -> str:
    at = read_rfc3339(moment)
    seconds = 0.0 if at is None else (at - utc_now()).total_seconds()
    return f"in {seconds:.0f} s" if seconds > 0.5 else "now"


@dataclass(frozen=True)
class _FollowedEvent:
    """An event that is on its way, through the eyes of its account's admin."""

    stack: Stack
    token: str
    event: dict[str, Any]

    def get(self, path: str) -> Any:
        answer = self.stack.call("GET", path, token=self.token)
        if answer.status_code != 200:
            raise failure("looking for the event", f"{answer.status_code} {answer.body}", None)
        return answer.body

    def delivery(self, webhook: dict[str, Any]) -> dict[str, Any] | None:
        """Return the delivery of the event to this webhook; None while there is none."""
        moment_ms = self.event["timestamp"]
        query = urlencode(
            {
                "eventName": self.event["eventName"],
                "from": format_ms(moment_ms),
                "to": format_ms(moment_ms + 1),
            }
        )
        page = self.get(f"/v1/webhooks/{webhook['webhookId']}/deliveries?{query}")
        return next((each for each in page["deliveries"] if each["eventId"] == self.event["eventId"]), None)

    def outcome(self, webhook: dict[str, Any], delivery: dict[str, Any]) -> str | None:
        """Say what became of it; None while there may soon be more to say."""
        attempt = delivery.get("lastAttempt", {})
        if delivery["status"] == "delivered":
            return f"delivered, {attempt['statusCode']} in {attempt['latencyMs']} ms, {webhook['targetUrl']}"
        if delivery["status"] != "pending":
            return f"{delivery['status']}: {delivery.get('reason', '')}"
        if "nextAttemptAt" in delivery:
            return f"rejected with {attempt['statusCode']}; retried {_when(delivery['nextAttemptAt'])}"
        if webhook["status"] == "paused":
            return "pending: it is paused"
        return self._why_pending(webhook)

    def _why_pending(self, webhook: dict[str, Any]) -> str | None:
        if self.stack.event_types[self.event["eventName"]].category is Category.NON_REAL_TIME:
            slot_seconds = self.stack.description["batchScheduleSeconds"]
            return f"pending: goes out at the next slot, within {slot_seconds} s"
        health = self.get(f"/v1/webhooks/{webhook['webhookId']}")["health"]
        if "failingSince" not in health:
            return None
        error = health.get("lastError", "no response")
        return (
            f"pending: {webhook['targetUrl']} fails ({error}); tried again {_when(health['nextAttemptAt'])}"
        )
