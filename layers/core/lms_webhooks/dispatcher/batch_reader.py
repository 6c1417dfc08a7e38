"""Read one SQS batch, and group its events by the webhooks that may want them."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from lms_webhooks.aws.sqs import QuarantineQueue
from lms_webhooks.model.deliveries import Delivery
from lms_webhooks.model.event_types import EVENT_TYPES, EventTypes
from lms_webhooks.model.events import Event, MalformedEvent, read_event
from lms_webhooks.model.lanes import Lane
from lms_webhooks.model.routing import Route, route, route_to_lane
from lms_webhooks.model.slots import BatchSchedule
from lms_webhooks.model.webhooks import Tombstone, Webhook
from lms_webhooks.observability import Metric, count, logger, report
from lms_webhooks.sending.webhook_client import SendResult
from lms_webhooks.sending.webhook_request import Credentials
from lms_webhooks.stores.webhook_cache import WebhookCache
from lms_webhooks.thread_pool import ThreadPool
from lms_webhooks.timestamps import format_ms

CONFLICTING_EVENT = "eventId is that of another event of this type with this timestamp"
"""The quarantine's reason for an event whose name, id and time another event already has.
The other one is in the same batch, on record or in the backlog."""
_LANES = {Route.REALTIME_LANE: Lane.REALTIME, Route.BATCH_LANE: Lane.BATCH}


class QueuedEvent(NamedTuple):
    """An event, with the id of the SQS message that carried it."""

    id: str
    event: Event
    is_redelivered: bool
    """SQS delivered the message before."""


@dataclass
class WebhookBatch:
    """The events of one SQS batch for one webhook, and what became of them."""

    account_id: str
    webhook_id: str
    events: dict[str, Event] = field(default_factory=dict)
    """By sort key, like the rest."""
    message_ids: dict[str, set[str]] = field(default_factory=dict)
    redelivered: list[Event] = field(default_factory=list)
    wanted: set[str] = field(default_factory=set)
    """Sort keys of those that the webhook wants, or wanted until it was deleted."""
    lanes: dict[str, Lane] = field(default_factory=dict)
    """The lanes of those that cannot go out now."""
    credentials: tuple[Webhook, Credentials] | None = None
    """The decrypted credentials, with the version of the webhook that they belong to."""
    results: list[SendResult] = field(default_factory=list)
    delivered: list[Delivery] = field(default_factory=list)
    handled: set[str] = field(default_factory=set)
    """Sort keys of those that are delivered, pending or unwanted: SQS need not redeliver them."""
    failed_attempts: int = 0
    batch_schedule: BatchSchedule | None = None
    """The webhook's own."""
    failures: int | None = None
    """Endpoint failures in a row, as the webhook's health says; None where it is not known."""

    def add(self, event: Event, message_id: str, route: Route, *, is_redelivered: bool) -> None:
        """Add an event that goes this `route`."""
        self.events[event.sort_key] = event
        if route is not Route.SKIP:
            self.wanted.add(event.sort_key)
        if route in _LANES:
            self.lanes[event.sort_key] = _LANES[route]
        if is_redelivered:
            self.redelivered.append(event)
        self.message_ids.setdefault(event.sort_key, set()).add(message_id)

    def withdraw(self, sort_key: str) -> set[str]:
        """Remove an event and return the ids of its messages."""
        self.redelivered = [each for each in self.redelivered if each.sort_key != sort_key]
        del self.events[sort_key]
        return self.message_ids.pop(sort_key)

    def failed_message_ids(self) -> set[str]:
        """Return the ids of the messages that SQS must redeliver: one of their events is not handled."""
        return {
            message_id
            for sort_key, message_ids in self.message_ids.items()
            if sort_key not in self.handled
            for message_id in message_ids
        }


class BatchReader:
    """Reads SQS batches, one at a time."""

    def __init__(
        self,
        webhook_cache: WebhookCache,
        quarantine_queue: QuarantineQueue,
        *,
        event_source: str,
        retention_ms: int,
        event_types: EventTypes = EVENT_TYPES,
    ) -> None:
        self._webhook_cache = webhook_cache
        self._quarantine_queue = quarantine_queue
        self._event_source = event_source
        self._retention_ms = retention_ms
        self._event_types = event_types

    def read(
        self, records: Sequence[dict[str, Any]], threads: ThreadPool
    ) -> tuple[list[WebhookBatch], set[str]]:
        """Group the events of an SQS batch by webhook.

        Returns:
            A batch for each webhook that may want one of the events. Then the ids of the messages that could
            not be grouped, which SQS must redeliver.
        """
        batches: dict[str, WebhookBatch] = {}
        failed: set[str] = set()
        by_account = self._read_by_account(records, failed)

        def add_account(account_id: str) -> None:
            try:
                self._add_account(account_id, by_account[account_id], batches, failed)
            except Exception as error:  # noqa: BLE001  # whatever it is, it costs no other account
                report(error, "webhooks not read", accountId=account_id)
                failed.update(message.id for message in by_account[account_id])

        # Accounts that must be read from DynamoDB are read at the same time: ten in a row would take as long
        # as most receivers do.
        uncached = [
            each
            for each, messages in by_account.items()
            if self._webhook_cache.cached(each) is None or _redelivered(messages)
        ]
        threads.run_all(add_account, uncached)
        for account_id in by_account:
            if account_id not in uncached:
                add_account(account_id)
        return list(batches.values()), failed

    def _read_by_account(
        self, records: Sequence[dict[str, Any]], failed: set[str]
    ) -> dict[str, list[QueuedEvent]]:
        by_account: dict[str, list[QueuedEvent]] = {}
        first: dict[tuple[str, str], Event] = {}
        for record in records:
            try:
                message = self._read_record(record)
                if message is None:
                    continue
                event = message.event
                earlier = first.setdefault((event.account_id, event.sort_key), event)
                if are_different(earlier.text, event.text):
                    self.quarantine(record, CONFLICTING_EVENT)
                    continue
            except Exception as error:  # noqa: BLE001  # whatever it is, it costs no other message
                report(error, "message not processed", messageId=record["messageId"])
                failed.add(record["messageId"])
            else:
                by_account.setdefault(event.account_id, []).append(message)
        return by_account

    def _read_record(self, record: dict[str, Any]) -> QueuedEvent | None:
        """Read the event of an SQS record. A malformed one goes to quarantine."""
        try:
            event = read_event(
                record["body"],
                source=self._event_source,
                event_types=self._event_types,
                accepted_at_ms=int(record["attributes"]["SentTimestamp"]),
            )
        except MalformedEvent as malformed:
            self.quarantine(record, malformed.reason, log_reason=malformed.log_reason)
            return None
        is_redelivered = int(record["attributes"]["ApproximateReceiveCount"]) > 1
        return QueuedEvent(record["messageId"], event, is_redelivered)

    def quarantine(self, record: dict[str, Any], reason: str, *, log_reason: str | None = None) -> None:
        """Move the event of an SQS record to quarantine.

        Where `reason` holds values of the event, the log gets `log_reason` in its place.

        Raises:
            AWS_ERRORS: the event is not in quarantine, so SQS must redeliver its message.
        """
        self._quarantine_queue.quarantine(record["body"], reason=reason)
        logger.warning("event quarantined", messageId=record["messageId"], reason=log_reason or reason)
        count(Metric.EVENTS_QUARANTINED)

    def _add_account(
        self,
        account_id: str,
        messages: Sequence[QueuedEvent],
        batches: dict[str, WebhookBatch],
        failed: set[str],
    ) -> None:
        """Add the events of one account to the batch of each webhook that may want them.

        A webhook that this version cannot read gets its events into its backlog, for a version that can read
        it. Its messages are not redelivered, because a queue has at most 120,000 in flight (SQS quota) for
        all accounts. They are redelivered where not even the webhook's event names can be read.
        """
        webhooks = self._webhook_cache.for_account(account_id)
        unreadable = self._webhook_cache.unreadable(account_id)
        if any(each.events is None for each in unreadable):
            failed.update(message.id for message in messages)
        deleted: list[Tombstone] = []
        if redelivered := _redelivered(messages):
            try:
                first_ms = min(message.event.accepted_at_ms for message in redelivered)
                deleted = self._webhook_cache.deleted(account_id, since_ms=first_ms)
            except Exception as error:  # noqa: BLE001  # it costs none of the new messages
                report(error, "deleted webhooks not read", accountId=account_id)
                failed.update(message.id for message in redelivered)
                messages = [message for message in messages if not message.is_redelivered]
        schedules = {known.webhook.webhook_id: known.webhook.batch_schedule for known in webhooks}
        for message in messages:
            event = message.event
            routes = {
                known.webhook.webhook_id: route(
                    *known, event, retention_ms=self._retention_ms, event_types=self._event_types
                )
                for known in webhooks
            }
            for each in unreadable:
                routes[each.webhook_id] = self._route_to_lane_if_wanted(event, each.events or ())
            if message.is_redelivered:
                accepted_at = format_ms(event.accepted_at_ms)
                for tombstone in deleted:
                    if tombstone.deleted_at >= accepted_at:
                        routes[tombstone.webhook_id] = self._route_to_lane_if_wanted(event, tombstone.events)
            for webhook_id, its_route in routes.items():
                # A webhook may have wanted a redelivered event when it came first.
                if its_route is not Route.SKIP or message.is_redelivered:
                    batch = batches.setdefault(webhook_id, WebhookBatch(account_id, webhook_id))
                    batch.batch_schedule = schedules.get(webhook_id)
                    batch.add(event, message.id, its_route, is_redelivered=message.is_redelivered)

    def _route_to_lane_if_wanted(self, event: Event, wanted_names: Collection[str]) -> Route:
        return route_to_lane(event, self._event_types) if event.event_name in wanted_names else Route.SKIP


def are_different(text: str, other: str) -> bool:
    """Return whether two texts are two events, and not one event that the bus wrote in two ways."""
    try:
        return text != other and _parsed(text) != _parsed(other)
    except RecursionError:  # parsed with a level less; comparing whole ones would fail each time
        return True


def _parsed(text: str) -> object:
    return json.loads(text, parse_int=str)  # Python refuses integers of 4,300 digits


def _redelivered(messages: Sequence[QueuedEvent]) -> list[QueuedEvent]:
    return [message for message in messages if message.is_redelivered]
