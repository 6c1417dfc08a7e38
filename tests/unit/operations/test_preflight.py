"""Each thing that AWS would refuse, or let fail later, has a line that names the next step."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import boto3
import botocore.session
import pytest

from operations.environments import Environment
from operations.identity import SignedIn
from operations.preflight import (
    BESIDE_THE_QUEUES,
    LOGS_POLICY_CHARACTERS,
    MANAGED_STACK,
    Check,
    Plan,
    Result,
    check_concurrency,
    check_issuer,
    check_logs_policy,
    check_parameters,
    check_stack,
    checks,
    run,
)
from tests.contract.template import PARAMETERS, TEMPLATE, event_sources, parameter_of
from tests.fakes.scripted_aws import Scripts, scripted

ENVIRONMENT = Environment("default", "lms-webhooks-dev", "", "", {"Stage": "dev"})
_MAXIMA = [source["ScalingConfig"]["MaximumConcurrency"] for _, _, source in event_sources()]
MAXIMA = [*dict.fromkeys(parameter_of(each) for each in _MAXIMA if isinstance(each, dict))]
LOWEST = {name: str(min(map(int, PARAMETERS[name].get("AllowedValues", ["2"])))) for name in MAXIMA}
CHOSEN = sum(int(PARAMETERS[name]["Default"]) for name in MAXIMA)
NEEDED = CHOSEN + sum(each for each in _MAXIMA if isinstance(each, int))
ENOUGH_FOR_LOWEST = NEEDED - CHOSEN + sum(map(int, LOWEST.values())) + BESIDE_THE_QUEUES


def plan(
    parameters: Mapping[str, str] | None = None,
    deployed: Mapping[str, str] | None = None,
    template: Mapping[str, Any] = TEMPLATE,
) -> Plan:
    return Plan(ENVIRONMENT, template, parameters or {}, deployed or {})


# The stack


@pytest.mark.parametrize(
    ("status", "next_step"),
    [
        ("ROLLBACK_COMPLETE", "can only be deleted; delete it, then deploy: aws cloudformation delete-stack"),
        ("ROLLBACK_FAILED", "aws cloudformation delete-stack --stack-name lms-webhooks-dev"),
        ("CREATE_FAILED", "aws cloudformation delete-stack"),
        ("DELETE_FAILED", "could not be deleted"),
        ("UPDATE_FAILED", "aws cloudformation rollback-stack"),
        ("UPDATE_ROLLBACK_FAILED", "aws cloudformation continue-update-rollback"),
        ("IMPORT_ROLLBACK_FAILED", "aws cloudformation continue-update-rollback"),
        ("CREATE_IN_PROGRESS", "wait until it has ended"),
        ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "wait until it has ended"),
        ("UPDATE_ROLLBACK_IN_PROGRESS", "wait until it has ended"),
        ("DELETE_IN_PROGRESS", "wait until it has ended"),
    ],
)
def test_a_stack_that_takes_no_update_has_its_next_step(status: str, next_step: str) -> None:
    check = check_stack("lms-webhooks-dev", status, "because")
    assert check.result is Result.FAILED
    assert f"is {status} (because): " in check.text
    assert next_step in check.text


@pytest.mark.parametrize("status", [None, "CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"])
def test_a_stack_that_takes_an_update_is_fine(status: str | None) -> None:
    assert check_stack("lms-webhooks-dev", status).result is Result.OK


def test_a_change_set_that_nobody_confirmed_is_no_obstacle() -> None:
    """sam takes such a stack for none, and makes another change set."""
    assert check_stack("lms-webhooks-dev", "REVIEW_IN_PROGRESS").result is Result.WARNING


def test_every_state_of_a_stack_is_known() -> None:
    model = boto3.client("cloudformation", region_name="eu-west-1").meta.service_model
    states = model.shape_for("StackStatus").metadata["enum"]
    fine = {state for state in states if check_stack("s", state).result is Result.OK}
    assert fine == {
        "CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE",
        "IMPORT_ROLLBACK_COMPLETE", "DELETE_COMPLETE",
    }  # fmt: skip


# Lambda's executions


def concurrency(for_account: int, unreserved: int | None = None, what: Plan | None = None) -> Check:
    limits = {
        "ConcurrentExecutions": for_account,
        "UnreservedConcurrentExecutions": for_account if unreserved is None else unreserved,
    }
    client = scripted({"lambda": [("get_account_settings", {"AccountLimit": limits})]})
    return check_concurrency(client, what or plan())


def test_a_new_accounts_ten_executions_are_few_and_can_be_tried_with() -> None:
    """Lambda takes an event source's maximum above the quota, and throttles."""
    check = concurrency(10)
    assert check.result is Result.WARNING
    assert "10 of the account's 10 Lambda executions are free" in check.text
    assert f"take up to {NEEDED} at once" in check.text
    assert "L-B99A9384" in check.text
    assert 'PARAMS="' + " ".join(f"{name}={least}" for name, least in LOWEST.items()) + '"' in check.text


def test_what_it_advises_for_a_new_account_can_be_deployed() -> None:
    assert concurrency(10, what=plan(LOWEST)).result is Result.WARNING


def test_an_account_that_others_use_too_has_what_is_left() -> None:
    assert concurrency(1000).result is Result.OK
    assert "lower the maxima" in concurrency(1000, CHOSEN - 1).text
    assert "lower the maxima" not in concurrency(1000, CHOSEN).text
    assert concurrency(1000, NEEDED + BESIDE_THE_QUEUES - 1).result is Result.WARNING
    assert concurrency(1000, NEEDED + BESIDE_THE_QUEUES).result is Result.OK


def test_the_parameters_that_count_are_those_that_the_stack_will_have() -> None:
    """sam keeps a stack's values where none is given."""
    assert concurrency(ENOUGH_FOR_LOWEST, what=plan(deployed=LOWEST)).result is Result.OK
    (first, *_) = MAXIMA
    raised = plan({first: "1000"}, deployed=LOWEST)
    assert concurrency(ENOUGH_FOR_LOWEST, what=raised).result is Result.WARNING


def reserving(**deployed: str) -> Plan:
    """A stack whose drainers are set apart where it is protected."""
    changed: dict[str, Any] = json.loads(json.dumps(TEMPLATE))
    changed["Resources"]["DrainerFunction"]["Properties"]["ReservedConcurrentExecutions"] = {
        "Fn::If": ["IsProtected", {"Ref": "DrainerMaximumConcurrency"}, {"Ref": "AWS::NoValue"}]
    }
    return plan({"Stage": "prod", "DrainerMaximumConcurrency": "100"}, deployed, changed)


def test_what_is_set_apart_must_leave_a_hundred() -> None:
    """Or Lambda refuses it: "decreases account's UnreservedConcurrentExecution below its minimum value"."""
    assert concurrency(1000, what=reserving()).result is Result.OK
    check = concurrency(150, what=reserving())
    assert check.result is Result.FAILED
    assert "100 Lambda executions are to be set apart, and 50 of the account's 150 can be" in check.text
    assert "and 0 of the account's 10 can be" in concurrency(10, what=reserving()).text


def test_what_the_stack_has_set_apart_before_is_its_own() -> None:
    assert concurrency(1000, NEEDED - 50, what=reserving()).result is Result.FAILED
    before = reserving(Stage="prod", DrainerMaximumConcurrency="100")
    assert concurrency(1000, NEEDED - 50, what=before).result is not Result.FAILED


# The parameters


def test_parameters_that_the_template_refuses_are_named_before_anything_is_built() -> None:
    check = check_parameters(plan({"LogRetentionDays": "8", "OidcIssuer": "https://id.example.com"}))
    assert check.result is Result.FAILED
    assert "LogRetentionDays=8: must be one of 1, 3, 5, 7" in check.text
    assert "OidcAudience" in check.text


def test_a_mistake_in_the_details_of_event_types_is_found_before_the_deployment() -> None:
    check = check_parameters(plan({"ExtraEventTypes": "BADGE", "ExtraEventTypeDetails": '{"BADGE": []}'}))
    assert (check.result, check.text) == (
        Result.FAILED,
        "ExtraEventTypeDetails: 'BADGE' must be an object; correct it in PARAMS",
    )


@pytest.mark.parametrize(
    ("extra", "mistake"),
    [
        ("BADGE:non-real-time,SYNC,BADGE", "BADGE stands there twice"),
        ("SYNC,SYNC", "SYNC stands there twice"),
        (
            "COURSE_ENROLLMENT:non-real-time",
            "COURSE_ENROLLMENT is real-time in the catalogue, so leave it out",
        ),
        ("CI_STATS,LEARNER_PROGRESS:non-real-time,LEARNER", ""),
    ],
)
def test_event_types_that_rules_and_code_would_take_otherwise_are_found_before(
    extra: str, mistake: str
) -> None:
    check = check_parameters(plan({"ExtraEventTypes": extra}))
    if mistake:
        assert (check.result, check.text) == (
            Result.FAILED,
            f"ExtraEventTypes: {mistake}; correct it in PARAMS",
        )
    else:
        assert check.result is Result.OK


def test_parameters_that_it_allows_are_listed() -> None:
    check = check_parameters(plan({"LogRetentionDays": "7", "Stage": "dev"}))
    assert check == Check(
        "parameters", Result.OK, "as the template allows them; given are LogRetentionDays=7, Stage=dev"
    )


# The policy of the logs


def logs_policy(characters: int, group: object) -> Check:
    policies = [
        {"policyName": "short", "policyDocument": "{}"},
        {"policyName": "AWSLogDeliveryWrite20150319", "policyDocument": "x" * characters},
    ]
    template: dict[str, Any] = json.loads(json.dumps(TEMPLATE))
    properties = template["Resources"]["AccessLogs"]["Properties"]
    properties.pop("LogGroupName", None)
    if group:
        properties["LogGroupName"] = group
    client = scripted({"logs": [("describe_resource_policies", {"resourcePolicies": policies})]})
    return check_logs_policy(client, plan(template=template))


def test_a_logs_policy_that_is_nearly_full_takes_no_other_group() -> None:
    check = logs_policy(5100, None)
    assert check.result is Result.FAILED
    assert f"has 5100 of {LOGS_POLICY_CHARACTERS} characters" in check.text
    assert "aws logs describe-resource-policies" in check.text
    assert logs_policy(4900, None).result is Result.OK


def test_a_group_under_the_prefix_makes_it_no_longer() -> None:
    check = logs_policy(5100, {"Fn::Sub": "/aws/vendedlogs/${AWS::StackName}/access"})
    assert check.result is Result.OK
    assert "5100 of 5120" in check.text


# The issuer


def test_a_stack_with_a_pool_of_its_own_needs_no_issuer() -> None:
    assert check_issuer(plan(), "aws").result is Result.OK


def test_there_is_no_pool_in_china() -> None:
    assert check_issuer(plan(), "aws-cn").result is Result.FAILED


def test_an_issuer_that_cannot_be_read_fails() -> None:
    check = check_issuer(plan({"OidcIssuer": "http://id.example.com"}), "aws")
    assert check.result is Result.FAILED
    assert check.text.startswith("OidcIssuer=http://id.example.com: API Gateway takes https only")


# All of them


class Scripted(SignedIn):
    """Signed in to an AWS that says what a test wants."""

    scripts: Callable[[str], Any]

    def client(self, service: str) -> Any:
        return self.scripts(service)


def signed_in(services: Scripts) -> SignedIn:
    arn = "arn:aws:sts::123456789012:assumed-role/Deployer/ada"
    made = Scripted(botocore.session.Session(), "123456789012", arn, "eu-west-1")
    object.__setattr__(made, "scripts", scripted(services))
    return made


ABSENT = "ValidationError: Stack with id lms-webhooks-dev does not exist"
FREE = {"AccountLimit": {"ConcurrentExecutions": 1000, "UnreservedConcurrentExecutions": 1000}}
NO_POLICY: dict[str, Any] = {"resourcePolicies": []}


def stack(name: str, status: str) -> dict[str, Any]:
    return {
        "Stacks": [
            {
                "StackName": name,
                "StackStatus": status,
                "CreationTime": datetime(2026, 11, 3, tzinfo=UTC),
                "Parameters": [{"ParameterKey": "Stage", "ParameterValue": "dev"}],
            }
        ]
    }


def test_a_first_deployment_begins_with_what_it_is_about_to_change(
    capsys: pytest.CaptureFixture[str],
) -> None:
    aws = signed_in(
        {
            "cloudformation": [("describe_stacks", ABSENT), ("describe_stacks", ABSENT)],
            "logs": [("describe_resource_policies", NO_POLICY)],
            "lambda": [("get_account_settings", FREE)],
        }
    )
    assert run(aws, ENVIRONMENT, {})
    first, *others = capsys.readouterr().out.splitlines()
    assert "stack lms-webhooks-dev in account 123456789012, region eu-west-1, as arn:aws:sts::" in first
    assert [line.split()[0] for line in (first, *others)] == ["ok"] * 6


def test_all_checks_are_made_though_one_fails(capsys: pytest.CaptureFixture[str]) -> None:
    aws = signed_in(
        {
            "cloudformation": [
                ("describe_stacks", stack("lms-webhooks-dev", "ROLLBACK_COMPLETE")),
                ("describe_stacks", stack(MANAGED_STACK, "ROLLBACK_COMPLETE")),
            ],
            "logs": [("describe_resource_policies", NO_POLICY)],
            "lambda": [("get_account_settings", FREE)],
        }
    )
    assert not run(aws, ENVIRONMENT, {"OidcIssuer": "http://id.example.com"})
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == ["ok", "failed", "failed", "failed", "ok", "ok", "failed"]
    assert f"delete-stack --stack-name {MANAGED_STACK}" in printed[2]


def test_what_one_may_not_read_is_a_warning_that_names_the_permission() -> None:
    aws = signed_in(
        {
            "cloudformation": [("describe_stacks", "AccessDenied: no")],
            "logs": [("describe_resource_policies", "AccessDeniedException: no")],
            "lambda": [("get_account_settings", "AccessDeniedException: no")],
        }
    )
    made = list(checks(aws, ENVIRONMENT, {}))
    assert [(check.name, check.result) for check in made] == [
        ("identity", Result.OK),
        ("stack", Result.WARNING),
        ("parameters", Result.OK),
        ("concurrency", Result.WARNING),
        ("logs policy", Result.WARNING),
        ("issuer", Result.OK),
    ]
    permissions = [
        "cloudformation:DescribeStacks",
        "lambda:GetAccountSettings",
        "logs:DescribeResourcePolicies",
    ]
    assert [check.text for check in (made[1], *made[3:5])] == [
        f"not checked: it needs the permission {permission}" for permission in permissions
    ]


def test_another_error_of_aws_is_a_warning_in_its_own_words() -> None:
    aws = signed_in(
        {
            "cloudformation": [("describe_stacks", "Throttling: Rate exceeded")],
            "logs": [("describe_resource_policies", NO_POLICY)],
            "lambda": [("get_account_settings", "TooManyRequestsException: slow down")],
        }
    )
    made = list(checks(aws, ENVIRONMENT, {}))
    assert made[1].text == "not checked: AWS refused DescribeStacks: Rate exceeded."
    assert made[3].result is Result.WARNING
