"""
### Fill a column in place

`choose_segment` runs on every customer without a segment, and its result is stored in the row. No row is locked while
the function runs. If another session changes a customer meanwhile, the segment is computed again from the new values.

The DAG can run at any time: it fills what is empty.
"""

from __future__ import annotations

import datetime

from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator
from airflow.sdk import dag

from burla_provider.operators.transform import BurlaPostgresTransformOperator


def choose_segment(customer):
    """Return the values of ``update_columns`` for one customer. Runs on a worker."""
    import statistics

    amounts = customer["amounts"]
    if len(amounts) < 2:
        return ("new",)
    is_steady = statistics.stdev(amounts) < statistics.mean(amounts)
    return ("steady" if is_steady else "varied",)


@dag(
    schedule=None,
    start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    default_args={"retries": 3, "retry_delay": datetime.timedelta(seconds=30)},
    doc_md=__doc__,
    tags=["burla", "postgres", "writes"],
)
def customer_segments():
    make_table = SQLExecuteQueryOperator(
        task_id="make_table",
        conn_id="orders_db",
        sql=[
            "CREATE TABLE IF NOT EXISTS customers (id integer PRIMARY KEY, amounts numeric[] NOT NULL, segment text)",
            "INSERT INTO customers SELECT customer_id, array_agg(amount) FROM orders GROUP BY customer_id"
            " ON CONFLICT DO NOTHING",
        ],
    )
    fill_segments = BurlaPostgresTransformOperator(
        task_id="fill_segments",
        postgres_conn_id="orders_db",
        burla_conn_id="burla_default",
        table="customers",
        columns=["id", "amounts"],
        where="segment IS NULL",
        row_format="dict",
        map_row=choose_segment,
        write_mode="update",
        update_columns=["segment"],
    )
    make_table >> fill_segments


customer_segments()
