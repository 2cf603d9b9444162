"""What a worker needs to call a function with one input: cloudpickle, and nothing of this package's dependencies."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from burla_provider.jobs.code.pickler import pickle_for_workers
from burla_provider.worker.map_task import MapTask
from burla_provider.worker.outcome import decode

FRESH_WORKER = """
import importlib.abc, pickle, sys

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("psycopg", "tenacity", "airflow", "burla_provider", "tests"):
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, Missing())
task = pickle.loads(sys.stdin.buffer.read())
sys.stdout.buffer.write(task(0, pickle.dumps(21)))
"""


def double(number):
    return number * 2


def fail(number):
    raise ValueError(f"{number} is odd")


def need_a_module(number):
    import tenacity  # noqa: F401


def call_on_a_fresh_worker(function):
    command = [sys.executable, "-P", "-c", FRESH_WORKER]
    result = subprocess.run(command, input=pickle_for_workers(MapTask(function)), capture_output=True, cwd="/")
    assert result.returncode == 0, result.stderr.decode()
    return decode(result.stdout)


def test_a_fresh_worker_calls_a_function():
    assert call_on_a_fresh_worker(double).value == 42


@pytest.mark.parametrize(("function", "message"), [(fail, "21 is odd"), (need_a_module, "No module named 'tenacity'")])
def test_a_fresh_worker_reports_a_failure(function, message):
    failure = call_on_a_fresh_worker(function).failure
    assert failure.message.startswith(message)
    assert failure.sqlstate is None


def test_a_map_task_is_plain_data_for_the_same_interpreter():
    assert decode(MapTask(double)(3, pickle.dumps(4))).value == 8
