"""Import each function as it is deployed: its own build and the layer's, on a Python with nothing else.

The emulator runs functions beside packages of its own, so what the layer lacks would go unnoticed there.
"""

import os
import subprocess
from pathlib import Path
from typing import Any

from tools.progress import REPOSITORY, StepFailedError, step
from tools.template import read_template

_PYTHON = REPOSITORY / ".venv" / "bin" / "python"
_BYTECODE = "__pycache__/{}.cpython-313.pyc"
_ARCHITECTURES = ("aarch64", "x86_64")

# Isolated and without site-packages; then only what Lambda would put on the path.
_IMPORT = "import sys; sys.path[:0] = sys.argv[2:]; __import__(sys.argv[1])"


def check_build(built_template: Path) -> None:
    """Check every function and every layer of a built template.

    Raises:
        StepFailedError: naming the function, with its traceback.
    """
    template = read_template(built_template)
    root = built_template.parent
    resources = template["Resources"]
    layers = [
        root / resource["Properties"]["ContentUri"]
        for resource in resources.values()
        if resource["Type"] == "AWS::Serverless::LayerVersion"
    ]
    for layer in layers:
        with step(f"native modules of {layer.name} for both architectures"):
            _check_native_modules(layer)
        with step(f"bytecode of {layer.name}"):
            _check_bytecode(layer)
    shared = template.get("Globals", {}).get("Function", {})
    for name, resource in resources.items():
        if resource["Type"] == "AWS::Serverless::Function":
            with step(f"importing {name} in a bare Python"):
                _check_import(name, shared, resource["Properties"], template, root, layers)


def _check_native_modules(layer: Path) -> None:
    names = {
        architecture: {
            path.relative_to(layer).as_posix().replace(architecture, "*")
            for path in layer.rglob(f"*{architecture}*.so")
        }
        for architecture in _ARCHITECTURES
    }
    first, second = _ARCHITECTURES
    if not names[first] or names[first] != names[second]:
        raise StepFailedError(f"layer {layer.name}: native modules differ by architecture: {names}")


def _check_bytecode(layer: Path) -> None:
    without = [
        path for path in layer.rglob("*.py") if not (path.parent / _BYTECODE.format(path.stem)).exists()
    ]
    if without:
        raise StepFailedError(
            f"layer {layer.name}: no bytecode for {len(without)} modules, such as {without[0]}"
        )


def _check_import(
    name: str,
    shared: dict[str, Any],
    properties: dict[str, Any],
    template: dict[str, Any],
    root: Path,
    layers: list[Path],
) -> None:
    module = (properties.get("Handler") or shared["Handler"]).rpartition(".")[0]
    code = root / properties["CodeUri"]
    paths = [code, *(layer / "python" for layer in layers)]
    done = subprocess.run(
        [_PYTHON, "-I", "-S", "-B", "-c", _IMPORT, module, *paths],
        env=environment_of(name, template),
        cwd=code,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise StepFailedError(f"importing {name} as built:\n{done.stderr}")


def environment_of(name: str, template: dict[str, Any]) -> dict[str, str]:
    """What a function of a built template might find in its environment."""
    shared = template.get("Globals", {}).get("Function", {})
    properties = template["Resources"][name]["Properties"]
    variables = {
        **shared.get("Environment", {}).get("Variables", {}),
        **properties.get("Environment", {}).get("Variables", {}),
    }
    environment = {key: _plausible(value, template.get("Parameters", {})) for key, value in variables.items()}
    return environment | {
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_LAMBDA_FUNCTION_NAME": name,
        "PATH": os.environ["PATH"],
    }


def _plausible(value: object, parameters: dict[str, Any]) -> str:
    """What the variable might hold on AWS: its text, its parameter's default, or a name."""
    match value:
        case {"Ref": str(name)}:
            return str(parameters.get(name, {}).get("Default", "dummy"))
        case {"Fn::If": ["IsLocal", _, str(on_aws)]}:
            return on_aws
        case dict():
            return "dummy"
        case _:
            return str(value)
