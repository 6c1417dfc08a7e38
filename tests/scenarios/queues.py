"""SQS in fake time: delays, visibility, redelivery, partial batch failures, dead letters."""

import heapq
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

from tests.scenarios.fake_time import FakeTime

_TRAVEL_SECONDS = 0.01


@dataclass
class Message:
    """One message. `accepted_at` is its SentTimestamp."""

    message_id: str
    body: str
    accepted_at: float
    receives: int = 0

    def record(self) -> dict[str, Any]:
        """As Lambda hands it over."""
        return {
            "messageId": self.message_id,
            "body": self.body,
            "attributes": {
                "SentTimestamp": str(int(self.accepted_at * 1000)),
                "ApproximateReceiveCount": str(self.receives),
            },
        }


type Consumer = Callable[[list[dict[str, Any]], Callable[[dict[str, Any] | None], None]], None]
"""Takes records, and says later what the function returned: None when it died or raised."""


@dataclass
class Queue:
    """One queue and its event source. The numbers are the template's."""

    name: str
    """Begins the ids of its messages: no two queues have one in common."""
    time: FakeTime
    consumer: Consumer | None
    visibility_seconds: float
    batch_size: int
    max_receives: int
    window_seconds: float = 0
    concurrency: int = 5
    dead: list[Message] = field(default_factory=list)
    in_flight: dict[str, Message] = field(default_factory=dict)
    _waiting: list[tuple[float, int, Message]] = field(default_factory=list)
    _running: int = 0
    _ids: "count[int]" = field(default_factory=count)

    def send(self, body: str, *, delay_seconds: float = 0, accepted_at: float | None = None) -> Message:
        """Take a message."""
        sent_at = self.time.now if accepted_at is None else accepted_at
        message = Message(f"{self.name}{next(self._ids)}", body, sent_at)
        self._show(message, self.time.now + delay_seconds + _TRAVEL_SECONDS)
        return message

    @property
    def messages(self) -> list[Message]:
        """All that are not deleted, in flight or not."""
        return [*self.in_flight.values(), *self.waiting]

    @property
    def waiting(self) -> list[Message]:
        """Those that nobody works at, whether or not they can be received yet."""
        return [message for _, _, message in self._waiting]

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody takes messages: all that could are busy."""
        consumer, self.consumer = self.consumer, None
        yield
        self.consumer = consumer
        self.time.at(self.time.now, self._hand_out)

    def lose_all(self) -> int:
        """Forget every message that nobody works at, as SQS never does; return how many."""
        lost = len(self._waiting)
        self._waiting.clear()
        return lost

    def _show(self, message: Message, moment: float) -> None:
        heapq.heappush(self._waiting, (moment, next(self._ids), message))
        self.time.at(moment + self.window_seconds, self._hand_out)

    def _hand_out(self) -> None:
        while self.consumer is not None and self._running < self.concurrency:
            batch: list[Message] = []
            while self._waiting and self._waiting[0][0] <= self.time.now and len(batch) < self.batch_size:
                message = heapq.heappop(self._waiting)[2]
                message.receives += 1
                if message.receives > self.max_receives:
                    self.dead.append(message)
                else:
                    batch.append(message)
            if not batch:
                return
            self._running += 1
            self.in_flight |= {message.message_id: message for message in batch}
            shown_again_at = self.time.now + self.visibility_seconds
            self.consumer(
                [message.record() for message in batch],
                partial(self._settle, batch, shown_again_at),
            )

    def _settle(self, batch: list[Message], shown_again_at: float, answer: dict[str, Any] | None) -> None:
        self._running -= 1
        failed = {message.message_id for message in batch}
        if answer is not None:
            failed = {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}
        for message in batch:
            del self.in_flight[message.message_id]
            if message.message_id in failed:
                self._show(message, max(shown_again_at, self.time.now))
        self.time.at(self.time.now, self._hand_out)


def event_ids_in(queue: Queue) -> set[str]:
    """The events that still stand in a queue of events."""
    return {json.loads(message.body)["detail"].get("eventId", "") for message in queue.messages}
