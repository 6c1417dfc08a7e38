"""What follows a response, for the dispatcher and for the drain run alike."""

from dataclasses import replace
from typing import Any

import pytest

from lms_webhooks.model.attempts import Attempt, ErrorClass
from lms_webhooks.model.consequences import Consequence, Fate, decide, is_suspect_when_retried, set_aside
from lms_webhooks.model.health import DisabledReason, Health, Mode
from lms_webhooks.model.lanes import PendingEvent
from tests.unit.tables import DAY_MS, NOW_MS, event

FALLEN = Health(mode=Mode.BACKLOG, backlog_since_ms=NOW_MS - 1000, request_size=10)


def after(
    reply: int | ErrorClass,
    health: Health = FALLEN,
    *,
    events: int = 1,
    retry_after: str = "",
    disable_after_ms: int | None = 7 * DAY_MS,
    **more: Any,
) -> Consequence:
    """Decide for the holder of the lease."""
    status_code = reply if isinstance(reply, int) else None
    error_class = reply if isinstance(reply, ErrorClass) else None
    return decide(
        health,
        Attempt(NOW_MS, 20, status_code, error_class),
        [event(f"e{number}").sort_key for number in range(events)],
        body_bytes=100 * events,
        retry_after=retry_after,
        now_ms=NOW_MS,
        jitter=0.5,
        disable_after_ms=disable_after_ms,
        **more,
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
    assert (gone.health.disabled_reason, gone.health.failures) == (DisabledReason.GONE, 0)
    told = after(410, Health(), disable_after_ms=None)
    assert (told.health.mode, told.health.disabled_reason) == (Mode.BACKLOG, None)
    assert (told.health.failures, told.health.next_attempt_at_ms) == (1, NOW_MS)


@pytest.mark.parametrize(("since_ms", "is_off"), [(DAY_MS - 1, False), (DAY_MS, True)])
@pytest.mark.parametrize("is_dispatcher", [False, True])
def test_an_endpoint_that_fails_for_long_is_disabled_by_the_holder_of_the_lease_alone(
    since_ms: int, *, is_off: bool, is_dispatcher: bool
) -> None:
    last = Attempt(NOW_MS - 1, 20, 500, None)
    failing = replace(FALLEN, failures=9, failing_since_ms=NOW_MS - since_ms, attempts=(last,))
    then = after(500, failing, disable_after_ms=None if is_dispatcher else DAY_MS)
    assert then.health.disabled_reason is (DisabledReason.FAILING if is_off and not is_dispatcher else None)


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


E0 = event("e0").sort_key
REACHED = [500, 301, 401, 503, ErrorClass.TIMEOUT, ErrorClass.CONNECTION_LOST, ErrorClass.INVALID_RESPONSE]
NOT_REACHED = [ErrorClass.DNS, ErrorClass.CONNECT, ErrorClass.TLS, ErrorClass.FORBIDDEN_ADDRESS, 429]


@pytest.mark.parametrize("reply", REACHED)
def test_an_event_whose_request_reached_the_endpoint_and_failed_is_a_suspect(reply: Any) -> None:
    assert after(reply).health.suspects == {E0: 1}
    assert after(reply, after(reply).health).health.suspects == {E0: 2}
    assert after(200, after(reply).health).health.suspects == {}
    assert after(422, after(reply).health).health.suspects == {}


@pytest.mark.parametrize("reply", [*NOT_REACHED, 200, 410, 422])
def test_otherwise_it_is_none(reply: Any) -> None:
    assert after(reply).health.suspects == {}


def test_of_several_the_first_five_are_suspects_unless_they_timed_out() -> None:
    assert list(after(500, events=9).health.suspects.values()) == [0] * 5
    timed_out = after(ErrorClass.TIMEOUT, events=9).health
    assert (timed_out.suspects, timed_out.request_size_ceiling) == ({}, 4)


@pytest.mark.parametrize("reply", REACHED)
def test_a_suspect_that_fails_while_the_endpoint_answers_is_rejected(reply: Any) -> None:
    """Since it failed, another event got through."""
    then = after(reply, replace(FALLEN, suspects={E0: 3, "other": 1}))
    assert (then.fate, then.delay_seconds) == (Fate.REJECTED, None)
    assert (then.health.failures, then.health.rejections, then.health.suspects) == (0, 1, {"other": 1})
    assert then.health.attempts[-1].started_at_ms == NOW_MS


@pytest.mark.parametrize(
    ("story", "reply", "more", "events"),
    [
        ("the endpoint fails", 500, {"failures": 1}, 1),
        ("it is not alone", 500, {}, 2),
        ("its request never arrived", ErrorClass.CONNECT, {}, 1),
        ("the endpoint has too much to do", 429, {}, 1),
    ],
)
def test_a_suspect_is_not_rejected_where_it_may_be_the_endpoint(
    story: str, reply: Any, more: dict[str, Any], events: int
) -> None:
    then = after(reply, replace(FALLEN, suspects={E0: 3}, **more), events=events)
    assert (then.fate, then.health.failures) == (Fate.PENDING, 1 + more.get("failures", 0)), story


def test_a_suspect_that_answers_410_disables_all_the_same() -> None:
    then = after(410, replace(FALLEN, suspects={E0: 3}))
    assert then.health.disabled_reason is DisabledReason.GONE


@pytest.mark.parametrize(
    ("last", "is_suspect"), [(500, True), (None, True), (401, True), (422, False), (400, False)]
)
def test_an_event_of_the_retry_lane_says_by_its_last_attempt_why_it_is_there(
    last: int | None, *, is_suspect: bool
) -> None:
    attempts = (Attempt(NOW_MS, 20, 422, None), Attempt(NOW_MS, 20, last, None if last else "timeout"))
    assert is_suspect_when_retried(PendingEvent(event("e0"), attempts=attempts)) is is_suspect
    assert not is_suspect_when_retried(PendingEvent(event("e0")))


def test_an_event_that_is_set_aside_keeps_its_attempts_and_waits_longer_each_time() -> None:
    attempt = Attempt(NOW_MS, 20, 500, None)
    later, is_tried_again = set_aside(PendingEvent(event("e0")), attempt, now_ms=NOW_MS)
    assert (later.tries, later.due_at_ms, later.attempts) == (1, NOW_MS + 60_000, (attempt,))
    later, _ = set_aside(later, attempt, now_ms=NOW_MS)
    assert (later.tries, later.due_at_ms, later.attempts) == (2, NOW_MS + 600_000, (attempt, attempt))
    ended, is_tried_at_last = set_aside(replace(later, tries=7), attempt, now_ms=NOW_MS)
    assert (is_tried_again, is_tried_at_last, ended.tries) == (True, False, 8)


@pytest.mark.parametrize(("reply", "delay"), [(503, 63), (429, 63), (500, 5.25)])
def test_a_receiver_says_when_it_may_be_tried_again(reply: int, delay: float) -> None:
    then = after(reply, retry_after="60")
    assert then.delay_seconds == delay
    assert then.health.next_attempt_at_ms == NOW_MS + int(delay * 1000)
