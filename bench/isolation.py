"""What one endpoint that hangs costs the 49 beside it: one batch, of ten accounts with five webhooks each.

The time of the whole batch is held against the deadline of a POST, and the slowest of the others against the
slowest of a batch in which all answer at once.
"""

import time

from bench.figures import ROUNDS, Row, figure, ratio
from bench.function import Events, Function, prepare, register
from bench.servers import HANGS, Aws, Receiver

_ACCOUNTS = 10
_WEBHOOKS = 5


def measure() -> Row:
    """A batch with fast endpoints only and one with an endpoint that hangs, in turn."""
    with Aws() as aws, Receiver() as receiver:
        prepare(aws.url)
        from lms_webhooks.dispatch import PATIENCE  # noqa: PLC0415  # after `prepare`

        function = Function("dispatcher")
        events = Events()
        fast_slowest: list[float] = []
        beside_slowest: list[float] = []
        whole: list[float] = []
        for number in range(ROUNDS + 1):
            # New accounts each time: the endpoint that hung is in backlog mode from then on.
            alone = _batch(function, events, receiver, 10_000 + number * 100, hanging=False)
            beside = _batch(function, events, receiver, 20_000 + number * 100, hanging=True)
            if number:  # the first opens connections
                fast_slowest.append(alone[1])
                beside_slowest.append(beside[1])
                whole.append(beside[0])
    deadline = [PATIENCE.total_seconds] * len(whole)
    return Row(
        [
            figure("slowest of 50 that are fast", [each * 1000 for each in fast_slowest], "ms"),
            figure("slowest of 49 beside one that hangs", [each * 1000 for each in beside_slowest], "ms"),
            ratio("slowest beside / slowest alone", beside_slowest, fast_slowest, at_most=2.0),
            figure("batch with one that hangs", whole, "s"),
            ratio("that batch / the deadline", whole, deadline, at_most=1.05),
        ]
    )


def _batch(
    function: Function, events: Events, receiver: Receiver, first_account: int, *, hanging: bool
) -> tuple[float, float]:
    """How many seconds the batch took, and the slowest of its answers."""
    accounts = [str(first_account + number) for number in range(_ACCOUNTS)]
    for account in accounts:
        paths = [f"/fast/{account}/{number}" for number in range(_WEBHOOKS)]
        if hanging and account == accounts[0]:
            paths[0] = f"{HANGS}/{account}"
        register(account, *(receiver.url + path for path in paths))
    batch = events.batch(*accounts)
    receiver.seen()
    began = time.monotonic()
    answer = function.invoke(batch)
    took = time.monotonic() - began
    if answer["batchItemFailures"]:
        raise RuntimeError(f"not seen to: {answer}")
    answered = receiver.seen()["answered"]
    if len(answered) != _ACCOUNTS * _WEBHOOKS - hanging:
        raise RuntimeError(f"only {len(answered)} endpoints were reached")
    return took, max(answered.values()) - began
