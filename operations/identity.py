"""Know as whom, in which AWS account and in which region a command works, or say in one sentence why not.

NotSignedIn (an Exception: its text is that sentence, with the next step)
"""

import os
import socket
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import botocore.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004  # botocore's own
    CredentialRetrievalError,
    HTTPClientError,
    InvalidRegionError,
    LoginError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)
from botocore.parsers import ResponseParserError

# A portal or proxy may respond to a call in the place of AWS, which botocore cannot parse then.
AWS_ERRORS = (BotoCoreError, ClientError, ResponseParserError)
DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired"}
_UNKNOWN_KEY = {
    "InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId", "SignatureDoesNotMatch",
    "IncompleteSignature", "AuthFailure",
}  # fmt: skip

_SIGN_IN = "sign in (`aws login`, `aws sso login`)"

# Of an EC2 instance: it responds within milliseconds. Elsewhere botocore waits twice for a second.
_METADATA_ADDRESS = "http://169.254.169.254"
METADATA_SECONDS = 0.3
_METADATA_PROVIDER = "iam-role"  # botocore's name for it
_PATIENCE = Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "max_attempts": 3})


class NotSignedIn(Exception):
    """No call of AWS can be made."""


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A session that AWS has accepted."""

    session: botocore.session.Session
    account: str
    arn: str
    region: str

    def client(self, service: str) -> Any:
        """A client of the service that is named, with bounded patience."""
        return self.session.create_client(service, region_name=self.region, config=_PATIENCE)

    @property
    def partition(self) -> str:
        """The part of AWS: `aws`, `aws-cn` or `aws-us-gov`."""
        return self.arn.split(":")[1]


def sign_in(*, region: str = "", profile: str = "") -> SignedIn:
    """Ask AWS as whom we call; an empty region or profile leaves it to the AWS configuration.

    Raises:
        NotSignedIn: no credentials, no region, or AWS refuses or cannot be reached.
    """
    try:
        session = _session(profile)
        if session.get_credentials() is None:
            raise NoCredentialsError
        # CI sets AWS_REGION, which botocore does not read.
        region = region or session.get_config_variable("region") or os.environ.get("AWS_REGION", "")
        if not region:
            raise NoRegionError
        sts: Any = session.create_client("sts", region_name=region, config=_PATIENCE)
        caller = _ask_who_calls(sts)
    # ValueError: an endpoint that is no URL. OSError: a credential process or token file that is missing.
    except (*AWS_ERRORS, ValueError, OSError) as error:
        raise NotSignedIn(explain(error)) from error
    return SignedIn(session, caller["Account"], caller["Arn"], region)


def _ask_who_calls(sts: Any) -> dict[str, str]:
    try:
        caller: dict[str, str] = sts.get_caller_identity()
    except KeyError as error:  # botocore's parser raises it for well-formed markup of another sort
        raise ResponseParserError from error
    return caller


def _session(profile: str) -> botocore.session.Session:
    # botocore's own: boto3 takes 0.2 s more to import, which is felt where there are no credentials.
    session = botocore.session.Session(profile=profile or None)
    session.get_component("credential_provider").remove(_METADATA_PROVIDER)
    if session.get_credentials() is None and _is_on_an_instance():
        session = botocore.session.Session(profile=profile or None)
    return session


def _is_on_an_instance() -> bool:
    address = urlsplit(os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or _METADATA_ADDRESS)
    try:
        with socket.create_connection((address.hostname, address.port or 80), timeout=METADATA_SECONDS):
            return True
    except OSError:
        return False


def explain(error: Exception) -> str:  # noqa: PLR0911  # one sentence each
    """Return one sentence about what AWS, or the way to it, refused, with the next step."""
    match error:
        case NoCredentialsError():
            return f"There are no AWS credentials here: {_SIGN_IN}, or set AWS_PROFILE."
        case NoRegionError():
            return "No AWS region is chosen: set AWS_DEFAULT_REGION, as in AWS_DEFAULT_REGION=eu-central-1."
        case ProfileNotFound() | PartialCredentialsError() | InvalidRegionError():
            return (
                f"The AWS configuration is wrong: {_stated(error)}; `aws configure list` shows what is read."
            )
        case SSOError() | LoginError() | TokenRetrievalError() | CredentialRetrievalError():
            return f"The AWS sign-in does not hold any more ({_stated(error)}): {_SIGN_IN}."
        case ConnectionError() | HTTPClientError():
            return f"AWS cannot be reached: {_stated(error)}; check the network, the proxy and the region."
        case OSError():  # botocore's errors of the network are some too
            return (
                f"The AWS configuration is wrong: {_stated(error)}; `aws configure list` shows what is read."
            )
        case ResponseParserError():
            return (
                "AWS cannot be reached: something else responds in its place;"
                " check the network and the proxy."
            )
        case ClientError():
            return _refusal(error)
        case _:
            return f"AWS could not be called: {_stated(error)}."


def _refusal(error: ClientError) -> str:
    code = error.response.get("Error", {}).get("Code", "")
    if code in _EXPIRED:
        return f"The AWS session has expired: {_SIGN_IN}."
    if code in _UNKNOWN_KEY:
        return f"AWS does not accept these credentials ({code}): `aws configure list` shows which are read."
    if code in DENIED:
        return f"You may not call {error.operation_name}: {_stated(error)}; ask for the permission."
    return f"AWS refused {error.operation_name}: {_stated(error)}."


def _stated(error: Exception) -> str:
    """What an error says, in one line, without what botocore puts before it."""
    text = (
        str(error.response["Error"].get("Message") or error) if isinstance(error, ClientError) else str(error)
    )
    return " ".join(text.split()).rstrip(".")
