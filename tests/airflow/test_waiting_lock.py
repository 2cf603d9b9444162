"""Another session waits for a stronger lock on the table while a job reads it in a snapshot."""

from __future__ import annotations

import threading
from typing import Any

import psycopg

from burla_provider.operators.postgres import BurlaPostgresOperator
from tests.airflow.conftest import Orders
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
