"""What an admin changes is in force within seconds, and late news about what was before changes nothing."""

from collections.abc import Callable
from typing import Any

import pytest

from lms_webhooks.model.health import Mode
from lms_webhooks.model.lanes import Lane
from lms_webhooks.model.webhooks import Status
from lms_webhooks.stores.webhook_cache import MAX_AGE_SECONDS
from tests.scenarios.endpoints import DOWN, OK, Reply, always, until
from tests.scenarios.world import DAY, HOUR, MINUTE, NON_REAL_TIME, SIGNED, Call, World

IN_FORCE_SECONDS = 10.0  # what is promised


def test_pause_fifty_events_resume(world: World) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    before = world.emit(2)
    world.run(5)
    world.change(webhook, status=Status.PAUSED)
    world.run(3)
    during = []
    for _ in range(10):
        during += world.emit(5)
        world.run(MINUTE)
    assert endpoint.acknowledged == before
    assert world.waiting_ids(webhook) == during
    world.change(webhook, status=Status.ACTIVE)
    world.run(75)
    assert endpoint.acknowledged == before + during
    assert world.outcomes(webhook) == {"delivered": 52}
    assert world.health(webhook).mode is Mode.DIRECT


def test_a_paused_webhook_keeps_its_other_lanes_too(world: World) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = always(Reply(422))
    world.emit(2)
    world.run(2)
    world.change(webhook, status=Status.PAUSED)
    world.emit(2, name=NON_REAL_TIME)
    posts = len(endpoint.posts)
    world.run(DAY)
    assert len(endpoint.posts) == posts
    assert len(world.waiting_ids(webhook, Lane.RETRY)) == 2
    assert len(world.waiting_ids(webhook, Lane.BATCH)) == 2
    endpoint.script = always(OK)
    world.change(webhook, status=Status.ACTIVE)
    world.run(20 * MINUTE)
    assert world.outcomes(webhook) == {"delivered": 4}


def test_an_inactive_webhook_takes_and_sends_nothing(world: World) -> None:
    """What waits already stays, and goes out when it is switched on again in time."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = always(DOWN)
    waiting = world.emit(5)
    world.run(5)
    world.change(webhook, status=Status.INACTIVE)
    world.run(3)
    posts = len(endpoint.posts)
    unwanted = [*world.emit(5), *world.emit(5, name=NON_REAL_TIME)]
    world.refused |= {(webhook, each) for each in unwanted}
    world.run(3 * DAY)
    assert len(endpoint.posts) == posts
    assert world.waiting_ids(webhook) == waiting
    endpoint.script = always(OK)
    world.change(webhook, status=Status.ACTIVE)
    world.run(75)
    assert endpoint.acknowledged == waiting
    assert world.outcomes(webhook) == {"delivered": 5}


def test_what_waits_for_an_inactive_webhook_expires(world: World) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = always(DOWN)
    world.emit(5)
    world.run(5)
    world.change(webhook, status=Status.INACTIVE)
    world.run(8 * DAY)
    assert world.outcomes(webhook) == {"expired": 5}
    assert world.marks(webhook) == {}


def test_a_deleted_webhook_leaves_all_that_waits_as_failed(world: World) -> None:
    """Events wait in all three lanes when the webhook is deleted."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = always(Reply(422))
    ids = world.emit(3)
    world.run(3)
    endpoint.script = always(DOWN)
    ids += world.emit(50)
    ids += world.emit(20, name=NON_REAL_TIME)
    world.run(20)
    lanes = (Lane.REALTIME, Lane.BATCH, Lane.RETRY)  # the fourth is for what has an outcome already
    assert all(world.waiting_ids(webhook, lane) for lane in lanes)
    world.delete(webhook)
    posts = len(endpoint.posts)
    world.run(2 * MINUTE)
    history = world.history(webhook)
    assert set(history) == set(ids)
    assert {(each.outcome, each.reason) for each in history.values()} == {
        ("failed", "the webhook was deleted")
    }
    assert world.marks(webhook) == {}
    assert len(endpoint.posts) == posts
    assert world.metrics["EventsFailed"] == 73


def test_an_event_on_its_way_to_a_deleted_webhook_is_buried_too(world: World) -> None:
    """A dispatcher remembers the webhook for a second more, and appends."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint, status=Status.PAUSED)
    first = world.emit(1)
    world.run(MAX_AGE_SECONDS / 2)
    world.delete(webhook)
    second = world.emit(1)
    world.run(3 * MINUTE)
    assert set(world.history(webhook)) == {*first, *second}
    assert world.outcomes(webhook) == {"failed": 2}
    assert world.marks(webhook) == {}


def test_an_event_whose_message_comes_again_after_the_deletion_is_buried_too(world: World) -> None:
    """Its dispatcher was killed while it sent. A webhook that did not ask for it gets none."""
    endpoint = world.endpoint()
    endpoint.script = always(Reply(seconds=3))
    webhook = world.register(endpoint)
    other = world.register(world.endpoint("other"), events=[NON_REAL_TIME])
    world.emit(1)
    world.run(1)
    assert world.kill("dispatcher") == 1
    world.delete(webhook)
    world.delete(other)
    world.run(10 * MINUTE)
    assert world.outcomes(webhook) == {"failed": 1}
    assert world.outcomes(other) == {}
    assert world.marks(webhook) == {}


def test_a_webhook_that_is_deleted_in_the_middle_of_a_drain(world: World) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = until(world.now + 4, DOWN, Reply(seconds=0.5))
    world.emit(1500)
    world.run(4)
    world.time.at(world.now + 6, lambda: world.delete(webhook))
    deleted_at = world.now + 6
    world.run(3 * MINUTE)
    assert max(post.started_at for post in endpoint.posts) < deleted_at + IN_FORCE_SECONDS
    outcomes = world.outcomes(webhook)
    assert outcomes["delivered"] == len(endpoint.acknowledged)
    assert outcomes["failed"] == 1500 - outcomes["delivered"] > 0
    assert world.marks(webhook) == {}


def test_a_burial_that_cannot_be_written_down_comes_again(world: World) -> None:
    """DynamoDB refuses the records of a deleted webhook for a while: nothing disappears with its mark."""
    webhook = world.register(world.endpoint(), status=Status.PAUSED)
    world.emit(30)
    world.run(5)
    world.delete(webhook)
    with world.fault("dynamodb", function="drainer", operations=("BatchWriteItem",)):
        world.run(5 * MINUTE)
        assert world.problems() == []
        assert world.history(webhook) == {}
    world.run(6 * MINUTE)
    assert world.outcomes(webhook) == {"failed": 30}
    assert world.marks(webhook) == {}


def test_a_changed_url_gets_the_rest_of_a_drain(world: World) -> None:
    """The URL changes while a drain is under way: nothing more goes to the old one once that is seen. The
    new one gets all the others, in order, beginning with a single event."""
    old, new = world.endpoint("old"), world.endpoint("new")
    webhook = world.register(old)
    old.script = until(world.now + 4, DOWN, Reply(seconds=0.5))
    ids = world.emit(1500)
    world.run(4)
    changed_at = world.now + 6
    world.time.at(changed_at, lambda: world.change(webhook, target_url=new.url))
    world.run_until_quiet()
    assert old.acknowledged + new.acknowledged == ids
    assert max(post.started_at for post in old.posts) < changed_at + IN_FORCE_SECONDS
    assert new.sizes[:4] == [1, 2, 4, 8]
    assert world.health(webhook).epoch == 2


@pytest.mark.parametrize("ordered", [False, True], ids=["from the dispatcher", "from the drainer"])
def test_a_late_410_of_the_old_url_switches_nothing_off(world: World, *, ordered: bool) -> None:
    """The old endpoint takes four seconds to say 410; meanwhile the admin has changed the URL."""
    old, new = world.endpoint("old"), world.endpoint("new")
    webhook = world.register(old, ordered=ordered)
    old.script = always(Reply(410, seconds=4))
    ids = world.emit(5)
    world.time.at(world.now + 2, lambda: world.change(webhook, target_url=new.url))
    world.run_until_quiet()
    assert new.acknowledged == ids
    health = world.health(webhook)
    assert health.disabled_reason is None
    assert all(attempt.status_code == 200 for attempt in health.attempts)
    assert health.failing_since_ms == 0


@pytest.mark.parametrize("ordered", [False, True], ids=["from the dispatcher", "from the drainer"])
def test_a_late_failure_of_the_old_url_delays_nothing(world: World, *, ordered: bool) -> None:
    old, new = world.endpoint("old"), world.endpoint("new")
    webhook = world.register(old, ordered=ordered)
    old.script = always(Reply(503, seconds=4, retry_after="900"))
    ids = world.emit(5)
    world.time.at(world.now + 2, lambda: world.change(webhook, target_url=new.url))
    world.run(2 * MINUTE)
    assert new.acknowledged == ids


def test_a_changed_url_does_not_wait_for_the_old_ones_next_attempt(world: World) -> None:
    """The old endpoint has asked for 900 s; the new one is tried at the next sweep."""
    old, new = world.endpoint("old"), world.endpoint("new")
    webhook = world.register(old)
    old.script = always(Reply(429, retry_after="900"))
    ids = world.emit(5)
    world.run(10)
    world.change(webhook, target_url=new.url)
    world.run(65)
    assert new.acknowledged == ids


def test_taking_a_trigger_away_does_not_remove_what_waits(world: World) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = until(world.now + 20, DOWN)
    waiting = world.emit(3)
    world.run(5)
    world.change(webhook, events=[NON_REAL_TIME])
    world.run(3)
    world.emit(3)
    world.run_until_quiet()
    assert endpoint.acknowledged == waiting


@pytest.mark.slow
def test_nothing_is_sent_more_than_ten_seconds_after_a_pause(world: World) -> None:
    """Fifty pauses while events flow, by dispatcher and drainer, to an endpoint that takes a second."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = always(Reply(seconds=0.9))
    ids: list[str] = []
    late: list[float] = []
    for number in range(50):
        for _ in range(5):
            ids += world.emit(4)
            world.run(0.7 + 0.01 * number)
        world.change(webhook, status=Status.PAUSED)
        paused_at = world.now
        world.run(30)
        late.append(max((post.started_at for post in endpoint.posts), default=0) - paused_at)
        world.change(webhook, status=Status.ACTIVE)
        world.run(70)
    world.run(2 * MINUTE)
    assert max(late) < IN_FORCE_SECONDS
    assert max(late) <= MAX_AGE_SECONDS, "the API's answer comes no sooner"
    assert sorted(endpoint.acknowledged) == ids
    assert world.outcomes(webhook) == {"delivered": len(ids)}


@pytest.mark.parametrize("ordered", [False, True], ids=["dispatcher", "drainer"])
@pytest.mark.parametrize("what", ["moved", "deleted"])
@pytest.mark.parametrize("step_seconds", [0.7, 0.83, 0.96, 1.09])
def test_no_request_starts_to_where_a_webhook_was_once_the_answer_is_there(
    world: World, step_seconds: float, what: str, *, ordered: bool
) -> None:
    old, new = world.endpoint("old"), world.endpoint("new")
    webhook = world.register(old, ordered=ordered)
    old.script = always(Reply(seconds=0.9))
    for _ in range(5):
        world.emit(4)
        world.run(step_seconds)
    if what == "moved":
        world.change(webhook, target_url=new.url)
    else:
        world.delete(webhook)
    ended_at = world.now
    world.run(MAX_AGE_SECONDS)
    if what == "moved":
        world.emit(1)
    world.run_until_quiet()
    late = max(post.started_at for post in old.posts) - ended_at
    assert late <= MAX_AGE_SECONDS, "the API's answer comes no sooner"
    assert bool(new.posts) is (what == "moved")


@pytest.mark.parametrize("ordered", [False, True], ids=["dispatcher", "drainer"])
@pytest.mark.parametrize("paused_after", [1, 5, 19])
def test_nothing_is_sent_after_a_pause_however_long_kms_takes(
    world: World, paused_after: float, *, ordered: bool
) -> None:
    """KMS stalls for 20 s in front of a POST, and an admin pauses meanwhile."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint, authentication=SIGNED, ordered=ordered)

    def stall(call: Call, proceed: Callable[[], Any]) -> Any:
        if call.service == "kms":
            world.time.sleep(20)
        return proceed()

    world.taps.append(stall)
    ids = world.emit(3)
    world.run(paused_after)
    world.change(webhook, status=Status.PAUSED)
    world.run(HOUR)
    assert endpoint.posts == []
    assert sorted(world.waiting_ids(webhook)) == ids
    world.change(webhook, status=Status.ACTIVE)
    world.run_until_quiet()
    assert sorted(endpoint.acknowledged) == ids
