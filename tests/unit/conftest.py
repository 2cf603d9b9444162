"""A DAG folder, and a function that loads its files as Airflow does."""

from __future__ import annotations

import importlib.util
import sys
import textwrap

import pytest


@pytest.fixture
def dags(tmp_path, monkeypatch):
    """A DAG folder. ``dags(name, source)`` writes a file to it."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name, source):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(source))

    before = set(sys.modules)
    yield write
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__spec__", "")):
            del sys.modules[name]


@pytest.fixture
def load_dag(tmp_path):
    """Load a file as Airflow does: with a module name that cannot be imported."""

    def load(name="dag.py"):
        spec = importlib.util.spec_from_file_location("unusual_prefix_0123_dag", tmp_path / name)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module

    yield load
    sys.modules.pop("unusual_prefix_0123_dag", None)
