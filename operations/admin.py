"""Make an admin of an account in a stack's Cognito pool: a user, their account, and their group.

    make admin EMAIL=ada@example.com ACCOUNT=1010 STACK=lms-webhooks           Cognito mails an invitation
    make admin EMAIL=ada@example.com ACCOUNT=1010 STACK=lms-webhooks ASK=1     asks for a password instead
    make admin EMAIL=eve@example.com ACCOUNT=1010 STACK=lms-webhooks ROLE=reader
    make admin EMAIL=ada@example.com ACCOUNT=3030                              on this machine's stack

With an invitation nobody but the admin ever knows the password, and the mail proves the address. A password
never stands on the command line, where other users of the machine and the shell's history would see it. The
local stack mails nothing, so a password is made and printed.

It may be repeated: a user of the same account is put into the group. One of another account is refused, since
the account of a user can never change.

UnusableRequest (an Exception: its text is one sentence for the person who asked)
"""

import argparse
import getpass
import sys
from dataclasses import dataclass

from pydantic import ValidationError

from lms_webhooks.admin.inputs import SubscriptionInput
from lms_webhooks.model.events import ACCOUNT_ID_CHARACTERS, MAX_ACCOUNT_ID_LENGTH, is_account_id
from local.users import account_of, add_to_group, groups_of, make_user, new_password, set_password
from operations.identity import AWS_ERRORS, explain
from operations.stacks import FoundStack, find_stack

_GROUP_PARAMETERS = {"admin": "AdminRole", "reader": "ReaderRole"}


class UnusableRequest(Exception):
    """No such admin can be made."""


@dataclass(frozen=True, slots=True)
class Admin:
    """Who is to be made, as the product takes it."""

    email: str
    account_id: str
    role: str


def read_admin(email: str, account_id: str, role: str) -> Admin:
    """Return the admin that is asked for.

    Raises:
        UnusableRequest: the mail address, the account or the role is none.
    """
    try:
        address = SubscriptionInput(email=email).email
    except ValidationError:
        raise UnusableRequest(
            f"EMAIL={email} is no mail address: give one such as EMAIL=ada@example.com."
        ) from None
    if not is_account_id(account_id):
        raise UnusableRequest(
            f"ACCOUNT={account_id} is no account: give the accountId of its events, 1 to"
            f" {MAX_ACCOUNT_ID_LENGTH} of the characters {ACCOUNT_ID_CHARACTERS}."
        )
    if role not in _GROUP_PARAMETERS:
        raise UnusableRequest(f"ROLE={role} is no role: choose {' or '.join(_GROUP_PARAMETERS)}.")
    return Admin(address, account_id, role)


def make_admin(stack: FoundStack, admin: Admin, *, password: str | None) -> str:
    """Make an admin, or put one that is there into their group; return what is to be said of it.

    Raises:
        UnusableRequest: the stack has no pool, or the user is of another account.
        botocore.exceptions.ClientError: Cognito refuses.
    """
    group = stack.parameters[_GROUP_PARAMETERS[admin.role]]
    pool = stack.outputs.get("UserPoolId")
    if pool is None:
        raise UnusableRequest(
            f"{stack.name} has no user pool, as it takes the tokens of {stack.parameters.get('OidcIssuer')}:"
            f" give the user there the claims {stack.parameters['AccountClaim']}={admin.account_id} and"
            f" {stack.parameters['RoleClaim']}={group}."
        )
    cognito = stack.client("cognito-idp")
    account_id = account_of(cognito, pool, email=admin.email)
    said = []
    if account_id is None:
        if password is None and stack.is_local:
            password = new_password()
            said.append(f"The local stack mails nothing; the password is {password}")
        make_user(cognito, pool, email=admin.email, account_id=admin.account_id, password=password)
        if password is None:
            said.append("AWS mails a temporary password, good for 7 days; the console asks for a new one.")
    elif account_id != admin.account_id:
        raise UnusableRequest(
            f"{admin.email} is a user of account {account_id}, which can never change:"
            " give another mail address."
        )
    elif password is not None:
        set_password(cognito, pool, email=admin.email, password=password)
        said.append("The password is the new one.")
    add_to_group(cognito, pool, email=admin.email, group=group)
    may = "read"
    if stack.parameters["AdminRole"] in groups_of(cognito, pool, email=admin.email):
        may = "change"
        if admin.role == "reader":
            said.append(f"They were in {stack.parameters['AdminRole']} before, and still are.")
    return "\n  ".join(
        [
            f"{admin.email} may {may} the webhooks of account {admin.account_id} in {stack.name}.",
            *said,
            f"Sign in at {stack.console_url}",
        ]
    )


def _ask() -> str:
    """The password that is typed unseen, or that another program writes."""
    if sys.stdin is None:  # its descriptor is closed, as by `<&-`
        raise UnusableRequest("There is no standard input to read the password from.")
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    password = getpass.getpass("Password, at least 12 characters with upper case, lower case and a digit: ")
    if getpass.getpass("Once more: ") != password:
        raise UnusableRequest("The two passwords differ: repeat the command.")
    return password


def main() -> int:
    """Make the admin that the command line names; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m operations.admin")
    parser.add_argument("--email", required=True)
    parser.add_argument("--account", required=True, help="the accountId of the LMS")
    parser.add_argument("--role", default="admin", help="admin or reader")
    parser.add_argument("--stack", help="a stack on AWS; without it the one of `make up`")
    parser.add_argument(
        "--ask", action="store_true", help="ask for a password, or read it from standard input"
    )
    arguments = parser.parse_args()
    try:
        admin = read_admin(arguments.email, arguments.account, arguments.role)
        stack = find_stack(arguments.stack)
        # Before a password is asked for: the wrong stack can still be left alone.
        print(f"{stack.name} in AWS {stack.place}", flush=True)
        print(make_admin(stack, admin, password=_ask() if arguments.ask else None))
    except UnusableRequest as error:
        print(error, file=sys.stderr)
        return 1
    except AWS_ERRORS as error:
        print(explain(error), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
