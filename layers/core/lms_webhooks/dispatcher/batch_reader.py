"""Read what one SQS batch brings, and share it out among the webhooks that may want it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from lms_webhooks.aws.sqs import QuarantineQueue
from lms_webhooks.model.events import Event, MalformedEvent, read_event
from lms_webhooks.model.routing import Route, lane_for, route
from lms_webhooks.model.webhooks import Webhook, format_ms
from lms_webhooks.observability import Metric, count, logger, report
from lms_webhooks.sending.webhook_client import SendResult
from lms_webhooks.sending.webhook_request import Credentials
from lms_webhooks.stores.backlog import Lane
from lms_webhooks.stores.deliveries import Delivery
from lms_webhooks.stores.webhook_cache import WebhookCache
from lms_webhooks.stores.webhooks import Tombstone
from lms_webhooks.thread_pool import ThreadPool

SECOND_TEXT = "eventId is that of another event with this timestamp"
"""Why an event goes into quarantine whose id and time another one has, of its batch, on record or pending."""
_LANES = {Route.REALTIME_LANE: Lane.REALTIME, Route.BATCH_LANE: Lane.BATCH}


class QueuedEvent(NamedTuple):
    """What SQS brought."""

    id: str
    event: Event
    is_redelivered: bool


@dataclass
class WebhookBatch:
    """What one batch brings for one webhook: its events, and the messages that brought each."""

    account_id: str
    webhook_id: str
    events: dict[str, Event] = field(default_factory=dict)
    message_ids: dict[str, set[str]] = field(default_factory=dict)
    redelivered: list[Event] = field(default_factory=list)
    asked_for: set[str] = field(default_factory=set)
    """Sort keys of those that the webhook wants, or wanted until it was deleted."""
    lanes: dict[str, Lane] = field(default_factory=dict)
    """Where those that cannot go now are to wait."""
    credentials: tuple[Webhook, Credentials] | None = None
    """What a request to the webhook, as it was at the last event, proves itself with."""
    sent: list[SendResult] = field(default_factory=list)
    # What became of them, by sort key:
    delivered: list[Delivery] = field(default_factory=list)
    safe: set[str] = field(default_factory=set)
    failed_attempts: int = 0
    failures: int | None = None
    """Endpoint failures in a row, as its health has them; None where nobody can say."""

    def add(self, event: Event, message_id: str, *, is_redelivered: bool, way: Route) -> None:
        self.events[event.sort_key] = event
        if way is not Route.NOWHERE:
            self.asked_for.add(event.sort_key)
        if way in _LANES:
            self.lanes[event.sort_key] = _LANES[way]
        if is_redelivered:
            self.redelivered.append(event)
        self.message_ids.setdefault(event.sort_key, set()).add(message_id)

    def withdraw(self, sort_key: str) -> set[str]:
        """Take an event out; answer the ids of its messages."""
        self.redelivered = [each for each in self.redelivered if each.sort_key != sort_key]
        del self.events[sort_key]
        return self.message_ids.pop(sort_key)

    def failed_message_ids(self) -> set[str]:
        """Those with an event that is neither delivered, nor waiting, nor unwanted."""
        return {
            message_id
            for sort_key, message_ids in self.message_ids.items()
            if sort_key not in self.safe
            for message_id in message_ids
        }


class BatchReader:
    """Shares out batches, one at a time."""

    def __init__(
        self, registry: WebhookCache, quarantine: QuarantineQueue, *, event_source: str, retention_ms: int
    ) -> None:
        self._registry = registry
        self._quarantine = quarantine
        self._event_source = event_source
        self._retention_ms = retention_ms

    def read_batch(
        self, records: Sequence[dict[str, Any]], crew: ThreadPool
    ) -> tuple[list[WebhookBatch], set[str]]:
        """What there is to do for each webhook that may want any of it; and the ids of the messages that must
        come again, since they could not be shared out."""
        shares: dict[str, WebhookBatch] = {}
        unsafe: set[str] = set()
        by_account = self._read_all(records, unsafe)

        def share_out_account(account_id: str) -> None:
            try:
                self._add_to_shares(account_id, by_account[account_id], shares, unsafe)
            except Exception as error:  # noqa: BLE001  # whatever it is, it costs no other account
                report(error, "registrations not read", accountId=account_id)
                unsafe.update(message.id for message in by_account[account_id])

        # Accounts that must be looked up are so at the same time: ten in a row would take as long as most
        # receivers do.
        asked = [
            each
            for each, messages in by_account.items()
            if self._registry.cached(each) is None or _came_before(messages)
        ]
        crew.run_all(share_out_account, asked)
        for account_id in by_account:
            if account_id not in asked:
                share_out_account(account_id)
        return list(shares.values()), unsafe

    def _read_all(self, records: Sequence[dict[str, Any]], unsafe: set[str]) -> dict[str, list[QueuedEvent]]:
        """The messages of each account."""
        by_account: dict[str, list[QueuedEvent]] = {}
        first: dict[tuple[str, str], Event] = {}
        for record in records:
            try:
                message = self._read(record)
                if message is None:
                    continue
                event = message.event
                earlier = first.setdefault((event.account_id, event.sort_key), event)
                if differ(earlier.text, event.text):
                    self.put_aside(record, SECOND_TEXT)
                    continue
            except Exception as error:  # noqa: BLE001  # whatever it is, it costs no other message
                report(error, "message not processed", messageId=record["messageId"])
                unsafe.add(record["messageId"])
            else:
                by_account.setdefault(event.account_id, []).append(message)
        return by_account

    def _read(self, record: dict[str, Any]) -> QueuedEvent | None:
        """The event that a message brings. One that is none is put into quarantine."""
        try:
            event = read_event(
                record["body"],
                source=self._event_source,
                accepted_at_ms=int(record["attributes"]["SentTimestamp"]),
            )
        except MalformedEvent as malformed:
            self.put_aside(record, malformed.reason, logged=malformed.logged)
            return None
        came_before = int(record["attributes"]["ApproximateReceiveCount"]) > 1
        return QueuedEvent(record["messageId"], event, came_before)

    def put_aside(self, record: dict[str, Any], reason: str, *, logged: str | None = None) -> None:
        """Put the event of a message into quarantine. The log gets `logged` where `reason` holds its values.

        Raises:
            AWS_ERRORS: it is not there; the message must come again.
        """
        self._quarantine.keep(record["body"], reason=reason)
        logger.warning("event quarantined", messageId=record["messageId"], reason=logged or reason)
        count(Metric.EVENTS_QUARANTINED)

    def _add_to_shares(
        self,
        account_id: str,
        messages: Sequence[QueuedEvent],
        shares: dict[str, WebhookBatch],
        unsafe: set[str],
    ) -> None:
        """Put the events of one account into the share of each webhook that may want them.

        A webhook that cannot be read gets what it takes into its backlog, for a version that can read it. Its
        messages do not return: a queue has 120,000 in flight at most (SQS quota), for all accounts. They do
        where not even what it takes can be read, for then there is no other place for them.
        """
        of_account = self._registry.for_account(account_id)
        unreadable = self._registry.unreadable(account_id)
        if any(each.events is None for each in unreadable):
            unsafe.update(message.id for message in messages)
        deleted: list[Tombstone] = []
        if came_before := _came_before(messages):
            try:
                first_ms = min(message.event.accepted_at_ms for message in came_before)
                deleted = self._registry.deleted(account_id, since_ms=first_ms)
            except Exception as error:  # noqa: BLE001  # it costs none of those that came first
                report(error, "deleted webhooks not read", accountId=account_id)
                unsafe.update(message.id for message in came_before)
                messages = [message for message in messages if not message.is_redelivered]
        for message in messages:
            event = message.event
            ways = {
                known.webhook.webhook_id: route(*known, event, retention_ms=self._retention_ms)
                for known in of_account
            }
            for each in unreadable:
                ways[each.webhook_id] = _lane_if(event.event_name in (each.events or ()), event)
            if message.is_redelivered:
                accepted_at = format_ms(event.accepted_at_ms)
                for gone in deleted:
                    if gone.deleted_at >= accepted_at:
                        ways[gone.webhook_id] = _lane_if(event.event_name in gone.events, event)
            for webhook_id, way in ways.items():
                # One that does not want it now may have wanted it when it came before.
                if way is not Route.NOWHERE or message.is_redelivered:
                    share = shares.setdefault(webhook_id, WebhookBatch(account_id, webhook_id))
                    share.add(event, message.id, is_redelivered=message.is_redelivered, way=way)


def _lane_if(is_asked_for: bool, event: Event) -> Route:
    return lane_for(event) if is_asked_for else Route.NOWHERE


def differ(text: str, other: str) -> bool:
    """Tell whether two events are two, and not one that the bus wrote in two ways."""
    try:
        return text != other and _parsed(text) != _parsed(other)
    except RecursionError:  # read with a level less; to compare a whole one would fail each time
        return True


def _parsed(text: str) -> object:
    return json.loads(text, parse_int=str)  # Python refuses integers of 4,300 digits


def _came_before(messages: Sequence[QueuedEvent]) -> list[QueuedEvent]:
    return [message for message in messages if message.is_redelivered]
