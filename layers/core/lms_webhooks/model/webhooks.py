"""A webhook: what an admin configured, as the rest of the system reads it. Pure."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from lms_webhooks.model.health import Health
from lms_webhooks.model.slots import BatchSchedule

MAX_WEBHOOKS_PER_ACCOUNT = 5  # Adobe Learning Manager: "up to five webhooks"


class Status(StrEnum):
    """What the admin wants: `active` sends, `paused` keeps events pending, `inactive` takes no new ones."""

    ACTIVE = "active"
    PAUSED = "paused"
    INACTIVE = "inactive"


@dataclass(frozen=True)
class NoAuthentication:
    """Requests carry nothing that proves who sent them."""


@dataclass(frozen=True)
class BasicAuthentication:
    """Requests carry `authorization: Basic`. The password is encrypted, see `secrets`."""

    username: str
    password_ciphertext: bytes


@dataclass(frozen=True)
class SignatureAuthentication:
    """Requests are signed as Standard Webhooks says, with one secret, or with two during a rotation."""

    secret_ciphertext: bytes
    previous_secret_ciphertext: bytes | None = None
    previous_secret_until: str | None = None
    """RFC 3339; from then on the previous secret signs nothing."""


Authentication = NoAuthentication | BasicAuthentication | SignatureAuthentication


@dataclass(frozen=True)
class Webhook:
    """One webhook, as an admin configured it. Times are RFC 3339 in UTC."""

    account_id: str
    webhook_id: str
    name: str
    target_url: str
    authentication: Authentication
    events: frozenset[str]
    status: Status
    created_at: str
    updated_at: str
    created_by: str
    updated_by: str
    description: str = ""
    ordered: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    batch_schedule: BatchSchedule | None = None
    """When its non-real-time events go out. None for the slots of the deployment."""
    keep_response_bodies: bool = False
    """Whether the start of a failure's body is kept with the attempt."""
    epoch: int = 1
    """Raised by each change of URL, authentication or status, so that news about the old is
    recognized."""
    version: int = 1
    """Raised by every change; in its ETag."""


class WebhookWithHealth(NamedTuple):
    """A webhook, and the health of its endpoint."""

    webhook: Webhook
    health: Health


class Unreadable(NamedTuple):
    """A webhook that this version cannot read. It is damaged, or a newer version wrote it."""

    webhook_id: str
    events: frozenset[str] | None
    """The events it subscribes to. None where these cannot be read either."""


class Tombstone(NamedTuple):
    """A deleted webhook."""

    webhook_id: str
    events: frozenset[str]
    """The events it subscribed to."""
    deleted_at: str
    """RFC 3339 in UTC, always of the same length: such texts compare as times do."""
