"""Each permission that the template gives is used: one that nothing uses is not needed, and not missed.

By the stories, in which each call is judged; and by what happens in none of them.
"""

import pytest

from tests.contract import privileges
from tests.faults.faults import FaultWorld
from tests.faults.stories import STORIES
from tests.scenarios.endpoints import OK, Reply, in_turn
from tests.scenarios.world import MINUTE, World
from tests.unit.admin_client import VALID, admin_client

BY_LAMBDA = {"ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility", "GetQueueAttributes"}
"""What Lambda does with a function's role, to fetch its messages."""


def test_every_permission_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privileges, "used", set())
    for story in STORIES:
        with FaultWorld() as faulty:
            story.play(faulty)
            faulty.settle(at_most=story.settles_within)
    send_with_a_password()
    keep_bodies_of_failures()
    bury_what_was_on_its_way()
    keep_secrets_and_subscriptions(monkeypatch)
    granted = {each for each in privileges.granted() if each[1].partition(":")[2] not in BY_LAMBDA}
    assert granted - privileges.used == set()


def send_with_a_password() -> None:
    """At once and, after a pause, from what waits."""
    with World() as world:
        endpoint = world.endpoint()
        basic = {"type": "basic", "username": "ada", "password": "password"}
        world.register(endpoint, authentication=basic)
        world.register(world.endpoint("ordered"), authentication=basic, ordered=True)
        world.emit(1)
        world.run_until_quiet()
        assert len(world.posts()) == 2


def keep_bodies_of_failures() -> None:
    """Of a direct request, and of one from the backlog."""
    with World() as world:
        endpoint = world.endpoint()
        webhook = world.register(endpoint)
        world.change(webhook, keep_response_bodies=True)
        endpoint.script = in_turn(Reply(503, body="down"), Reply(503, body="down again"), OK)
        world.emit(1)
        world.run_until_quiet()
        assert world.outcomes(webhook) == {"delivered": 1}


def bury_what_was_on_its_way() -> None:
    """An event comes again, whose webhook was deleted since it came first."""
    with World() as world:
        webhook = world.register(world.endpoint())
        with world.fault("dynamodb", function="dispatcher"):
            world.emit(1)
            world.run(MINUTE)
        world.delete(webhook)
        world.run(10 * MINUTE)
        assert world.posts() == []


def keep_secrets_and_subscriptions(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an admin does that makes a call of KMS or SNS."""
    with admin_client() as admin:
        basic = {"type": "basic", "username": "ada", "password": "password"}
        created = admin.create(**VALID | {"authentication": basic})
        assert admin.call("POST", f"/v1/webhooks/{created.body['webhookId']}/test", {}).status == 200
        path = "/v1/notice-subscriptions"
        added = [admin.call("POST", path, {"email": f"{name}@example.com"}) for name in ("ada", "eve")]
        assert admin.call("GET", path).status == 200
        confirmed, unconfirmed = (f"{path}/{each.body['subscriptionId']}" for each in added)
        assert admin.call("DELETE", confirmed).status == 204

        def refuse(**_: str) -> None:
            error = {"Error": {"Code": "InvalidParameter", "Message": "pending confirmation"}}
            raise admin.sns.exceptions.InvalidParameterException(error, "Unsubscribe")  # type: ignore[arg-type]

        monkeypatch.setattr(admin.sns, "unsubscribe", refuse)
        assert admin.call("DELETE", unconfirmed).status == 204
