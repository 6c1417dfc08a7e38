"""A drainer is scheduled where something is due and nobody is at it; and nowhere else."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import count, islice
from typing import Any, cast

import boto3
import pytest
from botocore.exceptions import ClientError

from lms_webhooks.aws.dynamodb import Table, key_item
from lms_webhooks.aws.sqs import (
    DrainMessage,
    DrainQueue,
    SweepQueue,
    read_drain_message,
    read_sweep_message,
)
from lms_webhooks.batch import sweep
from lms_webhooks.batch.sweep import Sweep
from lms_webhooks.model.health import DisabledReason, Health, Mode
from lms_webhooks.model.lanes import Lane, ShardPart
from lms_webhooks.model.webhooks import Status, Webhook
from lms_webhooks.observability import Metric, metrics
from lms_webhooks.stores.backlog import SHARDS, Backlog, _shard, parts_of_all_shards
from lms_webhooks.stores.health import TICKET_GRACE_SECONDS, HealthStore, Ticket
from lms_webhooks.stores.webhook_states import WebhookStates
from lms_webhooks.stores.webhooks import WebhookStore, webhook_key
from tests.engines.dynamodb import REGION, Engine
from tests.unit.tables import DAY_MS, NOW_MS, Before, Fails, Throttled, before, tables, webhook

RETENTION_MS = 7 * DAY_MS
AT_ONCE = 10
"""Marks that are looked at together: a tenth of what the sweep takes."""
WEBHOOK = webhook()
ID = (WEBHOOK.account_id, WEBHOOK.webhook_id)
START = "wh_"  # where a sweep begins in each shard: at the first mark


class World:
    def __init__(self, webhooks: Table, deliveries: Table) -> None:
        self.sqs = cast("Any", Before(boto3.client("sqs", region_name=REGION)))
        self.url = self.sqs.create_queue(QueueName="drain")["QueueUrl"]
        self.sweep_url = self.sqs.create_queue(QueueName="sweep")["QueueUrl"]
        self.now_ms: float = NOW_MS
        self.webhooks = webhooks
        self.deliveries = deliveries
        self.store = WebhookStore(webhooks.client, webhooks.name)
        self.health = HealthStore(webhooks)
        self.backlog = Backlog(deliveries, retention_days=7)
        self.sweep = Sweep(
            **self.parts_of_a_sweep(), clock=lambda: self.now_ms / 1000, new_start=lambda: START
        )

    def parts_of_a_sweep(self) -> dict[str, Any]:
        return {
            "backlog": self.backlog,
            "webhook_states": WebhookStates(self.webhooks),
            "health": self.health,
            "queue": DrainQueue(self.sqs, self.url, self.url),
            "sweep_queue": SweepQueue(self.sqs, self.sweep_url),
        }

    def parts(self) -> list[ShardPart]:
        """Those on the sweep queue, by shard."""
        return sorted(map(read_sweep_message, self._received(self.sweep_url)), key=lambda part: part.shard)

    def shards_after(self, shard: int) -> list[int]:
        """Those that a sweep comes to later."""
        shards = [part.shard for part in parts_of_all_shards(START)]
        return shards[shards.index(shard) + 1 :]

    def takes(self, table: Table, operation: str, *, seconds: float) -> None:
        """Let each call of an operation take so long."""
        call = getattr(before(table).behind, operation)

        def answer(**request: Any) -> Any:
            self.now_ms += seconds * 1000
            return call(**request)

        before(table).answers[operation] = answer

    def damage(self, webhook: Webhook) -> None:
        """Take from a registration what is read of it."""
        self.webhooks.client.update_item(
            TableName=self.webhooks.name,
            Key=key_item(webhook_key(webhook.account_id, webhook.webhook_id)),
            UpdateExpression="REMOVE epoch",
        )

    def mark(self, lane: Lane = Lane.REALTIME, *, webhook: Webhook = WEBHOOK, **more: Any) -> None:
        accepted_at_ms = more.pop("accepted_at_ms", NOW_MS)
        self.backlog.set_marker(
            webhook.account_id, webhook.webhook_id, lane, accepted_at_ms=accepted_at_ms, **more
        )

    def pass_seconds(self, seconds: float) -> None:
        """Let time pass for the sweep."""
        self.now_ms += seconds * 1000

    def sent_for(self) -> list[str]:
        messages = [json.loads(body) for body in self._received(self.url)]
        assert all(each.keys() <= {"accountId", "webhookId", "ticket", "isUrgent"} for each in messages)
        assert {each["accountId"] for each in messages} <= {"1010"}
        return sorted(each["webhookId"] for each in messages)

    def _received(self, url: str) -> list[str]:
        bodies: list[str] = []
        while got := self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            bodies += [message["Body"] for message in got]
        return bodies


@pytest.fixture
def world(dynamodb: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(sweep, "_WEBHOOKS_PER_CALL", AT_ONCE)
    with tables(dynamodb) as both:
        yield World(*both)
    metrics.clear_metrics()  # nobody writes them out here, and Powertools would after a hundred


@pytest.mark.parametrize(
    ("story", "status", "health", "is_sent_for"),
    [
        ("its drainer was lost", Status.ACTIVE, Health(mode=Mode.BACKLOG), True),
        ("direct again, and an event came late", Status.ACTIVE, Health(), True),
        ("the next attempt is ahead", Status.ACTIVE, Health(next_attempt_at_ms=NOW_MS + 1), False),
        ("the next attempt is due", Status.ACTIVE, Health(next_attempt_at_ms=NOW_MS), True),
        ("paused", Status.PAUSED, Health(), False),
        ("retired", Status.INACTIVE, Health(), False),
        ("switched off", Status.ACTIVE, Health(disabled_reason=DisabledReason.GONE), False),
        ("it failed for days", Status.ACTIVE, Health(disabled_reason=DisabledReason.FAILING), False),
        ("it fails, and is due", Status.ACTIVE, Health(mode=Mode.BACKLOG, failures=9), True),
    ],
)
def test_who_is_sent_for(world: World, story: str, status: Status, health: Health, is_sent_for: bool) -> None:
    world.store.create(replace(WEBHOOK, status=status))
    world.health.save(WEBHOOK.account_id, WEBHOOK.webhook_id, health, revision=0)
    world.mark()
    assert world.sweep.sweep_all() == int(is_sent_for), story
    assert world.sent_for() == [WEBHOOK.webhook_id] * is_sent_for


def test_a_drainer_at_work_is_left_alone_until_its_lease_ends(world: World) -> None:
    world.store.create(WEBHOOK)
    world.mark()
    lease = (WEBHOOK.account_id, WEBHOOK.webhook_id)
    assert world.health.acquire(*lease, owner="me", now_ms=NOW_MS, until_ms=NOW_MS)
    assert world.sweep.sweep_all() == 0
    assert world.health.acquire(*lease, owner="other", now_ms=NOW_MS + 1, until_ms=NOW_MS - 1)
    assert world.sweep.sweep_all() == 1


def messages_of(world: World) -> list[DrainMessage]:
    got = world.sqs.receive_message(QueueUrl=world.url, MaxNumberOfMessages=10).get("Messages", [])
    return [read_drain_message({"body": message["Body"], "messageId": ""}) for message in got]


def test_a_webhook_whose_message_is_on_its_way_is_left_alone_until_that_is_taken_for_lost(
    world: World,
) -> None:
    """The message keeps its ticket then: should it only be late, the first of the two is the one."""
    world.store.create(WEBHOOK)
    world.mark()
    assert world.sweep.sweep_all() == 1
    (first,) = messages_of(world)
    assert first.ticket
    world.pass_seconds(TICKET_GRACE_SECONDS)
    assert world.sweep.sweep_all() == 0
    world.pass_seconds(0.001)
    assert world.sweep.sweep_all() == 1
    assert messages_of(world) == [first]


def test_the_lanes_of_a_deleted_webhook_are_claimed_for_one_message(world: World) -> None:
    """The message may wait for long, and its purger may need long."""
    for lane in (Lane.REALTIME, Lane.RETRY):
        world.mark(lane)
    assert world.sweep.sweep_all() == 1
    assert world.sweep.sweep_all() == 0
    world.pass_seconds(TICKET_GRACE_SECONDS)
    assert world.sweep.sweep_all() == 0
    world.pass_seconds(0.001)
    assert world.sweep.sweep_all() == 1


def test_a_deleted_webhook_has_no_ticket(world: World) -> None:
    world.mark()
    assert world.sweep.sweep_all() == 1
    assert messages_of(world) == [DrainMessage(*ID)]


def test_who_takes_the_ticket_between_the_reading_and_the_sending_is_the_one(world: World) -> None:
    world.store.create(WEBHOOK)
    world.mark()
    take = world.health.take_ticket

    def be_late(account_id: str, webhook_id: str, ticket: Ticket, *, now_ms: int) -> bool:
        assert take(account_id, webhook_id, Ticket("m1", now_ms), now_ms=now_ms)
        return take(account_id, webhook_id, ticket, now_ms=now_ms)

    world.health.take_ticket = be_late  # type: ignore[method-assign]
    assert world.sweep.sweep_all() == 0
    assert world.sent_for() == []


@pytest.mark.slow
def test_those_whose_messages_sqs_takes_not_are_sent_for_by_the_next_sweep(world: World) -> None:
    """Of ten it may take some. A ticket without a message would hold its webhook up."""
    for number, webhook_id in enumerate(register_many(world, 12)):
        world.store.create(replace(WEBHOOK, webhook_id=webhook_id, account_id=f"{number // 5}"))
        world.mark(webhook=replace(WEBHOOK, webhook_id=webhook_id, account_id=f"{number // 5}"))

    def take_some(**batch: Any) -> Any:
        taken, refused = batch["Entries"][:4], batch["Entries"][4:]
        answer = world.sqs.behind.send_message_batch(**{**batch, "Entries": taken})
        return {**answer, "Failed": [{"Id": each["Id"]} for each in refused]}

    world.sqs.answers["send_message_batch"] = take_some
    assert world.sweep.sweep_all() == 6
    del world.sqs.answers["send_message_batch"]
    assert world.sweep.sweep_all() == 6
    assert world.sweep.sweep_all() == 0


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
        world.sweep.sweep_all()
    assert len(world.sent_for()) == 2
    assert world.sweep.sweep_all() == 1


@pytest.mark.parametrize("status", Status)
def test_what_may_have_expired_is_looked_at_whatever_the_status(world: World, status: Status) -> None:
    world.store.create(replace(WEBHOOK, status=status))
    world.mark(accepted_at_ms=NOW_MS - RETENTION_MS)
    assert world.sweep.sweep_all() == 1


@pytest.mark.parametrize(("due_in_ms", "is_sent_for"), [(0, True), (1, False)])
def test_a_rejected_event_waits_until_it_is_due(world: World, due_in_ms: int, is_sent_for: bool) -> None:
    world.store.create(WEBHOOK)
    world.mark(Lane.RETRY, due_at_ms=NOW_MS + due_in_ms)
    assert world.sweep.sweep_all() == int(is_sent_for)


def test_a_batch_lane_waits_for_its_slot(world: World) -> None:
    world.store.create(WEBHOOK)
    world.mark(Lane.BATCH, due_at_ms=NOW_MS + 60_000)
    assert world.sweep.sweep_all() == 0
    world.now_ms += 60_000
    assert world.sweep.sweep_all() == 1
    assert world.sent_for() == [WEBHOOK.webhook_id]
    assert world.sweep.sweep_all() == 0, "one is on its way"
    world.pass_seconds(TICKET_GRACE_SECONDS + 1)
    assert world.sweep.sweep_all() == 1, "should its drainer be lost"


def test_what_waits_for_a_deleted_webhook_is_buried(world: World) -> None:
    world.mark()
    assert world.sweep.sweep_all() == 1


def test_one_drainer_for_all_lanes_of_a_webhook_and_one_for_each_of_many(world: World) -> None:
    for lane in (Lane.REALTIME, Lane.RETRY):
        world.mark(lane)
    others = [replace(WEBHOOK, webhook_id=f"wh_{number:022d}") for number in range(12)]
    for other in others:
        world.mark(webhook=other)
    assert world.sweep.sweep_all() == 13
    assert world.sent_for() == sorted([WEBHOOK.webhook_id, *(other.webhook_id for other in others)])


@pytest.mark.parametrize("lane", Lane)
@pytest.mark.parametrize("health", [Health(), Health(disabled_reason=DisabledReason.GONE)])
def test_what_may_have_expired_is_looked_at_in_every_lane(world: World, lane: Lane, health: Health) -> None:
    """Whether or not the lane is open or due: nothing is sent, it is only settled."""
    world.store.create(WEBHOOK)
    world.health.save(*ID, health, revision=0)
    world.mark(lane, accepted_at_ms=NOW_MS - RETENTION_MS, due_at_ms=NOW_MS + 5)
    assert world.sweep.sweep_all() == 1


@pytest.mark.parametrize(("left_ms", "is_sent_for"), [(1, False), (0, True)])
def test_what_has_not_expired_yet_is_let_be(world: World, left_ms: int, is_sent_for: bool) -> None:
    world.store.create(replace(WEBHOOK, status=Status.PAUSED))
    world.mark(accepted_at_ms=NOW_MS - RETENTION_MS + left_ms)
    assert world.sweep.sweep_all() == int(is_sent_for)


def test_nobody_is_sent_who_would_find_the_lease_taken_or_come_too_early(world: World) -> None:
    """Not even for what may have expired: a minute later is soon enough."""
    world.store.create(WEBHOOK)
    world.mark(accepted_at_ms=NOW_MS - RETENTION_MS)
    assert world.health.acquire(*ID, owner="me", now_ms=NOW_MS, until_ms=NOW_MS)
    assert world.sweep.sweep_all() == 0
    assert world.health.release(
        *ID, owner="me", health=Health(next_attempt_at_ms=NOW_MS + 1), before=Health()
    )
    assert world.sweep.sweep_all() == 0


def test_a_rejected_event_of_a_paused_webhook_waits(world: World) -> None:
    world.store.create(replace(WEBHOOK, status=Status.PAUSED))
    world.mark(Lane.RETRY, due_at_ms=NOW_MS - 1)
    assert world.sweep.sweep_all() == 0


def test_where_nothing_waits_nobody_is_sent(world: World) -> None:
    world.store.create(WEBHOOK)
    assert world.sweep.sweep_all() == 0
    assert world.sent_for() == []


def test_a_webhook_is_another_account_s_only_if_that_account_says_so(world: World) -> None:
    """Its id with another account's is no webhook: what waits there is purged, and nothing is read of it."""
    world.store.create(replace(WEBHOOK, status=Status.PAUSED))
    world.mark(webhook=replace(WEBHOOK, account_id="2020"))
    assert world.sweep.sweep_all() == 1


def test_the_lanes_of_one_webhook_that_are_read_apart_are_one_drainer_s(world: World) -> None:
    """Marks are looked at ten at a time, and between two lanes of one webhook ten end."""
    by_shard = sorted((f"wh_{number:022d}" for number in range(9)), key=lambda each: (_shard(each), each))
    for webhook_id in by_shard:
        for lane in (Lane.RETRY, Lane.REALTIME, Lane.BATCH):
            world.mark(lane, webhook=replace(WEBHOOK, webhook_id=webhook_id))
    marks = list(world.backlog.all_markers())
    assert marks[9].webhook_id == marks[10].webhook_id
    assert world.sweep.sweep_all() == 9
    assert world.sent_for() == sorted(by_shard)


def test_a_sweep_that_fails_is_made_up_for_by_the_next(world: World) -> None:
    world.store.create(WEBHOOK)
    world.mark()
    before(world.deliveries).answers["batch_get_item"] = Fails(
        before(world.deliveries).behind.batch_get_item, 1
    )
    with pytest.raises(ClientError):
        world.sweep.sweep_all()
    assert world.sweep.sweep_all() == 1


def test_what_is_due_in_the_next_millisecond_waits(world: World) -> None:
    """Rounded up, the moment of the sweep would be later than it is."""
    world.now_ms = NOW_MS + 0.6
    world.store.create(WEBHOOK)
    world.mark(Lane.RETRY, due_at_ms=NOW_MS + 1)
    assert world.sweep.sweep_all() == 0
    world.now_ms = NOW_MS + 1
    assert world.sweep.sweep_all() == 1


def test_every_lane_that_waits_is_counted_due_or_not(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: dict[str, int] = {}
    monkeypatch.setattr(
        "lms_webhooks.batch.sweep.count", lambda metric, value: counted.update({metric: value})
    )
    world.store.create(WEBHOOK)
    world.mark(Lane.REALTIME)
    world.mark(Lane.RETRY, due_at_ms=NOW_MS + 1)
    world.mark(Lane.BATCH, due_at_ms=NOW_MS + 1)
    world.sweep.sweep_all()
    assert counted == {
        Metric.SHARDS_SWEPT: SHARDS,
        Metric.LANES_PENDING: 3,
        Metric.DRAINS_SCHEDULED_BY_SWEEP: 1,
    }


# Much to do, and little time


def register_many(world: World, number: int = 30, *, shard: int = 3) -> list[str]:
    """Webhooks whose marks stand in one shard, each with something due, in the order of their ids."""
    ids = (f"wh_{index:022d}" for index in range(100_000))
    first, *others = many = list(islice((each for each in ids if _shard(each) == shard), number))
    world.mark(webhook=replace(WEBHOOK, webhook_id=first))
    key = key_item((f"DUE#{shard}", f"{first}#{Lane.REALTIME}"))
    mark = before(world.deliveries).behind.get_item(TableName=world.deliveries.name, Key=key)["Item"]
    world.deliveries.put_all([{**mark, "sk": {"S": f"{each}#{Lane.REALTIME}"}} for each in others])
    return many


def test_what_the_schedules_invocation_has_no_time_for_goes_on_shard_by_shard(world: World) -> None:
    """Each hundred takes a minute, so there is time for one. The others wait in parts, and none is lost."""
    many = register_many(world)
    world.takes(world.deliveries, "batch_get_item", seconds=60)
    assert world.sweep.sweep_all() == 10
    parts = world.parts()
    assert {part.shard for part in parts} == {3, *world.shards_after(3)}
    assert world.sent_for() == many[:10]
    found = 0
    while parts:
        part = parts.pop(0)
        found += world.sweep.sweep_part(part, remaining_seconds=50)
        parts += world.parts()
    assert found == 20
    assert world.sent_for() == many[10:]


def test_each_part_that_goes_on_has_less_to_do_than_the_one_before(world: World) -> None:
    """So a chain of messages ends, though Lambda's own protection from loops is off."""
    register_many(world)
    world.takes(world.deliveries, "batch_get_item", seconds=60)
    part: ShardPart | None = ShardPart(3, START, START)
    places: list[tuple[bool, str]] = []
    while part is not None:
        world.sweep.sweep_part(part, remaining_seconds=50)
        part = next(iter(world.parts()), None)
        if part is not None:  # from the start to the end, and then from the beginning to the start
            places.append((part.next_key < START, part.next_key))
    assert places == sorted(set(places))
    assert len(places) == 3


def test_without_time_a_part_is_handed_on_as_it_is(world: World) -> None:
    register_many(world, 1)
    part = ShardPart(3, START, START)
    assert world.sweep.sweep_part(part, remaining_seconds=15) == 0
    assert world.parts() == [part]


def test_a_sweep_that_comes_to_its_end_counts_the_shards_that_it_swept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: Counter[str] = Counter()
    monkeypatch.setattr(
        "lms_webhooks.batch.sweep.count", lambda metric, value: counted.update({metric: value})
    )
    register_many(world)
    world.takes(world.deliveries, "batch_get_item", seconds=60)
    world.sweep.sweep_all()
    assert counted[Metric.SHARDS_SWEPT] == SHARDS - len(world.shards_after(3)) - 1
    while parts := world.parts():
        for part in parts:
            world.sweep.sweep_part(part, remaining_seconds=50)
    assert counted[Metric.SHARDS_SWEPT] == SHARDS
    assert counted[Metric.DRAINS_SCHEDULED_BY_SWEEP] == 30


@pytest.mark.slow
@pytest.mark.parametrize("start", ["wh_", f"wh_{5000:022d}", "wh_~"])
def test_each_sweep_begins_elsewhere_and_looks_at_every_mark(world: World, start: str) -> None:
    many = [each for shard in range(SHARDS) for each in register_many(world, 3, shard=shard)]
    world.sweep._new_start = lambda: start
    assert world.sweep.sweep_all() == len(many)
    assert world.sent_for() == sorted(many)


def test_where_a_sweep_begins_is_left_to_chance(world: World) -> None:
    starts = {Sweep(**world.parts_of_a_sweep())._new_start() for _ in range(5)}
    assert len(starts) == 5


# What fails


def test_what_fails_for_some_is_no_reason_to_leave_out_the_others(world: World) -> None:
    """DynamoDB refuses one call for ten. At its end the invocation fails, so that it is noticed."""
    many = register_many(world)
    fails = Fails(before(world.deliveries).behind.batch_get_item, 2)
    before(world.deliveries).answers["batch_get_item"] = fails
    with pytest.raises(ClientError):
        world.sweep.sweep_all()
    sent = world.sent_for()
    assert len(sent) == 20
    assert world.sweep.sweep_all() == 10, "to the others somebody is on the way"
    assert set(many) - set(sent) == set(world.sent_for())


def test_a_shard_that_cannot_be_read_holds_up_no_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: Counter[str] = Counter()
    monkeypatch.setattr(
        "lms_webhooks.batch.sweep.count", lambda metric, value: counted.update({metric: value})
    )
    many = [each for shard in range(SHARDS) for each in register_many(world, 1, shard=shard)]
    before(world.deliveries).answers["query"] = Fails(before(world.deliveries).behind.query, 1)
    with pytest.raises(ClientError):
        world.sweep.sweep_all()
    assert len(world.sent_for()) == len(many) - 1
    assert counted[Metric.SHARDS_SWEPT] == SHARDS - 1
    assert world.parts() == []


def test_a_webhook_that_cannot_be_understood_costs_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its item is damaged, or of a newer version: it is read with others."""
    counted: Counter[str] = Counter()
    for module in ("observability", "batch.sweep"):
        monkeypatch.setattr(
            f"lms_webhooks.{module}.count", lambda metric, value=1: counted.update({metric: value})
        )
    world.store.create(WEBHOOK)
    world.mark()
    many = register_many(world, 5, shard=_shard(WEBHOOK.webhook_id))
    world.damage(WEBHOOK)
    assert world.sweep.sweep_all() == 5
    assert world.sent_for() == many
    assert counted[Metric.INTERNAL_ERRORS] == 1
    assert counted[Metric.SHARDS_SWEPT] == SHARDS


def test_parts_that_sqs_does_not_take_are_left_to_the_next_sweep(world: World) -> None:
    register_many(world)
    world.takes(world.deliveries, "batch_get_item", seconds=60)
    send = world.sqs.behind.send_message_batch

    def refuse(**call: Any) -> Any:
        if call["QueueUrl"] == world.sweep_url:
            raise Throttled
        return send(**call)

    world.sqs.answers["send_message_batch"] = refuse
    with pytest.raises(ClientError):
        world.sweep.sweep_all()
    assert len(world.sent_for()) == 10
