"""The operators on a real cluster, with Airflow's task runner."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from burla_provider.operators.map import BurlaMapOperator
from burla_provider.operators.postgres import BurlaPostgresOperator
from tests.airflow.conftest import Orders
from tests.cluster.jobs.conftest import Cluster
from tests.support.task_runner import Airflow


def operator(**options: Any) -> BurlaPostgresOperator:
    work = {} if {"process_rows", "process_range"} & options.keys() else {"totals": {"total": "sum(amount)"}}
    defaults = {"task_id": "t", "table": "orders", "postgres_conn_id": "orders_db", "ranges": 12}
    return BurlaPostgresOperator(**{**defaults, **work, **options})


def add_up(rows: Iterable[tuple[int, Decimal]]) -> dict[str, Any]:
    return {"total": sum((amount for _, amount in rows), Decimal(0))}


def count_in_range(connection: psycopg.Connection[Any], key_range: Any) -> dict[str, Any]:
    query = "SELECT count(*), coalesce(sum(amount), 0) FROM orders WHERE id BETWEEN %s AND %s"
    count, total = connection.execute(query, (key_range.start_id, key_range.end_id)).fetchone()  # type: ignore[misc]
    return {"row_count": count, "total": total}


@pytest.mark.parametrize(
    "work",
    [{}, {"process_rows": add_up, "columns": ["id", "amount"]}, {"process_range": count_in_range}],
    ids=["totals", "process_rows", "process_range"],
)
def test_every_processor_returns_the_total_of_a_sql_query(
    on_burla: Airflow, orders: Orders, work: dict[str, Any]
) -> None:
    result = on_burla.run(operator(**work))
    assert result.state == "success", result.log
    assert result.value == {"row_count": 20000, "total": str(orders.ask("sum(amount)"))}


def test_the_job_is_named_after_dag_and_task_and_the_link_opens_it(
    on_burla: Airflow, orders: Orders, cluster: Cluster
) -> None:
    result = on_burla.run(operator())
    job_id = result.log.split("Job ", 1)[1].split(":", 1)[0]
    assert job_id.startswith("test_dag-t-scheduled__2026-11-20-try1-")
    assert cluster.job(job_id)
    assert result.xcoms["burla_job_url"] == f"{cluster.engine.url}/jobs/{quote(job_id)}"
    assert dict(result.xcoms["burla_report"]["places"])["Nodes at the start"] == "1 node ready"


def test_no_secret_reaches_the_dashboard(on_burla: Airflow, orders: Orders, cluster: Cluster) -> None:
    result = on_burla.run(operator(process_rows=add_up, columns=["id", "amount"]))
    job_id = result.log.split("Job ", 1)[1].split(":", 1)[0]
    password = orders.connection.info.password
    shown = [cluster.get(f"/v1/management/jobs/{quote(job_id)}{part}") for part in ("", "/errors", "/calls")]
    assert password not in repr(shown) + result.log


def test_a_dag_file_may_import_helper_modules_inside_functions(
    on_burla: Airflow, tmp_path: Any, monkeypatch: Any
) -> None:
    (tmp_path / "price_helpers.py").write_text("RATE = 3\n\ndef triple(number):\n    return number * RATE\n")
    (tmp_path / "price_dag.py").write_text(
        "def work(number):\n    from price_helpers import triple\n    return triple(number)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import price_dag

    result = on_burla.run(BurlaMapOperator(task_id="t", python_callable=price_dag.work, inputs=[1, 2, 3]))
    assert result.value == [3, 6, 9], result.log
