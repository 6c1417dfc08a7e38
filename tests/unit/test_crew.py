"""Pieces of work that wait for each other's end, if they do, never come to one."""

import gc
import threading

import pytest

from lms_webhooks.thread_pool import ThreadPool

PATIENT_SECONDS = 30


def threads_named(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


def test_all_of_it_is_done_at_the_same_time() -> None:
    all_there = threading.Barrier(20)
    done: list[int] = []

    def work(item: int) -> None:
        all_there.wait(PATIENT_SECONDS)
        done.append(item)

    ThreadPool("here", size=50).run_all(work, range(20))
    assert sorted(done) == list(range(20))


def test_nothing_and_one_piece_need_no_thread() -> None:
    threads = ThreadPool("none", size=50)
    threads.run_all(lambda _: pytest.fail("there is nothing to do"), [])
    done: list[threading.Thread] = []
    threads.run_all(lambda _: done.append(threading.current_thread()), [1])
    assert done == [threading.current_thread()]
    assert threads_named("none") == []


def test_its_threads_stay_for_the_next_time() -> None:
    threads = ThreadPool("same", size=50)
    seen: set[threading.Thread] = set()
    for _ in range(20):
        all_there = threading.Barrier(4)

        def work(_: int, all_there: threading.Barrier = all_there) -> None:
            all_there.wait(PATIENT_SECONDS)
            seen.add(threading.current_thread())

        threads.run_all(work, range(4))
    assert seen == {threading.current_thread(), *threads_named("same")}
    assert len(seen) == 4


def test_beyond_its_size_pieces_wait_for_a_thread() -> None:
    threads = ThreadPool("few", size=3)
    done: list[int] = []
    threads.run_all(done.append, range(100))
    assert sorted(done) == list(range(100))
    assert len(threads_named("few")) == 3


@pytest.mark.parametrize("allowed", [0, 2])
def test_with_fewer_threads_than_it_wants_it_does_all_of_it(
    monkeypatch: pytest.MonkeyPatch, allowed: int
) -> None:
    start = threading.Thread.start
    started: list[threading.Thread] = []

    def start_some(thread: threading.Thread) -> None:
        if len(started) == allowed:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_some)
    done: list[int] = []
    ThreadPool("short", size=50).run_all(done.append, range(20))
    assert sorted(done) == list(range(20))
    assert len(started) == allowed


def test_what_a_piece_raises_comes_when_the_others_are_done() -> None:
    has_failed = threading.Event()
    done: list[int] = []

    def work(item: int) -> None:
        if item == 1:
            has_failed.set()
            raise ValueError("one")
        has_failed.wait(PATIENT_SECONDS)
        done.append(item)

    threads = ThreadPool("raises", size=50)
    with pytest.raises(ValueError, match="one"):
        threads.run_all(work, range(5))
    assert sorted(done) == [0, 2, 3, 4]
    threads.run_all(done.append, [5, 6])
    assert done[-2:] in ([5, 6], [6, 5])


def test_its_threads_end_with_it() -> None:
    threads = ThreadPool("ends", size=50)
    threads.run_all(lambda _: None, range(5))
    hands = threads_named("ends")
    assert len(hands) == 4
    del threads
    gc.collect()
    for hand in hands:
        hand.join(PATIENT_SECONDS)
        assert not hand.is_alive()
