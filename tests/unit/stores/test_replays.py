"""What is stored of a replay: each step is counted once, and the end is remembered."""

from dataclasses import replace
from typing import Any

import pytest

from lms_webhooks.aws.dynamodb import KeyRange, Table
from lms_webhooks.errors import IdempotencyInProgress, ReplayInProgress
from lms_webhooks.model.attempts import Attempt
from lms_webhooks.model.deliveries import DeliveryRecord, Outcome
from lms_webhooks.model.lanes import Lane, PendingEvent
from lms_webhooks.stores.backlog import Backlog
from lms_webhooks.stores.replays import Replay, ReplayState, ReplayStore
from tests.unit.replay_jobs import AGAIN, OK, STARTED, counts, stands
from tests.unit.tables import NOW_MS, event

DAY_SECONDS = 86_400


@pytest.fixture
def store(table: Table) -> ReplayStore:
    return ReplayStore(table, sleep=lambda _: None)


@pytest.mark.parametrize(
    "kept",
    [
        STARTED,
        replace(STARTED, outcome=Outcome.FAILED, event_name="CI_STATS", range=KeyRange("1", "2")),
        replace(STARTED, position="1793707200000#e1", read=7, delivered=4, rejected=2),
    ],
    ids=["begun", "filtered", "half-way"],
)
def test_everything_about_a_replay_comes_back(store: ReplayStore, backlog: Backlog, kept: Replay) -> None:
    store.start(kept, backlog)
    assert store.find("wh_1") == kept
    assert store.find("wh_2") is None


def test_a_replay_that_begins_is_marked_and_one_that_does_not_begin_is_not(
    store: ReplayStore, backlog: Backlog, table: Table
) -> None:
    store.start(STARTED, backlog)
    mark = backlog.markers("wh_1")[Lane.REPLAY]
    with pytest.raises(ReplayInProgress):
        store.start(replace(STARTED, replay_id="rp_2"), backlog)
    assert backlog.markers("wh_1")[Lane.REPLAY] == mark
    assert stands(store) == STARTED
    elsewhere: Any = {
        "Put": {
            "TableName": table.name,
            "Item": {"pk": {"S": "a"}, "sk": {"S": "b"}},
            "ConditionExpression": "attribute_exists(pk)",
        }
    }
    other = replace(STARTED, webhook_id="wh_2")
    with pytest.raises(IdempotencyInProgress):
        store.start(other, backlog, extra_writes=[elsewhere])
    with pytest.raises(IdempotencyInProgress):
        store.redeliver(
            "1010", "wh_2", PendingEvent(event()), backlog, asked_at_ms=1, extra_writes=[elsewhere]
        )
    assert (store.find("wh_2"), backlog.markers("wh_2")) == (None, {})
    assert backlog.read("wh_2", Lane.REPLAY, limit=1) == []


def test_a_step_is_counted_once(store: ReplayStore, backlog: Backlog) -> None:
    """botocore repeats a call whose response was lost; a drainer that was frozen wakes up."""
    store.start(STARTED, backlog)
    step: dict[str, Any] = {"read": 3, "delivered": 2, "rejected": 1, "ended_at_ms": 0}
    assert store.advance(STARTED, "0007", **step)
    assert not store.advance(STARTED, "0007", **step)
    assert not store.advance(replace(stands(store), replay_id="rp_0"), "0009", **step)
    assert counts(store) == ("running", 3, 2, 1)
    assert stands(store).position == "0007"
    assert store.advance(stands(store), "0009", **step)
    assert counts(store) == ("running", 6, 4, 2)


def test_the_end_is_remembered_for_thirty_days(store: ReplayStore, backlog: Backlog, table: Table) -> None:
    def expires_at() -> object:
        items = table.client.scan(TableName=table.name)["Items"]
        (job,) = [item for item in items if item["pk"]["S"] == "REPLAY#wh_1"]
        return job.get("expires_at")

    store.start(STARTED, backlog)
    assert expires_at() is None, "one that runs is not removed"
    assert store.advance(STARTED, "9", read=1, delivered=1, rejected=0, ended_at_ms=NOW_MS + 5_500)
    ended = stands(store)
    assert (ended.state, ended.ended_at_ms) == (ReplayState.DONE, NOW_MS + 5_500)
    assert expires_at() == {"N": str(NOW_MS // 1000 + 5 + 30 * DAY_SECONDS)}

    store.start(replace(STARTED, replay_id="rp_2"), backlog)
    assert expires_at() is None
    assert store.cancel("wh_1", ended_at_ms=NOW_MS + 8_000)
    assert not store.cancel("wh_1", ended_at_ms=NOW_MS + 9_000)
    cancelled = stands(store)
    assert (cancelled.state, cancelled.ended_at_ms) == (ReplayState.CANCELLED, NOW_MS + 8_000)
    assert expires_at() == {"N": str(NOW_MS // 1000 + 8 + 30 * DAY_SECONDS)}


def test_a_job_that_is_forgotten_is_not_brought_back_in_parts(store: ReplayStore, backlog: Backlog) -> None:
    """Its webhook was deleted while a drainer was at its last step."""
    store.start(STARTED, backlog)
    store.delete("wh_1")
    for ended_at_ms in (0, NOW_MS):
        assert not store.advance(STARTED, "9", read=1, delivered=1, rejected=0, ended_at_ms=ended_at_ms)
    assert not store.cancel("wh_1", ended_at_ms=NOW_MS)
    assert store.find("wh_1") is None


def test_the_first_success_is_the_one_that_delivered() -> None:
    rejected = Attempt(1, 1, 422, None)
    recorded = DeliveryRecord("k", "e1", "COURSE_ENROLLMENT", 1, Outcome.DELIVERED, (rejected, OK, AGAIN))
    assert recorded.first_success == OK
    assert replace(recorded, attempts=(rejected,)).first_success is None
