"""Remember what the webhooks table says of an account for a moment, so that not every event reads it."""

import time
from collections.abc import Callable
from typing import NamedTuple

from lms_webhooks.webhook_store import Deleted, Registered, Unreadable, UnreadableWebhook, WebhookStore

MAX_AGE_SECONDS = 2.0
"""A fallen endpoint must not be attempted for long by those who have not heard of it; a changed
registration is in force even sooner than it must be (10 s)."""
_MAX_ACCOUNTS = 10_000


class _Reading(NamedTuple):
    read_at: float
    registered: tuple[Registered, ...]
    unreadable: tuple[Unreadable, ...]


class Registry:
    """The webhooks of each account, at most MAX_AGE_SECONDS old. Safe to share between threads."""

    def __init__(self, store: WebhookStore, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._readings: dict[str, _Reading] = {}

    def of_account(self, account_id: str, *, fresh: bool = False) -> tuple[Registered, ...]:
        """Every webhook of an account; `fresh` reads it now.

        Raises:
            aws.AWS_FAULTS: they could not be read.
        """
        return self._read(account_id, fresh=fresh).registered

    def unreadable(self, account_id: str) -> tuple[Unreadable, ...]:
        """The webhooks of an account that this version cannot read; they are not among the others.

        Raises:
            aws.AWS_FAULTS: they could not be read.
        """
        return self._read(account_id).unreadable

    def remembered(self, account_id: str) -> tuple[Registered, ...] | None:
        """Every webhook of an account, if that was read a moment ago."""
        reading = self._remembered(account_id)
        return None if reading is None else reading.registered

    def forget(self, account_id: str) -> None:
        """What was read of an account is known to be out of date."""
        self._readings.pop(account_id, None)

    def find(self, account_id: str, webhook_id: str, *, fresh: bool = False) -> Registered | None:
        """One webhook of an account, or None when it is gone.

        Raises:
            UnreadableWebhook: it is there, and this version cannot read it.
            aws.AWS_FAULTS: it could not be looked up.
        """
        reading = self._read(account_id, fresh=fresh)
        if any(each.webhook_id == webhook_id for each in reading.unreadable):
            raise UnreadableWebhook(webhook_id)
        return next((each for each in reading.registered if each.webhook.webhook_id == webhook_id), None)

    def deleted(self, account_id: str) -> list[Deleted]:
        """The webhooks that an account had, for as long as that is remembered; read now.

        Raises:
            aws.AWS_FAULTS: they could not be read.
        """
        return self._store.deleted(account_id)

    def _read(self, account_id: str, *, fresh: bool = False) -> _Reading:
        if not fresh and (remembered := self._remembered(account_id)) is not None:
            return remembered
        # Aged from before the read: a change during it may be missing from what it gave.
        read_at = self._clock()
        registered, unreadable = self._store.read_each(account_id)
        reading = _Reading(read_at, tuple(registered), tuple(unreadable))
        if len(self._readings) >= _MAX_ACCOUNTS:
            self._readings.clear()
        self._readings[account_id] = reading
        return reading

    def _remembered(self, account_id: str) -> _Reading | None:
        reading = self._readings.get(account_id)
        if reading is None or self._clock() - reading.read_at >= MAX_AGE_SECONDS:
            return None
        return reading
