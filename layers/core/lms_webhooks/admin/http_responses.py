"""What goes back to who called: the answer, its tag, and what of it an Idempotency-Key gives again."""

import hashlib
import json
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING

from aws_lambda_powertools.event_handler import Response
from pydantic import BaseModel

from lms_webhooks.admin.idempotency import Claim, ResponseSecret, StoredResponse
from lms_webhooks.model.webhooks import Webhook
from lms_webhooks.problems import Problem
from lms_webhooks.stores.webhooks import WebhookWithHealth

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

    from lms_webhooks.admin.webhooks import Record

SAFETY_HEADERS = {
    "Strict-Transport-Security": "max-age=31536000",  # a year, as hstspreload.org asks for
    "X-Content-Type-Options": "nosniff",
}
"""Of every answer: never by plain HTTP again, and never taken for something else than it says."""

# An answer may hold a secret, and is only good for the token that asked.
_NOT_STORED = {"Cache-Control": "no-store", **SAFETY_HEADERS}


def json_response(
    status: HTTPStatus, model: BaseModel, headers: dict[str, str] | None = None
) -> Response[str]:
    """What a call found or did, as JSON."""
    return Response(
        status_code=status,
        content_type="application/json",
        body=model.model_dump_json(by_alias=True, exclude_none=True),
        headers={**_NOT_STORED, **(headers or {})},
    )


def no_content() -> Response[str]:
    """It is done, and there is nothing to say of it."""
    return Response(status_code=HTTPStatus.NO_CONTENT, body="", headers=_NOT_STORED)


def problem_response(problem: Problem) -> Response[str]:
    """Why a call did nothing, as RFC 9457 writes it."""
    return Response(
        status_code=problem.status,
        content_type="application/problem+json",
        body=json.dumps(problem.document()),
        headers={**_NOT_STORED, **problem.headers},
    )


def etag(webhook: Webhook) -> str:
    """The version, and a hash of whose: every webhook begins at 1, and one's tag is good for no other."""
    return f'"{webhook.version}-{hashlib.sha256(webhook.webhook_id.encode()).hexdigest()[:8]}"'


def if_match_holds(if_match: str, webhook: Webhook) -> bool:
    """Whether an `If-Match` header (RFC 9110 13.1.1) holds for `webhook`. A weak tag never does."""
    tags = [tag.strip() for tag in if_match.split(",")]
    return "*" in tags or etag(webhook) in tags


def stored_response(answer: Response[str]) -> StoredResponse:
    """What is kept of the answer to a keyed call."""
    headers = {name: str(value) for name, value in answer.headers.items() if name != "Content-Type"}
    return StoredResponse(answer.status_code, headers, answer.body or "")


def record_answer(
    claim: Claim | None, answer: Response[str], secret: ResponseSecret | None = None
) -> "Sequence[TransactWriteItemTypeDef]":
    """What writes the answer to a keyed call down, together with what the call does."""
    return () if claim is None else claim.record(stored_response(answer), secret)


def answer_recorder(
    claim: Claim | None, answer: Callable[[WebhookWithHealth, str | None], Response[str]]
) -> "Record":
    """The same, for an answer that may hold a webhook's new secret."""

    def record(registered: WebhookWithHealth, secret: str | None) -> "Sequence[TransactWriteItemTypeDef]":
        in_answer = ResponseSecret(registered.webhook.webhook_id, secret) if secret is not None else None
        return record_answer(claim, answer(registered, secret), in_answer)

    return record
