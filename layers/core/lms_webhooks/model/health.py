"""Know how a webhook's endpoint does, and what that means for what is sent next. Pure.

Every change is a function from one Health to the next; `stores/health` writes them, conditionally.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from lms_webhooks.model.attempts import Attempt

MAX_REQUEST_SIZE = 100
"""The most events of one request."""
BODY_LIMIT_SECONDS = 86_400
"""How long the size limit after a 413 holds. The receiver may allow larger requests the next day."""
MAX_REJECTIONS_IN_A_ROW = 10
"""From then on the endpoint counts as failing, and not one event after the other."""

KEPT_ATTEMPTS = 20
FAILURE_GAP_MS = 2 * 900_000
"""The longest that one probe comes after the other, twice: 900 s where an endpoint asks for it. After longer
nothing is known of the time between, such as after a replay that was cancelled while its endpoint failed."""
MIN_STAY_SECONDS = 60
MAX_STAY_SECONDS = 900
SLOW_MS = 1000
"""Ten responses this slow hold a dispatcher for 10 s; from the backlog they cost one request at a time."""
QUICK_MS = SLOW_MS * 3 // 4
"""Well under the threshold."""
CEILING_TRIALS = 4
"""So many requests as large as the ceiling get a response in time before a larger one is tried."""
MAX_CEILING_TRIALS = 64
"""The same for an endpoint that never responds to the larger one in time. Each trial costs it ten seconds."""
SUSPECTS = 5
"""Of one request that failed."""
MAX_SUSPECTS = 2 * SUSPECTS
"""Of two lanes at a time. A few dozen bytes each, in an item that is written after each drain run."""


class Mode(StrEnum):
    """How a webhook gets real-time events: `direct` sends each at once, `backlog` sends them in order."""

    DIRECT = "direct"
    BACKLOG = "backlog"


class DisabledReason(StrEnum):
    """Why the system disabled a webhook: a 410 (`gone`), or days of failure without one 2xx (`failing`)."""

    GONE = "gone"
    """It responded 410: it takes no new events, as if it were inactive."""
    FAILING = "failing"
    """It failed for as long as events are kept: new events stay pending for one retention period more."""


@dataclass(frozen=True, slots=True)
class Health:
    """The state of one webhook's endpoint, in one epoch of its configuration. Times in UTC milliseconds."""

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
    request_size: int = 1
    request_size_ceiling: int = MAX_REQUEST_SIZE
    """The most events of a request: half as many as one had that timed out."""
    ceiling_left: int = 0
    """How many requests of that size must get a response in time until it is doubled. 0 when it was
    doubled, and the next one is a trial."""
    ceiling_trials: int = CEILING_TRIALS
    """What `ceiling_left` begins with."""
    max_bytes: int = 0
    """The most bytes of a request: half as many as one had that was too large (413). 0 when none was."""
    max_bytes_until_ms: int = 0
    suspects: Mapping[str, int] = field(default_factory=dict)
    """Events that the endpoint may fail at, by sort key: how often each failed alone."""
    realtime_in_a_row: int = 0
    """Requests of the real-time lane since the last one of a lower lane."""
    lower_lane: str = ""
    """The lane of that one."""
    nearly_empty_since_ms: int = 0
    """Since when each look at the real-time lane found no more than one request takes."""
    disabled_reason: DisabledReason | None = None
    disabled_at_ms: int = 0
    attempts: tuple[Attempt, ...] = ()
    """The last ones that changed something here, oldest first; direct successes write nothing."""


def enter_backlog_mode(health: Health, *, now_ms: int) -> Health:
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
        request_size=1,
        next_attempt_at_ms=now_ms,
        nearly_empty_since_ms=0,
    )


def after_failure(health: Health, attempt: Attempt, *, now_ms: int, delay_seconds: float) -> Health:
    """An endpoint failure: backlog mode, and the next probe after `delay_seconds`, of one event.

    Were it as large as what failed, an endpoint that fails on large requests would never recover.
    """
    last_at_ms = health.attempts[-1].started_at_ms if health.attempts else 0
    goes_on = health.failing_since_ms and attempt.started_at_ms - last_at_ms <= FAILURE_GAP_MS
    return replace(
        enter_backlog_mode(health, now_ms=now_ms),
        attempts=_attempts_with(health, attempt),
        failures=health.failures + 1,
        failing_since_ms=health.failing_since_ms if goes_on else attempt.started_at_ms,
        last_error=attempt.summary,
        next_attempt_at_ms=now_ms + int(delay_seconds * 1000),
        request_size=1,
        nearly_empty_since_ms=0,
    )


def after_success(health: Health, attempt: Attempt, *, sent_events: int) -> Health:
    """A 2xx: nothing is wrong any more, and the next batch may be twice as large."""
    if sent_events >= health.request_size_ceiling:
        health = _with_tried_ceiling(health)
    grown = min(max(sent_events * 2, health.request_size), health.request_size_ceiling)
    return replace(
        health,
        failures=0,
        rejections=0,
        failing_since_ms=0,
        last_error="",
        next_attempt_at_ms=0,
        request_size=max(grown, 1),
        attempts=_attempts_with(health, attempt),
    )


def after_rejection(health: Health, attempt: Attempt) -> Health:
    """The receiver refused one event that was sent alone."""
    attempts = _attempts_with(health, attempt)
    return replace(health, attempts=attempts, rejections=health.rejections + 1, request_size=1)


def after_repeated_rejection(health: Health, attempt: Attempt) -> Health:
    """The receiver refused an event that it knew already: that says nothing new of the endpoint."""
    return replace(health, attempts=_attempts_with(health, attempt))


def with_smaller_requests(health: Health, sent_events: int) -> Health:
    """Some event of a batch was refused: halve, to find it."""
    return replace(health, request_size=max(sent_events // 2, 1))


def with_lower_size_ceiling(health: Health, sent_events: int) -> Health:
    """A request timed out: none is as large until several of half its size got a response in time.

    An endpoint that always times out above some size is tried there less and less often. One event says
    nothing of size. Nor does an endpoint that failed before: an outage would be followed by small requests.
    """
    if sent_events < 2 or health.failures > 1:
        return health
    trials = health.ceiling_trials
    if health.ceiling_left == 0:
        trials = min(trials * 2, MAX_CEILING_TRIALS)
    half = sent_events // 2
    return replace(
        health,
        request_size=min(health.request_size, half),
        request_size_ceiling=half,
        ceiling_left=trials,
        ceiling_trials=trials,
    )


def _with_tried_ceiling(health: Health) -> Health:
    """A request as large as the ceiling got a response in time."""
    if health.ceiling_left == 0 or health.request_size_ceiling == MAX_REQUEST_SIZE:
        return replace(health, ceiling_left=CEILING_TRIALS, ceiling_trials=CEILING_TRIALS)
    if health.ceiling_left > 1:
        return replace(health, ceiling_left=health.ceiling_left - 1)
    return replace(
        health, request_size_ceiling=min(health.request_size_ceiling * 2, MAX_REQUEST_SIZE), ceiling_left=0
    )


def with_smaller_bodies(health: Health, body_bytes: int, *, now_ms: int) -> Health:
    """A request was too large (413): for a day, none has more than half its bytes."""
    return replace(health, max_bytes=body_bytes // 2, max_bytes_until_ms=now_ms + BODY_LIMIT_SECONDS * 1000)


def max_body_bytes(health: Health, *, most_bytes: int, now_ms: int) -> int:
    """How many bytes a request may have, of the `most_bytes` that any may have."""
    return min(health.max_bytes, most_bytes) if now_ms < health.max_bytes_until_ms else most_bytes


def with_suspects(health: Health, sort_keys: Sequence[str]) -> Health:
    """A request failed that reached the endpoint. Its events may be why: the one that was alone, or the first
    ones of several. They are sent alone from now on."""
    failed = {sort_keys[0]: health.suspects.get(sort_keys[0], 0) + 1} if len(sort_keys) == 1 else {}
    suspects = {**dict.fromkeys(sort_keys[:SUSPECTS], 0), **health.suspects, **failed}
    # The one that just failed alone stays, or what came in front late in an outage would never be counted.
    worst_first = sorted(suspects, key=lambda key: (key not in failed, -suspects[key]))
    return replace(health, suspects={key: suspects[key] for key in worst_first[:MAX_SUSPECTS]})


def without_suspects(health: Health, sort_keys: Collection[str]) -> Health:
    """What became of these events is known."""
    if health.suspects.keys().isdisjoint(sort_keys):
        return health
    left = {key: failures for key, failures in health.suspects.items() if key not in sort_keys}
    return replace(health, suspects=left)


def after_lane_read(health: Health, *, is_nearly_empty: bool, now_ms: int) -> Health:
    """Note whether the real-time lane had no more than one request takes."""
    since_ms = (health.nearly_empty_since_ms or now_ms) if is_nearly_empty else 0
    return replace(health, nearly_empty_since_ms=since_ms)


def after_gone(health: Health, attempt: Attempt, *, now_ms: int) -> Health:
    """The receiver said 410: it is not coming back by itself."""
    fallen = enter_backlog_mode(health, now_ms=now_ms)
    failed = replace(fallen, attempts=_attempts_with(health, attempt), last_error=attempt.summary)
    return disable(failed, DisabledReason.GONE, now_ms=now_ms)


def disable(health: Health, why: DisabledReason, *, now_ms: int) -> Health:
    """Send nothing more until an admin says so."""
    return replace(health, disabled_reason=why, disabled_at_ms=now_ms)


def enter_direct_mode(health: Health, *, now_ms: int) -> Health:
    """The endpoint responds, and little or nothing waits in the real-time lane."""
    return replace(
        health, mode=Mode.DIRECT, recovered_at_ms=now_ms, backlog_since_ms=0, nearly_empty_since_ms=0
    )


def without_unnotified_transition(before: Health, after: Health) -> Health:
    """`after`, which follows from `before`, without what owners would have to be notified of: the next run
    then finds the same again.

    A failure that goes on is notified as long as it does, so that nothing else need be forgotten.
    """
    return replace(
        after,
        failing_since_ms=after.failing_since_ms or before.failing_since_ms,
        last_error=after.last_error or before.last_error,
        disabled_reason=before.disabled_reason,
        disabled_at_ms=before.disabled_at_ms,
    )


def clear_ended_failure(health: Health) -> Health:
    """Forget a failure that has ended: `without_unnotified_transition` left it, and nothing is pending."""
    return health if health.failures else replace(health, failing_since_ms=0, last_error="", suspects={})


def is_ready_for_direct(health: Health, *, is_empty: bool, now_ms: int) -> bool:
    """Whether a webhook may get its real-time events directly again.

    Their lane is empty, or nearly so for as long as it must stay: what is left goes out beside. The webhook
    stayed long enough, and its endpoint responded well under the threshold of slowness since it fell back: at
    its best, for a batch rightly takes longer than one event.
    """
    stay_ms = health.min_stay_seconds * 1000
    if health.mode is Mode.DIRECT or health.failures or now_ms - health.backlog_since_ms < stay_ms:
        return False
    is_nearly_empty = 0 < health.nearly_empty_since_ms <= now_ms - stay_ms
    if not is_empty and not is_nearly_empty:
        return False
    latencies_ms = [
        attempt.latency_ms
        for attempt in health.attempts
        if attempt.is_success and attempt.started_at_ms >= health.backlog_since_ms
    ]
    return not latencies_ms or min(latencies_ms) < QUICK_MS


def _attempts_with(health: Health, attempt: Attempt) -> tuple[Attempt, ...]:
    return (*health.attempts, attempt)[-KEPT_ATTEMPTS:]
