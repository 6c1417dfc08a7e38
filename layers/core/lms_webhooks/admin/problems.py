"""Define the error responses of the API, as RFC 9457 problem documents.

Problem
├── InvalidJson                   400  not JSON, or not UTF-8
├── InvalidParameters             400  one error for each bad header or query parameter
├── Forbidden                     403  the token lacks what the call needs
├── NotFound                      404
│   ├── PathNotFound
│   ├── WebhookNotFoundProblem         of another account, deleted, or never made
│   ├── DeliveryNotFound
│   ├── ReplayNotFound
│   └── SubscriptionNotFound
├── MethodNotAllowed              405
├── WebhookLimitExceededProblem   409
├── SubscriptionLimitExceeded     409
├── ReplayInProgressProblem       409  a webhook has one replay at a time
├── NotSigned                     409  the webhook has no signing secret to change
├── RotationInProgress            409  the older secret would end before its time
├── NotActive                     409  a paused, inactive or disabled webhook sends nothing
├── NothingToRetry                409  the endpoint does not fail, or no pending event is due
├── IdempotencyInProgressProblem  409  a call with the same Idempotency-Key has not ended
├── VersionConflictProblem        412  the webhook changed since the caller read it
├── BodyTooLarge                  413
├── UnsupportedMediaType          415
├── InvalidFields                 422  one error for each bad field
├── IdempotencyKeyReused          422  the Idempotency-Key belongs to another call
├── RateLimited                   429  ten sends a minute
├── MailLimitExceeded             429  links to confirm with, a day
├── CreationLimitExceededProblem  429  a thousand webhooks a day
├── InternalError                 500
└── ContentionProblem             503  others change the same account at this moment

Stores raise the errors of `errors.py`; `problem_for` maps each to its problem.
"""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from lms_webhooks import errors


@dataclass(frozen=True)
class FieldError:
    """The violated rule of one field. `pointer` is a JSON pointer (RFC 6901) into the body."""

    pointer: str
    detail: str


@dataclass(frozen=True)
class ParameterError:
    """The violated rule of one query parameter or header."""

    parameter: str
    detail: str


class Problem(Exception):
    """An error response. The caller sees `detail`, so it has no secret and nothing of another account."""

    status: ClassVar[int]
    slug: ClassVar[str]
    title: ClassVar[str]

    def __init__(
        self,
        detail: str,
        *,
        errors: tuple[FieldError | ParameterError, ...] = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors
        self.headers = headers or {}

    def document(self) -> dict[str, Any]:
        """Return the problem document.

        `type` is a URN, not a URL: a problem means the same on every deployment, whatever its host.
        """
        document: dict[str, Any] = {
            "type": f"urn:lms-webhooks:problem:{self.slug}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            document["errors"] = [asdict(error) for error in self.errors]
        return document


class InvalidJson(Problem):
    """The body is not JSON."""

    status = 400
    slug = "unreadable-body"
    title = "The body is not JSON"


class InvalidParameters(Problem):
    """Query parameters or headers violate a rule."""

    status = 400
    slug = "invalid-parameters"
    title = "Parameters break their rules"

    def __init__(self, *errors: ParameterError) -> None:
        super().__init__("See errors for each parameter and its rule.", errors=errors)


class Forbidden(Problem):
    """The token is valid, but does not allow this call."""

    status = 403
    slug = "forbidden"
    title = "The token does not allow this"


class NotFound(Problem):
    """Nothing here for this caller."""

    status = 404
    slug = "not-found"
    title = "Not found"


class PathNotFound(NotFound):
    """The API has no such path."""

    slug = "no-such-path"
    title = "No such path"

    def __init__(self) -> None:
        super().__init__("The API has no such path. GET /openapi.json lists those that it has.")


class WebhookNotFoundProblem(NotFound):
    """The account has no such webhook."""

    slug = "no-such-webhook"
    title = "No such webhook"

    def __init__(self) -> None:
        super().__init__("This account has no webhook with this id.")


class DeliveryNotFound(NotFound):
    """The webhook has no such delivery, or its record has expired."""

    slug = "no-such-delivery"
    title = "No such delivery"

    def __init__(self) -> None:
        super().__init__("This webhook has no delivery with this id, or its record has passed its retention.")


class ReplayNotFound(NotFound):
    """The webhook had no replay in the last 30 days."""

    slug = "no-such-replay"
    title = "No such replay"

    def __init__(self, detail: str = "No replay of this webhook in the last 30 days.") -> None:
        super().__init__(detail)


class SubscriptionNotFound(NotFound):
    """The account has no such notification subscription."""

    slug = "no-such-subscription"
    title = "No such notification subscription"

    def __init__(self) -> None:
        super().__init__("This account has no notification subscription with this id.")


class MethodNotAllowed(Problem):
    """The path does not support this method."""

    status = 405
    slug = "method-not-allowed"
    title = "Method not allowed"

    def __init__(self, allowed: tuple[str, ...]) -> None:
        methods = ", ".join(allowed)
        super().__init__(f"This path supports {methods}.", headers={"Allow": methods})


class WebhookLimitExceededProblem(Problem):
    """The account has all the webhooks that it may have."""

    status = 409
    slug = "too-many-webhooks"
    title = "Too many webhooks"

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"An account has at most {limit} webhooks, whatever their status. Delete one to make another."
        )


class SubscriptionLimitExceeded(Problem):
    """The account has as many subscriptions as it may have."""

    status = 409
    slug = "too-many-subscriptions"
    title = "Too many notification subscriptions"

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"An account has at most {limit} notification subscriptions. Delete one to make another."
            " A mailing list counts as one."
        )


class ReplayInProgressProblem(Problem):
    """The webhook has a running replay."""

    status = 409
    slug = "replay-running"
    title = "A replay is running"

    def __init__(self) -> None:
        super().__init__(
            "A webhook has one replay at a time, and one is running. To start another now, cancel it first."
        )


class NotSigned(Problem):
    """The webhook's requests are not signed, so there is no secret to rotate."""

    status = 409
    slug = "not-signed"
    title = "The webhook does not sign"

    def __init__(self) -> None:
        super().__init__("Set the webhook's authentication to signature first. That makes a secret too.")


class RotationInProgress(Problem):
    """The secret was rotated in the last 24 hours. Another rotation would end the overlap."""

    status = 409
    slug = "rotation-in-progress"
    title = "Two secrets sign already"

    def __init__(self) -> None:
        super().__init__(
            "The secret was rotated less than 24 hours ago, and the previous one signs too. Another rotation"
            " would end that, and receivers that know only the previous one would refuse requests. To rotate"
            " it anyway, send If-Match with the webhook's ETag."
        )


class NotActive(Problem):
    """The webhook is paused, inactive or disabled, so it sends nothing."""

    status = 409
    slug = "not-active"
    title = "The webhook sends nothing"

    def __init__(self, why: str) -> None:
        super().__init__(
            f"The webhook is {why}, so it sends nothing. Set its status to active. That sends the pending"
            " events at once."
        )


class NothingToRetry(Problem):
    """The endpoint does not fail, or no pending event is due."""

    status = 409
    slug = "nothing-to-retry"
    title = "Nothing to retry"


class IdempotencyInProgressProblem(Problem):
    """A call with this Idempotency-Key is still running."""

    status = 409
    slug = "idempotency-key-in-use"
    title = "The call is still running"

    def __init__(self) -> None:
        super().__init__(
            "A call with this Idempotency-Key is still running. Repeat it in a second to get its response.",
            headers={"Retry-After": "1"},
        )


class VersionConflictProblem(Problem):
    """The webhook changed since the caller read it."""

    status = 412
    slug = "version-conflict"
    title = "The webhook has changed"

    def __init__(self) -> None:
        super().__init__(
            "The webhook changed since you read it. Read it again, and send its new ETag as If-Match."
        )


class BodyTooLarge(Problem):
    """The body is longer than any valid one."""

    status = 413
    slug = "body-too-large"
    title = "The body is too large"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"A body has at most {limit_bytes} bytes.")


class UnsupportedMediaType(Problem):
    """The content type is not JSON in UTF-8."""

    status = 415
    slug = "unsupported-media-type"
    title = "Unsupported media type"

    def __init__(self) -> None:
        super().__init__(
            "Send JSON in UTF-8, with the header content-type: application/json.",
            headers={"Accept": "application/json"},
        )


class InvalidFields(Problem):
    """Fields of the body violate a rule."""

    status = 422
    slug = "invalid-fields"
    title = "Fields break their rules"

    def __init__(self, errors: tuple[FieldError, ...]) -> None:
        super().__init__("See errors for each field and its rule.", errors=errors)


class IdempotencyKeyReused(Problem):
    """The Idempotency-Key was used in the last 24 hours, with another path or body."""

    status = 422
    slug = "idempotency-key-reused"
    title = "The Idempotency-Key belongs to another call"

    def __init__(self) -> None:
        super().__init__(
            "This Idempotency-Key was used in the last 24 hours, with another path or body. Use a new key for"
            " a new call."
        )


class RateLimited(Problem):
    """The account has reached its sends a minute."""

    status = 429
    slug = "rate-limited"
    title = "Too many sends"

    def __init__(self, limit: int, wait_seconds: int) -> None:
        super().__init__(
            f"An account has {limit} sends in any 60 seconds. Tests, new webhooks, retries, redeliveries,"
            " replays, notification subscriptions, and changes of URL, authentication or status that leave a"
            f" webhook active count together. Try again in {wait_seconds} s.",
            headers={"Retry-After": str(wait_seconds)},
        )


class MailLimitExceeded(Problem):
    """The mailbox or the account has reached its confirmation links a day."""

    status = 429
    slug = "too-many-mails"
    title = "Too many confirmation links"

    def __init__(self, to_one: int, of_an_account: int, wait_seconds: int) -> None:
        super().__init__(
            f"A mailbox gets at most {to_one} confirmation links a day (UTC), and an account mails at most"
            f" {of_an_account}. A link is good for two days: look for it in the spam folder."
            f" Or try again in {wait_seconds} s.",
            headers={"Retry-After": str(wait_seconds)},
        )


class CreationLimitExceededProblem(Problem):
    """The account has created as many webhooks as it may in a day."""

    status = 429
    slug = "too-many-creations"
    title = "Too many new webhooks"

    def __init__(self, limit: int, wait_seconds: int) -> None:
        super().__init__(
            f"An account creates at most {limit} webhooks a day (UTC), deleted ones included."
            f" Try again in {wait_seconds} s.",
            headers={"Retry-After": str(wait_seconds)},
        )


class InternalError(Problem):
    """Our error. The log has it under `request_id`, and the caller gets only that id."""

    status = 500
    slug = "internal-error"
    title = "Internal error"

    def __init__(self, request_id: str) -> None:
        super().__init__(f"The call failed on our side. Support finds it by request id {request_id}.")


class ContentionProblem(Problem):
    """Other changes of the same account got in the way, again and again."""

    status = 503
    slug = "busy"
    title = "Busy"

    def __init__(self) -> None:
        super().__init__(
            "Other changes of this account got in the way of this one, and nothing changed. Try again.",
            headers={"Retry-After": "1"},
        )


_PROBLEMS: dict[type[errors.StoreError], type[Problem]] = {
    errors.WebhookNotFound: WebhookNotFoundProblem,
    errors.WebhookLimitExceeded: WebhookLimitExceededProblem,
    errors.CreationLimitExceeded: CreationLimitExceededProblem,
    errors.VersionConflict: VersionConflictProblem,
    errors.IdempotencyInProgress: IdempotencyInProgressProblem,
    errors.ReplayInProgress: ReplayInProgressProblem,
    errors.Contention: ContentionProblem,
}


def problem_for(error: errors.StoreError) -> Problem:
    """Return the problem for an error of a store."""
    return _PROBLEMS[type(error)](*error.args)
