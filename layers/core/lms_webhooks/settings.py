"""Read the environment variables: one class for each function, one field for each variable.

No other module reads them. The name of a field in capitals is that of its variable. A missing or malformed
variable raises at cold start, so a broken deployment fails at once, not on some delivery later.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields


class SettingsError(Exception):
    """The environment lacks a variable, or holds one that cannot be read."""


@dataclass(frozen=True)
class AdminApiSettings:
    """What the template passes to admin_api."""

    webhooks_table: str
    deliveries_table: str
    drain_queue_url: str
    background_drain_queue_url: str
    kms_key_id: str
    delivery_retention_days: int
    backlog_retention_days: int
    batch_every_minutes: int
    extra_event_types: str
    extra_event_type_details: str
    notice_topic_arn: str
    account_claim: str
    role_claim: str
    admin_role: str
    reader_role: str
    oidc_issuer: str
    sign_in_url: str
    sign_in_client_id: str
    loopback_targets_allowed: bool
    trusted_ca_file: str


@dataclass(frozen=True)
class DispatcherSettings:
    """What the template passes to the dispatcher."""

    webhooks_table: str
    deliveries_table: str
    drain_queue_url: str
    background_drain_queue_url: str
    quarantine_queue_url: str
    kms_key_id: str
    event_source: str
    delivery_retention_days: int
    backlog_retention_days: int
    batch_every_minutes: int
    extra_event_types: str
    loopback_targets_allowed: bool
    trusted_ca_file: str


@dataclass(frozen=True)
class BatchSettings:
    """What the template passes to the batch function."""

    webhooks_table: str
    deliveries_table: str
    drain_queue_url: str
    background_drain_queue_url: str
    sweep_queue_url: str
    notice_topic_arn: str
    backlog_retention_days: int


@dataclass(frozen=True)
class DrainerSettings:
    """What the template passes to the drainer."""

    webhooks_table: str
    deliveries_table: str
    drain_queue_url: str
    background_drain_queue_url: str
    kms_key_id: str
    delivery_retention_days: int
    backlog_retention_days: int
    loopback_targets_allowed: bool
    trusted_ca_file: str


def read[T](settings_type: type[T], environ: Mapping[str, str] = os.environ) -> T:
    """Read `settings_type` from `environ`.

    Raises:
        SettingsError: naming the variable, what it holds and what was expected.
    """
    values: dict[str, str | int | bool] = {}
    for field in fields(settings_type):  # type: ignore[arg-type]  # T is one of the dataclasses above
        name = field.name.upper()
        text = environ.get(name)
        if text is None:
            raise SettingsError(f"{name} is not set; {settings_type.__name__} needs it")
        values[field.name] = _typed(name, text, field.type)
    return settings_type(**values)


def _typed(name: str, text: str, wanted: object) -> str | int | bool:
    if wanted is bool:
        if text not in ("true", "false"):
            raise SettingsError(f"{name} is {text!r}; expected true or false")
        return text == "true"
    if wanted is int:
        if not text.isascii() or not text.isdigit():
            raise SettingsError(f"{name} is {text!r}; expected a whole number")
        return int(text)
    return text
