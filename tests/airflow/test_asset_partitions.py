"""A run of a partitioned asset: its window is the partition, because it has no data interval."""

from __future__ import annotations

import pytest

from burla_provider.operators.postgres import BurlaPostgresOperator
from tests.airflow.conftest import Orders
from tests.support.task_runner import HAS_PARTITIONS, Airflow

pytestmark = pytest.mark.skipif(not HAS_PARTITIONS, reason="asset partitions came with Airflow 3.2")
DAY = "2026-11-21"


@pytest.fixture
def events(orders: Orders) -> Orders:
    """With the table ``events``: one per minute, from 2026-11-20."""
    orders.connection.execute("""
        CREATE TABLE events (id bigint PRIMARY KEY, created_at timestamptz NOT NULL);
        INSERT INTO events
        SELECT n, timestamptz '2026-11-20 00:00Z' + n * interval '1 minute' FROM generate_series(0, 4000) AS n;
        CREATE INDEX ON events (created_at);
        ANALYZE events;
    """)
    return orders


def operator(lower: str, upper: str) -> BurlaPostgresOperator:
    return BurlaPostgresOperator(
        task_id="count_events",
        postgres_conn_id="orders_db",
        table="events",
        key="created_at",
        lower=lower,
        upper=upper,
        totals={"first": "min(id)", "last": "max(id)"},
    )


def test_the_partition_key_is_a_window(airflow: Airflow, events: Orders) -> None:
    day = operator("{{ dag_run.partition_key }} 00:00Z", "{{ macros.ds_add(dag_run.partition_key, 1) }} 00:00Z")
    result = airflow.run(day, partition=DAY)
    assert result.state == "success", result.log
    assert result.value == {"row_count": 1440, "first": 1440, "last": 2879}


def test_there_is_no_data_interval(airflow: Airflow, events: Orders) -> None:
    day = operator("{{ data_interval_start }}", "{{ data_interval_end }}")
    result = airflow.run(day, partition=DAY)
    assert result.state == "failed"
    assert "'data_interval_start' is undefined" in str(result.error)
