"""The samples in events/ of what invokes each function: the functions themselves, built from the environment
that the template gives them, take them and do what they should. AWS is moto, receivers are real sockets."""

import json
import time
from copy import deepcopy
from typing import Any

import pytest

from lms_webhooks.batch import sweep
from lms_webhooks.model.events import read_event
from lms_webhooks.model.lanes import Lane, PendingEvent
from tests.contract.invocations import ACCOUNT, Aws, of_function, sample
from tests.contract.template import PARAMETERS, RULES, event_sources, name_in, of_type
from tests.fakes.receiver import Receiver
from tests.logged import Line
from tools.openapi import COMMITTED
from tools.samples import WEBHOOK_ID

# What only stores events has none to publish; Powertools warns, Lambda goes on.
pytestmark = pytest.mark.filterwarnings("ignore:No application metrics to publish:UserWarning")


##### Each trigger of the template has one


def test_each_queue_has_a_sample_that_is_no_larger_than_its_batches() -> None:
    for function, queue, source in event_sources():
        records = [
            record
            for each in of_function(function)
            for record in each.get("Records", [])
            if record["eventSourceARN"].endswith(f":{queue}")
        ]
        assert 1 <= len(records) <= source["BatchSize"], queue


def test_each_schedule_has_a_sample() -> None:
    for rule in RULES.values():
        if "ScheduleExpression" in rule:
            (target,) = rule["Targets"]
            assert json.loads(target["Input"]) in of_function(name_in(target["Arn"]))


def test_each_route_has_a_sample_with_the_claims_that_the_template_names() -> None:
    calls = {each["routeKey"]: each for each in of_function("AdminApiFunction")}
    routes = of_type("AWS::ApiGatewayV2::Route").values()
    assert calls.keys() == {route["RouteKey"] for route in routes}
    for route in routes:
        call = calls[route["RouteKey"]]
        authorizer = call["requestContext"].get("authorizer")
        assert (authorizer is None) == (route["AuthorizationType"] == "NONE")
        if authorizer is not None:
            claims = authorizer["jwt"]["claims"]
            assert claims[PARAMETERS["AccountClaim"]["Default"]] == ACCOUNT
            assert PARAMETERS["AdminRole"]["Default"] in claims[PARAMETERS["RoleClaim"]["Default"]]


##### And each function does what it should


def ids_in(invocation: dict[str, Any]) -> list[str]:
    """The ids of the events in a sample, by their order."""
    return sorted(json.loads(record["body"])["detail"]["eventId"] for record in invocation["Records"])


def test_the_admin_api_creates_the_webhook_of_its_sample(aws: Aws, invoke: Any) -> None:
    answer = invoke("admin_api", sample("admin_api"))
    assert answer["statusCode"] == 201, answer["body"]
    assert json.loads(answer["body"])["authentication"]["secret"].startswith("whsec_")
    assert len(aws.webhooks.read_account(ACCOUNT)) == 1


def test_the_admin_api_describes_itself(invoke: Any) -> None:
    answer = invoke("admin_api", sample("admin_api", "openapi"))
    assert answer["statusCode"] == 200
    assert answer["body"] == COMMITTED.read_text()


def test_the_admin_api_serves_the_console(invoke: Any) -> None:
    start = invoke("admin_api", sample("admin_api", "console"))
    assert (start["statusCode"], start["isBase64Encoded"]) == (200, True)
    assert start["headers"]["Content-Type"].startswith("text/html")
    assert (
        "connect-src 'self' https://name.name.name.amazoncognito.com;"
        in (start["headers"]["Content-Security-Policy"])
    )
    script = invoke("admin_api", sample("admin_api", "console_file"))
    assert script["headers"]["Content-Type"].startswith("text/javascript")


def test_the_dispatcher_delivers_real_time_events(aws: Aws, invoke: Any, receiver: Receiver) -> None:
    aws.register(receiver.url())
    assert invoke("dispatcher", sample("dispatcher", "realtime")) == {"batchItemFailures": []}
    received = sorted(event_id for request in receiver.requests for event_id in request.event_ids)
    assert received == ids_in(sample("dispatcher", "realtime"))


def assert_sent_for(aws: Aws) -> None:
    """One drainer, for the webhook of the samples."""
    (message,) = aws.drain_messages()
    assert (message.account_id, message.webhook_id) == (ACCOUNT, WEBHOOK_ID)
    assert message.ticket


def test_the_dispatcher_keeps_non_real_time_events_until_their_slot(
    aws: Aws, invoke: Any, receiver: Receiver
) -> None:
    aws.register(receiver.url())
    come_now = deepcopy(sample("dispatcher", "batch"))
    for record in come_now["Records"]:
        record["attributes"]["SentTimestamp"] = str(time.time_ns() // 1_000_000)
    assert invoke("dispatcher", come_now) == {"batchItemFailures": []}
    assert sorted(aws.waiting_ids(Lane.BATCH)) == ids_in(come_now)
    assert (receiver.requests, aws.drain_messages()) == ([], [])

    assert invoke("batch", sample("batch", "schedule")) == {"webhooks": 0}, "its slot is still to come"
    wait_until_due(aws)
    assert invoke("batch", sample("batch", "schedule")) == {"webhooks": 1}
    assert_sent_for(aws)


def test_the_drainer_sends_what_waits(aws: Aws, invoke: Any, receiver: Receiver) -> None:
    aws.register(receiver.url())
    wait(aws)
    assert invoke("drainer", sample("drainer")) == {"batchItemFailures": []}
    received = [event_id for request in receiver.requests for event_id in request.event_ids]
    assert sorted(received) == ids_in(sample("dispatcher", "realtime"))
    assert aws.waiting_ids(Lane.REALTIME) == []


def test_the_sweep_sends_for_a_drainer_that_is_missing(aws: Aws, invoke: Any, receiver: Receiver) -> None:
    aws.register(receiver.url())
    wait(aws)
    assert invoke("batch", sample("batch", "schedule")) == {"webhooks": 1}
    assert_sent_for(aws)


def test_a_part_of_a_sweep_is_swept_by_an_invocation_of_its_own(aws: Aws, invoke: Any) -> None:
    aws.register("https://hooks.example.com/")
    wait(aws)
    assert invoke("batch", sample("batch", "sweep")) == {"batchItemFailures": []}
    assert_sent_for(aws)


def test_what_a_sweep_has_no_time_for_goes_on_by_its_queue(
    aws: Aws, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "_OWN_SECONDS", 0)
    aws.register("https://hooks.example.com/")
    wait(aws)
    assert invoke("batch", sample("batch", "schedule")) == {"webhooks": 0}
    parts = aws.messages("SweepQueue")
    assert len(parts) == 16
    records = [{"messageId": str(number), "body": body} for number, body in enumerate(parts)]
    for record in records:
        invoke("batch", {"Records": [record]})
    assert_sent_for(aws)


##### As deployed, none of them reaches this machine


def call_of(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The sample of a call, to another path and with another body."""
    call = deepcopy(sample("admin_api"))
    call["rawPath"] = call["requestContext"]["http"]["path"] = path
    call["body"] = json.dumps(body)
    return call


def test_the_switch_for_loopback_is_off_in_the_admin_api(aws: Aws, invoke: Any, receiver: Receiver) -> None:
    given = json.loads(sample("admin_api")["body"]) | {"targetUrl": receiver.url()}
    for path in ("/v1/webhooks", "/v1/webhooks/test"):
        refused = invoke("admin_api", call_of(path, given), loopback_allowed=False)
        assert refused["statusCode"] == 422, refused["body"]
        assert [each["pointer"] for each in json.loads(refused["body"])["errors"]] == ["/targetUrl"]

    aws.register(receiver.url())
    trial = call_of(f"/v1/webhooks/{WEBHOOK_ID}/test", {})
    stored = invoke("admin_api", trial, loopback_allowed=False)
    assert json.loads(stored["body"])["errorClass"] == "forbidden-address", stored["body"]
    assert receiver.connections == 0
    allowed = invoke("admin_api", trial)
    assert json.loads(allowed["body"])["delivered"], allowed["body"]


def test_the_switch_for_loopback_is_off_in_the_dispatcher(
    aws: Aws, invoke: Any, receiver: Receiver, logged: list[Line]
) -> None:
    aws.register(receiver.url())
    invoke("dispatcher", sample("dispatcher", "realtime"), loopback_allowed=False)
    assert error_classes(logged) == {("direct", "forbidden-address")}
    assert receiver.connections == 0


def test_the_switch_for_loopback_is_off_in_the_drainer(
    aws: Aws, invoke: Any, receiver: Receiver, logged: list[Line]
) -> None:
    aws.register(receiver.url())
    wait(aws)
    invoke("drainer", sample("drainer"), loopback_allowed=False)
    assert error_classes(logged) == {("backlog", "forbidden-address")}
    assert receiver.connections == 0


def error_classes(logged: list[Line]) -> set[tuple[str, str]]:
    """Of each kind of attempt, what came of it."""
    return {(line["kind"], line["errorClass"]) for line in logged if line["message"] == "attempt"}


def wait_until_due(aws: Aws) -> None:
    """As if the slot of the samples' webhook had come."""
    (mark,) = aws.backlog.markers(WEBHOOK_ID).values()
    assert mark.due_at_ms % 900_000 == 0
    assert 0 < mark.due_at_ms - time.time_ns() // 1_000_000 <= 900_000
    assert aws.backlog.set_due(mark, 1)


def wait(aws: Aws) -> None:
    """The events of the dispatcher's sample wait, as if they had just come."""
    now_ms = time.time_ns() // 1_000_000
    events = [
        read_event(record["body"], source="lms", accepted_at_ms=now_ms)
        for record in sample("dispatcher", "realtime")["Records"]
    ]
    assert not aws.backlog.append(WEBHOOK_ID, Lane.REALTIME, [PendingEvent(event) for event in events])
    aws.backlog.set_marker(ACCOUNT, WEBHOOK_ID, Lane.REALTIME, accepted_at_ms=now_ms)
