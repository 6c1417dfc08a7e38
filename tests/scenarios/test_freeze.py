"""Lambda freezes a process between two invocations: it behaves then as one that was just started.

Each environment of these scenarios stands still between its invocations, and its monotonic clock with it.
"""

from collections.abc import Callable

import pytest

from lms_webhooks.model.webhooks import Status
from lms_webhooks.stores.webhook_cache import MAX_AGE_SECONDS
from tests.scenarios.endpoints import Reply, always
from tests.scenarios.world import HOUR, NON_REAL_TIME, REAL_TIME, World

type Change = Callable[[World, str], object]


def warm(world: World) -> None:
    """Let one event through, so that a dispatcher remembers the account."""
    world.emit()
    world.run(1)
    assert [each.is_dead for each in world.functions["dispatcher"].idle] == [False]


def test_an_environment_stands_still_between_its_invocations(world: World) -> None:
    world.register(world.endpoint())
    warm(world)
    (dispatcher,) = world.functions["dispatcher"].idle
    world.run(HOUR)
    world.emit()
    world.run(1)
    assert world.functions["dispatcher"].idle == [dispatcher], "the same one"
    assert HOUR - 10 < dispatcher.frozen_seconds < HOUR + 2


@pytest.mark.parametrize("ordered", [False, True], ids=["direct", "by the drainer"])
@pytest.mark.parametrize("seconds", [MAX_AGE_SECONDS, 60, HOUR])
def test_the_first_event_after_a_freeze_goes_to_the_new_url(
    world: World, *, ordered: bool, seconds: float
) -> None:
    old, new = world.endpoint("old"), world.endpoint("new")
    webhook = world.register(old, ordered=ordered)
    warm(world)
    world.run(HOUR)
    world.change(webhook, target_url=new.url)
    world.run(seconds)
    ids = world.emit()
    world.run(90)
    assert new.acknowledged == ids
    assert len(old.posts) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda world, webhook: world.change(webhook, status=Status.PAUSED),
        lambda world, webhook: world.change(webhook, status=Status.INACTIVE),
        lambda world, webhook: world.change(webhook, events=[NON_REAL_TIME]),
        lambda world, webhook: world.delete(webhook),
    ],
    ids=["paused", "inactive", "without the trigger", "deleted"],
)
def test_nothing_is_sent_after_a_freeze_to_what_wants_nothing_any_more(world: World, change: Change) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    warm(world)
    world.time.at(world.now + HOUR / 2, lambda: change(world, webhook))
    world.run(HOUR)
    (event_id,) = world.emit()
    world.run(90)
    assert len(endpoint.posts) == 1
    if world.webhooks[webhook].status is not Status.PAUSED:
        world.refused.add((webhook, event_id))


def test_the_first_event_after_a_freeze_reaches_a_webhook_registered_meanwhile(world: World) -> None:
    first, second = world.endpoint("first"), world.endpoint("second")
    world.register(first)
    warm(world)
    world.time.at(world.now + 60, lambda: world.register(second))
    world.run(HOUR)
    ids = world.emit()
    world.run(5)
    assert second.acknowledged == ids


def test_so_it_does_where_the_account_had_none(world: World) -> None:
    """That there was none is remembered too."""
    warm(world)
    endpoint = world.endpoint()
    world.time.at(world.now + 60, lambda: world.register(endpoint))
    world.run(HOUR)
    ids = world.emit()
    world.run(5)
    assert endpoint.acknowledged == ids


def test_slow_answers_before_a_freeze_say_nothing_after_it(world: World) -> None:
    """Two slow ones, an hour, one slow one: not three in a row."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = always(Reply(seconds=1.5))
    for _ in range(2):
        world.emit()
        world.run(3)
    world.run(HOUR)
    world.emit()
    world.run(3)
    assert world.health(webhook).mode == "direct"
    for _ in range(2):
        world.emit()
        world.run(3)
    assert world.health(webhook).mode == "backlog", "three within minutes are"


# What is put after the answer of a change arrives. The API answers MAX_AGE_SECONDS after it wrote.


def stream(world: World, name: str, *, seconds: float) -> list[str]:
    """An event at once, and one each half second."""
    ids: list[str] = []
    for _ in range(int(seconds / 0.5)):
        ids += world.emit(name=name)
        world.run(0.5)
    return ids


CHANGES: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "activated": ({"status": Status.INACTIVE}, {"status": Status.ACTIVE}),
    "given another trigger": (
        {"events": [NON_REAL_TIME]},
        {"events": [NON_REAL_TIME, REAL_TIME]},
    ),
    "resumed": ({"status": Status.PAUSED}, {"status": Status.ACTIVE}),
}


@pytest.mark.parametrize("name", [REAL_TIME, NON_REAL_TIME])
@pytest.mark.parametrize("others", [0, 1], ids=["the first", "beside another"])
def test_what_is_put_after_a_webhook_was_made_arrives(world: World, others: int, name: str) -> None:
    for number in range(others):
        world.register(world.endpoint(f"other-{number}"))
    stream(world, name, seconds=5)
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    world.run(MAX_AGE_SECONDS)
    ids = stream(world, name, seconds=5)
    world.run_until_quiet(at_most=HOUR)
    assert set(ids) <= set(endpoint.acknowledged)
    assert set(ids) <= world.history(webhook).keys()


@pytest.mark.parametrize("what", CHANGES)
def test_what_is_put_after_a_change_arrives(world: World, what: str) -> None:
    before, after = CHANGES[what]
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    world.change(webhook, **before)
    world.run(MAX_AGE_SECONDS)
    early = stream(world, REAL_TIME, seconds=5)
    world.change(webhook, **after)
    world.run(MAX_AGE_SECONDS)
    ids = stream(world, REAL_TIME, seconds=5)
    world.run_until_quiet(at_most=HOUR)
    if what == "resumed":
        assert endpoint.acknowledged == early + ids
    else:
        assert set(ids) <= set(endpoint.acknowledged)
        world.refused |= {(webhook, each) for each in early}


@pytest.mark.parametrize("what", ["paused", "deleted"])
def test_what_is_put_after_a_webhook_was_ended_is_not_sent(world: World, what: str) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    stream(world, REAL_TIME, seconds=5)
    if what == "paused":
        world.change(webhook, status=Status.PAUSED)
    else:
        world.delete(webhook)
    world.run(MAX_AGE_SECONDS)
    ids = stream(world, REAL_TIME, seconds=5)
    world.run(90)
    assert not set(ids) & {each for post in endpoint.posts for each in post.event_ids}
    if what == "deleted":
        world.refused |= {(webhook, each) for each in ids}
