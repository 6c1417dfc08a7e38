"""Say what happens: structured logs and metrics, with the same names everywhere."""

from enum import StrEnum

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

# Service, level and namespace come from POWERTOOLS_* variables, which Powertools reads itself.
logger = Logger()
metrics = Metrics()


class Metric(StrEnum):
    """Every metric that the code emits. No dimension but the service: accounts would multiply the bill."""

    DELIVERIES = "Deliveries"
    ATTEMPTS_FAILED = "AttemptsFailed"
    EVENTS_QUARANTINED = "EventsQuarantined"
    DELIVERY_LATENCY = "DeliveryLatency"


def count(metric: Metric, value: int = 1) -> None:
    """Add `value` to `metric`."""
    metrics.add_metric(name=metric, unit=MetricUnit.Count, value=value)


def measure_ms(metric: Metric, milliseconds: float) -> None:
    """Record a duration."""
    metrics.add_metric(name=metric, unit=MetricUnit.Milliseconds, value=milliseconds)
