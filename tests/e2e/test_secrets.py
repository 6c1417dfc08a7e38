"""A secret is good for its own webhook alone, and stands nowhere in the clear.

The second is proved at the end of the run, over all that every test did: see `leaks`, the fixture `system`.
Here secrets of each kind go every way that there is, and the search is seen to find what it looks for.
"""

import base64
import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.e2e import leaks
from tests.e2e.system import Account, System, until
from tests.fakes.receiver import Receiver, answer, gone


def marker(kind: str) -> str:
    return f"{kind}-{uuid.uuid4().hex}"


@pytest.fixture
def notices(system: System) -> Callable[[], list[dict[str, Any]]]:
    """What the stack tells while the test runs."""
    sqs = system.client("sqs")
    url = system.listen_to(system.notice_topic)

    def told() -> list[dict[str, Any]]:
        answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0)
        return [json.loads(json.loads(message["Body"])["Message"]) for message in answer.get("Messages", [])]

    return told


def test_secrets_go_every_way_and_the_search_would_find_them(
    account: Account, receiver: Receiver, notices: Callable[[], list[dict[str, Any]]]
) -> None:
    """Sent, rejected, refused, tried, rotated, repeated under a key, disabled and notified."""
    system = account.system
    password, header, answered, learner = (marker(kind) for kind in ("pass", "header", "answer", "learner"))
    system.secrets.add(header, "a header's value", only_in_logs=True)
    system.secrets.add(answered, "a receiver's answer")
    system.secrets.add(learner, "who an event is about", only_in_logs=True)
    scripts = {"/rejected": answer(422, body=answered.encode()), "/gone": gone()}
    receiver.script = lambda request: scripts.get(request.path, answer())
    basic = {"type": "basic", "username": "ada", "password": password}
    created = [
        account.create(receiver.url(path), authentication=authentication, headers={"X-Api-Key": header})[
            "webhookId"
        ]
        for path, authentication in (
            ("/good", basic),
            ("/rejected", basic),
            ("/gone", {"type": "signature"}),
            ("/signed", {"type": "signature"}),
        )
    ]
    good, _, off, signed = created
    account.emit(data={"userId": learner})
    until(
        lambda: {"/good", "/rejected", "/gone", "/signed"} <= {each.path for each in receiver.requests},
        "POSTs",
    )
    sent = next(request for request in receiver.requests if request.path == "/good").headers
    assert sent["authorization"] == "Basic " + base64.b64encode(f"ada:{password}".encode()).decode()
    key = {"idempotency-key": uuid.uuid4().hex}
    rotated = [
        system.call("POST", f"/v1/webhooks/{signed}/signature", token=account.token, headers=key)
        for _ in range(2)
    ]
    assert rotated[0].text == rotated[1].text
    for webhook_id in (good, signed):
        assert account.call("POST", f"/v1/webhooks/{webhook_id}/test", {}).body["delivered"]
    twice = account.webhook(receiver.url(), authentication=basic | {"password": [password]})
    assert account.call("POST", "/v1/webhooks", twice).status == 422
    path = f"/v1/webhooks/{off}"
    until(lambda: account.call("GET", path).body["health"].get("disabled"), "the 410 to switch it off")
    system.sweep()
    until(lambda: any(each["webhookId"] == off for each in notices()), "the notice that it is off")
    # Each place is really looked at:
    assert any(learner.encode() in text for _, text in leaks.in_tables(system.stack))
    (functions, _) = leaks.in_logs(system.stack)
    assert good.encode() in functions[1]
    assert b'"audit"' in functions[1]


@pytest.mark.parametrize("whose", ["another webhook's", "another account's"])
def test_a_secret_that_was_moved_opens_nothing(
    whose: str, account: Account, new_account: Callable[[], Account], receiver: Receiver
) -> None:
    """Somebody who can write the table, but not use the key, puts one webhook's secret into another."""
    system = account.system
    basic = {"type": "basic", "username": "ada", "password": marker("pass")}
    own = basic | {"password": marker("own")}
    owner = account if whose == "another webhook's" else new_account()
    theirs = owner.create(receiver.url("/theirs"), authentication=basic)["webhookId"]
    mine = account.create(receiver.url("/mine"), authentication=own)["webhookId"]
    dynamodb, table = system.client("dynamodb"), system.stack.description["tables"]["webhooks"]
    key = {"pk": {"S": f"ACCOUNT#{owner.account_id}"}, "sk": {"S": f"WEBHOOK#{theirs}"}}
    item = dynamodb.get_item(TableName=table, Key=key)["Item"]
    ciphertext = item["authentication"]["M"]["password_ciphertext"]["B"]
    dynamodb.update_item(
        TableName=table,
        Key={"pk": {"S": f"ACCOUNT#{account.account_id}"}, "sk": {"S": f"WEBHOOK#{mine}"}},
        UpdateExpression="SET authentication.password_ciphertext = :moved",
        ExpressionAttributeValues={":moved": {"B": ciphertext}},
    )
    tried = account.call("POST", f"/v1/webhooks/{mine}/test", {})
    assert (tried.status, tried.body["type"]) == (500, "urn:lms-webhooks:problem:internal-error")
    assert receiver.requests_to("/mine") == []
    kms = system.client("kms")
    right = {"accountId": owner.account_id, "webhookId": theirs}
    opened = kms.decrypt(CiphertextBlob=ciphertext, EncryptionContext=right)["Plaintext"].decode()
    assert opened == basic["password"]
    for wrong in (
        right | {"webhookId": mine},
        right | {"accountId": "1"},
        {"accountId": owner.account_id},
        {},
    ):
        with pytest.raises(ClientError, match="InvalidCiphertext"):
            kms.decrypt(CiphertextBlob=ciphertext, EncryptionContext=wrong)
