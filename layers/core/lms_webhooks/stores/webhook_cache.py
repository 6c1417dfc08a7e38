"""Remember what the webhooks table says of an account for a moment, so that not every event reads it."""

from typing import NamedTuple

from lms_webhooks.clocks import Clocks, ExpiringCache
from lms_webhooks.errors import UnreadableWebhook
from lms_webhooks.model.webhooks import Tombstone, Unreadable, WebhookWithHealth
from lms_webhooks.stores.webhooks import WebhookStore

MAX_AGE_SECONDS = 1.0
"""The admin API answers a change after this time, so that an event put after the answer sees the change.
At 100 events/s readings cost 0.03 read units an event (`bench/cost.py`), and twice that at half the age.
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
        """Every webhook of an account; `fresh` reads it now.

        Raises:
            AWS_ERRORS: they could not be read.
        """
        return self._read(account_id, fresh=fresh).registered

    def unreadable(self, account_id: str) -> tuple[Unreadable, ...]:
        """The webhooks of an account that this version cannot read; they are not among the others.

        Raises:
            AWS_ERRORS: they could not be read.
        """
        return self._read(account_id).unreadable

    def cached(self, account_id: str) -> tuple[WebhookWithHealth, ...] | None:
        """Every webhook of an account, if that was read a moment ago."""
        reading = self._readings.get(account_id)
        return None if reading is None else reading.registered

    def forget(self, account_id: str) -> None:
        """What was read of an account is known to be out of date."""
        self._readings.discard(account_id)

    def find(self, account_id: str, webhook_id: str, *, fresh: bool = False) -> WebhookWithHealth | None:
        """One webhook of an account, or None when it is gone.

        Raises:
            UnreadableWebhook: it is there, and this version cannot read it.
            AWS_ERRORS: it could not be looked up.
        """
        reading = self._read(account_id, fresh=fresh)
        for each in reading.registered:
            if each.webhook.webhook_id == webhook_id:
                return each
        if any(unreadable.webhook_id == webhook_id for unreadable in reading.unreadable):
            raise UnreadableWebhook(webhook_id)
        return None

    def deleted(self, account_id: str, *, since_ms: int) -> list[Tombstone]:
        """The webhooks that an account deleted at `since_ms` or later, as many as `WebhookStore.deleted`
        gives; read now.

        Raises:
            AWS_ERRORS: they could not be read.
        """
        return self._store.deleted(account_id, since_ms=since_ms)

    def _read(self, account_id: str, *, fresh: bool = False) -> _Reading:
        if not fresh and (remembered := self._readings.get(account_id)) is not None:
            return remembered
        # Aged from before the read: a change during it may be missing from what it gave.
        began = self._readings.clocks.now()
        registered, unreadable = self._store.read_each(account_id)
        reading = _Reading(tuple(registered), tuple(unreadable))
        weight = _BYTES_OF_AN_ACCOUNT + sum(map(_bytes_of, registered))
        self._readings.put(account_id, reading, since=began, weight=weight)
        return reading


# What tracemalloc says that Python takes (3.13), rounded up. `tests/unit/stores/test_webhook_cache.py`
# measures it.
_BYTES_OF_AN_ACCOUNT = 1_000
_BYTES_OF_A_WEBHOOK = 4_000
_BYTES_OF_AN_EVENT_NAME = 150  # its place in a set, and the string
_BYTES_OF_A_HEADER = 300
_BYTES_OF_AN_ATTEMPT = 250


def _bytes_of(registered: WebhookWithHealth) -> int:
    """About how much memory a webhook takes."""
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
