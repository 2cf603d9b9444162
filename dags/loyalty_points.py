"""
### Add loyalty points exactly once

For each paid order, the customer gets one point per full 10 of its amount. Each run of the DAG is a new campaign.

Points must not be added twice, but both Airflow and Burla may run a range again. With a `ledger`, the points of a range
and the record that it is done are written in one transaction. So the points of each range are added once, even if a
range is retried, killed or run twice. Clearing the task starts a new campaign; a retry continues the current one.
"""

from __future__ import annotations

import datetime

from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator
from airflow.sdk import dag

from burla_provider.operators.postgres import BurlaPostgresOperator


def give_points(connection, key_range):
    """Add the points of one range. Runs on a worker, in the transaction that writes the ledger: do not commit."""
    from psycopg import sql

    # Ordered by customer, so that ranges with the same customers wait for each other instead of causing a deadlock.
    query = sql.SQL("""
        WITH earned AS (
            SELECT customer_id, count(*) AS orders, sum(div(amount, 10))::bigint AS points
            FROM orders WHERE {} AND status = 'paid' GROUP BY customer_id ORDER BY customer_id
        ), given AS (
            INSERT INTO loyalty_points AS old (customer_id, points) SELECT customer_id, points FROM earned
            ON CONFLICT (customer_id) DO UPDATE SET points = old.points + excluded.points
        )
        SELECT coalesce(sum(orders), 0)::bigint, coalesce(sum(points), 0)::bigint FROM earned
    """)
    orders, points = connection.execute(query.format(key_range.where)).fetchone()
    return {"row_count": orders, "points": points}


@dag(
    schedule=None,
    start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    default_args={"retries": 3, "retry_delay": datetime.timedelta(seconds=30)},
    doc_md=__doc__,
    tags=["burla", "postgres", "writes"],
)
def loyalty_points():
    make_table = SQLExecuteQueryOperator(
        task_id="make_table",
        conn_id="orders_db",
        sql="CREATE TABLE IF NOT EXISTS loyalty_points (customer_id integer PRIMARY KEY, points bigint NOT NULL)",
    )
    give = BurlaPostgresOperator(
        task_id="give_points",
        postgres_conn_id="orders_db",
        burla_conn_id="burla_default",
        table="orders",
        process_range=give_points,
        ledger="burla_ledger",
        ledger_retention=datetime.timedelta(days=90),
        trial_ranges=1,
    )
    make_table >> give


loyalty_points()
