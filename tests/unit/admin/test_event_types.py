"""Event types of the deployer's own: listed, described, subscribed to, tested, and taken away again."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from lms_webhooks.admin.event_types import read_event_types
from lms_webhooks.model.event_types import EVENT_TYPES
from tests.contract.template import REPOSITORY
from tests.logged import logged_lines
from tests.unit.admin_client import AdminClient, admin_client, admin_settings

REAL_TIME, NON_REAL_TIME = "BADGE_AWARDED", "ROLE:CHANGED"
UNKNOWN = "must be an event name that GET /v1/event-types lists"


@pytest.fixture(scope="module")
def shared_client() -> Iterator[AdminClient]:
    details = {
        NON_REAL_TIME: {
            "label": "A role changes",
            "translations": {"it": "Un ruolo cambia"},
            "sample": {"userId": 7},
        }
    }
    with admin_client(
        extra_event_types=f"{REAL_TIME},{NON_REAL_TIME}:non-real-time",
        extra_event_type_details=json.dumps(details),
    ) as client:
        yield client


def take_away(client: AdminClient, webhook_id: str, *, events: set[str]) -> None:
    """As if the webhook had been created while the catalogue had these types."""
    webhook = client.store.get("1010", webhook_id)
    client.store.update(replace(webhook, events=frozenset(events), version=2), expected=webhook)


def test_the_catalogue_lists_them_last_with_a_label_and_a_generic_sample(client: AdminClient) -> None:
    listed = client.call("GET", "/v1/event-types").body["eventTypes"]
    assert [each["eventName"] for each in listed] == [*EVENT_TYPES, REAL_TIME, NON_REAL_TIME]
    assert listed[-2:] == [
        {
            "eventName": REAL_TIME,
            "label": "Badge awarded",
            "category": "real-time",
            "sample": {"sample": True},
            "dataSchema": {
                "description": "What happened",
                "type": "object",
                "properties": {"sample": {"type": "boolean"}},
            },
        },
        {
            "eventName": NON_REAL_TIME,
            "label": "A role changes",
            "translations": {"it": "Un ruolo cambia"},
            "category": "non-real-time",
            "sample": {"userId": 7},
            "dataSchema": {
                "description": "What happened",
                "type": "object",
                "properties": {"userId": {"type": "number"}},
            },
        },
    ]


def test_the_description_names_them_wherever_it_names_event_types(client: AdminClient) -> None:
    description = client.call("GET", "/openapi.json").text
    assert description.count(f'"{REAL_TIME}"') == description.count('"LEARNER_PROGRESS"') > 1
    schema = json.loads(description)["components"]["schemas"]["WebhookInput"]
    assert schema["properties"]["events"]["items"]["enum"] == [*EVENT_TYPES, REAL_TIME, NON_REAL_TIME]


def test_a_webhook_takes_them_shows_them_and_is_tested_with_one(client: AdminClient) -> None:
    created = client.create(events=[NON_REAL_TIME, "CI_STATS", REAL_TIME])
    assert created.status == 201
    assert created.body["events"] == ["CI_STATS", REAL_TIME, NON_REAL_TIME]
    assert "unlistedEvents" not in created.body
    path = f"/v1/webhooks/{created.body['webhookId']}"
    assert client.call("POST", f"{path}/test", {"eventName": NON_REAL_TIME}).body["delivered"]
    (event,) = json.loads(client.posted[-1].body)["events"]
    assert (event["eventName"], event["data"]) == (NON_REAL_TIME, {"userId": 7})
    assert client.call("GET", f"{path}/deliveries?eventName={REAL_TIME}").status == 200
    preview = f"{path}/replay/preview?from=2026-11-01T00:00:00Z&eventName={REAL_TIME}"
    assert client.call("GET", preview).status == 200


def test_a_webhook_of_a_type_that_was_taken_away_stays_valid(client: AdminClient) -> None:
    webhook_id = client.create().body["webhookId"]
    path = f"/v1/webhooks/{webhook_id}"
    take_away(client, webhook_id, events={"COURSE_ENROLLMENT", "GONE"})
    for shown in (client.call("GET", path).body, client.call("GET", "/v1/webhooks").body["webhooks"][0]):
        assert shown["events"] == ["COURSE_ENROLLMENT", "GONE"]
        assert shown["unlistedEvents"] == ["GONE"]
    renamed = client.call("PATCH", path, {"name": "New", "events": ["GONE", "CI_STATS"]})
    assert (renamed.status, renamed.body["events"]) == (200, ["CI_STATS", "GONE"])
    refused = client.call("PATCH", path, {"events": ["GONE", "COURSE_EXPLODED"]})
    assert (refused.status, refused.errors) == (422, {"/events/1": UNKNOWN})
    without = client.call("PATCH", path, {"events": ["CI_STATS"]})
    assert "unlistedEvents" not in without.body
    again = client.call("PATCH", path, {"events": ["GONE"]})
    assert (again.status, again.errors) == (422, {"/events/0": UNKNOWN}), "it had given the type up"
    assert client.create(events=["GONE"]).errors == {"/events/0": UNKNOWN}


def test_a_webhook_of_nothing_but_a_type_that_was_taken_away_can_be_tested(client: AdminClient) -> None:
    webhook_id = client.create().body["webhookId"]
    take_away(client, webhook_id, events={"GONE"})
    assert client.call("POST", f"/v1/webhooks/{webhook_id}/test").body["delivered"]
    assert json.loads(client.posted[-1].body)["events"][0]["eventName"] == "GONE"


def test_the_preset_of_the_page_makes_a_webhook_that_waits_and_keeps_the_order(client: AdminClient) -> None:
    page = (REPOSITORY / "docs" / "admin-api.md").read_text()
    body = page.partition("<!-- preset -->\n```json\n")[2].partition("```")[0]
    created = client.call("POST", "/v1/webhooks", text=body)
    assert created.status == 201
    assert (created.body["status"], created.body["ordered"]) == ("inactive", True)
    active = client.call("PATCH", f"/v1/webhooks/{created.body['webhookId']}", {"status": "active"})
    assert active.status == 200


def test_a_mistake_in_their_labels_costs_the_labels_alone() -> None:
    settings = admin_settings(extra_event_types=REAL_TIME, extra_event_type_details="{")
    with logged_lines() as lines:
        assert read_event_types(settings).keys() == {*EVENT_TYPES, REAL_TIME}
    assert any("it is not JSON" in line.get("reason", "") for line in lines)
