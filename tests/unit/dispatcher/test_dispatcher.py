"""One SQS batch: what is sent at once, what waits, and which messages must come again."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lms_webhooks.dispatcher.batch_reader import CONFLICTING_EVENT
from lms_webhooks.dispatcher.dispatcher import SQS_BATCH_SIZE, Dispatcher
from lms_webhooks.model.attempts import Attempt, ErrorClass
from lms_webhooks.model.deliveries import Delivery, Outcome
from lms_webhooks.model.event_types import with_extra_types
from lms_webhooks.model.events import MAX_EVENT_ID_BYTES
from lms_webhooks.model.health import DisabledReason, Health, Mode
from lms_webhooks.model.lanes import Lane
from lms_webhooks.model.slots import BatchSchedule, DailyAt, EveryMinutes
from lms_webhooks.model.webhooks import Status
from lms_webhooks.sending.sender import Timeouts
from lms_webhooks.sending.sockets import OutOfResources
from tests.unit.flow import (
    ACCOUNT,
    BATCH,
    ID,
    REALTIME,
    RETENTION_DAYS,
    RETENTION_MS,
    WEBHOOK,
    WHEN,
    Flow,
    flow,
    refuse_writes,
)
from tests.unit.tables import DAY_MS, NOW_MS, Fails, Throttled, before, event, keep_requests

ADDED, REMOVED = (f"RESPONSE:ASYNCAPI_USERGROUP_USER_{done}" for done in ("ADDED", "REMOVED"))
OWN, OWN_BATCH = "BADGE_AWARDED", "ROLE:CHANGED"
"""Event types of the deployer's own."""


class Dispatching(Flow):
    """A dispatcher over the parts."""

    def __init__(self) -> None:
        super().__init__()
        self.dispatcher = Dispatcher(
            webhook_cache=self.webhook_cache,
            health=self.health_store,
            deliveries=self.history,
            backlog=self.backlog,
            webhook_client=self.webhook_client,
            drain_queue=self.drain_queue,
            quarantine=self.quarantine,
            event_source="lms",
            retention_days=RETENTION_DAYS,
            batch_every_minutes=20,
            event_types=with_extra_types(f"{OWN},{OWN_BATCH}:non-real-time"),
            clock=self.clock,
            jitter=lambda: 0.0,
        )

    def dispatch(
        self, *records: dict[str, Any], remaining_ms: Callable[[], int] = lambda: 60_000
    ) -> list[str]:
        return self.dispatcher.dispatch(records, remaining_ms=remaining_ms)

    def recorded(self, event_id: str, *, at_ms: int = NOW_MS) -> tuple[str, tuple[Attempt, ...]] | None:
        found = self.history.find(ID, key_of(event_id, at_ms=at_ms))
        return found and (found[0].outcome, found[0].attempts)


def key_of(event_id: str, *, at_ms: int = NOW_MS, name: str = REALTIME) -> str:
    return event(event_id, at_ms=at_ms, event_name=name).sort_key


@pytest.fixture
def world() -> Iterator[Dispatching]:
    with flow(Dispatching) as world:
        yield world


def message(
    event_id: str,
    *,
    at_ms: int = NOW_MS,
    accepted_at_ms: int = NOW_MS,
    name: str = REALTIME,
    receives: int = 1,
    account: int = int(ACCOUNT),
) -> dict[str, Any]:
    detail = {"accountId": account, "eventId": event_id, "eventName": name, "timestamp": at_ms, "data": {}}
    body = json.dumps({"source": "lms", "detail-type": name, "detail": detail})
    attributes = {"SentTimestamp": str(accepted_at_ms), "ApproximateReceiveCount": str(receives)}
    return {"messageId": f"m-{event_id}", "body": body, "attributes": attributes}


def several(count: int, **more: Any) -> list[dict[str, Any]]:
    return [message(f"e{number}", at_ms=NOW_MS + number, **more) for number in range(1, count + 1)]


def break_down(*_: object) -> None:
    raise LookupError("test")


def check_at_ms(world: Dispatching, lane: Lane) -> int:
    return world.backlog.markers(ID)[lane].check_at_ms


# At once


def test_each_event_is_sent_alone_and_recorded(world: Dispatching) -> None:
    world.register()
    assert world.dispatch(*several(2)) == []
    assert world.endpoint.posts == [["e1"], ["e2"]]
    assert world.recorded("e1", at_ms=NOW_MS + 1) == ("delivered", (Attempt(NOW_MS, 20, 200, None),))
    assert world.endpoint.logged == ["e1", "e2"]
    assert world.metrics == {"Deliveries": 2, "DeliveryLatency": 40}
    assert world.backlog.markers(ID) == {}


def test_they_go_out_in_the_order_of_their_own_time(world: Dispatching) -> None:
    world.register()
    world.dispatch(*reversed(several(3)))
    assert world.endpoint.posts == [["e1"], ["e2"], ["e3"]]


def test_a_post_has_five_seconds(world: Dispatching) -> None:
    world.register()
    world.dispatch(message("e1"))
    assert world.endpoint.timeouts == Timeouts(connect_seconds=5, response_seconds=5, total_seconds=5)
    assert SQS_BATCH_SIZE == 10


@pytest.mark.parametrize(("remaining_ms", "is_sent"), [(10_000, True), (9_999, False)])
def test_no_post_starts_that_would_leave_less_than_five_seconds_to_write_down_what_came_of_it(
    world: Dispatching, remaining_ms: int, is_sent: bool
) -> None:
    world.register()
    assert world.dispatch(message("e1"), remaining_ms=lambda: remaining_ms) == []
    assert world.endpoint.posts == ([["e1"]] if is_sent else [])
    assert world.waiting_ids(Lane.REALTIME) == ([] if is_sent else ["e1"])
    assert world.sent_for == ([] if is_sent else [0])


def test_what_has_no_time_left_goes_behind_what_waits(world: Dispatching) -> None:
    world.register()
    left_ms = [12_000]

    def slow() -> None:
        left_ms[0] -= 3_000

    world.endpoint.before_reply = slow
    world.dispatch(*several(3), remaining_ms=lambda: left_ms[0])
    assert world.endpoint.posts == [["e1"]]
    assert world.waiting_ids(Lane.REALTIME) == ["e2", "e3"]


# Recorded, or it comes again


def test_what_is_delivered_and_not_recorded_comes_again(world: Dispatching) -> None:
    world.register()
    refuse_writes(world.deliveries_table, of="DELIVERY#")
    assert world.dispatch(*several(2)) == ["m-e1", "m-e2"]
    assert world.metrics["MessagesReturned"] == 2


def test_what_was_delivered_when_it_came_before_is_not_sent_again(world: Dispatching) -> None:
    world.register()
    done = Delivery(ID, event("e1"), Outcome.DELIVERED, (Attempt(NOW_MS, 20, 200, None),))
    world.history.record([done], recorded_at_seconds=NOW_MS // 1000)
    assert world.dispatch(message("e1", receives=2), message("e2", at_ms=NOW_MS + 1)) == []
    assert world.endpoint.posts == [["e2"]]


def test_an_unreadable_history_is_no_empty_one(world: Dispatching) -> None:
    """What it may hold as delivered is not sent: all of the batch comes again."""
    world.register()
    client = before(world.deliveries_table)
    client.answers["batch_get_item"] = Fails(client.behind.batch_get_item)
    assert world.dispatch(*several(2)) == ["m-e1", "m-e2"]
    assert world.endpoint.posts == []
    assert [world.waiting(lane) for lane in Lane] == [[], [], [], []]


def test_the_history_is_read_at_half_the_price(world: Dispatching) -> None:
    world.register()
    asked = keep_requests(world.deliveries_table, "batch_get_item")
    world.dispatch(message("e1"))
    assert [each["RequestItems"]["deliveries"]["ConsistentRead"] for each in asked] == [False]


@pytest.mark.parametrize("lane", ["realtime", "batch"])
def test_what_cannot_be_put_into_its_lane_comes_again(world: Dispatching, lane: str) -> None:
    world.register(Health(mode=Mode.BACKLOG))
    refuse_writes(world.deliveries_table, of=f"BACKLOG#{ID}#{lane}")
    real_time, batch = message("real-time"), message("batch", name=BATCH)
    world.store.update(replace(WEBHOOK, events=frozenset({REALTIME, BATCH}), version=2), expected=WEBHOOK)
    assert world.dispatch(real_time, batch) == [{"realtime": "m-real-time", "batch": "m-batch"}[lane]]


def test_what_stands_in_a_lane_that_is_not_marked_comes_again(world: Dispatching) -> None:
    world.register(Health(mode=Mode.BACKLOG))
    refuse_writes(world.deliveries_table, of="DUE#")
    assert world.dispatch(message("e1")) == ["m-e1"]
    assert world.waiting_ids(Lane.REALTIME) == ["e1"]
    assert world.sent_for == []


def test_what_waits_in_a_marked_lane_is_safe_though_no_drainer_could_be_sent_for(world: Dispatching) -> None:
    """The sweep comes by."""
    world.register(Health(mode=Mode.BACKLOG))

    def refuse(*_: object, **__: object) -> None:
        raise Throttled

    world.drain_queue.schedule = refuse  # type: ignore[method-assign]
    assert world.dispatch(message("e1")) == []
    assert (world.waiting_ids(Lane.REALTIME), [*world.backlog.markers(ID)]) == (["e1"], [Lane.REALTIME])


def test_an_account_that_cannot_be_read_comes_again_and_others_do_not_wait(world: Dispatching) -> None:
    world.register()
    read_each = world.store.read_each

    def read(account_id: str) -> Any:
        if account_id == "2020":
            raise Throttled
        return read_each(account_id)

    world.store.read_each = read  # type: ignore[method-assign]
    assert world.dispatch(message("mine"), message("other", account=2020)) == ["m-other"]
    assert world.endpoint.posts == [["mine"]]


# Order


def test_nothing_overtakes_an_event_whose_failure_could_not_be_written(world: Dispatching) -> None:
    """The health still says direct; what stands behind in the batch waits all the same."""
    world.register()
    refuse_writes(world.webhooks_table, of="ACCOUNT#")
    world.endpoint.replies = [503, 200]
    assert world.dispatch(*several(3)) == []
    assert world.endpoint.posts == [["e1"]]
    assert world.waiting_ids(Lane.REALTIME) == ["e1", "e2", "e3"]
    assert world.health().mode is Mode.DIRECT
    assert world.sent_for == [5]


def test_a_failure_makes_all_behind_it_wait_and_says_for_how_long(world: Dispatching) -> None:
    world.register()
    world.endpoint.replies, world.endpoint.retry_after = [200, 503], "40"
    assert world.dispatch(*several(3)) == []
    assert world.endpoint.posts == [["e1"], ["e2"]]
    assert world.waiting_ids(Lane.REALTIME) == ["e2", "e3"]
    health = world.health()
    assert (health.mode, health.failures, health.last_error) == (Mode.BACKLOG, 1, "HTTP 503")
    assert health.next_attempt_at_ms == NOW_MS + 40_000
    assert world.sent_for == [40]
    assert world.metrics["AttemptsFailed"] == 1
    assert world.metrics["Deliveries"] == 1


def test_the_event_that_failed_is_not_charged_with_the_attempt(world: Dispatching) -> None:
    """What failed was the endpoint, not this event."""
    world.register()
    world.endpoint.replies = [ErrorClass.CONNECT]
    world.dispatch(message("e1"))
    (waiting,) = world.waiting(Lane.REALTIME)
    assert (waiting.tries, waiting.attempts, waiting.due_at_ms) == (0, (), 0)


@pytest.mark.parametrize(("other_waits_ms", "delay"), [(60_000, 60), (60_999, 60), (2_000, 5), (-1, 5)])
def test_who_loses_the_race_for_the_health_waits_as_long_as_the_winner_says(
    world: Dispatching, other_waits_ms: int, delay: int
) -> None:
    """A drainer that came before would find that it is early, and end."""
    world.register()
    world.endpoint.replies = [503]

    def race() -> None:
        other = Health(mode=Mode.BACKLOG, failures=1, next_attempt_at_ms=NOW_MS + other_waits_ms)
        assert world.health_store.save(ACCOUNT, ID, other, revision=world.health().revision)

    world.endpoint.before_reply = race
    assert world.dispatch(message("e1")) == []
    assert world.sent_for == [delay]
    assert world.health().next_attempt_at_ms == NOW_MS + other_waits_ms
    assert world.health().last_error == ""


def test_a_race_that_was_lost_to_a_deletion_is_no_fault(world: Dispatching) -> None:
    world.register()
    world.endpoint.replies = [503]
    world.endpoint.before_reply = lambda: world.store.delete(ACCOUNT, ID, deleted_at=WHEN, deleted_by="ada")
    assert world.dispatch(*several(2)) == []
    assert world.endpoint.posts == [["e1"]]
    assert (world.waiting_ids(Lane.REALTIME), world.sent_for) == (["e1", "e2"], [5])


def test_what_another_wrote_is_read_before_the_next_event(world: Dispatching) -> None:
    """After a fall, what was remembered of the registration is out of date."""
    world.register()
    world.endpoint.replies = [503]
    world.dispatch(message("e1"))
    assert world.dispatch(message("e2", at_ms=NOW_MS + 1)) == []
    assert world.endpoint.posts == [["e1"]]
    assert world.waiting_ids(Lane.REALTIME) == ["e1", "e2"]


# Slow


@pytest.mark.parametrize(("seconds", "sent"), [(0.19, 10), (0.3, 6), (0.9, 2), (1.1, 1), (3.0, 1)])
def test_a_webhook_has_two_seconds_of_a_batch(world: Dispatching, seconds: float, sent: int) -> None:
    """The rest waits, in order, and from now on the drainer sends. Nothing is charged to the endpoint."""
    world.register()
    world.endpoint.latency_ms = round(seconds * 1000)

    def take_time() -> None:
        world.now += seconds

    world.endpoint.before_reply = take_time
    assert world.dispatch(*several(10)) == []
    ids = [f"e{number}" for number in range(1, 11)]
    assert world.endpoint.posts == [[each] for each in ids[:sent]]
    assert world.waiting_ids(Lane.REALTIME) == sorted(ids[sent:], key=ids.index)
    health = world.health()
    assert health.mode is (Mode.DIRECT if sent == 10 else Mode.BACKLOG)
    assert (health.failures, health.failing_since_ms) == (0, 0)
    assert world.sent_for == ([] if sent == 10 else [0])


# By which queue


@pytest.mark.parametrize(
    ("changes", "health", "reply", "urgent"),
    [
        ({"ordered": True}, Health(), 200, [True]),
        ({"ordered": True}, Health(mode=Mode.BACKLOG, failures=1), 200, [False]),
        ({}, Health(), 503, [False]),
        ({}, Health(), 422, []),  # the sweep sends when it is due
        ({}, Health(mode=Mode.BACKLOG), 200, [True]),
    ],
    ids=["ordered", "failing", "fails now", "set aside", "slow before"],
)
def test_only_real_time_events_of_an_endpoint_that_answers_are_urgent(
    world: Dispatching, changes: dict[str, Any], health: Health, reply: int, urgent: list[bool]
) -> None:
    world.register(health, **changes)
    world.endpoint.replies = [reply]
    world.dispatch(message("e1"))
    assert world.urgent == urgent


def test_what_a_deleted_webhook_asked_for_is_not_urgent(world: Dispatching) -> None:
    world.register()
    world.store.delete(ACCOUNT, ID, deleted_at=WHEN, deleted_by="ada")
    world.dispatch(message("e1", receives=2, accepted_at_ms=NOW_MS - 1))
    assert set(world.urgent) == {False}


# Our own errors


@pytest.mark.parametrize(
    ("error", "counted"),
    [(Throttled(), 0), (OutOfResources("Too many open files"), 1), (LookupError("a bug"), 1)],
    ids=["KMS", "no descriptors", "bug"],
)
def test_what_we_cannot_send_waits_and_charges_no_endpoint(
    world: Dispatching, error: Exception, counted: int
) -> None:
    """From the queue it would end as a dead letter, which no history shows."""
    world.may_break = True
    world.register()

    def refuse() -> None:
        raise error

    setattr(world.endpoint, "before_credentials" if isinstance(error, Throttled) else "before_reply", refuse)
    assert world.dispatch(*several(3)) == []
    assert world.waiting_ids(Lane.REALTIME) == ["e1", "e2", "e3"]
    health = world.health()
    assert (health.mode, health.failures, health.attempts, health.last_error) == (Mode.BACKLOG, 0, (), "")
    assert world.sent_for == [5]
    assert world.metrics["InternalErrors"] == counted
    assert world.metrics["AttemptsFailed"] == 0


# Rejected


def test_a_rejected_event_is_set_aside_for_a_minute_and_the_others_go_on(world: Dispatching) -> None:
    world.register()
    world.endpoint.replies = [422, 200]
    assert world.dispatch(*several(2)) == []
    assert world.endpoint.posts == [["e1"], ["e2"]]
    (aside,) = world.waiting(Lane.RETRY)
    assert (aside.event.event_id, aside.tries, aside.due_at_ms) == ("e1", 1, NOW_MS + 60_000)
    assert aside.attempts == (Attempt(NOW_MS, 20, 422, None),)
    assert world.backlog.markers(ID)[Lane.RETRY].due_at_ms == NOW_MS + 60_000
    assert world.sent_for == [], "the sweep sends, or two messages were on their way for a minute"
    assert world.health() == replace(Health(), revision=world.health().revision)


def test_ten_rejections_in_a_row_are_the_endpoint_s(world: Dispatching) -> None:
    world.register()
    world.endpoint.replies = [422]
    assert world.dispatch(*several(9)) == []
    assert world.health().mode is Mode.DIRECT
    assert world.dispatch(message("e10", at_ms=NOW_MS + 10), message("e11", at_ms=NOW_MS + 11)) == []
    health = world.health()
    assert (health.mode, health.rejections, health.failures) == (Mode.BACKLOG, 10, 1)
    assert len(world.waiting(Lane.RETRY)) == 10
    assert world.waiting_ids(Lane.REALTIME) == ["e11"]
    assert len(world.endpoint.posts) == 10


def test_what_changed_while_a_secret_was_decrypted_counts(world: Dispatching) -> None:
    """KMS stalls for longer than a registration is remembered, and an admin pauses meanwhile."""
    webhook = world.register()

    def stall() -> None:
        world.now += 20
        if world.store.read_account(ACCOUNT)[0].webhook == webhook:
            world.store.update(replace(webhook, status=Status.PAUSED, version=2, epoch=2), expected=webhook)

    world.endpoint.before_credentials = stall
    assert world.dispatch(*several(2)) == []
    assert world.endpoint.posts == []
    assert world.waiting_ids(Lane.REALTIME) == ["e1", "e2"]


def test_time_that_passes_while_a_secret_is_decrypted_counts(world: Dispatching) -> None:
    world.register()
    seconds = [60]

    def stall() -> None:
        seconds[0] = 9

    world.endpoint.before_credentials = stall
    assert world.dispatch(message("e1"), remaining_ms=lambda: seconds[0] * 1000) == []
    assert (world.endpoint.posts, world.waiting_ids(Lane.REALTIME)) == ([], ["e1"])


def test_a_410_is_for_the_drainer_to_confirm_at_once(world: Dispatching) -> None:
    world.register()
    world.endpoint.replies = [410]
    world.dispatch(message("e1"))
    health = world.health()
    assert (health.mode, health.disabled_reason, health.next_attempt_at_ms) == (Mode.BACKLOG, None, NOW_MS)
    assert world.sent_for == [0]


def test_three_slow_answers_end_direct_mode_without_a_failure(world: Dispatching) -> None:
    world.register()
    world.endpoint.latency_ms = 1001
    assert world.dispatch(*several(4)) == []
    assert world.endpoint.posts == [["e1"], ["e2"], ["e3"]]
    health = world.health()
    assert (health.mode, health.failures, health.backlog_since_ms) == (Mode.BACKLOG, 0, NOW_MS)
    assert (world.waiting_ids(Lane.REALTIME), world.sent_for) == (["e4"], [0])


# Lanes and their marks


@pytest.mark.parametrize("lane", [Lane.REALTIME, Lane.BATCH])
def test_a_lane_is_looked_at_when_the_first_accepted_of_its_events_expires(
    world: Dispatching, lane: Lane
) -> None:
    """Messages that were held up for days come among fresh ones, in no order."""
    name = REALTIME if lane is Lane.REALTIME else BATCH
    world.register(Health(mode=Mode.BACKLOG), events=frozenset({REALTIME, BATCH}))
    ages = {"e1": 0, "e2": 3, "e3": 1}
    world.dispatch(
        *(
            message(each, at_ms=NOW_MS + index, accepted_at_ms=NOW_MS - ages[each] * DAY_MS, name=name)
            for index, each in enumerate(ages)
        )
    )
    assert check_at_ms(world, lane) == NOW_MS - 3 * DAY_MS + RETENTION_MS


def test_who_looks_for_what_came_before_marks_its_lanes_from_the_first_accepted(world: Dispatching) -> None:
    world.register()
    assert (
        world.dispatch(
            message("e1", receives=2, accepted_at_ms=NOW_MS - DAY_MS),
            message("e2", receives=3, accepted_at_ms=NOW_MS - 2 * DAY_MS),
        )
        == []
    )
    assert [*world.backlog.markers(ID)] == [Lane.REALTIME, Lane.RETRY]
    for lane in (Lane.REALTIME, Lane.RETRY):
        assert check_at_ms(world, lane) == NOW_MS - 2 * DAY_MS + RETENTION_MS
    assert world.sent_for == [0]


def test_a_non_real_time_event_that_came_before_is_looked_for_in_its_one_lane(world: Dispatching) -> None:
    world.register(events=frozenset({BATCH}))
    world.dispatch(message("e1", name=BATCH, receives=2))
    (mark,) = world.backlog.markers(ID).values()
    assert (mark.lane, mark.due_at_ms, world.sent_for) == (Lane.BATCH, NOW_MS + 20 * 60_000, [])


def test_lanes_that_cannot_be_marked_make_what_came_before_come_again(world: Dispatching) -> None:
    world.register()
    refuse_writes(world.deliveries_table, of="DUE#")
    assert world.dispatch(message("e1", receives=2), message("e2", at_ms=NOW_MS + 1)) == ["m-e1"]
    assert world.endpoint.posts == [["e1"], ["e2"]]


def test_non_real_time_events_wait_for_their_slot_and_nobody_is_sent_for(world: Dispatching) -> None:
    world.register(events=frozenset({BATCH}))
    assert world.dispatch(message("e1", name=BATCH)) == []
    assert (world.waiting_ids(Lane.BATCH), world.sent_for, world.endpoint.posts) == (["e1"], [], [])
    assert world.backlog.markers(ID)[Lane.BATCH].due_at_ms == NOW_MS + 20 * 60_000


@pytest.mark.parametrize(
    ("schedule", "minutes"),
    [
        (EveryMinutes(45), 45),
        (DailyAt(("13:10", "02:00"), "Europe/Rome"), 10),
        (DailyAt(("13:10",), "Europe/Atlantis"), 20),
    ],
    ids=["period", "daily", "a zone that this version does not know"],
)
def test_a_webhook_s_own_schedule_sets_the_slot(
    world: Dispatching, schedule: BatchSchedule, minutes: int
) -> None:
    world.may_break = "Europe/Atlantis" in repr(schedule)
    world.register(events=frozenset({BATCH}), batch_schedule=schedule)
    assert world.dispatch(message("e1", name=BATCH)) == []
    assert world.backlog.markers(ID)[Lane.BATCH].due_at_ms == NOW_MS + minutes * 60_000
    world.backlog.clear_marker(world.backlog.markers(ID)[Lane.BATCH])
    world.dispatch(message("e1", name=BATCH, receives=2))
    assert world.backlog.markers(ID)[Lane.BATCH].due_at_ms == NOW_MS + minutes * 60_000
    assert (world.metrics.get("InternalErrors", 0) > 0) is world.may_break


def test_types_of_the_deployers_own_go_out_as_their_category_says(world: Dispatching) -> None:
    world.register(events=frozenset({OWN, OWN_BATCH}))
    assert world.dispatch(message("e1", name=OWN), message("e2", name=OWN_BATCH)) == []
    assert world.endpoint.posts == [["e1"]]
    assert world.waiting_ids(Lane.BATCH) == ["e2"]
    world.dispatch(message("e2", name=OWN_BATCH, receives=2))
    assert list(world.backlog.markers(ID)) == [Lane.BATCH], "where a first try may have put it"


def test_events_that_come_later_wait_for_the_slot_of_the_first(world: Dispatching) -> None:
    """Also when it has come, and no drainer yet: they go out with those before them."""
    world.register(events=frozenset({BATCH}))
    world.dispatch(message("e1", name=BATCH))
    for minutes in (5, 25):
        world.now = NOW_MS / 1000 + minutes * 60
        world.dispatch(message(f"e{minutes}", name=BATCH))
    assert world.backlog.markers(ID)[Lane.BATCH].due_at_ms == NOW_MS + 20 * 60_000
    world.backlog.clear_marker(world.backlog.markers(ID)[Lane.BATCH])
    world.dispatch(message("e9", name=BATCH))
    assert world.backlog.markers(ID)[Lane.BATCH].due_at_ms == NOW_MS + 40 * 60_000


def test_one_drainer_is_sent_for_however_many_come(world: Dispatching) -> None:
    world.register(Health(mode=Mode.BACKLOG))
    world.dispatch(*several(3))
    world.dispatch(message("e9", at_ms=NOW_MS + 9))
    assert world.sent_for == [0]


@pytest.mark.parametrize(
    ("changes", "health", "is_sent", "waits"),
    [
        ({}, Health(), True, False),
        ({"status": Status.PAUSED}, Health(), False, True),
        ({"status": Status.INACTIVE}, Health(), False, False),
        ({"ordered": True}, Health(), False, True),
        ({"events": frozenset({"CI_STATS"})}, Health(), False, False),
        ({}, Health(mode=Mode.BACKLOG), False, True),
        ({}, Health(mode=Mode.BACKLOG, disabled_reason=DisabledReason.GONE), False, False),
    ],
)
def test_where_an_event_goes(
    world: Dispatching, changes: dict[str, Any], health: Health, is_sent: bool, waits: bool
) -> None:
    world.register(health, **changes)
    assert world.dispatch(message("e1")) == []
    assert (world.endpoint.posts == [["e1"]], world.waiting_ids(Lane.REALTIME) == ["e1"]) == (is_sent, waits)


def test_a_webhook_that_is_deleted_between_two_posts_gets_no_more(world: Dispatching) -> None:
    """What it had asked for is put where it is purged with the rest."""
    world.register()

    def delete() -> None:
        world.store.delete(ACCOUNT, ID, deleted_at=WHEN, deleted_by="ada")
        world.now += 3  # longer than a registration is remembered

    world.endpoint.before_reply = delete
    assert world.dispatch(*several(2)) == []
    assert world.endpoint.posts == [["e1"]]
    assert world.waiting_ids(Lane.REALTIME) == ["e2"]


def test_what_is_malformed_is_kept_with_its_reason_and_does_not_come_again(world: Dispatching) -> None:
    world.register()
    broken = message("e1")
    broken["body"] = "{}"
    assert world.dispatch(broken, message("e2")) == []
    assert world.endpoint.posts == [["e2"]]
    (kept,) = world.quarantined
    assert kept["event"] == {}
    assert kept["reason"]
    assert world.metrics["EventsQuarantined"] == 1


def test_what_cannot_be_put_into_quarantine_comes_again(world: Dispatching) -> None:
    world.register()

    def refuse(*_: object, **__: object) -> None:
        raise Throttled

    world.quarantine.quarantine = refuse  # type: ignore[method-assign]
    broken = message("e1")
    broken["body"] = "{}"
    assert world.dispatch(broken, message("e2")) == ["m-e1"]
    assert world.endpoint.posts == [["e2"]]


def test_of_two_events_of_a_type_under_one_id_and_time_the_second_is_put_aside(world: Dispatching) -> None:
    """Both would have one place in the history: the first would vanish, and nobody would hear of it."""
    world.register()
    first = message("e1")
    second = second_of(first)
    assert world.dispatch(first, second, message("e2")) == []
    assert world.endpoint.posts == [["e1"], ["e2"]]
    found = world.history.find(ID, key_of("e1"))
    assert found is not None
    assert (found[1].event_name, "userId" in found[1].text) == (REALTIME, False)
    (kept,) = world.quarantined
    assert kept["event"] == json.loads(second["body"])
    assert kept["reason"] == CONFLICTING_EVENT
    assert world.metrics["EventsQuarantined"] == 1


@pytest.mark.parametrize("status", [200, 422, 503], ids=["direct", "retry lane", "real-time lane"])
@pytest.mark.parametrize("together", [False, True], ids=["one by one", "in one batch"])
def test_events_of_two_types_under_one_id_and_time_are_two(
    world: Dispatching, *, status: int, together: bool
) -> None:
    """As a caller may give one id to a request that adds users and to one that removes them."""
    world.register(events=frozenset({ADDED, REMOVED}))
    world.endpoint.replies = [status] * 2
    pair = [{**message("e1", name=name), "messageId": f"m-{name}"} for name in (ADDED, REMOVED)]
    for batch in [pair] if together else [[each] for each in pair]:
        assert world.dispatch(*batch) == []
    texts = [each.event.text for lane in (Lane.RETRY, Lane.REALTIME) for each in world.waiting(lane)]
    for name in (ADDED, REMOVED):
        found = world.history.find(ID, key_of("e1", name=name))
        assert (found and (found[0].event_id, found[1].event_id, found[1].event_name)) == (
            ("e1", "e1", name) if status == 200 else None
        )
        assert [name in text for text in texts].count(True) == (status != 200)
    # Each is known when its message comes again.
    posts = len(world.endpoint.posts)
    for each in pair:
        each["attributes"]["ApproximateReceiveCount"] = "2"
    world.endpoint.replies = [503] * 2
    assert world.dispatch(*pair) == []
    assert len(world.endpoint.posts) == posts if status == 200 else posts <= len(world.endpoint.posts)
    assert world.quarantined == []


@pytest.mark.parametrize("name", [REALTIME, "COURSE_COMPLETED"], ids=["it", "another of its id and time"])
def test_what_an_earlier_version_delivered_is_known_when_its_message_comes_again(
    world: Dispatching, name: str
) -> None:
    """That version's keys had no name. Versions mix for minutes while one replaces the other."""
    world.register()
    text = json.dumps({"eventId": "e1", "eventName": name, "timestamp": NOW_MS, "data": {}})
    old = event("e1", text=text, event_name=name, has_plain_key=True)
    assert old.sort_key == f"{NOW_MS:013d}#e1"
    world.history.record([Delivery(ID, old, Outcome.DELIVERED, ())], recorded_at_seconds=NOW_MS // 1000)
    assert world.dispatch(message("e1", receives=2)) == []
    assert world.endpoint.posts == ([] if name == REALTIME else [["e1"]])
    assert world.quarantined == []


def test_the_longest_ids_go_every_way(world: Dispatching) -> None:
    """Their keys hold a hash: what is read from an item must have the id all the same."""
    start = "\U0001f40d" * (MAX_EVENT_ID_BYTES // 4 - 1)
    ids = [start + end for end in ("a", "b", "cdef")]
    world.register()
    world.endpoint.replies = [200, 422, 503]
    messages = [message(each, at_ms=NOW_MS + number) for number, each in enumerate(ids)]
    assert world.dispatch(*messages) == []
    assert world.endpoint.posts == [[each] for each in ids]
    found = world.history.find(ID, key_of(ids[0]))
    assert found is not None
    assert (found[0].event_id, found[1].event_id) == (ids[0], ids[0])
    assert (world.waiting_ids(Lane.RETRY), world.waiting_ids(Lane.REALTIME)) == ([ids[1]], [ids[2]])
    assert world.dispatch(message(ids[0], receives=2)) == []
    assert len(world.endpoint.posts) == 3


def second_of(first: dict[str, Any]) -> dict[str, Any]:
    """Another event under the same id and time, in another message."""
    body = first["body"].replace('"data": {}', '"data": {"userId": 7}')
    return {**first, "messageId": "m-second", "body": body}


@pytest.mark.parametrize("status", [200, 410, 503])
def test_a_second_text_that_comes_when_the_first_was_sent_is_put_aside(
    world: Dispatching, status: int
) -> None:
    """It would count as delivered with the first, or take its place where that waits."""
    world.register()
    world.endpoint.replies = [status, 200]
    first = message("e1")
    assert world.dispatch(first) == []
    waits = world.waiting_ids(Lane.REALTIME)
    assert world.dispatch(second_of(first), message("e2")) == []
    assert world.quarantined == [
        {
            "reason": CONFLICTING_EVENT,
            "event": json.loads(second_of(first)["body"]),
        }
    ]
    assert world.metrics["EventsQuarantined"] == 1
    assert ["e1"] in world.endpoint.posts
    assert world.endpoint.posts.count(["e1"]) == 1
    assert world.waiting_ids(Lane.REALTIME)[: len(waits)] == waits
    assert all("userId" not in each.event.text for each in world.waiting(Lane.REALTIME))


def test_a_second_text_reaches_no_webhook_whichever_has_the_first(world: Dispatching) -> None:
    """Here it waits for one, and the other was registered later."""
    world.register(events=frozenset({BATCH}))
    first = message("e1", name=BATCH)
    assert world.dispatch(first) == []
    world.register(webhook_id="wh_2", events=frozenset({BATCH}))
    world.now += 3  # longer than registrations are remembered
    assert world.dispatch(second_of(first)) == []
    assert len(world.quarantined) == 1
    assert [len(world.backlog.read(each, Lane.BATCH, limit=5)) for each in (ID, "wh_2")] == [1, 0]


def test_a_second_text_that_cannot_be_put_aside_comes_again(world: Dispatching) -> None:
    world.register()
    first = message("e1")
    world.dispatch(first)

    def refuse(*_: object, **__: object) -> None:
        raise Throttled

    world.quarantine.quarantine = refuse  # type: ignore[method-assign]
    assert world.dispatch(second_of(first), message("e2")) == ["m-second"]
    assert world.endpoint.posts == [["e1"], ["e2"]]


def test_one_event_that_comes_again_is_no_second_one(world: Dispatching) -> None:
    """Written in two ways, and with what was delivered or waits."""
    world.register()
    world.endpoint.replies = [200, 503]
    for event_id in ("e1", "e2"):
        first = message(event_id)
        assert world.dispatch(first) == []
        assert world.dispatch({**first, "body": first["body"].replace('"data": {}', '"data":  { }')}) == []
    assert world.waiting_ids(Lane.REALTIME) == ["e2"]
    assert world.quarantined == []
    assert world.endpoint.posts == [["e1"], ["e2"]]


def test_a_direct_delivery_reads_no_lane(world: Dispatching) -> None:
    """It costs one write unit and the read of one key."""
    world.register()
    asked = keep_requests(world.deliveries_table, "batch_get_item")
    world.dispatch(message("e1"))
    assert [len(each["Keys"]) for request in asked for each in request["RequestItems"].values()] == [1]


def test_one_event_that_the_bus_wrote_in_two_ways_is_one(world: Dispatching) -> None:
    world.register()
    first, second = message("e1"), message("e1")
    for each, digits in ((first, "7"), (second, " 7")):
        each["body"] = each["body"].replace('"data": {}', '"data": {"userId":' + digits + "7" * 5000 + "}")
    assert world.dispatch(first, second) == []
    assert world.endpoint.posts == [["e1"]]
    assert world.quarantined == []


# The clock


def test_times_are_whole_and_past(world: Dispatching) -> None:
    """Rounded up, a record would outlive its retention, and a pause would be longer than is written down."""
    world.register()
    world.now = NOW_MS / 1000 + 0.9996
    world.endpoint.replies = [200, 422, 503]
    world.dispatch(*several(3))
    item = world.deliveries_table.client.get_item(
        TableName="deliveries",
        Key={"pk": {"S": f"DELIVERY#{ID}"}, "sk": {"S": key_of("e1", at_ms=NOW_MS + 1)}},
    )["Item"]
    assert item["expires_at"] == {"N": str(NOW_MS // 1000 + 30 * 86_400)}
    assert [each.due_at_ms for each in world.waiting(Lane.RETRY)] == [NOW_MS + 999 + 60_000]
    assert world.health().next_attempt_at_ms == NOW_MS + 999 + 5_000


def test_an_unexpected_error_of_one_webhook_does_not_hide_what_was_sent(world: Dispatching) -> None:
    """What came before it is in the log and on record; its own message returns."""
    world.may_break = True
    world.register()
    find = world.webhook_cache.find
    found: Iterator[Any] = iter(
        [*[find] * 3, break_down]
    )  # again after the secret, which the first event needs

    def find_next(*ids: str) -> Any:
        return next(found)(*ids)

    world.webhook_cache.find = find_next  # type: ignore[assignment,method-assign]
    assert world.dispatch(*several(3)) == ["m-e3"]
    assert world.endpoint.logged == ["e1", "e2"]
    assert world.recorded("e2", at_ms=NOW_MS + 2) is not None
    assert world.metrics["InternalErrors"] == 1


def test_one_item_that_dynamodb_refuses_returns_its_message_alone(world: Dispatching) -> None:
    """It refuses all of a batch for one of its items. The others must not be sent again and again for it."""
    world.register()
    client: Any = world.deliveries_table.client

    def write(**request: Any) -> Any:
        if "'e2'" in str(request) or "#e2" in str(request):
            raise ClientError({"Error": {"Code": "ValidationException", "Message": "test"}}, "BatchWriteItem")
        return client.behind.batch_write_item(**request)

    client.answers["batch_write_item"] = write
    assert world.dispatch(*several(3)) == ["m-e2"]
    assert world.recorded("e3", at_ms=NOW_MS + 3) is not None


def test_a_log_that_breaks_hides_nothing_of_what_was_sent(world: Dispatching) -> None:
    world.may_break = True
    world.register()
    world.webhook_client.log = break_down  # type: ignore[assignment,method-assign]
    assert world.dispatch(message("e1")) == []
    assert world.recorded("e1") is not None
