"""Windows that are bounded by a run's data interval, with the interval that the scheduler gives a run."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.timetables import interval, trigger
from airflow.timetables.base import TimeRestriction
from airflow.timetables.interval import CronDataIntervalTimetable

from burla_provider.operators.postgres import BurlaPostgresOperator
from tests.airflow.conftest import Orders
from tests.support.task_runner import START, Airflow


def first_interval(dag: DAG) -> tuple[datetime.datetime, datetime.datetime]:
    """What the scheduler's own timetable says of the first run."""
    import pendulum

    name = type(dag.timetable).__name__
    timetable: Any = getattr(trigger, name, None) or getattr(interval, name)
    earliest = pendulum.instance(START)
    info = timetable("@daily", timezone="UTC").next_dagrun_info(
        last_automated_data_interval=None, restriction=TimeRestriction(earliest, None, catchup=True)
    )
    assert info is not None
    return info.data_interval.start, info.data_interval.end


@pytest.mark.parametrize(
    ("schedule", "rows"), [("@daily", None), (CronDataIntervalTimetable("@daily", timezone="UTC"), 1440)]
)
def test_a_daily_window_needs_a_schedule_that_has_intervals(
    airflow: Airflow, orders: Orders, schedule: Any, rows: int | None
) -> None:
    orders.connection.execute("CREATE TABLE events (created_at timestamptz)")
    minutes = "INSERT INTO events SELECT %s + n * interval '1 minute' FROM generate_series(-2000, 2999) AS n"
    orders.connection.execute(minutes, [START])
    with DAG("test_dag", schedule=schedule, start_date=START) as dag:
        task = BurlaPostgresOperator(
            task_id="t",
            table="events",
            postgres_conn_id="orders_db",
            key="created_at",
            lower="{{ data_interval_start }}",
            upper="{{ data_interval_end }}",
            totals={"n": "count(*)"},
        )
    result = airflow.run(task, data_interval=first_interval(dag), max_tries=3)
    if rows:
        assert result.value == {"row_count": rows, "n": rows}
    else:
        assert result.state == "failed"
        remedy = 'Use schedule=CronDataIntervalTimetable("@daily", timezone="UTC") from airflow.timetables.interval.'
        assert remedy in str(result.error)
