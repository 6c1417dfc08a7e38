"""Read what is to be deployed: an environment of samconfig.toml, and the parameters that are given beside it.

UnusableInput (an Exception: its text is one sentence for the person who typed it)
"""

import difflib
import re
import shlex
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.progress import REPOSITORY
from tools.template import read_template

CONFIG_FILE = REPOSITORY / "samconfig.toml"
TEMPLATE = REPOSITORY / "template.yaml"
PARAMS = "PARAMS"  # of `make`

_OF_THE_EMULATOR = "local"  # an environment of samconfig.toml that only `make up` deploys
_ASSIGNMENT = re.compile(r"([A-Za-z0-9]+)=(.*)", re.DOTALL)
# What sam cannot take in a value. It unescapes blanks and quotes only, and reads its own long form anywhere.
_LONG_FORM = "ParameterKey"  # sam reads this in place of Name=value where the text has it
_NOT_IN_A_VALUE = re.compile(r"[\\\x00-\x1f\x7f]|ParameterKey=")


class UnusableInput(Exception):
    """What was typed, or what samconfig.toml says, cannot be deployed."""


@dataclass(frozen=True, slots=True)
class Environment:
    """One environment of samconfig.toml. An empty region or profile leaves it to the AWS configuration."""

    name: str
    stack_name: str
    region: str
    profile: str
    parameters: Mapping[str, str]


def read_environment(name: str, config_file: Path = CONFIG_FILE) -> Environment:
    """Return an environment of `config_file`, with what sam would read of it.

    Raises:
        UnusableInput: there is none of this name, or its parameters cannot be read.
    """
    origin = config_file.name
    tables = _tables(config_file)
    names = [each for each, table in tables.items() if _is_for_aws(each, table)]
    if name not in names:
        raise UnusableInput(
            f"{origin} has no environment {name!r} for AWS: choose ENVIRONMENT={', '.join(names)}."
        )
    # As sam reads it: what holds for all commands, then what holds for `deploy`.
    options = {
        option: value
        for command in ("global", "deploy")
        for option, value in _table(
            _table(tables[name].get(command, {}), f"{origin}: [{name}.{command}]").get("parameters", {}),
            f"{origin}: [{name}.{command}.parameters]",
        ).items()
    }
    if not options.get("stack_name"):
        raise UnusableInput(
            f"{origin} gives no stack_name in [{name}.deploy.parameters]: name the stack there."
        )
    return Environment(
        name,
        stack_name=str(options["stack_name"]),
        region=str(options.get("region", "")),
        profile=str(options.get("profile", "")),
        parameters=_configured(options.get("parameter_overrides", []), origin),
    )


def _tables(config_file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(config_file.read_text())
    except OSError as error:
        raise UnusableInput(f"{config_file} cannot be read: {error.strerror}.") from error
    except ValueError as error:  # of TOML, or of UTF-8
        raise UnusableInput(f"{config_file} is no TOML: {error}.") from error


def _table(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UnusableInput(f"{what} is no table, so sam cannot read it.")
    return value


def read_parameters(text: str, known: Iterable[str], *, origin: str = PARAMS) -> dict[str, str]:
    """Return the values in `text`: `Name=value Name='a value with blanks'`, as a shell would part them.

    Raises:
        UnusableInput: it is written otherwise, or names a parameter that is not among `known`.
    """
    values = _assignments(text, origin)
    names = list(known)
    for name in values:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
            raise UnusableInput(
                f"{origin} sets {name}, which template.yaml does not have"
                + (f": did you mean {near[0]}?" if near else "; docs/configuration.md lists its parameters.")
            )
    return values


def template_parameters(template: Path = TEMPLATE) -> dict[str, str]:
    """Return the default of each parameter."""
    parameters: dict[str, dict[str, Any]] = read_template(template)["Parameters"]
    return {name: str(parameter.get("Default", "")) for name, parameter in parameters.items()}


def sam_overrides(parameters: Mapping[str, str]) -> list[str]:
    """Return the arguments of `sam deploy --parameter-overrides`. They replace those of samconfig.toml."""
    escaped = {name: value.replace('"', '\\"') for name, value in parameters.items()}
    return [f'{name}="{value}"' for name, value in escaped.items()]


def _is_for_aws(name: str, table: object) -> bool:
    return name != _OF_THE_EMULATOR and isinstance(table, dict) and "deploy" in table


def _configured(overrides: object, origin: str) -> dict[str, str]:
    """`sam deploy --guided` writes one text, people write a list or a table. sam takes all three."""
    match overrides:
        case dict():
            return _assignments(
                shlex.join(f"{name}={_as_text(value)}" for name, value in overrides.items()), origin
            )
        case list():
            return {
                name: value
                for each in overrides
                for name, value in (
                    _configured(each, origin) if isinstance(each, dict) else _assignments(str(each), origin)
                ).items()
            }
        case _:
            return _assignments(str(overrides), origin)


def _as_text(value: object) -> str:
    return ",".join(str(each) for each in value) if isinstance(value, list) else str(value)


def _assignments(text: str, origin: str) -> dict[str, str]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UnusableInput(f"{origin} cannot be read, {str(error).lower()}: {text}") from None
    values: dict[str, str] = {}
    for word in words:
        assignment = _ASSIGNMENT.fullmatch(word)
        if assignment is None:
            example = "Name='two words'"
            raise UnusableInput(
                f"{origin} has {word!r}, which is not Name=value: quote a value with blanks, as in "
                + (f'PARAMS="{example}".' if origin == PARAMS else f"{example}.")
            )
        name, value = assignment.groups()
        if name == _LONG_FORM:
            raise UnusableInput(f"{origin} has {word!r}: write Name=value in place of {_LONG_FORM}=.")
        if _NOT_IN_A_VALUE.search(value):
            raise UnusableInput(
                f"{origin} gives {name} a value that sam cannot take: use no backslash, control"
                " character or `ParameterKey=` in it."
            )
        values[name] = value
    return values
