"""Know how a webhook's endpoint does, and what that means for what is sent next. Pure.

Every change is a function from one Health to the next; `health_store` writes them, conditionally.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from lms_webhooks.attempts import Attempt
from lms_webhooks.retry import BATCH_CEILING_SECONDS, MAX_BATCH_SIZE

KEPT_ATTEMPTS = 20
FAILURE_GAP_MS = 2 * 900_000
"""The longest that one probe comes after the other, twice: 900 s where an endpoint asks for it. After longer
nothing is known of the time between, such as after a replay that was cancelled while its endpoint failed."""
MIN_STAY_SECONDS = 60
MAX_STAY_SECONDS = 900
SLOW_MS = 1000
"""Ten answers this slow hold a dispatcher for 10 s; from the backlog they cost one request at a time."""


class Mode(StrEnum):
    """How a webhook gets its real-time events."""

    DIRECT = "direct"
    BACKLOG = "backlog"


class SwitchOff(StrEnum):
    """Why the system stopped sending to a webhook."""

    GONE = "gone"
    """It answered 410: it takes nothing new, as if the admin had retired it."""
    FAILING = "failing"
    """It failed for as long as events are kept: what comes waits one retention period more."""


@dataclass(frozen=True, slots=True)
class Health:
    """The state of one webhook's endpoint, of one epoch of its registration. Times in UTC milliseconds."""

    epoch: int = 1
    revision: int = 0
    """Counts the writes, so that a writer notices that another was faster."""
    mode: Mode = Mode.DIRECT
    failures: int = 0
    """Endpoint failures in a row."""
    rejections: int = 0
    """Events in a row that the receiver rejected, each alone."""
    failing_since_ms: int = 0
    last_error: str = ""
    next_attempt_at_ms: int = 0
    backlog_since_ms: int = 0
    recovered_at_ms: int = 0
    min_stay_seconds: int = MIN_STAY_SECONDS
    batch_size: int = 1
    batch_ceiling: int = MAX_BATCH_SIZE
    batch_ceiling_until_ms: int = 0
    switched_off: SwitchOff | None = None
    switched_off_at_ms: int = 0
    attempts: tuple[Attempt, ...] = ()
    """The last ones that changed something here, oldest first; direct successes write nothing."""


def fall_back(health: Health, *, now_ms: int) -> Health:
    """Leave direct mode. Who comes back to it soon after leaving stays longer each time."""
    if health.mode is Mode.BACKLOG:
        return health
    flaps = health.recovered_at_ms and now_ms - health.recovered_at_ms < MAX_STAY_SECONDS * 1000
    stay_seconds = min(health.min_stay_seconds * 2, MAX_STAY_SECONDS) if flaps else MIN_STAY_SECONDS
    return replace(
        health,
        mode=Mode.BACKLOG,
        backlog_since_ms=now_ms,
        min_stay_seconds=stay_seconds,
        batch_size=1,
        next_attempt_at_ms=now_ms,
    )


def after_failure(health: Health, attempt: Attempt, *, now_ms: int, delay_seconds: float) -> Health:
    """An endpoint failure: backlog mode, and the next probe after `delay_seconds`, of one event.

    Were it as large as what failed, whoever fails on large requests would fail for ever.
    """
    last_at_ms = health.attempts[-1].started_at_ms if health.attempts else 0
    goes_on = health.failing_since_ms and attempt.started_at_ms - last_at_ms <= FAILURE_GAP_MS
    return replace(
        _with_attempt(fall_back(health, now_ms=now_ms), attempt),
        failures=health.failures + 1,
        failing_since_ms=health.failing_since_ms if goes_on else attempt.started_at_ms,
        last_error=attempt.outcome,
        next_attempt_at_ms=now_ms + int(delay_seconds * 1000),
        batch_size=1,
    )


def after_success(health: Health, attempt: Attempt, *, sent_events: int) -> Health:
    """A 2xx: nothing is wrong any more, and the next batch may be twice as large."""
    grown = min(max(sent_events * 2, health.batch_size), health.batch_ceiling, MAX_BATCH_SIZE)
    return replace(
        _with_attempt(health, attempt),
        failures=0,
        rejections=0,
        failing_since_ms=0,
        last_error="",
        next_attempt_at_ms=0,
        batch_size=max(grown, 1),
    )


def after_rejection(health: Health, attempt: Attempt) -> Health:
    """The receiver refused one event that was sent alone."""
    return replace(_with_attempt(health, attempt), rejections=health.rejections + 1, batch_size=1)


def after_repeated_rejection(health: Health, attempt: Attempt) -> Health:
    """The receiver refused an event that it knew already: that says nothing new of the endpoint."""
    return _with_attempt(health, attempt)


def with_smaller_batch(health: Health, sent_events: int) -> Health:
    """Some event of a batch was refused: halve, to find it."""
    return replace(health, batch_size=max(sent_events // 2, 1))


def with_lower_ceiling(health: Health, sent_events: int, *, now_ms: int) -> Health:
    """A batch was too much for the receiver (no answer in time, or 413): for a day, none is as large.

    Without the memory, doubling would run into the same time-out again and again. An endpoint that was
    failing before says nothing of size: remembered, its outage would be followed by a day of tiny batches.
    """
    if sent_events < 2:
        return health
    if health.failures > 1:
        return with_smaller_batch(health, sent_events)
    half = sent_events // 2
    return replace(
        health,
        batch_size=half,
        batch_ceiling=half,
        batch_ceiling_until_ms=now_ms + BATCH_CEILING_SECONDS * 1000,
    )


def without_old_ceiling(health: Health, *, now_ms: int) -> Health:
    """Forget a ceiling whose day is over."""
    if health.batch_ceiling == MAX_BATCH_SIZE or now_ms < health.batch_ceiling_until_ms:
        return health
    return replace(health, batch_ceiling=MAX_BATCH_SIZE, batch_ceiling_until_ms=0)


def after_gone(health: Health, attempt: Attempt, *, now_ms: int) -> Health:
    """The receiver said 410: it is not coming back by itself."""
    fallen = _with_attempt(fall_back(health, now_ms=now_ms), attempt)
    return switch_off(replace(fallen, last_error=attempt.outcome), SwitchOff.GONE, now_ms=now_ms)


def switch_off(health: Health, why: SwitchOff, *, now_ms: int) -> Health:
    """Send nothing more until an admin says so."""
    return replace(health, switched_off=why, switched_off_at_ms=now_ms)


def back_to_direct(health: Health, *, now_ms: int) -> Health:
    """The backlog is empty and the endpoint answers."""
    return replace(health, mode=Mode.DIRECT, recovered_at_ms=now_ms, backlog_since_ms=0)


def without_transition(before: Health, after: Health) -> Health:
    """`after`, which follows from `before`, but for what its owners would have to be told of: the next turn
    then finds the same again.

    A failure that goes on is told of as long as it does, so that nothing else need be forgotten.
    """
    return replace(
        after,
        failing_since_ms=after.failing_since_ms or before.failing_since_ms,
        last_error=after.last_error or before.last_error,
        switched_off=before.switched_off,
        switched_off_at_ms=before.switched_off_at_ms,
    )


def without_failure_that_ended(health: Health) -> Health:
    """Nothing fails any more: for whoever finds what `without_transition` left, and has nothing to send."""
    return health if health.failures else replace(health, failing_since_ms=0, last_error="")


def is_ready_for_direct(health: Health, *, now_ms: int) -> bool:
    """Whether a webhook whose real-time lane is empty may get its events directly again.

    It must have stayed long enough, and answered well under the threshold of slowness since it fell back:
    at its best, for a batch rightly takes longer than one event.
    """
    if health.mode is Mode.DIRECT or health.failures:
        return False
    if now_ms - health.backlog_since_ms < health.min_stay_seconds * 1000:
        return False
    latencies_ms = [
        attempt.latency_ms
        for attempt in health.attempts
        if attempt.is_success and attempt.started_at_ms >= health.backlog_since_ms
    ]
    return not latencies_ms or min(latencies_ms) < SLOW_MS // 2


def _with_attempt(health: Health, attempt: Attempt) -> Health:
    return replace(health, attempts=(*health.attempts, attempt)[-KEPT_ATTEMPTS:])
