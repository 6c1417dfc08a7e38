"""Import and init of each function as it is built and deployed, against the least that talks to AWS.

Each is a fresh Python without site-packages, as `make check` imports them: the function's build and the
layer's, bytecode as shipped, nothing written. The unit is `import boto3` and one client, from the same layer.
Processor time: init has a processor of its own on Lambda, and here others work beside it.
"""

import re
import subprocess
from pathlib import Path

from bench.figures import ROUNDS, Figure, Row, figure, ratio
from local import deploy
from local.check_build import environment_of
from local.steps import REPOSITORY, STATE_DIR
from local.template import read_template

_PYTHON = REPOSITORY / ".venv" / "bin" / "python"
_UNIT = "boto3 and one client"
_GOALS = {"dispatcher": 1.2, "batch": 1.2, "drainer": 1.2, "admin_api": 1.5}
_BOTO3 = "import boto3; boto3.client('dynamodb')"
_TIMED = """
import sys, time
sys.path[:0] = sys.argv[1:]
began = time.process_time()
{}
print((time.process_time() - began) * 1000, file=sys.stderr)
"""
_TOP = 10
_IMPORTED = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)")
# As Lambda does; without them botocore would look for a machine's own role, over the network.
_SIGNED_IN = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


def measure() -> Row:
    """Build, then start each in turn, some rounds long."""
    built_template = deploy.build(STATE_DIR)
    template = read_template(built_template)
    root = built_template.parent
    layer = root / "CoreLayer" / "python"
    programs: dict[str, tuple[str, dict[str, str], list[Path]]] = {}
    for name, resource in template["Resources"].items():
        if resource["Type"] == "AWS::Serverless::Function":
            function = re.sub(r"(?<!^)(?=[A-Z])", "_", name.removesuffix("Function")).lower()
            code = root / resource["Properties"]["CodeUri"]
            environment = environment_of(name, template) | _SIGNED_IN
            programs[function] = ("import app", environment, [code, layer])
    some = next(iter(programs.values()))
    programs = {_UNIT: (_BOTO3, some[1], [layer]), **programs}
    taken: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(ROUNDS + 1):
        for name, (statement, environment, paths) in programs.items():
            milliseconds = _start(_TIMED.format(statement), environment, paths)
            if number:  # the first reads from disk
                taken[name].append(milliseconds)
    figures: list[Figure] = [figure(name, values, "CPU ms") for name, values in taken.items()]
    figures += [
        ratio(f"{name} / {_UNIT}", taken[name], taken[_UNIT], at_most=goal) for name, goal in _GOALS.items()
    ]
    notes = [f"\n  most of {name} (ms, itself):\n{_top(*program)}" for name, program in programs.items()]
    return Row(figures, notes)


def _start(program: str, environment: dict[str, str], paths: list[Path], *options: str) -> float:
    return float(_run(program, environment, paths, *options).splitlines()[-1])


def _run(program: str, environment: dict[str, str], paths: list[Path], *options: str) -> str:
    """What a fresh Python says on its standard error."""
    done = subprocess.run(
        [_PYTHON, "-I", "-S", "-B", *options, "-c", program, *paths],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr


def _top(statement: str, environment: dict[str, str], paths: list[Path]) -> str:
    """The modules that take longest, without what they import."""
    lines = _run(_TIMED.format(statement), environment, paths, "-X", "importtime").splitlines()
    found = [_IMPORTED.fullmatch(line) for line in lines]
    times = sorted(((int(each[1]), each[2]) for each in found if each), reverse=True)
    return "\n".join(f"    {microseconds / 1000:6.1f}  {module}" for microseconds, module in times[:_TOP])
