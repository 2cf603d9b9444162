"""Each write mode on a real cluster, whose workers reach the servers of the source and of the target."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from burla_provider.demo.cluster import WORKER_NETWORKS, find_bridge
from burla_provider.operators.transform import BurlaPostgresTransformOperator
from tests.airflow.conftest import Orders
from tests.airflow.test_transform_exactly_once import assert_rows, target  # noqa: F401 (a fixture)
from tests.cluster.jobs.conftest import Cluster
from tests.support.marks import conninfo_of
from tests.support.postgres import PostgresServer, running_server
from tests.support.task_runner import Airflow

ROWS = 20_000


@pytest.fixture(scope="module")
def target_server(running_cluster: Cluster) -> Iterator[PostgresServer]:
    """Another server that the workers reach."""
    with running_server(listen=(find_bridge(), "127.0.0.1"), networks=WORKER_NETWORKS) as server:
        yield server


def operator(**options: Any) -> BurlaPostgresTransformOperator:
    usual = {
        "postgres_conn_id": "orders_db",
        "table": "orders",
        "columns": ["id", "status"],
        "target_conn_id": "dwh",
        "target_table": "labels",
        "map_row": lambda row: (row[0], row[1].upper()),
        "ranges": 8,
        "range_retries": 2,
    }
    return BurlaPostgresTransformOperator(task_id="t", **usual | options)


def assert_labels(orders: Orders, target: Any) -> None:  # noqa: F811
    rows = orders.connection.execute("SELECT id, upper(status) FROM orders").fetchall()
    target.execute("CREATE TABLE wanted (LIKE labels)")
    with target.cursor().copy("COPY wanted FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)
    assert_rows(target, "labels", "TABLE wanted")


@pytest.mark.parametrize(
    ("write_mode", "ledger", "count"),
    [("insert", "runs", "rows_inserted"), ("upsert", None, "rows_written"), ("update", None, "rows_updated")],
)
def test_rows_are_written_to_another_server(
    on_burla: Airflow,
    orders: Orders,
    target: Any,  # noqa: F811
    write_mode: str,
    ledger: str | None,
    count: str,
) -> None:
    target.execute("CREATE TABLE labels (id bigint PRIMARY KEY, label text)")
    if write_mode == "update":
        target.execute("INSERT INTO labels SELECT n * 3 + n / 1000 * 5000 FROM generate_series(1, 20000) AS n")
    result = on_burla.run(operator(write_mode=write_mode, ledger=ledger))
    assert result.state == "success", result.log
    assert result.value["row_count"] == result.value[count] == ROWS
    assert_labels(orders, target)


def test_a_column_is_filled_in_place(on_burla: Airflow, orders: Orders) -> None:
    options = {"target_conn_id": None, "target_table": None, "write_mode": "update", "update_columns": ["note"]}
    result = on_burla.run(operator(**options, map_row=lambda row: (row[1].upper(),)))
    assert result.value == {"row_count": ROWS, "rows_updated": ROWS, "rows_unchanged": 0, "rows_filtered": 0}
    assert orders.ask("count(*)", "note = upper(status)") == ROWS


def test_rows_are_inserted_once_although_a_worker_is_killed(on_burla: Airflow, orders: Orders, target: Any) -> None:  # noqa: F811
    target.execute("CREATE TABLE labels (id bigint, label text); CREATE TABLE killed (id bigint)")
    conninfo = conninfo_of(target)

    def label(row: tuple[Any, ...]) -> tuple[Any, ...]:
        import os
        import signal

        import psycopg

        if row[0] == 3 * 15_000 + 15 * 5_000:  # behind the first chunk of its range
            with psycopg.connect(conninfo) as connection:
                if connection.execute("SELECT count(*) FROM killed").fetchone() == (0,):
                    connection.execute("INSERT INTO killed VALUES (%s)", [row[0]])
                    connection.commit()
                    os.kill(os.getpid(), signal.SIGKILL)
        return row[0], row[1].upper()

    result = on_burla.run(operator(map_row=label, write_mode="insert", ledger="runs", ranges=1, job_retries=3))
    assert result.state == "success", result.log
    assert result.value["row_count"] == result.value["rows_inserted"] == ROWS
    assert target.execute("SELECT count(*) FROM killed").fetchone() == (1,)
    assert_labels(orders, target)
