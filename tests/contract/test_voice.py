"""Hold the voice in documents, docstrings and the texts of the console: short sentences, plain words."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.template import REPOSITORY

MAX_WORDS = 25
BANNED = re.compile(
    r"\b(answer\w*(?!\w*\()|mend(s|ed|ing)?|anew|sen(d|t|ds|ding) for"
    r"|whoever|told|bur(y|ied|ies)|by ear)\b",
    re.IGNORECASE,
)
EXCEPTIONS: dict[str, str] = {}
"""What may stand although it breaks a rule, with the reason."""
MAX_EXCEPTIONS = 10
CONSOLE = "layers/core/lms_webhooks/admin/console/en.js"
AREAS = (
    "*.md",
    "docs/**/*.md",
    "docs/receivers/*.py",
    "functions/**/*.py",
    "layers/core/*.py",
    "layers/core/lms_webhooks/*.py",
    "layers/core/lms_webhooks/admin/*.py",
    "layers/core/lms_webhooks/aws/*.py",
    "layers/core/lms_webhooks/batch/*.py",
    "layers/core/lms_webhooks/dispatcher/*.py",
    "layers/core/lms_webhooks/drainer/*.py",
    "layers/core/lms_webhooks/model/*.py",
    "layers/core/lms_webhooks/sending/*.py",
    "layers/core/lms_webhooks/stores/*.py",
    CONSOLE,
    "operations/**/*.py",
    "local/**/*.py",
    "tools/**/*.py",
    "bench/**/*.py",
    "tests/**/*.py",
    "tests/**/*.md",
)
"""Where every file keeps the voice."""

_COMMAND = re.compile(r"^ {4}(?:make|python|aws|sam) .*$", re.MULTILINE)
"""A line of a docstring that shows how to call the program."""
_NOT_PROSE = re.compile(r"^ *```.*?^ *```$|^[|<├└│][^\n]*$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"``.+?``|`[^`]*`", re.DOTALL)
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_NEW_PARAGRAPH = re.compile(r"\n\s*\n|\n\s*(?=[-*#] |#+ |\d+\. )")
_NEW_SENTENCE = re.compile(r"(?<=[.:!?])[)\"*]*\s+")
_CONSOLE_TEXT = re.compile(r"^\s*'?[\w.-]+'?: '((?:[^'\\]|\\.)*)'", re.MULTILINE)


def sentences(text: str) -> Iterator[str]:
    """The sentences of a text in Markdown, without tables and blocks of code."""
    prose = _LINK.sub(r"\1", _CODE.sub("code", re.sub(_NOT_PROSE, "", text)))
    for paragraph in _NEW_PARAGRAPH.split(prose):
        yield from _NEW_SENTENCE.split(" ".join(paragraph.split()))


def texts(file: Path) -> Iterator[tuple[int, str]]:
    """The texts of a file that people read, each with its line."""
    content = file.read_text()
    if file.suffix == ".py":
        for node in ast.walk(ast.parse(content)):
            body = getattr(node, "body", None)
            for each in body if isinstance(body, list) else []:
                if isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant):
                    yield each.lineno, _COMMAND.sub("", str(each.value.value))
    elif file.suffix == ".js":
        for match in _CONSOLE_TEXT.finditer(content):
            yield content.count("\n", 0, match.start()) + 1, match[1]
    else:
        yield 1, content


def faults(file: Path) -> Iterator[str]:
    """What a file says against the voice, as lines for the developer."""
    place = file.relative_to(REPOSITORY)
    for line, text in texts(file):
        for sentence in sentences(text):
            if any(exception in sentence for exception in EXCEPTIONS):
                continue
            count = len(sentence.split())
            if count > MAX_WORDS:
                yield f"{place}:{line}: {count} words, at most {MAX_WORDS}: {sentence}"
            for word in BANNED.finditer(sentence):
                yield f"{place}:{line}: {word[0]!r} is banned: {sentence}"


@pytest.mark.parametrize("area", AREAS)
def test_an_area_keeps_the_voice(area: str) -> None:
    files = sorted(path for path in REPOSITORY.glob(area) if "node_modules" not in path.parts)
    assert files
    found = [fault for file in files for fault in faults(file)]
    assert not found, "\n".join(found)


def test_exceptions_are_few_and_each_is_needed() -> None:
    assert len(EXCEPTIONS) <= MAX_EXCEPTIONS
    said = "\n".join(
        sentence
        for area in AREAS
        for file in REPOSITORY.glob(area)
        for _, text in texts(file)
        for sentence in sentences(text)
    )
    assert [exception for exception in EXCEPTIONS if exception not in said] == []
