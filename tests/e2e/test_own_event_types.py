"""Event types that the deployer added by a parameter: from registration to verified delivery."""

import json
from typing import Any

from standardwebhooks import Webhook

from tests.e2e.system import OWN_NON_REAL_TIME, OWN_REAL_TIME, Account, System
from tests.fakes.receiver import Receiver

SLOT_SECONDS = 150  # a slot comes every minute, and the sweep within a minute after it


def test_they_are_listed_registered_emitted_and_delivered_at_their_time(
    system: System, account: Account, receiver: Receiver
) -> None:
    listed = {each["eventName"]: each for each in account.call("GET", "/v1/event-types").body["eventTypes"]}
    assert listed[OWN_REAL_TIME]["category"] == "real-time"
    assert listed[OWN_NON_REAL_TIME]["category"] == "non-real-time"
    webhook = account.create(
        receiver.url(), authentication={"type": "signature"}, events=[OWN_REAL_TIME, OWN_NON_REAL_TIME]
    )
    path = f"/v1/webhooks/{webhook['webhookId']}"
    assert account.call("POST", f"{path}/test", {"eventName": OWN_REAL_TIME}).body["delivered"]
    receiver.forget()

    data = {"badgeId": 4711}
    emitted = {name: account.emit(name, data=data) for name in (OWN_NON_REAL_TIME, OWN_REAL_TIME)}
    assert receiver.wait_for(lambda: len(receiver.requests) > 1, SLOT_SECONDS)

    verifier = Webhook(webhook["authentication"]["secret"])
    arrived: dict[str, Any] = {}
    for request in receiver.requests:
        verifier.verify(request.body, dict(request.headers))
        (event,) = json.loads(request.body)["events"]
        arrived[event["eventName"]] = event | {"accountId": emitted[event["eventName"]]["accountId"]}
    assert arrived == emitted
    assert len(system.wait_for_history(webhook["webhookId"], 2)) == 2


def test_the_deployed_rules_tell_the_categories_apart(system: System) -> None:
    """Without a rule more: a burst of them holds up no real-time event."""
    events, bus = system.client("events"), system.stack.description["eventBusName"]
    patterns = {
        each["Name"].removeprefix(f"{bus}-"): json.loads(each["EventPattern"])["detail-type"]
        for each in events.list_rules(EventBusName=bus)["Rules"]
        if "detail-type" in each.get("EventPattern", "")
    }
    (real_time,) = patterns["realtime"]
    assert real_time["anything-but"] == patterns["non-realtime"]
    assert OWN_NON_REAL_TIME in patterns["non-realtime"]
    assert OWN_REAL_TIME not in patterns["non-realtime"]
