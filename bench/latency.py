"""Events a second to one receiver that takes 50 ms for each response: from a backlog, and in direct mode.

One webhook, and one process each. In direct mode each event is a request of its own, one after the other;
from a backlog a request carries up to a hundred.
"""

from bench.drain import drain, fill
from bench.in_process_function import Events, Function, prepare, register
from bench.results import Row, Sample, figure, ratio, sample
from bench.servers import Aws, Endpoints

_ANSWERS_AFTER_50_MS = "/50"
_ROUNDS = 7
_WAITING = 5_000
_DIRECT_BATCHES = 4
_BATCH = 10


def measure() -> Row:
    """Drain and dispatch in turn."""
    with Aws() as aws, Endpoints() as receiver:
        prepare(aws.url)
        drainer = Function("drainer", timeout_seconds=600)
        dispatcher = Function("dispatcher")
        events = Events()
        register("1001", receiver.url + _ANSWERS_AFTER_50_MS)
        drained: list[Sample] = []
        direct: list[Sample] = []
        for number in range(_ROUNDS + 1):
            account_id = str(2001 + number)
            (webhook_id,) = register(account_id, receiver.url + _ANSWERS_AFTER_50_MS, ordered=True)
            fill(account_id, webhook_id, _WAITING)
            batches = [events.batch(*["1001"] * _BATCH) for _ in range(_DIRECT_BATCHES)]

            def from_backlog(webhook: tuple[str, str] = (account_id, webhook_id)) -> int:
                drain(drainer, *webhook)
                return _WAITING

            def at_once(batches: list[dict[str, object]] = batches) -> int:
                for batch in batches:
                    if dispatcher.invoke(batch)["batchItemFailures"]:
                        raise RuntimeError("not delivered")
                return _DIRECT_BATCHES * _BATCH

            drained.append(sample(from_backlog))
            direct.append(sample(at_once))
    speeds = [each.per_second for each in drained[1:]]  # the first opens connections
    direct_speeds = [each.per_second for each in direct[1:]]
    return Row(
        [
            figure("drain at 50 ms", speeds, "events/s"),
            figure("direct at 50 ms", direct_speeds, "events/s"),
            ratio("drain / direct, at 50 ms", speeds, direct_speeds, at_least=5.0),
        ]
    )
