"""Nobody gives themselves another account or role: by every call of Cognito that needs no IAM credentials.

Each is called without a signature. Its reader says, wherever the call takes it, that they are an admin of
another account. Then they sign in again. The emulator lets two of them through and does
not know some: AWS refuses what these ask for if the pool is as a contract test says, which is run with them.
"""

import base64
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import boto3
import botocore.session
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from local.deploy import REGION
from tests.contract import test_template
from tests.e2e.system import ADMIN, PASSWORD, READER, System

ACCOUNT, OTHER_ACCOUNT = "1010", "2020"
OTHERS = {"custom:accountId": OTHER_ACCOUNT, "cognito:groups": ADMIN}
ATTRIBUTES = [{"Name": name, "Value": value} for name, value in OTHERS.items()]


class Outcome(Enum):
    """What came of a call."""

    REFUSED = "an error"
    UNCHANGED = "an answer, and the same claims at the next sign-in"
    GONE = "an answer, and no sign-in any more"
    CHANGED = "an answer, and other claims at the next sign-in: by the emulator alone"
    UNKNOWN = "the emulator does not know the call"


CALLS = {
    "AssociateSoftwareToken": Outcome.UNCHANGED,
    "ChangePassword": Outcome.UNCHANGED,
    "CompleteWebAuthnRegistration": Outcome.UNKNOWN,
    "ConfirmDevice": Outcome.UNKNOWN,
    "ConfirmForgotPassword": Outcome.UNCHANGED,
    "ConfirmSignUp": Outcome.UNCHANGED,
    "DeleteUser": Outcome.GONE,
    "DeleteUserAttributes": Outcome.UNKNOWN,
    "DeleteWebAuthnCredential": Outcome.UNKNOWN,
    "ForgetDevice": Outcome.UNKNOWN,
    "ForgotPassword": Outcome.UNCHANGED,
    "GetDevice": Outcome.UNKNOWN,
    "GetTokensFromRefreshToken": Outcome.UNCHANGED,
    "GetUser": Outcome.UNCHANGED,
    "GetUserAttributeVerificationCode": Outcome.UNKNOWN,
    "GetUserAuthFactors": Outcome.UNKNOWN,
    "GlobalSignOut": Outcome.UNCHANGED,
    "InitiateAuth": Outcome.UNCHANGED,
    "ListDevices": Outcome.UNKNOWN,
    "ListWebAuthnCredentials": Outcome.UNKNOWN,
    "ResendConfirmationCode": Outcome.UNCHANGED,
    "RespondToAuthChallenge": Outcome.UNCHANGED,
    "RevokeToken": Outcome.UNCHANGED,
    "SetUserMFAPreference": Outcome.UNCHANGED,
    "SetUserSettings": Outcome.UNKNOWN,
    "SignUp": Outcome.CHANGED,
    "StartWebAuthnRegistration": Outcome.UNKNOWN,
    "UpdateAuthEventFeedback": Outcome.REFUSED,
    "UpdateDeviceStatus": Outcome.UNKNOWN,
    "UpdateUserAttributes": Outcome.CHANGED,
    "VerifySoftwareToken": Outcome.REFUSED,
    "VerifyUserAttribute": Outcome.UNKNOWN,
}


@dataclass(frozen=True)
class User:
    """Somebody who signed in."""

    name: str
    access_token: str
    refresh_token: str


def values(user: User, system: System) -> dict[str, Any]:
    """What to say, by the name of the parameter."""
    enabled = {"Enabled": False}
    return {
        "AccessToken": user.access_token,
        "AttributeName": "custom:accountId",
        "AuthFlow": "USER_PASSWORD_AUTH",
        "AuthParameters": {"USERNAME": user.name, "PASSWORD": PASSWORD, **OTHERS},
        "ChallengeName": "NEW_PASSWORD_REQUIRED",
        "ChallengeResponses": {
            "USERNAME": user.name,
            "NEW_PASSWORD": PASSWORD,
            **OTHERS,
            **{f"userAttributes.{name}": value for name, value in OTHERS.items()},
        },
        "ClientId": system.stack.description["clientId"],
        "ClientMetadata": OTHERS,
        "Code": "000000",
        "ConfirmationCode": "000000",
        "Credential": OTHERS,
        "CredentialId": "none",
        "DeviceKey": "none",
        "DeviceName": ADMIN,
        "DeviceRememberedStatus": "remembered",
        "DeviceSecretVerifierConfig": {"PasswordVerifier": "bm9uZQ==", "Salt": "bm9uZQ=="},
        "EmailMfaSettings": enabled,
        "EventId": "none",
        "FeedbackToken": "none",
        "FeedbackValue": "Valid",
        "ForceAliasCreation": True,
        "MFAOptions": [{"DeliveryMedium": "SMS", "AttributeName": "custom:accountId"}],
        "Password": PASSWORD,
        "PreviousPassword": PASSWORD,
        "ProposedPassword": PASSWORD,
        "RefreshToken": user.refresh_token,
        "SMSMfaSettings": enabled,
        "SoftwareTokenMfaSettings": enabled,
        "Token": user.refresh_token,
        "UserAttributeNames": list(OTHERS),
        "UserAttributes": ATTRIBUTES,
        "UserCode": "000000",
        "UserPoolId": system.stack.description["userPoolId"],
        "Username": user.name,
        "ValidationData": ATTRIBUTES,
        "WebAuthnMfaSettings": {},
    }


SAY_NOTHING = {
    *("AnalyticsMetadata", "UserContextData", "ClientSecret", "SecretHash", "FriendlyDeviceName"),
    *("Limit", "MaxResults", "NextToken", "PaginationToken", "Session"),
}
MODEL = botocore.session.get_session().get_service_model("cognito-idp")


def parameters(action: str) -> set[str]:
    """The names of an action's parameters."""
    shape = MODEL.operation_model(action).input_shape
    return set(shape.members) if shape is not None else set()


def test_every_call_that_needs_no_iam_credentials_is_tried() -> None:
    """By the model of the AWS SDK: whatever takes the token of a user or nothing at all."""
    unsigned = {name for name in MODEL.operation_names if MODEL.operation_model(name).auth_type == "none"}
    by_token = {name for name in MODEL.operation_names if "AccessToken" in parameters(name)}
    assert CALLS.keys() == unsigned | by_token
    assert not [name for name in CALLS if name.startswith("Admin")]


def sign_in(cognito: Any, system: System, name: str) -> dict[str, Any]:
    answer: dict[str, Any] = cognito.initiate_auth(
        ClientId=system.stack.description["clientId"],
        AuthFlow="USER_PASSWORD_AUTH",
        AuthParameters={"USERNAME": name, "PASSWORD": PASSWORD},
    )
    return answer


def claims(answer: Mapping[str, Any]) -> tuple[str | None, list[str]]:
    """The account and the roles that the ID token in a response names."""
    part = answer["AuthenticationResult"]["IdToken"].split(".")[1]
    told = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return told.get("custom:accountId"), told.get("cognito:groups", [])


def outcome_of(cognito: Any, action: str, system: System) -> Outcome:
    """Make a reader, and have them call."""
    name = system.new_user(ACCOUNT, READER)
    tokens = sign_in(cognito, system, name)["AuthenticationResult"]
    said = values(User(name, tokens["AccessToken"], tokens["RefreshToken"]), system)
    taken = parameters(action)
    assert taken <= said.keys() | SAY_NOTHING, action
    request = {each: said[each] for each in taken - SAY_NOTHING}
    before: tuple[str | None, list[str]] = (ACCOUNT, [READER])
    if action == "SignUp":
        request["Username"] = name = f"{uuid.uuid4().hex}@example.com"
        before = (None, [])
    elif action == "RespondToAuthChallenge":
        # The challenge of a new user, whose answer takes attributes.
        system.client("cognito-idp").admin_set_user_password(
            UserPoolId=said["UserPoolId"], Username=name, Password=PASSWORD, Permanent=False
        )
        request["Session"] = sign_in(cognito, system, name)["Session"]
    try:
        answer = getattr(cognito, botocore.xform_name(action))(**request)
    except ClientError as error:
        is_known = error.response["Error"]["Code"] != "InvalidAction"
        return Outcome.REFUSED if is_known else Outcome.UNKNOWN
    if action == "SignUp":
        system.client("cognito-idp").admin_confirm_sign_up(UserPoolId=said["UserPoolId"], Username=name)
    try:
        after = [claims(sign_in(cognito, system, name))]
    except ClientError:
        return Outcome.GONE
    if "IdToken" in answer.get("AuthenticationResult", {}):
        after.append(claims(answer))
    return Outcome.UNCHANGED if all(each == before for each in after) else Outcome.CHANGED


@pytest.mark.parametrize("action", CALLS)
def test_no_call_changes_account_or_role(
    action: str, system: System, record_property: Callable[[str, object], None]
) -> None:
    cognito = boto3.client(
        "cognito-idp",
        endpoint_url=system.stack.description["endpointUrl"],
        region_name=REGION,
        config=Config(signature_version=UNSIGNED),
    )
    assert outcome_of(cognito, action, system) is CALLS[action]
    if CALLS[action] in (Outcome.CHANGED, Outcome.UNKNOWN):
        test_template.test_nobody_signs_up_and_nobody_changes_account()
    record_property("calls of Cognito without IAM credentials", 1)
