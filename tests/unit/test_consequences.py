"""What follows a response, for the dispatcher and for the drain run alike."""

from dataclasses import replace
from typing import Any

import pytest

from lms_webhooks.attempts import Attempt
from lms_webhooks.consequences import Consequence, Fate, follow
from lms_webhooks.delivery import Sent
from lms_webhooks.health import Health, Mode, SwitchOff
from lms_webhooks.sender import Answer
from lms_webhooks.wires import ErrorClass
from tests.unit.tables import DAY_MS, NOW_MS, event

FALLEN = Health(mode=Mode.BACKLOG, backlog_since_ms=NOW_MS - 1000, batch_size=10)


def sent(reply: int | ErrorClass, *, events: int = 1, retry_after: str = "") -> Sent:
    status_code = reply if isinstance(reply, int) else None
    error_class = reply if isinstance(reply, ErrorClass) else None
    answer = Answer(status_code, error_class, 20, retry_after)
    some = [event(f"e{number}") for number in range(events)]
    return Sent(some, 100 * events, answer, Attempt(NOW_MS, 20, status_code, error_class))


def after(reply: int | ErrorClass, health: Health = FALLEN, *, events: int = 1, **more: Any) -> Consequence:
    """What follows for the holder of the lease."""
    retry_after = more.pop("retry_after", "")
    options = {"disable_after_ms": 7 * DAY_MS, **more}
    return follow(
        health, sent(reply, events=events, retry_after=retry_after), now_ms=NOW_MS, jitter=0.5, **options
    )


@pytest.mark.parametrize(
    ("reply", "events", "fate", "delay"),
    [
        (200, 1, Fate.DELIVERED, None),
        (204, 10, Fate.DELIVERED, None),
        (422, 1, Fate.REJECTED, None),
        (422, 10, Fate.PENDING, None),
        (413, 10, Fate.PENDING, None),
        (413, 1, Fate.REJECTED, None),
        (503, 1, Fate.PENDING, 5.25),
        (301, 10, Fate.PENDING, 5.25),
        (ErrorClass.TIMEOUT, 10, Fate.PENDING, 5.25),
        (ErrorClass.DNS, 1, Fate.PENDING, 5.25),
        (410, 1, Fate.PENDING, 0),
    ],
)
@pytest.mark.parametrize("health", [Health(), FALLEN], ids=["direct", "backlog"])
@pytest.mark.parametrize("disable_after_ms", [None, DAY_MS], ids=["dispatcher", "drain-run"])
def test_a_response_means_the_same_for_events_whatever_sent_them(
    reply: int | ErrorClass,
    events: int,
    fate: Fate,
    delay: float | None,
    health: Health,
    disable_after_ms: int | None,
) -> None:
    then = after(reply, health, events=events, disable_after_ms=disable_after_ms)
    assert (then.fate, then.delay_seconds) == (fate, delay)


def test_a_410_disables_for_the_holder_of_the_lease_alone() -> None:
    """The dispatcher leaves direct mode, and the next probe is due at once."""
    gone = after(410)
    assert (gone.health.switched_off, gone.health.failures) == (SwitchOff.GONE, 0)
    told = after(410, Health(), disable_after_ms=None)
    assert (told.health.mode, told.health.switched_off) == (Mode.BACKLOG, None)
    assert (told.health.failures, told.health.next_attempt_at_ms) == (1, NOW_MS)


@pytest.mark.parametrize(("since_ms", "is_off"), [(DAY_MS - 1, False), (DAY_MS, True)])
@pytest.mark.parametrize("is_dispatcher", [False, True])
def test_an_endpoint_that_fails_for_long_is_disabled_by_the_holder_of_the_lease_alone(
    since_ms: int, *, is_off: bool, is_dispatcher: bool
) -> None:
    last = Attempt(NOW_MS - 1, 20, 500, None)
    failing = replace(FALLEN, failures=9, failing_since_ms=NOW_MS - since_ms, attempts=(last,))
    then = after(500, failing, disable_after_ms=None if is_dispatcher else DAY_MS)
    assert then.health.switched_off is (SwitchOff.FAILING if is_off and not is_dispatcher else None)


def test_the_tenth_rejection_in_a_row_is_the_endpoint_s_and_its_event_is_set_aside() -> None:
    then = after(422, replace(FALLEN, rejections=8))
    assert (then.fate, then.delay_seconds) == (Fate.REJECTED, None)
    then = after(422, then.health)
    assert (then.fate, then.delay_seconds) == (Fate.REJECTED, 5.25)
    assert (then.health.rejections, then.health.failures) == (10, 1)
    assert len(then.health.attempts) == 2, "one of each response"


def test_a_rejection_of_an_event_that_is_known_says_nothing_of_the_endpoint() -> None:
    then = after(422, replace(FALLEN, rejections=9), is_known=True)
    assert (then.fate, then.delay_seconds) == (Fate.REJECTED, None)
    assert (then.health.rejections, then.health.failures) == (9, 0)


@pytest.mark.parametrize(("reply", "delay"), [(503, 63), (429, 63), (500, 5.25)])
def test_a_receiver_says_when_it_may_be_tried_again(reply: int, delay: float) -> None:
    then = after(reply, retry_after="60")
    assert then.delay_seconds == delay
    assert then.health.next_attempt_at_ms == NOW_MS + int(delay * 1000)
