"""Deliveries a second, ten at a time, against lazyhooks: a sender of webhooks from PyPI.

Ours is the dispatcher's handler with all its bookkeeping on, for ten accounts with a webhook each. lazyhooks
signs and posts, ten at a time, and writes nothing down. It runs in the environment of requirements/bench.txt.
"""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.cold import PEERS
from bench.delivery import event_body
from bench.figures import Row, figure, ratio, rounds
from bench.function import Events, Function, prepare, register
from bench.servers import SECRET, Aws, Receiver

_AT_A_TIME = 10
_BATCHES = 20
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
        accounts = [str(3000 + number) for number in range(_AT_A_TIME)]
        for account in accounts:
            register(account, f"{receiver.url}/hooks/{account}")

        def ours() -> int:
            for _ in range(_BATCHES):
                if function.invoke(events.batch(*accounts))["batchItemFailures"]:
                    raise RuntimeError("not delivered")
            return _BATCHES * _AT_A_TIME

        samples = rounds({"ours": ours, "lazyhooks": lazyhooks})
    each = {name: [one.per_second for one in taken] for name, taken in samples.items()}
    cpu = {"ours": [one.cpu_us for one in samples["ours"]], "lazyhooks": their_cpu[1:]}
    return Row(
        [
            *(figure(name, values, "deliveries/s") for name, values in each.items()),
            *(figure(f"{name}, CPU", values, "us/delivery") for name, values in cpu.items()),
            ratio("ours / lazyhooks", each["ours"], each["lazyhooks"], at_least=0.7),
            ratio("CPU of lazyhooks / ours", cpu["lazyhooks"], cpu["ours"], at_least=0.7),
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
