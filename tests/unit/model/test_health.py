"""How an endpoint does follows from what it responded, and from nothing else."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lms_webhooks.model import health as endpoint
from lms_webhooks.model.attempts import Attempt
from lms_webhooks.model.health import (
    FAILURE_GAP_MS,
    MAX_STAY_SECONDS,
    MAX_SUSPECTS,
    MIN_STAY_SECONDS,
    DisabledReason,
    Health,
    Mode,
)

NOW_MS = 1_793_707_200_000
MINUTE_MS = 60_000


def attempt(status_code: int | None = 200, *, latency_ms: int = 80, at_ms: int = NOW_MS) -> Attempt:
    return Attempt(at_ms, latency_ms, status_code, None if status_code else "timeout")


def fallen(**changes: object) -> Health:
    return replace(endpoint.enter_backlog_mode(Health(), now_ms=NOW_MS), **changes)  # type: ignore[arg-type]


def test_the_first_failure_ends_direct_mode() -> None:
    got = endpoint.after_failure(Health(), attempt(503), now_ms=NOW_MS, delay_seconds=5.4)
    assert (got.mode, got.failures, got.request_size) == (Mode.BACKLOG, 1, 1)
    assert (got.failing_since_ms, got.next_attempt_at_ms) == (NOW_MS, NOW_MS + 5400)
    assert (got.last_error, got.attempts) == ("HTTP 503", (attempt(503),))


def test_failures_are_counted_from_the_first() -> None:
    got = Health()
    for minute in range(3):
        at_ms = NOW_MS + minute * MINUTE_MS
        got = endpoint.after_failure(got, attempt(None, at_ms=at_ms), now_ms=at_ms, delay_seconds=5)
    assert (got.failures, got.failing_since_ms, got.last_error) == (3, NOW_MS, "timeout")


def test_a_failure_after_a_long_silence_is_a_new_one() -> None:
    """What was to be sent expired, or its replay was cancelled: for days there was nothing to try with."""
    failing = endpoint.after_failure(Health(), attempt(500), now_ms=NOW_MS, delay_seconds=5)
    for gap_ms, since_ms in ((FAILURE_GAP_MS, NOW_MS), (FAILURE_GAP_MS + 1, NOW_MS + FAILURE_GAP_MS + 1)):
        at_ms = NOW_MS + gap_ms
        again = endpoint.after_failure(failing, attempt(500, at_ms=at_ms), now_ms=at_ms, delay_seconds=5)
        assert again.failing_since_ms == since_ms


def test_the_probe_after_a_failure_is_one_event_however_large_the_batch_was() -> None:
    got = endpoint.after_failure(fallen(request_size=64), attempt(502), now_ms=NOW_MS, delay_seconds=5)
    assert got.request_size == 1


def test_a_time_out_during_an_outage_says_nothing_of_batches() -> None:
    failing = endpoint.after_failure(fallen(failures=1), attempt(None), now_ms=NOW_MS, delay_seconds=5)
    assert endpoint.with_lower_size_ceiling(failing, 64) == failing


def test_a_success_ends_the_count_but_not_backlog_mode() -> None:
    failed = endpoint.after_failure(Health(), attempt(500), now_ms=NOW_MS, delay_seconds=5)
    got = endpoint.after_success(failed, attempt(), sent_events=1)
    assert (got.mode, got.failures, got.failing_since_ms, got.next_attempt_at_ms) == (Mode.BACKLOG, 0, 0, 0)
    assert got.request_size == 2


def test_only_the_last_twenty_attempts_are_kept_whatever_came_of_them() -> None:
    got = Health()
    for number in range(0, 30, 3):
        got = endpoint.after_success(got, attempt(at_ms=number), sent_events=1)
        got = endpoint.after_rejection(got, attempt(400, at_ms=number + 1))
        got = endpoint.after_failure(got, attempt(500, at_ms=number + 2), now_ms=NOW_MS, delay_seconds=5)
    assert [each.started_at_ms for each in got.attempts] == list(range(10, 30))


def test_a_batch_grows_while_it_is_taken() -> None:
    got, sizes = fallen(), []
    for _ in range(9):
        sizes.append(got.request_size)
        got = endpoint.after_success(got, attempt(), sent_events=got.request_size)
    assert sizes == [1, 2, 4, 8, 16, 32, 64, 100, 100]


def test_a_short_lane_does_not_shrink_the_batch() -> None:
    assert endpoint.after_success(fallen(request_size=64), attempt(), sent_events=3).request_size == 64


def test_one_event_that_timed_out_says_nothing_of_batches() -> None:
    assert endpoint.with_lower_size_ceiling(fallen(), 1) == fallen()


def catch_up(
    health: Health, answers: Callable[[int, int], bool], *, requests: int
) -> tuple[Health, list[int]]:
    """Make so many requests, each as large as it may be. The endpoint responds in time or not: by the number
    of the request, and of its events.

    Returns:
        What is known then, and the size of each request.
    """
    sizes = []
    for number in range(requests):
        sent = 1 if health.failures else health.request_size
        sizes.append(sent)
        if answers(number, sent):
            health = endpoint.after_success(health, attempt(), sent_events=sent)
        else:
            health = endpoint.after_failure(health, attempt(None), now_ms=NOW_MS, delay_seconds=5)
            health = endpoint.with_lower_size_ceiling(health, sent)
    return health, sizes


def test_after_a_time_out_a_batch_is_half_as_large_until_several_were_answered_in_time() -> None:
    _, sizes = catch_up(fallen(request_size=100, ceiling_left=1), lambda number, _: number > 0, requests=14)
    assert sizes == [100, 1, 2, 4, 8, 16, 32, 50, 50, 50, 50, 100, 100, 100]


def test_a_size_that_always_times_out_is_tried_less_and_less_often() -> None:
    """An endpoint that needs 60 ms an event takes 83 within its 5 s."""
    _, sizes = catch_up(fallen(), lambda _, sent: sent <= 83, requests=400)
    trials = [number for number, sent in enumerate(sizes) if sent == 100]
    between = [later - earlier for earlier, later in pairwise(trials)]
    ramp = [1, 2, 4, 8, 16, 32]
    assert between == [len(ramp) + 1 + trial for trial in (8, 16, 32, 64, 64, 64, 64)]
    assert sum(sizes) / len(sizes) > 40, "and the rest are nearly as large as they may be"


def test_a_larger_size_that_was_answered_once_is_no_limit_of_the_endpoint() -> None:
    """After time-outs that had nothing to do with size a batch is large again after a few requests."""
    got = fallen(request_size_ceiling=50, request_size=50, ceiling_left=1, ceiling_trials=64)
    got = endpoint.after_success(got, attempt(), sent_events=50)
    assert (got.request_size_ceiling, got.ceiling_left, got.ceiling_trials) == (100, 0, 64), "a trial"
    got = endpoint.after_success(got, attempt(), sent_events=100)
    assert (got.ceiling_left, got.ceiling_trials) == (4, 4)
    got = endpoint.with_lower_size_ceiling(got, 100)
    assert (got.request_size_ceiling, got.ceiling_left, got.ceiling_trials) == (50, 4, 4)


def test_one_request_in_forty_that_hangs_costs_few_more_requests() -> None:
    """20,000 events take 200 requests at best."""
    left, requests, health = 20_000, 0, fallen()
    while left:
        health, (sent,) = catch_up(health, lambda _, __: requests % 40 != 39, requests=1)  # noqa: B023
        requests += 1
        left -= min(sent, left) if not health.failures else 0
    assert 200 < requests <= 300


def test_a_short_lane_says_nothing_of_the_ceiling() -> None:
    got = fallen(request_size_ceiling=50, request_size=50, ceiling_left=4)
    assert endpoint.after_success(got, attempt(), sent_events=49).ceiling_left == 4


def test_an_outage_is_not_followed_by_tiny_batches() -> None:
    """It hung in the midst of draining, for hours. That its probes took too long says nothing of their size:
    back again, it catches up in large requests."""
    _, sizes = catch_up(fallen(request_size=100), lambda number, _: number > 12, requests=22)
    assert sizes == [100, *[1] * 13, 2, 4, 8, 16, 32, 50, 50, 50]


def test_a_request_that_is_too_large_is_followed_by_one_of_half_its_bytes_for_a_day() -> None:
    got = endpoint.with_smaller_bodies(fallen(request_size=100), 60_001, now_ms=NOW_MS)
    day_ms = 24 * 60 * MINUTE_MS
    assert (got.request_size, got.request_size_ceiling) == (100, 100)
    assert endpoint.max_body_bytes(got, most_bytes=262_144, now_ms=NOW_MS + day_ms - 1) == 30_000
    assert endpoint.max_body_bytes(got, most_bytes=20_000, now_ms=NOW_MS + day_ms - 1) == 20_000
    assert endpoint.max_body_bytes(got, most_bytes=262_144, now_ms=NOW_MS + day_ms) == 262_144
    again = endpoint.with_smaller_bodies(got, 30_000, now_ms=NOW_MS + MINUTE_MS)
    assert (again.max_bytes, again.max_bytes_until_ms) == (15_000, NOW_MS + MINUTE_MS + day_ms)


@pytest.mark.parametrize(("sent", "next_size"), [(100, 50), (3, 1), (2, 1), (1, 1)])
def test_a_refused_batch_is_halved_until_the_culprit_is_alone(sent: int, next_size: int) -> None:
    got = endpoint.with_smaller_requests(fallen(request_size=100), sent)
    assert (got.request_size, got.request_size_ceiling) == (next_size, 100)


def test_rejections_are_counted_until_a_success_and_sent_alone() -> None:
    got = fallen(request_size=8)
    for _ in range(3):
        got = endpoint.after_rejection(got, attempt(422))
    assert (got.rejections, got.request_size, got.failures) == (3, 1, 0)
    assert endpoint.after_success(got, attempt(), sent_events=1).rejections == 0


STEPS = ["success", "smaller", "ceiling", "timeout", "failure", "rejection", "day", "direct", "fall", "gone"]


@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(1, 100)), max_size=80))
def test_a_batch_is_always_between_1_and_100(steps: list[tuple[str, int]]) -> None:
    """Whatever the sequence, and however few of the batch there were to send."""
    got, now_ms = fallen(), NOW_MS
    for step, waiting in steps:
        sent = min(got.request_size, waiting)
        match step:
            case "success":
                got = endpoint.after_success(got, attempt(), sent_events=sent)
            case "smaller":
                got = endpoint.with_smaller_requests(got, sent)
            case "ceiling":
                got = endpoint.with_lower_size_ceiling(got, sent)
            case "timeout":
                got = endpoint.after_failure(got, attempt(None), now_ms=now_ms, delay_seconds=5)
                got = endpoint.with_lower_size_ceiling(got, sent)
            case "failure":
                got = endpoint.after_failure(got, attempt(500), now_ms=now_ms, delay_seconds=5)
            case "rejection":
                got = endpoint.after_rejection(got, attempt(400))
            case "day":
                now_ms += 24 * 60 * MINUTE_MS
            case "direct":
                got = endpoint.enter_direct_mode(got, now_ms=now_ms)
            case "fall":
                got = endpoint.enter_backlog_mode(got, now_ms=now_ms)
            case "gone":
                got = endpoint.after_gone(got, attempt(410), now_ms=now_ms)
        assert 1 <= got.request_size <= got.request_size_ceiling <= 100
        assert len(got.attempts) <= 20
        assert MIN_STAY_SECONDS <= got.min_stay_seconds <= MAX_STAY_SECONDS


def test_who_flaps_stays_longer_each_time_up_to_a_quarter_of_an_hour() -> None:
    got, stays, now_ms = Health(), [], NOW_MS
    for _ in range(6):
        got = endpoint.enter_backlog_mode(got, now_ms=now_ms)
        stays.append(got.min_stay_seconds)
        now_ms += got.min_stay_seconds * 1000
        got = endpoint.enter_direct_mode(got, now_ms=now_ms)
        now_ms += MINUTE_MS
    assert stays == [60, 120, 240, 480, 900, 900]


def test_a_minute_is_enough_for_who_never_fell_before() -> None:
    got = endpoint.enter_backlog_mode(Health(min_stay_seconds=60), now_ms=NOW_MS)
    assert (got.min_stay_seconds, got.backlog_since_ms, got.next_attempt_at_ms) == (60, NOW_MS, NOW_MS)


@pytest.mark.parametrize(("minutes", "stay_seconds"), [(0, 240), (14.99, 240), (15, 60)])
def test_who_falls_within_a_quarter_of_an_hour_flaps(minutes: float, stay_seconds: int) -> None:
    got = endpoint.enter_direct_mode(fallen(min_stay_seconds=120), now_ms=NOW_MS)
    got = endpoint.enter_backlog_mode(got, now_ms=NOW_MS + int(minutes * MINUTE_MS))
    assert got.min_stay_seconds == stay_seconds


def test_who_is_back_in_direct_mode_is_as_before_but_for_what_it_learnt() -> None:
    got = endpoint.enter_direct_mode(
        fallen(request_size=32, attempts=(attempt(),)), now_ms=NOW_MS + MINUTE_MS
    )
    assert (got.mode, got.backlog_since_ms, got.recovered_at_ms) == (Mode.DIRECT, 0, NOW_MS + MINUTE_MS)
    assert got.attempts == (attempt(),)
    assert endpoint.enter_backlog_mode(got, now_ms=NOW_MS + 2 * MINUTE_MS).request_size == 1, (
        "the first probe is of one"
    )


def test_who_was_well_for_a_while_begins_with_a_minute_again() -> None:
    got = endpoint.enter_direct_mode(fallen(min_stay_seconds=480), now_ms=NOW_MS)
    got = endpoint.enter_backlog_mode(got, now_ms=NOW_MS + 15 * MINUTE_MS)
    assert got.min_stay_seconds == 60


def test_falling_back_twice_is_falling_back_once() -> None:
    assert endpoint.enter_backlog_mode(fallen(), now_ms=NOW_MS + MINUTE_MS) == fallen()


@pytest.mark.parametrize(
    ("story", "health", "minutes", "is_ready"),
    [
        ("nothing was sent, the minute is over", fallen(), 1, True),
        ("the minute is not over", fallen(), 0.99, False),
        ("it flapped, and must stay longer", fallen(min_stay_seconds=120), 1, False),
        ("it still fails", fallen(failures=1), 1, False),
        ("it is in direct mode already", Health(), 1, False),
        ("it answers quickly", fallen(attempts=(attempt(latency_ms=80),)), 1, True),
        (
            "it answers just not well under the threshold",
            fallen(attempts=(attempt(latency_ms=750),)),
            1,
            False,
        ),
        ("it answers just well under it", fallen(attempts=(attempt(latency_ms=749),)), 1, True),
        ("its answers are no successes", fallen(attempts=(attempt(302, latency_ms=80),)), 1, True),
        ("none of its probes was answered", fallen(attempts=(attempt(None),), failures=1), 9, False),
        ("a new epoch: nothing is known", Health(epoch=2, mode=Mode.BACKLOG), 0, True),
        ("it answers slowly", fallen(attempts=(attempt(latency_ms=900),)), 1, False),
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
    assert endpoint.is_ready_for_direct(health, is_empty=True, now_ms=now_ms) is is_ready, story
    assert not endpoint.is_ready_for_direct(health, is_empty=False, now_ms=now_ms)
    nearly_empty = replace(health, nearly_empty_since_ms=1)
    assert endpoint.is_ready_for_direct(nearly_empty, is_empty=False, now_ms=now_ms) is is_ready, story


@pytest.mark.parametrize(
    ("since_ms", "is_ready"), [(0, False), (NOW_MS, True), (NOW_MS + 1, False), (NOW_MS - MINUTE_MS, True)]
)
def test_a_real_time_lane_that_is_nearly_empty_must_be_so_for_as_long_as_the_stay(
    since_ms: int, *, is_ready: bool
) -> None:
    health = fallen(nearly_empty_since_ms=since_ms)
    got = endpoint.is_ready_for_direct(health, is_empty=False, now_ms=NOW_MS + MINUTE_MS)
    assert got is is_ready


def test_a_lane_is_nearly_empty_from_the_first_look_that_found_it_so_until_one_did_not() -> None:
    got = endpoint.after_lane_read(fallen(), is_nearly_empty=True, now_ms=NOW_MS)
    got = endpoint.after_lane_read(got, is_nearly_empty=True, now_ms=NOW_MS + 1)
    assert got.nearly_empty_since_ms == NOW_MS
    assert endpoint.after_lane_read(got, is_nearly_empty=False, now_ms=NOW_MS).nearly_empty_since_ms == 0
    failed = endpoint.after_failure(got, attempt(500), now_ms=NOW_MS, delay_seconds=5)
    assert failed.nearly_empty_since_ms == 0
    assert endpoint.enter_direct_mode(got, now_ms=NOW_MS).nearly_empty_since_ms == 0


def test_an_event_that_failed_alone_is_counted_and_the_first_of_several_are_not() -> None:
    got = endpoint.with_suspects(fallen(), [f"e{number}" for number in range(9)])
    assert got.suspects == {f"e{number}": 0 for number in range(5)}
    got = endpoint.with_suspects(endpoint.with_suspects(got, ["e1"]), ["e1"])
    assert got.suspects["e1"] == 2
    assert endpoint.with_suspects(got, ["e0", "e1"]).suspects["e1"] == 2
    assert endpoint.without_suspects(got, ["e1", "e7"]).suspects.keys() == {"e0", "e2", "e3", "e4"}
    got = endpoint.with_suspects(got, [f"f{number}" for number in range(9)])
    got = endpoint.with_suspects(got, ["g"])
    assert len(got.suspects) == MAX_SUSPECTS
    assert (got.suspects["e1"], got.suspects["g"]) == (2, 1), "those that failed alone stay"
    for number in range(MAX_SUSPECTS):
        got = endpoint.with_suspects(endpoint.with_suspects(got, [f"h{number}"]), [f"h{number}"])
    assert endpoint.with_suspects(got, ["i"]).suspects["i"] == 1, "and the one that failed last"


def test_a_receiver_that_is_gone_switches_its_webhook_off() -> None:
    got = endpoint.after_gone(Health(), attempt(410), now_ms=NOW_MS)
    assert (got.disabled_reason, got.disabled_at_ms, got.mode) == (DisabledReason.GONE, NOW_MS, Mode.BACKLOG)
    assert got.last_error == "HTTP 410"
    assert got.attempts == (attempt(410),)


def test_who_fails_for_as_long_as_events_are_kept_is_switched_off_and_stays_as_it_was() -> None:
    failing = fallen(failures=2016, failing_since_ms=NOW_MS, last_error="HTTP 503")
    got = endpoint.disable(failing, DisabledReason.FAILING, now_ms=NOW_MS + 7)
    assert got == replace(failing, disabled_reason=DisabledReason.FAILING, disabled_at_ms=NOW_MS + 7)


def test_failing_began_with_the_first_attempt_that_failed_not_when_it_was_given_up() -> None:
    slow = attempt(None, latency_ms=5000, at_ms=NOW_MS - 5000)
    got = endpoint.after_failure(Health(), slow, now_ms=NOW_MS, delay_seconds=5)
    assert (got.failing_since_ms, got.backlog_since_ms) == (NOW_MS - 5000, NOW_MS)


def test_a_failure_whose_end_could_not_be_told_goes_on_with_its_error() -> None:
    """The next drain run then finds the same end again; and one that goes on has the newer error."""
    failing = endpoint.after_failure(Health(), attempt(503), now_ms=NOW_MS, delay_seconds=5)
    ended = endpoint.after_success(failing, attempt(), sent_events=1)
    kept = endpoint.without_unnotified_transition(failing, ended)
    assert (kept.failing_since_ms, kept.last_error, kept.failures) == (NOW_MS, "HTTP 503", 0)
    began = endpoint.without_unnotified_transition(Health(), failing)
    assert (began.failing_since_ms, began.last_error) == (NOW_MS, "HTTP 503")


def test_half_an_hour_is_the_longest_that_a_failure_goes_on_unseen() -> None:
    assert FAILURE_GAP_MS == 30 * MINUTE_MS


@pytest.mark.parametrize(("failures", "since_ms", "error"), [(0, 0, ""), (1, NOW_MS, "HTTP 503")])
def test_a_failure_that_ended_is_forgotten_and_one_that_goes_on_is_not(
    failures: int, since_ms: int, error: str
) -> None:
    health = fallen(failures=failures, failing_since_ms=NOW_MS, last_error="HTTP 503")
    got = endpoint.clear_ended_failure(health)
    assert (got.failing_since_ms, got.last_error, got.failures) == (since_ms, error, failures)
