"""Find a stack: on AWS by its name, or the one of `make up` on this machine."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from local.stack import current
from operations.identity import AWS_ERRORS, NotSignedIn, explain, sign_in
from tools.progress import STATE_DIR

# Of template.yaml, under every condition: what the commands read.
OUTPUTS = {
    "AdminApiFunctionName", "ApiUrl", "BackgroundDrainQueueUrl", "BatchDeadLetterQueueUrl", "BatchQueueUrl",
    "ConsoleUrl", "DeliveriesTableName", "DispatcherFunctionName", "DrainQueueUrl", "DrainerFunctionName",
    "EventBusArn", "EventBusName", "EventSource", "QuarantineQueueUrl", "RealtimeDeadLetterQueueUrl",
    "RealtimeQueueUrl", "WebhooksTableName",
}  # fmt: skip


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

    @property
    def place(self) -> str:
        """The account and the region, for people."""
        region, account = self.outputs["EventBusArn"].split(":")[3:5]
        return f"account {account}, region {region}"


def find_stack(name: str | None) -> FoundStack:
    """The stack `name` of the AWS account that one is signed in to; without a name the one of `make up`.

    Raises:
        SystemExit: there is none, it may not be seen, or it is no whole stack of template.yaml. Its text is
            one sentence.
    """
    client: Callable[..., Any]
    here: dict[str, Any] = {}
    where = ""
    if name is None:
        stack = current(STATE_DIR)
        if stack is None:
            raise SystemExit("No stack is up here. STACK=... names one on AWS.")
        here = stack.description
        name, client = str(here["stackName"]), stack.client
    else:
        client, where = _aws()
    try:
        (found,) = client("cloudformation").describe_stacks(StackName=name)["Stacks"]
    except AWS_ERRORS as error:
        raise SystemExit(explain(error).removesuffix(".") + f"{where}.") from error
    outputs = {each["OutputKey"]: each["OutputValue"] for each in found.get("Outputs", [])}
    if missing := OUTPUTS - outputs.keys():
        raise SystemExit(
            f"{name} is {found['StackStatus']}{where}, without the output {min(missing)}: it is no stack of"
            " this template.yaml, or was never deployed to its end."
        )
    return FoundStack(
        name,
        bool(here),
        client,
        outputs,
        {each["ParameterKey"]: each["ParameterValue"] for each in found.get("Parameters", [])},
        # On this machine the outputs have hosts that only AWS's name servers know.
        api_url=str(here.get("apiUrl") or outputs["ApiUrl"]),
        console_url=str(here.get("consoleUrl") or outputs["ConsoleUrl"]),
    )


def _aws() -> tuple[Callable[..., Any], str]:
    """What makes clients as `make deploy` would, and where, for people."""
    try:
        signed_in = sign_in()
    except NotSignedIn as error:
        raise SystemExit(str(error)) from error
    # With botocore's own patience: a cold function takes longer than the deployment's calls may.
    return (
        lambda service: signed_in.session.create_client(service, region_name=signed_in.region),
        f" in account {signed_in.account}, region {signed_in.region}",
    )
