"""What was sent is sent again on an admin's word: after what waits, once each, and nothing is taken back."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from lms_webhooks.aws.dynamodb import KeyRange
from lms_webhooks.aws.sqs import DrainMessage, DrainQueue
from lms_webhooks.model.deliveries import Outcome
from lms_webhooks.model.lanes import Lane, PendingEvent
from lms_webhooks.model.webhooks import Status
from lms_webhooks.stores.backlog import Backlog
from lms_webhooks.stores.deliveries import DeliveryStore
from lms_webhooks.stores.replays import Replay, ReplayState, ReplayStore
from tests.engines.dynamodb import Engine
from tests.scenarios.endpoints import DOWN, OK, Reply, always, in_turn, rejecting, until
from tests.scenarios.world import ACCOUNT, MINUTE, NON_REAL_TIME, REAL_TIME, Call, World, make_tables

_DELIVERIES = "deliveries"
RETENTION_DAYS = 1
HOUR = 60 * MINUTE
_DRAIN_URL = "https://sqs.test/drain"


@pytest.fixture
def world() -> Iterator[World]:
    with World(retention_days=RETENTION_DAYS) as world:
        yield world
        assert world.problems() == []


def history(world: World) -> DeliveryStore:
    return DeliveryStore(world._table(_DELIVERIES), retention_days=30)


def replays(world: World) -> ReplayStore:
    return ReplayStore(world._table(_DELIVERIES))


def start(world: World, webhook_id: str, *, outcome: Outcome | None = None, replay_id: str = "rp_1") -> None:
    """As the admin API does it, for everything until now."""
    now_ms = int(world.now * 1000)
    replay = Replay(
        replay_id=replay_id,
        account_id=ACCOUNT,
        webhook_id=webhook_id,
        range=KeyRange("0", f"{now_ms:013d}"),
        outcome=outcome,
        event_name=None,
        started_at_ms=now_ms,
        started_by="ada",
    )
    replays(world).start(replay, Backlog(world._table(_DELIVERIES), retention_days=RETENTION_DAYS))
    DrainQueue(world._sqs, _DRAIN_URL, _DRAIN_URL).schedule(
        DrainMessage(ACCOUNT, webhook_id), delay_seconds=0
    )


def redeliver(world: World, webhook_id: str, sort_key: str) -> None:
    """As the admin API does it."""
    found = history(world).find(webhook_id, sort_key)
    assert found is not None
    backlog = Backlog(world._table(_DELIVERIES), retention_days=RETENTION_DAYS)
    replays(world).redeliver(
        ACCOUNT, webhook_id, PendingEvent(found[1]), backlog, asked_at_ms=int(world.now * 1000)
    )
    DrainQueue(world._sqs, _DRAIN_URL, _DRAIN_URL).schedule(
        DrainMessage(ACCOUNT, webhook_id), delay_seconds=0
    )


def progress(world: World, webhook_id: str) -> Replay:
    found = replays(world).find(webhook_id)
    assert found is not None
    return found


def recorded(world: World, webhook_id: str) -> dict[str, tuple[str, list[int | None]]]:
    """Outcome and status codes, by event id."""
    page = history(world).scan_oldest_first(webhook_id, KeyRange("0", ":"), limit=1000)
    return {
        event.event_id: (each.outcome.value, [attempt.status_code for attempt in each.attempts])
        for each, event in page.entries
    }


def test_a_replay_sends_all_of_it_once_more_oldest_first(world: World) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    ids = world.emit(230)
    world.run(20)
    endpoint.posts.clear()
    start(world, webhook)
    world.run(30)
    assert endpoint.acknowledged == ids
    assert max(endpoint.sizes) <= 100
    ended = progress(world, webhook)
    assert (ended.state, ended.read, ended.delivered, ended.rejected) == (ReplayState.DONE, 230, 230, 0)
    assert ended.ended_at_ms
    assert set(map(str, recorded(world, webhook).values())) == {"('delivered', [200, 200])"}
    assert world.marks(webhook) == {}


def test_only_what_ended_otherwise_is_sent_where_that_is_asked(world: World) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    world.emit(5)
    world.run(5)
    failed = DeliveryStore(world._table(_DELIVERIES), retention_days=30)
    page = failed.scan_oldest_first(webhook, KeyRange("0", ":"), limit=2)
    world._dynamodb.update_item(
        TableName=_DELIVERIES,
        Key={"pk": {"S": f"DELIVERY#{webhook}"}, "sk": {"S": page.entries[1][0].sort_key}},
        UpdateExpression="SET outcome = :failed, reason = :reason",
        ExpressionAttributeValues={":failed": {"S": "failed"}, ":reason": {"S": "tried in vain"}},
    )
    endpoint.posts.clear()
    start(world, webhook, outcome=Outcome.FAILED)
    world.run(10)
    assert endpoint.acknowledged == [page.entries[1][1].event_id]
    assert world.outcomes(webhook) == {"delivered": 5}
    ended = progress(world, webhook)
    assert (ended.read, ended.delivered) == (5, 1)


def test_what_is_rejected_the_second_time_stays_delivered(world: World) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    ids = world.emit(6)
    world.run(5)
    endpoint.posts.clear()
    endpoint.script = rejecting(ids[2])
    start(world, webhook)
    world.run(20)
    assert world.outcomes(webhook) == {"delivered": 6}
    assert recorded(world, webhook)[ids[2]] == ("delivered", [200, 422])
    ended = progress(world, webhook)
    assert (ended.state, ended.delivered, ended.rejected) == (ReplayState.DONE, 5, 1)
    assert world.waiting_ids(webhook, Lane.RETRY) == []


def test_an_endpoint_that_fails_holds_the_replay_up_and_then_it_goes_on(world: World) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    ids = world.emit(40)
    world.run(10)
    endpoint.posts.clear()
    endpoint.script = until(world.now + 60, DOWN)
    start(world, webhook)
    world.run(30)
    running = progress(world, webhook)
    assert (running.state, running.read) == (ReplayState.RUNNING, 0)
    world.run(3 * MINUTE)
    assert endpoint.acknowledged == ids
    assert progress(world, webhook).delivered == 40


def test_what_is_only_rejected_is_sent_again_slowly_and_live_events_do_not_suffer(world: World) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    ids = world.emit(40)
    world.run(10)
    endpoint.posts.clear()
    endpoint.script = rejecting(*ids)
    start(world, webhook)
    world.run(30)
    assert len(endpoint.posts) == 10
    (live,) = world.emit(1, prefix="live")
    world.run(1)
    assert endpoint.acknowledged == [live]
    world.run(9 * MINUTE)
    ended = progress(world, webhook)
    assert (ended.state, ended.delivered, ended.rejected) == (ReplayState.DONE, 0, 40)
    assert world.marks(webhook) == {}


def test_a_replay_that_meets_a_failure_does_not_wait_for_what_was_set_aside(world: World) -> None:
    """Ten events are due once more at which their receiver always fails, and nothing else waits. A probe that
    was chosen from these alone would never see that the endpoint responds."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    old = world.emit(40)
    world.run(10)
    new = world.emit(100)
    failing = set(new[5::10])
    endpoint.script = lambda ids, _now: DOWN if failing & set(ids) else OK
    world.run(5 * MINUTE)
    assert len(world.waiting(webhook, Lane.RETRY)) == 10
    world.change(webhook, status=Status.PAUSED)
    world.run(HOUR)
    failing.add(old[5])
    world.change(webhook, status=Status.ACTIVE)
    start(world, webhook)
    world.run(2 * MINUTE)
    ended = progress(world, webhook)
    assert (ended.state, ended.delivered, ended.rejected) == (ReplayState.DONE, 129, 1)
    assert all(each.due_at_ms > world.now * 1000 for each in world.waiting(webhook, Lane.RETRY))
    assert world.health(webhook).failures == 0


def test_events_in_a_row_that_fail_in_a_replay_do_not_hold_up_what_was_set_aside(world: World) -> None:
    """The retry lane is the last that an endpoint is probed with, but the second when that has failed."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    old = world.emit(40)
    world.run(10)
    endpoint.script = rejecting(late := "e000040")
    assert world.emit(1) == [late]
    world.run(10)
    assert world.waiting_ids(webhook, Lane.RETRY) == [late]
    endpoint.script = lambda ids, _now: DOWN if set(ids) & set(old[:7]) else OK
    start(world, webhook)
    world.run(3 * MINUTE)
    assert late in endpoint.acknowledged
    world.run(30 * MINUTE)
    ended = progress(world, webhook)
    assert (ended.state, ended.delivered, ended.rejected) == (ReplayState.DONE, 33, 7)


@pytest.mark.parametrize("reply", [OK, DOWN])
def test_a_replay_that_was_cancelled_while_its_endpoint_failed_leaves_no_failure(
    world: World, reply: Reply
) -> None:
    """Nothing is left to try with, so nobody learns that the endpoint does well again. Days later one
    response, of whichever kind, says nothing of the days between."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    world.emit(3)
    world.run(10)
    endpoint.script = always(DOWN)
    start(world, webhook)
    world.run(MINUTE)
    assert replays(world).cancel(webhook, ended_at_ms=int(world.now * 1000))
    world.run(3 * 24 * 60 * MINUTE)
    endpoint.script = in_turn(reply, OK)
    world.emit(1)
    world.run(10 * MINUTE)
    assert world.outcomes(webhook) == {"delivered": 4}
    assert world.told == []
    assert world.health(webhook).failing_since_ms == 0


def test_live_events_go_first(world: World) -> None:
    """An ordered webhook has one way only: whatever arrives during a replay overtakes the rest of it."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint, ordered=True)
    world.emit(300)
    world.run(30)
    endpoint.posts.clear()
    start(world, webhook)
    world.run_while(lambda: not endpoint.posts, at_most=20)
    (live,) = world.emit(1, prefix="live")
    world.run(60)
    sent = [event_id for post in endpoint.posts for event_id in post.event_ids]
    assert sent.index(live) < 230
    assert progress(world, webhook).delivered == 300
    assert Counter(sent).most_common(1)[0][1] == 1


def test_a_paused_webhook_keeps_its_replay_and_a_deleted_one_forgets_it(world: World) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    world.emit(5)
    world.run(5)
    endpoint.posts.clear()
    world.change(webhook, status=Status.PAUSED)
    start(world, webhook)
    (first, *_) = history(world).scan_oldest_first(webhook, KeyRange("0", ":"), limit=1).entries
    redeliver(world, webhook, first[0].sort_key)
    world.run(25 * HOUR)
    assert endpoint.posts == []
    assert world.waiting_ids(webhook, Lane.REPLAY) == []
    assert progress(world, webhook).state is ReplayState.RUNNING
    world.delete(webhook)
    world.run(3 * MINUTE)
    assert replays(world).find(webhook) is None
    assert world.marks(webhook) == {}
    assert world.waiting_ids(webhook, Lane.REPLAY) == []
    assert world.outcomes(webhook) == {"delivered": 5}


@pytest.mark.slow
def test_a_replay_ends_or_goes_with_its_webhook_in_an_engine_s_tables_too(dynamodb: Engine) -> None:
    with dynamodb() as client, World(tables=make_tables(client), retention_days=RETENTION_DAYS) as world:
        endpoint = world.endpoint()
        webhook = world.register(endpoint)
        ids = world.emit(5)
        world.run(5)
        endpoint.posts.clear()
        start(world, webhook)
        world.run(20)
        assert endpoint.acknowledged == ids
        assert progress(world, webhook).state is ReplayState.DONE
        world.change(webhook, status=Status.PAUSED)
        start(world, webhook, replay_id="rp_2")
        world.delete(webhook)
        world.run(3 * MINUTE)
        assert replays(world).find(webhook) is None
        assert world.problems() == []


def test_what_is_to_be_sent_again_ends_as_what_waits_does_and_stays_on_record(world: World) -> None:
    """A paused webhook holds nothing of people for longer than the parameter says."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    ids = world.emit(3)
    world.run(5)
    endpoint.posts.clear()
    keys = [
        each.sort_key
        for each, _ in history(world).scan_oldest_first(webhook, KeyRange("0", ":"), limit=3).entries
    ]
    world.change(webhook, status=Status.PAUSED)
    redeliver(world, webhook, keys[0])
    redeliver(world, webhook, keys[1])
    world.run(10 * HOUR)
    redeliver(world, webhook, keys[1])  # once more: from then on it counts
    redeliver(world, webhook, keys[2])
    world.run(14 * HOUR - 2 * MINUTE)
    assert world.waiting_ids(webhook, Lane.REPLAY) == ids
    world.run(4 * MINUTE)
    assert world.waiting_ids(webhook, Lane.REPLAY) == ids[1:]
    world.run(10 * HOUR)
    assert world.waiting_ids(webhook, Lane.REPLAY) == []
    assert world.marks(webhook) == {}
    assert recorded(world, webhook) == dict.fromkeys(ids, ("delivered", [200]))
    world.change(webhook, status=Status.ACTIVE)
    world.run(5 * MINUTE)
    assert endpoint.posts == []


def test_a_replay_outlives_the_single_ones_that_it_waits_with(world: World) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    ids = world.emit(3)
    world.run(5)
    endpoint.posts.clear()
    (first, *_) = history(world).scan_oldest_first(webhook, KeyRange("0", ":"), limit=1).entries
    world.change(webhook, status=Status.PAUSED)
    start(world, webhook)
    redeliver(world, webhook, first[0].sort_key)
    world.run(50 * HOUR)
    assert world.waiting_ids(webhook, Lane.REPLAY) == []
    assert world.marks(webhook).keys() == {Lane.REPLAY}
    world.change(webhook, status=Status.ACTIVE)
    world.run(5 * MINUTE)
    assert endpoint.acknowledged == ids
    assert progress(world, webhook).state is ReplayState.DONE
    assert world.marks(webhook) == {}


def test_one_delivery_is_sent_again(world: World) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    ids = world.emit(3)
    world.run(5)
    endpoint.posts.clear()
    second = history(world).scan_oldest_first(webhook, KeyRange("0", ":"), limit=3).entries[1][0]
    redeliver(world, webhook, second.sort_key)
    world.run(5)
    assert endpoint.acknowledged == [ids[1]]
    assert recorded(world, webhook)[ids[1]] == ("delivered", [200, 200])
    assert world.marks(webhook) == {}


def test_what_waits_to_be_tried_again_can_be_sent_at_once(world: World) -> None:
    """Set aside for an hour; the receiver is fixed, and the admin need not wait. It is not sent twice."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = always(Reply(422))
    (event_id,) = world.emit(1)
    world.run(2.5 * MINUTE)  # the sweep of the second minute finds it due
    endpoint.script = always(OK)
    endpoint.posts.clear()
    backlog = Backlog(world._table(_DELIVERIES), retention_days=RETENTION_DAYS)
    (waiting,) = backlog.read(webhook, Lane.RETRY, limit=2)
    waiting = replace(waiting, lane=Lane.RETRY)
    replays(world).redeliver(ACCOUNT, webhook, waiting, backlog, asked_at_ms=int(world.now * 1000))
    DrainQueue(world._sqs, _DRAIN_URL, _DRAIN_URL).schedule(DrainMessage(ACCOUNT, webhook), delay_seconds=0)
    world.run(5)
    assert endpoint.acknowledged == [event_id]
    assert recorded(world, webhook)[event_id] == ("delivered", [422, 422, 200])
    assert backlog.read(webhook, Lane.RETRY, limit=2) == []
    world.run(24 * 60 * MINUTE)
    assert endpoint.acknowledged == [event_id]
    assert world.outcomes(webhook) == {"delivered": 1}
    assert world.marks(webhook) == {}


def test_a_pending_event_that_is_redelivered_goes_out_once(world: World) -> None:
    """The admin could not know whether its lane or the request comes first."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = always(DOWN)
    ids = world.emit(3)
    world.run(10)
    backlog = Backlog(world._table(_DELIVERIES), retention_days=RETENTION_DAYS)
    for waiting in backlog.read(webhook, Lane.REALTIME, limit=3):
        asked = replace(waiting, lane=Lane.REALTIME)
        replays(world).redeliver(ACCOUNT, webhook, asked, backlog, asked_at_ms=int(world.now * 1000))
    endpoint.script = always(OK)
    world.run(5 * MINUTE)
    assert endpoint.acknowledged == ids
    assert world.outcomes(webhook) == {"delivered": 3}
    assert world.marks(webhook) == {}


@pytest.mark.parametrize(
    ("name", "reply", "lane"), [(NON_REAL_TIME, OK, Lane.BATCH), (REAL_TIME, Reply(422), Lane.RETRY)]
)
def test_what_waits_and_is_rejected_ahead_of_its_time_goes_on_waiting(
    world: World, name: str, reply: Reply, lane: Lane
) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = always(reply)
    world.emit(1, name=name)
    world.run(2 * MINUTE)
    endpoint.script = always(Reply(422))
    backlog = Backlog(world._table(_DELIVERIES), retention_days=7)
    (waiting,) = backlog.read(webhook, lane, limit=2)
    waiting = replace(waiting, lane=lane)
    replays(world).redeliver(ACCOUNT, webhook, waiting, backlog, asked_at_ms=int(world.now * 1000))
    DrainQueue(world._sqs, _DRAIN_URL, _DRAIN_URL).schedule(DrainMessage(ACCOUNT, webhook), delay_seconds=0)
    world.run(5)
    (still,) = backlog.read(webhook, lane, limit=2)
    assert len(still.attempts) == len(waiting.attempts) + 1


def run(hit: int, *, after: bool) -> tuple[int, int, bool]:
    """Replay twelve events with a death at one call of the drainers.

    Return how many calls there were, how many events went out twice, and whether that was to be.
    """
    with World() as world:
        endpoint = world.endpoint()
        webhook = world.register(endpoint)
        ids = world.emit(12)
        world.run(5)
        endpoint.posts.clear()
        endpoint.script = in_turn(OK, DOWN, OK)
        first = world.calls
        may_repeat = False

        def die_once(call: Call, proceed: Callable[[], Any]) -> Any:
            nonlocal may_repeat
            if call.number - first != hit:
                return proceed()
            # Between the POST and the record of its events, nobody can know what the receiver got.
            is_record = call.params.get("Key", {}).get("pk", {}).get("S", "").startswith("DELIVERY#")
            may_repeat = (call.operation == "POST" and after) or is_record
            if after:
                proceed()
            return world.die(call)

        world.taps.append(die_once)
        start(world, webhook)
        world.run(10 * MINUTE)
        calls = world.calls - first
        assert world.problems() == []
        assert world.outcomes(webhook) == {"delivered": 12}
        assert world.marks(webhook) == {}
        ended = progress(world, webhook)
        counted = (ended.state, ended.read, ended.delivered, ended.rejected)
        assert counted == (ReplayState.DONE, 12, 12, 0)
        times = Counter(endpoint.acknowledged)
        assert set(times) == set(ids)
        return calls, sum(times.values()) - 12, may_repeat


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True])
def test_a_death_at_each_call_loses_nothing_and_repeats_one_request_at_most(after: bool) -> None:
    """The counts are right whatever happens."""
    calls, repeated, _ = run(0, after=after)
    assert calls > 20
    assert repeated == 0
    for hit in range(1, min(calls, 45) + 1):
        _, repeated, may_repeat = run(hit, after=after)
        assert repeated <= (8 if may_repeat else 0), f"call {hit}"


def test_what_was_sent_again_alone_is_in_the_replay_too(world: World) -> None:
    """Only what goes out for the first time after a replay began is none of its concern."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    first, second = world.emit(2)
    world.run(20)
    (sort_key, _) = (
        each.sort_key
        for each, _ in history(world).scan_oldest_first(webhook, KeyRange("0", ":"), limit=2).entries
    )
    start(world, webhook)
    redeliver(world, webhook, sort_key)
    world.run(30)
    assert Counter(endpoint.acknowledged) == {first: 3, second: 2}
    assert (progress(world, webhook).delivered, progress(world, webhook).read) == (2, 2)
