"""What this version cannot read costs its own webhook, whatever came with it in a batch."""

from typing import Any

import pytest

from lms_webhooks.model.lanes import Lane
from tests.scenarios.world import ACCOUNT, HOUR, MINUTE, WEBHOOKS, World

OTHER = "2020"

UNKNOWN = {
    "status": ("WEBHOOK", {"status": {"S": "archived"}}),
    "authentication": ("WEBHOOK", {"authentication": {"M": {"type": {"S": "oauth2"}}}}),
    "damage": ("WEBHOOK", {"headers": {"S": "none"}}),
    "mode": ("HEALTH", {"mode": {"S": "trickle"}}),
    "switched off": ("HEALTH", {"switched_off": {"S": "budget"}}),
    "attempt": ("HEALTH", {"attempts": {"L": [{"S": "v2"}]}}),
}


def unreadable(world: World, webhook: str, kind: str, attributes: dict[str, Any]) -> dict[str, Any]:
    """Let an item of a webhook say what this version does not know; return what stood there."""
    return world.rewrite(WEBHOOKS, f"ACCOUNT#{ACCOUNT}", f"{kind}#{webhook}", **attributes)


@pytest.mark.parametrize(("kind", "attributes"), UNKNOWN.values(), ids=UNKNOWN)
def test_an_item_of_a_newer_version_costs_its_own_webhook(
    world: World, kind: str, attributes: dict[str, Any]
) -> None:
    """One event of its account and nine of another, in one batch. Before, each of the nine was sent 50 times,
    and ended as a dead letter."""
    broken, beside, other = world.endpoint("broken"), world.endpoint("beside"), world.endpoint("other")
    webhook = world.register(broken)
    world.register(beside)
    world.register(other, account=OTHER)
    before = unreadable(world, webhook, kind, attributes)
    own, others = world.emit(1), world.emit(9, account=OTHER)
    world.run(6 * HOUR)
    assert other.acknowledged == others
    assert beside.acknowledged == own
    assert broken.posts == []
    assert world.realtime_queue.messages == world.realtime_queue.dead == []
    assert world.metrics["InternalErrors"] > 0
    assert world.waiting_ids(webhook) == own
    left = world.stored(WEBHOOKS, before["pk"]["S"], before["sk"]["S"])
    assert left is not None
    ticket = {"ticket", "ticket_until_ms"}  # of the drain message: no part of what is known of the endpoint
    assert {name: left[name] for name in left if name not in ticket} == before | attributes
    # The newer version comes back, or somebody mends the item.
    world.rewrite(WEBHOOKS, before["pk"]["S"], before["sk"]["S"], **before)
    world.run_until_quiet(at_most=10 * MINUTE)
    assert broken.acknowledged == own
    assert world.duplicates() == 0
    assert world.problems() == []


def test_where_not_even_its_events_can_be_read_the_messages_of_its_account_return(world: World) -> None:
    """There is no other place for them. What others got is on record, so it is not sent again."""
    broken, beside, other = world.endpoint("broken"), world.endpoint("beside"), world.endpoint("other")
    webhook = world.register(broken)
    world.register(beside)
    world.register(other, account=OTHER)
    before = unreadable(world, webhook, "WEBHOOK", {"events": {"S": "all"}})
    own, others = world.emit(1), world.emit(9, account=OTHER)
    world.run(HOUR)
    assert len(world.realtime_queue.messages) == 1
    world.rewrite(WEBHOOKS, before["pk"]["S"], before["sk"]["S"], **before)
    world.run_until_quiet(at_most=10 * MINUTE)
    assert (broken.acknowledged, beside.acknowledged, other.acknowledged) == (own, own, others)
    assert len(other.posts) == 9


def test_an_inactive_webhook_that_cannot_be_read_takes_nothing(world: World) -> None:
    webhook = world.register(world.endpoint())
    unknown = {"status": {"S": "inactive"}, "authentication": {"M": {"type": {"S": "oauth2"}}}}
    unreadable(world, webhook, "WEBHOOK", unknown)
    world.refused = {(webhook, event_id) for event_id in world.emit(1)}
    world.run(MINUTE)
    assert world.waiting_ids(webhook, *Lane) == []
    assert world.realtime_queue.messages == []


def test_a_drainer_leaves_what_waits_for_a_webhook_that_it_cannot_read(world: World) -> None:
    """It is not deleted: nothing that waits for it is recorded as failed, and nothing expires unseen."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint, ordered=True)
    before = unreadable(world, webhook, "WEBHOOK", {"status": {"S": "archived"}})
    ids = world.emit(3)
    world.send_for_drainer(webhook)
    world.run(HOUR)
    assert (world.waiting_ids(webhook), world.history(webhook), endpoint.posts) == (ids, {}, [])
    world.rewrite(WEBHOOKS, before["pk"]["S"], before["sk"]["S"], **before)
    world.run_until_quiet(at_most=10 * MINUTE)
    assert endpoint.acknowledged == ids
