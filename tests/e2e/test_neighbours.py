"""Endpoints that hang, trickle or point elsewhere: each is cut, and none costs the others anything."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable

import pytest

from tests.e2e.system import Account, System
from tests.fakes.receiver import (
    Behaviour,
    Receiver,
    Request,
    Wire,
    answer,
    gated,
    hang,
    redirect,
    trickle_header,
)
from tests.patience import PATIENCE_SECONDS

DEADLINE_SECONDS = 5.0
ROUNDS = 15
AT_ONCE = 4  # events in flight; each may find a dispatcher of its own, held up until its fast ones have it


def timed(behaviour: Behaviour, into: list[float]) -> Behaviour:
    """Note for how many seconds a request was left open by the other side."""

    def act(wire: Wire) -> bool:
        started = time.monotonic()
        try:
            return behaviour.act(wire)
        finally:
            into.append(time.monotonic() - started)

    return Behaviour(behaviour.name, act)


@pytest.mark.parametrize("bad", [hang(), trickle_header()], ids=lambda bad: bad.name)
def test_a_receiver_that_keeps_a_request_open_is_cut_at_the_deadline(
    bad: Behaviour, account: Account, receiver: Receiver
) -> None:
    seconds: list[float] = []
    with Receiver(timed(bad, seconds)) as slow:
        account.create(slow.url("/slow"))
        account.create(receiver.url("/fast"))
        account.emit()
        assert receiver.wait_for_requests(1)
        assert slow.wait_for(lambda: len(seconds) > 0, PATIENCE_SECONDS), "it is cut"
    assert seconds[0] > DEADLINE_SECONDS - 0.5
    assert receiver.requests[0].received_at < slow.requests[0].received_at + seconds[0]


def test_a_redirect_is_not_followed(account: Account, receiver: Receiver) -> None:
    with Receiver() as elsewhere:
        receiver.script = redirect(elsewhere.url("/private"), 307)
        webhook_id = account.create(receiver.url("/moved"))["webhookId"]
        account.create(receiver.url("/moved-too"))
        account.emit()
        assert receiver.wait_for_requests(2)
        account.system.wait_until_done()
        assert elsewhere.connections == 0
    delivered = [each for each in account.system.history(webhook_id) if each["outcome"]["S"] == "delivered"]
    assert delivered == [], "a redirect acknowledges nothing"


def warm_up_dispatchers(account: Account) -> None:
    """Have as many as may run at once: each new one is held by a request until all are there."""
    gate = threading.Event()
    with Receiver(gated(gate, answer())) as receiver:
        account.create(receiver.url())
        for _ in range(AT_ONCE):
            account.emit()
            account.system.wait_until_taken()
        assert receiver.wait_for_requests(AT_ONCE)
        gate.set()
        account.system.wait_until_done()
    account.delete_all()


class Street:
    """Two fast webhooks of one account, and three bad neighbours.

    The bad ones hold each event until the fast ones have it: an order is proved, however slow the machine.
    """

    def __init__(self, account: Account, receiver: Receiver) -> None:
        self._account = account
        self._receiver = receiver
        self._gates: defaultdict[str, threading.Event] = defaultdict(threading.Event)
        for house in ("fast-1", "fast-2", "hang", "trickle", "redirect"):
            account.create(receiver.url(f"/{house}"))

    def behaviour(self, request: Request) -> Behaviour:
        """What a house does with an event."""
        gate = self._gates[request.event_ids[0]]
        match request.path:
            case "/hang":
                return gated(gate, answer())
            case "/trickle":
                return _trickling_until(gate)
            case "/redirect":
                return redirect("http://127.0.0.1:9/")
        return answer()

    def round(self) -> None:
        """Put events for all houses. The bad ones let go of each only when the fast ones have got it."""
        events = [self._account.event() for _ in range(AT_ONCE)]
        ids = [event["eventId"] for event in events]
        expected = {(house, id_) for id_ in ids for house in ("/fast-1", "/fast-2", "/hang", "/trickle")}
        arrived: dict[tuple[str, str], float] = {}
        self._account.system.put(*events)

        def is_over() -> bool:
            for request in self._receiver.requests:
                for id_ in request.event_ids:
                    arrived.setdefault((request.path, id_), request.received_at)
            for id_ in ids:
                if {("/fast-1", id_), ("/fast-2", id_)} <= arrived.keys():
                    self._gates[id_].set()
            return expected <= arrived.keys()

        assert self._receiver.wait_for(is_over, PATIENCE_SECONDS), (
            f"while others were hanging came only {sorted(arrived)}, not {sorted(expected)}"
        )
        for id_ in ids:
            cut_at = min(arrived["/hang", id_], arrived["/trickle", id_]) + DEADLINE_SECONDS
            assert max(arrived["/fast-1", id_], arrived["/fast-2", id_]) < cut_at
        self._account.system.wait_until_done()
        self._receiver.forget()
        self._gates.clear()


def _trickling_until(gate: threading.Event) -> Behaviour:
    def act(wire: Wire) -> bool:
        wire.send(b"HTTP/1.1 200 OK\r\nx-slow: ")
        while not gate.wait(0.02):
            wire.send(b"z")
        wire.send(b"\r\ncontent-length: 0\r\n\r\n")
        return True

    return Behaviour("trickle until let go", act)


def test_bad_neighbours_do_not_hold_up_the_others_of_their_batch(
    system: System, new_account: Callable[[], Account], receiver: Receiver
) -> None:
    """The fast ones get each event while the bad ones hold it: at first, and when one is in backlog mode.

    How much longer they take is for `make bench ONLY=noisy_neighbor`: a machine without time to spare gives
    the bad ones' work to all.
    """
    assert system.dispatchers_at_once() >= AT_ONCE
    warm_up_dispatchers(new_account())
    street = Street(new_account(), receiver)
    receiver.script = street.behaviour
    street.round()
    second = receiver.wait_for(lambda: bool(receiver.requests_to("/redirect")), PATIENCE_SECONDS)
    assert second, "no second attempt"
    for _ in range(ROUNDS):
        street.round()
