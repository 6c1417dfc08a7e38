"""An admin sees how much waits for a webhook, without a long backlog costing a long read."""

from collections.abc import Iterator
from itertools import batched

import pytest

from lms_webhooks.model.lanes import Lane, PendingEvent
from tests.engines.dynamodb import Engine
from tests.unit.admin_client import AdminClient, admin_client
from tests.unit.tables import NOW_MS, event


@pytest.fixture
def client(dynamodb: Engine) -> Iterator[AdminClient]:
    with admin_client("waiting", dynamodb=dynamodb) as client:
        yield client


def wait(client: AdminClient, webhook_id: str, lane: Lane, events: int) -> None:
    for numbers in batched(range(events), 25, strict=False):
        client.backlog.append(webhook_id, lane, [PendingEvent(event(f"e{number}")) for number in numbers])
    client.backlog.set_marker("1010", webhook_id, lane, accepted_at_ms=NOW_MS)


def test_nothing_waits_for_a_new_webhook(client: AdminClient) -> None:
    created = client.create().body
    nothing = {"count": 0, "atLeast": False, "lanes": {}}
    assert created["pending"] == nothing
    assert client.call("GET", f"/v1/webhooks/{created['webhookId']}").body["pending"] == nothing


def test_what_waits_is_counted_by_lane_in_the_order_of_service(client: AdminClient) -> None:
    webhook_id = client.create().body["webhookId"]
    wait(client, webhook_id, Lane.BATCH, 2)
    wait(client, webhook_id, Lane.REALTIME, 100)
    expected = {
        "count": 102,
        "atLeast": False,
        "lanes": {
            "realtime": {"count": 100, "atLeast": False},
            "batch": {"count": 2, "atLeast": False},
        },
    }
    path = f"/v1/webhooks/{webhook_id}"
    shown = client.call("GET", path).body["pending"]
    assert shown == expected
    assert list(shown["lanes"]) == ["realtime", "batch"]
    assert client.call("GET", "/v1/webhooks").body["webhooks"][0]["pending"] == expected
    assert client.call("PATCH", path, {"name": "Payroll"}).body["pending"] == expected


@pytest.mark.slow
def test_a_list_counts_less_far_than_a_single_webhook(client: AdminClient) -> None:
    """An outage may leave millions pending: then the response says how many at least."""
    webhook_id = client.create().body["webhookId"]
    wait(client, webhook_id, Lane.REALTIME, 1001)
    single = client.call("GET", f"/v1/webhooks/{webhook_id}").body["pending"]
    assert single["lanes"] == {"realtime": {"count": 1000, "atLeast": True}}
    assert (single["count"], single["atLeast"]) == (1000, True)
    (listed,) = client.call("GET", "/v1/webhooks").body["webhooks"]
    assert listed["pending"]["lanes"] == {"realtime": {"count": 100, "atLeast": True}}
