"""Put one event through a deployed stack, time it, and compare what arrives with what was put.

    make smoke                                                the stack on this machine
    make smoke STACK=lms-webhooks                             on AWS: the first thing to run there
    make smoke STACK=lms-webhooks TARGET=https://hooks.example.com/lms

It invokes the admin function itself, with the claims of an admin of a smoke-test account. So it works
with every issuer, and needs the credentials of the deployer alone. It makes a webhook, puts an event on
the bus, and deletes the webhook in the end. The record of that event stays in the deliveries table, for
`DeliveryRetentionDays`.

Every webhook of an account gets each event of that account. So each smoke test takes one of ACCOUNT_IDS for
itself, and several can run at once.

Where the event goes:

- On this machine: to a receiver of the smoke test. It refuses the first request, which the dispatcher sends,
  and takes the second, which the drainer sends. The bodies are compared byte by byte.
- On AWS: to the stack's own API, since nothing there can reach this machine. The API is public, and responds
  404 to a POST. That proves egress, DNS, TLS and both functions that send. The event is compared as the stack
  stored it, which is what it sends.
- To TARGET, a receiver of yours, which must respond 2xx.

The bus may write an event's JSON in other words: AWS promises neither `1.10` nor the order of keys, and the
local stack's bus does change numbers. Other words are a note. A value that is lost or changed is a failure.

SmokeFailed (an Exception: its text says what is missing, and the next step)
"""

import argparse
import random
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import FrameType
from typing import Any

from local.receiver import Received, Receiver, signature
from operations.admin_function import AdminFunction, UnexpectedResponse
from operations.fidelity import compare
from operations.identity import AWS_ERRORS, explain
from operations.stacks import FoundStack, find_stack
from operations.wiring import look
from tools.progress import paint

ACCOUNT_IDS = [f"smoke-test-{number}" for number in range(1, 9)]
"""Each smoke test takes one of them. They are few, so that each smoke test can look for leftovers in all."""
EVENT_NAME = "COURSE_ENROLLMENT"
WEBHOOK_NAME = "Smoke test"
# A new stack's functions start cold, its rule may take a minute to work, and the drainer comes 5 s after a
# failure, or with the sweep's next minute.
PATIENCE_SECONDS = 90.0
_POLL_SECONDS = 0.2
_LEFT_BEHIND = timedelta(minutes=10)  # more than a smoke test takes: of one that was killed
_ENDS = {
    "QuarantineQueue": "went to quarantine",
    "RealtimeDeadLetterQueue": "became a dead letter",
}
"""Where an event may end that is not delivered, by the name of the queue."""
_PATH = "/smoke"


class SmokeFailed(Exception):
    """Something on the event's way is missing."""


def smoke_event(event_id: str, now_ms: int, *, is_local: bool) -> str:
    """Return an event, without its account, whose text is hard to keep: numbers, order, characters.

    Members are parted by commas alone, as the dispatcher joins them. The emulator's bus reads decimals as
    Python does, so none with more digits than that keeps is put there.
    """
    precise = "" if is_local else '"precise":0.1234567890123456789,'
    return (
        f'{{"eventId":"{event_id}","eventName":"{EVENT_NAME}","timestamp":{now_ms},"eventInfo":"make smoke",'
        f'"data":{{"zebra":"before alpha","alpha":1,"decimal":1.10,"exponent":1e2,{precise}'
        '"integer":9007199254740993,"characters":"Zo\u00eb \u6f22\u5b57 \U0001f600 \\" \\\\ \\u00e9",'
        '"nothing":null,"list":[],"object":{}}}'
    )


# Targets


@dataclass(frozen=True, slots=True)
class Target:
    """Where the event goes."""

    url: str
    what: str
    is_own_api: bool = False
    receiver: Receiver | None = None
    """With what comes in `received`, where that can be seen."""
    received: tuple[Received, ...] | list[Received] = ()


@contextmanager
def own_receiver() -> Iterator[Target]:
    """Open a receiver on this machine that refuses its first request."""
    received: list[Received] = []
    with Receiver(received.append) as receiver:
        receiver.refusals[_PATH] = 1
        yield Target(
            receiver.url + _PATH,
            "a receiver here, which is down at first",
            receiver=receiver,
            received=received,
        )


def own_api(api_url: str) -> Target:
    """Return the stack's API as a target: it has no route that takes a POST here."""
    return Target(f"{api_url}/openapi.json", "the stack's own API, which takes no POST", is_own_api=True)


# The test


@dataclass(frozen=True, slots=True)
class Seen:
    """How far the event is, as the admin API shows it."""

    delivery_id: str = ""
    status: str = ""
    outcome: str = ""
    """Of the last attempt: `HTTP 404`, or an error class."""
    next_attempt_at: str = ""


class Smoke:
    """One test of one stack."""

    def __init__(self, stack: FoundStack, target: Target, *, patience: float = PATIENCE_SECONDS) -> None:
        self._stack = stack
        self._target = target
        self._patience = patience
        self._take_account(ACCOUNT_IDS[0])
        self._event_id = str(uuid.uuid4())
        self._text = smoke_event(self._event_id, time.time_ns() // 1_000_000, is_local=stack.is_local)
        self._webhook = ""
        """The path of the webhook, while there is one."""
        self._put_at = 0.0

    def run(self) -> None:
        """Put the event through, and print what happens.

        Raises:
            SmokeFailed: it did not arrive, or not whole.
            botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError: AWS refuses a call.
        """
        self._check_wiring()
        self._delete_left_behind()
        ended = self._count_ends()
        try:
            secret = self._make_webhook()
            if self._target.receiver is not None:
                self._target.receiver.checks[_PATH] = signature(secret)
            self._put()
            seen = self._follow(ended)
            self._compare(seen)
        except BaseException:
            with suppress(UnexpectedResponse, *AWS_ERRORS):  # the next smoke test deletes it
                self._delete_webhook()
            raise
        self._delete_webhook()

    # Before the event

    def _check_wiring(self) -> None:
        findings = list(look(self._stack, detail_type=EVENT_NAME, detail=self._detail))
        for finding in findings:
            if not finding.is_fault:
                _say("note", "wiring", finding.text)
        faults = [finding.text for finding in findings if finding.is_fault]
        if faults:
            raise SmokeFailed(faults[0])
        _say(
            "ok",
            "wiring",
            "RealtimeRule, RealtimeQueue and its policy, dispatcher, both drain queues, drainer",
        )

    def _delete_left_behind(self) -> None:
        for account_id in ACCOUNT_IDS:
            self._take_account(account_id)
            for webhook in self._webhooks():
                age = datetime.now(UTC) - datetime.fromisoformat(webhook["createdAt"])
                if webhook["name"] == WEBHOOK_NAME and age > _LEFT_BEHIND:
                    self._admin.call("DELETE", f"/v1/webhooks/{webhook['webhookId']}", 204)
                    _say(
                        "note",
                        "cleaning up",
                        f"deleted the webhook that a smoke test left at {webhook['createdAt']}",
                    )

    def _make_webhook(self) -> str:
        """Make a webhook in an account that no other smoke test uses; return its secret.

        Raises:
            SmokeFailed: others use them all.
        """
        # In an order of one's own, or two that start at once would follow each other to the last account.
        for account_id in random.sample(ACCOUNT_IDS, len(ACCOUNT_IDS)):
            self._take_account(account_id)
            if self._webhooks():
                continue
            started = time.monotonic()
            secret = self._make_webhook_here()
            # Two that start at once both see the other's webhook here, if they did not before.
            if len(self._webhooks()) == 1:
                _say("ok", "webhook", f"made {_since(started)}, to {self._target.url} ({self._target.what})")
                return secret
            self._admin.call("DELETE", self._webhook, 204)
            self._webhook = ""
        raise SmokeFailed(
            f"smoke tests are running in all of {ACCOUNT_IDS[0]} to {ACCOUNT_IDS[-1]}: wait until one has"
            f" ended, or {_LEFT_BEHIND.total_seconds() / 60:.0f} minutes for those that were killed"
        )

    def _make_webhook_here(self) -> str:
        body = {
            "name": WEBHOOK_NAME,
            "targetUrl": self._target.url,
            "authentication": {"type": "signature"},
            "events": [EVENT_NAME],
        }
        created = self._admin.call("POST", "/v1/webhooks", 201, body).body
        self._webhook = f"/v1/webhooks/{created['webhookId']}"
        return str(created["authentication"]["secret"])

    def _webhooks(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = self._admin.call("GET", "/v1/webhooks", 200).body["webhooks"]
        return listed

    def _take_account(self, account_id: str) -> None:
        self._account_id = account_id
        self._admin = AdminFunction(self._stack, account_id, caller="make smoke")

    @property
    def _detail(self) -> str:
        return f'{{"accountId":"{self._account_id}",{self._text[1:]}'

    # The event

    def _put(self) -> None:
        self._put_at = time.time()
        started = time.monotonic()
        put = self._stack.client("events").put_events(
            Entries=[
                {
                    "EventBusName": self._stack.outputs["EventBusName"],
                    "Source": self._stack.outputs["EventSource"],
                    "DetailType": EVENT_NAME,
                    "Detail": self._detail,
                }
            ]
        )
        if put["FailedEntryCount"]:
            raise SmokeFailed(f"the bus refused the event: {put['Entries'][0]}")
        _say("ok", "put", f"on the bus {_since(started)}")

    def _follow(self, ended: dict[str, int]) -> Seen:
        """Wait for what must become of the event."""
        first = self._await(
            lambda: (seen := self._see()).status == "delivered" or bool(seen.outcome),
            lambda: f"the event did not come through the dispatcher: {self._find_cause(ended)}",
        )
        if self._target.is_own_api or self._target.receiver is not None:
            return self._follow_to_the_drainer(first)
        if first.status != "delivered":
            raise SmokeFailed(f"{self._target.url} did not take the event: {first.outcome}")
        self._say_when("delivered", "by the dispatcher, responded 2xx")
        return first

    def _follow_to_the_drainer(self, first: Seen) -> Seen:
        """The first request must fail, and the drainer must send the second."""
        if not first.outcome.startswith("HTTP "):
            raise SmokeFailed(f"the dispatcher could not reach {self._target.url}: {first.outcome}")
        self._say_when("dispatcher", f"sent, and got {first.outcome}", self._at(0))
        if self._target.is_own_api:
            second = self._await(
                lambda: self._see().next_attempt_at not in ("", first.next_attempt_at),
                self._drainer_is_missing,
            )
            self._say_when("drainer", f"sent again, and got {second.outcome}")
        else:
            second = self._await(lambda: self._see().status == "delivered", self._drainer_is_missing)
            self._say_when("drainer", "sent again, and got HTTP 204", self._at(1))
            self._say_when("delivered", "recorded")
        return second

    def _drainer_is_missing(self) -> str:
        return (
            "the drainer has not sent the event again: see DrainerLogs, and"
            f" make redrive QUEUE=DrainDeadLetterQueue DRY_RUN=1{self._stack_option}"
        )

    def _await(self, condition: Callable[[], bool], cause: Callable[[], str]) -> Seen:
        give_up_at = time.monotonic() + self._patience
        while not condition():
            if time.monotonic() > give_up_at:
                raise SmokeFailed(f"after {self._patience:.0f} s {cause()}")
            time.sleep(_POLL_SECONDS)
        return self._see()

    def _see(self) -> Seen:
        health = self._admin.call("GET", self._webhook, 200).body["health"]
        deliveries = self._admin.call("GET", f"{self._webhook}/deliveries", 200).body["deliveries"]
        delivery: dict[str, Any] = next(
            (each for each in deliveries if each["eventId"] == self._event_id), {}
        )
        attempt = delivery.get("lastAttempt", {})
        status_code = attempt.get("statusCode")
        outcome = f"HTTP {status_code}" if status_code else attempt.get("errorClass", "")
        return Seen(
            delivery.get("deliveryId", ""),
            delivery.get("status", ""),
            # The webhook's last error may be of another event, where TARGET failed before.
            outcome or health.get("lastError", ""),
            health.get("nextAttemptAt", ""),
        )

    # What arrived

    def _compare(self, seen: Seen) -> None:
        """Compare what was put with what is stored, and that with what was sent.

        Raises:
            SmokeFailed: a value is another, or what was sent is not what is stored, byte for byte.
        """
        shown = self._admin.call("GET", f"{self._webhook}/deliveries/{seen.delivery_id}", 200).text
        stored = shown.partition(',"event":')[2].removesuffix("}")
        comparison = compare(self._text, stored)
        if comparison.changed:
            raise SmokeFailed(
                f"the event is not what was put ({'; '.join(comparison.changed)}), and receivers get it so:"
                " report it"
            )
        if comparison.rewritten:
            _say("note", "text", f"the bus wrote the event in other words: {'; '.join(comparison.rewritten)}")
            _say("ok", "values", "the same as were put")
        else:
            _say("ok", "text", "the same as was put, byte for byte")
        body = f'{{"accountId":"{self._account_id}","events":[{stored}]}}'.encode()
        for received in self._own():
            if received.problem:
                raise SmokeFailed(f"what arrived is not as signed: {received.problem}")
            if received.body != body:
                raise SmokeFailed(f"what arrived is not what is stored: {received.body!r} is not {body!r}")
        if self._target.received:
            _say("ok", "bodies", f"{len(self._own())} requests, signed, as stored byte for byte")

    def _at(self, index: int) -> float | None:
        """When a request arrived, where that can be seen."""
        own = self._own()
        return own[index].at_seconds if index < len(own) else None

    def _own(self) -> list[Received]:
        """Requests with this test's event. One of an earlier test in this account may come late."""
        return [each for each in self._target.received if self._event_id.encode() in each.body]

    def _say_when(self, name: str, text: str, at: float | None = None) -> None:
        seconds = (time.time() if at is None else at) - self._put_at
        _say("ok", name, f"{text}, {seconds * 1000:.0f} ms after it was put{'' if at else ' or sooner'}")

    # When nothing arrives

    def _count_ends(self) -> dict[str, int]:
        """Messages where an event may end that is not delivered; none of a queue that may not be read."""
        return {name: count for name in _ENDS if (count := self._count(name)) is not None}

    def _count(self, queue: str) -> int | None:
        names = [f"ApproximateNumberOfMessages{kind}" for kind in ("", "NotVisible", "Delayed")]
        try:
            answer = self._stack.client("sqs").get_queue_attributes(
                QueueUrl=self._stack.outputs[f"{queue}Url"], AttributeNames=names
            )
        except AWS_ERRORS:
            return None
        return sum(int(answer["Attributes"][name]) for name in names)

    def _find_cause(self, ended: dict[str, int]) -> str:
        """The first thing that is wrong on the event's way."""
        for finding in look(self._stack, detail_type=EVENT_NAME, detail=self._detail):
            if finding.is_fault:
                return finding.text
        for queue, before in ended.items():
            if (self._count(queue) or 0) > before:
                return (
                    f"one {_ENDS[queue]}: make redrive QUEUE={queue} DRY_RUN=1{self._stack_option} says why"
                )
        if count := self._count("RealtimeQueue"):
            return f"{count} wait on RealtimeQueue, and the dispatcher does not take them: see DispatcherLogs"
        return "nothing on its way is wrong that can be seen from here: see DispatcherLogs"

    @property
    def _stack_option(self) -> str:
        return "" if self._stack.is_local else f" STACK={self._stack.name}"

    def _delete_webhook(self) -> None:
        if self._webhook:
            self._admin.call("DELETE", self._webhook, 204)
            days = self._stack.parameters["DeliveryRetentionDays"]
            _say("ok", "cleaning up", f"the webhook is deleted; the event's record stays for {days} days")


def _say(result: str, name: str, text: str) -> None:
    print(f"  {paint(f'{result:8}', 'green' if result == 'ok' else 'bold')} {name:12} {text}", flush=True)


def _since(started: float) -> str:
    return f"in {(time.monotonic() - started) * 1000:.0f} ms"


# The command


def main() -> int:
    """Test the stack that the command line names; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m operations.smoke")
    parser.add_argument("--stack", help="a stack on AWS; without it the one of `make up`")
    parser.add_argument("--target", help="a receiver of yours that responds 2xx")
    arguments = parser.parse_args()
    for sign in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, _interrupt)
    started = time.monotonic()
    try:
        stack = find_stack(arguments.stack)
        print(f"One event through {stack.name} in {stack.place}", flush=True)
        with _target(stack, arguments.target) as target:
            Smoke(stack, target).run()
    except (SmokeFailed, UnexpectedResponse) as failed:
        print(f"Failed: {failed}", file=sys.stderr)
        return 1
    except AWS_ERRORS as error:
        print(f"Failed: {explain(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"Passed {_since(started)}")
    return 0


def _target(stack: FoundStack, url: str | None) -> AbstractContextManager[Target]:
    if url:
        return nullcontext(Target(url, "a receiver of yours"))
    return own_receiver() if stack.is_local else nullcontext(own_api(stack.api_url))


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
