"""Imports run one way, from a package to those below it."""

import re

import pytest

from tools.progress import REPOSITORY

CORE = "layers/core/lms_webhooks"
FUNCTIONS = "dispatcher", "drainer", "batch", "admin"
ABOVE = {"": ("model", "aws", "stores", "sending", *FUNCTIONS), "stores": ("sending", *FUNCTIONS)}
ABOVE |= {"model": ABOVE[""][1:], "aws": ABOVE[""][2:], "sending": ("stores", *FUNCTIONS)}
ABOVE |= {name: tuple({*FUNCTIONS} - {name}) for name in FUNCTIONS}
FORBIDDEN = {f"{CORE}/{each}": rf"lms_webhooks(?:\.| import )(?:{'|'.join(ABOVE[each])})" for each in ABOVE}
FORBIDDEN |= {"tools": "local|operations|bench", "local": "operations|bench"}
SLOW = r"pydantic|aws_lambda_powertools\.event_handler"  # to import: for the admin API alone


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_nothing_imports_what_stands_above_it(folder: str) -> None:
    names = FORBIDDEN[folder] + (f"|{SLOW}" if CORE in folder and "admin" not in folder else "")
    upward = re.compile(rf"(?m)^\s*(?:from|import) (?:{names})\b.*")
    found = [(each.name, upward.findall(each.read_text())) for each in (REPOSITORY / folder).glob("*.py")]
    assert [(name, lines) for name, lines in found if lines] == []
