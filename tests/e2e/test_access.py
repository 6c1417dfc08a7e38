"""Nobody calls the admin API who may not, by the pool of the stack or by an issuer of the deployer's own.

Every refusal says that it is one, and nothing else.
"""

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from local import deploy
from tests.e2e.system import ADMIN, READER, Account, Answer, System
from tests.fakes.issuer import AUDIENCE, Issuer, new_key, with_claims
from tests.operations import Operation, operations

OPERATIONS = operations()
MADE_UP = {
    "webhookId": "wh_" + "a" * 22,
    "deliveryId": "MTc5MzcwNzIwMDAwMCNlMQ",
    "subscriptionId": "ns_" + "a" * 22,
}
PASSWORD = "Correct-horse-1"
each_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.name)


def check_refused(answer: Answer, status: int, system: System) -> None:
    """It says no, and nothing of how it came to that."""
    assert answer.status == status, answer
    if status == 401:
        assert answer.body == {"message": "Unauthorized"}
    else:
        assert answer.body.keys() == {"type", "title", "status", "detail"}
        assert answer.body["type"] == "urn:lms-webhooks:problem:forbidden"
    told = json.dumps([answer.text, dict(answer.headers)])
    description = system.stack.description
    for inside in (
        *("Traceback", 'File \\"', ".py", "lms_webhooks.", "botocore", "arn:", "DynamoDB"),
        *description["tables"].values(),
        *description["functions"].values(),
        *(url.rpartition("/")[2] for url in description["queues"].values()),
        *(description["userPoolId"], description["clientId"]),
    ):
        assert inside not in told, answer


def call(system: System, operation: Operation, token: str | None) -> Answer:
    return system.call(operation.method, operation.path(**MADE_UP), token=token, body=operation.body)


##### The pool of the stack


@each_operation
def test_no_operation_is_open(operation: Operation, system: System) -> None:
    check_refused(call(system, operation, None), 401, system)


@each_operation
def test_a_reader_may_do_what_changes_nothing(operation: Operation, account: Account) -> None:
    reader = account.system.sign_in(account.account_id, READER)
    answer = call(account.system, operation, reader)
    if operation.is_read:
        assert answer.status in (200, 404)
    else:
        check_refused(answer, 403, account.system)


@each_operation
def test_who_has_neither_role_may_do_nothing(operation: Operation, account: Account) -> None:
    stranger = account.system.sign_in(account.account_id, None)
    check_refused(call(account.system, operation, stranger), 403, account.system)


@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_a_page_of_another_origin_is_allowed_nothing(method: str, account: Account) -> None:
    """With a token and without, asking before and asking at once: no answer has a header that says it may."""
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "DELETE"}
    for token in (account.token, None):
        for path in ("/v1/webhooks", "/openapi.json"):
            answer = account.system.call(method, path, token=token, headers=asked)
            assert not [name for name in answer.headers if name.startswith("access-control-")], answer


def test_a_token_of_another_client_or_another_pool_is_none(system: System) -> None:
    cognito = system.client("cognito-idp")
    account_id = "1010"
    other_client = cognito.create_user_pool_client(
        UserPoolId=system.stack.description["userPoolId"],
        ClientName="other",
        ExplicitAuthFlows=["ALLOW_USER_PASSWORD_AUTH"],
    )["UserPoolClient"]["ClientId"]
    other_pool = cognito.create_user_pool(PoolName=f"other-{uuid.uuid4().hex}")["UserPool"]["Id"]
    client_of_other_pool = cognito.create_user_pool_client(
        UserPoolId=other_pool, ClientName="other", ExplicitAuthFlows=["ALLOW_USER_PASSWORD_AUTH"]
    )["UserPoolClient"]["ClientId"]
    cognito.create_group(UserPoolId=other_pool, GroupName=ADMIN)
    try:
        for pool, client in (
            (system.stack.description["userPoolId"], other_client),
            (other_pool, client_of_other_pool),
        ):
            user = _make_user(cognito, pool, account_id)
            cognito.admin_add_user_to_group(UserPoolId=pool, Username=user, GroupName=ADMIN)
            token = _sign_in(cognito, client, user)["IdToken"]
            check_refused(system.call("GET", "/v1/webhooks", token=token), 401, system)
    finally:
        cognito.delete_user_pool_client(
            UserPoolId=system.stack.description["userPoolId"], ClientId=other_client
        )
        cognito.delete_user_pool(UserPoolId=other_pool)


def test_an_access_token_names_no_account(system: System) -> None:
    """It is signed by the same pool for the same client, and its groups are an admin's."""
    cognito, pool = system.client("cognito-idp"), system.stack.description["userPoolId"]
    user = _make_user(cognito, pool, "1010")
    cognito.admin_add_user_to_group(UserPoolId=pool, Username=user, GroupName=ADMIN)
    tokens = _sign_in(cognito, system.stack.description["clientId"], user)
    assert system.call("GET", "/v1/webhooks", token=tokens["IdToken"]).status == 200
    check_refused(system.call("GET", "/v1/webhooks", token=tokens["AccessToken"]), 403, system)


def test_claims_that_somebody_changed_are_none(account: Account) -> None:
    for changes in (
        {"custom:accountId": "1010"},
        {"cognito:groups": [ADMIN, READER]},
        {"exp": 4_000_000_000},
        {"aud": "other"},
    ):
        token = with_claims(account.token, **changes)
        check_refused(account.system.call("GET", "/v1/webhooks", token=token), 401, account.system)


def test_who_signs_up_by_themselves_gets_no_role_whatever_they_write(account: Account) -> None:
    """Cognito refuses the sign-up, and attributes that no schema has; the emulator does not. So even then."""
    system = account.system
    cognito, client = system.client("cognito-idp"), system.stack.description["clientId"]
    user = f"{uuid.uuid4().hex}@example.com"
    cognito.sign_up(
        ClientId=client,
        Username=user,
        Password=PASSWORD,
        UserAttributes=[
            {"Name": "email", "Value": user},
            {"Name": "custom:accountId", "Value": account.account_id},
            {"Name": "custom:groups", "Value": ADMIN},
            {"Name": "profile", "Value": ADMIN},
        ],
    )
    cognito.confirm_sign_up(ClientId=client, Username=user, ConfirmationCode="000000")
    tokens = _sign_in(cognito, client, user)
    check_refused(system.call("GET", "/v1/webhooks", token=tokens["IdToken"]), 403, system)
    cognito.update_user_attributes(
        AccessToken=tokens["AccessToken"],
        UserAttributes=[
            {"Name": "custom:role", "Value": ADMIN},
            {"Name": "custom:cognito:groups", "Value": ADMIN},
        ],
    )
    again = _sign_in(cognito, client, user)
    check_refused(system.call("GET", "/v1/webhooks", token=again["IdToken"]), 403, system)


def _make_user(cognito: Any, pool: str, account_id: str) -> str:
    user = f"{uuid.uuid4().hex}@example.com"
    cognito.admin_create_user(
        UserPoolId=pool,
        Username=user,
        UserAttributes=[
            {"Name": "email", "Value": user},
            {"Name": "custom:accountId", "Value": account_id},
        ],
        MessageAction="SUPPRESS",
    )
    cognito.admin_set_user_password(UserPoolId=pool, Username=user, Password=PASSWORD, Permanent=True)
    return user


def _sign_in(cognito: Any, client: str, user: str) -> Mapping[str, str]:
    signed_in = cognito.initiate_auth(
        ClientId=client,
        AuthFlow="USER_PASSWORD_AUTH",
        AuthParameters={"USERNAME": user, "PASSWORD": PASSWORD},
    )
    tokens: Mapping[str, str] = signed_in["AuthenticationResult"]
    return tokens


##### An issuer of the deployer's own


@dataclass(frozen=True)
class Federated:
    """A second stack on the same emulator, whose admins have their tokens from `issuer`."""

    system: System
    issuer: Issuer
    api_url: str

    def call(
        self, method: str = "GET", path: str = "/v1/webhooks", *, token: str | None, body: object = None
    ) -> Answer:
        return self.system.call(method, path, token=token, body=body, api_url=self.api_url)


@pytest.fixture(scope="module")
def federated(system: System) -> Iterator[Federated]:
    """Its own names for the claims and the roles, to see that these are parameters."""
    stack = system.stack
    name = "lms-webhooks-federated"
    endpoint = stack.description["endpointUrl"]
    with Issuer() as issuer:
        outputs = deploy.deploy_stack(
            stack.state_dir,
            endpoint,
            stack.state_dir / "build" / "template.yaml",
            trusted_ca_file=Path(stack.description["tls"]["caFile"]),
            stack_name=name,
            parameters={
                "OidcIssuer": issuer.url,
                "OidcAudience": AUDIENCE,
                "AccountClaim": "tenant",
                "RoleClaim": "roles",
                "AdminRole": "hooks-write",
                "ReaderRole": "hooks-read",
            },
        )
        assert "UserPoolId" not in outputs
        yield Federated(system, issuer, deploy.api_url(endpoint, outputs))
        system.client("cloudformation").delete_stack(StackName=name)


GOOD: Mapping[str, Any] = MappingProxyType({"tenant": "1010", "roles": ["staff", "hooks-write"]})


def test_an_admin_of_the_issuer_works_and_a_reader_reads(federated: Federated) -> None:
    admin = federated.issuer.token(**GOOD, email="ada@example.com")
    (body,) = (each.body for each in OPERATIONS if each.name == "POST /v1/webhooks")
    created = federated.call("POST", token=admin, body=body)
    assert created.status == 201, created
    assert created.body["createdBy"] == "ada@example.com"
    path = f"/v1/webhooks/{created.body['webhookId']}"
    reader = federated.issuer.token(tenant="1010", roles="hooks-read")
    assert federated.call("GET", path, token=reader).status == 200
    check_refused(federated.call("DELETE", path, token=reader), 403, federated.system)
    other = federated.issuer.token(tenant="2020", roles=["hooks-write"])
    assert federated.call("GET", path, token=other).status == 404
    assert federated.call("DELETE", path, token=other).status == 404
    assert federated.call("DELETE", path, token=admin).status == 204


def test_the_tokens_of_one_issuer_are_none_for_the_stack_of_another(
    federated: Federated, account: Account
) -> None:
    system = federated.system
    check_refused(federated.call(token=account.token), 401, system)
    token = federated.issuer.token(
        **{"custom:accountId": account.account_id, "cognito:groups": [ADMIN], **GOOD}
    )
    assert federated.call(token=token).status == 200
    check_refused(system.call("GET", "/v1/webhooks", token=token), 401, system)


BAD_TOKENS: dict[str, Callable[[Issuer], str | None]] = {
    "none": lambda _: None,
    "garbage": lambda _: "garbage",
    "three parts of garbage": lambda _: "a.b.c",
    "expired": lambda issuer: issuer.token(**GOOD, exp=int(time.time()) - 60),
    "not yet": lambda issuer: issuer.token(**GOOD, nbf=int(time.time()) + 600),
    "other audience": lambda issuer: issuer.token(**GOOD, aud="other"),
    "no audience": lambda issuer: issuer.token(**GOOD, aud=None),
    "other client": lambda issuer: issuer.token(**GOOD, aud=None, client_id="other"),
    "other issuer": lambda issuer: issuer.token(**GOOD, iss="https://issuer.example.com"),
    "issuer with a slash": lambda issuer: issuer.token(**GOOD, iss=issuer.url + "/"),
    "no issuer": lambda issuer: issuer.token(**GOOD, iss=None),
    "alg none": lambda issuer: issuer.unsigned_token(**GOOD),
    "alg None": lambda issuer: issuer.unsigned_token(**GOOD, algorithm="None"),
    "no signature": lambda issuer: issuer.token(**GOOD).rpartition(".")[0] + ".",
    "two parts": lambda issuer: issuer.token(**GOOD).rpartition(".")[0],
    "signature of another token": lambda issuer: with_claims(issuer.token(**GOOD), tenant="2020"),
    "other key": lambda issuer: issuer.token(**GOOD, key=new_key()),
    "unknown key id": lambda issuer: issuer.token(**GOOD, header={"kid": "other"}),
    "no key id": lambda issuer: issuer.token(**GOOD, header={"kid": None}),
    "key within": lambda issuer: issuer.token(
        **GOOD, key=new_key(), header={"kid": "x", "jwk": {"kty": "RSA"}}
    ),
    "public key as secret": lambda issuer: issuer.token_by_public_key(**GOOD),
}


@pytest.mark.parametrize("kind", BAD_TOKENS)
def test_a_bad_token_is_refused(kind: str, federated: Federated) -> None:
    token = BAD_TOKENS[kind](federated.issuer)
    (body,) = (each.body for each in OPERATIONS if each.name == "POST /v1/webhooks")
    check_refused(federated.call(token=token), 401, federated.system)
    check_refused(federated.call("POST", token=token, body=body), 401, federated.system)


BAD_CLAIMS: dict[str, dict[str, Any]] = {
    "no account": {"tenant": None},
    "empty account": {"tenant": ""},
    "two accounts": {"tenant": ["1010", "2020"]},
    "account in an object": {"tenant": {"id": "1010"}},
    "key as an account": {"tenant": "1010#WEBHOOK"},
    "account of 65 characters": {"tenant": "1" * 65},
    "no roles": {"roles": None},
    "empty roles": {"roles": []},
    "other roles": {"roles": ["staff"]},
    "a part of the role": {"roles": ["hooks"]},
    "the role and more": {"roles": ["hooks-writer"]},
    "other case": {"roles": ["Hooks-Write"]},
    "comma in a name": {"roles": ["staff,hooks-write"]},
    "text with a comma": {"roles": "staff,hooks-write"},
    "quotes in a name": {"roles": ['"hooks-write"']},
    "brackets in a name": {"roles": ["[hooks-write]"]},
    "roles in an object": {"roles": {"hooks-write": True}},
    "role in another claim": {"roles": None, "cognito:groups": ["hooks-write"], "scope": "hooks-write"},
}


@pytest.mark.parametrize("kind", BAD_CLAIMS)
def test_a_good_token_that_names_no_account_or_no_role_is_refused(kind: str, federated: Federated) -> None:
    token = federated.issuer.token(**{**GOOD, **BAD_CLAIMS[kind]})
    check_refused(federated.call(token=token), 403, federated.system)
