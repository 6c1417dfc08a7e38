"""See, before a deployment, whether AWS would refuse it or let it fail later. Reads only.

    make preflight                                                    the environment `default`
    make preflight ENVIRONMENT=prod PARAMS="OidcIssuer=https://id.example.com OidcAudience=lms"

Each check prints one line: `ok`, `warning`, or `failed` with the next step. All of them run. A check that may
not read what it needs is a warning that names the permission. It ends with 1 when one failed.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from lms_webhooks.model.event_types import (
    EVENT_TYPES,
    Category,
    InvalidDetails,
    with_details,
    with_extra_types,
)
from operations.environments import (
    CONFIG_FILE,
    TEMPLATE,
    Environment,
    UnusableInput,
    read_environment,
    read_parameters,
    template_parameters,
)
from operations.identity import AWS_ERRORS, DENIED, NotSignedIn, SignedIn, explain, sign_in
from operations.issuer import IssuerFault, check_discovery
from operations.rules import broken_rules, number_of
from tools.progress import paint
from tools.template import read_template

# Lambda keeps so many executions of an account for functions without a reservation; where the account has
# fewer than that, all of them (Lambda guide, "Configuring reserved concurrency").
KEPT_UNRESERVED = 100
# Two schedules, and 50 admin calls a second of 0.1 s each: docs/configuration.md, "Quotas".
BESIDE_THE_QUEUES = 7
# CloudWatch Logs takes no longer resource policy (Step Functions guide, "Avoiding resource policy size
# restrictions"); names under the prefix are allowed together, so they do not make it longer.
LOGS_POLICY_CHARACTERS = 5120
LOGS_PREFIX = "/aws/vendedlogs/"
MANAGED_STACK = "aws-sam-cli-managed-default"  # holds the bucket of `resolve_s3`

_WAIT = "wait until it has ended, then repeat the command"
_DELETE = "delete it, then deploy: aws cloudformation delete-stack --stack-name {stack}"
_CONTINUE = (
    "see its events, fix the cause, then: aws cloudformation continue-update-rollback --stack-name {stack}"
)
_ROLL_BACK = "go back to what worked last: aws cloudformation rollback-stack --stack-name {stack}"
# The states that CreateChangeSet refuses, beside *_IN_PROGRESS (CloudFormation guide, "Stack status codes").
_NEXT_STEPS = {
    "ROLLBACK_COMPLETE": "its first creation failed, so it can only be deleted; " + _DELETE,
    "ROLLBACK_FAILED": "what staging and prod protect may stay behind for you to delete; " + _DELETE,
    "CREATE_FAILED": _DELETE,
    "DELETE_FAILED": "see its events for what could not be deleted; " + _DELETE,
    "UPDATE_FAILED": _ROLL_BACK,
    "UPDATE_ROLLBACK_FAILED": _CONTINUE,
    "IMPORT_ROLLBACK_FAILED": _CONTINUE,
}
_UNCONFIRMED = "REVIEW_IN_PROGRESS"  # a change set that nobody confirmed: sam makes another

type Client = Callable[[str], Any]


class Result(StrEnum):
    """What came of a check."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report."""

    name: str
    result: Result
    text: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be deployed."""

    environment: Environment
    template: Mapping[str, Any]
    parameters: Mapping[str, str]
    """Those that are given."""
    deployed: Mapping[str, str]
    """Those of the stack that is there, which sam keeps where none is given."""

    @property
    def effective(self) -> dict[str, str]:
        """Every parameter, as the stack will have it."""
        defaults = {name: str(each.get("Default", "")) for name, each in self.template["Parameters"].items()}
        return defaults | dict(self.deployed) | dict(self.parameters)


# The checks


def check_identity(signed_in: SignedIn, environment: Environment) -> Check:
    """Say what is about to be changed, and as whom."""
    return Check(
        "identity",
        Result.OK,
        f"stack {environment.stack_name} in account {signed_in.account}, region {signed_in.region},"
        f" as {signed_in.arn}",
    )


def check_stack(stack_name: str, status: str | None, reason: str = "") -> Check:
    """See whether a stack takes an update."""
    name = "stack"
    if status is None:
        return Check(name, Result.OK, f"{stack_name} is not there yet; it will be created")
    if status == _UNCONFIRMED:
        return Check(
            name,
            Result.WARNING,
            f"{stack_name} has a change set that nobody confirmed; another one takes its place",
        )
    step = _WAIT if status.endswith("_IN_PROGRESS") else _NEXT_STEPS.get(status)
    if step is None:
        return Check(name, Result.OK, f"{stack_name} is {status}")
    because = f" ({reason})" if reason else ""
    return Check(name, Result.FAILED, f"{stack_name} is {status}{because}: {step.format(stack=stack_name)}")


def check_parameters(plan: Plan) -> Check:
    """Hold the parameters to what the template says of them, which CloudFormation does after the build."""
    broken = list(broken_rules(plan.template, plan.effective))
    if broken:
        return Check("parameters", Result.FAILED, f"{'; '.join(broken)}: correct them in PARAMS")
    extra = plan.effective.get("ExtraEventTypes", "")
    if mistake := _mistake_in_extra_types(extra):
        return Check("parameters", Result.FAILED, f"ExtraEventTypes: {mistake}; correct it in PARAMS")
    try:
        event_types = with_extra_types(extra)
        with_details(event_types, plan.effective.get("ExtraEventTypeDetails", ""))
    except InvalidDetails as error:
        return Check("parameters", Result.FAILED, f"ExtraEventTypeDetails: {error}; correct it in PARAMS")
    given = ", ".join(f"{name}={value}" for name, value in plan.parameters.items())
    return Check("parameters", Result.OK, f"as the template allows them; given are {given or 'none'}")


def _mistake_in_extra_types(extra: str) -> str:
    """Say where the rules of the bus would take a type for non-real-time, and the code would not."""
    names = set()
    for entry in extra.split(","):
        name = entry.removesuffix(":non-real-time")
        if name in names:
            return f"{name} stands there twice"
        names.add(name)
        if entry != name and name in EVENT_TYPES and EVENT_TYPES[name].category is Category.REAL_TIME:
            return f"{name} is real-time in the catalogue, so leave it out"
    return ""


def check_concurrency(client: Client, plan: Plan) -> Check:
    """Compare the executions that the account has left with those that the stack's functions may take."""
    name = "concurrency"
    limits = client("lambda").get_account_settings()["AccountLimit"]
    needed = _executions(plan.template, plan.effective)
    # What the stack has set apart already is its own.
    own = _executions(plan.template, plan.deployed).reserved if plan.deployed else 0
    free = int(limits["UnreservedConcurrentExecutions"]) + own
    of_account = int(limits["ConcurrentExecutions"])
    reservable = max(free - min(KEPT_UNRESERVED, of_account), 0)
    ask = "ask for more in Service Quotas (Lambda, Concurrent executions, L-B99A9384)"
    if needed.reserved > reservable:
        return Check(
            name,
            Result.FAILED,
            f"{needed.reserved} Lambda executions are to be set apart, and {reservable} of the account's"
            f" {of_account} can be: {ask}",
        )
    text = (
        f"{free} of the account's {of_account} Lambda executions are free; the stack's queues take up to"
        f" {needed.total} at once"
    )
    if needed.chosen > free:
        # Lambda takes a maximum above the quota, and throttles: slow, but a new account can be tried with it.
        of_template = plan.template["Parameters"]
        lowered = " ".join(f"{each}={_lowest(of_template[each])}" for each in needed.parameters)
        return Check(name, Result.WARNING, f'{text}: {ask}, or lower the maxima: PARAMS="{lowered}"')
    if needed.total + BESIDE_THE_QUEUES > free:
        return Check(
            name, Result.WARNING, f"{text}, and schedules and admins {BESIDE_THE_QUEUES} more: {ask}"
        )
    return Check(name, Result.OK, text)


def check_logs_policy(client: Client, plan: Plan) -> Check:
    """See whether the policy that lets API Gateway write access logs would grow too long."""
    pages = client("logs").get_paginator("describe_resource_policies").paginate()
    lengths = [len(policy["policyDocument"]) for page in pages for policy in page["resourcePolicies"]]
    length = max(lengths, default=0)
    used = (
        f"the longest resource policy of CloudWatch Logs has {length} of {LOGS_POLICY_CHARACTERS} characters"
    )
    group = _access_log_group(plan.template, plan.environment.stack_name)
    if group.startswith(LOGS_PREFIX):
        return Check(
            "logs policy", Result.OK, f"{used}; the access logs are under {LOGS_PREFIX}, which needs no more"
        )
    growth = len(f'"arn:aws:logs:ap-southeast-2:123456789012:log-group:{group}:log-stream:*",')
    if length + growth <= LOGS_POLICY_CHARACTERS:
        return Check("logs policy", Result.OK, f"{used}; the access logs of {group} add some {growth}")
    return Check(
        "logs policy",
        Result.FAILED,
        f"{used}, and the access logs of {group} would add some {growth}: name the group"
        f" {LOGS_PREFIX}..., or remove what is not needed (aws logs describe-resource-policies)",
    )


def check_issuer(plan: Plan, partition: str) -> Check:
    """See whether API Gateway will be able to verify the tokens of the issuer."""
    issuer = plan.effective.get("OidcIssuer", "")
    if not issuer:
        if partition == "aws-cn":  # cfn-lint's E3006 for AWS::Cognito::UserPool
            return Check("issuer", Result.FAILED, "there is no Cognito in China: give OidcIssuer in PARAMS")
        return Check("issuer", Result.OK, "the stack has a Cognito pool of its own")
    try:
        return Check("issuer", Result.OK, check_discovery(issuer))
    except IssuerFault as fault:
        return Check("issuer", Result.FAILED, f"OidcIssuer={issuer}: {fault}")


# What the template says


@dataclass(frozen=True, slots=True)
class _Executions:
    """Lambda executions that the queues' functions may take at once."""

    total: int
    chosen: int
    """Those that a parameter bounds."""
    reserved: int
    parameters: tuple[str, ...]


def _executions(template: Mapping[str, Any], parameters: Mapping[str, str]) -> _Executions:
    total, chosen, reserved, names = 0, 0, 0, []
    for resource in template["Resources"].values():
        if resource["Type"] != "AWS::Serverless::Function":
            continue
        properties = resource["Properties"]
        reserved += number_of(properties.get("ReservedConcurrentExecutions"), template, parameters) or 0
        for event in properties.get("Events", {}).values():
            maximum = event.get("Properties", {}).get("ScalingConfig", {}).get("MaximumConcurrency")
            executions = number_of(maximum, template, parameters) or 0
            total += executions
            if isinstance(maximum, dict):
                chosen += executions
                names.append(_parameter_of(maximum))
    return _Executions(max(total, reserved), chosen, reserved, tuple(dict.fromkeys(names)))


def _parameter_of(value: Mapping[str, Any]) -> str:
    """The parameter that a property takes its value from, itself or by a mapping."""
    reference = value["Fn::FindInMap"][1] if "Fn::FindInMap" in value else value
    return str(reference["Ref"])


def _lowest(parameter: Mapping[str, Any]) -> str:
    """The least that a parameter takes; Lambda's own least where its pattern says it."""
    return min(map(str, parameter.get("AllowedValues", ["2"])), key=int)


def _access_log_group(template: Mapping[str, Any], stack_name: str) -> str:
    """Where API Gateway logs to; the name that CloudFormation makes up, where the template gives none."""
    name = template["Resources"]["AccessLogs"]["Properties"].get("LogGroupName")
    text = name.get("Fn::Sub") if isinstance(name, dict) else name
    if not isinstance(text, str):
        return f"{stack_name}-AccessLogs-" + "X" * 12
    return text.replace("${AWS::StackName}", stack_name)


# The command

_OF_PARAMETERS = {"parameters", "concurrency", "issuer"}


def run(
    signed_in: SignedIn,
    environment: Environment,
    parameters: Mapping[str, str],
    *,
    template: Path = TEMPLATE,
    is_guided: bool = False,
) -> bool:
    """Print each check's line; return whether none failed. Where sam is yet to ask for the parameters, what
    depends on them is a warning."""
    is_fine = True
    for check in checks(signed_in, environment, parameters, template=template):
        if is_guided and check.name in _OF_PARAMETERS and check.result is Result.FAILED:
            check = replace(check, result=Result.WARNING)  # noqa: PLW2901
        colour = {Result.OK: "green", Result.WARNING: "bold", Result.FAILED: "red"}[check.result]
        print(f"  {paint(f'{check.result:8}', colour)} {check.name:12} {check.text}", flush=True)
        is_fine = is_fine and check.result is not Result.FAILED
    return is_fine


def checks(
    signed_in: SignedIn, environment: Environment, parameters: Mapping[str, str], *, template: Path = TEMPLATE
) -> Iterator[Check]:
    """All checks, each as it is made."""
    client = signed_in.client
    yield check_identity(signed_in, environment)
    deployed: dict[str, str] = {}
    for stack_name in (environment.stack_name, MANAGED_STACK):
        try:
            stack = _stack(client, stack_name)
        except AWS_ERRORS as error:
            yield _unread("stack", "cloudformation:DescribeStacks", error)
            break
        if stack_name == environment.stack_name:
            yield check_stack(stack_name, stack.get("StackStatus"), stack.get("StackStatusReason", ""))
            if stack.get("StackStatus") not in (None, _UNCONFIRMED):
                deployed = {
                    each["ParameterKey"]: each["ParameterValue"] for each in stack.get("Parameters", [])
                }
        elif (check := check_stack(stack_name, stack.get("StackStatus"))).result is Result.FAILED:
            yield check
    plan = Plan(environment, read_template(template), {**environment.parameters, **parameters}, deployed)
    yield check_parameters(plan)
    yield _read("concurrency", "lambda:GetAccountSettings", lambda: check_concurrency(client, plan))
    yield _read("logs policy", "logs:DescribeResourcePolicies", lambda: check_logs_policy(client, plan))
    yield check_issuer(plan, signed_in.partition)


def _stack(client: Client, stack_name: str) -> Mapping[str, Any]:
    """What CloudFormation says of a stack; nothing when there is none."""
    try:
        (stack,) = client("cloudformation").describe_stacks(StackName=stack_name)["Stacks"]
    except ClientError as error:
        # A stack that is not there has no error code of its own.
        if "does not exist" in str(error):
            return {}
        raise
    found: Mapping[str, Any] = stack
    return found


def _read(name: str, permission: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except AWS_ERRORS as error:
        return _unread(name, permission, error)


def _unread(name: str, permission: str, error: Exception) -> Check:
    is_denied = isinstance(error, ClientError) and error.response["Error"]["Code"] in DENIED
    why = f"it needs the permission {permission}" if is_denied else explain(error)
    return Check(name, Result.WARNING, f"not checked: {why}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Let a command take what says what is to be deployed."""
    parser.add_argument("--environment", default="default", help="of samconfig.toml")
    parser.add_argument("--parameters", default="", help="Name=value Name='a value with blanks'")
    parser.add_argument("--config-file", type=Path, default=CONFIG_FILE)


def main() -> int:
    """Check what the command line says; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m operations.preflight")
    add_arguments(parser)
    arguments = parser.parse_args()
    try:
        environment = read_environment(arguments.environment, arguments.config_file)
        signed_in = sign_in(region=environment.region, profile=environment.profile)
        parameters = read_parameters(arguments.parameters, template_parameters())
    except (UnusableInput, NotSignedIn) as error:
        print(error, file=sys.stderr)
        return 1
    return 0 if run(signed_in, environment, parameters) else 1


if __name__ == "__main__":
    sys.exit(main())
