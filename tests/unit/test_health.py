"""How an endpoint does follows from what it answered, and from nothing else."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lms_webhooks import health as endpoint
from lms_webhooks.attempts import Attempt
from lms_webhooks.health import Health, Mode, SwitchOff

NOW_MS = 1_793_707_200_000
MINUTE_MS = 60_000


def attempt(status_code: int | None = 200, *, latency_ms: int = 80, at_ms: int = NOW_MS) -> Attempt:
    return Attempt(at_ms, latency_ms, status_code, None if status_code else "timeout")


def fallen(**changes: object) -> Health:
    return replace(endpoint.fall_back(Health(), now_ms=NOW_MS), **changes)  # type: ignore[arg-type]


def test_the_first_failure_ends_direct_mode() -> None:
    got = endpoint.after_failure(Health(), attempt(503), now_ms=NOW_MS, delay_seconds=5.4)
    assert (got.mode, got.failures, got.batch_size) == (Mode.BACKLOG, 1, 1)
    assert (got.failing_since_ms, got.next_attempt_at_ms) == (NOW_MS, NOW_MS + 5400)
    assert (got.last_error, got.attempts) == ("HTTP 503", (attempt(503),))


def test_failures_are_counted_from_the_first() -> None:
    got = Health()
    for minute in range(3):
        at_ms = NOW_MS + minute * MINUTE_MS
        got = endpoint.after_failure(got, attempt(None, at_ms=at_ms), now_ms=at_ms, delay_seconds=5)
    assert (got.failures, got.failing_since_ms, got.last_error) == (3, NOW_MS, "timeout")


def test_a_success_ends_the_count_but_not_backlog_mode() -> None:
    failed = endpoint.after_failure(Health(), attempt(500), now_ms=NOW_MS, delay_seconds=5)
    got = endpoint.after_success(failed, attempt(), sent_events=1)
    assert (got.mode, got.failures, got.failing_since_ms, got.next_attempt_at_ms) == (Mode.BACKLOG, 0, 0, 0)
    assert got.batch_size == 2


def test_only_the_last_twenty_attempts_are_kept() -> None:
    got = Health()
    for number in range(30):
        got = endpoint.after_success(got, attempt(at_ms=number), sent_events=1)
    assert [each.started_at_ms for each in got.attempts] == list(range(10, 30))


def test_a_batch_grows_while_it_is_taken() -> None:
    got, sizes = fallen(), []
    for _ in range(9):
        sizes.append(got.batch_size)
        got = endpoint.after_success(got, attempt(), sent_events=got.batch_size)
    assert sizes == [1, 2, 4, 8, 16, 32, 64, 100, 100]


def test_a_short_lane_does_not_shrink_the_batch() -> None:
    assert endpoint.after_success(fallen(batch_size=64), attempt(), sent_events=3).batch_size == 64


def test_a_batch_that_was_too_much_is_not_tried_again_for_a_day() -> None:
    got = endpoint.with_lower_ceiling(fallen(batch_size=100), 100, now_ms=NOW_MS)
    assert (got.batch_size, got.batch_ceiling) == (50, 50)
    got = endpoint.after_success(got, attempt(), sent_events=50)
    assert got.batch_size == 50
    day_ms = 24 * 60 * MINUTE_MS
    assert endpoint.without_old_ceiling(got, now_ms=NOW_MS + day_ms - 1).batch_ceiling == 50
    assert endpoint.without_old_ceiling(got, now_ms=NOW_MS + day_ms).batch_ceiling == 100


def test_one_event_that_timed_out_says_nothing_of_batches() -> None:
    assert endpoint.with_lower_ceiling(fallen(), 1, now_ms=NOW_MS) == fallen()


@given(st.lists(st.sampled_from(["success", "smaller", "ceiling", "failure", "rejection"]), max_size=60))
def test_a_batch_is_always_between_1_and_100(steps: list[str]) -> None:
    got = fallen()
    for step in steps:
        sent = got.batch_size
        match step:
            case "success":
                got = endpoint.after_success(got, attempt(), sent_events=sent)
            case "smaller":
                got = endpoint.with_smaller_batch(got, sent)
            case "ceiling":
                got = endpoint.with_lower_ceiling(got, sent, now_ms=NOW_MS)
            case "failure":
                got = endpoint.after_failure(got, attempt(500), now_ms=NOW_MS, delay_seconds=5)
            case "rejection":
                got = endpoint.after_rejection(got, attempt(400))
        assert 1 <= got.batch_size <= got.batch_ceiling <= 100


def test_who_flaps_stays_longer_each_time_up_to_a_quarter_of_an_hour() -> None:
    got, stays, now_ms = Health(), [], NOW_MS
    for _ in range(6):
        got = endpoint.fall_back(got, now_ms=now_ms)
        stays.append(got.min_stay_seconds)
        now_ms += got.min_stay_seconds * 1000
        got = endpoint.back_to_direct(got, now_ms=now_ms)
        now_ms += MINUTE_MS
    assert stays == [60, 120, 240, 480, 900, 900]


def test_who_was_well_for_a_while_begins_with_a_minute_again() -> None:
    got = endpoint.back_to_direct(fallen(min_stay_seconds=480), now_ms=NOW_MS)
    got = endpoint.fall_back(got, now_ms=NOW_MS + 15 * MINUTE_MS)
    assert got.min_stay_seconds == 60


def test_falling_back_twice_is_falling_back_once() -> None:
    assert endpoint.fall_back(fallen(), now_ms=NOW_MS + MINUTE_MS) == fallen()


@pytest.mark.parametrize(
    ("story", "health", "minutes", "is_ready"),
    [
        ("nothing was sent, the minute is over", fallen(), 1, True),
        ("the minute is not over", fallen(), 0.99, False),
        ("it flapped, and must stay longer", fallen(min_stay_seconds=120), 1, False),
        ("it still fails", fallen(failures=1), 1, False),
        ("it is in direct mode already", Health(), 1, False),
        ("it answers quickly", fallen(attempts=(attempt(latency_ms=80),)), 1, True),
        ("it answers slowly", fallen(attempts=(attempt(latency_ms=700),)), 1, False),
        (
            "a batch took long, one event did not",
            fallen(attempts=(attempt(latency_ms=80), attempt(latency_ms=4000))),
            1,
            True,
        ),
        (
            "it was quick before it fell back, and is slow since",
            fallen(attempts=(attempt(latency_ms=80, at_ms=NOW_MS - 1), attempt(latency_ms=900))),
            1,
            False,
        ),
        (
            "its quick answers were failures",
            fallen(attempts=(attempt(500), attempt(latency_ms=900))),
            1,
            False,
        ),
    ],
)
def test_when_a_webhook_may_get_its_events_directly_again(
    story: str, health: Health, minutes: float, is_ready: bool
) -> None:
    now_ms = NOW_MS + int(minutes * MINUTE_MS)
    assert endpoint.is_ready_for_direct(health, now_ms=now_ms) is is_ready, story


def test_a_receiver_that_is_gone_switches_its_webhook_off() -> None:
    got = endpoint.after_gone(Health(), attempt(410), now_ms=NOW_MS)
    assert (got.switched_off, got.switched_off_at_ms, got.mode) == (SwitchOff.GONE, NOW_MS, Mode.BACKLOG)
    assert got.last_error == "HTTP 410"
