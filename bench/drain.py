"""How fast the drainer empties a backlog of 20,000 events, and in how many POSTs.

The drainer's handler as deployed, with lease, history and removals, until the lane is empty. Each round has a
webhook of its own, and so begins with a POST of one event. In turn with what sends an event a POST: the
floor, a pool of bare `requests.Session`, and the loop of the row `delivery`.
"""

import json
import time
from typing import Any

from bench.delivery import GOALS, floor, loop, sessions
from bench.in_process_function import Events, Function, prepare, register
from bench.results import Row, Sample, figure, ratio, sample
from bench.servers import DELIVERIES, Aws, Receiver

EVENTS = 20_000
_ROUNDS = 7  # each takes as long as all of another row
_FIRST_ACCOUNT = 2001


def measure() -> Row:
    """Fill a lane, empty it, and so on."""
    with Aws() as aws, Receiver() as receiver:
        prepare(aws.url)
        drainer = Function("drainer", timeout_seconds=600)
        others = {
            "floor": floor(receiver, 1),
            "sessions": sessions([f"{receiver.url}/sessions"]),
            "loop": loop([f"{receiver.url}/loop"]),
        }
        for warm_up in others.values():
            warm_up()
        ours: list[Sample] = []
        theirs: dict[str, list[Sample]] = {name: [] for name in others}
        posts: list[int] = []
        for number in range(_ROUNDS):
            account_id = str(_FIRST_ACCOUNT + number)
            (webhook_id,) = register(account_id, f"{receiver.url}/hooks", ordered=True)
            fill(account_id, webhook_id, EVENTS)
            receiver.seen()

            def work(webhook: tuple[str, str] = (account_id, webhook_id)) -> int:
                drain(drainer, *webhook)
                return EVENTS

            ours.append(sample(work))
            posts.append(receiver.seen()["posts"])
            for name, other in others.items():
                theirs[name].append(sample(other))
            if _is_left(webhook_id):
                raise RuntimeError(f"not all of {EVENTS} events went out in {posts[-1]} POSTs")
    speeds = [each.per_second for each in ours]
    cpu = [each.cpu_us for each in ours]
    return Row(
        [
            figure("drain", speeds, "events/s"),
            figure("drain, CPU", cpu, "us/event"),
            *(
                ratio(f"drain / {name}", speeds, [each.per_second for each in taken], at_least=GOALS[name])
                for name, taken in theirs.items()
            ),
            ratio("CPU of sessions / drain", [each.cpu_us for each in theirs["sessions"]], cpu, at_least=1.0),
            figure("events / POSTs", [EVENTS / each for each in posts], "x", at_least=95, is_compared=True),
        ]
    )


def drain(drainer: Function, account_id: str, webhook_id: str) -> None:
    """Let the drainer take a turn at the webhook's lanes."""
    message = json.dumps({"accountId": account_id, "webhookId": webhook_id})
    drainer.invoke({"Records": [{"messageId": "1", "body": message}]})


def fill(account_id: str, webhook_id: str, count: int) -> None:
    """Put events into the lane, and mark it, as the dispatcher does."""
    from lms_webhooks.model.events import read_event  # noqa: PLC0415
    from lms_webhooks.model.lanes import Lane, PendingEvent  # noqa: PLC0415  # after `prepare`

    backlog: Any = _backlog()
    now_ms = time.time_ns() // 1_000_000
    records = Events().batch(*[account_id] * count)["Records"]
    read = [read_event(each["body"], source="lms", accepted_at_ms=now_ms) for each in records]
    if backlog.append(webhook_id, Lane.REALTIME, [PendingEvent(event) for event in read]):
        raise RuntimeError("not all of the lane was written")
    backlog.set_marker(account_id, webhook_id, Lane.REALTIME, accepted_at_ms=now_ms)


def _is_left(webhook_id: str) -> bool:
    from lms_webhooks.model.lanes import Lane  # noqa: PLC0415  # after `prepare`

    return bool(_backlog().read(webhook_id, Lane.REALTIME, limit=1))


def _backlog() -> Any:
    from lms_webhooks.aws import clients as aws  # noqa: PLC0415  # after `prepare`
    from lms_webhooks.aws.dynamodb import Table  # noqa: PLC0415
    from lms_webhooks.stores.backlog import Backlog  # noqa: PLC0415

    return Backlog(Table(aws.dynamodb(), DELIVERIES), retention_days=7)
