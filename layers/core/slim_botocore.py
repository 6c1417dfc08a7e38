"""Leave of botocore's data only what calls need: `slim_botocore.py <data folder> <service>...`.

botocore reads and parses these files at each cold start: the descriptions of the services' operations, most
of which is their documentation, gzipped, and where the endpoints of all services of AWS are. What is left
means the same to it.
"""

import gzip
import json
import sys
from pathlib import Path
from typing import Any


def slim(data: Path, services: set[str]) -> None:
    """Rewrite the files below `data`, for calls of `services`."""
    for packed in sorted(data.rglob("*.json.gz")):
        described = _without_documentation(json.loads(gzip.decompress(packed.read_bytes())))
        _write(packed.with_suffix(""), described)
        packed.unlink()
    for examples in data.rglob("examples-1.json"):
        examples.unlink()
    endpoints = data / "endpoints.json"
    known = json.loads(endpoints.read_text())
    for partition in known["partitions"]:
        partition["services"] = {
            name: where for name, where in partition["services"].items() if name in services
        }
    _write(endpoints, known)


def _without_documentation(described: Any) -> Any:
    """`described` without its texts. A member that has the name `documentation` is no text, and stays."""
    if isinstance(described, dict):
        return {
            name: _without_documentation(value)
            for name, value in described.items()
            if not (name == "documentation" and isinstance(value, str))
        }
    if isinstance(described, list):
        return [_without_documentation(each) for each in described]
    return described


def _write(path: Path, described: Any) -> None:
    path.write_text(json.dumps(described, separators=(",", ":")))


if __name__ == "__main__":
    slim(Path(sys.argv[1]), set(sys.argv[2:]))
