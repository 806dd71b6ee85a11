"""Mutations that are drawn: small edits of any function in the rooms that carry the data.

Which edits there are is decided here, SQL among the code. Which of them are drawn follows from the
seed and the code alone, and a change to one function leaves those of the others as they are. What
an edit cannot break is left alone: log lines, texts for people, annotations, docstrings. Which
tests a drawn one is tried on, and which are no faults, stands in `known`.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from incident_assets_tests.mutants.known import TESTS
from incident_assets_tests.mutants.trying import PACKAGE, ROOT, Mutation

ROOMS = ("api", "sync", "warehouse", "checks")
SEED = 15
DRAWN = 30
SHOWN = 40  # characters on either side of what differs

# The opposite of a comparison, and the one whose boundary is shifted.
COMPARED: Mapping[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.GtE, ast.LtE),
    ast.LtE: (ast.Gt, ast.Lt),
    ast.Gt: (ast.LtE, ast.GtE),
    ast.GtE: (ast.Lt, ast.Gt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
SQL = re.compile(r"\b(SELECT|FROM|WHERE|FILTER|JOIN|AND)\b")
WORDS = ((" AND ", " OR "), (" OR ", " AND "), (" IS NULL", " IS NOT NULL"), ("NOT IN ", "IN "))
# Without these a program goes on; without another it hardly starts.
REMOVED = ast.Expr | ast.AugAssign | ast.Raise | ast.Continue | ast.Break | ast.Delete
LEFT_ALONE = {"annotation", "returns", "decorator_list"}  # fields


@dataclass(frozen=True)
class Edit:
    """A node in the place of another: `field` of `parent`, at `index` where that is a list."""

    parent: ast.AST
    field: str
    index: int | None
    new: ast.AST

    def swap(self) -> "Edit":
        """Put the node there, and return the edit that undoes it."""
        place = getattr(self.parent, self.field)
        if self.index is None:
            setattr(self.parent, self.field, self.new)
            return Edit(self.parent, self.field, None, place)
        before, place[self.index] = place[self.index], self.new
        return Edit(self.parent, self.field, self.index, before)


@dataclass(frozen=True)
class Candidate:
    """An edit that may be drawn; its `name` stays the same as long as its function does."""

    name: str
    says: str
    path: Path
    line: int
    tree: ast.Module
    edit: Edit

    @property
    def rank(self) -> str:
        """Where it stands among all; the first ones are drawn."""
        return blake2b(f"{SEED} {self.name}".encode()).hexdigest()

    def build(self) -> Mutation:
        """Return the mutation, with the tests of its module."""
        undo = self.edit.swap()
        source = ast.unparse(self.tree)
        undo.swap()
        path, module = self.path.relative_to(ROOT), self.path.relative_to(ROOT / PACKAGE)
        return Mutation(str(path), self.line, self.says, source, TESTS[str(module)])


def draw() -> list[Candidate]:
    """Return the candidates that are drawn, in the order of their places."""
    drawn = sorted(list_candidates(), key=lambda x: x.rank)[:DRAWN]
    return sorted(drawn, key=lambda x: (x.path, x.line, x.name))


def list_modules() -> list[Path]:
    """Return the modules of the rooms."""
    return [path for room in ROOMS for path in sorted((ROOT / PACKAGE / room).glob("*.py"))]


def list_candidates() -> Iterator[Candidate]:
    """Yield every edit of every function in the rooms."""
    for path in list_modules():
        tree = ast.parse(path.read_text())
        for name, function in _list_functions(tree):
            seen: Counter[str] = Counter()
            for statement, edit in _edit(function, function):
                says = _say(statement, edit)
                seen[says] += 1
                again = f" ({seen[says]})" if seen[says] > 1 else ""
                full = f"{path.relative_to(ROOT / PACKAGE)} {name}: {says}{again}"
                yield Candidate(full, says, path, statement.lineno, tree, edit)


def _list_functions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    for child in ast.iter_child_nodes(node):
        inner = prefix
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            inner = f"{prefix}{child.name}."
        if isinstance(child, ast.FunctionDef) and child.name != "__repr__":
            yield f"{prefix}{child.name}", child
        yield from _list_functions(child, inner)


def _edit(node: ast.AST, statement: ast.stmt) -> Iterator[tuple[ast.stmt, Edit]]:
    """Yield the edits below a node, each with the statement that it is in."""
    for field, value in ast.iter_fields(node):
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(child, ast.AST) or field in LEFT_ALONE or _is_idle(child):
                continue
            inside = child if isinstance(child, ast.stmt) else statement
            yield from ((inside, Edit(node, field, index, new)) for new in _replace(child))
            yield from _edit(child, inside)


def _is_idle(node: ast.AST) -> bool:
    """Whether a node is a docstring, a log line, a `strict`, or a function with its own edits."""
    if isinstance(node, ast.keyword):
        return node.arg == "strict"  # of zip: a guard against what cannot happen
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) or ast.unparse(node).startswith("logger.")
    return isinstance(node, ast.FunctionDef | ast.ClassDef)


def _replace(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what may stand in the place of a node."""
    match node:
        case ast.Compare():
            for number, operator in enumerate(node.ops):
                for other in COMPARED[type(operator)]:
                    new = copy(node)
                    new.ops = [*node.ops[:number], other(), *node.ops[number + 1 :]]
                    yield new
        case ast.BoolOp():
            yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
        case ast.UnaryOp(op=ast.Not()):
            yield node.operand
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value) | float(value)):
            yield from (ast.Constant(value + 1), ast.Constant(value - 1))
        case ast.Constant(value=str(text)) if SQL.search(text):
            for old, new_word in WORDS:
                for found in re.finditer(re.escape(old), text):
                    yield ast.Constant(text[: found.start()] + new_word + text[found.end() :])
        case ast.Return(value=ast.expr()) if not isinstance(node.value, ast.Constant):
            yield ast.Return(ast.Constant(None))
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield ast.Pass()
        case _ if isinstance(node, REMOVED):
            yield ast.Pass()


def _say(statement: ast.stmt, edit: Edit) -> str:
    """Return what an edit makes of its statement, as far as it differs."""
    before = _show(statement)
    if isinstance(edit.new, ast.stmt):
        after = _show(edit.new)
    else:
        undo = edit.swap()
        after = _show(statement)
        undo.swap()
    start = max(0, _count_alike(before, after) - SHOWN)
    end = max(0, _count_alike(before[start:][::-1], after[start:][::-1]) - SHOWN)
    cut = [text[start : len(text) - end] for text in (before, after)]
    return " → ".join(f"{'…' * bool(start)}{text}{'…' * bool(end)}" for text in cut)


def _count_alike(one: str, other: str) -> int:
    """Return how many characters two texts begin with alike."""
    shorter = min(len(one), len(other))
    return next((n for n in range(shorter) if one[n] != other[n]), shorter)


def _show(statement: ast.stmt) -> str:
    return " ".join(ast.unparse(statement).splitlines()[0].split())
