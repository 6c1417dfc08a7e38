"""template.yaml and the code say the same thing, and nothing in it is more open than it must be.

Most of what stands here no emulator would notice: it would run, and fail or be unsafe in a real account.
"""

import inspect
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from moto import mock_aws

from lms_webhooks import settings
from lms_webhooks.batch import sweep
from lms_webhooks.dispatcher import dispatcher
from lms_webhooks.drainer import drainer
from lms_webhooks.model.event_types import EVENT_TYPES, NON_REAL_TIME, Category, with_extra_types
from lms_webhooks.model.events import MAX_ACCOUNT_ID_LENGTH
from lms_webhooks.model.webhooks import NoAuthentication, Status, Webhook
from lms_webhooks.observability import Metric
from lms_webhooks.stores import backlog
from lms_webhooks.stores.webhooks import TOMBSTONE_DAYS, WebhookStore, new_webhook_id
from local import deploy
from tests.contract.privileges import WITHOUT_RESOURCE
from tests.contract.template import (
    ALARMS,
    FUNCTIONS,
    GLOBALS,
    PARAMETERS,
    QUEUES,
    REPOSITORY,
    RESOURCES,
    ROLES,
    RULES,
    TABLES,
    TEMPLATE,
    app_source,
    as_list,
    dead_letter_queues,
    environment,
    event_pattern,
    event_sources,
    measured,
    name_in,
    names_in,
    of_type,
    parameter_of,
    pattern_length,
    quarantine_queue,
    rule_targets,
    statements,
)
from tools.check_build import environment_of

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

FOURTEEN_DAYS = 14 * 86_400
MAX_PATTERN_LENGTH = 2048  # EventBridge's quota, until one asks for more
REDELIVERIES = 50  # an outage of ours must not push events into dead letters
OPEN_ROUTES = {"GET /openapi.json", "GET /console", "GET /console/{file}"}
"""Route keys that need no token."""
ONLY_NAMED = {"UserPoolClient", "UserPoolDomain"}
"""What the console reads, and no function calls."""

each_function = pytest.mark.parametrize("function", FUNCTIONS)
each_table = pytest.mark.parametrize("table", TABLES)
each_event_source = pytest.mark.parametrize(
    ("function", "queue", "source"),
    [pytest.param(*source, id=f"{source[0]}-{source[1]}") for source in event_sources()],
)


##### Functions and what they are told


def settings_type(function: str) -> type[Any]:
    """The class that a function's app.py reads its environment into."""
    (name,) = re.findall(r"\bread\((\w+)\)", app_source(function))
    found: type[Any] = getattr(settings, name)
    return found


def test_each_folder_of_functions_is_a_function_of_the_template() -> None:
    folders = sorted(path.parent for path in REPOSITORY.glob("functions/*/app.py"))
    assert folders == sorted(REPOSITORY / properties["CodeUri"] for properties in FUNCTIONS.values())
    module, _, handler = GLOBALS["Handler"].partition(".")
    assert module == "app"
    for function in FUNCTIONS:
        assert re.search(rf"^def {handler}\(", app_source(function), re.MULTILINE)


@each_function
def test_a_function_is_told_exactly_what_its_settings_read(function: str) -> None:
    fields = settings_type(function).__dataclass_fields__
    assert {name.upper() for name in fields} == set(environment(function))


@each_function
def test_the_parameters_defaults_can_be_read(function: str) -> None:
    """A number where a number is read: a wrong one would fail every cold start of the first deployment."""
    settings.read(settings_type(function), environment_of(function, TEMPLATE))


def test_each_stack_has_metrics_of_its_own() -> None:
    """`staging` in the AWS account of `prod` must not raise the alarms of `prod`."""
    assert GLOBALS["Environment"]["Variables"]["POWERTOOLS_SERVICE_NAME"] == {"Ref": "AWS::StackName"}


def test_a_variable_means_the_same_to_every_function() -> None:
    meanings: dict[str, Any] = {}
    for function in FUNCTIONS:
        for name, value in environment(function).items():
            assert meanings.setdefault(name, value) == value


def test_functions_run_on_the_python_of_the_project_and_on_arm() -> None:
    python = (REPOSITORY / ".python-version").read_text().strip()
    assert GLOBALS["Runtime"] == f"python{python}"
    assert GLOBALS["Architectures"] == ["arm64"]
    for layer in of_type("AWS::Serverless::LayerVersion").values():
        assert layer["CompatibleRuntimes"] == [GLOBALS["Runtime"]]
        assert set(GLOBALS["Architectures"]) <= set(layer["CompatibleArchitectures"])
    for properties in FUNCTIONS.values():
        assert not {"Runtime", "Handler", "Architectures", "Layers"} & properties.keys()


def test_the_gateway_waits_as_long_as_the_admin_api_may_take() -> None:
    for integration in of_type("AWS::ApiGatewayV2::Integration").values():
        function = FUNCTIONS[name_in(integration["IntegrationUri"])]
        assert integration["TimeoutInMillis"] == function["Timeout"] * 1000


def test_the_drainer_s_lease_outlives_the_drainer() -> None:
    assert FUNCTIONS["DrainerFunction"]["Timeout"] == drainer.TIMEOUT_SECONDS < drainer.LEASE_SECONDS


##### Tables


@each_table
def test_tables_have_the_keys_and_the_ttl_that_the_stores_write(table: str) -> None:
    properties = TABLES[table]
    assert properties["KeySchema"] == [
        {"AttributeName": "pk", "KeyType": "HASH"},
        {"AttributeName": "sk", "KeyType": "RANGE"},
    ]
    assert properties["AttributeDefinitions"] == [
        {"AttributeName": "pk", "AttributeType": "S"},
        {"AttributeName": "sk", "AttributeType": "S"},
    ]
    assert properties["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}


@pytest.fixture
def dynamodb() -> Iterator["DynamoDBClient"]:
    """Moto's DynamoDB, with the tables as the template defines them."""
    with mock_aws():
        client = boto3.client("dynamodb", region_name="us-east-1")
        for name, properties in TABLES.items():
            client.create_table(
                TableName=name,
                KeySchema=properties["KeySchema"],
                AttributeDefinitions=properties["AttributeDefinitions"],
                BillingMode=properties["BillingMode"],
            )
        yield client


def test_the_webhook_store_works_on_the_template_s_table(dynamodb: "DynamoDBClient") -> None:
    store = WebhookStore(dynamodb, "WebhooksTable")
    webhook = Webhook(
        account_id="1010",
        webhook_id=new_webhook_id(),
        name="HR",
        description="",
        target_url="https://example.com/",
        authentication=NoAuthentication(),
        events=frozenset({"CI_STATS"}),
        status=Status.ACTIVE,
        created_at="2026-11-03T12:00:00.000Z",
        updated_at="2026-11-03T12:00:00.000Z",
        created_by="ada",
        updated_by="ada",
    )
    store.create(webhook)
    ttl = TABLES["WebhooksTable"]["TimeToLiveSpecification"]["AttributeName"]
    (count,) = [item for item in dynamodb.scan(TableName="WebhooksTable")["Items"] if ttl in item]
    assert count["pk"]["S"] == "LIMIT#1010"
    deleted_at = datetime(2026, 11, 3, tzinfo=UTC)
    store.delete("1010", webhook.webhook_id, deleted_at=deleted_at, deleted_by="ada")
    items = dynamodb.scan(TableName="WebhooksTable")["Items"]
    (tombstone,) = [item for item in items if item["pk"]["S"] == "TOMBSTONE#1010"]
    assert int(tombstone[ttl]["N"]) == int(deleted_at.timestamp()) + TOMBSTONE_DAYS * 86_400


def test_a_tombstone_outlives_the_history_that_it_explains() -> None:
    pattern = PARAMETERS["DeliveryRetentionDays"]["AllowedPattern"]
    longest = max(days for days in range(2 * TOMBSTONE_DAYS) if re.search(pattern, str(days)))
    assert longest < TOMBSTONE_DAYS


def test_data_and_the_key_that_it_needs_outlive_the_stack() -> None:
    users = (*of_type("AWS::Cognito::UserPool"), *of_type("AWS::Cognito::UserPoolGroup"))
    for name in (*TABLES, *of_type("AWS::KMS::Key"), *users):
        assert RESOURCES[name]["DeletionPolicy"] == "RetainExceptOnCreate"
        assert RESOURCES[name]["UpdateReplacePolicy"] == "Retain"
    registrations = TABLES["WebhooksTable"]
    assert registrations["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert registrations["DeletionProtectionEnabled"] == {"Fn::If": ["IsProtected", True, False]}


##### Queues


@each_event_source
def test_a_message_is_hidden_for_six_times_as_long_as_its_consumer_may_take(
    function: str, queue: str, source: dict[str, Any]
) -> None:
    """As AWS advises: Lambda itself tries again when it is throttled. A batching window counts as well."""
    longest = FUNCTIONS[function]["Timeout"] + source.get("MaximumBatchingWindowInSeconds", 0)
    assert QUEUES[queue]["VisibilityTimeout"] >= 6 * longest


@each_event_source
def test_a_consumer_gives_back_only_what_failed_and_is_bounded(
    function: str, queue: str, source: dict[str, Any]
) -> None:
    assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"], f"{function} from {queue}"
    answers = {"BatchFunction": inspect.getsource(sweep.sweep_for)}.get(function, app_source(function))
    assert '"batchItemFailures"' in answers
    bound = source["ScalingConfig"]["MaximumConcurrency"]
    if isinstance(bound, dict) and "Fn::FindInMap" in bound:
        halves = TEMPLATE["Mappings"][bound["Fn::FindInMap"][0]]
        assert list(halves) == PARAMETERS[parameter_of(bound)]["AllowedValues"]
        assert {each: int(half["Is"]) for each, half in halves.items()} == {
            each: int(each) // 2 for each in halves
        }
        assert min(int(half["Is"]) for half in halves.values()) == 2  # what Lambda takes
    elif isinstance(bound, dict):
        pattern = PARAMETERS[bound["Ref"]]["AllowedPattern"]
        taken = {number for number in range(1200) if re.search(pattern, str(number))}
        assert taken == set(range(2, 1001))  # what Lambda takes
    else:
        assert 2 <= bound <= 1000
    if source["BatchSize"] > 10:
        assert source["MaximumBatchingWindowInSeconds"] >= 1  # or Lambda refuses it


def test_the_dispatcher_has_a_thread_for_every_post_of_a_real_time_batch() -> None:
    (source,) = [source for _, queue, source in event_sources() if queue == "RealtimeQueue"]
    assert source["BatchSize"] == dispatcher.SQS_BATCH_SIZE


def test_every_queue_has_dead_letters_or_is_where_things_end() -> None:
    ends = dead_letter_queues() | {quarantine_queue()}
    for name, queue in QUEUES.items():
        assert queue["SqsManagedSseEnabled"] is True, name
        if name in ends:
            assert queue["MessageRetentionPeriod"] == FOURTEEN_DAYS, name
            assert "RedrivePolicy" not in queue, name
        else:
            assert name_in(queue["RedrivePolicy"]["deadLetterTargetArn"]) in QUEUES, name
    assert {queue for _, queue, _ in event_sources()} == QUEUES.keys() - ends


def test_events_survive_an_outage_of_ours_on_their_queues() -> None:
    fed_by_the_bus = {name_in(target["Arn"]) for _, target in rule_targets()} & QUEUES.keys()
    for name in fed_by_the_bus - {quarantine_queue()}:
        assert QUEUES[name]["RedrivePolicy"]["maxReceiveCount"] >= REDELIVERIES, name
        assert QUEUES[name]["MessageRetentionPeriod"] == FOURTEEN_DAYS, name


##### The bus


def queue_for(source: str, detail_type: str, *, extra: str = "") -> str:
    """The queue of the one rule that takes an entry. `lms` is the source of the parameter."""
    taking = [
        name_in(rule["Targets"][0]["Arn"])
        for name, rule in RULES.items()
        if "EventPattern" in rule
        and takes((pattern := event_pattern(name, ExtraEventTypes=extra))["source"], source)
        and takes(pattern.get("detail-type", [detail_type]), detail_type)
    ]
    (queue,) = taking
    return queue


def takes(patterns: list[Any], value: str) -> bool:
    """Whether one of `patterns` matches, as EventBridge does: a value, or `anything-but` values."""
    for pattern in patterns:
        if isinstance(pattern, dict) and "anything-but" in pattern:
            if value not in as_list(pattern["anything-but"]):
                return True
        elif pattern == value:
            return True
    return False


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_each_event_type_goes_to_the_queue_of_its_category(name: str) -> None:
    assert queue_for("lms", name) == ("BatchQueue" if name in NON_REAL_TIME else "RealtimeQueue")


def test_the_rules_name_the_non_real_time_types_and_no_other() -> None:
    *names, nothing = event_pattern("NonRealtimeRule")["detail-type"]
    assert nothing == "!", "no event type is called so"
    assert len(names) == len(set(names))
    assert set(names) == set(NON_REAL_TIME)
    assert event_pattern("RealtimeRule")["detail-type"] == [{"anything-but": [*names, nothing]}]


@pytest.mark.parametrize(
    "extra",
    [
        "BADGE_AWARDED",
        "SYNC:non-real-time",
        "BADGE_AWARDED,SYNC:non-real-time,A:B",
        "S:non-real-time,T,U:non-real-time",
    ],
)
def test_a_type_of_the_deployers_own_goes_to_the_queue_of_its_category(extra: str) -> None:
    added = {name: each for name, each in with_extra_types(extra).items() if name not in EVENT_TYPES}
    assert len(added) == extra.count(",") + 1
    for name, each in added.items():
        expected = "BatchQueue" if each.category is Category.NON_REAL_TIME else "RealtimeQueue"
        assert queue_for("lms", name, extra=extra) == expected
    for name in ("LEARNER_PROGRESS", "CI_STATS"):
        assert queue_for("lms", name, extra=extra) == queue_for("lms", name)


def test_the_parameter_of_own_event_types_takes_names_and_notices_mistakes() -> None:
    declared = PARAMETERS["ExtraEventTypes"]
    longest = ",".join(f"B_{number:017d}" for number in range(declared["MaxLength"] // 20))
    most = ",".join(f"B_{number}" for number in range(40))
    for text, is_taken in (
        ("", True),
        ("BADGE_AWARDED", True),
        ("badge.awarded,ROLE:CHANGED:non-real-time", True),
        (most, True),
        (f"{most},B_40", False),
        (longest, True),
        ("BADGE_AWARDED:nonrealtime", False),
        ("BADGE_AWARDED:real-time", False),
        ("BADGE_AWARDED, SYNC", False),
        ("BADGE_AWARDED,", False),
        ("BADGE AWARDED", False),
        ("4711", False),
    ):
        assert bool(re.fullmatch(declared["AllowedPattern"], text)) == is_taken, text
    for extra in (most, longest):
        for rule in ("RealtimeRule", "NonRealtimeRule"):
            length = pattern_length(rule, ExtraEventTypes=extra, EventSource="s" * 256)
            assert length <= MAX_PATTERN_LENGTH
    for function in ("AdminApiFunction", "DispatcherFunction"):
        assert environment(function)["EXTRA_EVENT_TYPES"] == {"Ref": "ExtraEventTypes"}


@pytest.mark.parametrize("detail_type", ["COURSE_EXPLODED", "CI_STATS", "LEARNER_PROGRESS"])
def test_quarantine_takes_exactly_what_has_another_source(detail_type: str) -> None:
    assert queue_for("crm", detail_type) == "QuarantineQueue"
    assert queue_for("lms", detail_type) != "QuarantineQueue"


def test_an_unknown_type_of_our_source_goes_to_the_dispatcher_which_quarantines_it() -> None:
    assert queue_for("lms", "COURSE_EXPLODED") == "RealtimeQueue"


def test_an_archive_keeps_all_that_comes_on_our_bus_and_only_if_somebody_wants_one() -> None:
    """The emulator's CloudFormation knows no archives, and 0 days would mean for ever to EventBridge."""
    (name, archive), *others = of_type("AWS::Events::Archive").items()
    assert others == []
    assert archive["SourceArn"] == {"Fn::GetAtt": ["EventBus", "Arn"]}
    assert archive["RetentionDays"] == {"Ref": "ArchiveRetentionDays"}
    assert "EventPattern" not in archive
    assert TEMPLATE["Conditions"]["HasArchive"] == {
        "Fn::Not": [{"Fn::Equals": [{"Ref": "ArchiveRetentionDays"}, "0"]}]
    }
    assert RESOURCES[name]["Condition"] == TEMPLATE["Outputs"]["EventArchiveArn"]["Condition"] == "HasArchive"
    assert PARAMETERS["ArchiveRetentionDays"]["Default"] == "0"


def test_all_rules_are_on_our_bus_and_within_eventbridge_s_limits() -> None:
    for name, rule in RULES.items():
        if "EventPattern" in rule:
            assert name_in(rule["EventBusName"]) in of_type("AWS::Events::EventBus")
            assert pattern_length(name) <= MAX_PATTERN_LENGTH
        else:
            assert "EventBusName" not in rule, "schedules run on the default bus only"


def test_every_rule_may_reach_its_target_and_its_dead_letters() -> None:
    """EventBridge asks the queue's policy, the function's permission. Emulators do not."""
    may_reach = set()
    for policy in of_type("AWS::SQS::QueuePolicy").values():
        for statement in policy["PolicyDocument"]["Statement"]:
            assert statement["Principal"] == {"Service": "events.amazonaws.com"}
            assert statement["Action"] == "sqs:SendMessage"
            sources = statement["Condition"]["ArnEquals"]["aws:SourceArn"]
            may_reach |= {(rule, name_in(statement["Resource"])) for rule in names_in(sources)}
    for permission in of_type("AWS::Lambda::Permission").values():
        if permission["Principal"] == "events.amazonaws.com":
            may_reach.add((name_in(permission["SourceArn"]), name_in(permission["FunctionName"])))
    needs = {(rule, name_in(target["Arn"])) for rule, target in rule_targets()}
    needs |= {
        (rule, name_in(target["DeadLetterConfig"]["Arn"]))
        for rule, target in rule_targets()
        if "DeadLetterConfig" in target
    }
    assert needs <= may_reach
    assert {rule for rule, _ in may_reach} <= {rule for rule, _ in needs}


def test_other_accounts_may_put_events_on_the_bus_only_when_named_and_only_from_our_source() -> None:
    parameter = PARAMETERS["ProducerAccounts"]
    for accounts, is_taken in (
        ("", True),
        ("111122223333", True),
        ("111122223333,444455556666", True),
        ("*", False),
        ("1111", False),
        ("111122223333, 444455556666", False),
        ("111122223333,", False),
    ):
        assert bool(re.search(parameter["AllowedPattern"], accounts)) == is_taken, accounts
    assert parameter["Default"] == ""
    assert TEMPLATE["Conditions"]["HasProducerAccounts"] == {
        "Fn::Not": [{"Fn::Equals": [{"Ref": "ProducerAccounts"}, ""]}]
    }
    (policy,) = of_type("AWS::Events::EventBusPolicy").values()
    assert RESOURCES["ProducersPolicy"]["Condition"] == "HasProducerAccounts"
    assert name_in(policy["EventBusName"]) == "EventBus"
    assert policy["Statement"] == {
        "Effect": "Allow",
        "Principal": {"AWS": {"Fn::Split": [",", {"Ref": "ProducerAccounts"}]}},
        "Action": "events:PutEvents",
        "Resource": {"Fn::GetAtt": ["EventBus", "Arn"]},
        "Condition": {"ForAllValues:StringEquals": {"events:source": {"Ref": "EventSource"}}},
    }


def test_one_rule_serves_every_schedule() -> None:
    """Slots are data: with a rule for each schedule, a webhook's own would be a resource."""
    scheduled = {rule: target for rule, target in rule_targets() if "ScheduleExpression" in RULES[rule]}
    assert scheduled.keys() == {"BatchSweepSchedule"}
    assert name_in(scheduled["BatchSweepSchedule"]["Arn"]) == "BatchFunction"
    sample = REPOSITORY / "events" / "batch_schedule.json"
    assert json.loads(scheduled["BatchSweepSchedule"]["Input"]) == json.loads(sample.read_text())


def test_slots_are_the_same_each_day() -> None:
    """A period that does not divide a day would have slots that no two days share, and none at midnight."""
    parameter = PARAMETERS["BatchEveryMinutes"]
    assert all(1440 % minutes == 0 for minutes in parameter["AllowedValues"])
    assert parameter["Default"] in parameter["AllowedValues"]
    for function in ("AdminApiFunction", "DispatcherFunction"):
        assert environment(function)["BATCH_EVERY_MINUTES"] == {"Ref": "BatchEveryMinutes"}


def test_each_shard_of_the_due_markers_can_be_swept_at_once_and_counts_for_the_alarm() -> None:
    (source,) = [source for _, queue, source in event_sources() if queue == "SweepQueue"]
    assert source["ScalingConfig"]["MaximumConcurrency"] == backlog.SHARDS
    assert source["BatchSize"] == 1
    assert ALARMS["SweepMissingAlarm"]["Threshold"] == backlog.SHARDS


def test_an_old_part_of_a_sweep_is_dropped_before_it_could_be_tried_again() -> None:
    """Or parts would add up behind a fault that lasts: sixteen a minute."""
    queue = QUEUES["SweepQueue"]
    assert queue["MessageRetentionPeriod"] <= queue["VisibilityTimeout"]


def test_a_sweep_has_time_to_close() -> None:
    timeout = FUNCTIONS["BatchFunction"]["Timeout"]
    assert sweep._OWN_SECONDS < sweep._CLOSING_SECONDS < timeout / 2
    assert timeout < 60, "the schedule's invocation ends before the next one begins"


##### Who may do what


def test_no_policy_is_wider_than_a_named_resource_and_named_actions() -> None:
    for name, role in ROLES.items():
        assert not {"ManagedPolicyArns", "PermissionsBoundary"} & role.keys(), name
        for policy in role["Policies"]:
            for statement in policy["PolicyDocument"]["Statement"]:
                assert re.fullmatch(r"[A-Z][A-Za-z]+", statement["Sid"]), name
                assert statement["Effect"] == "Allow"
                for action in as_list(statement["Action"]):
                    assert re.fullmatch(r"[a-z]+:[A-Za-z]+", action), f"{name}: {action}"
                if statement["Resource"] == "*":
                    assert set(as_list(statement["Action"])) <= WITHOUT_RESOURCE, name
                    continue
                for resource in as_list(statement["Resource"]):
                    assert names_in(resource) & RESOURCES.keys(), f"{name}: {resource}"
    for name, properties in FUNCTIONS.items():
        assert "Policies" not in properties, f"{name}: SAM's own policies are wider than they need be"


def test_a_star_stands_only_in_the_key_s_own_policy_and_where_iam_knows_no_resource() -> None:
    def stars(value: Any) -> int:
        if isinstance(value, dict):
            return sum(stars(each) for each in value.values())
        if isinstance(value, list):
            return sum(stars(each) for each in value)
        return int(value == "*")

    counted = {name: stars(resource) for name, resource in RESOURCES.items()}
    assert {name: count for name, count in counted.items() if count} == {
        "DeliveryKey": 1,
        "AdminApiRole": 1,
        "SendersNetworkPolicy": 2,
    }


def test_every_function_has_its_own_role_and_log() -> None:
    roles = [name_in(properties["Role"]) for properties in FUNCTIONS.values()]
    logs = [name_in(properties["LoggingConfig"]["LogGroup"]) for properties in FUNCTIONS.values()]
    assert len({*roles, *logs}) == 2 * len(FUNCTIONS)
    assert set(roles) == set(ROLES)
    groups = of_type("AWS::Logs::LogGroup")
    assert set(logs) < set(groups)
    for group in groups.values():
        assert group["RetentionInDays"] == {"Ref": "LogRetentionDays"}
    for role in ROLES.values():
        (trusted,) = role["AssumeRolePolicyDocument"]["Statement"]
        assert trusted["Principal"] == {"Service": "lambda.amazonaws.com"}
        assert trusted["Action"] == "sts:AssumeRole"


@each_function
def test_a_function_may_touch_what_it_is_told_of_and_what_feeds_it(function: str) -> None:
    touched = set().union(*(names_in(each["Resource"]) for each in statements(function))) & RESOURCES.keys()
    told_of = names_in(environment(function)) & RESOURCES.keys() - ONLY_NAMED
    fed_by = {queue for name, queue, _ in event_sources() if name == function}
    log = name_in(FUNCTIONS[function]["LoggingConfig"]["LogGroup"])
    # Lambda puts failed invocations there, as the function's role.
    failed = names_in(FUNCTIONS[function].get("EventInvokeConfig", {}))
    assert touched == told_of | fed_by | failed | {log}


@each_event_source
def test_a_consumer_may_take_from_its_queue(function: str, queue: str, source: dict[str, Any]) -> None:
    allowed = {
        action
        for statement in statements(function)
        if queue in names_in(statement["Resource"])
        for action in as_list(statement["Action"])
    }
    assert allowed >= {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}, source


def test_a_key_of_the_deployer_s_own_stands_in_for_the_stack_s_wherever_that_is_named() -> None:
    key = {"Fn::If": ["HasSecretsKey", {"Ref": "SecretsKeyArn"}, {"Fn::GetAtt": ["DeliveryKey", "Arn"]}]}
    assert TEMPLATE["Conditions"]["HasSecretsKey"] == {
        "Fn::Not": [{"Fn::Equals": [{"Ref": "SecretsKeyArn"}, ""]}]
    }
    used = [
        statement["Resource"]
        for function in FUNCTIONS
        for statement in statements(function)
        if "kms:Decrypt" in as_list(statement["Action"])
    ]
    used += [
        variables["KMS_KEY_ID"] for each in FUNCTIONS if "KMS_KEY_ID" in (variables := environment(each))
    ]
    assert len(used) == 6
    assert all(each == key for each in used)
    assert TEMPLATE["Outputs"]["DeliveryKeyArn"]["Value"] == key
    pattern = PARAMETERS["SecretsKeyArn"]["AllowedPattern"]
    for arn, is_taken in (
        ("", True),
        ("arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab", True),
        ("arn:aws:kms:eu-west-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab", True),
        ("arn:aws:kms:eu-west-1:111122223333:alias/mine", False),
        ("1234abcd-12ab-34cd-56ef-1234567890ab", False),
    ):
        assert bool(re.search(pattern, arn)) == is_taken, arn


def test_what_sends_and_nothing_else_goes_out_by_the_deployer_s_subnets_if_there_are_any() -> None:
    assert TEMPLATE["Conditions"]["HasSubnets"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "SubnetIds"}, ""]}]}
    assert PARAMETERS["SubnetIds"]["Default"] == PARAMETERS["SecurityGroupIds"]["Default"] == ""
    senders = {function for function in FUNCTIONS if "import Sender" in app_source(function)}
    assert {function for function, each in FUNCTIONS.items() if "VpcConfig" in each} == senders
    (policy,) = of_type("AWS::IAM::Policy").values()
    assert names_in(policy["Roles"]) == {name_in(FUNCTIONS[function]["Role"]) for function in senders}
    for function in senders:
        condition, inside, outside = FUNCTIONS[function]["VpcConfig"]["Fn::If"]
        assert (condition, outside) == ("HasSubnets", {"Ref": "AWS::NoValue"})
        assert inside == {
            name: {"Fn::Split": [",", {"Ref": name}]} for name in ("SubnetIds", "SecurityGroupIds")
        }
        # Lambda needs it when the function is made.
        assert RESOURCES[function]["DependsOn"] == "SendersNetworkPolicy"


def test_no_code_of_ours_may_touch_a_network_interface() -> None:
    (policy,) = of_type("AWS::IAM::Policy").values()
    lambda_may, function_may_not = policy["PolicyDocument"]["Statement"]
    assert lambda_may["Effect"] == "Allow"
    assert all(action.startswith("ec2:") for action in lambda_may["Action"])
    assert (function_may_not["Effect"], function_may_not["Action"]) == ("Deny", lambda_may["Action"])
    assert function_may_not["Condition"].keys() == {"ArnLike"}


def test_no_topic_has_the_policy_by_which_all_of_the_account_may_publish_and_subscribe() -> None:
    publishers = {}
    for policy in of_type("AWS::SNS::TopicPolicy").values():
        (topic,) = policy["Topics"]
        (statement,) = policy["PolicyDocument"]["Statement"]
        assert (statement["Effect"], statement["Action"]) == ("Allow", "sns:Publish")
        assert statement["Resource"] == topic
        publishers[name_in(topic)] = statement["Principal"]
        if "Service" in statement["Principal"]:
            of_account = {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}
            assert statement["Condition"] == {"StringEquals": of_account}
    assert publishers == {
        "NoticeTopic": {"AWS": {"Fn::GetAtt": ["BatchRole", "Arn"]}},
        "AlarmTopic": {"Service": "cloudwatch.amazonaws.com"},
    }
    assert publishers.keys() == of_type("AWS::SNS::Topic").keys()


def test_only_what_sends_may_decrypt() -> None:
    may_decrypt = {
        function
        for function in FUNCTIONS
        for statement in statements(function)
        if "kms:Decrypt" in as_list(statement["Action"])
    }
    assert may_decrypt == {function for function in FUNCTIONS if "import Sender" in app_source(function)}


##### Alarms


def alarmed(namespace: str, metric: str, dimension: str) -> set[str]:
    """The resources that have an alarm on a metric, which somebody hears of."""
    return {
        name_in(dimensions[dimension])
        for alarm in ALARMS.values()
        for alarm_namespace, alarm_metric, dimensions in measured(alarm)
        if (alarm_namespace, alarm_metric) == (namespace, metric)
    }


def test_dead_letters_and_quarantine_raise_an_alarm_at_the_first_message() -> None:
    metric = "ApproximateNumberOfMessagesVisible"
    assert alarmed("AWS/SQS", metric, "QueueName") == dead_letter_queues() | {quarantine_queue()}
    for alarm in ALARMS.values():
        if alarm.get("MetricName") == metric:
            assert (alarm["Statistic"], alarm["Threshold"]) == ("Maximum", 0)


def test_failing_functions_and_a_failing_api_raise_an_alarm() -> None:
    behind_the_api = {
        name_in(integration["IntegrationUri"])
        for integration in of_type("AWS::ApiGatewayV2::Integration").values()
    }
    assert alarmed("AWS/Lambda", "Errors", "FunctionName") >= FUNCTIONS.keys() - behind_the_api
    assert alarmed("AWS/ApiGateway", "5xx", "ApiId") == set(of_type("AWS::ApiGatewayV2::Api"))


def test_throttled_functions_and_tables_raise_an_alarm() -> None:
    assert alarmed("AWS/Lambda", "Throttles", "FunctionName") == set(FUNCTIONS)
    for metric in ("ReadThrottleEvents", "WriteThrottleEvents"):
        assert alarmed("AWS/DynamoDB", metric, "TableName") == set(TABLES)


def test_every_alarm_is_heard_and_says_what_to_think_of_it() -> None:
    for name, alarm in ALARMS.items():
        assert {name_in(action) for action in alarm["AlarmActions"]} <= of_type("AWS::SNS::Topic").keys()
        assert alarm["AlarmActions"], name
        assert alarm["AlarmDescription"].endswith("."), name
        if name != "SweepMissingAlarm":  # which is about what does not happen
            assert alarm["ComparisonOperator"] == "GreaterThanThreshold", name
            assert alarm["TreatMissingData"] == "notBreaching", name


def test_alarms_on_our_own_metrics_name_ones_that_the_code_emits() -> None:
    variables = GLOBALS["Environment"]["Variables"]
    for name, alarm in ALARMS.items():
        for namespace, metric, dimensions in measured(alarm):
            if not namespace.startswith("AWS/"):
                assert namespace == variables["POWERTOOLS_METRICS_NAMESPACE"]
                assert metric in set(Metric), name
                assert dimensions == {"service": variables["POWERTOOLS_SERVICE_NAME"]}


##### The admin API


def test_every_route_asks_for_a_token() -> None:
    authorizers = of_type("AWS::ApiGatewayV2::Authorizer")
    routes = of_type("AWS::ApiGatewayV2::Route")
    assert routes
    for route in routes.values():
        if route["RouteKey"] not in OPEN_ROUTES:
            assert route["AuthorizationType"] == "JWT", route["RouteKey"]
            assert name_in(route["AuthorizerId"]) in authorizers
    assert {route["RouteKey"] for route in routes.values()} >= OPEN_ROUTES


def test_tokens_come_from_our_pool_or_from_the_issuer_that_the_deployer_names() -> None:
    for authorizer in of_type("AWS::ApiGatewayV2::Authorizer").values():
        assert authorizer["AuthorizerType"] == "JWT"
        assert authorizer["IdentitySource"] == ["$request.header.Authorization"]
        own, other = authorizer["JwtConfiguration"]["Issuer"]["Fn::If"][1:]
        assert own == {"Fn::Sub": "https://cognito-idp.${AWS::Region}.${AWS::URLSuffix}/${UserPool}"}
        assert other == {"Ref": "OidcIssuer"}
        assert authorizer["JwtConfiguration"]["Audience"] == {
            "Fn::If": ["HasOwnUserPool", [{"Ref": "UserPoolClient"}], [{"Ref": "OidcAudience"}]]
        }
    assert TEMPLATE["Conditions"]["HasOwnUserPool"] == {"Fn::Equals": [{"Ref": "OidcIssuer"}, ""]}


def test_nobody_signs_up_and_nobody_changes_account() -> None:
    (pool,) = of_type("AWS::Cognito::UserPool").values()
    assert pool["AdminCreateUserConfig"]["AllowAdminCreateUserOnly"] is True
    (account,) = pool["Schema"]
    assert (account["Name"], account["Mutable"]) == ("accountId", False)
    assert account["StringAttributeConstraints"] == {
        "MinLength": "1",
        "MaxLength": str(MAX_ACCOUNT_ID_LENGTH),
    }
    assert "LambdaConfig" not in pool, "a trigger could put claims into tokens"
    assert pool["UserAttributeUpdateSettings"] == {
        "AttributesRequireVerificationBeforeUpdate": pool["AutoVerifiedAttributes"]
    }
    assert PARAMETERS["AccountClaim"]["Default"] == f"custom:{account['Name']}"
    for client in of_type("AWS::Cognito::UserPoolClient").values():
        assert "custom:accountId" in client["ReadAttributes"]
        # Cognito lets a client write everything when the list is left out.
        assert client["WriteAttributes"] == ["email"]
        assert client["PreventUserExistenceErrors"] == "ENABLED"
        flows = {"ALLOW_USER_PASSWORD_AUTH", "ALLOW_USER_SRP_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"}
        assert set(client["ExplicitAuthFlows"]) <= flows


def test_nothing_of_the_stack_lets_anybody_administer_its_users() -> None:
    """Groups and accounts change by IAM alone: no role of ours may, and users get no IAM credentials."""
    assert not [
        name for name, each in RESOURCES.items() if each["Type"].startswith("AWS::Cognito::IdentityPool")
    ]
    for function in FUNCTIONS:
        for statement in statements(function):
            assert not [each for each in as_list(statement["Action"]) if each.startswith("cognito")]
    for name, role in ROLES.items():
        for trusted in role["AssumeRolePolicyDocument"]["Statement"]:
            assert trusted["Principal"].keys() == {"Service"}, name
    groups = of_type("AWS::Cognito::UserPoolGroup")
    assert not [name for name, group in groups.items() if "RoleArn" in group]


def test_no_page_of_another_origin_may_call_the_api() -> None:
    """A page of the stack's own origin needs no CORS. The code handles no OPTIONS and sets no such header."""
    for api in of_type("AWS::ApiGatewayV2::Api").values():
        assert "CorsConfiguration" not in api
    for path in (REPOSITORY / "layers" / "core" / "lms_webhooks").rglob("*.py"):
        text = path.read_text()
        assert "Access-Control" not in text, path
        assert "CORSConfig" not in text, path


def test_calls_of_the_api_are_throttled() -> None:
    """So that nobody can guess fast, or use up the AWS account's share, which is 10,000 a second."""
    for stage in of_type("AWS::ApiGatewayV2::Stage").values():
        assert stage["DefaultRouteSettings"] == {"ThrottlingRateLimit": 50, "ThrottlingBurstLimit": 100}
        for settings_of_route in stage["RouteSettings"].values():
            assert settings_of_route["ThrottlingRateLimit"] <= 20
            assert settings_of_route["ThrottlingBurstLimit"] <= 60


def test_the_console_signs_in_by_code_without_a_secret() -> None:
    (client,) = of_type("AWS::Cognito::UserPoolClient").values()
    assert client["GenerateSecret"] is False
    assert client["AllowedOAuthFlows"] == ["code"], "the implicit flow has tokens in addresses"
    assert "openid" in client["AllowedOAuthScopes"]
    (address,) = client["CallbackURLs"]
    assert client["LogoutURLs"] == [address]
    assert address == TEMPLATE["Outputs"]["ConsoleUrl"]["Value"]
    assert "ConsoleUrl" in names_in(address), "a domain of the deployer's own"
    (domain,) = of_type("AWS::Cognito::UserPoolDomain").values()
    assert name_in(domain["UserPoolId"]) == "UserPool"
    for name in ("UserPoolClient", "UserPoolDomain"):
        assert RESOURCES[name]["Condition"] == "HasOwnUserPool"


def test_the_roles_that_the_api_knows_are_groups_of_the_pool() -> None:
    groups = {name_in(group["GroupName"]) for group in of_type("AWS::Cognito::UserPoolGroup").values()}
    assert groups == {"AdminRole", "ReaderRole"}
    assert PARAMETERS["RoleClaim"]["Default"] == "cognito:groups"
    assert PARAMETERS["AdminRole"]["Default"] == deploy.ADMIN_GROUP


def test_the_access_log_holds_no_token() -> None:
    for stage in of_type("AWS::ApiGatewayV2::Stage").values():
        logged = re.findall(r"\$context\.([A-Za-z.]+)", stage["AccessLogSettings"]["Format"])
        assert {name for name in logged if name.startswith("authorizer")} <= {"authorizer.error"}
        assert "$request" not in stage["AccessLogSettings"]["Format"]


##### Parameters, rules and outputs


def test_loopback_targets_are_for_the_local_stage_alone() -> None:
    assert PARAMETERS["Stage"]["Default"] != "local"
    told = [environment(function).get("LOOPBACK_TARGETS_ALLOWED") for function in FUNCTIONS]
    assert [each for each in told if each] == 3 * [{"Fn::If": ["IsLocal", "true", "false"]}]
    is_stage, is_account = TEMPLATE["Conditions"]["IsLocal"]["Fn::And"]
    assert is_stage == {"Fn::Equals": [{"Ref": "Stage"}, "local"]}
    ids = [each["Fn::Equals"] for each in is_account["Fn::Or"]]
    assert all(ref == {"Ref": "AWS::AccountId"} for ref, _ in ids)
    # Ids of AWS are twelve digits and none of them is zeros alone.
    assert [value for _, value in ids] == ["000000000000", "AWS::AccountId"]
    assert TEMPLATE["Conditions"]["IsOnAws"] == {"Fn::Not": [{"Condition": "IsLocal"}]}


def test_every_parameter_is_described_has_a_default_and_stands_in_one_group() -> None:
    interface = TEMPLATE["Metadata"]["AWS::CloudFormation::Interface"]
    assert all(group["Label"]["default"] for group in interface["ParameterGroups"])
    grouped = [name for group in interface["ParameterGroups"] for name in group["Parameters"]]
    assert sorted(grouped) == sorted(PARAMETERS)
    for name, parameter in PARAMETERS.items():
        assert parameter["Description"], name
        assert "Default" in parameter, name


def test_every_output_that_the_local_stack_reads_is_there() -> None:
    source = (REPOSITORY / "local" / "deploy.py").read_text()
    wanted = set(re.findall(r"""outputs\[["'](\w+)["']\]""", source))
    wanted |= {*deploy._TABLES.values(), *deploy._QUEUES.values(), *deploy._FUNCTIONS.values()}
    assert "ApiId" in wanted
    assert wanted <= TEMPLATE["Outputs"].keys()


def test_what_is_deployed_locally_by_parameter_is_a_parameter() -> None:
    source = (REPOSITORY / "local" / "deploy.py").read_text()
    block = source.partition("overrides = {")[2].partition("}\n")[0]
    given = set(re.findall(r'^\s+"(\w+)":', block, re.MULTILINE))
    assert {"Stage", "BatchEveryMinutes"} <= given <= PARAMETERS.keys()


def test_parameters_are_few_enough_to_be_read() -> None:
    assert len(PARAMETERS) <= 24
