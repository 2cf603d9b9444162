"""Airflow in a separate home, and everything that one task needs."""

from __future__ import annotations

import os
import tempfile
from typing import Any

# Before anything imports airflow: it reads its home and settings once.
_HOME = tempfile.TemporaryDirectory(prefix="burla-test-airflow-")
os.environ["AIRFLOW_HOME"] = _HOME.name
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
os.environ.setdefault("AIRFLOW__CORE__UNIT_TEST_MODE", "False")

import psycopg  # noqa: E402
import pytest  # noqa: E402

from tests.support.postgres import report_writes  # noqa: E402
from tests.support.task_runner import HAS_STATE_STORES, NO_STATE_STORES, Airflow  # noqa: E402

needs_state_stores = pytest.mark.skipif(not HAS_STATE_STORES, reason=NO_STATE_STORES)


@pytest.fixture
def airflow() -> Airflow:
    """One task's world, with the local engine as ``burla_default``."""
    world = Airflow()
    world.add_connection("burla_default", "burla", extra={"engine": "local"})
    return world


@pytest.fixture
def orders(connection: psycopg.Connection[Any], airflow: Airflow) -> Orders:
    """A table with gaps in its ids, exact amounts, and the Airflow connection ``orders_db`` to it."""
    connection.execute("""
        CREATE TABLE orders (id bigint PRIMARY KEY, amount numeric(14, 4), status text, note text);
        INSERT INTO orders
        SELECT n * 3 + n / 1000 * 5000, (n * 7919 % 100000)::numeric / 700,
               (ARRAY['paid', 'open', 'refunded'])[n % 3 + 1], CASE WHEN n % 5 > 0 THEN 'note ' || n END
        FROM generate_series(1, 20000) AS n;
        ANALYZE orders;
    """)
    # Otherwise this session reports its writes up to ten seconds later, and a slow test's retry sees a changed table.
    report_writes(connection)
    add_database(airflow, "orders_db", connection.info)
    return Orders(connection)


def add_database(airflow: Airflow, conn_id: str, info: psycopg.ConnectionInfo) -> None:
    """The Airflow connection ``conn_id`` to what ``info`` is connected to."""
    airflow.add_connection(
        conn_id,
        "postgres",
        host=info.host,
        port=info.port,
        login=info.user,
        password=info.password,
        schema=info.dbname,
    )


class Orders:
    """The table, to be asked what is true."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection

    def ask(self, what: str, where: str = "TRUE") -> Any:
        row = self.connection.execute(f"SELECT {what} FROM orders WHERE {where}").fetchone()
        assert row is not None
        return row[0] if len(row) == 1 else row
