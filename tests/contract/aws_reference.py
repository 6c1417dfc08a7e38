"""What AWS itself says of resource types and of actions, as cfn-lint ships it.

The registry schema of a type says which permissions its handlers need: CloudFormation uses those of its
caller, or of the role that it is given. The Service Authorization Reference says which resources an action
knows. requirements/dev.txt locks cfn-lint, so both change with its version, and nowhere else.
"""

import json
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def _path_of(module: str) -> Path:
    """Where a module is. To import cfn-lint or sam takes a second and more, in each process of the tests."""
    spec = find_spec(module)
    assert spec is not None, module
    assert spec.origin is not None, module
    return Path(spec.origin)


_DATA = _path_of("cfnlint").parent / "data"
_HANDLERS = ("create", "read", "update", "delete")


def source_of(module: str) -> str:
    """The code of a module of sam's."""
    return _path_of(module).read_text()


@cache
def schema(resource_type: str) -> dict[str, Any]:
    """The registry schema of a type, of us-east-1."""
    index = json.loads((_DATA / "schemas" / "providers" / "us-east-1.json").read_text())
    found: dict[str, Any] = json.loads(
        (_DATA / "schemas" / "resources" / f"{index[resource_type]}.json").read_text()
    )
    return found


def handlers_permissions(resource_type: str) -> set[str]:
    """What the handlers need that create, read, update, delete or tag such a resource, in small letters."""
    found = schema(resource_type)
    asked = [found["handlers"].get(handler, {}).get("permissions", []) for handler in _HANDLERS]
    asked.append(found.get("tagging", {}).get("permissions", []))
    return {permission.lower() for permissions in asked for permission in permissions}


def properties_named_in(resource_type: str) -> set[str]:
    """Every property of a type, those of its parts too."""
    names: set[str] = set()

    def look(value: object) -> None:
        if isinstance(value, dict):
            if isinstance(properties := value.get("properties"), dict):
                names.update(properties)
            for each in value.values():
                look(each)
        elif isinstance(value, list):
            for each in value:
                look(each)

    look(schema(resource_type))
    return names


@cache
def _reference() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((_DATA / "AdditionalSpecs" / "Policies.json").read_text())
    return found


def is_known(action: str) -> bool:
    """Whether the Service Authorization Reference has it."""
    service, _, name = action.lower().partition(":")
    return name in _reference().get(service, {}).get("Actions", {})


def arn_patterns(action: str) -> list[re.Pattern[str]]:
    """The ARNs that an action can be allowed for; nothing where only `*` grants it."""
    service, _, name = action.lower().partition(":")
    of_service = _reference()[service]
    formats = [
        text
        for resource in of_service["Actions"][name].get("Resources", [])
        for text in of_service["Resources"][resource.lower()]["ARNFormats"]
    ]
    return [re.compile(re.sub(r"\$\{\w+\}", "[^:]*", text)) for text in formats]
