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
    OUTDATED = auto()
    UNDECIDED = auto()


class Notifier:
    """Publishes notifications to the topic of all accounts, for programs, and to each account's, for people.

    Programs filter by the message attributes.
    """

    def __init__(
        self,
        outbox: NotificationOutbox,
        backlog: Backlog,
        webhook_states: WebhookStates,
        client: "SNSClient",
        topic_arn: str,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._outbox = outbox
        self._backlog = backlog
        self._webhook_states = webhook_states
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
        published = 0
        errors: list[Exception] = []
        for page in self._outbox.read():
            ids = [(notification.account_id, notification.webhook_id) for notification in page]
            # A webhook that was not read must not pass for deleted: its notifications are not out of date.
            webhook_states = self._webhook_states.read(list(dict.fromkeys(ids)), require_all=True)
            for notification in page:
                state = webhook_states.get((notification.account_id, notification.webhook_id))
                try:
                    match self._check(notification, state):
                        case _Verdict.TRUE:
                            self._publish(notification)
                            published += 1
                        case _Verdict.UNDECIDED:
                            continue
                    self._outbox.remove(notification)
                except Exception as error:  # noqa: BLE001  # an error costs no other notification
                    report(
                        error,
                        "notification not sent",
                        webhookId=notification.webhook_id,
                        kind=notification.kind,
                    )
                    if isinstance(error, AWS_ERRORS):
                        errors.append(error)
            if published >= PAGE_SIZE:
                break
        if errors:
            raise errors[0]
        return published

    def _check(self, notification: Notification, state: WebhookState | None) -> "_Verdict":
        """Return whether a notification is still true, out of date, or not yet decided."""
        if state is None or state.epoch != notification.epoch:
            return _Verdict.OUTDATED
        if notification.kind is not NotificationKind.DISABLED or state.is_switched_off:
            return _Verdict.TRUE
        # Saved before the health was written. The drainer may still write it. Or it died, and the next one
        # may see another response.
        return _Verdict.UNDECIDED if state.lease_until_ms >= self._clock() * 1000 else _Verdict.OUTDATED

    def _publish(self, notification: Notification) -> None:
        markers = self._backlog.markers(notification.webhook_id)
        markers.pop(Lane.REPLAY, None)  # redeliveries are not pending events
        pending = [self._backlog.count(marker, limit=_COUNTED_PENDING) for marker in markers.values()]
        facts = _facts(
            notification,
            sum(each.events for each in pending),
            min((marker.check_at_ms for marker in markers.values()), default=None),
            is_complete=all(each.is_complete for each in pending),
        )
        attributes: dict[str, MessageAttributeValueTypeDef] = {
            name: {"DataType": "String", "StringValue": value}
            for name, value in (
                ("accountId", notification.account_id),
                ("webhookId", notification.webhook_id),
                ("kind", notification.kind.value),
            )
        }
        message = {
            "Subject": _subject(notification),
            "Message": json.dumps({"default": json.dumps(facts), "email": _mail(notification, facts)}),
            "MessageStructure": "json",
        }
        # People first. If that fails, programs do not get the same notification with every sweep.
        with suppress(self._client.exceptions.NotFoundException):  # an account without mail subscriptions
            topic_arn = account_topic(self._topic_arn, notification.account_id)
            self._client.publish(TopicArn=topic_arn, MessageAttributes=attributes, **message)
        self._client.publish(TopicArn=self._topic_arn, MessageAttributes=attributes, **message)
        logger.info("notification sent", webhookId=notification.webhook_id, kind=notification.kind)


_HEADLINES = {
    NotificationKind.FAILING: "is failing",
    NotificationKind.STILL_FAILING: "is still failing",
    NotificationKind.DISABLED: "was disabled",
    NotificationKind.RECOVERED: "works again",
}


def _subject(notification: Notification) -> str:
    # SNS takes ASCII, and no line breaks; a webhook's name has none.
    name = notification.name.encode("ascii", "replace").decode()
    headline = _HEADLINES[notification.kind]
    room = _SUBJECT_LENGTH - len(f"Webhook  {headline}")
    return f"Webhook {name[:room]} {headline}"


def _facts(
    notification: Notification, pending: int, next_expiry_ms: int | None, *, is_complete: bool
) -> dict[str, str | int | bool]:
    facts: dict[str, str | int | bool] = {
        "kind": notification.kind.value,
        "accountId": notification.account_id,
        "webhookId": notification.webhook_id,
        "name": notification.name,
        "at": format_ms(notification.at_ms),
        "since": format_ms(notification.since_ms),
        "pending": pending,
        "pendingAtLeast": not is_complete,
    }
    if notification.last_error:
        facts["lastError"] = notification.last_error
    if next_expiry_ms is not None and pending:
        facts["nextExpiryAt"] = format_ms(next_expiry_ms)
    return facts


def _mail(notification: Notification, facts: dict[str, str | int | bool]) -> str:
    since = "It failed from" if notification.kind is NotificationKind.RECOVERED else "Since"
    lines = [
        f"Webhook: {notification.name} ({notification.webhook_id})",
        f"Account: {notification.account_id}",
        "",
        f"It {_HEADLINES[notification.kind]}.",
        f"{since} {facts['since']}.",
    ]
    if notification.last_error:
        lines.append(f"The last error: {notification.last_error}.")
    if facts["pending"]:
        at_least = "at least " if facts["pendingAtLeast"] else ""
        lines.append(f"Pending events: {at_least}{facts['pending']}.")
    if "nextExpiryAt" in facts:
        lines.append(f"None of them expires before {facts['nextExpiryAt']}.")
    if notification.kind is NotificationKind.DISABLED:
        lines.append("Nothing is sent to it until its status is set to active again.")
    return "\n".join(lines) + "\n"
