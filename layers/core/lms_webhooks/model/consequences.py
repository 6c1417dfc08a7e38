"""Decide what follows a response: for the events that it is about, and for what is known of their endpoint.

The dispatcher and the drain run both ask here, so neither treats a response as the other would not. Only a
success in direct mode needs no answer: it changes nothing that is known of the endpoint. Pure.

An event may be what an endpoint fails at: its receiver answers 500 to this one, and 200 to every other. So an
event that failed is a suspect. When another event got through and the suspect fails once more, alone, then it
is the event that was rejected, whatever the status code.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from lms_webhooks.model import health as endpoint
from lms_webhooks.model.attempts import Attempt
from lms_webhooks.model.health import DisabledReason, Health
from lms_webhooks.model.retry import (
    MAX_REJECTIONS_IN_A_ROW,
    ResponseClass,
    classify,
    delay_seconds,
    rejection_delay_seconds,
    retry_after_seconds,
)
from lms_webhooks.sending.sockets import ErrorClass
from lms_webhooks.stores.backlog import PendingEvent

if TYPE_CHECKING:
    from lms_webhooks.sending.webhook_client import SendResult  # it would load all that sends

_AFTER_THE_REQUEST = frozenset({ErrorClass.TIMEOUT, ErrorClass.CONNECTION_LOST, ErrorClass.BROKEN_ANSWER})


class Fate(StrEnum):
    """What becomes of the events of one POST."""

    DELIVERED = "delivered"
    REJECTED = "rejected"
    """The one event that it carried is set aside."""
    PENDING = "pending"
    """They stay where they are."""


@dataclass(frozen=True, slots=True)
class Consequence:
    """What follows one response."""

    fate: Fate
    health: Health
    """What is known of the endpoint now."""
    delay_seconds: float | None = None
    """Seconds until the endpoint may be tried again; None when nothing speaks against the next POST."""


def follow(
    health: Health,
    sent: "SendResult",
    *,
    now_ms: int,
    jitter: float,
    disable_after_ms: int | None = None,
    is_known: bool = False,
    is_suspect: bool = False,
) -> Consequence:
    """Decide what follows the response to one POST.

    `disable_after_ms` says how long an endpoint may fail. It is None for the dispatcher: only the process
    that holds the lease disables a webhook. `is_known` says that the event was rejected before, or is sent
    again: one rejection more says nothing new of the endpoint. `is_suspect` says that it was set aside as one
    that the endpoint fails at; the suspects of `health` are so too.
    """
    sort_keys = [event.sort_key for event in sent.events]
    is_suspect = is_suspect or sort_keys[0] in health.suspects
    answer_class = classify(sent.attempt.status_code)
    if is_suspect and len(sort_keys) == 1 and not health.failures and _may_be_the_event(sent.attempt):
        answer_class = ResponseClass.EVENT if answer_class is ResponseClass.ENDPOINT else answer_class
    if answer_class is ResponseClass.DELIVERED:  # nothing is worked out here that only failures need
        known = endpoint.after_success(health, sent.attempt, sent_events=len(sort_keys))
        return Consequence(Fate.DELIVERED, endpoint.without_suspects(known, sort_keys))
    delay = _delay_seconds(health, sent, now_ms=now_ms, jitter=jitter)
    match answer_class:
        case ResponseClass.EVENT if len(sort_keys) > 1:
            then = Consequence(Fate.PENDING, _with_less_at_once(health, sent, now_ms=now_ms))
        case ResponseClass.EVENT:
            then = _after_rejection(health, sent.attempt, now_ms=now_ms, delay=delay, is_known=is_known)
            then = replace(then, health=endpoint.without_suspects(then.health, sort_keys))
        case ResponseClass.GONE if disable_after_ms is None:  # for the drainer to confirm, at once
            known = endpoint.after_failure(health, sent.attempt, now_ms=now_ms, delay_seconds=0)
            then = Consequence(Fate.PENDING, known, delay_seconds=0)
        case ResponseClass.GONE:
            known = endpoint.after_gone(health, sent.attempt, now_ms=now_ms)
            then = Consequence(Fate.PENDING, known, delay_seconds=0)
        case ResponseClass.ENDPOINT:
            known = _after_failure(health, sent, sort_keys, now_ms=now_ms, delay=delay)
            then = Consequence(Fate.PENDING, known, delay)
    known = then.health
    is_over = disable_after_ms is not None and now_ms - known.failing_since_ms >= disable_after_ms
    if known.failures > health.failures and is_over:
        known = endpoint.disable(known, DisabledReason.FAILING, now_ms=now_ms)
    return replace(then, health=known)


def _with_less_at_once(health: Health, sent: "SendResult", *, now_ms: int) -> Health:
    """Several events were refused: they are parted, until the culprit is alone."""
    if sent.attempt.status_code == 413:
        return endpoint.with_fewer_bytes(health, sent.body_bytes, now_ms=now_ms)
    return endpoint.with_smaller_batch(health, len(sent.events))


def _after_rejection(
    health: Health, attempt: Attempt, *, now_ms: int, delay: float, is_known: bool
) -> Consequence:
    if is_known:
        return Consequence(Fate.REJECTED, endpoint.after_repeated_rejection(health, attempt))
    if health.rejections + 1 < MAX_REJECTIONS_IN_A_ROW:
        return Consequence(Fate.REJECTED, endpoint.after_rejection(health, attempt))
    # The event is set aside all the same, and so is each that an endpoint is probed with that rejected too
    # many in a row: it may be the events after all, and those behind them must not wait for ever.
    rejected = replace(health, rejections=health.rejections + 1)
    known = endpoint.after_failure(rejected, attempt, now_ms=now_ms, delay_seconds=delay)
    return Consequence(Fate.REJECTED, known, delay)


def _after_failure(
    health: Health, sent: "SendResult", sort_keys: Sequence[str], *, now_ms: int, delay: float
) -> Health:
    attempt = sent.attempt
    failed = endpoint.after_failure(health, attempt, now_ms=now_ms, delay_seconds=delay)
    if attempt.error_class == ErrorClass.TIMEOUT:
        failed = endpoint.with_lower_ceiling(failed, len(sort_keys))
        if len(sort_keys) > 1:
            return failed  # they may just be too many: the ceiling parts them
    return endpoint.with_suspects(failed, sort_keys) if _may_be_the_event(attempt) else failed


def is_suspect_when_retried(waiting: PendingEvent) -> bool:
    """Whether an event of the retry lane is there because an endpoint failed at it."""
    last = waiting.attempts[-1] if waiting.attempts else None
    return last is not None and classify(last.status_code) is ResponseClass.ENDPOINT


def set_aside(waiting: PendingEvent, attempt: Attempt, *, now_ms: int) -> tuple[PendingEvent, bool]:
    """An event that its receiver rejected, as it waits in the retry lane; and whether it is tried again."""
    tries = waiting.tries + 1
    wait_seconds = rejection_delay_seconds(tries)
    due_at_ms = now_ms + (wait_seconds or 0) * 1000
    later = replace(waiting, tries=tries, attempts=(*waiting.attempts, attempt), due_at_ms=due_at_ms)
    return later, wait_seconds is not None


def _may_be_the_event(attempt: Attempt) -> bool:
    """Whether what came of a failed attempt may be about the event: the request reached the endpoint.

    A 429 speaks of load, whatever the event.
    """
    if attempt.status_code is not None:
        return attempt.status_code != 429
    return attempt.error_class in _AFTER_THE_REQUEST


def _delay_seconds(health: Health, sent: "SendResult", *, now_ms: int, jitter: float) -> float:
    asked_for = retry_after_seconds(
        sent.answer.retry_after, status_code=sent.answer.status_code, now_seconds=now_ms / 1000
    )
    return delay_seconds(health.failures + 1, jitter=jitter, retry_after_seconds=asked_for)
