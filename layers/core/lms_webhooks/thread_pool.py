"""Threads that stand ready for work that mostly waits, so that no piece of it waits for another.

Not concurrent.futures: its futures, their locks and a wake-up of the caller for each piece take some three
times as much of the processor. Here each piece wakes one thread, and the last one the caller.
"""

import queue
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

type _Job = Callable[[], None]


class ThreadPool:
    """Does pieces of work at the same time, each in a thread of its own, up to `size`. It has one caller."""

    def __init__(self, name: str, *, size: int) -> None:
        self._name = name
        self._size = size
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._hands: list[threading.Thread] = []
        weakref.finalize(self, _stop, self._hands, self._jobs)

    def run_all[T](self, work: Callable[[T], object], items: Sequence[T]) -> None:
        """Do `work` on each of `items`, and return when all of it is done. The caller takes a piece too.

        Raises:
            BaseException: the first that `work` raised. The other pieces are done nevertheless.
        """
        ends: list[BaseException | None] = []
        is_done = threading.Event()

        def do(item: T) -> None:
            error = None
            try:
                work(item)
            except BaseException as raised:  # noqa: BLE001  # raised again by the caller
                error = raised
            ends.append(error)
            if len(ends) == len(items):
                is_done.set()

        if not items:
            return
        own, *others = items
        self._grow(min(len(others), self._size))
        for item in others:
            self._jobs.put(partial(do, item))
        do(own)
        with suppress(queue.Empty):  # nobody may be there to do them
            while job := self._jobs.get_nowait():
                job()
        is_done.wait()
        for error in ends:
            if error is not None:
                raise error

    def _grow(self, hands: int) -> None:
        while len(self._hands) < hands:
            hand = threading.Thread(target=_work, args=(self._jobs,), name=self._name, daemon=True)
            try:
                hand.start()
            except RuntimeError:  # the process has as many threads as it may: those that are there do it all
                return
            self._hands.append(hand)


def _work(jobs: "queue.SimpleQueue[_Job | None]") -> None:
    while (job := jobs.get()) is not None:
        job()
        del job  # or what it holds would stay until the next


def _stop(hands: list[threading.Thread], jobs: "queue.SimpleQueue[_Job | None]") -> None:
    for _ in hands:
        jobs.put(None)
