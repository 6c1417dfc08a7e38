"""Times are read as RFC 3339 writes them, and as nothing else: by the code as by the API's description."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from lms_webhooks.admin.query_parameters import parse_time_ms
from lms_webhooks.timestamps import read_rfc3339
from tests.unit.moments import BAD_MOMENTS, GOOD_MOMENTS
from tools.openapi import describe


@pytest.fixture(scope="module")
def described() -> list[Draft202012Validator]:
    """What the description says of each time that the API takes."""
    description = describe()
    replay = description["components"]["schemas"]["ReplayInput"]["properties"]
    listed: list[dict[str, Any]] = description["paths"]["/v1/webhooks/{webhookId}/deliveries"]["get"][
        "parameters"
    ]
    schemas = [each["schema"] for each in listed if each["name"] in ("from", "to")]
    return [Draft202012Validator(each) for each in (*schemas, replay["from"], replay["to"])]


@pytest.mark.parametrize(("text", "milliseconds"), GOOD_MOMENTS.items())
def test_what_rfc_3339_calls_a_time_is_one(
    text: str, milliseconds: int, described: list[Draft202012Validator]
) -> None:
    assert parse_time_ms(text) == milliseconds
    assert [each.is_valid(text) for each in described] == [True] * 4


@pytest.mark.parametrize("text", [*BAD_MOMENTS, "2026-11-03T12:00:00"])
def test_what_it_does_not_is_none(text: str, described: list[Draft202012Validator]) -> None:
    assert read_rfc3339(text) is None
    assert parse_time_ms(text) is None
    assert [each.is_valid(text) for each in described] == [False] * 4


# To ECMAScript, whose expressions schemas have, $ is the end of a text. Python lets a line break follow.
@pytest.mark.parametrize("text", ["2026-02-30T12:00:00Z", "2026-11-03T12:00:00Z\n"])
def test_what_no_schema_can_see_the_code_does(text: str) -> None:
    assert read_rfc3339(text) is None
    assert parse_time_ms(text) is None
