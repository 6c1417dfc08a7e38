"""`make mutants` makes the changes that it says. Each is Python, and what is only said to people stays."""

import ast
from pathlib import Path

import pytest

from tests.mutants.changes import mutants_of

MODULE = Path(__file__).parents[3] / "layers/core/lms_webhooks/drainer/drain_run.py"


def changes(tmp_path: Path, source: str) -> list[tuple[str, str]]:
    """What is said of each mutant, and the lines that differ."""
    path = tmp_path / "module.py"
    path.write_text(source)
    return [
        (mutant.change, "; ".join(set(mutant.text.splitlines()) - set(source.splitlines())).strip())
        for mutant in mutants_of(path)
    ]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a = b < c", ["a = b <= c"]),
        ("a = b is not None", ["a = b is None"]),
        ("a = b not in c", ["a = b in c"]),
        ("a = b and c and d", ["a = b or c and d", "a = b and c or d"]),
        ("a = (b) + (c)", ["a = (b) - (c)"]),
        ("a = not b", ["a = b"]),
        ("a = b if c else d", ["a = b if True else d", "a = b if False else d"]),
        ("a = True", ["a = False"]),
        ("a = 20", ["a = 21"]),
        ("a = min(b)", ["a = max(b)"]),
        ("a = int(b)", ["a = round(b)"]),
        ("def f():\n    g(é)", ["pass"]),
        ("def f():\n    a += b", ["pass"]),
        ("if a:\n    b = c", ["if False:"]),
        ("a = [b for b in c if d]", ["a = [b for b in c if True]"]),
        ("def f():\n    logger.info('a', b=1 < 2)", []),
        ("import a\nassert b == 1", []),
        ("if TYPE_CHECKING:\n    a = 1", []),
        ("a: int = 'b'", []),
        ('"""Said."""', []),
    ],
)
def test_a_change_is_one_that_somebody_could_have_made(
    tmp_path: Path, source: str, expected: list[str]
) -> None:
    assert sorted(now for _, now in changes(tmp_path, source)) == sorted(expected)


@pytest.mark.slow
def test_every_mutant_is_python_and_another_module() -> None:
    source = MODULE.read_text()
    mutants = mutants_of(MODULE)
    assert len(mutants) > 150
    for mutant in mutants:
        ast.parse(mutant.text)
        assert mutant.text != source, mutant.change


def test_a_constant_is_noticed_by_who_uses_it() -> None:
    (closing,) = [each for each in mutants_of(MODULE) if each.change == "20 -> 21"]
    assert closing.names == {"CLOSING_SECONDS"}
