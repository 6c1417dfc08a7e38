"""A function's environment as a process of its own, that really dies: `os._exit`, in the middle of a call.

The world stays in the parent: tables, queues, receivers and the time. The child has our code and nothing
else, and each of its calls goes over a pipe. Where the parent's fault says that it dies, it is gone:
no `finally`, no `except`, no `atexit` of it runs.
"""

import multiprocessing
import os
import sys
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from typing import Any
from unittest.mock import patch

from botocore.exceptions import BotoCoreError, ClientError

from lms_webhooks.sending.sender import PostResult, Timeouts
from lms_webhooks.sending.webhook_request import WebhookRequest
from tests.faults.faults import Fault, FaultWorld, Strike, settle_in
from tests.scenarios.fake_time import FakeTime, Killed
from tests.scenarios.world import Handler, World, real_client

DIED = 70
"""The exit status of a child that died on purpose."""

_BUILDERS: dict[str, Callable[[World], Handler]] = {
    "dispatcher": World._build_dispatcher,
    "drainer": World._build_drainer,
    "batch": World._build_batch,
}
# A server that has imported and made everything has a child ready in milliseconds, and it has no threads.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["moto", "tests.faults.child"])
for _service in ("dynamodb", "sqs", "kms", "sns"):
    real_client(_service)


class ChildWorld(FaultWorld):
    """A world whose dispatchers, drainers and batch functions are processes of their own."""

    def __init__(self, strike: Strike | None = None, *, seed: int = 0) -> None:
        super().__init__(strike, seed=seed)
        self.exits: list[int | None] = []
        """The exit status of each child that is no more."""
        self._children: list[tuple[Any, Connection]] = []

    def verdict(self) -> list[str]:
        """As always; and the child that was to die did so."""
        must_die = self.strike is not None and self.strike.fault in (Fault.DIES_BEFORE, Fault.DIES_AFTER)
        return [
            *super().verdict(),
            *(["no child died"] if must_die and self.exits != [DIED] else []),
        ]

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        for child, pipe in self._children:
            pipe.close()
            child.join()

    def _build_dispatcher(self) -> Handler:
        return self._in_child("dispatcher")

    def _build_drainer(self) -> Handler:
        return self._in_child("drainer")

    def _build_batch(self) -> Handler:
        return self._in_child("batch")

    def _in_child(self, function: str) -> Handler:
        mine, its = _processes.Pipe()
        child = _processes.Process(
            target=_live, args=(its, function, self._retention_days, self.jitter), daemon=True
        )
        with (
            patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),  # by which the server finds us
            # No child needs to run it again. A process that pytest-xdist started has none.
            patch.object(sys.modules["__main__"], "__file__", None, create=True),
        ):
            child.start()
        its.close()
        self._children.append((child, mine))

        def handle(event: dict[str, Any], remaining_ms: Callable[[], int]) -> dict[str, Any]:
            mine.send((event, self.now, self.now + remaining_ms() / 1000))
            try:
                while True:
                    kind, *what = mine.recv()
                    if kind == "done":
                        return dict(what[0])
                    if kind == "failed":
                        raise ClientError({"Error": {"Code": "Failed", "Message": what[0]}}, "Invoke")
                    mine.send((self._do(kind, what), self.now))
            except Killed:
                mine.send((("die",), self.now))
                child.join()
                self.exits.append(child.exitcode)
                raise

        return handle

    def _do(self, kind: str, what: list[Any]) -> tuple[Any, ...]:
        """Do for a child what it asks for. It hears of a fault of AWS as botocore would have raised
        it."""
        try:
            match kind:
                case "sleep":
                    self.time.sleep(what[0])
                    return "answer", None
                case "POST":
                    return "answer", self._post(*what)
                case service:
                    return "answer", _client_of(self, service)._make_api_call(*what)
        except ClientError as error:
            return "refused", error.response, error.operation_name
        except BotoCoreError as error:
            return "failed", error


def _client_of(world: World, service: str) -> Any:
    clients = {"dynamodb": world._dynamodb, "sqs": world._sqs, "kms": world._kms, "sns": world._sns}
    return clients[service]


class _PipedTime(FakeTime):
    """The parent's time, as of the child's last call."""

    def __init__(self, now: float, ask: Callable[..., Any]) -> None:
        super().__init__(now)
        self._ask = ask

    def sleep(self, seconds: float) -> None:
        self._ask("sleep", seconds)


class _Child(World):
    """The wiring of the functions, with every call handed to the parent."""

    def __init__(self, pipe: Connection, retention_days: int, jitter: float) -> None:
        super().__init__(retention_days=retention_days, jitter=jitter)
        self._pipe = pipe
        self.time = _PipedTime(self.now, self.ask)

    def ask(self, *question: Any) -> Any:
        """One call, there and back; perhaps the last one."""
        self._pipe.send(question)
        (kind, *what), self.time.now = self._pipe.recv()
        match kind:
            case "die":
                os._exit(DIED)
            case "refused":
                response, operation = what
                exceptions = _client_of(self, question[0]).exceptions
                raise exceptions.from_code(response["Error"]["Code"])(response, operation)
            case "failed":
                raise what[0]
        return what[0]

    def _call(
        self,
        service: str,
        operation: str,
        params: dict[str, Any],
        act: Callable[[], Any],  # noqa: ARG002  # the parent does it
        *,
        seconds: float,  # noqa: ARG002  # and lets them pass
    ) -> Any:
        return self.ask(service, operation, params)

    def _post(self, message: WebhookRequest, timeouts: Timeouts) -> PostResult:
        answer: PostResult = self.ask("POST", message, timeouts)
        return answer


def _live(pipe: Connection, function: str, retention_days: int, jitter: float) -> None:
    """What a child does: one invocation after the other."""
    settle_in()
    world = _Child(pipe, retention_days, jitter)
    handler = _BUILDERS[function](world)
    while True:
        try:
            event, world.time.now, ends_at = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(("done", handler(event, partial(_remaining_ms, world, ends_at))))
        except (ClientError, BotoCoreError) as error:
            pipe.send(("failed", str(error)))


def _remaining_ms(world: World, ends_at: float) -> int:
    return int((ends_at - world.now) * 1000)
