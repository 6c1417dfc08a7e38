"""One drain run of a webhook: what is sent, together or alone, within which time, and what a fault leaves."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lms_webhooks.aws.dynamodb import KeyRange
from lms_webhooks.aws.sqs import DrainMessage
from lms_webhooks.drainer.drain_run import DrainRun
from lms_webhooks.drainer.drainer import LEASE_SECONDS, Drainer
from lms_webhooks.model.attempts import Attempt, ErrorClass
from lms_webhooks.model.deliveries import Delivery, Outcome
from lms_webhooks.model.health import DisabledReason, Health, Mode
from lms_webhooks.model.lanes import Lane, PendingEvent
from lms_webhooks.model.webhooks import Status
from lms_webhooks.sending.sender import Timeouts
from lms_webhooks.stores.outbox import NotificationOutbox
from lms_webhooks.stores.replays import Replay, ReplayState
from tests.unit.flow import (
    ACCOUNT,
    ID,
    RETENTION_DAYS,
    RETENTION_MS,
    WEBHOOK,
    WHEN,
    Flow,
    flow,
    refuse_writes,
    waiting,
)
from tests.unit.tables import DAY_MS, NOW_MS, Fails, before

FALLEN = Health(mode=Mode.BACKLOG, backlog_since_ms=NOW_MS - 1000, request_size=10)
FAILING = replace(FALLEN, failures=1, failing_since_ms=NOW_MS - 1)
ONE_BY_ONE = replace(FALLEN, request_size=1, request_size_ceiling=1, ceiling_left=64, ceiling_trials=64)
REJECTED = Attempt(NOW_MS - 60_000, 30, 422, None)
SUCCESS = Attempt(NOW_MS - 500, 20, 200, None)
MINUTE_MS = 60_000


class Draining(Flow):
    """Drain runs and drainers over the parts."""

    def new_run(
        self, *, seconds: Callable[[], float] = lambda: 30.0, health: Health | None = None
    ) -> DrainRun:
        """One with this many seconds left, as one who holds the lease with `health` takes it."""
        return DrainRun(
            self.webhook,
            health or self.health(),
            seconds,
            webhook_cache=self.webhook_cache,
            backlog=self.backlog,
            recorder=self.recorder,
            webhook_client=self.webhook_client,
            replays=self.replays,
            retention_days=RETENTION_DAYS,
            clock=self.clock,
            jitter=lambda: 0.0,
        )

    def begin(self, health: Health = FALLEN, **changes: Any) -> None:
        """Register the webhook, as what a run finds."""
        self.webhook = self.register(health, **changes)

    def drain(
        self, message: DrainMessage | None = None, *, remaining_ms: Callable[[], int] = lambda: 60_000
    ) -> None:
        """What a drain message starts, of one who made a mark unless it is given."""
        Drainer(
            webhook_cache=self.webhook_cache,
            health=self.health_store,
            backlog=self.backlog,
            recorder=self.recorder,
            replays=self.replays,
            outbox=NotificationOutbox(self.deliveries_table),
            queue=self.drain_queue,
            new_run=self._new_run,
            clock=self.clock,
            sleep=self.sleep,
        ).drain(message or DrainMessage(ACCOUNT, ID, message_id="m0"), remaining_ms=remaining_ms)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def _new_run(self, _: object, health: Health, seconds: Callable[[], float]) -> DrainRun:
        return self.new_run(seconds=seconds, health=health)


@pytest.fixture
def world() -> Iterator[Draining]:
    with flow(Draining) as world:
        yield world


def some(count: int, **more: Any) -> list[PendingEvent]:
    return [waiting(f"e{number}", at_ms=NOW_MS + number, **more) for number in range(1, count + 1)]


def mark_of(world: Draining, lane: Lane) -> Any:
    return world.backlog.markers(ID)[lane]


# Recorded before it is settled


def test_what_is_sent_and_not_recorded_is_not_sent_again_at_once(world: Draining) -> None:
    world.begin()
    world.put(Lane.REALTIME, *some(2))
    refuse_writes(world.deliveries_table, of="DELIVERY#")
    assert world.new_run().run().delay_seconds == 5
    assert world.endpoint.posts == [["e1", "e2"]]
    assert world.waiting_ids(Lane.REALTIME) == ["e1", "e2"]


def test_what_was_sent_and_recorded_by_one_who_died_is_removed_and_not_sent_again(world: Draining) -> None:
    world.begin()
    first, second = some(2)
    world.put(Lane.REALTIME, first, second)
    world.history.record(
        [Delivery(ID, first.event, Outcome.DELIVERED, (SUCCESS,))], recorded_at_seconds=NOW_MS // 1000
    )
    assert world.new_run().run().delay_seconds is None
    assert world.endpoint.posts == [["e2"]]
    assert world.waiting(Lane.REALTIME) == []


def test_an_unreadable_history_is_no_empty_one(world: Draining) -> None:
    """What it may hold as delivered is not sent."""
    world.begin()
    world.put(Lane.REALTIME, *some(2))
    client = before(world.deliveries_table)
    client.answers["batch_get_item"] = Fails(client.behind.batch_get_item)
    with pytest.raises(ClientError):
        world.new_run().run()
    assert world.endpoint.posts == []
    world.drain()
    assert (world.endpoint.posts, world.sent_for) == ([], [5])
    assert world.metrics["DrainRunsAborted"] == 1


def test_a_rejection_that_cannot_be_written_down_waits_and_keeps_its_place(world: Draining) -> None:
    world.begin()
    world.put(Lane.REALTIME, *some(1))
    world.endpoint.replies = [422]
    refuse_writes(world.deliveries_table, of=f"BACKLOG#{ID}#retry")
    assert world.new_run().run().delay_seconds == 5
    assert (world.endpoint.posts, world.waiting_ids(Lane.REALTIME)) == ([["e1"]], ["e1"])


# Time


def test_a_post_has_the_time_outs_of_adobe_learning_manager_s_connector(world: Draining) -> None:
    world.begin()
    world.put(Lane.REALTIME, *some(1))
    world.new_run().run()
    assert world.endpoint.timeouts == Timeouts(connect_seconds=10, response_seconds=5, total_seconds=15)


@pytest.mark.parametrize(("remaining_ms", "posts"), [(20_000, 0), (20_001, 1), (60_000, 1)])
def test_no_post_starts_in_the_last_twenty_seconds_of_a_drainer(
    world: Draining, remaining_ms: int, posts: int
) -> None:
    """15 s for it, and 5 s to write down what came of it."""
    world.begin()
    world.put(Lane.REALTIME, *some(1))
    world.drain(remaining_ms=lambda: remaining_ms)
    assert len(world.endpoint.posts) == posts
    assert world.sent_for == ([] if posts else [0])
    assert world.waiting_ids(Lane.REALTIME) == ([] if posts else ["e1"])


def test_a_turn_goes_on_until_its_time_is_over(world: Draining) -> None:
    world.begin(ONE_BY_ONE)
    world.put(Lane.REALTIME, *some(5))
    ends_at = world.now + 3
    world.endpoint.before_reply = lambda: world.sleep(1.0)
    assert world.new_run(seconds=lambda: ends_at - world.now).run().delay_seconds == 0.0
    assert world.endpoint.posts == [["e1"], ["e2"], ["e3"]]


@pytest.mark.parametrize("lane", [Lane.REALTIME, Lane.REPLAY])
def test_time_that_passes_while_a_lane_is_read_counts(world: Draining, lane: Lane) -> None:
    """No POST begins when reading, or asking the history, took what was left."""
    world.begin()
    more = {"asked_at_ms": NOW_MS} if lane is Lane.REPLAY else {}
    world.put(lane, *some(1, **more))
    client = before(world.deliveries_table)
    seconds = [10.0]

    def slow(name: str) -> Callable[..., Any]:
        def call(**request: Any) -> Any:
            if "batch" in name or f"#{lane}" in str(request["ExpressionAttributeValues"]):
                seconds[0] = 0.0
            return getattr(client.behind, name)(**request)

        return call

    name = "batch_get_item" if lane is Lane.REALTIME else "query"
    client.answers[name] = slow(name)
    assert world.new_run(seconds=lambda: seconds[0]).run().delay_seconds == 0.0
    assert world.endpoint.posts == []


def test_what_changed_while_a_secret_was_decrypted_counts(world: Draining) -> None:
    """KMS stalls for longer than a registration is remembered, and an admin pauses meanwhile."""
    world.begin()
    world.put(Lane.REALTIME, *some(1))
    run = world.new_run()

    def pause() -> None:
        paused = replace(world.webhook, status=Status.PAUSED, epoch=2, version=2)
        world.store.update(paused, expected=world.webhook)
        world.now += 20

    world.endpoint.before_credentials = pause
    assert run.run().delay_seconds is None
    assert (world.endpoint.posts, world.waiting_ids(Lane.REALTIME)) == ([], ["e1"])


def test_time_that_passes_while_a_secret_is_decrypted_counts(world: Draining) -> None:
    world.begin()
    world.put(Lane.REALTIME, *some(1))
    ends_at = world.now + 10
    world.endpoint.before_credentials = lambda: world.sleep(10)
    assert world.new_run(seconds=lambda: ends_at - world.now).run().delay_seconds == 0.0
    assert (world.endpoint.posts, world.waiting_ids(Lane.REALTIME)) == ([], ["e1"])


@pytest.mark.parametrize(("early_seconds", "posts"), [(0.0, 1), (1.5, 1), (2.0, 1), (2.001, 0), (60.0, 0)])
def test_a_drainer_waits_for_up_to_two_seconds_and_sends_another_if_it_is_earlier(
    world: Draining, early_seconds: float, posts: int
) -> None:
    world.begin(replace(FALLEN, next_attempt_at_ms=NOW_MS + int(early_seconds * 1000)))
    world.put(Lane.REALTIME, *some(1))
    world.drain()
    assert len(world.endpoint.posts) == posts
    assert world.now == NOW_MS / 1000 + early_seconds * posts
    assert world.sent_for == ([] if posts else [int(early_seconds)])


def test_a_burial_stops_in_time_and_goes_on_in_another_drainer(world: Draining) -> None:
    world.begin()
    world.put(Lane.REALTIME, *some(1))
    world.store.delete(ACCOUNT, ID, deleted_at=WHEN - timedelta(seconds=LEASE_SECONDS + 1), deleted_by="ada")
    world.drain(remaining_ms=lambda: 19_999)
    assert (world.waiting_ids(Lane.REALTIME), world.sent_for) == (["e1"], [0])
    world.drain(remaining_ms=lambda: 20_000)
    assert (world.waiting(Lane.REALTIME), world.sent_for) == ([], [0])
    assert world.outcome(some(1)[0].event) == "failed"
    assert world.backlog.markers(ID) == {}


# Expiry


def test_a_lane_is_looked_at_again_when_the_first_accepted_of_what_is_left_expires(world: Draining) -> None:
    """Lanes are in the order of the events' own time, so the first accepted may stand last."""
    world.begin()
    left = [
        waiting("late", at_ms=NOW_MS, accepted_at_ms=NOW_MS),
        waiting("early", at_ms=NOW_MS + 1, accepted_at_ms=NOW_MS - 3 * DAY_MS),
        waiting("between", at_ms=NOW_MS + 2, accepted_at_ms=NOW_MS - DAY_MS),
    ]
    expired = waiting("old", at_ms=NOW_MS + 3, accepted_at_ms=NOW_MS - RETENTION_MS)
    world.put(Lane.REALTIME, *left, expired)
    world.webhook = replace(WEBHOOK, status=Status.PAUSED)  # nothing is sent, so that the lane stays
    world.store.update(replace(WEBHOOK, status=Status.PAUSED, version=2), expected=WEBHOOK)
    assert world.new_run().run().delay_seconds is None
    assert world.waiting_ids(Lane.REALTIME) == ["late", "early", "between"]
    assert world.outcome(expired.event) == "expired"
    assert mark_of(world, Lane.REALTIME).check_at_ms == NOW_MS - 3 * DAY_MS + RETENTION_MS


def test_of_the_pages_of_a_long_lane_the_first_accepted_counts(world: Draining) -> None:
    """A page is a megabyte at most."""
    world.begin(replace(FALLEN, disabled_reason=DisabledReason.FAILING, disabled_at_ms=NOW_MS))
    text = '{"n":"' + "".join(chr(0x4E00 + 7 * n % 20_000) for n in range(60_000)) + '"}'
    days = {"a": 2, "b": 5, "c": 4, "d": 3}
    lane = [
        PendingEvent(
            replace(
                waiting(name, at_ms=NOW_MS + index, accepted_at_ms=NOW_MS - age * DAY_MS).event, text=text
            )
        )
        for index, (name, age) in enumerate((f"{name}{n}", days[name]) for name in "abcd" for n in range(4))
    ]
    old = waiting("old", at_ms=NOW_MS - 1, accepted_at_ms=NOW_MS - RETENTION_MS)
    world.put(Lane.REALTIME, old, *lane)
    assert len(list(world.backlog.read_all(ID, Lane.REALTIME))) > 1
    assert world.new_run().run().delay_seconds is None
    assert mark_of(world, Lane.REALTIME).check_at_ms == NOW_MS - 5 * DAY_MS + RETENTION_MS


def test_an_expiry_that_cannot_be_written_down_stays_due_and_is_not_tried_again_at_once(
    world: Draining,
) -> None:
    world.begin(FAILING)
    world.put(Lane.REALTIME, waiting("old", accepted_at_ms=NOW_MS - RETENTION_MS))
    due_at_ms = mark_of(world, Lane.REALTIME).check_at_ms
    client = before(world.deliveries_table)
    client.answers["put_item"] = Fails(client.behind.put_item)
    assert world.new_run().run().delay_seconds == 5
    assert world.waiting_ids(Lane.REALTIME) == ["old"]
    assert mark_of(world, Lane.REALTIME).check_at_ms == due_at_ms
    assert world.endpoint.posts == []


def test_what_is_delivered_and_cannot_be_removed_is_not_tried_again_at_once(world: Draining) -> None:
    world.begin()
    first, second = some(2)
    world.put(Lane.REALTIME, first, second)
    world.history.record(
        [Delivery(ID, first.event, Outcome.DELIVERED, (SUCCESS,))], recorded_at_seconds=NOW_MS // 1000
    )
    refuse_writes(world.deliveries_table, of="BACKLOG#")
    assert world.new_run().run().delay_seconds == 5
    assert world.endpoint.posts == [["e2"]]


@pytest.mark.parametrize(
    ("last_error", "reason"),
    [
        ("", "not delivered within 7 days"),
        ("HTTP 503", "not delivered within 7 days; the last error was HTTP 503"),
    ],
)
def test_what_expires_says_why(world: Draining, last_error: str, reason: str) -> None:
    world.begin(replace(FAILING, last_error=last_error))
    old = waiting("old", accepted_at_ms=NOW_MS - RETENTION_MS)
    world.put(Lane.REALTIME, old)
    world.new_run().run()
    found = world.history.find(ID, old.event.sort_key)
    assert found is not None
    assert (found[0].outcome, found[0].reason) == ("expired", reason)
    assert world.backlog.markers(ID) == {}


@pytest.mark.parametrize(("age_ms", "is_sent"), [(RETENTION_MS - 1, True), (RETENTION_MS, False)])
def test_what_has_expired_is_not_sent_though_its_lane_was_not_looked_through(
    world: Draining, age_ms: int, is_sent: bool
) -> None:
    """Such as one that expired after the lane was looked through for the last time."""
    world.begin(FAILING)
    world.put(Lane.REALTIME, waiting("e1", accepted_at_ms=NOW_MS - age_ms))
    mark = mark_of(world, Lane.REALTIME)
    world.backlog.set_check(mark, NOW_MS + DAY_MS)
    world.new_run().run()
    assert world.endpoint.posts == ([["e1"]] if is_sent else [])
    assert world.waiting(Lane.REALTIME) == []


# Together, alone, and aside


def test_rejected_events_are_tried_again_each_alone(world: Draining) -> None:
    """Together, one that is poison would be the refusal of all."""
    world.begin()
    world.put(Lane.RETRY, *some(3, tries=1, due_at_ms=NOW_MS, attempts=(REJECTED,)), due_at_ms=NOW_MS)
    world.new_run().run()
    assert world.endpoint.posts == [["e1"], ["e2"], ["e3"]]


def test_the_other_lanes_go_out_together(world: Draining) -> None:
    world.begin()
    world.put(Lane.REALTIME, *some(3))
    world.new_run().run()
    assert world.endpoint.posts == [["e1", "e2", "e3"]]


DELAYS_AFTER = [(1, 600), (2, 3_600), (3, 21_600), (4, 86_400), (5, 172_800), (6, 259_200)]


@pytest.mark.parametrize(("tries", "delay_seconds"), DELAYS_AFTER)
def test_a_rejected_event_that_is_rejected_again_is_the_same_one(
    world: Draining, tries: int, delay_seconds: int
) -> None:
    """It goes on counting where it was, and says nothing new of the endpoint."""
    world.begin(replace(FALLEN, rejections=9))
    event = waiting("e1", tries=tries, due_at_ms=NOW_MS, attempts=(REJECTED,))
    world.put(Lane.RETRY, event, due_at_ms=NOW_MS)
    world.endpoint.replies = [422]
    run = world.new_run()
    assert run.run().delay_seconds is None
    assert (run.health.rejections, run.health.failures) == (9, 0)
    (again,) = world.waiting(Lane.RETRY)
    assert (again.tries, again.due_at_ms) == (tries + 1, NOW_MS + delay_seconds * 1000)
    assert [each.status_code for each in again.attempts] == [422, 422]
    assert mark_of(world, Lane.RETRY).due_at_ms == NOW_MS + delay_seconds * 1000


def test_the_eighth_rejection_is_the_end(world: Draining) -> None:
    world.begin()
    event = waiting("e1", tries=7, due_at_ms=NOW_MS, attempts=(REJECTED,) * 7)
    world.put(Lane.RETRY, event, due_at_ms=NOW_MS)
    world.endpoint.replies = [422]
    assert world.new_run().run().delay_seconds is None
    found = world.history.find(ID, event.event.sort_key)
    assert found is not None
    assert (found[0].outcome, found[0].reason) == ("failed", "rejected 8 times, at last with HTTP 422")
    assert len(found[0].attempts) == 8
    assert world.waiting(Lane.RETRY) == []


@pytest.mark.parametrize("lane", [Lane.REALTIME, Lane.BATCH])
def test_an_event_that_is_rejected_for_the_first_time_leaves_its_lane_for_a_minute(
    world: Draining, lane: Lane
) -> None:
    world.begin(replace(FALLEN, request_size=1))
    first, second = some(2)
    world.put(lane, first, second)
    world.endpoint.replies = [422, 200]
    run = world.new_run()
    assert run.run().delay_seconds is None
    assert world.endpoint.posts == [["e1"], ["e2"]]
    (aside,) = world.waiting(Lane.RETRY)
    assert (aside.event.event_id, aside.tries, aside.due_at_ms) == ("e1", 1, NOW_MS + MINUTE_MS)
    assert aside.attempts == (Attempt(NOW_MS, 20, 422, None),)
    assert mark_of(world, Lane.RETRY).due_at_ms == NOW_MS + MINUTE_MS
    assert mark_of(world, Lane.RETRY).check_at_ms == NOW_MS + RETENTION_MS


@pytest.mark.parametrize(("rejections", "ends_with"), [(8, None), (9, 5.0)])
def test_the_tenth_rejection_in_a_row_is_the_endpoint_s(
    world: Draining, rejections: int, ends_with: float | None
) -> None:
    world.begin(replace(FALLEN, rejections=rejections))
    world.put(Lane.REALTIME, *some(1))
    world.endpoint.replies = [422]
    run = world.new_run()
    assert run.run().delay_seconds == ends_with
    assert run.health.failures == (0 if ends_with is None else 1)
    assert run.health.rejections == rejections + 1


@pytest.mark.parametrize(("reply", "max_bytes", "until_ms"), [(413, 500_000, NOW_MS + DAY_MS), (422, 0, 0)])
def test_a_batch_that_is_refused_is_halved_and_one_that_is_too_large_for_a_day(
    world: Draining, reply: int, max_bytes: int, until_ms: int
) -> None:
    world.begin()
    world.put(Lane.REALTIME, *some(3))
    world.endpoint.replies = [reply, 200]
    world.endpoint.body_bytes = 1_000_000
    run = world.new_run()
    assert run.run().delay_seconds is None
    assert world.endpoint.posts[1] == (["e1"] if reply == 422 else ["e1", "e2", "e3"])
    assert (run.health.max_bytes, run.health.max_bytes_until_ms) == (max_bytes, until_ms)
    assert run.health.request_size_ceiling == 100
    assert world.waiting(Lane.RETRY) == []


@pytest.mark.parametrize(("until_ms", "sizes"), [(NOW_MS + 1, [2, 2, 1]), (NOW_MS, [5])])
def test_for_a_day_a_request_has_half_the_bytes_of_one_that_was_too_large(
    world: Draining, until_ms: int, sizes: list[int]
) -> None:
    """However many events that is; and one at least, however large."""
    world.begin(replace(FALLEN, max_bytes=256 + 2 * 1001, max_bytes_until_ms=until_ms))
    events = [replace(each, event=replace(each.event, text="x" * 1000)) for each in some(5)]
    world.put(Lane.REALTIME, *events)
    world.new_run().run()
    assert [len(ids) for ids in world.endpoint.posts] == sizes


def test_one_event_goes_out_however_few_bytes_a_request_may_have(world: Draining) -> None:
    world.begin(replace(FALLEN, max_bytes=1, max_bytes_until_ms=NOW_MS + 1))
    world.put(Lane.REALTIME, *some(2))
    world.new_run().run()
    assert world.endpoint.posts == [["e1"], ["e2"]]


def test_a_retry_that_is_not_due_waits_and_its_mark_says_until_when(world: Draining) -> None:
    world.begin()
    world.put(Lane.RETRY, *some(1, tries=1, due_at_ms=NOW_MS + 1, attempts=(REJECTED,)))
    assert world.new_run().run().delay_seconds is None
    assert world.endpoint.posts == []
    assert mark_of(world, Lane.RETRY).due_at_ms == NOW_MS + 1


def test_a_batch_lane_waits_for_its_slot(world: Draining) -> None:
    world.begin()
    world.put(Lane.BATCH, *some(1), due_at_ms=NOW_MS + 1)
    assert world.new_run().run().delay_seconds is None
    assert (world.endpoint.posts, world.waiting_ids(Lane.BATCH)) == ([], ["e1"])


def test_lanes_are_served_in_their_order(world: Draining) -> None:
    world.begin()
    world.put(Lane.RETRY, waiting("rejected", tries=1, due_at_ms=NOW_MS), due_at_ms=NOW_MS)
    world.put(Lane.BATCH, waiting("batch"))
    world.put(Lane.REALTIME, waiting("real-time"))
    world.new_run().run()
    assert world.endpoint.posts == [["real-time"], ["batch"], ["rejected"]]
    assert world.backlog.markers(ID) == {}


@pytest.mark.parametrize(("bytes_each", "sizes"), [(130_943, [2]), (130_944, [1, 1])])
def test_a_post_is_256_kib_at_most(world: Draining, bytes_each: int, sizes: list[int]) -> None:
    """Less 256 bytes for what surrounds the events; each takes a comma."""
    world.begin()
    large = [
        PendingEvent(
            replace(each.event, text='"' + "é" * ((bytes_each - 2) // 2) + "x" * (bytes_each % 2) + '"')
        )
        for each in some(2)
    ]
    world.put(Lane.REALTIME, *large)
    world.new_run().run()
    assert [len(ids) for ids in world.endpoint.posts] == sizes


def fill(world: Draining, *lanes: Lane, count: int) -> None:
    """So many events in each of these lanes, all due."""
    for lane in lanes:
        more = {"tries": 1, "due_at_ms": NOW_MS} if lane is Lane.RETRY else {}
        if lane is Lane.REPLAY:
            more = {"asked_at_ms": NOW_MS}
        events = [waiting(f"{lane}{number:02d}", at_ms=NOW_MS + number, **more) for number in range(count)]
        world.put(lane, *events)


def lanes_of(world: Draining) -> list[str]:
    """The lane that each POST was of."""
    return [ids[0].rstrip("0123456789") for ids in world.endpoint.posts]


def test_a_lower_lane_that_is_due_gets_one_request_in_four(world: Draining) -> None:
    world.begin(ONE_BY_ONE)
    fill(world, Lane.REALTIME, count=9)
    fill(world, Lane.BATCH, count=2)
    world.new_run().run()
    assert lanes_of(world) == [*["realtime"] * 3, "batch", *["realtime"] * 3, "batch", *["realtime"] * 3]
    assert [ids[0] for ids in world.endpoint.posts if "realtime" in ids[0]] == [
        f"realtime{number:02d}" for number in range(9)
    ], "in their order"


def test_lower_lanes_take_turns(world: Draining) -> None:
    """A replay is due until it ends; the others must not wait for that."""
    world.begin(ONE_BY_ONE)
    fill(world, Lane.BATCH, Lane.RETRY, Lane.REPLAY, count=2)
    world.new_run().run()
    assert lanes_of(world) == ["batch", "retry", "replay"] * 2


def test_what_was_served_last_is_known_in_the_next_turn(world: Draining) -> None:
    """However few requests a run has time for."""
    world.begin(ONE_BY_ONE)
    fill(world, *Lane, count=12)
    for _ in range(12):
        seconds = iter([1.0, 1.0, 0.0])  # for one POST
        world.drain(remaining_ms=lambda: int(next(seconds) * 1000) + 20_000)  # noqa: B023
    assert lanes_of(world) == [
        each for lane in ("batch", "retry", "replay") for each in ("realtime", "realtime", "realtime", lane)
    ]


# Poison


def poison(*which: str, reply: Any = 500) -> Callable[[list[str]], Any]:
    """An endpoint that fails at these events, and takes every other."""
    return lambda ids: reply if set(ids) & set(which) else 200


def probes(world: Draining, count: int) -> list[list[str]]:
    """Let so many turns take place, each when its probe is due; return what they sent."""
    sent = len(world.endpoint.posts)
    for _ in range(count):
        world.drain()
        world.now = max(world.now, world.health().next_attempt_at_ms / 1000)
    return world.endpoint.posts[sent:]


@pytest.mark.parametrize("reply", [500, 401, 301, ErrorClass.TIMEOUT, ErrorClass.CONNECTION_LOST])
def test_an_event_that_the_endpoint_fails_at_is_set_aside_when_another_got_through(
    world: Draining, reply: Any
) -> None:
    world.begin(replace(FALLEN, request_size=1))
    world.put(Lane.REALTIME, *some(4))
    world.endpoint.answers = poison("e1", reply=reply)
    assert probes(world, 2) == [["e1"]] * 2
    assert probes(world, 1) == [["e1"], ["e2"], ["e1"], ["e3"], ["e4"]]
    (aside,) = world.waiting(Lane.RETRY)
    assert (aside.event.event_id, aside.tries, len(aside.attempts)) == ("e1", 1, 1)
    health = world.health()
    assert (health.failures, health.rejections, health.suspects) == (0, 0, {})
    assert health.last_error == ""


def test_two_such_events_in_a_row_do_not_stop_those_behind_them(world: Draining) -> None:
    world.begin(replace(FALLEN, request_size=1))
    world.put(Lane.REALTIME, *some(6))
    world.endpoint.answers = poison("e1", "e2")
    assert probes(world, 3) == [["e1"], ["e1"], ["e1"], ["e2"]]
    assert probes(world, 1) == [["e1"], ["e5"], ["e1"], ["e2"], ["e3"], ["e4", "e6"]]
    assert world.waiting_ids(Lane.RETRY) == ["e1", "e2"]


def test_a_failing_endpoint_gets_four_other_events_too_and_then_one_each_third_time(world: Draining) -> None:
    """When it is well again, the first event arrives first."""
    world.begin(replace(FALLEN, request_size=1))
    world.put(Lane.REALTIME, *some(8))
    world.endpoint.replies = [503]
    others = {3: ["e2"], 4: ["e6"], 5: ["e3"], 6: ["e7"], 9: ["e5"], 12: ["e2"], 15: ["e6"], 18: ["e4"]}
    others |= {21: ["e8"], 24: ["e5"]}
    assert [ids[0] for ids in probes(world, 25)] == [
        each for failures in range(1, 26) for each in ("e1", *others.get(failures, []))
    ]
    assert world.health().failures == 25, "the other one is no failure of its own"
    assert world.health().next_attempt_at_ms == int(world.now * 1000)
    world.endpoint.replies = [200]
    assert probes(world, 1) == [[f"e{number}"] for number in range(1, 9)]
    assert (world.waiting(Lane.RETRY), world.health().suspects) == ([], {})


def test_other_events_are_those_of_all_lanes_in_turn_and_never_the_first_one_again(world: Draining) -> None:
    """The first one also waits to be sent again, which somebody asked for. What was set aside has no run."""
    world.begin(replace(FALLEN, request_size=1))
    first, second, third, fourth, aside = some(5)
    world.put(Lane.REALTIME, first, second)
    world.put(Lane.BATCH, third, fourth)
    world.put(Lane.RETRY, replace(aside, due_at_ms=NOW_MS - 1))
    world.put(Lane.REPLAY, first)
    world.endpoint.replies = [503]
    sent = [ids[0] for ids in probes(world, 12)]
    assert [each for each in sent if each != "e1"] == ["e2", "e3", "e2", "e2", "e4", "e2"]


@pytest.mark.parametrize(("asked", "delays"), [(["600", ""], 600), (["", "600"], 600), (["", ""], 20)])
def test_of_two_probes_the_one_that_asks_for_the_longer_wait_counts(
    world: Draining, asked: list[str], delays: int
) -> None:
    world.begin(replace(FAILING, failures=2, suspects={some(1)[0].event.sort_key: 2}))
    world.put(Lane.REALTIME, *some(2))

    def fails(_: list[str]) -> int:
        world.endpoint.retry_after = asked.pop(0)
        return 503

    world.endpoint.answers = fails
    run = world.new_run()
    assert run.run().delay_seconds == delays
    assert (run.health.failures, run.health.next_attempt_at_ms) == (3, NOW_MS + delays * 1000)
    assert len(run.health.attempts) == 2


def test_without_time_for_another_event_it_is_no_suspect(world: Draining) -> None:
    world.begin(replace(FAILING, failures=2, suspects={some(1)[0].event.sort_key: 2}))
    world.put(Lane.REALTIME, *some(2))
    world.endpoint.replies = [503]
    ends_at = world.now + 1
    world.endpoint.before_reply = lambda: world.sleep(1)
    run = world.new_run(seconds=lambda: ends_at - world.now)
    assert run.run().delay_seconds == 20
    assert (world.endpoint.posts, run.health.failures) == ([["e1"]], 3)
    assert run.health.suspects == {some(1)[0].event.sort_key: 3}


def test_a_410_to_the_other_event_disables_too(world: Draining) -> None:
    world.begin(replace(FAILING, failures=2, suspects={some(1)[0].event.sort_key: 2}))
    world.put(Lane.REALTIME, *some(2))
    world.endpoint.replies = [503, 410]
    run = world.new_run()
    assert run.run().delay_seconds is None
    assert run.health.disabled_reason is DisabledReason.GONE


@pytest.mark.parametrize("reply", [429, ErrorClass.CONNECT, ErrorClass.DNS, ErrorClass.TLS])
def test_what_cannot_be_about_the_event_makes_it_no_suspect(world: Draining, reply: Any) -> None:
    world.begin(replace(FALLEN, request_size=1))
    world.put(Lane.REALTIME, *some(4))
    world.endpoint.replies = [reply]
    assert probes(world, 6) == [["e1"]] * 6


def test_an_ordered_webhook_waits_for_its_first_event(world: Draining) -> None:
    world.begin(replace(FALLEN, request_size=1), ordered=True)
    world.put(Lane.REALTIME, *some(4))
    world.endpoint.answers = poison("e1")
    assert probes(world, 8) == [["e1"]] * 8
    assert world.waiting_ids(Lane.REALTIME) == ["e1", "e2", "e3", "e4"]


def test_another_lane_shows_that_the_endpoint_answers(world: Draining) -> None:
    world.begin(replace(FALLEN, request_size=1))
    fill(world, Lane.BATCH, count=1)
    fill(world, Lane.RETRY, count=1)
    world.endpoint.answers = poison("batch00")
    assert probes(world, 2) == [["batch00"]] * 2
    assert probes(world, 1) == [["batch00"], ["retry00"], ["batch00"]]
    assert world.waiting_ids(Lane.RETRY) == ["batch00"]
    assert world.health().failures == 0


def test_an_event_in_the_midst_of_a_lower_lane_is_found_while_real_time_events_get_through(
    world: Draining,
) -> None:
    """Each success of the real-time lane makes requests larger again."""
    world.begin()
    fill(world, Lane.BATCH, count=40)
    world.endpoint.answers = poison("batch23")
    for number in range(40):
        world.put(Lane.REALTIME, waiting(f"new{number:02d}", at_ms=NOW_MS + 1000 + number))
        probes(world, 1)
    assert world.waiting_ids(Lane.RETRY) == ["batch23"]
    assert world.waiting_ids(Lane.BATCH) == []
    assert world.outcome(waiting("batch39", at_ms=NOW_MS + 39).event) == "delivered"


@pytest.mark.parametrize(("last", "failures"), [(500, 0), (422, 1)])
def test_an_event_that_was_set_aside_for_a_failure_and_fails_again_charges_no_endpoint(
    world: Draining, last: int, failures: int
) -> None:
    """Else the whole webhook would wait after each of its seven tries."""
    world.begin()
    aside = replace(REJECTED, status_code=last)
    world.put(Lane.RETRY, waiting("e1", tries=1, due_at_ms=NOW_MS, attempts=(aside,)), due_at_ms=NOW_MS)
    world.endpoint.answers = poison("e1")
    run = world.new_run()
    run.run()
    assert (run.health.failures, run.health.rejections) == (failures, 0)
    (again,) = world.waiting(Lane.RETRY)
    assert again.tries == 1 + (failures == 0)


def test_a_replay_goes_on_behind_an_event_that_the_endpoint_fails_at(world: Draining) -> None:
    world.begin(replace(FALLEN, request_size=1))
    recorded(world, 4)
    start_replay(world)
    world.endpoint.answers = poison("e1")
    assert probes(world, 2) == [["e1"]] * 2
    assert probes(world, 1) == [["e1"], ["e2"], ["e1"], ["e3", "e4"]]
    replay = world.replay_store.find(ID)
    assert replay is not None
    assert (replay.state, replay.delivered, replay.rejected) == (ReplayState.DONE, 3, 1)


# Failures


@pytest.mark.parametrize(
    ("failures", "reply", "retry_after", "delay"),
    [
        (0, 503, "", 5),
        (1, 503, "", 10),
        (5, 500, "", 160),
        (0, 503, "120", 120),
        (0, 500, "120", 5),
        (0, ErrorClass.CONNECT, "", 5),
    ],
)
def test_an_endpoint_failure_ends_the_turn_and_says_when_the_next_probe_is(
    world: Draining, failures: int, reply: Any, retry_after: str, delay: int
) -> None:
    world.begin(replace(FALLEN, failures=failures, failing_since_ms=NOW_MS - 1))
    world.put(Lane.REALTIME, *some(2))
    world.endpoint.replies, world.endpoint.retry_after = [reply], retry_after
    run = world.new_run()
    assert run.run().delay_seconds == delay
    assert run.health.failures == failures + 1
    assert run.health.next_attempt_at_ms == NOW_MS + delay * 1000
    sent = ["e1"] if failures else ["e1", "e2"]  # while it fails, one event is the probe
    assert (world.endpoint.posts, world.waiting_ids(Lane.REALTIME)) == ([sent], ["e1", "e2"])
    assert world.metrics == {"AttemptsFailed": 1}
    assert world.endpoint.logged == sent


@pytest.mark.parametrize(
    ("reply", "ceiling"), [(ErrorClass.TIMEOUT, 2), (ErrorClass.CONNECTION_LOST, 100), (503, 100)]
)
def test_a_time_out_says_something_of_size(world: Draining, reply: Any, ceiling: int) -> None:
    world.begin()
    world.put(Lane.REALTIME, *some(4))
    world.endpoint.replies = [reply]
    run = world.new_run()
    run.run()
    assert run.health.request_size_ceiling == ceiling


@pytest.mark.parametrize(("failing_for_ms", "is_off"), [(RETENTION_MS - 1, False), (RETENTION_MS, True)])
def test_who_fails_for_as_long_as_events_are_kept_is_switched_off(
    world: Draining, failing_for_ms: int, is_off: bool
) -> None:
    world.begin(
        replace(
            FALLEN,
            failures=900,
            failing_since_ms=NOW_MS - failing_for_ms,
            attempts=(replace(REJECTED, status_code=503),),
        )
    )
    world.put(Lane.REALTIME, *some(1))
    world.endpoint.replies = [503]
    run = world.new_run()
    delay = run.run().delay_seconds
    assert (run.health.disabled_reason, delay) == ((DisabledReason.FAILING, None) if is_off else (None, 300))
    assert world.metrics["WebhooksDisabled"] == int(is_off)


def test_a_410_switches_off_and_sends_nothing_more(world: Draining) -> None:
    world.begin()
    world.put(Lane.REALTIME, *some(1))
    world.endpoint.replies = [410]
    run = world.new_run()
    assert run.run().delay_seconds is None
    assert (run.health.disabled_reason, run.health.disabled_at_ms) == (DisabledReason.GONE, NOW_MS)
    assert world.metrics == {"WebhooksDisabled": 1}
    assert not run.may_send()


# What changed meanwhile


@pytest.mark.parametrize("status", list(Status))
def test_only_an_active_webhook_that_is_not_switched_off_gets_anything(
    world: Draining, status: Status
) -> None:
    world.begin(status=status)
    world.put(Lane.REALTIME, *some(1))
    world.new_run().run()
    assert world.endpoint.posts == ([["e1"]] if status is Status.ACTIVE else [])


def test_after_a_change_of_the_url_what_is_known_of_the_old_one_counts_no_more(world: Draining) -> None:
    """Failures, ceiling and pause were the old endpoint's."""
    world.begin(replace(ONE_BY_ONE, failures=6, failing_since_ms=NOW_MS - 1))
    world.put(Lane.REALTIME, *some(4))
    run = world.new_run()
    changed = replace(WEBHOOK, target_url="https://new.example.com/", epoch=2, version=2)
    world.store.update(changed, expected=WEBHOOK)
    world.endpoint.replies = [503]
    assert run.run().delay_seconds == 5  # the first failure, not the seventh
    assert (run.health.epoch, run.health.failures, run.health.request_size_ceiling) == (2, 1, 100)
    assert (run.initial_health.epoch, run.initial_health.failures) == (2, 0)


def test_a_change_in_the_middle_of_a_turn_gives_the_rest_to_the_new_endpoint_as_new(world: Draining) -> None:
    world.begin(replace(FALLEN, request_size=2))
    world.put(Lane.REALTIME, *some(8))
    run = world.new_run()

    def change() -> None:
        if len(world.endpoint.posts) == 1:
            changed = replace(WEBHOOK, target_url="https://new.example.com/", epoch=2, version=2)
            world.store.update(changed, expected=WEBHOOK)
        world.now += 3  # longer than a registration is remembered

    world.endpoint.before_reply = change
    run.run()
    assert [len(ids) for ids in world.endpoint.posts] == [2, 1, 2, 3]
    assert run.initial_health.epoch == run.health.epoch == 2
    assert len(run.health.attempts) == 3


def test_a_url_that_is_changed_between_two_probes_inherits_no_failures(world: Draining) -> None:
    """Its own dispatcher saw one by then."""
    world.begin(replace(FAILING, failures=5, suspects={some(1)[0].event.sort_key: 2}))
    world.put(Lane.REALTIME, *some(2))
    run = world.new_run()

    def change() -> None:
        if len(world.endpoint.posts) == 1:
            changed = replace(WEBHOOK, target_url="https://new.example.com/", epoch=2, version=2)
            world.store.update(changed, expected=WEBHOOK)
            new = world.health()
            assert world.health_store.save(ACCOUNT, ID, replace(new, failures=1), revision=new.revision)
        world.now += 3  # longer than a registration is remembered

    world.endpoint.before_reply = change
    world.endpoint.replies = [503]
    assert run.run().delay_seconds == 10
    assert (run.health.epoch, run.health.failures) == (2, 2)


def test_a_registration_that_is_remembered_from_before_the_lease_is_read_again(world: Draining) -> None:
    world.begin()
    world.webhook_cache.for_account(ACCOUNT)  # remembered as it was
    changed = replace(WEBHOOK, target_url="https://new.example.com/", epoch=2, version=2)
    world.store.update(changed, expected=WEBHOOK)
    world.put(Lane.REALTIME, *some(1))
    assert world.new_run().run().delay_seconds is None
    assert world.endpoint.posts == [["e1"]]
    assert (world.endpoint.urls, world.backlog.markers(ID)) == (["https://new.example.com/"], {})


def test_a_webhook_that_was_deleted_meanwhile_is_for_the_next_drainer(world: Draining) -> None:
    world.begin()
    world.put(Lane.REALTIME, *some(1))
    run = world.new_run()
    world.store.delete(ACCOUNT, ID, deleted_at=WHEN, deleted_by="ada")
    assert run.run().delay_seconds == 0.0
    assert (world.endpoint.posts, run.may_send()) == ([], False)


def test_health_that_another_wrote_meanwhile_stands_and_a_successor_looks_again(world: Draining) -> None:
    world.begin()
    world.put(Lane.REALTIME, *some(1))
    revision = world.health().revision

    def race() -> None:
        seen = replace(world.health(), failures=1, last_error="HTTP 502")
        assert world.health_store.save(ACCOUNT, ID, seen, revision=revision)

    world.endpoint.before_reply = race
    world.drain()
    assert world.health().last_error == "HTTP 502"
    assert world.sent_for == [0]
    (successor,) = world.drain_messages
    assert world.health_store.acquire(
        ACCOUNT, ID, owner="next", now_ms=NOW_MS, until_ms=NOW_MS + 1, ticket=successor.ticket
    )


def test_events_that_came_while_the_lease_was_held_are_sent_for(world: Draining) -> None:
    """Their own drainer found it taken."""
    world.begin()
    world.put(Lane.REALTIME, *some(1))
    release = world.health_store.release

    def append_before(*arguments: Any, **more: Any) -> bool:
        world.put(Lane.REALTIME, waiting("late"))
        return release(*arguments, **more)

    world.health_store.release = append_before  # type: ignore[method-assign]
    world.drain()
    assert (world.endpoint.posts, world.sent_for) == ([["e1"]], [0])


# Direct mode again


@pytest.mark.parametrize(
    ("since_ms", "ordered", "mode"),
    [
        (MINUTE_MS, False, Mode.DIRECT),
        (MINUTE_MS - 1, False, Mode.BACKLOG),
        (MINUTE_MS, True, Mode.BACKLOG),
    ],
)
def test_an_empty_backlog_of_a_minute_leads_back_to_direct_mode(
    world: Draining, since_ms: int, ordered: bool, mode: Mode
) -> None:
    world.begin(replace(FALLEN, backlog_since_ms=NOW_MS - since_ms), ordered=ordered)
    run = world.new_run()
    assert run.run().delay_seconds is None
    assert run.health.mode is mode
    assert run.health.recovered_at_ms == (NOW_MS if mode is Mode.DIRECT else 0)


def test_what_waits_in_the_real_time_lane_keeps_a_webhook_from_direct_mode(world: Draining) -> None:
    """It may be due later; an event that is sent directly would overtake it."""
    world.begin(replace(FALLEN, backlog_since_ms=NOW_MS - MINUTE_MS))
    world.put(Lane.REALTIME, *some(1), due_at_ms=NOW_MS + 1)
    run = world.new_run()
    assert run.run().delay_seconds is None
    assert (world.endpoint.posts, run.health.mode) == ([], Mode.BACKLOG)


def test_a_webhook_whose_real_time_lane_is_nearly_empty_for_a_minute_returns_to_direct_mode(
    world: Draining,
) -> None:
    """A new event comes with each request, so the lane is never found empty. What is left goes out beside."""
    world.begin(replace(FALLEN, backlog_since_ms=NOW_MS))
    numbers = iter(range(1000))

    def one_more() -> None:
        world.put(Lane.REALTIME, waiting(f"n{next(numbers)}", at_ms=int(world.now * 1000)))
        world.now += 1

    one_more()
    world.endpoint.before_reply = one_more
    for _ in range(2):
        ends_at = world.now + 40
        world.drain(remaining_ms=lambda: int((ends_at + 20 - world.now) * 1000))  # noqa: B023
    assert world.health().mode is Mode.DIRECT
    assert NOW_MS + MINUTE_MS <= world.health().recovered_at_ms <= NOW_MS + MINUTE_MS + 2000
    assert world.sent_for[-1] == 0
    assert len(world.waiting(Lane.REALTIME)) == 1


def test_a_lower_lane_that_is_never_empty_does_not_keep_a_webhook_from_direct_mode(world: Draining) -> None:
    world.begin(replace(ONE_BY_ONE, backlog_since_ms=NOW_MS - MINUTE_MS))
    fill(world, Lane.BATCH, count=3)
    run = world.new_run()
    assert run.run().delay_seconds == 0.0
    assert (run.health.mode, world.endpoint.posts) == (Mode.DIRECT, [])


def test_the_time_of_a_turn_is_in_whole_milliseconds_that_have_passed(world: Draining) -> None:
    """Rounded up, something would be due, or be over, before its time."""
    world.begin()
    world.now = NOW_MS / 1000 + 0.0006
    world.put(Lane.RETRY, *some(1, tries=1, due_at_ms=NOW_MS + 1, attempts=(REJECTED,)), due_at_ms=NOW_MS)
    world.new_run().run()
    assert world.endpoint.posts == []


# Sent again


def recorded(world: Draining, count: int, *, outcome: Outcome = Outcome.DELIVERED) -> None:
    """So many deliveries in the history."""
    old = replace(SUCCESS, started_at_ms=NOW_MS - DAY_MS)
    world.history.record(
        [Delivery(ID, each.event, outcome, (old,), "reason") for each in some(count)],
        recorded_at_seconds=NOW_MS // 1000,
    )


def start_replay(world: Draining, **more: Any) -> None:
    """All of the history, or of it what `more` says."""
    fields: dict[str, Any] = {"outcome": None, "event_name": None, **more}
    replay = Replay("r1", ACCOUNT, ID, KeyRange("0", "9"), started_at_ms=NOW_MS, started_by="ada", **fields)
    world.replay_store.start(replay, world.backlog)


def test_a_replay_sends_portion_by_portion_and_ends(world: Draining) -> None:
    world.begin(replace(FALLEN, request_size=2))
    recorded(world, 5)
    start_replay(world)
    assert world.new_run().run().delay_seconds is None
    assert world.endpoint.posts == [["e1", "e2"], ["e3", "e4", "e5"]]
    replay = world.replay_store.find(ID)
    assert replay is not None
    assert (replay.state, replay.read, replay.delivered, replay.rejected) == (ReplayState.DONE, 5, 5, 0)
    assert world.backlog.markers(ID) == {}


def test_a_replay_passes_over_what_it_does_not_send(world: Draining) -> None:
    world.begin()
    recorded(world, 3)
    start_replay(world, outcome=Outcome.EXPIRED)
    assert world.new_run().run().delay_seconds is None
    replay = world.replay_store.find(ID)
    assert replay is not None
    assert (world.endpoint.posts, replay.state, replay.read) == ([], ReplayState.DONE, 3)
    assert world.backlog.markers(ID) == {}


def test_a_replay_that_is_only_rejected_pauses_for_a_minute_after_ten_and_charges_nobody(
    world: Draining,
) -> None:
    world.begin(replace(FALLEN, request_size=1, min_stay_seconds=900))
    recorded(world, 12)
    start_replay(world)
    world.endpoint.replies = [422]
    run = world.new_run()
    assert run.run().delay_seconds is None
    assert world.endpoint.posts == [[f"e{number}"] for number in range(1, 11)]
    assert mark_of(world, Lane.REPLAY).due_at_ms == NOW_MS + MINUTE_MS
    assert (run.health.failures, run.health.rejections) == (0, 0)
    assert world.waiting(Lane.RETRY) == []
    world.now += 60
    world.new_run().run()
    replay = world.replay_store.find(ID)
    assert replay is not None
    assert (replay.state, replay.rejected) == (ReplayState.DONE, 12)


def test_a_success_between_them_is_no_pause(world: Draining) -> None:
    world.begin(ONE_BY_ONE)
    recorded(world, 12)
    start_replay(world)
    world.endpoint.replies = [*[422] * 9, 200, *[422] * 2, 200]
    world.new_run().run()
    assert len(world.endpoint.posts) == 12


@pytest.mark.parametrize("reply", [200, 422])
def test_what_is_sent_again_and_not_recorded_is_not_sent_once_more_at_once(
    world: Draining, reply: int
) -> None:
    world.begin()
    recorded(world, 1)
    start_replay(world)
    world.endpoint.replies = [reply]
    refuse_writes(world.deliveries_table, of="DELIVERY#")
    assert world.new_run().run().delay_seconds == 5
    assert world.endpoint.posts == [["e1"]]


def test_the_replay_lane_stays_marked_while_a_replay_is_under_way(world: Draining) -> None:
    """Nothing stands in the lane itself, and its check must not take the mark away."""
    world.begin(status=Status.PAUSED)
    recorded(world, 1)
    start_replay(world)
    world.now += 8 * 86_400
    assert world.new_run().run().delay_seconds is None
    assert mark_of(world, Lane.REPLAY).check_at_ms == NOW_MS + 8 * DAY_MS + RETENTION_MS


@pytest.mark.parametrize(("age_ms", "is_left"), [(RETENTION_MS - 1, True), (RETENTION_MS, False)])
def test_that_it_is_to_be_sent_again_ends_from_when_it_was_asked_for_and_stays_on_record(
    world: Draining, age_ms: int, is_left: bool
) -> None:
    world.begin(status=Status.PAUSED)
    recorded(world, 1)
    asked = replace(some(1)[0], asked_at_ms=NOW_MS - age_ms)
    world.put(Lane.REPLAY, replace(asked, event=replace(asked.event, accepted_at_ms=NOW_MS - RETENTION_MS)))
    assert mark_of(world, Lane.REPLAY).check_at_ms <= NOW_MS
    assert world.new_run().run().delay_seconds is None
    assert (world.waiting_ids(Lane.REPLAY) == ["e1"], Lane.REPLAY in world.backlog.markers(ID)) == (
        is_left,
        is_left,
    )
    assert world.outcome(some(1)[0].event) == "delivered"


def test_the_retry_lane_is_marked_before_an_event_is_put_there(world: Draining) -> None:
    """One who dies in between leaves it in both lanes, and the mark leads to the second."""
    world.begin()
    world.put(Lane.REALTIME, *some(1))
    world.endpoint.replies = [422]
    refuse_writes(world.deliveries_table, of=f"BACKLOG#{ID}#retry")
    assert world.new_run().run().delay_seconds == 5
    assert mark_of(world, Lane.RETRY).due_at_ms == NOW_MS + MINUTE_MS


def test_the_retry_lane_is_marked_once_more_when_the_event_is_there(world: Draining) -> None:
    """One who purges a deleted webhook may have taken the first mark away."""
    world.begin()
    world.put(Lane.REALTIME, *some(1))
    world.endpoint.replies = [422]
    client = before(world.deliveries_table)

    def bury_first(**request: Any) -> Any:
        mark = world.backlog.markers(ID).get(Lane.RETRY)
        if mark is not None and "PutRequest" in str(request):
            assert world.backlog.clear_marker(mark)
        return client.behind.batch_write_item(**request)

    client.answers["batch_write_item"] = bury_first
    world.new_run().run()
    assert world.waiting_ids(Lane.RETRY) == ["e1"]
    assert mark_of(world, Lane.RETRY).due_at_ms == NOW_MS + MINUTE_MS


def test_a_drainer_asks_whether_the_webhook_is_still_there(world: Draining) -> None:
    """Its environment may remember it from a moment ago; to what was deleted since nothing is sent."""
    world.begin()
    world.put(Lane.REALTIME, *some(1))
    world.webhook_cache.for_account(ACCOUNT)
    world.store.delete(ACCOUNT, ID, deleted_at=WHEN - timedelta(seconds=LEASE_SECONDS + 1), deleted_by="ada")
    world.drain()
    assert (world.endpoint.posts, world.outcome(some(1)[0].event)) == ([], "failed")
