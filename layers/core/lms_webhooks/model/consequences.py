"""Decide what follows a response: for the events of the request, and for the health of the endpoint. Pure.

The dispatcher and the drain run both ask here, so they treat the same response in the same way. The
dispatcher skips it after a success, because a success in direct mode does not change the health.

A receiver may respond 500 to one event and 200 to every other. So each event of a failed request is a
suspect. Once another event got through and the suspect fails again, alone, the suspect counts as
rejected. That is so for every status code.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from lms_webhooks.model import health as endpoint
from lms_webhooks.model.attempts import Attempt, ErrorClass, ResponseClass, classify
from lms_webhooks.model.health import MAX_REJECTIONS_IN_A_ROW, DisabledReason, Health
from lms_webhooks.model.lanes import PendingEvent
from lms_webhooks.model.retry import backoff_seconds, rejection_delay_seconds, retry_after_seconds

_AFTER_THE_REQUEST = frozenset({ErrorClass.TIMEOUT, ErrorClass.CONNECTION_LOST, ErrorClass.INVALID_RESPONSE})


class Fate(StrEnum):
    """What becomes of the events of one request."""

    DELIVERED = "delivered"
    REJECTED = "rejected"
    """The request carried one event, which is set aside."""
    PENDING = "pending"
    """They stay where they are."""


@dataclass(frozen=True, slots=True)
class Consequence:
    """What follows one response."""

    fate: Fate
    health: Health
    """The new health of the endpoint."""
    delay_seconds: float | None = None
    """The pause until the endpoint may be tried again. None: the next request may go out at once."""


def decide(
    health: Health,
    attempt: Attempt,
    sort_keys: Sequence[str],
    *,
    body_bytes: int,
    retry_after: str,
    now_ms: int,
    jitter: float,
    disable_after_ms: int | None = None,
    is_known: bool = False,
    is_suspect: bool = False,
) -> Consequence:
    """Decide what follows the response to one request, which carried the events with these `sort_keys`.

    Args:
        disable_after_ms: How long an endpoint may fail before its webhook is disabled. None for the
            dispatcher: only the holder of the lease disables a webhook.
        is_known: The event was rejected before, or is replayed. One rejection more says nothing new about
            the endpoint.
        is_suspect: The event was set aside because the endpoint failed at it. The suspects of `health`
            count as well.
    """
    response_class = classify(attempt.status_code)
    is_alone = len(sort_keys) == 1
    is_suspect = (is_suspect or sort_keys[0] in health.suspects) and is_alone
    if response_class is ResponseClass.ENDPOINT and is_suspect and not health.failures:
        response_class = ResponseClass.EVENT if _may_be_the_event(attempt) else response_class
    if response_class is ResponseClass.DELIVERED:  # nothing is computed here that only failures need
        known = endpoint.after_success(health, attempt, sent_events=len(sort_keys))
        return Consequence(Fate.DELIVERED, endpoint.without_suspects(known, sort_keys))
    delay = _pause_seconds(health, attempt, retry_after, now_ms=now_ms, jitter=jitter)
    match response_class:
        case ResponseClass.EVENT if not is_alone:
            smaller = _with_smaller_requests(health, attempt, len(sort_keys), body_bytes, now_ms=now_ms)
            consequence = Consequence(Fate.PENDING, smaller)
        case ResponseClass.EVENT:
            consequence = _after_rejection(health, attempt, now_ms=now_ms, delay=delay, is_known=is_known)
            cleared = endpoint.without_suspects(consequence.health, sort_keys)
            consequence = replace(consequence, health=cleared)
        case ResponseClass.GONE if disable_after_ms is None:  # for the drainer to confirm, at once
            known = endpoint.after_failure(health, attempt, now_ms=now_ms, delay_seconds=0)
            consequence = Consequence(Fate.PENDING, known, delay_seconds=0)
        case ResponseClass.GONE:
            known = endpoint.after_gone(health, attempt, now_ms=now_ms)
            consequence = Consequence(Fate.PENDING, known, delay_seconds=0)
        case ResponseClass.ENDPOINT:
            known = _after_failure(health, attempt, sort_keys, now_ms=now_ms, delay=delay)
            consequence = Consequence(Fate.PENDING, known, delay)
    has_failed = consequence.health.failures > health.failures
    return _disable_if_overdue(consequence, now_ms, disable_after_ms) if has_failed else consequence


def _disable_if_overdue(consequence: Consequence, now_ms: int, disable_after_ms: int | None) -> Consequence:
    """Disable a webhook whose endpoint has failed for `disable_after_ms`."""
    health = consequence.health
    if disable_after_ms is None or now_ms - health.failing_since_ms < disable_after_ms:
        return consequence
    return replace(consequence, health=endpoint.disable(health, DisabledReason.FAILING, now_ms=now_ms))


def _with_smaller_requests(
    health: Health, attempt: Attempt, events: int, body_bytes: int, *, now_ms: int
) -> Health:
    """Halve the requests after one of several events was rejected, until the rejected event is alone."""
    if attempt.status_code == 413:
        return endpoint.with_smaller_bodies(health, body_bytes, now_ms=now_ms)
    return endpoint.with_smaller_requests(health, events)


def _after_rejection(
    health: Health, attempt: Attempt, *, now_ms: int, delay: float, is_known: bool
) -> Consequence:
    if is_known:
        return Consequence(Fate.REJECTED, endpoint.after_repeated_rejection(health, attempt))
    if health.rejections + 1 < MAX_REJECTIONS_IN_A_ROW:
        return Consequence(Fate.REJECTED, endpoint.after_rejection(health, attempt))
    # The event is set aside all the same. So is each event that this endpoint is probed with and rejects: the
    # fault may lie with the events after all, and those behind them must not be held up for ever.
    rejected = replace(health, rejections=health.rejections + 1)
    known = endpoint.after_failure(rejected, attempt, now_ms=now_ms, delay_seconds=delay)
    return Consequence(Fate.REJECTED, known, delay)


def _after_failure(
    health: Health, attempt: Attempt, sort_keys: Sequence[str], *, now_ms: int, delay: float
) -> Health:
    failed = endpoint.after_failure(health, attempt, now_ms=now_ms, delay_seconds=delay)
    if attempt.error_class == ErrorClass.TIMEOUT:
        failed = endpoint.with_lower_size_ceiling(failed, len(sort_keys))
        if len(sort_keys) > 1:
            return failed  # they may just be too many: the ceiling parts them
    return endpoint.with_suspects(failed, sort_keys) if _may_be_the_event(attempt) else failed


def is_suspect_when_retried(pending: PendingEvent) -> bool:
    """Whether an event is in the retry lane because an endpoint failed at it."""
    last = pending.attempts[-1] if pending.attempts else None
    return last is not None and classify(last.status_code) is ResponseClass.ENDPOINT


def set_aside(pending: PendingEvent, attempt: Attempt, *, now_ms: int) -> tuple[PendingEvent, bool]:
    """Return a rejected event as the retry lane keeps it, and whether it is tried again."""
    tries = pending.tries + 1
    wait_seconds = rejection_delay_seconds(tries)
    due_at_ms = now_ms + (wait_seconds or 0) * 1000
    later = replace(pending, tries=tries, attempts=(*pending.attempts, attempt), due_at_ms=due_at_ms)
    return later, wait_seconds is not None


def _may_be_the_event(attempt: Attempt) -> bool:
    """Whether a failed attempt may be due to the event: the request reached the endpoint.

    A 429 is about load, whatever the event.
    """
    if attempt.status_code is not None:
        return attempt.status_code != 429
    return attempt.error_class in _AFTER_THE_REQUEST


def _pause_seconds(
    health: Health, attempt: Attempt, retry_after: str, *, now_ms: int, jitter: float
) -> float:
    requested = retry_after_seconds(retry_after, status_code=attempt.status_code, now_seconds=now_ms / 1000)
    return backoff_seconds(health.failures + 1, jitter=jitter, retry_after_seconds=requested)
