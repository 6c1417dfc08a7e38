"""Read template.yaml as CloudFormation does, in few lines, and return what the contract tests ask of it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools.template import read_template

REPOSITORY = Path(__file__).parents[2]

type Properties = dict[str, Any]

TEMPLATE: dict[str, Any] = read_template(REPOSITORY / "template.yaml")
PARAMETERS: dict[str, Properties] = TEMPLATE["Parameters"]
RESOURCES: dict[str, dict[str, Any]] = TEMPLATE["Resources"]
GLOBALS: Properties = TEMPLATE["Globals"]["Function"]


def of_type(resource_type: str) -> dict[str, Properties]:
    """Properties of each resource of a type, by logical name."""
    return {
        name: resource.get("Properties", {})
        for name, resource in RESOURCES.items()
        if resource["Type"] == resource_type
    }


FUNCTIONS = of_type("AWS::Serverless::Function")
QUEUES = of_type("AWS::SQS::Queue")
TABLES = of_type("AWS::DynamoDB::Table")
RULES = of_type("AWS::Events::Rule")
ROLES = of_type("AWS::IAM::Role")
ALARMS = of_type("AWS::CloudWatch::Alarm")


type Measured = tuple[str, str, Properties]
"""Namespace, metric, and dimensions with their values as the template has them."""


def measured(alarm: Properties) -> list[Measured]:
    """Every metric that an alarm watches: one, or the ones that it adds up."""
    watched = [each["MetricStat"]["Metric"] for each in alarm.get("Metrics", []) if "MetricStat" in each]
    return [
        (
            each["Namespace"],
            each["MetricName"],
            {dimension["Name"]: dimension["Value"] for dimension in each["Dimensions"]},
        )
        for each in watched or [alarm]
    ]


def as_list(value: Any) -> list[Any]:
    """IAM and others take one, or a list."""
    return value if isinstance(value, list) else [value]


def names_in(value: Any) -> set[str]:
    """The resources and parameters that a value refers to, in whichever way."""
    match value:
        case {"Ref": name}:
            return {str(name)}
        case {"Fn::GetAtt": [name, *_]}:
            return {str(name)}
        case {"Fn::Sub": text}:
            return {part.split("}")[0].split(".")[0] for part in str(text).split("${")[1:]}
        case dict():
            return set().union(*(names_in(each) for each in value.values()))
        case list():
            return set().union(*(names_in(each) for each in value))
        case _:
            return set()


def name_in(value: Any) -> str:
    """The one resource that a value refers to."""
    names = names_in(value)
    assert len(names) == 1, value
    return names.pop()


def folder_of(function: str) -> str:
    """The folder of a function under functions/."""
    return str(FUNCTIONS[function]["CodeUri"]).rpartition("/")[2]


def app_source(function: str) -> str:
    """The text of a function's app.py."""
    return (REPOSITORY / "functions" / folder_of(function) / "app.py").read_text()


def environment(function: str) -> Properties:
    """What a function reads, without what Powertools reads."""
    shared = GLOBALS.get("Environment", {}).get("Variables", {})
    own = FUNCTIONS[function].get("Environment", {}).get("Variables", {})
    return {name: value for name, value in (shared | own).items() if not name.startswith("POWERTOOLS_")}


def event_sources() -> Iterator[tuple[str, str, Properties]]:
    """Each SQS event source: its function, its queue and its properties."""
    for function, properties in FUNCTIONS.items():
        for event in properties.get("Events", {}).values():
            if event["Type"] == "SQS":
                yield function, name_in(event["Properties"]["Queue"]), event["Properties"]


def statements(function: str) -> list[Properties]:
    """What a function may do."""
    role = ROLES[name_in(FUNCTIONS[function]["Role"])]
    return [each for policy in role["Policies"] for each in policy["PolicyDocument"]["Statement"]]


def rule_targets() -> Iterator[tuple[str, Properties]]:
    """Each target with its rule's name."""
    for rule, properties in RULES.items():
        for target in properties["Targets"]:
            yield rule, target


def quarantine_queue() -> str:
    """Where the rule of QuarantineRule leads."""
    (target,) = RULES["QuarantineRule"]["Targets"]
    return name_in(target["Arn"])


def dead_letter_queues() -> set[str]:
    """Where other queues, or rule targets, put what they cannot get rid of."""
    of_queues = {
        name_in(queue["RedrivePolicy"]["deadLetterTargetArn"])
        for queue in QUEUES.values()
        if "RedrivePolicy" in queue
    }
    of_targets = {
        name_in(target["DeadLetterConfig"]["Arn"])
        for _, target in rule_targets()
        if "DeadLetterConfig" in target
    }
    return of_queues | of_targets


def resolved(value: Any, **parameters: str) -> Any:
    """A value with its parameters in place, and with what Join and Split make of them."""
    match value:
        case {"Ref": name} if name in PARAMETERS:
            return parameters.get(name, PARAMETERS[name]["Default"])
        case {"Fn::Join": [by, parts]}:
            return by.join(resolved(parts, **parameters))
        case {"Fn::Split": [by, text]}:
            return resolved(text, **parameters).split(by)
        case dict():
            return {key: resolved(each, **parameters) for key, each in value.items()}
        case list():
            return [resolved(each, **parameters) for each in value]
        case _:
            return value


def event_pattern(rule: str, **parameters: str) -> Properties:
    """What a rule of the bus matches."""
    pattern: Properties = resolved(RULES[rule]["EventPattern"], **parameters)
    return pattern


def pattern_length(rule: str, **parameters: str) -> int:
    """Characters of an event pattern, as it is deployed."""
    return len(json.dumps(event_pattern(rule, **parameters), separators=(",", ":")))


def parameter_of(bound: Properties) -> str:
    """The parameter that says how many executions an event source may take, itself or by a mapping."""
    reference = bound["Fn::FindInMap"][1] if "Fn::FindInMap" in bound else bound
    return str(reference["Ref"])


def most_at_once(bound: Properties | int) -> int:
    """How many executions an event source may take by default."""
    if isinstance(bound, int):
        return bound
    default = str(PARAMETERS[parameter_of(bound)]["Default"])
    if "Fn::FindInMap" in bound:
        name, _, key = bound["Fn::FindInMap"]
        return int(TEMPLATE["Mappings"][name][default][key])
    return int(default)
