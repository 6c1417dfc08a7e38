"""Deliveries a second, ten at a time, against lazyhooks: a sender of webhooks from PyPI.

Ours is the dispatcher's handler with all its bookkeeping on, in SQS batches of ten events. They are for one
webhook, which gets them one after the other; for five; and for ten accounts with a webhook each. With ten, as
many requests are in flight as lazyhooks has, and none shares anything with another. lazyhooks signs and
posts, ten at a time, and writes nothing down. It runs in the environment of requirements/bench.txt.
"""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.cold import PEERS
from bench.delivery import dispatcher, event_body
from bench.in_process_function import Events, Function, prepare, register
from bench.results import Row, figure, ratio, rounds
from bench.servers import SECRET, Aws, Receiver

_AT_A_TIME = 10
_BATCHES = 20
_TEN = "ten accounts"
# How ten that share nothing fare is for reading: they have ten times the bookkeeping.
_GOALS = {"w=1": 0.7, "w=5": 0.7, _TEN: None}
_LAZYHOOKS = """
import asyncio, json, logging, sys, time
from lazyhooks import WebhookSender

logging.disable()
url, secret, at_a_time, payload = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
sender = WebhookSender(signing_secret=secret)

async def deliver(count):
    async def some():
        for _ in range(count // at_a_time):
            await sender.send(url, payload)
    await asyncio.gather(*(some() for _ in range(at_a_time)))

print("ready", flush=True)
for line in sys.stdin:
    began = time.process_time()
    asyncio.run(deliver(int(line)))
    print(time.process_time() - began, flush=True)
"""


def measure() -> Row:
    """Ours and theirs, in turn."""
    their_cpu: list[float] = []
    with Aws() as aws, Receiver() as receiver, _lazyhooks(receiver, their_cpu) as lazyhooks:
        prepare(aws.url)
        function = Function("dispatcher")
        events = Events()
        batches = {"w=1": ["3001"] * _AT_A_TIME, "w=5": ["3005"] * _AT_A_TIME}
        register("3001", f"{receiver.url}/hooks/1")
        register("3005", *(f"{receiver.url}/hooks/{number}" for number in range(5)))
        batches[_TEN] = [str(3100 + number) for number in range(_AT_A_TIME)]
        for account in batches[_TEN]:
            register(account, f"{receiver.url}/hooks/{account}")
        ours = {}
        for name, accounts in batches.items():
            webhooks = 5 if name == "w=5" else 1
            ours[name] = dispatcher(
                function, events, accounts, batches=_BATCHES // webhooks, webhooks=webhooks
            )
        samples = rounds({**ours, "lazyhooks": lazyhooks})
    each = {name: [one.per_second for one in taken] for name, taken in samples.items()}
    cpu = {name: [one.cpu_us for one in taken] for name, taken in samples.items()}
    cpu["lazyhooks"] = their_cpu[1:]
    return Row(
        [
            *(figure(name, values, "deliveries/s") for name, values in each.items()),
            *(figure(f"{name}, CPU", values, "us/delivery") for name, values in cpu.items()),
            *(
                ratio(name, ours, theirs, at_least=least, is_compared=least is not None)
                for way, least in _GOALS.items()
                for name, ours, theirs in (
                    (f"{way}: ours / lazyhooks", each[way], each["lazyhooks"]),
                    (f"{way}: CPU of lazyhooks / ours", cpu["lazyhooks"], cpu[way]),
                )
            ),
        ]
    )


@contextmanager
def _lazyhooks(receiver: Receiver, cpu: list[float]) -> Iterator[Callable[[], int]]:
    payload = json.dumps(json.loads(event_body(1)))
    command: list[str | Path] = [PEERS / "bin" / "python", "-c", _LAZYHOOKS, f"{receiver.url}/peer", SECRET]
    environment = {"PATH": os.environ["PATH"]}
    with subprocess.Popen(
        [*command, str(_AT_A_TIME), payload],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        wanted, told = process.stdin, process.stdout

        def next_line() -> str:
            if not (line := told.readline().strip()):
                raise RuntimeError("lazyhooks has ended")
            return line

        def work() -> int:
            wanted.write(f"{_BATCHES * _AT_A_TIME}\n")
            wanted.flush()
            cpu.append(float(next_line()) / (_BATCHES * _AT_A_TIME) * 1e6)
            return _BATCHES * _AT_A_TIME

        next_line()  # it is ready
        yield work
        wanted.close()
