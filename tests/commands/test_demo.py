"""The demo counts each event once for each of its webhooks, and shows one line when all have it."""

import json
from pathlib import Path
from typing import Any

import pytest

from lms_webhooks.model.event_types import Category
from local.demo import Outage, Tally, end_outage_in_time
from local.emit import make_event
from local.receiver import Received, Receiver
from local.stack import Answer, Stack


def event_of(name: str = "COURSE_ENROLLMENT") -> dict[str, Any]:
    return make_event(name, "1010") | {"timestamp": 1_796_000_000_000}


def received(
    path: str, *events: dict[str, Any], after_ms: int = 20, problem: str | None = None, refused: bool = False
) -> Received:
    sent = [{name: value for name, value in event.items() if name != "accountId"} for event in events]
    body = json.dumps({"accountId": 1010, "events": sent}).encode()
    return Received(path, {}, body, 1_796_000_000 + after_ms / 1000, problem, refused)


def tally_of(*events: dict[str, Any]) -> Tally:
    return Tally({event["eventId"]: event for event in events})


def test_an_event_has_one_line_when_all_three_webhooks_have_it() -> None:
    event = event_of()
    tally = tally_of(event, event_of("CI_STATS"))
    assert tally.take(received("/none", event, after_ms=10)) == []
    assert tally.take(received("/signature", event, after_ms=30)) == []
    (line,) = tally.take(received("/basic", event, after_ms=20))
    assert line.split() == (
        ["✓", "COURSE_ENROLLMENT", "none", "✓", "basic", "✓", "signature", "✓", "30", "ms"]
    )
    assert (tally.expected, tally.delivered, tally.verified) == (6, 3, 3)
    assert not tally.is_complete
    assert tally.missing("basic") == ["CI_STATS"]
    assert tally.latencies_ms(Category.REAL_TIME) == pytest.approx([10, 30, 20])


def test_an_event_that_comes_again_counts_once() -> None:
    event = event_of()
    tally = tally_of(event)
    assert tally.take(received("/none", event)) == []
    assert tally.take(received("/none", event)) == ["  = COURSE_ENROLLMENT at none again"]
    assert (tally.expected, tally.delivered) == (3, 1)


def test_what_is_wrong_is_said_at_once_and_not_verified() -> None:
    event = event_of()
    tally = tally_of(event)
    changed = event | {"eventInfo": "another"}
    assert tally.take(received("/none", changed)) == ["  ✗ COURSE_ENROLLMENT at none: not what was emitted"]
    assert tally.take(received("/basic", event, problem="wrong password")) == [
        "  ✗ COURSE_ENROLLMENT at basic: wrong password"
    ]
    (line,) = tally.take(received("/signature", event))
    assert line.split()[:8] == ["✗", "COURSE_ENROLLMENT", "none", "✗", "basic", "✗", "signature", "✓"]
    assert tally.is_complete
    assert not tally.agrees
    (line,) = tally.take(received("/none"))
    assert "a body without events" in line


def test_what_others_emit_or_send_is_shown_and_does_not_count() -> None:
    tally = tally_of()
    other = event_of()
    shown = [
        line for kind in ("none", "basic", "signature") for line in tally.take(received(f"/{kind}", other))
    ]
    assert len(shown) == 1
    assert tally.take(received("/mine", other)) == [
        "  ? a request to /mine, which no webhook of the demo has"
    ]
    assert (tally.expected, tally.delivered) == (0, 0)


def test_an_outage_that_changes_the_order_or_loses_an_event_is_seen() -> None:
    events = [event_of() for _ in range(3)]
    ids = [event["eventId"] for event in events]
    outage = Outage(ids, 1_796_000_000)
    (line,) = outage.take(received("/outage", events[0], refused=True))
    assert "responds 503" in line
    assert outage.delivered == []
    outage.take(received("/outage", events[0]))
    outage.take(received("/outage", *events[1:]))
    assert outage.is_over
    assert outage.summarize()
    outage.delivered.reverse()
    assert not outage.summarize()


class StackWithPending(Stack):
    """A stack whose webhook has this many events pending."""

    count = 39

    def call(self, method: str, path: str, *, token: str, body: object = None) -> Answer:
        assert (method, path, token, body) == ("GET", "/v1/webhooks/wh_1", "token", None)
        return Answer(200, {"pending": {"count": self.count}})


def test_a_receiver_comes_back_when_everything_is_pending() -> None:
    """Before that several dispatchers may each send an event at once, in any order."""
    stack, outage = StackWithPending(Path(), {}), Outage(["id"] * 40, 0, "wh_1")
    receiver = Receiver(lambda _: None)
    with receiver:
        receiver.down.add("/outage")
        end_outage_in_time(stack, "token", receiver, outage)
        assert receiver.down == {"/outage"}
        object.__setattr__(stack, "count", 40)
        end_outage_in_time(stack, "token", receiver, outage)
        assert receiver.down == set()
        # It is not asked again.
        end_outage_in_time(stack, "another token", receiver, outage)
