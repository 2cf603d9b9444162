"""Another session waits for a stronger lock on the table while a job reads it in a snapshot."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from burla_provider.operators.postgres import BurlaPostgresOperator
from tests.airflow.conftest import Orders
from tests.support.marks import conninfo_of
from tests.support.task_runner import Airflow

WAITS = "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'orders'::regclass AND NOT granted)"


def count_after_somebody_waits(connection: psycopg.Connection[Any], key_range: Any) -> dict[str, Any]:
    from psycopg import sql

    while not connection.execute(WAITS).fetchone()[0]:  # type: ignore[index]
        pass
    query = sql.SQL("SELECT count(*) FROM orders WHERE {}").format(key_range.where)
    return {"n": connection.execute(query).fetchone()[0]}  # type: ignore[index]


def test_a_truncate_that_waits_gets_the_table_after_the_job_and_not_before(airflow: Airflow, orders: Orders) -> None:
    rows = orders.ask("count(*)", "TRUE")
    info = orders.connection.info
    at_work = """
        SELECT EXISTS (
            SELECT FROM pg_stat_activity WHERE application_name LIKE 'test_dag.t.%#%' AND query LIKE '%pg_locks%'
        )
    """

    def truncate() -> None:
        with psycopg.connect(f"{info.dsn} password={info.password}", autocommit=True) as other:
            while not other.execute(at_work).fetchone()[0]:  # type: ignore[index]
                pass
            other.execute("TRUNCATE orders")

    thread = threading.Thread(target=truncate)
    thread.start()
    result = airflow.run(
        BurlaPostgresOperator(
            task_id="t",
            table="orders",
            postgres_conn_id="orders_db",
            key="id",
            ranges=6,
            max_parallelism=1,
            range_retries=0,
            range_timeout=60,
            process_range=count_after_somebody_waits,
        )
    )
    thread.join(60)
    assert result.value == {"n": rows}, result.log
    assert orders.ask("count(*)", "TRUE") == 0


@contextmanager
def changing(connection: psycopg.Connection[Any], statement: str) -> Iterator[None]:
    """Run the statement in a session that commits when another one waits for its locks."""
    started = threading.Event()

    def change() -> None:
        with psycopg.connect(conninfo_of(connection)) as other:
            other.execute(statement)
            started.set()
            while not other.execute("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)").fetchone()[0]:  # type: ignore[index]
                pass

    thread = threading.Thread(target=change)
    thread.start()
    assert started.wait(60)
    yield
    thread.join(60)


@pytest.mark.parametrize(
    ("reader", "statement"),
    [
        ("where", "TRUNCATE rates"),
        ("columns", "TRUNCATE rates"),
        ("totals", "TRUNCATE rates"),
        ("policy", "TRUNCATE rates"),
        ("where", "DROP TABLE rates; CREATE TABLE rates (id bigint)"),
        ("where", "CREATE TABLE loaded (id bigint); DROP TABLE rates; ALTER TABLE loaded RENAME TO rates"),
    ],
)
def test_a_table_of_a_subquery_that_is_loaded_again_while_the_task_starts_is_not_read_as_empty(
    airflow: Airflow, orders: Orders, reader: str, statement: str
) -> None:
    connection, info = orders.connection, orders.connection.info
    connection.execute("CREATE TABLE rates AS SELECT id FROM orders")
    exists = "EXISTS (SELECT FROM rates WHERE rates.id = orders.id)"
    options: dict[str, Any] = {
        "where": {"where": exists, "totals": {"n": "count(*)"}},
        "columns": {"columns": {"found": exists}, "process_rows": lambda rows: {"n": sum(row[0] for row in rows)}},
        "totals": {"totals": {"n": f"count(*) FILTER (WHERE {exists})"}},
        "policy": {"totals": {"n": "count(*)"}},
    }[reader]
    if reader == "policy":
        connection.execute(f"""
            ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
            CREATE POLICY rated ON orders USING ({exists});
            DROP ROLE IF EXISTS restricted;
            CREATE ROLE restricted LOGIN PASSWORD 'secret';
            ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO restricted;
            GRANT SELECT ON ALL TABLES IN SCHEMA public TO restricted;
        """)
        airflow.add_connection(
            "orders_db",
            "postgres",
            host=info.host,
            port=info.port,
            login="restricted",
            password="secret",
            schema=info.dbname,
        )
    task = BurlaPostgresOperator(task_id="t", table="orders", postgres_conn_id="orders_db", ranges=2, **options)
    with changing(connection, f"{statement}; INSERT INTO rates SELECT id FROM orders"):
        result = airflow.run(task, max_tries=1)
    assert result.state == "up_for_retry", result.value
    assert "rates, which a subquery or a policy reads, was truncated" in str(result.error)
    again = airflow.run(task, try_number=2, max_tries=1)
    assert again.value == {"row_count": 20000, "n": 20000}


def test_a_materialized_view_of_a_subquery_that_is_refreshed_while_the_task_starts_is_read(
    airflow: Airflow, orders: Orders
) -> None:
    connection = orders.connection
    connection.execute("CREATE MATERIALIZED VIEW rates AS SELECT id FROM orders WHERE id < 1000")
    connection.execute("INSERT INTO orders VALUES (1)")
    where = "id IN (SELECT id FROM rates)"
    task = BurlaPostgresOperator(
        task_id="t", table="orders", postgres_conn_id="orders_db", ranges=2, totals={"n": "count(*)"}, where=where
    )
    with changing(connection, "REFRESH MATERIALIZED VIEW rates"):
        result = airflow.run(task)
    assert result.value == dict.fromkeys(("row_count", "n"), orders.ask("count(*)", "id < 1000")), result.error
