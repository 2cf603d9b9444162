"""BurlaPostgresOperator on partitioned tables and tables with children: as exact as on plain ones."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.airflow.conftest import add_database
from tests.airflow.test_postgres import operator
from tests.support.task_runner import Airflow

ROWS = 3_000
HASH = """
    CREATE TABLE orders (id bigint PRIMARY KEY, amount numeric, done int NOT NULL DEFAULT 0) PARTITION BY HASH (id);
    CREATE TABLE orders_0 PARTITION OF orders FOR VALUES WITH (MODULUS 3, REMAINDER 0);
    CREATE TABLE orders_1 PARTITION OF orders FOR VALUES WITH (MODULUS 3, REMAINDER 1);
    CREATE TABLE orders_2 PARTITION OF orders FOR VALUES WITH (MODULUS 3, REMAINDER 2);
"""


@pytest.fixture
def database(database: str, airflow: Airflow) -> str:
    """Also the Airflow connection ``orders_db``."""
    with psycopg.connect(database) as connection:
        add_database(airflow, "orders_db", connection.info)
    return database


def fill(connection: psycopg.Connection[Any], tables: str) -> None:
    connection.execute(tables)
    connection.execute(f"INSERT INTO orders SELECT n, n / 7.0 FROM generate_series(1, {ROWS}) AS n")
    connection.execute("ANALYZE orders")


def add_one(connection: psycopg.Connection[Any], key_range: Any) -> dict[str, Any]:
    from psycopg import sql

    query = sql.SQL("UPDATE orders SET done = done + 1 WHERE {}").format(key_range.where)
    return {"row_count": connection.execute(query).rowcount}


def count_between(connection: psycopg.Connection[Any], key_range: Any) -> dict[str, Any]:
    query = "SELECT count(*), sum(amount) FROM orders WHERE id BETWEEN %s AND %s"
    count, total = connection.execute(query, [key_range.start_id, key_range.end_id]).fetchone()  # type: ignore[misc]
    return {"row_count": count, "total": total}


def test_process_range_writes_every_row_of_a_partitioned_table_once(airflow: Airflow, connection) -> None:
    fill(connection, HASH)
    result = airflow.run(operator(process_range=add_one, ledger="public.ledger", key="id"))
    assert result.value == {"row_count": ROWS}, result.log
    assert connection.execute("SELECT min(done), max(done) FROM orders").fetchone() == (1, 1)


@pytest.mark.parametrize("consistency", ["snapshot", "none"])
def test_the_ids_of_a_range_select_its_rows_from_a_partitioned_table(airflow, connection, consistency: str) -> None:
    fill(connection, HASH)
    result = airflow.run(operator(process_range=count_between, key="id", consistency=consistency))
    [total] = connection.execute("SELECT sum(amount)::text FROM orders").fetchone()
    assert result.value == {"row_count": ROWS, "total": total}, result.log


def test_process_range_reads_a_partitioned_table_without_a_key_by_pages(airflow: Airflow, connection) -> None:
    def count(connection: psycopg.Connection[Any], key_range: Any) -> dict[str, Any]:
        from psycopg import sql

        query = sql.SQL("SELECT count(*) FROM orders WHERE {}").format(key_range.where)
        return {"row_count": connection.execute(query).fetchone()[0]}  # type: ignore[index]

    fill(connection, HASH.replace(" PRIMARY KEY", ""))
    result = airflow.run(operator(process_range=count, split="pages"))
    assert result.value == {"row_count": ROWS}, result.log
