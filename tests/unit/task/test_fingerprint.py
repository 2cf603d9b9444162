"""Whether two jobs are the same: by what they do, in any file and any process."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import functools
import os
import random
import re
import subprocess
import sys
import textwrap
import uuid
from abc import ABC, abstractmethod
from pathlib import Path
from typing import NamedTuple, TypedDict
from zoneinfo import ZoneInfo

import pydantic
import pytest

from burla_provider.task.fingerprint import fingerprint


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
        "from airflow.sdk import task\nfrom helpers import go\n@task\ndef go_on(rows): return go(rows)\n"
        "def work(rows): return go_on.function(rows)\n",
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


def test_how_a_decorated_function_runs_as_a_task_does_not_count(print_of):
    dag = """
        from airflow.sdk import task
        @task(retries={})
        def double(number): return {} * number
        def work(number): return double(number)
    """
    dag = textwrap.dedent(dag)
    assert print_of(dag.format(1, 2)) == print_of(dag.format(5, 2)) != print_of(dag.format(1, 3))


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


@dataclasses.dataclass
class Point:
    x: int = 1
    y: list[int] = dataclasses.field(default_factory=list, metadata={"unit": "m"})


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    x: int = 2


class Row(pydantic.BaseModel):
    number: int = pydantic.Field(1, ge=0)


class Strict(pydantic.BaseModel):
    number: int = pydantic.Field(1, ge=1)


class Named(NamedTuple):
    x: int = 1


class Keyed(TypedDict, total=False):
    x: int


VALUES = {
    "a dataclass": (Point, Place),
    "a model of pydantic": (Row, Strict),
    "a named tuple": (Named, Keyed),
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


@pytest.mark.parametrize("attribute", ["rate", "_rate", "__rate", "__rate__"])
def test_every_attribute_of_a_class_counts(print_of, attribute):
    dag = f"class Config:\n    {attribute} = 1\ndef work(rows): return Config\n"
    assert print_of(dag) == print_of(dag)
    assert print_of(dag) != print_of(dag.replace("= 1", "= 2"))


def test_where_a_class_is_does_not_count(print_of):
    dag = "class Config:\n    def go(self): self.a = self.b = 1\ndef work(rows): return Config\n"
    assert print_of(dag) == print_of("\n\n" + dag)


@pytest.mark.parametrize(
    "helper",
    [
        "RATE = json.loads(TEXT)\ndef go(rows): return RATE\n",
        "class Config:\n    rate = json.loads(TEXT)\ndef go(rows): return Config.rate\n",
        "class Config: pass\nCONFIG = Config()\nCONFIG.rate = json.loads(TEXT)\ndef go(rows): return CONFIG.rate\n",
        "RATES = fractions.Fraction(json.loads(TEXT))\ndef go(rows): return RATES\n",
    ],
)
@pytest.mark.parametrize(
    "dag", ["import helpers\ndef work(rows): return helpers.go(rows)\n", "from helpers import go as work\n"]
)
def test_what_a_helper_has_read_from_a_file_counts(print_of, dags, dag, helper):
    head = "import fractions, json, pathlib, threading\nLOCK = threading.Lock()\n"
    head += "TEXT = pathlib.Path(__file__).with_name('rates.json').read_text()\n"
    dags("rates.json", "1")
    first = print_of(dag, helpers=head + helper)
    assert print_of(dag, helpers=head + helper) == first
    dags("rates.json", "2")
    assert print_of(dag, helpers=head + helper) != first


def test_what_the_dag_file_sets_in_a_helper_counts(print_of):
    dag = "import helpers\nhelpers.RATE = 2\ndef work(rows): return helpers.go(rows)\n"
    helper = (
        "import threading\nLOCK = threading.Lock()\nRATE = 1\nUNUSED = 1\ndef go(rows):\n    with LOCK: return RATE\n"
    )
    assert print_of(dag, helpers=helper) == print_of(dag, helpers=helper)
    assert print_of(dag, helpers=helper) != print_of(dag.replace("= 2", "= 3"), helpers=helper)
    unused = dag.replace("def", "helpers.UNUSED = 2\ndef")
    assert print_of(dag, helpers=helper) == print_of(unused, helpers=helper)


def test_a_model_of_pydantic_is_the_same_again(print_of):
    dag = "import pydantic\nclass Row(pydantic.BaseModel):\n    id: int = 1\ndef work(rows): return Row().id\n"
    assert print_of(dag) == print_of(dag)
    assert print_of(dag) != print_of(dag.replace("id: int", "id: str"))
    assert print_of(dag) != print_of(dag.replace("= 1", "= 2"))


@pytest.mark.parametrize(
    "annotation",
    ["int", "Part", pytest.param("Unknown", marks=pytest.mark.skipif(sys.version_info < (3, 14), reason="an error"))],
)
def test_the_annotations_of_a_class_count_whether_or_not_they_were_read(print_of, annotation):
    dag = "import abc\nclass Part: SIZE = 1\nclass Row(abc.ABC):\n    id: INT\ndef work(rows): return Row\n"
    first = print_of(dag.replace("INT", annotation))
    assert print_of(dag.replace("INT", annotation)) == first
    assert print_of(dag.replace("INT", "str")) != first
    if annotation == "Part":
        read = dag.replace("INT", "Part").replace("def work", "getattr(Row, '__annotations__')\ndef work")
        assert print_of(read) == first
        assert print_of(read.replace("SIZE = 1", "SIZE = 2")) != first


def test_it_is_the_same_in_another_process():
    script = "from tests.unit.task.test_fingerprint import *; print(*[fingerprint(one) for one, _ in VALUES.values()])"
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


def test_arguments_are_part_of_what_a_job_does():
    def work(rows, rate):
        return rate

    assert fingerprint(work, {"rate": 1}, None) == fingerprint(work, {"rate": 1}, None)
    assert len({fingerprint(work, arguments, None) for arguments in ({}, {"rate": 1}, {"rate": 2})}) == 3
    assert fingerprint(work, {}, {"rate": lambda: 1}) != fingerprint(work, {}, {"rate": lambda: 2})


@pytest.mark.parametrize(
    "dag",
    [
        "class work:\n    @functools.cached_property\n    def rate(self): return 1\n",
        "@functools.singledispatch\ndef rate(row): return 0\n@rate.register\ndef _(row: int): return 1\n"
        "def work(rows): return rate(rows)\n",
        "class work:\n    @functools.singledispatchmethod\n    def rate(self, row): return 1\n",
    ],
    ids=["cached_property", "singledispatch", "singledispatchmethod"],
)
def test_a_cache_does_not_make_a_job_different(print_of, dag):
    dag = f"import functools\n{dag}"
    assert print_of(dag) == print_of(dag)
    assert print_of(dag) != print_of(dag.replace("return 1", "return 2"))
