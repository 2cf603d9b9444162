"""
### Totals of all orders

Counts every row of `orders` and adds up its amounts, exactly, range by range on the cluster of the connection
`burla_default`, reading from the database of the connection `orders_db`. The next task gets the totals as an XCom.

Run it on your laptop by giving `burla_default` the extra `{"engine": "local"}`, on a cluster by giving it the
cluster's URL, e-mail and token: the DAG stays as it is.
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
        key="id",
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
