"""Make a built template's roles such as the emulator can enforce.

It knows neither DynamoDB's leading keys and attributes nor KMS's encryption context. A condition on what it
does not know is a refusal to it. It takes SendMessageBatch for an action of its own; in AWS sqs:SendMessage
covers it. Apart from that, actions and resources stay as they are. What the conditions
say is tested where the calls are made in one process: `tests/contract/privileges.py`.
"""

from pathlib import Path
from typing import Any

import yaml

UNKNOWN_TO_THE_EMULATOR = (
    "dynamodb:Attributes",
    "dynamodb:LeadingKeys",
    "kms:EncryptionContext",
    "sns:Protocol",
)
"""What the names of the condition keys begin with."""


def make_enforceable(built_template: Path) -> None:
    """Rewrite every role of a template that sam built."""
    template = yaml.safe_load(built_template.read_text())
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::IAM::Role":
            for policy in resource["Properties"]["Policies"]:
                for statement in policy["PolicyDocument"]["Statement"]:
                    _strip(statement)
                    _name_batches(statement)
    built_template.write_text(yaml.safe_dump(template, sort_keys=False))


def _strip(statement: dict[str, Any]) -> None:
    condition = statement.pop("Condition", {})
    kept = {
        operator: left
        for operator, keys in condition.items()
        if (left := {key: keys[key] for key in keys if not key.startswith(UNKNOWN_TO_THE_EMULATOR)})
    }
    if kept:
        statement["Condition"] = kept


def _name_batches(statement: dict[str, Any]) -> None:
    actions = statement["Action"]
    actions = [actions] if isinstance(actions, str) else actions
    if "sqs:SendMessage" in actions:
        statement["Action"] = [*actions, "sqs:SendMessageBatch"]
