"""Remember the registrations of an account for a moment, so that not every event reads them."""

import time
from collections.abc import Callable
from typing import NamedTuple

from lms_webhooks.webhook_store import WebhookStore
from lms_webhooks.webhooks import Webhook

# A change must be in force 10 s later; an attempt that started just before the limit may take 5 s.
MAX_AGE_SECONDS = 4.0
_MAX_ACCOUNTS = 10_000


class _Reading(NamedTuple):
    read_at: float
    webhooks: tuple[Webhook, ...]


class Registry:
    """What the webhooks table says of each account, at most MAX_AGE_SECONDS old. Safe between threads."""

    def __init__(self, store: WebhookStore, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._readings: dict[str, _Reading] = {}

    def webhooks(self, account_id: str) -> tuple[Webhook, ...]:
        """The account's registrations.

        Raises:
            aws.AWS_FAULTS: they could not be read.
        """
        reading = self._readings.get(account_id)
        # Aged from before the read: a change during it may be missing from what it gave.
        now = self._clock()
        if reading is None or now - reading.read_at >= MAX_AGE_SECONDS:
            reading = _Reading(now, tuple(self._store.read_account(account_id)))
            if len(self._readings) >= _MAX_ACCOUNTS:
                self._readings.clear()
            self._readings[account_id] = reading
        return reading.webhooks

    def find(self, account_id: str, webhook_id: str) -> Webhook | None:
        """One registration of the account, or None when it is gone."""
        return next((each for each in self.webhooks(account_id) if each.webhook_id == webhook_id), None)
