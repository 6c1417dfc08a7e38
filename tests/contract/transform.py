"""What CloudFormation makes of the template: after SAM's transform, and as it goes to prod."""

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from samtranslator.translator.transform import transform

from tests.contract.template import TEMPLATE
from tools.canary import make_canary
from tools.template import read_template

type Resources = dict[str, dict[str, Any]]


class _NoManagedPolicies:
    """No function has one: SAM asks for what it could look up."""

    def load(self) -> dict[str, str]:
        return {}


def plain(template: dict[str, Any]) -> dict[str, Any]:
    """A SAM template as CloudFormation, with its code in S3 and its parameters at their defaults."""
    template = json.loads(json.dumps(template))
    for resource in template["Resources"].values():
        for where in {"CodeUri", "ContentUri"} & resource.get("Properties", {}).keys():
            resource["Properties"][where] = f"s3://bucket/{resource['Properties'][where]}"
    defaults = {name: str(parameter["Default"]) for name, parameter in template["Parameters"].items()}
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")  # the translator asks for one
        made: dict[str, Any] = transform(template, defaults, _NoManagedPolicies())
    return made


def transformed(template: dict[str, Any]) -> Resources:
    """The resources that CloudFormation makes of a template."""
    resources: Resources = plain(template)["Resources"]
    return resources


def canary(folder: Path, release: str) -> Resources:
    """The same of a template that is deployed gradually."""
    built = folder / f"{release}.yaml"
    built.write_text(yaml.safe_dump(TEMPLATE, sort_keys=False))
    make_canary(built, release=release)
    return transformed(read_template(built))


@cache
def deployed() -> Resources:
    """What goes to staging."""
    return transformed(TEMPLATE)


@cache
def deployed_gradually() -> Resources:
    """What goes to prod."""
    with TemporaryDirectory() as folder:
        return canary(Path(folder), "release-1")
