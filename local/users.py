"""Make users of a stack's Cognito pool, on AWS as on this machine."""

import secrets
from typing import Any


def new_password() -> str:
    """Return a password that the pool's policy takes."""
    return f"Aa1!{secrets.token_urlsafe(18)}"


def make_user(
    cognito: Any, user_pool_id: str, *, email: str, account_id: str, password: str | None = None
) -> None:
    """Make a user of an account, which can never be changed. Their mail address is their name.

    Without a password Cognito mails an invitation with a temporary one. The address counts as proved: that
    mail proves it, or the person who gives the password vouches for it.

    Raises:
        botocore.exceptions.ClientError: Cognito refuses, or it refuses only the password.
    """
    cognito.admin_create_user(
        UserPoolId=user_pool_id,
        Username=email,
        UserAttributes=[
            {"Name": "email", "Value": email},
            {"Name": "email_verified", "Value": "true"},
            {"Name": "custom:accountId", "Value": account_id},
        ],
        # Without it Cognito would send an SMS.
        DesiredDeliveryMediums=["EMAIL"],
        **({} if password is None else {"MessageAction": "SUPPRESS"}),
    )
    if password is not None:
        set_password(cognito, user_pool_id, email=email, password=password)


def set_password(cognito: Any, user_pool_id: str, *, email: str, password: str) -> None:
    """Give a user a password that they need not change."""
    cognito.admin_set_user_password(
        UserPoolId=user_pool_id, Username=email, Password=password, Permanent=True
    )


def account_of(cognito: Any, user_pool_id: str, *, email: str) -> str | None:
    """Return the account of a user; None when there is no such user."""
    try:
        user = cognito.admin_get_user(UserPoolId=user_pool_id, Username=email)
    except cognito.exceptions.UserNotFoundException:
        return None
    attributes = {each["Name"]: each["Value"] for each in user["UserAttributes"]}
    return str(attributes.get("custom:accountId", ""))


def add_to_group(cognito: Any, user_pool_id: str, *, email: str, group: str) -> None:
    """Put a user into a group, in which they may be already."""
    cognito.admin_add_user_to_group(UserPoolId=user_pool_id, Username=email, GroupName=group)


def groups_of(cognito: Any, user_pool_id: str, *, email: str) -> set[str]:
    """Return the groups that a user is in."""
    pages = cognito.get_paginator("admin_list_groups_for_user").paginate(
        UserPoolId=user_pool_id, Username=email
    )
    return {group["GroupName"] for page in pages for group in page["Groups"]}
