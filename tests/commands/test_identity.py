"""Whatever stands between a deployer and AWS is said in one sentence, with the next step."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from botocore.exceptions import (
    ClientError,
    CredentialRetrievalError,
    EndpointConnectionError,
    ReadTimeoutError,
    SSOTokenLoadError,
    UnauthorizedSSOTokenError,
)

from operations.identity import NotSignedIn, explain, sign_in

GOOD = """<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>
<Arn>arn:aws-us-gov:iam::123456789012:user/ada</Arn><UserId>AIDA</UserId><Account>123456789012</Account>
</GetCallerIdentityResult></GetCallerIdentityResponse>"""
ERROR = """<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>
<Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"""


@contextmanager
def sts(status: int, body: str) -> Iterator[str]:
    """A token service that says one thing; gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A machine without any configuration of AWS."""
    for name in (
        "PROFILE",
        "REGION",
        "DEFAULT_REGION",
        "ACCESS_KEY_ID",
        "SECRET_ACCESS_KEY",
        "SESSION_TOKEN",
    ):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{port}")
    return monkeypatch


@pytest.fixture
def keys(bare: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Credentials that only AWS can judge."""
    bare.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    bare.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    return bare


def refusal() -> str:
    with pytest.raises(NotSignedIn) as refused:
        sign_in()
    return str(refused.value)


def test_without_credentials_one_is_told_to_sign_in() -> None:
    assert refusal() == (
        "There are no AWS credentials here: sign in (`aws login`, `aws sso login`), or set AWS_PROFILE."
    )


def test_without_a_region_one_is_told_to_choose_it(keys: pytest.MonkeyPatch) -> None:
    assert refusal().startswith("No AWS region is chosen: set AWS_DEFAULT_REGION")
    keys.setenv("AWS_DEFAULT_REGION", "Frankfurt am Main")
    assert "AWS configuration is wrong" in refusal()


def test_a_profile_that_is_none_is_named(bare: pytest.MonkeyPatch) -> None:
    bare.setenv("AWS_PROFILE", "wrok")
    assert "profile (wrok) could not be found" in refusal()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("ExpiredToken", "The AWS session has expired: sign in"),
        ("RequestExpired", "The AWS session has expired: sign in"),
        (
            "InvalidClientTokenId",
            "AWS does not accept these credentials (InvalidClientTokenId): `aws configure",
        ),
        ("SignatureDoesNotMatch", "AWS does not accept these credentials"),
        ("AccessDenied", "You may not call GetCallerIdentity: no; ask for the permission."),
        ("RegionDisabledException", "AWS refused GetCallerIdentity: no."),
    ],
)
def test_what_aws_says_of_credentials_is_said_in_a_sentence(
    code: str, said: str, keys: pytest.MonkeyPatch
) -> None:
    keys.setenv("AWS_REGION", "us-gov-west-1")  # CI sets it
    with sts(403, ERROR.format(code=code, message="no.")) as url:
        keys.setenv("AWS_ENDPOINT_URL_STS", url)
        assert refusal().startswith(said)


def test_an_aws_that_cannot_be_reached_is_told_from_one_that_refuses(keys: pytest.MonkeyPatch) -> None:
    keys.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with sts(200, "") as url:
        pass  # closed by now
    keys.setenv("AWS_ENDPOINT_URL_STS", url)
    assert refusal().startswith("AWS cannot be reached: Could not connect to the endpoint URL")
    keys.setenv("AWS_ENDPOINT_URL_STS", "nowhere")
    assert refusal().startswith("AWS could not be called: Invalid endpoint: nowhere")


@pytest.mark.parametrize(
    "body", ["", "<!DOCTYPE html><p>Sign in<br>here", "<html><body>Sign in</body></html>"]
)
def test_a_portal_that_responds_in_the_place_of_aws_is_told(body: str, keys: pytest.MonkeyPatch) -> None:
    keys.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with sts(200, body) as url:
        keys.setenv("AWS_ENDPOINT_URL_STS", url)
        assert refusal().startswith("AWS cannot be reached: something else responds in its place")


def test_a_credential_process_that_is_not_there_is_named(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bare.setenv("AWS_DEFAULT_REGION", "us-east-1")
    (tmp_path / "config").write_text("[default]\ncredential_process = /nowhere/keys --json\n")
    said = refusal()
    assert said.startswith("The AWS configuration is wrong: ")
    assert "No such file or directory: '/nowhere/keys'" in said


def test_a_token_file_that_is_not_there_is_named(bare: pytest.MonkeyPatch) -> None:
    bare.setenv("AWS_DEFAULT_REGION", "us-east-1")
    bare.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/deployer")
    bare.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/nowhere/token")
    said = refusal()
    assert said.startswith("The AWS configuration is wrong: ")
    assert "No such file or directory: '/nowhere/token'" in said


def test_signed_in_one_knows_where_one_is(keys: pytest.MonkeyPatch) -> None:
    keys.setenv("AWS_DEFAULT_REGION", "us-gov-west-1")
    with sts(200, GOOD) as url:
        keys.setenv("AWS_ENDPOINT_URL_STS", url)
        signed_in = sign_in()
        assert sign_in(region="us-gov-east-1").region == "us-gov-east-1"  # as samconfig.toml may have it
    assert (signed_in.account, signed_in.region) == ("123456789012", "us-gov-west-1")
    assert (signed_in.arn, signed_in.partition) == ("arn:aws-us-gov:iam::123456789012:user/ada", "aws-us-gov")
    assert signed_in.client("lambda").meta.region_name == "us-gov-west-1"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (SSOTokenLoadError(error_msg="Token has expired"), "The AWS sign-in does not hold any more"),
        (UnauthorizedSSOTokenError(), "The AWS sign-in does not hold any more"),
        (CredentialRetrievalError(provider="process", error_msg="exit 1"), "The AWS sign-in does not hold"),
        (EndpointConnectionError(endpoint_url="https://x"), "AWS cannot be reached"),
        (ReadTimeoutError(endpoint_url="https://x"), "AWS cannot be reached"),
        (ClientError({"Error": {"Code": "Throttling"}}, "DescribeStacks"), "AWS refused DescribeStacks"),
    ],
)
def test_each_error_has_its_sentence(error: Exception, said: str) -> None:
    sentence = explain(error)
    assert sentence.startswith(said)
    assert sentence.endswith(".")
    assert "\n" not in sentence
