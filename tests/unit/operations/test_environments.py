"""What is typed for a deployment is read as sam reads it, or refused in one sentence."""

from pathlib import Path

import pytest
from samcli.cli.types import CfnParameterOverridesType

from operations.environments import (
    CONFIG_FILE,
    UnusableInput,
    read_environment,
    read_parameters,
    sam_overrides,
    template_parameters,
)
from tests.contract.template import PARAMETERS

HARD_VALUES = {
    "AlarmEmail": "o'brien@example.com",
    "BatchEveryMinutes": "1 440",
    "ConsoleUrl": "https://example.com/a=b&c=d,e/console",
    "EventSource": "  $HOME `pwd` \N{SNOWMAN} !",
    "OidcAudience": "",
    "ProducerAccounts": "111122223333,444455556666",
}


def as_sam_reads(overrides: list[str]) -> dict[str, str]:
    read: dict[str, str] = CfnParameterOverridesType().convert(tuple(overrides), None, None)
    return read


def configured(tmp_path: Path, overrides: str) -> Path:
    path = tmp_path / "samconfig.toml"
    path.write_text(
        '[default.global.parameters]\nstack_name = "mine"\nregion = "eu-west-1"\n'
        f'[default.deploy.parameters]\nprofile = "work"\nparameter_overrides = {overrides}\n'
    )
    return path


def test_sam_is_told_each_value_as_it_was_given() -> None:
    assert as_sam_reads(sam_overrides(HARD_VALUES)) == HARD_VALUES


@pytest.mark.parametrize("name", ["default", "staging", "prod"])
def test_the_environments_of_samconfig_are_read(name: str) -> None:
    environment = read_environment(name)
    assert environment.stack_name.startswith("lms-webhooks")
    assert environment.parameters == {"Stage": "dev" if name == "default" else name}


@pytest.mark.parametrize("name", ["pord", "", "local", "version"])
def test_an_environment_that_is_none_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(UnusableInput, match=r"choose ENVIRONMENT=default, staging, prod\.$"):
        read_environment(name)


@pytest.mark.parametrize(
    "overrides",
    [
        '["Stage=dev", "EventSource=\\"our own lms\\""]',
        # As `sam deploy --guided` writes it.
        '"Stage=\\"dev\\" EventSource=\\"our own lms\\""',
        '{ Stage = "dev", EventSource = "our own lms" }',
        '[{ Stage = "dev" }, "EventSource=\'our own lms\'"]',
    ],
)
def test_samconfig_may_say_its_parameters_in_each_way_that_sam_takes(tmp_path: Path, overrides: str) -> None:
    environment = read_environment("default", configured(tmp_path, overrides))
    assert environment.parameters == {"Stage": "dev", "EventSource": "our own lms"}
    assert (environment.stack_name, environment.region, environment.profile) == ("mine", "eu-west-1", "work")


def test_several_parameters_are_parted_by_blanks_and_values_may_have_some_in_quotes() -> None:
    text = "AlarmEmail=ops@example.com LogRetentionDays=7 EventSource='our own lms'"
    assert read_parameters(text, PARAMETERS) == {
        "AlarmEmail": "ops@example.com",
        "LogRetentionDays": "7",
        "EventSource": "our own lms",
    }
    assert read_parameters("", PARAMETERS) == {}
    assert read_parameters("AlarmEmail=", PARAMETERS) == {"AlarmEmail": ""}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("EventSource=our own lms", r"'own', which is not Name=value: quote"),
        ("AlarmEmail = ops@example.com", r"'AlarmEmail', which is not Name=value"),
        ("AlarmEmail='ops@example.com", "cannot be read, no closing quotation"),
        ("AlarmEmial=ops@example.com", r"did you mean AlarmEmail\?$"),
        ("Nothing=1", "docs/configuration.md lists its parameters"),
        ("EventSource='a\\b'", "a value that sam cannot take"),
        ("EventSource='ParameterKey=Stage,ParameterValue=prod'", "a value that sam cannot take"),
    ],
)
def test_what_sam_would_take_for_something_else_is_refused(text: str, said: str) -> None:
    with pytest.raises(UnusableInput, match=said):
        read_parameters(text, PARAMETERS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[default.deploy.parameters]\n", r"gives no stack_name in \[default\.deploy\.parameters\]"),
        ("[default.deploy\n", "samconfig.toml is no TOML: "),
        ("default.deploy = 1\n", r"\[default\.deploy\] is no table"),
        ("[default]\nglobal = 1\n[default.deploy]\n", r"\[default\.global\] is no table"),
        (
            "[default.deploy]\nparameters = [1]\n",
            r"^samconfig\.toml: \[default\.deploy\.parameters\] is no table, so sam cannot read it\.$",
        ),
    ],
)
def test_a_samconfig_that_sam_cannot_read_is_refused_in_a_sentence(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "samconfig.toml"
    path.write_text(text)
    with pytest.raises(UnusableInput, match=said):
        read_environment("default", path)


def test_a_samconfig_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnusableInput, match=r"none\.toml cannot be read: No such file or directory\.$"):
        read_environment("default", tmp_path / "none.toml")


def test_a_value_in_json_reaches_sam_as_it_is() -> None:
    details = '{"BADGE": {"label": "Learner gets a badge", "sample": {"id": 1}}}'
    given = read_parameters(f"EventSource='{details}' Stage=dev", PARAMETERS)
    assert as_sam_reads(sam_overrides(given)) == {"EventSource": details, "Stage": "dev"}


def test_sams_long_form_is_refused_and_not_misread(tmp_path: Path) -> None:
    long_form = "ParameterKey=Stage,ParameterValue=prod"
    with pytest.raises(UnusableInput, match=r"^samconfig\.toml has 'ParameterKey=Stage,.*write Name=value"):
        read_environment("default", configured(tmp_path, f'"{long_form}"'))
    with pytest.raises(UnusableInput, match=r"^PARAMS has 'ParameterKey=Stage,.*write Name=value"):
        read_parameters(long_form, PARAMETERS)


def test_a_hint_names_the_file_where_the_fault_is_in_the_file(tmp_path: Path) -> None:
    with pytest.raises(UnusableInput, match=r"^samconfig\.toml has 'own'") as refused:
        read_environment("default", configured(tmp_path, '"EventSource=our own lms"'))
    assert "PARAMS" not in str(refused.value)


def test_the_template_names_its_parameters_and_samconfig_sets_some_of_them() -> None:
    assert template_parameters() == {name: str(each["Default"]) for name, each in PARAMETERS.items()}
    assert CONFIG_FILE.exists()
