"""However a task ends, its state is right and no process of its job is left."""

from __future__ import annotations

import datetime
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from burla_provider.operators.map import BurlaMapOperator
from burla_provider.operators.postgres import BurlaPostgresOperator
from tests.airflow.conftest import Orders
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
    wait_for(lambda: not alive(folder), 60)


def test_sigkill_of_the_task_leaves_no_process(airflow: Airflow, folder: Path) -> None:
    status = kill_when_started(airflow, folder, signal.SIGKILL)
    assert status == -signal.SIGKILL
    wait_for(lambda: not alive(folder), 60)


def test_execution_timeout_fails_the_task_as_a_timeout(airflow: Airflow, folder: Path) -> None:
    result = airflow.run(task(folder, execution_timeout=datetime.timedelta(seconds=6)), max_tries=1)
    assert result.state == "up_for_retry"
    assert type(result.error).__name__ == "AirflowTaskTimeout"
    wait_for(lambda: not alive(folder), 60)


def test_a_second_sigterm_changes_nothing(airflow: Airflow, folder: Path) -> None:
    kill_when_started(airflow, folder, signal.SIGTERM, times=2)
    assert airflow.states == ["up_for_retry"]
    wait_for(lambda: not alive(folder), 60)


def kill_when_started(airflow: Airflow, folder: Path, number: int, times: int = 1) -> int:
    def started() -> bool:
        return sum(path.name[0].isdigit() for path in folder.iterdir()) == 2

    return run_and_kill(airflow, task(folder), number, when=started, times=times)


# While the task connects and plans, its client process waits for the job.


@contextmanager
def locked(orders: Orders) -> Iterator[None]:
    """Hold the table's lock in another session, so that a task waits before it plans."""
    with orders.connection.transaction():
        orders.connection.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        yield


def totals(**options: Any) -> BurlaPostgresOperator:
    defaults = {"task_id": "t", "table": "orders", "postgres_conn_id": "orders_db", "totals": {"total": "sum(amount)"}}
    return BurlaPostgresOperator(**{**defaults, **options})


def client_processes() -> list[psutil.Process]:
    """The clients below this process, and all that they have started."""
    processes = psutil.Process().children(recursive=True)
    clients = {process.pid for process in processes if any(part.endswith("/client.py") for part in command(process))}
    return [process for process in psutil.process_iter() if group_of(process.pid) in clients]


def command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def sessions(orders: Orders) -> int:
    """The number of sessions of tasks."""
    orders.connection.execute("SELECT pg_stat_clear_snapshot()")  # otherwise a transaction sees the same ones again
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'test_dag.t%'"
    [(count,)] = orders.connection.execute(query).fetchall()
    return int(count)


def kill_while_planning(airflow: Airflow, orders: Orders, number: int) -> list[psutil.Process]:
    processes: list[psutil.Process] = []

    def is_planning() -> bool:
        processes[:] = client_processes()
        return len(processes) == 2 and sessions(orders) == 1

    run_and_kill(airflow, totals(), number, when=is_planning)
    return processes


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_task_that_is_killed_while_it_plans_leaves_no_process_and_no_session(
    airflow: Airflow, orders: Orders, number: int
) -> None:
    with locked(orders):
        processes = kill_while_planning(airflow, orders, number)
    assert airflow.states == (["up_for_retry"] if number == signal.SIGTERM else [])
    wait_for(lambda: not any(process.is_running() for process in processes), 60)
    # The session of a task that was killed waits until it gets the lock.
    wait_for(lambda: not sessions(orders), 60)


def test_an_execution_timeout_while_the_task_plans_leaves_no_process_and_no_session(
    airflow: Airflow, orders: Orders
) -> None:
    with locked(orders):
        result = airflow.run(totals(execution_timeout=datetime.timedelta(seconds=4)), max_tries=1)
    assert type(result.error).__name__ == "AirflowTaskTimeout"
    wait_for(lambda: not client_processes(), 60)  # on a busy machine, a killed process needs a while to end
    wait_for(lambda: not sessions(orders), 60)


def test_an_error_while_the_task_plans_leaves_no_process_and_no_session(airflow: Airflow, orders: Orders) -> None:
    result = airflow.run(totals(where="no_such_column = 1"))
    assert result.state == "failed"
    wait_for(lambda: not client_processes(), 60)
    wait_for(lambda: not sessions(orders), 60)


def test_a_task_that_only_plans_starts_no_client(airflow: Airflow, orders: Orders) -> None:
    result = airflow.run(totals(plan_only=True, burla_python="/no/such/python"))
    assert result.state == "success", result.log


def test_a_burla_connection_that_cannot_be_used_is_found_before_the_database_is_connected(
    airflow: Airflow,
) -> None:
    result = airflow.run(totals(postgres_conn_id="no_such_connection", burla_python="/no/such/python"))
    assert result.state == "failed"
    assert "burla_python: /no/such/python cannot be run" in str(result.error)
