"""Where an event goes for a webhook: nowhere, at once, or into a lane."""

from dataclasses import replace
from itertools import product

import pytest

from lms_webhooks.events import Event
from lms_webhooks.health import Health, Mode, SwitchOff
from lms_webhooks.matching import Way, choose_way
from lms_webhooks.webhooks import NoAuthentication, Status, Webhook

NOW_MS = 1_793_707_200_000
DAY_MS = 86_400_000
RETENTION_MS = 7 * DAY_MS
WEBHOOK = Webhook(
    account_id="1010",
    webhook_id="wh_1",
    name="HR",
    target_url="https://hooks.example.com/",
    authentication=NoAuthentication(),
    events=frozenset({"COURSE_ENROLLMENT", "LEARNER_PROGRESS"}),
    status=Status.ACTIVE,
    created_at="",
    updated_at="",
    created_by="",
    updated_by="",
)
PAUSED = replace(WEBHOOK, status=Status.PAUSED)
RETIRED = replace(WEBHOOK, status=Status.INACTIVE)
ORDERED = replace(WEBHOOK, ordered=True)
WELL = Health()
FALLEN = Health(mode=Mode.BACKLOG)
GONE = Health(mode=Mode.BACKLOG, switched_off=SwitchOff.GONE, switched_off_at_ms=NOW_MS)
FAILING = Health(mode=Mode.BACKLOG, switched_off=SwitchOff.FAILING, switched_off_at_ms=NOW_MS - DAY_MS)
LONG_FAILING = replace(FAILING, switched_off_at_ms=NOW_MS - RETENTION_MS)


@pytest.mark.parametrize(
    ("story", "webhook", "health", "real_time", "non_real_time"),
    [
        ("all is well", WEBHOOK, WELL, Way.DIRECT, Way.BATCH_LANE),
        ("the endpoint failed", WEBHOOK, FALLEN, Way.REALTIME_LANE, Way.BATCH_LANE),
        ("paused", PAUSED, WELL, Way.REALTIME_LANE, Way.BATCH_LANE),
        ("ordered", ORDERED, WELL, Way.REALTIME_LANE, Way.BATCH_LANE),
        ("retired", RETIRED, WELL, Way.NOWHERE, Way.NOWHERE),
        ("it answered 410", WEBHOOK, GONE, Way.NOWHERE, Way.NOWHERE),
        ("it failed for days", WEBHOOK, FAILING, Way.REALTIME_LANE, Way.BATCH_LANE),
        ("and then for as long again", WEBHOOK, LONG_FAILING, Way.NOWHERE, Way.NOWHERE),
        ("retired after it failed", RETIRED, FAILING, Way.NOWHERE, Way.NOWHERE),
    ],
)
def test_the_way_of_an_event(
    story: str, webhook: Webhook, health: Health, real_time: Way, non_real_time: Way
) -> None:
    for event_name, way in (("COURSE_ENROLLMENT", real_time), ("LEARNER_PROGRESS", non_real_time)):
        event = Event("1010", "e1", event_name, NOW_MS, NOW_MS, "{}")
        got = choose_way(webhook, health, event, retention_ms=RETENTION_MS)
        assert got is way, f"{story}: {event_name}"


@pytest.mark.parametrize("event_name", ["COURSE_ENROLLMENT", "LEARNER_PROGRESS"])
def test_what_was_accepted_before_a_switch_off_still_waits(event_name: str) -> None:
    """Its message was held up, by a dispatcher that died for example."""
    event = Event("1010", "e1", event_name, NOW_MS, NOW_MS - 1, "{}")
    assert choose_way(WEBHOOK, GONE, event, retention_ms=RETENTION_MS) not in (Way.NOWHERE, Way.DIRECT)
    assert choose_way(WEBHOOK, LONG_FAILING, event, retention_ms=RETENTION_MS) not in (
        Way.NOWHERE,
        Way.DIRECT,
    )


SWITCHED_OFF = {
    "no": None,
    "gone": NOW_MS,
    "failing": NOW_MS - RETENTION_MS + 1,
    "long": NOW_MS - RETENTION_MS,
}


@pytest.mark.parametrize(
    ("status", "mode", "switched_off", "ordered", "is_real_time", "is_asked_for"),
    list(product(Status, Mode, SWITCHED_OFF, [False, True], [False, True], [False, True])),
)
def test_every_combination(
    status: Status, mode: Mode, switched_off: str, ordered: bool, is_real_time: bool, is_asked_for: bool
) -> None:
    event = Event(
        "1010", "e1", "COURSE_ENROLLMENT" if is_real_time else "LEARNER_PROGRESS", NOW_MS, NOW_MS, "{}"
    )
    webhook = replace(
        WEBHOOK,
        status=status,
        ordered=ordered,
        events=WEBHOOK.events if is_asked_for else WEBHOOK.events - {event.event_name},
    )
    why = {"no": None, "gone": SwitchOff.GONE}.get(switched_off, SwitchOff.FAILING)
    health = Health(mode=mode, switched_off=why, switched_off_at_ms=SWITCHED_OFF[switched_off] or 0)

    takes_it = is_asked_for and status is not Status.INACTIVE and switched_off in ("no", "failing")
    at_once = status is Status.ACTIVE and mode is Mode.DIRECT and switched_off == "no" and not ordered
    expected = Way.NOWHERE
    if takes_it and not is_real_time:
        expected = Way.BATCH_LANE
    elif takes_it:
        expected = Way.DIRECT if at_once else Way.REALTIME_LANE
    assert choose_way(webhook, health, event, retention_ms=RETENTION_MS) is expected


def test_what_was_not_asked_for_goes_nowhere() -> None:
    event = Event("1010", "e1", "CI_STATS", NOW_MS, NOW_MS, "{}")
    assert choose_way(WEBHOOK, WELL, event, retention_ms=RETENTION_MS) is Way.NOWHERE
