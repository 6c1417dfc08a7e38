"""Tell the owners of a webhook that it fails, was switched off, or does well again.

| pk                 | sk                     | what                                                   |
|--------------------|------------------------|--------------------------------------------------------|
| NOTICE#<webhookId> | <what, since when>     | that this was to be told: so it is told once (TTL)     |
| NOTICES            | <when>#<webhookId>#... | what is still to be told, oldest first                 |

The drainer, who alone knows, writes both in one transaction before it gives the lease back. The sweep sends
what is to be told, and removes it; unless the admin changed the webhook since, for then it is old news, or
never came true: what the drainer learnt is not written after such a change.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import TYPE_CHECKING

from lms_webhooks.aws.dynamodb import Key, Table, key_item, transact
from lms_webhooks.errors import AWS_ERRORS
from lms_webhooks.model.health import Health
from lms_webhooks.model.lanes import Lane
from lms_webhooks.model.webhooks import Webhook, format_ms
from lms_webhooks.observability import logger, report
from lms_webhooks.stores.backlog import Backlog
from lms_webhooks.stores.webhook_states import WebhookState, WebhookStates

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef, TransactWriteItemTypeDef
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sns.type_defs import MessageAttributeValueTypeDef

    type Item = dict[str, AttributeValueTypeDef]

NOTIFY_AFTER_MS = 15 * 60_000  # a deployment or a restart of the receiver is nobody's concern
DAY_MS = 86_400_000
_KEPT_SECONDS = 90 * 86_400  # far longer than any failure goes on
_AT_ONCE = 100  # notices a sweep: publishing takes some 20 ms each, and the next sweep is a minute away
_LOOKED_AT = 1000  # where many cannot be told, those behind them still can
_COUNTED_PENDING = 1000
_SUBJECT_LENGTH = 99  # SNS: less than 100


class NotificationKind(StrEnum):
    """What there is to tell."""

    FAILING = "failing"
    STILL_FAILING = "still-failing"
    DISABLED = "disabled"
    RECOVERED = "recovered"

    @property
    def stored(self) -> str:
        """Its name in the table, which kept the word of an earlier version."""
        return "switched-off" if self is NotificationKind.DISABLED else self.value

    @classmethod
    def read(cls, stored: str) -> "NotificationKind":
        """Return the kind that `stored` names in the table.

        Raises:
            ValueError: a later version wrote it.
        """
        return next((kind for kind in cls if kind.stored == stored), None) or cls(stored)


@dataclass(frozen=True, slots=True)
class Notification:
    """One thing to tell about one webhook. Times in UTC milliseconds."""

    account_id: str
    webhook_id: str
    name: str
    kind: NotificationKind
    key: str
    """The same whenever the same is to be told."""
    epoch: int
    """Of the registration that it is about."""
    at_ms: int
    since_ms: int
    """When the failure began."""
    last_error: str


def account_topic(topic_arn: str, account_id: str) -> str:
    """The ARN of the topic of one account, named after that of all notices. A topic's name takes less than an
    account's id does."""
    return f"{topic_arn}-{hashlib.sha256(account_id.encode()).hexdigest()[:32]}"


def notifications_for(
    webhook: Webhook, before: Health, after: Health, *, now_ms: int
) -> Iterator[Notification]:
    """What is to be told when the health of `webhook` went from `before` to `after`. Pure.

    A failure is told after 15 minutes and then each day, as long as it goes on: again and again under the
    same key, so that one lost with a drainer is told by the next.
    """

    def notice(kind: NotificationKind, since_ms: int, key: str) -> Notification:
        return Notification(
            account_id=webhook.account_id,
            webhook_id=webhook.webhook_id,
            name=webhook.name,
            kind=kind,
            key=f"{after.epoch}#{kind.stored}#{key}",
            epoch=after.epoch,
            at_ms=now_ms,
            since_ms=since_ms,
            last_error=after.last_error or before.last_error,
        )

    if _recovered(before, after):
        yield notice(NotificationKind.RECOVERED, before.failing_since_ms, str(before.failing_since_ms))
    if after.disabled_reason is not None:
        if before.disabled_reason is None:
            since_ms = after.failing_since_ms or after.disabled_at_ms
            yield notice(NotificationKind.DISABLED, since_ms, str(after.disabled_at_ms))
    elif after.failing_since_ms:
        lasted_ms = now_ms - after.failing_since_ms
        if lasted_ms >= DAY_MS:
            day = lasted_ms // DAY_MS
            yield notice(
                NotificationKind.STILL_FAILING, after.failing_since_ms, f"{after.failing_since_ms}#{day}"
            )
        elif lasted_ms >= NOTIFY_AFTER_MS:
            yield notice(NotificationKind.FAILING, after.failing_since_ms, str(after.failing_since_ms))


def _recovered(before: Health, after: Health) -> bool:
    """Whether a failure that was told of has ended; another may have begun since."""
    if not before.failing_since_ms or after.failing_since_ms == before.failing_since_ms:
        return False
    last_failed_ms = max(
        (each.started_at_ms + each.latency_ms for each in before.attempts if not each.is_success), default=0
    )
    was_told = last_failed_ms - before.failing_since_ms >= NOTIFY_AFTER_MS
    return was_told and any(
        each.is_success and each.started_at_ms > before.failing_since_ms for each in after.attempts
    )


class NotificationOutbox:
    """What is to be told of every webhook."""

    def __init__(self, table: Table, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._table = table
        self._sleep = sleep

    def put(self, notice: Notification) -> bool:
        """Have `notice` told, unless it was put before; answer whether it is new.

        Raises:
            AWS_ERRORS, Busy: it may not have been written; the next drainer finds the same to tell.
        """
        told: Item = {
            **key_item((f"NOTICE#{notice.webhook_id}", notice.key)),
            "expires_at": {"N": str(notice.at_ms // 1000 + _KEPT_SECONDS)},
        }
        put_told: TransactWriteItemTypeDef = {
            "Put": {
                "TableName": self._table.name,
                "Item": told,
                "ConditionExpression": "attribute_not_exists(pk)",
            }
        }
        put_it: TransactWriteItemTypeDef = {"Put": {"TableName": self._table.name, "Item": _item(notice)}}
        return not transact(self._table.client, [put_told, put_it], sleep=self._sleep)

    def read(self) -> Iterator[list[Notification]]:
        """What is still to be told, some at a time."""
        pages = self._table.client.get_paginator("query").paginate(
            TableName=self._table.name,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": "NOTICES"}},
            PaginationConfig={"PageSize": _AT_ONCE, "MaxItems": _LOOKED_AT},
        )
        for page in pages:
            yield [notice for item in page["Items"] if (notice := _read_notice(item)) is not None]

    def remove(self, notice: Notification) -> None:
        """It has been told."""
        self._table.client.delete_item(TableName=self._table.name, Key=key_item(_place(notice)))


class _Verdict(Enum):
    TRUE = auto()
    OLD = auto()
    OPEN = auto()


class Notifier:
    """Tells what is to be told: programs through one topic, by whose attributes they choose; and people
    through the topic of their account."""

    def __init__(
        self,
        box: NotificationOutbox,
        backlog: Backlog,
        standings: WebhookStates,
        client: "SNSClient",
        topic_arn: str,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._box = box
        self._backlog = backlog
        self._standings = standings
        self._client = client
        self._topic_arn = topic_arn
        self._clock = clock

    def send(self) -> int:
        """Tell it; answer how much was told. One that dies between telling and noting it tells it twice.

        Raises:
            AWS_ERRORS: some of it could not be told, and is the next sweep's.
        """
        told = 0
        faults: list[Exception] = []
        for notices in self._box.read():
            ids = [(notice.account_id, notice.webhook_id) for notice in notices]
            # One that was not read is not deleted, and what there is to tell of it no old news.
            standings = self._standings.read(list(dict.fromkeys(ids)), whole=True)
            for notice in notices:
                standing = standings.get((notice.account_id, notice.webhook_id))
                try:
                    match self._judge(notice, standing):
                        case _Verdict.TRUE:
                            self._tell(notice)
                            told += 1
                        case _Verdict.OPEN:
                            continue
                    self._box.remove(notice)
                except Exception as error:  # noqa: BLE001  # whatever it is, it costs no other notice
                    report(error, "notice not told", webhookId=notice.webhook_id, kind=notice.kind)
                    if isinstance(error, AWS_ERRORS):
                        faults.append(error)
            if told >= _AT_ONCE:
                break
        if faults:
            raise faults[0]
        return told

    def _judge(self, notice: Notification, standing: WebhookState | None) -> "_Verdict":
        """Whether what a notice says is still so, or ever came to be."""
        if standing is None or standing.epoch != notice.epoch:
            return _Verdict.OLD
        if notice.kind is not NotificationKind.DISABLED or standing.is_switched_off:
            return _Verdict.TRUE
        # Put, and not written: the drainer has still to, or it died and the next one may find another answer.
        return _Verdict.OPEN if standing.lease_until_ms >= self._clock() * 1000 else _Verdict.OLD

    def _tell(self, notice: Notification) -> None:
        marks = self._backlog.marks(notice.webhook_id)
        marks.pop(Lane.REPLAY, None)  # what is sent again waits for nothing
        pending = [self._backlog.count(mark, limit=_COUNTED_PENDING) for mark in marks.values()]
        facts = _facts(
            notice,
            sum(each.events for each in pending),
            min((mark.check_at_ms for mark in marks.values()), default=None),
            is_complete=all(each.is_complete for each in pending),
        )
        attributes: dict[str, MessageAttributeValueTypeDef] = {
            name: {"DataType": "String", "StringValue": value}
            for name, value in (
                ("accountId", notice.account_id),
                ("webhookId", notice.webhook_id),
                ("kind", notice.kind.value),
            )
        }
        message = {
            "Subject": _subject(notice),
            "Message": json.dumps({"default": json.dumps(facts), "email": _mail(notice, facts)}),
            "MessageStructure": "json",
        }
        # People first: should theirs fail, programs are not told again with every sweep.
        with suppress(self._client.exceptions.NotFoundException):  # an account that has nobody mailed
            topic_arn = account_topic(self._topic_arn, notice.account_id)
            self._client.publish(TopicArn=topic_arn, MessageAttributes=attributes, **message)
        self._client.publish(TopicArn=self._topic_arn, MessageAttributes=attributes, **message)
        logger.info("notice", webhookId=notice.webhook_id, kind=notice.kind)


_HEADLINES = {
    NotificationKind.FAILING: "is failing",
    NotificationKind.STILL_FAILING: "is still failing",
    NotificationKind.DISABLED: "was disabled",
    NotificationKind.RECOVERED: "works again",
}


def _subject(notice: Notification) -> str:
    # SNS takes ASCII, and no line breaks; a webhook's name has none.
    name = notice.name.encode("ascii", "replace").decode()
    headline = _HEADLINES[notice.kind]
    room = _SUBJECT_LENGTH - len(f"Webhook  {headline}")
    return f"Webhook {name[:room]} {headline}"


def _facts(
    notice: Notification, pending: int, next_expiry_ms: int | None, *, is_complete: bool
) -> dict[str, str | int | bool]:
    facts: dict[str, str | int | bool] = {
        "kind": notice.kind.value,
        "accountId": notice.account_id,
        "webhookId": notice.webhook_id,
        "name": notice.name,
        "at": format_ms(notice.at_ms),
        "since": format_ms(notice.since_ms),
        "pending": pending,
        "pendingAtLeast": not is_complete,
    }
    if notice.last_error:
        facts["lastError"] = notice.last_error
    if next_expiry_ms is not None and pending:
        facts["nextExpiryAt"] = format_ms(next_expiry_ms)
    return facts


def _mail(notice: Notification, facts: dict[str, str | int | bool]) -> str:
    lines = [
        f"Webhook: {notice.name} ({notice.webhook_id})",
        f"Account: {notice.account_id}",
        "",
        f"It {_HEADLINES[notice.kind]}.",
        f"{'It failed from' if notice.kind is NotificationKind.RECOVERED else 'Since'} {facts['since']}.",
    ]
    if notice.last_error:
        lines.append(f"The last error: {notice.last_error}.")
    if facts["pending"]:
        at_least = "at least " if facts["pendingAtLeast"] else ""
        lines.append(f"Pending events: {at_least}{facts['pending']}.")
    if "nextExpiryAt" in facts:
        lines.append(f"None of them expires before {facts['nextExpiryAt']}.")
    if notice.kind is NotificationKind.DISABLED:
        lines.append("Nothing is sent to it until its status is set to active again.")
    return "\n".join(lines) + "\n"


def _place(notice: Notification) -> Key:
    return "NOTICES", f"{notice.at_ms:013d}#{notice.webhook_id}#{notice.key}"


def _item(notice: Notification) -> "Item":
    return {
        **key_item(_place(notice)),
        "account_id": {"S": notice.account_id},
        "webhook_id": {"S": notice.webhook_id},
        "webhook_name": {"S": notice.name},
        "kind": {"S": notice.kind.stored},
        "key": {"S": notice.key},
        "epoch": {"N": str(notice.epoch)},
        "at": {"N": str(notice.at_ms)},
        "since": {"N": str(notice.since_ms)},
        "last_error": {"S": notice.last_error},
    }


def _read_notice(item: "Item") -> Notification | None:
    """The notice of an item; None where this version cannot read it. That item stays as it is."""
    try:
        return _notice(item)
    except Exception as error:  # noqa: BLE001  # whatever is in it, it costs no other notice
        report(error, "notice not read", webhookId=str(item.get("webhook_id", {}).get("S")))
        return None


def _notice(item: "Item") -> Notification:
    return Notification(
        account_id=item["account_id"]["S"],
        webhook_id=item["webhook_id"]["S"],
        name=item["webhook_name"]["S"],
        kind=NotificationKind.read(item["kind"]["S"]),
        key=item["key"]["S"],
        epoch=int(item["epoch"]["N"]),
        at_ms=int(item["at"]["N"]),
        since_ms=int(item["since"]["N"]),
        last_error=item["last_error"]["S"],
    )
