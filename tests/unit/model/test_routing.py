"""Where an event goes for a webhook: nowhere, at once, or into a lane."""

from dataclasses import replace

import pytest

from lms_webhooks.model.events import Event
from lms_webhooks.model.health import DisabledReason, Health, Mode
from lms_webhooks.model.routing import Route, route
from lms_webhooks.model.webhooks import NoAuthentication, Status, Webhook

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
GONE = Health(mode=Mode.BACKLOG, disabled_reason=DisabledReason.GONE, disabled_at_ms=NOW_MS)
FAILING = Health(mode=Mode.BACKLOG, disabled_reason=DisabledReason.FAILING, disabled_at_ms=NOW_MS - DAY_MS)
LONG_FAILING = replace(FAILING, disabled_at_ms=NOW_MS - RETENTION_MS)


@pytest.mark.parametrize(
    ("story", "webhook", "health", "real_time", "non_real_time"),
    [
        ("all is well", WEBHOOK, WELL, Route.DIRECT, Route.BATCH_LANE),
        ("the endpoint failed", WEBHOOK, FALLEN, Route.REALTIME_LANE, Route.BATCH_LANE),
        ("paused", PAUSED, WELL, Route.REALTIME_LANE, Route.BATCH_LANE),
        ("ordered", ORDERED, WELL, Route.REALTIME_LANE, Route.BATCH_LANE),
        ("retired", RETIRED, WELL, Route.SKIP, Route.SKIP),
        ("it answered 410", WEBHOOK, GONE, Route.SKIP, Route.SKIP),
        ("it failed for days", WEBHOOK, FAILING, Route.REALTIME_LANE, Route.BATCH_LANE),
        ("and then for as long again", WEBHOOK, LONG_FAILING, Route.SKIP, Route.SKIP),
        ("retired after it failed", RETIRED, FAILING, Route.SKIP, Route.SKIP),
    ],
)
def test_the_way_of_an_event(
    story: str, webhook: Webhook, health: Health, real_time: Route, non_real_time: Route
) -> None:
    for event_name, way in (("COURSE_ENROLLMENT", real_time), ("LEARNER_PROGRESS", non_real_time)):
        event = Event("1010", "e1", event_name, NOW_MS, NOW_MS, "{}")
        got = route(webhook, health, event, retention_ms=RETENTION_MS)
        assert got is way, f"{story}: {event_name}"


@pytest.mark.parametrize("event_name", ["COURSE_ENROLLMENT", "LEARNER_PROGRESS"])
def test_what_was_accepted_before_a_switch_off_still_waits(event_name: str) -> None:
    """Its message was held up, by a dispatcher that died for example."""
    event = Event("1010", "e1", event_name, NOW_MS, NOW_MS - 1, "{}")
    assert route(WEBHOOK, GONE, event, retention_ms=RETENTION_MS) not in (Route.SKIP, Route.DIRECT)
    assert route(WEBHOOK, LONG_FAILING, event, retention_ms=RETENTION_MS) not in (
        Route.SKIP,
        Route.DIRECT,
    )


NEWLY_FAILING = replace(FAILING, disabled_at_ms=NOW_MS - RETENTION_MS + 1)
N, D, R, B = Route.SKIP, Route.DIRECT, Route.REALTIME_LANE, Route.BATCH_LANE

# Of an active, a paused and an inactive webhook: a real-time event, and one that is not.
EVERY_COMBINATION = [
    # health, ordered                     active   paused   inactive
    ("well", WELL, False, (D, B), (R, B), (N, N)),
    ("well", WELL, True, (R, B), (R, B), (N, N)),
    ("fallen", FALLEN, False, (R, B), (R, B), (N, N)),
    ("fallen", FALLEN, True, (R, B), (R, B), (N, N)),
    ("gone", GONE, False, (N, N), (N, N), (N, N)),
    ("gone", GONE, True, (N, N), (N, N), (N, N)),
    ("gone, direct", replace(GONE, mode=Mode.DIRECT), False, (N, N), (N, N), (N, N)),
    ("failing", NEWLY_FAILING, False, (R, B), (R, B), (N, N)),
    ("failing", NEWLY_FAILING, True, (R, B), (R, B), (N, N)),
    ("failing, direct", replace(NEWLY_FAILING, mode=Mode.DIRECT), False, (R, B), (R, B), (N, N)),
    ("failing for long", LONG_FAILING, False, (N, N), (N, N), (N, N)),
    ("failing for long", LONG_FAILING, True, (N, N), (N, N), (N, N)),
]


@pytest.mark.parametrize(("story", "health", "ordered", "active", "paused", "inactive"), EVERY_COMBINATION)
def test_every_combination(
    story: str,
    health: Health,
    ordered: bool,
    active: tuple[Route, Route],
    paused: tuple[Route, Route],
    inactive: tuple[Route, Route],
) -> None:
    real_time = Event("1010", "e1", "COURSE_ENROLLMENT", NOW_MS, NOW_MS, "{}")
    other = replace(real_time, event_name="LEARNER_PROGRESS")
    ways = {Status.ACTIVE: active, Status.PAUSED: paused, Status.INACTIVE: inactive}
    for status, expected in ways.items():
        webhook = replace(WEBHOOK, status=status, ordered=ordered)
        got = tuple(route(webhook, health, event, retention_ms=RETENTION_MS) for event in (real_time, other))
        assert got == expected, f"{story}, {status}"
        for event in (real_time, other):
            unasked = replace(webhook, events=WEBHOOK.events - {event.event_name})
            assert route(unasked, health, event, retention_ms=RETENTION_MS) is N, f"{story}, {status}"


def test_what_was_not_asked_for_goes_nowhere() -> None:
    event = Event("1010", "e1", "CI_STATS", NOW_MS, NOW_MS, "{}")
    assert route(WEBHOOK, WELL, event, retention_ms=RETENTION_MS) is Route.SKIP
