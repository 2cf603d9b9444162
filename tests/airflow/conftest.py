"""Airflow for these tests: a home of its own, and a world for one task at a time."""

from __future__ import annotations

import os
import tempfile

# Before anything imports airflow: it reads its home and settings once.
_HOME = tempfile.TemporaryDirectory(prefix="burla-test-airflow-")
os.environ["AIRFLOW_HOME"] = _HOME.name
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
os.environ.setdefault("AIRFLOW__CORE__UNIT_TEST_MODE", "False")

import pytest  # noqa: E402

from tests.support.task_runner import Airflow  # noqa: E402


@pytest.fixture
def airflow() -> Airflow:
    """One task's world, with the local engine as ``burla_default``."""
    world = Airflow()
    world.add_connection("burla_default", "burla", extra={"engine": "local"})
    return world
