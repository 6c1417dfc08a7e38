"""A client that a generator made of the API's description, and nobody touched, does an admin's work."""

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.system import Account
from tests.fakes.receiver import Receiver
from tools.openapi import COMMITTED

PACKAGE = "lms_webhooks_client"


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The package, importable by its name."""
    folder = tmp_path_factory.mktemp("client")
    tools = Path(sys.executable).parent  # it looks for ruff on PATH
    generate = [str(tools / "openapi-python-client"), "generate", "--path", str(COMMITTED), "--meta", "none"]
    made = subprocess.run(
        [*generate, "--output-path", str(folder / PACKAGE), "--fail-on-warning"],
        env=os.environ | {"PATH": f"{tools}{os.pathsep}{os.environ.get('PATH', os.defpath)}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    sys.path.insert(0, str(folder))
    yield PACKAGE
    sys.path.remove(str(folder))


def call(package: str, operation: str, account: Account, *path: str, **arguments: Any) -> Any:
    """The parsed response of an operation, named as `<tag>.<operation>`."""
    client_module = importlib.import_module(f"{package}.client")
    client = client_module.AuthenticatedClient(base_url=account.system.stack.api_url, token=account.token)
    with client:
        return importlib.import_module(f"{package}.api.{operation}").sync(*path, client=client, **arguments)


def test_a_generated_client_registers_tries_changes_and_deletes(
    generated: str, account: Account, receiver: Receiver
) -> None:
    models = importlib.import_module(f"{generated}.models")
    listed = call(generated, "event_types.list_event_types", account)
    assert "COURSE_ENROLLMENT" in {each.event_name for each in listed.event_types}
    wanted = models.WebhookInput.from_dict(account.webhook(receiver.url()))
    created = call(generated, "webhooks.create_webhook", account, body=wanted, idempotency_key="one")
    assert created.name == wanted.name
    again = call(generated, "webhooks.create_webhook", account, body=wanted, idempotency_key="one")
    assert again.webhook_id == created.webhook_id
    tried = call(generated, "webhooks.test_webhook", account, created.webhook_id, body=models.SampleInput())
    assert (tried.delivered, tried.status_code) == (True, 200)
    change = models.WebhookPatch.from_dict({"status": "paused"})
    changed = call(
        generated, "webhooks.update_webhook", account, created.webhook_id, body=change, if_match="*"
    )
    assert changed.status == "paused"
    assert [each.webhook_id for each in call(generated, "webhooks.list_webhooks", account).webhooks] == [
        created.webhook_id
    ]
    call(generated, "webhooks.delete_webhook", account, created.webhook_id)
    gone = call(generated, "webhooks.get_webhook", account, created.webhook_id)
    assert isinstance(gone, models.WebhookNotFoundProblem)


def test_a_generated_client_reads_the_history_and_sends_again(
    generated: str, account: Account, receiver: Receiver
) -> None:
    models = importlib.import_module(f"{generated}.models")
    webhook_id = account.create(receiver.url())["webhookId"]
    event_ids = {account.emit()["eventId"] for _ in range(3)}
    account.system.wait_for_history(webhook_id, 3)
    page = call(generated, "deliveries.list_deliveries", account, webhook_id)
    assert {delivery.event_id for delivery in page.deliveries} == event_ids
    delivery_id = page.deliveries[0].delivery_id
    one = call(generated, "deliveries.get_delivery", account, webhook_id, delivery_id)
    assert one.attempts[0].status_code == 200
    assert (
        call(generated, "deliveries.redeliver", account, webhook_id, delivery_id).delivery_id == delivery_id
    )
    wanted = models.ReplayInput.from_dict({"from": "2026-01-01T00:00:00Z"})
    assert call(generated, "deliveries.start_replay", account, webhook_id, body=wanted).state == "running"
    assert call(generated, "deliveries.get_stats", account, webhook_id, hours=2).hours[0].delivered == 3


def test_a_generated_client_tells_refusals_apart(generated: str, account: Account) -> None:
    models = importlib.import_module(f"{generated}.models")
    wrong = models.WebhookInput.from_dict(account.webhook("https://10.0.0.1/"))
    refused = call(generated, "webhooks.create_webhook", account, body=wrong)
    assert isinstance(refused, models.InvalidFieldsProblem)
    assert [error.pointer for error in refused.errors] == ["/targetUrl"]
    email = models.SubscriptionInput(email="team@example.com")
    added = call(generated, "notifications.create_notification_subscription", account, body=email)
    listed = call(generated, "notifications.list_notification_subscriptions", account).subscriptions
    assert [each.subscription_id for each in listed] == [added.subscription_id]
    call(generated, "notifications.delete_notification_subscription", account, added.subscription_id)
    gone = call(generated, "notifications.delete_notification_subscription", account, added.subscription_id)
    assert isinstance(gone, models.SubscriptionNotFoundProblem)
