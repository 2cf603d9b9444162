"""Whatever way a task ends, its state is right and no process of its job stays behind."""

from __future__ import annotations

import datetime
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from burla_provider.operators.map import BurlaMapOperator
from tests.support.task_runner import Airflow, run_and_kill
from tests.support.waiting import wait_for


def sleeper(folder: Path) -> Any:
    """Notes the processes that it runs in, and sleeps for longer than any test."""
    place = str(folder)

    def sleep(_: int) -> None:
        import os
        import pathlib
        import time

        pathlib.Path(place, f"{os.getpid()} {os.getpgid(0)}").touch()
        time.sleep(300)

    return sleep


def task(folder: Path, **options: Any) -> BurlaMapOperator:
    return BurlaMapOperator(task_id="t", python_callable=sleeper(folder), inputs=[1, 2], max_parallelism=2, **options)


def alive(folder: Path) -> list[int]:
    """Processes of the job's group that are still there."""
    groups = {int(path.name.split()[1]) for path in folder.iterdir() if path.name[0].isdigit()}
    return [process.pid for process in psutil.process_iter() if group_of(process.pid) in groups]


def group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid) if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE else None
    except (ProcessLookupError, psutil.NoSuchProcess):
        return None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def test_sigterm_ends_the_job_and_the_task_is_not_a_success(airflow: Airflow, folder: Path) -> None:
    kill_when_started(airflow, folder, signal.SIGTERM)
    assert airflow.states == ["up_for_retry"]
    wait_for(lambda: not alive(folder), 10)


def test_sigkill_of_the_task_leaves_no_process(airflow: Airflow, folder: Path) -> None:
    status = kill_when_started(airflow, folder, signal.SIGKILL)
    assert status == -signal.SIGKILL
    wait_for(lambda: not alive(folder), 10)


def test_execution_timeout_fails_the_task_as_a_timeout(airflow: Airflow, folder: Path) -> None:
    result = airflow.run(task(folder, execution_timeout=datetime.timedelta(seconds=6)), max_tries=1)
    assert result.state == "up_for_retry"
    assert type(result.error).__name__ == "AirflowTaskTimeout"
    wait_for(lambda: not alive(folder), 10)


def test_a_second_sigterm_changes_nothing(airflow: Airflow, folder: Path) -> None:
    kill_when_started(airflow, folder, signal.SIGTERM, times=2)
    assert airflow.states == ["up_for_retry"]
    wait_for(lambda: not alive(folder), 10)


def kill_when_started(airflow: Airflow, folder: Path, number: int, times: int = 1) -> int:
    def started() -> bool:
        return sum(path.name[0].isdigit() for path in folder.iterdir()) == 2

    return run_and_kill(airflow, task(folder), number, when=started, times=times)
