"""Write structured logs and metrics, with the same names everywhere."""

import logging
from enum import StrEnum
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.logging import formatter
from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter
from aws_lambda_powertools.metrics import MetricUnit

from lms_webhooks.errors import AWS_ERRORS

# A dispatcher writes ten lines for the events of ten accounts: a seventh of its processor time.
# No line names a thread or a process. Python's logging HOWTO has these switches under "Optimization".
logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
# Powertools looks each of 40 fields up in a tuple of 24, a quarter of the time of a line.
formatter.RESERVED_LOG_ATTRS = frozenset(formatter.RESERVED_LOG_ATTRS)  # type: ignore[assignment]

_KNOWN_ANYHOW = ("function_memory_size", "function_arn")


class _Formatter(LambdaPowertoolsFormatter):
    """Powertools' formatter without fields that nobody queries: each byte of a line costs money."""

    def serialize(self, log: Any) -> str:
        for key in _KNOWN_ANYHOW:
            log.pop(key, None)
        return super().serialize(log)


# Service, level and namespace come from POWERTOOLS_* variables, which Powertools reads itself. Messages are
# text: to parse each as JSON would add a fifth to the time of a line.
logger = Logger(logger_formatter=_Formatter(json_deserializer=str))
metrics = Metrics()


class Metric(StrEnum):
    """Every metric that the code emits. No dimension but the service: accounts would multiply the bill."""

    DELIVERIES = "Deliveries"
    DELIVERY_LATENCY = "DeliveryLatency"
    ATTEMPTS_FAILED = "AttemptsFailed"
    EVENTS_QUARANTINED = "EventsQuarantined"
    EVENTS_EXPIRED = "EventsExpired"
    EVENTS_FAILED = "EventsFailed"
    WEBHOOKS_DISABLED = "WebhooksDisabled"
    SHARDS_SWEPT = "ShardsSwept"
    LANES_PENDING = "LanesPending"
    DRAINS_SCHEDULED_BY_SWEEP = "DrainsScheduledBySweep"
    DRAIN_RUNS_ABORTED = "DrainRunsAborted"
    MESSAGES_RETURNED = "MessagesReturned"
    INTERNAL_ERRORS = "InternalErrors"


def count(metric: Metric, value: int = 1) -> None:
    """Add `value` to `metric`."""
    metrics.add_metric(name=metric, unit=MetricUnit.Count, value=value)


def report(error: Exception, what: str, **ids: Any) -> None:
    """Log `error`, which affects only what `ids` name. Count it too, unless AWS raised it.

    For the few places that catch every exception, so that one account, webhook or item does not take others
    with it. What AWS does not raise is a bug, damage, an item of a newer version, or our lack of descriptors.
    """
    logger.error(what, exc_info=error, **ids)
    if not isinstance(error, AWS_ERRORS):
        count(Metric.INTERNAL_ERRORS)


def measure_ms(metric: Metric, milliseconds: float) -> None:
    """Record a duration."""
    metrics.add_metric(name=metric, unit=MetricUnit.Milliseconds, value=milliseconds)
