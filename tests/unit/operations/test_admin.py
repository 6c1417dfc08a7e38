"""What is typed for `make admin` is held to the product's own rules before AWS is asked anything."""

from typing import NoReturn

import pytest

from operations.admin import UnusableRequest, make_admin, read_admin
from operations.stacks import FoundStack
from tests.contract.template import PARAMETERS


def test_a_mail_address_is_in_lower_case_as_the_api_has_them() -> None:
    assert read_admin("Ada@Example.com", "1010", "admin").email == "ada@example.com"


def test_a_stack_with_an_issuer_of_its_own_has_no_pool() -> None:
    def refuse(_service: str) -> NoReturn:
        raise AssertionError("nothing is to be asked")

    parameters = {name: str(each["Default"]) for name, each in PARAMETERS.items()}
    stack = FoundStack(
        "lms-webhooks",
        is_local=False,
        client=refuse,
        outputs={},
        parameters=parameters | {"OidcIssuer": "https://id.example.com"},
        api_url="",
        console_url="",
    )
    with pytest.raises(UnusableRequest) as refused:
        make_admin(stack, read_admin("ada@example.com", "1010", "reader"), password=None)
    assert str(refused.value) == (
        "lms-webhooks has no user pool, as it takes the tokens of https://id.example.com: give the user there"
        " the claims custom:accountId=1010 and cognito:groups=integration-reader."
    )


@pytest.mark.parametrize(
    ("email", "account_id", "role", "said"),
    [
        ("ada", "1010", "admin", "EMAIL=ada is no mail address"),
        ("", "1010", "admin", "EMAIL= is no mail address"),
        ("a@b", "1010", "admin", "is no mail address"),
        ("ada@example.com", "", "admin", "ACCOUNT= is no account"),
        (
            "ada@example.com",
            "10 10",
            "admin",
            "ACCOUNT=10 10 is no account: give the accountId of its events",
        ),
        ("ada@example.com", "1" * 65, "admin", "1 to 64 of the characters"),
        ("ada@example.com", "1010", "owner", "ROLE=owner is no role: choose admin or reader"),
    ],
)
def test_what_the_product_would_not_take_is_refused(
    email: str, account_id: str, role: str, said: str
) -> None:
    with pytest.raises(UnusableRequest, match=said):
        read_admin(email, account_id, role)
