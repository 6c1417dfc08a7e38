"""Create, read, update and delete webhooks for a caller: the admin API without its HTTP."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic.alias_generators import to_camel

from lms_webhooks.admin.audit import audit
from lms_webhooks.admin.authentication import (
    new_authentication,
    previous_secret_expires_at,
    rotated_authentication,
    updated_authentication,
)
from lms_webhooks.admin.batch_schedules import BatchSchedules, NextBatch
from lms_webhooks.admin.caller import Caller
from lms_webhooks.admin.inputs import UNKNOWN_EVENT, BatchScheduleInput, WebhookInput, WebhookPatch
from lms_webhooks.admin.problems import FieldError, InvalidFields, NotSigned, RotationInProgress
from lms_webhooks.admin.rate_limit import SendRateLimit
from lms_webhooks.aws.kms import SecretCipher
from lms_webhooks.aws.sqs import DrainQueue
from lms_webhooks.errors import Contention, VersionConflict
from lms_webhooks.model.event_types import EVENT_TYPES, EventTypes
from lms_webhooks.model.health import Health
from lms_webhooks.model.lanes import Count, Lane
from lms_webhooks.model.slots import BatchSchedule
from lms_webhooks.model.webhooks import SignatureAuthentication, Status, Webhook, WebhookWithHealth
from lms_webhooks.stores.backlog import PURGE_DELAY_SECONDS, Backlog
from lms_webhooks.stores.webhook_cache import MAX_AGE_SECONDS
from lms_webhooks.stores.webhooks import WebhookStore, new_webhook_id
from lms_webhooks.timestamps import format_time, utc_now

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

    type ExtraWrites = Callable[[WebhookWithHealth, str | None], Sequence[TransactWriteItemTypeDef]]

_NEW_EPOCH_FIELDS = ("target_url", "authentication", "status")
_UPDATE_TRIES = 5  # without If-Match: two admins rarely meet, five never do


def _no_writes(_found: WebhookWithHealth, _secret: str | None) -> "Sequence[TransactWriteItemTypeDef]":
    return ()


def audit_creation(caller: Caller, given: WebhookInput, webhook_id: str, *, repeated: bool = False) -> None:
    """Log that a webhook was created; `repeated` as in `audit`."""
    fields = map(to_camel, given.model_fields_set)
    audit(caller, "webhook.create", changed=fields, repeated=repeated, webhookId=webhook_id)


def audit_rotation(caller: Caller, webhook_id: str, *, repeated: bool = False) -> None:
    """Log that a webhook got a new signing secret; `repeated` as in `audit`."""
    audit(
        caller, "webhook.rotate-secret", changed=["authentication"], repeated=repeated, webhookId=webhook_id
    )


class WebhookService:
    """The webhooks of every account. Each method acts for one caller, on the caller's account alone.

    A method that changes a webhook returns only when no cache holds an older version of it.
    """

    def __init__(
        self,
        store: WebhookStore,
        cipher: SecretCipher,
        drain_queue: DrainQueue,
        backlog: Backlog,
        rate_limit: SendRateLimit,
        schedules: BatchSchedules,
        *,
        event_types: EventTypes = EVENT_TYPES,
        now: Callable[[], datetime] = utc_now,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store = store
        self._cipher = cipher
        self._drain_queue = drain_queue
        self._backlog = backlog
        self._rate_limit = rate_limit
        self._schedules = schedules
        self._event_types = event_types
        self._now = now
        self._sleep = sleep

    def create(
        self, caller: Caller, given: WebhookInput, *, writes: "ExtraWrites" = _no_writes
    ) -> tuple[WebhookWithHealth, str | None]:
        """Create a webhook, in one transaction with what `writes` makes of the result.

        Returns:
            The webhook, and its signing secret, if it makes one.

        Raises:
            WebhookLimitExceeded, CreationLimitExceeded: the account has reached a limit.
            RateLimited: the account has reached its sends a minute.
            IdempotencyInProgress, Contention: as the store does.
        """
        webhook, secret = self.draft(caller, given)
        created = WebhookWithHealth(webhook, Health(webhook.epoch))
        self._rate_limit.consume_with(
            caller.account_id,
            lambda count: self._store.create(webhook, extra_writes=(*writes(created, secret), count)),
        )
        audit_creation(caller, given, webhook.webhook_id)
        self.wait_for_caches()
        return created, secret

    def draft(self, caller: Caller, given: WebhookInput) -> tuple[Webhook, str | None]:
        """Return what `create` would store, under a new id, and its signing secret. Writes nothing."""
        webhook_id = new_webhook_id()
        authentication, secret = new_authentication(
            self._cipher, caller.account_id, webhook_id, given.authentication
        )
        now = format_time(self._now())
        webhook = Webhook(
            account_id=caller.account_id,
            webhook_id=webhook_id,
            name=given.name,
            description=given.description,
            target_url=given.target_url,
            authentication=authentication,
            events=frozenset(given.events),
            status=Status(given.status),
            ordered=given.ordered,
            headers=given.headers,
            batch_schedule=self._schedule(given.batch_schedule),
            keep_response_bodies=given.keep_response_bodies,
            created_at=now,
            updated_at=now,
            created_by=caller.user_id,
            updated_by=caller.user_id,
        )
        return webhook, secret

    def update(
        self,
        caller: Caller,
        webhook_id: str,
        patch: WebhookPatch,
        *,
        is_expected: Callable[[Webhook], bool] | None = None,
    ) -> tuple[WebhookWithHealth, str | None]:
        """Change the fields that `patch` has.

        A change of URL, authentication or status starts a new epoch: the health is reset, and a drain is
        scheduled. So does activating a webhook that the system disabled.

        `is_expected` says whether the stored version is the one that the caller read. Without it the last
        change of a field wins.

        Returns:
            The webhook, and its signing secret, if the change makes one.

        Raises:
            WebhookNotFound: the account has no such webhook.
            InvalidFields: a stored password would go to another host.
            VersionConflict: the stored version is not the expected one.
            RateLimited: the change makes the system send, and the account has reached its sends a minute.
            Contention: other changes got in the way, again and again.
        """

        def attempt() -> tuple[WebhookWithHealth, Webhook, str | None]:
            found = self._find(caller, webhook_id, is_expected)
            updated, secret = self._patched(caller, found, patch)
            if _is_unchanged(updated, found.webhook):
                return found, found.webhook, None
            self._save(updated, expected=found.webhook)
            return found, updated, secret

        found, updated, secret = _retry_conflicts(attempt, is_conditional=is_expected is not None)
        if updated is found.webhook:
            self.wait_for_caches()  # another call may have made the same change a moment ago
            self._reschedule(updated, patch)
            return found, None
        audit(caller, "webhook.change", changed=map(to_camel, patch.model_fields_set), webhookId=webhook_id)
        if updated.epoch != found.webhook.epoch:
            # Nothing is known of its endpoint: no failure either.
            is_urgent = Lane.REALTIME.is_urgent(failures=0)
            self._drain_queue.schedule_best_effort(caller.account_id, webhook_id, is_urgent=is_urgent)
        self.wait_for_caches()
        self._reschedule(updated, patch)
        return self._store.find(caller.account_id, webhook_id), secret

    def rotate_secret(
        self,
        caller: Caller,
        webhook_id: str,
        *,
        is_expected: Callable[[Webhook], bool] | None = None,
        writes: "ExtraWrites" = _no_writes,
    ) -> tuple[WebhookWithHealth, str | None]:
        """Make a new signing secret, in one transaction with what `writes` makes of the result.

        The previous secret signs too for a day, and any older one no longer. So while two sign, `is_expected`
        is needed. Of two calls at once without it, only one makes a secret.

        The endpoint is the same, so its epoch stays.

        Raises:
            NotSigned: the webhook does not sign.
            RotationInProgress: two secrets sign, and the caller expects no version.
            WebhookNotFound, VersionConflict, Contention: as `update`.
        """

        def attempt() -> tuple[WebhookWithHealth, str | None]:
            webhook, health = self._find(caller, webhook_id, is_expected)
            if not isinstance(webhook.authentication, SignatureAuthentication):
                raise NotSigned
            if is_expected is None and self.previous_secret_expires_at(webhook) is not None:
                raise RotationInProgress
            now = self._now()
            authentication, secret = rotated_authentication(
                self._cipher, webhook, webhook.authentication, now=now
            )
            updated = replace(
                webhook,
                authentication=authentication,
                updated_at=format_time(now),
                updated_by=caller.user_id,
                version=webhook.version + 1,
            )
            rotated = WebhookWithHealth(updated, health)
            self._store.update(updated, expected=webhook, extra_writes=writes(rotated, secret))
            return rotated, secret

        rotated, secret = _retry_conflicts(attempt, is_conditional=is_expected is not None)
        audit_rotation(caller, webhook_id)
        self.wait_for_caches()
        return rotated, secret

    def previous_secret_expires_at(self, webhook: Webhook) -> str | None:
        """Return until when the previous secret signs too, in RFC 3339; None when none does."""
        return previous_secret_expires_at(webhook, now=self._now())

    def wait_for_caches(self) -> None:
        """Wait until no dispatcher or drainer uses what it read before this moment."""
        self._sleep(MAX_AGE_SECONDS)

    def get(self, caller: Caller, webhook_id: str) -> WebhookWithHealth:
        """Return one webhook of the caller's account.

        Raises:
            WebhookNotFound: the account has no such webhook.
        """
        return self._store.find(caller.account_id, webhook_id)

    def list_all(self, caller: Caller) -> list[WebhookWithHealth]:
        """Return every webhook of the caller's account, oldest first."""
        return self._store.read_account(caller.account_id)

    def read_pending(self, found: WebhookWithHealth, *, limit: int) -> tuple[dict[Lane, Count], NextBatch]:
        """Count the pending events of one webhook, up to `limit` a lane, and find its next batch."""
        markers = self._backlog.markers(found.webhook.webhook_id)
        counts = {lane: self._backlog.count(marker, limit=limit) for lane, marker in markers.items()}
        return counts, self._schedules.next_batch(found, markers.get(Lane.BATCH))

    def delete(
        self, caller: Caller, webhook_id: str, *, is_expected: Callable[[Webhook], bool] | None = None
    ) -> None:
        """Delete one webhook of the caller's account.

        Raises:
            WebhookNotFound, VersionConflict, Contention: as `update`.
        """
        stored = self._store.get(caller.account_id, webhook_id)
        if is_expected is not None and not is_expected(stored):
            raise VersionConflict
        # The sweep has pending events recorded as failed when a lane is due, and some are due in days. This
        # one is due soon. It is marked first, so that no failure can come between: without a deletion a
        # drainer finds it empty.
        now = self._now()
        now_ms = int(now.timestamp() * 1000)
        due_at_ms = now_ms + PURGE_DELAY_SECONDS * 1000
        self._backlog.set_marker(
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
        self.wait_for_caches()

    def _find(
        self, caller: Caller, webhook_id: str, is_expected: Callable[[Webhook], bool] | None
    ) -> WebhookWithHealth:
        """Return the stored webhook, if it has the version that the caller expects."""
        found = self._store.find(caller.account_id, webhook_id)
        if is_expected is not None and not is_expected(found.webhook):
            raise VersionConflict
        return found

    def _save(self, updated: Webhook, *, expected: Webhook) -> None:
        """Save an update. It counts as a send if it makes the system send pending events."""
        if updated.epoch == expected.epoch or updated.status is not Status.ACTIVE:
            self._store.update(updated, expected=expected)
            return
        self._rate_limit.consume_with(
            updated.account_id,
            lambda count: self._store.update(updated, expected=expected, extra_writes=(count,)),
        )

    def _patched(
        self, caller: Caller, found: WebhookWithHealth, patch: WebhookPatch
    ) -> tuple[Webhook, str | None]:
        """Return the next version of a webhook, and its signing secret, if `patch` makes one."""
        webhook, health = found
        fields: dict[str, Any] = {name: getattr(patch, name) for name in patch.model_fields_set}
        fields["authentication"], secret = updated_authentication(self._cipher, webhook, patch)
        if patch.events is not None:
            fields["events"] = frozenset(patch.events)
            self._refuse_unknown_events(patch.events, webhook)
        if patch.batch_schedule is not None:
            fields["batch_schedule"] = self._schedule(patch.batch_schedule)
        if patch.status is not None:
            fields["status"] = Status(patch.status)
        updated = replace(
            webhook,
            **fields,
            updated_at=format_time(self._now()),
            updated_by=caller.user_id,
            version=webhook.version + 1,
        )
        is_reactivated = health.disabled_reason is not None and fields.get("status") is Status.ACTIVE
        if is_reactivated or any(
            getattr(updated, name) != getattr(webhook, name) for name in _NEW_EPOCH_FIELDS
        ):
            updated = replace(updated, epoch=webhook.epoch + 1)
        return updated, secret

    def _schedule(self, given: BatchScheduleInput | None) -> BatchSchedule | None:
        """Return a schedule as it is stored. That of the deployment is none of the webhook's own."""
        return None if given is None else self._schedules.own_schedule(given.to_schedule())

    def _reschedule(self, webhook: Webhook, patch: WebhookPatch) -> None:
        """Let a new batch schedule hold for what is pending. No cache has the old one any more."""
        if patch.batch_schedule is not None:
            self._schedules.reschedule(webhook)

    def _refuse_unknown_events(self, names: Sequence[str], webhook: Webhook) -> None:
        """Refuse names that neither the catalogue nor the stored webhook has.

        A type may be gone from the catalogue: its webhooks keep it until an admin removes it.
        """
        unknown = [
            FieldError(f"/events/{index}", UNKNOWN_EVENT)
            for index, name in enumerate(names)
            if name not in self._event_types and name not in webhook.events
        ]
        if unknown:
            raise InvalidFields(tuple(unknown))


def _retry_conflicts[T](attempt: Callable[[], T], *, is_conditional: bool) -> T:
    """Read and write again while other changes come between, unless the caller expects one version."""
    for _ in range(_UPDATE_TRIES):
        try:
            return attempt()
        except VersionConflict:
            if is_conditional:
                raise
    raise Contention


def _is_unchanged(updated: Webhook, webhook: Webhook) -> bool:
    """Whether nothing differs but the author and the time. Then no new version is stored."""
    same = replace(
        updated,
        updated_at=webhook.updated_at,
        updated_by=webhook.updated_by,
        version=webhook.version,
    )
    return same == webhook
