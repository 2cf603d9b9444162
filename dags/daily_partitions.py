"""
### Totals per day, as partitions of an asset

Needs Airflow 3.3.

Each run processes one day, which is a partition of the asset `order_totals_by_day`. Such a run has a partition key
("2024-01-31") and a partition date, but no data interval: `{{ data_interval_start }}` would fail. The window of the job
is the partition.

The DAG `monthly_rollup` adds up the days of a month.
"""

from __future__ import annotations

import datetime

from airflow.sdk import Asset, CronPartitionTimetable, dag

from burla_provider.operators.postgres import BurlaPostgresOperator


@dag(
    # A run starts at midnight and processes the day that has ended: the partition one tick before the run.
    schedule=CronPartitionTimetable("0 0 * * *", timezone="UTC", run_offset=-1, key_format="%Y-%m-%d"),
    start_date=datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
    catchup=False,
    default_args={"retries": 2, "retry_delay": datetime.timedelta(seconds=30)},
    doc_md=__doc__,
    tags=["burla", "postgres", "partitions"],
)
def daily_partitions():
    BurlaPostgresOperator(
        task_id="sum_day",
        postgres_conn_id="orders_db",
        burla_conn_id="burla_default",
        table="orders",
        key="created_at",
        lower="{{ partition_date }}",
        upper="{{ partition_date.add(days=1) }}",
        totals={"total_amount": "sum(amount)"},
        # The event of the asset gets the partition key of the run, and the totals as `extra`.
        outlets=[Asset("order_totals_by_day")],
    )


daily_partitions()
