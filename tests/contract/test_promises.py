"""The documents do not promise what AWS does not promise, and each caveat stands in one place."""

import re

import pytest

from tests.contract.template import REPOSITORY

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]


def section(page: str, heading: str) -> str:
    """The text under a heading, up to the next one."""
    text = (REPOSITORY / page).read_text()
    found = re.search(rf"^(#+) {heading}\n(.*?)(?=^#)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    return found[2]


def test_no_page_promises_that_the_bus_keeps_the_text_of_an_event() -> None:
    """No document of EventBridge says that it keeps the text of numbers or the order of keys."""
    promise = re.compile(r"text for text|arrive as they were written|what AWS hands over is", re.IGNORECASE)
    assert [page.name for page in PAGES if promise.search(page.read_text())] == []
    fidelity = section("docs/emitting.md", "Text fidelity")
    assert "AWS promises nowhere" in fidelity
    assert "`make smoke`" in fidelity


@pytest.mark.parametrize(
    ("page", "link"),
    [
        ("README.md", "docs/emitting.md#text-fidelity"),
        ("docs/receivers.md", "emitting.md#text-fidelity"),
        ("docs/decisions/0008-event-text-is-cut-not-parsed.md", "../emitting.md#text-fidelity"),
        ("docs/admin-api.md", "runbook.md#unsubscribe-links"),
        ("docs/configuration.md", "deploy.md#install"),
    ],
)
def test_a_page_that_touches_a_caveat_links_to_it(page: str, link: str) -> None:
    assert f"({link})" in (REPOSITORY / page).read_text()


def test_a_subscription_that_a_mail_scanner_ends_is_explained() -> None:
    """SNS API, ConfirmSubscription: without AuthenticateOnUnsubscribe the link alone unsubscribes."""
    assert "--authenticate-on-unsubscribe true" in section("docs/runbook.md", "Unsubscribe links")


def test_what_the_jwt_authorizer_takes_of_another_provider_is_explained() -> None:
    """API Gateway guide, JWT authorizers: RSA keys only. `test_admin_caller.py` reads a list as it comes."""
    install = section("docs/deploy.md", "Install")
    assert "RSA key" in install
    assert "`[a b]`" in install


def test_a_new_default_does_not_reach_a_stack_that_is_there() -> None:
    """sam keeps the previous value of each parameter that is not set (SAM CLI, deploy_context)."""
    # Here, for it takes a second, and every process of the tests reads this file.
    from samcli.commands.deploy.deploy_context import DeployContext  # noqa: PLC0415

    template = {"Parameters": {"LogRetentionDays": {"Default": 90}, "AlarmEmail": {"Default": ""}}}
    assert DeployContext.merge_parameters(template, {"AlarmEmail": "ops@example.com"}) == [
        {"ParameterKey": "LogRetentionDays", "UsePreviousValue": True},
        {"ParameterKey": "AlarmEmail", "ParameterValue": "ops@example.com"},
    ]
    commands = section("docs/deploy.md", "Deployment commands")
    assert "a new default of the template does not reach it" in commands


def test_no_page_says_that_a_deployment_restores_what_was_changed_by_hand() -> None:
    """CloudFormation compares a template with the last one, not with what is there."""
    assert "does not restore a part" in section("docs/recovery.md", "Revert manual changes")
    runbook = (REPOSITORY / "docs" / "runbook.md").read_text().partition("\n## Alarm procedures\n")[2]
    runbook = runbook.partition("\n## ")[0]
    assert not re.search("deploy again", runbook, re.IGNORECASE)
