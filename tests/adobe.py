"""The samples of its webhooks that Adobe publishes, as `tests/data/adobe_samples.json` quotes them."""

import json
from pathlib import Path
from typing import Any

SAMPLES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "data" / "adobe_samples.json").read_text()
)["samples"]
"""Each with the `page` that it is from, and the `body` of the request: one event."""


def name_of(sample: dict[str, Any]) -> str:
    """The type of its event."""
    name: str = sample["body"]["events"][0]["eventName"]
    return name
