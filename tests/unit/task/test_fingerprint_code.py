"""Fingerprints of code: every change of a function counts, and an unchanged function is equal in every process."""

from __future__ import annotations

import ast
import csv
import heapq
import inspect
import json
import os
import statistics
import subprocess
import sys
import textwrap
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from burla_provider.task.fingerprint import fingerprint

TYPE_PARAMETERS = """
class Generic[T]:
    def get(self) -> T: ...


def work_generic(row):
    return Generic()
"""
"""Since Python 3.12."""
SHAPES = Path(__file__).parent / "fingerprint_shapes.py"


def function_of(source: str, name: str = "f") -> Any:
    """Return a function of a DAG file with this source."""
    module = types.ModuleType("unusual_prefix_0123_dag")
    exec(compile(textwrap.dedent(source), "dag.py", "exec"), vars(module))
    return vars(module)[name]


BODIES = [
    ("a in b", "a not in b"),
    ("a is b", "a is not b"),
    ("a < b", "a <= b"),
    ("a and b", "a or b"),
    ("[x for x in a if x in b]", "[x for x in a if x not in b]"),
    ("g(x=a)", "g(y=a)"),
    ("g(x=a, y=b)", "g(y=a, x=b)"),
    ("g(a, (b,))", "g((a, b))"),
    ("g(a, [b])", "g([a, b])"),
    ("g(a, {b})", "g({a, b})"),
    ("g(a)(b)", "g(a, b)"),
    ("g(*a)", "g(a)"),
    ("[a, [b]]", "[[a, b]]"),
    ("(a, (b,))", "((a, b),)"),
    ("{a: b}", "{b: a}"),
    ("{**a, **b}", "{**b, **a}"),
    ("a[b:]", "a[:b]"),
    ("f'{a!r}'", "f'{a!s}'"),
    ("f'{a:>3}'", "f'{a:>4}'"),
    ("a.x", "a.y"),
    ("-a", "+a"),
    ("0.0", "-0.0"),
    ("1", "True"),
    ("1", "1.0"),
    ("'a'", "b'a'"),
    ("a in (1, 2)", "a in (2, 1)"),
    ("a in {1, 2}", "a in {1, 3}"),
    ("lambda x, y=1: x", "lambda y, x=1: x"),
    ("(lambda x, y: x - y)(a, b)", "(lambda y, x: x - y)(a, b)"),
    ("(yield a)", "(yield from a)"),
]
PARAMETERS = ["x, y", "y, x", "x, y, /", "x, /, y", "x, *, y", "*, x, y", "*x, y", "x, *y", "x, **y", "*x, **y"]


@pytest.mark.parametrize(("one", "other"), BODIES)
def test_a_changed_expression_counts(one: str, other: str) -> None:
    head = "def g(*a, **k): return a\ndef f(a, b): return "
    assert fingerprint(function_of(head + one)) != fingerprint(function_of(head + other))


def test_the_order_and_the_kind_of_parameters_count() -> None:
    functions = [function_of(f"def f({parameters}): return x, y") for parameters in PARAMETERS]
    assert len(set(map(fingerprint, functions))) == len(PARAMETERS)
    sources = (f"def g({parameters}): return x, y\ndef f(row): return g(*row)" for parameters in PARAMETERS)
    assert len(set(map(fingerprint, map(function_of, sources)))) == len(PARAMETERS)


class Change(ast.NodeTransformer):
    """Change one node of a syntax tree, in the order in which the nodes are visited.

    :ivar remaining: changes that are skipped; negative after the change.
    """

    def __init__(self, remaining: int) -> None:
        self.remaining = remaining

    def generic_visit(self, node: ast.AST) -> ast.AST:
        for change in CHANGES:
            changed = change(node) if self.remaining >= 0 else None
            if changed is not None:
                self.remaining -= 1
                if self.remaining < 0:
                    return changed
        return super().generic_visit(node)


OPPOSITES = {ast.In: ast.NotIn, ast.Is: ast.IsNot, ast.Eq: ast.NotEq, ast.Lt: ast.LtE, ast.Gt: ast.GtE}


def change_comparison(node: ast.AST) -> ast.AST | None:
    opposites = OPPOSITES | {other: one for one, other in OPPOSITES.items()}
    return (
        ast.Compare(node.left, [opposites[type(node.ops[0])](), *node.ops[1:]], node.comparators)
        if isinstance(node, ast.Compare)
        else None
    )


def change_keyword(node: ast.AST) -> ast.AST | None:
    return ast.keyword(f"{node.arg}_", node.value) if isinstance(node, ast.keyword) and node.arg else None


def nest_arguments(node: ast.AST) -> ast.AST | None:
    if not isinstance(node, ast.Call) or not node.args:
        return None
    return ast.Call(node.func, [ast.List(node.args, ast.Load())], node.keywords)


def swap_parameters(node: ast.AST) -> ast.AST | None:
    if not isinstance(node, ast.arguments) or len(node.args) < 2:
        return None
    return ast.arguments(
        node.posonlyargs, node.args[::-1], node.vararg, node.kwonlyargs, node.kw_defaults, node.kwarg, node.defaults
    )


def star_parameter(node: ast.AST) -> ast.AST | None:
    if not isinstance(node, ast.arguments) or node.vararg or not node.args or node.defaults:
        return None
    return ast.arguments(
        node.posonlyargs, node.args[:-1], node.args[-1], node.kwonlyargs, node.kw_defaults, node.kwarg, []
    )


def change_constant(node: ast.AST) -> ast.AST | None:
    return ast.Constant(not node.value) if isinstance(node, ast.Constant) and isinstance(node.value, int) else None


def swap_elements(node: ast.AST) -> ast.AST | None:
    return ast.Tuple(node.elts[::-1], node.ctx) if isinstance(node, ast.Tuple) and len(node.elts) > 1 else None


CHANGES: list[Callable[[Any], ast.AST | None]] = [
    *(change_comparison, change_keyword, nest_arguments, swap_parameters, star_parameter, change_constant),
    swap_elements,
]


def changed_sources(function: Any) -> Iterator[str]:
    """Yield the source of a function, and its sources with one change each."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    yield ast.unparse(tree)
    for number in range(1_000):
        change = Change(number)
        changed = change.visit(ast.parse(ast.unparse(tree)))
        if change.remaining >= 0:
            return
        yield ast.unparse(ast.fix_missing_locations(changed))


def without_places(code: types.CodeType) -> types.CodeType:
    """Return the code without lines and columns."""
    constants = tuple(without_places(one) if isinstance(one, types.CodeType) else one for one in code.co_consts)
    return code.replace(co_firstlineno=1, co_linetable=b"", co_consts=constants)


CHANGED = [statistics.quantiles, statistics.linear_regression, heapq.merge, heapq.nsmallest, json.dumps]
CHANGED += [csv.Sniffer._guess_delimiter, csv.DictReader.__next__, textwrap.shorten, inspect.getcallargs]


@pytest.mark.parametrize("function", CHANGED, ids=lambda function: function.__qualname__)
def test_two_functions_are_equal_only_if_their_code_is(function: Any) -> None:
    seen: dict[str, types.CodeType] = {}
    for source in changed_sources(function):
        changed = function_of(source, function.__name__)
        code = without_places(changed.__code__)
        assert seen.setdefault(fingerprint(types.FunctionType(changed.__code__, {}, "f")), code) == code, source
    assert len(seen) > 5


SCRIPT = """
import importlib.util, json, sys
from burla_provider.task.fingerprint import fingerprint

path, name, calls, traced = *sys.argv[1:3], int(sys.argv[3]), len(sys.argv) > 4
spec = importlib.util.spec_from_file_location(name, path)
sys.modules[name] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
functions = {key: value for key, value in vars(module).items() if key.startswith("work_")}
if traced:
    sys.settrace(lambda *_: lambda *_: None)
for function in functions.values():
    for number in range(calls):
        function(number)
print(json.dumps({key: fingerprint(function) for key, function in functions.items()}))
"""


def fingerprints(path: Path, source: str, seed: int, calls: int = 0, *more: str) -> dict[str, str]:
    """Return the fingerprints of the functions of a file, in another process, after so many calls."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(source)
    name = f"unusual_prefix_{hash(path) % 2**160:040x}_dag"
    environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
    command = [sys.executable, "-c", SCRIPT, str(path), name, str(calls), *more]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return dict(json.loads(result.stdout))


def test_an_unchanged_function_is_equal_in_every_process(tmp_path: Path) -> None:
    source = SHAPES.read_text() + (TYPE_PARAMETERS if sys.version_info >= (3, 12) else "")
    first = fingerprints(tmp_path / "a" / "dag.py", source, 1)
    assert len(set(first.values())) == len(first) > 40
    for seed in range(2, 5):
        assert fingerprints(tmp_path / "a" / "dag.py", source, seed) == first
    assert fingerprints(tmp_path / "a" / "dag.py", source, 5, 2_000) == first
    assert fingerprints(tmp_path / "a" / "dag.py", source, 6, 20, "traced") == first
    assert fingerprints(tmp_path / "b" / "dag.py", f"# A comment\n\n{source}", 7) == first
