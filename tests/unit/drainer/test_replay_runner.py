"""A replay goes through the history once, step by step, and counts each step once."""

from dataclasses import replace
from typing import Any

import pytest

from lms_webhooks.aws.dynamodb import Table
from lms_webhooks.drainer.replay_runner import ReplayBatch, ReplayRunner
from lms_webhooks.model.deliveries import Delivery, Outcome
from lms_webhooks.model.lanes import Lane, PendingEvent
from lms_webhooks.stores.backlog import Backlog
from lms_webhooks.stores.deliveries import DeliveryStore
from lms_webhooks.stores.replays import ReplayStore
from tests.unit.replay_jobs import AGAIN, OK, STARTED, counts, stands
from tests.unit.tables import NOW_MS, Fails, before, event


@pytest.fixture
def store(table: Table) -> ReplayStore:
    return ReplayStore(table, sleep=lambda _: None)


@pytest.fixture
def history(table: Table) -> DeliveryStore:
    return DeliveryStore(table, retention_days=30, sleep=lambda _: None)


@pytest.fixture
def replays(store: ReplayStore, history: DeliveryStore, backlog: Backlog) -> ReplayRunner:
    return ReplayRunner(store, history, backlog, clock=lambda: NOW_MS / 1000 + 9)


def delivery(number: int, outcome: Outcome = Outcome.DELIVERED, **changes: Any) -> Delivery:
    of = event(f"e{number:03d}", at_ms=NOW_MS - 60_000 + number, **changes)
    return Delivery("wh_1", of, outcome, (OK,))


def fill(history: DeliveryStore, *deliveries: Delivery) -> list[str]:
    """Record them; return their sort keys."""
    assert history.record(deliveries, recorded_at_seconds=NOW_MS // 1000) == set()
    return [each.event.sort_key for each in deliveries]


def ids(batch: ReplayBatch | None) -> list[str]:
    assert batch is not None
    return [each.event.event_id for each in batch.pending]


@pytest.mark.parametrize(
    ("outcome", "event_name", "wanted"),
    [
        (None, None, ["e000", "e001", "e002", "e003"]),
        (Outcome.FAILED, None, ["e001", "e003"]),
        (None, "CI_STATS", ["e002", "e003"]),
        (Outcome.FAILED, "CI_STATS", ["e003"]),
        (Outcome.EXPIRED, None, []),
    ],
)
def test_what_is_asked_for_is_sent_and_the_rest_is_passed_by(
    store: ReplayStore,
    backlog: Backlog,
    history: DeliveryStore,
    replays: ReplayRunner,
    outcome: Outcome | None,
    event_name: str | None,
    wanted: list[str],
) -> None:
    fill(
        history,
        delivery(0),
        delivery(1, Outcome.FAILED),
        delivery(2, event_name="CI_STATS"),
        delivery(3, Outcome.FAILED, event_name="CI_STATS"),
    )
    store.start(replace(STARTED, outcome=outcome, event_name=event_name), backlog)
    batch = replays.next_batch("wh_1", limit=10)
    assert ids(batch) == wanted
    assert batch is not None
    if wanted:
        assert replays.record(batch, batch.pending, AGAIN, is_delivered=True)
    else:
        replays.skip(batch)
    assert counts(store) == ("done", 4, len(wanted), 0)
    assert replays.next_batch("wh_1", limit=10) is None
    assert not replays.is_running("wh_1")


def test_a_portion_is_no_larger_than_the_request_and_the_next_begins_behind_it(
    store: ReplayStore, backlog: Backlog, history: DeliveryStore, replays: ReplayRunner
) -> None:
    keys = fill(history, *(delivery(number, Outcome.FAILED) for number in range(5)))
    store.start(replace(STARTED, outcome=Outcome.FAILED), backlog)
    assert replays.is_running("wh_1")
    for expected, position in ((["e000", "e001"], keys[1]), (["e002", "e003"], keys[3]), (["e004"], keys[4])):
        batch = replays.next_batch("wh_1", limit=2)
        assert ids(batch) == expected
        assert batch is not None
        assert replays.record(batch, batch.pending, AGAIN, is_delivered=False)
        assert stands(store).position == position
    assert counts(store) == ("done", 5, 0, 5)
    assert stands(store).ended_at_ms == NOW_MS + 9_000


def test_an_unfiltered_replay_reads_no_more_than_it_sends(
    store: ReplayStore, backlog: Backlog, history: DeliveryStore, replays: ReplayRunner, table: Table
) -> None:
    """Each event is read with its text. A filtered one reads a hundred, as few of them may be wanted."""
    fill(history, *(delivery(number) for number in range(120)))
    limits: list[int] = []
    table.client.meta.events.register(
        "provide-client-params.dynamodb.Query", lambda params, **_: limits.append(params["Limit"])
    )
    store.start(STARTED, backlog)
    assert len(ids(replays.next_batch("wh_1", limit=7))) == 7
    assert max(limits) <= 8
    filtered: list[dict[str, Any]] = [{"outcome": Outcome.FAILED}, {"event_name": "CI_STATS"}]
    for changes in filtered:
        store.cancel("wh_1", ended_at_ms=NOW_MS)
        store.start(replace(STARTED, **changes), backlog)
        passed = replays.next_batch("wh_1", limit=7)
        assert ids(passed) == []
        assert passed is not None
        replays.skip(passed)
        assert counts(store) == ("running", 100, 0, 0)


def test_what_could_not_be_noted_is_sent_in_the_next_portion_and_what_was_is_not(
    store: ReplayStore, backlog: Backlog, history: DeliveryStore, replays: ReplayRunner, table: Table
) -> None:
    """The third of five attempts was not written. The fourth and fifth were: they are not repeated."""
    keys = fill(history, *(delivery(number) for number in range(5)))
    store.start(STARTED, backlog)
    batch = replays.next_batch("wh_1", limit=5)
    assert batch is not None
    client = before(table)
    client.answers["update_item"] = Fails(client.behind.update_item, 3)
    assert not replays.record(batch, batch.pending, AGAIN, is_delivered=True)
    client.answers.clear()
    assert counts(store) == ("running", 2, 2, 0)
    assert stands(store).position == keys[1]
    rest = replays.next_batch("wh_1", limit=5)
    assert ids(rest) == ["e002"]
    assert rest is not None
    assert replays.record(rest, rest.pending, AGAIN, is_delivered=False)
    assert counts(store) == ("done", 5, 4, 1)


def test_what_went_out_for_the_first_time_after_a_replay_began_is_passed_by(
    store: ReplayStore, backlog: Backlog, history: DeliveryStore, replays: ReplayRunner
) -> None:
    """It was the backlog's. What was delivered a moment before the beginning is the replay's."""
    just_before, just_after = (replace(OK, started_at_ms=NOW_MS + at_ms) for at_ms in (-1, 0))
    fill(
        history,
        replace(delivery(0), attempts=(just_before,)),
        replace(delivery(1), attempts=(just_after,)),
        replace(delivery(2), attempts=(just_before, just_after)),
        replace(delivery(3, Outcome.FAILED), attempts=(replace(just_after, status_code=422),)),
    )
    store.start(STARTED, backlog)
    batch = replays.next_batch("wh_1", limit=10)
    assert ids(batch) == ["e000", "e002", "e003"]


def test_single_ones_go_before_a_replay_and_leave_its_counts_alone(
    store: ReplayStore, backlog: Backlog, history: DeliveryStore, replays: ReplayRunner
) -> None:
    fill(history, delivery(0), delivery(1))
    store.start(STARTED, backlog)
    store.redeliver("1010", "wh_1", PendingEvent(delivery(1).event), backlog, asked_at_ms=NOW_MS)
    batch = replays.next_batch("wh_1", limit=10)
    assert ids(batch) == ["e001"]
    assert batch is not None
    assert replays.record(batch, batch.pending, AGAIN, is_delivered=True)
    assert counts(store) == ("running", 0, 0, 0)
    found = history.find("wh_1", delivery(1).event.sort_key)
    assert found is not None
    assert found[0].replay_id == ""


@pytest.mark.parametrize("is_delivered", [True, False])
def test_a_single_one_whose_attempt_is_not_noted_is_sent_again(
    store: ReplayStore,
    backlog: Backlog,
    history: DeliveryStore,
    replays: ReplayRunner,
    table: Table,
    is_delivered: bool,
) -> None:
    fill(history, delivery(0))
    store.redeliver("1010", "wh_1", PendingEvent(delivery(0).event), backlog, asked_at_ms=NOW_MS)
    batch = replays.next_batch("wh_1", limit=10)
    assert batch is not None
    before(table).answers["update_item"] = Fails(None)  # type: ignore[arg-type]  # is never called
    assert not replays.record(batch, batch.pending, AGAIN, is_delivered=is_delivered)
    before(table).answers.clear()
    assert ids(replays.next_batch("wh_1", limit=10)) == ["e000"]


@pytest.mark.parametrize(("is_delivered", "waits_on"), [(True, False), (False, True)])
def test_what_was_sent_ahead_of_its_time_waits_on_only_if_it_was_rejected(
    store: ReplayStore, backlog: Backlog, replays: ReplayRunner, is_delivered: bool, waits_on: bool
) -> None:
    kept = PendingEvent(event("a"), due_at_ms=NOW_MS + 900, tries=1, attempts=(OK,))
    backlog.append("wh_1", Lane.RETRY, [kept])
    store.redeliver("1010", "wh_1", replace(kept, lane=Lane.RETRY), backlog, asked_at_ms=NOW_MS)
    batch = replays.next_batch("wh_1", limit=10)
    assert batch is not None
    assert replays.record(batch, batch.pending, AGAIN, is_delivered=is_delivered)
    expected = [replace(kept, attempts=(OK, AGAIN))] if waits_on else []
    assert backlog.read("wh_1", Lane.RETRY, limit=5) == expected
    assert replays.next_batch("wh_1", limit=10) is None


def test_of_a_deleted_webhook_nothing_is_left_to_send_again(
    store: ReplayStore, backlog: Backlog, replays: ReplayRunner
) -> None:
    store.start(STARTED, backlog)
    store.redeliver("1010", "wh_1", PendingEvent(event("a")), backlog, asked_at_ms=NOW_MS)
    assert replays.discard("wh_1", backlog.read("wh_1", Lane.REPLAY, limit=5))
    assert store.find("wh_1") is None
    assert backlog.read("wh_1", Lane.REPLAY, limit=5) == []


def test_a_replay_of_nothing_ends(store: ReplayStore, backlog: Backlog, replays: ReplayRunner) -> None:
    """The webhook had no deliveries in that time. Otherwise it would run for ever, and be the only one."""
    store.start(STARTED, backlog)
    batch = replays.next_batch("wh_1", limit=10)
    assert batch is not None
    assert batch.pending == []
    replays.skip(batch)
    assert counts(store) == ("done", 0, 0, 0)
    assert replays.next_batch("wh_1", limit=10) is None


def test_a_replay_of_which_nothing_could_be_noted_stays_where_it_is(
    store: ReplayStore, backlog: Backlog, history: DeliveryStore, replays: ReplayRunner, table: Table
) -> None:
    fill(history, delivery(0), delivery(1))
    store.start(STARTED, backlog)
    batch = replays.next_batch("wh_1", limit=10)
    assert batch is not None
    before(table).answers["update_item"] = Fails(None)  # type: ignore[arg-type]  # is never called
    assert not replays.record(batch, batch.pending, AGAIN, is_delivered=True)
    before(table).answers.clear()
    assert stands(store) == STARTED


def test_what_was_sent_again_is_counted_in_the_metrics(
    store: ReplayStore,
    backlog: Backlog,
    history: DeliveryStore,
    replays: ReplayRunner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted: list[tuple[str, float]] = []
    monkeypatch.setattr(
        "lms_webhooks.drainer.replay_runner.count",
        lambda metric, number: counted.append((metric.value, number)),
    )
    monkeypatch.setattr(
        "lms_webhooks.drainer.replay_runner.measure_ms", lambda metric, ms: counted.append((metric.value, ms))
    )
    fill(history, delivery(0), delivery(1))
    store.start(STARTED, backlog)
    batch = replays.next_batch("wh_1", limit=1)
    assert batch is not None
    replays.record(batch, batch.pending, AGAIN, is_delivered=True)
    assert counted == [("Deliveries", 1), ("DeliveryLatency", 40)]
    batch = replays.next_batch("wh_1", limit=1)
    assert batch is not None
    replays.record(batch, batch.pending, AGAIN, is_delivered=False)
    assert len(counted) == 2


def test_a_fault_where_it_also_waits_does_not_undo_what_was_sent(
    store: ReplayStore, backlog: Backlog, replays: ReplayRunner, table: Table
) -> None:
    """Its own drainer finds it delivered, and takes it out."""
    kept = PendingEvent(event("a"), due_at_ms=NOW_MS + 900, tries=1)
    backlog.append("wh_1", Lane.RETRY, [kept])
    for is_delivered, name in ((False, "update_item"), (True, "batch_write_item")):
        store.redeliver("1010", "wh_1", replace(kept, lane=Lane.RETRY), backlog, asked_at_ms=NOW_MS)
        batch = replays.next_batch("wh_1", limit=10)
        assert batch is not None
        client = before(table)
        behind = getattr(client.behind, name)

        def fail_in_the_backlog(behind: Any = behind, **call: Any) -> Any:
            return Fails(None)() if "BACKLOG#" in str(call) else behind(**call)  # type: ignore[arg-type]

        client.answers[name] = fail_in_the_backlog
        assert replays.record(batch, batch.pending, AGAIN, is_delivered=is_delivered)
        client.answers.clear()
        assert backlog.read("wh_1", Lane.RETRY, limit=5) == [kept]
        assert replays.next_batch("wh_1", limit=10) is None
