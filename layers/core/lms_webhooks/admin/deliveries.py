"""Read a webhook's deliveries, recorded and pending, as one list, newest first.

The history and the lanes are in the order of the events' time. So a page merges them, down to where all of
them were read. Only the retry lane has another order: a bounded part of it is read and sorted here.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from lms_webhooks.admin.caller import Caller
from lms_webhooks.admin.problems import DeliveryNotFound
from lms_webhooks.admin.query_parameters import EVERYTHING, DeliveryQuery, DeliveryStatus, write_cursor
from lms_webhooks.aws.dynamodb import KeyRange, Page
from lms_webhooks.model.attempts import Attempt
from lms_webhooks.model.deliveries import DeliveryRecord, Outcome
from lms_webhooks.model.lanes import Count, Lane, PendingEvent
from lms_webhooks.model.webhooks import Webhook
from lms_webhooks.stores.backlog import Backlog
from lms_webhooks.stores.deliveries import DeliveryStore
from lms_webhooks.stores.webhooks import WebhookStore

_READ_OF_FILTERED = 300  # entries of each source, however many of them are shown
_RETRY_PAGES = 2  # megabytes of the retry lane
_COUNTED_PAGES = 10  # megabytes of the history, as for the stats: ten thousand deliveries and more
_COUNTED_PAGE = 5_000  # more than a megabyte holds
_SHOWN_BODIES = 10  # of a delivery: each is a read of its own
_READ_BODIES = 100  # of an endpoint: about a hundred kilobytes, for at most twenty attempts
_SEARCH_SECONDS = 4.0  # for an event id; with one page more, well within the 15 s that a call may take
_ORDERED_LANES = (Lane.REALTIME, Lane.BATCH)


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """One delivery, pending or ended."""

    sort_key: str
    event_id: str
    event_name: str
    accepted_at_ms: int
    status: DeliveryStatus
    attempts: tuple[Attempt, ...]
    reason: str = ""
    next_attempt_at_ms: int = 0
    """When an event that its receiver rejected is retried."""


@dataclass(frozen=True, slots=True)
class DeliveryPage:
    """Some deliveries, newest first."""

    deliveries: list[DeliveryView]
    last_key: str | None
    """The sort key down to which all was read. None when there is nothing below it."""
    filters: str
    """Of the query."""
    is_incomplete: bool
    """Whether the retry lane holds more than was read, so that some may be missing here."""

    @property
    def next_cursor(self) -> str | None:
        """The cursor of the next page."""
        return None if self.last_key is None else write_cursor(self.filters, self.last_key)


class Deliveries:
    """The deliveries of every account's webhooks."""

    def __init__(
        self,
        store: WebhookStore,
        deliveries: DeliveryStore,
        backlog: Backlog,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._monotonic = monotonic
        self._deliveries = deliveries
        self._backlog = backlog

    def page(self, caller: Caller, webhook_id: str, query: DeliveryQuery) -> DeliveryPage:
        """Return the newest deliveries that match `query`. A short page need not be the last.

        Raises:
            WebhookNotFound: the account has no such webhook.
        """
        self._store.get(caller.account_id, webhook_id)
        ends_at = self._monotonic() + _SEARCH_SECONDS
        page = self._page(webhook_id, query)
        for _ in range(_COUNTED_PAGES - 1):
            is_found = query.event_id is None or bool(page.deliveries)
            if is_found or page.last_key is None or self._monotonic() > ends_at:
                break
            query = replace(query, key_range=KeyRange(query.key_range.start, page.last_key))
            page = self._page(webhook_id, query)
        return page

    def _page(self, webhook_id: str, query: DeliveryQuery) -> DeliveryPage:
        """Read each source once, and return the newest deliveries that match."""
        limit = _READ_OF_FILTERED if query.is_filtered else query.limit
        if query.event_id is not None:  # an index by event id would double the price of each delivery
            limit = _COUNTED_PAGE
        pages: list[Page[DeliveryView]] = []
        is_incomplete = False
        # Events move from the lanes to the retry lane and to the history. Read in this order none is missed.
        if query.status in (None, DeliveryStatus.PENDING):
            pages, is_incomplete = self._pending(webhook_id, query.key_range, limit)
        if query.status is not DeliveryStatus.PENDING:
            page = self._deliveries.page(webhook_id, query.key_range, limit=limit)
            pages.append(Page([_of_record(each) for each in page.entries], page.last_key))
        last_key = max((page.last_key for page in pages if page.last_key is not None), default=None)
        matching = [
            each
            for each in _merged(pages)
            if (last_key is None or each.sort_key >= last_key) and _matches(each, query)
        ]
        deliveries = matching[: query.limit]
        if len(matching) > query.limit:
            last_key = deliveries[-1].sort_key
        return DeliveryPage(deliveries, last_key, query.filters, is_incomplete)

    def find(self, caller: Caller, webhook_id: str, sort_key: str) -> tuple[DeliveryView, PendingEvent]:
        """Return one delivery and its event, which names its lane if it is pending.

        Raises:
            WebhookNotFound, DeliveryNotFound: it does not exist.
        """
        self._store.get(caller.account_id, webhook_id)
        pending = self._find_pending(webhook_id, sort_key)
        recorded = self._deliveries.find(webhook_id, sort_key)
        if recorded is not None and (pending is None or recorded[0].outcome is Outcome.DELIVERED):
            return _of_record(recorded[0]), PendingEvent(recorded[1])
        if pending is None:
            raise DeliveryNotFound
        return _of_pending(pending), pending

    def newest(self, webhook: Webhook) -> DeliveryView | None:
        """Return the newest delivery of the history, by the event's time; None without one."""
        page = self._deliveries.page(webhook.webhook_id, EVERYTHING, limit=1)
        return _of_record(page.entries[0]) if page.entries else None

    def count_recorded(
        self,
        caller: Caller,
        webhook_id: str,
        of: KeyRange,
        *,
        outcome: Outcome | None,
        event_name: str | None,
    ) -> Count:
        """Count the deliveries of the history in a range, with this outcome and event name if they are given.

        Raises:
            WebhookNotFound: the account has no such webhook.
        """
        self._store.get(caller.account_id, webhook_id)
        count = 0
        for _ in range(_COUNTED_PAGES):
            page = self._deliveries.page(webhook_id, of, limit=_COUNTED_PAGE)
            count += sum(each.has(outcome, event_name) for each in page.entries)
            if page.last_key is None:
                return Count(count, is_complete=True)
            of = KeyRange(of.start, page.last_key)
        return Count(count, is_complete=False)

    def endpoint_attempts(
        self, caller: Caller, webhook_id: str, delivery: DeliveryView
    ) -> list[Attempt] | None:
        """Return the last requests to the endpoint since a pending event was accepted; None for an ended one.

        A failure of the endpoint is stored once, with the webhook's health, and not with each pending event.

        Raises:
            WebhookNotFound: the account has no such webhook.
        """
        if delivery.status is not DeliveryStatus.PENDING:
            return None
        health = self._store.find(caller.account_id, webhook_id).health
        return [each for each in health.attempts if each.started_at_ms >= delivery.accepted_at_ms]

    def response_bodies(
        self,
        caller: Caller,
        webhook_id: str,
        delivery: DeliveryView,
        endpoint_attempts: Sequence[Attempt] | None,
    ) -> dict[int, str]:
        """Return the kept bodies of a delivery's last attempts and of its endpoint's, by the attempts' times.

        Raises:
            WebhookNotFound: the account has no such webhook.
        """
        failed = [each for each in delivery.attempts if not each.is_success and each.status_code is not None]
        if not failed and not endpoint_attempts:
            return {}
        webhook = self._store.get(caller.account_id, webhook_id)
        if not webhook.keep_response_bodies:
            return {}
        of_endpoint = self.endpoint_bodies(webhook, endpoint_attempts or ())
        own = self._deliveries.find_bodies(webhook_id, delivery.sort_key, failed[-_SHOWN_BODIES:])
        return of_endpoint | own

    def endpoint_bodies(self, webhook: Webhook, attempts: Sequence[Attempt]) -> dict[int, str]:
        """Return the kept bodies of the last requests to an endpoint, by the attempts' times."""
        if not webhook.keep_response_bodies or not attempts:
            return {}
        began_at_ms = [each.started_at_ms for each in attempts]
        return self._deliveries.bodies(
            webhook.webhook_id, from_ms=min(began_at_ms), to_ms=max(began_at_ms), limit=_READ_BODIES
        )

    def _pending(
        self, webhook_id: str, key_range: KeyRange, limit: int
    ) -> tuple[list[Page[DeliveryView]], bool]:
        markers = self._backlog.markers(webhook_id)
        pages: list[Page[DeliveryView]] = []
        for lane in _ORDERED_LANES:
            if lane in markers:
                page = self._backlog.page(webhook_id, lane, key_range, limit=limit)
                pages.append(Page([_of_pending(each) for each in page.entries], page.last_key))
        if Lane.RETRY not in markers:
            return pages, False
        read = list(islice(self._backlog.read_all(webhook_id, Lane.RETRY), _RETRY_PAGES + 1))
        retried = [
            _of_pending(each)
            for page in read[:_RETRY_PAGES]
            for each in page
            if key_range.start <= each.event.sort_key < key_range.end
        ]
        return [*pages, Page(retried, None)], len(read) > _RETRY_PAGES

    def _find_pending(self, webhook_id: str, sort_key: str) -> PendingEvent | None:
        markers = self._backlog.markers(webhook_id)
        for lane in _ORDERED_LANES:
            found = self._backlog.find(webhook_id, lane, sort_key) if lane in markers else None
            if found is not None:
                return replace(found, lane=lane)
        if Lane.RETRY in markers:
            for page in islice(self._backlog.read_all(webhook_id, Lane.RETRY), _RETRY_PAGES):
                for pending in page:
                    if pending.event.sort_key == sort_key:
                        return replace(pending, lane=Lane.RETRY)
        return None


def _merged(pages: list[Page[DeliveryView]]) -> Iterator[DeliveryView]:
    """Return each delivery once, newest first: as delivered if it is, else as pending if it is."""
    by_key: dict[str, DeliveryView] = {}
    for page in pages:
        for delivery in page.entries:
            known = by_key.get(delivery.sort_key)
            if known is None or delivery.status is DeliveryStatus.DELIVERED:
                by_key[delivery.sort_key] = delivery
    return (by_key[sort_key] for sort_key in sorted(by_key, reverse=True))


def _matches(delivery: DeliveryView, query: DeliveryQuery) -> bool:
    return (
        (query.status is None or delivery.status is query.status)
        and (query.event_name is None or delivery.event_name == query.event_name)
        and (query.event_id is None or delivery.event_id == query.event_id)
    )


def _of_record(recorded: DeliveryRecord) -> DeliveryView:
    return DeliveryView(
        sort_key=recorded.sort_key,
        event_id=recorded.event_id,
        event_name=recorded.event_name,
        accepted_at_ms=recorded.accepted_at_ms,
        status=DeliveryStatus(recorded.outcome.value),
        attempts=recorded.attempts,
        reason=recorded.reason,
    )


def _of_pending(pending: PendingEvent) -> DeliveryView:
    return DeliveryView(
        sort_key=pending.event.sort_key,
        event_id=pending.event.event_id,
        event_name=pending.event.event_name,
        accepted_at_ms=pending.event.accepted_at_ms,
        status=DeliveryStatus.PENDING,
        attempts=pending.attempts,
        next_attempt_at_ms=pending.due_at_ms,
    )
