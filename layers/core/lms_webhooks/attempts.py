"""One POST that was made, as history and health remember it. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Attempt:
    """When it began, how long it took, and what came of it: a status code or an error class."""

    started_at_ms: int
    latency_ms: int
    status_code: int | None
    error_class: str | None

    @property
    def is_success(self) -> bool:
        """Whether the receiver acknowledged it."""
        return self.status_code is not None and 200 <= self.status_code < 300

    @property
    def outcome(self) -> str:
        """In words: `HTTP 503`, or the error class."""
        return f"HTTP {self.status_code}" if self.status_code is not None else str(self.error_class)
