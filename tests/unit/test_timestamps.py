"""Times are read as RFC 3339 writes them, and as nothing else."""

import pytest

from lms_webhooks.admin.parameters import read_moment
from lms_webhooks.timestamps import read_rfc3339

LAST_MS = 10**13 - 1


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("2026-11-03T12:00:00Z", 1_793_707_200_000),
        ("2026-11-03t12:00:00z", 1_793_707_200_000),
        ("2026-11-03T13:00:00.25+01:00", 1_793_707_200_250),
        ("2026-11-03T12:00:00-00:00", 1_793_707_200_000),
        ("2016-12-31T23:59:60Z", 1_483_228_800_000),
        ("2017-01-01t05:29:60.5+05:30", 1_483_228_800_500),
        ("2026-11-03T12:00:00.0001Z", 1_793_707_200_001),  # the first event that is not before it
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00+01:00", 0),
        ("0001-01-01T00:00:00+14:00", 0),
        ("9999-12-31T23:59:59-14:00", LAST_MS),
    ],
)
def test_what_rfc_3339_calls_a_time_is_one(text: str, milliseconds: int) -> None:
    assert read_moment(text) == milliseconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-03",
        "2026-11-03T12:00:00",
        "2026-11-03T12:00Z",
        "2026-11-03 12:00:00Z",
        "2026-11-03T12:00:00 01:00",
        "2026-11-03T12:00:00 +01:00",
        "2026-11-03T12:00:00+0100",
        "2026-11-03T12:00:00+01",
        "2026-11-03T12:00:00+24:00",
        "2026-11-03T12:00:00,5Z",
        "2026-11-03T12:00:00.Z",
        "2026-11-03T24:00:00Z",
        "2026-11-03T12:00:61Z",
        "2026-02-30T12:00:00Z",
        "20261103T120000Z",
        "2026-W45-2T12:00:00Z",
        "2026-11-03T12:00:00Z\n",
        "٢٠٢٦-11-03T12:00:00Z",
        "1793707200",
    ],
)
def test_what_it_does_not_is_none(text: str) -> None:
    assert read_rfc3339(text) is None
    assert read_moment(text) is None
