"""The time that a call has, and where records of TLS end: what real sockets show only at their edges."""

import pytest

from lms_webhooks.sending.sockets import Deadline, _is_whole_records


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic time, its only item."""
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_a_deadline_has_what_is_left_and_ends(clock: list[float]) -> None:
    deadline = Deadline(5)
    assert deadline.remaining_seconds() == 5
    clock[0] += 4
    assert deadline.remaining_seconds() == 1
    clock[0] += 1
    with pytest.raises(TimeoutError):
        deadline.remaining_seconds()


def test_a_part_of_a_call_has_no_more_than_the_whole(clock: list[float]) -> None:
    deadline = Deadline(5)
    deadline.restart(2)
    assert deadline.remaining_seconds() == 2
    clock[0] += 4
    deadline.restart(2)
    assert deadline.remaining_seconds() == 1


@pytest.mark.parametrize(
    ("data", "is_whole"),
    [
        (b"\x17\x03\x03\x00\x02ab", True),
        (b"\x17\x03\x03\x00\x02ab\x16\x03\x03\x00\x01c", True),
        (b"\x17\x03\x03\x00\x02ab\x16\x03\x03\x00\x00", True),
        (b"\x17\x03\x03\x00\x02a", False),
        (b"\x17\x03\x03\x00\x02ab\x16\x03\x03\x00", False),
        (b"\x17\x03\x03\x01\x00ab", False),
    ],
)
def test_a_piece_of_tls_ends_with_a_record_or_within_one(data: bytes, is_whole: bool) -> None:
    assert _is_whole_records(data) is is_whole
