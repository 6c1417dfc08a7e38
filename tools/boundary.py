"""Put a permissions boundary on every role of a built template: `make build BOUNDARY=<ARN of a policy>`.

The role that a workflow deploys with may only make roles that carry one (operations/deploy_role.yaml), and
so may people in many companies. Not in template.yaml itself: SAM makes the role of CodeDeploy, without one.
"""

import sys
from pathlib import Path
from typing import Any

import yaml

from tools.canary import BUILT
from tools.progress import REPOSITORY
from tools.template import read_template

# SAM's own id for it: a stack that was deployed without a boundary keeps its role.
CODE_DEPLOY_ROLE = "CodeDeployServiceRole"
_ROLE = "AWS::IAM::Role"
_FUNCTION = "AWS::Serverless::Function"


def put_boundary(built_template: Path, *, boundary: str) -> None:
    """Change a built template in its place, which may have become gradual before."""
    template = read_template(built_template)
    resources: dict[str, dict[str, Any]] = template["Resources"]
    if preferences := [
        resource["Properties"]["DeploymentPreference"]
        for resource in resources.values()
        if resource["Type"] == _FUNCTION and "DeploymentPreference" in resource["Properties"]
    ]:
        resources[CODE_DEPLOY_ROLE] = {"Type": _ROLE, "Properties": _code_deploy_role()}
        for preference in preferences:  # with a role in each, SAM makes none
            preference["Role"] = {"Fn::GetAtt": [CODE_DEPLOY_ROLE, "Arn"]}
    for resource in resources.values():
        if resource["Type"] == _ROLE:
            resource["Properties"]["PermissionsBoundary"] = boundary
    built_template.write_text(yaml.safe_dump(template, sort_keys=False))


def _code_deploy_role() -> dict[str, Any]:
    """What SAM would make."""
    policy = "arn:${AWS::Partition}:iam::aws:policy/service-role/AWSCodeDeployRoleForLambda"
    return {
        "AssumeRolePolicyDocument": {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"Service": ["codedeploy.amazonaws.com"]},
                    "Action": ["sts:AssumeRole"],
                }
            ],
        },
        "ManagedPolicyArns": [{"Fn::Sub": policy}],
    }


if __name__ == "__main__":
    (arn,) = sys.argv[1:]
    put_boundary(BUILT, boundary=arn)
    sys.stdout.write(f"{BUILT.relative_to(REPOSITORY)}: every role has the boundary {arn}\n")
