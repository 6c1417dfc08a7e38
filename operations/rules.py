"""Evaluate what a template says by its parameters: which of them it allows, and which value it then has.

CloudFormation does the same when the change set is made, which is after the build. It judges the rest, too.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any


class _Unknown(Exception):
    """A rule says something that is not evaluated here."""


def broken_rules(template: Mapping[str, Any], parameters: Mapping[str, str]) -> Iterator[str]:
    """Say what is wrong with each parameter, and with what they are together.

    `parameters` has all of them, as the stack will have them.
    """
    for name, declaration in template["Parameters"].items():
        if wrong := _wrong(declaration, parameters[name]):
            yield f"{name}={parameters[name]}: {declaration.get('ConstraintDescription', wrong)}"
    for rule in template.get("Rules", {}).values():
        try:
            if "RuleCondition" in rule and not _holds(rule["RuleCondition"], template, parameters):
                continue
            for assertion in rule["Assertions"]:
                if not _holds(assertion["Assert"], template, parameters):
                    yield str(assertion["AssertDescription"])
        except _Unknown:
            continue


def _wrong(declaration: Mapping[str, Any], value: str) -> str:
    """What one value breaks; nothing where it is as declared."""
    allowed = [str(each) for each in declaration.get("AllowedValues", [])]
    if allowed and value not in allowed:
        return f"must be one of {', '.join(allowed)}"
    if "AllowedPattern" in declaration and not re.fullmatch(declaration["AllowedPattern"], value):
        return f"must match {declaration['AllowedPattern']}"
    if len(value) < int(declaration.get("MinLength", 0)):
        return f"must have {declaration['MinLength']} characters at least"
    if "MaxLength" in declaration and len(value) > int(declaration["MaxLength"]):
        return f"must have {declaration['MaxLength']} characters at most"
    return _wrong_number(declaration, value) if declaration["Type"] == "Number" else ""


def _wrong_number(declaration: Mapping[str, Any], value: str) -> str:
    try:
        number = float(value)
    except ValueError:
        return "must be a number"
    if "MinValue" in declaration and number < float(declaration["MinValue"]):
        return f"must be {declaration['MinValue']} at least"
    if "MaxValue" in declaration and number > float(declaration["MaxValue"]):
        return f"must be {declaration['MaxValue']} at most"
    return ""


def number_of(value: Any, template: Mapping[str, Any], parameters: Mapping[str, str]) -> int | None:
    """Return the whole number that a property will have; None where it has none, or is not evaluated here."""
    try:
        match value:
            case {"Fn::If": [condition, yes, no]}:
                holds = _holds({"Condition": condition}, template, parameters)
                return number_of(yes if holds else no, template, parameters)
            case {"Fn::FindInMap": [mapping, key, name]}:
                of_key = template["Mappings"][mapping].get(_value(key, parameters), {})
                return number_of(of_key.get(name, ""), template, parameters)
            case _:
                text = _value(value, parameters)
    except _Unknown:
        return None
    return int(text) if text.isdecimal() else None


def _holds(condition: Any, template: Mapping[str, Any], parameters: Mapping[str, str]) -> bool:
    match condition:
        case {"Condition": name} if name in template.get("Conditions", {}):
            return _holds(template["Conditions"][name], template, parameters)
        case {"Fn::And": [*parts]}:
            return all(_holds(part, template, parameters) for part in parts)
        case {"Fn::Or": [*parts]}:
            return any(_holds(part, template, parameters) for part in parts)
        case {"Fn::Not": [part]}:
            return not _holds(part, template, parameters)
        case {"Fn::Equals": [one, other]}:
            return _value(one, parameters) == _value(other, parameters)
        case {"Fn::Contains": [[*values], value]}:
            return _value(value, parameters) in [_value(each, parameters) for each in values]
        case _:
            raise _Unknown


def _value(value: Any, parameters: Mapping[str, str]) -> str:
    match value:
        case {"Ref": name} if name in parameters:
            return parameters[name]
        case str() | int():
            return str(value)
        case _:
            raise _Unknown
