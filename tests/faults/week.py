"""Seven days in which everything happens: receivers that fail, admins, faults that last, processes that die.

A story of `stories` shows what one fault does at one call. This shows what faults do that last for an hour,
and what is left of them days later. The audit watches each call, as it does in a story. A quarter of an hour
apart, somebody looks whether a lane starves.
"""

import gc
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from lms_webhooks.admin.caller import Caller
from lms_webhooks.admin.inputs import ReplayInput, WebhookPatch
from lms_webhooks.admin.problems import Problem
from lms_webhooks.aws.sqs import read_drain_message
from lms_webhooks.clocks import ExpiringCache
from lms_webhooks.model.lanes import Lane, PendingEvent
from lms_webhooks.stores.health import TICKET_GRACE_SECONDS
from tests.faults.audit import written
from tests.faults.faults import Admin, FaultWorld
from tests.scenarios.endpoints import DOWN, HANGS, OK, REFUSED, Endpoint, Reply, Script, always
from tests.scenarios.world import (
    DAY,
    HOUR,
    MINUTE,
    NON_REAL_TIME,
    REAL_TIME,
    SIGNED,
    WEBHOOKS,
    Call,
    Engine,
    Tap,
    admin_of,
)

RETENTION_DAYS = 2  # so that a week sees events that expire, and webhooks that are disabled
_QUARTER = 15 * MINUTE
_QUARTERS = 24  # after each so many, all that must hold is looked at
_STARVES_AFTER = 45 * MINUTE  # three slots; a lane that is due gets one POST in four
_SKEW_SECONDS = 2.0  # between any two clocks; Lambda's differ by milliseconds, and are rarely set
_POISONOUS = 23  # one event in so many


@dataclass
class Subject:
    """One webhook, and how its receiver does."""

    name: str
    account: str
    webhook_id: str
    endpoint: Endpoint
    usual: Script
    unwell_until: float
    """Until then something may be wrong with it."""
    events: list[str] = field(default_factory=list)
    """Those that must end here."""


def poisonous(status: int) -> Script:
    """Fine, but for requests that carry one of some events, which fail as an endpoint does, for ever."""
    return lambda ids, _now: Reply(status) if any(int(each[-6:]) % _POISONOUS == 0 for each in ids) else OK


def hanging_at_times(one_in: int) -> Script:
    """Fine, but one request in so many hangs, whatever it carries."""
    count = 0

    def answer(_ids: list[str], _now: float) -> Reply:
        nonlocal count
        count += 1
        return HANGS if count % one_in == 0 else OK

    return answer


USUAL: dict[str, tuple[str, Script, dict[str, Any]]] = {
    # name: account, script, how it is registered
    "plain": ("1010", always(OK), {}),
    "ordered": ("1010", always(Reply(seconds=0.2)), {"ordered": True}),
    "poisoned": ("1010", poisonous(500), {}),
    "particular": ("1010", poisonous(422), {}),
    "slow": ("1010", always(Reply(seconds=1.2)), {}),
    "stutters": ("2020", hanging_at_times(40), {}),
    "nearly slow": ("2020", always(Reply(seconds=0.9)), {}),
    "neighbour": ("3030", always(OK), {"ordered": True}),
}
ACCOUNTS = tuple(sorted({account for account, _, _ in USUAL.values()}))
"""In one order: that of a set is another one in each process, and a seed must repeat a run."""
ILL: tuple[Script, ...] = (
    always(DOWN),
    always(HANGS),
    always(REFUSED),
    always(Reply(503, retry_after="600")),
)
QUIET = ("neighbour",)
"""Nothing happens to these but what happens to all."""


class Week:
    """A world, and what happens in it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.world = FaultWorld(seed=seed, retention_days=RETENTION_DAYS)
        self.world.counts_repeats = False
        self.world.may_break = True
        self.world.most_skew_seconds = _SKEW_SECONDS
        self.world.draw_skew = lambda: self.random.uniform(-_SKEW_SECONDS / 2, _SKEW_SECONDS / 2)
        # What it looks through grows all the week: once each few hours is enough.
        cast("Any", self.world.audit).look = lambda: None
        self.problems: list[str] = []
        self._faults = ExitStack()
        self._fault_until = 0.0
        self.subjects: dict[str, Subject] = {}

    def live(self, days: float) -> list[str]:
        """Let it happen; return what did not hold."""
        with self.world, self._faults:
            for name in USUAL:
                self._register(name)
            ends_at = self.world.now + days * DAY
            while self.world.now < ends_at:
                for _ in range(_QUARTERS):
                    self._happen()
                    self.world.run(_QUARTER)
                    self._look()
                self.problems += self.world.problems()
                self.problems += overfull_memories()
            self._heal()
            self.world.run(HOUR)
            self._look()
            self.world.settle(at_most=(RETENTION_DAYS + 1) * DAY)
            for subject in self.subjects.values():
                self.world.expect(subject.webhook_id, subject.events, "delivered", "failed", "expired")
            self.problems += self.world.verdict()
        return list(dict.fromkeys(self.problems))

    # What happens

    def _happen(self) -> None:
        """Some events, and perhaps something else."""
        for account in ACCOUNTS:
            self._emit(account, self.random.choice((1, 3, 10)))
        match self.random.randrange(12):
            case 0 | 1:
                self._fall_ill()
            case 2:
                self._begin_fault()
            case 3:
                self.world.kill(self.random.choice(("dispatcher", "drainer", "batch")))
            case 4:
                self._pause()
            case 5:
                self._move()
            case 6:
                self._redeliver_all()
            case 7:
                self._lose_drain_messages()
            case 8:
                self._stream()

    def _register(self, name: str) -> None:
        account, script, how = USUAL[name]
        endpoint = self.world.endpoint(name.replace(" ", "-"))
        endpoint.script = script
        webhook_id = self.world.register(endpoint, account=account, authentication=SIGNED, **how)
        self.subjects[name] = Subject(name, account, webhook_id, endpoint, script, self.world.now)

    def _emit(self, account: str, count: int) -> None:
        for name in (REAL_TIME, NON_REAL_TIME):
            self._note_events(account, self.world.emit(count, name=name, account=account))

    def _note_events(self, account: str, event_ids: Sequence[str]) -> None:
        for subject in self.subjects.values():
            if subject.account == account:
                subject.events += event_ids

    def _stream(self) -> None:
        """One event each second for two minutes, to one account."""
        account = self.random.choice(ACCOUNTS)

        def emit(left: int) -> None:
            self._note_events(account, self.world.emit(account=account))
            if left:
                self.world.time.at(self.world.now + 1, partial(emit, left - 1))

        emit(120)

    def _fall_ill(self) -> None:
        """A receiver fails for some minutes, or for half a day."""
        subject = self.any_subject()
        subject.endpoint.script = self.random.choice(ILL)
        seconds = self.random.choice((5 * MINUTE, HOUR, 12 * HOUR))
        self.note_unwell(subject, seconds)
        self.world.time.at(self.world.now + seconds, partial(self._recover, subject))

    def _recover(self, subject: Subject) -> None:
        subject.endpoint.script = subject.usual

    def _begin_fault(self) -> None:
        """Something of ours fails for an hour."""
        if self.world.now < self._fault_until:
            return
        name = self.random.choice(sorted(FAULTS))
        self._faults.enter_context(FAULTS[name](self))
        self._fault_until = self.world.now + HOUR
        self.world.time.at(self._fault_until, self._end_fault)

    def _end_fault(self) -> None:
        self._faults.close()
        for subject in self.subjects.values():
            self.note_unwell(subject)

    def _pause(self) -> None:
        subject = self.any_subject()
        self.note_unwell(subject, HOUR)
        self._change(subject, status="paused")
        self.world.time.at(self.world.now + HOUR, partial(self._activate, subject))

    def _activate(self, subject: Subject) -> None:
        self._change(subject, status="active")
        self.note_unwell(subject)

    def _move(self) -> None:
        """An admin changes the URL."""
        subject = self.any_subject()
        subject.endpoint = self.world.endpoint(
            f"{subject.name.replace(' ', '-')}-{len(self.world.endpoints)}"
        )
        subject.endpoint.script = subject.usual
        self.note_unwell(subject)
        self.world.owners[subject.endpoint.url] = subject.webhook_id
        change = {"targetUrl": subject.endpoint.url, "authentication": {"type": "none"}}
        self._change(subject, **change)

    def _lose_drain_messages(self) -> None:
        """A webhook whose message is lost waits until its ticket ends, and for the sweep after that."""
        lost = {
            read_drain_message(message.record()).webhook_id for message in self.world.waiting_drain_messages()
        }
        self.world.lose_drain_messages()
        for subject in self.subjects.values():
            if subject.webhook_id in lost:
                self.note_unwell(subject, TICKET_GRACE_SECONDS + MINUTE)

    def _redeliver_all(self) -> None:
        subject = self.any_subject()
        self.world.ask_admin(partial(_replay, admin_of(subject.account), subject.webhook_id))

    def _change(self, subject: Subject, **changes: Any) -> None:
        rule = {"loopback_allowed": False}
        change = WebhookPatch.model_validate(changes, context=rule)
        caller = admin_of(subject.account)
        self.world.ask_admin(lambda admin: admin.webhooks.update(caller, subject.webhook_id, change))

    def note_unwell(self, subject: Subject, seconds: float = 0) -> None:
        """Something may be wrong with a webhook for so long."""
        subject.unwell_until = max(subject.unwell_until, self.world.now + seconds)

    def any_subject(self) -> Subject:
        """One to which something may happen."""
        return self.random.choice([each for name, each in self.subjects.items() if name not in QUIET])

    def _heal(self) -> None:
        self._end_fault()
        for subject in self.subjects.values():
            subject.endpoint.script = always(OK)
            self._activate(subject)

    # What must hold

    def _look(self) -> None:
        """See whether a lane starves whose endpoint responds, and whether all that must hold does."""
        self.problems += self.world.audit.problems
        self.world.audit.problems.clear()
        if self.world.now < self._fault_until:
            return
        for subject in self.subjects.values():
            if self.world.now - subject.unwell_until < _STARVES_AFTER:
                continue
            for lane in (Lane.REALTIME, Lane.BATCH, Lane.RETRY):
                for waiting in self.world.waiting(subject.webhook_id, lane)[:1]:
                    late_seconds = self.world.now - _due_at(lane, waiting)
                    if late_seconds > _STARVES_AFTER:
                        self.problems.append(f"starved: {lane} of {subject.name}, by {late_seconds:.0f} s")


def overfull_memories() -> Iterator[str]:
    """What any process remembers beyond its bounds."""
    memories = [each for each in gc.get_objects() if isinstance(each, ExpiringCache)]
    for memory in memories:
        weight = sum(entry.weight for entry in memory._entries.values())
        if weight > memory._max_weight:
            yield f"too much is remembered: {weight} of {memory._max_weight}"


def _due_at(lane: Lane, waiting: PendingEvent) -> float:
    due_at_ms = waiting.due_at_ms if lane is Lane.RETRY else waiting.event.accepted_at_ms
    return due_at_ms / 1000


def _replay(caller: Caller, webhook_id: str, admin: Admin) -> None:
    wanted = ReplayInput.model_validate({"from": "2000-01-01T00:00:00Z"})
    with suppress(Problem):  # one may be under way
        admin.replays.start(caller, webhook_id, wanted)


# What of ours fails for an hour


@contextmanager
def history_is_not_written(week: Week) -> Iterator[None]:
    """The partition is too busy, say. What was sent goes out again, but not at once."""

    def refuse(call: Call, proceed: Callable[[], Any]) -> Any:
        is_history = any(pk.startswith("DELIVERY#") for _, pk, _ in written(call.operation, call.params))
        if call.service == "dynamodb" and is_history:
            raise week.world.aws_error("ThrottlingException", call)
        return proceed()

    yield from _tapped(week, refuse)


@contextmanager
def calls_stall(week: Week) -> Iterator[None]:
    """Each fiftieth call takes as long as botocore lets it; so functions are stopped for want of time."""

    def stall(call: Call, proceed: Callable[[], Any]) -> Any:
        if call.number % 50 == 0 and call.service != "POST":
            week.world.time.sleep(25)
        return proceed()

    yield from _tapped(week, stall)


def _tapped(week: Week, tap: Tap) -> Iterator[None]:
    week.world.taps.append(tap)
    try:
        yield
    finally:
        week.world.taps.remove(tap)


@contextmanager
def unknown_values(week: Week) -> Iterator[None]:
    """An item of a newer version, or a damaged one: a status, a mode, a kind of authentication, a lane."""
    subject = week.any_subject()
    kind, attribute, value = week.random.choice(
        (
            ("WEBHOOK", "status", {"S": "archived"}),
            ("WEBHOOK", "authentication", {"M": {"type": {"S": "mtls"}}}),
            ("HEALTH", "mode", {"S": "turbo"}),
        )
    )
    key = {"pk": {"S": f"ACCOUNT#{subject.account}"}, "sk": {"S": f"{kind}#{subject.webhook_id}"}}
    mark = {"pk": {"S": "DUE#0"}, "sk": {"S": f"{subject.webhook_id}#express"}}
    tables = week.world._tables
    before = tables("GetItem", {"TableName": WEBHOOKS, "Key": key})["Item"][attribute]
    week.note_unwell(subject, HOUR)
    _set(tables, key, attribute, value)
    tables("PutItem", {"TableName": "deliveries", "Item": mark})
    try:
        yield
    finally:
        now = tables("GetItem", {"TableName": WEBHOOKS, "Key": key})["Item"][attribute]
        if now == value:
            _set(tables, key, attribute, before)
        tables("DeleteItem", {"TableName": "deliveries", "Key": mark})
        week.note_unwell(subject)


def _set(tables: Engine, key: dict[str, Any], attribute: str, value: dict[str, Any]) -> None:
    tables(
        "UpdateItem",
        {
            "TableName": WEBHOOKS,
            "Key": key,
            "UpdateExpression": "SET #attribute = :value",
            "ExpressionAttributeNames": {"#attribute": attribute},
            "ExpressionAttributeValues": {":value": value},
        },
    )


FAULTS: dict[str, Callable[[Week], AbstractContextManager[None]]] = {
    "KMS refuses": lambda week: week.world.fault("kms", code="DisabledException"),
    "the dispatcher is throttled": lambda week: week.world.fault("dynamodb", function="dispatcher"),
    "the drainer is throttled": lambda week: week.world.fault("dynamodb", function="drainer"),
    "the batch function is throttled": lambda week: week.world.fault("dynamodb", function="batch"),
    "SQS refuses": lambda week: week.world.fault("sqs"),
    "the history is not written": history_is_not_written,
    "calls stall": calls_stall,
    "unknown values": unknown_values,
}
