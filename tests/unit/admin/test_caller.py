"""Only a token that names an account and a role gets in, however its claims are written."""

import pytest

from lms_webhooks.admin.caller import Caller, identify
from lms_webhooks.admin.problems import Forbidden
from lms_webhooks.model.events import MAX_ACCOUNT_ID_LENGTH
from tests.unit.admin_client import ADMIN_CLAIMS, admin_settings


@pytest.mark.parametrize(
    "groups",
    [
        "[integration-admin]",
        "[others integration-admin]",
        "integration-admin",
        "others integration-admin",
        "[not,integration-reader integration-admin [odd]]",
        ["others", "integration-admin"],
    ],
)
def test_a_role_is_found_in_every_form_of_a_list(groups: object) -> None:
    caller = identify({**ADMIN_CLAIMS, "cognito:groups": groups}, admin_settings())
    assert caller == Caller("1010", "ada@example.com", can_write=True, subject="5f1d-ada")


def test_a_reader_cannot_write() -> None:
    assert not identify(
        {**ADMIN_CLAIMS, "cognito:groups": "[integration-reader]"}, admin_settings()
    ).can_write


@pytest.mark.parametrize(
    "groups",
    [
        None,
        "",
        "[]",
        [],
        "[others]",
        "integration-admins",
        "not-integration-admin",
        "Integration-Admin",
        # Names of one group each, which Cognito allows:
        "[others,integration-admin]",
        "others,integration-admin",
        '["integration-admin"]',
        "[[integration-admin]]",
        "[integration-admin,]",
        "[x](integration-admin)",
        "[\tintegration-admin]",
        ["others,integration-admin"],
        ["others integration-admin"],
    ],
)
def test_without_a_role_there_is_no_way_in(groups: object) -> None:
    with pytest.raises(Forbidden, match="holds neither integration-admin nor integration-reader"):
        identify({**ADMIN_CLAIMS, "cognito:groups": groups}, admin_settings())


@pytest.mark.parametrize(
    "account", [None, "", " ", "[1010 2020]", "[1010]", "10#10", "1010\n", "x" * 65, ["1010"], {"a": 1}]
)
def test_without_one_account_there_is_no_way_in(account: object) -> None:
    with pytest.raises(Forbidden, match="needs the claim custom:account_id"):
        identify({**ADMIN_CLAIMS, "custom:account_id": account}, admin_settings())


def test_an_admin_s_account_may_be_as_long_as_an_event_s() -> None:
    account = "x" * MAX_ACCOUNT_ID_LENGTH
    assert identify({**ADMIN_CLAIMS, "custom:account_id": account}, admin_settings()).account_id == account


def test_an_account_that_is_a_number_is_compared_as_text() -> None:
    assert identify({**ADMIN_CLAIMS, "custom:account_id": 1010}, admin_settings()).account_id == "1010"


@pytest.mark.parametrize(
    ("claims", "user_id"),
    [
        ({"email": "ada@example.com", "sub": "7"}, "ada@example.com"),
        ({"cognito:username": "ada", "sub": "7"}, "ada"),
        ({"username": "ada", "sub": "7"}, "ada"),
        ({"email": "", "sub": "7"}, "7"),
        ({"client_id": "nightly"}, "nightly"),
        ({}, "unknown"),
    ],
)
def test_the_best_name_of_a_user_is_kept(claims: dict[str, object], user_id: str) -> None:
    account_and_role = {name: ADMIN_CLAIMS[name] for name in ("custom:account_id", "cognito:groups")}
    assert identify({**account_and_role, **claims}, admin_settings()).user_id == user_id
