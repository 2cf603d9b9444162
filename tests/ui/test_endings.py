"""A running task that is marked or cleared in the UI: its processes end, and it has the new state."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest

from tests.support.airflow_server import AirflowServer

pytestmark = pytest.mark.ui

DAG = "ui_endings"


def sleepers(gate: Path) -> set[int]:
    """The job's worker processes that still run."""
    return {int(file.name.partition("-")[2]) for file in gate.glob("asleep-*") if is_running(file)}


def is_running(file: Path) -> bool:
    """Return whether the process that made the file still runs, and not a later one with its id."""
    try:
        return psutil.Process(int(file.name.partition("-")[2])).create_time() <= file.stat().st_mtime + 1
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def run(airflow: AirflowServer, gate: Path) -> str:
    """The id of a run whose task is running."""
    started = airflow.start_run(DAG)
    airflow.wait_for("two workers", lambda: len(sleepers(gate)) == 2, 300)
    return started["dag_run_id"]


def task_of(airflow: AirflowServer, run: str) -> Any:
    return airflow.call("GET", f"/dags/{DAG}/dagRuns/{quote(run)}/taskInstances/sleep")


def mark(airflow: AirflowServer, run: str, state: str) -> None:
    airflow.call("PATCH", f"/dags/{DAG}/dagRuns/{quote(run)}/taskInstances/sleep", {"new_state": state})


@pytest.mark.parametrize("state", ["failed", "success"])
def test_marking_a_task_ends_its_job(airflow: AirflowServer, gate: Path, run: str, state: str) -> None:
    mark(airflow, run, state)
    airflow.wait_for("the workers to be gone", lambda: not sleepers(gate), 120)
    assert task_of(airflow, run)["state"] == state


def test_clearing_a_task_ends_its_job_and_starts_it_again(airflow: AirflowServer, gate: Path, run: str) -> None:
    before = sleepers(gate)
    what = {"dag_run_id": run, "task_ids": ["sleep"], "only_failed": False, "dry_run": False}
    airflow.call("POST", f"/dags/{DAG}/clearTaskInstances", what)
    airflow.wait_for("the workers to be gone", lambda: not before & sleepers(gate), 120)
    airflow.wait_for("two new workers", lambda: len(sleepers(gate) - before) == 2, 300)
    mark(airflow, run, "failed")
    airflow.wait_for("the new workers to be gone", lambda: not sleepers(gate), 120)
