"""What follows a response, row by row."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lms_webhooks.model.attempts import ResponseClass, classify
from lms_webhooks.model.retry import (
    MAX_PROBE_DELAY_SECONDS,
    REJECTION_DELAYS_SECONDS,
    backoff_seconds,
    rejection_delay_seconds,
    retry_after_seconds,
)

NOW_SECONDS = datetime(2026, 11, 3, 12, 0, tzinfo=UTC).timestamp()
DELIVERED, GONE, ENDPOINT, EVENT = (
    ResponseClass.DELIVERED,
    ResponseClass.GONE,
    ResponseClass.ENDPOINT,
    ResponseClass.EVENT,
)

# Status codes from the first to the last, and the class of all of them: each code from 100 to 999 once.
CLASSES = [
    (100, 199, ENDPOINT),
    (200, 299, DELIVERED),
    (300, 399, ENDPOINT),
    (400, 400, EVENT),
    (401, 408, ENDPOINT),
    (409, 409, EVENT),
    (410, 410, GONE),
    (411, 411, ENDPOINT),
    (412, 420, EVENT),
    (421, 421, ENDPOINT),
    (422, 424, EVENT),
    (425, 426, ENDPOINT),
    (427, 428, EVENT),
    (429, 429, ENDPOINT),
    (430, 430, EVENT),
    (431, 431, ENDPOINT),
    (432, 450, EVENT),
    (451, 451, ENDPOINT),
    (452, 499, EVENT),
    (500, 999, ENDPOINT),
]


def test_no_answer_is_the_endpoint_s() -> None:
    assert classify(None) is ENDPOINT


@pytest.mark.parametrize(("first", "last", "answer_class"), CLASSES)
def test_every_status_code_has_its_class(first: int, last: int, answer_class: ResponseClass) -> None:
    assert {classify(status_code) for status_code in range(first, last + 1)} == {answer_class}


def test_the_table_has_every_status_code_once() -> None:
    codes = [code for first, last, _ in CLASSES for code in range(first, last + 1)]
    assert codes == list(range(100, 1000))


def test_delays_double_from_5_seconds_to_5_minutes() -> None:
    delays = [backoff_seconds(failures, jitter=0) for failures in range(1, 11)]
    assert delays == [5, 10, 20, 40, 80, 160, 300, 300, 300, 300]


@pytest.mark.parametrize(
    ("failures", "jitter", "retry_after", "delay"),
    [
        (1, 0.5, 0, 5.25),
        (7, 0.999, 0, 329.97),
        (1, 0, 3, 5),  # sooner than we would come anyway
        (1, 0, 120, 120),
        (1, 0.5, 120, 126),
        (7, 0, 120, 300),
        (7, 0, 600, 600),
        (7, 0.9, 850, 900),
    ],
)
def test_the_longer_of_our_delay_and_the_receiver_s_wish_counts(
    failures: int, jitter: float, retry_after: int, delay: float
) -> None:
    got = backoff_seconds(failures, jitter=jitter, retry_after_seconds=retry_after)
    assert got == pytest.approx(delay)


@given(
    st.integers(1, 10**9),
    st.integers(0, 10**9),
    st.floats(0, 1, exclude_max=True),
    st.integers(0, MAX_PROBE_DELAY_SECONDS),
)
def test_one_failure_more_never_means_a_shorter_delay(
    failures: int, more: int, jitter: float, retry_after: int
) -> None:
    earlier = backoff_seconds(failures, jitter=jitter, retry_after_seconds=retry_after)
    later = backoff_seconds(failures + more, jitter=jitter, retry_after_seconds=retry_after)
    assert 5 <= earlier <= later <= MAX_PROBE_DELAY_SECONDS


@given(st.integers(1, 10**9), st.floats(0, 1, exclude_max=True), st.integers(0, MAX_PROBE_DELAY_SECONDS))
def test_jitter_only_adds_and_retry_after_is_a_floor(failures: int, jitter: float, retry_after: int) -> None:
    plain = backoff_seconds(failures, jitter=0, retry_after_seconds=retry_after)
    jittered = backoff_seconds(failures, jitter=jitter, retry_after_seconds=retry_after)
    assert plain <= jittered <= min(plain * 1.1, MAX_PROBE_DELAY_SECONDS)
    assert jittered >= retry_after


def test_retry_after_is_clamped_with_its_jitter() -> None:
    assert backoff_seconds(1, jitter=0.99, retry_after_seconds=900) == 900


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
        ("0" * 65_536, 0),
        ("0" * 65_533 + "120", 120),
        ("a" * 65_536, 0),
        ("1 " * 32_768, 0),
        ("-" * 65_536, 0),
        ("Tue, 03 Nov 2026 12:01:30 +" + "9" * 65_536, 90),  # what cannot be a zone is none
        ("00120", 120),
        ("4" * 5000, 900),  # more digits than Python makes an integer of
        (http_date(90), 90),
        (http_date(-90), 0),
        (http_date(86_400), 900),
        ("Tue, 03 Nov 2026 12:01:30", 90),
        ("Tue, 03 Nov 2026 13:01:30 +0100", 90),
        ("Tuesday, 03-Nov-26 12:01:30 GMT", 90),  # RFC 850, and asctime: both obsolete, both valid
        ("Tue Nov  3 12:01:30 2026", 90),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 900),
        ("Mon, 01 Jan 0001 00:00:00 +2359", 0),
        ("Tue, 03 Nov 2026 12:01:30 +9999", 0),
        ("Tue, 03 Nov 99999999999 12:01:30 GMT", 0),
        ("Tue, 03 Nov 2026 99:01:30 GMT", 0),
        ("", 0),
        ("-5", 0),
        ("1.5", 0),
        ("soon", 0),
        ("٣", 0),
        ("\uff11\uff12\uff10", 0),
        ("²", 0),
        ("+5", 0),
        ("1e3", 0),
        ("120, 120", 120),
        ("30, 120", 120),  # two headers, as a proxy in front of the receiver makes them
        ("120, 30, soon", 120),
        (f"30, {http_date(90)}", 90),
        (f"{http_date(90)}, 30", 90),
        (f"{http_date(30)}, {http_date(90)}", 90),
        ("Tuesday, 03-Nov-26 12:01:30 GMT, 30", 90),
        (", ,", 0),
        ("," * 65_536, 0),
        ("120;", 0),
        ("Mon, 99 Nov 2026 12:00:00 GMT", 0),
        ("\x00", 0),
    ],
)
def test_a_receiver_asks_for_seconds_or_for_a_date(header: str, seconds: int) -> None:
    for status_code in (429, 503):
        got = retry_after_seconds(header, status_code=status_code, now_seconds=NOW_SECONDS)
        assert got == seconds


@pytest.mark.parametrize(("now", "seconds"), [(0.0, 90), (0.4, 90), (89.9, 1), (90.0, 0)])
def test_a_part_of_a_second_is_waited_whole(now: float, seconds: int) -> None:
    """Who came sooner would come before the date."""
    got = retry_after_seconds(http_date(90), status_code=503, now_seconds=NOW_SECONDS + now)
    assert got == seconds


@given(st.integers(0, 10**12), st.integers(0, 40))
def test_seconds_are_read_whatever_zeros_lead_them(seconds: int, zeros: int) -> None:
    header = "0" * zeros + str(seconds)
    got = retry_after_seconds(header, status_code=429, now_seconds=NOW_SECONDS)
    assert got == min(seconds, MAX_PROBE_DELAY_SECONDS)


@given(st.integers(-(10**9), 10**9))
def test_a_date_is_as_many_seconds_as_it_is_ahead(ahead: int) -> None:
    got = retry_after_seconds(http_date(ahead), status_code=429, now_seconds=NOW_SECONDS)
    assert got == min(max(0, ahead), MAX_PROBE_DELAY_SECONDS)


@pytest.mark.parametrize("status_code", [200, 301, 400, 404, 500, 502, None])
def test_retry_after_means_nothing_elsewhere(status_code: int | None) -> None:
    assert retry_after_seconds("120", status_code=status_code, now_seconds=NOW_SECONDS) == 0


garbled_dates = st.lists(
    st.sampled_from(
        [
            "Tue,",
            "03",
            "Nov",
            "2026",
            "12:01:30",
            "GMT",
            "-",
            "+2500",
            "-0000",
            "99",
            ":",
            "٣",
            "24:00:00",
            "1e5",
        ]
    ),
    max_size=8,
).map(" ".join)


@given(st.text(max_size=200) | garbled_dates)
def test_no_header_is_too_odd_for_it(header: str) -> None:
    got = retry_after_seconds(header, status_code=503, now_seconds=NOW_SECONDS)
    assert 0 <= got <= MAX_PROBE_DELAY_SECONDS


def test_a_rejected_event_is_tried_seven_times_more_and_within_seven_days() -> None:
    minute, hour, day = 60, 3600, 86_400
    delays = [rejection_delay_seconds(tries) for tries in range(1, 9)]
    assert delays == [minute, 10 * minute, hour, 6 * hour, day, 2 * day, 3 * day, None]
    assert sum(REJECTION_DELAYS_SECONDS) < 7 * day
