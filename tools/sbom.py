"""Write down what is in the built layer, as CycloneDX 1.6: `.aws-sam/sbom.json`, made by `make build`.

From what was installed, not from what was asked for. The same layer gives the same bytes.

No tool of the field writes it: cyclonedx-py describes the environment of an interpreter, and the layer is a
folder without one. pip-audit takes a folder, and asks a service on the network about each package.
"""

import json
import re
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

from tools.progress import REPOSITORY

BUILD_DIR = REPOSITORY / ".aws-sam"
_SITE = Path("build", "CoreLayer", "python")
_ASKED_FOR = REPOSITORY / "layers" / "core" / "requirements.in"
_VERSION = re.compile(r'^__version__ = "(.+)"$', re.MULTILINE)
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def bill_of(site: Path) -> dict[str, Any]:
    """The bill of materials of the packages in a folder."""
    packages = {_normal(each.name): each for each in distributions(path=[str(site)])}
    version = _VERSION.search((site / "lms_webhooks" / "__init__.py").read_text())
    assert version is not None
    us = f"lms-webhooks@{version[1]}"
    asked_for = sorted(set(asked_for_names()) & packages.keys())
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {"type": "application", "bom-ref": us, "name": "lms-webhooks", "version": version[1]}
        },
        "components": [_component(packages[name]) for name in sorted(packages)],
        "dependencies": [
            {"ref": us, "dependsOn": [_purl(packages[name]) for name in asked_for]},
            *(_dependencies(packages[name], packages) for name in sorted(packages)),
        ],
    }


def asked_for_names() -> list[str]:
    """The packages that the layer's code imports by itself."""
    lines = _ASKED_FOR.read_text().splitlines()
    return [_normal(name[0]) for line in lines if not line.startswith("#") and (name := _NAME.match(line))]


def _component(package: Distribution) -> dict[str, Any]:
    found = {
        "type": "library",
        "bom-ref": _purl(package),
        "name": _normal(package.name),
        "version": package.version,
        "purl": _purl(package),
    }
    said = package.metadata.get("License-Expression")
    if said:
        return found | {"licenses": [{"expression": said}]}
    # Of the older fields some hold the whole text of a licence: its first line is its name.
    said = package.metadata.get("License") or next(
        (
            each.rpartition(" :: ")[2]
            for each in package.metadata.get_all("Classifier") or []
            if each.startswith("License :: OSI Approved")
        ),
        None,
    )
    return found | ({"licenses": [{"license": {"name": said.splitlines()[0]}}]} if said else {})


def _dependencies(package: Distribution, packages: dict[str, Distribution]) -> dict[str, Any]:
    # Extras that nobody asked for, and what only other systems need, are not among what was installed.
    needed = {
        _normal(name[0])
        for each in package.requires or []
        if "extra ==" not in each and (name := _NAME.match(each))
    }
    return {
        "ref": _purl(package),
        "dependsOn": [_purl(packages[name]) for name in sorted(needed & packages.keys())],
    }


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _purl(package: Distribution) -> str:
    return f"pkg:pypi/{_normal(package.name)}@{package.version}"


def main() -> int:
    """Write the bill of the build, and print how many packages it has."""
    bill = bill_of(BUILD_DIR / _SITE)
    target = BUILD_DIR / "sbom.json"
    target.write_text(json.dumps(bill, indent=2) + "\n")
    of_us, *_ = bill["dependencies"]
    count, asked_for = len(bill["components"]), len(of_us["dependsOn"])
    print(f"The layer imports {asked_for} packages, and with what these need it has {count}.")
    print(f"Written down in {target.relative_to(REPOSITORY)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
