"""Detect endpoints that are slow, or that reject one event after the other, before they fail outright.

The counts live in the memory of one execution environment, because writing each latency to DynamoDB would
cost as much as the delivery. The dispatcher writes only the change to backlog mode.
"""

from collections import deque
from dataclasses import dataclass, field

from lms_webhooks.clocks import Clocks, ExpiringCache
from lms_webhooks.model.health import SLOW_MS

SLOW_IN_A_ROW = 3
AVERAGED_RESPONSES = 5
_KEPT_RESPONSES = 10
_MAX_WEBHOOKS = 10_000
MAX_PAUSE_SECONDS = 600
"""The longest pause between two responses of one row. An older response says nothing about the present."""


@dataclass
class _Recent:
    """The recent responses of one endpoint."""

    latencies_ms: deque[int] = field(default_factory=lambda: deque(maxlen=_KEPT_RESPONSES))
    slow_in_a_row: int = 0
    rejected_in_a_row: int = 0


class SlownessDetector:
    """Judges each webhook's endpoint by its recent responses in direct mode.

    Only one thread of a batch sends to a webhook at a time, so nothing here is locked.
    """

    def __init__(self, *, clocks: Clocks | None = None) -> None:
        self._recent = ExpiringCache[str, _Recent](
            max_age_seconds=MAX_PAUSE_SECONDS, max_weight=_MAX_WEBHOOKS, clocks=clocks
        )

    def record_success(self, webhook_id: str, latency_ms: int) -> bool:
        """Record a 2xx.

        Returns:
            Whether the endpoint is slow: three responses in a row over the threshold, or an average over it
            across five or more.
        """
        recent = self._recent_of(webhook_id)
        recent.rejected_in_a_row = 0
        recent.latencies_ms.append(latency_ms)
        recent.slow_in_a_row = recent.slow_in_a_row + 1 if latency_ms > SLOW_MS else 0
        known = len(recent.latencies_ms)
        return recent.slow_in_a_row >= SLOW_IN_A_ROW or (
            known >= AVERAGED_RESPONSES and sum(recent.latencies_ms) / known > SLOW_MS
        )

    def record_rejection(self, webhook_id: str) -> None:
        """Record that the receiver rejected an event."""
        self._recent_of(webhook_id).rejected_in_a_row += 1

    def rejections(self, webhook_id: str) -> int:
        """Return how many events in a row the receiver rejected."""
        recent = self._recent.get(webhook_id)
        return recent.rejected_in_a_row if recent is not None else 0

    def reset(self, webhook_id: str) -> None:
        """Drop the counts of a webhook that leaves direct mode."""
        self._recent.discard(webhook_id)

    def _recent_of(self, webhook_id: str) -> _Recent:
        recent = self._recent.get(webhook_id) or _Recent()
        self._recent.put(webhook_id, recent)  # its age counts from this response
        return recent
