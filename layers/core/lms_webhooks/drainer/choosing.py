"""Choose which of the due lanes and pending events a drain run sends next. Pure."""

from collections.abc import Sequence
from dataclasses import replace

from lms_webhooks.model.health import MAX_REQUEST_SIZE, Health
from lms_webhooks.model.lanes import Lane, PendingEvent

REALTIME_IN_A_ROW = 3
"""Real-time requests in a row while a lower lane is due. The lower lane gets one request in four."""
FAILURES_OF_FIRST = 3
"""Failures of the first event before a probe sends another event too."""
OTHERS_AT_FIRST = 4
"""Other events that are sent then, one at each probe."""
FAILURES_UNTIL_AGAIN = 3
"""Failures between other events from then on: a quarter of an hour of probes, 300 s apart."""
CHOSEN_FROM = MAX_REQUEST_SIZE
"""Events of a lane from which the other event is chosen."""
_GOLDEN_RATIO = (5**0.5 - 1) / 2
_LOWER_LANES = (Lane.BATCH, Lane.RETRY, Lane.REPLAY)


def next_lane(due: Sequence[Lane], health: Health) -> Lane:
    """Choose the lane of the next request. At least one lane is due.

    Lower lanes take turns. To take the lane that was due first would not do. A replay is due until it ends,
    which may take days, and would keep the other lanes from their requests.
    """
    lower = [lane for lane in _LOWER_LANES if lane in due]
    if Lane.REALTIME in due and (not lower or health.realtime_in_a_row < REALTIME_IN_A_ROW):
        return Lane.REALTIME
    places = [lane.value for lane in _LOWER_LANES]
    place = places.index(health.lower_lane) if health.lower_lane in places else -1
    return next((lane for lane in lower if places.index(lane) > place), lower[0])


def after_request(health: Health, lane: Lane) -> Health:
    """Return `health` after a request of `lane`."""
    if lane is Lane.REALTIME:
        return replace(health, realtime_in_a_row=health.realtime_in_a_row + 1)
    return replace(health, realtime_in_a_row=0, lower_lane=lane.value)


def request_of(pending: Sequence[PendingEvent], health: Health, *, most_bytes: int) -> list[PendingEvent]:
    """Return the first events of a lane that go into one request: at least one, and a suspect alone."""
    chosen: list[PendingEvent] = []
    size = 0
    for each in pending:
        size += len(each.event.text.encode()) + 1
        is_suspect = each.event.sort_key in health.suspects
        if chosen and (is_suspect or size > most_bytes):
            break
        chosen.append(each)
        if is_suspect:
            break
    return chosen


def lanes_to_probe(due: Sequence[Lane]) -> list[Lane]:
    """Return the due lanes in the order in which their events probe a failing endpoint.

    The retry lane comes last. Its events failed before, each alone, while others were delivered. They may
    well fail again, which says nothing of the endpoint. In front of a replay they would hold it up.
    """
    return sorted(due, key=lambda lane: lane is Lane.RETRY)


def number_of_stand_in(failures: int) -> int | None:
    """Return the number, from 0, of the other event to send after so many `failures` of the first event.

    From its third failure to its sixth another event follows each time, then each third time. To send one
    each time would double the requests to an endpoint that is down.

    Returns:
        None when no other event follows.
    """
    number = failures - FAILURES_OF_FIRST
    if number < OTHERS_AT_FIRST:
        return number if number >= 0 else None
    times, rest = divmod(number - OTHERS_AT_FIRST + 1, FAILURES_UNTIL_AGAIN)
    return None if rest else OTHERS_AT_FIRST + times - 1


def stand_in(number: int, lanes: Sequence[Lane]) -> tuple[list[Lane], float]:
    """Choose where to look for the other event with this `number`.

    The lanes take turns. The retry lane gives an event only when no other lane has one. Within a lane, the
    golden ratio spreads the places: the first event, then places between those before. So no run of events
    that fail, in one lane or in all, blocks a webhook for long.

    Returns:
        The lanes in the order in which to try them, and a place in the lane from 0 (its first event) to 1.
    """
    lanes_in_turn = [lane for lane in lanes if lane is not Lane.RETRY]
    rounds, first = divmod(number, len(lanes_in_turn) or 1)
    last = [lane for lane in lanes if lane is Lane.RETRY]
    return [*lanes_in_turn[first:], *lanes_in_turn[:first], *last], rounds * _GOLDEN_RATIO % 1
