"""Stories: what happens to a few events on their way, each up to the end that it must have.

They are short, for each runs again for each call that can go wrong in it. Most begin with time in which
nothing goes wrong (`prelude`), so that the calls which count are those that the story is about.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from lms_webhooks.admin.inputs import WebhookPatch
from lms_webhooks.model.attempts import Attempt
from lms_webhooks.model.health import Mode, after_failure
from lms_webhooks.model.notifications import NotificationKind
from lms_webhooks.model.webhooks import Status
from tests.faults.faults import ADMIN, FaultWorld
from tests.scenarios.endpoints import DOWN, GONE, OK, Reply, always, in_turn, rejecting, until
from tests.scenarios.world import DAY, HOUR, MINUTE, NON_REAL_TIME, SIGNED


@dataclass(frozen=True)
class Story:
    """One story, and how long it may take, after it began, until all is settled."""

    name: str
    play: Callable[[FaultWorld], None]
    settles_within: float = HOUR


def direct_success(world: FaultWorld) -> None:
    webhook = world.register(world.endpoint(), authentication=SIGNED)
    world.expect(webhook, world.emit(3), "delivered")
    world.run(5)


def direct_failure(world: FaultWorld) -> None:
    """An endpoint failure, from which on everything waits."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = in_turn(OK, DOWN, OK)
    world.expect(webhook, world.emit(3), "delivered")
    world.run(20)


def slow_answers(world: FaultWorld) -> None:
    """Three slow responses in a row."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = always(Reply(seconds=1.5))
    world.expect(webhook, world.emit(4), "delivered")
    world.run(20)


def append_in_backlog(world: FaultWorld) -> None:
    """Events come while others wait."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = until(world.now + 14, DOWN)
    world.expect(webhook, world.emit(1), "delivered")
    world.prelude(7)
    for _ in range(2):
        world.expect(webhook, world.emit(2), "delivered")
        world.run(3)
    world.run(20)


def drain(world: FaultWorld) -> None:
    """A dozen events in four POSTs."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint, authentication=SIGNED)
    endpoint.script = in_turn(DOWN, OK)
    world.expect(webhook, world.emit(12), "delivered")
    world.prelude(4)
    world.run(20)


def drain_failure(world: FaultWorld) -> None:
    """The endpoint fails again in the middle of a drain."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = in_turn(DOWN, OK, OK, DOWN, OK)
    world.expect(webhook, world.emit(10), "delivered")
    world.prelude(4)
    world.run(30)


def recovery(world: FaultWorld) -> None:
    """Back to direct mode, when the minimum stay is over."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = in_turn(DOWN, OK)
    world.expect(webhook, world.emit(1), "delivered")
    world.prelude(62)
    for _ in range(2):
        world.expect(webhook, world.emit(1), "delivered")
        world.run(10)


def batch_slot(world: FaultWorld) -> None:
    """Non-real-time events wait for their slot."""
    webhook = world.register(world.endpoint())
    world.expect(webhook, world.emit(4, name=NON_REAL_TIME), "delivered")
    world.run(16 * MINUTE)


def ordered(world: FaultWorld) -> None:
    webhook = world.register(world.endpoint(), ordered=True)
    for _ in range(2):
        world.expect(webhook, world.emit(3), "delivered")
        world.run(2)


def crowd(world: FaultWorld) -> None:
    """Events, and drain messages that nobody sent, come while dispatchers and drainers may be held up."""
    webhook = world.register(world.endpoint(), ordered=True)
    for _ in range(2):
        world.expect(webhook, world.emit(1), "delivered")
        for delay_seconds in (2, 5, 12):
            world.send_for_drainer(webhook, delay_seconds=delay_seconds)
        world.run(10)
    world.run(15)


def split(world: FaultWorld) -> None:
    """One of several events is rejected: the batch is halved until it is alone, and it is set aside."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint, ordered=True)
    ids = world.emit(8)
    heals_at = world.now + 80
    endpoint.script = lambda ids_, now: rejecting(ids[4])(ids_, now) if now < heals_at else OK
    world.expect(webhook, ids, "delivered")
    world.run(2 * MINUTE)


def set_aside(world: FaultWorld) -> None:
    """A dispatcher's event is rejected; the others go on."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    ids = world.emit(3)
    heals_at = world.now + 30
    endpoint.script = lambda ids_, now: rejecting(ids[1])(ids_, now) if now < heals_at else OK
    world.expect(webhook, ids, "delivered")
    world.run(2 * MINUTE)


def poison(world: FaultWorld) -> None:
    """An endpoint fails at one event for a while, and takes every other: that one is set aside."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    ids = world.emit(4)
    heals_at = world.now + 90
    endpoint.script = lambda ids_, now: rejecting(ids[0], status=500)(ids_, now) if now < heals_at else OK
    world.expect(webhook, ids, "delivered")
    world.run(3 * MINUTE)


def lanes(world: FaultWorld) -> None:
    """Real-time events and a batch wait at the same time, and share the requests."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = until(world.now + 16 * MINUTE, DOWN)
    ids = world.emit(9) + world.emit(2, name=NON_REAL_TIME)
    world.expect(webhook, ids, "delivered")
    world.prelude(15.5 * MINUTE)
    world.run(8 * MINUTE)


def expiry(world: FaultWorld) -> None:
    """Events in three lanes outlast their retention."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = always(Reply(422))
    accepted_at = world.now - DAY + MINUTE  # their messages are late
    ids = world.emit(1, accepted_at=accepted_at)
    world.prelude(5)
    world.change(webhook, status=Status.PAUSED)
    world.prelude(5)
    ids += world.emit(2, accepted_at=accepted_at)
    ids += world.emit(2, accepted_at=accepted_at, name=NON_REAL_TIME)
    world.expect(webhook, ids, "expired")
    world.run(5 * MINUTE)


def gone(world: FaultWorld) -> None:
    """A 410 switches the webhook off, and what waits expires."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = always(GONE)
    ids = world.emit(2, accepted_at=world.now - DAY + 10 * MINUTE)
    world.expect(webhook, ids, "expired")
    world.must_tell.add((webhook, NotificationKind.DISABLED))
    world.run(10)


def late_after_gone(world: FaultWorld) -> None:
    """A dispatcher dies with an event, and it comes again when a 410 has switched the webhook off."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = always(Reply(410, seconds=1))
    accepted_at = world.now - DAY + 20 * MINUTE
    ids = world.emit(1, accepted_at=accepted_at)
    world.prelude(0.5)
    assert world.kill("dispatcher")
    ids += world.emit(1, accepted_at=accepted_at)
    world.expect(webhook, ids, "expired")
    world.run(10)


def switched_off(world: FaultWorld) -> None:
    """After a retention period of failure the webhook is switched off; its admin switches it on again."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = always(DOWN)
    now_ms = int(world.now * 1000)
    attempt = Attempt(now_ms - int(DAY + 1) * 1000, 20, 500, None)
    failing = after_failure(world.health(webhook), attempt, now_ms=now_ms, delay_seconds=0)
    world.keep_health(webhook, replace(failing, mode=Mode.BACKLOG, failures=50))
    world.expect(webhook, world.emit(3), "delivered")
    world.run(30)
    endpoint.script = always(OK)
    world.ask_admin(lambda admin: admin.webhooks.update(ADMIN, webhook, WebhookPatch(status="active")))
    world.run(70)


def long_failure(world: FaultWorld) -> None:
    """An endpoint fails for so long that its owner is notified, and then recovers."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = until(world.now + 24 * MINUTE, DOWN)
    world.expect(webhook, world.emit(2), "delivered")
    world.must_tell |= {(webhook, NotificationKind.FAILING), (webhook, NotificationKind.RECOVERED)}
    world.prelude(14 * MINUTE)
    world.run(20 * MINUTE)
    # A drainer that dies when all is delivered leaves nothing to try with: the next event shows that it is
    # well again.
    world.expect(webhook, world.emit(1), "delivered")
    world.run(2 * MINUTE)


def redeliver(world: FaultWorld) -> None:
    """An admin wants one delivery once more."""
    webhook = world.register(world.endpoint())
    ids = world.emit(3)
    world.expect(webhook, ids, "delivered")
    world.prelude(5)
    world.resend_one(webhook, ids[1])
    world.run(20)


def replay(world: FaultWorld) -> None:
    """All of the history once more, through a failure and a rejection."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    ids = world.emit(6)
    world.expect(webhook, ids, "delivered")
    world.prelude(5)
    endpoint.script = in_turn(OK, DOWN, OK)
    world.resend_all(webhook, ids)
    world.run(30)


def cancelled_replay(world: FaultWorld) -> None:
    """A replay is cancelled while its endpoint fails. A day later a single failure switches nothing off."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    ids = world.emit(3)
    world.expect(webhook, ids, "delivered")
    world.prelude(5)
    endpoint.script = always(DOWN)
    world.resend_all(webhook, [])  # none of them comes
    world.run(10)
    world.ask_admin(lambda admin: admin.replays.cancel(ADMIN, webhook))
    world.run(DAY + HOUR)
    endpoint.script = in_turn(DOWN, OK)
    world.expect(webhook, world.emit(2), "delivered")
    world.run(20)


def deletion(world: FaultWorld) -> None:
    """A webhook is deleted while events wait in three lanes."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = always(Reply(422))
    ids = world.emit(1)
    world.prelude(3)
    endpoint.script = always(DOWN)
    ids += [*world.emit(4), *world.emit(2, name=NON_REAL_TIME)]
    world.prelude(8)
    world.expect(webhook, ids, "failed")
    world.ask_admin(lambda admin: admin.webhooks.delete(ADMIN, webhook))
    world.run(4 * MINUTE)


def deletion_whose_message_is_lost(world: FaultWorld) -> None:
    """The sweep schedules the purger."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = always(DOWN)
    ids = world.emit(2)
    world.prelude(8)
    world.expect(webhook, ids, "failed")
    with world.drainers_busy():
        world.ask_admin(lambda admin: admin.webhooks.delete(ADMIN, webhook))
        world.run(5)
        world.lose_drain_messages()
    world.run(4 * MINUTE)


def late_after_deletion(world: FaultWorld) -> None:
    """A dispatcher dies with its events, and they come again when their webhook is deleted."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = always(Reply(seconds=3))
    ids = world.emit(3)
    world.prelude(1)
    world.kill("dispatcher")
    world.ask_admin(lambda admin: admin.webhooks.delete(ADMIN, webhook))
    world.prelude(MINUTE)
    world.expect(webhook, ids, "failed")
    world.run(7 * MINUTE)


def retirement(world: FaultWorld) -> None:
    """A webhook is retired for a while: what waits stays, what comes or is on its way goes nowhere."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = always(Reply(500, seconds=3))
    world.expect(webhook, world.emit(2), "delivered")
    world.prelude(5)
    on_their_way = world.emit(2)
    world.prelude(0.012)
    assert world.kill("dispatcher")
    world.ask_admin(lambda admin: admin.webhooks.update(ADMIN, webhook, WebhookPatch(status="inactive")))
    world.run(40)
    unwanted = [*on_their_way, *world.emit(2), *world.emit(2, name=NON_REAL_TIME)]
    world.refused |= {(webhook, each) for each in unwanted}
    world.expect(webhook, unwanted)  # if they have an outcome, none is right
    world.run(14 * MINUTE)  # until all has come again, twice
    endpoint.script = always(OK)
    world.ask_admin(lambda admin: admin.webhooks.update(ADMIN, webhook, WebhookPatch(status="active")))
    world.run(10)


def pause(world: FaultWorld) -> None:
    """Events come while the webhook is paused, and go when it is resumed."""
    webhook = world.register(world.endpoint())
    world.ask_admin(lambda admin: admin.webhooks.update(ADMIN, webhook, WebhookPatch(status="paused")))
    world.run(3)
    world.expect(webhook, world.emit(3), "delivered")
    world.run(2)
    world.ask_admin(lambda admin: admin.webhooks.update(ADMIN, webhook, WebhookPatch(status="active")))
    world.run(10)


def moved(world: FaultWorld) -> None:
    """The URL changes while the old endpoint is about to say 410, with events behind that."""
    old, new = world.endpoint("old"), world.endpoint("new")
    webhook = world.register(old)
    old.script = in_turn(DOWN, Reply(410, seconds=3))
    world.expect(webhook, world.emit(4), "delivered")
    world.prelude(4)
    world.time.at(world.now + 3, lambda: world.move(webhook, new))
    world.run(30)


def malformed(world: FaultWorld) -> None:
    """One of three messages is no valid event."""
    webhook = world.register(world.endpoint())
    world.realtime_queue.send('{"source": "lms", "detail": {"eventId": "x"}}')
    world.expect(webhook, world.emit(2), "delivered")
    world.must_quarantine = 1
    world.run(5)


def neighbours(world: FaultWorld) -> None:
    """Three webhooks of one account: one is well, one rejects, one fails."""
    well, rejecting_one, failing = (world.endpoint(name) for name in ("well", "rejecting", "failing"))
    webhooks = [world.register(each) for each in (well, rejecting_one, failing)]
    heals_at = world.now + 10
    rejecting_one.script = until(heals_at, Reply(422))
    failing.script = until(heals_at, DOWN)
    ids = world.emit(2)
    for webhook in webhooks:
        world.expect(webhook, ids, "delivered")
    world.run(90)


STORIES = [
    Story("direct success", direct_success),
    Story("direct failure", direct_failure),
    Story("slow answers", slow_answers),
    Story("append in backlog", append_in_backlog),
    Story("drain", drain),
    Story("drain fails midway", drain_failure),
    Story("recovery to direct", recovery),
    Story("batch slot", batch_slot),
    Story("ordered", ordered),
    Story("crowd", crowd),
    Story("split", split),
    Story("set aside", set_aside),
    Story("poison", poison),
    Story("lanes share", lanes),
    Story("expiry", expiry),
    Story("gone (410)", gone),
    Story("late after a 410", late_after_gone),
    Story("switched off, and on", switched_off),
    Story("long failure", long_failure),
    Story("redeliver", redeliver),
    Story("replay", replay),
    Story("replay cancelled", cancelled_replay),
    Story("deletion", deletion),
    Story("deletion, its message lost", deletion_whose_message_is_lost),
    Story("late after deletion", late_after_deletion),
    Story("retirement", retirement),
    Story("pause and resume", pause),
    Story("URL changed", moved),
    Story("malformed", malformed),
    Story("neighbours", neighbours),
]
