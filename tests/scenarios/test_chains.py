"""At most one drain message of a webhook is on its way, whatever fails: no fault makes more work of itself.

Counted are the messages that wait in the drain queue, delayed or not, and that no drainer has in hand. Two
kinds need no ticket, and each has one cause: the dispatcher's for a mark that it made, and the admin API's.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest

from lms_webhooks.admin.retries import RetryState
from lms_webhooks.aws.dynamodb import key_item
from lms_webhooks.model.attempts import ErrorClass
from lms_webhooks.model.lanes import Lane
from lms_webhooks.model.webhooks import Status
from lms_webhooks.stores.backlog import Backlog
from lms_webhooks.stores.health import TICKET_GRACE_SECONDS, HealthStore, Ticket, health_key
from tests.scenarios.endpoints import DOWN, OK, Reply, always, in_turn, until
from tests.scenarios.queues import Message
from tests.scenarios.world import HOUR, MINUTE, NON_REAL_TIME, SIGNED, Call, World


@dataclass
class Chain:
    """The drains scheduled for a world's webhooks, and at most how many messages of one waited together."""

    sent_by: Counter[str] = field(default_factory=Counter)
    most_at_once: int = 0
    decrypted: int = 0


def watch(world: World) -> Chain:
    """Count from now on."""
    chain = Chain()

    def note(call: Call, proceed: Callable[[], Any]) -> Any:
        chain.decrypted += call.operation == "Decrypt"
        answer = proceed()
        if call.service == "sqs":
            chain.sent_by[call.function] += len(call.params.get("Entries", [call]))
            on_their_way = Counter(
                json.loads(each.body)["webhookId"] for each in world.waiting_drain_messages()
            )
            chain.most_at_once = max(chain.most_at_once, *on_their_way.values())
        return answer

    world.taps.append(note)
    return chain


@contextmanager
def refused(world: World, is_meant: Callable[[Call], bool]) -> Iterator[None]:
    """AWS refuses some calls."""

    def refuse(call: Call, proceed: Callable[[], Any]) -> Any:
        if is_meant(call):
            raise world.aws_error("InternalServerError", call)
        return proceed()

    world.taps.append(refuse)
    try:
        yield
    finally:
        world.taps.remove(refuse)


def test_kms_refuses_for_six_hours_while_events_come(world: World) -> None:
    """5 s doubling to 300 s make some 80 turns, and each asks KMS once. At the end all goes out, in order."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint, ordered=True, authentication=SIGNED)
    chain = watch(world)
    ids: list[str] = []
    with world.fault("kms", code="KMSInternalException"):
        for _ in range(36):
            ids += world.emit(1)
            world.run(10 * MINUTE)
    assert chain.most_at_once == 1
    assert 75 <= chain.decrypted <= 80
    assert chain.sent_by == {"dispatcher": 1, "drainer": chain.decrypted}
    assert world.health(webhook).failures == 0
    world.run(5 * MINUTE + 1)
    assert endpoint.acknowledged == ids
    assert world.problems() == []


def test_dynamodb_refuses_the_drainer_s_reads_for_an_hour(world: World) -> None:
    """Its messages replace each other, later and later; the sweep, which can read, sends none beside them."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint, ordered=True)
    chain = watch(world)
    with refused(world, lambda call: call.function == "drainer" and call.operation == "Query"):
        ids = world.emit(3)
        world.run(HOUR)
    assert chain.most_at_once == 1
    assert chain.sent_by == {"dispatcher": 1, "drainer": 17}
    assert not any(queue.dead for queue in world.drain_queues)
    world.run(5 * MINUTE + 1)
    assert endpoint.acknowledged == ids
    assert world.outcomes(webhook) == {"delivered": 3}


def test_a_message_that_was_taken_for_lost_is_no_second_one_beside_its_successor(world: World) -> None:
    """Nothing could be done with it, so it comes every six minutes. The sweep sent another under its ticket.
    That one comes while its webhook must wait, and sends its successor."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    with world.fault("dynamodb", function="drainer"):
        ids = world.emit(1, name=NON_REAL_TIME)
        world.run(15 * MINUTE)  # to its slot, when the sweep sends the first one
        world.run(TICKET_GRACE_SECONDS + MINUTE)  # the second one
        world.run(6 * MINUTE - 1)
    assert sorted(each.receives for each in world.waiting_drain_messages()) == [1, 4]
    endpoint.script = until(world.now + 3, DOWN)
    ids += world.emit(1)
    world.run(2)
    # The new ones are the dispatcher's, who saw the endpoint fail, and the successor of the second one.
    assert sorted(each.receives for each in world.waiting_drain_messages()) == [0, 0, 4]
    world.run_until_quiet()
    assert sorted(endpoint.acknowledged) == ids
    assert world.outcomes(webhook) == {"delivered": 2}


def test_dynamodb_refuses_the_drainer_everything_for_an_hour(world: World) -> None:
    """Its message stays on the queue. The sweep takes it for lost after a quarter of an hour, each time."""
    endpoint = world.endpoint()
    world.register(endpoint, ordered=True)
    chain = watch(world)
    with world.fault("dynamodb", function="drainer"):
        ids = world.emit(3)
        world.run(HOUR)
    assert chain.sent_by.total() <= 5
    world.run(7 * MINUTE)
    assert endpoint.acknowledged == ids


def test_the_history_cannot_be_written_for_an_hour(world: World) -> None:
    """An endpoint is not sent the same events each five seconds."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint, ordered=True)
    chain = watch(world)

    def writes_history(call: Call) -> bool:
        return call.function == "drainer" and "DELIVERY#" in str(call.params) and call.operation != "Query"

    with refused(world, lambda call: writes_history(call) and call.operation != "BatchGetItem"):
        world.emit(1)
        world.run(HOUR)
    assert len(endpoint.posts) <= 18
    assert chain.most_at_once == 1
    world.run(5 * MINUTE + 1)
    assert world.outcomes(webhook) == {"delivered": 1}
    assert world.health(webhook).failures == 0


def test_a_turn_that_gets_on_before_it_breaks_off_does_not_wait_longer_each_time(world: World) -> None:
    """DynamoDB refuses one call in forty. A thousand events go out all the same, within minutes."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint, ordered=True)
    calls = 0

    def is_meant(call: Call) -> bool:
        nonlocal calls
        calls += call.function == "drainer" and call.operation == "Query"
        return call.function == "drainer" and call.operation == "Query" and calls % 40 == 0

    with refused(world, is_meant):
        world.emit(1000)
        world.run_until_quiet(at_most=5 * MINUTE)
    assert world.outcomes(webhook) == {"delivered": 1000}


def test_a_message_waits_in_its_queue_for_ten_minutes(world: World) -> None:
    """All drainers are busy, such as with receivers that hang. The sweep goes on, and sends no second one."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = in_turn(DOWN, OK)
    ids = world.emit(1)
    world.run(1)
    assert world.lose_drain_messages() == 1
    chain = watch(world)
    with world.drainers_busy():
        world.run(11 * MINUTE)
    assert chain.sent_by == {"batch": 1}
    assert chain.most_at_once == 1
    world.run(1)
    assert endpoint.acknowledged == ids
    assert world.outcomes(webhook) == {"delivered": 1}


def test_messages_wait_in_their_queue_for_longer_than_a_ticket_lives(world: World) -> None:
    """The sweep takes the first for lost, and sends a second with the same ticket. The one that comes first
    drains, and the other one does nothing: were each ticket a new one, all would always be too late."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint, ordered=True)
    with world.drainers_busy():
        ids = world.emit(300)
        world.run(20 * MINUTE)
        tickets = [json.loads(each.body).get("ticket", "") for each in world.waiting_drain_messages()]
    assert len(tickets) == 3, "of the dispatcher, which has none, and of the sweep"
    assert set(tickets) == {"", tickets[-1]}
    chain = watch(world)
    world.run_until_quiet()
    assert chain.sent_by == {}
    assert endpoint.acknowledged == ids
    assert world.outcomes(webhook) == {"delivered": 300}


def test_every_drain_message_comes_twice(world: World) -> None:
    """SQS delivers at least once. The copy comes while the first is at work, or later, or both."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint, authentication=SIGNED)
    endpoint.script = until(world.now + 10 * MINUTE, DOWN, Reply(seconds=0.5))
    chain = watch(world)
    copies = count()

    def twice(send: Callable[..., Message]) -> Callable[..., Message]:
        def send_twice(body: str, *, delay_seconds: float = 0, accepted_at: float | None = None) -> Message:
            later = delay_seconds + next(copies) % 3 * 20 + 0.2
            send(body, delay_seconds=later, accepted_at=accepted_at)
            return send(body, delay_seconds=delay_seconds, accepted_at=accepted_at)

        return send_twice

    for queue in world.drain_queues:
        queue.send = twice(queue.send)  # type: ignore[method-assign]
    ids = world.emit(500)
    world.run(5 * MINUTE)
    with world.fault("kms", code="KMSInternalException"):
        world.run(20 * MINUTE)
    world.run_until_quiet(at_most=HOUR)
    assert endpoint.acknowledged == ids
    assert world.outcomes(webhook) == {"delivered": 500}
    assert world.duplicates() == 0
    assert chain.sent_by.total() < 30


def test_a_changed_url_is_served_at_once_though_the_next_probe_is_minutes_away(world: World) -> None:
    """The message that is on its way has lost its ticket: when it comes it starts no second chain."""
    endpoint, new = world.endpoint(), world.endpoint("new")
    webhook = world.register(endpoint)
    endpoint.script = always(DOWN)
    ids = world.emit(1)
    world.run(12 * MINUTE)
    assert world.health(webhook).next_attempt_at_ms / 1000 - world.now > 100
    chain = watch(world)
    new.script = in_turn(*[DOWN] * 8, OK)
    world.change(webhook, target_url=new.url)
    world.send_for_drainer(webhook)
    world.run(2)
    assert len(new.posts) == 1
    world.run(HOUR)
    assert new.acknowledged == ids
    assert [round(post.started_at - new.posts[0].started_at) for post in new.posts[:4]] == [0, 5, 15, 35]
    assert chain.sent_by == {"drainer": 8}
    assert world.waiting_drain_messages() == []


def test_messages_of_an_older_version_have_no_ticket_and_work(world: World) -> None:
    """They take the lease where none is on its way, and do nothing where one is."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint, ordered=True)
    endpoint.script = in_turn(DOWN, DOWN, DOWN, OK)

    def forget_ticket(call: Call, proceed: Callable[[], Any]) -> Any:
        if call.function == "drainer" and call.service == "sqs":
            body = json.loads(call.params["MessageBody"])
            call.params["MessageBody"] = json.dumps({name: body[name] for name in ("accountId", "webhookId")})
        return proceed()

    ids = world.emit(3)
    world.run(1)
    world.taps.append(forget_ticket)
    world.run(HOUR)
    assert endpoint.acknowledged == ids
    assert world.outcomes(webhook) == {"delivered": 3}
    assert all("has no ticket" in each for each in world.second_messages)
    world.second_messages.clear()


def test_a_drainer_dies_between_its_lease_and_its_message(world: World) -> None:
    """Its ticket stands there without a message. But its own message comes again, after the visibility
    timeout, and takes the place of the one that was not sent."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = in_turn(DOWN, DOWN, OK)

    def die_once(call: Call, proceed: Callable[[], Any]) -> Any:
        if call.function == "drainer" and call.service == "sqs":
            world.taps.remove(die_once)
            world.die(call)
        return proceed()

    world.taps.append(die_once)
    ids = world.emit(1)
    world.run(6 * MINUTE)
    assert (world.deaths, len(endpoint.posts)) == (1, 2)
    world.run(MINUTE)
    assert endpoint.acknowledged == ids
    assert world.outcomes(webhook) == {"delivered": 1}


def test_the_sweep_dies_between_its_ticket_and_its_message(world: World) -> None:
    """When the ticket has ended, the next sweep sends."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = in_turn(Reply(422), OK)

    def die_once(call: Call, proceed: Callable[[], Any]) -> Any:
        if call.function == "batch" and call.service == "sqs":
            world.taps.remove(die_once)
            world.die(call)
        return proceed()

    world.taps.append(die_once)
    with refused(world, lambda call: call.function == "dispatcher" and call.service == "sqs"):
        ids = world.emit(1)
        world.run(2 * MINUTE + 1)  # its shard may be the last one
    assert (world.deaths, endpoint.acknowledged) == (1, [])
    world.run(TICKET_GRACE_SECONDS + 2 * MINUTE)
    assert endpoint.acknowledged == ids
    assert world.outcomes(webhook) == {"delivered": 1}


def test_a_release_whose_answer_is_lost_leaves_no_ticket_without_a_message(world: World) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint, ordered=True)
    endpoint.script = in_turn(DOWN, DOWN, OK)
    chain = watch(world)

    def lose_answer(call: Call, proceed: Callable[[], Any]) -> Any:
        answer = proceed()
        if call.operation == "UpdateItem" and "REMOVE lease_owner" in call.params["UpdateExpression"]:
            world.taps.remove(lose_answer)
            raise world.aws_error("RequestTimeout", call)
        return answer

    world.taps.append(lose_answer)
    ids = world.emit(1)
    world.run(MINUTE)
    assert endpoint.acknowledged == ids
    assert world.outcomes(webhook) == {"delivered": 1}
    assert chain.most_at_once == 1
    assert world.metrics["DrainRunsAborted"] == 1


def test_a_message_that_comes_early_is_sent_again_for_when_it_is_due(world: World) -> None:
    """A dispatcher may see the endpoint fail, and ask for patience, while a message is on its way."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = in_turn(Reply(422), Reply(503, retry_after="300"), OK)
    chain = watch(world)
    ids = world.emit(1)
    world.run(30)
    with world.drainers_busy():
        world.run(90)  # the sweep sends for the event that was rejected
        ids += world.emit(1)
        world.run(1)
    due_at = world.health(webhook).next_attempt_at_ms / 1000
    world.run(10 * MINUTE)
    assert endpoint.posts[2].started_at == pytest.approx(due_at, abs=1)
    assert sorted(endpoint.acknowledged) == ids
    assert chain.sent_by["drainer"] <= 2
    assert world.outcomes(webhook) == {"delivered": 2}


def test_the_harness_sees_a_second_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep that asks for no ticket sends one each minute, as it did once."""
    monkeypatch.setattr("lms_webhooks.batch.sweep._needs_drainer", lambda *_: True)
    monkeypatch.setattr(HealthStore, "take_ticket", lambda *_, **__: True)
    with World() as world:
        world.register(world.endpoint(), ordered=True, authentication=SIGNED)
        with world.fault("kms", code="KMSInternalException"):
            world.emit(1)
            world.run(4 * MINUTE)
        assert any("a second message of the batch is on its way" in each for each in world.second_messages)


def test_the_harness_sees_a_message_for_a_mark_that_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no ticket, and does nothing; but there would be one for each event."""
    mark = Backlog.set_marker
    monkeypatch.setattr(Backlog, "set_marker", lambda *args, **how: mark(*args, **how) or True)
    with World() as world:
        webhook = world.register(world.endpoint(), ordered=True)
        with world.drainers_busy():
            for _ in range(2):
                world.emit(1)
                world.run(1)
            (problem,) = world.second_messages
        assert problem.startswith("a message of the dispatcher for nothing new")
        assert webhook in problem


def test_the_harness_sees_purgers_that_need_no_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    with World() as world:
        webhook = world.register(world.endpoint(), status=Status.PAUSED)
        world.emit(3)
        world.run(1)
        world.delete(webhook)
        with world.drainers_busy():
            world.run(3 * MINUTE)
            assert world.second_messages == []
            monkeypatch.setattr(Backlog, "claim", lambda *_, **__: True)
            world.run(20 * MINUTE)
            assert any("a purge message of the batch has no claim" in each for each in world.second_messages)


def test_the_harness_sees_a_ticket_that_was_taken_from_its_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def take(self: HealthStore, account_id: str, webhook_id: str, ticket: Ticket, **_: int) -> bool:
        self._table.client.update_item(
            TableName=self._table.name,
            Key=key_item(health_key(account_id, webhook_id)),
            UpdateExpression="SET ticket = :ticket, ticket_until_ms = :until",
            ExpressionAttributeValues={
                ":ticket": {"S": f"{ticket.text}, another"},
                ":until": {"N": str(ticket.due_ms + TICKET_GRACE_SECONDS * 1000)},
            },
        )
        return True

    monkeypatch.setattr("lms_webhooks.batch.sweep._needs_drainer", lambda *_: True)
    monkeypatch.setattr(HealthStore, "take_ticket", take)
    with World() as world:
        world.register(world.endpoint(), ordered=True, authentication=SIGNED)
        with world.fault("kms", code="KMSInternalException"):
            world.emit(1)
            world.run(4 * MINUTE)
        assert any("was replaced while it lived" in each for each in world.second_messages)


# Deleted webhooks


@pytest.mark.slow
def test_a_deleted_webhook_has_one_purger(world: World) -> None:
    """Writes are slow, so that it takes several drainers after each other, and sweeps in between. Each event
    is recorded once and taken out once."""
    webhook = world.register(world.endpoint(), status=Status.PAUSED)
    ids = world.emit(10_000)
    world.run(MINUTE)
    world.delete(webhook)
    chain = watch(world)
    with purge_writes(world, slower_by=0.8) as writes:
        world.run_until_quiet(at_most=10 * MINUTE)
    assert world.outcomes(webhook) == {"failed": 10_000}
    assert len(ids) == 10_000
    assert writes == {"PutRequest": 10_000, "DeleteRequest": 10_000}
    assert chain.sent_by["batch"] == 1
    assert 2 <= chain.sent_by["drainer"] <= 6
    assert chain.most_at_once == 1


def test_a_purge_begins_when_whoever_had_the_webhook_is_done(world: World) -> None:
    """A dispatcher sent an event before the deletion, and writes that down 22 s after it. The same event also
    waits. It stays delivered, though the purger takes 15 s between its look at the history and its record."""
    webhook = world.register(world.endpoint())
    world.run(20)
    (event_id,) = world.emit(1)
    for seconds, do in (
        (5, lambda: world.change(webhook, status=Status.PAUSED)),
        (10, lambda: world.duplicate(event_id)),
        (30, lambda: world.delete(webhook)),
    ):
        world.time.at(world.now + seconds, do)
    slow_by = {"dispatcher": [52.0, 0.0], "drainer": [15.0]}

    def be_slow(call: Call, proceed: Callable[[], Any]) -> Any:
        if call.operation == "BatchWriteItem" and slow_by[call.function]:
            world.time.sleep(slow_by[call.function].pop(0))
        return proceed()

    world.taps.append(be_slow)
    world.run(31)
    assert world.waiting_ids(webhook) == [event_id]
    world.run(3 * MINUTE)
    assert world.outcomes(webhook) == {"delivered": 1}
    assert world.waiting_ids(webhook) == []
    assert world.marks(webhook) == {}


def test_a_deleted_webhook_s_lanes_are_purged_though_none_is_due_and_every_message_is_lost(
    world: World,
) -> None:
    """Its batch lane is due at its slot, its retry lane in hours."""
    endpoint = world.endpoint()
    endpoint.script = always(Reply(422))
    webhook = world.register(endpoint)
    world.emit(1)
    world.run(20 * MINUTE)
    world.emit(1, name=NON_REAL_TIME)
    world.run(10)
    now_ms = world.now * 1000
    assert {lane: mark.due_at_ms > now_ms for lane, mark in world.marks(webhook).items()} == {
        Lane.BATCH: True,
        Lane.RETRY: True,
    }
    world.delete(webhook)
    world.lose_drain_messages()
    world.run(3 * MINUTE)
    assert world.outcomes(webhook) == {"failed": 2}
    assert world.marks(webhook) == {}


def test_a_purger_that_is_lost_before_the_last_lane_is_replaced(world: World) -> None:
    """With the lane that is due: the others are not due for a long time."""
    endpoint = world.endpoint()
    endpoint.script = always(Reply(422))
    webhook = world.register(endpoint)
    world.emit(1)
    world.run(20 * MINUTE)
    world.delete(webhook)
    killed = 0

    def die(call: Call, proceed: Callable[[], Any]) -> Any:
        nonlocal killed
        if call.function == "drainer" and "BACKLOG#" in str(call.params) and call.operation == "Query":
            killed += 1
            world.die(call)
        return proceed()

    world.taps.append(die)
    world.run(3 * MINUTE)
    world.taps.remove(die)
    assert killed
    world.lose_drain_messages()
    world.run(20 * MINUTE)
    assert world.outcomes(webhook) == {"failed": 1}
    assert world.marks(webhook) == {}


def test_a_purger_that_dies_is_replaced(world: World) -> None:
    """By the sweep, when its claim is over; or, where it died before it scheduled its successor, by its own
    message that comes again."""
    webhook = world.register(world.endpoint(), status=Status.PAUSED)
    world.emit(200)
    world.run(MINUTE)
    world.delete(webhook)

    def die_once(call: Call, proceed: Callable[[], Any]) -> Any:
        if call.function == "drainer" and call.operation == "BatchWriteItem":
            world.taps.remove(die_once)
            world.die(call)
        return proceed()

    world.taps.append(die_once)
    world.run(3 * MINUTE)
    assert world.deaths == 1
    world.run(2 * MINUTE)
    assert world.outcomes(webhook) == {"failed": 200}
    assert world.marks(webhook) == {}


def test_a_purge_that_dynamodb_refuses_pauses_for_longer_each_time(world: World) -> None:
    webhook = world.register(world.endpoint(), status=Status.PAUSED)
    world.emit(20)
    world.run(MINUTE)
    world.delete(webhook)
    chain = watch(world)
    with refused(world, lambda call: call.function == "drainer" and call.operation == "BatchWriteItem"):
        world.run(HOUR)
    assert chain.sent_by["batch"] == 1
    assert chain.sent_by["drainer"] <= 18  # the first was early
    assert chain.most_at_once == 1
    world.run(5 * MINUTE + 2)
    assert world.outcomes(webhook) == {"failed": 20}
    assert world.marks(webhook) == {}


def test_a_purger_leaves_a_lane_that_another_has(world: World) -> None:
    """A message that nobody sent, or that comes twice, starts no second one."""
    webhook = world.register(world.endpoint(), status=Status.PAUSED)
    world.emit(1000)
    world.run(MINUTE)
    world.delete(webhook)
    with purge_writes(world, slower_by=0.4) as writes:
        for number in range(150):
            world.send_for_drainer(webhook, delay_seconds=number)
        world.run_until_quiet(at_most=4 * MINUTE)
    assert writes == {"PutRequest": 1000, "DeleteRequest": 1000}
    assert world.outcomes(webhook) == {"failed": 1000}


@contextmanager
def purge_writes(world: World, *, slower_by: float) -> Iterator[Counter[str]]:
    """Make the drainer's writes slow, and count them by kind."""
    writes: Counter[str] = Counter()

    def slow_down(call: Call, proceed: Callable[[], Any]) -> Any:
        if call.function == "drainer" and call.operation == "BatchWriteItem":
            world.time.sleep(slower_by)
            ((_, requests),) = call.params["RequestItems"].items()
            writes.update(kind for request in requests for kind in request)
        return proceed()

    world.taps.append(slow_down)
    try:
        yield writes
    finally:
        world.taps.remove(slow_down)


def test_a_retry_probes_at_once_and_all_the_rest_follows(world: World) -> None:
    """The receiver is fixed, and the next probe is minutes away: its admin need not wait for it."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = always(DOWN)
    ids = world.emit(30)
    world.run_while(lambda: world.health(webhook).failures < 8, at_most=HOUR)
    world.run(1)
    assert world.health(webhook).next_attempt_at_ms / 1000 - world.now > 4 * MINUTE
    endpoint.posts.clear()
    endpoint.script = always(OK)
    assert world.retry(webhook) is RetryState.SCHEDULED
    world.run(2)
    assert endpoint.acknowledged == ids
    assert endpoint.sizes[0] == 1, "the first request is a probe"
    world.run(10 * MINUTE)
    assert endpoint.acknowledged == ids, "the message that was on its way finds nothing to do"
    assert world.problems() == []


def test_retries_of_an_endpoint_that_stays_down_are_one_request_each(world: World) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = always(Reply(None, seconds=3, error=ErrorClass.CONNECT))
    world.emit(30)
    world.run_while(lambda: world.health(webhook).failures < 8, at_most=HOUR)
    world.run(1)
    endpoint.posts.clear()
    assert world.retry(webhook) is RetryState.SCHEDULED
    world.run(1)
    assert world.retry(webhook) is RetryState.RUNNING
    world.run(4)
    assert len(endpoint.posts) == 1
    for _ in range(3):
        assert world.retry(webhook) is RetryState.SCHEDULED
        world.run(4)
    assert len(endpoint.posts) == 4
    world.run(10 * MINUTE)
    assert len(endpoint.posts) == 4 + 1, "one chain of probes goes on, 300 s apart"
    assert world.problems() == []
