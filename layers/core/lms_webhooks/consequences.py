"""Decide what follows a response: for the events that it is about, and for what is known of their endpoint.

The dispatcher and the drain run both ask here, so neither treats a response as the other would not. Pure.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from lms_webhooks import health as endpoint
from lms_webhooks.health import Health, SwitchOff
from lms_webhooks.retry import (
    MAX_REJECTIONS_IN_A_ROW,
    AnswerClass,
    classify,
    delay_seconds,
    retry_after_seconds,
)
from lms_webhooks.wires import ErrorClass

if TYPE_CHECKING:
    from lms_webhooks.delivery import Sent  # it would load all that sends


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
    sent: "Sent",
    *,
    now_ms: int,
    jitter: float,
    disable_after_ms: int | None = None,
    is_known: bool = False,
) -> Consequence:
    """Decide what follows the response to one POST.

    `disable_after_ms` says how long an endpoint may fail. It is None for the dispatcher: only the process
    that holds the lease disables a webhook. `is_known` says that the event was rejected before, or is sent
    again: one rejection more says nothing new of the endpoint.
    """
    attempt, events = sent.attempt, len(sent.events)
    fate, delay = Fate.PENDING, None
    match classify(attempt.status_code):
        case AnswerClass.DELIVERED:
            fate, known = Fate.DELIVERED, endpoint.after_success(health, attempt, sent_events=events)
        case AnswerClass.GONE if disable_after_ms is not None:
            known, delay = endpoint.after_gone(health, attempt, now_ms=now_ms), 0.0
        case AnswerClass.EVENT if events > 1 and attempt.status_code == 413:
            known = endpoint.with_lower_ceiling(health, events, now_ms=now_ms)
        case AnswerClass.EVENT if events > 1:
            known = endpoint.with_smaller_batch(health, events)
        case AnswerClass.EVENT if is_known:
            fate, known = Fate.REJECTED, endpoint.after_repeated_rejection(health, attempt)
        case AnswerClass.EVENT if health.rejections + 1 < MAX_REJECTIONS_IN_A_ROW:
            fate, known = Fate.REJECTED, endpoint.after_rejection(health, attempt)
        case answer_class:
            delay = _delay_seconds(health, sent, now_ms=now_ms, jitter=jitter)
            if answer_class is AnswerClass.EVENT:
                # So does each probe of an endpoint that rejected too many in a row: it may be the events
                # after all, and those behind them must not wait for ever.
                fate, health = Fate.REJECTED, replace(health, rejections=health.rejections + 1)
            elif answer_class is AnswerClass.GONE:
                delay = 0.0  # for the drainer to confirm, at once
            known = endpoint.after_failure(health, attempt, now_ms=now_ms, delay_seconds=delay)
            if attempt.error_class == ErrorClass.TIMEOUT:
                known = endpoint.with_lower_ceiling(known, events, now_ms=now_ms)
            if disable_after_ms is not None and now_ms - known.failing_since_ms >= disable_after_ms:
                known = endpoint.switch_off(known, SwitchOff.FAILING, now_ms=now_ms)
    return Consequence(fate, known, delay)


def _delay_seconds(health: Health, sent: "Sent", *, now_ms: int, jitter: float) -> float:
    asked_for = retry_after_seconds(
        sent.answer.retry_after, status_code=sent.answer.status_code, now_seconds=now_ms / 1000
    )
    return delay_seconds(health.failures + 1, jitter=jitter, retry_after_seconds=asked_for)
