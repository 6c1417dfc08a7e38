"""Ids that callers of the platform's API choose: one for two events, and as long as may be."""

from collections.abc import Callable, Iterator

import pytest

from lms_webhooks.aws.dynamodb import KeyRange
from lms_webhooks.aws.sqs import DrainMessage, DrainQueue
from lms_webhooks.model.events import MAX_EVENT_ID_BYTES, Event
from lms_webhooks.model.lanes import Lane, PendingEvent
from lms_webhooks.stores.backlog import Backlog
from lms_webhooks.stores.deliveries import DeliveryStore
from lms_webhooks.stores.replays import Replay, ReplayStore
from tests.scenarios.endpoints import DOWN, OK, Reply, Script, always, in_turn, until
from tests.scenarios.world import ACCOUNT, HOUR, MINUTE, REAL_TIME, World, event_message

ADDED, REMOVED = (f"RESPONSE:ASYNCAPI_USERGROUP_USER_{done}" for done in ("ADDED", "REMOVED"))
LONG = "é" * (MAX_EVENT_ID_BYTES // 2 - 1)

WAYS: dict[str, Callable[[float], Script]] = {
    "direct": lambda _: always(OK),
    "backlog": lambda now: until(now + MINUTE, DOWN),
    "set aside": lambda _: in_turn(*[Reply(422)] * 4, OK),
}


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world
        assert world.problems() == []


@pytest.mark.parametrize("ordered", [False, True], ids=["", "ordered"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("ids", [["sync-1"], [LONG + "a", LONG + "b"]], ids=["one id", "long ids"])
def test_one_id_for_two_types_at_one_time_arrives_for_both(
    world: World, ids: list[str], way: str, *, ordered: bool
) -> None:
    """Whichever way the events go, each is sent, recorded, and sent once more by a replay."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint, events=(ADDED, REMOVED), ordered=ordered)
    endpoint.script = WAYS[way](world.now)
    emitted = [(name, event_id) for event_id in ids for name in (ADDED, REMOVED)]
    for name, event_id in emitted:
        at_ms = int(world.now * 1000) + ids.index(event_id)
        world.realtime_queue.send(event_message(event_id, name, at_ms, ACCOUNT))
    world.run(HOUR)
    assert sorted(acknowledged(world)) == sorted(emitted)
    history = DeliveryStore(world._table("deliveries"), retention_days=30)
    recorded = history.page(webhook, KeyRange("0", ":"), limit=9).entries
    assert {(each.event_name, each.event_id) for each in recorded} == {*emitted}
    assert {each.outcome for each in recorded} == {"delivered"}
    assert len(recorded) == len(emitted)
    # Requests that carry different events have different ids.
    carried = {
        post.headers["webhook-id"]: [(event["eventName"], event["eventId"]) for event in post.events]
        for post in endpoint.posts
    }
    assert len({str(events) for events in carried.values()}) == len(carried)

    endpoint.posts.clear()
    endpoint.script = always(OK)
    replay_all(world, webhook)
    world.run(MINUTE)
    assert sorted(acknowledged(world)) == sorted(emitted)
    assert world.marks(webhook) == {}


@pytest.mark.parametrize("lane", [Lane.REALTIME, Lane.BATCH, Lane.RETRY])
def test_what_an_earlier_version_left_goes_out_under_its_own_key(world: World, lane: Lane) -> None:
    """Its keys had no name. Recorded under one of ours, the event would stay pending, or be sent twice."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    now_ms = int(world.now * 1000)
    text = f'{{"eventId":"e1","eventName":"{REAL_TIME}","timestamp":{now_ms}}}'
    old = Event(ACCOUNT, "e1", REAL_TIME, now_ms, now_ms, text, has_plain_key=True)
    world.put(webhook, lane, PendingEvent(old, due_at_ms=now_ms * (lane is Lane.RETRY)))
    world.run(HOUR)
    assert endpoint.acknowledged == ["e1"]
    assert world.waiting_ids(webhook) == []
    replay_all(world, webhook)
    world.run(MINUTE)
    assert endpoint.acknowledged == ["e1"] * 2
    (item,) = world._partition(f"DELIVERY#{webhook}")
    assert item["sk"]["S"] == f"{now_ms:013d}#e1"
    assert world.marks(webhook) == {}


def acknowledged(world: World) -> list[tuple[str, str]]:
    """What receivers took, once for each time."""
    return [
        (event["eventName"], event["eventId"])
        for post in world.posts()
        if post.is_acknowledged
        for event in post.events
    ]


def replay_all(world: World, webhook_id: str) -> None:
    """As the admin API does it."""
    table = world._table("deliveries")
    now_ms = int(world.now * 1000)
    replay = Replay(
        replay_id="rp_1",
        account_id=ACCOUNT,
        webhook_id=webhook_id,
        range=KeyRange("0", f"{now_ms:013d}"),
        outcome=None,
        event_name=None,
        started_at_ms=now_ms,
        started_by="ada",
    )
    ReplayStore(table).start(replay, Backlog(table, retention_days=7))
    url = "https://sqs.test/drain"
    DrainQueue(world._sqs, url, url).schedule(DrainMessage(ACCOUNT, webhook_id), delay_seconds=0)
