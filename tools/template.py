"""Read a CloudFormation template, ours or a built one, as plain data."""

from pathlib import Path
from typing import Any

import yaml


class _Loader(yaml.CSafeLoader):
    """Knows the short forms of intrinsic functions: `!GetAtt A.Arn` becomes {"Fn::GetAtt": ["A", "Arn"]}."""


def _intrinsic(loader: _Loader, tag: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    match node:
        case yaml.ScalarNode():
            value = loader.construct_scalar(node)
        case yaml.SequenceNode():
            value = loader.construct_sequence(node, deep=True)
        case yaml.MappingNode():
            value = loader.construct_mapping(node, deep=True)
        case _:
            raise AssertionError(node)
    if tag == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {tag if tag in ("Ref", "Condition") else f"Fn::{tag}": value}


_Loader.add_multi_constructor("!", _intrinsic)


def read_template(path: Path) -> dict[str, Any]:
    """The template at `path`, with every intrinsic function in its long form."""
    template: dict[str, Any] = yaml.load(path.read_text(), _Loader)  # noqa: S506  # which is a SafeLoader
    return template
