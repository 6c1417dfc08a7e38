"""Notice endpoints that are slow, or that reject one event after the other, before they fail outright.

What is noticed lives in the memory of one execution environment: writing each latency down would cost as
much as the delivery. Only the transition to backlog mode is written, by who notices.
"""

from collections import deque
from dataclasses import dataclass, field

from lms_webhooks.clocks import Clocks, Memory
from lms_webhooks.model.health import SLOW_MS

SLOW_IN_A_ROW = 3
AVERAGED_ANSWERS = 5
_REMEMBERED_ANSWERS = 10
_MAX_WEBHOOKS = 10_000
MAX_PAUSE_SECONDS = 600
"""Between two answers of one row. What an endpoint said before a longer pause says nothing of it now."""


@dataclass
class _Answers:
    latencies_ms: deque[int] = field(default_factory=lambda: deque(maxlen=_REMEMBERED_ANSWERS))
    slow_in_a_row: int = 0
    rejected_in_a_row: int = 0


class SlownessDetector:
    """What recent direct attempts said of each webhook's endpoint.

    One webhook is only ever attempted by one thread of a batch at a time, so nothing here is locked.
    """

    def __init__(self, *, clocks: Clocks | None = None) -> None:
        self._answers = Memory[str, _Answers](
            max_age_seconds=MAX_PAUSE_SECONDS, max_weight=_MAX_WEBHOOKS, clocks=clocks
        )

    def record_success(self, webhook_id: str, latency_ms: int) -> bool:
        """Note a 2xx; answer whether the endpoint is slow: three in a row over the threshold, or the
        average over it across five or more."""
        answers = self._of(webhook_id)
        answers.rejected_in_a_row = 0
        answers.latencies_ms.append(latency_ms)
        answers.slow_in_a_row = answers.slow_in_a_row + 1 if latency_ms > SLOW_MS else 0
        known = len(answers.latencies_ms)
        return answers.slow_in_a_row >= SLOW_IN_A_ROW or (
            known >= AVERAGED_ANSWERS and sum(answers.latencies_ms) / known > SLOW_MS
        )

    def rejected(self, webhook_id: str) -> None:
        """Note an event that the receiver rejected."""
        self._of(webhook_id).rejected_in_a_row += 1

    def rejections(self, webhook_id: str) -> int:
        """How many events in a row the receiver rejected."""
        answers = self._answers.get(webhook_id)
        return answers.rejected_in_a_row if answers is not None else 0

    def forget(self, webhook_id: str) -> None:
        """The webhook left direct mode; when it comes back, it starts afresh."""
        self._answers.forget(webhook_id)

    def _of(self, webhook_id: str) -> _Answers:
        answers = self._answers.get(webhook_id) or _Answers()
        self._answers.put(webhook_id, answers)  # aged from this answer on
        return answers
