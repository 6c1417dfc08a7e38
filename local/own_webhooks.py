"""Webhooks that a command registers for itself on the local stack, and removes when it ends."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from local.stack import Answer, Stack
from tools.progress import failure

_LISTENER_PREFIX = "make listen on port "


def create(
    stack: Stack, token: str, *, name: str, target_url: str, authentication: dict[str, str]
) -> dict[str, Any]:
    """Register an active webhook for every event type; return it as the API does, with its secret.

    Raises:
        StepFailedError: the API refused it.
    """
    webhook = {
        "name": name,
        "targetUrl": target_url,
        "authentication": authentication,
        "events": list(stack.event_types),
        "status": "active",
    }
    answer = stack.call("POST", "/v1/webhooks", token=token, body=webhook)
    if answer.status_code != 201:
        raise failure(f"registering the webhook {name!r}", _said(answer), None)
    created: dict[str, Any] = answer.body
    return created


def remove(stack: Stack, token: str, is_ours: Callable[[dict[str, Any]], bool]) -> None:
    """Delete the webhooks of the token's account that are ours."""
    answer = stack.call("GET", "/v1/webhooks", token=token)
    if answer.status_code != 200:
        raise failure("listing webhooks", _said(answer), stack.log_file)
    for webhook in answer.body["webhooks"]:
        if is_ours(webhook):
            stack.call("DELETE", f"/v1/webhooks/{webhook['webhookId']}", token=token)


@contextmanager
def listening_webhook(stack: Stack, account_id: str, url: str) -> Iterator[dict[str, Any]]:
    """A signature webhook for what listens at `url`, deleted at the end, whatever ends it."""
    token = stack.id_token(account_id)
    remove(stack, token, _was_left_behind)
    webhook = create(
        stack,
        token,
        name=f"{_LISTENER_PREFIX}{urlsplit(url).port}",
        target_url=f"{url}/",
        authentication={"type": "signature"},
    )
    try:
        yield webhook
    finally:
        # By another token: the first one is valid for an hour, and this may be the next day.
        token = stack.id_token(account_id)
        stack.call("DELETE", f"/v1/webhooks/{webhook['webhookId']}", token=token)


def _was_left_behind(webhook: dict[str, Any]) -> bool:
    """Whether a listener registered it that was killed since: nothing listens there."""
    if not webhook["name"].startswith(_LISTENER_PREFIX):
        return False
    address = urlsplit(webhook["targetUrl"])
    try:
        socket.create_connection((address.hostname, address.port), timeout=2).close()
    except OSError:
        return True
    return False


def _said(answer: Answer) -> str:
    """What the API says of a refusal: the detail of its problem, if it has one."""
    problem = answer.body if isinstance(answer.body, dict) else {}
    return str(problem.get("detail") or f"{answer.status_code} {answer.body}")
