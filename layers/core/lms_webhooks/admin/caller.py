"""Know who calls: the tenant, the person and what they may do, from the claims of a verified token."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from lms_webhooks.problems import Forbidden
from lms_webhooks.settings import AdminApiSettings

_ACCOUNT_ID = re.compile(r"[A-Za-z0-9._:@-]{1,128}")
# A claim that is a list arrives as `[a b]` from API Gateway, as `a,b` or a real list from emulators, and
# as `a b` when the claim is OAuth's `scope`.
_LIST_DECORATION = re.compile(r'[\[\]",\s]+')
# Best for people first; a machine's token (client credentials) has none but the last two.
_USER_CLAIMS = ("email", "cognito:username", "username", "preferred_username", "sub", "client_id")


@dataclass(frozen=True)
class Caller:
    """One admin of one account. `user_id` is what `createdBy` shows."""

    account_id: str
    user_id: str
    can_write: bool


def identify(claims: Mapping[str, object], settings: AdminApiSettings) -> Caller:
    """The caller that `claims` describe.

    The authorizer has verified the token before; nothing here does.

    Raises:
        Forbidden: the token names no account, or holds neither of the two roles.
    """
    account_id = str(claims.get(settings.account_claim) or "")
    if not _ACCOUNT_ID.fullmatch(account_id):
        raise Forbidden(f"The token names no account: it needs the claim {settings.account_claim}.")
    roles = _listed(claims.get(settings.role_claim))
    can_write = settings.admin_role in roles
    if not can_write and settings.reader_role not in roles:
        raise Forbidden(
            f"The token's claim {settings.role_claim} holds neither {settings.admin_role} "
            f"nor {settings.reader_role}."
        )
    user_id = next((str(claims[name]) for name in _USER_CLAIMS if claims.get(name)), "unknown")
    return Caller(account_id=account_id, user_id=user_id, can_write=can_write)


def _listed(claim: object) -> set[str]:
    values = claim if isinstance(claim, list) else [claim or ""]
    return {part for value in values for part in _LIST_DECORATION.split(str(value)) if part}
