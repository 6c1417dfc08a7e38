"""What the admin API answers when it cannot do what it was asked, as RFC 9457 problem documents.

Problem
├── InvalidJson                   400  not JSON, or not UTF-8
├── InvalidParameters             400  one error for each bad header or query parameter
├── Forbidden                     403  the token lacks what the call needs
├── NotFound                      404
│   ├── PathNotFound
│   ├── WebhookNotFoundProblem         of another account, deleted, or never made: the caller learns not which
│   ├── DeliveryNotFound
│   ├── ReplayNotFound
│   └── SubscriptionNotFound
├── MethodNotAllowed              405
├── WebhookLimitExceededProblem   409
├── SubscriptionLimitExceeded     409
├── ReplayInProgressProblem       409  one replay a webhook at a time
├── NotSigned                     409  the webhook has no signing secret to change
├── RotationInProgress            409  its last secret but one would end before its time
├── IdempotencyInProgressProblem  409  a call with the same Idempotency-Key has not ended
├── VersionConflictProblem        412  another change was faster
├── BodyTooLarge                  413
├── UnsupportedMediaType          415
├── InvalidFields                 422  one error for each bad field
├── IdempotencyKeyReused          422  the Idempotency-Key came before, with another call
├── RateLimited                   429  ten a minute of what is sent for an admin
├── MailLimitExceeded             429  links to confirm with, a day
├── CreationLimitExceededProblem  429  a thousand webhooks a day
├── InternalError                 500
└── ContentionProblem             503  others change the same account at this moment

What stores raise is no problem yet, see `errors.py`: `problem_for` has the problem of each.
"""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from lms_webhooks import errors


@dataclass(frozen=True)
class FieldError:
    """What is wrong with one field. `pointer` is a JSON pointer (RFC 6901) into the request's body."""

    pointer: str
    detail: str


@dataclass(frozen=True)
class ParameterError:
    """What is wrong with one query parameter or header."""

    parameter: str
    detail: str


class Problem(Exception):
    """An answer of 4xx or 5xx. `detail` is for the caller: no secret and nothing of another account in it."""

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
        """The problem as RFC 9457 writes it.

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
    """The body cannot be read as JSON at all."""

    status = 400
    slug = "unreadable-body"
    title = "The body is not JSON"


class InvalidParameters(Problem):
    """Query parameters or headers break their rules."""

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
        super().__init__("The API has no such path.")


class WebhookNotFoundProblem(NotFound):
    """The account has no such webhook."""

    slug = "no-such-webhook"
    title = "No such webhook"

    def __init__(self) -> None:
        super().__init__("This account has no webhook with this id.")


class DeliveryNotFound(NotFound):
    """The webhook has no such delivery, or has it no more."""

    slug = "no-such-delivery"
    title = "No such delivery"

    def __init__(self) -> None:
        super().__init__("This webhook has no delivery with this id, or its record has passed its retention.")


class ReplayNotFound(NotFound):
    """The webhook's history was never replayed, or not for long."""

    slug = "no-such-replay"
    title = "No such replay"

    def __init__(self, detail: str = "There has been no replay of this webhook in the last 30 days.") -> None:
        super().__init__(detail)


class SubscriptionNotFound(NotFound):
    """The account has no such notice subscription."""

    slug = "no-such-subscription"
    title = "No such notice subscription"

    def __init__(self) -> None:
        super().__init__("This account has no notice subscription with this id.")


class MethodNotAllowed(Problem):
    """The path exists, the method does not."""

    status = 405
    slug = "method-not-allowed"
    title = "Method not allowed"

    def __init__(self, allowed: tuple[str, ...]) -> None:
        methods = ", ".join(allowed)
        super().__init__(f"This path knows {methods}.", headers={"Allow": methods})


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
    """As many people are mailed as may be."""

    status = 409
    slug = "too-many-subscriptions"
    title = "Too many notice subscriptions"

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"An account has at most {limit} notice subscriptions. Delete one to make another; a mailing"
            " list counts as one."
        )


class ReplayInProgressProblem(Problem):
    """The webhook has a replay under way."""

    status = 409
    slug = "replay-running"
    title = "A replay is under way"

    def __init__(self) -> None:
        super().__init__("This webhook has a replay under way. GET this path for its progress.")


class NotSigned(Problem):
    """The webhook's requests are not signed, so there is no secret to make anew."""

    status = 409
    slug = "not-signed"
    title = "The webhook does not sign"

    def __init__(self) -> None:
        super().__init__("Set the webhook's authentication to signature first; that makes a secret as well.")


class RotationInProgress(Problem):
    """The webhook's secret was changed in the last 24 hours; another change now would end the overlap."""

    status = 409
    slug = "rotation-in-progress"
    title = "Two secrets sign already"

    def __init__(self) -> None:
        super().__init__(
            "The secret was changed less than 24 hours ago, and the one before signs along. Another change"
            " would end that: receivers that know only that one would refuse requests. To change it all the"
            " same, send If-Match with the webhook's ETag."
        )


class IdempotencyInProgressProblem(Problem):
    """A call with this Idempotency-Key has not ended yet."""

    status = 409
    slug = "idempotency-key-in-use"
    title = "The call is under way"

    def __init__(self) -> None:
        super().__init__(
            "A call with this Idempotency-Key is under way. Ask again, and get its answer.",
            headers={"Retry-After": "1"},
        )


class VersionConflictProblem(Problem):
    """The webhook is not what the caller took it for when asking for the change."""

    status = 412
    slug = "version-conflict"
    title = "Changed meanwhile"

    def __init__(self) -> None:
        super().__init__("The webhook was changed since you read it. Read it again, and decide anew.")


class BodyTooLarge(Problem):
    """The body is longer than any valid one."""

    status = 413
    slug = "body-too-large"
    title = "The body is too large"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"A body has at most {limit_bytes} bytes.")


class UnsupportedMediaType(Problem):
    """The body says that it is something else than JSON in UTF-8."""

    status = 415
    slug = "unsupported-media-type"
    title = "Unsupported media type"

    def __init__(self) -> None:
        super().__init__(
            "Send JSON in UTF-8, with the header content-type: application/json.",
            headers={"Accept": "application/json"},
        )


class InvalidFields(Problem):
    """The body is JSON, but fields of it break their rules."""

    status = 422
    slug = "invalid-fields"
    title = "Fields break their rules"

    def __init__(self, errors: tuple[FieldError, ...]) -> None:
        super().__init__("See errors for each field and its rule.", errors=errors)


class IdempotencyKeyReused(Problem):
    """This Idempotency-Key came in the last 24 hours, with another path or body."""

    status = 422
    slug = "idempotency-key-reused"
    title = "The idempotency key belongs to another call"

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key came with another path or body before. Use a fresh one.")


class RateLimited(Problem):
    """The account has had sent all that it may in a minute."""

    status = 429
    slug = "rate-limited"
    title = "Too many sends"

    def __init__(self, limit: int, wait_seconds: int) -> None:
        super().__init__(
            f"An account has the system send at most {limit} times in any 60 seconds. Test sends, new"
            " webhooks, redeliveries, replays, notice subscriptions, and changes of URL, authentication or"
            f" status that leave a webhook active count together. Try again in {wait_seconds} s.",
            headers={"Retry-After": str(wait_seconds)},
        )


class MailLimitExceeded(Problem):
    """As many links to confirm with were mailed today as may be, to this mailbox or for this account."""

    status = 429
    slug = "too-many-mails"
    title = "Too many mails"

    def __init__(self, to_one: int, of_an_account: int, wait_seconds: int) -> None:
        super().__init__(
            f"A mailbox gets at most {to_one} links to confirm with a day (UTC), and an account has at most"
            f" {of_an_account} mailed. A link is good for two days: look for it in the spam folder."
            f" Or try again in {wait_seconds} s.",
            headers={"Retry-After": str(wait_seconds)},
        )


class CreationLimitExceededProblem(Problem):
    """The account has made all the webhooks that it may make in a day."""

    status = 429
    slug = "too-many-creations"
    title = "Too many creations"

    def __init__(self, limit: int, wait_seconds: int) -> None:
        super().__init__(
            f"An account makes at most {limit} webhooks a day (UTC). Try again in {wait_seconds} s.",
            headers={"Retry-After": str(wait_seconds)},
        )


class InternalError(Problem):
    """A fault of ours. The log has it under `request_id`; the caller learns no more than that."""

    status = 500
    slug = "internal-error"
    title = "Internal error"

    def __init__(self, request_id: str) -> None:
        super().__init__(f"The call failed on our side. Support finds it by request id {request_id}.")


class ContentionProblem(Problem):
    """Changes of the same account got in each other's way for too long."""

    status = 503
    slug = "busy"
    title = "Busy"

    def __init__(self) -> None:
        super().__init__(
            "Other changes of this account are under way, and got in the way of this one. Try again.",
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
    """Return the problem that tells a caller of `error`."""
    return _PROBLEMS[type(error)](*error.args)
