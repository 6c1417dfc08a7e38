"""Each part of an event's way that is not as it must be is found, the first of them first."""

import json
from typing import Any

import pytest

from operations.stacks import FoundStack
from operations.wiring import Finding, lets_send, look
from tests.fakes.scripted_aws import Scripts, scripted

BUS = "lms-webhooks"
QUEUE = "arn:aws:sqs:eu-west-1:123456789012:realtime"
DRAIN = "arn:aws:sqs:eu-west-1:123456789012:drain"
BACKGROUND = "arn:aws:sqs:eu-west-1:123456789012:background"
UUID = "15ebbfc5-847d-4eae-9014-c562ec41c4da"
RULE = "arn:aws:events:eu-west-1:123456789012:rule/lms-webhooks/realtime"
STATEMENT: dict[str, Any] = {
    "Sid": "TheRealtimeRuleSends",
    "Effect": "Allow",
    "Principal": {"Service": "events.amazonaws.com"},
    "Action": "sqs:SendMessage",
    "Resource": QUEUE,
    "Condition": {"ArnEquals": {"aws:SourceArn": RULE}},
}


def policy(**changes: object) -> str:
    statement = {name: value for name, value in (STATEMENT | changes).items() if value is not None}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


@pytest.mark.parametrize(
    "text",
    [
        policy(),
        policy(Resource=[QUEUE, "arn:aws:sqs:eu-west-1:123456789012:dead"]),
        policy(Action=["sqs:SendMessage", "sqs:ReceiveMessage"]),
        policy(Action="SQS:*", Condition=None),
        policy(Principal={"Service": ["events.amazonaws.com", "sns.amazonaws.com"]}),
        json.dumps({"Statement": STATEMENT}),
    ],
)
def test_a_policy_that_lets_the_rule_send_is_known(text: str) -> None:
    assert lets_send(text, QUEUE, RULE)


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"Statement": []}',
        policy(Effect="Deny"),
        policy(Principal={"Service": "sns.amazonaws.com"}),
        policy(Principal={"AWS": "*"}),
        policy(Action="sqs:ReceiveMessage"),
        policy(Resource=DRAIN),
        policy(Condition={"ArnEquals": {"aws:SourceArn": "arn:aws:events:eu-west-1:123456789012:rule/a/b"}}),
    ],
)
def test_one_that_does_not_is_known_too(text: str) -> None:
    assert not lets_send(text, QUEUE, RULE)


def sound() -> Scripts:
    """What AWS says of a stack in which nothing is wrong, call by call."""
    mapping = {"EventSourceMappings": [{"UUID": UUID, "State": "Enabled"}]}
    return {
        "sqs": [
            ("get_queue_attributes", {"Attributes": {"QueueArn": QUEUE, "Policy": policy()}}),
            ("get_queue_attributes", {"Attributes": {"QueueArn": DRAIN}}),
            ("get_queue_attributes", {"Attributes": {"QueueArn": BACKGROUND}}),
        ],
        "events": [
            (
                "list_rules",
                {
                    "Rules": [
                        {"Name": "other", "Arn": RULE + "-other", "State": "ENABLED", "EventPattern": "{}"},
                        {"Name": "realtime", "Arn": RULE, "State": "ENABLED", "EventPattern": "{}"},
                    ]
                },
            ),
            ("list_targets_by_rule", {"Targets": [{"Id": "1", "Arn": DRAIN}]}),
            ("list_targets_by_rule", {"Targets": [{"Id": "1", "Arn": QUEUE}]}),
            ("test_event_pattern", {"Result": True}),
        ],
        "lambda": [
            ("list_event_source_mappings", mapping),
            ("list_event_source_mappings", mapping),
            ("list_event_source_mappings", mapping),
            ("get_function_concurrency", {}),
            ("get_function_concurrency", {"ReservedConcurrentExecutions": 100}),
        ],
    }


def findings(scripts: Scripts) -> list[Finding]:
    stack = FoundStack(
        "lms-webhooks",
        is_local=False,
        client=scripted(scripts),
        outputs={
            "RealtimeQueueUrl": "https://sqs/realtime",
            "DrainQueueUrl": "https://sqs/drain",
            "BackgroundDrainQueueUrl": "https://sqs/background",
            "EventBusName": BUS,
            "EventSource": "lms",
            "DispatcherFunctionName": "dispatcher",
            "DrainerFunctionName": "drainer",
        },
        parameters={},
        api_url="",
        console_url="",
    )
    return list(look(stack, detail_type="COURSE_ENROLLMENT", detail='{"eventId":"1"}'))


def change(scripts: Scripts, service: str, index: int, said: dict[str, Any] | str) -> Scripts:
    scripts[service][index] = (scripts[service][index][0], said)
    return scripts


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    assert findings(sound()) == []


def test_a_rule_without_the_queue_is_found() -> None:
    scripts = change(sound(), "events", 2, {"Targets": [{"Id": "1", "Arn": DRAIN}]})
    (first, *_) = findings(scripts)
    assert first.is_fault
    assert first.text.startswith("no rule of the bus lms-webhooks has RealtimeQueue for its target")


def test_a_rule_that_is_disabled_is_found_with_the_command_that_enables_it() -> None:
    scripts = sound()
    listed: Any = scripts["events"][0][1]
    listed["Rules"][1]["State"] = "DISABLED"
    (first, *_) = findings(scripts)
    assert (
        first.text
        == "RealtimeRule is DISABLED: aws events enable-rule --name realtime --event-bus-name lms-webhooks"
    )


def test_a_rule_that_takes_other_events_is_found() -> None:
    (first,) = findings(change(sound(), "events", 3, {"Result": False}))
    assert first.text.startswith("RealtimeRule does not take COURSE_ENROLLMENT of source lms")


@pytest.mark.parametrize(
    ("name", "value"),
    [("Input", "{}"), ("InputPath", "$.detail"), ("InputTransformer", {"InputTemplate": "<detail>"})],
)
def test_a_target_that_changes_the_event_is_named(name: str, value: object) -> None:
    scripts = change(sound(), "events", 2, {"Targets": [{"Id": "1", "Arn": QUEUE, name: value}]})
    del scripts["events"][3]
    listed: Any = scripts["events"][0][1]
    del listed["Rules"][0]
    del scripts["events"][1]
    (first,) = findings(scripts)
    assert first.text.startswith(f"RealtimeRule's target has {name}, which changes every event: ")


def test_a_queue_without_its_policy_is_found() -> None:
    (first,) = findings(change(sound(), "sqs", 0, {"Attributes": {"QueueArn": QUEUE}}))
    assert first.text.startswith("RealtimeQueue has no policy that lets RealtimeRule send to it")


@pytest.mark.parametrize(
    ("index", "name"),
    [
        (0, "RealtimeQueue to Dispatcher"),
        (1, "DrainQueue to Drainer"),
        (2, "BackgroundDrainQueue to Drainer"),
    ],
)
def test_an_event_source_that_is_off_or_gone_is_found(index: int, name: str) -> None:
    def broken(said: dict[str, Any]) -> Scripts:
        scripts = change(sound(), "lambda", index, said)
        if index == 1:  # what is wrong with one of its queues is looked for no further
            del scripts["lambda"][2], scripts["sqs"][2]
        return scripts

    (first,) = findings(broken({"EventSourceMappings": []}))
    assert f"no event source mapping takes messages from {name}Function" in first.text
    off = {"EventSourceMappings": [{"UUID": UUID, "State": "Disabled"}]}
    (first,) = findings(broken(off))
    assert (
        f"from {name}Function is Disabled: aws lambda update-event-source-mapping --uuid {UUID}" in first.text
    )


def test_a_function_that_is_throttled_to_nothing_is_found() -> None:
    (first,) = findings(change(sound(), "lambda", 3, {"ReservedConcurrentExecutions": 0}))
    assert first.text.startswith("DispatcherFunction is throttled to nothing")


def test_a_queue_that_is_gone_is_a_fault_and_the_rest_is_looked_at() -> None:
    gone = "AWS.SimpleQueueService.NonExistentQueue: The specified queue does not exist."
    scripts = change(sound(), "sqs", 0, gone)
    del scripts["lambda"][0]
    del scripts["events"]
    (first,) = findings(scripts)
    assert first.text.startswith(
        "RealtimeQueue: AWS refused GetQueueAttributes: The specified queue does not exist."
    )


def test_what_may_not_be_read_is_no_fault_and_names_the_permission() -> None:
    scripts = change(sound(), "events", 0, "AccessDeniedException: no")
    scripts = change(scripts, "lambda", 0, "AccessDeniedException: no")
    found = findings(scripts)
    assert [each.is_fault for each in found] == [False, False]
    assert "it needs the permission events:ListRules" in found[0].text
    assert "it needs the permission lambda:ListEventSourceMappings" in found[1].text
