"""What an Airflow without state stores can and cannot do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Asset

from burla_provider.operators.postgres import BurlaPostgresOperator
from tests.airflow.conftest import Orders
from tests.support.task_runner import HAS_STATE_STORES, Airflow

pytestmark = pytest.mark.skipif(HAS_STATE_STORES, reason="this Airflow has state stores")


def operator(**options: Any) -> BurlaPostgresOperator:
    return BurlaPostgresOperator(task_id="t", table="orders", postgres_conn_id="orders_db", key="id", **options)


def test_a_retry_starts_from_the_beginning_and_logs_it(airflow: Airflow, orders: Orders, tmp_path: Path) -> None:
    path = str(tmp_path / "stop")

    def read(rows: Any) -> dict[str, Any]:
        import os

        first, *others = rows
        if first[0] > 30_000 and os.path.exists(path):
            raise RuntimeError("not yet")
        return {"others": len(others)}

    Path(path).touch()
    first = airflow.run(operator(process_rows=read, ranges=4, retries=1), max_tries=1)
    assert first.state == "up_for_retry"
    assert "no task state store (added in 3.3)" in first.log
    Path(path).unlink()
    again = airflow.run(operator(process_rows=read, ranges=4, retries=1), try_number=2, max_tries=1)
    assert again.value["row_count"] == 20000
    assert "An earlier try" not in again.log


def test_the_error_of_incremental_names_airflow_3_3(airflow: Airflow, orders: Orders) -> None:
    result = airflow.run(operator(totals={"n": "count(*)"}, incremental=True, outlets=[Asset("a")]))
    assert result.state == "failed"
    assert "this needs Airflow 3.3" in str(result.error)
