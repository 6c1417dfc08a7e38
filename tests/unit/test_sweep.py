"""A drainer is sent for where something is due and nobody is at it; and nowhere else."""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import Any, cast

import boto3
import pytest
from botocore.exceptions import ClientError

from lms_webhooks.backlog import Backlog, Lane, _shard
from lms_webhooks.dynamodb import Table
from lms_webhooks.health import Health, Mode, SwitchOff
from lms_webhooks.health_store import TICKET_GRACE_SECONDS, HealthStore, Ticket
from lms_webhooks.observability import Metric, metrics
from lms_webhooks.queues import DrainMessage, DrainQueue, read_drain_message
from lms_webhooks.standings import Standings
from lms_webhooks.sweep import Sweep
from lms_webhooks.webhook_store import WebhookStore
from lms_webhooks.webhooks import Status, Webhook
from tests.engines.dynamodb import REGION, Engine
from tests.unit.tables import DAY_MS, NOW_MS, Before, Fails, before, tables, webhook

RETENTION_MS = 7 * DAY_MS
WEBHOOK = webhook()
ID = (WEBHOOK.account_id, WEBHOOK.webhook_id)


class World:
    def __init__(self, webhooks: Table, deliveries: Table) -> None:
        self.sqs = cast("Any", Before(boto3.client("sqs", region_name=REGION)))
        self.url = self.sqs.create_queue(QueueName="drain")["QueueUrl"]
        self.deliveries = deliveries
        self.store = WebhookStore(webhooks.client, webhooks.name)
        self.health = HealthStore(webhooks)
        self.backlog = Backlog(deliveries, retention_days=7)
        self.sweep = Sweep(
            backlog=self.backlog,
            standings=Standings(webhooks),
            health=self.health,
            queue=DrainQueue(self.sqs, self.url),
            clock=lambda: NOW_MS / 1000,
        )

    def mark(self, lane: Lane = Lane.REALTIME, *, webhook: Webhook = WEBHOOK, **more: Any) -> None:
        accepted_at_ms = more.pop("accepted_at_ms", NOW_MS)
        self.backlog.mark(webhook.account_id, webhook.webhook_id, lane, accepted_at_ms=accepted_at_ms, **more)

    def pass_seconds(self, seconds: float) -> None:
        """Let time pass for the sweep."""
        now = self.sweep._clock() + seconds
        self.sweep._clock = lambda: now

    def sent_for(self) -> list[str]:
        messages: list[dict[str, str]] = []
        while got := self.sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10).get("Messages"):
            messages += [json.loads(message["Body"]) for message in got]
        assert all(each.keys() <= {"accountId", "webhookId", "ticket"} for each in messages)
        assert {each["accountId"] for each in messages} <= {"1010"}
        return sorted(each["webhookId"] for each in messages)


@pytest.fixture
def world(dynamodb: Engine) -> Iterator[World]:
    with tables(dynamodb) as both:
        yield World(*both)
    metrics.clear_metrics()  # a hundred of one name would be written out, under no namespace


@pytest.mark.parametrize(
    ("story", "status", "health", "is_sent_for"),
    [
        ("its drainer was lost", Status.ACTIVE, Health(mode=Mode.BACKLOG), True),
        ("direct again, and an event came late", Status.ACTIVE, Health(), True),
        ("the next attempt is ahead", Status.ACTIVE, Health(next_attempt_at_ms=NOW_MS + 1), False),
        ("the next attempt is due", Status.ACTIVE, Health(next_attempt_at_ms=NOW_MS), True),
        ("paused", Status.PAUSED, Health(), False),
        ("retired", Status.INACTIVE, Health(), False),
        ("switched off", Status.ACTIVE, Health(switched_off=SwitchOff.GONE), False),
        ("it failed for days", Status.ACTIVE, Health(switched_off=SwitchOff.FAILING), False),
        ("it fails, and is due", Status.ACTIVE, Health(mode=Mode.BACKLOG, failures=9), True),
    ],
)
def test_who_is_sent_for(world: World, story: str, status: Status, health: Health, is_sent_for: bool) -> None:
    world.store.create(replace(WEBHOOK, status=status))
    world.health.save(WEBHOOK.account_id, WEBHOOK.webhook_id, health, revision=0)
    world.mark()
    assert world.sweep.send_for_drainers() == int(is_sent_for), story
    assert world.sent_for() == [WEBHOOK.webhook_id] * is_sent_for


def test_a_drainer_at_work_is_left_alone_until_its_lease_ends(world: World) -> None:
    world.store.create(WEBHOOK)
    world.mark()
    lease = (WEBHOOK.account_id, WEBHOOK.webhook_id)
    assert world.health.acquire(*lease, owner="me", now_ms=NOW_MS, until_ms=NOW_MS)
    assert world.sweep.send_for_drainers() == 0
    assert world.health.acquire(*lease, owner="other", now_ms=NOW_MS + 1, until_ms=NOW_MS - 1)
    assert world.sweep.send_for_drainers() == 1


def messages_of(world: World) -> list[DrainMessage]:
    got = world.sqs.receive_message(QueueUrl=world.url, MaxNumberOfMessages=10).get("Messages", [])
    return [read_drain_message({"body": message["Body"], "messageId": ""}) for message in got]


def test_a_webhook_whose_message_is_on_its_way_is_left_alone_until_that_is_taken_for_lost(
    world: World,
) -> None:
    """The message keeps its ticket then: should it only be late, the first of the two is the one."""
    world.store.create(WEBHOOK)
    world.mark()
    assert world.sweep.send_for_drainers() == 1
    (first,) = messages_of(world)
    assert first.ticket
    world.pass_seconds(TICKET_GRACE_SECONDS)
    assert world.sweep.send_for_drainers() == 0
    world.pass_seconds(0.001)
    assert world.sweep.send_for_drainers() == 1
    assert messages_of(world) == [first]


def test_a_deleted_webhook_has_no_ticket(world: World) -> None:
    world.mark()
    assert world.sweep.send_for_drainers() == 1
    assert messages_of(world) == [DrainMessage(*ID)]


def test_who_takes_the_ticket_between_the_reading_and_the_sending_is_the_one(world: World) -> None:
    world.store.create(WEBHOOK)
    world.mark()
    take = world.health.take_ticket

    def be_late(account_id: str, webhook_id: str, ticket: Ticket, *, now_ms: int) -> bool:
        assert take(account_id, webhook_id, Ticket("m1", now_ms), now_ms=now_ms)
        return take(account_id, webhook_id, ticket, now_ms=now_ms)

    world.health.take_ticket = be_late  # type: ignore[method-assign]
    assert world.sweep.send_for_drainers() == 0
    assert world.sent_for() == []


def test_those_whose_messages_sqs_takes_not_are_sent_for_by_the_next_sweep(world: World) -> None:
    """Of ten it may take some. A ticket without a message would hold its webhook up."""
    for number in range(12):
        world.store.create(replace(WEBHOOK, webhook_id=f"wh_{number:022d}", account_id=f"{number}"))
        world.mark(webhook=replace(WEBHOOK, webhook_id=f"wh_{number:022d}", account_id=f"{number}"))

    def take_some(**batch: Any) -> Any:
        del world.sqs.answers["send_message_batch"]
        taken = world.sqs.behind.send_message_batch(**{**batch, "Entries": batch["Entries"][:4]})
        return {**taken, "Failed": [{"Id": each["Id"]} for each in batch["Entries"][4:]]}

    world.sqs.answers["send_message_batch"] = take_some
    assert world.sweep.send_for_drainers() == 6
    assert world.sweep.send_for_drainers() == 6
    assert world.sweep.send_for_drainers() == 0


def test_a_ticket_that_cannot_be_taken_keeps_nobody_from_what_was_sent_for_before(world: World) -> None:
    for number in range(3):
        world.store.create(replace(WEBHOOK, webhook_id=f"wh_{number:022d}"))
        world.mark(webhook=replace(WEBHOOK, webhook_id=f"wh_{number:022d}"))
    take = world.health.take_ticket
    tries = count()

    def fail_second(*ids: Any, **more: Any) -> bool:
        if next(tries) == 1:
            raise ClientError({"Error": {"Code": "InternalServerError"}}, "UpdateItem")
        return take(*ids, **more)

    world.health.take_ticket = fail_second  # type: ignore[method-assign]
    with pytest.raises(ClientError):
        world.sweep.send_for_drainers()
    assert len(world.sent_for()) == 1
    assert world.sweep.send_for_drainers() == 2


@pytest.mark.parametrize("status", Status)
def test_what_may_have_expired_is_looked_at_whatever_the_status(world: World, status: Status) -> None:
    world.store.create(replace(WEBHOOK, status=status))
    world.mark(accepted_at_ms=NOW_MS - RETENTION_MS)
    assert world.sweep.send_for_drainers() == 1


@pytest.mark.parametrize(("due_in_ms", "is_sent_for"), [(0, True), (1, False)])
def test_a_rejected_event_waits_until_it_is_due(world: World, due_in_ms: int, is_sent_for: bool) -> None:
    world.store.create(WEBHOOK)
    world.mark(Lane.RETRY, due_at_ms=NOW_MS + due_in_ms)
    assert world.sweep.send_for_drainers() == int(is_sent_for)


def test_a_batch_lane_waits_for_its_schedule(world: World) -> None:
    world.store.create(WEBHOOK)
    world.mark(Lane.BATCH)
    assert world.sweep.send_for_drainers() == 0
    assert world.sweep.open_batch_lanes() == 1
    assert world.sent_for() == [WEBHOOK.webhook_id]
    assert world.sweep.send_for_drainers() == 0, "one is on its way"
    world.pass_seconds(TICKET_GRACE_SECONDS + 1)
    assert world.sweep.send_for_drainers() == 1, "should its drainer be lost"


@pytest.mark.parametrize(
    ("story", "status", "health"),
    [
        ("the next drainer is on its way", Status.ACTIVE, Health(next_attempt_at_ms=NOW_MS + 1)),
        ("paused", Status.PAUSED, Health()),
        ("switched off", Status.ACTIVE, Health(switched_off=SwitchOff.GONE)),
    ],
)
def test_an_opened_batch_lane_needs_no_message_where_one_could_do_nothing(
    world: World, story: str, status: Status, health: Health
) -> None:
    """A failing endpoint has one message on its way already: a second would be one for each opening."""
    world.store.create(replace(WEBHOOK, status=status))
    world.health.save(*ID, health, revision=0)
    world.mark(Lane.BATCH)
    assert world.sweep.open_batch_lanes() == 1, story
    assert world.backlog.marks(WEBHOOK.webhook_id)[Lane.BATCH].is_open
    assert world.sent_for() == []


def test_an_opened_batch_lane_is_left_to_the_drainer_at_work(world: World) -> None:
    world.store.create(WEBHOOK)
    world.mark(Lane.BATCH)
    assert world.health.acquire(*ID, owner="me", now_ms=NOW_MS, until_ms=NOW_MS)
    assert world.sweep.open_batch_lanes() == 1
    assert world.sent_for() == []


def test_each_of_many_opened_batch_lanes_gets_its_drainer(world: World) -> None:
    others = [replace(WEBHOOK, webhook_id=f"wh_{number:022d}") for number in range(120)]
    for other in others:
        world.mark(Lane.BATCH, webhook=other)
    assert world.sweep.open_batch_lanes() == 120
    assert world.sent_for() == sorted(other.webhook_id for other in others)


def test_opening_batch_lanes_leaves_the_others_alone(world: World) -> None:
    world.store.create(WEBHOOK)
    world.mark(Lane.REALTIME)
    assert world.sweep.open_batch_lanes() == 0
    assert world.sent_for() == []


def test_what_waits_for_a_deleted_webhook_is_buried(world: World) -> None:
    world.mark()
    assert world.sweep.send_for_drainers() == 1


def test_one_drainer_for_all_lanes_of_a_webhook_and_one_for_each_of_many(world: World) -> None:
    for lane in (Lane.REALTIME, Lane.RETRY):
        world.mark(lane)
    others = [replace(WEBHOOK, webhook_id=f"wh_{number:022d}") for number in range(120)]
    for other in others:
        world.mark(webhook=other)
    assert world.sweep.send_for_drainers() == 121
    assert world.sent_for() == sorted([WEBHOOK.webhook_id, *(other.webhook_id for other in others)])


@pytest.mark.parametrize("lane", Lane)
@pytest.mark.parametrize("health", [Health(), Health(switched_off=SwitchOff.GONE)])
def test_what_may_have_expired_is_looked_at_in_every_lane(world: World, lane: Lane, health: Health) -> None:
    """Whether or not the lane is open or due: nothing is sent, it is only settled."""
    world.store.create(WEBHOOK)
    world.health.save(*ID, health, revision=0)
    world.mark(lane, accepted_at_ms=NOW_MS - RETENTION_MS, due_at_ms=NOW_MS + 5)
    assert world.sweep.send_for_drainers() == 1


@pytest.mark.parametrize(("left_ms", "is_sent_for"), [(1, False), (0, True)])
def test_what_has_not_expired_yet_is_let_be(world: World, left_ms: int, is_sent_for: bool) -> None:
    world.store.create(replace(WEBHOOK, status=Status.PAUSED))
    world.mark(accepted_at_ms=NOW_MS - RETENTION_MS + left_ms)
    assert world.sweep.send_for_drainers() == int(is_sent_for)


def test_nobody_is_sent_who_would_find_the_lease_taken_or_come_too_early(world: World) -> None:
    """Not even for what may have expired: a minute later is soon enough."""
    world.store.create(WEBHOOK)
    world.mark(accepted_at_ms=NOW_MS - RETENTION_MS)
    assert world.health.acquire(*ID, owner="me", now_ms=NOW_MS, until_ms=NOW_MS)
    assert world.sweep.send_for_drainers() == 0
    assert world.health.release(
        *ID, owner="me", health=Health(next_attempt_at_ms=NOW_MS + 1), before=Health()
    )
    assert world.sweep.send_for_drainers() == 0


def test_a_rejected_event_of_a_paused_webhook_waits(world: World) -> None:
    world.store.create(replace(WEBHOOK, status=Status.PAUSED))
    world.mark(Lane.RETRY, due_at_ms=NOW_MS - 1)
    assert world.sweep.send_for_drainers() == 0


def test_where_nothing_waits_nobody_is_sent(world: World) -> None:
    world.store.create(WEBHOOK)
    assert world.sweep.send_for_drainers() == 0
    assert world.sweep.open_batch_lanes() == 0
    assert world.sent_for() == []


def test_a_webhook_is_another_account_s_only_if_that_account_says_so(world: World) -> None:
    """Its id with another account's is no webhook: what waits there is buried, and nothing is read of it."""
    world.store.create(replace(WEBHOOK, status=Status.PAUSED))
    world.mark(webhook=replace(WEBHOOK, account_id="2020"))
    assert world.sweep.send_for_drainers() == 1


def test_the_lanes_of_one_webhook_that_are_read_apart_are_one_drainer_s(world: World) -> None:
    """Marks are looked at a hundred at a time, and between two lanes of one webhook a hundred end."""
    by_shard = sorted((f"wh_{number:022d}" for number in range(99)), key=lambda each: (_shard(each), each))
    for webhook_id in by_shard:
        for lane in (Lane.RETRY, Lane.REALTIME, Lane.BATCH):
            world.mark(lane, webhook=replace(WEBHOOK, webhook_id=webhook_id))
    marks = list(world.backlog.all_marks())
    assert marks[99].webhook_id == marks[100].webhook_id
    assert world.sweep.send_for_drainers() == 99
    assert world.sent_for() == sorted(by_shard)


def test_opened_lanes_are_those_that_still_have_events(world: World) -> None:
    """Between the reading of the marks and the opening, a drainer may have removed one."""
    other = replace(WEBHOOK, webhook_id="wh_" + "b" * 22)
    for each in (WEBHOOK, other):
        world.mark(Lane.BATCH, webhook=each)
    gone = world.backlog.marks(WEBHOOK.webhook_id)[Lane.BATCH]
    client = before(world.deliveries)

    def update_item(**call: Any) -> Any:
        client.answers.clear()
        world.backlog.unmark(gone)
        return client.behind.update_item(**call)

    client.answers["update_item"] = update_item
    assert world.sweep.open_batch_lanes() in (1, 2), "2 where the other one is opened first"
    assert world.backlog.marks(other.webhook_id)[Lane.BATCH].is_open
    assert Lane.BATCH not in world.backlog.marks(WEBHOOK.webhook_id)


def test_lanes_whose_drainers_sqs_did_not_take_are_found_by_the_sweep(world: World) -> None:
    world.store.create(WEBHOOK)
    world.mark(Lane.BATCH)
    world.sqs.answers["send_message_batch"] = Fails(world.sqs.behind.send_message_batch, 1)
    with pytest.raises(ClientError):
        world.sweep.open_batch_lanes()
    assert world.sweep.send_for_drainers() == 1
    assert world.sent_for() == [WEBHOOK.webhook_id]


def test_a_sweep_that_fails_is_made_up_for_by_the_next(world: World) -> None:
    world.store.create(WEBHOOK)
    world.mark()
    before(world.deliveries).answers["batch_get_item"] = Fails(
        before(world.deliveries).behind.batch_get_item, 1
    )
    with pytest.raises(ClientError):
        world.sweep.send_for_drainers()
    assert world.sweep.send_for_drainers() == 1


def test_what_is_due_in_the_next_millisecond_waits(world: World) -> None:
    """Rounded up, the moment of the sweep would be later than it is."""
    world.sweep._clock = lambda: (NOW_MS + 0.6) / 1000
    world.store.create(WEBHOOK)
    world.mark(Lane.RETRY, due_at_ms=NOW_MS + 1)
    assert world.sweep.send_for_drainers() == 0
    world.sweep._clock = lambda: (NOW_MS + 1) / 1000
    assert world.sweep.send_for_drainers() == 1


def test_every_lane_that_waits_is_counted_due_or_not(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: dict[str, int] = {}
    monkeypatch.setattr("lms_webhooks.sweep.count", lambda metric, value: counted.update({metric: value}))
    world.store.create(WEBHOOK)
    world.mark(Lane.REALTIME)
    world.mark(Lane.RETRY, due_at_ms=NOW_MS + 1)
    world.mark(Lane.BATCH)
    world.sweep.send_for_drainers()
    assert counted == {Metric.LANES_WAITING: 3, Metric.DRAINERS_SENT_FOR: 1}
