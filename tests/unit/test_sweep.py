"""A drainer is sent for where something is due and nobody is at it; and nowhere else."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import boto3
import pytest
from moto import mock_aws

from lms_webhooks.backlog import Backlog, Lane
from lms_webhooks.dynamodb import Table
from lms_webhooks.health import Health, Mode, SwitchOff
from lms_webhooks.health_store import HealthStore
from lms_webhooks.queues import DrainQueue
from lms_webhooks.standings import Standings
from lms_webhooks.sweep import Sweep
from lms_webhooks.webhook_store import WebhookStore
from lms_webhooks.webhooks import NoAuthentication, Status, Webhook
from tests.unit.admin_client import REGION, make_table

NOW_MS = 1_793_707_200_000
RETENTION_MS = 7 * 86_400_000
WEBHOOK = Webhook(
    account_id="1010",
    webhook_id="wh_" + "a" * 22,
    name="HR",
    target_url="https://hooks.example.com/",
    authentication=NoAuthentication(),
    events=frozenset({"COURSE_ENROLLMENT"}),
    status=Status.ACTIVE,
    created_at="",
    updated_at="",
    created_by="",
    updated_by="",
)


class World:
    def __init__(self) -> None:
        client = boto3.client("dynamodb", region_name=REGION)
        make_table(client, "webhooks")
        make_table(client, "deliveries")
        self.sqs = boto3.client("sqs", region_name=REGION)
        self.url = self.sqs.create_queue(QueueName="drain")["QueueUrl"]
        webhooks = Table(client, "webhooks")
        self.store = WebhookStore(client, "webhooks")
        self.health = HealthStore(webhooks)
        self.backlog = Backlog(Table(client, "deliveries"), retention_days=7)
        self.sweep = Sweep(
            backlog=self.backlog,
            standings=Standings(webhooks),
            queue=DrainQueue(self.sqs, self.url),
            clock=lambda: NOW_MS / 1000,
        )

    def mark(self, lane: Lane = Lane.REALTIME, *, webhook: Webhook = WEBHOOK, **more: Any) -> None:
        accepted_at_ms = more.pop("accepted_at_ms", NOW_MS)
        self.backlog.mark(webhook.account_id, webhook.webhook_id, lane, accepted_at_ms=accepted_at_ms, **more)

    def sent_for(self) -> list[str]:
        webhook_ids = []
        while messages := self.sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10).get("Messages"):
            webhook_ids += [json.loads(message["Body"])["webhookId"] for message in messages]
        return sorted(webhook_ids)


@pytest.fixture
def world() -> Iterator[World]:
    with mock_aws():
        yield World()


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
    assert world.sweep.send_for_drainers() == 1, "should its drainer be lost"


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
