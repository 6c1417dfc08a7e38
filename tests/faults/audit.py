"""Watch every call that the functions make, and note what they may not do.

What is watched is what takes effect: the tables as they change, and the POSTs as they begin and end. So a
fault hides nothing, and code that only looks right at the end does not pass.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lms_webhooks.aws.sqs import DrainMessage, read_drain_message
from lms_webhooks.model.deliveries import Outcome
from lms_webhooks.model.lanes import Lane
from lms_webhooks.model.webhooks import Status
from lms_webhooks.sending.webhook_request import WebhookRequest
from tests.scenarios.fake_time import Process
from tests.scenarios.world import DAY, Environment

if TYPE_CHECKING:
    from tests.faults.faults import FaultWorld

_WEBHOOKS = "webhooks"
_DELIVERIES = "deliveries"
_LAST_START_SECONDS = 20.0  # no POST of a drainer starts with less time left
_LEFT_OF_LEASE_SECONDS = 15.0  # the longest POST
_LEASE = {"lease_owner", "lease_until_ms", "ticket", "ticket_until_ms"}
_STALE_SECONDS = 10.0  # no POST starts later after a change, a pause or a deletion

type Item = dict[str, Any]
type Key = tuple[str, str, str]
"""Table, partition and sort key."""


class _Read:
    """A lane as it stood when a drainer read it."""

    def __init__(self, webhook_id: str, lane: Lane, event_ids: list[str]) -> None:
        self.webhook_id = webhook_id
        self.lane = lane
        self.event_ids = event_ids


class Audit:
    """What the functions of one world did that they may not do."""

    def __init__(self, world: "FaultWorld") -> None:
        self.problems: list[str] = []
        self.taken: defaultdict[str, Counter[str]] = defaultdict(Counter)
        """Webhook id -> how often each event was acknowledged."""
        self.before_looking: Callable[[], None] = lambda: None
        """What must be noted first, by who knows of events that need not arrive."""
        self._world = world
        self._delivered: set[tuple[str, str]] = set()
        """Webhook and event ids of what was ever recorded as delivered."""
        self._owners: dict[Process, str] = {}
        self._tickets: defaultdict[tuple[Process, float], set[str]] = defaultdict(set)
        """Those that each invocation took. It is distinguished by when it would be killed."""
        self._reads: defaultdict[tuple[Process, float], dict[tuple[str, str], _Read]] = defaultdict(dict)
        """The last of each lane since the POST before, by invocation."""
        self._has_sent: set[tuple[Process, float]] = set()
        """The invocations that sent something after their last reading."""
        self._last: dict[str, list[str]] = {}
        """Webhook id -> the events of a drainer's last POST."""
        self._sending: dict[str, Process] = {}
        self._sent: dict[Process, tuple[float, list[str]]] = {}
        self._targets: defaultdict[str, list[tuple[float, str | None]]] = defaultdict(list)
        """Webhook id -> where its events went from when on, as admins changed it; None for nowhere."""

    # The tables

    def dynamodb(self, operation: str, params: dict[str, Any]) -> dict[str, Any]:
        """Do a call, and look at what it changes."""
        process = self._world.time.process
        if process is None:
            return self._world._tables(operation, params)
        changed = written(operation, params)
        before = {key: self._get(*key) for key in changed}
        if operation == "Query":
            self._note_read(process, params)
        answer = self._world._tables_of_functions(operation, params)
        for key in changed:
            self._check_change(process, key, before[key], self._get(*key))
        if operation == "DeleteItem" and changed[0][1].startswith("DUE#"):
            self.look()
        return answer

    def health_item(self, webhook_id: str) -> Item:
        """The health of a webhook as the table has it, with its lease."""
        account_id = self._world.webhooks[webhook_id].account_id
        return self._get(_WEBHOOKS, f"ACCOUNT#{account_id}", f"HEALTH#{webhook_id}")

    def registration_item(self, webhook_id: str) -> Item:
        """The registration of a webhook as the table has it."""
        account_id = self._world.webhooks[webhook_id].account_id
        return self._get(_WEBHOOKS, f"ACCOUNT#{account_id}", f"WEBHOOK#{webhook_id}")

    def look(self) -> None:
        """See whether all that must always hold does, in this moment."""

        def see() -> None:
            self.before_looking()
            self._add(*self._world.problems())

        self._world.time.at(self._world.now, see)

    def in_flight(self, process: Process | None = None) -> set[str]:
        """The events that a receiver has and the history does not, and those of `process`'s POST."""
        in_flight: set[str] = set()
        if isinstance(process, Environment) and process in self._sent:
            ends_at, event_ids = self._sent[process]
            in_flight |= set(event_ids) if ends_at == process.ends_at else set()  # else of an earlier one
        for webhook_id, taken in self.taken.items():
            in_flight |= {each for each in taken if not self._is_delivered(webhook_id, each)}
        return in_flight

    # The POSTs

    @contextmanager
    def post(self, message: WebhookRequest) -> Iterator[None]:
        """One POST, from its beginning to its end."""
        process = self._world.time.process
        assert isinstance(process, Environment)
        event_ids = [event["eventId"] for event in json.loads(message.body)["events"]]
        webhook_id = self._world.owners[message.url]
        if process.name == "drainer":
            self._check_drainer(process, webhook_id, event_ids)
            self._sending[webhook_id] = process
        self._sent[process] = process.ends_at, event_ids
        self._check_target(webhook_id, message.url)
        endpoint = self._world.endpoints[message.url]
        posts = len(endpoint.posts)
        try:
            yield
        finally:
            # None, when it was stopped before it left.
            mine = [post for post in endpoint.posts[posts:] if post.headers is message.headers]
            for post in mine:
                if post.is_acknowledged:
                    self.taken[webhook_id].update(post.event_ids)
            if process.name == "drainer":
                self._sending.pop(webhook_id, None)
                self._last[webhook_id] = event_ids
                self._has_sent.add((process, process.ends_at))

    def _check_target(self, webhook_id: str, url: str) -> None:
        """Whether events may go to this URL at this moment, or might have ten seconds ago."""
        targets: list[str | None] = []
        for since, target in self._targets[webhook_id]:
            if since < self._world.now - _STALE_SECONDS:
                targets.clear()
            targets.append(target)
        if targets and url not in targets:
            self._add(f"stale: a POST of {webhook_id} to {url}, which should go to {targets[-1]}")

    def _check_drainer(self, process: Environment, webhook_id: str, event_ids: list[str]) -> None:
        now = self._world.now
        others = self._sending.get(webhook_id)
        if others is not None and not others.is_dead:
            self._add(f"two drainers send to {webhook_id}")
        if process.ends_at - now < _LAST_START_SECONDS:
            self._add(f"a POST of a drainer {process.ends_at - now:.1f} s before its end")
        health = self.health_item(webhook_id)
        if health:  # else deleted a moment ago
            lease = health.get("lease_owner", {"S": ""})["S"]
            if lease != self._owners.get(process):
                self._add(f"a POST without the lease of {webhook_id}")
            elif int(health["lease_until_ms"]["N"]) / 1000 < now + _LEFT_OF_LEASE_SECONDS:
                self._add(f"a POST that may outlast the lease of {webhook_id}")
        reads = [
            read for read in self._reads[process, process.ends_at].values() if read.webhook_id == webhook_id
        ]
        if any(read.lane is Lane.REPLAY for read in reads):
            return  # it walks the history too, and what is sent again may be pending elsewhere
        # One that was set aside and came again stands in two lanes. A probe looks into both, and sends one.
        reads = [read for read in reads if set(event_ids) <= set(read.event_ids)]
        firsts = {read.lane: self._first(read, event_ids) for read in reads}
        if not reads:
            self._add(f"a POST of what was not read: {event_ids}")
        elif event_ids not in firsts.values() and not self._may_stand_in(webhook_id, event_ids):
            self._add(*(f"out of order: {event_ids} of {first} in {lane}" for lane, first in firsts.items()))

    def _first(self, read: _Read, event_ids: list[str]) -> list[str]:
        """As many of a lane as were sent. What is delivered or expired was taken out since it was read."""
        open_ones = [
            each for each in read.event_ids if each in event_ids or not self._is_over(read.webhook_id, each)
        ]
        return open_ones[: len(event_ids)]

    def _may_stand_in(self, webhook_id: str, event_ids: list[str]) -> bool:
        """Whether an event may go alone before those in front of it: one went alone, and is not over."""
        is_ordered = self.registration_item(webhook_id).get("ordered") == {"BOOL": True}
        last = self._last.get(webhook_id, [])
        return (
            not is_ordered
            and len(event_ids) == len(last) == 1
            and last != event_ids
            and not self._is_over(webhook_id, last[0])
        )

    def _note_read(self, process: Process, params: Item) -> None:
        pk = params["ExpressionAttributeValues"][":pk"]["S"]
        if process.name != "drainer" or not pk.startswith("BACKLOG#"):
            return
        _, webhook_id, lane = pk.split("#")
        items = self.partition(pk)
        event_ids = [_event_id(item["sk"]["S"]) for item in items]
        assert isinstance(process, Environment)
        invocation = process, process.ends_at
        if invocation in self._has_sent:
            self._has_sent.remove(invocation)
            self._reads[invocation].clear()
        self._reads[invocation][webhook_id, lane] = _Read(webhook_id, Lane(lane), event_ids)

    # The changes

    def _check_change(self, process: Process, key: Key, before: Item, after: Item) -> None:
        _, pk, sk = key
        kind, _, rest = pk.partition("#")
        if kind == "DELIVERY":
            self._check_outcome(before, after)
            if after.get("outcome") == {"S": Outcome.DELIVERED}:
                self._delivered.add((rest, _event_id(sk)))
        elif kind == "BACKLOG":
            webhook_id, _, lane = rest.partition("#")
            if before and not after and lane != Lane.REPLAY and not self._is_kept(webhook_id, sk):
                self._add(f"lost: {sk} is taken out of {lane} of {webhook_id} and recorded nowhere")
        elif kind == "ACCOUNT" and sk.startswith("HEALTH#"):
            self._check_health(process, before, after)
        elif kind == "ACCOUNT" and sk.startswith("WEBHOOK#"):
            self._note_target(sk.removeprefix("WEBHOOK#"), before, after)
        if kind in ("BACKLOG", "DUE") and "expires_at" in after:
            self._add(f"{pk} {sk} goes by itself")

    def _note_target(self, webhook_id: str, before: Item, after: Item) -> None:
        targets = self._targets[webhook_id]
        if not targets:
            targets.append((0.0, _target(before)))
        if _target(after) != targets[-1][1]:
            targets.append((self._world.now, _target(after)))

    def _check_outcome(self, before: Item, after: Item) -> None:
        if before.get("outcome") == {"S": Outcome.DELIVERED} and after.get("outcome") != before["outcome"]:
            self._add(f"delivered, and then {after.get('outcome')}: {before['sk']['S']}")

    def _check_health(self, process: Process, before: Item, after: Item) -> None:
        if process.name == "admin_api" or before == after:
            return
        if not before or not after:
            self._add(f"{process.name} made or removed a health")
            return
        self._check_ticket(process, before, after)
        if after["epoch"] != before["epoch"]:
            self._add(f"{process.name} changed an epoch")
        owner = after.get("lease_owner", {"S": ""})["S"]
        if process.name == "drainer" and owner and before.get("lease_owner") != after["lease_owner"]:
            if int(before.get("lease_until_ms", {"N": "0"})["N"]) >= self._latest_ms():
                self._add("a lease was taken from its owner")
            self._owners[process] = owner
        if _without_lease(before) == _without_lease(after):
            return
        if process.name == "drainer" and before.get("lease_owner", {"S": ""})["S"] != self._owners.get(
            process
        ):
            self._add("a drainer without the lease changed a health")
        if process.name == "batch":
            self._add("the sweep changed more than a ticket")
        if process.name == "dispatcher" and (before["mode"]["S"], after["mode"]["S"]) != (
            "direct",
            "backlog",
        ):
            self._add("a dispatcher changed more than direct to backlog")

    def _check_ticket(self, process: Process, before: Item, after: Item) -> None:
        """A ticket that lives is used by who got its message, or the one before it, and by nobody else."""
        assert isinstance(process, Environment)
        ticket = before.get("ticket", {"S": ""})["S"]
        taken = self._tickets[process, process.ends_at]
        if "ticket" in after and after["ticket_until_ms"] != before.get("ticket_until_ms"):
            taken.add(after["ticket"]["S"])  # one that ended may be taken again under the same name
        if not ticket or "ticket" in after or ticket in taken:
            return  # who took it may give it up
        records = process.event.get("Records", ())
        mine = {each for record in records for each in _tickets_of(read_drain_message(record))}
        if ticket not in mine and int(before["ticket_until_ms"]["N"]) >= self._latest_ms():
            self._add(f"the {process.name} used a ticket that was not its own")

    def _latest_ms(self) -> float:
        """The present moment by the clock that is ahead of all."""
        return (self._world.now + self._world.most_skew_seconds) * 1000

    def _is_kept(self, webhook_id: str, sk: str) -> bool:
        """Whether an event has an outcome, or stands in the retry lane."""
        event_id = _event_id(sk)
        retry = self.partition(f"BACKLOG#{webhook_id}#{Lane.RETRY}")
        return bool(self._get(_DELIVERIES, f"DELIVERY#{webhook_id}", _of_event(sk))) or any(
            _event_id(item["sk"]["S"]) == event_id for item in retry
        )

    def _is_over(self, webhook_id: str, event_id: str) -> bool:
        accepted_at = self._world._accepted_at[event_id]
        return (
            self._is_delivered(webhook_id, event_id)
            or self._latest_ms() / 1000 - accepted_at >= self._world._retention_days * DAY - 1
        )

    def _is_delivered(self, webhook_id: str, event_id: str) -> bool:
        return (webhook_id, event_id) in self._delivered

    def _add(self, *problems: str) -> None:
        self.problems += problems

    def _get(self, table: str, pk: str, sk: str) -> Item:
        answer = self._world._tables(
            "GetItem", {"TableName": table, "Key": {"pk": {"S": pk}, "sk": {"S": sk}}}
        )
        item: Item = answer.get("Item", {})
        return item

    def partition(self, pk: str) -> list[Item]:
        """The items of a partition of the deliveries, as they stand."""
        answer = self._world._tables(
            "Query",
            {
                "TableName": _DELIVERIES,
                "KeyConditionExpression": "pk = :pk",
                "ExpressionAttributeValues": {":pk": {"S": pk}},
            },
        )
        items: list[Item] = answer["Items"]
        return items


def written(operation: str, params: Item) -> list[Key]:
    """The keys that a call may change: table, partition and sort key."""
    match operation:
        case "PutItem":
            return [(params["TableName"], *_key(params["Item"]))]
        case "UpdateItem" | "DeleteItem":
            return [(params["TableName"], *_key(params["Key"]))]
        case "BatchWriteItem":
            return [
                (
                    table,
                    *_key(
                        request["PutRequest"]["Item"]
                        if "PutRequest" in request
                        else request["DeleteRequest"]["Key"]
                    ),
                )
                for table, requests in params["RequestItems"].items()
                for request in requests
            ]
        case "TransactWriteItems":
            actions = [action for each in params["TransactItems"] for action in each.values()]
            return [
                (each["TableName"], *_key(each["Item"] if "Item" in each else each["Key"]))
                for each in actions
            ]
        case _:
            return []


def _target(registration: Item) -> str | None:
    """Where the events of a webhook go; None when it is paused, inactive, or gone."""
    is_active = registration.get("status") == {"S": Status.ACTIVE}
    return registration["target_url"]["S"] if is_active else None


def _key(item: Item) -> tuple[str, str]:
    return item["pk"]["S"], item["sk"]["S"]


def _of_event(sk: str) -> str:
    """The sort key of an event from that of any lane."""
    return "#".join(sk.split("#")[-2:])


def _event_id(sk: str) -> str:
    return sk.rpartition("#")[2].partition("\t")[0]


def _tickets_of(message: DrainMessage) -> tuple[str, str]:
    """The tickets that a message may use: its own, and the one that it leaves to its successor."""
    return message.ticket, message.message_id


def _without_lease(health: Item) -> Item:
    return {name: value for name, value in health.items() if name not in _LEASE}
