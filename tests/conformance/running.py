"""Run a sender against a row, and judge what it made of it."""

import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from tests.conformance.certificates import Certificates
from tests.conformance.receiver import Receiver, Request, Script
from tests.conformance.rows import MARGIN_SECONDS, Fault, Outcome, Row, Verdict

_PATH = "/hooks"
BODY = b'{"type":"conformance","data":{"id":"e-1"}}'


@dataclass(frozen=True)
class Post:
    """What a sender is to do: POST `body` to `url`, and be back when so many seconds have passed in all."""

    url: str
    body: bytes
    deadline_seconds: float


@dataclass(frozen=True)
class Result:
    """What a sender made of it. What it does not tell apart stays None, and is not held against it."""

    acknowledged: bool
    status_code: int | None
    retry_after_seconds: float | None = None
    """Asked for by the receiver; None or 0 if it asked for nothing."""
    verdict: Verdict | None = None
    fault: Fault | None = None


type Send = Callable[[Post], Result]


@dataclass(frozen=True)
class Report:
    """One sender and one row."""

    flaws: tuple[str, ...]
    is_best: bool
    """It made the best of it, not only something defensible."""


def judge(row: Row, result: Result) -> Report:
    """Hold what a sender made of a row against what may come of it."""
    flaws = [_differences(outcome, result) for outcome in row.outcomes]
    best, *others = flaws
    if not best:
        return Report((), is_best=True)
    return Report(() if [] in others else tuple(best), is_best=row.is_race and [] in others)


def _differences(outcome: Outcome, result: Result) -> list[str]:
    flaws = []
    if result.acknowledged != (outcome.verdict is Verdict.DELIVERED):
        flaws.append("acknowledged" if result.acknowledged else "not acknowledged")
    if result.status_code != outcome.status_code:
        flaws.append(f"status {result.status_code} for {outcome.status_code}")
    if result.verdict not in (None, outcome.verdict):
        flaws.append(f"{result.verdict} for {outcome.verdict}")
    if outcome.fault and result.fault not in (None, outcome.fault):
        flaws.append(f"{result.fault} for {outcome.fault}")
    if outcome.wait_seconds:
        least, most = outcome.wait_seconds
        wait = result.retry_after_seconds or 0
        if not least <= wait <= most:
            flaws.append(f"waits {wait:g} s for {least:g}")
    return flaws


@contextmanager
def serve(row: Row, scheme: str, certificates: Certificates) -> Iterator[Receiver[Request]]:
    """A receiver that does what the row says: its `url()`, `requests`, `bytes_taken`."""
    tls = certificates.context(row.tls) if scheme == "https" else None
    script: Script[Request] = row.behaviour
    if row.before:
        script = row.before
    elif row.after:
        script = [row.behaviour, row.after]
    with Receiver(script, request_type=Request, tls=tls) as receiver:
        if not row.listens:
            receiver.stop_listening()
        yield receiver


def run(send: Send, row: Row, scheme: str, certificates: Certificates) -> Report:
    """Have `send` POST to a receiver that does what the row says, and judge all of it."""
    with serve(row, scheme, certificates) as receiver:
        post = Post(receiver.url(_PATH), BODY, row.deadline_seconds)
        if row.body_bytes:
            post = replace(post, body=bytes(row.body_bytes))
        if row.before:
            earlier = send(post)
            if not earlier.acknowledged:
                return Report(("earlier POST not acknowledged",), is_best=False)
            keeps = row.before.name.startswith("answer")
            receiver.wait_for(lambda: keeps or receiver.open_connections == 0, MARGIN_SECONDS)
            receiver.forget()
            receiver.script = row.behaviour
        report = _watch(send, post, row, receiver)
        reused = any(request.connection == 0 for request in receiver.requests)
        if row.reuses in (None, reused):
            return report
        flaw = "over a connection that was to be left" if reused else "over a new connection"
        return Report((*report.flaws, flaw), is_best=False)


def _watch(send: Send, post: Post, row: Row, receiver: Receiver[Request]) -> Report:
    results: list[Result] = []
    raised: list[str] = []

    def call() -> None:
        try:
            results.append(send(post))
        except Exception as error:  # noqa: BLE001  # that it raises is a result, too
            raised.append(f"raised {type(error).__name__}")

    if row.max_memory_bytes:
        tracemalloc.start()
    started = time.monotonic()
    thread = threading.Thread(target=call, name="sender", daemon=True)
    thread.start()
    thread.join(row.deadline_seconds + MARGIN_SECONDS)
    seconds = time.monotonic() - started
    is_late = thread.is_alive()
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    if is_late:
        receiver.close()
        thread.join(MARGIN_SECONDS)
        report = Report((f"still waits after {seconds:.1f} s of {row.deadline_seconds:g}",), is_best=False)
    else:
        report = judge(row, results[0]) if results else Report(tuple(raised), is_best=False)
    flaws = []
    requests = len(receiver.requests)
    if requests not in row.requests:
        flaws.append(f"{requests} requests")
        # Whoever else on this machine took the port for another's: an emulator that is awaited, say.
        flaws += [f"{each.method} {each.path}" for each in receiver.requests if each.path != _PATH]
    if row.max_taken_bytes and receiver.bytes_taken > row.max_taken_bytes:
        flaws.append(f"took {receiver.bytes_taken >> 20} MiB")
    if row.max_memory_bytes and peak_bytes > row.max_memory_bytes:
        flaws.append(f"held {peak_bytes >> 20} MiB")
    return Report((*report.flaws, *flaws), is_best=report.is_best and not flaws)
