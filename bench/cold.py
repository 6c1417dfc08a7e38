"""Import and init of each function as it is built and deployed, against the least that talks to AWS.

The unit is `import boto3` and one client: boto3 as pip installs it, compiled. Twice over:

- in a fresh Python without site-packages, as `make check` imports the functions: the function's build and the
  layer's, bytecode as shipped, nothing written. Processor time: others work beside it
- under the emulator of Lambda's runtime interface, by the client that AWS's runtime has: its INIT, and the
  processor time until the first invocation ended

And of one: as shipped, where nothing can be written, against where Python has left its own bytecode.
"""

import os
import re
import shutil
import socket
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.results import ROUNDS, Figure, Row, figure, ratio
from local import deploy
from tools.check_build import environment_of
from tools.progress import REPOSITORY, STATE_DIR
from tools.template import read_template

PEERS = STATE_DIR / "bench"
"""The environment of requirements/bench.txt."""
_PYTHON = REPOSITORY / ".venv" / "bin" / "python"
_SITE = next((REPOSITORY / ".venv" / "lib").glob("python3*/site-packages"))
_UNIT = "boto3 and one client"
_UNIT_PACKAGES = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3", "six.py")
_UNIT_APP = (
    "import boto3\n\nboto3.client('dynamodb')\n\n\ndef lambda_handler(event, context):\n    return event\n"
)
_GOALS = {"dispatcher": 1.2, "batch": 1.2, "drainer": 1.2, "admin_api": 1.5}
_WARM = "dispatcher"  # held against itself with warm bytecode
_TIMED = """
import sys, time
sys.path[:0] = sys.argv[1:]
began = time.process_time()
import app
print((time.process_time() - began) * 1000, file=sys.stderr)
"""
_TOP = 10
_IMPORTED = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)")
_INIT = re.compile(r"INIT REPORT\(durationMs: ([0-9.]+)\)")
_PATIENCE_SECONDS = 30
_NOTHING_TO_DO = b'{"Records": []}'  # without it the batch function would sweep: calls of AWS, for seconds
# As Lambda does; without them botocore would look for a machine's own role, over the network.
_SIGNED_IN = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


@dataclass(frozen=True)
class _Program:
    """A folder with an app.py, the folder of what it imports, and its environment."""

    code: Path
    layer: Path
    environment: dict[str, str]


def measure() -> Row:
    """Build, then start each in turn, some rounds long."""
    programs = _functions()
    with TemporaryDirectory() as folder:
        some = programs[_WARM]
        unit = _Program(*_unit(Path(folder, "unit")), some.environment)
        warm = _Program(some.code, _warmed(some, Path(folder, "warm")), some.environment)
        programs = {_UNIT: unit, **programs, f"{_WARM}, warm bytecode": warm}
        taken: dict[str, list[float]] = {name: [] for name in programs}
        inits: dict[str, list[float]] = {name: [] for name in programs}
        init_cpu: dict[str, list[float]] = {name: [] for name in programs}
        for number in range(ROUNDS + 1):
            for name, program in programs.items():
                milliseconds = float(_run(program).splitlines()[-1])
                init, cpu = _emulated_init(program, Path(folder, "emulator.log"))
                if number:  # the first reads from disk
                    taken[name].append(milliseconds)
                    inits[name].append(init)
                    init_cpu[name].append(cpu)
        figures: list[Figure] = [figure(name, values, "CPU ms") for name, values in taken.items()]
        figures += [figure(f"{name}, INIT", values, "ms") for name, values in inits.items()]
        figures += [figure(f"{name}, emulated, CPU", values, "CPU ms") for name, values in init_cpu.items()]
        for name, goal in _GOALS.items():
            figures += [
                ratio(f"{name} / {_UNIT}", taken[name], taken[_UNIT], at_most=goal),
                # Other work on the machine stretches the time: the goal is one of processor time.
                ratio(f"{name} / {_UNIT}, emulated, CPU", init_cpu[name], init_cpu[_UNIT], at_most=goal),
                ratio(f"{name} / {_UNIT}, INIT", inits[name], inits[_UNIT], is_compared=False),
            ]
        as_shipped = taken[_WARM], taken[f"{_WARM}, warm bytecode"]
        figures.append(ratio(f"{_WARM} as shipped / with warm bytecode", *as_shipped, at_most=1.05))
        notes = [f"\n  most of {name} (ms, itself):\n{_top(program)}" for name, program in programs.items()]
        return Row(figures, notes)


def _functions() -> dict[str, _Program]:
    built_template = deploy.build(STATE_DIR)
    template = read_template(built_template)
    root = built_template.parent
    layer = root / "CoreLayer" / "python"
    programs = {}
    for name, resource in template["Resources"].items():
        if resource["Type"] == "AWS::Serverless::Function":
            function = re.sub(r"(?<!^)(?=[A-Z])", "_", name.removesuffix("Function")).lower()
            code = root / resource["Properties"]["CodeUri"]
            programs[function] = _Program(code, layer, environment_of(name, template) | _SIGNED_IN)
    return programs


def _unit(folder: Path) -> tuple[Path, Path]:
    """What everybody's function with a client of AWS imports, and the function."""
    site = folder / "site"
    site.mkdir(parents=True)
    for name in _UNIT_PACKAGES:
        if (_SITE / name).is_dir():
            shutil.copytree(_SITE / name, site / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(_SITE / name, site)
    compiled: list[str | Path] = [
        _PYTHON,
        "-m",
        "compileall",
        "-q",
        "--invalidation-mode",
        "unchecked-hash",
        site,
    ]
    subprocess.run(compiled, check=True, env=_without("PYTHONPYCACHEPREFIX"))
    code = folder / "code"
    code.mkdir()
    (code / "app.py").write_text(_UNIT_APP)
    return code, site


def _warmed(program: _Program, folder: Path) -> Path:
    """The layer with bytecode that Python wrote when it imported the function."""
    shutil.copytree(program.layer, folder, ignore=shutil.ignore_patterns("__pycache__"))
    command: list[str | Path] = [_PYTHON, "-I", "-S", "-c", _TIMED, program.code, folder]
    subprocess.run(command, env=program.environment, cwd=program.code, capture_output=True, check=True)
    shutil.rmtree(program.code / "__pycache__", ignore_errors=True)
    if not (folder / "lms_webhooks" / "__pycache__").is_dir():
        raise RuntimeError("Python wrote no bytecode")
    return folder


def _without(name: str) -> dict[str, str]:
    return {each: value for each, value in os.environ.items() if each != name}


def _run(program: _Program, *options: str) -> str:
    """What a fresh Python says on its standard error."""
    command: list[str | Path] = [
        _PYTHON,
        "-I",
        "-S",
        "-B",
        *options,
        "-c",
        _TIMED,
        program.code,
        program.layer,
    ]
    done = subprocess.run(command, env=program.environment, capture_output=True, text=True, check=True)
    return done.stderr


def _emulated_init(program: _Program, log: Path) -> tuple[float, float]:
    """Milliseconds that the emulator says INIT took, and of processor time, at a first invocation."""
    ports = _free_ports()
    environment = program.environment | {
        "LAMBDA_TASK_ROOT": str(program.code),
        "PYTHONPATH": f"{program.code}:{program.layer}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "AWS_LAMBDA_FUNCTION_TIMEOUT": str(_PATIENCE_SECONDS),
    }
    with log.open("w") as written:
        emulator = subprocess.Popen(
            [
                _emulator(log.parent),
                "--runtime-interface-emulator-address", f"127.0.0.1:{ports[0]}",
                "--runtime-api-address", f"127.0.0.1:{ports[1]}",
                "--log-level", "info",
                PEERS / "bin" / "python", "-m", "awslambdaric", "app.lambda_handler",
            ],
            cwd=program.code, env=environment, stdout=written, stderr=written,
        )  # fmt: skip
        try:
            _await(ports[0])
            url = f"http://127.0.0.1:{ports[0]}/2015-03-31/functions/function/invocations"
            # INIT happens at the first invocation; what the handler makes of this one is not asked.
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(url, _NOTHING_TO_DO, timeout=_PATIENCE_SECONDS) as answer:
                answer.read()
        finally:
            emulator.terminate()
            _, status, used = os.wait4(emulator.pid, 0)
            emulator.returncode = os.waitstatus_to_exitcode(status)
    if not (found := _INIT.search(log.read_text())):
        raise RuntimeError(f"the emulator reported no INIT:\n{log.read_text()}")
    return float(found[1]), (used.ru_utime + used.ru_stime) * 1000


def _emulator(folder: Path) -> Path:
    """The emulator that comes with the SAM CLI, which installs it without the right to execute it."""
    machine = "arm64" if os.uname().machine in {"arm64", "aarch64"} else "x86_64"
    emulator = folder / "emulator"
    if not emulator.exists():
        shutil.copy(_SITE / "samcli" / "local" / "rapid" / f"aws-lambda-rie-{machine}", emulator)
        emulator.chmod(0o755)
    return emulator


def _free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]


def _await(port: int) -> None:
    ends_at = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            if time.monotonic() > ends_at:
                raise
            time.sleep(0.01)
        else:
            return


def _top(program: _Program) -> str:
    """The modules that take longest, without what they import."""
    found = [_IMPORTED.fullmatch(line) for line in _run(program, "-X", "importtime").splitlines()]
    times = sorted(((int(each[1]), each[2]) for each in found if each), reverse=True)
    return "\n".join(f"    {microseconds / 1000:6.1f}  {module}" for microseconds, module in times[:_TOP])
