"""
### Totals of a month, from the totals of its days

Needs Airflow 3.3.

Airflow starts this DAG when every day of a month has an event of the asset `order_totals_by_day`, which the DAG
`daily_partitions` updates. The totals are in the events, so no row is read again. Amounts are text in JSON and are
added as `Decimal`: the result is exactly the sum of the month's orders.
"""

from __future__ import annotations

import datetime
from decimal import Decimal

from airflow.sdk import Asset, MonthWindow, PartitionedAssetTimetable, RollupMapper, StartOfMonthMapper, dag, task

DAYS = Asset("order_totals_by_day")


@dag(
    schedule=PartitionedAssetTimetable(
        assets=DAYS,
        default_partition_mapper=RollupMapper(
            upstream_mapper=StartOfMonthMapper(input_format="%Y-%m-%d"), window=MonthWindow()
        ),
    ),
    start_date=datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
    catchup=False,
    doc_md=__doc__,
    tags=["burla", "postgres", "partitions"],
)
def monthly_rollup():
    @task
    def add_up(partition_key=None, triggering_asset_events=None) -> dict:
        events = sorted(triggering_asset_events[DAYS], key=lambda event: event.timestamp)
        # A day that was processed again has several events: the last one counts.
        days = {event.partition_key: event.extra for event in events}
        orders = sum(day["row_count"] for day in days.values())
        # The sum of a day without orders is None.
        amount = sum((Decimal(day["total_amount"] or 0) for day in days.values()), Decimal(0))
        print(f"{partition_key}: {orders:,} orders in {len(days)} days, {amount} in total")
        return {"month": partition_key, "days": len(days), "orders": orders, "total_amount": str(amount)}

    add_up()


monthly_rollup()
