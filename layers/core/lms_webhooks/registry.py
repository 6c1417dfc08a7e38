"""Remember what the webhooks table says of an account for a moment, so that not every event reads it."""

from lms_webhooks.ages import Clocks, Memory
from lms_webhooks.webhook_store import Deleted, Registered, WebhookStore

MAX_AGE_SECONDS = 1.0
"""The admin API answers a change after this time, so that an event put after the answer sees the change.
At 100 events/s readings cost 0.03 read units an event (`bench/cost.py`), and twice that at half the age.
"""
MAX_BYTES = 32 * 1024 * 1024  # of the functions' 512 MB; some 1,000 accounts of the usual size


class Registry:
    """The webhooks of each account, at most MAX_AGE_SECONDS old. Safe to share between threads."""

    def __init__(self, store: WebhookStore, *, clocks: Clocks | None = None) -> None:
        self._store = store
        self._readings = Memory[str, tuple[Registered, ...]](
            max_age_seconds=MAX_AGE_SECONDS, max_weight=MAX_BYTES, clocks=clocks
        )

    def of_account(self, account_id: str, *, fresh: bool = False) -> tuple[Registered, ...]:
        """Every webhook of an account; `fresh` reads it now.

        Raises:
            aws.AWS_FAULTS: they could not be read.
        """
        if not fresh and (registered := self.remembered(account_id)) is not None:
            return registered
        # Aged from before the read: a change during it may be missing from what it gave.
        began = self._readings.clocks.now()
        registered = tuple(self._store.read_account(account_id))
        self._readings.put(
            account_id, registered, since=began, weight=_BYTES_OF_AN_ACCOUNT + sum(map(_bytes_of, registered))
        )
        return registered

    def remembered(self, account_id: str) -> tuple[Registered, ...] | None:
        """Every webhook of an account, if that was read a moment ago."""
        return self._readings.get(account_id)

    def forget(self, account_id: str) -> None:
        """What was read of an account is known to be out of date."""
        self._readings.forget(account_id)

    def find(self, account_id: str, webhook_id: str, *, fresh: bool = False) -> Registered | None:
        """One webhook of an account, or None when it is gone."""
        of_account = self.of_account(account_id, fresh=fresh)
        return next((each for each in of_account if each.webhook.webhook_id == webhook_id), None)

    def deleted(self, account_id: str, *, since_ms: int) -> list[Deleted]:
        """The webhooks that an account deleted at `since_ms` or later, as many as `WebhookStore.deleted`
        gives; read now.

        Raises:
            aws.AWS_FAULTS: they could not be read.
        """
        return self._store.deleted(account_id, since_ms=since_ms)


# What tracemalloc says that Python takes (3.13), rounded up: `tests/unit/test_registry.py` measures it.
_BYTES_OF_AN_ACCOUNT = 1_000
_BYTES_OF_A_WEBHOOK = 4_000
_BYTES_OF_AN_EVENT_NAME = 150  # its place in a set, and the string
_BYTES_OF_A_HEADER = 300
_BYTES_OF_AN_ATTEMPT = 250


def _bytes_of(registered: Registered) -> int:
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
