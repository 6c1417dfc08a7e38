"""Show what became of a webhook's events: its history and what still waits, as one list, newest first.

Both are in the order of the events' time, so a page is a merge of them down to where all were read. Only the
retry lane is in another order; of it, a bounded part is read and sorted here.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

from lms_webhooks.admin.caller import Caller
from lms_webhooks.admin.query_parameters import DeliveryQuery, DeliveryStatus, write_cursor
from lms_webhooks.aws.dynamodb import KeyRange, Page
from lms_webhooks.model.attempts import Attempt
from lms_webhooks.problems import DeliveryNotFound
from lms_webhooks.stores.backlog import Backlog, Lane, PendingEvent
from lms_webhooks.stores.deliveries import DeliveryRecord, DeliveryStore, Outcome
from lms_webhooks.stores.webhooks import WebhookStore

_READ_OF_FILTERED = 300  # entries of each source, however many of them are shown
_RETRY_PAGES = 2  # megabytes of what was set aside
_ORDERED_LANES = (Lane.REALTIME, Lane.BATCH)


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """One delivery, in whatever state it is."""

    sort_key: str
    event_name: str
    accepted_at_ms: int
    status: DeliveryStatus
    attempts: tuple[Attempt, ...]
    reason: str = ""
    next_attempt_at_ms: int = 0
    """Of one that its receiver rejected and that waits to be tried again."""


@dataclass(frozen=True, slots=True)
class DeliveryPage:
    """Some deliveries, newest first."""

    deliveries: list[DeliveryView]
    next_cursor: str | None
    is_incomplete: bool
    """More is set aside for later tries than was read, so some of that may be missing here."""


class Deliveries:
    """The deliveries of every account's webhooks."""

    def __init__(self, store: WebhookStore, deliveries: DeliveryStore, backlog: Backlog) -> None:
        self._store = store
        self._deliveries = deliveries
        self._backlog = backlog

    def page(self, caller: Caller, webhook_id: str, query: DeliveryQuery) -> DeliveryPage:
        """The newest deliveries that `query` asks for. A page may be short, and yet not be the last.

        Raises:
            NoSuchWebhook: the account has none by this id.
        """
        self._store.get(caller.account_id, webhook_id)
        limit = _READ_OF_FILTERED if query.is_filtered else query.limit
        pages: list[Page[DeliveryView]] = []
        is_incomplete = False
        # Events go from the lanes to the retry lane and to the history; read in this order none is missed.
        if query.status in (None, DeliveryStatus.PENDING):
            pages, is_incomplete = self._waiting(webhook_id, query.of, limit)
        if query.status is not DeliveryStatus.PENDING:
            page = self._deliveries.page(webhook_id, query.of, limit=limit)
            pages.append(Page([_of_record(each) for each in page.entries], page.read_to))
        read_to = max((page.read_to for page in pages if page.read_to is not None), default=None)
        wanted = [
            shown
            for shown in _merged(pages)
            if (read_to is None or shown.sort_key >= read_to) and _matches(shown, query)
        ]
        deliveries = wanted[: query.limit]
        if len(wanted) > query.limit:
            read_to = deliveries[-1].sort_key
        cursor = None if read_to is None else write_cursor(query.filters, read_to)
        return DeliveryPage(deliveries, cursor, is_incomplete)

    def find(self, caller: Caller, webhook_id: str, sort_key: str) -> tuple[DeliveryView, PendingEvent]:
        """One delivery and its event; with where that waits, where it does.

        Raises:
            NoSuchWebhook, NoSuchDelivery: there is none.
        """
        self._store.get(caller.account_id, webhook_id)
        waiting = self._find_waiting(webhook_id, sort_key)
        recorded = self._deliveries.find(webhook_id, sort_key)
        if recorded is not None and (waiting is None or recorded[0].outcome is Outcome.DELIVERED):
            return _of_record(recorded[0]), PendingEvent(recorded[1])
        if waiting is None:
            raise DeliveryNotFound
        return _of_waiting(waiting), waiting

    def _waiting(self, webhook_id: str, of: KeyRange, limit: int) -> tuple[list[Page[DeliveryView]], bool]:
        marked = self._backlog.marks(webhook_id)
        pages: list[Page[DeliveryView]] = []
        for lane in _ORDERED_LANES:
            if lane in marked:
                page = self._backlog.page(webhook_id, lane, of, limit=limit)
                pages.append(Page([_of_waiting(each) for each in page.entries], page.read_to))
        if Lane.RETRY not in marked:
            return pages, False
        read = list(islice(self._backlog.read_all(webhook_id, Lane.RETRY), _RETRY_PAGES + 1))
        set_aside = [
            _of_waiting(each)
            for page in read[:_RETRY_PAGES]
            for each in page
            if of.low <= each.event.sort_key < of.high
        ]
        return [*pages, Page(set_aside, None)], len(read) > _RETRY_PAGES

    def _find_waiting(self, webhook_id: str, sort_key: str) -> PendingEvent | None:
        marked = self._backlog.marks(webhook_id)
        for lane in _ORDERED_LANES:
            found = self._backlog.find(webhook_id, lane, sort_key) if lane in marked else None
            if found is not None:
                return replace(found, pending_in=lane)
        if Lane.RETRY in marked:
            for page in islice(self._backlog.read_all(webhook_id, Lane.RETRY), _RETRY_PAGES):
                for waiting in page:
                    if waiting.event.sort_key == sort_key:
                        return replace(waiting, pending_in=Lane.RETRY)
        return None


def _merged(pages: list[Page[DeliveryView]]) -> Iterator[DeliveryView]:
    """Every delivery once, newest first: as delivered where it is, else as waiting where it does."""
    by_key: dict[str, DeliveryView] = {}
    for page in pages:
        for shown in page.entries:
            known = by_key.get(shown.sort_key)
            if known is None or shown.status is DeliveryStatus.DELIVERED:
                by_key[shown.sort_key] = shown
    return (by_key[sort_key] for sort_key in sorted(by_key, reverse=True))


def _matches(shown: DeliveryView, query: DeliveryQuery) -> bool:
    return (query.status is None or shown.status is query.status) and (
        query.event_name is None or shown.event_name == query.event_name
    )


def _of_record(recorded: DeliveryRecord) -> DeliveryView:
    return DeliveryView(
        sort_key=recorded.sort_key,
        event_name=recorded.event_name,
        accepted_at_ms=recorded.accepted_at_ms,
        status=DeliveryStatus(recorded.outcome.value),
        attempts=recorded.attempts,
        reason=recorded.reason,
    )


def _of_waiting(waiting: PendingEvent) -> DeliveryView:
    return DeliveryView(
        sort_key=waiting.event.sort_key,
        event_name=waiting.event.event_name,
        accepted_at_ms=waiting.event.accepted_at_ms,
        status=DeliveryStatus.PENDING,
        attempts=waiting.attempts,
        next_attempt_at_ms=waiting.due_at_ms,
    )
