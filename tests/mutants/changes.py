"""Make mutants of a module: each is its text with one small change that somebody could have made."""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Is: "is not",
    ast.IsNot: "is",
    ast.In: "not in",
    ast.NotIn: "in",
}
_ARITHMETIC: dict[type[ast.operator], str] = {
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "//",
    ast.Div: "*",
    ast.FloorDiv: "*",
    ast.Mod: "*",
    ast.Pow: "*",
    ast.BitAnd: "|",
    ast.BitOr: "&",
}
_FUNCTIONS = {"min": "max", "max": "min", "any": "all", "all": "any", "int": "round", "sorted": "list"}
_SAID = {"logger", "warnings"}  # what is only said to people


@dataclass(frozen=True)
class Mutant:
    """One changed module."""

    path: Path
    line: int
    lines: range
    """Of the statement that it is in; of one with a body, only its head."""
    change: str
    """What was there, and what is now, in a few words."""
    text: str
    """All of the module."""
    names: frozenset[str] = frozenset()
    """What the statement defines, where it is run on import: who uses these, notices."""


def mutants_of(path: Path) -> list[Mutant]:
    """Every mutant of a module, in the order of its lines."""
    source = path.read_text("utf-8")
    tree = ast.parse(source)
    made = [
        Mutant(path, each.line, each.lines, each.change, each.applied_to(source), each.names)
        for each in _Finder(source).edits(tree)
    ]
    return sorted(made, key=lambda mutant: (mutant.line, mutant.change))


@dataclass(frozen=True)
class _Edit:
    start: int
    end: int
    replacement: str
    line: int
    change: str
    names: frozenset[str]
    lines: range = range(0)

    def applied_to(self, source: str) -> str:
        data = source.encode()
        return (data[: self.start] + self.replacement.encode() + data[self.end :]).decode()


class _Finder:
    def __init__(self, source: str) -> None:
        lines = source.encode().splitlines(keepends=True)
        self._source = source.encode()
        self._starts = [0]
        for line in lines:
            self._starts.append(self._starts[-1] + len(line))

    def edits(self, tree: ast.Module) -> Iterator[_Edit]:
        yield from self._in_body(tree.body, defined=None)

    def _in_body(self, body: list[ast.stmt], *, defined: frozenset[str] | None) -> Iterator[_Edit]:
        """`defined`: names of what surrounds the statements; None at the top; empty in a function."""
        for statement in body:
            if isinstance(statement, ast.Import | ast.ImportFrom | ast.Assert | ast.TypeAlias | ast.Pass):
                continue
            if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
                continue
            names = defined if defined is not None else _defined_by(statement)
            if isinstance(statement, ast.ClassDef):
                for each in statement.body:
                    own = frozenset() if isinstance(each, ast.FunctionDef) else _defined_by(each)
                    yield from self._in_body([each], defined=own)
            elif isinstance(statement, ast.FunctionDef):
                own = frozenset({statement.name})
                for default in (*statement.args.defaults, *statement.args.kw_defaults):
                    if default is not None:
                        yield from self._in_expression(default, own)
                yield from self._in_body(statement.body, defined=frozenset())
            else:
                lines = _head(statement)
                for edit in self._statement(statement, names):
                    yield edit if edit.lines else replace(edit, lines=lines)

    def _statement(self, statement: ast.stmt, names: frozenset[str]) -> Iterator[_Edit]:
        if isinstance(statement, ast.Expr):
            if _is_said(statement.value) or isinstance(statement.value, ast.Constant):
                return
            if isinstance(statement.value, ast.Call):
                yield self._edit(statement, "pass", names, f"without {_short(statement)}")
        if isinstance(statement, ast.AugAssign):
            yield self._edit(statement, "pass", names, f"without {_short(statement)}")
        if isinstance(statement, ast.If):
            yield self._edit(statement.test, "False", names, f"never: if {_short(statement.test)}")
        for name, value in ast.iter_fields(statement):
            if name != "annotation":
                for each in value if isinstance(value, list) else [value]:
                    yield from self._part(each, names)

    def _part(self, part: object, names: frozenset[str]) -> Iterator[_Edit]:
        """What a statement is made of."""
        match part:
            case ast.stmt():
                yield from self._in_body([part], defined=names)
            case ast.ExceptHandler():
                yield from self._in_body(part.body, defined=names)
            case ast.match_case():
                if part.guard is not None:
                    yield self._edit(part.guard, "True", names, f"always: {_short(part.guard)}")
                    yield from self._in_expression(part.guard, names)
                yield from self._in_body(part.body, defined=names)
            case ast.withitem():
                yield from self._in_expression(part.context_expr, names)
            case ast.expr():
                yield from self._in_expression(part, names)

    def _in_expression(self, expression: ast.expr, names: frozenset[str]) -> Iterator[_Edit]:
        if _is_said(expression):
            return
        yield from self._expression(expression, names)
        for child in ast.iter_child_nodes(expression):
            if isinstance(child, ast.expr):
                yield from self._in_expression(child, names)
            elif isinstance(child, ast.keyword):
                yield from self._in_expression(child.value, names)
            elif isinstance(child, ast.comprehension):
                for condition in child.ifs:
                    yield self._edit(condition, "True", names, f"always: {_short(condition)}")
                    yield from self._in_expression(condition, names)
                yield from self._in_expression(child.iter, names)

    def _expression(self, node: ast.expr, names: frozenset[str]) -> Iterator[_Edit]:
        match node:
            case ast.Compare(left=left, ops=[operator], comparators=[right]):
                yield self._between(left, right, _COMPARISONS[type(operator)], node, names)
            case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _ARITHMETIC:
                yield self._between(left, right, _ARITHMETIC[type(operator)], node, names)
            case ast.BoolOp(op=operator, values=values):
                other = "or" if isinstance(operator, ast.And) else "and"
                for left, right in pairwise(values):
                    yield self._between(left, right, other, node, names)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                yield self._edit(node, self._text(operand), names, f"without not: {_short(node)}")
            case ast.IfExp(test=test):
                yield self._edit(test, "True", names, f"always: {_short(node)}")
                yield self._edit(test, "False", names, f"never: {_short(node)}")
            case ast.Constant(value=bool(value)):
                yield self._edit(node, str(not value), names, f"{value} -> {not value}")
            case ast.Constant(value=int() | float() as value):
                yield self._edit(node, repr(value + 1), names, f"{value} -> {value + 1}")
            case ast.Call(func=ast.Name(id=name) as function, args=[_, *_]) if name in _FUNCTIONS:
                if name != "sorted" or not node.keywords:
                    yield self._edit(function, _FUNCTIONS[name], names, f"{name} -> {_FUNCTIONS[name]}")

    def _between(
        self, left: ast.expr, right: ast.expr, operator: str, node: ast.expr, names: frozenset[str]
    ) -> _Edit:
        """The operator between two operands, which has no place of its own in the tree."""
        start, end = self._end(left), self._start(right)
        old = self._source[start:end].decode()
        word = old.strip("() \n\\").split("#")[0].strip("() \n\\")
        replacement = old.replace(word, operator, 1)
        return _Edit(
            start,
            end,
            replacement,
            left.end_lineno or left.lineno,
            f"{_short(node)}: {word} -> {operator}",
            names,
        )

    def _edit(self, node: ast.expr | ast.stmt, replacement: str, names: frozenset[str], change: str) -> _Edit:
        return _Edit(self._start(node), self._end(node), replacement, node.lineno, change, names)

    def _text(self, node: ast.expr) -> str:
        return self._source[self._start(node) : self._end(node)].decode()

    def _start(self, node: ast.expr | ast.stmt) -> int:
        return self._starts[node.lineno - 1] + node.col_offset

    def _end(self, node: ast.expr | ast.stmt) -> int:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._starts[node.end_lineno - 1] + node.end_col_offset


def _head(statement: ast.stmt) -> range:
    body = getattr(statement, "body", None)
    last = body[0].lineno - 1 if body else statement.end_lineno or statement.lineno
    return range(statement.lineno, max(last, statement.lineno) + 1)


def _is_said(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id in _SAID
    )


def _defined_by(statement: ast.stmt) -> frozenset[str]:
    """The names that a statement at the top, or in a class, gives a meaning."""
    targets = {
        ast.Assign: lambda node: node.targets,
        ast.AnnAssign: lambda node: [node.target],
    }.get(type(statement))
    find: Callable[[ast.stmt], list[ast.expr]] = targets or (lambda _: [])
    return frozenset(
        name.id for target in find(statement) for name in ast.walk(target) if isinstance(name, ast.Name)
    )


def _short(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 60 else text[:57] + "..."
