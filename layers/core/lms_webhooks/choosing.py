"""Choose what a drain run sends next, of what it found in the lanes. Pure."""

from collections.abc import Sequence
from dataclasses import replace

from lms_webhooks.backlog import Lane, Waiting
from lms_webhooks.health import SUSPECTS, Health
from lms_webhooks.retry import MAX_BATCH_SIZE

REALTIME_IN_A_ROW = 3
"""Requests of the real-time lane while a lower one is due. So that one gets one in four."""
FAILURES_OF_FIRST = 3
"""So often an endpoint fails at the first event, before it gets another one."""
FAILURES_UNTIL_AGAIN = 12
"""So often until it gets one at which it failed before. An hour of probes, 300 s apart."""
_FAILURES_UNTIL_FURTHER = 2 * FAILURES_UNTIL_AGAIN
"""So often until it gets one from further behind."""
_LOWER_LANES = (Lane.BATCH, Lane.RETRY, Lane.REPLAY)


def next_lane(due: Sequence[Lane], health: Health) -> Lane:
    """The lane that is served next, of at least one that is due.

    Lower lanes take turns. The one that was due first would not do: a replay is due until it ends, which may
    take days, and the others would wait for that.
    """
    lower = [lane for lane in _LOWER_LANES if lane in due]
    if Lane.REALTIME in due and (not lower or health.realtime_in_a_row < REALTIME_IN_A_ROW):
        return Lane.REALTIME
    places = [lane.value for lane in _LOWER_LANES]
    place = places.index(health.lower_lane) if health.lower_lane in places else -1
    return next((lane for lane in lower if places.index(lane) > place), lower[0])


def after_request(health: Health, lane: Lane) -> Health:
    """`health` after a request of `lane`."""
    if lane is Lane.REALTIME:
        return replace(health, realtime_in_a_row=health.realtime_in_a_row + 1)
    return replace(health, realtime_in_a_row=0, lower_lane=lane.value)


def request_of(waiting: Sequence[Waiting], health: Health, *, most_bytes: int) -> list[Waiting]:
    """The first events of a lane that go into one request: one at least, and a suspect alone."""
    together: list[Waiting] = []
    size = 0
    for each in waiting:
        size += len(each.event.text.encode()) + 1
        is_suspect = each.event.sort_key in health.suspects
        if together and (is_suspect or size > most_bytes):
            break
        together.append(each)
        if is_suspect:
            break
    return together


def lanes_to_probe(due: Sequence[Lane]) -> list[Lane]:
    """Lanes that are due, in the order in which a failing endpoint is probed with their events.

    The retry lane comes last. Its events failed before, each alone while others got through. So they may well
    fail again, and say nothing of the endpoint; in front of a replay they would hold it up.
    """
    return sorted(due, key=lambda lane: lane is Lane.RETRY)


def candidates_of(health: Health) -> int:
    """How many events the next probe of a failing endpoint is chosen from.

    Every other hour there is one more, so that many such events in front of a lane do not block it for good.
    """
    failures = max(health.suspects.values(), default=0) + 1  # with the probe
    if failures % _FAILURES_UNTIL_FURTHER:
        return SUSPECTS
    return min(SUSPECTS + failures // _FAILURES_UNTIL_FURTHER, MAX_BATCH_SIZE)


def stand_in(candidates: Sequence[Waiting], health: Health) -> Waiting | None:
    """The event, if any, that is sent right after the first of `candidates`, at which its endpoint failed.

    It may take this one: each of those next to it once, then one of them or the last one, in turn, each hour.
    The first one comes first nevertheless: when the endpoint is well again, nothing has overtaken it. Another
    request each time would make twice as many to an endpoint that is down.
    """
    first, *others = [health.suspects.get(each.event.sort_key, 0) for each in candidates]
    if not others or first < FAILURES_OF_FIRST:
        return None
    near = others[: SUSPECTS - 1]
    if min(near) > 0 and first % FAILURES_UNTIL_AGAIN:
        return None
    if min(near) > 0 and first % _FAILURES_UNTIL_FURTHER == 0:
        return candidates[-1]
    return candidates[1 + near.index(min(near))]
