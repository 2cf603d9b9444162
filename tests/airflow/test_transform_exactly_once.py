"""The result of each row is written exactly once, whatever is killed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from burla_provider.operators.transform import BurlaPostgresTransformOperator
from tests.airflow.conftest import Orders, add_database
from tests.support.chaos import Chaos
from tests.support.postgres import PostgresServer, running_server
from tests.support.task_runner import Airflow, run_and_kill

ROWS = 200_000
SEEDS = range(int(os.environ.get("BURLA_TEST_SEEDS", "1")))
HALVES = f"SELECT (2 * n)::bigint AS id, 'half ' || n AS half FROM generate_series(1, {ROWS}) AS n"


def halve(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    import time

    time.sleep(0.02)
    return [(number, f"half {number // 2}") for number, _ in rows]


def increment(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    import time

    time.sleep(0.02)
    return [(n + 1,) for _, n in rows]


@pytest.fixture(scope="module")
def target_server() -> Iterator[PostgresServer]:
    """Another server."""
    with running_server() as server:
        yield server


@pytest.fixture
def target(airflow: Airflow, target_server: PostgresServer) -> Iterator[psycopg.Connection[Any]]:
    """A connection to a database of the other server, which is Airflow's connection ``dwh``."""
    with target_server.database() as conninfo, psycopg.connect(conninfo, autocommit=True) as connection:
        add_database(airflow, "dwh", connection.info)
        yield connection


@pytest.fixture
def numbers(orders: Orders) -> psycopg.Connection[Any]:
    """The table that is read."""
    orders.connection.execute(f"""
        CREATE TABLE numbers (id bigint PRIMARY KEY, n integer NOT NULL DEFAULT 0) WITH (fillfactor = 50);
        INSERT INTO numbers SELECT 2 * n FROM generate_series(1, {ROWS}) AS n;
        ANALYZE numbers;
    """)
    return orders.connection


def run_in_chaos(airflow: Airflow, chaos: Chaos, **options: Any) -> None:
    usual = {"table": "numbers", "columns": ["id", "n"], "ranges": 8, "max_parallelism": 4}
    for try_number in range(1, 12):
        operator = BurlaPostgresTransformOperator(
            task_id="t", postgres_conn_id="orders_db", range_retries=8, job_retries=5, **usual | options
        )
        run_and_kill(airflow, operator, 0, when=chaos if try_number < 6 else lambda: False, try_number=try_number)
        if airflow.states[-1:] == ["success"]:
            break
    assert airflow.states[-1:] == ["success"], chaos.killed
    print(f"{try_number} tries, killed: {dict(Counter(chaos.killed))}")  # pytest -rP shows it
    assert chaos.killed, "nothing was killed: the test shows nothing"


def assert_rows(connection: psycopg.Connection[Any], table: str, wanted: str) -> None:
    for one, other in ((f"TABLE {table}", wanted), (wanted, f"TABLE {table}")):
        assert connection.execute(f"SELECT count(*) FROM ({one} EXCEPT ALL {other}) AS d").fetchone() == (0,)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("write_mode", "ledger"),
    [("insert", "runs"), ("upsert", "runs"), ("upsert", None), ("update", "runs"), ("update", None)],
)
def test_rows_are_written_to_another_server(
    airflow: Airflow, numbers: Any, target: Any, write_mode: str, ledger: str | None, seed: int
) -> None:
    target.execute("CREATE TABLE halves (id bigint, half text)")  # no key: a row that came twice would be there
    if write_mode != "insert":
        target.execute("ALTER TABLE halves ADD PRIMARY KEY (id)")
    if write_mode == "update":
        target.execute(f"INSERT INTO halves SELECT 2 * n FROM generate_series(1, {ROWS}) AS n")
    options: dict[str, Any] = {
        "target_conn_id": "dwh",
        "target_table": "halves",
        "write_mode": write_mode,
        "ledger": ledger,
    }
    if not ledger:
        options["resume"] = True  # otherwise a retry waits for the session of this test
    run_in_chaos(airflow, Chaos(seed, numbers, target), map_batch=halve, **options)
    assert_rows(target, "halves", HALVES)
    if ledger:
        assert_counted(target)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_column_is_computed_from_itself_once(airflow: Airflow, numbers: Any, seed: int) -> None:
    options = {"write_mode": "update", "update_columns": ["n"], "ledger": "runs"}
    run_in_chaos(airflow, Chaos(seed, numbers), map_batch=increment, **options)
    assert_rows(numbers, "numbers", f"SELECT (2 * n)::bigint, 1 FROM generate_series(1, {ROWS}) AS n")
    assert_counted(numbers)


def assert_counted(connection: psycopg.Connection[Any]) -> None:
    """The ledger, from which the result is made, has counted each row once."""
    counts = "result->>'rows_inserted', result->>'rows_written', result->>'rows_updated'"
    query = f"SELECT sum(row_count), sum(coalesce({counts})::int) FROM runs WHERE range_index >= 0"
    assert connection.execute(query).fetchone() == (ROWS, ROWS)
