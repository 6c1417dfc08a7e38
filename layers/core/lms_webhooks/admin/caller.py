"""Identify the caller: account, person and role, from the claims of a verified token."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from lms_webhooks.admin.problems import Forbidden
from lms_webhooks.model.events import is_account_id
from lms_webhooks.settings import AdminApiSettings

# The best for people first. The token of a machine (client credentials) has only the last two.
_USER_CLAIMS = ("email", "cognito:username", "username", "preferred_username", "sub", "client_id")


@dataclass(frozen=True, slots=True)
class Change:
    """What a call changed: the action, names of fields without their values, and ids of what it is about."""

    action: str
    changed: tuple[str, ...]
    ids: Mapping[str, str]


@dataclass(frozen=True)
class Caller:
    """One person or machine of one account. The API shows `user_id` as `createdBy`."""

    account_id: str
    user_id: str
    can_write: bool
    subject: str = ""
    """The token's `sub`, which is unique at its issuer; empty if it has none."""
    changes: list[Change] = field(default_factory=list, compare=False)
    """What the call has changed so far: `audit` adds to it, and `activity` keeps it."""


def identify(claims: Mapping[str, object], settings: AdminApiSettings) -> Caller:
    """Return the caller whose claims these are. The gateway's authorizer has verified the token.

    Raises:
        Forbidden: the token has no account, or neither of the two roles.
    """
    account_id = str(claims.get(settings.account_claim) or "")
    if not is_account_id(account_id):
        raise Forbidden(f"The token names no account: it needs the claim {settings.account_claim}.")
    roles = _values(claims.get(settings.role_claim))
    can_write = settings.admin_role in roles
    if not can_write and settings.reader_role not in roles:
        raise Forbidden(
            f"The token's claim {settings.role_claim} holds neither {settings.admin_role} "
            f"nor {settings.reader_role}."
        )
    user_id = next((str(claims[name]) for name in _USER_CLAIMS if claims.get(name)), "unknown")
    return Caller(account_id, user_id, can_write=can_write, subject=str(claims.get("sub") or ""))


def _values(claim: object) -> set[str]:
    """Return the values of a claim that may be a list.

    API Gateway writes a list as `[a b]`, and leaves text as it is, such as OAuth's `scope`: `a b`. Only a
    blank separates two values. So a group with a comma, a quote or a bracket in its name stays one group, and
    never becomes the admins'. A blank in a name looks like the end of it.
    """
    if isinstance(claim, list):
        return {str(value) for value in claim}
    text = str(claim or "")
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    return set(text.split(" "))
