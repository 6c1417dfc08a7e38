"""`sam publish` finds what it asks for, within the limits of the Serverless Application Repository.

The repository itself was not asked: there is no emulator of it. SAM's own code makes the request, and
botocore's model of the service judges it.
"""

import json
import re
from typing import Any

import boto3
import pytest
from botocore.stub import ANY, Stubber
from samcli.vendor.serverlessrepo import publish_application
from samcli.vendor.serverlessrepo.application_metadata import ApplicationMetadata

from lms_webhooks import __version__
from tests.contract.template import FUNCTIONS, REPOSITORY, RESOURCES, TEMPLATE

APPLICATION: dict[str, Any] = TEMPLATE["Metadata"]["AWS::ServerlessRepo::Application"]

# AWS's guide, "List of Supported AWS Resources", as its archived repository has it (commit 83c2822 of
# awsdocs/aws-serverlessrepo-developer-guide). The page of today has more types. Ours that are missing there
# stand below, and in docs/deploy.md.
SUPPORTED = {
    "AWS::ApiGatewayV2::Api",
    "AWS::ApiGatewayV2::Authorizer",
    "AWS::ApiGatewayV2::Integration",
    "AWS::ApiGatewayV2::Route",
    "AWS::ApiGatewayV2::Stage",
    "AWS::CloudWatch::Alarm",
    "AWS::CloudWatch::Dashboard",
    "AWS::Cognito::UserPool",
    "AWS::Cognito::UserPoolClient",
    "AWS::Cognito::UserPoolDomain",
    "AWS::Cognito::UserPoolGroup",
    "AWS::DynamoDB::Table",
    "AWS::Events::EventBusPolicy",
    "AWS::Events::Rule",
    "AWS::IAM::Policy",
    "AWS::IAM::Role",
    "AWS::KMS::Key",
    "AWS::Lambda::EventInvokeConfig",
    "AWS::Lambda::Permission",
    "AWS::Logs::LogGroup",
    "AWS::SNS::Subscription",
    "AWS::SNS::Topic",
    "AWS::SNS::TopicPolicy",
    "AWS::SQS::Queue",
    "AWS::SQS::QueuePolicy",
    "AWS::Serverless::Function",
    "AWS::Serverless::LayerVersion",
}
NOT_LISTED_THEN = {"AWS::Events::Archive", "AWS::Events::EventBus", "AWS::Logs::QueryDefinition"}


def test_the_version_that_is_published_is_the_code_s() -> None:
    assert APPLICATION["SemanticVersion"] == __version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)


def test_the_metadata_is_within_the_repository_s_limits() -> None:
    """As botocore's model of the service documents them, and does not enforce."""
    ApplicationMetadata(APPLICATION).validate(["author", "description", "name"])
    assert re.fullmatch(r"[a-zA-Z0-9\-]{1,140}", APPLICATION["Name"])
    assert re.fullmatch(r"[a-z0-9](([a-z0-9]|-(?!-))*[a-z0-9])?", APPLICATION["Author"])
    assert len(APPLICATION["Author"]) <= 127
    assert 1 <= len(APPLICATION["Description"]) <= 256
    assert 1 <= len(APPLICATION["Labels"]) <= 10
    for label in APPLICATION["Labels"]:
        assert re.fullmatch(r"[a-zA-Z0-9+\-_:/@]{1,127}", label), label
    for name in ("LicenseUrl", "ReadmeUrl"):
        assert 0 < (REPOSITORY / APPLICATION[name]).stat().st_size <= 5_000_000
    assert (
        (REPOSITORY / APPLICATION["LicenseUrl"])
        .read_text()
        .startswith(f"{APPLICATION['SpdxLicenseId']} License")
    )


@pytest.mark.parametrize("name", ["HomePageUrl", "SourceCodeUrl"])
def test_no_address_is_made_up(name: str) -> None:
    """The publisher adds theirs: see docs/deploy.md."""
    assert name not in APPLICATION


def test_sam_publishes_what_it_has_packaged() -> None:
    packaged = json.loads(json.dumps(TEMPLATE))
    metadata = packaged["Metadata"]["AWS::ServerlessRepo::Application"]
    for name in ("LicenseUrl", "ReadmeUrl"):
        metadata[name] = f"s3://bucket/{metadata[name]}"
    for resource in packaged["Resources"].values():
        for where in {"CodeUri", "ContentUri"} & resource.get("Properties", {}).keys():
            resource["Properties"][where] = "s3://bucket/0a1b2c"
    client = boto3.client(
        "serverlessrepo",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    sent: dict[str, Any] = {}
    client.meta.events.register(
        "before-parameter-build.serverlessrepo.CreateApplication", lambda params, **_: sent.update(params)
    )
    with Stubber(client) as stubber:
        asked = {
            "Author", "Description", "Labels", "LicenseUrl", "Name", "ReadmeUrl", "SemanticVersion",
            "SpdxLicenseId", "TemplateBody",
        }  # fmt: skip
        arn = "arn:aws:serverlessrepo:us-east-1:123456789012:applications/lms-webhooks"
        stubber.add_response("create_application", {"ApplicationId": arn}, dict.fromkeys(asked, ANY))
        published = publish_application(packaged, sar_client=client)
    assert published["actions"] == ["CREATE_APPLICATION"]
    assert "AWS::ServerlessRepo::Application" not in sent["TemplateBody"]
    assert "DispatcherFunction" in sent["TemplateBody"]


def test_types_that_the_repository_may_refuse_are_documented() -> None:
    types = {resource["Type"] for resource in RESOURCES.values()}
    assert types - SUPPORTED == NOT_LISTED_THEN, "look it up in AWS's list, and say so in docs/deploy.md"
    text = (REPOSITORY / "docs" / "deploy.md").read_text().split("## Publish to the")[1].split("\n## ")[0]
    assert set(re.findall(r"`(AWS::[A-Za-z:]+)`", text)) == NOT_LISTED_THEN


def test_the_layer_is_published_within_the_application() -> None:
    """A layer in another place than the stack's own would be one that others cannot read."""
    layers = {json.dumps(each) for each in TEMPLATE["Globals"]["Function"]["Layers"]}
    assert layers == {json.dumps({"Ref": "CoreLayer"})}
    assert not any("Layers" in properties for properties in FUNCTIONS.values())
