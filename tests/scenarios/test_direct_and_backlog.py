"""Events go out directly while their endpoint is well; when it fails, all that follow wait, in order."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lms_webhooks.model.health import Mode
from lms_webhooks.model.lanes import Lane
from lms_webhooks.observability import logger
from tests.engines.dynamodb import Engine
from tests.logged import Line, logged_lines
from tests.scenarios.endpoints import DOWN, HANGS, OK, Endpoint, Reply, always, in_turn, until
from tests.scenarios.world import MINUTE, Call, World, make_tables


def test_a_healthy_endpoint_gets_each_event_at_once_and_alone(world: World) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    ids = world.emit(10)
    world.run(2)
    assert endpoint.acknowledged == ids
    assert endpoint.sizes == [1] * 10
    assert {post.function for post in endpoint.posts} == {"dispatcher"}
    assert world.outcomes(webhook) == {"delivered": 10}
    assert world.marks(webhook) == {}
    assert world.health(webhook).revision == 0, "a success writes nothing about health"


@pytest.fixture
def lines(quiet: None) -> Iterator[list[Line]]:  # noqa: ARG001  # to come after it
    """What is logged, in spite of it."""
    logger.setLevel(logging.INFO)
    with logged_lines() as lines:
        yield lines


def test_what_one_batch_brings_a_webhook_is_one_line_in_the_log(world: World, lines: list[Line]) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    ids = world.emit(10)
    world.run(2)
    (line,) = [line for line in lines if line["message"] == "attempt"]
    assert (line["webhookId"], line["attempts"], line["eventIds"]) == (webhook, 10, ids)


def test_what_was_sent_is_in_the_log_whatever_else_breaks(world: World, lines: list[Line]) -> None:
    """A fault in our own code, at one of two webhooks: the other's requests went out all the same."""
    sick, well = world.endpoint("sick"), world.endpoint("well")
    world.register(sick)
    webhook = world.register(well)

    def break_one(call: Call, proceed: Callable[[], Any]) -> Any:
        if call.service == "POST" and call.params["message"].url == sick.url:
            raise ValueError("ours")
        return proceed()

    world.may_break = True
    world.taps.append(break_one)
    ids = world.emit(3)
    world.run(2)
    line = next(line for line in lines if line["message"] == "attempt")
    assert (line["webhookId"], line["eventIds"]) == (webhook, ids)

    world.taps.remove(break_one)
    world.run_until_quiet()
    assert sorted(sick.acknowledged) == sorted(ids)


def ten_accounts(world: World) -> list[Endpoint]:
    """Each with a webhook; and an event for each, in one batch."""
    endpoints = [world.endpoint(f"of-{number}") for number in range(10)]
    for number, endpoint in enumerate(endpoints):
        world.register(endpoint, account=str(2000 + number))
    for number in range(10):
        world.emit(account=str(2000 + number))
    return endpoints


def test_accounts_that_must_be_looked_up_do_not_wait_for_each_other(world: World) -> None:
    """Each look takes 0.2 s. One after the other, ten would take two."""

    def take_long(call: Call, proceed: Callable[[], Any]) -> Any:
        if call.operation == "Query":
            world.time.sleep(0.2)
        return proceed()

    world.taps.append(take_long)
    endpoints = ten_accounts(world)
    emitted_at = world.now
    world.run(2)
    came_after = [endpoint.posts[0].started_at - emitted_at for endpoint in endpoints]
    assert max(came_after) < 0.4
    assert all(len(endpoint.acknowledged) == 1 for endpoint in endpoints)


def test_an_account_that_cannot_be_looked_up_holds_no_other_up(world: World, lines: list[Line]) -> None:
    """Its event comes again, alone, when SQS shows it again."""

    def refuse_one(call: Call, proceed: Callable[[], Any]) -> Any:
        if (
            call.operation == "Query"
            and call.params["ExpressionAttributeValues"][":pk"]["S"] == "ACCOUNT#2003"
        ):
            raise world.aws_error("InternalServerError", call)
        return proceed()

    world.taps.append(refuse_one)
    endpoints = ten_accounts(world)
    world.run(2)
    assert [len(endpoint.acknowledged) for endpoint in endpoints] == [1, 1, 1, 0, 1, 1, 1, 1, 1, 1]
    (line,) = [line for line in lines if line["message"] == "webhooks not read"]
    assert line["accountId"] == "2003"

    world.taps.remove(refuse_one)
    world.run_until_quiet()
    assert all(len(endpoint.acknowledged) == 1 for endpoint in endpoints)
    assert world.duplicates() == 0


def test_a_failure_sends_everything_through_the_backlog_in_order(world: World) -> None:
    """The third event of ten fails. It waits, those behind it wait, and the drainer brings them in order."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = in_turn(OK, OK, DOWN, OK)
    ids = world.emit(10)
    world.run(2)
    assert endpoint.acknowledged == ids[:2]
    assert len(endpoint.posts) == 3
    assert world.waiting_ids(webhook) == ids[2:]
    assert set(world.marks(webhook)) == {Lane.REALTIME}
    health = world.health(webhook)
    assert (health.mode, health.failures, health.last_error) == (Mode.BACKLOG, 1, "HTTP 500")

    world.run_until_quiet()
    assert endpoint.acknowledged == ids
    assert endpoint.sizes == [1, 1, 1, 1, 2, 4, 1]
    assert world.outcomes(webhook) == {"delivered": 10}
    assert world.duplicates() == 0


def test_an_endpoint_that_fails_disturbs_no_neighbour(world: World) -> None:
    """Of two webhooks of one account, one hangs. The other gets everything at once, as if alone."""
    sick, well = world.endpoint("sick"), world.endpoint("well")
    world.register(sick)
    webhook = world.register(well)
    sick.script = until(world.now + 5 * MINUTE, HANGS)
    for _ in range(30):
        world.emit(3)
        world.run(1)
    assert len(well.acknowledged) == 90
    accepted_at = [event["timestamp"] / 1000 for post in well.posts for event in post.events]
    delays = [post.started_at - at for post, at in zip(well.posts, accepted_at, strict=True)]
    assert max(delays) < 0.3
    assert world.health(webhook).mode is Mode.DIRECT
    world.run_until_quiet(at_most=20 * MINUTE)


def test_a_hanging_endpoint_costs_one_request_at_a_time_however_many_wait(world: World) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = always(HANGS)
    (first,) = world.emit(1)
    world.run(6)
    direct_posts = len(endpoint.posts)
    world.emit(200)
    world.run(60)
    later = endpoint.posts[direct_posts:]
    assert all(post.function == "drainer" for post in later)
    assert len(world.waiting_ids(webhook)) == 201
    assert sum(post.event_ids == [first] for post in later) == 3, "after 5, 10 and 20 s"
    assert len(later) == 5, "and two others, see `choosing.stand_in`"


def test_what_comes_while_others_wait_goes_behind_them(world: World) -> None:
    """Events are appended while the endpoint is down, and while the drainer is at it."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = until(world.now + 20, DOWN, Reply(seconds=0.3))
    ids: list[str] = []
    for _ in range(60):
        ids += world.emit(2)
        world.run(0.7)
    world.run_until_quiet()
    assert endpoint.acknowledged == ids
    assert world.outcomes(webhook) == {"delivered": len(ids)}
    assert world.duplicates() == 0


def test_batches_double_up_to_a_hundred(world: World) -> None:
    endpoint = world.endpoint()
    world.register(endpoint)
    endpoint.script = until(world.now + 4, DOWN)
    world.emit(600)
    world.run_until_quiet()
    drained = [len(post.event_ids) for post in endpoint.posts_of("drainer")]
    assert drained == [1, 2, 4, 8, 16, 32, 64, 100, 100, 100, 100, 73]


def test_batches_never_pass_256_kib(world: World) -> None:
    """Ten events of 50 KB: five fit into a POST."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = until(world.now + 4, DOWN)
    ids = world.emit(20, data_bytes=50_000)
    world.run_until_quiet()
    assert endpoint.acknowledged == ids
    assert max(endpoint.sizes) == 5
    assert max(len(post.body) for post in endpoint.posts) <= 256 * 1024
    assert world.outcomes(webhook) == {"delivered": 20}


def test_order_is_by_the_events_own_time_then_by_id(world: World) -> None:
    """Events arrive in another order than they happened, some at the same moment."""
    endpoint = world.endpoint()
    world.register(endpoint)
    endpoint.script = until(world.now + 20, DOWN)
    start = world.now
    late = world.emit(1, occurred_at=start + 9)
    world.run(1)
    same_b = world.emit(1, occurred_at=start + 5, prefix="b")
    same_a = world.emit(1, occurred_at=start + 5, prefix="a")
    first = world.emit(1, occurred_at=start - 3600)
    world.run_until_quiet()
    assert endpoint.acknowledged == first + same_a + same_b + late


def test_a_late_older_event_goes_next(world: World) -> None:
    """While the drainer sends batches of a hundred, an event arrives that is older than all that wait."""
    endpoint = world.endpoint()
    world.register(endpoint)
    endpoint.script = until(world.now + 4, DOWN, Reply(seconds=0.5))
    world.emit(1000)
    world.run_while(lambda: len(endpoint.posts_of("drainer")) < 9, at_most=MINUTE)
    (older,) = world.emit(1, occurred_at=world.now - 3600)
    world.run_until_quiet()
    numbers = [number for number, post in enumerate(endpoint.posts_of("drainer")) if older in post.event_ids]
    assert numbers in ([9], [10])
    assert endpoint.posts_of("drainer")[numbers[0]].event_ids[0] == older


def test_an_ordered_webhook_always_goes_through_the_drainer(world: World) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint, ordered=True)
    endpoint.script = always(Reply(seconds=0.2))
    ids: list[str] = []
    for _ in range(40):
        ids += world.emit(3)
        world.run(10)
    world.run_until_quiet()
    assert endpoint.acknowledged == ids
    assert {post.function for post in endpoint.posts} == {"drainer"}
    assert world.outcomes(webhook) == {"delivered": len(ids)}


def test_a_message_that_comes_twice_is_delivered_once(world: World) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    ids = world.emit(3)
    world.run(5)
    world.duplicate(ids[0])
    endpoint.script = until(world.now + 20, DOWN)
    waiting = world.emit(2)
    world.run(5)
    world.duplicate(waiting[1])
    world.duplicate(waiting[1], delay_seconds=600)
    world.run_until_quiet(at_most=20 * MINUTE)
    world.run(20 * MINUTE)
    assert endpoint.acknowledged == ids + waiting
    assert world.outcomes(webhook) == {"delivered": 5}


def test_ten_events_of_an_endpoint_that_answers_at_the_last_moment(world: World) -> None:
    """Each response takes 4.9 s: three make it slow, and the others leave the dispatcher in time."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = always(Reply(seconds=4.9))
    ids = world.emit(10)
    world.run_until_quiet()
    assert endpoint.acknowledged == ids
    assert world.duplicates() == 0
    assert world.deaths == 0
    assert world.outcomes(webhook) == {"delivered": 10}


def deliver_twelve(world: World) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = in_turn(OK, DOWN, DOWN, OK, Reply(422), OK)
    ids = world.emit(12)
    world.run_until_quiet()
    assert sorted(endpoint.acknowledged) == ids
    # The eleventh event failed when it was sent directly, so it is sent alone, and what follows it too.
    assert endpoint.sizes == [1, 1, 1, 1, 2, 1, 2, 4, 1, 1, 1]
    assert world.outcomes(webhook) == {"delivered": 12}
    world.delete(webhook)
    assert world.problems() == []


def test_twelve_are_delivered_with_tables_in_memory(world: World) -> None:
    deliver_twelve(world)


@pytest.mark.slow
def test_the_same_with_an_engine_s_tables(dynamodb: Engine) -> None:
    """The engines know what the tables in memory do not."""
    with dynamodb() as client, World(tables=make_tables(client)) as world:
        deliver_twelve(world)
