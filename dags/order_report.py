"""
### A report of complete totals

The totals decide which task runs next. If every range was processed, they are loaded into the table `order_reports`. If
ranges failed (up to 1 % may fail without failing the task), a message says how many are missing.
"""

from __future__ import annotations

import datetime

from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator
from airflow.sdk import dag, task

from burla_provider.operators.postgres import BurlaPostgresOperator


@dag(
    schedule="@daily",
    start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    catchup=False,
    default_args={"retries": 2, "retry_delay": datetime.timedelta(seconds=30)},
    doc_md=__doc__,
    tags=["burla", "postgres"],
)
def order_report():
    sum_orders = BurlaPostgresOperator(
        task_id="sum_orders",
        postgres_conn_id="orders_db",
        burla_conn_id="burla_default",
        table="orders",
        where="status <> %(excluded)s",
        parameters={"excluded": "refunded"},
        totals={"total_amount": "sum(amount)"},
        tolerated_failures="1%",
    )

    @task.branch
    def decide(totals: dict) -> str:
        # Totals of a part of the ranges have the key "complete".
        return "load" if totals.get("complete", True) else "report_missing"

    load = SQLExecuteQueryOperator(
        task_id="load",
        conn_id="orders_db",
        sql="""
            CREATE TABLE IF NOT EXISTS order_reports (run text PRIMARY KEY, orders bigint, amount numeric);
            INSERT INTO order_reports VALUES (%(run)s, %(orders)s, %(amount)s)
            ON CONFLICT (run) DO UPDATE SET orders = excluded.orders, amount = excluded.amount
        """,
        split_statements=True,
        parameters={
            "run": "{{ run_id }}",
            "orders": "{{ ti.xcom_pull(task_ids='sum_orders')['row_count'] }}",
            "amount": "{{ ti.xcom_pull(task_ids='sum_orders')['total_amount'] }}",
        },
    )

    @task
    def report_missing(totals: dict) -> None:
        print(
            f"{totals['failed_ranges']:,} ranges are missing: see the Ranges tab of sum_orders. "
            "Fix the cause, then clear the task."
        )

    decide(sum_orders.output) >> [load, report_missing(sum_orders.output)]


order_report()
