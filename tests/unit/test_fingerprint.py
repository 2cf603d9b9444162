"""Whether two jobs are the same: told by what they do, wherever and in whatever process."""

from __future__ import annotations

import datetime
import decimal
import enum
import functools
import os
import random
import re
import subprocess
import sys
import uuid
from abc import ABC, abstractmethod
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from burla_provider.fingerprint import fingerprint


@pytest.fixture
def print_of(dags, load_dag):
    """The fingerprint of ``work`` of a DAG file, read again; keywords are the texts of other files of the folder."""

    def print_of(dag, **helpers):
        dags("dag.py", dag)
        for name, text in helpers.items():
            dags(f"{name}.py", text)
            sys.modules.pop(name, None)
        sys.path_importer_cache.clear()
        sys.dont_write_bytecode = True
        return fingerprint(load_dag().work)

    yield print_of
    sys.dont_write_bytecode = False


@pytest.mark.parametrize(
    "dag",
    [
        "import helpers\ndef work(rows): return helpers.go(rows)\n",
        "def work(rows):\n    import helpers\n    return helpers.go(rows)\n",
        "def work(rows):\n    from helpers import go\n    return go(rows)\n",
        "from helpers import go\ndef work(rows): return go(rows)\n",
        "import between\ndef work(rows): return between.go(rows)\n",
        "from helpers import go\nclass Worker:\n    def __call__(self, rows): return go(rows)\nwork = Worker()\n",
        "import functools, helpers\nwork = functools.partial(lambda by, rows: helpers.go(rows), 3)\n",
    ],
)
def test_a_helper_that_changed_is_another_job_however_it_is_imported(print_of, dag):
    between = "import helpers\ndef go(rows): return helpers.go(rows)\n"
    first = print_of(dag, between=between, helpers="def go(rows): return 1\n")
    assert print_of(dag, between=between, helpers="def go(rows): return 1\n") == first
    assert print_of(dag, between=between, helpers="def go(rows): return 2\n") != first


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda row: (row["net"], row["gross"], row["net"]), lambda row: (row["net"], row["gross"], row["gross"])),
        (lambda x: x * 1 + x * 2 - 2, lambda x: x * 1 + x * 2 - 1),
        (lambda x: 5 if x > 5 else 10, lambda x: 10 if x > 5 else 5),
        (lambda x: [lambda: 1, lambda: 2][x], lambda x: [lambda: 2, lambda: 1][x]),
    ],
)
def test_it_matters_where_a_constant_is_used(one, other):
    assert fingerprint(one) != fingerprint(other)


def test_a_helper_that_the_function_does_not_use_may_change(print_of):
    dag = "import helpers\ndef work(rows): return sum(rows)\n"
    assert print_of(dag, helpers="A = 1\n") == print_of(dag, helpers="A = 2\n")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("class Base:\n    def go(self): return 1\n", "class Base:\n    def go(self): return 2\n"),
        ("class Base:\n    go = property(lambda self: 1)\n", "class Base:\n    go = property(lambda self: 2)\n"),
        (
            "class Base:\n    @staticmethod\n    def go(): return 1\n",
            "class Base:\n    @staticmethod\n    def go(): return 2\n",
        ),
    ],
)
def test_what_a_class_inherits_belongs_to_it(print_of, one, other):
    dag = "class Own(Base): pass\ndef work(rows): return Own().go\n"
    assert print_of(one + dag) == print_of(one + dag)
    assert print_of(one + dag) != print_of(other + dag)


@pytest.mark.parametrize("decorator", ["functools.cache", "contextlib.contextmanager"])
def test_a_function_within_an_installed_decorator_is_read(print_of, decorator):
    dag = f"import contextlib, functools\n@{decorator}\ndef go(row):\n    return 1\n"
    work = "def work(rows): return go(rows)\n"
    assert print_of(dag + work) == print_of(dag + work)
    assert print_of(dag + work) != print_of(dag.replace("return 1", "return 2") + work)


class Slotted:
    __slots__ = ("rate",)

    def __init__(self, rate):
        self.rate = rate


class Shape(ABC):
    def __init__(self, side):
        self.side = side

    @abstractmethod
    def area(self): ...


class Square(Shape):
    def area(self):
        return self.side**2


class Color(enum.Enum):
    RED = 1
    BLUE = 2


VALUES = {
    "a long pattern": (re.compile("x" * 300 + "a"), re.compile("x" * 300 + "b")),
    "the flags of a pattern": (re.compile("x"), re.compile("x", re.IGNORECASE)),
    "an object with slots": (Slotted(1), Slotted(2)),
    "an object of a class with bases": (Square(1), Square(2)),
    "a bound method": (Square(1).area, Square(2).area),
    "a bound method of a built-in": ([1].count, [2].count),
    "a member of an enum": (Color.RED, Color.BLUE),
    "an object of an installed class": (random.Random(1), random.Random(2)),
    "a dict": ({"a": 1}, {"a": 2}),
    "where a dict's entry is": ([{"a": 1}, {}], [{}, {"a": 1}]),
    "a set": ({"a", "b"}, {"a", "c"}),
    "what goes together in a set": ({(1, 2), (3, 4)}, {(1, 4), (3, 2)}),
    "which object comes again": ((one := [1], two := [1], one), (one, two, two)),
    "a partial": (functools.partial(print, 1), functools.partial(print, 2)),
    "a decimal": (decimal.Decimal("1.0"), decimal.Decimal("1.00")),
    "a time": (datetime.datetime(2024, 1, 1, tzinfo=ZoneInfo("Europe/Rome")), datetime.datetime(2024, 1, 1)),
    "a path": (Path("/a"), Path("/b")),
    "a uuid": (uuid.UUID(int=1), uuid.UUID(int=2)),
    "text": ("x" * 1_000 + "a", "x" * 1_000 + "b"),
    "bytes": (b"x" * 1_000 + b"a", b"x" * 1_000 + b"b"),
    "a type": (int, float),
    "a function": (lambda: 1, lambda: 2),
}


@pytest.mark.parametrize(("one", "other"), VALUES.values(), ids=VALUES)
def test_data_is_compared_by_all_that_it_holds(one, other):
    assert fingerprint(one) == fingerprint(one)
    assert fingerprint(one) != fingerprint(other)


def test_it_is_the_same_in_another_process():
    script = "from tests.unit.test_fingerprint import *; print(*[fingerprint(one) for one, _ in VALUES.values()])"
    seen = []
    for seed in "12":
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        result = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        seen.append(dict(zip(VALUES, result.stdout.split(), strict=True)))
    assert seen[0] == seen[1]


class Recursive:
    def __init__(self):
        self.me = [self]


def test_an_object_may_hold_itself():
    assert fingerprint(Recursive()) == fingerprint(Recursive())
