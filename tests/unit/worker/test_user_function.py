"""A class of a DAG folder on a worker: a process without the DAG folder and without this package."""

from __future__ import annotations

import functools
import pickle
import subprocess
import sys
import textwrap
from concurrent.futures import ProcessPoolExecutor

import pytest

from burla_provider.jobs.client.call import make_list_call
from burla_provider.jobs.code.pickler import pickle_for_workers
from burla_provider.task.function_arguments import bind_function
from burla_provider.worker.map_task import MapTask
from burla_provider.worker.outcome import decode
from burla_provider.worker.user_function import UserFunction
from tests.unit.worker.test_map_task import FRESH_WORKER

MODELS = """
    import functools
    import threading

    LOCK = threading.Lock()
    SUFFIX = "!"

    class Base:
        name = "base"
        sizes = {"small": 1}
        loaded = 0

        def __init__(self, path):
            self.path = path
            type(self).loaded += 1

        @classmethod
        def label(cls):
            return cls.name

        @staticmethod
        def add(text):
            return text + SUFFIX

    class Model(Base):
        name = "model"

        def __init__(self, path, factor=2):
            super().__init__(path)
            self.factor = factor

        @functools.cached_property
        def table(self):
            return {"factor": self.factor, **self.sizes}

        @property
        def size(self):
            return self.table["factor"] + self.table["small"]

        def __call__(self, number):
            return [super().label(), self.add(self.path), number * self.size, self.loaded]
"""


def call_on_a_fresh_worker(function, *, op_kwargs):
    pickled = pickle_for_workers(MapTask(bind_function("python_callable", function, op_kwargs)))
    result = subprocess.run([sys.executable, "-P", "-c", FRESH_WORKER], input=pickled, capture_output=True, cwd="/")
    assert result.returncode == 0, result.stderr.decode()
    return decode(result.stdout)


@pytest.mark.parametrize(
    ("dag", "name"),
    [
        ("", "model"),
        ("from models import Model", "model"),
        ("import models\nclass Model(models.Base):\n    def __call__(self, x): return self.label(), x", "base"),
        ("class Local:\n    import models\n    Model = models.Model\nModel = Local.Model", "model"),
        (
            "from models import Model as First\nclass Model(First):\n    def __call__(self, number):\n"
            "        import models\n        return [*super().__call__(number), models.SUFFIX]",
            "model",
        ),
    ],
    ids=["DAG file", "imported", "subclass", "attribute", "local import"],
)
def test_a_class_is_sent_with_what_it_needs(dags, load_dag, dag, name):
    dags("models.py", MODELS)
    dags("dag.py", dag or textwrap.dedent(MODELS))
    outcome = call_on_a_fresh_worker(load_dag().Model, op_kwargs={"path": "a"})
    assert outcome.ok, outcome.failure
    assert outcome.value[0] == name
    if name == "model":
        assert outcome.value[:4] == ["model", "a!", 63, 1]


def test_a_constructor_that_fails_ends_the_job(dags, load_dag):
    dags("dag.py", "class Model:\n    def __init__(self): exit('gone')\n    def __call__(self, x): return x\n")
    failure = call_on_a_fresh_worker(load_dag().Model, op_kwargs={}).failure
    assert (failure.type, failure.message, failure.ends_job) == ("SystemExit", "gone", True)


@pytest.mark.parametrize("kind", ["class", "init"])
def test_a_worker_that_drops_a_job_closes_what_it_has_loaded(dags, load_dag, tmp_path, kind):
    source = f"""
        class Model:
            def __call__(self, x):
                if x == 2:
                    raise ValueError(x)
                return x

            def close(self):
                open({str(tmp_path / "closed")!r}, "a").write("closed ")

        def call(x, model):
            return model(x)
    """
    dags("dag.py", source)
    module = load_dag()
    init = None if kind == "class" else {"model": module.Model}
    function = bind_function("python_callable", module.Model if kind == "class" else module.call, {}, init)
    with ProcessPoolExecutor(1) as pool:  # unpickling replaces the methods of this package's classes
        pool.submit(call_and_forget, pickle_for_workers(MapTask(function)), tmp_path / "closed").result()


def call_and_forget(pickled, closed):
    call = make_list_call(pickled)
    results = call([(number, pickle.dumps(pickle.dumps(number))) for number in range(3)])
    assert [decode(result).ok for _, _, result in results] == [True, True, False]
    assert not closed.exists()
    del call  # Burla's worker_server.py forgets the function of a job, and keeps its process
    assert closed.read_text() == "closed "


def test_a_copy_that_is_sent_has_loaded_nothing(dags, load_dag):
    function = bind_function("python_callable", dict, {}, {"a": list})
    assert function.load({}) is None
    assert function(()) == {"a": []}
    assert pickle.loads(pickle.dumps(function))(()) == {}


class Closable:
    def __init__(self, name, closed, error=None):
        self.name, self.closed, self.error = name, closed, error

    def close(self):
        self.closed.append(self.name)
        if self.error:
            raise self.error


def test_all_objects_are_closed_also_if_one_raises():
    closed = []
    makers = {name: functools.partial(Closable, name, closed, OSError(name)) for name in "abc"}
    function = UserFunction(dict, init=makers)
    assert function.load({}) is None
    with pytest.raises(OSError, match="a"):
        function.close()
    assert sorted(closed) == ["a", "b", "c"]
    function.close()
    assert len(closed) == 3


def test_objects_are_closed_if_the_next_one_cannot_be_made():
    closed = []
    makers = {"a": functools.partial(Closable, "a", closed, OSError("a")), "b": sys.exit}
    function = UserFunction(dict, init=makers)
    assert function.load({}).type == "SystemExit"
    assert function.load({}).ends_job
    assert closed == ["a"]


def plain(row, a, b=2, *, c=3, d):
    return row, a, b, c, d


def passes_on(row, a=1, **others):
    return row, a, others


def positional(row, a=1, /, b=2, **others):
    return row, a, b, others


def make_closure():
    state = []

    def closure(row, a, *rest, b):
        state.append(row)
        return list(state), a, rest, b

    return closure


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (plain, {"a": 1, "d": 4}),
        (plain, {"a": 1, "b": 5, "c": 6, "d": 4}),
        (passes_on, {"a": 7}),
        (passes_on, {"b": 7, "c": 8}),
        (passes_on, {"a": 6, "b": 7}),
        (positional, {"a": 6, "b": 7}),
        (lambda row, a: (row, a), {"a": []}),
        (lambda *rows, a=1: (rows, a), {"a": 2}),
        (functools.partial(plain, d=1), {"a": 2}),
        (max, {"key": str}),
    ],
)
def test_arguments_are_bound_as_by_partial(function, arguments):
    bound = UserFunction(function, arguments)
    row = (3, 20)
    assert bound.for_range(None)(row) == bound(row) == functools.partial(function, **arguments)(row)
    assert bound.for_range(None)(row) == functools.partial(function, **arguments)(row)  # and changes no function


def test_a_closure_keeps_its_state():
    bound = UserFunction(make_closure(), {"a": 1, "b": 2}).for_range(None)
    assert bound(5) == ([5], 1, (), 2)
    assert bound(6) == ([5, 6], 1, (), 2)


@pytest.mark.parametrize("missing", [{"b": 1}, {"a": 1, "c": 1}])
def test_a_missing_argument_is_an_error(missing):
    with pytest.raises(TypeError, match="missing 1 required"):
        UserFunction(plain, missing | ({"d": 1} if "b" in missing else {}))((1,))
