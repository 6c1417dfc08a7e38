"""The catalogue is complete, and everything that is generated from it is fresh."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lms_webhooks.model.event_types import (
    EVENT_TYPES,
    NON_REAL_TIME,
    REAL_TIME,
    Category,
    EventType,
    InvalidDetails,
    with_details,
    with_extra_types,
)
from tools.samples import DIRECTORY, SCHEMAS, file_name, files

LAYER = Path(__file__).parents[3] / "layers" / "core"


def test_the_catalogue_lists_one_category_after_the_other() -> None:
    assert tuple(EVENT_TYPES) == REAL_TIME + NON_REAL_TIME
    assert {
        name for name, event_type in EVENT_TYPES.items() if event_type.category is Category.REAL_TIME
    } == set(REAL_TIME)


def test_a_batch_type_carries_what_its_real_time_type_carries() -> None:
    pairs = [(name, name.removesuffix("_BATCH")) for name in NON_REAL_TIME if name.endswith("_BATCH")]
    assert pairs
    for batch, real_time in pairs:
        assert EVENT_TYPES[batch].sample.keys() == EVENT_TYPES[real_time].sample.keys()


@pytest.mark.parametrize("path", files(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_generated_file_is_what_the_command_writes(path: Path) -> None:
    assert path.read_text() == files()[path], "run make generate"


@pytest.mark.parametrize("event_type", EVENT_TYPES.values(), ids=lambda event_type: event_type.name)
def test_a_sample_is_an_event_of_its_type(event_type: EventType) -> None:
    (entry,) = json.loads((DIRECTORY / file_name(event_type)).read_text())
    detail = json.loads(entry["Detail"])
    assert entry["DetailType"] == detail["eventName"] == event_type.name
    assert {"accountId", "eventId", "timestamp", "eventInfo", "data"} < detail.keys()


def test_the_id_of_a_group_event_is_the_one_that_its_caller_gave() -> None:
    """As in Adobe's samples, which have it as `eventInfo` too."""
    sample = EVENT_TYPES["RESPONSE:ASYNCAPI_USERGROUP_USER_ADDED"].sample_event("sync-7")
    assert sample["data"]["request"]["metadata"] == {"event_id": "sync-7"}
    assert sample["eventInfo"] == sample["eventId"] == "sync-7"


def test_no_generated_file_is_left_over() -> None:
    for folder in (DIRECTORY, SCHEMAS):
        assert set(folder.iterdir()) == {path for path in files() if path.parent == folder}


@pytest.mark.parametrize("module", ["model.event_types", "dispatcher.dispatcher", "aws.kms"])
def test_deliveries_do_not_pay_for_the_admin_apis_imports(module: str) -> None:
    heavy = {"pydantic", "aws_lambda_powertools.event_handler", "zoneinfo", "tzdata"}
    code = f"import sys, lms_webhooks.{module}; print({heavy} & set(sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(LAYER)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "set()"


def test_who_changes_a_sample_changes_their_own() -> None:
    event = EVENT_TYPES["COURSE_COMPLETED"].sample_event()
    event["data"]["note"] = "mine"
    assert "note" not in EVENT_TYPES["COURSE_COMPLETED"].sample


def test_a_deployers_own_types_come_behind_and_change_none_of_the_catalogues() -> None:
    extra = "ROLE:CHANGED:non-real-time,COURSE_ENROLLMENT:non-real-time,badge.awarded"
    catalogue = with_extra_types(extra)
    assert [*catalogue] == [*EVENT_TYPES, "ROLE:CHANGED", "badge.awarded"]
    assert catalogue["COURSE_ENROLLMENT"] is EVENT_TYPES["COURSE_ENROLLMENT"]
    own = [(each.label, each.category) for each in list(catalogue.values())[-2:]]
    assert own == [("Role changed", Category.NON_REAL_TIME), ("Badge.awarded", Category.REAL_TIME)]
    assert with_extra_types("") == EVENT_TYPES


def test_labels_and_samples_are_given_to_the_deployers_own_types_alone() -> None:
    catalogue = with_extra_types("BADGE,SYNC:non-real-time")
    sample = {"userId": 7, "badge": {"id": 4711}}
    details = {
        "BADGE": {"label": "Learner gets a badge", "translations": {"it": "Distintivo"}, "sample": sample},
        "COURSE_ENROLLMENT": {"label": "Mine"},
        "GONE": {"label": "Gone"},
    }
    described = with_details(catalogue, json.dumps(details))
    assert described["BADGE"].sample_event()["data"] == sample
    assert (described["BADGE"].label, described["BADGE"].translations) == (
        "Learner gets a badge",
        {"it": "Distintivo"},
    )
    others = described.keys() - {"BADGE"}
    assert all(described[name] is catalogue[name] for name in others)
    assert with_details(catalogue, "") == with_details(catalogue, "{}") == catalogue


@pytest.mark.parametrize("request_", ["text", None, {"id": 7}])
def test_a_deployers_sample_stays_as_it_is_whatever_it_calls_its_fields(request_: object) -> None:
    details = json.dumps({"BADGE": {"sample": {"request": request_}}})
    badge = with_details(with_extra_types("BADGE"), details)["BADGE"]
    assert badge.sample_event("e1")["data"] == {"request": request_}


@pytest.mark.parametrize(
    ("details", "said"),
    [
        ("{", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ('{"BADGE": {"sample": {"points": NaN}}}', "it is not JSON"),
        ('{"BADGE": {"sample": {"points": 1e999}}}', "it is not JSON"),
        ("[]", "it must be an object"),
        ('{"BADGE": "x"}', "'BADGE' must be an object"),
        ('{"BADGE": {"labels": {}}}', "'BADGE' has 'labels'; it may have label, translations and sample"),
        ('{"BADGE": {"label": 7}}', "a label of 'BADGE' must be text of 1 to 140 characters"),
        ('{"BADGE": {"label": ""}}', "a label of 'BADGE' must be text of 1 to 140 characters"),
        ('{"BADGE": {"translations": {"it": null}}}', "a label of 'BADGE' must be text"),
        ('{"BADGE": {"translations": "it"}}', "translations of 'BADGE' must be an object"),
        ('{"BADGE": {"sample": [1]}}', "sample of 'BADGE' must be an object"),
    ],
)
def test_a_mistake_in_labels_and_samples_is_named(details: str, said: str) -> None:
    with pytest.raises(InvalidDetails, match=said):
        with_details(with_extra_types("BADGE"), details)
