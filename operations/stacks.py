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

    name: str
    is_local: bool
    """It is the one of `make up`, whose functions reach this machine's receivers."""
    client: Callable[..., Any]
    """Makes a client of the service that is named."""
    outputs: dict[str, str]
    parameters: dict[str, str]
    api_url: str
    console_url: str


def find_stack(name: str | None) -> FoundStack:
    """The stack `name` of the AWS account that one is signed in to; without a name the one of `make up`.

    Raises:
        SystemExit: none is up here.
        botocore.exceptions.ClientError: there is none of this name, or one may not see it.
    """
    client: Callable[..., Any] = boto3.client
    here: dict[str, Any] = {}
    if name is None:
        stack = current(STATE_DIR)
        if stack is None:
            raise SystemExit("No stack is up here. STACK=... names one on AWS.")
        here = stack.description
        name, client = str(here["stackName"]), stack.client
    (found,) = client("cloudformation").describe_stacks(StackName=name)["Stacks"]
    outputs = {each["OutputKey"]: each["OutputValue"] for each in found.get("Outputs", [])}
    return FoundStack(
        name,
        bool(here),
        client,
        outputs,
        {each["ParameterKey"]: each["ParameterValue"] for each in found.get("Parameters", [])},
        # On this machine the outputs have hosts that only AWS's name servers know.
        api_url=str(here.get("apiUrl") or outputs.get("ApiUrl", "")),
        console_url=str(here.get("consoleUrl") or outputs.get("ConsoleUrl", "")),
    )
