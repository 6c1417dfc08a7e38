"""What a batch brings is shared out, whatever cannot be read."""

import json
from typing import Any

import pytest

from lms_webhooks.dispatcher.batch_reader import BatchReader, are_different
from lms_webhooks.model.health import Health
from lms_webhooks.model.webhooks import Tombstone, Unreadable, WebhookWithHealth
from lms_webhooks.thread_pool import ThreadPool
from lms_webhooks.timestamps import format_ms
from tests.unit.tables import NOW_MS, Throttled, webhook

KEPT = webhook(webhook_id="wh_kept")
NAME = min(KEPT.events)


class Cache:
    """Stands in for the webhook cache: one account with one webhook, and whatever was deleted of it."""

    def __init__(self, *deleted: Tombstone, fails: bool = False) -> None:
        self._deleted = list(deleted)
        self._fails = fails
        self.reads = 0
        self.unreadable_ones: tuple[Unreadable, ...] = ()

    def cached(self, account_id: str) -> tuple[WebhookWithHealth, ...]:
        return self.for_account(account_id)

    def for_account(self, _: str) -> tuple[WebhookWithHealth, ...]:
        return (WebhookWithHealth(KEPT, Health()),)

    def unreadable(self, _: str) -> tuple[Unreadable, ...]:
        return self.unreadable_ones

    def deleted(self, _: str, *, since_ms: int) -> list[Tombstone]:
        self.reads += 1
        assert since_ms == NOW_MS, "when the first of the messages was accepted"
        if self._fails:
            raise Throttled
        return self._deleted


def message(event_id: str, *, receives: int = 1) -> dict[str, Any]:
    detail = {"accountId": 1010, "eventId": event_id, "eventName": NAME, "timestamp": NOW_MS, "data": {}}
    body = {"source": "lms", "detail-type": NAME, "detail": detail}
    attributes = {"SentTimestamp": str(NOW_MS), "ApproximateReceiveCount": str(receives)}
    return {"messageId": f"m-{event_id}", "body": json.dumps(body), "attributes": attributes}


def read_batch(cache: Cache, *records: dict[str, Any]) -> tuple[dict[str, set[str]], set[str]]:
    """The ids of the events in each webhook's batch, and the failed messages."""
    stand_in: Any = cache
    reader = BatchReader(stand_in, quarantine_queue=None, event_source="lms", retention_ms=86_400_000)  # type: ignore[arg-type]
    batches, failed = reader.read(records, ThreadPool("looks", size=10))
    return {each.webhook_id: {event.event_id for event in each.events.values()} for each in batches}, failed


def test_where_the_deleted_cannot_be_read_only_what_came_before_comes_again() -> None:
    cache = Cache(fails=True)
    batches, failed = read_batch(cache, message("fresh"), message("again", receives=2))
    assert batches == {"wh_kept": {"fresh"}}
    assert failed == {"m-again"}


def test_the_deleted_are_read_once_an_account_and_only_for_what_came_before() -> None:
    cache = Cache()
    read_batch(cache, message("1"), message("2"))
    assert cache.reads == 0
    read_batch(cache, message("1", receives=2), message("2", receives=3))
    assert cache.reads == 1


@pytest.mark.parametrize(
    ("story", "deleted_at_ms", "is_its"),
    [
        ("deleted before the event was accepted", NOW_MS - 1, False),
        ("in the same millisecond", NOW_MS, True),
        ("after it", NOW_MS + 1, True),
    ],
)
def test_an_event_is_a_deleted_webhook_s_if_it_was_accepted_before(
    story: str, deleted_at_ms: int, is_its: bool
) -> None:
    cache = Cache(Tombstone("wh_gone", frozenset({NAME}), format_ms(deleted_at_ms)))
    batches, _ = read_batch(cache, message("again", receives=2))
    assert ("wh_gone" in batches) is is_its, story
    fresh, _ = read_batch(cache, message("fresh"))
    assert fresh == {"wh_kept": {"fresh"}}, story


def test_what_a_webhook_takes_that_cannot_be_read_goes_to_it_alone() -> None:
    cache = Cache()
    cache.unreadable_ones = (
        Unreadable("wh_new", frozenset({NAME})),
        Unreadable("wh_none", frozenset()),
    )
    assert read_batch(cache, message("1")) == ({"wh_kept": {"1"}, "wh_new": {"1"}}, set())


def test_where_what_it_takes_cannot_be_read_the_messages_return() -> None:
    cache = Cache()
    cache.unreadable_ones = (Unreadable("wh_new", None),)
    assert read_batch(cache, message("1")) == ({"wh_kept": {"1"}}, {"m-1"})


def test_a_record_that_nobody_expected_returns_alone() -> None:
    odd = message("odd")
    odd["attributes"]["SentTimestamp"] = "yesterday"
    assert read_batch(Cache(), odd, message("1")) == ({"wh_kept": {"1"}}, {"m-odd"})


def test_what_is_nested_too_deeply_to_compare_is_another_event_unless_it_is_the_same_text() -> None:
    deep = "[" * 50_000 + "]" * 50_000
    assert are_different(deep, f" {deep}")
    assert not are_different(deep, deep)
