"""A class of a DAG folder on a worker: a process without the DAG folder and without this package."""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap

import pytest

from burla_provider.jobs.client.call import make_list_call
from burla_provider.jobs.code.pickler import pickle_for_workers
from burla_provider.task.function_arguments import bind_function
from burla_provider.worker.map_task import MapTask
from burla_provider.worker.outcome import decode
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
    call = make_list_call(pickle_for_workers(MapTask(function)))
    results = call([(number, pickle.dumps(pickle.dumps(number))) for number in range(3)])
    assert [decode(result).ok for _, _, result in results] == [True, True, False]
    assert not (tmp_path / "closed").exists()
    del call  # Burla's worker_server.py forgets the function of a job, and keeps its process
    assert (tmp_path / "closed").read_text() == "closed "


def test_a_copy_that_is_sent_has_loaded_nothing(dags, load_dag):
    function = bind_function("python_callable", dict, {}, {"a": list})
    assert function.load({}) is None
    assert function(()) == {"a": []}
    assert pickle.loads(pickle.dumps(function))(()) == {}
