"""Create, show, change and delete webhooks for a caller who may: the admin API without its HTTP."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from pydantic.alias_generators import to_camel

from lms_webhooks.admin.audit import audit
from lms_webhooks.admin.caller import Caller
from lms_webhooks.admin.inputs import (
    BasicAuthenticationInput,
    NoAuthenticationInput,
    SignatureAuthenticationInput,
    WebhookInput,
    WebhookPatch,
)
from lms_webhooks.admin.rate_limit import SendRateLimit
from lms_webhooks.aws.kms import SecretCipher
from lms_webhooks.aws.sqs import DrainQueue
from lms_webhooks.model.health import Health
from lms_webhooks.model.webhooks import (
    Authentication,
    BasicAuthentication,
    NoAuthentication,
    SignatureAuthentication,
    Status,
    Webhook,
    format_time,
    utc_now,
)
from lms_webhooks.problems import (
    Contention,
    FieldError,
    InvalidFields,
    NotSigned,
    RotationInProgress,
    VersionConflict,
)
from lms_webhooks.sending.signing import new_secret
from lms_webhooks.sending.targets import origin_of
from lms_webhooks.stores.backlog import PURGE_DELAY_SECONDS, Backlog, Count, Lane
from lms_webhooks.stores.webhook_cache import MAX_AGE_SECONDS
from lms_webhooks.stores.webhooks import WebhookStore, WebhookWithHealth, new_webhook_id

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

    type Record = Callable[[WebhookWithHealth, str | None], Sequence[TransactWriteItemTypeDef]]

SECRET_OVERLAP = timedelta(hours=24)
_OF_AN_EPOCH = ("target_url", "authentication", "status")
_CHANGE_TRIES = 5  # for those who do not say what they expect: two admins rarely meet, five never do


def _record_nothing(
    _registered: WebhookWithHealth, _secret: str | None
) -> "Sequence[TransactWriteItemTypeDef]":
    return ()


def audit_creation(caller: Caller, wanted: WebhookInput, webhook_id: str, *, repeated: bool = False) -> None:
    """Log that a webhook was made as `wanted`; `repeated` as `audit` has it."""
    fields = map(to_camel, wanted.model_fields_set)
    audit(caller, "webhook.create", changed=fields, repeated=repeated, webhookId=webhook_id)


def audit_rotation(caller: Caller, webhook_id: str, *, repeated: bool = False) -> None:
    """Log that a webhook got a new signing secret; `repeated` as `audit` has it."""
    audit(
        caller, "webhook.rotate-secret", changed=["authentication"], repeated=repeated, webhookId=webhook_id
    )


class WebhookService:
    """The webhooks of every account; each call is for one caller and reaches only that caller's account.

    A change returns when no older reading of it can be in use: an event put after the answer sees it.
    """

    def __init__(
        self,
        store: WebhookStore,
        secret_box: SecretCipher,
        drain_queue: DrainQueue,
        backlog: Backlog,
        limit: SendRateLimit,
        *,
        now: Callable[[], datetime] = utc_now,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store = store
        self._secret_box = secret_box
        self._drain_queue = drain_queue
        self._backlog = backlog
        self._limit = limit
        self._now = now
        self._sleep = sleep

    def create(
        self, caller: Caller, wanted: WebhookInput, *, record: "Record" = _record_nothing
    ) -> tuple[WebhookWithHealth, str | None]:
        """Register what `wanted` says; also answer its signing secret, when one was made.

        What `record` makes of the two is done in the same transaction.

        Raises:
            TooManyWebhooks, TooManyCreations, KeyInUse, Busy: as the store does.
            TooManySends: as the limit does.
        """
        webhook, secret = self.draft(caller, wanted)
        registered = WebhookWithHealth(webhook, Health(webhook.epoch))
        self._limit.take_along(
            caller.account_id,
            lambda count_it: self._store.create(webhook, along=(*record(registered, secret), count_it)),
        )
        audit_creation(caller, wanted, webhook.webhook_id)
        self.await_readers()
        return registered, secret

    def draft(self, caller: Caller, wanted: WebhookInput) -> tuple[Webhook, str | None]:
        """What `wanted` says, under a new id, and its signing secret. Nothing is written."""
        webhook_id = new_webhook_id()
        authentication, secret = self._encrypt_credentials(
            caller.account_id, webhook_id, wanted.authentication
        )
        now = format_time(self._now())
        webhook = Webhook(
            account_id=caller.account_id,
            webhook_id=webhook_id,
            name=wanted.name,
            description=wanted.description,
            target_url=wanted.target_url,
            authentication=authentication,
            events=frozenset(wanted.events),
            status=Status(wanted.status),
            ordered=wanted.ordered,
            headers=wanted.headers,
            created_at=now,
            updated_at=now,
            created_by=caller.user_id,
            updated_by=caller.user_id,
        )
        return webhook, secret

    def change(
        self,
        caller: Caller,
        webhook_id: str,
        change: WebhookPatch,
        *,
        is_expected: Callable[[Webhook], bool] | None = None,
    ) -> tuple[WebhookWithHealth, str | None]:
        """Change what `change` gives; also answer the new signing secret, when one was made.

        A change of URL, authentication or status starts a new epoch: what is known of the endpoint is
        forgotten, and what waits is sent for. So does setting a webhook active that the system switched off.

        `is_expected` says whether the webhook is still what the caller takes it for; without it the last
        change of a field wins.

        Raises:
            NoSuchWebhook: as the store does.
            InvalidFields: a stored password would go to another place.
            ChangedMeanwhile: it is not what the caller takes it for.
            TooManySends: as the limit does, where the change has the system send.
            Busy: as the store does; or others change it, again and again.
        """
        for _ in range(_CHANGE_TRIES):
            registered = self._store.find(caller.account_id, webhook_id)
            if is_expected is not None and not is_expected(registered.webhook):
                raise VersionConflict
            changed, secret = self._changed(caller, registered, change)
            if _is_unchanged(changed, registered.webhook):
                self.await_readers()  # another call may have made the same change a moment ago
                return registered, None
            try:
                self._save(changed, expected=registered.webhook)
            except VersionConflict:
                if is_expected is not None:
                    raise
                continue
            break
        else:
            raise Contention
        audit(caller, "webhook.change", changed=map(to_camel, change.model_fields_set), webhookId=webhook_id)
        if changed.epoch != registered.webhook.epoch:
            # Nothing is known of its endpoint: no failure either.
            is_urgent = Lane.REALTIME.is_urgent(failures=0)
            self._drain_queue.schedule_best_effort(caller.account_id, webhook_id, is_urgent=is_urgent)
        self.await_readers()
        return self._store.find(caller.account_id, webhook_id), secret

    def rotate_secret(
        self,
        caller: Caller,
        webhook_id: str,
        *,
        is_expected: Callable[[Webhook], bool] | None = None,
        record: "Record" = _record_nothing,
    ) -> tuple[WebhookWithHealth, str | None]:
        """Make a new signing secret; the one before signs along for a day, any before that no more.

        So while one signs along, only a caller who says what they expect makes another. Of two who call at
        once without, one alone makes a secret: the other would end what receivers have.

        The endpoint is the same, so its epoch goes on. What `record` makes of the answer is done in the same
        transaction.

        Raises:
            NotSigned: the webhook's authentication is no signature.
            OverlapRunning: a secret signs along, and the caller does not say what they expect.
            NoSuchWebhook, ChangedMeanwhile, Busy: as `change`.
        """
        for _ in range(_CHANGE_TRIES):
            webhook, health = self._store.find(caller.account_id, webhook_id)
            if is_expected is not None and not is_expected(webhook):
                raise VersionConflict
            if not isinstance(webhook.authentication, SignatureAuthentication):
                raise NotSigned
            if is_expected is None and self.overlap_until(webhook) is not None:
                raise RotationInProgress
            fresh, secret = self._encrypt_credentials(
                caller.account_id, webhook_id, SignatureAuthenticationInput(type="signature")
            )
            assert isinstance(fresh, SignatureAuthentication)
            now = self._now()
            changed = replace(
                webhook,
                authentication=replace(
                    fresh,
                    previous_secret_ciphertext=webhook.authentication.secret_ciphertext,
                    previous_secret_until=format_time(now + SECRET_OVERLAP),
                ),
                updated_at=format_time(now),
                updated_by=caller.user_id,
                version=webhook.version + 1,
            )
            registered = WebhookWithHealth(changed, health)
            try:
                self._store.update(changed, expected=webhook, along=record(registered, secret))
            except VersionConflict:
                if is_expected is not None:
                    raise
                continue
            break
        else:
            raise Contention
        audit_rotation(caller, webhook_id)
        self.await_readers()
        return registered, secret

    def overlap_until(self, webhook: Webhook) -> str | None:
        """Until when a webhook's previous secret signs along, in RFC 3339; None when none does."""
        if not isinstance(webhook.authentication, SignatureAuthentication):
            return None
        until = webhook.authentication.previous_secret_until
        return until if until is not None and until > format_time(self._now()) else None

    def await_readers(self) -> None:
        """Wait until every dispatcher and drainer has forgotten what it read before this moment."""
        self._sleep(MAX_AGE_SECONDS)

    def get(self, caller: Caller, webhook_id: str) -> WebhookWithHealth:
        """One webhook of the caller's account.

        Raises:
            NoSuchWebhook: it has none by this id.
        """
        return self._store.find(caller.account_id, webhook_id)

    def all(self, caller: Caller) -> list[WebhookWithHealth]:
        """Every webhook of the caller's account, oldest first."""
        return self._store.read_account(caller.account_id)

    def count_pending(self, webhook: Webhook, *, limit: int) -> dict[Lane, Count]:
        """How many events wait for one webhook, counted up to `limit` a lane."""
        marks = self._backlog.marks(webhook.webhook_id)
        return {lane: self._backlog.count(mark, limit=limit) for lane, mark in marks.items()}

    def delete(
        self, caller: Caller, webhook_id: str, *, is_expected: Callable[[Webhook], bool] | None = None
    ) -> None:
        """Delete one webhook of the caller's account.

        Raises:
            NoSuchWebhook, ChangedMeanwhile, Busy: as `change`.
        """
        stored = self._store.get(caller.account_id, webhook_id)
        if is_expected is not None and not is_expected(stored):
            raise VersionConflict
        # The sweep has what is pending recorded as failed when a lane is due, and some are due in days. This
        # one is due soon. It is marked first, so that no failure can come between: without a deletion a
        # drainer finds it empty.
        now = self._now()
        now_ms = int(now.timestamp() * 1000)
        due_at_ms = now_ms + PURGE_DELAY_SECONDS * 1000
        self._backlog.mark(
            caller.account_id, webhook_id, Lane.REPLAY, accepted_at_ms=now_ms, due_at_ms=due_at_ms
        )
        self._store.delete(
            caller.account_id,
            webhook_id,
            deleted_at=now,
            deleted_by=caller.user_id,
            expected=None if is_expected is None else stored,
        )
        audit(caller, "webhook.delete", webhookId=webhook_id)
        self.await_readers()

    def _save(self, changed: Webhook, *, expected: Webhook) -> None:
        """Save a change. It counts where it has the system send: what waits at once, and what comes next."""
        if changed.epoch == expected.epoch or changed.status is not Status.ACTIVE:
            self._store.update(changed, expected=expected)
            return
        self._limit.take_along(
            changed.account_id,
            lambda count_it: self._store.update(changed, expected=expected, along=(count_it,)),
        )

    def _changed(
        self, caller: Caller, registered: WebhookWithHealth, change: WebhookPatch
    ) -> tuple[Webhook, str | None]:
        """The webhook as `change` makes it, one version on."""
        webhook, health = registered
        given: dict[str, Any] = {name: getattr(change, name) for name in change.model_fields_set}
        secret = None
        if change.authentication is not None:
            given["authentication"], secret = self._changed_authentication(webhook, change)
        elif change.target_url is not None:
            _keep_password_in_place(webhook, change.target_url)
        if change.events is not None:
            given["events"] = frozenset(change.events)
        if change.status is not None:
            given["status"] = Status(change.status)
        changed = replace(
            webhook,
            **given,
            updated_at=format_time(self._now()),
            updated_by=caller.user_id,
            version=webhook.version + 1,
        )
        begins_anew = health.disabled_reason is not None and given.get("status") is Status.ACTIVE
        if begins_anew or any(getattr(changed, name) != getattr(webhook, name) for name in _OF_AN_EPOCH):
            changed = replace(changed, epoch=webhook.epoch + 1)
        return changed, secret

    def _changed_authentication(
        self, webhook: Webhook, change: WebhookPatch
    ) -> tuple[Authentication, str | None]:
        """Who asks for signatures again keeps the secret: a new one is a call of its own."""
        is_signed = isinstance(webhook.authentication, SignatureAuthentication)
        if is_signed and isinstance(change.authentication, SignatureAuthenticationInput):
            return webhook.authentication, None
        assert change.authentication is not None
        return self._encrypt_credentials(webhook.account_id, webhook.webhook_id, change.authentication)

    def _encrypt_credentials(
        self,
        account_id: str,
        webhook_id: str,
        wanted: NoAuthenticationInput | BasicAuthenticationInput | SignatureAuthenticationInput,
    ) -> tuple[Authentication, str | None]:
        match wanted:
            case NoAuthenticationInput():
                return NoAuthentication(), None
            case BasicAuthenticationInput(username=username, password=password):
                ciphertext = self._secret_box.encrypt(password, account_id=account_id, webhook_id=webhook_id)
                return BasicAuthentication(username=username, password_ciphertext=ciphertext), None
            case SignatureAuthenticationInput():
                secret = new_secret()
                ciphertext = self._secret_box.encrypt(secret, account_id=account_id, webhook_id=webhook_id)
                return SignatureAuthentication(secret_ciphertext=ciphertext), secret


def _keep_password_in_place(webhook: Webhook, target_url: str) -> None:
    """See that a stored password goes to no other place than the one that it was given for.

    Nobody can read it through the API; whoever chooses the place could read it there. A signing secret never
    leaves, only signatures do, and the receiver that moves knows it. Headers are no secret: readers see them.

    Raises:
        InvalidFields: `target_url` is at another scheme, host or port.
    """
    has_password = isinstance(webhook.authentication, BasicAuthentication)
    if has_password and origin_of(target_url) != origin_of(webhook.target_url):
        raise InvalidFields(
            (
                FieldError(
                    "/authentication/password",
                    "must be given again: the stored one is for another scheme, host or port",
                ),
            )
        )


def _is_unchanged(changed: Webhook, webhook: Webhook) -> bool:
    """Whether nothing is different but who said it, and when: then nobody else's version grows old by it."""
    said = replace(
        changed,
        updated_at=webhook.updated_at,
        updated_by=webhook.updated_by,
        version=webhook.version,
    )
    return said == webhook
