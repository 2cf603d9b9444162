"""User code that is unpickled in another process, without the DAG folder."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap
import threading

import pytest

from burla_provider.exceptions import InvalidParameterError
from burla_provider.jobs.code.local_modules import LocalSources, is_local
from burla_provider.jobs.code.pickler import pickle_argument, pickle_for_workers, pickling

WORKER_SCRIPT = """
    import pickle, sys
    work = pickle.load(sys.stdin.buffer)
    assert not [name for name in sys.modules if name.partition(".")[0] in ("burla_provider", "tests", "airflow")]
    print(work(0, 20))
"""


def run_in_worker(*pickled, script=WORKER_SCRIPT):
    result = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(script)], input=b"".join(pickled), capture_output=True, cwd="/"
    )
    assert result.returncode == 0, result.stderr.decode()
    return result.stdout.decode().strip()


def test_a_function_of_a_dag_file_is_pickled_by_value(dags, load_dag):
    dags("dag.py", "RATE = 2\ndef work(index, item): return item * RATE\n")
    assert run_in_worker(pickle_for_workers(load_dag().work)) == "40"


def test_a_helper_module_may_import_packages_that_workers_do_not_have(dags, load_dag):
    dags("helper.py", "import airflow\nimport threading\nLOCK = threading.Lock()\ndef double(x): return x * 2\n")
    dags("dag.py", "from helper import double\ndef work(index, item): return double(item)\n")
    assert run_in_worker(pickle_for_workers(load_dag().work)) == "40"


def test_a_local_module_may_be_imported_inside_the_function(dags, load_dag):
    dags("late.py", "import later\ndef triple(x): return later.triple(x)\n")
    dags("later.py", "def triple(x): return x * 3\n")
    dags("dag.py", "def work(index, item):\n    from late import triple\n    return triple(item)\n")
    module = load_dag()
    pickled = pickle_for_workers(module.work)
    assert "late" not in sys.modules
    assert run_in_worker(pickled) == "60"


def test_a_local_module_may_be_used_as_a_module(dags, load_dag):
    dags(
        "counting.py",
        "import threading\nLOCK = threading.Lock()\nCALLS = []\ndef count(): CALLS.append(1); return len(CALLS)\n",
    )
    dags("dag.py", "import counting\ndef work(index, item):\n    counting.count()\n    return counting.count()\n")
    assert run_in_worker(pickle_for_workers(load_dag().work)) == "2"


STATEFUL = """
    import dataclasses, json, pathlib, threading
    RATE = 1
    FROM_FILE = json.loads(pathlib.Path(__file__).with_name("rates.json").read_text())
    SETTINGS = {"a": 1}
    LOCK = threading.Lock()
    @dataclasses.dataclass(frozen=True)
    class Config:
        rate: int = 1
        limits = [1]
    CONFIG = Config()
    def seen():
        with LOCK:
            return [RATE, FROM_FILE, SETTINGS, Config.limits, CONFIG.rate, CONFIG == Config(5), globals().get("NEW")]
"""
SET_FROM_OUTSIDE = """
    import stateful
    stateful.RATE = 2
    stateful.SETTINGS["b"] = 2
    stateful.Config.limits = [1, 2]
    stateful.CONFIG = stateful.Config(5)
    stateful.NEW = 3
"""


@pytest.mark.parametrize("inside", ["", "import stateful", "from stateful import seen"])
def test_values_that_a_module_has_in_the_task_are_sent(dags, load_dag, inside):
    dags("stateful.py", STATEFUL)
    dags("rates.json", "7")
    call = "seen()" if inside.startswith("from") else "stateful.seen()"
    dags(
        "dag.py",
        textwrap.dedent(SET_FROM_OUTSIDE) + f"def work(index, item):\n    {inside or 'pass'}\n    return {call}\n",
    )
    pickled = pickle_for_workers(load_dag().work)
    dags("rates.json", "8")
    assert run_in_worker(pickled) == "[2, 7, {'a': 1, 'b': 2}, [1, 2], 5, True, 3]"


def test_attributes_of_objects_and_members_of_enums_are_sent(dags, load_dag):
    source = """
        import dataclasses, enum
        class Mode(enum.Enum):
            SLOW = 1
            FAST = 2
        class Parts(enum.Flag):
            A = 1
            B = 2
        @dataclasses.dataclass
        class Config:
            rate: int = 1
            mode: Mode = Mode.SLOW
    """
    dags("kinds.py", source)
    source = """
        import types
        from kinds import Config, Mode, Parts
        CONFIG = Config()
        OPTIONS = types.SimpleNamespace(limit=1)
        MODE = Mode.SLOW
        PARTS = Parts.A
        def seen():
            return CONFIG.rate, CONFIG.mode is Mode.FAST, OPTIONS.limit, MODE is Mode.FAST, PARTS is Parts.A | Parts.B
    """
    dags("settings.py", source)
    source = """
        import settings
        settings.CONFIG.rate = 2
        settings.CONFIG.mode = settings.MODE = settings.Mode.FAST
        settings.OPTIONS.limit = 3
        settings.PARTS = settings.Parts.A | settings.Parts.B
        def work(index, item): return settings.seen()
    """
    dags("dag.py", source)
    dag = load_dag()
    assert str(dag.work(0, 0)) == "(2, True, 3, True, True)"
    assert run_in_worker(pickle_for_workers(dag.work)) == "(2, True, 3, True, True)"


def test_attributes_of_packages_are_sent(dags, load_dag):
    dags("shop/__init__.py", "")
    dags("shop/tax.py", "import shop\nRATE = 1\ndef price(x): return x * RATE * shop.FACTOR\n")
    dags(
        "dag.py",
        """
        import shop.tax
        shop.tax.RATE = 2
        shop.FACTOR = 3
        def work(index, item): return shop.tax.price(item)
        """,
    )
    assert run_in_worker(pickle_for_workers(load_dag().work)) == "120"


def test_an_unchanged_value_stays_the_same_object(dags, load_dag):
    dags("registry.py", "ALL = []\nNAMES = ALL\ndef add(x, to=ALL): to.append(x); return ALL, NAMES\n")
    dags("dag.py", "import registry\ndef work(index, item): return registry.add(item)\n")
    assert run_in_worker(pickle_for_workers(load_dag().work)) == "([20], [20])"


@pytest.mark.parametrize(
    ("replaced", "name"),
    [
        ("tools.go = lambda x: 2", "go"),
        ("tools.go = tools.stop", "go"),
        ("class Other: pass\ntools.Thing = Other", "Thing"),
        ("tools.RATE = lambda: 2", "RATE"),
    ],
)
def test_an_attribute_that_was_replaced_and_cannot_be_sent_is_refused(dags, load_dag, replaced, name):
    dags("tools.py", "RATE = 1\nclass Thing: pass\ndef stop(x): return 0\ndef go(x): return (RATE, Thing, x)\n")
    dags("dag.py", f"import tools\n{replaced}\ndef work(index, item): return tools.go(item), tools.stop, tools.RATE\n")
    with pytest.raises(InvalidParameterError, match=rf"^process_rows: uses tools\.{name}, which was set from outside"):
        pickle_for_workers(load_dag().work, "process_rows")


def test_attributes_that_a_module_replaces_itself_are_allowed(dags, load_dag):
    source = """
        import functools
        def outer(function):
            def inner(*args): return function(*args) + 1
            return inner
        @outer
        def go(x): return x
        def raw(x): return x
        raw = outer(raw)
        @functools.cache
        def kept(x): return x
        CLIENT = None
        def connect():
            global CLIENT
            CLIENT = object()
        connect()
        def all_of_it(x): return go(x) + raw(x) + kept(x) + (CLIENT is not None)
    """
    dags("tools.py", source)
    dags("dag.py", "import tools\ndef work(index, item): return tools.all_of_it(item)\n")
    assert run_in_worker(pickle_for_workers(load_dag().work)) == "63"


def test_packages_and_relative_imports_work(dags, load_dag):
    dags("shop/__init__.py", "")
    dags("shop/tax/__init__.py", "from .rates import RATE\n")
    dags("shop/tax/rates.py", "RATE = 5\n")
    dags(
        "shop/prices.py",
        "from . import tax\ndef price(x):\n    from .tax.rates import RATE\n    return x * RATE + tax.RATE\n",
    )
    dags("dag.py", "from shop.prices import price\ndef work(index, item): return price(item)\n")
    assert run_in_worker(pickle_for_workers(load_dag().work)) == "105"


def test_a_package_without_init_file_works(dags, load_dag):
    dags("loose/part.py", "N = 7\n")
    dags("dag.py", "def work(index, item):\n    import loose.part\n    return loose.part.N\n")
    assert run_in_worker(pickle_for_workers(load_dag().work)) == "7"


def test_classes_of_local_modules_are_pickled_by_value(dags, load_dag):
    source = """
        import dataclasses
        @dataclasses.dataclass
        class Box:
            side: int
            def area(self):
                return self.side ** 2
    """
    dags("shapes.py", source)
    dags("dag.py", "from shapes import Box\nB = Box(3)\ndef work(index, item): return B.area() + Box(item).area()\n")
    assert run_in_worker(pickle_for_workers(load_dag().work)) == "409"


MODELS = """
    import dataclasses, enum
    class Status(enum.Enum):
        OPEN = 1
    @dataclasses.dataclass
    class Order:
        status: Status
        class Refused(Exception): pass
    WEIGHTS = {Status.OPEN: 7}
"""
RULES = """
    def make():
        from models import Order, Status
        return Order(Status.OPEN)
    def refuse():
        import models
        raise models.Order.Refused
"""
USES_BOTH = """
    from models import Order, Status, WEIGHTS
    {imported}
    def work(index, item):
        import rules
        order = rules.make()
        try:
            rules.refuse()
        except Order.Refused:
            found = order.status is Status.OPEN, isinstance(order, Order), order == Order(Status.OPEN)
        return *found, WEIGHTS[order.status]
"""


@pytest.mark.parametrize("imported", ["", "import rules"])
def test_a_class_is_the_same_object_for_the_function_and_for_modules_that_are_sent(dags, load_dag, imported):
    dags("models.py", MODELS)
    dags("rules.py", RULES)
    dags("dag.py", textwrap.dedent(USES_BOTH).format(imported=imported))
    assert run_in_worker(pickle_for_workers(load_dag().work)) == "(True, True, True, 7)"


@pytest.mark.parametrize("first", ["import airflow", "import os, sys\nif os.getcwd() == '/': sys.exit(1)"])
def test_a_class_of_a_sent_module_that_workers_cannot_import_is_sent_too(dags, load_dag, first):
    dags("models.py", f"{first}\nclass Order:\n    def __init__(self, n): self.n = n\n")
    source = """
        from models import Order
        def work(index, item):
            if item < 0:
                import models
            return Order(item).n
    """
    dags("dag.py", source)
    dag = load_dag()
    script = WORKER_SCRIPT.replace("import pickle, sys", "import pickle, sys; sys.modules['airflow'] = None", 1)
    script = script.replace('"tests", "airflow"', '"tests"')
    assert run_in_worker(pickle_for_workers(dag.work), script=script) == "20"


def test_a_job_does_not_use_classes_of_an_earlier_job(dags, load_dag):
    dags("models.py", "class Order: N = 1\n")
    dags("dag.py", "from models import Order\ndef work(index, item):\n    import models\n    return Order.N\n")
    first = pickle_for_workers(load_dag().work)
    dags("dag.py", "from models import Order\nOrder.N = 2\ndef work(index, item): return Order.N\n")
    second = pickle_for_workers(load_dag().work)
    both = """
        import pickle, sys
        for _ in range(2):
            print(pickle.load(sys.stdin.buffer)(0, 0))
    """
    assert run_in_worker(first, second, script=both).split() == ["1", "2"]


def test_arguments_do_not_hide_the_modules_of_the_function(dags, load_dag):
    dags("rules.py", "def add(x): return x + 1\n")
    dags("counting.py", "CALLS = []\ndef count(): CALLS.append(1); return len(CALLS)\n")
    source = """
        class Order:
            def __init__(self, n): self.n = n
            def total(self):
                import rules, counting
                return rules.add(self.n)
    """
    dags("models.py", source)
    source = """
        from models import Order
        ORDERS = [Order(1), Order(2)]
        def work(index, item):
            import counting, models
            return item.total(), counting.count(), isinstance(item, Order), isinstance(item, models.Order)
    """
    dags("dag.py", source)
    dag, local = load_dag(), LocalSources()
    with pickling("inputs"):
        arguments = [pickle_argument(order, local) for order in dag.ORDERS]
    script = """
        import pickle, sys
        work = pickle.load(sys.stdin.buffer)
        for _ in range(2):
            print(*work(0, pickle.load(sys.stdin.buffer)))
    """
    output = run_in_worker(pickle_for_workers(dag.work, local=local), *arguments, script=script)
    assert output.split("\n") == ["2 1 True True", "3 2 True True"]


def test_an_installed_module_is_pickled_by_name(dags, load_dag):
    dags("dag.py", "import psycopg\ndef work(index, item):\n    import tenacity\n    return psycopg.__name__\n")
    pickled = pickle_for_workers(load_dag().work)
    assert len(pickled) < 5_000
    assert run_in_worker(pickled) == "psycopg"


def test_a_worker_does_not_import_modules_of_an_earlier_job(dags, load_dag):
    dags("dag.py", "def work(index, item):\n    import version\n    return version.N\n")
    work = load_dag().work
    dags("version.py", "N = 1\n")
    first = pickle_for_workers(work)
    dags("version.py", "N = 2\n")
    second = pickle_for_workers(work)
    both = """
        import pickle, sys
        for _ in range(2):
            print(pickle.load(sys.stdin.buffer)(0, 0))
    """
    assert run_in_worker(first, second, script=both).split() == ["1", "2"]


def test_a_traceback_shows_the_lines_of_a_shipped_module(dags, load_dag):
    source = """
        def work(index, item):
            import breaking, traceback
            try:
                breaking.burst()
            except ValueError:
                return traceback.format_exc()
    """
    dags("breaking.py", "def burst():\n    raise ValueError('with a reason')  # here\n")
    dags("dag.py", source)
    pickled = pickle_for_workers(load_dag().work)
    os.remove(importlib.util.find_spec("breaking").origin)
    assert "# here" in run_in_worker(pickled)


@pytest.mark.parametrize("unpicklable", [threading.Lock(), (number for number in ())])
def test_an_object_that_cannot_be_pickled_is_refused_with_the_parameter(unpicklable):
    def work(index, item):
        return unpicklable

    with pytest.raises(InvalidParameterError, match=r"^process_rows: cannot be sent to workers"):
        pickle_for_workers(work, parameter="process_rows")


def test_pickling_restores_the_registry_of_cloudpickle():
    import cloudpickle

    before = cloudpickle.list_registry_pickle_by_value()
    pickle_for_workers(run_in_worker)
    assert cloudpickle.list_registry_pickle_by_value() == before


@pytest.mark.parametrize(
    ("name", "local"),
    [
        ("json", False),
        ("sys", False),
        ("psycopg", False),
        ("airflow", False),
        ("burla_provider.exceptions", True),
        (__name__, True),
    ],
)
def test_a_module_is_local_if_it_belongs_to_no_installed_package(name, local):
    assert is_local(importlib.util.find_spec(name)) is local


CACHED = {
    "cache": ("@functools.cache\ndef f(x): CALLS.append(x); return x * 2", "f(item) + f(item)"),
    "lru_cache": (
        "@functools.lru_cache(maxsize=3, typed=True)\ndef f(x): CALLS.append(x); return x * 2",
        "f(item) + f(item)",
    ),
    "recursive": (
        "@functools.cache\ndef fib(n): CALLS.append(n); return n if n < 2 else fib(n - 1) + fib(n - 2)",
        "fib(40) + fib.cache_info().currsize",
    ),
    "method": (
        "class A:\n    @functools.lru_cache\n    def f(self, x): CALLS.append(x); return x * 2\nONE = A()",
        "ONE.f(item) + ONE.f(item)",
    ),
    "cached property": (
        "class A:\n    @functools.cached_property\n    def f(self): CALLS.append(1); return 40\nONE = A()",
        "ONE.f + ONE.f",
    ),
    "cached class": (
        "@functools.cache\nclass A:\n    def __init__(self, x): CALLS.append(x); self.x = x",
        "A(item).x * 4",
    ),
    "cached static method": (
        "class A:\n    @staticmethod\n    @functools.cache\n    def f(x): CALLS.append(x); return x * 2",
        "A.f(item) + A.f(item)",
    ),
    "attribute": ("@functools.cache\ndef f(x): return x * f.rate\nf.rate = 4", "f(item)"),
    "inner": (
        "def outer():\n    @functools.cache\n    def f(x): CALLS.append(x); return x * 2\n    return f\ng = outer()",
        "g(item) + g(item)",
    ),
    "partial": ("@functools.cache\ndef f(a, x): return x * a\ng = functools.partial(f, 4)", "g(item)"),
    "singledispatch": (
        "@functools.singledispatch\ndef f(x): return 40\n"
        "@f.register\ndef _(x: list): return sum(f(y) for y in x)\n@f.register(str)\ndef _(x): return 0",
        "f([item, 'a', [2]])",
    ),
    "singledispatchmethod": (
        "class A:\n    @functools.singledispatchmethod\n    def f(self, x): return 1\n"
        "    @f.register\n    def _(self, x: int): return x * 4",
        "A().f(item)",
    ),
    "partialmethod": (
        "class A:\n    def f(self, a, x): return a * x\n    g = functools.partialmethod(f, 4)",
        "A().g(item)",
    ),
    "partialmethod with keywords": (
        "class A:\n    def f(self, a, x, y): return a * x * y\n    g = functools.partialmethod(f, 2, y=2)",
        "A().g(item)",
    ),
    "wraps": (
        "def twice(f):\n    @functools.wraps(f)\n    def call(x): return f(x) * 2\n    return call\n"
        "@twice\ndef g(x): return x * 2",
        "g(item)",
    ),
    "typed decorator": (
        "from typing import Callable, ParamSpec, TypeVar\nP = ParamSpec('P')\nT = TypeVar('T')\n"
        "def twice(f: Callable[P, T]) -> Callable[P, T]:\n"
        "    def call(*args: P.args, **kwargs: P.kwargs) -> T: return f(*args, **kwargs) * 2\n    return call\n"
        "def g(x): return twice(h)(x)\ndef h(x): return x * 2",
        "g(item)",
    ),
    "new type": ("import typing\nId = typing.NewType('Id', int)", "Id(item * 4)"),
    "type variables": ("import typing\nT = typing.TypeVar('T')\nP = typing.ParamSpec('P')", "T and P and item * 4"),
}
EXPECTED = {"recursive": "102334196", "singledispatch": "80"}


@pytest.mark.parametrize("kind", CACHED)
@pytest.mark.parametrize("place", ["dag", "helper"])
def test_objects_that_python_pickles_by_name_are_pickled_by_value(dags, load_dag, kind, place):
    definition, call = CACHED[kind]
    helper = f"import functools\nCALLS = []\n{definition}\ndef call(item): return {call}\n"
    work = "def work(index, item): return call(item)\n"
    dags("helper.py", helper)
    dags("dag.py", (helper if place == "dag" else "from helper import call\n") + work)
    assert run_in_worker(pickle_for_workers(load_dag().work)) == EXPECTED.get(kind, "80")


@pytest.mark.skipif(sys.version_info < (3, 14), reason="before Python 3.14, annotations are evaluated at once")
@pytest.mark.parametrize(
    ("definition", "call"),
    [
        ("def f(x: Row) -> list[Row]: return x * 4", "f(item)"),
        ("@functools.cache\ndef f(x: Row): return x * 4", "f(item)"),
        ("@functools.singledispatch\ndef f(x: Row): return x * 4", "f(item)"),
        (
            "def twice(f):\n    @functools.wraps(f)\n    def call(x): return f(x) * 2\n    return call\n"
            "@twice\ndef f(x: Row): return x * 2",
            "f(item)",
        ),
        ("class A:\n    size: Row = 4\n    def f(self, x: Row): return x * self.size", "A().f(item)"),
        ("@dataclasses.dataclass\nclass A:\n    x: Row\n    size: Row = 4", "A(item).x * A(item).size"),
    ],
    ids=["function", "cache", "singledispatch", "wraps", "class", "dataclass"],
)
def test_annotations_may_have_names_for_type_checkers(dags, load_dag, definition, call):
    imports = "import dataclasses, functools, typing\nif typing.TYPE_CHECKING:\n    from rows import Row\n"
    dags("dag.py", f"{imports}{definition}\ndef work(index: Row, item: Row): return {call}\n")
    assert run_in_worker(pickle_for_workers(load_dag().work)) == "80"


def test_a_cache_is_one_object_and_keeps_its_entries_between_calls(dags, load_dag):
    source = """
        import functools
        @functools.cache
        def model(): print("loaded"); return [model, use]
        def use(): return model()
        def work(index, item): return model() is use() is work.__globals__["model"]()
    """
    dags("dag.py", source)
    both = WORKER_SCRIPT + "    print(work(1, 21))\n"
    assert run_in_worker(pickle_for_workers(load_dag().work), script=both).split() == ["loaded", "True", "True"]


def test_a_cache_of_an_installed_package_is_pickled_by_name(dags, load_dag):
    dags("dag.py", "from fnmatch import _compile_pattern\ndef work(index, item): return _compile_pattern.__module__\n")
    pickled = pickle_for_workers(load_dag().work)
    assert b"_compile_pattern" in pickled
    assert run_in_worker(pickled) == "fnmatch"
