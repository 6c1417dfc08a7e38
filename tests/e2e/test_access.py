"""Nobody calls the admin API who may not, by the stack's pool or by the deployer's own issuer. No webhook
of a stack that is not this machine's points to this machine.

Every refusal says that it is one, and nothing else.
"""

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import yaml

from lms_webhooks.aws.dynamodb import Table
from lms_webhooks.model.webhooks import NoAuthentication, Status, Webhook
from lms_webhooks.stores.health import HealthStore
from lms_webhooks.stores.webhooks import WebhookStore, new_webhook_id
from lms_webhooks.timestamps import format_time, utc_now
from local import deploy
from local.emit import make_event
from local.stack import Stack
from tests.e2e import leaks
from tests.e2e.system import ADMIN, READER, Account, Answer, System, until
from tests.fakes.issuer import AUDIENCE, Issuer, new_key, with_claims
from tests.fakes.receiver import Receiver
from tests.operations import Operation, operations
from tests.unit.hostile_targets import HOSTILE_URLS, METADATA

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
    """With a token and without, with a preflight and without: no response has a header that allows
    it."""
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
    """A second stack on the same emulator, whose admins have their tokens from `issuer`.

    It allows no targets on this machine, as no stack of a deployer does.
    """

    system: System
    issuer: Issuer
    api_url: str
    outputs: Mapping[str, str]

    def call(
        self, method: str = "GET", path: str = "/v1/webhooks", *, token: str | None, body: object = None
    ) -> Answer:
        return self.system.call(method, path, token=token, body=body, api_url=self.api_url)


def without_what_the_emulator_lacks(built_template: Path) -> Path:
    """The built template for another stage than `local`, which is what leaves these out."""
    template = yaml.safe_load(built_template.read_text())
    for part in ("Resources", "Outputs"):
        template[part] = {
            name: each for name, each in template[part].items() if each.get("Condition") != "IsOnAws"
        }
    deployed = built_template.with_name("federated.yaml")
    deployed.write_text(yaml.safe_dump(template, sort_keys=False))
    return deployed


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
            without_what_the_emulator_lacks(stack.state_dir / "build" / "template.yaml"),
            trusted_ca_file=Path(stack.description["tls"]["caFile"]),
            stack_name=name,
            parameters={
                "OidcIssuer": issuer.url,
                "OidcAudience": AUDIENCE,
                "AccountClaim": "tenant",
                "RoleClaim": "roles",
                "AdminRole": "hooks-write",
                "ReaderRole": "hooks-read",
                "Stage": "dev",
                "DrainerMaximumConcurrency": "4",  # as for the others: each is a process
            },
        )
        assert "UserPoolId" not in outputs
        yield Federated(system, issuer, deploy.api_url(endpoint, outputs), outputs)
        # Its tables, queues and logs go with it.
        tables = {name: outputs[name] for name in ("WebhooksTableName", "DeliveriesTableName")}
        own = Stack(stack.state_dir, {**stack.description, "tables": tables})
        queues = [outputs[name] for name in outputs if name.endswith("QueueUrl")]
        found = [
            *system.secrets.found_in(leaks.in_tables(own)),
            *system.secrets.found_in(leaks.in_queues(own, *queues)),
            *system.secrets.found_in(leaks.in_logs(own), logs=True),
        ]
        assert not found, "\n".join(found)
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


##### Where webhooks of that stack may point

REFUSED = "calls and sends with hostile targets, on a stack without the switch for loopback"


@pytest.fixture
def on_this_machine(receiver: Receiver, tls_receiver: Receiver) -> list[str]:
    """URLs at which somebody listens here. The stack of the other tests sends to the first of them."""
    plain, tls = receiver.url().rpartition(":")[2], tls_receiver.url().rpartition(":")[2]
    return [
        f"http://127.0.0.1:{plain}",
        *(
            f"https://{host}:{tls}"
            for host in ("127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.0.0.1", "[::ffff:127.0.0.1]")
        ),
    ]


def test_a_hostile_target_is_refused_at_every_call(
    federated: Federated,
    on_this_machine: list[str],
    receiver: Receiver,
    tls_receiver: Receiver,
    record_property: Callable[[str, object], None],
) -> None:
    admin = federated.issuer.token(**GOOD)
    (good,) = (each.body for each in OPERATIONS if each.name == "POST /v1/webhooks")
    assert good is not None
    saved = federated.call("POST", token=admin, body=good)
    path = f"/v1/webhooks/{saved.body['webhookId']}"
    calls = {
        "POST /v1/webhooks": ("/v1/webhooks", good),
        "PATCH /v1/webhooks/{webhookId}": (path, {}),
        "POST /v1/webhooks/test": ("/v1/webhooks/test", good),
    }
    tried = [(url, call) for url in on_this_machine for call in calls]
    # Of the table, each once: that all calls have the same rule is a unit test's.
    tried += zip((url for url, _ in HOSTILE_URLS), cycle(calls), strict=False)
    try:
        for url, name in tried:
            called, body = calls[name]
            answer = federated.call(
                name.partition(" ")[0], called, token=admin, body={**body, "targetUrl": url}
            )
            if "\ud800" in url:
                assert answer.status == 400, answer  # a lone surrogate is no JSON text
            else:
                assert answer.status == 422, (url, name, answer)
                assert [each["pointer"] for each in answer.body["errors"]] == ["/targetUrl"], (url, answer)
        record_property(REFUSED, len(tried))
        assert federated.call("GET", path, token=admin).body["targetUrl"] == good["targetUrl"]
    finally:
        federated.call("DELETE", path, token=admin)
    assert (receiver.connections, tls_receiver.connections) == (0, 0)


def test_a_hostile_target_that_got_into_the_table_is_sent_nothing(
    federated: Federated,
    on_this_machine: list[str],
    receiver: Receiver,
    tls_receiver: Receiver,
    record_property: Callable[[str, object], None],
) -> None:
    """By the dispatcher at once, and by the drainer after it."""
    system = federated.system
    table = Table(system.client("dynamodb"), federated.outputs["WebhooksTableName"])
    store, health = WebhookStore(table.client, table.name), HealthStore(table)
    began_ms = int(time.time() * 1000)
    # A drainer is started for each, so few: the unit test has the sender refuse the whole table.
    urls = [*on_this_machine, f"http://{METADATA}/", f"https://{METADATA}/", "https://[::1]/"]
    webhooks = {}
    for index, url in enumerate(urls):
        now = format_time(utc_now())
        webhook = Webhook(
            account_id=str(8_000_000_000 + index // 5),  # an account has five
            webhook_id=new_webhook_id(),
            name="hostile",
            target_url=url,
            authentication=NoAuthentication(),
            events=frozenset({"COURSE_ENROLLMENT"}),
            status=Status.ACTIVE,
            created_at=now,
            updated_at=now,
            created_by="test",
            updated_by="test",
        )
        store.create(webhook)
        webhooks[webhook.webhook_id] = webhook
    for account_id in sorted({each.account_id for each in webhooks.values()}):
        put = system.client("events").put_events(
            Entries=[
                {
                    "EventBusName": federated.outputs["EventBusName"],
                    "Source": federated.outputs["EventSource"],
                    "DetailType": "COURSE_ENROLLMENT",
                    "Detail": json.dumps(make_event("COURSE_ENROLLMENT", account_id)),
                }
            ]
        )
        assert put["FailedEntryCount"] == 0, put

    def drained() -> bool:
        read = [health.read(each.account_id, each.webhook_id) for each in webhooks.values()]
        return all(each is not None and each.failures > 1 for each in read)

    def logged() -> list[dict[str, Any]]:
        lines = [
            json.loads(each) for each in system.stack.log_lines(since_ms=began_ms) if '"attempt"' in each
        ]
        found = [line for line in lines if line.get("webhookId") in webhooks]
        is_whole = len({(line["kind"], line["webhookId"]) for line in found}) == 2 * len(webhooks)
        return found if is_whole else []

    until(drained, "the drainer to try every webhook after the dispatcher")
    attempts = until(logged, "attempts of both at every webhook")
    for webhook in webhooks.values():  # or they would be tried for days
        store.delete(webhook.account_id, webhook.webhook_id, deleted_at=utc_now(), deleted_by="test")
    assert {each["kind"] for each in attempts} == {"direct", "backlog"}
    assert {each["errorClass"] for each in attempts} == {"forbidden-address"}
    assert (receiver.connections, tls_receiver.connections) == (0, 0)
    record_property(REFUSED, len(attempts))
