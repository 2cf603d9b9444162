"""The result of each row is written exactly once, whatever is killed."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from burla_provider.operators.transform import BurlaPostgresTransformOperator
from tests.airflow.conftest import Orders, add_database
from tests.airflow.test_exactly_once import SEEDS
from tests.support.chaos import Chaos
from tests.support.task_runner import Airflow, run_and_kill

ROWS = 200_000


def halve(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    import time

    time.sleep(0.02)
    return [(number, f"half {number // 2}") for number, _ in rows]


def increment(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    import time

    time.sleep(0.02)
    return [(n + 1,) for _, n in rows]


@pytest.fixture
def numbers(orders: Orders) -> Orders:
    orders.connection.execute(f"""
        CREATE TABLE numbers (id bigint PRIMARY KEY, n integer NOT NULL DEFAULT 0) WITH (fillfactor = 50);
        INSERT INTO numbers SELECT 2 * n FROM generate_series(1, {ROWS}) AS n;
        ANALYZE numbers;
    """)
    return orders


def run_in_chaos(airflow: Airflow, chaos: Chaos, **options: Any) -> None:
    usual = {"table": "numbers", "columns": ["id", "n"], "ledger": "runs", "ranges": 8, "max_parallelism": 4}
    for try_number in range(1, 12):
        operator = BurlaPostgresTransformOperator(
            task_id="t", postgres_conn_id="orders_db", range_retries=8, job_retries=5, **usual | options
        )
        run_and_kill(airflow, operator, 0, when=chaos if try_number < 6 else lambda: False, try_number=try_number)
        if airflow.states[-1:] == ["success"]:
            break
    assert airflow.states[-1:] == ["success"], chaos.killed
    assert chaos.killed, "nothing was killed: the test shows nothing"


@pytest.mark.parametrize("seed", SEEDS[::2])
@pytest.mark.parametrize("write_mode", ["insert", "upsert"])
def test_rows_are_written_to_another_database(
    airflow: Airflow, numbers: Orders, postgres_server: Any, write_mode: str, seed: int
) -> None:
    with postgres_server.database() as conninfo, psycopg.connect(conninfo, autocommit=True) as target:
        add_database(airflow, "dwh", target.info)
        target.execute("CREATE TABLE halves (id bigint, half text)")  # no key: a row that came twice would be there
        if write_mode == "upsert":
            target.execute("ALTER TABLE halves ADD PRIMARY KEY (id)")
        options = {"target_conn_id": "dwh", "target_table": "halves", "write_mode": write_mode}
        run_in_chaos(airflow, Chaos(seed, numbers.connection), map_batch=halve, **options)
        target.execute(
            f"CREATE TEMP TABLE wanted AS SELECT 2 * n AS id, 'half ' || n FROM generate_series(1, {ROWS}) n"
        )
        for one, other in (("halves", "wanted"), ("wanted", "halves")):
            assert target.execute(f"SELECT count(*) FROM (TABLE {one} EXCEPT ALL TABLE {other}) d").fetchone() == (0,)


@pytest.mark.parametrize("seed", SEEDS[::2])
def test_a_column_is_computed_from_itself_once(airflow: Airflow, numbers: Orders, seed: int) -> None:
    chaos = Chaos(seed, numbers.connection)
    run_in_chaos(airflow, chaos, map_batch=increment, write_mode="update", update_columns=["n"])
    assert numbers.connection.execute("SELECT min(n), max(n), count(*) FROM numbers").fetchone() == (1, 1, ROWS)
