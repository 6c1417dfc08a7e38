"""Webhooks as an admin has them: what a change means for what waits, and how long a secret signs along."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError

from lms_webhooks.admin.batch_schedules import BatchSchedules
from lms_webhooks.admin.caller import Caller
from lms_webhooks.admin.inputs import WebhookInput, WebhookPatch
from lms_webhooks.admin.problems import NotSigned, RotationInProgress
from lms_webhooks.admin.rate_limit import SendRateLimit
from lms_webhooks.admin.webhooks import WebhookService
from lms_webhooks.aws.dynamodb import Table
from lms_webhooks.aws.kms import SecretCipher
from lms_webhooks.drainer.drainer import LEASE_SECONDS
from lms_webhooks.errors import Contention, VersionConflict, WebhookNotFound
from lms_webhooks.model.health import DisabledReason, Health, Mode
from lms_webhooks.model.lanes import Count, Lane
from lms_webhooks.model.webhooks import (
    BasicAuthentication,
    NoAuthentication,
    SignatureAuthentication,
    Webhook,
    WebhookWithHealth,
)
from lms_webhooks.stores.webhook_cache import MAX_AGE_SECONDS
from tests.logged import logged_lines
from tests.unit.flow import ACCOUNT, WHEN, Flow, client_over, flow, waiting
from tests.unit.tables import NOW_MS, Fails, before

ADA = Caller(ACCOUNT, "ada@example.com", can_write=True)
BOB = Caller(ACCOUNT, "bob@example.com", can_write=True)
STRANGER = Caller("2020", "eve@example.com", can_write=True)
SIGNED = {"type": "signature"}
BASIC = {"type": "basic", "username": "ada", "password": "hunter2"}
CONTEXT = {"loopback_allowed": False}
NOW = "2026-11-03T12:00:00.000Z"


class Office(Flow):
    """The registrations over the parts. `slept` is how long calls waited."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []
        self.box = SecretCipher(client_over("kms", _sealed), "key")
        self.webhooks = WebhookService(
            self.store,
            self.box,
            self.drain_queue,
            self.backlog,
            SendRateLimit(Table(self.store._client, self.store._table_name), clock=lambda: self.now),
            BatchSchedules(self.backlog, every_minutes=15, clock=self.clock),
            now=lambda: WHEN + timedelta(seconds=self.now - NOW_MS / 1000),
            sleep=self.slept.append,
        )

    def create(self, **given: Any) -> tuple[Webhook, str | None]:
        (webhook, _), secret = self.webhooks.create(ADA, wanted(**given))
        return webhook, secret

    def change(
        self, webhook: Webhook, caller: Caller = BOB, **given: Any
    ) -> tuple[WebhookWithHealth, str | None]:
        return self.webhooks.update(caller, webhook.webhook_id, change_to(**given))

    def plaintext(self, webhook: Webhook, ciphertext: bytes | None) -> str:
        assert ciphertext is not None
        return self.box.decrypt(ciphertext, account_id=ACCOUNT, webhook_id=webhook.webhook_id)

    def fail(self, webhook: Webhook, **health: Any) -> None:
        """What drainers found out of it."""
        found = Health(mode=Mode.BACKLOG, failures=3, **health)
        assert self.health_store.save(ACCOUNT, webhook.webhook_id, found, revision=0)


def _sealed(operation: str, params: dict[str, Any]) -> dict[str, Any]:
    """KMS, with a key that everybody can turn."""
    context = params["EncryptionContext"]
    if operation == "Encrypt":
        return {"CiphertextBlob": json.dumps([context, params["Plaintext"].decode()]).encode()}
    sealed_context, plaintext = json.loads(params["CiphertextBlob"])
    assert sealed_context == context
    return {"Plaintext": plaintext.encode()}


def wanted(**given: Any) -> WebhookInput:
    return WebhookInput.model_validate(
        {
            "name": "HR",
            "targetUrl": "https://hooks.example.com/",
            "authentication": {"type": "none"},
            "events": ["COURSE_ENROLLMENT"],
            "status": "active",
            **given,
        },
        context=CONTEXT,
    )


def change_to(**given: Any) -> WebhookPatch:
    return WebhookPatch.model_validate(given, context=CONTEXT)


@pytest.fixture
def office() -> Iterator[Office]:
    with flow(Office) as office:
        yield office


# Created


def test_a_webhook_is_its_maker_s_and_of_now(office: Office) -> None:
    webhook, secret = office.create(description="d", ordered=True, headers={"X-Team": "hr"})
    assert secret is None
    assert (webhook.created_by, webhook.updated_by) == ("ada@example.com", "ada@example.com")
    assert (webhook.created_at, webhook.updated_at) == (NOW, NOW)
    assert (webhook.epoch, webhook.version) == (1, 1)
    assert (webhook.description, webhook.ordered, webhook.headers) == ("d", True, {"x-team": "hr"})
    assert office.webhooks.get(ADA, webhook.webhook_id) == WebhookWithHealth(webhook, Health())
    assert office.webhooks.list_all(ADA) == [WebhookWithHealth(webhook, Health())]


def test_a_draft_is_not_written(office: Office) -> None:
    webhook, secret = office.webhooks.draft(ADA, wanted(authentication=SIGNED))
    assert secret is not None
    assert office.webhooks.list_all(ADA) == []
    with pytest.raises(WebhookNotFound):
        office.webhooks.get(ADA, webhook.webhook_id)


def test_each_secret_is_kept_encrypted_for_its_webhook(office: Office) -> None:
    signed, secret = office.create(authentication=SIGNED)
    basic, nothing = office.create(authentication=BASIC)
    assert isinstance(signed.authentication, SignatureAuthentication)
    assert isinstance(basic.authentication, BasicAuthentication)
    assert office.plaintext(signed, signed.authentication.secret_ciphertext) == secret
    assert office.plaintext(basic, basic.authentication.password_ciphertext) == "hunter2"
    assert (basic.authentication.username, nothing) == ("ada", None)


def test_another_account_finds_and_changes_nothing(office: Office) -> None:
    webhook, _ = office.create()
    assert office.webhooks.list_all(STRANGER) == []
    with pytest.raises(WebhookNotFound):
        office.change(webhook, STRANGER, name="Mine")
    with pytest.raises(WebhookNotFound):
        office.webhooks.delete(STRANGER, webhook.webhook_id)
    assert office.webhooks.get(ADA, webhook.webhook_id).webhook == webhook


# Changed


@pytest.mark.parametrize(
    ("change", "epoch"),
    [
        ({"name": "Payroll"}, 1),
        ({"description": "x"}, 1),
        ({"events": ["CI_STATS"]}, 1),
        ({"ordered": True}, 1),
        ({"headers": {"a": "b"}}, 1),
        ({"targetUrl": "https://other.example.com/"}, 2),
        ({"status": "paused"}, 2),
        ({"status": "inactive"}, 2),
        ({"authentication": BASIC}, 2),
        ({"authentication": SIGNED}, 2),
        ({"name": "Payroll", "status": "paused"}, 2),
    ],
    ids=str,
)
def test_url_authentication_and_status_begin_a_new_epoch_and_are_sent_for(
    office: Office, change: dict[str, Any], epoch: int
) -> None:
    webhook, _ = office.create()
    office.fail(webhook)
    office.now += 60
    (changed, health), _ = office.change(webhook, **change)
    assert (changed.epoch, changed.version) == (epoch, 2)
    assert (changed.updated_by, changed.updated_at) == ("bob@example.com", "2026-11-03T12:01:00.000Z")
    assert (changed.created_by, changed.created_at) == ("ada@example.com", NOW)
    assert health.failures == (3 if epoch == 1 else 0)
    assert office.sent_for == ([] if epoch == 1 else [0])


@pytest.mark.parametrize(
    ("disabled_reason", "status", "epoch"),
    [
        (DisabledReason.FAILING, "active", 2),
        (DisabledReason.GONE, "active", 2),
        (None, "active", 1),
        (DisabledReason.GONE, None, 1),
    ],
)
def test_setting_a_webhook_active_that_was_switched_off_begins_anew(
    office: Office, disabled_reason: DisabledReason | None, status: str | None, epoch: int
) -> None:
    webhook, _ = office.create()
    office.fail(webhook, disabled_reason=disabled_reason, disabled_at_ms=NOW_MS if disabled_reason else 0)
    given: dict[str, Any] = {"status": status} if status else {}
    (changed, health), _ = office.change(webhook, name="Payroll", **given)
    assert changed.epoch == epoch
    assert (health.disabled_reason, office.sent_for) == ((None, [0]) if epoch == 2 else (disabled_reason, []))


def test_what_changes_nothing_is_nobody_s_and_writes_nothing(office: Office) -> None:
    webhook, _ = office.create(authentication=SIGNED)
    office.now += 60
    (same, _), secret = office.change(webhook, name="HR", authentication=SIGNED, status="active")
    assert (same, secret, office.sent_for) == (webhook, None, [])


def test_who_asks_for_signatures_again_keeps_the_secret(office: Office) -> None:
    webhook, _ = office.create(authentication=SIGNED)
    (changed, _), secret = office.change(webhook, name="Payroll", authentication=SIGNED)
    assert (changed.authentication, changed.epoch, secret) == (webhook.authentication, 1, None)


def test_signatures_that_are_new_come_with_a_secret(office: Office) -> None:
    webhook, _ = office.create(authentication=BASIC)
    (changed, _), secret = office.change(webhook, authentication=SIGNED)
    assert isinstance(changed.authentication, SignatureAuthentication)
    assert office.plaintext(changed, changed.authentication.secret_ciphertext) == secret
    (changed, _), secret = office.change(changed, authentication={"type": "none"})
    assert (changed.authentication, secret) == (NoAuthentication(), None)


def races(office: Office, webhook: Webhook, times: int) -> list[int]:
    """Let another admin change it just before each of the first `times` writes."""
    update = office.store.update
    left = [times]

    def raced(changed: Webhook, *, expected: Webhook, **more: Any) -> None:
        if left[0]:
            left[0] -= 1
            now = office.store.get(ACCOUNT, webhook.webhook_id)
            update(replace(now, description=f"other {left[0]}", version=now.version + 1), expected=now)
        update(changed, expected=expected, **more)

    office.store.update = cast("Any", raced)  # type: ignore[method-assign]
    return left


@pytest.mark.parametrize("what", ["change", "rotate"])
def test_a_change_is_tried_five_times_in_all_where_nobody_says_what_they_expect(
    office: Office, what: str
) -> None:
    do: Callable[[Webhook], Any] = (
        (lambda webhook: office.change(webhook, name="Payroll"))
        if what == "change"
        else (lambda webhook: office.webhooks.rotate_secret(BOB, webhook.webhook_id))
    )
    webhook, _ = office.create(authentication=SIGNED)
    races(office, webhook, 4)
    do(webhook)
    stored = office.webhooks.get(ADA, webhook.webhook_id).webhook
    assert (stored.description, stored.updated_by) == ("other 0", "bob@example.com")
    assert stored.version == 6
    office.now += 25 * 3600  # so that the overlap is over
    left = races(office, webhook, 5)
    with pytest.raises(Contention):  # 412 is for those who say what they expect
        office.change(webhook, name="Sales") if what == "change" else do(webhook)
    assert left == [0]


def test_who_says_what_they_expect_is_told_that_it_is_no_longer_so(office: Office) -> None:
    webhook, _ = office.create(authentication=SIGNED)
    change = change_to(name="Payroll")
    calls: list[Callable[[Callable[[Webhook], bool]], object]] = [
        lambda is_expected: office.webhooks.update(BOB, webhook.webhook_id, change, is_expected=is_expected),
        lambda is_expected: office.webhooks.rotate_secret(BOB, webhook.webhook_id, is_expected=is_expected),
        lambda is_expected: office.webhooks.delete(BOB, webhook.webhook_id, is_expected=is_expected),
    ]
    for call in calls:
        with pytest.raises(VersionConflict):
            call(lambda _: False)
        assert office.webhooks.get(ADA, webhook.webhook_id).webhook == webhook
    for call in calls[:2]:  # and who was right when they read it, and wrong when they wrote, too
        races(office, webhook, 1)
        with pytest.raises(VersionConflict):
            call(lambda _: True)
        assert office.webhooks.get(ADA, webhook.webhook_id).webhook.updated_by == "ada@example.com"


# Rotated


def test_the_old_secret_signs_along_for_a_day(office: Office) -> None:
    webhook, old = office.create(authentication=SIGNED)
    office.now += 60
    (rotated, _), new = office.webhooks.rotate_secret(BOB, webhook.webhook_id)
    authentication = rotated.authentication
    assert isinstance(authentication, SignatureAuthentication)
    assert office.plaintext(webhook, authentication.secret_ciphertext) == new != old
    assert office.plaintext(webhook, authentication.previous_secret_ciphertext) == old
    assert authentication.previous_secret_until == "2026-11-04T12:01:00.000Z"
    assert (rotated.version, rotated.epoch) == (2, 1)
    assert (rotated.updated_by, rotated.updated_at) == ("bob@example.com", "2026-11-03T12:01:00.000Z")
    assert office.webhooks.get(ADA, webhook.webhook_id).webhook == rotated


@pytest.mark.parametrize(("seconds", "is_running"), [(86_399.999, True), (86_400, False)])
def test_while_two_secrets_sign_a_third_is_only_for_who_knows_what_is_there(
    office: Office, seconds: float, is_running: bool
) -> None:
    webhook, _ = office.create(authentication=SIGNED)
    (rotated, _), second = office.webhooks.rotate_secret(ADA, webhook.webhook_id)
    office.now += seconds
    until = "2026-11-04T12:00:00.000Z" if is_running else None
    assert office.webhooks.previous_secret_expires_at(rotated) == until
    if is_running:
        with pytest.raises(RotationInProgress):
            office.webhooks.rotate_secret(BOB, webhook.webhook_id)
        (again, _), _ = office.webhooks.rotate_secret(
            BOB, webhook.webhook_id, is_expected=lambda stored: stored == rotated
        )
    else:
        (again, _), _ = office.webhooks.rotate_secret(BOB, webhook.webhook_id)
    assert isinstance(again.authentication, SignatureAuthentication)
    assert office.plaintext(webhook, again.authentication.previous_secret_ciphertext) == second


def test_only_a_webhook_that_signs_has_a_secret_to_rotate(office: Office) -> None:
    for given in ({"type": "none"}, BASIC):
        webhook, _ = office.create(authentication=given)
        with pytest.raises(NotSigned):
            office.webhooks.rotate_secret(ADA, webhook.webhook_id)
        assert office.webhooks.previous_secret_expires_at(webhook) is None
    signed, _ = office.create(authentication=SIGNED)
    assert office.webhooks.previous_secret_expires_at(signed) is None


ACTS: dict[str, Callable[[Office, Webhook], object]] = {
    "created": lambda office, _: office.create(),
    "activated": lambda office, webhook: office.change(webhook, status="active"),
    "renamed": lambda office, webhook: office.change(webhook, name="Payroll"),
    "said once more": lambda office, webhook: office.change(webhook, name=webhook.name),
    "rotated": lambda office, webhook: office.webhooks.rotate_secret(ADA, webhook.webhook_id),
    "deleted": lambda office, webhook: office.webhooks.delete(ADA, webhook.webhook_id),
}


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_a_change_returns_when_nobody_knows_the_webhook_as_it_was(
    office: Office, act: Callable[[Office, Webhook], object]
) -> None:
    """What a dispatcher read just before the change is a second old then. The wait comes after the write."""
    webhook, _ = office.create(authentication=SIGNED, status="paused")
    before = office.store.read_account(ACCOUNT)
    seen: list[bool] = []

    def sleep(seconds: float) -> None:
        assert seconds == MAX_AGE_SECONDS
        seen.append(office.store.read_account(ACCOUNT) != before)

    office.webhooks._sleep = sleep
    act(office, webhook)
    is_new = office.store.read_account(ACCOUNT) != before
    assert seen == [is_new]


# Deleted, and what waits


def test_a_deletion_is_of_now_and_by_its_caller(office: Office) -> None:
    webhook, _ = office.create()
    office.webhooks.delete(BOB, webhook.webhook_id, is_expected=lambda stored: stored == webhook)
    assert office.webhooks.list_all(ADA) == []
    (deleted,) = office.store.deleted(ACCOUNT, since_ms=0)
    assert (deleted.webhook_id, deleted.deleted_at) == (webhook.webhook_id, NOW)
    with pytest.raises(WebhookNotFound):
        office.webhooks.delete(BOB, webhook.webhook_id)


def test_a_deletion_marks_a_lane_that_is_due_when_nobody_can_have_the_webhook_in_hand(
    office: Office,
) -> None:
    webhook, _ = office.create()
    office.webhooks.delete(BOB, webhook.webhook_id)
    (mark,) = office.backlog.markers(webhook.webhook_id).values()
    assert (mark.lane, mark.due_at_ms) == (Lane.REPLAY, NOW_MS + 80_000)
    assert LEASE_SECONDS < 80


def test_a_deletion_that_cannot_be_marked_is_none(office: Office) -> None:
    """Otherwise lanes that are due in days would be purged in days."""
    webhook, _ = office.create()
    client = before(office.deliveries_table)
    client.answers["update_item"] = Fails(client.behind.update_item)
    with pytest.raises(ClientError):
        office.webhooks.delete(BOB, webhook.webhook_id)
    assert [each.webhook for each in office.webhooks.list_all(ADA)] == [webhook]


def test_what_is_not_there_is_not_marked(office: Office) -> None:
    with pytest.raises(WebhookNotFound):
        office.webhooks.delete(BOB, "wh_" + "x" * 22)
    assert not office.backlog.markers("wh_" + "x" * 22)


def test_what_waits_is_counted_lane_by_lane_up_to_a_limit(office: Office) -> None:
    webhook, _ = office.create()
    for lane, events in ((Lane.REALTIME, 3), (Lane.RETRY, 2)):
        some = [waiting(f"{lane}{number}", at_ms=NOW_MS + number) for number in range(events)]
        assert not office.backlog.append(webhook.webhook_id, lane, some)
        office.backlog.set_marker(ACCOUNT, webhook.webhook_id, lane, accepted_at_ms=NOW_MS)
    assert office.webhooks.read_pending(office.store.find(ACCOUNT, webhook.webhook_id), limit=2)[0] == {
        Lane.REALTIME: Count(2, is_complete=False),
        Lane.RETRY: Count(2, is_complete=True),
    }


# Headers


@pytest.mark.parametrize(
    ("headers", "rule"),
    [
        ({"x" * 64: "v"}, None),
        ({"x" * 65: "v"}, "must have a name of 1 to 64"),
        ({"x": "v" * 1024}, None),
        ({"x": "v" * 1025}, "must have a value of 1 to 1024"),
        ({f"x-{number}": "v" for number in range(10)}, None),
        ({f"x-{number}": "v" for number in range(11)}, "at most 10"),
    ],
)
def test_the_limits_of_static_headers(headers: dict[str, str], rule: str | None) -> None:
    if rule is None:
        assert wanted(headers=headers).headers == headers
    else:
        with pytest.raises(ValueError, match=rule):
            wanted(headers=headers)


def test_what_is_done_for_the_first_time_is_not_said_to_be_repeated(office: Office) -> None:
    with logged_lines() as lines:
        webhook, _ = office.create(authentication=SIGNED)
        office.webhooks.rotate_secret(BOB, webhook.webhook_id)
        office.change(webhook, name="Payroll")
        office.webhooks.delete(BOB, webhook.webhook_id)
    assert [(line["action"], line["user"], line.get("repeated")) for line in lines] == [
        ("webhook.create", "ada@example.com", None),
        ("webhook.rotate-secret", "bob@example.com", None),
        ("webhook.change", "bob@example.com", None),
        ("webhook.delete", "bob@example.com", None),
    ]
