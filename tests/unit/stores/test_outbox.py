"""Owners hear once of what concerns them: a failure, each day that it goes on, its end, a switch-off."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from lms_webhooks.aws.dynamodb import KeyRange, Table, key_item
from lms_webhooks.aws.sns import account_topic
from lms_webhooks.errors import Contention
from lms_webhooks.model.attempts import Attempt
from lms_webhooks.model.health import DisabledReason, Health, Mode
from lms_webhooks.model.notifications import NotificationKind, notifications_for
from lms_webhooks.stores.outbox import NotificationOutbox
from tests.unit.held_items import Collisions
from tests.unit.tables import DAY_MS, NOW_MS, stand_in, webhook

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
from tests.unit.notifications import FAILING, GONE, MINUTE_MS, WELL, create, failing_notification

LONG_FAILING = replace(FAILING, attempts=(Attempt(NOW_MS + 15 * MINUTE_MS, 10, 503, None),))
OK = Attempt(NOW_MS + 20 * MINUTE_MS, 10, 200, None)
RECOVERED = replace(WELL, mode=Mode.BACKLOG, attempts=(*LONG_FAILING.attempts, OK))
FAILING_ANEW = replace(FAILING, failing_since_ms=NOW_MS + 21 * MINUTE_MS, attempts=RECOVERED.attempts)
FAILING_AFTER_SILENCE = replace(FAILING_ANEW, attempts=LONG_FAILING.attempts)
OFF = replace(FAILING, disabled_reason=DisabledReason.FAILING, disabled_at_ms=NOW_MS + 7 * DAY_MS)


@pytest.mark.parametrize(
    ("before", "after", "after_ms", "kind", "key"),
    [
        (WELL, WELL, 0, None, ""),
        (WELL, FAILING, 0, None, ""),
        (FAILING, FAILING, 15 * MINUTE_MS - 1, None, ""),
        (FAILING, FAILING, 15 * MINUTE_MS, NotificationKind.FAILING, f"{NOW_MS}"),
        (FAILING, FAILING, DAY_MS - 1, NotificationKind.FAILING, f"{NOW_MS}"),
        (FAILING, FAILING, DAY_MS, NotificationKind.STILL_FAILING, f"{NOW_MS}#1"),
        (FAILING, FAILING, 3 * DAY_MS + 5, NotificationKind.STILL_FAILING, f"{NOW_MS}#3"),
        (FAILING, RECOVERED, 20 * MINUTE_MS, None, ""),  # of which nobody was told
        (LONG_FAILING, RECOVERED, 20 * MINUTE_MS, NotificationKind.RECOVERED, f"{NOW_MS}"),
        (LONG_FAILING, FAILING_ANEW, 21 * MINUTE_MS, NotificationKind.RECOVERED, f"{NOW_MS}"),
        (LONG_FAILING, FAILING_AFTER_SILENCE, 21 * MINUTE_MS, None, ""),
        (FAILING, OFF, 7 * DAY_MS, NotificationKind.DISABLED, f"{NOW_MS + 7 * DAY_MS}"),
        (OFF, OFF, 7 * DAY_MS + 1, None, ""),
        (WELL, GONE, 0, NotificationKind.DISABLED, f"{NOW_MS}"),
    ],
)
def test_what_is_told(
    before: Health, after: Health, after_ms: int, kind: NotificationKind | None, key: str
) -> None:
    told = list(notifications_for(webhook(), before, after, now_ms=NOW_MS + after_ms))
    assert [notice.kind for notice in told] == ([] if kind is None else [kind])
    for notice in told:
        stored = "switched-off" if kind is NotificationKind.DISABLED else kind
        assert notice.key == f"1#{stored}#{key}"
        assert notice.last_error == ("HTTP 410" if after is GONE else "HTTP 503")


@pytest.fixture
def webhooks(both: tuple[Table, Table]) -> Table:
    """In which stands the one of `webhook()`."""
    create(both[0])
    return both[0]


def test_each_day_is_told(table: Table) -> None:
    box = NotificationOutbox(table)
    told = [
        box.put(failing_notification(at_ms=NOW_MS + hours * 3_600_000))
        for hours in (1, 23, 24, 25, 47, 48, 49)
    ]
    assert told == [True, False, True, False, False, True, False]


def test_a_notice_whose_transaction_collides_is_put_all_the_same(table: Table) -> None:
    """With the sweep, say, which removes a notice that it sent."""
    colliding = Collisions(table.client, first=3)
    waits: list[float] = []
    box = NotificationOutbox(Table(cast("DynamoDBClient", colliding), table.name), sleep=waits.append)
    assert box.put(failing_notification())
    assert not box.put(failing_notification())
    assert (colliding.collisions, len(waits)) == (3, 3)


def test_a_notice_whose_transaction_always_collides_is_not_put(table: Table) -> None:
    colliding = Collisions(table.client, first=99)
    box = NotificationOutbox(Table(cast("DynamoDBClient", colliding), table.name), sleep=lambda _: None)
    with pytest.raises(Contention):
        box.put(failing_notification())
    assert list(NotificationOutbox(table).read()) in ([], [[]])


FAILED_LAST = NOW_MS + 15 * MINUTE_MS


@pytest.mark.parametrize(
    ("story", "before", "after", "is_told"),
    [
        ("its last failure ended 15 minutes after its first", LONG_FAILING, RECOVERED, True),
        (
            "the last failure began earlier and took until then",
            replace(FAILING, attempts=(Attempt(FAILED_LAST - 5_000, 5_000, None, "timeout"),)),
            RECOVERED,
            True,
        ),
        (
            "a millisecond less, so nobody had been told",
            replace(FAILING, attempts=(Attempt(FAILED_LAST - 11, 10, 503, None),)),
            RECOVERED,
            False,
        ),
        (
            "of several failures the last counts, in whatever order",
            replace(FAILING, attempts=(*LONG_FAILING.attempts, Attempt(NOW_MS, 10, 503, None))),
            RECOVERED,
            True,
        ),
        (
            "what succeeded meanwhile is no failure",
            replace(FAILING, attempts=(Attempt(NOW_MS, 10, 503, None), OK)),
            RECOVERED,
            False,
        ),
        ("no attempt is known", replace(FAILING, attempts=()), RECOVERED, False),
        (
            "the success is older than the failure",
            LONG_FAILING,
            replace(WELL, attempts=(Attempt(NOW_MS - 1, 10, 200, None),)),
            False,
        ),
        (
            "the success began as the failure did",
            LONG_FAILING,
            replace(WELL, attempts=(Attempt(NOW_MS, 10, 200, None),)),
            False,
        ),
        ("nothing has failed", WELL, RECOVERED, False),
        ("what failed long ago was told then, and it fails anew", RECOVERED, FAILING_ANEW, False),
        (
            "it fails still, though one came through",
            replace(LONG_FAILING, attempts=RECOVERED.attempts),
            replace(LONG_FAILING, attempts=RECOVERED.attempts),
            False,
        ),
        ("it fails still", LONG_FAILING, LONG_FAILING, False),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_recovery_is_told_to_whoever_was_told_of_the_failure(
    story: str, before: Health, after: Health, is_told: bool
) -> None:
    told = list(notifications_for(webhook(), before, after, now_ms=NOW_MS + 20 * MINUTE_MS))
    kinds = [each.kind for each in told if each.kind is NotificationKind.RECOVERED]
    assert kinds == ([NotificationKind.RECOVERED] if is_told else []), story


def test_a_notice_says_what_it_is_about() -> None:
    (failing,) = notifications_for(
        webhook(epoch=4), FAILING, replace(FAILING, epoch=4), now_ms=NOW_MS + DAY_MS
    )
    assert (failing.account_id, failing.webhook_id, failing.name) == ("1010", webhook().webhook_id, "HR")
    assert (failing.epoch, failing.at_ms, failing.since_ms) == (4, NOW_MS + DAY_MS, NOW_MS)
    assert failing.key == f"4#still-failing#{NOW_MS}#1"
    (gone,) = notifications_for(webhook(), WELL, GONE, now_ms=NOW_MS + 1)
    assert (gone.since_ms, gone.last_error) == (NOW_MS, "HTTP 410")
    (off,) = notifications_for(webhook(), FAILING, replace(OFF, last_error=""), now_ms=NOW_MS + 7 * DAY_MS)
    assert (off.since_ms, off.last_error) == (NOW_MS, "HTTP 503")
    (well,) = notifications_for(webhook(), LONG_FAILING, RECOVERED, now_ms=NOW_MS + 20 * MINUTE_MS)
    assert (well.since_ms, well.last_error) == (NOW_MS, "HTTP 503")


def test_a_failure_that_ends_in_a_switch_off_is_told_as_that_alone() -> None:
    told = list(notifications_for(webhook(), LONG_FAILING, OFF, now_ms=NOW_MS + 7 * DAY_MS))
    assert [each.kind for each in told] == [NotificationKind.DISABLED]


def test_that_something_was_told_is_remembered_for_ninety_days(table: Table) -> None:
    assert NotificationOutbox(table).put(failing_notification())
    key = key_item((f"NOTICE#{webhook().webhook_id}", f"1#failing#{NOW_MS}"))
    item = table.client.get_item(TableName=table.name, Key=key)["Item"]
    assert item["expires_at"] == {"N": str((NOW_MS + 15 * MINUTE_MS) // 1000 + 90 * 86_400)}


def test_a_notice_that_could_not_be_put_is_not_one_that_was_put_before(table: Table) -> None:
    """The next drainer must find the same to tell."""
    exceptions = table.client.exceptions

    def cancel(**_: Any) -> None:
        error: Any = {
            "Error": {"Code": "TransactionCanceledException"},
            "CancellationReasons": [{"Code": "ValidationError"}, {"Code": "None"}],
        }
        raise exceptions.TransactionCanceledException(error, "TransactWriteItems")

    stand_in(table, "transact_write_items", cancel)
    with pytest.raises(exceptions.TransactionCanceledException):
        NotificationOutbox(table).put(failing_notification())


def test_a_disabled_webhook_keeps_the_stored_word_of_an_earlier_version(table: Table) -> None:
    """Otherwise the same notification would have another key after an update, and be sent twice."""
    outbox = NotificationOutbox(table)
    outbox.put(replace(failing_notification(), kind=NotificationKind.DISABLED))
    (item,) = table.page("NOTICES", KeyRange("0", "~"), limit=9, newest_first=False).entries
    assert item["kind"] == {"S": "switched-off"}
    assert [notice.kind for page in outbox.read() for notice in page] == [NotificationKind.DISABLED]
    assert {NotificationKind.read(kind.stored) for kind in NotificationKind} == {*NotificationKind}


def test_an_account_s_topic_has_the_name_that_it_always_had() -> None:
    """People have confirmed subscriptions to it."""
    assert account_topic("arn:aws:sns:eu-west-1:123456789012:lms-notices", "1010") == (
        "arn:aws:sns:eu-west-1:123456789012:lms-notices-7a5df5ffa0dec2228d90b8d0a0f1b076"
    )


@pytest.mark.slow
def test_notices_are_read_a_hundred_at_a_time_and_a_thousand_in_all(table: Table) -> None:
    """Where many cannot be sent, those behind them still can; but a sweep does not read without end."""
    items: list[Any] = [
        {
            **key_item(("NOTICES", f"{number:04d}")),
            "account_id": {"S": "1010"},
            "webhook_id": {"S": "wh_1"},
            "webhook_name": {"S": "HR"},
            "kind": {"S": "failing"},
            "key": {"S": str(number)},
            "epoch": {"N": "1"},
            "at": {"N": "1"},
            "since": {"N": "1"},
            "last_error": {"S": ""},
        }
        for number in range(1050)
    ]
    assert table.put_all(items) == set()
    assert [len(page) for page in NotificationOutbox(table).read()] == [100] * 10
