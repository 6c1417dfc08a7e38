"""Know who calls: the tenant, the person and what they may do, from the claims of a verified token."""

from collections.abc import Mapping
from dataclasses import dataclass

from lms_webhooks.model.events import is_account_id
from lms_webhooks.problems import Forbidden
from lms_webhooks.settings import AdminApiSettings

# Best for people first; a machine's token (client credentials) has none but the last two.
_USER_CLAIMS = ("email", "cognito:username", "username", "preferred_username", "sub", "client_id")


@dataclass(frozen=True)
class Caller:
    """One admin of one account. `user_id` is what `createdBy` shows."""

    account_id: str
    user_id: str
    can_write: bool
    subject: str = ""
    """The token's `sub`, which the issuer gives to nobody else; empty where it has none."""


def identify(claims: Mapping[str, object], settings: AdminApiSettings) -> Caller:
    """The caller that `claims` describe.

    The authorizer has verified the token before; nothing here does.

    Raises:
        Forbidden: the token names no account, or holds neither of the two roles.
    """
    account_id = str(claims.get(settings.account_claim) or "")
    if not is_account_id(account_id):
        raise Forbidden(f"The token names no account: it needs the claim {settings.account_claim}.")
    roles = _listed(claims.get(settings.role_claim))
    can_write = settings.admin_role in roles
    if not can_write and settings.reader_role not in roles:
        raise Forbidden(
            f"The token's claim {settings.role_claim} holds neither {settings.admin_role} "
            f"nor {settings.reader_role}."
        )
    user_id = next((str(claims[name]) for name in _USER_CLAIMS if claims.get(name)), "unknown")
    return Caller(account_id, user_id, can_write=can_write, subject=str(claims.get("sub") or ""))


def _listed(claim: object) -> set[str]:
    """The values of a claim that may be a list.

    API Gateway writes a list as `[a b]` and leaves text as it came, such as OAuth's `scope`: `a b`. Nothing
    else than a blank parts two values, so that a group whose name has a comma, a quote or a bracket in it is
    one group, and never the admins'. A blank in a name cannot be told from the end of it.
    """
    if isinstance(claim, list):
        return {str(value) for value in claim}
    text = str(claim or "")
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    return set(text.split(" "))
