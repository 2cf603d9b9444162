"""Tasks in a container without an init: the task or its supervisor is PID 1, and orphans are not reaped."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from burla_provider.operators.postgres import BurlaPostgresOperator
from burla_provider.task import checkpoint
from tests.airflow.conftest import Orders, needs_state_stores
from tests.support import pid_namespace
from tests.support.task_runner import Airflow, run_and_kill
from tests.support.waiting import wait_for

SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'test_dag.t%'"
RANGES = 20


@pytest.fixture(autouse=True)
def _allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "FLUSH_SECONDS", 0)  # the job takes less than three seconds on an idle machine
    try:
        pid_namespace.outside(lambda: None)
    except PermissionError:
        pytest.skip("This user cannot create PID namespaces.")


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A file without which the second half of the ranges is not processed."""
    tmp_path.chmod(0o755)
    return tmp_path / "gate"


def operator(gate: Path) -> BurlaPostgresOperator:
    place = str(gate)

    def total(rows: Any, key_range: Any) -> dict[str, Any]:
        import pathlib
        import time

        end = time.monotonic() + 240
        while key_range.index >= RANGES // 2 and not pathlib.Path(place).exists() and time.monotonic() < end:
            time.sleep(0.05)
        return {"total": sum(amount for (amount,) in rows)}

    return BurlaPostgresOperator(
        task_id="t",
        table="orders",
        postgres_conn_id="orders_db",
        key="id",
        columns=["amount"],
        process_rows=total,
        ranges=RANGES,
        max_parallelism=2,
    )


def is_stored(airflow: Airflow) -> Callable[[], bool]:
    return lambda: "burla_checkpoint_outcomes_00000" in airflow.state_store


def run_as_pid_1(airflow: Airflow, gate: Path, number: int = 0, **options: Any) -> None:
    """Run a try whose process is PID 1, and send it a signal when outcomes are stored."""

    def run() -> Airflow:
        run_and_kill(airflow, operator(gate), number, when=is_stored(airflow), on_ready=pid_namespace.enter, **options)
        return Airflow(state_store=airflow.state_store, states=airflow.states)

    ended = pid_namespace.outside(run)
    airflow.state_store, airflow.states = ended.state_store, ended.states


def no_sessions(orders: Orders) -> bool:
    return orders.connection.execute(SESSIONS).fetchone() == (0,)


def test_a_task_that_is_pid_1_succeeds(airflow: Airflow, orders: Orders, gate: Path) -> None:
    gate.touch()
    left: dict[str, Any] = {}

    def run() -> Any:
        def task() -> Any:
            pid_namespace.enter()
            result = airflow.run(operator(gate))
            return result.state, result.value, result.log, pid_namespace.processes()

        return pid_namespace.in_another_process(task)

    state, value, log, left = pid_namespace.outside(run)
    assert value == {"row_count": 20_000, "total": str(orders.ask("sum(amount)"))}, (state, log)
    assert {pid: state for pid, state in left.items() if state != "Z"} == {1: "R"}
    assert no_sessions(orders)


@needs_state_stores
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_retry_resumes_a_task_that_was_pid_1_and_was_killed(
    airflow: Airflow, orders: Orders, gate: Path, number: int
) -> None:
    run_as_pid_1(airflow, gate, number)
    assert airflow.states == (["up_for_retry"] if number == signal.SIGTERM else [])
    wait_for(lambda: no_sessions(orders))
    gate.touch()
    result = airflow.run(operator(gate), try_number=2, max_tries=1)
    assert result.value == {"row_count": 20_000, "total": str(orders.ask("sum(amount)"))}, result.log
    assert 0 < result.xcoms["burla_report"]["resumed"] < RANGES


@needs_state_stores
def test_a_killed_task_leaves_no_live_process_if_orphans_are_not_reaped(
    airflow: Airflow, orders: Orders, gate: Path
) -> None:
    """As with Airflow's supervisor as PID 1: it waits for the task only."""

    stored = is_stored(airflow)
    before: dict[int, str] = {}

    def is_seen() -> bool:
        # Not after the kill: on a fast machine, all processes have ended by then.
        before.update(pid_namespace.processes() if stored() else {})
        return bool(before)

    def supervisor() -> Any:
        pid_namespace.enter()
        run_and_kill(airflow, operator(gate), signal.SIGKILL, when=is_seen)
        wait_for(lambda: [pid for pid, state in pid_namespace.processes().items() if state != "Z"] == [1])
        return before

    before = pid_namespace.outside(lambda: pid_namespace.in_another_process(supervisor))
    assert len([state for state in before.values() if state != "Z"]) > 2, before  # more than supervisor and task
    wait_for(lambda: no_sessions(orders))
