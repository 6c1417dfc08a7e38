"""The drainer's loop is bounded by our own code: AWS's loop detection is off for this function.

Lambda stops a chain SQS -> Lambda -> SQS after some 16 messages (Lambda guide, recursive loop detection).
The drainers of a webhook are such a chain: each sends a message for its successor to the queue that invoked
it. An endpoint that is down for an hour makes a chain of 17. So the drainer says `RecursiveLoop: Allow`.

These bound the chain:
- Only the lease holder of a webhook sends a message for a successor, and one at most.
- No drainer gets the lease before the next attempt is due: 5, 10, 20, 40, 80, 160, then 300 seconds later.
- A drainer that comes early, or finds the lease taken, ends and sends nothing.

No other function sends to a queue that invokes it: `tests/contract/test_loops.py` reads that from the roles.
The dispatcher sends to the drain queue, and to quarantine, which invokes nothing. No queue invokes the batch
function or the admin API. A replay makes no chain of its own: the admin API sends one message, and the
webhook's drainers do the rest.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.scenarios.endpoints import DOWN, HANGS, OK, Reply, always, until
from tests.scenarios.world import DAY, HOUR, NON_REAL_TIME, Call, World

LOOP_DETECTION = 16
"""Messages in a row, after which Lambda would stop the chain."""


def attempts_within(seconds: float) -> int:
    """How many attempts an endpoint that always fails gets in this time, at the documented delays."""
    attempts, passed = 1, 0
    for delay in delays():
        passed += delay
        if passed > seconds:
            return attempts
        attempts += 1
    raise AssertionError("the delays never end")


def delays() -> Iterator[int]:
    yield from (5, 10, 20, 40, 80, 160)
    while True:
        yield 300


class Messages:
    """The drain messages of a world: by whom each was sent, and how many were on their way together."""

    def __init__(self, world: World) -> None:
        self.sent_by: Counter[str] = Counter()
        self.most_at_once = 0
        self._world = world
        world.taps.append(self._watch)

    def on_their_way(self) -> int:
        """Those that no drainer has in hand."""
        return sum(len(queue.messages) - len(queue.in_flight) for queue in self._world.drain_queues)

    def _watch(self, call: Call, proceed: Callable[[], Any]) -> Any:
        answer = proceed()
        if call.operation in ("SendMessage", "SendMessageBatch") and "drain" in call.params["QueueUrl"]:
            self.sent_by[call.function] += len(call.params.get("Entries", [call]))
            self.most_at_once = max(self.most_at_once, self.on_their_way())
        return answer


def test_the_delays_allow_so_many_attempts() -> None:
    """5, 10, 20, 40, 80, 160 and then every 300 seconds."""
    assert attempts_within(HOUR) == LOOP_DETECTION + 1
    assert attempts_within(7 * DAY) == 2021


@pytest.mark.slow
@pytest.mark.parametrize("reply", [DOWN, HANGS], ids=["down", "hangs"])
def test_an_endpoint_that_is_down_for_good_costs_one_message_an_attempt(reply: Reply) -> None:
    """Events of both kinds keep coming. Each sweep looks at them, and each slot. Two days are kept."""
    with World(retention_days=2) as world:
        check_the_chain(world, reply)


def check_the_chain(world: World, reply: Reply) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = always(reply)
    messages = Messages(world)
    ends_at = world.now + 2 * DAY
    ids: list[str] = []
    while world.now < ends_at:
        ids += world.emit(1)
        world.emit(1, name=NON_REAL_TIME)
        world.run(HOUR)
    attempts = sum(post.event_ids == ids[:1] for post in endpoint.posts)
    assert len(endpoint.posts) - attempts <= 8 + attempts // 3, "what follows a probe of the first event"
    assert attempts <= attempts_within(2 * DAY)
    assert attempts > 0.97 * attempts_within(2 * DAY), "the delays alone hold it up"
    assert messages.most_at_once == 1
    assert messages.sent_by == {"dispatcher": 1, "drainer": attempts - 1}
    assert not any(queue.dead for queue in world.drain_queues)
    # The next attempt disables the webhook. Then the sweep alone sends, for events that expire.
    world.run(HOUR)
    assert world.health(webhook).disabled_reason is not None
    sent = messages.sent_by["drainer"]
    world.run(DAY)
    assert messages.sent_by["drainer"] == sent <= attempts_within(2 * DAY)


@pytest.mark.slow
def test_more_messages_do_not_make_more_of_them(world: World) -> None:
    """One comes every 20 seconds: early, on time, or while a drainer holds the lease."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = always(Reply(500, seconds=4))
    messages = Messages(world)
    world.emit(1)
    for _ in range(int(6 * HOUR / 20)):
        world.send_for_drainer(webhook)
        world.run(20)
    assert len(endpoint.posts) <= attempts_within(6 * HOUR)
    assert messages.sent_by["drainer"] <= len(endpoint.posts)
    assert messages.on_their_way() == 1
    assert world.problems() == []


@pytest.mark.parametrize("lane_is_late", [False, True], ids=["real-time", "non-real-time"])
def test_when_the_endpoint_is_well_again_the_chain_ends(world: World, *, lane_is_late: bool) -> None:
    endpoint = world.endpoint()
    world.register(endpoint)
    endpoint.script = until(world.now + 5 * HOUR, DOWN, OK)
    messages = Messages(world)
    ids = world.emit(3, name=NON_REAL_TIME) if lane_is_late else world.emit(3)
    world.run(6 * HOUR)
    assert endpoint.acknowledged == ids
    assert messages.on_their_way() == 0
    sent = messages.sent_by.total()
    world.run(DAY)
    assert messages.sent_by.total() == sent
