"""Secrets come back for their own webhook only, and KMS is asked once for each."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from lms_webhooks.aws import kms as secrets
from lms_webhooks.aws.kms import SecretCipher
from lms_webhooks.clocks import Clocks

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

OWNER = {"account_id": "1010", "webhook_id": "wh_1"}


@pytest.fixture
def kms() -> "Iterator[KMSClient]":
    with mock_aws():
        yield boto3.client("kms", region_name="us-east-1")


@pytest.fixture
def box(kms: "KMSClient") -> SecretCipher:
    return SecretCipher(kms, kms.create_key()["KeyMetadata"]["KeyId"])


@pytest.fixture
def decryptions(kms: "KMSClient") -> list[Any]:
    """What KMS was asked to decrypt."""
    asked: list[Any] = []
    kms.meta.events.register("before-call.kms.Decrypt", lambda params, **_: asked.append(params["body"]))
    return asked


def test_a_secret_comes_back(box: SecretCipher) -> None:
    ciphertext = box.encrypt("pässwörd", **OWNER)
    assert "pässwörd".encode() not in ciphertext
    assert box.decrypt(ciphertext, **OWNER) == "pässwörd"


@pytest.mark.parametrize("other", [{"account_id": "2020"}, {"webhook_id": "wh_2"}])
def test_a_ciphertext_copied_to_another_webhook_decrypts_to_nothing(
    box: SecretCipher, other: dict[str, str]
) -> None:
    ciphertext = box.encrypt("secret", **OWNER)
    assert box.decrypt(ciphertext, **OWNER) == "secret"
    with pytest.raises(ClientError, match="InvalidCiphertext"):
        box.decrypt(ciphertext, **{**OWNER, **other})


def test_the_key_is_named_when_a_secret_is_decrypted_too(
    kms: "KMSClient", box: SecretCipher, decryptions: list[Any]
) -> None:
    """KMS would find the key by the ciphertext: one that was made under another key, of another account even,
    would decrypt."""
    ciphertext = box.encrypt("secret", **OWNER)
    assert box.decrypt(ciphertext, **OWNER) == "secret"
    (asked,) = decryptions
    assert json.loads(asked)["KeyId"] == box._key_id
    other = SecretCipher(kms, kms.create_key()["KeyMetadata"]["KeyId"])
    other.encrypt("made", **OWNER)
    with pytest.raises(ClientError):
        other.decrypt(ciphertext, **OWNER)


def test_kms_is_asked_once_however_many_deliveries(box: SecretCipher, decryptions: list[Any]) -> None:
    ciphertext = box.encrypt("secret", **OWNER)
    assert {box.decrypt(ciphertext, **OWNER) for _ in range(50)} == {"secret"}
    assert len(decryptions) == 1
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: box.decrypt(ciphertext, **OWNER), range(50))) == {"secret"}
    assert len(decryptions) == 1


def test_a_refusal_is_not_remembered(box: SecretCipher, decryptions: list[Any]) -> None:
    ciphertext = box.encrypt("secret", **OWNER)
    for _ in range(2):
        with pytest.raises(ClientError):
            box.decrypt(ciphertext, account_id="2020", webhook_id="wh_1")
    assert len(decryptions) == 2


def test_memory_is_bounded(kms: "KMSClient", decryptions: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "REMEMBERED_SECRETS", 2)
    box = SecretCipher(kms, kms.create_key()["KeyMetadata"]["KeyId"])
    first, *others = (box.encrypt(f"secret {number}", **OWNER) for number in range(3))
    for ciphertext in (first, *others, first):
        box.decrypt(ciphertext, **OWNER)
    assert len(decryptions) == 4


def test_a_plaintext_is_remembered_for_an_hour(kms: "KMSClient", decryptions: list[Any]) -> None:
    """Then KMS is asked again: whether the key is still enabled, and whether the function may use it."""
    now = [0.0]
    clocks = Clocks(wall=lambda: now[0], monotonic=lambda: 0.0)  # frozen meanwhile
    box = SecretCipher(kms, kms.create_key()["KeyMetadata"]["KeyId"], clocks=clocks)
    ciphertext = box.encrypt("secret", **OWNER)
    for seconds, asked in ((0, 1), (3599, 1), (3600, 2), (7199, 2), (7200, 3)):
        now[0] = seconds
        assert box.decrypt(ciphertext, **OWNER) == "secret"
        assert len(decryptions) == asked, seconds
