"""Fake time for several processes at once. Each has threads, of which one runs at any moment.

A process runs until it sleeps; then the clock jumps to whatever comes next. So a week takes milliseconds,
and two runs of a test do the same in the same order. What happens during a POST really does happen during
it.
"""

import heapq
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Self, cast

from greenlet import getcurrent, greenlet

_MAX_STEPS_AT_ONCE = 100_000  # at one moment of fake time: more is a loop that waits for nothing


class Killed(BaseException):
    """This process is dead. No `except Exception` may make another call then."""


class Process:
    """What dies together: the memory and the threads of one execution environment."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_dead = False
        self.skew_seconds = 0.0
        """By how much its wall clock is ahead."""
        self.frozen_seconds = 0.0
        """For how long it stood still so far."""
        self._frozen_at: float | None = None

    def freeze(self, now: float) -> None:
        """Let it stand still, as Lambda does between two invocations: its monotonic clock stops."""
        self._frozen_at = now

    def thaw(self, now: float) -> None:
        """Let it go on. Its monotonic clock knows nothing of the time between."""
        if self._frozen_at is not None:
            self.frozen_seconds += now - self._frozen_at
            self._frozen_at = None


class _Thread(greenlet):
    """Stands in for a thread. One of Python's would cost ten times as much at each change to another."""

    def __init__(
        self, process: Process, live: Callable[["_Thread"], None], begun_by: "_Thread | None"
    ) -> None:
        super().__init__(live)
        self.process = process
        self.begun_by = begun_by
        self.is_done = False
        self.alarm = 0  # which entry of the agenda wakes it; the others are out of date


type _Entry = tuple[float, int, _Thread | Callable[[], object]]


class FakeTime:
    """Clocks, and who runs when. `clock`, `monotonic` and `sleep` stand in for those of `time`."""

    def __init__(self, now: float) -> None:
        self.now = now
        self._agenda: list[_Entry] = []
        self._entries = 0
        self._until = now
        self._running: _Thread | None = None
        self._scheduler = getcurrent()
        self._alive: set[_Thread] = set()
        self._error: BaseException | None = None

    def clock(self) -> float:
        """Seconds since 1970, as the process that asks has them."""
        return self.now + (self.process.skew_seconds if self.process else 0)

    def monotonic(self) -> float:
        """Seconds for which the process that asks was not frozen."""
        return self.now - (self.process.frozen_seconds if self.process else 0)

    @property
    def process(self) -> Process | None:
        """Whose code runs; None is the test's own."""
        return self._running.process if self._running else None

    def at(self, moment: float, do: Callable[[], object]) -> None:
        """Do something then; it takes no time."""
        self._enter(moment, do)

    def start(self, process: Process, run: Callable[[], None]) -> None:
        """Let a thread of `process` begin now."""
        self._start(process, run, None)

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass. A test that calls this waits, and all the others run."""
        moment = self.now + seconds
        thread = self._running
        if thread is None:
            self.run_until(moment)
        elif thread.process.is_dead:
            raise Killed
        elif moment <= self._until and (not self._agenda or self._agenda[0][0] > moment):
            self.now = moment  # nobody else has anything to do until then
        else:
            self._set_alarm(thread, moment)
            self._hand_over(thread)

    def run_until(self, moment: float) -> None:
        """Let time pass for everybody until `moment`."""
        assert self._running is None, "only the test itself moves the clock"
        self._until = moment
        steps = 0
        while self._agenda and self._agenda[0][0] <= moment:
            due, entry, what = heapq.heappop(self._agenda)
            steps = steps + 1 if due == self.now else 0
            if steps > _MAX_STEPS_AT_ONCE:
                raise AssertionError(f"no time passes at {self.now}")
            self.now = max(self.now, due)
            if not isinstance(what, _Thread):
                what()
            elif what.alarm == entry and not what.is_done:
                self._let_run(what)
            if self._error is not None:
                error, self._error = self._error, None
                raise error
        self.now = max(self.now, moment)

    def next_moment(self) -> float | None:
        """When something happens next."""
        return self._agenda[0][0] if self._agenda else None

    def kill(self, process: Process) -> None:
        """Nothing of `process` runs any more: each of its threads ends where it stands."""
        process.is_dead = True
        for thread in self._alive:
            if thread.process is process and thread is not self._running:
                self._set_alarm(thread, self.now)

    def close(self) -> None:
        """End every thread."""
        for thread in list(self._alive):
            thread.process.is_dead = True
        for thread in list(self._alive):
            if not thread.is_done:
                self._let_run(thread)

    def map[T, R](self, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """`function` of each item, all at the same time, as a pool of threads would do it."""
        parent = self._running
        if parent is None:
            return [function(item) for item in items]
        results: list[Any] = []
        errors: list[BaseException] = []
        children: list[_Thread] = []

        def run(index: int, item: T) -> None:
            try:
                results[index] = function(item)
            except Killed:
                raise
            except BaseException as error:  # noqa: BLE001  # it is the caller's, below
                errors.append(error)

        for index, item in enumerate(items):
            results.append(None)
            children.append(self._start(parent.process, partial(run, index, item), parent))
        while not all(child.is_done for child in children):
            self._hand_over(parent)
        if errors:
            raise errors[0]
        return cast("list[R]", results)

    def _start(self, process: Process, run: Callable[[], None], begun_by: _Thread | None) -> _Thread:
        thread = _Thread(process, partial(self._live, run), begun_by)
        self._alive.add(thread)
        self._set_alarm(thread, self.now)
        return thread

    def _live(self, run: Callable[[], None], thread: _Thread) -> None:
        try:
            if not thread.process.is_dead:
                run()
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001  # the test fails with it
            self._error = error
        thread.is_done = True
        self._alive.discard(thread)
        if thread.begun_by is not None and not thread.begun_by.is_done:
            self._set_alarm(thread.begun_by, self.now)

    def _let_run(self, thread: _Thread) -> None:
        self._running = thread
        thread.parent = self._scheduler = getcurrent()  # where its end leads to
        thread.switch(thread)
        self._running = None

    def _hand_over(self, thread: _Thread) -> None:
        self._scheduler.switch()
        if thread.process.is_dead:
            raise Killed

    def _set_alarm(self, thread: _Thread, moment: float) -> None:
        thread.alarm = self._enter(moment, thread)

    def _enter(self, moment: float, what: _Thread | Callable[[], object]) -> int:
        self._entries += 1
        heapq.heappush(self._agenda, (moment, self._entries, what))
        return self._entries


class Threads:
    """Stands in for a ThreadPoolExecutor and for a Crew, in fake time."""

    def __init__(self, time: FakeTime, *, most: int | None = None) -> None:
        """`most` of them at once, or as many as there are pieces."""
        self._time = time
        self._most = most

    def map[T, R](self, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
        return self._time.map(function, items)

    def run_all[T](self, work: Callable[[T], object], items: Iterable[T]) -> None:
        if self._most is None:
            self._time.map(work, items)
            return
        left = iter(items)
        errors: list[Exception] = []

        def take_one_after_the_other(_: int) -> None:
            for item in left:
                try:
                    work(item)
                except Exception as error:  # noqa: BLE001  # it is the caller's, below
                    errors.append(error)

        self._time.map(take_one_after_the_other, range(self._most))
        if errors:
            raise errors[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass
