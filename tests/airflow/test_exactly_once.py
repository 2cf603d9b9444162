"""Writes happen exactly once, whatever is killed: the task, its client, its workers, their sessions on the server."""

from __future__ import annotations

import os
from typing import Any

import psycopg
import pytest

from burla_provider.operators.postgres import BurlaPostgresOperator
from tests.airflow.conftest import Orders
from tests.support.chaos import Chaos
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
