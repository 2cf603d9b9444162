"""
### Totals of the orders of one day

Each run processes the orders of its data interval, so a repeated or backfilled run returns the same totals. The key is
`created_at`; the ranges within the day are balanced.

The totals are in the `extra` of the events of the asset `orders_by_day`, for DAGs that are scheduled on it.

The demo's orders begin on 2024-01-01, with one every 13 seconds: backfill some days of 2024, or trigger one.
"""

from __future__ import annotations

import datetime

from airflow.sdk import Asset, dag, task
from airflow.timetables.interval import CronDataIntervalTimetable

from burla_provider.operators.postgres import BurlaPostgresOperator


@dag(
    # With the text "@daily", the data interval of a run in Airflow 3 is empty.
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
    catchup=False,
    default_args={"retries": 2, "retry_delay": datetime.timedelta(seconds=30)},
    doc_md=__doc__,
    tags=["burla", "postgres"],
)
def daily_totals():
    sum_day = BurlaPostgresOperator(
        task_id="sum_day",
        postgres_conn_id="orders_db",
        burla_conn_id="burla_default",
        table="orders",
        key="created_at",
        lower="{{ data_interval_start }}",
        upper="{{ data_interval_end }}",
        totals={"total_amount": "sum(amount)", "largest": "max(amount)"},
        outlets=[Asset("orders_by_day")],
    )

    @task
    def report(totals: dict, data_interval_start: datetime.datetime | None = None) -> str:
        line = f"{data_interval_start:%Y-%m-%d}: {totals['row_count']:,} orders, {totals['total_amount']} in total"
        print(line)
        return line

    report(sum_day.output)


daily_totals()
