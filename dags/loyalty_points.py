"""
### Loyalty points, each exactly once

A campaign: every paid order earns its customer a point for each full 10 of its amount. Every run is a campaign.

Adding points twice would be wrong, and both Airflow and Burla may run things again. With a `ledger`, the points of a
range and the note that it is done are one transaction: whatever is retried, killed or run twice, each range's points
are added once. Clearing the task begins a new campaign; retrying it goes on with this one.
"""

from __future__ import annotations

import datetime

from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator
from airflow.sdk import dag

from burla_provider.operators.postgres import BurlaPostgresOperator


def give_points(connection, key_range):
    """Runs on a worker, inside the transaction that the ledger's row is written in: it does not commit."""
    from psycopg import sql

    # In the order of the customers, so that ranges that meet at one wait for each other instead of locking up.
    query = sql.SQL("""
        WITH earned AS (
            SELECT customer_id, count(*) AS orders, sum(div(amount, 10))::bigint AS points
            FROM orders WHERE {} AND status = 'paid' GROUP BY customer_id ORDER BY customer_id
        ), given AS (
            INSERT INTO loyalty_points AS kept (customer_id, points) SELECT customer_id, points FROM earned
            ON CONFLICT (customer_id) DO UPDATE SET points = kept.points + excluded.points
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
        key="id",
        process_range=give_points,
        ledger="burla_ledger",
        ledger_retention=datetime.timedelta(days=90),
        trial_ranges=1,
    )
    make_table >> give


loyalty_points()
