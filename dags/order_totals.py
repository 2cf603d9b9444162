"""
### Totals of all orders

Count the rows of `orders` and add their amounts exactly, range by range, on the cluster of the connection
`burla_default`. The rows are in the database of the connection `orders_db`. The next task gets the totals from XCom.

To run it on a laptop, set the extra of `burla_default` to `{"engine": "local"}`. To run it on a cluster, set the
cluster's URL, e-mail and token. The DAG stays the same.
"""

from __future__ import annotations

import datetime

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
def order_totals():
    sum_orders = BurlaPostgresOperator(
        task_id="sum_orders",
        postgres_conn_id="orders_db",
        burla_conn_id="burla_default",
        table="orders",
        totals={
            "total_amount": "sum(amount)",
            "smallest": "min(amount)",
            "largest": "max(amount)",
            "average": "avg(amount)",
        },
        trial_ranges=2,
    )

    @task
    def report(totals: dict) -> str:
        line = f"{totals['row_count']:,} orders, {totals['total_amount']} in total, {totals['largest']} at most"
        print(line)
        return line

    report(sum_orders.output)


order_totals()
