"""Say when non-real-time events go out. Pure: no clock, no network, no AWS.

A slot is such a time. Slots are at the multiples of a period since midnight UTC. The period divides a day, so
every process computes the same ones. All webhooks share the deployment's; a webhook's own would be read here.
"""

_MINUTE_MS = 60_000


def next_slot_ms(now_ms: int, *, every_minutes: int) -> int:
    """Return the first slot after `now_ms`. `every_minutes` divides a day."""
    # UTC milliseconds count days of equal length from a midnight, so midnight itself is a multiple.
    period_ms = every_minutes * _MINUTE_MS
    return (now_ms // period_ms + 1) * period_ms
