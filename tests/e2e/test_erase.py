"""A learner is erased from a stack at work: what was delivered is gone, what waits is never sent."""

from typing import Any

import pytest

from operations.erase import main
from tests.e2e.system import Account, until
from tests.fakes.receiver import Receiver

LEARNER, OTHER = 987_654_321, 123_456_789


def test_a_learner_is_erased_from_history_and_backlog_and_nobody_else(
    account: Account,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
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
    until(lambda: len(listed(paused)) == 6, "what waits")
    command = ["erase", "--account", account.account_id, "--learner", str(LEARNER)]
    # By the file of the stack on this machine, and as on AWS: by the stack's name and the environment.
    monkeypatch.setattr("operations.stacks.STATE_DIR", system.stack.state_dir)
    monkeypatch.setattr("sys.argv", command)
    assert main() == 0
    assert "nothing was changed" in capsys.readouterr().out
    assert len(listed(paused)) == 6
    monkeypatch.setenv("AWS_ENDPOINT_URL", system.stack.description["endpointUrl"])
    monkeypatch.setenv("AWS_DEFAULT_REGION", system.stack.description["region"])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setattr("sys.argv", [*command, "--stack", "no-such-stack", "--erase"])
    with pytest.raises(SystemExit, match="no-such-stack"):
        main()
    assert len(listed(paused)) == 6
    monkeypatch.setattr("sys.argv", [*command, "--stack", system.stack.description["stackName"], "--erase"])
    assert main() == 0
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
    until(lambda: len(receiver.requests_to("/paused")) > 0, "what is left to go out")
    until(lambda: len(system.history(paused)) >= 2, "it to be recorded")
    got = [event for request in receiver.requests_to("/paused") for event in request.events]
    assert {event["data"]["userId"] for event in got} == {OTHER}
