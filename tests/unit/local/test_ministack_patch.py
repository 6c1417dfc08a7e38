"""The one function of the emulator that is replaced says what the original says."""

import json
import subprocess

from local.emulator_process import PYTHON
from tools.progress import REPOSITORY

ITEM = {"pk": {"S": "a"}, "sk": {"S": "m"}, "n": {"N": "5"}}
VALUES = {
    **{f":{text}": {"S": text} for text in ("a", "b", "l", "m", "n", "mm", "é")},
    ":four": {"N": "4"},
    ":six": {"N": "6"},
}
CASES = [
    ("pk = :a", {}),
    ("pk = :b", {}),
    *[
        (f"#p = :a AND #s BETWEEN {low} AND {high}", {"#p": "pk", "#s": "sk"})
        for low, high in [(":l", ":n"), (":m", ":m"), (":n", ":é"), (":a", ":l"), (":mm", ":n"), (":a", ":m")]
    ],
    ("pk = :b AND sk BETWEEN :a AND :n", {}),
    ("pk = :a AND n BETWEEN :four AND :six", {}),
    ("pk = :a AND n BETWEEN :six AND :six", {}),
    ("pk = :a AND begins_with(sk, :m)", {}),
    ("pk = :a AND sk > :l", {}),
]
_ASK = """
import json, sys
from ministack.services import dynamodb
sys.path.insert(0, sys.argv[1])
import ministack_patch as ours
original = ours._read_text
for text, names in json.loads(sys.argv[2]):
    item, values = json.loads(sys.argv[3]), json.loads(sys.argv[4])
    used = {key: value for key, value in values.items() if key in text.replace(")", " ").split()}
    print(json.dumps([
        ask(text, item, used, names, slot="KeyConditionExpression") for ask in (original, ours.holds)
    ]))
"""


def test_a_key_condition_means_what_the_emulator_itself_says() -> None:
    arguments = [str(REPOSITORY / "local"), json.dumps(CASES), json.dumps(ITEM), json.dumps(VALUES)]
    asked = subprocess.run(
        [PYTHON, "-P", "-c", _ASK, *arguments], check=True, capture_output=True, text=True, timeout=60
    )
    said = [json.loads(line) for line in asked.stdout.splitlines()]
    assert len(said) == len(CASES)
    assert [ours for _, ours in said] == [original for original, _ in said]
    assert {ours for _, ours in said} == {True, False}
