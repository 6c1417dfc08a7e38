"""Tables lose what they had; copies of an hour ago bring it back, and what waited goes out."""

from typing import Any

import pytest

from operations.restore import main
from tests.e2e.system import Account, System, key_of, until
from tests.fakes.receiver import Receiver


def copy(system: System, table: str) -> str:
    """A new table with all that is in one, as point-in-time recovery makes one; return its name."""
    dynamodb = system.client("dynamodb")
    described = dynamodb.describe_table(TableName=system.stack.description["tables"][table])["Table"]
    name = f"{described['TableName']}-copy"
    dynamodb.create_table(
        TableName=name,
        KeySchema=described["KeySchema"],
        AttributeDefinitions=described["AttributeDefinitions"],
        BillingMode="PAY_PER_REQUEST",
    )
    dynamodb.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})
    for item in system.items(table):
        dynamodb.put_item(TableName=name, Item=item)
    return name


def waiting_for_others(system: System, webhook_id: str) -> list[dict[str, Any]]:
    return [each for each in system.items("deliveries", "BACKLOG#") if webhook_id not in each["pk"]["S"]]


def lose(system: System, table: str, *marks: str) -> None:
    """Delete what has one of `marks` in its key."""
    for item in system.items(table):
        if any(mark in f"{item['pk']['S']} {item['sk']['S']}" for mark in marks):
            system.client("dynamodb").delete_item(
                TableName=system.stack.description["tables"][table], Key=key_of(item)
            )


def test_webhooks_history_and_what_waits_come_back_from_copies_and_nothing_is_sent_twice(
    account: Account,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    system = account.system
    basic = {"type": "basic", "username": "ada", "password": "correct-horse-battery"}
    events = ["COURSE_ENROLLMENT", "COURSE_ENROLLMENT_BATCH"]
    live = account.create(receiver.url("/live"), events=events[:1])["webhookId"]
    waits = account.create(receiver.url("/waits"), events=events, authentication=basic, status="paused")
    webhook_id = waits["webhookId"]
    emitted = [account.emit(name)["eventId"] for name in events for _ in range(3)]
    system.wait_for_history(live, 3)

    def waiting() -> int:
        deliveries = account.call("GET", f"/v1/webhooks/{webhook_id}/deliveries").body["deliveries"]
        return len([each for each in deliveries if each["status"] == "pending"])

    until(lambda: waiting() == 6, "all to wait")
    system.let_purges_begin()
    until(
        lambda: not waiting_for_others(system, webhook_id),
        "what earlier tests left to end: it is in the copies, too",
        seconds=180,
    )
    copies = {table: copy(system, table) for table in system.stack.description["tables"]}
    lose(system, "webhooks", f"ACCOUNT#{account.account_id}")
    lose(system, "deliveries", live, webhook_id)
    assert account.webhooks() == []

    monkeypatch.setattr("operations.stacks.STATE_DIR", system.stack.state_dir)
    command = ["restore", "--webhooks", copies["webhooks"], "--deliveries", copies["deliveries"]]
    monkeypatch.setattr("sys.argv", command)
    assert main() == 0
    assert "waiting events brought back: 6\n" in capsys.readouterr().out
    assert account.webhooks() == []
    monkeypatch.setattr("sys.argv", [*command, "--apply"])
    assert main() == 0

    assert {each["webhookId"] for each in account.webhooks()} == {live, webhook_id}
    assert len(system.history(live)) == 3
    assert waiting() == 6
    assert account.call("PATCH", f"/v1/webhooks/{webhook_id}", {"status": "active"}).status == 200
    system.sweep()
    system.wait_for_history(webhook_id, 6)
    requests = receiver.requests_to("/waits")
    assert sorted(each for request in requests for each in request.event_ids) == sorted(emitted)
    assert {request.headers["authorization"].partition(" ")[0] for request in requests} == {"Basic"}
    assert len([each for request in receiver.requests_to("/live") for each in request.event_ids]) == 3
    # And the way of new events is open again.
    new = account.emit()["eventId"]
    until(
        lambda: any(new in request.event_ids for request in receiver.requests_to("/live")),
        "a new event",
    )
    for name in copies.values():
        system.client("dynamodb").delete_table(TableName=name)
