"""What the functions read of the tables, and how.

The fake tables lag, so a read that became eventually consistent may fail a scenario. It need not: this test
names each read.
"""

from collections.abc import Callable
from typing import Any

from tests.scenarios.endpoints import DOWN, OK, Reply, always, until
from tests.scenarios.test_faults import lose_mark
from tests.scenarios.test_replay import start
from tests.scenarios.world import MINUTE, NON_REAL_TIME, Call, World

_READS = ("GetItem", "Query", "BatchGetItem")


def _kinds(call: Call) -> set[str]:
    """Of the items that a call reads, by the beginning of their partition keys."""
    if call.operation == "BatchGetItem":
        keys = [key for asked in call.params["RequestItems"].values() for key in asked["Keys"]]
    elif call.operation == "Query":
        keys = [{"pk": call.params["ExpressionAttributeValues"][":pk"]}]
    else:
        keys = [call.params["Key"]]
    return {key["pk"]["S"].partition("#")[0] for key in keys}


def _is_consistent(call: Call) -> bool:
    if call.operation == "BatchGetItem":
        return all(asked.get("ConsistentRead", False) for asked in call.params["RequestItems"].values())
    return bool(call.params.get("ConsistentRead", False))


def test_the_functions_read_as_it_stands_now_what_they_act_on(world: World) -> None:
    """Direct events, an outage and its end, a rejected event, a batch lane, a dispatcher that dies, a replay,
    a change, a deletion: each function reads all that it ever reads."""
    reads: set[tuple[str, str, bool]] = set()

    def note(call: Call, proceed: Callable[[], Any]) -> Any:
        if call.operation in _READS:
            is_consistent = _is_consistent(call)
            reads.update((call.function, kind, is_consistent) for kind in _kinds(call))
        return proceed()

    world.taps.append(note)
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    world.emit(3)
    world.run(5)
    endpoint.script = until(world.now + 20 * MINUTE, DOWN)
    lose_mark(world, "dispatcher")  # so that a message is received a second time
    world.emit(5)
    world.emit(2, name=NON_REAL_TIME)
    world.run(40 * MINUTE)
    endpoint.script = always(Reply(422))
    world.emit(1)
    world.run(MINUTE)
    endpoint.script = always(OK)
    start(world, webhook)
    world.run(20 * MINUTE)
    world.change(webhook, name="Payroll")
    world.delete(webhook)
    world.run(5 * MINUTE)

    assert reads == {
        # What was delivered directly a moment ago may go out a second time: half the price, at each event.
        ("dispatcher", "DELIVERY", False),
        # Where events are to wait: two under one id are often a moment apart.
        ("dispatcher", "BACKLOG", True),
        # Where an event that is set aside stands already.
        ("dispatcher", "RETRY", True),
        ("dispatcher", "ACCOUNT", True),
        ("dispatcher", "TOMBSTONE", True),
        ("drainer", "ACCOUNT", True),
        ("drainer", "BACKLOG", True),
        ("drainer", "DELIVERY", True),
        ("drainer", "DUE", True),
        ("drainer", "REPLAY", True),
        # Whether somebody may still have a deleted webhook in hand.
        ("drainer", "TOMBSTONE", True),
        # It comes again each minute, and what it sends for is looked at by a drainer.
        ("batch", "DUE", False),
        ("batch", "NOTICES", False),
        # A webhook that is not found is deleted, and its notice is dropped.
        ("batch", "ACCOUNT", True),
        # How much waits, in a notice.
        ("batch", "DUE", True),
        ("batch", "BACKLOG", False),
    }
