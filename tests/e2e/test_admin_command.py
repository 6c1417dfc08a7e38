"""`make admin` makes the admin that is asked for in the stack's pool, and may be repeated."""

import io
import re
import uuid
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from operations import admin
from operations.admin import Admin, UnusableRequest, make_admin, read_admin
from operations.stacks import FoundStack, find_stack
from tests.e2e.system import PASSWORD, Account, System
from tests.fakes.receiver import Receiver


@dataclass
class Pool:
    """The pool of the stack, and one person who is not in it yet."""

    stack: FoundStack
    """As it would be on AWS, where mail is sent."""
    cognito: Any
    email: str
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def admin(self, account_id: str = "1010", role: str = "admin") -> Admin:
        return read_admin(self.email, account_id, role)

    def user(self) -> dict[str, str]:
        found = self.cognito.admin_get_user(UserPoolId=self.stack.outputs["UserPoolId"], Username=self.email)
        return {each["Name"]: each["Value"] for each in found["UserAttributes"]} | {
            "status": found["UserStatus"]
        }

    def groups(self) -> set[str]:
        found = self.cognito.admin_list_groups_for_user(
            UserPoolId=self.stack.outputs["UserPoolId"], Username=self.email
        )
        return {group["GroupName"] for group in found["Groups"]}

    def sign_in(self, password: str) -> str:
        """An ID token."""
        signed_in = self.cognito.initiate_auth(
            ClientId=self.stack.outputs["UserPoolClientId"],
            AuthFlow="USER_PASSWORD_AUTH",
            AuthParameters={"USERNAME": self.email, "PASSWORD": password},
        )
        return str(signed_in["AuthenticationResult"]["IdToken"])

    def created(self) -> dict[str, Any]:
        (call,) = [arguments for name, arguments in self.calls if name == "AdminCreateUser"]
        return call


@pytest.fixture
def pool(system: System, monkeypatch: pytest.MonkeyPatch) -> Pool:
    monkeypatch.setattr("operations.stacks.STATE_DIR", system.stack.state_dir)
    cognito = system.client("cognito-idp")
    stack = replace(find_stack(None), is_local=False, client=lambda _service: cognito)
    pool = Pool(stack, cognito, f"{uuid.uuid4().hex}@example.com")
    cognito.meta.events.register(
        "provide-client-params.cognito-idp.*",
        lambda params, model, **_: pool.calls.append((model.name, params)),
    )
    return pool


def test_on_aws_cognito_mails_an_invitation_and_nobody_else_knows_the_password(pool: Pool) -> None:
    said = make_admin(pool.stack, pool.admin(), password=None)
    assert said.splitlines() == [
        f"{pool.email} may change the webhooks of account 1010 in {pool.stack.name}.",
        "  AWS mails a temporary password, good for 7 days; the console asks for a new one.",
        f"  Sign in at {pool.stack.console_url}",
    ]
    call = pool.created()
    assert call["DesiredDeliveryMediums"] == ["EMAIL"]  # or it would be an SMS, to a number that nobody gave
    assert "MessageAction" not in call
    assert "TemporaryPassword" not in call
    user = pool.user()
    assert (user["custom:accountId"], user["email_verified"]) == ("1010", "true")
    assert user["status"] == "FORCE_CHANGE_PASSWORD"
    assert pool.groups() == {"integration-admin"}


def test_with_a_password_that_was_asked_for_nothing_is_mailed(pool: Pool) -> None:
    said = make_admin(pool.stack, pool.admin(), password=PASSWORD)
    assert "mails" not in said
    assert PASSWORD not in said
    assert pool.created()["MessageAction"] == "SUPPRESS"
    assert pool.user()["status"] == "CONFIRMED"


@pytest.mark.parametrize(("role", "created"), [("admin", 201), ("reader", 403)])
def test_on_this_machine_the_password_that_is_printed_opens_the_account(
    role: str, created: int, pool: Pool, account: Account, receiver: Receiver
) -> None:
    admin = pool.admin(account.account_id, role)
    said = make_admin(replace(pool.stack, is_local=True), admin, password=None)
    (password,) = re.findall(r"The local stack mails nothing; the password is (\S+)$", said, re.MULTILINE)
    token = pool.sign_in(password)
    system = account.system
    assert system.call("GET", "/v1/webhooks", token=token).body == {"webhooks": []}
    body = account.webhook(receiver.url("/"))
    assert system.call("POST", "/v1/webhooks", token=token, body=body).status == created


def test_once_more_it_changes_nothing_but_the_group(pool: Pool) -> None:
    make_admin(pool.stack, pool.admin(role="reader"), password=None)
    assert pool.groups() == {"integration-reader"}
    said = make_admin(pool.stack, pool.admin(), password=None)
    assert said.startswith(f"{pool.email} may change the webhooks")
    assert "mails" not in said
    assert pool.groups() == {"integration-admin", "integration-reader"}
    assert pool.created()  # once
    assert make_admin(pool.stack, pool.admin(), password=None) == said


def test_a_reader_who_was_an_admin_still_is_and_one_is_told(pool: Pool) -> None:
    make_admin(pool.stack, pool.admin(), password=None)
    said = make_admin(pool.stack, pool.admin(role="reader"), password=None)
    assert "may change" in said
    assert "They were in integration-admin before, and still are." in said


def test_a_user_of_the_account_gets_the_password_that_is_asked_for(pool: Pool) -> None:
    make_admin(pool.stack, pool.admin(), password=None)
    assert "The password is the new one." in make_admin(pool.stack, pool.admin(), password=PASSWORD)
    assert pool.user()["status"] == "CONFIRMED"


def test_a_user_of_another_account_is_refused_and_stays_as_they_are(pool: Pool) -> None:
    make_admin(pool.stack, pool.admin("2020", "reader"), password=None)
    with pytest.raises(UnusableRequest, match="is a user of account 2020, which can never change"):
        make_admin(pool.stack, pool.admin(), password=PASSWORD)
    assert pool.user()["custom:accountId"] == "2020"
    assert pool.user()["status"] == "FORCE_CHANGE_PASSWORD"
    assert pool.groups() == {"integration-reader"}


# The command


def run(pool: Pool, monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    monkeypatch.setattr(admin, "find_stack", lambda _name: pool.stack)
    monkeypatch.setattr("sys.argv", ["admin", "--email", pool.email, "--account", "1010", *options])
    return admin.main()


def test_another_program_may_write_the_password(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{PASSWORD}\n"))
    assert run(pool, monkeypatch, "--ask") == 0
    assert PASSWORD not in capsys.readouterr().out
    assert pool.user()["status"] == "CONFIRMED"


def test_what_cognito_refuses_is_said_in_a_sentence(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("short\n"))
    assert run(pool, monkeypatch, "--ask") == 1
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith("AWS refused AdminSetUserPassword: Password did not conform")
