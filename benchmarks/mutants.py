"""What a file's mutants are: small changes of its source, each of which some test should notice."""

from __future__ import annotations

import ast
import copy
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.planted import PLANTED

OPERATORS: dict[type, tuple[type, ...]] = {
    ast.Add: (ast.Sub,), ast.Sub: (ast.Add,), ast.Mult: (ast.Div,), ast.Div: (ast.Mult,), ast.FloorDiv: (ast.Div,),
    ast.Mod: (ast.Mult,), ast.Pow: (ast.Mult,),
    ast.And: (ast.Or,), ast.Or: (ast.And,),
    ast.Lt: (ast.LtE, ast.Gt), ast.LtE: (ast.Lt, ast.GtE), ast.Gt: (ast.GtE, ast.Lt), ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
}  # fmt: skip
"""What stands in the place of an operator."""

REMOVED = frozenset((
    "sqrt", "square", "log", "log1p", "exp", "expm1", "abs", "reversed", "sorted", "flip", "clamp", "cumsum", "round",
    "ceil", "floor", "unique", "normalize",
))  # fmt: skip
"""Calls and attributes that are taken away: ``f(x)`` and ``x.f()`` become ``x``."""

SWAPPED = {
    "min": "max", "argmin": "argmax", "any": "all", "mean": "sum", "floor": "ceil", "nanmin": "nanmax", "amin": "amax",
    "cummin": "cummax", "minimum": "maximum", "std": "var", "zeros": "ones", "zeros_like": "ones_like",
    "logsumexp": "sum", "argsort": "sort", "isnan": "isfinite", "startswith": "endswith", "nlargest": "nsmallest",
}  # fmt: skip
SWAPPED |= {there: here for here, there in SWAPPED.items() if there not in ("sum", "var", "sort", "isfinite")}
"""Names of calls that stand in for one another."""

GUARDS = ("strict", "validate_args")
"""Arguments that only ask for a check."""

QUIET = (ast.Raise, ast.Assert, ast.JoinedStr, ast.Import, ast.ImportFrom, ast.Global, ast.Nonlocal)
"""What is left as it is: words of errors, what the types say, and text."""


@dataclass(frozen=True)
class Mutant:
    """One change of one file.

    Attributes:
        file: Path in the tree.
        line: Where, from 1.
        function: Name of the outermost function, or "" of what runs on import.
        before: Source of the node.
        after: What stands in its place.
        span: First and last byte of it.
        start: First line of the function.
        twin: How many like it come before it in the function.
    """

    file: str
    line: int
    function: str
    before: str
    after: str
    span: tuple[int, int]
    start: int
    twin: int = 0

    @property
    def key(self) -> str:
        """A name that stays when other functions change."""
        about = (self.file, self.function, self.before, self.after, str(self.twin))
        return hashlib.sha1("\0".join(about).encode()).hexdigest()[:12]

    def source(self, original: bytes) -> bytes:
        """Return the file's source with the change made."""
        return original[: self.span[0]] + self.after.encode() + original[self.span[1] :]


def mutants(root: Path, file: str) -> list[Mutant]:
    """Return all mutants of a file, in the order of its lines."""
    text = (root / file).read_bytes()
    starts = [0]
    for each in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(each))
    found: dict[tuple[tuple[int, int], str], Mutant] = {}
    for node, after, function, first in _changes(ast.parse(text)):
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        span = starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset
        made = ast.unparse(after)
        made = f"({made})" if isinstance(after, ast.expr) and not isinstance(after, (ast.Constant, ast.Name)) else made
        before = text[span[0] : span[1]].decode()
        found[span, made] = Mutant(file, node.lineno, function, before, made, span, first)
    twins: Counter[tuple[str, str, str]] = Counter()
    result = []
    for each in sorted(found.values(), key=lambda each: (each.line, each.span, each.after)):
        like = each.function, each.before, each.after
        result.append(replace(each, twin=twins[like]))
        twins[like] += 1
    return result


def planted(root: Path) -> list[Mutant]:
    """Return the mutants of ``benchmarks.planted``; what stands no more where it stood is an error."""
    found = []
    for file, before, after in PLANTED:
        text = (root / file).read_text(encoding="utf-8")
        if text.count(before) != 1:
            raise ValueError(f"{file} has {text.count(before)} times {before!r}; move the bug in benchmarks/planted.py")
        line, start = text[: text.index(before)].count("\n") + 1, len(text[: text.index(before)].encode())
        inside = [
            node
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.FunctionDef) and node.lineno <= line <= (node.end_lineno or 0)
        ]
        found.append(
            Mutant(file, line, inside[0].name, before, after, (start, start + len(before.encode())), inside[0].lineno)
        )
    return found


def _changes(
    tree: ast.AST, function: str = "", inside: str = "", first: int = 1
) -> Iterator[tuple[ast.expr | ast.stmt, ast.AST, str, int]]:
    """Go through a tree; return nodes, what stands in their place, and name and line of the function they are in."""
    for child in _parts(tree):
        if isinstance(child, QUIET) or (isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)):
            continue
        if not function and isinstance(child, ast.BinOp) and isinstance(child.op, ast.BitOr):  # a type
            continue
        name, line = function, first
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) and not function:
            name, line = f"{inside}{child.name}", child.lineno
        if isinstance(child, (ast.expr, ast.stmt)):
            for after in _of(child):
                yield child, after, name, line
        deeper = f"{inside}{child.name}." if isinstance(child, ast.ClassDef) else inside
        yield from _changes(child, name, deeper, line)


def _parts(node: ast.AST) -> Iterator[ast.AST]:
    """Return a node's children, but for annotations and decorators."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "bases", "keywords" if _class(node) else ""):
            continue
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, ast.AST) and not (isinstance(each, ast.keyword) and each.arg in GUARDS):
                yield each


def _class(node: ast.AST) -> bool:
    return isinstance(node, ast.ClassDef)


def _with(node: ast.AST, **fields: object) -> ast.AST:
    result = copy.copy(node)
    for name, value in fields.items():
        setattr(result, name, value)
    return result


def _of(node: ast.AST) -> Iterator[ast.AST]:
    """Return what may stand in a node's place."""
    match node:
        case ast.BinOp(op=ast.BitOr() | ast.BitAnd(), left=left):  # of dictionaries and sets as of truth
            yield left
        case ast.BinOp(op=op) | ast.BoolOp(op=op):
            for other in OPERATORS.get(type(op), ()):
                yield _with(node, op=other())
        case ast.AugAssign(op=op):
            for other in OPERATORS.get(type(op), ()):
                yield _with(node, op=other())
            yield ast.Pass()
        case ast.Compare(ops=[op, *more]):
            for other in OPERATORS.get(type(op), ()):
                yield _with(node, ops=[other(), *more])
        case ast.UnaryOp(op=ast.USub() | ast.Not() | ast.Invert(), operand=operand):
            yield operand
        case ast.IfExp(body=body, orelse=other):
            yield _with(node, body=other, orelse=body)
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield ast.Constant(value + 1)
            if value > 0:
                yield ast.Constant(value - 1)
        case ast.Constant(value=float(value)):
            yield ast.Constant(2 * value if value else 1.0)
        case ast.Call():
            yield from _of_call(node)
        case ast.Attribute(attr="T" | "mT", value=value):
            yield value
        case ast.Expr(value=ast.Call()):
            yield ast.Pass()
        case ast.Subscript(value=value, slice=ast.Slice()):
            yield value


def _of_call(node: ast.Call) -> Iterator[ast.AST]:
    function, given = node.func, node.args
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    method = isinstance(function, ast.Attribute) and getattr(function.value, "id", "") not in ("torch", "np", "math")
    if name in REMOVED and (method or given):
        yield function.value if method and isinstance(function, ast.Attribute) else given[0]
    if name in SWAPPED:
        yield _with(node, func=_with(function, **{"attr" if hasattr(function, "attr") else "id": SWAPPED[name]}))
    plain = [each for each in given[:2] if not isinstance(each, (ast.Starred, ast.Constant, ast.GeneratorExp))]
    if len(plain) == 2 and ast.dump(plain[0]) != ast.dump(plain[1]) and name not in ("isinstance", "max", "min"):
        yield _with(node, args=[given[1], given[0], *given[2:]])
