"""operations/deploy_role.yaml lets a workflow deploy template.yaml, and do nothing else.

What it must allow follows from the template: its resource types, after SAM's transform, and what the handlers
of each ask for (`aws_reference`). So a new type of resource fails here until the role may make it. A
permission that no type needs any more fails until it is gone. AWS itself has not judged any of it.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from moto import mock_aws

from tests.contract.aws_reference import (
    arn_patterns,
    handlers_permissions,
    is_known,
    properties_named_in,
    source_of,
)
from tests.contract.template import REPOSITORY, RESOURCES, ROLES, TEMPLATE, Properties, as_list, names_in
from tests.contract.test_documents import DEPLOY, rows, section
from tests.contract.test_supply_chain import WORKFLOW
from tests.contract.transform import deployed, deployed_gradually, transformed
from tools.boundary import CODE_DEPLOY_ROLE, put_boundary
from tools.canary import make_canary
from tools.template import read_template

FILE = REPOSITORY / "operations" / "deploy_role.yaml"
ROLE_TEMPLATE: dict[str, Any] = read_template(FILE)

STACK = "lms-webhooks-staging"
PREFIX = "arn:aws:{}:eu-central-1:123456789012:{}"
VALUES = {
    "StackName": STACK,
    "Repository": "octo-org@123/lms@456",
    "Environment": "staging",
    "AWS::Partition": "aws",
    "AWS::Region": "eu-central-1",
    "AWS::AccountId": "123456789012",
    "ArtifactBucket": "deployment-artifactbucket-0a1b2c3d4e5f",
    "ArtifactBucket.Arn": "arn:aws:s3:::deployment-artifactbucket-0a1b2c3d4e5f",
    "Boundary": f"arn:aws:iam::123456789012:policy/deployment/{STACK}-deployment-Boundary-0A1B2C3D4E5F",
    "DeployRole.Arn": f"arn:aws:iam::123456789012:role/deployment/{STACK}-deployment-DeployRole-0A1B2C3D4E5F",
    "ExecutionRole.Arn": f"arn:aws:iam::123456789012:role/deployment/{STACK}-deployment-ExecutionRole-0A1B2C",
    "Provider": "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com",
}

# Permissions that handlers ask for and the role has not. Each with the properties that would need it: a test
# sees that the template sets none of them. If you set one, it fails and names what to grant.


@dataclass(frozen=True)
class LeftOut:
    """Permissions of handlers that the template's own properties do not need."""

    permissions: str
    properties: str
    """Of the types whose handlers ask for them; none where no property decides it."""
    because: str


LEFT_OUT = [
    LeftOut(
        "kms:CreateGrant kms:Decrypt kms:Encrypt kms:GenerateDataKey kms:GenerateDataKeyWithoutPlaintext"
        " kms:ListAliases kms:ReEncryptFrom kms:ReEncryptTo kms:RevokeGrant",
        "KMSMasterKeyId KMSKeyID KmsKeyArn KmsKeyIdentifier KeyConfiguration",
        "no resource is encrypted with a key of the deployer's; SecretsKeyArn is used by functions alone",
    ),
    LeftOut(
        "dynamodb:AssociateTableReplica dynamodb:BatchWriteItem dynamodb:CreateTableReplica"
        " dynamodb:DeleteItem dynamodb:GetItem dynamodb:PutItem dynamodb:Query dynamodb:Scan"
        " dynamodb:UpdateItem",
        "",
        "they copy a table to another region, which is a resource type of its own; and they read events",
    ),
    LeftOut(
        "dynamodb:DescribeImport dynamodb:ImportTable logs:CreateLogStream logs:DescribeLogStreams"
        " logs:PutLogEvents s3:ListBucket",
        "ImportSourceSpecification",
        "no table is made from files",
    ),
    LeftOut(
        "dynamodb:DisableKinesisStreamingDestination dynamodb:EnableKinesisStreamingDestination"
        " dynamodb:UpdateKinesisStreamingDestination kinesis:DescribeStream kinesis:PutRecords",
        "KinesisStreamSpecification",
        "no table streams to Kinesis",
    ),
    LeftOut("dynamodb:UpdateContributorInsights", "ContributorInsightsSpecification", "no table has them"),
    LeftOut(
        "dynamodb:DeleteResourcePolicy dynamodb:PutResourcePolicy",
        "ResourcePolicy",
        "roles alone say who may touch a table",
    ),
    LeftOut(
        "iam:CreateServiceLinkedRole",
        "EmailConfiguration AnalyticsConfiguration",
        "no pool sends by SES or has analytics, and no table has replicas",
    ),
    LeftOut("cloudfront:UpdateDistribution", "CustomDomainConfig", "the sign-in domain is Cognito's own"),
    LeftOut(
        "elasticfilesystem:DescribeMountTargets s3files:ListMountTargets",
        "FileSystemConfigs",
        "no function mounts anything",
    ),
    LeftOut(
        "lambda:DeleteFunctionCodeSigningConfig lambda:GetCodeSigningConfig"
        " lambda:PutFunctionCodeSigningConfig",
        "CodeSigningConfigArn",
        "code is not signed",
    ),
    LeftOut(
        "lambda:PutRuntimeManagementConfig",
        "RuntimeManagementConfig RuntimePolicy",
        "AWS updates the runtime when it likes",
    ),
    LeftOut(
        "lambda:PassCapacityProvider lambda:PutFunctionScalingConfig",
        "CapacityProviderConfig FunctionScalingConfig",
        "functions run on Lambda's own machines",
    ),
    LeftOut(
        "lambda:DeleteProvisionedConcurrencyConfig lambda:PutProvisionedConcurrencyConfig",
        "ProvisionedConcurrencyConfig",
        "nothing is kept warm",
    ),
    LeftOut("s3:GetObjectVersion", "S3ObjectVersion", "the bucket has no versions"),
    LeftOut("logs:AssociateKmsKey logs:DisassociateKmsKey", "KmsKeyId", "log groups have a key of AWS's"),
    LeftOut(
        "logs:PutDataProtectionPolicy firehose:TagDeliveryStream", "DataProtectionPolicy", "no log is masked"
    ),
    LeftOut("logs:DeleteIndexPolicy logs:PutIndexPolicy", "FieldIndexPolicies", "no log is indexed"),
    LeftOut(
        "logs:PutBearerTokenAuthentication", "BearerTokenAuthenticationEnabled", "nobody writes by token"
    ),
    LeftOut("logs:DeleteResourcePolicy", "ResourcePolicyDocument", "no log group has a policy of its own"),
    LeftOut("sns:PutDataProtectionPolicy", "DataProtectionPolicy", "no topic has one"),
    LeftOut(
        "codedeploy:RegisterOnPremisesInstance",
        "OnPremisesInstanceTagFilters OnPremisesTagSet",
        "Lambda's deployments have no instances",
    ),
    LeftOut(
        "iam:DeleteGroupPolicy iam:DeleteUserPolicy iam:GetGroupPolicy iam:GetUserPolicy iam:PutGroupPolicy"
        " iam:PutUserPolicy",
        "Users Groups",
        "policies are for roles",
    ),
    LeftOut("kms:DisableKey kms:EnableKey", "Enabled", "the key is never switched off"),
    LeftOut("kms:DisableKeyRotation", "", "it stays on: another test pins EnableKeyRotation"),
    LeftOut(
        "iam:DeleteRolePermissionsBoundary",
        "",
        "a role without its boundary could be given anything",
    ),
    LeftOut(
        "logs:PutLogGroupDeletionProtection",
        "DeletionProtectionEnabled",
        "no log group has it (tables have a property of the same name)",
    ),
]

# What no handler asks for, and is needed all the same.
EXTRA = {
    "cloudformation:createchangeset": "SAM's transform is a change set of its own, on the transform's ARN",
    "logs:deletelogdelivery": "API Gateway's guide, 'Configure logging for HTTP APIs'",
    "logs:getlogdelivery": "the same",
    "logs:listlogdeliveries": "the same",
    "logs:updatelogdelivery": "the same",
}

# The reference lacks them. True where the role has it all the same: the handlers may know better.
NOT_IN_THE_REFERENCE = {
    "apigateway:tagresource": True,
    "apigateway:untagresource": True,
    "kms:reencrypt": False,  # the two halves of it are in LEFT_OUT
    "lambda:associateruntimealias": False,  # no function has an alias of a runtime
    "s3:getobjectmetadata": False,  # no API call has this name; of DynamoDB's import
    "s3:rest.put.object": False,  # the same; of data protection
}

# The reference lists topics for these. Before, only `*` granted them (tests/contract/privileges.py).
STAR_ALL_THE_SAME = {
    "sns:getsubscriptionattributes",
    "sns:setsubscriptionattributes",
    "sns:unsubscribe",
}


##### Reading the file


def resolved(value: Any) -> Any:  # noqa: PLR0911  # one for each function of CloudFormation
    """A value of the file for one stack, as CloudFormation would put it."""
    match value:
        case {"Ref": name}:
            return VALUES[name]
        case {"Fn::GetAtt": [*path]}:
            return VALUES[".".join(path)]
        case {"Fn::Sub": str(text)}:
            return re.sub(r"\$\{([^}]+)\}", lambda found: VALUES[found[1]], text)
        case {"Fn::If": ["MakesBoundary" | "MakesProvider", made, _]}:
            return resolved(made)
        case dict():
            return {key: resolved(each) for key, each in value.items()}
        case list():
            return [resolved(each) for each in value]
        case _:
            return value


def inline_policies(role: str) -> list[Properties]:
    documents: list[Properties] = resolved(ROLE_TEMPLATE["Resources"][role]["Properties"]["Policies"])
    return [policy["PolicyDocument"] for policy in documents]


def managed_policy(name: str) -> Properties:
    document: Properties = resolved(ROLE_TEMPLATE["Resources"][name]["Properties"]["PolicyDocument"])
    return document


def statements_of(documents: Iterable[Properties]) -> list[Properties]:
    return [statement for document in documents for statement in document["Statement"]]


STATEMENTS = {
    "DeployRole": statements_of(inline_policies("DeployRole")),
    "ExecutionRole": statements_of(
        [*inline_policies("ExecutionRole"), managed_policy("ExecutionDataPolicy")]
    ),
    "Boundary": statements_of([managed_policy("Boundary")]),
}
EVERY_STATEMENT = [
    pytest.param(owner, statement, id=f"{owner}-{statement['Sid']}")
    for owner, of_owner in STATEMENTS.items()
    for statement in of_owner
]


def actions_in(statements: Iterable[Properties]) -> set[str]:
    return {action.lower() for statement in statements for action in as_list(statement["Action"])}


def allows(owner: str, action: str, resource: str = "*", **context: str | list[str]) -> bool:
    """Whether a policy lets a call through. `iam_PassedToService` stands for `iam:PassedToService`."""
    asked = {name.replace("_", ":", 1): value for name, value in context.items()}
    return any(
        action.lower() in actions_in([statement])
        and any(fnmatchcase(resource, pattern) for pattern in as_list(statement["Resource"]))
        and _holds(statement.get("Condition", {}), asked)
        for statement in STATEMENTS[owner]
    )


def _holds(conditions: Properties, asked: dict[str, str | list[str]]) -> bool:
    for operator, keys in conditions.items():
        for key, wanted in keys.items():
            given = asked.get(key)
            match operator:
                case "StringEquals" | "ArnEquals":
                    holds = given in as_list(wanted)
                case "ArnLike":
                    holds = given is not None and fnmatchcase(str(given), wanted)
                case "ForAllValues:StringEquals":
                    holds = set(as_list(given or [])) <= set(as_list(wanted))
                case "Null":
                    holds = (given is None) == (wanted == "true")
                case _:
                    raise AssertionError(operator)
            if not holds:
                return False
    return True


def iam_role(name: str) -> str:
    return f"arn:aws:iam::123456789012:role/{name}"


def of_stack(service: str, resource: str, *, stack: str = STACK) -> str:
    return PREFIX.format(service, resource.replace("STACK", stack))


##### What it must allow


def resource_types() -> dict[str, list[Properties]]:
    """The properties of each resource that CloudFormation makes in staging or prod, by type."""
    by_type: dict[str, list[Properties]] = {}
    for resource in [*deployed().values(), *deployed_gradually().values()]:
        by_type.setdefault(resource["Type"], []).append(resource.get("Properties", {}))
    return by_type


def left_out() -> set[str]:
    return {permission.lower() for each in LEFT_OUT for permission in each.permissions.split()}


def asked_for() -> set[str]:
    return set().union(*(handlers_permissions(resource_type) for resource_type in resource_types()))


def test_cloudformation_may_do_what_the_handlers_of_the_template_s_types_ask_for() -> None:
    granted = actions_in(STATEMENTS["ExecutionRole"])
    without = left_out() | {action for action, is_granted in NOT_IN_THE_REFERENCE.items() if not is_granted}
    missing = {
        resource_type: sorted(handlers_permissions(resource_type) - granted - without)
        for resource_type in resource_types()
    }
    assert {name: each for name, each in missing.items() if each} == {}, "grant them in deploy_role.yaml"


@pytest.mark.parametrize("each", LEFT_OUT, ids=lambda each: each.permissions.split()[0])
def test_what_is_left_out_belongs_to_properties_that_the_template_does_not_set(each: LeftOut) -> None:
    permissions = {permission.lower() for permission in each.permissions.split()}
    by_type = {
        resource_type: properties
        for resource_type, properties in resource_types().items()
        if permissions & handlers_permissions(resource_type)
    }
    assert permissions <= asked_for(), f"no handler asks for {permissions - asked_for()} any more"
    known = set().union(*(properties_named_in(resource_type) for resource_type in by_type))
    for name in each.properties.split():
        assert name in known, f"no type that asks for it has a property {name}"
        for resource_type, resources in by_type.items():
            if name in properties_named_in(resource_type):
                assert not any(_sets(properties, name) for properties in resources), (resource_type, name)


def _sets(value: object, name: str) -> bool:
    match value:
        case dict():
            return name in value or any(_sets(each, name) for each in value.values())
        case list():
            return any(_sets(each, name) for each in value)
        case _:
            return False


def test_how_many_are_left_out_is_documented() -> None:
    text = section(DEPLOY, "Deploy from GitHub Actions")
    assert f"why {len(left_out())} permissions of the handlers are left out" in text


def test_nothing_is_granted_that_no_handler_asks_for_but_for_a_reason() -> None:
    granted = actions_in(STATEMENTS["ExecutionRole"])
    assert granted - asked_for() == EXTRA.keys()
    assert not granted & left_out()


def test_every_action_is_one_that_iam_knows() -> None:
    unknown = {action for action in asked_for() if not is_known(action)}
    assert unknown == NOT_IN_THE_REFERENCE.keys()
    granted = set().union(*(actions_in(statements) for statements in STATEMENTS.values()))
    assert {action for action in granted if not is_known(action)} == {
        action for action, is_granted in NOT_IN_THE_REFERENCE.items() if is_granted
    }


@pytest.mark.parametrize(
    ("action", "resource", "context"),
    [
        ("lambda:UpdateFunctionCode", of_stack("lambda", "function:STACK-DrainerFunction-0a1b"), {}),
        ("lambda:UpdateAlias", of_stack("lambda", "function:STACK-DrainerFunction-0a1b:live"), {}),
        ("lambda:PublishLayerVersion", of_stack("lambda", "layer:STACK-core"), {}),
        ("lambda:GetLayerVersion", of_stack("lambda", "layer:STACK-core:7"), {}),
        (
            "lambda:CreateEventSourceMapping",
            "*",
            {"lambda_FunctionArn": of_stack("lambda", "function:STACK-DrainerFunction-0a1b:live")},
        ),
        ("events:PutRule", of_stack("events", "rule/STACK/STACK-RealtimeRule-0A1B"), {}),
        ("events:PutRule", of_stack("events", "rule/STACK-SweepSchedule-0A1B"), {}),
        ("events:CreateEventBus", of_stack("events", "event-bus/STACK"), {}),
        (
            "cloudwatch:PutDashboard",
            "arn:aws:cloudwatch::123456789012:dashboard/" + STACK + "-eu-central-1",
            {},
        ),
        ("logs:CreateLogGroup", of_stack("logs", "log-group:/aws/vendedlogs/STACK/access"), {}),
        ("logs:CreateLogGroup", of_stack("logs", "log-group:STACK-DrainerLogs-0A1B:log-stream:"), {}),
        (
            "codedeploy:CreateDeployment",
            of_stack("codedeploy", "deploymentgroup:STACK-App-0A/STACK-Group-0A"),
            {},
        ),
        (
            "codedeploy:GetDeploymentConfig",
            of_stack("codedeploy", "deploymentconfig:CodeDeployDefault.LambdaCanary10Percent10Minutes"),
            {},
        ),
        (
            "iam:CreateRole",
            iam_role(f"{STACK}-DrainerRole-0A1B"),
            {"iam_PermissionsBoundary": VALUES["Boundary"]},
        ),
        (
            "iam:PassRole",
            iam_role(f"{STACK}-DrainerRole-0A"),
            {"iam_PassedToService": "lambda.amazonaws.com"},
        ),
        (
            "iam:AttachRolePolicy",
            iam_role(f"{STACK}-CodeDeployServiceRole-0A1B"),
            {
                "iam_PermissionsBoundary": VALUES["Boundary"],
                "iam_PolicyARN": "arn:aws:iam::aws:policy/service-role/AWSCodeDeployRoleForLambda",
            },
        ),
    ],
)
def test_what_a_deployment_calls_is_allowed(action: str, resource: str, context: dict[str, str]) -> None:
    assert allows("ExecutionRole", action, resource, **context)


def test_the_workflow_may_make_sam_s_calls() -> None:
    """Those that the locked SAM CLI can make, without those of options that the workflow does not use."""
    source = source_of("samcli.lib.deploy.deployer")
    operations = set(re.findall(r"self\._client\.([a-z_]+)\(", source))
    operations |= set(re.findall(r'get_paginator\("([a-z_]+)"\)', source))
    operations -= {"get_paginator", "get_waiter"}
    assert "execute_change_set" in operations
    of_options = {"rollback_stack", "delete_stack", "create_stack", "update_stack"}  # --on-failure; sam sync
    needed = {f"cloudformation:{each.replace('_', '')}" for each in operations - of_options}
    assert needed <= actions_in(STATEMENTS["DeployRole"])
    stack = of_stack("cloudformation", "stack/STACK/01234567-89ab-cdef-0123-456789abcdef")
    for action in needed - {"cloudformation:createchangeset"}:
        assert allows("DeployRole", action, stack), action
    role = {"cloudformation_RoleArn": VALUES["ExecutionRole.Arn"]}
    assert allows("DeployRole", "cloudformation:CreateChangeSet", stack, **role)
    transform = "arn:aws:cloudformation:eu-central-1:aws:transform/Serverless-2016-10-31"
    for owner in ("DeployRole", "ExecutionRole"):
        assert allows(owner, "cloudformation:CreateChangeSet", transform)


##### What it must not


@pytest.mark.parametrize(("owner", "statement"), EVERY_STATEMENT)
def test_no_statement_allows_all_of_a_service(owner: str, statement: Properties) -> None:
    assert statement.keys() <= {"Sid", "Effect", "Action", "Resource", "Condition"}, owner
    assert statement["Effect"] == "Allow"
    for action in as_list(statement["Action"]):
        assert re.fullmatch(r"[a-z0-9-]+:[A-Za-z]+", action), action


@pytest.mark.parametrize(("owner", "statement"), EVERY_STATEMENT)
def test_a_resource_is_as_narrow_as_iam_knows_it(owner: str, statement: Properties) -> None:
    """What knows no resource is granted for `*`, what knows one never is, and no resource is without use."""
    resources = as_list(statement["Resource"])
    idle = set(resources)
    for action in map(str.lower, as_list(statement["Action"])):
        if not is_known(action):
            continue
        if action == "cloudformation:createchangeset" and "transform" in str(resources):
            continue  # CloudFormation's guide has it, the reference does not
        patterns = arn_patterns(action)
        if "*" in resources:
            assert resources == ["*"]
            # In a boundary, which grants nothing, one for all interfaces is as good as six.
            is_loose = action in STAR_ALL_THE_SAME or (owner == "Boundary" and action.startswith("ec2:"))
            assert not patterns or is_loose, f"IAM knows a resource for {action}"
            continue
        fitting = {
            resource for resource in resources if any(pattern.fullmatch(resource) for pattern in patterns)
        }
        assert fitting, f"{action} is granted for none of {resources}"
        idle -= fitting
    assert idle <= {"*"} or "transform" in str(idle), f"{owner}: no action of the statement is for {idle}"


@pytest.mark.parametrize(
    ("owner", "action", "resource", "context"),
    [
        # Itself and its like: changing them would open everything.
        *(
            ("ExecutionRole", action, VALUES[f"{role}.Arn"], {"iam_PermissionsBoundary": VALUES["Boundary"]})
            for action in (
                "iam:PutRolePolicy",
                "iam:UpdateAssumeRolePolicy",
                "iam:DeleteRole",
                "iam:PassRole",
            )
            for role in ("DeployRole", "ExecutionRole")
        ),
        ("ExecutionRole", "iam:CreatePolicyVersion", VALUES["Boundary"], {}),
        ("ExecutionRole", "iam:CreateRole", iam_role(f"{STACK}-DrainerRole-0A1B"), {}),
        (
            "ExecutionRole",
            "iam:CreateRole",
            iam_role(f"{STACK}-DrainerRole-0A1B"),
            {"iam_PermissionsBoundary": "arn:aws:iam::aws:policy/AdministratorAccess"},
        ),
        (
            "ExecutionRole",
            "iam:CreateRole",
            iam_role(f"{STACK}-Another-0A1B"),
            {"iam_PermissionsBoundary": VALUES["Boundary"]},
        ),
        ("ExecutionRole", "iam:PutRolePolicy", iam_role(f"{STACK}-DrainerRole-0A1B"), {}),
        (
            "ExecutionRole",
            "iam:AttachRolePolicy",
            iam_role(f"{STACK}-CodeDeployServiceRole-0A1B"),
            {
                "iam_PermissionsBoundary": VALUES["Boundary"],
                "iam_PolicyARN": "arn:aws:iam::aws:policy/AdministratorAccess",
            },
        ),
        ("ExecutionRole", "iam:PassRole", iam_role(f"{STACK}-DrainerRole-0A1B"), {}),
        (
            "ExecutionRole",
            "iam:PassRole",
            iam_role(f"{STACK}-DrainerRole-0A1B"),
            {"iam_PassedToService": "ec2.amazonaws.com"},
        ),
        (
            "ExecutionRole",
            "iam:PassRole",
            iam_role("administrator"),
            {"iam_PassedToService": "lambda.amazonaws.com"},
        ),
        # What the stack holds.
        ("ExecutionRole", "dynamodb:Query", of_stack("dynamodb", "table/STACK-DeliveriesTable-0A1B"), {}),
        ("ExecutionRole", "sqs:ReceiveMessage", of_stack("sqs", "STACK-RealtimeQueue-0A1B"), {}),
        (
            "ExecutionRole",
            "lambda:InvokeFunction",
            of_stack("lambda", "function:STACK-DrainerFunction-0A"),
            {},
        ),
        ("ExecutionRole", "kms:Decrypt", of_stack("kms", "key/01234567-89ab-cdef-0123-456789abcdef"), {}),
        ("ExecutionRole", "s3:PutObject", f"{VALUES['ArtifactBucket.Arn']}/0a1b2c", {}),
        # Other stacks: prod's name is the first part of staging's, and not the other way round.
        (
            "ExecutionRole",
            "dynamodb:DeleteTable",
            of_stack("dynamodb", "table/STACK-WebhooksTable-0A1B", stack="lms-webhooks"),
            {},
        ),
        (
            "ExecutionRole",
            "events:PutRule",
            of_stack("events", "rule/STACK/x", stack="lms-webhooks"),
            {},
        ),
        (
            "ExecutionRole",
            "lambda:CreateEventSourceMapping",
            "*",
            {"lambda_FunctionArn": of_stack("lambda", "function:another")},
        ),
        # The workflow itself only talks to CloudFormation, and only about this stack.
        ("DeployRole", "iam:CreateRole", iam_role(f"{STACK}-DrainerRole-0A1B"), {}),
        (
            "DeployRole",
            "lambda:UpdateFunctionCode",
            of_stack("lambda", "function:STACK-DrainerFunction-0A"),
            {},
        ),
        ("DeployRole", "cloudformation:DeleteStack", of_stack("cloudformation", "stack/STACK/0"), {}),
        ("DeployRole", "cloudformation:CreateChangeSet", of_stack("cloudformation", "stack/STACK/0"), {}),
        (
            "DeployRole",
            "cloudformation:CreateChangeSet",
            of_stack("cloudformation", "stack/STACK/0"),
            {
                "cloudformation_RoleArn": VALUES["ExecutionRole.Arn"],
                "cloudformation_ImportResourceTypes": ["AWS::KMS::Key"],
            },
        ),
        (
            "DeployRole",
            "cloudformation:CreateChangeSet",
            of_stack("cloudformation", "stack/STACK/0", stack=f"{STACK}-deployment"),
            {"cloudformation_RoleArn": VALUES["ExecutionRole.Arn"]},
        ),
        (
            "DeployRole",
            "iam:PassRole",
            VALUES["ExecutionRole.Arn"],
            {"iam_PassedToService": "lambda.amazonaws.com"},
        ),
    ],
)
def test_what_neither_role_may_do_is_refused(
    owner: str, action: str, resource: str, context: dict[str, str | list[str]]
) -> None:
    assert not allows(owner, action, resource, **context)


def test_only_the_environment_s_tokens_are_taken() -> None:
    (statement,) = resolved(
        ROLE_TEMPLATE["Resources"]["DeployRole"]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    )
    assert statement == {
        "Effect": "Allow",
        "Principal": {"Federated": VALUES["Provider"]},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {
            "StringEquals": {
                "token.actions.githubusercontent.com:aud": "sts.amazonaws.com",
                "token.actions.githubusercontent.com:sub": "repo:octo-org@123/lms@456:environment:staging",
            }
        },
    }
    provider = ROLE_TEMPLATE["Resources"]["Provider"]["Properties"]
    assert provider == {
        "Url": "https://token.actions.githubusercontent.com",
        "ClientIdList": ["sts.amazonaws.com"],
    }


@pytest.mark.parametrize(
    ("parameter", "value", "is_taken"),
    [
        ("Repository", "octo-org/lms-webhooks", True),
        ("Repository", "octo-org@123456/lms-webhooks@456789", True),
        ("Repository", "octo-org/*", False),
        ("Repository", "octo-org", False),
        ("Repository", "octo-org/lms:ref:refs/heads/main", False),
        ("Environment", "staging", True),
        ("Environment", "*", False),
        ("Environment", "staging:x", False),
        ("StackName", "lms-webhooks", True),
        ("StackName", "*", False),
        ("StackName", "", False),
        ("ProviderArn", VALUES["Provider"], True),
        ("ProviderArn", "arn:aws:iam::123456789012:oidc-provider/example.com", False),
        ("BoundaryArn", VALUES["Boundary"], True),
        ("BoundaryArn", "*", False),
    ],
)
def test_no_parameter_takes_a_wildcard(parameter: str, value: str, is_taken: bool) -> None:
    pattern = ROLE_TEMPLATE["Parameters"][parameter]["AllowedPattern"]
    assert bool(re.fullmatch(pattern, value)) is is_taken


##### Names


def test_roles_are_named_one_by_one() -> None:
    """Those of the template, and SAM's for CodeDeploy: a role's logical id is part of its name."""
    roles = {
        name
        for name, resource in [*deployed().items(), *deployed_gradually().items()]
        if resource["Type"] == "AWS::IAM::Role"
    }
    assert roles == ROLES.keys() | {CODE_DEPLOY_ROLE}
    expected = {iam_role(f"{STACK}-{name}-*") for name in roles}
    of_actions: dict[str, set[str]] = {}
    for statement in STATEMENTS["ExecutionRole"]:
        for action in as_list(statement["Action"]):
            if action.startswith("iam:"):
                of_actions.setdefault(action, set()).update(as_list(statement["Resource"]))
    code_deploy = {iam_role(f"{STACK}-{CODE_DEPLOY_ROLE}-*")}
    attach = of_actions.pop("iam:AttachRolePolicy")
    assert attach == code_deploy, "only SAM's role has a managed policy"
    assert [name for name, role in ROLES.items() if "ManagedPolicyArns" in role] == []
    assert {action: resources for action, resources in of_actions.items() if resources != expected} == {}


def test_the_longest_name_fits() -> None:
    """CloudFormation cuts a name that is too long, and what is left of the stack's would not match."""
    longest = ROLE_TEMPLATE["Parameters"]["StackName"]["MaxLength"]
    random_part = 13  # at most, as seen
    limits = {
        "AWS::IAM::Role": 64,
        "AWS::Lambda::Function": 64,
        "AWS::Events::Rule": 64,
        "AWS::SQS::Queue": 80,
    }
    for name, resource in deployed_gradually().items():
        if limit := limits.get(resource["Type"]):
            assert longest + len(f"-{name}-") + random_part <= limit, name
    samconfig = (REPOSITORY / "samconfig.toml").read_text()
    names = re.findall(r'^stack_name = "(.+)"$', samconfig, re.MULTILINE)
    assert names
    assert all(len(name) <= longest for name in names)


def test_the_layer_s_name_carries_the_stack_s() -> None:
    assert RESOURCES["CoreLayer"]["Properties"]["LayerName"] == {"Fn::Sub": "${AWS::StackName}-core"}


##### The boundary


CODE_DEPLOY_NEEDS = {
    "cloudwatch:describealarms",
    "lambda:getalias",
    "lambda:getprovisionedconcurrencyconfig",
    "lambda:updatealias",
}
"""What moves an alias, of the policy AWSCodeDeployRoleForLambda; the rest of it is for hooks and triggers."""

_EXAMPLES = {
    "AWS::DynamoDB::Table": "arn:aws:dynamodb:eu-central-1:123456789012:table/{}",
    "AWS::SQS::Queue": "arn:aws:sqs:eu-central-1:123456789012:{}",
    "AWS::SNS::Topic": "arn:aws:sns:eu-central-1:123456789012:{}",
    "AWS::Logs::LogGroup": "arn:aws:logs:eu-central-1:123456789012:log-group:{}:log-stream:x",
    "AWS::KMS::Key": "arn:aws:kms:eu-central-1:123456789012:key/01234567-89ab-cdef-0123-456789abcdef",
}
_SECRETS = {"kms_EncryptionContextKeys": ["accountId", "webhookId"]} | {
    f"kms_EncryptionContext:{name}": "x" for name in ("accountId", "webhookId")
}


def roles_statements() -> list[Properties]:
    """What the template's roles allow: their own policies, and those that stand apart."""
    documents = [policy["PolicyDocument"] for role in ROLES.values() for policy in role["Policies"]]
    documents += [
        each["Properties"]["PolicyDocument"]
        for each in RESOURCES.values()
        if each["Type"] == "AWS::IAM::Policy"
    ]
    return [each for each in statements_of(documents) if each["Effect"] != "Deny"]


def test_the_boundary_has_exactly_what_roles_of_the_stack_need() -> None:
    assert actions_in(STATEMENTS["Boundary"]) == actions_in(roles_statements()) | CODE_DEPLOY_NEEDS


def test_the_boundary_lets_each_role_work_on_the_stack_s_own_things() -> None:
    seen = 0
    for statement in roles_statements():
        names = {name for name in names_in(statement["Resource"]) if name in RESOURCES}
        for name in names:
            arn = _EXAMPLES[RESOURCES[name]["Type"]].format(f"{STACK}-{name}-0A1B2C3D4E5F")
            for action in as_list(statement["Action"]):
                assert allows("Boundary", action, arn, **_SECRETS), (action, arn)
                assert not allows("Boundary", action, arn.replace(STACK, "another"), **_SECRETS) or (
                    action.startswith("kms:")
                ), (action, arn)
                seen += 1
    assert seen > 40


@pytest.mark.parametrize("context", [{}, {"kms_EncryptionContextKeys": ["table"]}])
def test_the_boundary_opens_no_secret_but_those_of_webhooks(context: dict[str, list[str]]) -> None:
    assert not allows("Boundary", "kms:Decrypt", _EXAMPLES["AWS::KMS::Key"], **context)


@pytest.mark.parametrize("is_gradual", [False, True])
def test_a_build_with_a_boundary_puts_it_on_every_role_and_changes_nothing_else(
    tmp_path: Path, *, is_gradual: bool
) -> None:
    built = tmp_path / "template.yaml"
    built.write_text(yaml.safe_dump(TEMPLATE, sort_keys=False))
    if is_gradual:
        make_canary(built, release="release-1")
    before = transformed(read_template(built))
    put_boundary(built, boundary=VALUES["Boundary"])
    after = transformed(read_template(built))
    roles = {name for name, each in after.items() if each["Type"] == "AWS::IAM::Role"}
    assert roles == ROLES.keys() | ({CODE_DEPLOY_ROLE} if is_gradual else set())
    for name in roles:
        assert after[name]["Properties"].pop("PermissionsBoundary") == VALUES["Boundary"]
    # SAM writes out the partition where CloudFormation would put it in.
    (as_sam_writes_it,) = (
        before[CODE_DEPLOY_ROLE]["Properties"]["ManagedPolicyArns"] if is_gradual else ["(no such role)"]
    )
    if is_gradual:
        (ours,) = after[CODE_DEPLOY_ROLE]["Properties"]["ManagedPolicyArns"]
        assert ours["Fn::Sub"].replace("${AWS::Partition}", "aws") == as_sam_writes_it
        after[CODE_DEPLOY_ROLE]["Properties"]["ManagedPolicyArns"] = [as_sam_writes_it]
    assert after == before


##### The file itself, and who uses it


def test_cloudformation_takes_the_file_as_it_is() -> None:
    """By `aws cloudformation deploy`, which resolves no alias and sends a template of up to 51,200 bytes."""
    assert FILE.stat().st_size <= 51_200
    tokens = [type(token).__name__ for token in yaml.scan(FILE.read_text())]
    assert "AliasToken" not in tokens
    assert "AnchorToken" not in tokens


def test_the_policies_are_within_iam_s_limits() -> None:
    """10,240 characters of inline policies in a role, 6,144 in a managed one; blanks do not count."""
    assert ROLE_TEMPLATE["Resources"]["ExecutionDataPolicy"]["Properties"]["Roles"] == [
        {"Ref": "ExecutionRole"}
    ]
    for role in ("DeployRole", "ExecutionRole"):
        assert characters(inline_policies(role)) <= 10_240, role
    for policy in ("Boundary", "ExecutionDataPolicy"):
        assert characters([managed_policy(policy)]) <= 6_144, policy


def characters(documents: list[Properties]) -> int:
    """As IAM counts them, with the longest names that there can be."""
    text = json.dumps(documents, separators=(",", ":"))
    longest = "x" * ROLE_TEMPLATE["Parameters"]["StackName"]["MaxLength"]
    return len(text.replace(STACK, longest).replace(VALUES["AWS::Region"], "ap-southeast-2"))


def test_the_policies_are_written_as_iam_asks() -> None:
    """moto knows IAM's grammar: the form of ARNs, which operators there are, no Sid twice in one policy."""
    with mock_aws():
        iam = boto3.client("iam", region_name="us-east-1")
        for role in ("DeployRole", "ExecutionRole"):
            trust = resolved(ROLE_TEMPLATE["Resources"][role]["Properties"]["AssumeRolePolicyDocument"])
            iam.create_role(RoleName=role, AssumeRolePolicyDocument=json.dumps(trust))
            for number, document in enumerate(inline_policies(role)):
                iam.put_role_policy(
                    RoleName=role, PolicyName=str(number), PolicyDocument=json.dumps(document)
                )
        for policy in ("Boundary", "ExecutionDataPolicy"):
            iam.create_policy(PolicyName=policy, PolicyDocument=json.dumps(managed_policy(policy)))


def test_the_workflow_deploys_with_these_roles() -> None:
    jobs = yaml.safe_load(WORKFLOW.read_text())["jobs"]
    documented = {row[0].strip("`") for row in rows(DEPLOY, "Deploy from GitHub Actions")}
    for job in ("staging", "prod"):
        used = set(re.findall(r"\$\{\{ vars\.([A-Z_]+) \}\}", str(jobs[job])))
        assert used == documented, job
        assert jobs[job]["environment"] == job
        steps = {step["run"].split()[0]: step for step in jobs[job]["steps"] if "run" in step}
        deploy = steps[".venv/bin/sam"]["run"]
        assert deploy.split("deploy ")[1].startswith(f"--config-env {job} ")
        assert '--no-resolve-s3 --s3-bucket "$ARTIFACT_BUCKET" --role-arn "$EXECUTION_ROLE_ARN"' in deploy
        (build,) = [step for step in jobs[job]["steps"] if step.get("run", "").startswith("make build")]
        assert build["env"] == {"BOUNDARY": "${{ vars.BOUNDARY_ARN }}"}
        assert steps["make"]["run"] == f"make preflight ENVIRONMENT={job}", "the last of its steps before sam"
    assert documented - {"AWS_REGION"} == {
        description.split()[2]
        for output in ROLE_TEMPLATE["Outputs"].values()
        if (description := output["Description"]).startswith("The variable ")
    }


def test_prod_is_protected_from_being_deleted() -> None:
    """`sam deploy` has no option for it, and a change set neither."""
    jobs = yaml.safe_load(WORKFLOW.read_text())["jobs"]
    (command,) = [
        step["run"] for step in jobs["prod"]["steps"] if "termination-protection" in step.get("run", "")
    ]
    assert "--enable-termination-protection --stack-name lms-webhooks\n" in command + "\n"
    stack = of_stack("cloudformation", "stack/STACK/0")
    assert allows("DeployRole", "cloudformation:UpdateTerminationProtection", stack)
