"""Deploy an environment of samconfig.toml by sam, with one question: whether its change set is right.

    make deploy                                                     asks for the change set, and nothing else
    make deploy ENVIRONMENT=prod PARAMS="AlarmEmail=ops@example.com LogRetentionDays=90"
    make deploy GUIDED=1                                            sam asks for every parameter
    make deploy ENVIRONMENT=staging YES=1                           asks nothing

`make deploy` calls this twice: with --check before it builds, and to deploy what it has built. sam keeps the
values of a stack's parameters that are not given; a changed default of the template does not reach it.
"""

import argparse
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from operations.environments import (
    Environment,
    UnusableInput,
    read_environment,
    read_parameters,
    sam_overrides,
    template_parameters,
)
from operations.identity import AWS_ERRORS, NotSignedIn, explain, sign_in
from operations.preflight import add_arguments, run


def sam_command(
    environment: Environment,
    parameters: Mapping[str, str],
    *,
    region: str,
    config_file: Path,
    is_guided: bool = False,
    is_confirmed: bool = False,
) -> list[str]:
    """Return the call of sam. `is_confirmed` leaves its question about the change set out."""
    command = [
        "sam", "deploy",
        "--config-file", str(config_file), "--config-env", environment.name,
        "--region", region,
    ]  # fmt: skip
    if is_guided:
        command.append("--guided")
    else:
        command.append("--no-confirm-changeset" if is_confirmed else "--confirm-changeset")
    if parameters:
        # These replace those of samconfig.toml, so both go in.
        command += ["--parameter-overrides", *sam_overrides({**environment.parameters, **parameters})]
    return command


def main() -> int:
    """Check, or deploy, what the command line says; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m operations.deploy")
    add_arguments(parser)
    parser.add_argument("--check", action="store_true", help="only see whether it can be deployed")
    parser.add_argument("--guided", action="store_true", help="let sam ask for every parameter")
    parser.add_argument("--yes", action="store_true", help="deploy the change set unseen")
    parser.add_argument("--template-file", type=Path, help="else what `make build` has built")
    arguments = parser.parse_args()
    try:
        environment = read_environment(arguments.environment, arguments.config_file)
        if arguments.guided and arguments.yes:
            raise UnusableInput("GUIDED=1 asks and YES=1 does not: give one of them.")
        # Before the template is read, which takes longer than to find that there are no credentials.
        signed_in = sign_in(region=environment.region, profile=environment.profile)
        parameters = read_parameters(arguments.parameters, template_parameters())
        if not arguments.yes and not is_terminal(sys.stdin):
            raise UnusableInput("There is no terminal to confirm the change set at: YES=1 deploys it unseen.")
    except (UnusableInput, NotSignedIn) as error:
        print(error, file=sys.stderr)
        return 1
    if not arguments.check:
        command = sam_command(
            environment,
            parameters,
            region=signed_in.region,
            config_file=arguments.config_file,
            is_guided=arguments.guided,
            is_confirmed=arguments.yes,
        )
        template = ["--template-file", str(arguments.template_file)] if arguments.template_file else []
        code = call_sam([*command, *template])
        if code == 0:
            protect(signed_in.client("cloudformation"), environment.stack_name)
        return code
    return 0 if run(signed_in, environment, parameters, is_guided=arguments.guided) else 1


def call_sam(command: Sequence[str]) -> int:
    """Run sam to its end; return its exit code.

    The terminal sends Ctrl-C to sam too, which says what becomes of the deployment. So it must not end us
    first. A handler, since sam would inherit SIG_IGN and ignore Ctrl-C itself.
    """
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        code = subprocess.run(command, check=False).returncode  # noqa: S603  # no shell
    finally:
        signal.signal(signal.SIGINT, before)
    return 128 - code if code < 0 else code  # as a shell says that a signal ended it


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person is there. Python has no stream where the descriptor is closed, as by `<&-`."""
    return stream is not None and stream.isatty()


def protect(cloudformation: Any, stack_name: str) -> None:
    """Turn a prod stack's termination protection on, which sam has no option for.

    A stack of which nobody confirmed the first change set is left alone: it must be easy to delete. The
    deployment has succeeded by now, so a refusal is said and is no failure.
    """
    try:
        (stack,) = cloudformation.describe_stacks(StackName=stack_name)["Stacks"]
        stages = [each["ParameterValue"] for each in stack["Parameters"] if each["ParameterKey"] == "Stage"]
        if stages != ["prod"] or stack["StackStatus"] == "REVIEW_IN_PROGRESS":
            return
        if not stack.get("EnableTerminationProtection"):
            cloudformation.update_termination_protection(
                StackName=stack_name, EnableTerminationProtection=True
            )
            print(f"{stack_name} is protected from deletion.")
    except AWS_ERRORS as error:
        print(f"{stack_name} is deployed, and not protected from deletion: {explain(error)}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
