"""Calls end when their time is up, whatever their socket does, and only theirs."""

import random
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lms_webhooks.deadlines import DeadlineWatch

SLACK_SECONDS = 1.0
Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def watch() -> DeadlineWatch:
    return DeadlineWatch()


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(10)
        yield ours, theirs


def is_open(pair: Pair) -> bool:
    """Whether a byte comes through."""
    ours, theirs = pair
    theirs.sendall(b"x")
    return ours.recv(1) == b"x"


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_read_ends_when_the_time_is_up(watch: DeadlineWatch, pair: Pair) -> None:
    started = time.monotonic()
    with watch.limit(0.2) as limit:
        limit.guard(pair[0])
        assert pair[0].recv(1) == b""
        assert limit.has_passed
    assert 0.2 <= time.monotonic() - started < 0.2 + SLACK_SECONDS


def test_a_write_ends_when_the_time_is_up(watch: DeadlineWatch, pair: Pair) -> None:
    """The other side takes nothing, so its buffers fill."""
    with watch.limit(0.2) as limit:
        limit.guard(pair[0])
        with pytest.raises(OSError, match="pipe"):
            pair[0].sendall(bytes(1 << 24))
        assert limit.has_passed


def test_bytes_that_trickle_in_do_not_stretch_the_time(watch: DeadlineWatch, pair: Pair) -> None:
    ours, theirs = pair
    gone = threading.Event()

    def trickle() -> None:
        while not gone.wait(0.02):
            try:
                theirs.sendall(b"x")
            except OSError:
                return

    thread = threading.Thread(target=trickle)
    thread.start()
    started = time.monotonic()
    with watch.limit(0.3) as limit:
        limit.guard(ours)
        while ours.recv(1):
            pass
    took = time.monotonic() - started
    gone.set()
    thread.join()
    assert 0.3 <= took < 0.3 + SLACK_SECONDS


def test_a_connection_that_comes_too_late_is_cut_at_once(watch: DeadlineWatch, pair: Pair) -> None:
    """Name resolution took all the time."""
    with watch.limit(0.01) as limit:
        wait_until_passed(watch)
        assert limit.has_passed
        limit.guard(pair[0])
        assert pair[0].recv(1) == b""


def wait_until_passed(watch: DeadlineWatch) -> None:
    """Return after the watch has cut all that ends before a limit made now."""
    ours, theirs = socket.socketpair()
    with ours, theirs, watch.limit(0.05) as later:
        later.guard(ours)
        assert ours.recv(1) == b""


def test_a_call_that_ended_leaves_its_connection_alone(watch: DeadlineWatch, pair: Pair) -> None:
    with watch.limit(0.02) as limit:
        limit.guard(pair[0])
    wait_until_passed(watch)
    assert not limit.has_passed
    assert is_open(pair)


def test_a_connection_given_back_early_is_left_alone(watch: DeadlineWatch, pair: Pair) -> None:
    """It serves another call, in another thread, before the first one's block is over."""
    with watch.limit(0.02) as limit:
        limit.guard(pair[0])
        limit.release()
        wait_until_passed(watch)
        assert limit.has_passed
        assert is_open(pair)


def test_only_the_last_connection_of_a_call_is_guarded(watch: DeadlineWatch, pair: Pair) -> None:
    first = socket.socketpair()
    with first[0], first[1], watch.limit(0.05) as limit:
        limit.guard(first[0])
        limit.guard(pair[0])
        assert pair[0].recv(1) == b""
        assert is_open(first)


def test_a_connection_closed_meanwhile_is_still_cut_for_whoever_reads_on(
    watch: DeadlineWatch, pair: Pair
) -> None:
    """http.client closes the socket of a `connection: close` answer before it reads the body."""
    with watch.limit(0.1) as limit:
        limit.guard(pair[0])
        reader = pair[0].makefile("rb")
        pair[0].close()
        assert reader.read(1) == b""
        reader.close()
        assert limit.has_passed


def test_the_remaining_time_shrinks_and_never_means_do_not_block(watch: DeadlineWatch) -> None:
    with watch.limit(30) as limit:
        first = limit.remaining_seconds()
        assert 29 < first <= 30
        assert limit.remaining_seconds() <= first
    with watch.limit(-5) as limit:
        assert limit.remaining_seconds() == 0.001


def test_an_error_in_the_block_ends_the_call(watch: DeadlineWatch, pair: Pair) -> None:
    def fail() -> None:
        with watch.limit(0.02) as limit:
            limit.guard(pair[0])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    wait_until_passed(watch)
    assert is_open(pair)


@pytest.mark.parametrize("order", ["rising", "falling", "random"])
def test_many_limits_are_each_cut_in_their_own_time(watch: DeadlineWatch, order: str) -> None:
    seconds = [0.05 + 0.01 * index for index in range(40)]
    if order == "falling":
        seconds.reverse()
    if order == "random":
        random.Random(7).shuffle(seconds)

    def one(limit_seconds: float) -> float:
        ours, theirs = socket.socketpair()
        started = time.monotonic()
        with ours, theirs, watch.limit(limit_seconds) as limit:
            limit.guard(ours)
            ours.settimeout(10)
            assert ours.recv(1) == b""
        return time.monotonic() - started

    with ThreadPoolExecutor(len(seconds)) as pool:
        for limit_seconds, took in zip(seconds, pool.map(one, seconds), strict=True):
            assert limit_seconds <= took < limit_seconds + SLACK_SECONDS


def test_a_short_limit_is_not_held_up_by_a_long_one(watch: DeadlineWatch, pair: Pair) -> None:
    with watch.limit(60), watch.limit(0.05) as short:
        short.guard(pair[0])
        assert pair[0].recv(1) == b""


def test_cutting_and_ending_at_the_same_moment_never_touches_another_connection(watch: DeadlineWatch) -> None:
    """Thousands of calls that end just as their time does, while file numbers are reused all the time."""
    wrongly_cut: list[float] = []

    def one(index: int) -> None:
        draw = random.Random(index)
        for _ in range(200):
            bystander = socket.socketpair()
            called = socket.socketpair()
            with watch.limit(draw.uniform(0, 0.002)) as limit:
                limit.guard(called[0])
                called[0].close()
                called[1].close()
                fresh = socket.socketpair()
            for pair in (bystander, fresh):
                pair[0].settimeout(5)
                if not is_open(pair):
                    wrongly_cut.append(index)
                pair[0].close()
                pair[1].close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(8)))
    assert wrongly_cut == []


def test_no_file_stays_open(watch: DeadlineWatch) -> None:
    with watch.limit(0.01):
        pass
    wait_until_passed(watch)
    before = open_files()
    for index in range(200):
        ours, theirs = socket.socketpair()
        with ours, theirs, watch.limit(0.001 if index % 2 else 30) as limit:
            limit.guard(ours)
            limit.guard(ours)
            if index % 3 == 0:
                limit.release()
    assert open_files() == before


def test_one_thread_watches_all(watch: DeadlineWatch) -> None:
    before = {thread for thread in threading.enumerate() if thread.name == "deadlines"}
    for _ in range(50):
        with watch.limit(30):
            pass
    now = {thread for thread in threading.enumerate() if thread.name == "deadlines"}
    assert len(now - before) == 1
    assert all(thread.daemon for thread in now)


def test_calls_that_ended_are_forgotten_without_waking_up_for_each(watch: DeadlineWatch, pair: Pair) -> None:
    for _ in range(100):
        with watch.limit(60):
            pass
    with watch.limit(0.05) as limit:
        limit.guard(pair[0])
        assert pair[0].recv(1) == b""
    give_up_at = time.monotonic() + 10
    while watch._limits and time.monotonic() < give_up_at:
        threading.Event().wait(0.01)
    assert watch._limits == [], "they stayed until their time was up"
