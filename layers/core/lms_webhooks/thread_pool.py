"""Run work that mostly waits for the network on several threads, which stay for the next call."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress


class ThreadPool:
    """Runs work on several items at the same time, with up to `size` threads beside the caller's.

    A `ThreadPoolExecutor` that goes on without the threads that the process may not start. It has one caller.
    """

    def __init__(self, name: str, *, size: int) -> None:
        self._size = size
        self._executor = ThreadPoolExecutor(size, thread_name_prefix=name)

    def run_all[T](self, work: Callable[[T], object], items: Sequence[T]) -> None:
        """Run `work` on each of `items`, and return when all of it is done. The caller's thread takes part.

        Raises:
            BaseException: the first that `work` raised. The other items are done nevertheless.
        """
        pending = deque(items)
        errors: list[BaseException] = []

        def work_off() -> None:
            with suppress(IndexError):
                while True:
                    item = pending.popleft()
                    try:
                        work(item)
                    except BaseException as error:  # noqa: BLE001  # raised again by the caller
                        errors.append(error)

        started: list[Future[None]] = []
        # If the process may start no more threads, those that it has do all the work. The executor keeps the
        # call that it could not start. A thread that takes it later finds nothing pending.
        with suppress(RuntimeError):
            for _ in range(min(len(items) - 1, self._size)):
                started.append(self._executor.submit(work_off))  # noqa: PERF401  # keeps what was started
        work_off()
        for each in started:
            each.result()
        if errors:
            raise errors[0]
