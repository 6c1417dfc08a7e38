"""What the notifier publishes: once, the oldest first, and nothing that is no longer so."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from types import SimpleNamespace
from typing import Any

import pytest

from lms_webhooks.aws.dynamodb import KeyRange, Table, UnprocessedKeys
from lms_webhooks.aws.sns import account_topic
from lms_webhooks.batch.notifier import Notifier
from lms_webhooks.model.lanes import Lane, PendingEvent
from lms_webhooks.model.notifications import NotificationKind, notifications_for
from lms_webhooks.stores.backlog import Backlog
from lms_webhooks.stores.health import HealthStore
from lms_webhooks.stores.outbox import NotificationOutbox
from lms_webhooks.stores.webhook_states import WebhookStates
from lms_webhooks.stores.webhooks import WebhookStore
from tests.unit.notifications import GONE, MINUTE_MS, WELL, create, failing_notification
from tests.unit.tables import NOW_MS, Throttled, Unprocessed, event, stand_in, webhook


class NoSuchTopicError(Exception):
    """What SNS says of a topic that there is not."""


class Topic:
    """SNS's part: keeps what is published."""

    exceptions = SimpleNamespace(NotFoundException=NoSuchTopicError)

    def __init__(self, *accounts: str) -> None:
        self.published: list[dict[str, Any]] = []
        self.topics = {"arn:topic", *(account_topic("arn:topic", account) for account in accounts)}
        self.fails = False
        self.refuses = ""

    def publish(self, **message: Any) -> None:
        if message["TopicArn"] not in self.topics:
            raise NoSuchTopicError
        if self.fails or (self.refuses and self.refuses in message["Subject"]):
            raise Throttled
        self.published.append(message)


@pytest.fixture
def webhooks(both: tuple[Table, Table]) -> Table:
    """In which stands the one of `webhook()`."""
    create(both[0])
    return both[0]


@pytest.fixture
def notifier(webhooks: Table, table: Table) -> Callable[[Topic], Notifier]:
    webhook_states, backlog = WebhookStates(webhooks), Backlog(table, retention_days=7)
    return lambda topic: Notifier(NotificationOutbox(table), backlog, webhook_states, topic, "arn:topic")  # type: ignore[arg-type]


def test_it_is_told_once_to_people_and_to_programs(
    table: Table, notifier: Callable[[Topic], Notifier]
) -> None:
    """Each probe of the same failure finds the same to tell; what waits is counted when it is sent."""
    box, topic = NotificationOutbox(table), Topic()
    backlog = Backlog(table, retention_days=7)
    webhook_id = webhook().webhook_id
    backlog.append(webhook_id, Lane.REALTIME, [PendingEvent(event("e1")), PendingEvent(event("e2"))])
    backlog.set_marker("1010", webhook_id, Lane.REALTIME, accepted_at_ms=NOW_MS)
    backlog.append(webhook_id, Lane.REPLAY, [PendingEvent(event("e3"))])
    backlog.set_marker("1010", webhook_id, Lane.REPLAY, accepted_at_ms=NOW_MS - 60 * MINUTE_MS)
    assert box.put(failing_notification())
    assert not box.put(failing_notification(at_ms=NOW_MS + 20 * MINUTE_MS))
    assert notifier(topic).send() == 1
    assert not box.put(failing_notification(at_ms=NOW_MS + 25 * MINUTE_MS))
    assert notifier(topic).send() == 0
    (message,) = topic.published
    assert message["TopicArn"] == "arn:topic"
    assert message["Subject"] == "Webhook HR is failing"
    assert {name: each["StringValue"] for name, each in message["MessageAttributes"].items()} == {
        "accountId": "1010",
        "webhookId": webhook_id,
        "kind": "failing",
    }
    texts = json.loads(message["Message"])
    assert json.loads(texts["default"]) == {
        "kind": "failing",
        "accountId": "1010",
        "webhookId": webhook_id,
        "name": "HR",
        "at": "2026-11-03T12:15:00.000Z",
        "since": "2026-11-03T12:00:00.000Z",
        "pending": 2,
        "pendingAtLeast": False,
        "lastError": "HTTP 503",
        "nextExpiryAt": "2026-11-10T12:00:00.000Z",
    }
    assert texts["email"] == (
        f"Webhook: HR ({webhook_id})\nAccount: 1010\n\nIt is failing.\nSince 2026-11-03T12:00:00.000Z.\n"
        "The last error: HTTP 503.\nPending events: 2.\n"
        "None of them expires before 2026-11-10T12:00:00.000Z.\n"
    )


def test_a_notice_of_what_the_admin_changed_or_deleted_since_is_old_news(
    table: Table, webhooks: Table, notifier: Callable[[Topic], Notifier]
) -> None:
    box, topic, store = NotificationOutbox(table), Topic(), WebhookStore(webhooks.client, webhooks.name)
    changed = webhook(webhook_id="wh_changed")
    store.create(changed)
    for of in (changed, webhook(webhook_id="wh_deleted")):
        (notice,) = notifications_for(of, WELL, GONE, now_ms=NOW_MS)
        box.put(notice)
    store.update(replace(changed, epoch=2), expected=changed)
    assert notifier(topic).send() == 0
    assert topic.published == []
    assert list(chain.from_iterable(box.read())) == []


def test_a_switch_off_that_was_not_written_is_not_told(
    table: Table, webhooks: Table, notifier: Callable[[Topic], Notifier]
) -> None:
    """The drainer puts its notice first. While it lives it may still write what it found; if it died, the
    endpoint may respond to the next one with 200."""
    box, topic, health = NotificationOutbox(table), Topic(), HealthStore(webhooks)
    ids = webhook().account_id, webhook().webhook_id
    now_ms = int(time.time() * 1000)
    (notice,) = notifications_for(webhook(), WELL, GONE, now_ms=NOW_MS)
    box.put(notice)
    leased = health.acquire(*ids, owner="me", now_ms=now_ms, until_ms=now_ms + 60_000)
    assert leased is not None
    assert notifier(topic).send() == 0
    assert list(chain.from_iterable(box.read())) == [notice]
    assert health.release(*ids, owner="me", health=GONE, before=leased)
    assert notifier(topic).send() == 1
    box.put(replace(notice, key="another"))
    off = health.read(*ids)
    assert off is not None
    health.save(*ids, replace(off, disabled_reason=None), revision=off.revision)
    assert notifier(topic).send() == 0
    assert list(chain.from_iterable(box.read())) == []


@pytest.mark.parametrize("item", ["WEBHOOK#", "HEALTH#"])
def test_what_is_known_of_a_webhook_is_no_old_news_while_that_cannot_be_read(
    table: Table, webhooks: Table, notifier: Callable[[Topic], Notifier], item: str
) -> None:
    """DynamoDB responds, and leaves keys unread each time it is asked."""
    box, topic = NotificationOutbox(table), Topic()
    (notice,) = notifications_for(webhook(), WELL, GONE, now_ms=NOW_MS)
    box.put(notice)
    stand_in(webhooks, "batch_get_item", Unprocessed(webhooks, lambda key: item in key, times=99).read)
    with pytest.raises(UnprocessedKeys):
        notifier(topic).send()
    assert list(chain.from_iterable(box.read())) == [notice]


def test_the_oldest_is_told_first(table: Table, notifier: Callable[[Topic], Notifier]) -> None:
    topic = Topic()
    for kind, minute in (
        (NotificationKind.RECOVERED, 40),
        (NotificationKind.FAILING, 15),
        (NotificationKind.STILL_FAILING, 30),
    ):
        at_ms = NOW_MS + minute * MINUTE_MS
        NotificationOutbox(table).put(
            replace(failing_notification(), kind=kind, key=f"1#{kind}", at_ms=at_ms)
        )
    assert notifier(topic).send() == 3
    told = [each["MessageAttributes"]["kind"]["StringValue"] for each in topic.published]
    assert told == ["failing", "still-failing", "recovered"]


@pytest.mark.slow
def test_many_that_cannot_be_told_hide_none(
    table: Table, webhooks: Table, notifier: Callable[[Topic], Notifier]
) -> None:
    """Those of one account, whose topic is broken, and which come first."""
    topic = Topic()
    topic.refuses = "Webhook A "
    for account_id, name, webhook_id, notices in (("1", "A", "wh_1", 100), ("2", "B", "wh_2", 1)):
        create(webhooks, account_id=account_id, name=name, webhook_id=webhook_id)
        notice = failing_notification(account_id=account_id, name=name, webhook_id=webhook_id)
        for number in range(notices):
            assert NotificationOutbox(table).put(replace(notice, key=f"{number:03d}"))
    with pytest.raises(Throttled):
        notifier(topic).send()
    assert [each["Subject"] for each in topic.published] == ["Webhook B is failing"]


def test_what_could_not_be_told_is_told_later(table: Table, notifier: Callable[[Topic], Notifier]) -> None:
    topic = Topic()
    NotificationOutbox(table).put(failing_notification())
    topic.fails = True
    with pytest.raises(Throttled):
        notifier(topic).send()
    topic.fails = False
    assert notifier(topic).send() == 1
    assert len(topic.published) == 1


def test_people_are_told_by_the_topic_of_their_account_where_there_is_one(
    table: Table, webhooks: Table, notifier: Callable[[Topic], Notifier]
) -> None:
    topic = Topic("1010", "2020")
    NotificationOutbox(table).put(failing_notification())
    create(webhooks, account_id="3030", webhook_id="wh_3")
    NotificationOutbox(table).put(replace(failing_notification(), account_id="3030", webhook_id="wh_3"))
    assert notifier(topic).send() == 2
    told = [
        (each["TopicArn"], each["MessageAttributes"]["accountId"]["StringValue"]) for each in topic.published
    ]
    assert sorted(told) == sorted(
        [("arn:topic", "1010"), (account_topic("arn:topic", "1010"), "1010"), ("arn:topic", "3030")]
    )


def test_one_that_cannot_be_told_holds_up_no_other(
    table: Table, webhooks: Table, notifier: Callable[[Topic], Notifier]
) -> None:
    topic = Topic()
    topic.refuses = "Webhook A "
    for name in "ABC":
        create(webhooks, webhook_id=f"wh_{name}")
        NotificationOutbox(table).put(replace(failing_notification(name=name), webhook_id=f"wh_{name}"))
    for _ in range(2):
        with pytest.raises(Throttled):
            notifier(topic).send()
    assert [each["Subject"] for each in topic.published] == ["Webhook B is failing", "Webhook C is failing"]
    topic.refuses = ""
    assert notifier(topic).send() == 1


def test_one_that_a_newer_version_wrote_holds_up_no_other_and_stays(
    table: Table, notifier: Callable[[Topic], Notifier]
) -> None:
    topic = Topic()
    for name in "AB":
        NotificationOutbox(table).put(replace(failing_notification(name=name), webhook_id=f"wh_{name}"))
    first = table.page("NOTICES", KeyRange("0", "~"), limit=1, newest_first=False).entries[0]
    newer = {**first, "kind": {"S": "quota"}}
    table.client.put_item(TableName=table.name, Item=newer)
    notifier(topic).send()
    assert [each["Subject"] for each in topic.published] == []
    assert table.page("NOTICES", KeyRange("0", "~"), limit=9, newest_first=False).entries == [newer]


def test_a_subject_is_short_and_ascii_whatever_a_webhook_is_called(
    table: Table, notifier: Callable[[Topic], Notifier]
) -> None:
    topic = Topic()
    NotificationOutbox(table).put(failing_notification(name="Überweisung 😀 " + "x" * 66))
    notifier(topic).send()
    subject = topic.published[0]["Subject"]
    assert len(subject) < 100
    assert subject.startswith("Webhook ?berweisung ? xxx")
    assert subject.endswith(" is failing")


def test_a_switch_off_is_old_news_when_the_lease_under_which_it_was_found_is_over(
    table: Table, webhooks: Table
) -> None:
    """In its last millisecond its drainer may still write what it found."""
    ids = webhook().account_id, webhook().webhook_id
    assert HealthStore(webhooks).acquire(*ids, owner="me", now_ms=NOW_MS, until_ms=NOW_MS + 60_000)
    now_ms = [NOW_MS + 60_000]
    box, topic = NotificationOutbox(table), Topic()
    notifier = Notifier(
        box,
        Backlog(table, retention_days=7),
        WebhookStates(webhooks),
        topic,  # type: ignore[arg-type]
        "arn:topic",
        clock=lambda: now_ms[0] / 1000,
    )
    (notice,) = notifications_for(webhook(), WELL, GONE, now_ms=NOW_MS)
    box.put(notice)
    assert notifier.send() == 0
    assert list(chain.from_iterable(box.read())) == [notice]
    now_ms[0] += 1
    assert notifier.send() == 0
    assert list(chain.from_iterable(box.read())) == []
    assert topic.published == []


@pytest.mark.parametrize(
    ("kind", "last_error", "text"),
    [
        (
            NotificationKind.STILL_FAILING,
            "HTTP 503",
            "It is still failing.\nSince 2026-11-03T12:00:00.000Z.\nThe last error: HTTP 503.\n",
        ),
        (NotificationKind.RECOVERED, "", "It works again.\nIt failed from 2026-11-03T12:00:00.000Z.\n"),
        (
            NotificationKind.DISABLED,
            "",
            """It was disabled.
Since 2026-11-03T12:00:00.000Z.
Nothing is sent to it until its status is set to active again.
""",
        ),
    ],
)
def test_what_a_mail_says_where_nothing_waits(
    table: Table,
    webhooks: Table,
    notifier: Callable[[Topic], Notifier],
    kind: NotificationKind,
    last_error: str,
    text: str,
) -> None:
    """Not even where a mark says so: it stands for a moment longer than what it stands for."""
    webhook_id = webhook().webhook_id
    HealthStore(webhooks).save("1010", webhook_id, replace(GONE, attempts=()), revision=0)
    Backlog(table, retention_days=7).set_marker("1010", webhook_id, Lane.REALTIME, accepted_at_ms=NOW_MS)
    topic = Topic()
    NotificationOutbox(table).put(replace(failing_notification(), kind=kind, last_error=last_error))
    assert notifier(topic).send() == 1
    texts = json.loads(topic.published[0]["Message"])
    assert texts["email"] == f"Webhook: HR ({webhook_id})\nAccount: 1010\n\n{text}"
    facts = json.loads(texts["default"])
    assert (facts["pending"], facts["pendingAtLeast"]) == (0, False)
    assert facts.get("lastError", "") == last_error
    assert "nextExpiryAt" not in facts


def test_of_more_than_a_thousand_that_wait_a_thousand_are_counted(
    table: Table, notifier: Callable[[Topic], Notifier]
) -> None:
    backlog, webhook_id = Backlog(table, retention_days=7), webhook().webhook_id
    backlog.append(webhook_id, Lane.BATCH, [PendingEvent(event(f"e{number:04d}")) for number in range(1001)])
    backlog.set_marker("1010", webhook_id, Lane.BATCH, accepted_at_ms=NOW_MS + 5)
    backlog.append(webhook_id, Lane.RETRY, [PendingEvent(event("r"), due_at_ms=1)])
    backlog.set_marker("1010", webhook_id, Lane.RETRY, accepted_at_ms=NOW_MS + 1)
    topic = Topic()
    NotificationOutbox(table).put(failing_notification())
    assert notifier(topic).send() == 1
    texts = json.loads(topic.published[0]["Message"])
    facts = json.loads(texts["default"])
    assert (facts["pending"], facts["pendingAtLeast"]) == (1001, True)
    assert facts["nextExpiryAt"] == "2026-11-10T12:00:00.001Z", "of the lane whose first event expires first"
    assert "Pending events: at least 1001.\n" in texts["email"]


def test_the_subject_of_the_longest_name_is_as_long_as_sns_takes(
    table: Table, notifier: Callable[[Topic], Notifier]
) -> None:
    """Less than 100 characters."""
    topic = Topic()
    NotificationOutbox(table).put(
        replace(failing_notification(name="x" * 99), kind=NotificationKind.STILL_FAILING)
    )
    assert notifier(topic).send() == 1
    subject = topic.published[0]["Subject"]
    assert (subject, len(subject)) == ("Webhook " + "x" * 74 + " is still failing", 99)


@pytest.mark.slow
def test_a_sweep_tells_a_hundred_and_the_next_one_the_rest(
    table: Table, notifier: Callable[[Topic], Notifier]
) -> None:
    """Publishing takes time, and the function has a minute."""
    box, topic = NotificationOutbox(table), Topic()
    for number in range(101):
        assert box.put(replace(failing_notification(), key=f"{number:03d}"))
    assert notifier(topic).send() == 100
    assert notifier(topic).send() == 1
    assert notifier(topic).send() == 0
    assert len(topic.published) == 101


def test_one_that_may_still_come_true_holds_up_no_other(
    table: Table, webhooks: Table, notifier: Callable[[Topic], Notifier]
) -> None:
    """A switch-off that its drainer has still to write stands first, and stays."""
    until_ms = int(time.time() * 1000) + 60_000
    box, topic = NotificationOutbox(table), Topic()
    (off,) = notifications_for(webhook(), WELL, GONE, now_ms=NOW_MS)
    box.put(off)
    assert HealthStore(webhooks).acquire(
        off.account_id, off.webhook_id, owner="me", now_ms=NOW_MS, until_ms=until_ms
    )
    create(webhooks, webhook_id="wh_2", name="Payroll")
    box.put(failing_notification(webhook_id="wh_2", name="Payroll"))
    assert notifier(topic).send() == 1
    assert [each["Subject"] for each in topic.published] == ["Webhook Payroll is failing"]
    assert list(chain.from_iterable(box.read())) == [off]
