"""Cache the webhooks of each account for a moment, so that not every event reads the table."""

from typing import NamedTuple

from lms_webhooks.clocks import Clocks, ExpiringCache
from lms_webhooks.errors import UnreadableWebhook
from lms_webhooks.model.webhooks import Tombstone, Unreadable, WebhookWithHealth
from lms_webhooks.stores.webhooks import WebhookStore

MAX_AGE_SECONDS = 1.0
"""The admin API responds to a change after this time, so an event put after the response sees the change.
At 100 events/s, reads cost 0.03 read units an event (`bench/cost.py`), and twice that at half the age.
"""
MAX_BYTES = 32 * 1024 * 1024  # of the functions' 512 MB: a hundred of the largest accounts, or thousands


class _Reading(NamedTuple):
    registered: tuple[WebhookWithHealth, ...]
    unreadable: tuple[Unreadable, ...]


class WebhookCache:
    """The webhooks of each account, at most MAX_AGE_SECONDS old. Safe to share between threads."""

    def __init__(self, store: WebhookStore, *, clocks: Clocks | None = None) -> None:
        self._store = store
        self._readings = ExpiringCache[str, _Reading](
            max_age_seconds=MAX_AGE_SECONDS, max_weight=MAX_BYTES, clocks=clocks
        )

    def for_account(self, account_id: str, *, fresh: bool = False) -> tuple[WebhookWithHealth, ...]:
        """Return the webhooks of an account; with `fresh`, read them now.

        Raises:
            AWS_ERRORS: they could not be read.
        """
        return self._read(account_id, fresh=fresh).registered

    def unreadable(self, account_id: str) -> tuple[Unreadable, ...]:
        """Return the webhooks of an account that this version cannot read. `for_account` leaves them out.

        Raises:
            AWS_ERRORS: they could not be read.
        """
        return self._read(account_id).unreadable

    def cached(self, account_id: str) -> tuple[WebhookWithHealth, ...] | None:
        """Return the webhooks of an account if they are cached, else None."""
        reading = self._readings.get(account_id)
        return None if reading is None else reading.registered

    def invalidate(self, account_id: str) -> None:
        """Drop the cached webhooks of an account, because they are out of date."""
        self._readings.discard(account_id)

    def find(self, account_id: str, webhook_id: str, *, fresh: bool = False) -> WebhookWithHealth | None:
        """Return one webhook of an account, or None when it is deleted.

        Raises:
            UnreadableWebhook: it is there, and this version cannot read it.
            AWS_ERRORS: it could not be read.
        """
        reading = self._read(account_id, fresh=fresh)
        for each in reading.registered:
            if each.webhook.webhook_id == webhook_id:
                return each
        if any(unreadable.webhook_id == webhook_id for unreadable in reading.unreadable):
            raise UnreadableWebhook(webhook_id)
        return None

    def deleted(self, account_id: str, *, since_ms: int) -> list[Tombstone]:
        """Return the webhooks that an account deleted at `since_ms` or later, see `WebhookStore.deleted`.

        They are not cached.

        Raises:
            AWS_ERRORS: they could not be read.
        """
        return self._store.deleted(account_id, since_ms=since_ms)

    def _read(self, account_id: str, *, fresh: bool = False) -> _Reading:
        if not fresh and (remembered := self._readings.get(account_id)) is not None:
            return remembered
        # The age counts from before the read, which may miss a change that happens during it.
        began = self._readings.clocks.now()
        registered, unreadable = self._store.read_each(account_id)
        reading = _Reading(tuple(registered), tuple(unreadable))
        weight = _BYTES_OF_AN_ACCOUNT + sum(map(_bytes_of, registered))
        self._readings.put(account_id, reading, since=began, weight=weight)
        return reading


# Measured with tracemalloc on Python 3.13, rounded up. `tests/unit/stores/test_webhook_cache.py`
# measures it.
_BYTES_OF_AN_ACCOUNT = 1_000
_BYTES_OF_A_WEBHOOK = 4_000
_BYTES_OF_AN_EVENT_NAME = 150  # its place in a set, and the string
_BYTES_OF_A_HEADER = 300
_BYTES_OF_AN_ATTEMPT = 250


def _bytes_of(registered: WebhookWithHealth) -> int:
    """Estimate the memory that a webhook takes."""
    webhook, health = registered
    texts = (
        webhook.name,
        webhook.description,
        webhook.target_url,
        *webhook.headers,
        *webhook.headers.values(),
    )
    return (
        _BYTES_OF_A_WEBHOOK
        + 4 * sum(map(len, texts))  # a character may take four bytes
        + _BYTES_OF_AN_EVENT_NAME * len(webhook.events)
        + _BYTES_OF_A_HEADER * len(webhook.headers)
        + _BYTES_OF_AN_ATTEMPT * len(health.attempts)
    )
