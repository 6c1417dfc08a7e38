"""The page for those who come from Adobe Learning Manager names a test for each row of its tables."""

import re

import pytest

from tests.contract.template import REPOSITORY

PAGE = REPOSITORY / "docs" / "adobe.md"
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.read_text().splitlines()
    if line.startswith("| ") and not line.startswith(("| what | ", "| field | "))
]


def test_its_tables_are_read() -> None:
    assert len(ROWS) > 25


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_each_row_has_a_test(row: list[str]) -> None:
    if row[-1].strip("| ") == "the same":
        return
    named = re.fullmatch(r"`(tests/[a-z0-9_/]+\.py)::(test_\w+)`", row[-1].strip("| "))
    assert named, row[-1]
    assert f"\ndef {named[2]}(" in (REPOSITORY / named[1]).read_text(), row[-1]
