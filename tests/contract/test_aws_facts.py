"""What AWS does and the emulator does not: one fact a function, with its source.

Each fact is held against template.yaml. Then it is held against a copy that is turned back to what it was
before the fact was known. The second check must fail, or the fact would be a sentence and no test.
"""

import copy
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from operations.rules import broken_rules
from tests.contract.template import TEMPLATE, as_list, measured, name_in, names_in

type Template = dict[str, Any]


@dataclass(frozen=True)
class Fact:
    """A rule of AWS, and how a template shows that it was heeded."""

    rule: str
    source: str
    check: Callable[[Template], None]
    turn_back: Callable[[Template], None]


FACTS: list[Fact] = []
SIGN_IN_HOST = (
    "AdminApiFunction", "Properties", "Environment", "Variables", "SIGN_IN_URL",
    "Fn::If", 1, "Fn::Sub", 1, "Host",
)  # fmt: skip


def fact(rule: str, *, source: str, turn_back: Callable[[Template], None]) -> Callable[..., None]:
    """Add what the decorated function checks to FACTS."""

    def add(check: Callable[[Template], None]) -> None:
        FACTS.append(Fact(rule, source, check, turn_back))

    return add


##### What a template holds


def properties(template: Template, resource_type: str) -> dict[str, Any]:
    return {
        name: resource["Properties"]
        for name, resource in template["Resources"].items()
        if resource["Type"] == resource_type
    }


def of(template: Template, name: str) -> dict[str, Any]:
    found: dict[str, Any] = template["Resources"][name]["Properties"]
    return found


def sources(template: Template) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each event source of a function: the function, its queue and the source's properties."""
    for function, each in properties(template, "AWS::Serverless::Function").items():
        for event in each.get("Events", {}).values():
            yield function, name_in(event["Properties"]["Queue"]), event["Properties"]


def targets(template: Template) -> Iterator[tuple[str, dict[str, Any]]]:
    for rule, each in properties(template, "AWS::Events::Rule").items():
        for target in each["Targets"]:
            yield rule, target


def takes(template: Template, parameter: str, value: str) -> bool:
    """Whether a parameter takes a value. CloudFormation matches the whole of it."""
    return bool(re.fullmatch(template["Parameters"][parameter]["AllowedPattern"], value))


def says(template: Template, **chosen: str) -> str:
    """What the template says against these parameters, with the others at their defaults."""
    defaults = {name: str(each["Default"]) for name, each in template["Parameters"].items()}
    return "; ".join(broken_rules(template, defaults | chosen))


def put(value: Any, *path: str | int) -> Callable[[Template], None]:
    """Turn back by putting `value` where `path` leads, below Resources unless it begins elsewhere."""

    def turn_back(template: Template) -> None:
        place: Any = template if path[0] in template else template["Resources"]
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return turn_back


def drop(*path: str) -> Callable[[Template], None]:
    """Turn back by taking away what is where `path` leads."""

    def turn_back(template: Template) -> None:
        place = template if path[0] in template else template["Resources"]
        for key in path[:-1]:
            place = place[key]
        del place[path[-1]]

    return turn_back


##### Queues


@fact(
    "A queue policy covers a single queue",
    source="SQS Developer Guide, Access Policy Language: each policy must cover only a single queue",
    turn_back=lambda template: of(template, "RealtimeQueuePolicy")["Queues"].append({"Ref": "BatchQueue"}),
)
def _(template: Template) -> None:
    policies = properties(template, "AWS::SQS::QueuePolicy").values()
    assert {len(policy["Queues"]) for policy in policies} == {1}
    covered = [name_in(policy["Queues"]) for policy in policies]
    assert len(covered) == len(set(covered)), "a second policy would replace the first"


@fact(
    "A statement of a queue policy has one Resource, its own queue: a list is refused",
    source="SQS Developer Guide, Access Policy Language; remind101/stacker_blueprints #71",
    turn_back=lambda template: of(template, "RealtimeQueuePolicy")["PolicyDocument"]["Statement"][0].update(
        Resource=[{"Fn::GetAtt": ["RealtimeQueue", "Arn"]}]
    ),
)
def _(template: Template) -> None:
    for name, policy in properties(template, "AWS::SQS::QueuePolicy").items():
        for statement in policy["PolicyDocument"]["Statement"]:
            assert statement["Resource"] == {"Fn::GetAtt": [name_in(policy["Queues"]), "Arn"]}, name


@fact(
    "A dead letter keeps the time of its first enqueueing, so its queue keeps it as long as SQS can",
    source="SQS Developer Guide, dead-letter queues",
    turn_back=put(345_600, "RealtimeDeadLetterQueue", "Properties", "MessageRetentionPeriod"),
)
def _(template: Template) -> None:
    queues = properties(template, "AWS::SQS::Queue")
    dead_letters = {
        name_in(queue["RedrivePolicy"]["deadLetterTargetArn"])
        for queue in queues.values()
        if "RedrivePolicy" in queue
    }
    dead_letters |= {name_in(target["DeadLetterConfig"]["Arn"]) for _, target in targets(template)}
    assert all(queues[name]["MessageRetentionPeriod"] == 14 * 86_400 for name in dead_letters)


@fact(
    "A queue that feeds a function has a maxReceiveCount of 5 or more, or throttled polls use it up",
    source="Lambda Developer Guide, Configuring a queue for use with Lambda",
    turn_back=put(3, "DrainQueue", "Properties", "RedrivePolicy", "maxReceiveCount"),
)
def _(template: Template) -> None:
    for _, queue, _ in sources(template):
        assert of(template, queue)["RedrivePolicy"]["maxReceiveCount"] >= 5, queue


@fact(
    "A queue hides a message for six times the function's time-out and the batching window",
    source="Lambda Developer Guide, Configuring a queue for use with Lambda",
    turn_back=put(60, "RealtimeQueue", "Properties", "VisibilityTimeout"),
)
def _(template: Template) -> None:
    for function, queue, source in sources(template):
        longest = of(template, function)["Timeout"] + source.get("MaximumBatchingWindowInSeconds", 0)
        assert of(template, queue)["VisibilityTimeout"] >= 6 * longest, queue


@fact(
    "A batch of more than 10 messages needs a batching window of a second or more",
    source="Lambda API, CreateEventSourceMapping",
    turn_back=drop(
        "DispatcherFunction",
        "Properties",
        "Events",
        "NonRealtime",
        "Properties",
        "MaximumBatchingWindowInSeconds",
    ),
)
def _(template: Template) -> None:
    for _, queue, source in sources(template):
        assert source["BatchSize"] <= 10 or source.get("MaximumBatchingWindowInSeconds", 0) >= 1, queue


@fact(
    "ApproximateAgeOfOldestMessage leaves out messages that were received three times or more",
    source="SQS Developer Guide, CloudWatch metrics",
    turn_back=drop("MessagesReturnedAlarm"),
)
def _(template: Template) -> None:
    alarms = properties(template, "AWS::CloudWatch::Alarm").values()
    thresholds = {metric: alarm["Threshold"] for alarm in alarms for _, metric, _ in measured(alarm)}
    assert "ApproximateAgeOfOldestMessage" in thresholds
    assert thresholds.get("MessagesReturned") == 0


##### Lambda


@fact(
    "Lambda ends a chain of SQS, Lambda and SQS after some 16 rounds, unless the function allows it",
    source="Lambda Developer Guide, recursive loop detection; boto/boto3 #3899; SAM, RecursiveLoop",
    turn_back=drop("DrainerFunction", "Properties", "RecursiveLoop"),
)
def _(template: Template) -> None:
    functions = properties(template, "AWS::Serverless::Function")
    allowed = {name for name, each in functions.items() if each.get("RecursiveLoop") == "Allow"}
    assert allowed == {"BatchFunction", "DrainerFunction"}
    assert "RecursiveLoop" not in template["Globals"]["Function"]


@fact(
    "Reserved concurrency below what the event sources may invoke throttles their pollers",
    source="Lambda Developer Guide, maximum concurrency for SQS event sources",
    turn_back=put(
        {"Fn::If": ["IsProtected", 5, {"Ref": "AWS::NoValue"}]},
        "DrainerFunction",
        "Properties",
        "ReservedConcurrentExecutions",
    ),
)
def _(template: Template) -> None:
    for name, function in properties(template, "AWS::Serverless::Function").items():
        if "ReservedConcurrentExecutions" in function:
            condition, reserved, otherwise = function["ReservedConcurrentExecutions"]["Fn::If"]
            assert otherwise == {"Ref": "AWS::NoValue"}
            assert condition == "IsProtected", "a new AWS account has 10 concurrent executions in all"
            of_function = [source for function_name, _, source in sources(template) if function_name == name]
            halves = {"Fn::FindInMap": ["HalfOf", reserved, "Is"]}
            assert [source["ScalingConfig"]["MaximumConcurrency"] for source in of_function] == [halves] * 2


@fact(
    "EventBridge invokes a function asynchronously: Lambda keeps, tries again and drops, unseen by the rule",
    source="Lambda Developer Guide, asynchronous invocation: kept up to 6 hours, 2 more tries, then dropped",
    turn_back=drop("BatchFunction", "Properties", "EventInvokeConfig"),
)
def _(template: Template) -> None:
    functions = properties(template, "AWS::Serverless::Function")
    invoked = {name_in(target["Arn"]) for _, target in targets(template)} & functions.keys()
    assert invoked
    for name in invoked:
        settings = functions[name]["EventInvokeConfig"]
        assert settings["MaximumRetryAttempts"] == 0
        assert settings["MaximumEventAgeInSeconds"] == 60, "the least that Lambda takes"
        failed = name_in(settings["DestinationConfig"]["OnFailure"]["Destination"])
        assert failed in properties(template, "AWS::SQS::Queue")


@fact(
    "Lambda sends a failed invocation to its destination as the function's role",
    source="Lambda Developer Guide, destinations of asynchronous invocations",
    turn_back=put(
        [{"Fn::GetAtt": ["DrainQueue", "Arn"]}],
        "BatchRole", "Properties", "Policies",
    ),
)  # fmt: skip
def _(template: Template) -> None:
    for function in properties(template, "AWS::Serverless::Function").values():
        if "EventInvokeConfig" in function:
            destination = name_in(
                function["EventInvokeConfig"]["DestinationConfig"]["OnFailure"]["Destination"]
            )
            role = of(template, name_in(function["Role"]))
            granted = [
                statement
                for policy in role["Policies"]
                for statement in policy.get("PolicyDocument", {}).get("Statement", [])
                if "sqs:SendMessage" in as_list(statement["Action"])
                and destination in names_in(statement["Resource"])
            ]
            assert granted


@fact(
    "Lambda makes and deletes network interfaces as the function's role, also after its subnets are gone",
    source="Lambda Developer Guide, Giving functions access to resources in a VPC, execution role",
    turn_back=lambda template: of(template, "SendersNetworkPolicy")["PolicyDocument"]["Statement"][0].update(
        Effect={"Fn::If": ["HasSubnets", "Allow", "Deny"]}
    ),
)
def _(template: Template) -> None:
    lambda_may, _ = of(template, "SendersNetworkPolicy")["PolicyDocument"]["Statement"]
    assert lambda_may["Effect"] == "Allow"
    assert "Condition" not in template["Resources"]["SendersNetworkPolicy"]
    for name, function in properties(template, "AWS::Serverless::Function").items():
        if "VpcConfig" in function:
            assert name_in(function["Role"]) in names_in(of(template, "SendersNetworkPolicy")["Roles"]), name
            assert template["Resources"][name]["DependsOn"] == "SendersNetworkPolicy", "or it could go first"


@fact(
    "A function's code may do what its role lets Lambda do, unless lambda:SourceFunctionArn denies it",
    source="Lambda Developer Guide, Giving functions access to resources in a VPC, security best practices",
    turn_back=lambda template: of(template, "SendersNetworkPolicy")["PolicyDocument"]["Statement"].pop(),
)
def _(template: Template) -> None:
    allowed, *denied = of(template, "SendersNetworkPolicy")["PolicyDocument"]["Statement"]
    assert [(each["Effect"], each["Action"]) for each in denied] == [("Deny", allowed["Action"])]
    assert list(denied[0]["Condition"]["ArnLike"]) == ["lambda:SourceFunctionArn"]


@fact(
    "A function in a VPC needs both subnets and security groups",
    source="Lambda API, VpcConfig",
    turn_back=drop("Rules", "SubnetsAndSecurityGroupsGoTogether"),
)
def _(template: Template) -> None:
    together = "SubnetIds and SecurityGroupIds go together"
    assert says(template) == says(template, SubnetIds="subnet-1a", SecurityGroupIds="sg-1a") == ""
    assert together in says(template, SubnetIds="subnet-1a")
    assert together in says(template, SecurityGroupIds="sg-1a")
    for parameter, one, most in (("SubnetIds", "subnet-1a", 16), ("SecurityGroupIds", "sg-1a", 5)):
        assert takes(template, parameter, ",".join([one] * most))
        assert not takes(template, parameter, ",".join([one] * (most + 1)))


##### EventBridge


@fact(
    "A rule whose target refuses it for 24 hours drops the event, unless the target has a dead-letter queue",
    source="EventBridge User Guide, dead-letter queues",
    turn_back=lambda template: of(template, "QuarantineRule")["Targets"][0].pop("DeadLetterConfig"),
)
def _(template: Template) -> None:
    for rule, target in targets(template):
        assert name_in(target["DeadLetterConfig"]["Arn"]) in properties(template, "AWS::SQS::Queue"), rule


def _without_the_bus(template: Template) -> None:
    for each in of(template, "RulesFailingAlarm")["Metrics"]:
        if "MetricStat" in each:
            metric = each["MetricStat"]["Metric"]
            metric["Dimensions"] = [name for name in metric["Dimensions"] if name["Name"] != "EventBusName"]


@fact(
    "Metrics of a rule have EventBusName and RuleName, and on the default bus RuleName alone",
    source="EventBridge User Guide, Monitoring, EventBridge metrics",
    turn_back=_without_the_bus,
)
def _(template: Template) -> None:
    rules = properties(template, "AWS::Events::Rule")
    wanted = []
    for name, rule in rules.items():
        bus = {"EventBusName": rule["EventBusName"]} if "EventBusName" in rule else {}
        wanted.append(bus | {"RuleName": rule["Name"] if bus else {"Ref": name}})
    for metric in ("FailedInvocations", "InvocationsFailedToBeSentToDlq"):
        watched = [
            dimensions
            for alarm in properties(template, "AWS::CloudWatch::Alarm").values()
            for namespace, watched_metric, dimensions in measured(alarm)
            if (namespace, watched_metric) == ("AWS/Events", metric)
        ]
        assert sorted(map(str, watched)) == sorted(map(str, wanted)), metric


@fact(
    "Ref of a rule on a custom bus is bus|rule, which is no RuleName: such a rule has a name of its own",
    source="CloudFormation, AWS::Events::Rule, return values",
    turn_back=drop("RealtimeRule", "Properties", "Name"),
)
def _(template: Template) -> None:
    for name, rule in properties(template, "AWS::Events::Rule").items():
        if "EventBusName" in rule:
            assert "AWS::StackName" in names_in(rule["Name"]), name


@fact(
    "PutEvents refuses a Source that begins with aws.",
    source="EventBridge API, PutEventsRequestEntry",
    turn_back=put("^.+$", "Parameters", "EventSource", "AllowedPattern"),
)
def _(template: Template) -> None:
    assert not any(
        takes(template, "EventSource", each) for each in ("", "aws.lms", 'my"lms', "my lms", "x" * 257)
    )
    assert all(
        takes(template, "EventSource", each) for each in ("lms", "com.example.lms", "aws-lms", "a/b_c-1")
    )


##### CloudWatch


@fact(
    "Invocations that Lambda drops, or cannot write to their destination, show in two metrics only",
    source="Lambda Developer Guide, types of metrics: AsyncEventsDropped, DestinationDeliveryFailures",
    turn_back=drop("SchedulesDroppedAlarm"),
)
def _(template: Template) -> None:
    functions = properties(template, "AWS::Serverless::Function")
    invoked = {name_in(target["Arn"]) for _, target in targets(template)} & functions.keys()
    for metric in ("AsyncEventsDropped", "DestinationDeliveryFailures"):
        watched = {
            name_in(dimensions["FunctionName"])
            for alarm in properties(template, "AWS::CloudWatch::Alarm").values()
            for namespace, alarm_metric, dimensions in measured(alarm)
            if (namespace, alarm_metric) == ("AWS/Lambda", metric)
        }
        assert watched == invoked, metric


@fact(
    "A function that ends by its time-out fails once in a visibility time-out, not in minutes in a row",
    source="Lambda Developer Guide, Using Lambda with SQS: messages return after the visibility time-out",
    turn_back=drop("DispatcherErrorsAlarm", "Properties", "DatapointsToAlarm"),
)
def _(template: Template) -> None:
    alarm = of(template, "DispatcherErrorsAlarm")
    between = of(template, "RealtimeQueue")["VisibilityTimeout"]
    assert alarm["DatapointsToAlarm"] * between <= alarm["EvaluationPeriods"] * alarm["Period"]


@fact(
    "What does not run has no metric: an alarm on it must take missing data for a breach",
    source="CloudWatch User Guide, Configuring how alarms treat missing data",
    turn_back=put("notBreaching", "SweepMissingAlarm", "Properties", "TreatMissingData"),
)
def _(template: Template) -> None:
    alarm = of(template, "SweepMissingAlarm")
    # Not of the function's invocations: one that sweeps half of the shards is one too.
    assert measured(alarm) == [("LmsWebhooks", "ShardsSwept", {"service": {"Ref": "AWS::StackName"}})]
    assert alarm["Statistic"] == "Sum"
    assert alarm["ComparisonOperator"] == "LessThanThreshold"
    assert alarm["TreatMissingData"] == "breaching"
    assert of(template, "BatchSweepSchedule")["ScheduleExpression"] == "rate(1 minute)"
    assert alarm["Period"] * alarm["EvaluationPeriods"] == 300


def _an_eleventh_metric(template: Template) -> None:
    metrics = of(template, "RulesFailingAlarm")["Metrics"]
    metrics += [{**metrics[-1], "Id": f"m{number}"} for number in range(len(metrics) - 1, 11)]


@fact(
    "An alarm on metric math takes ten metrics at most, one expression of which gives data",
    source="CloudWatch User Guide, Creating an alarm based on a metric math expression",
    turn_back=_an_eleventh_metric,
)
def _(template: Template) -> None:
    for name, alarm in properties(template, "AWS::CloudWatch::Alarm").items():
        if "Metrics" in alarm:
            assert len(measured(alarm)) <= 10, name
            assert [each["Id"] for each in alarm["Metrics"] if each.get("ReturnData", True)] == ["total"], (
                name
            )


@fact(
    "CloudWatch keeps logs for certain numbers of days only",
    source="CloudWatch Logs API, PutRetentionPolicy",
    turn_back=put([1, 10, 30], "Parameters", "LogRetentionDays", "AllowedValues"),
)
def _(template: Template) -> None:
    known = {
        1,
        3,
        5,
        7,
        14,
        30,
        60,
        90,
        120,
        150,
        180,
        365,
        400,
        545,
        731,
        1096,
        1827,
        2192,
        2557,
        2922,
        3288,
        3653,
    }
    assert set(template["Parameters"]["LogRetentionDays"]["AllowedValues"]) <= known


##### The admin API


@fact(
    "An access log outside /aws/vendedlogs/ adds to the account's logs policy, which holds 5,120 characters",
    source="API Gateway Developer Guide, logging for HTTP APIs; CloudWatch Logs, resource policies",
    turn_back=drop("AccessLogs", "Properties", "LogGroupName"),
)
def _(template: Template) -> None:
    for stage in properties(template, "AWS::ApiGatewayV2::Stage").values():
        group = of(template, name_in(stage["AccessLogSettings"]["DestinationArn"]))
        assert group["LogGroupName"] == {"Fn::Sub": "/aws/vendedlogs/${AWS::StackName}/access"}


@fact(
    "A stage's default limit is one bucket for all routes without a limit of their own",
    source="API Gateway Developer Guide, Throttle requests to your HTTP APIs",
    turn_back=drop("HttpApiStage", "Properties", "RouteSettings", "GET /openapi.json"),
)
def _(template: Template) -> None:
    routes = properties(template, "AWS::ApiGatewayV2::Route").values()
    unguarded = {each["RouteKey"] for each in routes if each["AuthorizationType"] == "NONE"}
    for stage in properties(template, "AWS::ApiGatewayV2::Stage").values():
        limits = stage["RouteSettings"]
        assert limits.keys() == unguarded
        for limit in ("ThrottlingRateLimit", "ThrottlingBurstLimit"):
            assert all(0 < each[limit] < stage["DefaultRouteSettings"][limit] for each in limits.values())


@fact(
    "A stage with settings of a route fails while the route is not there",
    source="terraform-aws-modules/terraform-aws-apigateway-v2 #80: Unable to find Route by key",
    turn_back=drop("HttpApiStage", "DependsOn"),
)
def _(template: Template) -> None:
    keys = {name: each["RouteKey"] for name, each in properties(template, "AWS::ApiGatewayV2::Route").items()}
    for name, stage in properties(template, "AWS::ApiGatewayV2::Stage").items():
        known = {keys[route] for route in as_list(template["Resources"][name].get("DependsOn", []))}
        assert known >= stage["RouteSettings"].keys()


@fact(
    "API Gateway ends a call after 30 seconds, and its function must not go on longer",
    source="API Gateway Developer Guide, HTTP API quotas",
    turn_back=put(31_000, "AdminApiIntegration", "Properties", "TimeoutInMillis"),
)
def _(template: Template) -> None:
    for integration in properties(template, "AWS::ApiGatewayV2::Integration").values():
        assert integration["TimeoutInMillis"] <= 30_000
        timeout = of(template, name_in(integration["IntegrationUri"]))["Timeout"]
        assert timeout * 1000 <= integration["TimeoutInMillis"]


@fact(
    "A JWT authorizer compares the issuer letter by letter, and fetches its keys by https",
    source="API Gateway Developer Guide, Controlling access with JWT authorizers",
    turn_back=put("^.*$", "Parameters", "OidcIssuer", "AllowedPattern"),
)
def _(template: Template) -> None:
    refused = (
        "http://id.example.com", "id.example.com", "https://", "https://id.example.com//",
        "https://id.example.com?x=1", "https://id.example.com/.well-known/openid-configuration",
        "https://id.example.com/#a", "https://id. example.com", "http://127.0.0.2:80", "http://10.0.0.1:80",
    )  # fmt: skip
    assert not [each for each in refused if takes(template, "OidcIssuer", each)]
    taken = (
        "",
        "https://id.example.com",
        "https://tenant.example.com/",
        "https://id.example.com/realms/a",
        "http://127.0.0.1:9/x",
    )
    assert all(takes(template, "OidcIssuer", each) for each in taken)
    issuer, together = "https://id.example.com", "OidcIssuer and OidcAudience go together"
    assert says(template, OidcIssuer=issuer, OidcAudience="lms") == ""
    assert together in says(template, OidcIssuer=issuer)
    assert together in says(template, OidcAudience="lms")


@fact(
    'Claims that are lists arrive as "[a b]", so no role may have a blank in its name',
    source="API Gateway Developer Guide, JWT authorizers; aws-solutions #802",
    turn_back=put("^.+$", "Parameters", "AdminRole", "AllowedPattern"),
)
def _(template: Template) -> None:
    for parameter in ("AdminRole", "ReaderRole", "RoleClaim", "AccountClaim"):
        odd = ("", "not admin", "a,b", "[a", 'a"', "a\x00b", "a\u200bb")
        assert not [each for each in odd if takes(template, parameter, each)]
        assert takes(template, parameter, "https://example.com/claims:roles")
    issuer = {"OidcIssuer": "https://id.example.com", "OidcAudience": "lms"}
    assert says(template, **issuer, AccountClaim="tenant", RoleClaim="roles") == ""
    assert "AccountClaim and RoleClaim must differ" in says(
        template, **issuer, AccountClaim="a", RoleClaim="a"
    )
    assert "are for an OidcIssuer" in says(template, AccountClaim="tenant")
    assert "are for an OidcIssuer" in says(template, RoleClaim="roles")
    assert says(template, AdminRole="a", ReaderRole="b") == ""
    assert "AdminRole and ReaderRole must differ" in says(template, AdminRole="a", ReaderRole="a")


##### Cognito


@fact(
    "User names tell upper from lower case unless the pool says otherwise when it is made",
    source="Cognito API, UsernameConfigurationType",
    turn_back=drop("UserPool", "Properties", "UsernameConfiguration"),
)
def _(template: Template) -> None:
    assert of(template, "UserPool")["UsernameConfiguration"] == {"CaseSensitive": False}


@fact(
    "A user pool has one domain, and its replacement fails: no parameter is in its name",
    source="aws/aws-cdk #10062: already has a domain configured",
    turn_back=put({"Ref": "EventSource"}, "UserPoolDomain", "Properties", "Domain"),
)
def _(template: Template) -> None:
    assert not names_in(of(template, "UserPoolDomain")["Domain"]) & template["Parameters"].keys()


def _by_the_host(template: Template) -> None:
    text, values = of(template, "UserPoolDomain")["Domain"]["Fn::Sub"]
    values["Time"]["Fn::Select"][0] = 4
    of(template, "UserPoolDomain")["Domain"] = {"Fn::Sub": [text.replace("${AWS::AccountId}-", ""), values]}


@fact(
    "Stacks share the last part of the id in a stack's ARN, which is a host's; the first part is of its time",
    source="published stack ids; RFC 9562, UUID version 1",
    turn_back=_by_the_host,
)
def _(template: Template) -> None:
    text, values = of(template, "UserPoolDomain")["Domain"]["Fn::Sub"]
    stack_id = {"Fn::Select": [2, {"Fn::Split": ["/", {"Ref": "AWS::StackId"}]}]}
    assert values == {"Time": {"Fn::Select": [0, {"Fn::Split": ["-", stack_id]}]}}
    assert "${AWS::AccountId}" in text


@fact(
    "A sign-in domain has 63 characters at most and none of the words aws, amazon and cognito",
    source="Cognito Developer Guide, Using the Amazon Cognito domain",
    turn_back=put(
        {"Fn::Sub": ["cognito-${AWS::AccountId}-${Time}", {}]}, "UserPoolDomain", "Properties", "Domain"
    ),
)
def _(template: Template) -> None:
    text, _ = of(template, "UserPoolDomain")["Domain"]["Fn::Sub"]
    domain = text.replace("${AWS::AccountId}", 12 * "0").replace("${Time}", 8 * "f")
    assert re.fullmatch(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", domain)
    assert not re.search("aws|amazon|cognito", domain)


@fact(
    "A pool can be deleted by anybody who may, unless it is protected; where data is protected, it is too",
    source="Cognito API, CreateUserPool, DeletionProtection",
    turn_back=drop("UserPool", "Properties", "DeletionProtection"),
)
def _(template: Template) -> None:
    assert of(template, "UserPool")["DeletionProtection"] == {"Fn::If": ["IsProtected", "ACTIVE", "INACTIVE"]}


@fact(
    "An authenticator app can be added by a user only where the pool has software tokens enabled",
    source="Cognito API, SetUserPoolMfaConfig",
    turn_back=drop("UserPool", "Properties", "EnabledMfas"),
)
def _(template: Template) -> None:
    assert of(template, "UserPool")["MfaConfiguration"] == "OPTIONAL"
    assert of(template, "UserPool")["EnabledMfas"] == ["SOFTWARE_TOKEN_MFA"]


@fact(
    "Groups that a stack deletes are gone from a pool that it retains",
    source="CloudFormation, AWS::Cognito::UserPoolGroup; DeletionPolicy",
    turn_back=drop("AdminGroup", "DeletionPolicy"),
)
def _(template: Template) -> None:
    for name in properties(template, "AWS::Cognito::UserPoolGroup"):
        group, pool = (template["Resources"][each] for each in (name, "UserPool"))
        assert group["DeletionPolicy"] == pool["DeletionPolicy"]
        assert group["UpdateReplacePolicy"] == pool["UpdateReplacePolicy"]


@fact(
    "GovCloud's sign-in pages are at auth-fips, those of every other region at auth",
    source="AWS GovCloud (US) User Guide, Amazon Cognito",
    turn_back=put({"Fn::If": ["IsProtected", "auth-fips", "auth"]}, *SIGN_IN_HOST),
)
def _(template: Template) -> None:
    place = template["Resources"]
    for key in SIGN_IN_HOST:
        place = place[key]
    assert place == {"Fn::If": ["IsGovCloud", "auth-fips", "auth"]}
    assert template["Conditions"]["IsGovCloud"] == {"Fn::Equals": [{"Ref": "AWS::Partition"}, "aws-us-gov"]}


@fact(
    "China has no Cognito, so nothing of it may be made where the deployer brings an issuer",
    source="cfn-lint E3006 for AWS::Cognito::UserPool in cn-north-1",
    turn_back=drop("ReaderGroup", "Condition"),
)
def _(template: Template) -> None:
    of_cognito = [each for each in template["Resources"].values() if "::Cognito::" in each["Type"]]
    assert of_cognito
    assert {each.get("Condition") for each in of_cognito} == {"HasOwnUserPool"}
    assert template["Conditions"]["HasOwnUserPool"] == {"Fn::Equals": [{"Ref": "OidcIssuer"}, ""]}


##### CloudFormation


@fact(
    "DeletionPolicy Retain also holds for a first deployment that failed; RetainExceptOnCreate does not",
    source="CloudFormation User Guide, DeletionPolicy attribute, July 2023",
    turn_back=put("Retain", "WebhooksTable", "DeletionPolicy"),
)
def _(template: Template) -> None:
    kept = {name: each for name, each in template["Resources"].items() if "DeletionPolicy" in each}
    assert {"WebhooksTable", "DeliveriesTable", "DeliveryKey", "UserPool"} <= kept.keys()
    for name, each in kept.items():
        assert (each["DeletionPolicy"], each["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain"), (
            name
        )


def _numbers(template: Template) -> None:
    template["Parameters"]["BacklogRetentionDays"] = {
        "Type": "Number",
        "MinValue": 1,
        "MaxValue": 14,
        "Default": 7,
    }


@fact(
    "A parameter of type Number may be 7.5, and AllowedPattern is for text only",
    source="CloudFormation User Guide, Parameters",
    turn_back=_numbers,
)
def _(template: Template) -> None:
    bounds = {
        "DeliveryRetentionDays": (1, 365), "BacklogRetentionDays": (1, 14), "ArchiveRetentionDays": (0, 365),
        "DispatcherMaximumConcurrency": (2, 1000),
    }  # fmt: skip
    for name, (least, most) in bounds.items():
        taken = [number for number in range(1500) if takes(template, name, str(number))]
        assert taken == list(range(least, most + 1)), name
        assert not [
            each for each in ("7.5", "07", "-1", "", "7 ", "1e1", "5\n") if takes(template, name, each)
        ]
    for name, parameter in template["Parameters"].items():
        assert parameter["Type"] == "String" or "AllowedValues" in parameter, name


@fact(
    "An alarm without a subscriber is heard by nobody, so prod asks for one",
    source="Amazon SNS Developer Guide; asked of the deployer by a rule of the template",
    turn_back=drop("Rules", "ProdHasSomebodyToMail"),
)
def _(template: Template) -> None:
    assert "Stage=prod needs AlarmEmail" in says(template, Stage="prod")
    assert says(template, Stage="prod", AlarmEmail="ops@example.com") == says(template, Stage="staging") == ""
    assert not [
        each
        for each in ("ada", "ada@", "a b@c.de", "ada@example", "a@b.c,d", "a@b.c;d@e.f")
        if takes(template, "AlarmEmail", each)
    ]
    assert all(takes(template, "AlarmEmail", each) for each in ("", "ada+ops@example.com"))


@fact(
    "No AWS account has the id 000000000000, so a stack of Stage=local on AWS opens no loopback target",
    source="AWS account ids are twelve digits that AWS assigns; the emulator's default is zeros",
    turn_back=put({"Fn::Equals": [{"Ref": "Stage"}, "local"]}, "Conditions", "IsLocal"),
)
def _(template: Template) -> None:
    assert template["Conditions"]["IsLocal"] == {
        "Fn::And": [
            {"Fn::Equals": [{"Ref": "Stage"}, "local"]},
            {
                "Fn::Or": [
                    {"Fn::Equals": [{"Ref": "AWS::AccountId"}, "000000000000"]},
                    {"Fn::Equals": [{"Ref": "AWS::AccountId"}, "AWS::AccountId"]},
                ]
            },
        ]
    }


def functions_in(value: Any) -> set[str]:
    """The names of the intrinsic functions in a value."""
    match value:
        case dict():
            own = {key for key in value if key.startswith("Fn::")}
            return own.union(*(functions_in(each) for each in value.values()))
        case list():
            return set().union(*(functions_in(each) for each in value))
        case _:
            return set()


@fact(
    "A rule of a template may use few functions: Join is none of them, and no function is within Equals",
    source="CloudFormation User Guide, Rules section: supported rule-specific intrinsic functions",
    turn_back=put(
        {"Assertions": [{"Assert": {"Fn::Equals": [{"Fn::Join": ["", {"Ref": "SubnetIds"}]}, ""]}}]},
        "Rules", "SubnetsAndSecurityGroupsGoTogether",
    ),
)  # fmt: skip
def _(template: Template) -> None:
    def equals(value: Any) -> Iterator[list[Any]]:
        if isinstance(value, dict):
            if "Fn::Equals" in value:
                yield value["Fn::Equals"]
            for each in value.values():
                yield from equals(each)
        elif isinstance(value, list):
            for each in value:
                yield from equals(each)

    for rule in template["Rules"].values():
        assert functions_in(rule) <= {"Fn::And", "Fn::Equals", "Fn::Not", "Fn::Or"}
        for sides in equals(rule):
            assert not functions_in(sides)


##### The tests


by_rule = pytest.mark.parametrize("each", FACTS, ids=lambda each: each.rule[:70])


@by_rule
def test_the_template_heeds_it(each: Fact) -> None:
    each.check(TEMPLATE)


@by_rule
def test_it_is_noticed_when_the_template_is_turned_back(each: Fact) -> None:
    before = copy.deepcopy(TEMPLATE)
    each.turn_back(before)
    with pytest.raises((AssertionError, KeyError, ValueError, TypeError)):
        each.check(before)


def test_each_fact_has_its_own_rule_and_a_source() -> None:
    assert len(FACTS) == len({each.rule for each in FACTS}) >= 25
    assert all(each.source for each in FACTS)
