"""Everything at once and in any order: events, faults, deaths, admins, receivers. hypothesis picks the steps.

Whatever they are, what must always hold holds after each. At the end every event that was accepted for a
webhook has its outcome there. Where a step leads astray, hypothesis looks for the shortest way
there and prints it.
"""

import json
from collections.abc import Callable
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from lms_webhooks.admin.inputs import WebhookPatch
from lms_webhooks.model.health import DisabledReason
from tests.faults.faults import ADMIN, Admin, Fault, FaultWorld, Strike
from tests.scenarios.endpoints import DOWN, GONE, HANGS, OK, REFUSED, Endpoint, Reply, Script, always, at_most
from tests.scenarios.queues import event_ids_in
from tests.scenarios.world import DAY, HOUR, MINUTE, NON_REAL_TIME, REAL_TIME

_REMEMBERED_SECONDS = 2.1  # by a dispatcher, of a registration
_MAX_WEBHOOKS = 3


def _particular(ids: list[str], _: float) -> Reply:
    """Rejects every third event, for ever."""
    return Reply(422) if any(int(each[-6:]) % 3 == 0 for each in ids) else OK


SCRIPTS: dict[str, Script] = {
    "fine": always(OK),
    "down": always(DOWN),
    "hangs": always(HANGS),
    "refuses": always(REFUSED),
    "slow": always(Reply(seconds=1.2)),
    "gone": always(GONE),
    "asks to wait": always(Reply(503, retry_after="120")),
    "particular": _particular,
    "one at a time": at_most(1, Reply(413)),
}
BRIEFLY = (0.0, 0.003, 0.02, 0.045, 0.1, 0.3)
LONG = (1.0, 2.0, 5.0, 11.0, 30.0, 71.0, 7 * MINUTE, 16 * MINUTE, 3 * HOUR, 26 * HOUR)
CHANGES = ("active", "paused", "inactive", "ordered", "unordered", "fewer triggers", "all triggers", "move")

which = st.integers(0, _MAX_WEBHOOKS - 1)
"""A webhook: its number among all that there ever were, as far as there are so many."""


class Model(RuleBasedStateMachine):
    """Webhooks of one account, and all that can happen to them."""

    make_world: ClassVar[Callable[[], FaultWorld]] = FaultWorld

    def __init__(self) -> None:
        super().__init__()
        self.world = type(self).make_world()
        self.world.__enter__()
        self.endpoints: dict[str, list[Endpoint]] = {}
        """Of each webhook, the present one last."""
        self._began_with: set[str] = set()
        self.world.audit.before_looking = self._note_unwanted
        self._refuses: dict[tuple[str, str], tuple[float, float]] = {}
        """Since when accepted events are refused, and until when that may still be remembered, by webhook and
        event name."""

    def teardown(self) -> None:
        try:
            self._settle()
            assert self.world.verdict() == []
        finally:
            self.world.__exit__(None)

    # What happens. hypothesis picks among the rules evenly, so what matters has rules of its own.

    @initialize(ordered=st.booleans(), script=st.sampled_from(sorted(SCRIPTS)))
    def begin(self, ordered: bool, script: str) -> None:
        """There is one webhook, and perhaps it is not well."""
        self._register(ordered=ordered)
        self.endpoints[self._webhook(0)][-1].script = SCRIPTS[script]

    @rule(count=st.integers(1, 12), seconds=st.sampled_from(BRIEFLY))
    def emit(self, count: int, seconds: float) -> None:
        """The LMS emits real-time events."""
        self.world.emit(count)
        self._run(lambda: self.world.run(seconds))

    @rule(count=st.integers(1, 5))
    def emit_non_real_time(self, count: int) -> None:
        """The LMS emits events that wait for the schedule."""
        self.world.emit(count, name=NON_REAL_TIME)
        self._note_unwanted()

    @rule(seconds=st.sampled_from(BRIEFLY))
    def wait_briefly(self, seconds: float) -> None:
        """Time passes, while calls are under way."""
        self._run(lambda: self.world.run(seconds))

    @rule(seconds=st.sampled_from(LONG))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self._run(lambda: self.world.run(seconds))

    @rule(webhook=which, script=st.sampled_from(sorted(SCRIPTS)))
    def answer(self, webhook: int, script: str) -> None:
        """A receiver behaves differently from now on."""
        self.endpoints[self._webhook(webhook)][-1].script = SCRIPTS[script]

    @rule(fault=st.sampled_from(list(Fault)), ahead=st.integers(1, 25))
    def let_fail(self, fault: Fault, ahead: int) -> None:
        """One of the next calls goes wrong, if this fault can happen to it."""
        self.world.counts_repeats = False
        done = self.world.invocations if fault is Fault.COMES_AGAIN else len(self.world.seen)
        self.world.strike = Strike(fault, done + ahead)

    @rule(function=st.sampled_from(("dispatcher", "drainer", "batch")))
    def kill(self, function: str) -> None:
        """Its processes die where they are."""
        if self.world.kill(function):
            self.world.counts_repeats = False

    @rule(webhook=which, event=st.integers(0, 99), delay=st.sampled_from((0.0, 0.01, 3.0, 60.0, 400.0)))
    def send_once_more(self, webhook: int, event: int, delay: float) -> None:
        """SQS delivers an event's message once more, and a drain message that nobody sent."""
        self.world.send_for_drainer(self._webhook(webhook), delay_seconds=delay)
        if self.world.emitted:
            self.world.counts_repeats = False
            event_id = self._event(event)
            self.world.duplicate(event_id, name=self.world.emitted[event_id], delay_seconds=delay)
            self._note_unwanted()

    @rule()
    def lose_drain_messages(self) -> None:
        """All that wait."""
        self.world.lose_drain_messages()

    @rule(webhook=which, what=st.sampled_from(CHANGES))
    def change(self, webhook: int, what: str) -> None:
        """An admin changes a webhook: pauses, retires or activates it, its order, its triggers, its URL."""
        webhook_id = self._webhook(webhook)
        match what:
            case "move":
                endpoints = self.endpoints[webhook_id]
                endpoints.append(self.world.endpoint(f"{endpoints[0].url[8:10]}-{len(endpoints)}"))
                self._run(lambda: self.world.move(webhook_id, endpoints[-1]))
                self._run(self._wait_for_admin)
            case "ordered" | "unordered":
                self._change(webhook_id, ordered=what == "ordered")
            case "fewer triggers":
                self._change(webhook_id, events=[NON_REAL_TIME])
            case "all triggers":
                self._change(webhook_id, events=[REAL_TIME, NON_REAL_TIME])
            case status:
                self._change(webhook_id, status=status)

    @rule(webhook=which, is_deleted=st.booleans(), ordered=st.booleans())
    def register_or_delete(self, webhook: int, is_deleted: bool, ordered: bool) -> None:
        """There is one webhook more. It gets what is emitted from now on; what is on its way it may get.

        Or one less.
        """
        if len(self.endpoints) < _MAX_WEBHOOKS:
            self._register(ordered=ordered)
        elif is_deleted:
            webhook_id = self._webhook(webhook)
            self._ask(lambda admin: admin.webhooks.delete(ADMIN, webhook_id))

    @rule(webhook=which, event=st.integers(0, 99), is_all=st.booleans())
    def resend(self, webhook: int, event: int, is_all: bool) -> None:
        """An admin wants one delivery at once or once more, or the whole history."""
        self.world.counts_repeats = False
        webhook_id = self._webhook(webhook)
        if is_all:
            self.world.resend_all(webhook_id, [])
            self._run(self._wait_for_admin)
        elif self.world.emitted:
            event_id = self._event(event)
            timestamp = json.loads(self.world._bodies[event_id])["detail"]["timestamp"]
            name = json.loads(self.world._bodies[event_id])["detail-type"]
            sort_key = f"{timestamp:013d}#{event_id}\t{name}"
            self._ask(lambda admin: admin.replays.redeliver(ADMIN, webhook_id, sort_key))

    @invariant()
    def nothing_is_lost(self) -> None:
        """At any moment."""
        assert [*self.world.problems(), *self.world.audit.problems] == []

    # How it works

    def _register(self, *, ordered: bool) -> None:
        name = f"w{len(self.endpoints)}"
        endpoint = self.world.endpoint(name)
        webhook_id = self.world.register(endpoint, ordered=ordered)
        self.endpoints[webhook_id] = [endpoint]
        self.world.refused |= {(webhook_id, event_id) for event_id in self.world.emitted}
        for event_name in (REAL_TIME, NON_REAL_TIME):
            self._refuses[webhook_id, event_name] = 0, self.world.now + _REMEMBERED_SECONDS

    def _webhook(self, number: int) -> str:
        ids = list(self.endpoints)
        return ids[number % len(ids)]

    def _event(self, number: int) -> str:
        return list(self.world.emitted)[number % len(self.world.emitted)]

    def _change(self, webhook_id: str, **changes: Any) -> None:
        change = WebhookPatch.model_validate(changes)
        self._ask(lambda admin: admin.webhooks.update(ADMIN, webhook_id, change))

    def _ask(self, call: Callable[[Admin], object]) -> None:
        self.world.ask_admin(call)
        self._run(self._wait_for_admin)

    def _wait_for_admin(self) -> None:
        self.world.run_while(lambda: self.world.asking > 0, at_most=5 * MINUTE)

    def _run(self, run: Callable[[], None]) -> None:
        self._note_unwanted()
        self._began_with = self._on_their_way()
        run()
        self._note_unwanted()
        self._began_with = set()

    def _on_their_way(self) -> set[str]:
        return event_ids_in(self.world.realtime_queue) | event_ids_in(self.world.batch_queue)

    def _note_unwanted(self) -> None:
        """What is on its way to a webhook that does not take it, or was a moment ago, may go nowhere."""
        on_their_way = self._on_their_way() | self._began_with
        for webhook_id in self.endpoints:
            for name in (REAL_TIME, NON_REAL_TIME):
                since, until = self._refuses[webhook_id, name]
                accepted_from = self._refuses_what_came_from(webhook_id, name)
                if accepted_from is not None:
                    since = min(since, accepted_from) if self.world.now <= until else accepted_from
                    until = self.world.now + _REMEMBERED_SECONDS
                    self._refuses[webhook_id, name] = since, until
                if self.world.now <= until:
                    self.world.refused |= {
                        (webhook_id, event_id)
                        for event_id in on_their_way
                        if self.world.emitted[event_id] == name and self.world._accepted_at[event_id] >= since
                    }

    def _refuses_what_came_from(self, webhook_id: str, name: str) -> float | None:
        """The moment from which on accepted events go nowhere: 0 if all do, None if none does."""
        registration = self.world.audit.registration_item(webhook_id)
        health = self.world.audit.health_item(webhook_id)
        if not registration or registration["status"]["S"] == "inactive":
            return 0
        if name not in registration["events"]["SS"]:
            return 0
        switched_off_at = int(health["switched_off_at_ms"]["N"]) / 1000
        match health["switched_off"]["S"]:
            case DisabledReason.GONE:
                return switched_off_at
            case DisabledReason.FAILING:
                return switched_off_at + DAY
        return None

    def _settle(self) -> None:
        """All receivers are well, all webhooks active, and nothing goes wrong any more."""
        self.world.strike = None
        self.world.run(MINUTE)
        for webhook_id, endpoints in self.endpoints.items():
            for endpoint in endpoints:
                endpoint.script = always(OK)
            self._change(webhook_id, status="active")
        self.world.settle(at_most=DAY + HOUR)
        for webhook_id in self.endpoints:
            wanted = [each for each in self.world.emitted if (webhook_id, each) not in self.world.refused]
            self.world.expect(webhook_id, wanted, "delivered", "expired", "failed")
