"""What follows each kind of response, row by row of the table in `retry`, as a receiver sees it."""

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest

from lms_webhooks.model.attempts import ErrorClass
from lms_webhooks.model.health import DisabledReason, Mode
from lms_webhooks.model.lanes import Lane
from tests.scenarios.endpoints import (
    DOWN,
    GONE,
    HANGS,
    OK,
    Reply,
    always,
    at_most,
    in_turn,
    rejecting,
    until,
    working,
)
from tests.scenarios.world import DAY, HOUR, MINUTE, Call, World

ENDPOINT_FAILURES = [
    *(Reply(status) for status in (300, 301, 302, 304, 308, 401, 402, 403, 404, 405, 406, 407, 408)),
    *(Reply(status) for status in (411, 421, 425, 426, 429, 431, 451)),
    *(Reply(status) for status in (500, 502, 503, 504, 521, 599)),
    *(Reply(None, error=error) for error in ErrorClass),
    HANGS,
]
EVENT_REJECTIONS = [400, 409, 412, 413, 415, 418, 422, 499]


@pytest.mark.parametrize("reply", ENDPOINT_FAILURES, ids=lambda reply: str(reply.status or reply.error))
def test_an_endpoint_failure_makes_everything_wait_for_the_next_probe(world: World, reply: Reply) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = in_turn(reply, reply, OK)
    ids = world.emit(4)
    world.run_until_quiet()
    assert endpoint.acknowledged == ids
    assert [post.event_ids for post in endpoint.posts[:3]] == [ids[:1]] * 3
    assert endpoint.pauses[:2] == pytest.approx([5, 10], abs=0.1)
    assert world.history(webhook)[ids[0]].statuses == [200], "endpoint failures are not each event's"


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_every_2xx_acknowledges(world: World, status: int) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = always(Reply(status))
    (event,) = world.emit()
    world.run(2)
    assert world.history(webhook)[event].statuses == [status]


@pytest.mark.parametrize("jitter", [0.0, 0.5, 0.999])
def test_probes_come_after_the_documented_delays(world: World, jitter: float) -> None:
    """5, 10, 20, 40, 80, 160, 300, 300... seconds; the jitter only adds, at most a tenth."""
    world.jitter = jitter
    endpoint = world.endpoint()
    world.register(endpoint, ordered=True)
    endpoint.script = in_turn(*[DOWN] * 9, OK)
    world.emit(3)
    world.run_until_quiet(at_most=HOUR)
    documented = [5, 10, 20, 40, 80, 160, 300, 300, 300]
    assert endpoint.pauses[:9] == pytest.approx([each * (1 + jitter / 10) for each in documented], abs=0.1)
    assert all(pause >= wanted for pause, wanted in zip(endpoint.pauses, documented, strict=False))


def test_four_probes_in_a_row_and_then_each_third_are_followed_by_one_of_another_event(world: World) -> None:
    """What a receiver fails at may be the first event. The delays are as if there were no other."""
    endpoint = world.endpoint()
    world.register(endpoint)
    endpoint.script = until(world.now + 45 * MINUTE, DOWN)
    ids = world.emit(3)
    world.run_until_quiet(at_most=HOUR)
    documented = [5, 10, 0, 20, 0, 40, 0, 80, 0, 160, 300, 300, 0, 300, 300, 300, 0]
    assert endpoint.pauses[:17] == pytest.approx(documented, abs=0.1)
    first, second, third = ids
    sent = [first, first, first, second, first, third, first, second, first, third]
    sent += [first, first, first, second] * 2
    assert [post.event_ids for post in endpoint.posts[:18]] == [[each] for each in sent]
    assert endpoint.acknowledged == ids, "and nothing overtakes the first one when it is well again"


def test_a_success_resets_the_delays(world: World) -> None:
    endpoint = world.endpoint()
    world.register(endpoint)
    endpoint.script = in_turn(DOWN, DOWN, OK, DOWN, DOWN, OK)
    world.emit(10)
    world.run_until_quiet()
    assert endpoint.pauses[:5] == pytest.approx([5, 10, 0, 5, 10], abs=0.1)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("asked", "seconds"),
    [("30", 30), ("1", 5), ("900", 900), ("86400", 900), ("nonsense", 5), ("-3", 5), ("30, 60", 60)],
)
@pytest.mark.parametrize("is_dispatchers", [True, False], ids=["dispatcher", "drainer"])
def test_retry_after_in_seconds_is_a_floor(
    world: World, status: int, asked: str, seconds: float, *, is_dispatchers: bool
) -> None:
    endpoint = world.endpoint()
    world.register(endpoint, ordered=not is_dispatchers)
    endpoint.script = in_turn(Reply(status, retry_after=asked), OK)
    world.emit(2)
    world.run_until_quiet(at_most=HOUR)
    assert endpoint.pauses[0] == pytest.approx(seconds, abs=0.1)
    assert endpoint.pauses[0] >= seconds


def test_retry_after_as_a_date(world: World) -> None:
    endpoint = world.endpoint()
    world.register(endpoint)
    moment = datetime.fromtimestamp(world.now + 47, UTC)
    endpoint.script = in_turn(Reply(503, retry_after=format_datetime(moment, usegmt=True)), OK)
    world.emit(2)
    world.run_until_quiet()
    assert world.now > moment.timestamp()
    assert endpoint.posts[1].started_at - moment.timestamp() == pytest.approx(0.5, abs=0.55)
    assert endpoint.posts[1].started_at >= moment.timestamp()


def test_retry_after_with_jitter_is_never_earlier(world: World) -> None:
    world.jitter = 0.999
    endpoint = world.endpoint()
    world.register(endpoint)
    endpoint.script = in_turn(
        Reply(429, retry_after="60"), Reply(429, retry_after="890"), Reply(429, retry_after="900"), OK
    )
    world.emit(2)
    world.run_until_quiet(at_most=HOUR)
    assert endpoint.pauses[:3] == pytest.approx([66, 900, 900], abs=0.1)


def test_retry_after_means_nothing_on_other_answers(world: World) -> None:
    endpoint = world.endpoint()
    world.register(endpoint)
    endpoint.script = in_turn(Reply(500, retry_after="600"), Reply(302, retry_after="600"), OK)
    world.emit(2)
    world.run_until_quiet()
    assert endpoint.pauses[:2] == pytest.approx([5, 10], abs=0.1)


def test_a_410_is_confirmed_by_the_drainer_and_switches_the_webhook_off(world: World) -> None:
    """The dispatcher hears 410; the drainer asks once more, and then nothing is sent or taken any more."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = always(GONE)
    first = world.emit(3)
    world.run(5)
    assert [post.function for post in endpoint.posts] == ["dispatcher", "drainer"]
    assert endpoint.pauses == pytest.approx([0], abs=0.2)
    assert world.health(webhook).disabled_reason is DisabledReason.GONE
    assert world.metrics["WebhooksDisabled"] == 1

    later = world.emit(5)
    world.refused |= {(webhook, each) for each in later}
    world.run(2 * DAY)
    assert len(endpoint.posts) == 2
    assert world.waiting_ids(webhook) == first, "what waited stays until it expires"
    world.run(6 * DAY)
    assert world.outcomes(webhook) == {"expired": 3}
    assert world.marks(webhook) == {}


def test_a_410_that_the_drainer_cannot_confirm_switches_nothing_off(world: World) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = in_turn(GONE, OK)
    ids = world.emit(3)
    world.run_until_quiet()
    assert endpoint.acknowledged == ids
    assert world.health(webhook).disabled_reason is None


@pytest.mark.parametrize("status", EVENT_REJECTIONS)
def test_a_rejected_event_is_set_aside_and_the_others_go_on_directly(world: World, status: int) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = rejecting("e000003", status=status)
    ids = world.emit(10)
    world.run(2)
    assert endpoint.acknowledged == [each for each in ids if each != "e000003"]
    assert world.waiting_ids(webhook, Lane.RETRY) == ["e000003"]
    assert world.health(webhook).mode is Mode.DIRECT
    assert world.health(webhook).failures == 0

    endpoint.script = always(OK)
    world.run(3 * MINUTE)
    assert endpoint.acknowledged[-1] == "e000003"
    assert world.history(webhook)["e000003"].statuses == [status, 200]
    assert world.marks(webhook) == {}


def test_a_poison_event_among_five_hundred_stops_nobody(world: World) -> None:
    """499 arrive without waiting for it. It is tried again after 1 min, 10 min, 1, 6, 24, 48 and 72 h, alone,
    and ends failed with its reason."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = until(world.now + 4, DOWN)
    ids = world.emit(500)
    poison = ids[333]
    world.run(4)
    endpoint.script = rejecting(poison)
    world.run(8)
    others = [each for each in ids if each != poison]
    assert endpoint.acknowledged == others
    assert world.outcomes(webhook) == {"delivered": 499}
    assert len(endpoint.posts_of("dispatcher")) == 50, "each ten of them saw for themselves that it fails"
    assert len(endpoint.posts_of("drainer")) < 40
    set_aside_at = next(post.ended_at for post in endpoint.posts if post.event_ids == [poison])
    assert set_aside_at is not None

    posts = len(endpoint.posts)
    world.run(7 * DAY)
    tries = endpoint.posts[posts:]
    assert [post.event_ids for post in tries] == [[poison]] * 7
    waits = [
        after.started_at - before
        for before, after in zip([set_aside_at, *(post.ended_at or 0 for post in tries)], tries, strict=False)
    ]
    documented = [60, 600, 3_600, 21_600, 86_400, 172_800, 259_200]
    assert waits == pytest.approx(documented, abs=65), "the sweep is a minute late at most"
    assert all(wait >= wanted for wait, wanted in zip(waits, documented, strict=True))
    assert world.history(webhook)[poison].outcome == "failed"
    assert world.history(webhook)[poison].reason == "rejected 8 times, at last with HTTP 422"
    assert world.history(webhook)[poison].statuses == [422] * 8
    assert world.marks(webhook) == {}
    assert world.health(webhook).failures == 0


def test_several_poison_events_and_nothing_else_charge_no_endpoint(world: World) -> None:
    """Three events are rejected again and again, and nothing else happens: 24 rejections without a 2xx in
    between, and each says the same of its event alone."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    ids = world.emit(3)
    endpoint.script = rejecting(*ids)
    world.run(8 * DAY)
    assert len(endpoint.posts) == 3 * 8
    assert world.outcomes(webhook) == {"failed": 3}
    assert world.health(webhook).mode is Mode.DIRECT
    assert world.health(webhook).failing_since_ms == 0


def test_a_413_halves_the_bytes_of_what_comes_after_it(world: World) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = until(world.now + 4, DOWN)
    ids = world.emit(400)
    world.run(4)
    endpoint.script = at_most(20, Reply(413))
    world.run_until_quiet()
    assert endpoint.acknowledged == ids
    assert sum(post.reply.status == 413 for post in endpoint.posts) == 1
    refused = next(post for post in endpoint.posts if post.reply.status == 413)
    later = endpoint.posts[endpoint.posts.index(refused) + 1 :]
    assert max(len(post.body) for post in later) <= len(refused.body) // 2
    health = world.health(webhook)
    assert (health.max_bytes, health.request_size_ceiling) == (len(refused.body) // 2, 100)


def test_ten_rejections_in_a_row_are_an_endpoint_failure_from_the_dispatcher(world: World) -> None:
    """A receiver responds 400 to everything. The first ten are set aside, from then on all wait."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = always(Reply(400))
    ids = world.emit(10)
    world.run(1)
    ids += world.emit(20)
    world.run(2)
    assert len(endpoint.posts) == 10
    assert world.waiting_ids(webhook, Lane.RETRY) == ids[:10]
    assert world.waiting_ids(webhook, Lane.REALTIME) == ids[10:]
    assert world.health(webhook).mode is Mode.BACKLOG

    endpoint.script = always(OK)
    world.run_until_quiet()
    assert [each for each in endpoint.acknowledged if each in ids[10:]] == ids[10:]
    assert world.outcomes(webhook) == {"delivered": 30}


def test_ten_rejections_in_a_row_are_an_endpoint_failure_from_the_drainer(world: World) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint, ordered=True)
    endpoint.script = always(Reply(400))
    ids = world.emit(30)
    world.run(3)
    assert len(endpoint.posts) == 10
    assert world.waiting_ids(webhook, Lane.RETRY) == ids[:10]
    assert world.waiting_ids(webhook, Lane.REALTIME) == ids[10:]
    assert world.health(webhook).failures == 1
    world.run(50)
    assert endpoint.pauses[9:12] == pytest.approx([5, 10, 20], abs=0.1)


def test_a_run_of_poison_events_does_not_block_those_behind_it(world: World) -> None:
    """Fifteen events in a row that the receiver never takes, then good ones: these arrive, if later."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    poison = world.emit(10)
    endpoint.script = rejecting(*(f"e{number:06d}" for number in range(15)))
    world.run(2)
    poison += world.emit(5)
    good = world.emit(20)
    world.run(10 * MINUTE)
    assert endpoint.acknowledged == good
    world.run(8 * DAY)
    assert world.outcomes(webhook) == {"delivered": 20, "failed": 15}


def test_timeouts_find_the_batch_size_that_an_endpoint_can_take(world: World) -> None:
    """It needs 60 ms an event, so more than 83 at once take too long. They are tried less and less often."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = until(world.now + 4, DOWN)
    ids = world.emit(2000)
    world.run(4)
    endpoint.script = working(0.06)
    world.run_until_quiet(at_most=30 * MINUTE)
    assert endpoint.acknowledged == ids
    assert world.outcomes(webhook) == {"delivered": 2000}
    timeouts = [len(post.event_ids) for post in endpoint.posts if post.reply.error is ErrorClass.TIMEOUT]
    assert timeouts == [100] * 3
    assert world.health(webhook).ceiling_trials == 32


@pytest.mark.slow
def test_one_request_in_forty_that_hangs_does_not_make_requests_small(world: World) -> None:
    """Whatever its size, in front of 8,000 events: 80 requests would do."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = always(DOWN)
    world.emit(1)
    world.run(1)
    ids = world.emit(8_000)
    world.run(3)
    endpoint.script = lambda _ids, _now: HANGS if len(endpoint.posts) % 40 == 0 else OK
    posts = len(endpoint.posts)
    world.run_until_quiet(at_most=30 * MINUTE)
    assert endpoint.acknowledged[1:] == ids
    assert len(endpoint.posts) - posts <= 120
    assert world.health(webhook).suspects == {}


def test_an_endpoint_that_fails_on_large_batches_gets_smaller_ones(world: World) -> None:
    """It responds 502 to more than twenty events, as a gateway before a slow service does. What it can take
    still goes out: every probe after a failure is small."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = until(world.now + 4, DOWN)
    ids = world.emit(200)
    world.run(4)
    endpoint.script = at_most(20, Reply(502))
    world.run_until_quiet(at_most=30 * MINUTE)
    assert endpoint.acknowledged == ids
    assert world.outcomes(webhook) == {"delivered": 200}


@pytest.mark.parametrize("ordered", [False, True], ids=["direct", "ordered"])
def test_an_event_that_comes_again_after_it_was_rejected_is_set_aside_once(
    world: World, *, ordered: bool
) -> None:
    """It begins its delays again, and its history has all attempts."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint, ordered=ordered)
    endpoint.script = always(Reply(422))
    (event,) = world.emit()
    for seconds in (0.05, 30, 5 * MINUTE, 2 * HOUR, 7 * HOUR):
        world.duplicate(event, delay_seconds=seconds)
    for _ in range(60):
        world.run(10 * MINUTE)
        assert world.waiting_ids(webhook) in ([], [event])
    assert world.waiting_ids(webhook, Lane.RETRY) == [event]
    world.run_until_quiet(at_most=8 * DAY)
    assert world.history(webhook)[event].outcome == "failed"
    assert world.history(webhook)[event].statuses == [422] * len(endpoint.posts)
    assert len(endpoint.posts) <= 8 + 5 * 3


def test_bodies_of_failures_are_kept_for_a_webhook_that_wants_them_and_no_other(world: World) -> None:
    """By the dispatcher and by the drainer, of rejections and of failures of the endpoint."""
    endpoint, other = world.endpoint(), world.endpoint("other")
    keeps, keeps_not = world.register(endpoint), world.register(other)
    world.change(keeps, keep_response_bodies=True)
    endpoint.script = in_turn(Reply(422, body="no"), Reply(422, body="still no"), OK)
    other.script = in_turn(Reply(422, body="no"), OK)
    world.emit(1)
    world.run(5 * MINUTE)
    endpoint.script = in_turn(Reply(503, body="down"), Reply(503, body="down again"), OK)
    other.script = in_turn(Reply(503, body="down"), OK)
    world.emit(1)
    world.run_until_quiet(at_most=30 * MINUTE)
    kept = [item["body"]["S"] for item in world._partition(f"BODY#{keeps}")]
    assert kept == ["no", "still no", "down", "down again"]
    assert world._partition(f"BODY#{keeps_not}") == []
    assert world.outcomes(keeps) == world.outcomes(keeps_not) == {"delivered": 2}


def test_a_body_that_cannot_be_kept_changes_nothing(world: World) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    world.change(webhook, keep_response_bodies=True)
    endpoint.script = in_turn(Reply(503, body="down"), Reply(422, body="no"), OK)

    def refuse(call: Call, proceed: Callable[[], Any]) -> Any:
        if "BODY#" in str(call.params.get("Item", {}).get("pk")):
            raise world.aws_error("ThrottlingException", call)
        return proceed()

    world.taps.append(refuse)
    world.emit(1)
    world.run_until_quiet(at_most=30 * MINUTE)
    assert world._partition(f"BODY#{webhook}") == []
    assert world.outcomes(webhook) == {"delivered": 1}
