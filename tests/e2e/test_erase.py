"""A learner is erased from a stack at work: what was delivered is gone, what waits is never sent."""

from typing import Any

import pytest

from local.erase import System as Erased
from local.erase import run
from tests.e2e.system import Account, until
from tests.fakes.receiver import Receiver

LEARNER, OTHER = 987_654_321, 123_456_789


def test_a_learner_is_erased_from_history_and_backlog_and_nobody_else(
    account: Account, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    system = account.system
    events = ["COURSE_ENROLLMENT", "COURSE_ENROLLMENT_BATCH"]
    sent = account.create(receiver.url("/sent"), events=events)["webhookId"]
    paused = account.create(receiver.url("/paused"), events=events, status="paused")["webhookId"]
    for learner in (LEARNER, OTHER):
        for note in ("", "x" * 3000):
            account.emit(data={"userId": learner, "note": note})
        account.emit("COURSE_ENROLLMENT_BATCH", data={"userId": learner})

    def listed(webhook_id: str) -> list[dict[str, Any]]:
        answer = account.call("GET", f"/v1/webhooks/{webhook_id}/deliveries")
        deliveries: list[dict[str, Any]] = answer.body["deliveries"]
        return deliveries

    until(lambda: len(system.history(sent)) >= 4, "what goes out at once")
    until(lambda: len(listed(paused)) == 6, "what waits", seconds=60)
    description = system.stack.description
    erased = Erased(
        system.client("dynamodb"),
        system.client("sqs"),
        description["tables"]["deliveries"],
        {"QuarantineQueue": description["queues"]["quarantine"]},
    )
    assert run(erased, account.account_id, str(LEARNER), erasing=False) == 0
    assert len(listed(paused)) == 6
    assert run(erased, account.account_id, str(LEARNER), erasing=True) == 0
    printed = capsys.readouterr().out
    assert f"2 in waiting (realtime) of {paused}" in printed
    assert f"1 in waiting (batch)    of {paused}" in printed
    for webhook_id in (sent, paused):
        for delivery in listed(webhook_id):
            path = f"/v1/webhooks/{webhook_id}/deliveries/{delivery['deliveryId']}"
            assert account.call("GET", path).body["event"]["data"]["userId"] == OTHER
    before = len(receiver.requests_to("/paused"))
    assert before == 0
    assert account.call("PATCH", f"/v1/webhooks/{paused}", {"status": "active"}).status == 200
    until(lambda: len(receiver.requests_to("/paused")) > 0, "what is left to go out", seconds=60)
    until(lambda: len(system.history(paused)) >= 2, "it to be recorded", seconds=60)
    got = [event for request in receiver.requests_to("/paused") for event in request.events]
    assert {event["data"]["userId"] for event in got} == {OTHER}
