"""What cannot go now waits, in order, and goes out when it can: over the deployed stack."""

import json
import threading
from itertools import chain
from typing import Any

import pytest

from lms_webhooks.model.event_types import EVENT_TYPES, NON_REAL_TIME
from tests.adobe import SAMPLES
from tests.e2e.system import Account, System, until
from tests.fakes.receiver import Behaviour, Receiver, Request, answer, gone
from tests.patience import PATIENCE_SECONDS

DRAINING_SECONDS = 180  # after a failure the first probe comes in 5 s, the next 10 s later
SCHEDULE_SECONDS = 150  # a slot comes every minute, and the sweep within a minute after it


def emit_in_order(account: Account, count: int) -> list[str]:
    """Events whose own times are a millisecond apart, on the bus; return their ids."""
    events = [account.event() for _ in range(count)]
    first_ms = events[0]["timestamp"]
    events = [event | {"timestamp": first_ms + offset} for offset, event in enumerate(events)]
    for start in range(0, count, 10):
        account.system.put(*events[start : start + 10])
    return [event["eventId"] for event in events]


def delivered_ids(receiver: Receiver) -> list[str]:
    return [id_ for request in receiver.requests for id_ in request.event_ids]


def waiting(system: System, webhook_id: str, lane: str = "realtime") -> int:
    answer = system.client("dynamodb").query(
        TableName=system.stack.description["tables"]["deliveries"],
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": f"BACKLOG#{webhook_id}#{lane}"}},
        ConsistentRead=True,
        Select="COUNT",
    )
    return int(answer["Count"])


def outcomes(system: System, webhook_id: str) -> list[tuple[str, str]]:
    """Outcome and reason of every recorded delivery."""
    return [(item["outcome"]["S"], item.get("reason", {"S": ""})["S"]) for item in system.history(webhook_id)]


def change(account: Account, webhook: dict[str, Any], **fields: Any) -> dict[str, Any]:
    answer = account.call("PATCH", f"/v1/webhooks/{webhook['webhookId']}", fields)
    assert answer.status == 200, answer
    changed: dict[str, Any] = answer.body
    return changed


def test_an_endpoint_that_comes_back_gets_everything_in_order(account: Account) -> None:
    """It refuses until 40 events wait, one event a request. Then all arrive, oldest first, in growing batches
    and one request at a time; and a neighbour noticed nothing."""
    is_up = threading.Event()
    taken: list[Request] = []

    def script(request: Request) -> Behaviour:
        if not is_up.is_set():
            return answer(503)
        taken.append(request)
        return answer()

    with Receiver(script) as flaky, Receiver() as neighbour:
        webhook = account.create(flaky.url())
        account.create(neighbour.url())
        ids = emit_in_order(account, 40)
        assert neighbour.wait_for(lambda: set(delivered_ids(neighbour)) == set(ids), PATIENCE_SECONDS)
        until(lambda: waiting(account.system, webhook["webhookId"]) == 40, "40 events to wait")
        assert {len(request.events) for request in flaky.requests} == {1}
        flaky.forget()
        is_up.set()
        assert flaky.wait_for(
            lambda: set(ids) <= {id_ for request in taken for id_ in request.event_ids}, DRAINING_SECONDS
        )
        assert [id_ for request in taken for id_ in request.event_ids] == ids
        assert flaky.max_in_flight("/") == 1
        assert max(len(request.events) for request in taken) > 1
        # While the receiver still stands: the last request is taken before it is answered.
        until(lambda: len(outcomes(account.system, webhook["webhookId"])) == 40, "40 records")
    assert set(outcomes(account.system, webhook["webhookId"])) == {("delivered", "")}


def test_a_pause_loses_nothing_and_keeps_the_order(account: Account, receiver: Receiver) -> None:
    """Paused, 50 events, resumed: all 50 arrive, in order. While paused, nothing does."""
    webhook = account.create(receiver.url(), status="paused")
    ids = emit_in_order(account, 50)
    until(lambda: waiting(account.system, webhook["webhookId"]) == 50, "50 events to wait")
    assert not receiver.requests
    change(account, webhook, status="active")
    assert receiver.wait_for(lambda: len(delivered_ids(receiver)) >= 50, DRAINING_SECONDS)
    assert delivered_ids(receiver) == ids


def test_a_retired_webhook_takes_nothing_and_its_backlog_waits(account: Account, receiver: Receiver) -> None:
    """Events wait when it is retired: they stay. What comes while it is retired is not for it."""

    def misses_one() -> str:
        """The id of an event that the witness got and that does not wait for the other."""
        before = waiting(account.system, webhook["webhookId"])
        event_id = str(account.emit()["eventId"])
        assert witness.wait_for(lambda: event_id in delivered_ids(witness), PATIENCE_SECONDS)
        account.system.wait_until_done()  # the message is acknowledged once the event waits, too
        return event_id if waiting(account.system, webhook["webhookId"]) == before else ""

    with Receiver() as witness:
        account.create(witness.url())
        webhook = account.create(receiver.url(), status="paused")
        ids = emit_in_order(account, 3)
        until(lambda: waiting(account.system, webhook["webhookId"]) == 3, "three events to wait")
        change(account, webhook, status="inactive")
        missed = until(misses_one, "the change to be in force")
        count = waiting(account.system, webhook["webhookId"])
        assert count >= 3
        assert not receiver.requests
        change(account, webhook, status="active")
        assert receiver.wait_for(lambda: len(delivered_ids(receiver)) >= count, DRAINING_SECONDS)
        assert delivered_ids(receiver)[:3] == ids
        assert missed not in delivered_ids(receiver)


def test_a_deleted_webhook_leaves_its_backlog_as_failed(account: Account, receiver: Receiver) -> None:
    """Deleted with 20 events waiting: nobody gets them, and each is on record with the reason.

    The purge begins when nobody can have the webhook in hand any more: the deletion is made so old."""
    webhook = account.create(receiver.url(), status="paused")
    emit_in_order(account, 20)
    until(lambda: waiting(account.system, webhook["webhookId"]) == 20, "20 events to wait")
    account.delete(webhook["webhookId"])
    account.system.let_purges_begin()
    until(lambda: len(outcomes(account.system, webhook["webhookId"])) == 20, "their records")
    assert set(outcomes(account.system, webhook["webhookId"])) == {("failed", "the webhook was deleted")}
    until(lambda: waiting(account.system, webhook["webhookId"]) == 0, "their removal, which follows")
    assert not receiver.requests


def test_an_ordered_webhook_gets_one_request_at_a_time(account: Account, receiver: Receiver) -> None:
    webhook = account.create(receiver.url(), ordered=True, headers={"X-Team": "hr"})
    assert webhook["ordered"] is True
    ids = emit_in_order(account, 60)
    assert receiver.wait_for(lambda: len(delivered_ids(receiver)) >= 60, DRAINING_SECONDS)
    assert sorted(delivered_ids(receiver)) == sorted(ids)
    assert receiver.max_in_flight("/") == 1
    assert {request.headers["x-team"] for request in receiver.requests} == {"hr"}


def test_one_poison_event_holds_nothing_up(account: Account) -> None:
    """A receiver rejects one event, whatever it comes with. The other 99 arrive once, in order; the one is
    set aside."""

    def script(request: Request) -> Behaviour:
        return answer(422 if poison & set(request.event_ids) else 200)

    poison: set[str] = set()
    with Receiver(script) as receiver:
        webhook = account.create(receiver.url(), status="paused")
        ids = emit_in_order(account, 100)
        poison.add(ids[42])
        until(lambda: waiting(account.system, webhook["webhookId"]) == 100, "100 events to wait")
        change(account, webhook, status="active")
        until(lambda: len(outcomes(account.system, webhook["webhookId"])) == 99, "99 records")
        taken = [r for r in receiver.requests if not poison & set(r.event_ids)]
        assert [id_ for r in taken for id_ in r.event_ids] == [id_ for id_ in ids if id_ not in poison]
        assert waiting(account.system, webhook["webhookId"], "retry") == 1


def test_a_receiver_that_is_gone_is_switched_off_until_an_admin_says_otherwise(account: Account) -> None:
    """It responds 410; its health says so. It takes nothing new. Set active again, it gets what waited."""
    with Receiver(gone()) as receiver:
        webhook = account.create(receiver.url())
        path = f"/v1/webhooks/{webhook['webhookId']}"
        event = account.emit()
        health = until(
            lambda: h if "disabled" in (h := account.call("GET", path).body["health"]) else None,
            "the webhook to be switched off",
        )
        assert health is not None
        assert health["disabled"]["reason"] == "gone"
        assert {id_ for r in receiver.requests for id_ in r.event_ids} == {event["eventId"]}
        receiver.script = answer(200)
        refused = len(receiver.requests)
        change(account, webhook, status="active")
        assert receiver.wait_for(lambda: len(receiver.requests) > refused, DRAINING_SECONDS)
        assert receiver.requests[-1].event_ids == [event["eventId"]]


def test_adobe_s_samples_arrive_byte_for_byte_and_non_real_time_ones_together_on_the_schedule(
    account: Account, receiver: Receiver
) -> None:
    """Every sample that Adobe publishes, over the bus. Two of them share their id and time."""
    webhook = account.create(receiver.url(), events=list(EVENT_TYPES))
    events = [sample["body"]["events"][0] for sample in SAMPLES]
    texts = {
        (event["eventName"], event["eventId"]): ",".join(
            f'"{field}": {json.dumps(value)}' for field, value in event.items()
        )
        for event in events
    }
    assert len(texts) == len(events)
    sent = [{"accountId": int(account.account_id), **event} for event in events]
    for start in range(0, len(sent), 10):
        account.system.put(*sent[start : start + 10])
    assert receiver.wait_for(lambda: len(delivered_ids(receiver)) >= len(sent), SCHEDULE_SECONDS)
    account.system.wait_until_done()
    came = [[(event["eventName"], event["eventId"]) for event in each.events] for each in receiver.requests]
    assert sorted(chain(*came)) == sorted(texts)
    for request, keys in zip(receiver.requests, came, strict=True):
        members = ",".join(f"{{{texts[key]}}}" for key in keys)
        assert request.body.decode() == f'{{"accountId":{account.account_id},"events":[{members}]}}'
    scheduled = [keys for keys in came if keys[0][0] in NON_REAL_TIME]
    assert len(scheduled) < sum(len(keys) for keys in scheduled)
    until(lambda: len(outcomes(account.system, webhook["webhookId"])) == len(sent), "their records")


@pytest.mark.parametrize("field", ["targetUrl", "authentication"])
def test_what_waits_follows_the_webhook(account: Account, receiver: Receiver, field: str) -> None:
    """Events wait while paused; URL or authentication change; they go where, and as, it says now."""
    with Receiver() as other:
        webhook = account.create(receiver.url(), status="paused")
        ids = emit_in_order(account, 2)
        until(lambda: waiting(account.system, webhook["webhookId"]) == 2, "two events to wait")
        fields: dict[str, Any] = {
            "targetUrl": other.url(),
            "authentication": {"type": "basic", "username": "ada", "password": "hunter2"},
        }
        change(account, webhook, status="active", **{field: fields[field]})
        target = other if field == "targetUrl" else receiver
        assert target.wait_for(lambda: len(delivered_ids(target)) >= 2, DRAINING_SECONDS)
        assert delivered_ids(target) == ids
        assert all(("authorization" in r.headers) == (field == "authentication") for r in target.requests)
        assert not (receiver if target is other else other).requests
