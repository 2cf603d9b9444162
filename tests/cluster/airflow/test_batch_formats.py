"""Batches on a real cluster, whose nodes install the packages."""

from __future__ import annotations

from typing import Any

import pytest

from burla_provider.operators.transform import BurlaPostgresTransformOperator
from tests.airflow.conftest import Orders
from tests.airflow.test_batch_formats import FUNCTIONS, add_up, operator
from tests.airflow.test_transform import WANTED
from tests.support.task_runner import Airflow


@pytest.mark.parametrize("batch_format", ["pandas", "polars"])
def test_workers_read_and_write_batches(on_burla: Airflow, orders: Orders, batch_format: Any) -> None:
    result = on_burla.run(operator(process_rows=add_up, batch_format=batch_format, ranges=12))
    assert result.state == "success", result.log
    assert result.value == {"row_count": 20_000, "total": str(orders.ask("sum(amount)")), batch_format: 0}

    orders.connection.execute("CREATE TABLE labels (id bigint PRIMARY KEY, label text, doubled numeric)")
    task = BurlaPostgresTransformOperator(
        task_id="labels",
        postgres_conn_id="orders_db",
        table="orders",
        columns=["id", "status", "amount"],
        map_batch=FUNCTIONS[batch_format],
        batch_format=batch_format,
        batch_size=1_000,
        target_table="labels",
        write_mode="insert",
        ledger="ledger",
        ranges=6,
    )
    result = on_burla.run(task)
    assert result.state == "success", result.log
    assert result.value == {"row_count": 20_000, "rows_inserted": 20_000, "rows_filtered": 0}
    for one, other in ((WANTED, "TABLE labels"), ("TABLE labels", WANTED)):
        assert orders.connection.execute(f"({one}) EXCEPT ALL ({other})").fetchall() == []
