"""Publish the notifications of the outbox, to programs and by mail."""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto
from typing import TYPE_CHECKING

from lms_webhooks.aws.sns import account_topic
from lms_webhooks.errors import AWS_ERRORS
from lms_webhooks.model.lanes import Lane
from lms_webhooks.model.notifications import Notification, NotificationKind
from lms_webhooks.observability import logger, report
from lms_webhooks.stores.backlog import Backlog
from lms_webhooks.stores.outbox import PAGE_SIZE, NotificationOutbox
from lms_webhooks.stores.webhook_states import WebhookState, WebhookStates
from lms_webhooks.timestamps import format_ms

if TYPE_CHECKING:
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sns.type_defs import MessageAttributeValueTypeDef

_COUNTED_PENDING = 1000
_SUBJECT_LENGTH = 99  # SNS: less than 100


class _Verdict(Enum):
    TRUE = auto()
    OLD = auto()
    OPEN = auto()


class Notifier:
    """Publishes notifications to the topic of all accounts, for programs, and to each account's, for people.

    Programs filter by the message attributes.
    """

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
        """Publish the pending notifications. A process that dies before it removes one publishes it twice.

        Returns:
            How many were published.

        Raises:
            AWS_ERRORS: some could not be published. The next sweep tries again.
        """
        told = 0
        faults: list[Exception] = []
        for notices in self._box.read():
            ids = [(notice.account_id, notice.webhook_id) for notice in notices]
            # A webhook that was not read must not pass for deleted: its notifications are not out of date.
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
                except Exception as error:  # noqa: BLE001  # an error costs no other notification
                    report(error, "notification not sent", webhookId=notice.webhook_id, kind=notice.kind)
                    if isinstance(error, AWS_ERRORS):
                        faults.append(error)
            if told >= PAGE_SIZE:
                break
        if faults:
            raise faults[0]
        return told

    def _judge(self, notice: Notification, standing: WebhookState | None) -> "_Verdict":
        """Return whether a notification is still true, out of date, or not yet decided."""
        if standing is None or standing.epoch != notice.epoch:
            return _Verdict.OLD
        if notice.kind is not NotificationKind.DISABLED or standing.is_switched_off:
            return _Verdict.TRUE
        # Saved before the health was written. The drainer may still write it. Or it died, and the next one
        # may see another response.
        return _Verdict.OPEN if standing.lease_until_ms >= self._clock() * 1000 else _Verdict.OLD

    def _tell(self, notice: Notification) -> None:
        marks = self._backlog.marks(notice.webhook_id)
        marks.pop(Lane.REPLAY, None)  # redeliveries are not pending events
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
        # People first. If that fails, programs do not get the same notification with every sweep.
        with suppress(self._client.exceptions.NotFoundException):  # an account without mail subscriptions
            topic_arn = account_topic(self._topic_arn, notice.account_id)
            self._client.publish(TopicArn=topic_arn, MessageAttributes=attributes, **message)
        self._client.publish(TopicArn=self._topic_arn, MessageAttributes=attributes, **message)
        logger.info("notification sent", webhookId=notice.webhook_id, kind=notice.kind)


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
