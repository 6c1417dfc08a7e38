"""What a template says of its parameters is read as CloudFormation reads it, or left to CloudFormation."""

from typing import Any

import pytest

from operations.rules import broken_rules, number_of


def declared(**declaration: Any) -> dict[str, Any]:
    return {"Parameters": {"P": {"Type": "String", **declaration}}}


@pytest.mark.parametrize(
    ("declaration", "value", "said"),
    [
        ({"AllowedValues": ["a", 7]}, "b", "P=b: must be one of a, 7"),
        ({"AllowedPattern": "^[a-z]+$"}, "a\n", "must match"),
        ({"AllowedPattern": "[a-z]+"}, "ab1", "must match"),
        ({"AllowedPattern": "a+", "ConstraintDescription": "letters a"}, "b", "P=b: letters a"),
        ({"MinLength": 1}, "", "must have 1 characters at least"),
        ({"MaxLength": "2"}, "abc", "must have 2 characters at most"),
        ({"Type": "Number"}, "seven", "must be a number"),
        ({"Type": "Number", "MinValue": 2}, "1", "must be 2 at least"),
        ({"Type": "Number", "MaxValue": 2}, "3", "must be 2 at most"),
    ],
)
def test_a_value_that_its_declaration_refuses_is_named(
    declaration: dict[str, Any], value: str, said: str
) -> None:
    (broken,) = broken_rules(declared(**declaration), {"P": value})
    assert said in broken


@pytest.mark.parametrize(
    ("declaration", "value"),
    [
        ({"AllowedValues": ["a", 7]}, "7"),
        ({"AllowedPattern": "^(a|)$"}, ""),
        ({"MinLength": 1, "MaxLength": 2}, "ab"),
        ({"Type": "Number", "MinValue": -1, "MaxValue": 2}, "-1"),
    ],
)
def test_a_value_that_is_allowed_is_not(declaration: dict[str, Any], value: str) -> None:
    assert not list(broken_rules(declared(**declaration), {"P": value}))


P_IS_A = {"Fn::Equals": [{"Ref": "P"}, "a"]}


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        (P_IS_A, True),
        ({"Fn::Not": [P_IS_A]}, False),
        ({"Fn::And": [P_IS_A, {"Fn::Not": [P_IS_A]}]}, False),
        ({"Fn::Or": [{"Fn::Not": [P_IS_A]}, P_IS_A]}, True),
        ({"Fn::Contains": [["a", "b"], {"Ref": "P"}]}, True),
        ({"Fn::Contains": [["b"], {"Ref": "P"}]}, False),
        ({"Condition": "IsA"}, True),
    ],
)
def test_a_rule_is_judged_by_its_condition_and_its_assertion(condition: Any, holds: bool) -> None:
    never = [{"Assert": {"Fn::Equals": ["a", "b"]}, "AssertDescription": "never"}]
    asserting = [{"Assert": condition, "AssertDescription": "asserted"}]
    template = declared() | {"Conditions": {"IsA": P_IS_A}}
    rules = {"One": {"RuleCondition": condition, "Assertions": never}, "Two": {"Assertions": asserting}}
    broken = list(broken_rules(template | {"Rules": rules}, {"P": "a"}))
    assert broken == (["never"] if holds else ["asserted"])


@pytest.mark.parametrize(
    "unknown",
    [
        {"Fn::EachMemberIn": [["a"], ["b"]]},
        {"Fn::Equals": [{"Fn::Join": ["", ["a"]]}, "b"]},
        {"Fn::Equals": [{"Ref": "AWS::Region"}, "b"]},
    ],
)
def test_what_is_not_known_is_left_to_cloudformation(unknown: Any) -> None:
    rules = {"Rules": {"R": {"Assertions": [{"Assert": unknown, "AssertDescription": "never"}]}}}
    assert not list(broken_rules(declared() | rules, {"P": "a"}))


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (10, 10),
        ("10", 10),
        ({"Ref": "P"}, 7),
        ({"Fn::If": ["IsSeven", {"Ref": "P"}, {"Ref": "AWS::NoValue"}]}, 7),
        ({"Fn::If": ["IsEight", 1, {"Ref": "AWS::NoValue"}]}, None),
        ({"Fn::If": ["Nowhere", 1, 2]}, None),
        (None, None),
        ("-1", None),
    ],
)
def test_a_number_is_what_the_stack_will_have(value: Any, number: int | None) -> None:
    conditions = {
        "IsSeven": {"Fn::Equals": [{"Ref": "P"}, 7]},
        "IsEight": {"Fn::Equals": [{"Ref": "P"}, "8"]},
    }
    assert number_of(value, {"Conditions": conditions}, {"P": "7"}) == number
