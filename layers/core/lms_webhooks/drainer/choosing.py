"""Choose what a drain run sends next, of what it found in the lanes. Pure."""

from collections.abc import Sequence
from dataclasses import replace

from lms_webhooks.model.health import MAX_REQUEST_SIZE, Health
from lms_webhooks.model.lanes import Lane, PendingEvent

REALTIME_IN_A_ROW = 3
"""Requests of the real-time lane while a lower one is due. So that one gets one in four."""
FAILURES_OF_FIRST = 3
"""So often an endpoint fails at the first event, before it gets another one."""
OTHERS_AT_FIRST = 4
"""So many it gets then, one at each probe."""
FAILURES_UNTIL_AGAIN = 3
"""So often from then on until it gets the next one. A quarter of an hour of probes, 300 s apart."""
CHOSEN_FROM = MAX_REQUEST_SIZE
"""So many events of a lane another one is chosen from."""
_GOLDEN_RATIO = (5**0.5 - 1) / 2
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


def request_of(waiting: Sequence[PendingEvent], health: Health, *, most_bytes: int) -> list[PendingEvent]:
    """The first events of a lane that go into one request: one at least, and a suspect alone."""
    together: list[PendingEvent] = []
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


def number_of_stand_in(failures: int) -> int | None:
    """Which of the other events follows the first one, counted from 0, when that failed so often alone.

    From its third failure to its sixth each time, then each third time. Another request each time would make
    twice as many to an endpoint that is down. None when no other event follows.
    """
    number = failures - FAILURES_OF_FIRST
    if number < OTHERS_AT_FIRST:
        return number if number >= 0 else None
    times, rest = divmod(number - OTHERS_AT_FIRST + 1, FAILURES_UNTIL_AGAIN)
    return None if rest else OTHERS_AT_FIRST + times - 1


def stand_in(number: int, lanes: Sequence[Lane]) -> tuple[list[Lane], float]:
    """Where to look for the other event with this `number`: in these lanes, the first that has one; and how
    far from its beginning, from 0 to 1.

    The lanes take turns. The retry lane has none: it gives an event when no other lane can. Within each, the
    places are spread by the golden ratio: the first one, then places that halve what is between those before.
    So no row of such events, in one lane or in all, is in the way for long.
    """
    lanes_in_turn = [lane for lane in lanes if lane is not Lane.RETRY]
    turn, which = divmod(number, len(lanes_in_turn) or 1)
    last = [lane for lane in lanes if lane is Lane.RETRY]
    return [*lanes_in_turn[which:], *lanes_in_turn[:which], *last], turn * _GOLDEN_RATIO % 1
