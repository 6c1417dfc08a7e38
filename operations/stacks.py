"""Find a stack: on AWS by its name, or the one of `make up` on this machine."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import boto3

from local.stack import current
from local.steps import STATE_DIR


@dataclass(frozen=True, slots=True)
class FoundStack:
    """A stack that is there, and how to talk to what is in it."""

    client: Callable[..., Any]
    """Makes a client of the service that is named."""
    outputs: dict[str, str]
    parameters: dict[str, str]


def find_stack(name: str | None) -> FoundStack:
    """The stack `name` of the AWS account that one is signed in to; without a name the one of `make up`.

    Raises:
        SystemExit: none is up here.
        botocore.exceptions.ClientError: there is none of this name, or one may not see it.
    """
    client: Callable[..., Any] = boto3.client
    if name is None:
        stack = current(STATE_DIR)
        if stack is None:
            raise SystemExit("No stack is up here. STACK=... names one on AWS.")
        name, client = str(stack.description["stackName"]), stack.client
    (found,) = client("cloudformation").describe_stacks(StackName=name)["Stacks"]
    return FoundStack(
        client,
        {each["OutputKey"]: each["OutputValue"] for each in found["Outputs"]},
        {each["ParameterKey"]: each["ParameterValue"] for each in found.get("Parameters", [])},
    )
