"""Writes happen exactly once, whatever is killed: the task, its client, its workers, their sessions on the server."""

from __future__ import annotations

import os
import random
import signal
import time
from typing import Any

import psutil
import psycopg
import pytest

from burla_provider.operators.postgres import BurlaPostgresOperator
from tests.airflow.conftest import Orders
from tests.support.task_runner import Airflow, run_and_kill

ROWS = 200_000
SEEDS = range(int(os.environ.get("BURLA_TEST_SEEDS", "4")))
"""BURLA_TEST_SEEDS=20 takes some minutes."""


def increment(connection: psycopg.Connection[Any], key_range: Any) -> dict[str, Any]:
    from psycopg import sql

    query = sql.SQL("UPDATE counters SET n = n + 1 WHERE {}").format(key_range.where)
    changed = connection.execute(query).rowcount
    connection.execute("SELECT pg_sleep(0.3)")  # time to be killed between the write and its commit
    return {"row_count": changed}


class Chaos:
    """Kills something of a running task now and then."""

    def __init__(self, seed: int, connection: psycopg.Connection[Any]) -> None:
        self.random = random.Random(seed)
        self.connection = connection
        self.next = time.monotonic() + self.random.uniform(0.2, 0.6)
        self.killed: list[str] = []

    def __call__(self) -> bool:
        if time.monotonic() >= self.next:
            self.next = time.monotonic() + self.random.uniform(0.1, 0.5)
            before = len(self.killed)
            kinds = [self.kill_worker, self.kill_backend, self.kill_client, self.kill_task]
            for kill in self.random.sample(kinds, len(kinds)):
                kill()  # before the job has begun there may be nobody of that kind
                if len(self.killed) > before:
                    break
        return False

    def kill_worker(self) -> None:
        self._kill("local_worker.py", signal.SIGKILL)

    def kill_client(self) -> None:
        self._kill("client.py", signal.SIGKILL)

    def kill_task(self) -> None:
        # The task is a fork of this process; the database server is a child too, and stays.
        us = psutil.Process()
        for task in [child for child in us.children() if _command(child) == us.cmdline()]:
            task.send_signal(self.random.choice([signal.SIGTERM, signal.SIGKILL]))
            self.killed.append("task")

    def kill_backend(self) -> None:
        query = (
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'test_dag.t%#%'"
        )
        row = self.connection.execute(query).fetchone()
        self.killed += ["backend"] * (row[0] if row else 0)

    def _kill(self, program: str, number: int) -> None:
        processes = psutil.Process().children(recursive=True)
        victims = [one for one in processes if any(part.endswith(program) for part in _command(one))]
        if victims:
            self.random.choice(victims).send_signal(number)
            self.killed.append(program)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.fixture
def counters(orders: Orders) -> Orders:
    orders.connection.execute(f"""
        CREATE TABLE counters (id bigint PRIMARY KEY, n integer NOT NULL DEFAULT 0) WITH (fillfactor = 50);
        INSERT INTO counters SELECT 2 * n FROM generate_series(1, {ROWS}) AS n;
        ANALYZE counters;
    """)
    return orders


@pytest.mark.parametrize("seed", SEEDS)
def test_every_row_is_incremented_exactly_once(airflow: Airflow, counters: Orders, seed: int) -> None:
    def task() -> BurlaPostgresOperator:
        return BurlaPostgresOperator(
            task_id="t",
            table="counters",
            postgres_conn_id="orders_db",
            key="id",
            ranges=24,
            max_parallelism=4,
            process_range=increment,
            ledger="public.burla_ledger",
            range_retries=8,
            job_retries=5,
        )

    chaos = Chaos(seed, counters.connection)
    for try_number in range(1, 12):
        run_and_kill(airflow, task(), 0, when=chaos if try_number < 6 else lambda: False, try_number=try_number)
        if airflow.states[-1:] == ["success"]:
            break
    assert airflow.states[-1:] == ["success"], chaos.killed
    assert chaos.killed, "nothing was killed: the test shows nothing"
    spread = counters.connection.execute("SELECT min(n), max(n), count(*) FROM counters").fetchone()
    assert spread == (1, 1, ROWS)
