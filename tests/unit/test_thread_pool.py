"""The thread pool runs all of the work, on as many threads as it may have."""

import gc
import threading

import pytest

from lms_webhooks.thread_pool import ThreadPool
from tests.patience import PATIENCE_SECONDS


def threads_named(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(f"{name}_")]


def test_it_works_on_all_items_at_the_same_time() -> None:
    all_there = threading.Barrier(20)
    done: list[int] = []

    def work(item: int) -> None:
        all_there.wait(PATIENCE_SECONDS)
        done.append(item)

    ThreadPool("here", size=50).run_all(work, range(20))
    assert sorted(done) == list(range(20))


def test_nothing_and_one_item_need_no_thread() -> None:
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
            all_there.wait(PATIENCE_SECONDS)
            seen.add(threading.current_thread())

        threads.run_all(work, range(4))
    assert seen == {threading.current_thread(), *threads_named("same")}
    assert len(seen) == 4


def test_beyond_its_size_items_wait_for_a_thread() -> None:
    threads = ThreadPool("few", size=3)
    all_there = threading.Barrier(4)
    done: list[int] = []

    def work(item: int) -> None:
        all_there.wait(PATIENCE_SECONDS)
        done.append(item)

    threads.run_all(work, range(100))
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


def test_an_error_is_raised_when_the_other_items_are_done() -> None:
    has_failed = threading.Event()
    done: list[int] = []

    def work(item: int) -> None:
        if item == 1:
            has_failed.set()
            raise ValueError("one")
        has_failed.wait(PATIENCE_SECONDS)
        done.append(item)

    threads = ThreadPool("raises", size=50)
    with pytest.raises(ValueError, match="one"):
        threads.run_all(work, range(5))
    assert sorted(done) == [0, 2, 3, 4]
    threads.run_all(done.append, [5, 6])
    assert done[-2:] in ([5, 6], [6, 5])


def test_its_threads_end_with_it() -> None:
    threads = ThreadPool("ends", size=50)
    all_there = threading.Barrier(5)
    threads.run_all(lambda _: all_there.wait(PATIENCE_SECONDS), range(5))
    started = threads_named("ends")
    assert len(started) == 4
    del threads
    gc.collect()
    for each in started:
        each.join(PATIENCE_SECONDS)
        assert not each.is_alive()
