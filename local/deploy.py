"""Build and deploy the real template to the emulator, make the two admins, and write down where all is."""

import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import boto3
import yaml

from local.emulator_process import Emulator, log_file
from local.tls import Tls
from local.users import add_to_group, make_user, new_password
from tools.progress import REPOSITORY, STATE_DIR, run, step
from tools.template import read_template

REGION = "us-east-1"
STACK_NAME = "lms-webhooks-local"
ACCOUNT_IDS = ("1010", "2020")
BATCH_EVERY_MINUTES = 1
BATCH_SCHEDULE_SECONDS = 120  # a slot comes each minute, and the sweep within a minute after it
ADMIN_GROUP = "integration-admin"

_BIN = REPOSITORY / ".venv" / "bin"
_SAM_CONFIG = REPOSITORY / "samconfig.toml"

# Key of stack.json <- output of the stack. What a template does not have yet, the file has not either.
_TABLES = {"webhooks": "WebhooksTableName", "deliveries": "DeliveriesTableName"}
_QUEUES = {
    "realtime": "RealtimeQueueUrl",
    "realtimeDeadLetter": "RealtimeDeadLetterQueueUrl",
    "batch": "BatchQueueUrl",
    "drain": "DrainQueueUrl",
    "backgroundDrain": "BackgroundDrainQueueUrl",
    "quarantine": "QuarantineQueueUrl",
}
_FUNCTIONS = {
    "adminApi": "AdminApiFunctionName",
    "dispatcher": "DispatcherFunctionName",
    "batch": "BatchFunctionName",
    "drainer": "DrainerFunctionName",
}

# What the template says of the pool's client, but for the addresses that only AWS can give it.
_KEPT_OF_CLIENT = (
    "ClientName", "ExplicitAuthFlows", "PreventUserExistenceErrors", "ReadAttributes", "WriteAttributes",
    "IdTokenValidity", "AccessTokenValidity", "TokenValidityUnits", "AllowedOAuthFlowsUserPoolClient",
    "AllowedOAuthFlows", "AllowedOAuthScopes", "SupportedIdentityProviders",
)  # fmt: skip


def build(state_dir: Path, *, template: Path = REPOSITORY / "template.yaml") -> Path:
    """Build `template`; return the built template.

    Every state folder gets a copy of one cached build, so that what did not change is not built again.
    """
    shared = STATE_DIR / "sam"
    shared.mkdir(parents=True, exist_ok=True)
    command: list[str | Path] = [
        _BIN / "sam", "build", "--cached",
        "--config-file", _SAM_CONFIG, "--config-env", "local",
        "--template-file", template,
        "--build-dir", shared / "build",
        "--cache-dir", shared / "cache",
    ]  # fmt: skip
    build_dir = state_dir / "build"
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        log = state_dir / "logs" / "build.log"
        run("building the functions and the layer (sam build)", command, log=log, env=environment())
        shutil.rmtree(build_dir, ignore_errors=True)
        shutil.copytree(shared / "build", build_dir)
    built_template = build_dir / "template.yaml"
    _forget_publication(built_template)
    return built_template


def _forget_publication(built_template: Path) -> None:
    """Take out what only `sam publish` reads. Its paths hold for the folder that sam has built in alone."""
    content = read_template(built_template)
    if content.get("Metadata", {}).pop("AWS::ServerlessRepo::Application", None):
        built_template.write_text(yaml.safe_dump(content, sort_keys=False))


def deploy(
    state_dir: Path, emulator: Emulator, tls: Tls, built_template: Path, *, extra_event_types: str = ""
) -> dict[str, Any]:
    """Deploy and write `stack.json`; return what is in it."""
    outputs = deploy_stack(
        state_dir,
        emulator.endpoint_url,
        built_template,
        trusted_ca_file=tls.ca_file,
        parameters={"ExtraEventTypes": extra_event_types} if extra_event_types else {},
    )
    with step("making the admins of accounts " + " and ".join(ACCOUNT_IDS), log=log_file(state_dir)):
        _lead_sign_in_here(emulator, outputs)
        admins = [_make_admin(emulator, outputs["UserPoolId"], account_id) for account_id in ACCOUNT_IDS]
    description = describe(emulator.endpoint_url, outputs) | {
        "extraEventTypes": extra_event_types,
        "tls": tls.as_json(),
        "admins": admins,
    }
    stack_file = state_dir / "stack.json"
    stack_file.touch(mode=0o600)
    stack_file.write_text(json.dumps(description, indent=2) + "\n")
    return description


def deploy_stack(
    state_dir: Path,
    endpoint_url: str,
    built_template: Path,
    *,
    trusted_ca_file: Path,
    stack_name: str = STACK_NAME,
    parameters: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """Deploy the built template, with `parameters` besides those that this machine asks for; return its
    outputs."""
    # A bucket of our own: `resolve_s3` would deploy a second stack just to have one.
    bucket = f"{STACK_NAME}-artifacts"
    client(endpoint_url, "s3").create_bucket(Bucket=bucket)
    overrides = {
        "Stage": "local",
        # Each worker of the emulator is a process: more of them than cores only start up more slowly.
        "DispatcherMaximumConcurrency": "4",
        # Nobody watches for a quarter of an hour.
        "BatchEveryMinutes": str(BATCH_EVERY_MINUTES),
    }
    overrides |= parameters
    run(
        "deploying the stack (sam deploy)",
        [
            _BIN / "sam", "deploy",
            "--config-file", _SAM_CONFIG, "--config-env", "local",
            "--template-file", built_template,
            "--stack-name", stack_name,
            "--s3-bucket", bucket,
            "--parameter-overrides", *(f"{name}={value}" for name, value in overrides.items()),
        ],
        log=state_dir / "logs" / "deploy.log",
        env=environment() | {"AWS_ENDPOINT_URL": endpoint_url},
    )  # fmt: skip
    restate_concurrency(endpoint_url)
    outputs = outputs_of(endpoint_url, stack_name)
    _lead_functions_here(endpoint_url, outputs, trusted_ca_file)
    return outputs


def api_url(endpoint_url: str, outputs: Mapping[str, str]) -> str:
    """The admin API of a stack: its output has the host that AWS would give it, which only DNS tricks would
    lead here. Without the stage, whose `$` a shell would take for its own."""
    return f"{endpoint_url}/_aws/execute-api/{outputs['ApiId']}"


def client(endpoint_url: str, service: str) -> Any:
    """A boto3 client of `service` for the emulator at `endpoint_url`."""
    return boto3.client(
        service,  # type: ignore[call-overload]  # the stubs want a literal
        endpoint_url=endpoint_url,
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106  # the emulator's, public
    )


def environment() -> dict[str, str]:
    """For sam: its Python is the one it builds with, and the emulator's credentials are the only ones."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return inherited | {
        "PATH": f"{_BIN}:{os.environ.get('PATH', '')}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        "SAM_CLI_TELEMETRY": "0",
        "SAM_CLI_POLL_DELAY": "0.3",
    }


def outputs_of(endpoint_url: str, stack_name: str) -> dict[str, str]:
    """The outputs of a deployed stack."""
    stacks = client(endpoint_url, "cloudformation").describe_stacks(StackName=stack_name)["Stacks"]
    return {output["OutputKey"]: output["OutputValue"] for output in stacks[0]["Outputs"]}


def restate_concurrency(endpoint_url: str) -> None:
    """Tell the emulator each event source's concurrency as a number.

    From a parameter it takes it as text, compares that with a number, and polls the queue never. Of the
    dispatchers of non-real-time events two do on one machine, where each is a process.
    """
    functions = client(endpoint_url, "lambda")
    for mapping in functions.list_event_source_mappings()["EventSourceMappings"]:
        if concurrency := mapping.get("ScalingConfig", {}).get("MaximumConcurrency"):
            of_batch_queue = "-BatchQueue-" in mapping["EventSourceArn"]
            functions.update_event_source_mapping(
                UUID=mapping["UUID"],
                ScalingConfig={"MaximumConcurrency": 2 if of_batch_queue else int(concurrency)},
            )


def _lead_functions_here(endpoint_url: str, outputs: Mapping[str, str], trusted_ca_file: Path) -> None:
    """Let the functions that send trust this machine's CA, and the console sign in at the emulator: no
    deployment on AWS asks for either, so the template has no parameter for them."""
    functions = client(endpoint_url, "lambda")
    for output in ("AdminApiFunctionName", "DispatcherFunctionName", "DrainerFunctionName"):
        name = outputs[output]
        variables = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
        variables["TRUSTED_CA_FILE"] = str(trusted_ca_file)
        if variables.get("SIGN_IN_URL"):
            variables["SIGN_IN_URL"] = endpoint_url
        functions.update_function_configuration(FunctionName=name, Environment={"Variables": variables})


def _lead_sign_in_here(emulator: Emulator, outputs: dict[str, str]) -> None:
    """Let the console sign in at the address that it has on this machine, which no template can know."""
    cognito = client(emulator.endpoint_url, "cognito-idp")
    ids = {"UserPoolId": outputs["UserPoolId"], "ClientId": outputs["UserPoolClientId"]}
    known = cognito.describe_user_pool_client(**ids)["UserPoolClient"]
    # What an update does not name goes back to its default.
    kept = {name: known[name] for name in _KEPT_OF_CLIENT if name in known}
    here = [f"{api_url(emulator.endpoint_url, outputs)}/console"]
    cognito.update_user_pool_client(**ids, **kept, CallbackURLs=here, LogoutURLs=here)


def _make_admin(emulator: Emulator, user_pool_id: str, account_id: str) -> dict[str, str]:
    cognito = client(emulator.endpoint_url, "cognito-idp")
    username = f"admin-{account_id}@example.com"  # the pool's user names are mail addresses
    password = new_password()
    make_user(cognito, user_pool_id, email=username, account_id=account_id, password=password)
    add_to_group(cognito, user_pool_id, email=username, group=ADMIN_GROUP)
    return {"accountId": account_id, "username": username, "password": password}


def describe(
    endpoint_url: str, outputs: Mapping[str, str], *, stack_name: str = STACK_NAME
) -> dict[str, Any]:
    """What `stack.json` says of a stack, without its admins and the certificates of this machine."""

    def present(names: dict[str, str]) -> dict[str, str]:
        return {key: outputs[output] for key, output in names.items() if output in outputs}

    return {
        "endpointUrl": endpoint_url,
        "region": REGION,
        "stackName": stack_name,
        "apiUrl": api_url(endpoint_url, outputs),
        "consoleUrl": f"{api_url(endpoint_url, outputs)}/console",
        "eventBusName": outputs["EventBusName"],
        "eventSource": outputs["EventSource"],
        "userPoolId": outputs["UserPoolId"],
        "clientId": outputs["UserPoolClientId"],
        "tables": present(_TABLES),
        "queues": present(_QUEUES),
        "functions": present(_FUNCTIONS),
        "batchScheduleSeconds": BATCH_SCHEDULE_SECONDS,
    }
