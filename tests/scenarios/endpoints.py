"""Receivers in fake time: each responds as its script says, and remembers what it got."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from lms_webhooks.model.attempts import ErrorClass
from lms_webhooks.sending.sender import PostResult, Timeouts
from lms_webhooks.sending.webhook_request import WebhookRequest


@dataclass(frozen=True)
class Reply:
    """What a receiver responds, and after how many seconds. `error` stands for no response at all."""

    status: int | None = 200
    seconds: float = 0.02
    retry_after: str = ""
    error: ErrorClass | None = None
    body: str = ""


OK = Reply()
DOWN = Reply(500)
GONE = Reply(410)
REFUSED = Reply(None, error=ErrorClass.CONNECT)
HANGS = Reply(seconds=float("inf"))


@dataclass
class Post:
    """One POST, as its receiver saw it. Times are seconds since 1970, in fake time."""

    url: str
    function: str
    """Which of our functions sent it."""
    started_at: float
    headers: dict[str, str]
    body: bytes
    reply: Reply
    ended_at: float | None = None
    """None while it is under way, and for ever when its sender died meanwhile."""

    @property
    def events(self) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = json.loads(self.body)["events"]
        return events

    @property
    def event_ids(self) -> list[str]:
        return [event["eventId"] for event in self.events]

    @cached_property
    def is_in_order(self) -> bool:
        """Whether its events are, by their own times."""
        keys = [(event["timestamp"], event["eventId"]) for event in self.events]
        return keys == sorted(keys)

    @property
    def is_acknowledged(self) -> bool:
        """The receiver took it, whether or not the sender lived to hear it."""
        return self.reply.error is None and self.reply.status is not None and 200 <= self.reply.status < 300


type Script = Callable[[list[str], float], Reply]
"""From the ids of the events and the time to a reply."""


def always(reply: Reply) -> Script:
    """The same each time."""
    return lambda _ids, _now: reply


def in_turn(*replies: Reply) -> Script:
    """One after the other; the last for ever."""
    left = list(replies)
    return lambda _ids, _now: left.pop(0) if len(left) > 1 else left[0]


def until(moment: float, reply: Reply, then: Reply = OK) -> Script:
    """`reply` before `moment`, then another."""
    return lambda _ids, now: reply if now < moment else then


def rejecting(*poison: str, status: int = 422) -> Script:
    """Fine, but for requests that carry one of these events."""
    return lambda ids, _now: Reply(status) if set(ids) & set(poison) else OK


def at_most(events: int, otherwise: Reply) -> Script:
    """Fine, as long as a request carries at most so many events."""
    return lambda ids, _now: OK if len(ids) <= events else otherwise


def working(seconds_per_event: float) -> Script:
    """Fine, and the longer the more events a request carries."""
    return lambda ids, _now: Reply(seconds=seconds_per_event * len(ids))


@dataclass
class Endpoint:
    """A receiver at one URL. Its script may be changed at any time."""

    url: str
    script: Script = field(default=always(OK))
    posts: list[Post] = field(default_factory=list)

    def receive(self, message: WebhookRequest, timeouts: Timeouts, *, function: str, now: float) -> Post:
        """Note a POST, and decide what comes of it."""
        ids = [event["eventId"] for event in json.loads(message.body)["events"]]
        reply = self.script(ids, now)
        if reply.seconds > timeouts.response_seconds:
            reply = Reply(None, timeouts.response_seconds, error=ErrorClass.TIMEOUT)
        post = Post(self.url, function, now, message.headers, message.body, reply)
        self.posts.append(post)
        return post

    def posts_of(self, function: str) -> list[Post]:
        """Those that one of our functions sent."""
        return [post for post in self.posts if post.function == function]

    @property
    def acknowledged(self) -> list[str]:
        """The ids of the events that it took, in the order in which they came."""
        return [event_id for post in self.posts if post.is_acknowledged for event_id in post.event_ids]

    @property
    def sizes(self) -> list[int]:
        """How many events each POST carried."""
        return [len(post.event_ids) for post in self.posts]

    @property
    def pauses(self) -> list[float]:
        """The seconds between the end of each POST and the start of the next."""
        return [
            after.started_at - before.ended_at
            for before, after in zip(self.posts, self.posts[1:], strict=False)
            if before.ended_at is not None
        ]


def answer_of(reply: Reply) -> PostResult:
    """`reply` as the sender reports it."""
    latency_ms = round(reply.seconds * 1000)
    if reply.error is not None:
        return PostResult(None, reply.error, latency_ms)
    return PostResult(reply.status, None, latency_ms, reply.retry_after, reply.body)
