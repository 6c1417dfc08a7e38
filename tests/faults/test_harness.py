"""The harness sees what is wrong: each of these breaks the product in one place, and must be found out."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from lms_webhooks.admin.inputs import WebhookPatch
from lms_webhooks.aws import clients
from lms_webhooks.aws.sqs import DrainMessage
from lms_webhooks.drainer.drainer import Drainer
from lms_webhooks.drainer.outcomes import OutcomeRecorder
from lms_webhooks.model.attempts import Attempt
from lms_webhooks.model.health import Health
from lms_webhooks.model.lanes import DueMarker, Lane, PendingEvent
from lms_webhooks.stores import health, webhook_cache
from lms_webhooks.stores.backlog import Backlog
from lms_webhooks.stores.deliveries import DeliveryStore
from lms_webhooks.stores.health import HealthStore, read_health_item
from tests.faults.exhaust import Row, exhaust
from tests.faults.faults import ADMIN, Fault, FaultWorld
from tests.faults.stories import STORIES
from tests.scenarios.endpoints import OK, Reply
from tests.scenarios.world import HOUR, SIGNED


def broken(name: str, fault: Fault) -> Row:
    """Tell a story of a product that is broken. Under its own name, for how it goes well is remembered."""
    story = next(story for story in STORIES if story.name == name)
    return exhaust(replace(story, name=f"broken: {name}"), fault, 0)


def test_events_that_are_taken_out_before_they_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    deliver = OutcomeRecorder.record_delivered

    def deliver_last(
        self: OutcomeRecorder, webhook_id: str, lane: Lane, waiting: Sequence[PendingEvent], attempt: Attempt
    ) -> bool:
        self._backlog.remove(webhook_id, lane, waiting)
        return deliver(self, webhook_id, lane, waiting, attempt)

    monkeypatch.setattr(OutcomeRecorder, "record_delivered", deliver_last)
    row = broken("drain", Fault.DIES_BEFORE)
    assert row.lost
    assert any("has no outcome" in problem for problem in row.problems), "not only the audit sees it"


def test_an_append_without_a_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backlog, "set_marker", lambda *_, **__: True)
    assert broken("direct failure", Fault.COMES_AGAIN).stranded


def test_a_mark_before_the_append(monkeypatch: pytest.MonkeyPatch) -> None:
    """A drainer that comes between the two finds the lane empty and removes the mark."""
    mark: Callable[..., bool] = Backlog.set_marker
    append: Callable[..., set[str]] = Backlog.append

    def mark_and_append(
        self: Backlog, webhook_id: str, lane: Lane, waiting: Sequence[PendingEvent]
    ) -> set[str]:
        event = waiting[0].event
        mark(self, event.account_id, webhook_id, lane, accepted_at_ms=event.accepted_at_ms)
        return append(self, webhook_id, lane, waiting)

    monkeypatch.setattr(Backlog, "append", mark_and_append)
    monkeypatch.setattr(Backlog, "set_marker", lambda *_, **__: False)
    assert broken("crowd", Fault.STALLS).stranded


def test_a_mark_that_is_removed_though_events_came(monkeypatch: pytest.MonkeyPatch) -> None:
    def clear_marker(self: Backlog, mark: DueMarker) -> bool:
        current = self.markers(mark.webhook_id).get(mark.lane)
        return remove(self, current) if current is not None else True

    remove: Callable[..., bool] = Backlog.clear_marker
    monkeypatch.setattr(Backlog, "clear_marker", clear_marker)
    assert broken("crowd", Fault.STALLS).stranded


def test_a_lease_that_anybody_can_take(monkeypatch: pytest.MonkeyPatch) -> None:
    def take(
        self: HealthStore, account_id: str, webhook_id: str, *, owner: str, **times: int
    ) -> Health | None:
        answer = self._table.client.update_item(
            TableName=self._table.name,
            Key={"pk": {"S": f"ACCOUNT#{account_id}"}, "sk": {"S": f"HEALTH#{webhook_id}"}},
            UpdateExpression="SET lease_owner = :owner, lease_until_ms = :until",
            ExpressionAttributeValues={":owner": {"S": owner}, ":until": {"N": str(times["until_ms"])}},
            ReturnValues="ALL_NEW",
        )
        return read_health_item(answer["Attributes"])

    monkeypatch.setattr(HealthStore, "acquire", take)
    row = broken("crowd", Fault.STALLS)
    assert any("a lease was taken from its owner" in problem for problem in row.problems)


def test_a_message_that_needs_no_ticket(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that nobody sent comes during the pause after an aborted drain run."""
    monkeypatch.setattr(health, "_TICKET_IS_FREE", "attribute_exists(pk)")
    with FaultWorld() as world:
        webhook = world.register(world.endpoint(), ordered=True, authentication=SIGNED)
        with world.fault("kms"):
            world.emit(1)
            world.run(20)
            world.send_for_drainer(webhook)
            world.run(1)
        assert "the drainer used a ticket that was not its own" in world.audit.problems


def test_messages_that_are_acknowledged_though_nothing_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    record: Callable[..., set[tuple[str, str]]] = DeliveryStore.record

    def forget(self: DeliveryStore, *args: Any, **kwargs: Any) -> set[tuple[str, str]]:
        record(self, *args, **kwargs)
        return set()

    monkeypatch.setattr(DeliveryStore, "record", forget)
    assert broken("direct success", Fault.REFUSED).lost
    assert broken("drain", Fault.PARTLY_FOR_GOOD).lost


def test_a_death_that_is_answered_with_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    drain: Callable[..., None] = Drainer.drain

    def drain_and_tidy_up(self: Drainer, message: DrainMessage, **kwargs: Any) -> None:
        try:
            drain(self, message, **kwargs)
        finally:
            self._queue.schedule(message, delay_seconds=900)

    monkeypatch.setattr(Drainer, "drain", drain_and_tidy_up)
    row = broken("drain", Fault.DIES_AFTER)
    assert any("a call after death: drainer: sqs SendMessage" in problem for problem in row.problems)


def test_a_write_that_is_not_tried_again_when_a_transaction_holds_its_item(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clients, "_CONFLICT_TRIES", 1)
    row = broken("drain", Fault.CONFLICTS)
    assert any("given up" in problem for problem in row.problems)


def test_a_registration_that_is_remembered_for_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_cache, "MAX_AGE_SECONDS", 600.0)
    pause = WebhookPatch(status="paused")
    with FaultWorld() as world:
        webhook = world.register(world.endpoint())
        world.emit(1)
        world.run(1)
        world.ask_admin(lambda admin: admin.webhooks.update(ADMIN, webhook, pause))
        world.run(15)
        world.emit(1)
        world.run(1)
        assert any("stale" in problem for problem in world.audit.problems)


def test_events_that_are_sent_before_older_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    read: Callable[..., list[PendingEvent]] = Backlog.read

    def read_from_the_second_on(self: Backlog, *lane: Any, limit: int) -> list[PendingEvent]:
        waiting = read(self, *lane, limit=limit + 1)
        return waiting[1:] or waiting

    monkeypatch.setattr(Backlog, "read", read_from_the_second_on)
    row = broken("drain", Fault.DIES_BEFORE)
    assert any("out of order" in problem for problem in row.problems)


def test_an_event_that_was_set_aside_and_came_again_is_in_order_in_either_lane() -> None:
    """It stands in two lanes then, and leaves the retry lane while older ones wait in the other."""
    with FaultWorld() as world:
        endpoint = world.endpoint()
        endpoint.script = lambda ids, _: Reply(422) if rejected in ids else OK
        webhook = world.register(endpoint, ordered=True)
        (rejected,) = world.emit(occurred_at=world.now + HOUR)
        world.run(30)
        with world.drainers_busy():
            world.run(60)
            older = world.emit(12)
            world.duplicate(rejected)
            world.run(1)
            assert world.waiting_ids(webhook, Lane.REALTIME) == [*older, rejected]
        posts = len(endpoint.posts)
        world.run(30)
        sent = [post.event_ids for post in endpoint.posts[posts:]]
        assert sent.index([rejected]) < next(n for n, ids in enumerate(sent) if older[-1] in ids)
        assert world.audit.problems == []
