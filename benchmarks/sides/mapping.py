"""Airflow dynamic task mapping: the DAG of ``mapped_dag`` in ``airflow standalone``."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.task import Result, Run, Task

ROOT = Path(__file__).parents[2]
DAG = "orders_mapped"


@contextmanager
def ready(task: Task) -> Iterator[Run]:
    from tests.support.airflow_server import running_airflow

    login = {"host": task.host, "port": task.port, "login": task.user, "password": task.password}
    connections = {"orders_db": {"conn_type": "postgres", "schema": task.dbname, **login}}
    environment = {
        "AIRFLOW__CORE__PARALLELISM": str(task.workers),
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    with (
        tempfile.TemporaryDirectory(prefix="burla-bench-airflow-") as home,
        running_airflow(Path(home), ROOT / "benchmarks" / "mapped_dag", connections, environment) as airflow,
    ):
        airflow.wait_for("the DAG", lambda: airflow.find(f"/dags/{DAG}"), 300)

        def run(task: Task) -> Result:
            conf = {"job": task.job, "table": task.table, "columns": task.columns, "ranges": plan(task)}
            started = airflow.start_run(DAG, conf=conf)
            path = f"/dags/{DAG}/dagRuns/{started['dag_run_id']}"
            while (state := airflow.call("GET", path)["state"]) in ("queued", "running"):
                time.sleep(0.2)
            if state != "success":
                raise RuntimeError(f"The DAG run ended as {state}.")
            found = airflow.call("GET", f"{path}/taskInstances/combine/xcomEntries/return_value?deserialize=true")[
                "value"
            ]
            return Result(found["row_count"], found["total"], {"ranges": len(conf["ranges"])})

        yield run


def plan(task: Task) -> list[tuple[int, int]]:
    """Return the provider's ranges for BETWEEN, without the range of NULL keys."""
    import psycopg

    from burla_provider.ranges import plan_ranges

    with psycopg.connect(**task.login) as connection:
        plan = plan_ranges(connection, table=task.table, key=task.key, parallelism=task.workers)
    return [(key_range.start_id, key_range.end_id) for key_range in plan.ranges if not key_range.nulls]
