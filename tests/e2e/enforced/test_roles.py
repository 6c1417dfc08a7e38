"""What each function's role lets through and what it does not, tried with credentials of that role.

Nobody but Lambda may take these roles on, and a contract test keeps it so; on this stack, the test may too.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from lms_webhooks.aws.sns import account_topic
from local.deploy import REGION
from tests.contract.privileges import WITHOUT_RESOURCE
from tests.contract.template import FUNCTIONS, RESOURCES, as_list, name_in, names_in, statements
from tests.e2e.system import Account, System, until
from tests.fakes.receiver import Receiver, gone

DENIED = {"AccessDenied", "AccessDeniedException", "AuthorizationError", "UnauthorizedOperation"}
LEAST_UNGRANTED = 10
MISJUDGED = {"logs:CreateLogStream", "logs:PutLogEvents"}
"""What the emulator refuses where AWS does not: it takes the `:*` of a log group for part of its name."""

ACCOUNT_TOPIC = "the topic of an account"
"""Made by the API, not by the template."""

type Call = Callable[["Role", str], object]
"""Something that a role tries on a resource, by the name or ARN that a call of its service wants."""

KEY = {"pk": {"S": "BACKLOG#none#replay"}, "sk": {"S": "none"}}
CALLS: dict[str, Call] = {
    "dynamodb:GetItem": lambda role, at: role.client("dynamodb").get_item(TableName=at, Key=KEY),
    "dynamodb:Query": lambda role, at: role.client("dynamodb").query(
        TableName=at, KeyConditionExpression="pk = :pk", ExpressionAttributeValues={":pk": KEY["pk"]}
    ),
    "dynamodb:PutItem": lambda role, at: role.client("dynamodb").put_item(TableName=at, Item=KEY),
    "dynamodb:UpdateItem": lambda role, at: role.client("dynamodb").update_item(TableName=at, Key=KEY),
    "dynamodb:DeleteItem": lambda role, at: role.client("dynamodb").delete_item(TableName=at, Key=KEY),
    "dynamodb:BatchGetItem": lambda role, at: role.client("dynamodb").batch_get_item(
        RequestItems={at: {"Keys": [KEY]}}
    ),
    "dynamodb:BatchWriteItem": lambda role, at: role.client("dynamodb").batch_write_item(
        RequestItems={at: [{"DeleteRequest": {"Key": KEY}}]}
    ),
    "dynamodb:Scan": lambda role, at: role.client("dynamodb").scan(TableName=at, Limit=1),
    "dynamodb:DescribeTable": lambda role, at: role.client("dynamodb").describe_table(TableName=at),
    "dynamodb:UpdateTimeToLive": lambda role, at: role.client("dynamodb").update_time_to_live(
        TableName=at, TimeToLiveSpecification={"Enabled": False, "AttributeName": "expires_at"}
    ),
    "sqs:SendMessage": lambda role, at: role.client("sqs").send_message(
        QueueUrl=at, MessageBody=json.dumps({"accountId": "none", "webhookId": "none"})
    ),
    "sqs:ReceiveMessage": lambda role, at: role.client("sqs").receive_message(
        QueueUrl=at, VisibilityTimeout=0
    ),
    "sqs:DeleteMessage": lambda role, at: role.client("sqs").delete_message(
        QueueUrl=at, ReceiptHandle="none"
    ),
    "sqs:ChangeMessageVisibility": lambda role, at: role.client("sqs").change_message_visibility(
        QueueUrl=at, ReceiptHandle="none", VisibilityTimeout=0
    ),
    "sqs:GetQueueAttributes": lambda role, at: role.client("sqs").get_queue_attributes(
        QueueUrl=at, AttributeNames=["QueueArn"]
    ),
    "sqs:PurgeQueue": lambda role, at: role.client("sqs").purge_queue(QueueUrl=at),
    "sqs:SetQueueAttributes": lambda role, at: role.client("sqs").set_queue_attributes(
        QueueUrl=at, Attributes={"DelaySeconds": "0"}
    ),
    "kms:Encrypt": lambda role, at: role.client("kms").encrypt(KeyId=at, Plaintext=b"x"),
    "kms:Decrypt": lambda role, at: role.client("kms").decrypt(KeyId=at, CiphertextBlob=role.ciphertexts[at]),
    "kms:GenerateDataKey": lambda role, at: role.client("kms").generate_data_key(KeyId=at, KeySpec="AES_256"),
    "kms:DescribeKey": lambda role, at: role.client("kms").describe_key(KeyId=at),
    "sns:Publish": lambda role, at: role.client("sns").publish(TopicArn=at, Message="none"),
    "sns:Subscribe": lambda role, at: role.client("sns").subscribe(
        TopicArn=at, Protocol="email", Endpoint="nobody@example.com"
    ),
    "sns:Unsubscribe": lambda role, at: role.client("sns").unsubscribe(SubscriptionArn=f"{at}:none"),
    "sns:GetSubscriptionAttributes": lambda role, at: role.client("sns").get_subscription_attributes(
        SubscriptionArn=f"{at}:none"
    ),
    "sns:SetSubscriptionAttributes": lambda role, at: role.client("sns").set_subscription_attributes(
        SubscriptionArn=f"{at}:none", AttributeName="RawMessageDelivery", AttributeValue="true"
    ),
    "sns:CreateTopic": lambda role, at: role.client("sns").create_topic(Name=at.rpartition(":")[2]),
    "sns:SetTopicAttributes": lambda role, at: role.client("sns").set_topic_attributes(
        TopicArn=at, AttributeName="DisplayName", AttributeValue="other"
    ),
    "logs:CreateLogStream": lambda role, at: role.client("logs").create_log_stream(
        logGroupName=at, logStreamName="none"
    ),
    "logs:PutLogEvents": lambda role, at: role.client("logs").put_log_events(
        logGroupName=at, logStreamName="none", logEvents=[{"timestamp": 1, "message": "none"}]
    ),
    "logs:FilterLogEvents": lambda role, at: role.client("logs").filter_log_events(logGroupName=at),
}
ELSEWHERE: dict[str, Call] = {
    "iam:PutRolePolicy": lambda role, _: role.client("iam").put_role_policy(
        RoleName=role.name, PolicyName="more", PolicyDocument='{"Version":"2012-10-17","Statement":[]}'
    ),
    "iam:CreateUser": lambda role, _: role.client("iam").create_user(UserName="none"),
    "lambda:InvokeFunction": lambda role, _: role.client("lambda").invoke(FunctionName=role.function),
    "lambda:UpdateFunctionConfiguration": lambda role, _: role.client("lambda").update_function_configuration(
        FunctionName=role.function, Timeout=3
    ),
    "lambda:ListFunctions": lambda role, _: role.client("lambda").list_functions(),
    "events:PutEvents": lambda role, _: role.client("events").put_events(
        Entries=[{"Source": "lms", "DetailType": "CI_STATS", "Detail": "{}"}]
    ),
    "s3:ListAllMyBuckets": lambda role, _: role.client("s3").list_buckets(),
    "cognito-idp:ListUserPools": lambda role, _: role.client("cognito-idp").list_user_pools(MaxResults=1),
    "cloudformation:DescribeStacks": lambda role, _: role.client("cloudformation").describe_stacks(),
    "secretsmanager:ListSecrets": lambda role, _: role.client("secretsmanager").list_secrets(),
    "ssm:GetParameter": lambda role, _: role.client("ssm").get_parameter(Name="none"),
    "dynamodb:CreateTable": lambda role, _: role.client("dynamodb").create_table(
        TableName="none",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    ),
}
"""What no function needs of anything."""


@dataclass(frozen=True)
class Role:
    """Credentials of one function's role."""

    name: str
    function: str
    endpoint_url: str
    credentials: dict[str, str]
    own: dict[str, str]
    """The name in calls of each resource of the template."""
    other: dict[str, str]
    """Of each service, a resource that is nothing to the function."""
    ciphertexts: dict[str, bytes]
    """Something that was encrypted with each key."""

    def client(self, service: str) -> Any:
        return boto3.client(
            service,  # type: ignore[call-overload]  # the stubs want a literal
            endpoint_url=self.endpoint_url,
            region_name=REGION,
            aws_access_key_id=self.credentials["AccessKeyId"],
            aws_secret_access_key=self.credentials["SecretAccessKey"],
            aws_session_token=self.credentials["SessionToken"],
        )

    def is_denied(self, action: str, at: str) -> bool:
        """Try it. A response, or an error that speaks of the matter itself, is none by IAM."""
        try:
            (CALLS | ELSEWHERE)[action](self, at)
        except ClientError as error:
            return error.response["Error"]["Code"] in DENIED
        return False


@pytest.fixture(scope="module")
def resources(system: System) -> dict[str, str]:
    """Of each resource of the template, the name that calls want."""
    pages = system.client("cloudformation").get_paginator("list_stack_resources")
    found = pages.paginate(StackName=system.stack.description["stackName"])
    names = {
        each["LogicalResourceId"]: each["PhysicalResourceId"]
        for page in found
        for each in page["StackResourceSummaries"]
    }
    outputs = system.client("cloudformation").describe_stacks()["Stacks"][0]["Outputs"]
    arns = {each["OutputKey"]: each["OutputValue"] for each in outputs}
    notice_topic = arns["NoticeTopicArn"]
    topic_name = account_topic(notice_topic, "1010").rpartition(":")[2]
    return names | {
        "DeliveryKey": arns["DeliveryKeyArn"],
        "NoticeTopic": notice_topic,
        ACCOUNT_TOPIC: system.client("sns").create_topic(Name=topic_name)["TopicArn"],
    }


@pytest.fixture(scope="module")
def other(system: System) -> dict[str, str]:
    """A table, a queue, a key, a topic and a log group that somebody else has in the same AWS account."""
    system.client("dynamodb").create_table(
        TableName="somebody-elses",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
        BillingMode="PAY_PER_REQUEST",
    )
    system.client("logs").create_log_group(logGroupName="somebody-elses")
    return {
        "dynamodb": "somebody-elses",
        "sqs": system.client("sqs").create_queue(QueueName="somebody-elses")["QueueUrl"],
        "kms": system.client("kms").create_key()["KeyMetadata"]["Arn"],
        "sns": system.client("sns").create_topic(Name="somebody-elses")["TopicArn"],
        "logs": "somebody-elses",
    }


@pytest.fixture(scope="module", params=sorted(FUNCTIONS))
def role(
    request: pytest.FixtureRequest, system: System, resources: dict[str, str], other: dict[str, str]
) -> Iterator[Role]:
    name = resources[name_in(FUNCTIONS[request.param]["Role"])]
    iam = system.client("iam")
    found = iam.get_role(RoleName=name)["Role"]
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"AWS": found["Arn"].split(":")[4]}, "Action": "sts:AssumeRole"}
        ],
    }
    iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(trust))
    assumed = system.client("sts").assume_role(RoleArn=found["Arn"], RoleSessionName="test")
    kms = system.client("kms")
    ciphertexts = {
        key: kms.encrypt(KeyId=key, Plaintext=b"x")["CiphertextBlob"]
        for key in (other["kms"], resources["DeliveryKey"])
    }
    yield Role(
        request.param,
        resources[request.param],
        system.stack.description["endpointUrl"],
        assumed["Credentials"],
        resources,
        other,
        ciphertexts,
    )
    iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(found["AssumeRolePolicyDocument"]))


def granted(function: str) -> dict[str, set[str]]:
    """The resources of each action that the template grants."""
    found: dict[str, set[str]] = {}
    for statement in statements(function):
        for action in as_list(statement["Action"]):
            for resource in as_list(statement["Resource"]):
                found.setdefault(action, set()).update(_named(resource, action))
    return found


def _named(resource: Any, action: str) -> set[str]:
    """The resources that a statement names: all of the service, a topic of an account, or the template's."""
    if resource == "*":
        return set(of_service(action))
    if isinstance(resource, dict) and str(resource.get("Fn::Sub", "")).endswith("-*"):
        assert names_in(resource) == {"NoticeTopic"}
        return {ACCOUNT_TOPIC}
    return names_in(resource) & RESOURCES.keys()  # without a parameter that may stand in for one


def of_service(action: str) -> list[str]:
    """The resources of the template that are of an action's service."""
    service = action.partition(":")[0]
    return [name for name, kind in _OF_SERVICE.items() if kind == service]


type Record = Callable[[str, object], None]
FORBIDDEN = "forbidden calls, on a stack that enforces its roles"


def test_what_is_granted_works_on_the_function_s_own_and_on_nobody_else_s(
    role: Role, record_property: Record
) -> None:
    for action, resources in granted(role.name).items():
        for resource in resources if action not in MISJUDGED else ():
            assert not role.is_denied(action, role.own[resource]), f"{action} on {resource}"
        is_denied = role.is_denied(action, role.other[action.partition(":")[0]])
        assert is_denied or action in WITHOUT_RESOURCE
        record_property(FORBIDDEN, int(is_denied))


def test_what_is_granted_on_one_resource_is_refused_on_the_stack_s_others(
    role: Role, record_property: Record
) -> None:
    """The dead letters of a function are not its own either."""
    for action, resources in granted(role.name).items():
        for name in set(of_service(action)) - resources:
            assert role.is_denied(action, role.own[name]), f"{action} on {name}"
            record_property(FORBIDDEN, 1)


def test_what_is_not_granted_is_refused_on_the_function_s_own(role: Role, record_property: Record) -> None:
    allowed = granted(role.name)
    own = {resource for resources in allowed.values() for resource in resources}
    refused = set()
    for action in CALLS:
        for resource in own & set(of_service(action)) - allowed.get(action, set()):
            assert role.is_denied(action, role.own[resource]), f"{action} on {resource}"
            refused.add(action)
            record_property(FORBIDDEN, 1)
    assert len(refused) >= LEAST_UNGRANTED, refused


def test_what_no_function_needs_is_refused(role: Role, record_property: Record) -> None:
    for action in ELSEWHERE:
        assert role.is_denied(action, ""), action
        record_property(FORBIDDEN, 1)


def test_owners_are_told(
    system: System, account: Account, receiver: Receiver, resources: dict[str, str]
) -> None:
    """What the calls of the API do not show: the batch function publishes, to programs and to the account's
    people, and takes what it sent off its list."""
    sns = system.client("sns")
    people = account_topic(resources["NoticeTopic"], account.account_id)
    sns.create_topic(Name=people.rpartition(":")[2])
    queues = {topic: system.listen_to(topic) for topic in (resources["NoticeTopic"], people)}
    receiver.script = gone()
    webhook_id = account.create(receiver.url())["webhookId"]
    account.emit()
    told = set()

    def all_told() -> bool:
        system.sweep()
        for topic, url in queues.items():
            answer = system.client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10)
            bodies = [message["Body"] for message in answer.get("Messages", [])]
            if any(webhook_id in body and "disabled" in body for body in bodies):
                told.add(topic)
        return told == queues.keys()

    assert until(all_told, "the notice on both topics")
    assert until(lambda: not to_be_told(system), "the list of notices to be empty")


def to_be_told(system: System) -> list[Any]:
    """The notices that still stand on the list."""
    items: list[Any] = system.client("dynamodb").query(
        TableName=system.stack.description["tables"]["deliveries"],
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": "NOTICES"}},
        ConsistentRead=True,
    )["Items"]
    return items


_SERVICE_OF_TYPE = {
    "AWS::DynamoDB::Table": "dynamodb",
    "AWS::SQS::Queue": "sqs",
    "AWS::KMS::Key": "kms",
    "AWS::SNS::Topic": "sns",
    "AWS::Logs::LogGroup": "logs",
}
_OF_SERVICE = {
    name: _SERVICE_OF_TYPE[resource["Type"]]
    for name, resource in RESOURCES.items()
    if resource["Type"] in _SERVICE_OF_TYPE
} | {ACCOUNT_TOPIC: "sns"}
