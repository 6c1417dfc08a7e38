"""What SAM makes of a template that is to be deployed gradually: CodeDeploy moves the aliases of what sends.

The emulator has no CodeDeploy, so this is all that is known of it before AWS."""

from pathlib import Path

import pytest
import yaml

from tests.contract.template import ALARMS, REPOSITORY, TEMPLATE, event_sources, name_in, names_in
from tests.contract.test_supply_chain import WORKFLOW
from tests.contract.transform import Resources, canary, transformed

CANARY = {"DispatcherFunction", "DrainerFunction"}
"""What sends: a fault in them would concern every receiver at once."""


def of_type(resources: Resources, resource_type: str) -> Resources:
    return {name: each for name, each in resources.items() if each["Type"] == resource_type}


@pytest.fixture
def resources(tmp_path: Path) -> Resources:
    return canary(tmp_path, "release-1")


def test_queues_invoke_the_aliases_so_that_messages_can_be_shared_out(resources: Resources) -> None:
    aliases = of_type(resources, "AWS::Lambda::Alias")
    assert {name_in(alias["Properties"]["FunctionName"]) for alias in aliases.values()} == CANARY
    mappings = of_type(resources, "AWS::Lambda::EventSourceMapping")
    assert len(mappings) == len(list(event_sources()))
    invoked = {name_in(each["Properties"]["FunctionName"]) for each in mappings.values()}
    others = {function for function, _, _ in event_sources()} - CANARY
    assert invoked == aliases.keys() | others


def test_each_release_moves_the_aliases_whatever_it_changes(tmp_path: Path, resources: Resources) -> None:
    """Were it for the text of the template alone, a changed parameter would not be seen."""
    first = of_type(resources, "AWS::Lambda::Version").keys()
    second = of_type(canary(tmp_path, "release-2"), "AWS::Lambda::Version").keys()
    assert len(first) == len(second) == len(CANARY)
    assert not first & second


def test_a_deployment_goes_back_at_an_alarm_of_what_it_changes(resources: Resources) -> None:
    groups = of_type(resources, "AWS::CodeDeploy::DeploymentGroup")
    assert {name.removesuffix("DeploymentGroup") for name in groups} == CANARY
    for name, group in groups.items():
        properties = group["Properties"]
        assert "Canary10Percent10Minutes" in str(properties["DeploymentConfigName"])
        assert properties["AutoRollbackConfiguration"]["Enabled"] is True
        assert "DEPLOYMENT_STOP_ON_ALARM" in properties["AutoRollbackConfiguration"]["Events"]
        assert properties["AlarmConfiguration"]["Enabled"] is True
        watched = names_in(properties["AlarmConfiguration"]["Alarms"])
        assert f"{name.removesuffix('FunctionDeploymentGroup')}ErrorsAlarm" in watched
        assert watched <= ALARMS.keys()
    for alias in of_type(resources, "AWS::Lambda::Alias").values():
        assert name_in(alias["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"]["DeploymentGroupName"]) in groups


def test_the_versions_of_before_stay_since_it_may_go_back_to_them(resources: Resources) -> None:
    for version in of_type(resources, "AWS::Lambda::Version").values():
        assert version["DeletionPolicy"] == "Retain"


def test_without_it_there_is_no_alias_and_nothing_of_codedeploy() -> None:
    types = {each["Type"] for each in transformed(TEMPLATE).values()}
    assert not [each for each in types if each.startswith("AWS::CodeDeploy") or each == "AWS::Lambda::Alias"]


def test_what_goes_to_prod_is_built_so() -> None:
    jobs = yaml.safe_load(WORKFLOW.read_text())["jobs"]
    builds = {
        job: [step["run"] for step in jobs[job]["steps"] if step.get("run", "").startswith("make build")]
        for job in ("staging", "prod")
    }
    assert builds == {"staging": ["make build"], "prod": ["make build CANARY=1"]}
    makefile = (REPOSITORY / "Makefile").read_text()
    assert "CANARY ?= $(filter prod,$(ENVIRONMENT))\n" in makefile
    assert "$(if $(CANARY),@python -m tools.canary)" in makefile
