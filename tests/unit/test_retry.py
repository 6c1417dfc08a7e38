"""What follows an answer, row by row."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lms_webhooks.retry import (
    EVENT_DELAYS_SECONDS,
    MAX_WAIT_SECONDS,
    AnswerClass,
    classify,
    delay_seconds,
    event_delay_seconds,
    retry_after_seconds,
)

NOW_SECONDS = datetime(2026, 11, 3, 12, 0, tzinfo=UTC).timestamp()
ABOUT_THE_ENDPOINT = {401, 403, 404, 405, 407, 408, 421, 425, 429, 451}


def expected_class(status_code: int) -> AnswerClass:
    if 200 <= status_code < 300:
        return AnswerClass.DELIVERED
    if status_code == 410:
        return AnswerClass.GONE
    if 400 <= status_code < 500 and status_code not in ABOUT_THE_ENDPOINT:
        return AnswerClass.EVENT
    return AnswerClass.ENDPOINT


@pytest.mark.parametrize("status_code", range(100, 600))
def test_every_status_code_has_its_class(status_code: int) -> None:
    assert classify(status_code) is expected_class(status_code)


@pytest.mark.parametrize(
    ("status_code", "answer_class"),
    [
        (None, AnswerClass.ENDPOINT),
        (999, AnswerClass.ENDPOINT),
        (400, AnswerClass.EVENT),
        (409, AnswerClass.EVENT),
        (413, AnswerClass.EVENT),
        (422, AnswerClass.EVENT),
    ],
)
def test_no_answer_and_odd_ones_have_a_class_too(status_code: int | None, answer_class: AnswerClass) -> None:
    assert classify(status_code) is answer_class


def test_delays_double_from_5_seconds_to_5_minutes() -> None:
    delays = [delay_seconds(failures, jitter=0) for failures in range(1, 11)]
    assert delays == [5, 10, 20, 40, 80, 160, 300, 300, 300, 300]


@given(st.integers(1, 10**9), st.floats(0, 1, exclude_max=True), st.integers(0, MAX_WAIT_SECONDS))
def test_jitter_only_adds_and_retry_after_is_a_floor(failures: int, jitter: float, retry_after: int) -> None:
    plain = delay_seconds(failures, jitter=0, retry_after_seconds=retry_after)
    jittered = delay_seconds(failures, jitter=jitter, retry_after_seconds=retry_after)
    assert plain <= jittered <= min(plain * 1.1, MAX_WAIT_SECONDS)
    assert jittered >= retry_after


def test_retry_after_is_clamped_with_its_jitter() -> None:
    assert delay_seconds(1, jitter=0.99, retry_after_seconds=900) == 900


def http_date(seconds_ahead: float) -> str:
    moment = datetime.fromtimestamp(NOW_SECONDS, UTC) + timedelta(seconds=seconds_ahead)
    return format_datetime(moment, usegmt=True)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        (" 120 ", 120),
        ("0", 0),
        ("86400", 900),
        ("9" * 65_536, 900),
        (http_date(90), 90),
        (http_date(-90), 0),
        (http_date(86_400), 900),
        ("Tue, 03 Nov 2026 12:01:30", 90),
        ("", 0),
        ("-5", 0),
        ("1.5", 0),
        ("soon", 0),
        ("٣", 0),
        ("Mon, 99 Nov 2026 12:00:00 GMT", 0),
        ("\x00", 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str, seconds: int) -> None:
    for status_code in (429, 503):
        got = retry_after_seconds(header, status_code=status_code, now_seconds=NOW_SECONDS)
        assert got == seconds


@pytest.mark.parametrize("status_code", [200, 301, 400, 404, 500, 502, None])
def test_retry_after_means_nothing_elsewhere(status_code: int | None) -> None:
    assert retry_after_seconds("120", status_code=status_code, now_seconds=NOW_SECONDS) == 0


@given(st.text(max_size=200))
def test_no_header_is_too_odd_for_it(header: str) -> None:
    got = retry_after_seconds(header, status_code=503, now_seconds=NOW_SECONDS)
    assert 0 <= got <= MAX_WAIT_SECONDS


def test_a_rejected_event_is_tried_seven_times_more_and_within_seven_days() -> None:
    minute, hour, day = 60, 3600, 86_400
    delays = [event_delay_seconds(tries) for tries in range(1, 9)]
    assert delays == [minute, 10 * minute, hour, 6 * hour, day, 2 * day, 3 * day, None]
    assert sum(EVENT_DELAYS_SECONDS) < 7 * day
