"""Make mutants of a module: its source with one small change that a test should notice.

A mutant replaces a part of the text and keeps the number of lines, so that comments, lines in tracebacks and
``inspect.getsource`` stay right. Texts of messages, logs, docstrings and annotations are not changed.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

_COMPARISONS = {
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
_ARITHMETIC = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "+"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"),
    ast.Pow: ("**", "*"),
    ast.BitOr: ("|", "&"),
    ast.BitAnd: ("&", "|"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
}
_FUNCTIONS = {"min": "max", "max": "min", "any": "all", "all": "any"}
_METHODS = {"startswith": "endswith", "endswith": "startswith"}
_LOG_METHODS = {"debug", "info", "warning", "error", "exception", "critical"}
_TOKEN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Mutant:
    """One change of one file.

    :ivar path: of the module, relative to the checkout.
    :ivar line: first line of the change.
    :ivar scope: qualified name of the class or function around it; "" is the module.
    :ivar is_eager: whether the changed code runs when the module is imported.
    :ivar start: offset of the change in the UTF-8 source; ``end`` as well.
    :ivar key: identifies the mutant as long as the lines of its function stay the same.
    """

    path: str
    line: int
    scope: str
    operator: str
    is_eager: bool
    start: int
    end: int
    replacement: str
    before: str
    after: str
    key: str

    def apply(self, source: bytes) -> bytes:
        """Return the source with the change."""
        return source[: self.start] + self.replacement.encode() + source[self.end :]

    @property
    def diff(self) -> str:
        """The changed lines, before and after."""
        return f"{self.before.strip()}  =>  {self.after.strip()}"


def find_mutants(path: str, source: bytes) -> list[Mutant]:
    """Return all mutants of the module, in the order of their lines."""
    found = sorted(_Finder(source).find(), key=lambda change: (change.start, change.end, change.replacement))
    mutants: list[Mutant] = []
    seen: dict[str, int] = {}
    for change in found:
        begin = source.rfind(b"\n", 0, change.start) + 1
        finish = source.find(b"\n", change.end)
        before = source[begin:finish].decode()
        after = (source[begin : change.start] + change.replacement.encode() + source[change.end : finish]).decode()
        text = f"{path}|{change.scope}|{change.body}|{change.operator}|{before}|{after}"
        key = hashlib.sha256(text.encode()).hexdigest()[:16]
        seen[key] = seen.get(key, 0) + 1
        line = source.count(b"\n", 0, change.start) + 1
        mutants.append(
            Mutant(
                *(path, line, change.scope, change.operator, change.is_eager, change.start, change.end),
                *(change.replacement, _one_line(before), _one_line(after), f"{key}-{seen[key]}"),
            )
        )
    return mutants


@dataclass(frozen=True)
class _Change:
    start: int
    end: int
    replacement: str
    operator: str
    scope: str
    body: str
    is_eager: bool


class _Finder:
    def __init__(self, source: bytes) -> None:
        self._source = source
        self._lines = [0]
        for line in source.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))
        self._scope: tuple[str, ...] = ()
        self._body = ""
        self._is_eager = True

    def find(self) -> Iterator[_Change]:
        yield from self._visit(ast.parse(self._source))

    def _visit(self, node: ast.AST) -> Iterator[_Change]:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield from self._visit_definition(node)
                return
            case ast.Lambda():
                eager, self._is_eager = self._is_eager, False
                yield from self._visit(node.body)
                self._is_eager = eager
                return
            case ast.Assert() | ast.Import() | ast.ImportFrom() | ast.JoinedStr() | ast.Global():
                return
            case ast.Raise():
                yield self._change(node, "pass", "statement")
                return
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                return
            case ast.Expr(value=ast.Constant()):
                return
            case ast.Expr(value=ast.Call() as call) if _is_log(call):
                return
        yield from self._changes(node)
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns", "type_params", "type"):
                continue
            if isinstance(node, ast.Call) and field == "args" and _callee(node) in ("cast", "TypeVar", "NewType"):
                continue
            if isinstance(node, ast.Assign) and any(
                isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets
            ):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from self._visit(child)

    def _visit_definition(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> Iterator[_Change]:
        before = self._scope, self._body, self._is_eager
        self._scope = (*self._scope, node.name)
        if isinstance(node, ast.ClassDef):
            self._body = ""
        else:
            if not before[1]:
                self._body = ast.unparse(node)
            for default in [*node.args.defaults, *(default for default in node.args.kw_defaults if default)]:
                yield from self._visit(default)
            self._is_eager = False
            if _is_overload(node):
                self._scope, self._body, self._is_eager = before
                return
        for statement in node.body:
            yield from self._visit(statement)
        self._scope, self._body, self._is_eager = before

    def _changes(self, node: ast.AST) -> Iterator[_Change]:
        match node:
            case ast.Compare():
                operands = [node.left, *node.comparators]
                for left, operator, right in zip(operands, node.ops, operands[1:], strict=False):
                    yield from self._between(left, right, *_COMPARISONS[type(operator)], "comparison")
            case ast.BoolOp():
                old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
                for left, right in zip(node.values, node.values[1:], strict=False):
                    yield from self._between(left, right, old, new, "boolean")
            case ast.UnaryOp(op=ast.Not()):
                yield self._change(node, f"bool({self._text(node.operand)})", "negation")
            case ast.UnaryOp(op=ast.USub()):
                yield self._change(node, self._text(node.operand), "sign")
            case ast.BinOp():
                is_type = self._is_eager and isinstance(node.op, ast.BitOr)
                if type(node.op) in _ARITHMETIC and not (is_type or _is_text(node.left) or _is_text(node.right)):
                    yield from self._between(node.left, node.right, *_ARITHMETIC[type(node.op)], "arithmetic")
            case ast.AugAssign():
                if type(node.op) in _ARITHMETIC:
                    old, new = _ARITHMETIC[type(node.op)]
                    yield from self._between(node.target, node.value, f"{old}=", f"{new}=", "arithmetic")
                yield self._change(node, "pass", "statement")
            case ast.If() | ast.While() | ast.IfExp():
                yield from self._negate(node.test)
            case ast.comprehension():
                for test in node.ifs:
                    yield from self._negate(test)
            case ast.Constant():
                yield from self._constants(node)
            case ast.Return(value=ast.expr() as value):
                if not (isinstance(value, ast.Constant) and value.value in (None, True, False)):
                    yield self._change(value, "None", "return value")
            case ast.Return() | ast.Delete():
                yield self._change(node, "pass", "statement")
            case ast.Break():
                yield self._change(node, "continue", "statement")
            case ast.Continue():
                yield self._change(node, "pass", "statement")
            case ast.Expr(value=ast.Call()):
                yield self._change(node, "pass", "statement")
            case ast.Assign(targets=[ast.Attribute()]) if self._scope[-1:] != ("__init__",):
                yield self._change(node, "pass", "statement")
            case ast.Assign(targets=[ast.Subscript()]):
                yield self._change(node, "pass", "statement")
            case ast.Slice():
                for bound in (node.lower, node.upper):
                    if bound is not None:
                        yield self._change(bound, "", "slice")
            case ast.Call(func=ast.Name(id=name)) if name in _FUNCTIONS and node.args:
                yield self._change(node.func, _FUNCTIONS[name], "function")
            case ast.Call(func=ast.Attribute(attr=name) as function) if name in _METHODS:
                end = self._offset(function.end_lineno, function.end_col_offset)
                yield self._replace(end - len(name), end, _METHODS[name], "method")

    def _constants(self, node: ast.Constant) -> Iterator[_Change]:
        value = node.value
        if isinstance(value, bool):
            yield self._change(node, str(not value), "constant")
        elif isinstance(value, int):
            yield self._change(node, str(value + 1), "constant")
            if value == 1:
                yield self._change(node, "0", "constant")
        elif isinstance(value, float):
            yield self._change(node, repr(value + 1), "constant")
        elif isinstance(value, str) and _TOKEN.fullmatch(value):
            yield self._change(node, repr(value + "_x"), "text")

    def _negate(self, test: ast.expr) -> Iterator[_Change]:
        # Other tests have a mutant of their own that negates them.
        if not isinstance(test, ast.Compare | ast.BoolOp | ast.UnaryOp | ast.Constant | ast.NamedExpr):
            yield self._change(test, f"not ({self._text(test)})", "negation")

    def _between(self, left: ast.expr, right: ast.expr, old: str, new: str, operator: str) -> Iterator[_Change]:
        start = self._offset(left.end_lineno, left.end_col_offset)
        end = self._offset(right.lineno, right.col_offset)
        pattern = rf"\b{old}\b".replace(" ", r"\s+") if old[0].isalpha() else re.escape(old)
        if found := re.search(pattern.encode(), self._source[start:end]):
            yield self._replace(start + found.start(), start + found.end(), new, operator)

    def _change(self, node: ast.expr | ast.stmt, text: str, operator: str) -> _Change:
        start = self._offset(node.lineno, node.col_offset)
        end = self._offset(node.end_lineno, node.end_col_offset)
        missing = self._source.count(b"\n", start, end) - text.count("\n")
        if missing:
            text = text + "\n" * missing if isinstance(node, ast.stmt) else f"({text}" + "\n" * missing + ")"
        return self._replace(start, end, text, operator)

    def _replace(self, start: int, end: int, text: str, operator: str) -> _Change:
        return _Change(start, end, text, operator, ".".join(self._scope), self._body, self._is_eager)

    def _text(self, node: ast.expr) -> str:
        start, end = self._offset(node.lineno, node.col_offset), self._offset(node.end_lineno, node.end_col_offset)
        return self._source[start:end].decode()

    def _offset(self, line: int | None, column: int | None) -> int:
        assert line is not None
        assert column is not None
        return self._lines[line - 1] + column


def _callee(call: ast.Call) -> str:
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _is_log(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and call.func.attr in _LOG_METHODS


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _is_overload(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(ast.unparse(decorator).endswith(("overload", "abstractmethod")) for decorator in node.decorator_list)


def _one_line(text: str) -> str:
    return " ".join(text.split())
